"""Figures of a sweep: which rows they show, which marks carry the groups, and what is said about the rest."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from bound_validation.results import Row, checked
from bound_validation.sweep.definition import Cell, Figure, Sweep
from bound_validation.sweep.figure import LOOKS, _checks, _interface, _single, draw_all, look_of
from icsmdp_jax.drawing import style
from icsmdp_jax.drawing.style import house_style
from tests.bound_validation.sweep.small import exact


def rows_of(sweep: Sweep) -> list[Row]:
    """Made-up rows of every series in every cell."""

    def row(cell: Cell, index: int, series: str, term: str, samples: int) -> Row:
        value = (0.1 + 0.05 * index) / (1 + samples / 500)
        return checked(Row(
            axis="sweep", cell=cell.id, series=series, term=term, x_name="", x=0.0, measured=value, samples=samples,
            ci_low=0.9 * value, ci_high=1.2 * value, bound=4 * value if term else float("nan"),
            prediction=value if series == "spread" else float("nan"), alternative=0.8 * value, replicas=4,
        ))  # fmt: skip

    names = [("spread", ""), ("bias", ""), ("residual", "residual"), ("total", "total")]
    exact_names = [("gap", "interface"), ("policy_loss", "interface"), ("approximation", "approximation")]
    return [
        row(cell, index, series, term, samples)
        for index, cell in enumerate(sweep.cells())
        for series, term, counts in [(*n, (400, 800)) for n in names] + [(*n, (0,)) for n in exact_names]
        for samples in counts
    ]


AXES = {"stakes": (0.0, 1.0, 2.0), "accuracy": (0.6, 0.7, 0.8), "effort": (4.0, 8.0)}


def test_curves_show_the_chosen_cells_and_name_what_stands_still():
    sweep = exact(axes=AXES)
    look = look_of(sweep)
    assert look is not None and (look.x, look.group, look.values) == ("stakes", "accuracy", (0.6, 0.7, 0.8))
    assert look.still == {"effort": 4.0} and look.samples == 800
    assert look.x_label == "stakes\nat effort = 4"
    found = look.rows(rows_of(sweep), "residual", 0.7)
    assert [(row.x, row.samples) for row in found] == [(0.0, 800), (1.0, 800), (2.0, 800)]
    assert all("accuracy=0.7,effort=4" in row.cell for row in found)
    other = look_of(exact(axes=AXES, figure=Figure(at={"effort": 8.0, "learner.samples": 400})))
    assert other is not None
    assert {(row.samples, row.cell[-8:]) for row in other.rows(rows_of(sweep), "residual", 0.6)} == {(400, "effort=8")}


def test_handoffs_as_abscissa():
    sweep = exact(axes=AXES, figure=Figure(x="learner.samples", group="effort"))
    look, still = look_of(sweep), look_of(sweep, exact=True)
    assert look is not None and still is not None
    assert [row.x for row in look.rows(rows_of(sweep), "residual", 4.0)] == [400.0, 800.0]
    assert (still.x, still.group) == ("stakes", "effort")  # exact terms do not depend on handoffs
    lonely = exact(axes={"stakes": (1.0,)})
    assert lonely.figure.x == "learner.samples" and look_of(lonely, exact=True) is None


def test_more_groups_than_markers_are_thinned():
    sweep = exact(axes={"stakes": (0.0, 1.0), "accuracy": tuple(0.5 + 0.02 * i for i in range(20))})
    look = look_of(sweep)
    assert look is not None and len(look.values) <= len(LOOKS)
    assert look.values[-1] == sweep.axes["accuracy"][-1]


def legend_texts(figure) -> set[str]:
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    return {text.get_text() for legend in legends for text in legend.get_texts()}


def test_theory_lines_are_named_and_styled_apart():
    sweep = exact(axes={"stakes": (0.5, 1.0, 2.0)})
    look = look_of(sweep, exact=True)
    with house_style():
        figure = _interface(rows_of(sweep), look)
        residual = _single(rows_of(sweep), look_of(sweep), "residual", "T3", "title", "label")
    assert figure is not None and residual is not None
    assert legend_texts(figure) == {"T1", "T1.3"} and legend_texts(residual) == {"T3"}
    (axes,) = residual.axes
    assert axes.get_title(loc="left") == "title, $K=800$", "a lone panel has no letter"
    assert axes.get_xlabel() and axes.get_ylabel() == "label"
    rows = look_of(sweep).rows(rows_of(sweep), "residual")
    (line,) = [line for line in axes.lines if line.get_linestyle() != "None"]
    (points,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert line.get_marker() == "None" and points.get_linestyle() == "None"
    assert line.get_xydata().tolist() == [[row.x, row.bound] for row in rows]
    assert points.get_xydata().tolist() == [[row.x, row.measured] for row in rows]


def test_groups_stand_side_by_side_with_a_line_each_in_their_colour():
    sweep = exact(axes={"stakes": (0.5, 1.0, 2.0), "accuracy": (0.6, 0.7, 0.8)})
    with house_style():
        figure = _single(rows_of(sweep), look_of(sweep), "total", "T4", "title", "label")
    (axes,) = figure.axes
    lines = [line for line in axes.lines if line.get_linestyle() != "None"]
    points = [line for line in axes.lines if line.get_marker() in ("o", "s", "D")][::-1]
    assert [line.get_color() for line in lines] == [point.get_color() for point in points]
    places = np.array([point.get_xdata() for point in points])
    assert (np.diff(places, axis=0) > 0).all() and np.abs(np.log(places / [0.5, 1.0, 2.0])).max() < 0.15
    assert legend_texts(figure) == {"T4"}, "one entry for the lines of all groups"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["accuracy = 0.6", "0.7", "0.8"]
    assert list(axes.get_xticks()) == [0.5, 1.0, 2.0]


def test_checks_show_every_row_with_a_bound_and_violations_in_red():
    sweep = exact(axes=AXES)
    rows = rows_of(sweep)
    broken = checked(dataclasses.replace(rows[4], term="residual", bound=rows[4].measured / 2))
    with house_style():
        whole, failed = _checks(rows), _checks([*rows, broken])
    assert whole is not None and failed is not None
    shown = sum(len(line.get_xdata()) for line in whole.axes[0].lines if line.get_marker() in "osD^")
    assert shown == sum(row.holds >= 0 for row in rows)
    assert any(text.get_text() == "bound violated" for text in failed.legends[-1].get_texts())
    assert _checks([]) is None


@pytest.mark.slow
def test_figures_of_what_there_is_and_the_same_bytes_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "DPI", 50)
    sweep = exact(axes={"stakes": (0.5, 1.0)})
    rows = [row for row in rows_of(sweep) if row.series in ("approximation", "total")]
    first, second = (draw_all(sweep, rows, tmp_path / name) for name in ("a", "b"))
    assert list(first) == ["approximation", "total", "checks"]
    for name in first:
        assert first[name].read_bytes() == second[name].read_bytes()
        column = first[name].with_name(f"{name}-column.pdf").read_bytes()
        assert float(re.findall(rb"/MediaBox \[ *0 +0 +([0-9.]+)", column)[0]) <= style.COLUMN_WIDTH * 72
        assert first[name].with_suffix(".pdf").read_bytes() == second[name].with_suffix(".pdf").read_bytes()


@pytest.mark.parametrize("wanted", ["x_label", "group"])
def test_labels_of_the_user_are_used(wanted):
    sweep = exact(axes=AXES, figure=Figure(labels={"stakes": "$s$ (cost)", "accuracy": "$a$"}))
    look = look_of(sweep)
    assert look is not None
    if wanted == "x_label":
        assert look.x_label.startswith("$s$ (cost)")
    else:
        assert [entry.name for entry in look.entries(rows_of(sweep), "gap")] == ["$a$ = 0.6", "0.7", "0.8"]
