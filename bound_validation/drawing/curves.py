"""What a panel shows: measured points, bounds, predictions and fits, built from rows, with one meaning each."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from bound_validation.drawing.scales import LogScale
from bound_validation.drawing.style import ALARM, BLACK, GREY, LINE
from bound_validation.results import ROUNDING, Row
from bound_validation.views import Fit

Kind = Literal["measured", "bound", "prediction", "alternative", "fit", "reference", "note"]
SIZE = {"+": 7.0, "D": 3.8, "^": 4.4, "v": 4.4, "P": 4.8}  # points; the shapes differ in area at equal size
Field = Literal["bound", "prediction", "alternative"]


@dataclasses.dataclass(frozen=True)
class Curve:
    """One series of a panel.

    Attributes:
      kind: measured (markers), the sort of line, or a note (nothing but its label).
      label: what stands beside it; empty for none.
      colour: of markers, line and label.
      x, y: ``[n]`` points.
      low, high: ``[n]`` ends of the intervals, measured curves only.
      certified: ``[n]`` bool; hollow markers where a bound is missing because A6 is not certified.
      violated: ``[n]`` bool; crossed out in red.
      limit: ``[n]`` bool; only the upper end of the interval is positive and drawn, as an arrow that points down.
      marker: of measured curves.
    """

    kind: Kind
    label: str
    colour: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    certified: np.ndarray
    violated: np.ndarray
    limit: np.ndarray
    marker: str = "o"


def measured(rows: list[Row], label: str = "", colour: str = BLACK, marker: str = "o") -> list[Curve]:
    """The measured values of a series with their intervals; nothing if no value is finite."""
    rows = [row for row in rows if math.isfinite(row.measured)]
    if not rows:
        return []
    y = np.array([row.measured for row in rows])
    low = np.array([row.measured if math.isnan(row.ci_low) else row.ci_low for row in rows])
    high = np.array([row.measured if math.isnan(row.ci_high) else row.ci_high for row in rows])
    return [
        Curve(
            "measured",
            label,
            colour,
            np.array([row.x for row in rows], dtype=np.float64),
            y,
            low,
            high,
            np.array([row.certified or row.holds >= 0 or not row.term for row in rows]),
            np.array([row.holds == 0 for row in rows]),
            (y <= ROUNDING) & (high > ROUNDING),
            marker,
        )
    ]


def line(rows: list[Row], field: Field, label: str = "", colour: str = BLACK, kind: Kind | None = None) -> list[Curve]:
    """A column of theory as a line; nothing if no value is finite."""
    points = [(row.x, getattr(row, field)) for row in rows if math.isfinite(getattr(row, field))]
    if not points:
        return []
    return [_line(kind or field, label, colour, *np.array(sorted(set(points)), dtype=np.float64).T)]


def note(x: np.ndarray | list[float], y: np.ndarray | list[float], label: str, colour: str = GREY) -> list[Curve]:
    """A label for points that other curves draw."""
    return [_line("note", label, colour, np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))]


def same_line(first: list[Curve], second: list[Curve], tolerance: float = 1e-6) -> bool:
    """Whether the second line runs along the first wherever it is drawn, so that one of them is enough."""
    if not first or not second:
        return False
    known = dict(zip(first[0].x, first[0].y, strict=True))
    pairs = [(known.get(x, math.nan), y) for x, y in zip(second[0].x, second[0].y, strict=True)]
    return all(math.isclose(a, b, rel_tol=tolerance, abs_tol=ROUNDING) for a, b in pairs)


def _line(kind: Kind, label: str, colour: str, x: np.ndarray, y: np.ndarray) -> Curve:
    nowhere = np.zeros(x.shape, dtype=bool)
    return Curve(kind, label, colour, x, y, y, y, ~nowhere, nowhere, nowhere)


def fitted(rows: list[Row], fit: Fit | None, colour: str = GREY) -> list[Curve]:
    """The fitted power law, through the geometric mean of the positive points."""
    points = [(row.x, row.measured) for row in rows if row.x > ROUNDING and row.measured > ROUNDING]
    if fit is None or len({x for x, _ in points}) < 2:
        return []
    logs = np.log(np.array(points, dtype=np.float64))
    ends = np.array([logs[:, 0].min(), logs[:, 0].max()])
    values = logs[:, 1].mean() + fit.slope * (ends - logs[:, 0].mean())
    return [_line("fit", slope_text(fit), colour, np.exp(ends), np.exp(values))]


def reference(rows: list[Row], slope: float, label: str, colour: str = GREY) -> list[Curve]:
    """A power law through the first measured point: a slope to compare with, which no constant comes with."""
    points = sorted((row.x, row.measured) for row in rows if row.x > ROUNDING and row.measured > ROUNDING)
    if len({x for x, _ in points}) < 2:
        return []
    x = np.array([points[0][0], points[-1][0]], dtype=np.float64)
    return [_line("reference", label, colour, x, points[0][1] * (x / x[0]) ** slope)]


def slope_text(fit: Fit) -> str:
    """``slope -0.50 [-0.52, -0.48]`` with real minus signs."""
    text = f"slope {fit.slope:.2f}"
    if math.isfinite(fit.low) and math.isfinite(fit.high):
        text += f" [{fit.low:.2f}, {fit.high:.2f}]"
    return text.replace("-", "\N{MINUS SIGN}")


def values_to_show(curves: list[Curve]) -> np.ndarray:
    """All ordinates that the axis has to hold; an interval's end that is zero or tiny does not stretch it."""
    parts = [np.zeros(0)]
    for curve in curves:
        shown = np.where(curve.limit, curve.high, curve.y)
        parts += [shown, np.where(curve.low > shown / 6, curve.low, shown), curve.high[curve.high > ROUNDING]]
    return np.concatenate(parts)


