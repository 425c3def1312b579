"""Audit: error and certificate of learned tables against handoffs, and the share of intervals that miss (T5)."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from bound_validation.drawing.curves import Curve, line, measured
from bound_validation.drawing.panels import Panel, compose
from bound_validation.results import Row
from bound_validation.views import groups_of, select
from icsmdp_jax.drawing.style import BLUE, FULL_WIDTH, GREEN, GREY, ORANGE, PURPLE, VERMILLION

X_LABEL = "samples $K$ learned from (handoffs)"


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """One panel for each model, error below its certificates, and one of the shares that miss."""
    del summary  # no slope is fitted here
    mine = [row for row in rows if row.axis == "audit"]
    groups = groups_of(mine)
    panels, misses = [], list[Curve]()
    for name, colour, marker in zip(groups, (BLUE, VERMILLION, ORANGE), ("o", "s", "D"), strict=False):
        errors = select(mine, "audit", "error", name)
        curves = [
            *line(errors, "bound", "certificate, no model", GREEN),
            *line(errors, "alternative", "with the model", PURPLE),
            *measured(errors, r"$\|Q - Q_\phi\|_\infty$", colour, marker),
        ]
        panels.append(Panel(name, X_LABEL, "error in sup norm (reward units)", curves))
        missed = select(mine, "audit", "miss_batch_means", name)
        misses += [] if misses else line(missed, "prediction", "nominal", GREY)
        misses += measured(missed, name, colour, marker)
    panels.append(Panel("intervals by batch means", X_LABEL, "share of 95 % intervals that miss", misses))
    return compose(panels, 2, FULL_WIDTH, 2.8)
