"""The figure that opens the report: one panel for each source of error, measured, guaranteed and predicted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bound_validation.axes.gap.figure import gap_curves
from bound_validation.axes.samples.figure import fit_of_group, plain_curves, spread_curves
from bound_validation.axes.total.figure import against_samples
from bound_validation.drawing.curves import cross, fitted, line, measured
from bound_validation.drawing.legends import key
from bound_validation.drawing.panels import ERROR, RMSE, Panel, draw_panel, dress
from bound_validation.drawing.style import narrow
from bound_validation.results import Row
from bound_validation.views import fit_of, groups_of, select
from icsmdp_jax.drawing.style import (
    BLACK,
    BLUE,
    COLUMN_WIDTH,
    FULL_WIDTH,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    letter,
    new_figure,
)

MODEL_BOUNDS = {
    "interface": ("gap", "T1"),
    "gap": ("gap", "T1"),
    "gap_mass_span": ("gap", "T1.2"),
    "gap_value_aware": ("gap", "T1.1"),
    "policy_loss": ("policy loss", "T1.3"),
}
SAMPLES = "samples $K$ (handoffs)"
ZEROS = "table of zeros"  # what is trivial


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Approximation, interface, residual, nets and the whole, as far as there are rows; for a given model its own."""
    single = [row for row in rows if row.axis == "model" and row.series in MODEL_BOUNDS]
    interface = _gap(rows, summary)
    panels = [_width(rows, summary), interface, _samples(rows, summary), _nets(rows), _total(rows)]
    present = [panel for panel in panels if panel.curves or (single and panel is interface)]
    if not present:
        return None
    count = len(present)
    columns = 1 if narrow() else {4: 2}.get(count, min(count, 3))  # four as a square
    lines = math.ceil(count / columns)
    width = FULL_WIDTH if columns > 1 else COLUMN_WIDTH if narrow() else COLUMN_WIDTH + 0.6
    figure = new_figure(width, 2.9 * lines + 0.4)
    grid = figure.subplots(lines, columns, squeeze=False).reshape(-1)
    for index, (axes, panel) in enumerate(zip(grid, present, strict=False)):
        if panel.curves:
            draw_panel(axes, panel, index)
        else:
            letter(axes, index, panel.title)
            _single_gap(axes, single)
    for axes in grid[count:]:
        axes.set_axis_off()
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
    """Plain runs of the first class under two schedules; on a given model the spread and the constant step."""
    plain, spread = select(rows, "samples", "constant_plain"), select(rows, "samples", "spread")
    steps = select(rows, "samples", "constant_step")
    names = groups_of(sorted(plain or spread + steps, key=lambda row: (row.width, row.group)))
    if plain:
        zeros = line([row for row in plain if row.group == names[0]], "trivial", ZEROS, GREY)
        return Panel("residual", SAMPLES, RMSE, [*zeros, *plain_curves(rows, names[0], ("constant", "polynomial"))])
    spread, steps = ([row for row in found if row.group == names[0]] for found in (spread, steps))
    curves = [
        *spread_curves(spread, fit_of_group(summary, names[0]) if names else None),
        *line(steps, "bound", r"T3+$^{1/2}$", GREEN),
        *measured(steps, "constant step", GREEN, "s"),
    ]
    return Panel("residual", SAMPLES, ERROR, curves)


def _nets(rows: list[Row]) -> Panel:
    """Projected nets with a trained hidden layer against theorem N, gap closed where it is: a curve for each K."""
    nets = [row for row in rows if row.axis == "neural" and row.series == "projected_net"]
    nets = [row for row in nets if row.group == "gap closed"] or nets
    counts = sorted({row.samples for row in nets})
    curves = line(nets, "trivial", ZEROS, GREY)
    for samples, (colour, marker) in zip(counts, ((PURPLE, "o"), (BLUE, "s"), (GREEN, "^")), strict=False):
        here = [row for row in nets if row.samples == samples]
        suffix = f", $K = {_count(samples)}$" if len(counts) > 1 else ""
        curves += [*line(here, "bound", f"N+{suffix}", colour), *measured(here, f"trained net{suffix}", colour, marker)]
    return Panel("neural", "units per agent and option $m$", RMSE, curves, ticks=True)


def _count(number: int) -> str:
    """``10^4`` for a power of ten, else the number, in Matplotlib's mathematics."""
    power = round(math.log10(number)) if number > 0 else 0
    return f"10^{{{power}}}" if 10**power == number else str(number)


def _total(rows: list[Row]) -> Panel:
    totals = [row for row in rows if row.axis == "total" and row.series == "total"]
    return against_samples(totals, "total")


def _single_gap(axes: Axes, rows: list[Row]) -> None:
    """The gap and policy loss of one model against their bounds, one line of the chart for each bound."""
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
