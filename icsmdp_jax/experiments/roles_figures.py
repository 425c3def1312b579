"""Pictures of role training: returns, gradient mass and cosines, with shared and with separate parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from icsmdp_jax.drawing import style
from icsmdp_jax.exact.returns import mean_interval
from icsmdp_jax.experiments.roles_study import SCHEMES, Study

# Colour and dashes of a scheme; roles differ in marker.
LOOKS: dict[str, tuple[str, Any]] = {
    "shared": (style.VERMILLION, (0, (4.5, 1.6))),
    "isolated": (style.BLUE, "-"),
    "single": (style.GREEN, (0, (1, 1.2))),
    "shared_scaled": (style.VERMILLION, (0, (4.5, 1.6))),
    "isolated_scaled": (style.BLUE, "-"),
    "single_scaled": (style.GREEN, (0, (1, 1.2))),
}
MARKERS = ("o", "s", "^")
PANELS = ((("shared", "isolated", "single"), "plain returns"), (("shared_scaled", "isolated_scaled", "single_scaled"),
          "returns scaled by their spread"))  # fmt: skip


def training_figure(done: Study) -> Figure:
    """Six panels: accuracy, gradient mass of each role and cosine of the roles' gradients, plain and scaled.

    Lines are means over replicas, bands 95 % intervals; accuracies are exact for the policies reached.
    """
    with style.house_style():
        figure = style.new_figure(style.FULL_WIDTH, 5.4)
        axes = figure.subplots(3, 2, sharex=True)
        for column, (names, title) in enumerate(PANELS):
            chosen = [name for name in names if name in done.names]
            _returns(axes[0, column], done, chosen)
            _masses(axes[1, column], done, [name for name in chosen if "single" not in name])
            _cosines(axes[2, column], done, [name for name in chosen if "single" not in name])
            axes[0, column].set_title(f"{done.env.rules.name}: {title}", loc="left")
            _legend(axes[2, column], "shared" if column == 0 else "own")
            axes[2, column].set_xlabel(f"updates (of {done.size.prompts * done.size.samples} episodes)")
        _legend(axes[0, 0], place="lower right")
        _legend(axes[1, 0], columns=2)
        for row, label in enumerate(("accuracy (probability)", "gradient mass per step", "cosine of gradients")):
            axes[row, 0].set_ylabel(label)
            low = min(axes[row, c].get_ylim()[0] for c in (0, 1))
            high = max(axes[row, c].get_ylim()[1] for c in (0, 1))
            room = (0.02, 0.0, 0.3)[row] * (high - low)
            for c in (0, 1):
                if row != 1:  # scaled gradients are several times larger
                    axes[row, c].set_ylim(low, high + room)
        return figure


def _legend(axes: Any, ending: str = "", place: str = "upper right", columns: int = 1) -> None:
    """Names of the lines, which are the same on both sides: of those only that end in a word, if one is given."""
    handles, words = axes.get_legend_handles_labels()
    chosen = [pair for pair in zip(handles, words, strict=True) if pair[1].endswith(ending)]
    axes.legend(*zip(*chosen, strict=True), loc=place, ncols=columns, handlelength=2.6, fontsize=6.6)


def _band(axes: Any, x: np.ndarray, values: np.ndarray, name: str, marker: str | None, text: str) -> None:
    """Mean over the first axis with its interval."""
    colour, dashes = LOOKS[name]
    found = mean_interval(values)
    axes.fill_between(x, found.ci_low, found.ci_high, color=colour, alpha=0.18, lw=0)
    step = max(len(x) // 6, 1)
    axes.plot(x, found.mean, color=colour, ls=dashes, lw=1.2, marker=marker, ms=3.6, markevery=step, label=text)


def _returns(axes: Any, done: Study, names: list[str]) -> None:
    for name in names:
        text = SCHEMES[name].text.removeprefix("scaled, ")
        _band(axes, done.updates, done.worth.accuracy[done.at(name)], name, None, text)


def _masses(axes: Any, done: Study, names: list[str]) -> None:
    for name in names:
        for role, marker in zip(range(len(done.roles)), MARKERS, strict=False):
            mass = done.metrics.mass[done.at(name)][:, :, role]
            word = "shared" if "shared" in name else "own"
            _band(axes, done.updates[1:], mass, name, marker, f"{done.roles[role]}, {word}")
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])


def _cosines(axes: Any, done: Study, names: list[str]) -> None:
    pairs = [(i, j) for i in range(len(done.roles)) for j in range(i + 1, len(done.roles))]
    for name in names:
        for (i, j), marker in zip(pairs, MARKERS, strict=False):
            cosine = done.metrics.cosine[done.at(name)][:, :, i, j]
            word = "shared" if "shared" in name else "own"
            text = f"{done.roles[i]} and {done.roles[j]}, {word}"
            _band(axes, done.updates[1:], cosine, name, marker, text)
    axes.axhline(0.0, color=style.GREY, lw=0.6)
