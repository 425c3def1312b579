"""How do time and memory of a sweep grow with replicas and devices, and does the forecast of docs/scaling.md hold?

Every number of devices is a process of its own, since JAX fixes it when it starts. Handoffs per second are measured;
memory is what the compiled program says it takes on each device. With more devices than cores they share the cores, so
beyond those only memory and the absence of communication mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common
from benchmarks.common import Record, Size, Timing, bench_model, record, seconds
from benchmarks.devices import ROOT
from benchmarks.learner_throughput import learners
from icsmdp_jax.devices.placement import CELLS, REPLICAS, device_grid
from icsmdp_jax.learner.forecast import forecast, state_bytes
from icsmdp_jax.learner.train import CHUNK, _compiled, replica_keys, stack_inputs, train

NAME = "scaling"
COLLECTIVES = re.compile(r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")


def program(cells: int, replicas: int) -> dict[str, Any]:
    """What the compiled step of a sweep takes on each device, and how often devices talk to each other in it."""
    learner, inputs = learners(bench_model())["tabular"]
    layout = device_grid(cells, replicas)
    init, advance = _compiled(learner, CHUNK, layout)
    placed = layout.place(stack_inputs([inputs] * cells), CELLS)
    keys = layout.place(replica_keys(jax.random.key(0), replicas), REPLICAS)
    state = init(keys, placed)
    compiled = advance.lower(state, placed, jnp.int32(1)).compile()
    memory = compiled.memory_analysis()
    return {
        "program_bytes": int(memory.temp_size_in_bytes + memory.argument_size_in_bytes),
        "collectives": len(COLLECTIVES.findall(compiled.as_text())),
    }


def work(cells: int, replicas: int, samples: int, repetitions: int) -> None:
    """A worker: one line of JSON with everything that one number of devices gives."""
    learner, inputs = learners(bench_model())["tabular"]
    found = program(cells, replicas) | {"devices": jax.device_count(), "state_bytes": state_bytes(learner, inputs)}
    if samples:
        first, _ = seconds(lambda: train(learner, [inputs] * cells, jax.random.key(0), replicas, [samples]))
        runs = [
            train(learner, [inputs] * cells, jax.random.key(0), replicas, [samples]).run_s for _ in range(repetitions)
        ]
        found |= {"first": first, "run_s": runs}
    print(json.dumps(found), flush=True)


def ask(devices: int, cells: int, replicas: int, samples: int, repetitions: int) -> dict[str, Any]:
    """What a process with this number of host devices finds; on an accelerator, with the devices that there are."""
    environment = dict(os.environ)
    if jax.default_backend() == "cpu":
        others = [f for f in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in f]
        environment["XLA_FLAGS"] = " ".join([*others, f"--xla_force_host_platform_device_count={devices}"])
    command = [
        sys.executable,
        "-m",
        "benchmarks.scaling",
        "--worker",
        *map(str, (cells, replicas, samples, repetitions)),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a worker ended with status {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(size: Size) -> Iterator[Record]:
    """Handoffs per second on one and two devices, against the forecast, and programs for up to 256 devices."""
    learner, inputs = learners(bench_model())["tabular"]
    repetitions = size.pick(1, 5, 9)
    base_rate: dict[int, float] = {}
    for replicas, samples in size.pick(((16, CHUNK),), ((128, 20 * CHUNK), (1024, 5 * CHUNK)), ((1024, 20 * CHUNK),)):
        base: tuple[str, Timing, int] | None = None
        for devices in (1, 2):
            found = ask(devices, 1, replicas, samples, repetitions)
            timing = Timing(np.array(found["run_s"]), np.array(found["run_s"]))
            name, handoffs = f"{devices} device{'s' * (devices > 1)}", replicas * samples
            rate = base_rate.setdefault(replicas, handoffs / float(np.median(timing.wall)))
            expected = forecast(learner, inputs, 1, replicas, samples, 1, devices, rate)
            compile_s = max(0.0, found["first"] - float(np.median(timing.wall)))
            line = record(
                NAME, {"replicas": replicas}, name, timing, base, handoffs, "handoffs/s", compile_s, handoffs=handoffs,
                forecast_s=expected.simulate_s + expected.fetch_s, program_bytes=found["program_bytes"],
                state_bytes=found["state_bytes"], forecast_bytes=expected.bytes_per_device,
            )  # fmt: skip
            base = base or (name, timing, handoffs)
            yield line | {"machine": line["machine"] | {"devices": devices}}
    cells, replicas = size.pick((4, 16), (64, 64), (64, 64))
    for devices in size.pick((8,), (1, 16, 256), (1, 16, 256)):
        found = ask(devices, cells, replicas, 0, 0)
        expected = forecast(learner, inputs, cells, replicas, CHUNK, 1, devices, 1.0)
        nothing = Timing(np.array([0.0]), np.array([0.0]))
        line = record(
            NAME, {"cells": cells, "replicas": replicas}, f"program for {devices} device{'s' * (devices > 1)}", nothing,
            forecast_bytes=expected.bytes_per_device, collectives=found["collectives"], pairs=expected.pairs,
            state_bytes=found["state_bytes"],
        )  # fmt: skip
        size_of = dict.fromkeys(("value", "low", "high"), found["program_bytes"])
        yield line | size_of | {"unit": "bytes per device", "machine": line["machine"] | {"devices": devices}}


def main() -> None:
    """Command line: the benchmark, or one of its workers."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--worker", nargs=4, type=int)
    chosen, rest = parser.parse_known_args()
    if chosen.worker:
        work(*chosen.worker)
    else:
        common.main(measure, __doc__, rest)


if __name__ == "__main__":
    main()
