"""Agents: the interface gap, the spread and the residual as the pipeline grows (T1, P2, T3)."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from bound_validation.drawing.curves import line, measured
from bound_validation.drawing.panels import RMSE, SPREAD, Panel, compose
from bound_validation.results import Row
from bound_validation.views import select
from icsmdp_jax.drawing.style import BLUE, FULL_WIDTH, GREEN, GREY, ORANGE, VERMILLION

X_LABEL = "agents $N$"


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """The exact gap, the spread of the tail average, and the constant step, each against the number of agents."""
    del summary  # no slope is fitted here
    mine = [row for row in rows if row.axis == "agents"]
    gap, spread, steps = (select(mine, "agents", name) for name in ("gap", "spread", "constant_step"))
    if not mine:
        return None
    simulated = [row for row in gap if row.group == "simulated"]
    only = [row for row in gap if row.group == "analysed only"]
    exact = [
        *line(simulated, "bound", "T1", BLUE),
        *measured(simulated, "gap", BLUE, "o"),
        *line(only, "bound", "T1, analysed only", ORANGE),
        *measured(only, "gap, analysed only", ORANGE, "D"),
    ]
    limit = [
        *line(spread, "alternative", "without Poisson terms", GREY),
        *line(spread, "prediction", "P2", VERMILLION),
        *measured(spread, "tail average", VERMILLION, "o"),
    ]
    residual = [
        *line(steps, "alternative", r"T3$^{1/2}$", GREY),
        *line(steps, "bound", r"T3+$^{1/2}$", GREEN),
        *measured(steps, "constant step", GREEN, "s"),
    ]
    panels = [
        Panel("interface", X_LABEL, "gap in sup norm (reward units)", exact, ticks=True),
        Panel("spread", X_LABEL, SPREAD, limit, ticks=True),
        Panel("residual", X_LABEL, RMSE, residual, ticks=True),
    ]
    return compose(panels, 3, FULL_WIDTH, 2.8)
