"""Does an accelerator compute what the CPU computes, and how fast is everything on it?

    make bench-device                 everything, in about eight minutes on a machine with one GPU
    python -m benchmarks.device --tiny --out results/device    only see that it runs; nothing need be installed but what
                                                               the package depends on

Every stage is a process of its own that prints JSON lines, so a stage that fails or takes too long costs only itself.
Writes DEVICE.jsonl, DEVICE.md and DEVICE.png, named after the kind of the device, and exits with 1 if a stage failed or
the device disagrees with the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


class Stage(NamedTuple):
    """One process of the benchmark.

    Attributes:
      name: what ``benchmarks.device_stages`` calls it.
      seconds: after how many it is stopped; the lines it has printed by then are kept.
      reference: the stage that computes on the CPU, meanwhile, what this one compares with.
      flags: for XLA.
    """

    name: str
    seconds: float
    reference: str | None = None
    flags: str = ""


# In this order: what matters most comes first. The sum of the limits is no plan: usually each takes half of its own.
# Neither a CPU's nor a GPU's compiler may round a product and a sum at once: then tables have to get the same bits.
UNFUSED = "--xla_cpu_max_isa=AVX --xla_backend_extra_options=-nvptx-fma-level=0"
STAGES = (
    Stage("agreement", 120, "reference"), Stage("unfused_agreement", 90, "unfused_reference", UNFUSED),
    Stage("tabular", 120), Stage("on_chip", 120), Stage("moments", 90), Stage("neural", 100),
    Stage("linear", 60), Stage("environments", 120), Stage("preset", 300),
)  # fmt: skip


def slug(kind: str) -> str:
    """A device's kind as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")


def spawn(stage: str, folder: Path, size: str, platform: str | None = None, flags: str = "") -> subprocess.Popen[bytes]:
    """Starts a stage; its lines go to a file of the folder, what it says to another."""
    environment = dict(os.environ)
    environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}".strip()
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    if platform is not None:
        environment["JAX_PLATFORMS"] = platform
    command = [sys.executable, "-m", "benchmarks.device_stages", stage, str(folder), size]
    with (folder / f"{stage}.jsonl").open("wb") as lines, (folder / f"{stage}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=lines, stderr=log)


def finish(process: subprocess.Popen[bytes], limit: float) -> str | None:
    """Waits for a stage, not longer than the limit; what went wrong, or None."""
    try:
        code = process.wait(timeout=max(limit, 1.0))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"stopped after {limit:.0f} s"
    return None if code == 0 else f"ended with status {code}"


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that a stage has written; the last may be cut off."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(text))
        except ValueError:
            print(f"{path.stem}: left out a line that was cut off", file=sys.stderr)
    return found


def measure(folder: Path, size: str, budget: float, chosen: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[str]]:
    """All lines of the stages, and what failed."""
    begin = time.perf_counter()
    lines: list[dict[str, Any]] = []
    failed = []
    references = [
        spawn(stage.reference, folder, size, "cpu", stage.flags)
        for stage in STAGES
        if stage.name in chosen and stage.reference
    ]
    for stage in STAGES:
        if stage.name not in chosen:
            continue
        left = budget - (time.perf_counter() - begin)
        if left < 10:
            failed.append(f"{stage.name}: not started, the {budget:.0f} s are over")
            continue
        started = time.perf_counter()
        wrong = finish(spawn(stage.name, folder, size, flags=stage.flags), min(stage.seconds, left))
        found = whole_lines(folder / f"{stage.name}.jsonl")
        lines += found
        if wrong is not None:
            last = (folder / f"{stage.name}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            failed.append(f"{stage.name}: {wrong}; {' | '.join(last[-3:])[-400:]}")
        failed += [
            f"{stage.name}: {json.dumps(line['case'])} disagrees: {json.dumps(line['extra'])}"
            for line in found
            if line["extra"].get("agrees") is False
        ]
        print(f"{stage.name}: {len(found)} lines, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    for process in references:
        finish(process, 1.0)
    return lines, failed


def main(arguments: list[str] | None = None) -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.device", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stages", nargs="*", help=f"which, all by default: {', '.join(s.name for s in STAGES)}")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the three files go")
    parser.add_argument("--budget", type=float, default=480.0, metavar="S", help="seconds in all (default 480)")
    parser.add_argument("--tiny", action="store_true", help="only see that it runs")
    args = parser.parse_args(arguments)
    names = tuple(args.stages) or tuple(stage.name for stage in STAGES)
    unknown = set(names) - {stage.name for stage in STAGES}
    if unknown:
        parser.error(f"{min(unknown)!r}: expected one of {', '.join(stage.name for stage in STAGES)}")
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        lines, failed = measure(Path(scratch), "tiny" if args.tiny else "full", args.budget, names)
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    if not lines:
        return 1
    from benchmarks.device_page import write_page
    from benchmarks.run import write

    table = args.out / f"{slug(lines[0]['machine']['device'])}.jsonl"
    write(table, lines)
    print(write_page(table), file=sys.stderr)
    print(f"{table}: {len(lines)} lines in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
