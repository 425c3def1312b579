"""The whole bound: shares of its three terms over the grid of width, gap and samples, and the total against T4."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from bound_validation.drawing import labels
from bound_validation.drawing.curves import Curve, line, measured, note
from bound_validation.drawing.panels import Panel, draw_panel, finish
from bound_validation.drawing.scales import thinned
from bound_validation.drawing.style import (
    BLACK,
    BLUE,
    FULL_WIDTH,
    GREY,
    ORANGE,
    PURPLE,
    TERM_COLOUR,
    TERM_HATCH,
    TERM_LETTER,
    new_figure,
)
from bound_validation.results import Row
from bound_validation.views import PARTS, Share, normalised, select, shares

CORNER_LOOKS = ((BLUE, "o"), (ORANGE, "s"), (BLACK, "D"), (PURPLE, "^"))
DOMINANT_MARKER = {"residual": "o", "approximation": "s", "interface": "^"}
LARGEST_TEXT = 0.16  # share below which a letter would not fit into its segment


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Shares measured and guaranteed above; total against its bound, and total against samples, below."""
    del summary  # no slope is fitted here
    cells = shares(rows)
    totals = [row for row in select(rows, "total", "total") if row.axis == "total"]
    if not cells and not totals:
        return None
    gaps = thinned(np.array([cell.gap for cell in cells]), 5) if cells else []
    upper = 0.72 * len(gaps) + 0.66 if cells else 0.0
    lower = 2.75 if totals else 0.0
    whole = new_figure(FULL_WIDTH, upper + lower + 0.3)
    jobs: list[labels.Job] = []
    parts: list[Any] = [whole]
    if cells and totals:
        stacked: Any = whole.subfigures(2, 1, height_ratios=[upper, lower])
        parts = list(stacked)
    if cells:
        left, right = parts[0].subfigures(1, 2)
        _stacks(left, 0, "measured", cells, gaps, [normalised(cell.measured) for cell in cells])
        _stacks(right, 1, "of the bound", cells, gaps, [normalised(cell.bound) for cell in cells])
        _term_key(whole)
    if totals:
        panels = [panel for panel in (_against_bound(totals, cells), _against_samples(totals)) if panel.curves]
        grid = parts[-1].subplots(1, len(panels), squeeze=False)[0]
        for index, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
            labels.letter(axes, index + 2 * bool(cells), panel.title)
            jobs.append(draw_panel(axes, panel))
    finish(whole, jobs)
    return whole


def _stacks(
    part: SubFigure,
    index: int,
    title: str,
    cells: list[Share],
    gaps: list[float],
    heights: list[tuple[float, ...]],
) -> None:
    """Small multiples of stacked shares: a column for each width, a row for each gap, a bar for each K."""
    widths = thinned(np.array([cell.width for cell in cells]), 5)
    samples = sorted({cell.samples for cell in cells})
    grid = part.subplots(len(gaps), len(widths), sharex=True, sharey=True, squeeze=False)
    for i, gap in enumerate(gaps[::-1]):
        for j, width in enumerate(widths):
            axes = grid[i][j]
            found = [(c.samples, h) for c, h in zip(cells, heights, strict=True) if (c.gap, c.width) == (gap, width)]
            for count, height in found:
                _bar(axes, samples.index(count), height)
            if found and all(math.isnan(height[0]) for _, height in found):
                axes.text(
                    0.5,
                    0.5,
                    "A6 not\ncertified",
                    transform=axes.transAxes,
                    ha="center",
                    va="center",
                    color=GREY,
                    fontsize=6.5,
                )
            axes.set_xlim(-0.6, len(samples) - 0.4)
            axes.set_ylim(0, 1)
            axes.set_yticks([0, 1], ["0", "1"])
            axes.set_xticks(range(len(samples)), [_short_power(count) for count in samples], fontsize=6.5)
            axes.tick_params(length=2, pad=1.5)
            if i == 0:
                axes.set_title(f"$m={int(width)}$" if width else "tabular", fontsize=7.8, pad=3)
            if j == 0:
                axes.set_ylabel(rf"$\eta={gap:g}$", fontsize=7.8)
    part.suptitle(rf"$\bf{{({chr(ord('a') + index)})}}$ shares {title}", x=0.02, ha="left", fontsize=8.5)
    part.supxlabel("samples $K$ (handoffs)", fontsize=8.5)


