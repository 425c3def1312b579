"""Federated routing as a picture: which client covers which models, and where the prompts of each client lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from icsmdp_jax.drawing import style
from icsmdp_jax.drawing.envs.expert_routing import touching
from icsmdp_jax.envs.expert_routing.env import TEAM
from icsmdp_jax.envs.expert_routing.queries import DIFFICULTIES
from icsmdp_jax.envs.expert_routing.table import KINDS
from icsmdp_jax.envs.federated_routing import covered
from icsmdp_jax.envs.federated_routing.env import AGENTS, CLASSES, CLIENTS, embedding

COVERAGE = 2  # the environment's own
RADIUS = 0.36


def draw() -> Figure:
    """Left: clients and the models that they cover. Right: prompts by type and difficulty, and whose they are."""
    with style.house_style():
        figure = style.new_figure(style.FULL_WIDTH, 2.9)
        left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
        _handoffs(left)
        _prompts(right)
        return figure


def _handoffs(axes: Any) -> None:
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set(xlim=(-1.5, 5.8), ylim=(-2.4, 2.4))
    clients = [(0.0, 1.5 - 1.0 * row) for row in range(CLIENTS)]
    models = [(3.0, 2.0 - 1.0 * row) for row in range(len(TEAM))]
    for client, model in np.argwhere(covered(COVERAGE)):
        start, end = touching(clients[client], models[model], 0.0, RADIUS)
        _arrow(axes, start, end, style.BLUE, "-|>")
    for one, two in zip(models, models[1:], strict=False):
        start, end = touching(one, two, 0.0, RADIUS)
        _arrow(axes, start, end, style.GREY, "<|-|>", linestyle=(0, (4, 2)))
    for client, (x, y) in enumerate(clients):
        _arrow(axes, (x - 1.0, y), (x - RADIUS, y), style.BLACK, "-|>")
        axes.add_patch(Circle((x, y), RADIUS, facecolor=style.NODE, edgecolor=style.BLACK, lw=0.8, zorder=3))
        axes.text(x, y, AGENTS[client].replace(" ", "\n"), fontsize=7, ha="center", va="center", zorder=4)
    for model, (x, y) in enumerate(models):
        axes.add_patch(Circle((x, y), RADIUS, facecolor="white", edgecolor=style.BLACK, lw=0.8, zorder=3))
        axes.text(x, y, str(model), fontsize=7, ha="center", va="center", zorder=4)
        _arrow(axes, (x + RADIUS, y), (x + RADIUS + 0.4, y), style.BLACK, "-|>")
        axes.text(x + RADIUS + 0.45, y, TEAM[model], fontsize=7, va="center")
    axes.set_title("blue: covered; dashed: a model hands on to any other; black: query in, answer out", fontsize=7)


def _arrow(axes: Any, start: Any, end: Any, colour: str, head: str, **look: Any) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle=head, mutation_scale=7, lw=0.9, color=colour, shrinkA=0, shrinkB=0, **look
        )
    )


def _prompts(axes: Any) -> None:
    places = embedding().reshape(CLASSES, -1, 2)
    for each in range(CLASSES):
        colour, marker, _ = style.LOOKS[each // 2]
        label = f"mostly client {each // 2}'s" if each % 2 == 0 else None
        axes.plot(*places[each].T, marker, color=colour, ms=5, mfc="none", label=label)
    axes.set_xticks(2.0 * np.arange(len(KINDS)), KINDS)
    axes.set_yticks(np.arange(len(DIFFICULTIES)), DIFFICULTIES)
    axes.margins(0.12)
    axes.legend(fontsize=7, loc="center")
    axes.set_title("prompts; client 3 has all alike", fontsize=7)
