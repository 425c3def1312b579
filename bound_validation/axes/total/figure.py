"""The whole bound: shares of its three terms over the grid of groups, gap and samples, and the total against T4."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from bound_validation.drawing.curves import Curve, line, measured
from bound_validation.drawing.legends import key, outside
from bound_validation.drawing.panels import Panel, draw_panel, thinned
from bound_validation.drawing.style import TERM_COLOUR, TERM_MARKER, narrow
from bound_validation.results import Row
from bound_validation.views import PARTS, Share, normalised, select, shares
from icsmdp_jax.drawing.style import (
    BLACK,
    BLUE,
    COLUMN_WIDTH,
    FULL_WIDTH,
    GREY,
    ORANGE,
    PURPLE,
    SMALL,
    lettered,
    new_figure,
)

CORNER_LOOKS = ((BLUE, "o"), (ORANGE, "s"), (BLACK, "D"), (PURPLE, "^"))
HATCH = {"residual": "....", "approximation": "////", "interface": ""}
NAMES = {"residual": "R: residual (B)", "approximation": "A: approximation (T2)", "interface": "I: interface (T1.1)"}
LEAST_SHARE = 0.22  # below it the letter of a term does not fit into its segment
SAMPLES, RMSE = "samples $K$ (handoffs)", r"RMSE to $Q^{\star}$ (reward units)"


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Shares measured and guaranteed above; total against its bound, and total against samples, below."""
    del summary  # no slope is fitted here
    cells = shares(rows)
    totals = [row for row in select(rows, "total", "total") if row.axis == "total"]
    panels = {2: _against_bound(totals, cells), 3: against_samples(totals)}  # by the number of their letter
    panels = {index: panel for index, panel in panels.items() if panel.curves}
    if not cells and not panels:
        return None
    gaps = thinned([cell.gap for cell in cells], 5) if cells else []
    stacks = 0.72 * len(gaps) + 0.66
    down = 2 if narrow() else 1  # what stands side by side on a full page is stacked in a column
    heights = [stacks * down] * bool(cells) + [2.9 * (len(panels) if narrow() else 1)] * bool(panels)
    whole = new_figure(COLUMN_WIDTH if narrow() else FULL_WIDTH, sum(heights) + 0.3 + 0.3 * (down - 1))
    parts = whole.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if cells:
        both = parts[0].subfigures(down, 3 - down, squeeze=False).flat
        _stacks(both[0], lettered(0, "shares measured"), cells, gaps, [normalised(cell.measured) for cell in cells])
        _stacks(both[1], lettered(1, "shares of the bound"), cells, gaps, [normalised(cell.bound) for cell in cells])
        outside(whole, "upper", [Patch(**_fill(name)) for name in PARTS], [NAMES[name] for name in PARTS])
    if panels:
        shape = (len(panels), 1) if narrow() else (1, len(panels))
        for axes, (index, panel) in zip(parts[-1].subplots(*shape, squeeze=False).flat, panels.items(), strict=True):
            draw_panel(axes, panel, index)
    key(whole, [curve for panel in panels.values() for curve in panel.curves])
    return whole


def _fill(name: str) -> dict[str, Any]:
    return dict(facecolor=TERM_COLOUR[name], hatch=HATCH[name], edgecolor="white", linewidth=0.4)


