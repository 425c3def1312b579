"""Messages: return and shift of the values as the one scalar is lost, late, rounded, disturbed or forged (L1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bound_validation.drawing import labels
from bound_validation.drawing.curves import Curve, line, measured
from bound_validation.drawing.panels import Panel, draw_panel, finish
from bound_validation.drawing.scales import thinned
from bound_validation.drawing.style import BLACK, BLUE, FULL_WIDTH, GREY, LINE, ORANGE, VERMILLION, new_figure
from bound_validation.results import Row
from bound_validation.views import select

LineStyle = tuple[int, tuple[float, ...]]
SHARE = "share of agents that lie"
# kinds in a panel, its title, the label of its abscissa
PANELS = (
    (("loss",), "messages lost", "probability of loss"),
    (("late",), "messages late", "lateness (messages)"),
    (("nearest", "random"), "messages rounded", "bits per message"),
    (("noise",), "messages disturbed", "noise (s.d. / width of value range)"),
    (("high",), "lies above the range", SHARE),
    (("low",), "lies below the range", SHARE),
    (("negate",), "values negated", SHARE),
)
LOOKS = {"random": (ORANGE, "s"), "high": (VERMILLION, "^"), "low": (BLUE, "v")}
ROUNDED = {"nearest": "to the nearest level", "random": "at random, unbiased"}
CLIPPED = ", clipped"
COLUMNS, MOST_TICKS = 3, 6
LOGARITHMIC = ("late", "noise")
STARTS_CLEAN = ("loss probability", "adversaries")  # a strength of 0 is the clean channel
HEARD: LineStyle = (0, ())
BELIEVED: LineStyle = (0, (1.2, 1.2))


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """A panel of returns for each kind of fault, then how far rounding and lies move the values."""
    del summary  # no slope is fitted here
    here = [row for row in rows if row.axis == "messages"]
    returns, shifts = select(here, "messages", "return"), select(here, "messages", "shift")
    clean = [row for row in returns if row.group == "clean"]
    panels = [panel for panel in PANELS if any(_kind(row) in panel[0] for row in returns)]
    moved = [panel for panel in (_rounding(shifts), _lies(shifts)) if panel.curves]
    count = len(panels) + len(moved)
    if not panels:
        return None
    lines = -(-count // COLUMNS)
    whole = new_figure(FULL_WIDTH, 1.85 * lines + 0.55)
    grid = whole.subplots(lines, COLUMNS, squeeze=False)
    lowest = min(0.0, *(row.ci_low for row in returns))
    for index, (kinds, title, x_label) in enumerate(panels):
        axes = grid.flat[index]
        labels.letter(axes, index, title)
        _returns(axes, returns, clean, kinds)
        axes.set_xlabel(x_label)
        axes.set_ylim(lowest - 0.08, 1.14)
        axes.set_yticks([0.0, 0.5, 1.0])
        if index % COLUMNS == 0:
            axes.set_ylabel("normalised return")
            for level, name in ((1.0, "oracle"), (0.0, "random")):
                place = dict(transform=axes.get_yaxis_transform(), ha="right", va="bottom")
                axes.text(0.99, level, name, fontsize=6.8, color=GREY, **place)
    jobs = []
    for index, panel in enumerate(moved, len(panels)):
        labels.letter(grid.flat[index], index, panel.title)
        jobs.append(draw_panel(grid.flat[index], panel))
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    _key(whole, any(row.group.endswith(CLIPPED) for row in returns))
    finish(whole, jobs)
    return whole


def _kind(row: Row) -> str:
    return row.group.removesuffix(CLIPPED)


def _returns(axes: Axes, rows: list[Row], clean: list[Row], kinds: tuple[str, ...]) -> None:
    """Normalised returns with and without clipping, the levels of the oracle and of the random workflow, theory."""
    for level in (1.0, 0.0):
        axes.axhline(level, color=GREY, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    ticks: set[float] = set()
    handles = []
    for kind in kinds:
        colour, marker = LOOKS.get(kind, (BLACK, "o"))
        for clips in (True, False):
            found = [row for row in rows if row.group == kind + CLIPPED * clips]
            if not found:
                continue
            points = [*(clean if found[0].x_name in STARTS_CLEAN else []), *found]
            x = [row.x for row in points]
            ticks |= set(x)
            bars = np.array([[row.measured - row.ci_low, row.ci_high - row.measured] for row in points]).T
            drawn = axes.errorbar(
                x, [row.measured for row in points], yerr=np.maximum(bars, 0.0), color=colour, marker=marker,
                markersize=5.6 if clips else 3.2, markerfacecolor="none" if clips else colour, markeredgewidth=0.8,
                linestyle=BELIEVED if clips else HEARD, linewidth=0.7, elinewidth=0.8, capsize=1.8,
                zorder=3 if clips else 4,
            )  # fmt: skip
            if not clips:
                handles.append((drawn, ROUNDED.get(kind, kind)))
        promised = [row for row in rows if row.group == kind and np.isfinite(row.prediction)]
        if promised:
            x, y = [row.x for row in promised], [row.prediction for row in promised]
            axes.plot(x, y, color=BLUE, zorder=5, **LINE["prediction"])
            if len(x) == 1:
                axes.plot(x, y, color=BLUE, marker="_", markersize=13, zorder=5)
            axes.text(
                0.04, 0.3, "clean run with as\nmany messages heard", transform=axes.transAxes, fontsize=6.8,
                color=labels.darker(BLUE), linespacing=1.0,
            )  # fmt: skip
    if kinds[0] in LOGARITHMIC:
        axes.set_xscale("log")
        axes.minorticks_off()
    chosen = thinned(np.array(sorted(ticks)), MOST_TICKS)
    axes.set_xticks(chosen, [f"{tick:g}" for tick in chosen])
    if len(handles) > 1:
        axes.legend(
            [handle for handle, _ in handles], [name for _, name in handles], loc="lower right", fontsize=7.2,
            handlelength=1.6, borderpad=0.1, labelspacing=0.2, frameon=True, edgecolor="none", framealpha=1.0,
        )  # fmt: skip


def _rounding(shifts: list[Row]) -> Panel:
    """How far rounding moves the values, beside what L1 allows rounding to the nearest level."""
    nearest, random = ([row for row in shifts if row.group == kind] for kind in ("nearest", "random"))
    curves: list[Curve] = [
        *line(nearest, "bound", "bound, nearest", BLACK),
        *measured(nearest, "nearest", BLACK, "o"),
        *measured(random, "at random", ORANGE, "s"),
    ]
    return Panel(
        "what rounding does to values", "bits per message", "shift (reward units)", curves, ticks_at_points=True
    )


def _lies(shifts: list[Row]) -> Panel:
    """How far liars move the values, with clipping and without, beside what the width of the range allows."""
    curves: list[Curve] = []
    for kind in ("high", "low"):
        colour, marker = LOOKS[kind]
        clipped = [row for row in shifts if row.group == kind + CLIPPED]
        if not curves:
            curves += line(clipped, "bound", "bound, clipped", GREY)
        curves += measured([row for row in shifts if row.group == kind], f"{kind}, as sent", colour, marker)
        curves += measured(clipped, f"{kind}, clipped", colour, marker)
    return Panel("what lies do to values", SHARE, "shift (reward units)", curves, ticks_at_points=True)


def _key(whole: Figure, clips: bool) -> None:
    """What filled and hollow markers mean, above all panels."""
    style: dict[str, Any] = dict(color=BLACK, marker="o", linewidth=0.8)
    handles = [Line2D([], [], linestyle=HEARD, markersize=3.2, **style)]
    names = ["heard as it arrives"]
    if clips:
        handles.append(Line2D([], [], linestyle=BELIEVED, markersize=5.6, markerfacecolor="none", **style))
        names.append("clipped to the a-priori value range")
    whole.legend(handles, names, loc="outside upper center", ncols=2, borderpad=0.1, handlelength=2.8)
