"""Legends that cover nothing: one below each panel, the groups above the figure, and the key to markers and lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from bound_validation.drawing.curves import SIZE, Curve
from bound_validation.drawing.style import ALARM, ARROW, CROSSED, HOLLOW, LINE, MEANING
from icsmdp_jax.drawing.style import GREY, legend_columns

BELOW, LINE_HEIGHT = 29.0, 14.0  # points from the axes to the legend: ticks and their labels, each line of the label


class Entry(NamedTuple):
    """A marker that means a group throughout the figure, e.g. a duration law."""

    name: str
    colour: str
    marker: str


def handle_of(curve: Curve) -> Line2D:
    """What stands for a curve in the legend."""
    if curve.kind == "measured":
        return _marker(curve.marker, color=curve.colour)
    return Line2D([], [], color=curve.colour, **LINE[curve.kind])


def panel_legend(axes: Axes, curves: Sequence[Curve], room: float) -> None:
    """Measurements first, then theory, below the label of the abscissa; ``room`` is its width in points."""
    kinds = list(MEANING)
    named = sorted((curve for curve in curves if curve.label), key=lambda curve: kinds.index(curve.kind))
    if not named:
        return
    names = [curve.label for curve in named]
    figure = axes.get_figure(root=True)
    assert figure is not None
    down = BELOW + LINE_HEIGHT * axes.get_xlabel().count("\n")
    below = axes.transAxes + ScaledTranslation(0, -down / 72, figure.dpi_scale_trans)
    axes.legend(
        [handle_of(curve) for curve in named], names, loc="upper center", bbox_to_anchor=(0.5, 0.0),
        bbox_transform=below, borderaxespad=0.0, ncols=legend_columns(names, room),
    )  # fmt: skip


def groups(figure: Figure, entries: Sequence[Entry]) -> None:
    """The meaning of marker shapes and colours, above all panels."""
    if entries:
        handles = [_marker(entry.marker, color=entry.colour) for entry in entries]
        outside(figure, "upper", handles, [entry.name for entry in entries], handlelength=1.0)


def key(figure: Figure, curves: Sequence[Curve]) -> None:
    """The meaning of markers and lines, below all panels; only what occurs."""
    kinds = {curve.kind for curve in curves}
    measured = (_marker("|", markersize=9), _marker("o"))
    entries: list[tuple[Any, str]] = [
        (measured if kind == "measured" else Line2D([], [], color=GREY, **LINE[kind]), text)
        for kind, text in MEANING.items()
        if kind in kinds
    ]
    if any(curve.limit.any() for curve in curves):
        entries.append((_marker(r"$\downarrow$", markersize=7, markeredgewidth=0.2), ARROW))
    if any(not curve.certified.all() for curve in curves):
        entries.append((_marker("o", markerfacecolor="white"), HOLLOW))
    if any(curve.violated.any() for curve in curves):
        entries.append((_marker("x", markersize=8, markeredgewidth=2.0, color=ALARM), CROSSED))
    if entries:
        outside(figure, "lower", [handle for handle, _ in entries], [text for _, text in entries])


def outside(figure: Figure, side: str, handles: Sequence[Any], names: Sequence[str], **style: Any) -> None:
    """A legend of the whole figure, above (``"upper"``) or below (``"lower"``) all panels, within its width."""
    style |= dict(loc=f"outside {side} center", ncols=legend_columns(names, 72 * figure.get_figwidth() - 12))
    figure.legend(list(handles), list(names), **style)


def _marker(marker: str, **changes: Any) -> Line2D:
    """A lone marker."""
    style: dict[str, Any] = dict(color=GREY, markersize=SIZE.get(marker, 4.2), markeredgewidth=0.8, linestyle="none")
    return Line2D([], [], marker=marker, **(style | changes))
