"""The commands ``icsmdp envs`` and ``icsmdp experiment``: run, write, report, resume."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from icsmdp_jax.experiments import catalogue, files
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.runs.tasks import Progress, Task

SORTING = "cpu-sort"
ORACLE = "oracle.json"  # what `--oracle-only --out DIR` writes
AT_ONCE = 2  # experiments, each on one device
SCHEMA = 1  # of the run directory of all experiments


def environments() -> dict[str, Any]:
    """What ``icsmdp envs --json`` prints: facts of every registered environment."""
    from icsmdp_jax.envs import registry

    return {"environments": [registry.describe(name)._asdict() for name in registry.environments()]}


def run_one(options: Options, folder: Path) -> dict[str, Any]:
    """Runs one experiment and writes its folder.

    Args:
      options: what to run.
      folder: where to write; made first, so that a place that cannot be written to is known at once.

    Returns:
      The content of its ``result.json``.
    """
    catalogue.checked(options.name)
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    result = catalogue.experiment(options.name)(options)
    return files.write(result, options, folder, time.perf_counter() - begun)


class _Content(NamedTuple):
    """What an experiment found, as the engine keeps it."""

    content: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """The content of its ``result.json``."""
        return self.content


def run_all(preset: str, seed: int, out: Path, force: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Runs every experiment that has no result in this run directory yet, two at once, then writes the report.

    Args:
      preset: testing, quick or full.
      seed: of all experiments.
      out: run directory: one folder for each name, and ``report.html``.
      force: whether to run everything again, whatever is there.
      overwrite: whether to start over if another run is there.

    Returns:
      Where the report is, and what was run or kept.

    Raises:
      ValueError: in one line, if ``out`` holds another run, or a damaged part.
    """
    import jax

    from icsmdp_jax.devices.cores import usable_cores
    from icsmdp_jax.experiments.comparison import STOPS
    from icsmdp_jax.experiments.report import write_report
    from icsmdp_jax.io import write_json
    from icsmdp_jax.runs import engine, provenance
    from icsmdp_jax.runs.directory import FINISHED, REPORT

    ran: list[str] = []

    def experiment(name: str, progress: Progress) -> _Content:
        STOPS.set(progress)
        found = run_one(Options(name, preset, seed=seed), out / name)
        ran.append(name)
        _forget()
        return _Content(found)

    names = catalogue.names()
    seconds = {name: catalogue.SECONDS.get(name, catalogue.OTHERS) for name in names}
    longest_first = sorted(names, key=lambda name: -seconds[name])  # so that no core waits for the other one at the end
    tasks = [
        Task(name, partial(experiment, name), work=1, simulates=False, seconds=seconds[name]) for name in longest_first
    ]
    manifest = {
        "schema": SCHEMA,
        "experiments": True,
        "preset": preset,
        "seed": seed,
        "tasks": names,
        **provenance.record(),
    }

    def found() -> dict[str, Any]:
        lists = {"ran": [name for name in names if name in ran], "kept": [name for name in names if name not in ran]}
        return {"report": str(out / REPORT), **lists}

    def finish(done: engine.Finished) -> None:
        content = dict(zip(longest_first, done.contents, strict=True))
        write_report([content[name] for name in names], out)
        write_json(out / FINISHED, found())

    engine.run(
        out, tasks, manifest, resume=not force, overwrite=force or overwrite,
        complete=lambda name: files.read(out / name) is not None, finish=finish,
        at_once=min(AT_ONCE, usable_cores()) if jax.default_backend() == "cpu" else 1,
    )  # fmt: skip
    return found()


def oracle_only(name: str) -> dict[str, Any]:
    """Exact quantities of an environment, without any learning.

    For ``cpu-sort2`` and ``cpu-sort3`` the shortest correct programs, by exhaustive search.

    Raises:
      ValueError: for names without an exact solution.
    """
    catalogue.checked(name)
    from icsmdp_jax.envs import registry

    if name.startswith(SORTING):
        return {"environment": name, **_shortest(int(name.removeprefix(SORTING)))}
    from icsmdp_jax.exact.constants import analyse
    from icsmdp_jax.experiments.quantities import exact_quantities

    env, params = registry.make(name)
    return {"environment": name, **exact_quantities(analyse(env.exact_model(params)))}


def _shortest(num_values: int) -> dict[str, Any]:
    from icsmdp_jax.envs.cpu_sort import PUBLISHED_LENGTH, shortest_programs

    if num_values not in (2, 3):
        raise ValueError(
            f"cpu-sort{num_values}: exhaustive search is out of reach here (published length "
            f"{PUBLISHED_LENGTH[num_values]}), expected cpu-sort2 or cpu-sort3"
        )
    begun = time.perf_counter()
    found = shortest_programs(num_values)
    return {
        "optimal_length": found.length,
        "optimal_programs": found.programs,
        "joint_states": sum(found.layer_sizes),
        "seconds": round(time.perf_counter() - begun, 2),
    }


def readable(content: dict[str, Any]) -> str:
    """A result for people: the main table, the checks and the remarks."""
    rows = [["method", content["metric"], "95 % interval", "normalised", "runs"], *files.method_rows(content)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{files.verdict(value)}: {name}" for name, value in content["checks"].items()]
    return "\n".join(lines + list(content["remarks"]))


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


def _forget() -> None:
    """Drops compiled programs: experiments share none, and all of them together take gigabytes."""
    import jax

    jax.clear_caches()
