"""The pipeline as a picture: who can hand to whom, after own work or without."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from icsmdp_jax.drawing import style
from icsmdp_jax.drawing.envs.expert_routing import Point, touching
from icsmdp_jax.envs.math_pipeline.pipeline import FINALIZER, MENUS, NOBODY, PLANNER, ROLES, VERIFIER

PLACES: tuple[Point, ...] = ((0.0, 0.0), (1.5, 0.75), (1.5, -0.75), (3.0, 0.0), (4.5, 0.0))
WORKS = ("plan", "draft", "draft", "check", "submit")
RADIUS = 0.36
BEND = 0.17
# Arrows that would run through another agent go round in an arc.
BENDS = {(1, 4): -0.3, (2, 4): 0.3, (4, 1): 0.48, (4, 2): -0.48}


def draw() -> Figure:
    """The five roles from left to right; full arrows: work, then hand over; dashed: pass on as it is."""
    with style.house_style():
        figure = style.new_figure(style.FULL_WIDTH * 0.8, 2.7)
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.set_xlim(-0.5, 5.8)
        axes.set_ylim(-1.6, 1.45)
        for agent, menu in enumerate(MENUS):
            for works, receiver in menu:
                if receiver != NOBODY:
                    _arrow(axes, agent, receiver, works)
        end = (PLACES[FINALIZER][0] + 1.2, 0.0)
        axes.add_patch(
            FancyArrowPatch(
                (PLACES[FINALIZER][0] + RADIUS, 0.0), end, arrowstyle="-|>", mutation_scale=8, lw=1.3, color=style.BLUE
            )
        )
        axes.text(end[0] - 0.1, 0.1, "answer", fontsize=7, ha="right", va="bottom")
        for agent, (x, y) in enumerate(PLACES):
            axes.add_patch(Circle((x, y), RADIUS, facecolor=style.NODE, edgecolor=style.BLACK, lw=0.8, zorder=3))
            axes.text(x, y + 0.06, ROLES[agent], fontsize=7.2, ha="center", va="center", zorder=4)
            axes.text(x, y - 0.13, WORKS[agent], fontsize=6.2, ha="center", va="center", zorder=4, style="italic")
        axes.plot([], [], color=style.BLUE, lw=1.3, label="works, then hands over")
        axes.plot([], [], color=style.GREY, lw=0.9, ls=(0, (3, 2)), label="passes on as it is (1 block)")
        axes.legend(loc="lower left", fontsize=7, bbox_to_anchor=(0.0, -0.06))
        return figure


def _arrow(axes: Axes, sender: int, receiver: int, works: bool) -> None:
    bend = BENDS.get((sender, receiver), BEND)
    if not works and (sender == PLANNER or (sender, receiver) == (VERIFIER, FINALIZER)):
        bend = 0.0  # next to the arrow for work
    start, end = touching(PLACES[sender], PLACES[receiver], bend, RADIUS)
    patch = FancyArrowPatch(
        start, end, connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=7, shrinkA=0, shrinkB=0,
        lw=1.3 if works else 0.9, color=style.BLUE if works else style.GREY, linestyle="-" if works else (0, (3, 2)),
    )  # fmt: skip
    axes.add_patch(patch)
