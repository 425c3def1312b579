"""Returns: how near to the oracle each learner comes, and what IC-Q's greedy policy loses at growing gap (T1.3)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from bound_validation.drawing.curves import line, measured, points
from bound_validation.drawing.legends import Entry, groups, key
from bound_validation.drawing.panels import Panel, draw_panel, dress
from bound_validation.drawing.style import GROUPS, narrow
from bound_validation.results import Row
from bound_validation.views import select
from icsmdp_jax.drawing.style import BLACK, BLUE, COLUMN_WIDTH, FULL_WIDTH, GREY, SMALL, letter, new_figure
from icsmdp_jax.learner.methods import METHODS, WHOLE_STATE

CLASSES = {"tabular": "tables", "mlp": "networks"}
ENOUGH = 0.99
LEGEND = 110.0  # points next to the names of learners in a column of a page
TICKS = (1.0, 0.999, 0.99, 0.9, 0.0)  # normalised returns


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """A panel for each function class, one line for each learner; then the loss at growing gap."""
    del summary  # no slope is fitted here
    here = [row for row in rows if row.axis == "returns"]
    found = [row for row in here if row.series == "return"]
    loss, exact = select(here, "returns", "gap_loss"), select(here, "returns", "gap_loss_exact")
    kinds = [kind for kind in CLASSES if any(_part(row, 1) == kind for row in found)]
    count = len(kinds) + bool(loss)
    if not count:
        return None
    methods = [name for name in METHODS if any(_part(row, 2) == name for row in found)]
    names = list(dict.fromkeys(_part(row, 0) for row in found))
    looks = {name: GROUPS[i % len(GROUPS)] for i, name in enumerate(names)}
    crossing = [row for row in here if row.series == "crossing" and _part(row, 0) == names[0]]
    losses = 1 - np.array([value for row in found for value in (row.measured, row.ci_low)] + [1.0, 0.999, 0.0])
    height, below = max(3.0, 1.45 + 0.26 * len(methods)), narrow()
    whole = new_figure(COLUMN_WIDTH if below else FULL_WIDTH if count > 1 else COLUMN_WIDTH + 1.0,
                       (height - 0.3) * count + 0.3 if below else height)  # fmt: skip
    grid = whole.subplots(*((count, 1) if below else (1, count)), squeeze=False).reshape(-1)
    for index, kind in enumerate(kinds):
        mine, numbers = ([row for row in rows if _part(row, 1) == kind] for rows in (found, crossing))
        letter(grid[index], index, CLASSES[kind])
        dress(grid[index], "x", losses, room=0.25)
        _ladder(grid[index], mine, methods, looks, {_part(row, 2): row.measured for row in numbers})
        grid[index].set_yticks(
            range(len(methods)), [METHODS[name].label for name in methods] if index == 0 or below else []
        )
    curves = [
        *line(exact, "bound", "T1.3", BLUE),
        *line(loss, "prediction", r"exact, greedy in $Q_\phi$", BLUE),
        *measured(loss, "IC-Q", BLACK, "o"),
    ]
    if loss:
        title, label = "IC-Q at growing gap", "loss (reward units)"
        draw_panel(
            grid[-1],
            Panel(title, r"interface gap $\eta$", label, curves, ticks=True),
            len(kinds),
            LEGEND if below else None,
        )
    groups(whole, [Entry(name, *looks[name]) for name in names])
    key(whole, curves if loss else measured(found))
    return whole


def _part(row: Row, index: int) -> str:
    """Model, function class or method, from the group's name."""
    return row.group.split(", ")[index]


def _ladder(
    axes: Axes, rows: list[Row], methods: list[str], looks: dict[str, tuple[str, str]], crossing: dict[str, float]
) -> None:
    """Normalised returns, one line of the chart for each method, on an axis that shows the distance from the oracle."""
    axes.invert_xaxis()
    farthest = max(axes.get_xlim())
    shown = [tick for tick in TICKS if 1 - tick <= farthest]
    axes.xaxis.set_major_locator(FixedLocator([1 - tick for tick in shown]))
    axes.xaxis.set_ticklabels([f"{tick:g}" for tick in shown])
    for value, style in ((1 - ENOUGH, (0, (1, 1.4))), (1.0, (0, (4, 2)))):
        axes.axvline(value, color=GREY, linewidth=0.7, linestyle=style, zorder=1)
    aside = np.linspace(-0.26, 0.26, len(looks)) if len(looks) > 1 else np.zeros(1)
    for row in rows:
        colour, marker = looks[_part(row, 0)]
        height = methods.index(_part(row, 2)) + aside[list(looks).index(_part(row, 0))]
        ends = [1 - row.ci_high, 1 - row.ci_low]
        axes.plot(ends, [height] * 2, color=colour, linewidth=0.9, solid_capstyle="butt", zorder=3)
        points(axes, np.array([1 - row.measured]), np.array([height]), colour, marker)
    run = {_part(row, 2) for row in rows}
    grey: dict[str, Any] = dict(fontsize=SMALL, color=GREY, annotation_clip=False)
    beside: dict[str, Any] = dict(xycoords=("axes fraction", "data"), textcoords="offset points", va="center")
    for index, method in enumerate(methods):
        if method not in run:
            axes.annotate("not in this preset", (0.5, index), xytext=(0, 0), ha="center", backgroundcolor="white",
                          **beside, **grey)  # fmt: skip
        if method in crossing:
            number = f"{crossing[method]:.3g}" if math.isfinite(crossing[method]) else WHOLE_STATE.replace(" ", "\n")
            axes.annotate(number, (1.0, index), xytext=(3, 0), linespacing=0.85, **beside, **grey)
        axes.axhline(index + 0.5, color=GREY, linewidth=0.25, zorder=0)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.annotate("numbers per\nhandoff", (1.0, 1.0), xycoords="axes fraction", xytext=(14, 2), ha="right",
                  textcoords="offset points", va="bottom", linespacing=0.9, **grey)  # fmt: skip
    axes.set_xlabel("normalised return\n(0 random workflow, 1 oracle)")
