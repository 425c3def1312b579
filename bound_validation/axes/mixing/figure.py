"""Mixing: the spread at fixed K against t_mix with the gap open and closed (P2.1), and T3's factor."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from bound_validation.drawing.curves import Curve, line, measured, same_line
from bound_validation.drawing.panels import Q_ERROR, Panel, compose
from bound_validation.drawing.style import BLACK, BLUE, FULL_WIDTH, GREY, ORANGE, VERMILLION
from bound_validation.results import Row
from bound_validation.views import groups_of, select

X_LABEL = r"mixing time $t_{\rm mix}(1/4)$ (handoffs)"
BOUND = r"T3$^{1/2}$"
LOOKS = ((VERMILLION, "o"), (BLUE, "s"), (ORANGE, "D"), (BLACK, "^"))


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Spread on the left, constant step against T3 on the right, both groups in each."""
    del summary  # no slope is fitted here
    spread, steps = select(rows, "mixing", "spread"), select(rows, "mixing", "constant_step")
    spread, steps = ([row for row in found if row.axis == "mixing"] for found in (spread, steps))
    names = sorted(groups_of(spread + steps), reverse=True)  # "gap open" first
    left: list[Curve] = []
    right: list[Curve] = []
    markers: list[Curve] = []
    bounds = [line([row for row in steps if row.group == name], "bound", BOUND) for name in names]
    # Both groups have nearly the same constants, and then one label serves both lines.
    together = len(names) > 1 and all(same_line(bounds[0], bound, tolerance=0.2) for bound in bounds[1:])
    for name, (colour, marker) in zip(names, LOOKS, strict=False):
        here = [row for row in spread if row.group == name]
        without = line(here, "alternative", "without Poisson terms", GREY)
        left += [] if same_line(line(here, "prediction"), without) else without
        left += line(here, "prediction", f"P2, {name}", colour)
        left += measured(here, name, colour, marker)
        here = [row for row in steps if row.group == name]
        label = f"{BOUND}, {name}" if not together else BOUND if name == names[0] else ""
        right += line(here, "bound", label, colour)
        markers = measured(here, name, colour, marker) + markers  # circles over squares, which stay visible
    panels = [
        Panel("tail average", X_LABEL, "spread in " + Q_ERROR[9:], left),
        Panel("average iterate, constant step", X_LABEL, "RMSE in " + Q_ERROR[9:], right + markers),
    ]
    return compose(panels, 2, FULL_WIDTH, 2.6)
