"""What a panel shows: measured points, bounds, predictions and fits, built from rows, with one meaning each."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Affine2D, ScaledTranslation

from bound_validation.drawing.style import ALARM, CROSSED, HOLLOW, LINE, MEANING, VACUOUS
from bound_validation.results import ROUNDING, Row
from bound_validation.views import Fit
from icsmdp_jax.drawing import interactive
from icsmdp_jax.drawing.style import BLACK, GREY

Kind = Literal["measured", "bound", "prediction", "alternative", "fit", "reference"]
Field = Literal["bound", "prediction", "alternative", "trivial"]
SIZE = {
    "+": 7.0,
    "1": 7.5,
    "2": 7.5,
    "D": 3.8,
    "^": 4.4,
    "v": 4.4,
    "P": 4.8,
}  # points; the shapes differ in area at equal size


@dataclasses.dataclass(frozen=True)
class Curve:
    """One series of a panel.

    Attributes:
      kind: measured (markers) or the sort of line.
      label: what the legend calls it; empty for no entry.
      colour: of markers or line.
      x, y: ``[n]`` points.
      low, high: ``[n]`` ends of the intervals, measured curves only.
      certified: ``[n]`` bool; hollow markers where a bound is missing because A6 is not certified.
      violated: ``[n]`` bool; crossed out in red.
      limit: ``[n]`` bool; only the upper end of the interval is positive and drawn, as an arrow that points down.
      marker: of measured curves.
      vacuous: ``[n]`` bool; the bound is claimed, and no better than what is trivial (D12).
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
    vacuous: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=bool))


def measured(rows: list[Row], label: str = "", colour: str = BLACK, marker: str = "o") -> list[Curve]:
    """The measured values of a series with their intervals; nothing if no value is finite."""
    rows = [row for row in rows if math.isfinite(row.measured)]
    if not rows:
        return []
    x = np.array([row.x for row in rows], dtype=np.float64)
    y = np.array([row.measured for row in rows])
    low = np.array([row.measured if math.isnan(row.ci_low) else row.ci_low for row in rows])
    high = np.array([row.measured if math.isnan(row.ci_high) else row.ci_high for row in rows])
    certified = np.array([row.certified or row.holds >= 0 or not row.term for row in rows])
    violated = np.array([row.holds == 0 for row in rows])
    limit = (y <= ROUNDING) & (high > ROUNDING)
    vacuous = np.array([row.informative == 0 for row in rows])
    return [Curve("measured", label, colour, x, y, low, high, certified, violated, limit, marker, vacuous)]


def line(rows: list[Row], field: Field, label: str = "", colour: str = BLACK, kind: Kind | None = None) -> list[Curve]:
    """A column of theory as a line; nothing if no value is finite. What is trivial is drawn for comparison."""
    points = [(row.x, getattr(row, field)) for row in rows if math.isfinite(getattr(row, field))]
    if not points:
        return []
    kind = kind or ("alternative" if field == "trivial" else field)
    return [_line(kind, label, colour, *np.array(sorted(set(points)), dtype=np.float64).T)]


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


def _positive(rows: list[Row]) -> np.ndarray:
    """``[n, 2]`` sorted points that a power law can go through; empty unless at two abscissae or more."""
    points = sorted((row.x, row.measured) for row in rows if row.x > ROUNDING and row.measured > ROUNDING)
    return np.array(points if len({x for x, _ in points}) > 1 else [], dtype=np.float64).reshape(-1, 2)


def fitted(rows: list[Row], fit: Fit | None, colour: str = GREY) -> list[Curve]:
    """The fitted power law, through the geometric mean of the positive points."""
    logs = np.log(_positive(rows))
    if fit is None or not len(logs):
        return []
    ends = logs[[0, -1], 0]
    values = logs[:, 1].mean() + fit.slope * (ends - logs[:, 0].mean())
    return [_line("fit", slope_text(fit), colour, np.exp(ends), np.exp(values))]


def reference(rows: list[Row], slope: float, label: str, colour: str = GREY) -> list[Curve]:
    """A power law through the first measured point: a slope to compare with, which no constant comes with."""
    points = _positive(rows)
    if not len(points):
        return []
    x = points[[0, -1], 0]
    return [_line("reference", label, colour, x, points[0, 1] * (x / x[0]) ** slope)]


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
    if min(part.min(initial=1.0) for part in parts) <= ROUNDING:  # the axis shows 0: then also what lies below
        parts += [curve.low[~curve.limit & (curve.low < 0)] for curve in curves]
    return np.concatenate(parts)