def draw(axes: Axes, curve: Curve, x_scale: LogScale, y_scale: LogScale | None) -> None:
    """Draws one curve; ``y_scale`` is None on a linear ordinate."""
    if curve.kind == "note":
        return
    x = x_scale.place(curve.x)
    y = curve.y if y_scale is None else y_scale.place(curve.y)
    if curve.kind != "measured":
        _draw_line(axes, curve, x, y)
        return
    shown = ~curve.limit
    ground = 0.0 if y_scale is None else (y_scale.zero or y_scale.low) * 0.1
    below = np.maximum(y - np.maximum(curve.low, ground), 0.0)
    above = np.maximum(curve.high - y, 0.0)
    exact = (below + above <= 1e-6 * np.abs(y)) | (curve.high - curve.low <= ROUNDING)
    bars = shown & ~exact
    if bars.any():
        axes.errorbar(
            x[bars],
            y[bars],
            yerr=[below[bars], above[bars]],
            fmt="none",
            ecolor=curve.colour,
            elinewidth=0.8,
            capsize=1.8,
            capthick=0.8,
            zorder=3,
        )
    for solid in (True, False):
        chosen = shown & (curve.certified == solid)
        if not chosen.any():  # an empty artist that is not clipped would claim the figure's corner in the layout
            continue
        axes.plot(
            x[chosen],
            y[chosen],
            linestyle="none",
            marker=curve.marker,
            markersize=SIZE.get(curve.marker, 4.2),
            color=curve.colour,
            markerfacecolor=curve.colour if solid else "white",
            markeredgewidth=0.8,
            zorder=4,
            clip_on=False,
        )
    if curve.limit.any():
        axes.plot(
            x[curve.limit],
            curve.high[curve.limit],
            linestyle="none",
            marker=r"$\downarrow$",
            markersize=7,
            color=curve.colour,
            markeredgewidth=0.2,
            zorder=4,
        )
    if curve.violated.any():
        cross(axes, x[curve.violated], y[curve.violated])


def cross(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Crosses out points that violate a bound."""
    for size, colour, width in ((10, "white", 3.4), (9, ALARM, 2.0)):
        axes.plot(
            x,
            y,
            linestyle="none",
            marker="x",
            markersize=size,
            color=colour,
            markeredgewidth=width,
            zorder=9,
            clip_on=False,
        )


def _draw_line(axes: Axes, curve: Curve, x: np.ndarray, y: np.ndarray) -> None:
    """A line through the positive abscissae; single points and the one at 0 are short horizontal strokes."""
    style: dict[str, Any] = dict(color=curve.colour, zorder=2, **LINE[curve.kind])
    at_zero = curve.x <= ROUNDING
    rest = ~at_zero & np.isfinite(y)
    if rest.sum() > 1:
        axes.plot(x[rest], y[rest], **style)
    lonely = (at_zero | (rest.sum() == 1)) & np.isfinite(y)
    for px, py in zip(x[lonely], y[lonely], strict=True):
        weight = LINE[curve.kind]["linewidth"]
        axes.plot([px], [py], marker="_", markersize=13, markeredgewidth=weight, color=curve.colour, zorder=2)
