"""The figure of one result, and the figure of all: who earns what, measured and exact told apart by their markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icsmdp_jax.drawing import style
from icsmdp_jax.experiments.result import NEURAL, Result, in_order, label
from icsmdp_jax.learner.methods import METHODS

LEARNED = ("ic_q", "central_learner", "no_message", "immediate")  # drawn in the overview, besides the exact values
EXACT, OTHER = "D", ("P", style.GREEN)  # open diamonds; marker and colour of what has none of its own
OVERVIEW_LEFT = -0.35  # normalised return left of which values stand at the margin
LOGARITHMIC_FROM = 30.0  # ratio of largest to smallest value from which the axis is logarithmic


def looks(name: str) -> tuple[str, str]:
    """Marker and colour of a method, by its name in results; networks have the method's colour."""
    for method in METHODS.values():
        if name.removesuffix(NEURAL) == method.name:
            return (OTHER[0] if name.endswith(NEURAL) else method.marker), method.colour
    return OTHER


def is_exact_method(name: str, value: Mapping[str, Any]) -> bool:
    """Whether a method's number is exact: known without sampling, or solved exactly for the policies of some runs."""
    return is_exact(value) or name == "own_interface_oracle"


def is_exact(value: Mapping[str, Any]) -> bool:
    """Whether a number of ``Result.as_json`` is known without sampling."""
    return value["replicas"] == 1 and value["ci_low"] == value["ci_high"] is not None