def _stacks(
    part: SubFigure, title: str, cells: list[Share], gaps: list[float], heights: list[tuple[float, ...]]
) -> None:
    """Small multiples of stacked shares: a column for each number of groups, a row for each gap, a bar for each K."""
    widths = thinned([cell.width for cell in cells], 5)
    samples = sorted({cell.samples for cell in cells})
    grid = part.subplots(len(gaps), len(widths), sharex=True, sharey=True, squeeze=False)
    for i, gap in enumerate(gaps[::-1]):
        for j, width in enumerate(widths):
            axes = grid[i][j]
            found = [(c.samples, h) for c, h in zip(cells, heights, strict=True) if (c.gap, c.width) == (gap, width)]
            for count, height in found:
                _bar(axes, samples.index(count), height)
            if found and all(math.isnan(height[0]) for _, height in found):
                style: dict[str, Any] = dict(ha="center", va="center", color=GREY, fontsize=SMALL)
                axes.text(0.5, 0.5, "A6 not\ncertified", transform=axes.transAxes, **style)
            axes.set_xlim(-0.6, len(samples) - 0.4)
            axes.set_ylim(0, 1)
            axes.set_yticks([0, 1], ["0", "1"])
            axes.set_xticks(range(len(samples)), [_short_power(count) for count in samples], fontsize=SMALL)
            axes.tick_params(length=2, pad=1.5)
            if i == 0:
                axes.set_title(_class(int(width)), pad=3)
            if j == 0:
                axes.set_ylabel(rf"$\eta={gap:g}$")
    part.suptitle(title, x=0.02, ha="left", fontsize="medium")
    part.supxlabel(SAMPLES, fontsize="medium")


def _bar(axes: Axes, position: int, heights: tuple[float, ...]) -> None:
    """One stacked bar; the letter of the largest term stands in its segment."""
    if not all(math.isfinite(height) for height in heights):
        return
    bottom = 0.0
    for name, height in zip(PARTS, heights, strict=True):
        axes.bar(position, height, bottom=bottom, width=0.86, **_fill(name))
        if height == max(heights) and height > LEAST_SHARE:
            box = dict(boxstyle="round,pad=0.1", facecolor="white", edgecolor="none", alpha=0.85)
            middle = (position, bottom + height / 2)
            axes.text(*middle, NAMES[name][0], ha="center", va="center_baseline", fontsize=SMALL, bbox=box)
        bottom += height


def _class(width: int) -> str:
    return f"{width} group{'s' if width != 1 else ''}"


def _short_power(value: int) -> str:
    """``10^5`` for a power of ten, else its first digits over the power, so that bars may stand close together."""
    exponent = math.floor(math.log10(value))
    digits = f"{value / 10**exponent:.2g}"
    return rf"$10^{{{exponent}}}$" if digits == "1" else rf"${digits}{{\cdot}}10^{{{exponent}}}$"


def _against_bound(totals: list[Row], cells: list[Share]) -> Panel:
    """Measured total against its own bound in every cell, marked by the term that dominates it."""
    dominant = {(cell.group, cell.samples): cell.dominant for cell in cells}
    claimed = [dataclasses.replace(row, x=row.bound) for row in totals if math.isfinite(row.bound)]
    curves = line(claimed, "bound", "measured = bound", BLACK)
    for name in PARTS:
        here = [row for row in claimed if dominant.get((row.group, row.samples), "residual") == name]
        curves += measured(here, f"{name} largest", TERM_COLOUR[name], TERM_MARKER[name])
    return Panel("every cell of the grid", "bound, T4 (reward units)", RMSE, curves)


def against_samples(totals: list[Row], title: str = "corners of the grid") -> Panel:
    """Measured total and bound against K at the corners of the grid: where more samples no longer help."""
    widths, gaps = ({getattr(row, name) for row in totals} or {0} for name in ("width", "gap"))
    corners = dict.fromkeys((w, g) for g in (min(gaps), max(gaps)) for w in (min(widths), max(widths)))
    hardest = [row for row in totals if (row.width, row.gap) == (min(widths), max(gaps))]
    curves: list[Curve] = line(hardest, "trivial", "table of zeros", GREY)
    for (width, gap), (colour, marker) in zip(corners, CORNER_LOOKS, strict=False):
        here = [row for row in totals if (row.width, row.gap) == (width, gap)]
        name = rf"{_class(width)}, $\eta={gap:g}$"
        named = any(curve.kind == "bound" for curve in curves)
        curves += line(here, "bound", "" if named else "T4 of each corner", colour)
        curves += measured(here, name, colour, marker)
    return Panel(title, SAMPLES, RMSE, curves)
