"""The figure that opens the report: one panel for each source of error, measured, guaranteed and predicted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bound_validation.axes.gap.figure import gap_curves
from bound_validation.axes.samples.figure import fit_of_group, spread_curves
from bound_validation.drawing.curves import cross, fitted, line, measured
from bound_validation.drawing.legends import key
from bound_validation.drawing.panels import ERROR, Panel, draw_panel, dress
from bound_validation.results import Row
from bound_validation.views import fit_of, groups_of, select
from icsmdp_jax.drawing.style import BLACK, BLUE, COLUMN_WIDTH, FULL_WIDTH, GREEN, ORANGE, letter, new_figure

MODEL_BOUNDS = {
    "interface": ("gap", "T1"),
    "gap": ("gap", "T1"),
    "gap_mass_span": ("gap", "T1.2"),
    "gap_value_aware": ("gap", "T1.1"),
    "policy_loss": ("policy loss", "T1.3"),
}


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Width, gap and samples side by side; for a given model the axes that it has."""
    single = [row for row in rows if row.axis == "model" and row.series in MODEL_BOUNDS]
    panels = [_width(rows, summary), _gap(rows, summary), _samples(rows, summary)]
    present = [panel for panel in panels if panel.curves or (single and panel is panels[1])]
    if not present:
        return None
    figure = new_figure(FULL_WIDTH if len(present) > 1 else COLUMN_WIDTH + 0.6, 3.3)
    grid = figure.subplots(1, len(present), squeeze=False)[0]
    for index, (axes, panel) in enumerate(zip(grid, present, strict=True)):
        if panel.curves:
            draw_panel(axes, panel, index)
        else:
            letter(axes, index, panel.title)
            _single_gap(axes, single)
    key(figure, [curve for panel in present for curve in panel.curves])
    return figure


def _width(rows: list[Row], summary: dict[str, Any]) -> Panel:
    sampled, fixed = select(rows, "width", "approximant"), select(rows, "width", "fixed_point")
    curves = [
        *line(fixed, "bound", "T2", BLUE),
        *line(sampled, "prediction", r"$C\,m^{-1/2}$", ORANGE),
        *measured(sampled, "sampled approximant", ORANGE, "s"),
        *measured(fixed, r"$\|Q_m - Q_\phi\|_d$", BLUE, "o"),
        *fitted(fixed, fit_of(summary, "width_fixed_point")),
    ]
    return Panel("approximation", "features per agent $m$", ERROR, curves, ticks=True)


def _gap(rows: list[Row], summary: dict[str, Any]) -> Panel:
    curves = gap_curves([row for row in rows if row.axis == "gap"], summary)
    return Panel("interface", r"interface gap $\eta$", "gap in sup norm (reward units)", curves, ticks=True)


def _samples(rows: list[Row], summary: dict[str, Any]) -> Panel:
    spread, steps = select(rows, "samples", "spread"), select(rows, "samples", "constant_step")
    names = groups_of(sorted(spread + steps, key=lambda row: (row.width, row.group)))
    spread, steps = ([row for row in found if row.group == names[0]] for found in (spread, steps))
    curves = [
        *spread_curves(spread, fit_of_group(summary, names[0]) if names else None),
        *line(steps, "bound", r"T3$^{1/2}$", GREEN),
        *measured(steps, "constant step", GREEN, "s"),
    ]
    return Panel("residual", "samples $K$ (handoffs)", ERROR, curves)


def _single_gap(axes: Axes, rows: list[Row]) -> None:
    """The gap and policy loss of one model beside their bounds, one line of the chart for each bound."""
    rows = sorted(rows, key=lambda row: list(MODEL_BOUNDS).index(row.series))
    dress(axes, "x", np.array([value for row in rows for value in (row.measured, row.bound)]))
    for place, row in enumerate(rows):
        if math.isfinite(row.bound):
            axes.plot([row.measured, row.bound], [place, place], color=BLUE, linewidth=0.7, zorder=1)
            axes.plot([row.bound], [place], color=BLUE, marker="|", markersize=12, markeredgewidth=1.8)
        axes.plot([row.measured], [place], color=BLACK, marker="o", markersize=4.5, zorder=3)
        if row.holds == 0:
            cross(axes, np.array([row.measured]), np.array([place]))
    axes.set_yticks(range(len(rows)), ["{}, {}".format(*MODEL_BOUNDS[row.series]) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("reward units")
