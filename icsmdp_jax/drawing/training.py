"""Training as pictures: greedy return against the oracle, and what each agent learned from.

Methods differ in marker and line style as well as in colour. Per-agent panels have one row for each agent, so that ten
agents are as legible as three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from icsmdp_jax.drawing.style import (
    BLACK,
    BLUE,
    COLUMN_WIDTH,
    LOOKS,
    legend_columns,
    letter,
    new_figure,
)
from icsmdp_jax.exact.returns import half_width, mean_interval
from icsmdp_jax.learner.methods import METHODS

STEPS = [1, 2, 5, 10]  # of the ticks
MARKERS = 8  # markers per curve at most
HANDLE = 3.2  # length of a line in the key, in font sizes: long enough for its dashes and its marker


class Curve(NamedTuple):
    """One method over training.

    Attributes:
      name: in the key.
      x: ``[n]`` handoffs so far.
      mean: ``[n]`` mean over replicas.
      low: ``[n]`` lower ends of the intervals; NaN where there is none.
      high: ``[n]`` upper ends.
    """

    name: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def over_runs(cls, name: str, x: np.ndarray, values: np.ndarray) -> Curve:
        """The curve of ``[runs, n]`` values, with 95 % t-intervals of their means."""
        return cls(name, x, *mean_interval(values)[:3])


class AgentRecord(NamedTuple):
    """What each of ``N`` agents learned from in ``R`` runs, in ``n`` consecutive parts of training.

    Attributes:
      td_error: ``[R, n, N]`` root mean square temporal difference; NaN where an agent never decided.
      visits: ``[R, n, N]`` decisions.
    """

    td_error: np.ndarray
    visits: np.ndarray


def return_figure(
    curves: Sequence[Curve],
    oracle: float | None = None,
    random: float | None = None,
    y_label: str = "return of the greedy policy",
    x_label: str = "handoffs",
    x_log: bool = False,
    width: float = COLUMN_WIDTH,
    height: float = 2.5,
) -> Figure:
    """Greedy return of several methods over training, with intervals, between the random workflow and the oracle.

    Args:
      curves: one for each method, at most as many as there are looks.
      oracle: return of the exact oracle, a labelled line.
      random: return of the random workflow, likewise.
      y_label: with units, if any.
      x_label: with units.
      x_log: whether the abscissa is logarithmic.
      width: inches.
      height: inches, without the key.

    Returns:
      A figure; call inside ``style.house_style``.

    Raises:
      ValueError: if there is no curve, or there are more than looks to tell them apart.
    """
    if not 1 <= len(curves) <= len(LOOKS):
        raise ValueError(f"curves: expected 1 to {len(LOOKS)}, found {len(curves)}")
    names = [curve.name for curve in curves]
    columns = legend_columns(names, 72 * width, HANDLE)
    figure = new_figure(width, height + 0.16 * math.ceil(len(curves) / columns))
    axes = figure.subplots()
    if x_log:
        axes.set_xscale("log")
    looks = _looks(names)
    for order, (curve, look) in enumerate(zip(curves, looks, strict=True)):
        _draw_curve(axes, curve, look, order, len(curves), x_log)
    axes.margins(x=0.03, y=0.08)
    for value, name in ((oracle, "oracle"), (random, "random")):
        if value is not None:
            _reference(axes, curves, float(value), name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    if not x_log:
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4), useMathText=True)
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle=dashes, markersize=4, linewidth=1.2)
        for colour, marker, dashes in looks
    ]
    figure.legend(handles, names, loc="outside lower center", ncols=columns, handlelength=HANDLE)
    return figure


def _looks(names: Sequence[str]) -> list[tuple[str, str, Any]]:
    """Colour, marker and dashes of each curve; those of a method, by its label, are the same in every figure."""
    own = {method.label: (method.colour, method.marker) for method in METHODS.values()}
    known = [own[name] if name in own else None for name in names]
    colours, markers = ({look[part] for look in known if look} for part in (0, 1))
    free = iter(sorted((look for look in LOOKS if look[1] not in markers), key=lambda look: look[0] in colours))
    return [(*(found or next(free)[:2]), look[2]) for found, look in zip(known, LOOKS, strict=False)]


def _draw_curve(axes: Axes, curve: Curve, look: tuple[str, str, Any], order: int, count: int, x_log: bool) -> None:
    """A line with a band, and markers that stand apart from those of the other curves."""
    colour, marker, dashes = look
    x, mean = np.asarray(curve.x, np.float64), np.asarray(curve.mean, np.float64)
    low, high = np.asarray(curve.low, np.float64), np.asarray(curve.high, np.float64)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0, zorder=1)
    for edge in (low, high):
        axes.plot(x, edge, color=colour, linewidth=0.35, zorder=1)
    axes.plot(x, mean, color=colour, linestyle=dashes, linewidth=1.2, zorder=3)
    chosen = _marked(x, order / count, x_log)
    axes.plot(
        x[chosen],
        mean[chosen],
        color=colour,
        marker=marker,
        linestyle="none",
        markersize=3.8,
        markeredgecolor="white",
        markeredgewidth=0.4,
        zorder=4,
        clip_on=False,
    )


def _marked(x: np.ndarray, phase: float, x_log: bool) -> np.ndarray:
    """Indices of at most ``MARKERS`` points, evenly spread along the axis and shifted by a share of their distance."""
    if len(x) <= MARKERS:
        return np.arange(len(x))
    place = np.log(np.maximum(x, x[x > 0].min())) if x_log else x
    wanted = np.linspace(place[0], place[-1], MARKERS + 1)[:-1] + phase * (place[-1] - place[0]) / MARKERS
    return np.unique(np.abs(place[:, None] - wanted).argmin(axis=0))


def _reference(axes: Axes, curves: Sequence[Curve], value: float, name: str) -> None:
    """A horizontal line over the whole width, named at the end where the curves leave more room."""
    axes.axhline(value, color=BLACK, linewidth=0.9, linestyle="-" if name == "oracle" else (0, (1, 1.4)), zorder=2)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, value - 0.07 * (high - low)), max(high, value + 0.09 * (high - low)))
    low, high = axes.get_ylim()
    near = [min(abs(float(np.asarray(curve.mean)[end]) - value) for curve in curves if len(curve.x)) for end in (0, -1)]
    right = near[1] >= near[0]
    over = name == "oracle"
    axes.annotate(
        name,
        (0.99 if right else 0.01, value),
        (0, 1.5 if over else -1.5),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right" if right else "left",
        va="bottom" if over else "top",
        fontsize=7.6,
        zorder=5,
    )


def agent_figure(record: AgentRecord, names: Sequence[str] | None = None, width: float = COLUMN_WIDTH) -> Figure:
    """Temporal differences and visits of the agents, one row for each agent through both panels.

    Markers and bars are means over runs. Of the errors the first part of training is drawn hollow, the last filled with
    its 95 % interval, and those between as ticks on the line that joins them; visits are those of the last part.

    Args:
      record: see ``AgentRecord``.
      names: of the agents; their numbers if None.
      width: inches.

    Returns:
      A figure; call inside ``style.house_style``.

    Raises:
      ValueError: if the arrays do not agree on the number of agents.
    """
    runs, parts, count = record.td_error.shape
    labels = [f"agent {i}" for i in range(count)] if names is None else list(names)
    for name, found in (("visits", record.visits.shape[-1]), ("names", len(labels))):
        if found != count:
            raise ValueError(f"{name}: expected {count} agents, as td_error has, found {found}")
    rows = np.arange(count)
    figure = new_figure(width, max(0.17, min(0.3, 0.9 / count)) * count + 0.95)
    errors, visits = figure.subplots(1, 2, width_ratios=[1.3, 1.0], sharey=True)
    for agent in range(count):
        _dumbbell(errors, record.td_error[:, :, agent], agent)
    share = 100 * record.visits[:, -1] / record.visits[:, -1].sum(axis=1, keepdims=True)
    visits.barh(rows, share.mean(axis=0), height=0.62, color="#B9CFE4", edgecolor=BLACK, linewidth=0.6)
    if runs > 1:
        _whiskers(visits, share.mean(axis=0), rows, half_width(share), BLACK)
        visits.set_xlim(right=min(visits.get_xlim()[1], 105))
    for index, (axes, title, label) in enumerate(
        ((errors, "TD error, RMS", "reward units"), (visits, "visits", "% of decisions"))
    ):
        letter(axes, index, title)
        axes.set_xlabel(label)
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
    errors.set_yticks(rows, labels)
    errors.set_ylim(count - 0.5, -0.5)
    style: dict[str, Any] = dict(color=BLUE, marker="o", markersize=4.2, linestyle="none")
    if parts > 1:
        shown = {
            "first part": dict(style, markerfacecolor="white"),
            "between": dict(style, marker="|", markeredgewidth=0.5),
            "last part" + ", 95 % interval" * (runs > 1): style,
        }
        if parts < 3:
            del shown["between"]
        handles = [Line2D([], [], **look) for look in shown.values()]
        figure.legend(handles, list(shown), loc="outside lower center", ncols=3, columnspacing=1.0, handletextpad=0.2)
    return figure


def _dumbbell(axes: Axes, values: np.ndarray, row: int) -> None:
    """One agent's ``[R, n]`` values as a line from the first mean (hollow) to the last (filled, with its interval)."""
    known = values[:, np.isfinite(values).all(axis=0)]
    if not known.size:
        return
    mean = known.mean(axis=0)
    axes.axhline(row, color="#DDDDDD", linewidth=0.5, zorder=0)
    axes.plot([mean.min(), mean.max()], [row, row], color=BLUE, linewidth=0.9, zorder=1)
    style: dict[str, Any] = dict(color=BLUE, marker="o", markersize=4.2, linestyle="none")
    axes.plot(mean[1:-1], np.full(len(mean[1:-1]), row), **{**style, "marker": "|", "markeredgewidth": 0.5})
    axes.plot(mean[:1], [row], markerfacecolor="white", **style)
    axes.plot(mean[-1:], [row], zorder=3, **style)
    if len(known) > 1:
        _whiskers(axes, mean[-1:], [row], half_width(known[:, -1:]), BLUE)


def _whiskers(axes: Axes, x: np.ndarray, y: Any, half: np.ndarray, colour: str) -> None:
    axes.errorbar(x, y, xerr=half, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2.2, capthick=0.9, zorder=2)
