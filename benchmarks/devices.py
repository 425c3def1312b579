"""What do several host devices bring on a CPU, and do they change a single bit?

The number of devices is fixed when JAX starts, so each one is a process of its own; both stay alive and take turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np

from benchmarks import common
from benchmarks.common import Record, Size, Timing, bench_model, record, seconds
from benchmarks.learner_throughput import learners
from icsmdp_jax.learner.train import CHUNK, Run, train

NAME = "devices"
ROOT = Path(__file__).resolve().parents[1]


def work(replicas: int, samples: int) -> None:
    """A worker: runs the learner once at the start and once more for each line on its standard input."""
    learner, inputs = learners(bench_model())["tabular"]
    found: list[Run] = []

    def run() -> None:
        found[:] = [train(learner, [inputs], jax.random.key(0), replicas, [samples])]

    first = seconds(run)[0]
    while True:
        wall, cpu = seconds(run)
        snapshot = found[0].snapshots[-1]
        digest = hashlib.sha256(np.asarray(snapshot.last).tobytes() + np.asarray(snapshot.total).tobytes()).hexdigest()
        answer = {"wall": wall, "cpu": cpu, "first": first, "digest": digest, "devices": jax.local_device_count()}
        print(json.dumps(answer), flush=True)
        if not sys.stdin.readline():
            return


class Worker:
    """A process with its own number of host devices, which measures when it is asked to."""

    def __init__(self, devices: int, replicas: int, samples: int) -> None:
        others = [f for f in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in f]
        flags = " ".join([*others, f"--xla_force_host_platform_device_count={devices}"])
        command = [sys.executable, "-m", "benchmarks.devices", "--worker", str(replicas), str(samples)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.communicate()  # closes its input, which ends it

    def answer(self) -> dict[str, Any]:
        """What it measured last."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended early with status {self.process.wait()}")
        return json.loads(line)

    def ask(self) -> dict[str, Any]:
        """Makes it run once more, while all others wait."""
        assert self.process.stdin is not None
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        return self.answer()


def measure(size: Size) -> Iterator[Record]:
    """Handoffs per second on one host device and on two, and whether the results are the same."""
    repetitions = size.pick(1, 5, 9)
    for replicas, samples in size.pick(((8, CHUNK),), ((512, 5 * CHUNK),), ((64, 40 * CHUNK), (512, 10 * CHUNK))):
        with Worker(1, replicas, samples) as one, Worker(2, replicas, samples) as two:
            workers = {"1 host device": one, "2 host devices": two}
            answers = {name: [worker.answer()] for name, worker in workers.items()}
            for turn in range(repetitions):
                for name in list(workers)[:: 1 if turn % 2 == 0 else -1]:
                    answers[name].append(workers[name].ask())
        times = {
            name: Timing(*(np.array([answer[field] for answer in found[1:]]) for field in ("wall", "cpu")))
            for name, found in answers.items()
        }
        same = len({answer["digest"] for found in answers.values() for answer in found}) == 1
        handoffs = replicas * samples
        base = ("1 host device", times["1 host device"], handoffs)
        for name, timing in times.items():
            compile_s = max(0.0, answers[name][0]["first"] - float(np.median(timing.wall)))
            against = None if name == base[0] else base
            case = {"replicas": replicas}
            line = record(
                NAME, case, name, timing, against, handoffs, "handoffs/s", compile_s, handoffs=handoffs, same_bits=same
            )
            yield line | {"machine": line["machine"] | {"devices": answers[name][0]["devices"], "device": "cpu"}}


def main() -> None:
    """Command line: the benchmark, or one of its workers."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--worker", nargs=2, type=int)
    chosen, rest = parser.parse_known_args()
    if chosen.worker:
        work(*chosen.worker)
    else:
        common.main(measure, __doc__, rest)


if __name__ == "__main__":
    main()
