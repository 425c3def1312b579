"""Training as pictures: greedy return against the oracle, and what each agent learnt from.

Methods differ in marker and line style as well as in colour. Per-agent panels have one row for each agent, so that ten
agents are as legible as three; the cosines of their gradients stand in the cells as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from icsmdp_jax.drawing.style import (
    BLACK,
    BLUE,
    COLUMN_WIDTH,
    FULL_WIDTH,
    LOOKS,
    VERMILLION,
    house_style,
    legend_columns,
    letter,
    new_figure,
    save,
)

STEPS = [1, 2, 5, 10]  # of the ticks
MARKERS = 8  # markers per curve at most
HANDLE = 3.2  # length of a line in the key, in font sizes: long enough for its dashes and its marker
COSINES = LinearSegmentedColormap.from_list("cosines", [VERMILLION, "#FFFFFF", BLUE])
SMALL = 6.6  # points: numbers in cells and names of reference lines


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


class AgentRecord(NamedTuple):
    """What a run recorded of each of ``N`` agents at ``n`` points of training.

    Attributes:
      td_error: ``[n, N]`` root mean square temporal difference.
      visits: ``[N]`` share of decisions.
      gradient_norm: ``[n, N]``.
      cosine: ``[N, N]`` cosines between the agents' gradients.
    """

    td_error: np.ndarray
    visits: np.ndarray
    gradient_norm: np.ndarray
    cosine: np.ndarray


def draw_training(
    curves: Sequence[Curve],
    folder: Path,
    name: str = "training",
    oracle: float | None = None,
    random: float | None = None,
    **changes: Any,
) -> Path:
    """Draws ``return_figure`` into ``folder/name.png`` and ``.pdf`` in the house style; returns the PNG's path."""
    with house_style():
        return save(return_figure(curves, oracle, random, **changes), folder, name)


def draw_agents(record: AgentRecord, folder: Path, name: str = "agents", names: Sequence[str] | None = None) -> Path:
    """Draws ``agent_figure`` into ``folder/name.png`` and ``.pdf`` in the house style; returns the PNG's path."""
    with house_style():
        return save(agent_figure(record, names), folder, name)


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
    for order, (curve, look) in enumerate(zip(curves, LOOKS, strict=False)):
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
        for _, (colour, marker, dashes) in zip(curves, LOOKS, strict=False)
    ]
    figure.legend(handles, names, loc="outside lower center", ncols=columns, handlelength=HANDLE)
    return figure


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


def agent_figure(record: AgentRecord, names: Sequence[str] | None = None, width: float = FULL_WIDTH) -> Figure:
    """Error, visits, gradient norm and cosines of the agents, one row for each agent through all four panels.

    Args:
      record: see ``AgentRecord``. Of the quantities that change over training the first value is drawn hollow, the
        last filled, and those between as ticks on the line that joins them.
      names: of the agents; their numbers if None.
      width: inches.

    Returns:
      A figure; call inside ``style.house_style``.

    Raises:
      ValueError: if the arrays do not agree on the number of agents.
    """
    errors, norms = np.atleast_2d(record.td_error), np.atleast_2d(record.gradient_norm)
    visits, cosine = np.asarray(record.visits, np.float64), np.asarray(record.cosine, np.float64)
    count = len(visits)
    labels = [f"agent {i}" for i in range(count)] if names is None else list(names)
    for name, found in (
        ("td_error", errors.shape[1]),
        ("gradient_norm", norms.shape[1]),
        ("cosine", cosine.shape[0]),
        ("names", len(labels)),
    ):
        if found != count:
            raise ValueError(f"{name}: expected {count} agents, as visits has, found {found}")
    side = max(0.21, min(0.27, 0.9 / count)) if count > 3 else 0.3
    figure = new_figure(width, side * count + 0.95)
    axes = figure.subplots(1, 4, width_ratios=[1.0, 0.75, 1.0, 0.62 + 0.155 * count], sharey=True)
    _dumbbells(axes[0], errors, "reward units")
    axes[1].barh(np.arange(count), 100 * visits, height=0.62, color="#B9CFE4", edgecolor=BLACK, linewidth=0.6)
    axes[1].set_xlabel("% of decisions")
    axes[1].set_xlim(0, None)
    _dumbbells(axes[2], norms, "Euclidean norm")
    _cells(axes[3], cosine)
    for index, title in enumerate(("TD error, RMS", "visits", "gradient", "cosine of gradients")):
        letter(axes[index], index, title)
        axes[index].tick_params(axis="y", length=0)
        if index < 3:
            axes[index].xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
    axes[0].set_yticks(np.arange(count), labels)
    axes[0].set_ylim(count - 0.5, -0.5)
    style: dict[str, Any] = dict(color=BLUE, marker="o", markersize=4.2, linestyle="none")
    if max(len(errors), len(norms)) > 1:
        figure.legend(
            [Line2D([], [], markerfacecolor="white", **style), Line2D([], [], **style)],
            ["first", "last"],
            loc="outside lower left",
            ncols=2,
        )
    return figure


def _dumbbells(axes: Axes, values: np.ndarray, label: str) -> None:
    """One horizontal line per agent from its first value (hollow) to its last (filled)."""
    for agent in range(values.shape[1]):
        found = values[:, agent]
        found = found[np.isfinite(found)]
        if not len(found):
            continue
        row = np.full(len(found), agent)
        axes.plot([found.min(), found.max()], [agent, agent], color=BLUE, linewidth=0.9, zorder=1)
        axes.plot(found[1:-1], row[1:-1], color=BLUE, marker="|", markersize=4, markeredgewidth=0.5, linestyle="none")
        axes.plot(found[:1], row[:1], color=BLUE, marker="o", markersize=4.2, markerfacecolor="white", linestyle="none")
        axes.plot(found[-1:], row[:1], color=BLUE, marker="o", markersize=4.2, linestyle="none", zorder=3)
    axes.set_xlabel(label)
    axes.set_xlim(0, None)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)


def _cells(axes: Axes, cosine: np.ndarray) -> None:
    """The matrix with its numbers; columns are numbered as the rows are."""
    count = len(cosine)
    axes.imshow(cosine, cmap=COSINES, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    for i in range(count):
        for j in range(count):
            value = float(cosine[i, j])
            style: dict[str, Any] = dict(fontsize=SMALL if count < 8 else 5.8, color=_ink(value))
            axes.text(j, i, cosine_text(value), ha="center", va="center", **style)
    axes.set_xticks(np.arange(count), [str(i) for i in range(count)])
    axes.tick_params(axis="x", length=0)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("agent, as in the rows")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _ink(value: float) -> str:
    """Black or white, whichever stands out better from the colour of a cosine."""
    channels = np.array(COSINES((min(max(value, -1.0), 1.0) + 1) / 2)[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "white" if float(linear @ [0.2126, 0.7152, 0.0722]) < 0.18 else BLACK  # equal contrast at 0.18


def cosine_text(value: float) -> str:
    """Two decimals without the leading zero: ``.25``, a real minus sign, ``1`` and ``0`` for themselves."""
    if not math.isfinite(value):
        return ""
    text = f"{abs(value):.2f}"
    text = {"1.00": "1", "0.00": "0"}.get(text, text[1:])
    return f"\N{MINUS SIGN}{text}" if value < 0 and text != "0" else text
