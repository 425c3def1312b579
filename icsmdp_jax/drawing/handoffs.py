"""The handoff graph as a picture: who hands to whom, how often, and how long the segments before it last.

Agents stand on a circle, as large as their share of the decisions. An arrow is as wide as its share of all handoffs,
which its shade repeats; the number on it is the mean duration of the segments behind it. Below stand the scale of
widths and areas, how well the rates are known, and what is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch, Polygon, Rectangle
from matplotlib.path import Path

from icsmdp_jax.drawing.circle import (
    FEW,
    INSIDE,
    NAME,
    NUMBER,
    SIDEWAYS,
    Arrow,
    Nodes,
    Order,
    along,
    arrows_of,
    circle_order,
    curve,
    direction,
    ports,
    unit,
)
from icsmdp_jax.drawing.style import BLACK, COLUMN_WIDTH, GREY, NODE, new_figure, text_size
from icsmdp_jax.learner.diagnostics import HandoffGraph

NOTE = 7.0  # points: type size of the key
ROUNDING = 1e-9  # below which a share is 0
LINE = 11.0  # points between two lines of notes
MOST_ARROWS = 24
STOP = 2.0  # points: half the side of the square where an episode ends
PLACES = (0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73)  # where along an arrow its number may stand


def handoff_figure(
    graph: HandoffGraph,
    names: Sequence[str] | None = None,
    order: Order = "given",
    most_arrows: int = MOST_ARROWS,
    width: float = COLUMN_WIDTH,
) -> Figure:
    """The handoff graph of a run or of a model.

    Args:
      graph: rates, shares and mean durations.
      names: readable names of the agents; their numbers if None.
      order: ``"given"`` puts the agents round the circle as they are numbered, ``"spectral"`` so that agents that hand
        to each other often stand close together.
      most_arrows: the most frequent handoffs, this many, get an arrow; the key says how many that leaves out.
      width: inches.

    Returns:
      A figure; call inside ``style.house_style``.

    Raises:
      ValueError: if there is no handoff at all, or not one name for each agent, or no arrow is allowed.
    """
    count = len(graph.share)
    labels = [str(i) for i in range(count)] if names is None else list(names)
    if most_arrows < 1:
        raise ValueError(f"most_arrows = {most_arrows}: expected 1 or more")
    if len(labels) != count:
        raise ValueError(f"names: expected {count}, one for each agent, found {len(labels)}")
    every = arrows_of(graph)
    if not every:
        raise ValueError("graph: there is no handoff to draw")
    shown = every[:most_arrows]
    loops = {arrow.sender for arrow in shown if arrow.sender == arrow.receiver}
    share = np.asarray(graph.share, np.float64)
    nodes = Nodes.on_circle(share, circle_order(graph, order), labels, 72 * width, loops)

    notes = _notes(graph, shown, every)
    key = 29.0 + LINE * len(notes)
    figure = new_figure(width, (nodes.height + key) / 72)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 72 * width)
    axes.set_ylim(-key, nodes.height)
    largest = shown[0].rate
    thickest = 3.6 if count <= FEW else 2.6
    touching, paths = ports(nodes, shown), {}
    for arrow in reversed(shown):  # the most frequent ones on top
        points = along(curve(nodes, arrow, touching), np.linspace(0, 1, 61))
        paths[arrow] = points
        _draw_arrow(axes, points, arrow, thickest, arrow.rate / largest, arrow.receiver == count)
    _draw_nodes(axes, nodes, labels, share)
    _number(axes, nodes, shown, paths)
    _key(axes, nodes, share, shown, thickest, notes)
    return figure


def _draw_arrow(axes: Axes, points: np.ndarray, arrow: Arrow, thickest: float, relative: float, ends: bool) -> None:
    """Draws stem and head along ``[n, 2]`` points, on a white edge that keeps it apart from what it crosses."""
    weight = max(thickest * relative, 0.35)
    head = 2.6 + 1.2 * weight if arrow.sender == arrow.receiver else _head(weight)
    away = np.hypot(*(points - points[-1]).T)
    head = min(head, float(away.max()))  # agents with long names stand close together
    stem = points[away > 0.85 * head]
    colour = _shade(relative)
    for width, paint in ((weight + 1.6, "white"), (weight, colour)):
        style: dict[str, Any] = dict(edgecolor=paint, linewidth=width, capstyle="butt", joinstyle="round")
        axes.add_patch(PathPatch(Path(stem), fill=False, **style))
    ahead = direction(points[-1] - stem[-1])
    _draw_head(axes, points[-1], ahead, head, weight, colour)
    if ends:
        _square(axes, points[-1] + STOP * ahead)


def _draw_head(axes: Axes, tip: np.ndarray, ahead: np.ndarray, head: float, weight: float, colour: str) -> None:
    side = np.array([-ahead[1], ahead[0]]) * (0.9 + 0.26 * head + 0.3 * weight)
    corners = [tip, tip - head * ahead + side, tip - head * ahead - side]
    axes.add_patch(Polygon(corners, facecolor=colour, edgecolor="white", linewidth=0.5, zorder=2))  # above all stems


def _square(axes: Axes, centre: np.ndarray) -> None:
    corner = (float(centre[0]) - STOP, float(centre[1]) - STOP)
    axes.add_patch(Rectangle(corner, 2 * STOP, 2 * STOP, facecolor=BLACK, edgecolor="none", zorder=3))


def _head(weight: float) -> float:
    """Length in points of the head of an arrow of that weight."""
    return 3.2 + 1.7 * weight


def _shade(relative: float) -> str:
    """A grey that is lighter for rarer handoffs, never so light that a thin line is lost on paper."""
    return str(round(0.66 - 0.56 * math.sqrt(relative), 3))


def _draw_nodes(axes: Axes, nodes: Nodes, names: list[str], share: np.ndarray) -> None:
    for agent, (name, part) in enumerate(zip(names, share, strict=True)):
        centre, radius = nodes.centre[agent], float(nodes.radius[agent])
        x, y = float(centre[0]), float(centre[1])
        axes.add_patch(Circle((x, y), radius, facecolor=NODE, edgecolor=BLACK, linewidth=0.8, zorder=3))
        if nodes.inside:
            axes.text(x, y, name, fontsize=NAME, ha="center", va="center_baseline", zorder=4)
            continue
        if radius >= 1.3 * INSIDE:
            axes.text(x, y, percent_text(part), fontsize=NUMBER, ha="center", va="center_baseline", zorder=4)
        out = unit(nodes.outward[agent])
        place = centre + (radius + nodes.reach[agent] + 3) * out
        across = "center" if abs(out[0]) <= SIDEWAYS else ("left" if out[0] > 0 else "right")
        upright = "center" if across != "center" else ("bottom" if out[1] > 0 else "top")
        axes.text(float(place[0]), float(place[1]), name, fontsize=NAME, ha=across, va=upright, zorder=4)


def _number(axes: Axes, nodes: Nodes, shown: list[Arrow], paths: dict[Arrow, np.ndarray]) -> None:
    """Writes mean durations on arrows, the most frequent first, where nothing else is covered."""
    taken: list[np.ndarray] = []
    for arrow in shown:
        if not math.isfinite(arrow.duration):
            continue
        text = duration_text(arrow.duration)
        width, height = text_size(text, NUMBER)
        half = np.array([width, height]) / 2 + [1.4, 1.2]
        points = paths[arrow]
        others = np.concatenate([points[:0], *(p for a, p in paths.items() if a != arrow)])
        best: tuple[float, np.ndarray] | None = None
        for rank, place in enumerate(PLACES):
            centre = points[round(place * (len(points) - 1))]
            away = np.maximum(np.abs(nodes.centre - centre) - half, 0)
            if (np.hypot(*away.T) < nodes.radius + 1).any():
                continue
            if any((np.abs(centre - other[:2]) < half + other[2:]).all() for other in taken):
                continue
            crossed = int((np.abs(others - centre) < half).all(axis=1).sum())
            if best is None or crossed + rank < best[0]:
                best = (crossed + rank, centre)
        if best is None:
            continue
        taken.append(np.concatenate([best[1], half]))
        axes.text(
            float(best[1][0]),
            float(best[1][1]),
            text,
            fontsize=NUMBER,
            ha="center",
            va="center_baseline",
            zorder=5,
            bbox=dict(boxstyle="square,pad=0.1", facecolor="white", edgecolor="none"),
        )


def duration_text(duration: float) -> str:
    """A duration with one decimal below 100, with none from there on."""
    return f"{duration:.1f}" if duration < 99.95 else f"{duration:.0f}"


def percent_text(share: float) -> str:
    """A share as a percentage with two significant digits."""
    percent = 100 * share if share > ROUNDING else 0.0
    return (f"{percent:.0f}" if percent >= 9.95 else f"{percent:.2g}") + "\N{NO-BREAK SPACE}%"


def _notes(graph: HandoffGraph, shown: list[Arrow], every: list[Arrow]) -> list[str]:
    """Lines below the key: how well rates are known, and what is left out."""
    notes, widest = [], np.nanmax(graph.half_width, initial=-1.0)
    if widest >= 0:
        notes.append(f"95 % intervals over runs: at most \N{PLUS-MINUS SIGN}{percent_text(widest)} of all handoffs")
    if len(shown) < len(every):
        kept = sum(arrow.rate for arrow in shown) / sum(arrow.rate for arrow in every)
        notes.append(f"{len(shown)} of {len(every)} arrows, {percent_text(kept)} of all handoffs")
    return notes


def _key(
    axes: Axes, nodes: Nodes, share: np.ndarray, shown: list[Arrow], thickest: float, notes: Sequence[str]
) -> None:
    """What widths, areas and numbers mean, line by line below the graph, then the notes."""
    largest = shown[0].rate
    first, second = -8.0, -20.0
    x = 8.0
    for rate in (largest, largest / 4):
        weight = thickest * rate / largest
        head = _head(weight)
        colour = _shade(rate / largest)
        axes.plot([x, x + 20 - 0.85 * head], [first, first], color=colour, linewidth=weight, solid_capstyle="butt")
        _draw_head(axes, np.array([x + 20, first]), np.array([1.0, 0.0]), head, weight, colour)
        text = percent_text(rate) + (" of all handoffs" if rate != largest else "")
        axes.text(x + 23, first, text, fontsize=NOTE, va="center_baseline")
        x += 23 + text_size(text, NOTE)[0] + 9
    widest = int(nodes.radius.argmax())
    part = float(share[widest]) * (5.0 / float(nodes.radius[widest])) ** 2
    axes.add_patch(Circle((x + 5, first), 5.0, facecolor=NODE, edgecolor=BLACK, linewidth=0.8))
    axes.text(x + 13, first, percent_text(part) + " of decisions", fontsize=NOTE, va="center_baseline")
    note = "numbers: mean duration (primitive steps)"
    axes.text(8, second, note, fontsize=NOTE, va="center_baseline", color=GREY)
    if any(arrow.receiver == len(share) for arrow in shown):
        x = 8 + text_size(note, NOTE)[0] + 9
        _square(axes, np.array([x, second]))
        axes.text(x + 5, second, "end of the episode", fontsize=NOTE, va="center_baseline", color=GREY)
    for line, text in enumerate(notes, 1):
        axes.text(8, second - LINE * line, text, fontsize=NOTE, va="center_baseline", color=GREY)
