"""Mixing: the spread at fixed K against t_mix with the gap open and closed (P2.1), and projected runs against T3+."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from bound_validation.drawing.curves import Curve, line, measured, same_line
from bound_validation.drawing.panels import RMSE, SPREAD, Panel, compose
from bound_validation.results import Row
from bound_validation.views import groups_of, select
from icsmdp_jax.drawing.style import BLACK, BLUE, FULL_WIDTH, GREY, ORANGE, VERMILLION

X_LABEL = r"mixing time $t_{\rm mix}(1/4)$ (handoffs)"
LOOKS = ((VERMILLION, "o"), (BLUE, "s"), (ORANGE, "D"), (BLACK, "^"))


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Spread on the left, constant step against T3+ on the right, both groups in each."""
    del summary  # no slope is fitted here
    rows = [row for row in rows if row.axis == "mixing"]
    names = sorted(groups_of(rows), reverse=True)  # "gap open" first
    left: list[Curve] = []
    right: list[Curve] = []
    markers: list[Curve] = []
    for name, (colour, marker) in zip(names, LOOKS, strict=False):
        spread, steps = (select(rows, "mixing", series, name) for series in ("spread", "constant_step"))
        without = line(spread, "alternative", "without Poisson terms", GREY)
        left += [] if same_line(line(spread, "prediction"), without) else without
        left += line(spread, "prediction", f"P2, {name}", colour)
        left += measured(spread, name, colour, marker)
        right += line(steps, "alternative", "" if right else r"T3$^{1/2}$ of each", colour)
        right += line(steps, "bound", rf"T3+$^{{1/2}}$, {name}", colour)
        markers = measured(steps, name, colour, marker) + markers  # circles over squares, which stay visible
    panels = [
        Panel("tail average", X_LABEL, SPREAD, left),
        Panel("average iterate, constant step", X_LABEL, RMSE, right + markers),
    ]
    return compose(panels, 2, FULL_WIDTH, 2.8)
