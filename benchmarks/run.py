"""Runs the benchmarks and prints one JSON line per measurement, and in the end all ratios to programs of others.

make bench BENCH_ARGS="--quick"
python -m benchmarks.run solver devices --out benchmarks/results/mine.jsonl
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import sys
import time
from pathlib import Path

from benchmarks import table
from benchmarks.common import Record, emit, size_arguments

NAMES = (
    "learner_throughput",
    "numba_twin",
    "dispatch",
    "peers_training",
    "environments",
    "random_numbers",
    "solver",
    "exact_analysis",
    "large_models",
    "devices",
    "scaling",
    "growth",
    "runtime",
)


def question(name: str) -> str:
    """The question that a benchmark answers: the first line of its module, which need not be importable here."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


def write(path: Path, lines: list[Record]) -> None:
    """Writes JSON lines; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines), encoding="utf-8")
    os.replace(part, path)


def main(arguments: list[str] | None = None) -> None:
    """Command line of ``make bench``."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description="Measures speed; JSON lines on stdout.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run, all by default: {', '.join(NAMES)}")
    parser.add_argument("--list", action="store_true", help="print the questions and stop")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the lines to a file as well")
    size_arguments(parser)
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.names if name not in NAMES]
    if unknown:
        parser.error(f"{unknown[0]!r}: expected one of {', '.join(NAMES)}")
    names = chosen.names or list(NAMES)
    if chosen.list:
        for name in names:
            print(f"{name}: {question(name)}")
        return
    lines: list[Record] = []
    for name in names:
        print(f"{name}: {question(name)}", file=sys.stderr)
        begin = time.perf_counter()
        try:
            module = importlib.import_module(f"benchmarks.{name}")
        except ModuleNotFoundError as error:
            if name in chosen.names:
                parser.error(f"{name}: {error.name} is not installed")
            print(f"{name}: left out, {error.name} is not installed", file=sys.stderr)
            continue
        for line in module.measure(chosen.size):
            emit(line)
            lines.append(line)
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    if chosen.out is not None:
        write(chosen.out, lines)
    beside = table.peers(lines)
    if beside:
        print(f"\n{table.where(lines)}\n\n{beside}", file=sys.stderr)


if __name__ == "__main__":
    main()
