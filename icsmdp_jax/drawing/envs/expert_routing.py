"""Expert routing as a picture: who can hand to whom, what an answer costs each, and how good it is."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from icsmdp_jax.drawing import style
from icsmdp_jax.envs.expert_routing.env import TEAM
from icsmdp_jax.envs.expert_routing.table import KINDS, published

Point = tuple[float, float]
RADIUS = 0.37
FRONT: Point = (0.0, 0.0)
ANGLES = (54, 18, -18, -54)  # degrees: experts on an arc around the front
REACH = 2.35


def draw() -> Figure:
    """Front and experts: everybody may hand to everybody else, and answer; right answers, dollars per 1000 answers."""
    accuracy, dollars, _ = published(TEAM)
    places = [FRONT, *((REACH * math.cos(math.radians(a)), REACH * math.sin(math.radians(a))) for a in ANGLES)]
    with style.house_style():
        figure = style.new_figure(style.FULL_WIDTH * 0.8, 3.3)
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.set_xlim(-2.6, 5.6)
        axes.set_ylim(-2.45, 2.45)
        for one in range(len(TEAM)):
            for other in range(one + 1, len(TEAM)):
                front = one == 0
                bend = 0.0 if front or other - one in (1, 3) else 0.15
                start, end = touching(places[one], places[other], bend, RADIUS)
                axes.add_patch(
                    FancyArrowPatch(
                        start, end, arrowstyle="<|-|>", mutation_scale=7,
                        lw=1.2 if front else 0.8, color=style.BLUE if front else style.GREY,
                        connectionstyle=f"arc3,rad={bend}", shrinkA=0, shrinkB=0,
                        linestyle="-" if front else (0, (4, 2)),
                    )
                )  # fmt: skip
        axes.add_patch(
            FancyArrowPatch((-1.5, 0), (-RADIUS, 0), arrowstyle="-|>", mutation_scale=8, lw=1.2, color=style.BLACK)
        )
        axes.text(-1.5, 0.08, "query", fontsize=7, ha="left", va="bottom")
        for agent, (x, y) in enumerate(places):
            axes.add_patch(Circle((x, y), RADIUS, facecolor=style.NODE, edgecolor=style.BLACK, lw=0.8, zorder=3))
            axes.text(
                x, y, "front" if agent == 0 else f"expert {agent}", fontsize=7, ha="center", va="center", zorder=4
            )
            lines = [TEAM[agent]] + [
                f"{kind}: {100 * accuracy[k, agent]:.0f} %, \\${1000 * dollars[k, agent]:.1f}"
                for k, kind in enumerate(KINDS)
            ]
            at, across = ((-2.55, -0.5), "left") if agent == 0 else ((x + 0.85 + RADIUS, y), "left")
            if agent == 0:
                axes.text(*at, "\n".join(lines), fontsize=6.3, ha=across, va="top", linespacing=1.25)
                continue
            axes.add_patch(
                FancyArrowPatch(
                    (x + RADIUS, y), (x + RADIUS + 0.42, y), arrowstyle="-|>", mutation_scale=7, lw=0.9,
                    color=style.BLACK,
                )
            )  # fmt: skip
            axes.text(x + RADIUS + 0.47, y, "\n".join(lines), fontsize=6.3, ha=across, va="center", linespacing=1.25)
        axes.plot([], [], color=style.BLUE, lw=1.2, label="hand on, to and from the front")
        axes.plot([], [], color=style.GREY, lw=0.8, ls=(0, (4, 2)), label="hand on among experts")
        axes.plot([], [], color=style.BLACK, lw=0.9, label="answer (the front, too): right, dollars per 1000")
        axes.legend(loc="upper left", fontsize=6.8, bbox_to_anchor=(-0.02, 1.03))
        return figure


def touching(one: Point, other: Point, bend: float, radius: float) -> tuple[Point, Point]:
    """Where an arc from one circle to another leaves the first and meets the second."""
    dx, dy = other[0] - one[0], other[1] - one[1]
    middle = ((one[0] + other[0]) / 2 + bend * dy, (one[1] + other[1]) / 2 - bend * dx)
    ends = []
    for x, y in (one, other):
        far = math.hypot(middle[0] - x, middle[1] - y)
        ends.append((x + radius * (middle[0] - x) / far, y + radius * (middle[1] - y) / far))
    return ends[0], ends[1]
