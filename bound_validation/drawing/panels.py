"""A figure as a grid of panels, each a list of curves: the one way in which most figures are put together.

Axes are logarithmic. One that has to show 0 is symmetrical-logarithmic: linear up to its smallest positive value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

from bound_validation.drawing.curves import Curve, draw, traces, values_to_show
from bound_validation.drawing.legends import Entry, groups, key, panel_legend
from bound_validation.drawing.style import narrow
from bound_validation.results import ROUNDING
from icsmdp_jax.drawing.interactive import describe
from icsmdp_jax.drawing.style import COLUMN_WIDTH, SETTINGS, SMALL, letter, new_figure, text_size

NORM = r"in $\|\cdot\|_d$ (reward units)"
ERROR, RMSE, SPREAD, BIAS = (f"{what} {NORM}" for what in ("error", "RMSE", "spread", "bias"))
MARGIN = 0.06  # room beyond the data, as a share of the length of an axis
ROOM = 0.12


@dataclasses.dataclass(frozen=True)
class Panel:
    """What one pair of axes shows.

    Attributes:
      title: a few words above it.
      x_label, y_label: with units.
      curves: in the order of drawing.
      ticks: abscissae that get a tick where there is room; True for those of the curves, False for round numbers.
      top: abscissae and texts of a second scale along the upper edge.
    """

    title: str
    x_label: str
    y_label: str
    curves: list[Curve]
    ticks: bool | Sequence[float] = False
    top: tuple[list[float], list[str]] | None = None


def compose(
    panels: list[Panel],
    columns: int,
    width: float,
    height: float,
    entries: Sequence[Entry] = (),
    fill: bool = False,
) -> Figure | None:
    """The figure with these panels, empty ones left out; None if none is left.

    Args:
      panels: row by row; each keeps its letter if another is left out, and a single one has none.
      columns: of the grid; 1 inside ``single_column``.
      width: inches, whatever the number of panels; that of a column inside ``single_column``.
      height: inches of one row of panels with their legends.
      entries: groups whose markers are explained above the panels.
      fill: whether the last panel takes what is left of its row.
    """
    full = [i for i, panel in enumerate(panels) if any(curve.kind != "fit" for curve in panel.curves)]
    if not full:
        return None
    columns, width = (1, COLUMN_WIDTH) if narrow() else (min(columns, len(full)), width)
    rows = math.ceil(len(full) / columns)
    figure = new_figure(width, rows * height + 0.3)
    grid = figure.subplots(rows, columns, squeeze=False)
    if fill and len(full) % columns:
        last = grid[-1, (len(full) - 1) % columns]
        last.set_subplotspec(last.get_gridspec()[rows - 1, (len(full) - 1) % columns :])
    for axes, index in zip(grid.flat, full, strict=False):
        draw_panel(axes, panels[index], index if len(full) > 1 else None)
    for axes in grid.flat[len(full) :]:
        axes.set_axis_off()
    groups(figure, entries)
    key(figure, [curve for index in full for curve in panels[index].curves])
    return figure


def draw_panel(axes: Axes, panel: Panel, index: int | None = None, room: float | None = None) -> None:
    """Scales, curves, title, labels and legend of one panel.

    Args:
      axes: where to draw.
      panel: what to draw.
      index: the number behind its letter; None for a single panel.
      room: width of its legend in points, if that is not the width of its place in the figure.
    """
    abscissae = np.concatenate([curve.x for curve in panel.curves if curve.kind != "fit"])
    dress(axes, "x", abscissae)
    if panel.ticks is not False:
        tick_at(axes, abscissae if panel.ticks is True else panel.ticks)
    dress(axes, "y", values_to_show(panel.curves))
    for curve in panel.curves:
        draw(axes, curve)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.top:
        above = axes.secondary_xaxis("top")
        above.xaxis.set_major_locator(FixedLocator(panel.top[0]))
        above.xaxis.set_ticklabels(panel.top[1], fontsize=SMALL)
        above.xaxis.set_minor_locator(FixedLocator([]))
    describe(axes, partial(traces, panel.curves))
    letter(axes, index, panel.title)
    panel_legend(axes, panel.curves, room_of(axes) - 20 if room is None else room)


def room_of(axes: Axes) -> float:
    """Width in points of the axes' place in the figure, with their labels."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    share = len(axes.get_subplotspec().colspan) / axes.get_gridspec().ncols  # type: ignore[union-attr]
    return 72 * share * figure.get_figwidth()


