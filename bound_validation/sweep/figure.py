"""Figures of a sweep, one for each measured term: measurements with intervals, and what the theory says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bound_validation.drawing.curves import Curve, Field, line, measured, same_line
from bound_validation.drawing.legends import Entry
from bound_validation.drawing.panels import BIAS, RMSE, SPREAD, Panel, compose, thinned
from bound_validation.drawing.style import GROUPS, TERM_COLOUR, TERM_MARKER, single_column
from bound_validation.results import ROUNDING, TERMS, Row
from bound_validation.sweep.definition import SAMPLES, WIDTH, Cell, Sweep, value_text
from icsmdp_jax.drawing.interactive import save_data
from icsmdp_jax.drawing.style import (
    BLUE,
    COLUMN_WIDTH,
    FULL_WIDTH,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    house_style,
    save,
    save_pdf,
)

LOOKS = GROUPS[:6]
LABELS = {
    SAMPLES: "samples $K$ (handoffs)",
    WIDTH: "features per agent $m$",
    "gap": r"interface gap $\eta$",
    "gamma": r"discount $\gamma$ (per primitive step)",
    "duration_mean": "mean duration (primitive steps)",
    "hidden_flip": "probability that a hidden field is redrawn",
}
TABLES = "tables"
SHORT = {SAMPLES: "$K$", WIDTH: "$m$", "gap": r"$\eta$", "gamma": r"$\gamma$"}
CROWDED = 24  # abscissae above which some have no marker, and ticks are round numbers
LONGEST = 6  # characters of a value that a tick or a key shows as it is
MANY = 2000  # points above which markers go into a PDF as a picture


@dataclasses.dataclass(frozen=True)
class Look:
    """Which rows a figure shows, and where.

    Attributes:
      x: name of the axis that is the abscissa.
      group: name of the axis that tells curves apart, or None.
      values: its values that are shown, at most as many as there are markers.
      cells: by id, the cells that are drawn as curves.
      samples: the K that is shown; None if it is the abscissa.
      still: the other axes with more than one value, and the value at which they are drawn.
      labels: the user's names of axes.
    """

    x: str
    group: str | None
    values: tuple[Any, ...]
    cells: dict[str, Cell]
    samples: int | None
    still: dict[str, Any]
    labels: dict[str, str]

    def rows(self, rows: Sequence[Row], series: str, value: Any = None) -> list[Row]:
        """Rows of a series with their abscissae, sorted; those of one group where a value is given."""
        out = []
        for row in rows:
            cell = self.cells.get(row.cell)
            if cell is None or row.series != series:
                continue
            if self.group is not None and cell.coordinates[self.group] != value:
                continue
            if self.samples is not None and row.samples not in (0, self.samples):
                continue
            x = row.samples if self.x == SAMPLES else cell.coordinates[self.x]
            out.append(dataclasses.replace(row, x=float(x)))
        return sorted(out, key=lambda row: row.x)

    @property
    def x_label(self) -> str:
        """Label of the abscissa, with the values of the axes that stand still in this figure."""
        label = self.labels.get(self.x) or LABELS.get(self.x) or self.x.replace("_", " ")
        still = [f"{self.name(axis)} = {group_text(axis, value)}" for axis, value in self.still.items()]
        return label + (f"\nat {', '.join(still)}" if still else "")

    def name(self, axis: str) -> str:
        """Short name of an axis."""
        return self.labels.get(axis) or SHORT.get(axis) or axis.replace("_", " ")

    def entries(self, rows: Sequence[Row], series: str) -> list[Entry]:
        """Markers of the groups that have rows of a series, for the key; empty with one group."""
        if self.group is None or len(self.values) < 2:
            return []
        out = []
        named = False
        for value, (colour, marker) in zip(self.values, LOOKS, strict=False):
            text = group_text(self.group, value)
            if not named and text != TABLES:  # the first one says what the numbers are
                text, named = f"{self.name(self.group)} = {text}", True
            if self.rows(rows, series, value):
                out.append(Entry(text, colour, marker))
        return out


def group_text(group: str, value: Any) -> str:
    """A value of the group axis in words."""
    if group == WIDTH and value == 0:
        return TABLES
    text = value_text(value).replace("_", " ")
    return f"{value:.3g}" if isinstance(value, float) and len(text) > LONGEST else text


def look_of(sweep: Sweep, exact: bool = False) -> Look | None:
    """What the figures show; for exact terms, which do not depend on K, another abscissa stands in for the samples."""
    figure = sweep.figure
    x, group = figure.x, figure.group
    if exact and x == SAMPLES:
        names = [name for name, values in sweep.axes.items() if name != SAMPLES and _is_scale(values)]
        x = next((name for name in names if name != group), next(iter(names), None))
        group = None if x == group else group
        if x is None:
            return None
    assert x is not None
    fixed = {name: value for name, value in figure.at.items() if name not in (x, SAMPLES)}
    cells = {
        cell.id: cell
        for cell in sweep.cells()
        if all(cell.coordinates.get(name, value) == value for name, value in fixed.items())
    }
    values: tuple[Any, ...] = (None,)
    if group is not None:
        everything = list(sweep.axes[group])
        chosen = thinned(np.arange(len(everything)), len(LOOKS))
        values = tuple(everything[int(place)] for place in chosen)
    samples = None if x == SAMPLES else int(figure.at.get(SAMPLES, sweep.samples[-1]))
    still = {name: value for name, value in fixed.items() if name != group and len(sweep.axes[name]) > 1}
    return Look(x, group, values, cells, samples, still, dict(figure.labels))


def _is_scale(values: Sequence[Any]) -> bool:
    return len(values) > 1 and all(isinstance(v, int | float) and not isinstance(v, bool) and v >= 0 for v in values)


def draw_all(sweep: Sweep, rows: list[Row], out: str | Path) -> dict[str, Path]:
    """Draws every figure for which there are rows, as PNG and PDF in ``out/figures``; same rows, same bytes.

    Next to each are ``NAME.json``, its data for a page, and ``NAME-column.pdf``, the same for a single column of one.

    Returns:
      Paths of the wide PNG files by name, in the order of the report.
    """
    paths, folder = {}, Path(out) / "figures"
    with house_style():
        for name, figure in _figures(sweep, rows).items():
            paths[name] = save(figure, folder, name)
            save_data(figure, folder, name)
        with single_column():
            for name, figure in _figures(sweep, rows).items():
                save_pdf(figure, folder, f"{name}-column")
    return paths


def _figures(sweep: Sweep, rows: list[Row]) -> dict[str, Figure]:
    """Those for which there are rows."""
    look, exact = look_of(sweep), look_of(sweep, exact=True)
    assert look is not None
    drawn = {
        "interface": _interface(rows, exact),
        "spread": _spread(rows, look),
        "approximation": _approximation(rows, exact),
        "residual": _single(rows, look, "residual", r"T3+ or T3$^{1/2}$", "average iterate, constant step", RMSE),
        "total": _single(rows, look, "total", "T4", "total error", r"RMSE to $Q^{\star}$ (reward units)"),
        "checks": _checks(rows),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _theory(rows: list[Row], look: Look, series: str, field: Field, label: str) -> list[Curve]:
    """A line for each group in its colour; the first one is named for all."""
    out: list[Curve] = []
    for value, (colour, _) in zip(look.values, LOOKS, strict=False):
        colour = colour if len(look.values) > 1 else BLUE
        out += line(look.rows(rows, series, value), field, "" if out else label, colour)
    return out


def _points(rows: list[Row], look: Look, series: str) -> list[Curve]:
    """The measurements of each group, side by side where they share an abscissa."""
    groups = [look.rows(rows, series, value) for value in look.values]
    places = sorted({row.x for group in groups for row in group if row.x > ROUNDING})
    shown = [places[int(index)] for index in thinned(np.arange(len(places)), CROWDED)]
    groups = [[row for row in group if row.holds == 0 or row.x <= ROUNDING or row.x in shown] for group in groups]
    steps = np.diff(np.log(shown))
    apart = min(0.16 * float(steps.min()) if len(steps) else 0.1, 0.1 * max(float(steps.sum()), 0.4))
    out: list[Curve] = []
    for place, group in enumerate(groups):
        colour, marker = LOOKS[place]
        aside = math.exp(apart * (place - (len(groups) - 1) / 2) / max(len(groups) - 1, 1) * 2 / 3)
        for curve in measured(group, "", colour, marker):
            out.insert(0, dataclasses.replace(curve, x=curve.x * aside))
    return out


def _panel(title: str, look: Look, y_label: str, curves: list[Curve]) -> Panel:
    """A panel whose ticks are the values of the axis, where it is one of the model's."""
    values = sorted({float(cell.coordinates[look.x]) for cell in look.cells.values()} if look.x != SAMPLES else ())
    few = 0 < len(values) <= CROWDED and all(len(value_text(value)) <= LONGEST for value in values)
    return Panel(title, look.x_label, y_label, curves, values if few else False)


