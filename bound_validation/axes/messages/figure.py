"""Messages: return and shift of the values as the one scalar is lost, late, rounded, disturbed or forged (L1)."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bound_validation.drawing.curves import Curve, line, measured
from bound_validation.drawing.legends import key, outside
from bound_validation.drawing.panels import Panel, draw_panel, tick_at
from bound_validation.drawing.style import LINE, narrow
from bound_validation.results import Row
from bound_validation.views import select
from icsmdp_jax.drawing.style import BLACK, BLUE, COLUMN_WIDTH, FULL_WIDTH, GREY, ORANGE, VERMILLION, letter, new_figure

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
CLIPPED = ", clipped"
COLUMNS = 3
LOGARITHMIC = ("late", "noise")
STARTS_CLEAN = ("loss probability", "adversaries")  # a strength of 0 is the clean channel
HEARD: LineStyle = (0, ())
BELIEVED: LineStyle = (0, (1.2, 1.2))
LEVEL: LineStyle = (0, (4, 2))


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """A panel of returns for each kind of fault, then how far rounding and lies move the values."""
    del summary  # no slope is fitted here
    here = [row for row in rows if row.axis == "messages"]
    returns, shifts = select(here, "messages", "return"), select(here, "messages", "shift")
    panels = [panel for panel in PANELS if any(_kind(row) in panel[0] for row in returns)]
    moved = [panel for panel in (_rounding(shifts), _lies(shifts)) if panel.curves]
    count = len(panels) + len(moved)
    if not panels:
        return None
    columns = 2 if narrow() else COLUMNS
    lines = -(-count // columns)
    whole = new_figure(COLUMN_WIDTH if narrow() else FULL_WIDTH, 1.95 * lines + 0.6)
    grid = whole.subplots(lines, columns, squeeze=False)
    lowest = min(0.0, *(row.ci_low for row in returns))
    for index, (kinds, title, x_label) in enumerate(panels):
        axes = grid.flat[index]
        letter(axes, index, _fitting(title))
        _returns(axes, returns, kinds)
        axes.set_xlabel(_fitting(x_label))
        axes.set_ylim(lowest - 0.08, 1.14)
        axes.set_yticks([0.0, 0.5, 1.0])
        if index % columns == 0:
            axes.set_ylabel("normalised return")
    for index, panel in enumerate(moved, len(panels)):
        draw_panel(grid.flat[index], panel, index)
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    _key(whole, returns)
    key(whole, [curve for panel in moved for curve in panel.curves])
    return whole


def _fitting(text: str) -> str:
    """In lines that fit above or below half a column of a page."""
    return textwrap.fill(text, 24) if narrow() else text


def _kind(row: Row) -> str:
    return row.group.removesuffix(CLIPPED)


def _returns(axes: Axes, rows: list[Row], kinds: tuple[str, ...]) -> None:
    """Normalised returns with and without clipping, the levels of the oracle and of the random workflow, theory."""
    for level in (1.0, 0.0):
        axes.axhline(level, color=GREY, linewidth=0.7, linestyle=LEVEL, zorder=1)
    ticks: set[float] = set()
    for kind in kinds:
        colour, marker = LOOKS.get(kind, (BLACK, "o"))
        for clips in (True, False):
            found = [row for row in rows if row.group == kind + CLIPPED * clips]
            if not found:
                continue
            clean = [row for row in rows if row.group == "clean" and found[0].x_name in STARTS_CLEAN]
            points = [*clean, *found]
            ticks |= {row.x for row in points}
            y, low, high = np.array([(row.measured, row.ci_low, row.ci_high) for row in points]).T
            axes.errorbar(
                [row.x for row in points], y, yerr=np.maximum([y - low, high - y], 0.0), color=colour, marker=marker,
                markersize=5.6 if clips else 3.2, markerfacecolor="none" if clips else colour, markeredgewidth=0.8,
                linestyle=BELIEVED if clips else HEARD, linewidth=0.7, elinewidth=0.8, capsize=1.8,
                zorder=3 if clips else 4,
            )  # fmt: skip
        promised = [row for row in rows if row.group == kind and np.isfinite(row.prediction)]
        if promised:
            x, y = [row.x for row in promised], [row.prediction for row in promised]
            alone: dict[str, Any] = dict(marker="_", markersize=13) if len(x) == 1 else {}
            axes.plot(x, y, color=BLUE, zorder=5, **LINE["prediction"], **alone)
    if kinds[0] in LOGARITHMIC:
        axes.set_xscale("log")
        axes.minorticks_off()
    tick_at(axes, sorted(ticks))


def _rounding(shifts: list[Row]) -> Panel:
    """How far rounding moves the values, and what L1 allows rounding to the nearest level."""
    nearest, random = ([row for row in shifts if row.group == kind] for kind in ("nearest", "random"))
    curves = [
        *line(nearest, "bound", "bound, nearest", BLACK),
        *measured(nearest, "nearest", BLACK, "o"),
        *measured(random, "at random", ORANGE, "s"),
    ]
    return Panel(
        _fitting("what rounding does to values"), "bits per message", "shift (reward units)", curves, ticks=True
    )


def _lies(shifts: list[Row]) -> Panel:
    """How far liars move the values, with clipping and without, and what the width of the range allows."""
    curves: list[Curve] = []
    for kind in ("high", "low"):
        colour, marker = LOOKS[kind]
        sent, clipped = ([row for row in shifts if row.group == kind + end] for end in ("", CLIPPED))
        if not curves:
            curves += line(clipped, "bound", "bound, clipped", GREY)
        curves += measured(sent, f"{kind}, as sent", colour, marker)
        curves += measured(clipped, f"{kind}, clipped", colour, {"^": "2", "v": "1"}[marker])
    return Panel(_fitting("what lies do to values"), SHARE, "shift (reward units)", curves, ticks=True)


def _key(whole: Figure, returns: list[Row]) -> None:
    """What markers and lines of the returns mean, above all panels."""
    style: dict[str, Any] = dict(color=BLACK, marker="o", linewidth=0.8)
    entries = [(Line2D([], [], linestyle=HEARD, markersize=3.2, **style), "taken as it arrives")]
    if any(row.group.endswith(CLIPPED) for row in returns):
        clipped = Line2D([], [], linestyle=BELIEVED, markersize=5.6, markerfacecolor="none", **style)
        entries.append((clipped, "clipped to the a-priori value range"))
    if any(_kind(row) == "random" for row in returns):
        colour, marker = LOOKS["random"]
        entries.append(
            (Line2D([], [], **style | dict(color=colour, marker=marker, markersize=3.2)), "rounded at random")
        )
    if any(np.isfinite(row.prediction) for row in returns):
        entries.append((Line2D([], [], color=BLUE, **LINE["prediction"]), "clean run with as many messages"))
    entries.append((Line2D([], [], color=GREY, linewidth=0.7, linestyle=LEVEL), "oracle (1), random workflow (0)"))
    outside(whole, "upper", [handle for handle, _ in entries], [name for _, name in entries], handlelength=2.8)