def _bar(axes: Axes, position: int, heights: tuple[float, ...]) -> None:
    """One stacked bar; the letter of the largest term stands in its segment."""
    if not all(math.isfinite(height) for height in heights):
        return
    bottom = 0.0
    for name, height in zip(PARTS, heights, strict=True):
        style: dict[str, Any] = dict(color=TERM_COLOUR[name], hatch=TERM_HATCH[name], edgecolor="white", linewidth=0.4)
        axes.bar(position, height, bottom=bottom, width=0.86, **style)
        if height == max(heights) and height > LARGEST_TEXT:
            box = dict(boxstyle="round,pad=0.12", facecolor="white", edgecolor="none", alpha=0.85)
            axes.text(
                position,
                bottom + height / 2,
                TERM_LETTER[name],
                ha="center",
                va="center",
                fontsize=5.8,
                bbox=box,
            )
        bottom += height


def _short_power(value: int) -> str:
    """``10^5`` for a power of ten, else two digits."""
    exponent = math.log10(value) if value > 0 else 0.0
    if abs(exponent - round(exponent)) < 1e-9:
        return rf"$10^{{{round(exponent)}}}$"
    digits = value / 10 ** math.floor(exponent)
    return rf"${digits:.2g}{{\cdot}}10^{{{math.floor(exponent)}}}$"


def _term_key(whole: Figure) -> None:
    handles = [
        Patch(facecolor=TERM_COLOUR[name], hatch=TERM_HATCH[name], edgecolor="white", linewidth=0.4) for name in PARTS
    ]
    norms = {
        "residual": "residual (T3)",
        "approximation": "approximation (T2)",
        "interface": "interface (T1)",
    }
    names = [f"{TERM_LETTER[name]}: {norms[name]}" for name in PARTS]
    whole.legend(handles, names, loc="outside upper center", ncols=3, borderpad=0.1, handlelength=1.6)


def _against_bound(totals: list[Row], cells: list[Share]) -> Panel:
    """Measured total against its own bound in every cell, marked by the term that dominates it."""
    dominant = {(cell.group, cell.samples): cell.dominant for cell in cells}
    curves: list[Curve] = []
    claimed = [dataclasses.replace(row, x=row.bound) for row in totals if math.isfinite(row.bound)]
    if claimed:
        ends = np.array([min(row.bound for row in claimed), max(row.bound for row in claimed)])
        line_of_equality = [dataclasses.replace(claimed[0], x=end, bound=end) for end in ends]
        curves += line(line_of_equality, "bound", "measured = bound", BLACK)
    for name, marker in DOMINANT_MARKER.items():
        here = [row for row in claimed if dominant.get((row.group, row.samples), "residual") == name]
        curves += measured(here, f"{name} largest", TERM_COLOUR[name], marker)
    return Panel("every cell of the grid", "bound, T4 (reward units)", "RMSE to $Q^{\\star}$ (reward units)", curves)


def _against_samples(totals: list[Row]) -> Panel:
    """Measured total and bound against K at the corners of the grid: where more samples stop to help."""
    widths, gaps = ({getattr(row, name) for row in totals} for name in ("width", "gap"))
    corners = dict.fromkeys((w, g) for g in (min(gaps), max(gaps)) for w in (min(widths), max(widths)))
    curves: list[Curve] = []
    bounds: list[Curve] = []
    for (width, gap), (colour, marker) in zip(corners, CORNER_LOOKS, strict=False):
        here = [row for row in totals if (row.width, row.gap) == (width, gap)]
        bounds += line(here, "bound", "", colour)
        name = rf"$m={width},\ \eta={gap:g}$" if width else rf"tabular, $\eta={gap:g}$"
        curves += measured(here, name, colour, marker)
    names = note(bounds[0].x, bounds[0].y, "bounds (T4)", BLACK) if bounds else []
    return Panel(
        "corners of the grid",
        "samples $K$ (handoffs)",
        "RMSE to $Q^{\\star}$ (reward units)",
        [*bounds, *names, *curves],
        right=0.48,
    )
