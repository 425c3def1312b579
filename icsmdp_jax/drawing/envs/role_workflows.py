"""Who hands to whom in the three workflows of simulated roles, with what each role may do and what it sees."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from icsmdp_jax.drawing.style import BLACK, BLUE, COLUMN_WIDTH, GREY, house_style, new_figure
from icsmdp_jax.envs.role_workflows.eval_opt import EvalOpt
from icsmdp_jax.envs.role_workflows.orch_workers import OrchWorkers
from icsmdp_jax.envs.role_workflows.rules import Rules
from icsmdp_jax.envs.role_workflows.voting import Voting

RULES: dict[str, type[Any]] = {rules.name: rules for rules in (EvalOpt, Voting, OrchWorkers)}
# Where agents stand. Handoffs: from, to (None: the end), what is handed on, bend of the arrow, place of the words.
PLACES: dict[str, list[tuple[float, float]]] = {
    "eval-opt": [(0.0, 0.0), (3.6, 0.0)],
    "voting": [(0.0, 1.5), (0.0, 0.0), (0.0, -1.5), (3.6, 0.0)],
    "orch-workers": [(0.0, 0.0), (2.9, 1.5), (2.9, 0.0), (2.9, -1.5), (5.8, 0.0)],
}
ARROWS: dict[str, list[tuple[int, int | None, str, float, tuple[float, float]]]] = {
    "eval-opt": [
        (0, 1, "draft", -0.25, (1.8, 0.32)), (1, 0, "feedback, at most twice", -0.25, (1.8, -0.32)),
        (1, None, "accept", 0.0, (4.7, 0.17)),
    ],
    "voting": [
        (0, 1, "in turn", 0.0, (0.45, 0.75)), (1, 2, "in turn", 0.0, (0.45, -0.75)),
        (2, 3, "three answers", 0.15, (2.75, -1.25)), (3, None, "answer", 0.0, (4.75, 0.25)),
    ],
    "orch-workers": [
        (0, 1, "problem\nor parts", -0.15, (1.0, 1.35)), (1, 2, "in turn", 0.0, (3.4, 0.75)),
        (2, 3, "in turn", 0.0, (3.4, -0.75)), (3, 4, "three pieces", 0.15, (5.3, -1.2)),
        (4, None, "answer", 0.0, (6.95, 0.25)),
    ],
}  # fmt: skip
SEES = {
    "eval-opt": ("class, iteration, feedback", "class, iteration, check of the draft"),
    "voting": ("class, how many before passed", "class, how many passed, how many agree"),
    "orch-workers": (
        "class",
        "class, form of the work, check of the outline, how many before passed",
        "the same, and how many agree",
    ),
}


def draw(name: str) -> Figure:
    """One workflow: a box for each agent, an arrow for each handoff, below them options and interface of each role.

    Args:
      name: ``"eval-opt"``, ``"voting"`` or ``"orch-workers"``.

    Returns:
      A ``matplotlib`` figure, about one column wide.

    Raises:
      ValueError: for another name.
    """
    if name not in RULES:
        raise ValueError(f"name = {name!r}: expected one of {', '.join(RULES)}")
    rules: Rules = RULES[name]()
    places = PLACES[name]
    tall = 1.0 if name == "eval-opt" else 2.0
    with house_style():
        figure = new_figure(COLUMN_WIDTH * 1.3, 0.6 * tall + 0.55 + 0.28 * len(rules.roles))
        axes = figure.add_subplot()
        axes.set_xlim(places[0][0] - 0.9, places[-1][0] + 1.9)
        axes.set_ylim(-tall, tall)
        boxes = []
        for agent, (x, y) in enumerate(places):
            box = axes.text(
                x, y, rules.agents[agent], ha="center", va="center", fontsize=7.6, zorder=3,
                bbox={"boxstyle": "round,pad=0.45", "fc": "white", "ec": BLUE, "lw": 1.0},
            )  # fmt: skip
            boxes.append(box)
        for sender, receiver, what, bend, words in ARROWS[name]:
            _arrow(axes, boxes, places, (sender, receiver), bend)
            axes.text(*words, what, ha="center", va="center", fontsize=6.8, color=GREY)
        axes.axis("off")
        lines = []
        for role, options, sees in zip(rules.roles, rules.options, SEES[name], strict=True):
            lines.append(f"{role}: {' | '.join(options)}\n    sees {sees}")
        figure.supxlabel("\n".join(lines), fontsize=6.8, ha="left", x=0.03)
    return figure


def _arrow(
    axes: Any, boxes: list[Any], places: list[tuple[float, float]], ends: tuple[int, int | None], bend: float
) -> None:
    """From box to box, or out to the right."""
    sender, receiver = ends
    x, y = places[sender]
    style = {"arrowstyle": "-|>", "color": BLACK, "lw": 0.9, "connectionstyle": f"arc3,rad={bend}", "shrinkB": 3}
    style |= {"patchA": boxes[sender].get_bbox_patch(), "shrinkA": 3}
    if receiver is not None:
        style["patchB"] = boxes[receiver].get_bbox_patch()
    axes.annotate("", (x + 1.75, y) if receiver is None else places[receiver], (x, y), arrowprops=style)
