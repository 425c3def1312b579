"""With which exponents does processor time grow with handoffs, replicas, cells, agents, states and widths?

python -m benchmarks.growth benchmarks/results/growth.jsonl   draws the figure of docs/performance.md from measurements
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.common import Record, Size, compile_seconds, race, record
from benchmarks.dispatch import SHARED, Case, variant
from benchmarks.learner_throughput import learners
from benchmarks.table import exponent
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.learner.train import CHUNK, train

NAME = "growth"
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "figures" / "growth.png"
HANDOFFS, REPLICAS, CELLS, AGENTS = "handoffs", "replicas", "cells", "agents"
STATES, WIDTHS = "states of an exact analysis", "width of a network"
Run = Callable[[], Any]


def known(agents: int) -> Analysis:
    """The planted model with that many agents, 16 states each, analysed."""
    planted = planted_model(PlantedConfig.small(num_agents=agents, gap=0.5))
    return analyse(planted.model, planted.behaviour)


def learning(model: Analysis, replicas: int, chunks: int, cells: int = 1) -> Run:
    """A run of tabular IC-Q by Numba."""
    learner, inputs = learners(model)["tabular"]
    key, counts = jax.random.key(0), [chunks * CHUNK]
    return partial(train, learner, [inputs] * cells, key, replicas, counts, executor="numba")


def analysing(agents: int) -> Run:
    """The exact analysis of a model."""
    planted = planted_model(PlantedConfig.small(num_agents=agents, gap=0.5))
    return partial(analyse, planted.model, planted.behaviour)


def networks(width: int) -> Run:
    """Updates of one shared network with one hidden layer."""
    return variant(Case(4, environments=16, handoffs=8, width=width), SHARED)


def grown(size: Size) -> dict[str, dict[int, Run]]:
    """What grows, to functions by how far it has grown; agents keep the number of handoffs."""
    model = known(10)
    count = size.pick(2, 4, 5)
    chunks, replicas, cells, agents, widths = (
        [first * by**i for i in range(count)] for first, by in ((16, 4), (64, 4), (1, 2), (10, 2), (64, 2))
    )
    return {
        HANDOFFS: {n * CHUNK * 64: learning(model, 64, n) for n in chunks},
        REPLICAS: {n: learning(model, n, 4) for n in replicas},
        CELLS: {n: learning(model, 64, 60, n) for n in cells},
        AGENTS: {n: learning(known(n), 64, 60) for n in agents},
        STATES: {16 * n: analysing(n) for n in agents},
        WIDTHS: {n: networks(n) for n in widths},
    }


def measure(size: Size) -> Iterator[Record]:
    """Processor time at each size."""
    for what, runs in grown(size).items():
        for run in runs.values():
            compile_seconds(run)
        times = race({str(count): run for count, run in runs.items()}, size.pick(1, 2, 3))
        for count, timing in times.items():
            cpu = timing._replace(wall=np.maximum(timing.cpu, 1e-9))  # a busy neighbour takes elapsed time only
            yield record(NAME, {"grows": what, "count": int(count)}, what, cpu)


def draw(lines: list[Record], path: Path) -> None:
    """One panel for each thing that grows: shortest times, and the fitted exponent."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(9, 5.2), layout="constrained")
    for axis, what in zip(axes.flat, dict.fromkeys(line["variant"] for line in lines), strict=True):
        own = sorted((line for line in lines if line["variant"] == what), key=lambda line: line["case"]["count"])
        counts, times = np.array([[line["case"]["count"], line["low"]] for line in own]).T
        slope = exponent(own)
        axis.loglog(counts, times, "o", color="#1f4e79")
        half = counts[len(counts) // 2 - 1 :]
        axis.loglog(half, times[-1] * (half / half[-1]) ** slope, color="#c55a11", label=f"exponent {slope:.2f}")
        axis.set(xlabel=what, ylabel="processor time [s]", ylim=(times.min() / 3, times.max() * 3))
        axis.set_xticks(counts, [f"{count:,.0f}" if count < 1e5 else f"{count / 1e6:.0f} M" for count in counts])
        axis.minorticks_off()
        axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    draw([line for line in map(json.loads, text.splitlines()) if line["benchmark"] == NAME], FIGURE)