def draw(axes: Axes, curve: Curve) -> None:
    """Draws one curve on axes whose scales are set."""
    if curve.kind != "measured":
        style: dict[str, Any] = LINE[curve.kind] | dict(color=curve.colour, zorder=2)
        joined = curve.x > ROUNDING  # a straight line to the point at 0 would cross from one scale to another
        if joined.sum() > 1:
            axes.plot(curve.x[joined], curve.y[joined], **style)
        alone = ~joined if joined.sum() > 1 else np.ones_like(joined)
        for x, y in zip(curve.x[alone], curve.y[alone], strict=True):
            _stroke(axes, x, y, style)
        return
    below, above = np.maximum(curve.y - curve.low, 0.0), np.maximum(curve.high - curve.y, 0.0)
    bars = ~curve.limit & (below + above > np.maximum(1e-6 * np.abs(curve.y), ROUNDING))
    if bars.any():
        axes.errorbar(
            curve.x[bars], curve.y[bars], yerr=[below[bars], above[bars]], fmt="none", ecolor=curve.colour,
            elinewidth=0.8, capsize=1.8, capthick=0.8, zorder=3,
        )  # fmt: skip
    for chosen, filled in ((~curve.limit & curve.certified, True), (~curve.limit & ~curve.certified, False)):
        if chosen.any():  # an empty artist that is not clipped would claim the figure's corner in the layout
            points(axes, curve.x[chosen], curve.y[chosen], curve.colour, curve.marker, filled)
    if curve.limit.any():
        points(axes, curve.x[curve.limit], curve.high[curve.limit], curve.colour, r"$\downarrow$")
    if curve.violated.any():
        cross(axes, curve.x[curve.violated], np.where(curve.limit, curve.high, curve.y)[curve.violated])


def _stroke(axes: Axes, x: float, y: float, style: dict[str, Any]) -> None:
    """A short horizontal line through a lone point."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    points = Affine2D().scale(1 / 72) + figure.dpi_scale_trans + ScaledTranslation(x, y, axes.transData)  # type: ignore[arg-type]
    axes.plot([-7, 7], [0, 0], transform=points, **style)


def points(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, marker: str, filled: bool = True) -> None:
    """Markers without a line, as large as their shape wants; an arrow is thin and long."""
    arrow = marker.startswith("$")
    axes.plot(
        x, y, linestyle="none", marker=marker, markersize=7 if arrow else SIZE.get(marker, 4.2), color=colour,
        markerfacecolor=colour if filled else "white", markeredgewidth=0.2 if arrow else 0.8, zorder=4, clip_on=False,
    )  # fmt: skip


def cross(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Crosses out points that violate a bound."""
    style: dict[str, Any] = dict(linestyle="none", marker="x", zorder=9, clip_on=False)
    axes.plot(x, y, markersize=10, color="white", markeredgewidth=3.4, **style)
    axes.plot(x, y, markersize=9, color=ALARM, markeredgewidth=2.0, **style)


def traces(curves: list[Curve]) -> list[interactive.Trace]:
    """The curves as data of plotly.js; what is said of a point, such as a violated bound, comes with it."""
    out = []
    for curve in curves:
        if curve.kind != "measured":
            style = LINE[curve.kind]
            look: dict[str, Any] = {"mode": "lines" if len(curve.x) > 1 else "markers+lines"}
            look["line"] = interactive.lined(curve.colour, style["linewidth"], style["linestyle"])
            if len(curve.x) == 1:
                look["marker"] = interactive.marked(curve.colour, "_")
            out.append(
                interactive.trace(curve.label, curve.x, curve.y, meta=[MEANING[curve.kind]] * len(curve.x), **look)
            )
            continue
        said = [(curve.violated, CROSSED), (~curve.certified, HOLLOW)] + [(curve.vacuous, VACUOUS)] * bool(
            len(curve.vacuous)
        )
        meta = ["; ".join(words for where, words in said if where[i]) for i in range(len(curve.x))]
        look = interactive.marked(curve.colour, curve.marker)
        look["symbol"] = [
            look["symbol"] + ("" if sure or look["symbol"].endswith("open") else "-open") for sure in curve.certified
        ]
        crossed = {"color": [ALARM if bad else curve.colour for bad in curve.violated]} if curve.violated.any() else {}
        out.append(interactive.trace(
            curve.label, curve.x, curve.y, mode="markers", marker=look | crossed, meta=meta,
            error_y=interactive.bars(curve.low, curve.y, curve.high, curve.colour),
        ))  # fmt: skip
    return out