def _side_by_side(panels: list[Panel], entries: list[Entry], height: float = 2.8) -> Figure | None:
    """The panels with measurements, one over one column of a page, more over both; None if nothing was measured."""
    panels = [panel for panel in panels if any(curve.kind == "measured" for curve in panel.curves)]
    return compose(panels, len(panels), COLUMN_WIDTH if len(panels) == 1 else FULL_WIDTH, height, entries)


def _single(rows: list[Row], look: Look, series: str, bound: str, title: str, y_label: str) -> Figure | None:
    """Measurements of one series against its bound."""
    curves = [*_theory(rows, look, series, "bound", bound), *_points(rows, look, series)]
    return _side_by_side([_panel(title + _at(look), look, y_label, curves)], look.entries(rows, series))


def _at(look: Look) -> str:
    return "" if look.samples is None else f", $K={look.samples}$"


def _spread(rows: list[Row], look: Look) -> Figure | None:
    """Spread of the tail average against the central limit, and its bias."""
    theory = _theory(rows, look, "spread", "prediction", "P2")
    without: list[Curve] = []
    for value in look.values:
        here = look.rows(rows, "spread", value)
        other = line(here, "alternative", "" if without else "without Poisson terms", GREY)
        # Where the memory of the chain does not matter, one line says both.
        without += [] if same_line(line(here, "prediction"), other, tolerance=0.02) else other
    left = _panel("tail average" + _at(look), look, SPREAD, [*without, *theory, *_points(rows, look, "spread")])
    right = _panel("its bias" + _at(look), look, BIAS, _points(rows, look, "bias"))
    return _side_by_side([left, right], look.entries(rows, "spread"))


