"""Logarithmic axes with sensible ticks and a place for 0, set apart by a break mark."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from bound_validation.results import ROUNDING

Which = Literal["x", "y"]


class LogScale(NamedTuple):
    """Where values go on a logarithmic axis.

    Attributes:
      low: smallest positive value that the axis has to show.
      high: largest.
      zero: where 0 is drawn; None if the axis has no place for it.
    """

    low: float
    high: float
    zero: float | None

    def place(self, values: np.ndarray) -> np.ndarray:
        """Positive values as they are, 0 (up to rounding) at its own place, NaN where there is none."""
        values = np.asarray(values, dtype=np.float64)
        return np.where(values > ROUNDING, values, np.nan if self.zero is None else self.zero)


def log_scale(values: np.ndarray, room: float = 0.1) -> LogScale:
    """The scale that shows all finite values; 0 gets a place if it occurs, ``room`` of the range below the rest."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    positive = np.unique(values[values > ROUNDING])
    if positive.size == 0:
        positive = np.array([1.0])
    low, high = float(positive[0]), float(positive[-1])
    if not (np.abs(values) <= ROUNDING).any():
        return LogScale(low, high, None)
    step = max(room * math.log(high / low), math.log(2))
    return LogScale(low, high, low * math.exp(-step))


def ticks_of(low: float, high: float) -> tuple[list[float], list[float]]:
    """Major and minor ticks inside ``[low, high]``: powers of ten if there are enough, else 1-2-5, else all digits."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    span = math.log10(high / low)

    def multiples(digits: tuple[int, ...], stride: int = 1) -> list[float]:
        values = [digit * 10.0**power for power in range(first, last + 1, stride) for digit in digits]
        return [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]

    if span >= 2:
        # Strides count from a multiple of themselves, so that 1 is a tick whenever it can be.
        stride = max(1, math.ceil(span / 5))
        first -= first % stride
        minor = multiples((2, 3, 4, 5, 6, 7, 8, 9)) if span <= 6 else []
        return multiples((1,), stride), minor
    for digits in ((1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        major = multiples(digits)
        if len(major) >= 3:
            return major, multiples((1, 2, 3, 4, 5, 6, 7, 8, 9))
    exponent = 10 ** math.floor(math.log10((high - low) / 2)) if high > low else low
    steps = [factor * exponent for factor in (1.0, 2.0, 5.0)]
    step = next((s for s in steps if (high - low) / s <= 4), steps[-1])
    count = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [round(i * step, 12) for i in count] or [low], []


def thinned(values: np.ndarray, most: int = 7) -> list[float]:
    """At most ``most`` of the values, evenly spread over their ranks and with both ends."""
    distinct = np.unique(np.asarray(values, dtype=np.float64))
    if distinct.size <= most:
        return [float(v) for v in distinct]
    stride = math.ceil((distinct.size - 1) / (most - 1))
    return [float(v) for v in distinct[::-1][::stride][::-1]]


def text_of(value: float, powers: bool) -> str:
    """A tick label: a power of ten, or the plain number."""
    if powers:
        exponent = round(math.log10(value))
        return "1" if exponent == 0 else rf"$10^{{{exponent}}}$"
    return f"{value:.10g}"


def dress(
    axes: Axes,
    which: Which,
    scale: LogScale,
    at: np.ndarray | None = None,
    margin: float = 0.05,
    head: float = 0.05,
) -> None:
    """Makes an axis logarithmic, sets limits and ticks, and draws the break mark if 0 has a place.

    Args:
      axes: where to draw.
      which: which of its two axes.
      scale: what it has to show.
      at: values that get a tick; None picks round numbers.
      margin: room beyond the data at the lower end, as a share of the length of the axis.
      head: room at the upper end.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    getattr(axes, f"set_{which}scale")("log")
    bottom = scale.low if scale.zero is None else scale.zero
    length = max(math.log(scale.high / bottom), math.log(1.6))
    low, high = bottom * math.exp(-margin * length), scale.high * math.exp(head * length)
    if scale.high == bottom:
        low, high = bottom / 1.3, bottom * 1.3
    getattr(axes, f"set_{which}lim")(low, high)
    start = low if scale.zero is None else math.sqrt(scale.zero * scale.low)
    if at is None:
        major, minor = ticks_of(start, min(high, 1.6 * scale.high))  # room for labels gets no ticks
        powers = math.log10(high / start) >= 2 and not all(0.01 <= tick <= 1000 for tick in major)
    else:
        major, minor, powers = thinned(at[at > ROUNDING]), [], False
    labels = [text_of(value, powers) for value in major]
    if scale.zero is not None:
        major, labels = [scale.zero, *major], ["0", *labels]
        _break_mark(axes, which, math.sqrt(scale.zero * min(scale.low, major[1] if len(major) > 1 else scale.low)))
    axis.set_major_locator(FixedLocator(major))
    axis.set_ticklabels(labels)
    axis.set_minor_locator(FixedLocator(minor) if minor else NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _break_mark(axes: Axes, which: Which, position: float) -> None:
    """Two slashes across the spine, with the spine between them hidden."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    data = axes.get_xaxis_transform() if which == "x" else axes.get_yaxis_transform()
    point = (position, 0.0) if which == "x" else (0.0, position)
    slash = [(-0.4, -1.0), (0.4, 1.0)] if which == "x" else [(-1.0, -0.4), (1.0, 0.4)]
    style: dict[str, Any] = dict(transform=data, clip_on=False, linestyle="none")
    axes.plot(*point, marker="s", markersize=2.6, color="white", markeredgewidth=0, zorder=6, **style)
    for points in (-1.3, 1.3):
        move = (points / 72, 0) if which == "x" else (0, points / 72)
        style["transform"] = data + ScaledTranslation(move[0], move[1], figure.dpi_scale_trans)
        axes.plot(*point, marker=slash, markersize=5, color="black", markeredgewidth=0.6, zorder=7, **style)
