"""Returns: how near to the oracle each learner comes, and what IC-Q's greedy policy loses at growing gap (T1.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from bound_validation.drawing import labels
from bound_validation.drawing.curves import line, measured
from bound_validation.drawing.panels import Panel, draw_panel, finish
from bound_validation.drawing.scales import LogScale, dress, log_scale
from bound_validation.drawing.style import (
    BLACK,
    BLUE,
    COLUMN_WIDTH,
    FULL_WIDTH,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    new_figure,
)
from bound_validation.results import Row
from bound_validation.views import select
from icsmdp_jax.learner.methods import METHODS, WHOLE_STATE

CLASSES = {"tabular": "tables", "mlp": "networks"}
LOOKS = ((BLACK, "o"), (BLUE, "s"), (VERMILLION, "D"), (GREEN, "^"), (PURPLE, "v"), (ORANGE, "P"))
ENOUGH = 0.99
TICKS = (0.999, 0.99, 0.9, 0.0)  # normalised returns; the oracle's 1 has a place of its own


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """A panel for each function class, one line for each learner; then the loss at growing gap."""
    del summary  # no slope is fitted here
    here = [row for row in rows if row.axis == "returns"]
    found = [row for row in here if row.series == "return"]
    loss, exact = select(here, "returns", "gap_loss"), select(here, "returns", "gap_loss_exact")
    kinds = [kind for kind in CLASSES if any(_part(row, 1) == kind for row in found)]
    panels = len(kinds) + bool(loss)
    if not panels:
        return None
    width = FULL_WIDTH if panels > 1 else COLUMN_WIDTH + 1.0
    methods = [name for name in METHODS if any(_part(row, 2) == name for row in found)]
    whole = new_figure(width, max(2.75, 1.15 + 0.26 * len(methods)))
    grid = whole.subplots(1, panels, squeeze=False)[0]
    names = list(dict.fromkeys(_part(row, 0) for row in found))
    looks = {name: LOOKS[i % len(LOOKS)] for i, name in enumerate(names)}
    crossing = {
        (_part(row, 1), _part(row, 2)): row.measured
        for row in here
        if row.series == "crossing" and _part(row, 0) == names[0]
    }
    scale = log_scale(np.array([max(1 - row.measured, 0.0) for row in found] + [0.0, 1e-3, 1.0]), room=0.18)
    for index, kind in enumerate(kinds):
        labels.letter(grid[index], index, CLASSES[kind])
        mine = [row for row in found if _part(row, 1) == kind]
        _ladder(grid[index], mine, methods, looks, scale, {m: v for (k, m), v in crossing.items() if k == kind})
        grid[index].set_yticklabels([METHODS[name].label for name in methods] if index == 0 else [])
    jobs = []
    if loss:
        axes = grid[-1]
        labels.letter(axes, len(kinds), "planted model at growing gap")
        curves = [
            *line(exact, "bound", "T1.3", BLUE),
            *line(loss, "prediction", r"exact, greedy in $Q_\phi$", BLUE),
            *measured(loss, "IC-Q", BLACK, "o"),
        ]
        panel = Panel(
            "",
            r"interface gap $\eta$",
            "loss against the oracle (reward units)",
            curves,
            ticks_at_points=True,
            head=0.12,
        )
        jobs.append(draw_panel(axes, panel))
        _fewer_labels(axes)
    if names:
        labels.groups(whole, [labels.Entry(name, *looks[name]) for name in names])
    finish(whole, jobs)
    return whole


def _fewer_labels(axes: Axes) -> None:
    """Takes the labels of ticks away that would touch their right neighbour."""
    ticks, texts = axes.get_xticks(), [text.get_text() for text in axes.get_xticklabels()]
    for index in range(len(ticks) - 2, 0, -1):
        following = next(tick for tick, text in zip(ticks[index + 1 :], texts[index + 1 :], strict=True) if text)
        if following < 1.45 * ticks[index]:
            texts[index] = ""
    axes.xaxis.set_ticklabels(texts)


def _part(row: Row, index: int) -> str:
    """Model, function class or method, from the group's name."""
    return row.group.split(", ")[index]


def _ladder(
    axes: Axes,
    rows: list[Row],
    methods: list[str],
    looks: dict[str, tuple[str, str]],
    scale: LogScale,
    crossing: dict[str, float],
) -> None:
    """Normalised returns, one line of the chart for each method; logarithmic in the distance from the oracle."""
    dress(axes, "x", scale, margin=0.06, head=0.1)
    axes.invert_xaxis()
    shown = [tick for tick in TICKS if 1 - tick >= scale.low * 0.8]
    axes.xaxis.set_major_locator(FixedLocator([scale.zero or scale.low, *(1 - tick for tick in shown)]))
    axes.xaxis.set_ticklabels(["1", *(f"{tick:g}" for tick in shown)])
    axes.xaxis.set_minor_formatter(NullFormatter())
    for value, style in ((1 - ENOUGH, (0, (1, 1.4))), (1.0, (0, (4, 2)))):
        axes.axvline(value, color=GREY, linewidth=0.7, linestyle=style, zorder=1)
    spread = np.linspace(-0.26, 0.26, len(looks)) if len(looks) > 1 else np.zeros(1)
    for row in rows:
        name, method = _part(row, 0), _part(row, 2)
        colour, marker = looks[name]
        height = methods.index(method) + spread[list(looks).index(name)]
        ends = scale.place(np.maximum(1 - np.array([row.ci_high, row.measured, row.ci_low]), 0.0))
        axes.plot(ends[[0, 2]], [height] * 2, color=colour, linewidth=0.9, solid_capstyle="butt", zorder=3)
        axes.plot(
            ends[1], height, color=colour, marker=marker, markersize=3.4, linestyle="none", zorder=4, clip_on=False
        )
    run = {_part(row, 2) for row in rows}
    for index, method in enumerate(methods):
        if method not in run:
            axes.text(
                0.5, index, "not in this preset", transform=axes.get_yaxis_transform(), fontsize=6.8, color=GREY,
                ha="center", va="center", backgroundcolor="white",
            )  # fmt: skip
        if method in crossing:
            number = crossing[method]
            text = f"{number:.3g}" if np.isfinite(number) else WHOLE_STATE.replace(" ", "\n")
            axes.annotate(
                text, (1.0, index), xycoords=("axes fraction", "data"), xytext=(3, 0),
                textcoords="offset points", fontsize=6.8, va="center", color=GREY, annotation_clip=False,
            )  # fmt: skip
        axes.axhline(index + 0.5, color=GREY, linewidth=0.25, zorder=0)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_yticks(range(len(methods)))
    axes.tick_params(axis="y", length=0)
    axes.annotate(
        "numbers per\nhandoff", (1.0, 1.0), xycoords="axes fraction", xytext=(12, 2), textcoords="offset points",
        fontsize=6.2, ha="right", va="bottom", color=GREY, linespacing=0.9, annotation_clip=False,
    )  # fmt: skip
    for value, name in ((1.0, "random"), (scale.zero or scale.low, "oracle")):
        axes.annotate(
            name, (value, 0.0), xycoords=axes.get_xaxis_transform(), xytext=(0, -13), textcoords="offset points",
            fontsize=6.8, ha="center", va="top", color=GREY, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlabel("normalised return", labelpad=9)