def _approximation(rows: list[Row], look: Look | None) -> Figure | None:
    """Where IC-Q with the cell's function class converges, against T2."""
    if look is None:
        return None
    y_label = r"$\|Q_m - Q_\phi\|_d$ (reward units)"
    look = dataclasses.replace(look, samples=None)
    return _single(rows, look, "approximation", "T2", "where IC-Q converges", y_label)


def _interface(rows: list[Row], look: Look | None) -> Figure | None:
    """The exact gap against T1, with its sharper forms where there is one group, and the policy loss against T1.3."""
    if look is None:
        return None
    look = dataclasses.replace(look, samples=None)
    if look.group == WIDTH:  # no function class enters
        cells = {name: cell for name, cell in look.cells.items() if cell.width == look.values[0]}
        look = dataclasses.replace(look, group=None, values=(None,), cells=cells)
    bounds = _theory(rows, look, "gap", "bound", "T1")
    if len(look.values) == 1:
        forms = (("gap", "T1", VERMILLION), ("gap_mass_span", "T1.2", ORANGE), ("gap_value_aware", "T1.1", PURPLE))
        found = [(look.rows(rows, series, look.values[0]), label, colour) for series, label, colour in forms]
        bounds = [curve for here, label, colour in found for curve in line(here, "bound", label, colour)]
    gap = r"$\|Q_\phi - Q^{\star}\|_\infty$ (reward units)"
    losses = [*_theory(rows, look, "policy_loss", "bound", "T1.3"), *_points(rows, look, "policy_loss")]
    left = _panel("what the interface hides", look, gap, [*bounds, *_points(rows, look, "gap")])
    right = _panel("what acting on it costs", look, "policy loss (reward units)", losses)
    return _side_by_side([left, right], look.entries(rows, "gap"))


def _checks(rows: list[Row]) -> Figure | None:
    """Measured value against its own bound in every row of every cell that has one."""
    checked = [dataclasses.replace(row, x=row.bound) for row in rows if row.holds >= 0 and math.isfinite(row.measured)]
    if not any(row.bound > ROUNDING * row.scale for row in checked):
        return None
    curves = line([row for row in checked if row.bound > ROUNDING * row.scale], "bound", "measured = bound", GREY)
    entries = []
    for term in reversed(TERMS):  # residuals lie next to totals, and on top of them
        here = [row for row in checked if row.term == term]
        points = [dataclasses.replace(row, ci_low=row.measured, ci_high=row.measured) for row in here]
        curves += measured(points, "", TERM_COLOUR[term], TERM_MARKER[term])
        entries += [Entry(term, TERM_COLOUR[term], TERM_MARKER[term])] if here else []
    panel = Panel("every check of every cell", "bound (reward units)", "measured (reward units)", curves)
    figure = _side_by_side([panel], entries, 3.1)
    if figure is not None and len(checked) > MANY:
        for artist in figure.axes[0].lines:  # or the PDF would hold every one of them
            artist.set_rasterized(True)
    return figure