def dress(axes: Axes, which: Literal["x", "y"], values: np.ndarray, room: float = ROOM) -> None:
    """Makes an axis logarithmic, linear between 0 and the smallest positive value if 0 (up to rounding) occurs.

    Args:
      axes: where to draw.
      which: which of its two axes.
      values: what it has to show; NaN and infinity are ignored.
      room: between 0 and the smallest positive value, as a share of the length of the rest.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    positive = values[values > ROUNDING]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 1.0)
    zero = positive.size < values.size
    decades = max(math.log10(high / low), math.log10(1.6))
    scale: dict[str, Any] = dict(value="log")
    if zero:  # the transform stretches the linear part by 10 / 9
        scale = dict(value="symlog", linthresh=low, linscale=0.9 * max(room * decades, math.log10(2)))
    getattr(axes, f"set_{which}scale")(**scale)
    place = axis.get_transform()
    ends = place.transform(np.array([min(values.min(), 0.0) if zero else low, high]))
    beyond = max(MARGIN * (ends[1] - ends[0]), 0.0) or math.log10(1.3)
    limits = place.inverted().transform(ends + [-beyond, beyond])
    getattr(axes, f"set_{which}lim")(*limits)
    major, minor = ticks_of(low if zero else limits[0], limits[1])
    major = [0.0] * zero + major
    axis.set_major_locator(FixedLocator(major))
    axis.set_ticklabels(tick_texts(major))
    axis.set_minor_locator(FixedLocator(minor))
    axis.set_minor_formatter(NullFormatter())


def tick_at(axes: Axes, values: Sequence[float] | np.ndarray) -> None:
    """Ticks at these abscissae, from the largest down, where their labels do not touch; a 0 always has one."""
    ticks = np.unique(np.where(np.abs(values) <= ROUNDING, 0.0, values))
    texts = tick_texts([float(tick) for tick in ticks])
    place = axes.xaxis.get_transform()
    low, high = place.transform(np.array(axes.get_xlim()))
    points = place.transform(ticks) * (room_of(axes) - 45) / (high - low)  # 45: left of the axes, about
    half = [text_size(text, SETTINGS["xtick.labelsize"])[0] / 2 + 2 for text in texts]
    kept = [0] if ticks[0] == 0 else []
    for index in range(len(ticks) - 1, len(kept) - 1, -1):
        if all(abs(points[index] - points[other]) >= half[index] + half[other] for other in kept):
            kept.append(index)
    kept.sort()
    axes.set_xticks(ticks[kept], [texts[index] for index in kept])
    axes.xaxis.set_minor_locator(FixedLocator([]))


def ticks_of(low: float, high: float) -> tuple[list[float], list[float]]:
    """Major and minor ticks within ``[low, high]``: powers of ten if there are enough, else 1-2-5, else even steps."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil(math.log10(high / low) / 5))
    powers = range(first - first % stride, last + 1, stride)  # so that 1 is a tick whenever it can be

    def inside(values: Iterable[float]) -> list[float]:
        return [float(f"{value:.9g}") for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]

    def multiples(*digits: int) -> list[float]:
        return inside(digit * 10.0**power for power in powers for digit in digits)

    few, some = multiples(1), multiples(1, 2, 5)
    if len(few) > 2 or high / low >= 100:
        return few, multiples(*range(2, 10)) if stride == 1 else []
    if len(some) > 2:
        return some, [tick for tick in multiples(*range(1, 10)) if tick not in some]
    return inside(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3).tick_values(low, high)), []


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Powers of ten as such if one of them is very small or large, else plain numbers."""
    exponents = [math.log10(tick) if tick > 0 else 0.0 for tick in ticks]
    powers = all(abs(exponent - round(exponent)) < 1e-9 for exponent in exponents)
    if powers and any(not -2 <= exponent <= 3 for exponent in exponents):
        return ["0" if tick == 0 else "1" if tick == 1 else rf"$10^{{{round(e)}}}$"
                for tick, e in zip(ticks, exponents, strict=True)]  # fmt: skip
    return [f"{tick:.10g}" for tick in ticks]


def thinned(values: Sequence[float] | np.ndarray, most: int) -> list[float]:
    """At most ``most`` of the values, evenly spread over their ranks, the largest among them."""
    distinct = np.unique(np.asarray(values, dtype=np.float64))
    stride = max(1, math.ceil((distinct.size - 1) / (most - 1)))
    return [float(v) for v in distinct[::-1][::stride][::-1]]
