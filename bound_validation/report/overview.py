"""The figure that opens the report: one panel for each source of error, measured, guaranteed and predicted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bound_validation.axes.gap.figure import gap_curves
from bound_validation.axes.samples.figure import fit_of_group, spread_curves
from bound_validation.drawing import labels
from bound_validation.drawing.curves import cross, fitted, line, measured
from bound_validation.drawing.panels import Q_ERROR, Panel, draw_panel, finish
from bound_validation.drawing.scales import dress, log_scale
from bound_validation.drawing.style import BLACK, BLUE, COLUMN_WIDTH, FULL_WIDTH, GREEN, ORANGE, new_figure
from bound_validation.results import Row
from bound_validation.views import fit_of, groups_of, select

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
    present = [any(curve.kind not in ("fit", "note") for curve in panel.curves) for panel in panels]
    present[1] = present[1] or bool(single)
    if not any(present):
        return None
    count = sum(present)
    figure = new_figure(FULL_WIDTH if count > 1 else COLUMN_WIDTH + 0.6, 2.95)
    grid = figure.subplots(1, count, squeeze=False)[0]
    jobs = []
    index = 0
    for panel, here in zip(panels, present, strict=True):
        if not here:
            continue
        labels.letter(grid[index], index, panel.title)
        if panel.curves:
            jobs.append(draw_panel(grid[index], panel))
        else:
            _single_gap(grid[index], single)
        index += 1
    finish(figure, jobs)
    return figure


def _width(rows: list[Row], summary: dict[str, Any]) -> Panel:
    sampled, fixed = select(rows, "width", "approximant"), select(rows, "width", "fixed_point")
    curves = [
        *line(fixed, "bound", "T2", BLUE),
        *line(sampled, "prediction", r"$C\,m^{-1/2}$", ORANGE),
        *measured(sampled, "sampled approximant", ORANGE, "s"),
        *measured(fixed, r"$\|Q_m - Q_\phi\|_d$", BLUE, "o"),
        *fitted(fixed, fit_of(summary, "width_fixed_point", "model_width_fixed_point")),
    ]
    return Panel("approximation", "features per agent $m$", Q_ERROR, curves, ticks_at_points=True)


def _gap(rows: list[Row], summary: dict[str, Any]) -> Panel:
    here = [row for row in rows if row.axis == "gap"]
    curves = gap_curves(here, summary)
    return Panel(
        "interface",
        r"interface gap $\eta$",
        "gap in sup norm (reward units)",
        curves,
        ticks_at_points=True,
        right=0.16,
    )


def _samples(rows: list[Row], summary: dict[str, Any]) -> Panel:
    spread = select(rows, "samples", "spread")
    steps = select(rows, "samples", "constant_step")
    names = groups_of(sorted(spread + steps, key=lambda row: (row.width, row.group)))
    if not names:
        return Panel("residual", "", "", [])
    spread, steps = ([row for row in found if row.group == names[0]] for found in (spread, steps))
    curves = [
        *spread_curves(spread, fit_of_group(summary, names[0])),
        *line(steps, "bound", r"T3$^{1/2}$", GREEN),
        *measured(steps, "constant step", GREEN, "s"),
    ]
    return Panel("residual", "samples $K$ (handoffs)", Q_ERROR, curves)


def _single_gap(axes: Axes, rows: list[Row]) -> None:
    """The gap and policy loss of one model beside their bounds, one line of the chart for each bound."""
    rows = sorted(rows, key=lambda row: list(MODEL_BOUNDS).index(row.series))
    scale = log_scale(np.array([value for row in rows for value in (row.measured, row.bound)]))
    dress(axes, "x", scale, margin=0.12, head=0.16)
    for place, row in enumerate(rows):
        x = scale.place(np.array([row.measured, row.bound]))
        if math.isfinite(row.bound):
            axes.plot(x, [place, place], color=BLUE, linewidth=0.7, zorder=1)
            axes.plot(x[1:], [place], color=BLUE, marker="|", markersize=12, markeredgewidth=1.8, linestyle="none")
        axes.plot(x[:1], [place], color=BLACK, marker="o", markersize=4.5, linestyle="none", zorder=3)
        if row.holds == 0:
            cross(axes, x[:1], np.array([place]))
    axes.set_yticks(range(len(rows)), ["{}, {}".format(*MODEL_BOUNDS[row.series]) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("reward units")
