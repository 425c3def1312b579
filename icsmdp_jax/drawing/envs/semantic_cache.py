"""Semantic caching as a picture: who can hand to whom, and the cells of the net in which queries are seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from icsmdp_jax.drawing import style
from icsmdp_jax.envs.semantic_cache import world
from icsmdp_jax.envs.semantic_cache.net import cells_of

POINTS, RADIUS = 14, 1.2  # the environment's own
SIZE = 0.42  # of an agent


def draw() -> Figure:
    """Left: front, models and the cache. Right: points of the fine net by cell, seen from between the topics."""
    with style.house_style():
        figure = style.new_figure(style.FULL_WIDTH, 2.7)
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
        _handoffs(left)
        _net(right)
        return figure


def _handoffs(axes: Any) -> None:
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set(xlim=(-1.7, 5.9), ylim=(-2.0, 2.0))
    ends = {"front": (0.0, 0.0)} | {name: (2.9, 1.4 - 1.4 * row) for row, name in enumerate(world.MODELS)}
    _arrow(axes, (-1.6, 0), (-SIZE, 0), style.BLACK)
    axes.text(-1.6, 0.08, "query", fontsize=7, va="bottom")
    axes.text(0, -0.55, "0: answer from\nthe cache", fontsize=7, ha="center", va="top")
    for row, name in enumerate(world.MODELS):
        x, y = ends[name]
        way = np.array([x, y]) / np.hypot(x, y)
        _arrow(axes, tuple(SIZE * way), (x - SIZE * way[0], y - SIZE * way[1]), style.BLUE)
        axes.text(*(0.55 * np.array([x, y]) + (0, 0.1)), str(row + 1), fontsize=7, color=style.BLUE, ha="center")
        _arrow(axes, (x + SIZE, y), (x + 0.85, y), style.BLACK)
        worth = world.quality(world.BEST[row : row + 1])[0, row]
        text = f"0: answer; 1: and have it kept\nat best {worth:.2f}, dollars {world.DOLLARS[row]:.2f}"
        axes.text(x + 0.9, y, text, fontsize=7, va="center", linespacing=1.3)
    for name, (x, y) in ends.items():
        axes.add_patch(Circle((x, y), SIZE, facecolor=style.NODE, edgecolor=style.BLACK, lw=0.8, zorder=3))
        axes.text(x, y, name, fontsize=7, ha="center", va="center", zorder=4)


def _arrow(axes: Any, start: Any, end: Any, colour: str) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, lw=1.0, color=colour, shrinkA=0))


def _net(axes: Any) -> None:
    """Points in the plane by an equal-area projection; a number and a colour for each cell, area for mass."""
    points, mass = world.fine_net(POINTS)
    cells = cells_of(points, mass.mean(axis=0), RADIUS)
    middle = world.TOPICS.mean(axis=0) / np.linalg.norm(world.TOPICS.mean(axis=0))
    east = np.cross([0.0, 0.0, 1.0], middle)
    east /= np.linalg.norm(east)
    frame = np.stack([east, np.cross(middle, east)])
    flat = points @ frame.T * np.sqrt(2 / (1 + points @ middle))[:, None]
    colours = [look[0] for look in style.LOOKS]
    for place, cell, share in zip(flat, cells, mass.mean(axis=0), strict=True):
        colour = colours[int(cell) % len(colours)]
        axes.scatter(*place, s=40 + 900 * share, color=colour, alpha=0.35, lw=0)
        axes.text(*place, str(int(cell)), fontsize=7, ha="center", va="center")
    topics = world.TOPICS @ frame.T * np.sqrt(2 / (1 + world.TOPICS @ middle))[:, None]
    axes.plot(*topics.T, "x", color=style.BLACK, ms=5, mew=0.9, label="middle of a topic")
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.15)
    axes.set_axis_off()
    axes.set_title(f"fine net of {POINTS} points, numbers: its {len(set(cells.tolist()))} cells", fontsize=7.6, pad=2)
    axes.legend(fontsize=7, loc="lower right")
