"""Neural: the parts of the bound of theorem N against the measured error, and what it charges for linearising."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bound_validation.drawing.curves import cross, fitted, line, measured, reference
from bound_validation.drawing.legends import key, outside
from bound_validation.drawing.panels import ERROR, Panel, draw_panel
from bound_validation.drawing.style import TERM_COLOUR, narrow
from bound_validation.results import Row
from bound_validation.views import fit_of, select
from icsmdp_jax.drawing.style import (
    BLACK,
    BLUE,
    COLUMN_WIDTH,
    FULL_WIDTH,
    ORANGE,
    PURPLE,
    VERMILLION,
    letter,
    new_figure,
)

UNITS = "units per agent and option, $m$"
PARTS = ("sampling", "hidden", "linearisation", "approximation")  # from below
LOOKS = {
    "sampling": ("handoffs (N+)", TERM_COLOUR["residual"], "...."),
    "hidden": (r"hidden part, $c_C$", TERM_COLOUR["interface"], ""),
    "linearisation": ("linearisation", ORANGE, r"\\\\"),
    "approximation": ("approximation (N3)", TERM_COLOUR["approximation"], "////"),
}
NOTHING: dict[str, Any] = dict(color=BLACK, linewidth=1.2, linestyle=(0, (4.5, 1.8)), zorder=3)
MEASURED: dict[str, Any] = dict(
    linestyle="none", marker="o", markersize=5.0, color=BLACK, markerfacecolor="white", markeredgewidth=1.0, zorder=4
)


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Stacks of the bound against width (gap closed, gap open) and handoffs; linearisation error; floors."""
    here = [row for row in rows if row.axis == "neural"]
    runs = [row for row in here if row.series == "projected_net"]
    if not runs:
        return None
    shown = min(row.samples for row in runs)
    widest = max(row.width for row in runs)
    if narrow():
        whole = new_figure(COLUMN_WIDTH, 12.5)
        places = list(whole.subplots(5, 1))
    else:
        whole = new_figure(FULL_WIDTH, 8.0)
        grid = whole.subplots(3, 2)
        grid[2, 1].remove()
        grid[2, 0].set_subplotspec(grid[2, 0].get_gridspec()[2, :])
        places = [*grid.flat[:5]]
    stacks = (
        ("gap closed", {"samples": shown}, "width", UNITS, f"gap closed, $K = {shown}$"),
        ("gap open", {"samples": shown}, "width", UNITS, f"gap open, $K = {shown}$"),
        ("gap closed", {"width": widest}, "samples", "handoffs $K$", f"gap closed, $m = {widest}$"),
    )
    for index, (group, fixed, free, label, title) in enumerate(stacks):
        _stack(places[index], [row for row in here if row.group == group], fixed, free)
        places[index].set_xlabel(label)
        letter(places[index], index, title)
    seen = [row for row in select(here, "neural", "linearisation_seen", "gap closed") if row.samples == shown]
    floors, whole_balls = select(here, "neural", "floor"), select(here, "neural", "frobenius_floor")
    path = [
        *line(seen, "bound", r"certificate, $\max e_f$ (N2)", VERMILLION),
        *measured(seen, "largest on the path", BLACK, "o"),
    ]
    falling = [
        *reference(whole_balls, -1 / 6, "reference slope \N{MINUS SIGN}1/6", PURPLE),
        *measured(floors, "floor, a ball for each unit", BLUE, "s"),
        *measured(whole_balls, "floor, a ball for each whole net", PURPLE, "D"),
        *fitted([row for row in floors if row.width >= 64], fit_of(summary, "neural_floor"), BLUE),
    ]
    panels = (
        Panel("linearisation error, gap closed", UNITS, r"$|Q_\delta - Q^0_\delta|$ (reward units)", path, ticks=True),
        Panel("what handoffs cannot remove", UNITS, ERROR, falling, ticks=True),
    )
    for index, panel in enumerate(panels, 3):
        draw_panel(places[index], panel, index)
    handles = [*(Patch(**_fill(name)) for name in PARTS), Line2D([], [], **NOTHING), Line2D([], [], **MEASURED)]
    names = [*(LOOKS[name][0] for name in PARTS), r"nothing learned, $\|Q_\phi\|_d$", "measured error"]
    outside(whole, "upper", handles, names)
    key(whole, [*(curve for panel in panels for curve in panel.curves), *measured(runs)])
    return whole


def _fill(name: str) -> dict[str, Any]:
    _, colour, hatch = LOOKS[name]
    return dict(facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0.4)


def _stack(axes: Axes, rows: Sequence[Row], fixed: dict[str, int], free: str) -> None:
    """Bars of the bound on the error to ``Q_phi``, in parts, with the measured errors and the trivial value."""

    def matches(row: Row) -> bool:
        return all(getattr(row, name) == value for name, value in fixed.items())

    parts = {
        name: {getattr(row, free): row for row in rows if row.series == f"part_{name}" and matches(row)}
        for name in PARTS[:3]
    }
    places = sorted(parts["linearisation"])
    near = {row.width: row for row in rows if row.series == "approximation"}
    for position, place in enumerate(places):
        bottom = 0.0
        heights = {name: parts[name][place].measured for name in PARTS[:3]}
        heights["approximation"] = near[parts["sampling"][place].width].bound
        for name in PARTS:
            axes.bar(position, heights[name], bottom=bottom, width=0.66, zorder=1, **_fill(name))
            bottom += heights[name]
    found = [row for row in rows if row.series == "projected_net" and matches(row) and getattr(row, free) in places]
    spots = np.array([places.index(getattr(row, free)) for row in found], float)
    values = np.array([row.measured for row in found])
    axes.plot(spots, values, **MEASURED)
    bad = np.array([row.holds == 0 for row in found], bool)
    if bad.any():
        cross(axes, spots[bad], values[bad])
    for trivial in {row.trivial for row in near.values() if math.isfinite(row.trivial)}:
        axes.axhline(trivial, **NOTHING)
    axes.set_xticks(range(len(places)), [_power(place) if free == "samples" else str(place) for place in places])
    axes.set_ylabel(ERROR)


def _power(value: int) -> str:
    return rf"$10^{{{round(math.log10(value))}}}$" if math.log10(value) % 1 < 1e-9 else f"{value}"
