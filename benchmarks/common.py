"""What every benchmark shares: the size of a run, interleaved timing, the machine's record and JSON lines."""

from __future__ import annotations

import argparse
import datetime
import enum
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from icsmdp_jax.devices.cores import usable_cores
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact.constants import Analysis, analyse

Record = dict[str, Any]
Measure = Callable[["Size"], Iterator[Record]]


class Size(enum.Enum):
    """How much work a benchmark does: enough to run the code, to see the answer, or to trust it."""

    TINY = "tiny"
    QUICK = "quick"
    FULL = "full"

    def pick(self, tiny: Any, quick: Any, full: Any) -> Any:
        """The one of three values that belongs to this size."""
        return {Size.TINY: tiny, Size.QUICK: quick, Size.FULL: full}[self]


class Timing(NamedTuple):
    """Times of one variant, in seconds.

    Attributes:
      wall: ``[repetitions]`` float64 elapsed times.
      cpu: ``[repetitions]`` float64 processor times of this process over all its threads.
    """

    wall: np.ndarray
    cpu: np.ndarray


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Elapsed and processor time of one call, device work included."""
    cpu, begin = time.process_time(), time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begin, time.process_time() - cpu


def compile_seconds(run: Callable[[], Any]) -> float:
    """What the first call of a compiled function takes beyond the second."""
    first, second = seconds(run)[0], seconds(run)[0]
    return max(0.0, first - second)


def race(variants: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, Timing]:
    """Times variants in turn, A B, B A, A B, ..., so that a slow spell of the machine falls on all of them.

    Args:
      variants: name to function, compiled and warm already.
      repetitions: rounds.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for turn in range(repetitions):
        for name in list(variants)[:: 1 if turn % 2 == 0 else -1]:
            times[name].append(seconds(variants[name]))
    return {name: Timing(*np.array(pairs).T) for name, pairs in times.items()}


def repeats(run: Callable[[], Any], at_least: float, most: int) -> int:
    """How many calls of a warm function last ``at_least`` seconds."""
    return int(np.clip(np.ceil(at_least / seconds(run)[0]), 1, most))


def many(run: Callable[[], Any], calls: int) -> Any:
    """Several calls of a function; what the last returned."""
    for _ in range(calls):
        result = run()
    return result


def record(
    benchmark: str,
    case: Mapping[str, Any],
    variant: str,
    timing: Timing,
    against: tuple[str, Timing, float] | None = None,
    work: float = 1.0,
    unit: str = "s",
    compile_s: float | None = None,
    **extra: Any,
) -> Record:
    """One measurement as plain values.

    Args:
      benchmark: name of the script.
      case: what was varied, name to value.
      variant: what was timed.
      timing: its times.
      against: name, times and work of the variant to compare with, measured in the same rounds; None if there is none.
      work: units of work per call.
      unit: ``"s"`` reports seconds per call, anything else ``work`` per second.
      compile_s: seconds spent compiling, None if nothing was compiled.
      **extra: more facts.
    """
    values = timing.wall if unit == "s" else work / timing.wall
    line: Record = {
        "benchmark": benchmark,
        "case": dict(case),
        "variant": variant,
        "unit": unit,
        "value": float(np.median(values)),
        "low": float(values.min()),
        "high": float(values.max()),
        "repetitions": len(values),
        "wall_s": float(np.median(timing.wall)),
        "cpu_s": float(np.median(timing.cpu)),
        "compile_s": compile_s,
        "extra": extra,
    }
    if against is not None:
        name, other, other_work = against
        paired = len(other.wall) == len(timing.wall)  # round by round, or else against the median
        ratio = work / other_work * (other.wall if paired else np.median(other.wall)) / timing.wall
        line["against"] = name
        line["ratio"] = float(np.median(ratio))  # times as fast as the other
        line["ratio_low"], line["ratio_high"] = float(ratio.min()), float(ratio.max())
        line["ratio_cpu"] = float(work / other_work * np.median(other.cpu) / max(np.median(timing.cpu), 1e-9))
    return line | {"machine": machine()}


@cache
def machine() -> Record:
    """What the numbers belong to: kind of processor and device, versions and date; nothing that names a host."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line[:10] == "model name"]
        cpu = names[0] if names else cpu
    device = jax.local_devices()[0]
    return {
        "cpu": cpu,
        "cores": usable_cores(),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device.device_kind if device.platform != "cpu" else "cpu",
        "devices": jax.local_device_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("jax", "jaxlib", "numpy", "scipy")},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


@cache
def bench_model() -> Analysis:
    """The planted model that the learner is measured on, analysed: 160 states, 40 interfaces, 2 options."""
    planted = planted_model(PlantedConfig.small(gap=0.5))
    return analyse(planted.model, planted.behaviour)


def size_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--quick`` and ``--tiny``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", dest="size", action="store_const", const=Size.QUICK, help="fewer cases, shorter runs")
    group.add_argument("--tiny", dest="size", action="store_const", const=Size.TINY, help="only see that it runs")
    parser.set_defaults(size=Size.FULL)


def emit(line: Record) -> None:
    """Prints one measurement as one line of JSON."""
    print(json.dumps(line, allow_nan=False), flush=True)


def main(measure: Measure, description: str | None, arguments: list[str] | None = None) -> None:
    """Command line of one benchmark."""
    parser = argparse.ArgumentParser(description=description)
    size_arguments(parser)
    for line in measure(parser.parse_args(sys.argv[1:] if arguments is None else arguments).size):
        emit(line)
