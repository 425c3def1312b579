"""How the learned workflow cooperates, as tables of a result: patterns, process metrics, handoffs over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from icsmdp_jax.experiments.result import Table
from icsmdp_jax.traces import patterns
from icsmdp_jax.traces.patterns import Handoffs

FINDINGS, EDGES = 8, 12  # rows that are shown
METRICS = {
    "solved": "share of runs that are solved",
    "handoffs_per_solved": "handoffs per solved run",
    "useful_share": "share of time in solved runs, outside repeated laps",
    "busiest_share": "share of time of the busiest agent",
    "errors": "offers that fall by more than a standard deviation",
    "recovered": "share of these after which offers recover in the same run",
    "handoffs_to_recover": "handoffs until then, mean",
}


def cooperation_tables(course: Sequence[Handoffs]) -> list[Table]:
    """Tables of handoffs under what was learned at some points of training; patterns are those of the last one.

    A run is solved if it ends and its rewards sum to more than 0.
    """
    last = course[-1]
    told = {**patterns.process(last), "found": patterns.find(last)}
    rows: list[list[Any]] = [[text, told[name]] for name, text in METRICS.items()]
    rows.append(["idle agents", ", ".join(told["idle"]) or "none"])
    found = [[one.pattern, one.hits, one.trials, one.expected, one.text] for one in told["found"][:FINDINGS]]
    none = [["none", 0, 0, 0.0, "handoffs are as the chain of handoffs predicts"]]
    graphs = [patterns.graph(one, 1) for one in course]
    count = np.concatenate([one["count"] for one in graphs])
    total, names = count.sum(axis=0), (*last.agents, "end")
    top = np.argsort(-total, axis=None, kind="stable")[: min(EDGES, int((total > 0).sum()))]
    edges = []
    for i, j in zip(*np.unravel_index(top, total.shape), strict=True):
        duration, offered = (float(graphs[-1][name][0, i, j]) for name in ("duration", "offered"))
        share = " / ".join(f"{at[i, j] / at.sum():.3f}" for at in count)
        edges.append([last.agents[i], names[j], share, duration, offered])
    runs = f"{len(last.solved)} simulated runs of the learned workflow"
    return [
        Table(f"How agents cooperate in {runs}", ("process", "value"), rows, "process"),
        Table(
            f"Patterns beyond the agents' own chain of handoffs in {runs}; level {patterns.LEVEL} for all together",
            ("pattern", "hits", "of", "predicted", "what was found"), found or none, "patterns",
        ),
        Table(
            "Who hands to whom: share of all handoffs after each quarter of training, duration and offer at its end",
            ("from", "to", "share of handoffs", "mean duration", "mean value offered"), edges, "handoffs",
        ),
    ]  # fmt: skip