def method_figure(result: Result) -> Any:
    """One line for each method: intervals for what was measured, open diamonds for what is exact.

    Args:
      result: the result.

    Returns:
      A ``matplotlib`` figure, one column wide.
    """
    shown = result.as_json()["methods"]
    names = [name for name in in_order(list(shown)) if shown[name]["mean"] is not None]
    figure = style.new_figure(style.COLUMN_WIDTH * 1.25, 0.87 + 0.2 * len(names))
    axes = figure.add_subplot()
    finite = [shown[name]["mean"] for name in names]
    logarithmic = bool(finite) and min(finite) > 0 and max(finite) > LOGARITHMIC_FROM * min(finite)
    if logarithmic:
        axes.set_xscale("log")
    limits = _limits([shown[name] for name in names], logarithmic)
    for row, name in enumerate(names):
        value, exact = shown[name], is_exact_method(name, shown[name])
        marker, colour = looks(name)
        if exact:
            axes.plot(value["mean"], row, EXACT, mfc="white", mec=style.BLACK, ms=4.5, zorder=3)
        else:
            low, high = value["ci_low"], value["ci_high"]
            if low is not None and high is not None:
                axes.plot([low, high], [row, row], color=colour, lw=1.4, solid_capstyle="butt", zorder=2)
                axes.plot([low, high], [row, row], "|", color=colour, ms=5, zorder=2)
                _out_of_sight(axes, row, low, high, limits, colour)
            axes.plot(value["mean"], row, marker, color=colour, ms=4.5, zorder=3)
        text = f"{value['mean']:.4g}".replace("-", "\N{MINUS SIGN}", 1)
        axes.text(
            1.02 if limits is None else 1.035,
            row,
            text,
            transform=axes.get_yaxis_transform(),
            va="center",
            ha="left",
            fontsize=7.4,
        )
        if name in ("exact_oracle", "random") and exact:
            axes.axvline(value["mean"], color=style.GREY, lw=0.6, ls="--" if name == "exact_oracle" else ":", zorder=1)
    axes.set_yticks(range(len(names)), [result.text_of(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.06)
    if limits is not None:
        axes.set_xlim(limits)
    axes.set_xlabel(_wrapped(result.metric, 52) + ("" if result.higher_is_better else "\n(lower is better)"))
    measured = sum(not is_exact_method(name, shown[name]) for name in names)
    notes = []
    if measured:
        notes.append(f"filled: {result.centre} over runs, bar: 95 % interval")
    if measured < len(names):
        notes.append("open: exact")
    axes.set_title(f"{result.environment}\n({'; '.join(notes)})", fontsize=7.4, loc="left")
    return figure


def _limits(values: Sequence[Mapping[str, Any]], logarithmic: bool) -> tuple[float, float] | None:
    """Ends of an axis that shows all centres and all ordinary intervals; None if that is all there is.

    Around the centres there is room for their spread or three intervals of median width, whichever is more.
    """
    ends = np.array([[v["mean"] if v[k] is None else v[k] for k in ("ci_low", "mean", "ci_high")] for v in values])
    scaled = np.log10(np.maximum(ends, np.finfo(float).tiny)) if logarithmic else ends
    width = scaled[:, 2] - scaled[:, 0]
    if not (width > 0).any():
        return None
    centres = scaled[:, 1]
    room = max(np.ptp(centres), 3 * float(np.median(width[width > 0])))
    low, high = centres.min() - room, centres.max() + room
    if scaled.min() >= low and scaled.max() <= high:
        return None
    low, high = max(low, scaled.min() - 0.06 * room), min(high, scaled.max() + 0.06 * room)
    return (10**low, 10**high) if logarithmic else (low, high)


def _out_of_sight(
    axes: Any, row: int, low: float, high: float, limits: tuple[float, float] | None, colour: str
) -> None:
    """Arrows and numbers where an interval continues beyond the axis."""
    if limits is None:
        return
    for end, limit, arrow, side in ((low, limits[0], "<", "left"), (high, limits[1], ">", "right")):
        if (end < limit) if side == "left" else (end > limit):
            axes.plot(limit, row, arrow, color=colour, ms=4.5, clip_on=False, zorder=3)
            text = f"{end:.4g}".replace("-", "\N{MINUS SIGN}", 1)
            offset = (5 if side == "left" else -5, 2)
            axes.annotate(text, (limit, row), offset, textcoords="offset points", ha=side, va="bottom", fontsize=6.4)


def overview_figure(results: Sequence[Mapping[str, Any]]) -> Any:
    """Normalised returns over all environments: IC-Q, the oracle, the exact interface solution, and the others.

    Args:
      results: objects of ``Result.as_json``; those without normalised returns are left out.

    Returns:
      A ``matplotlib`` figure two columns wide; None if no environment has a scale.
    """
    shown = [result for result in results if "ic_q" in result["normalised"]]
    if not shown:
        return None
    figure = style.new_figure(style.FULL_WIDTH, 1.15 + 0.5 * len(shown))
    axes = figure.add_subplot()
    axes.axvline(1.0, color=style.BLACK, lw=0.9, ls="--", zorder=1)
    axes.axvline(0.0, color=style.GREY, lw=0.9, ls=":", zorder=1)
    rank = {"interface_oracle": 0, "own_interface_oracle": 0, **{name: place for place, name in enumerate(LEARNED)}}
    for row, result in enumerate(shown):
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color="#F3F4F6", lw=0, zorder=0)
        for name, value in result["normalised"].items():
            if name not in rank or value["mean"] is None:
                continue
            height = row + 0.19 * (rank[name] - 1.5)
            _mark(axes, name, value, height)
    axes.set_yticks(range(len(shown)), [result["environment"] for result in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(OVERVIEW_LEFT, 1.08)
    axes.set_xlabel("normalised return (0: random workflow, 1: exact oracle that sees the whole state)")
    axes.tick_params(axis="y", length=0)
    _overview_legend(figure)
    return figure


def _mark(axes: Any, name: str, value: Mapping[str, Any], height: float) -> None:
    mean, low, high = value["mean"], value["ci_low"], value["ci_high"]
    if name == "interface_oracle":
        axes.plot(mean, height, EXACT, mfc="none", mec=style.BLACK, ms=7, mew=0.9, zorder=4)
        return
    if name == "own_interface_oracle":
        axes.plot(mean, height, EXACT, mfc="none", mec=style.GREY, ms=4, mew=0.9, zorder=4)
        return
    marker, colour = looks(name)
    if mean < OVERVIEW_LEFT:  # out of sight: an arrow at the margin, and the number
        axes.plot(OVERVIEW_LEFT, height, "<", color=colour, ms=4.5, clip_on=False, zorder=3)
        axes.annotate(
            f"{mean:.2f}".replace("-", "\N{MINUS SIGN}"),
            (OVERVIEW_LEFT, height),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=6.6,
        )
        return
    if low is not None and high is not None:
        axes.plot([max(low, OVERVIEW_LEFT), high], [height, height], color=colour, lw=1.5, zorder=2)
    axes.plot(mean, height, marker, color=colour, ms=4.8, zorder=3)


def _overview_legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], ls="", marker=EXACT, mfc="none", mec=style.BLACK, ms=7, label=r"exact greedy policy of $Q_\phi$"
        ),
        Line2D([], [], ls="", marker=EXACT, mfc="none", mec=style.GREY, ms=4, label=r"the same, IC-Q's own behaviour"),
    ]
    for name in LEARNED:
        marker, colour = looks(name)
        handles.append(
            Line2D(
                [],
                [],
                marker=marker,
                color=colour,
                ms=4.8,
                lw=1.5,
                label=label(name) + " (95 % interval)" * (name == "ic_q"),
            )
        )
    handles.append(Line2D([], [], color=style.BLACK, lw=0.9, ls="--", label="exact oracle"))
    handles.append(Line2D([], [], color=style.GREY, lw=0.9, ls=":", label="random"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4, handlelength=1.8, columnspacing=1.4)


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width)) or text
