"""Figures from rows: the numbers of the table, theory and measurement told apart, nothing covered, nothing dropped."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pickle
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

from bound_validation.drawing.curves import draw, line, measured
from bound_validation.drawing.panels import dress
from bound_validation.drawing.style import ALARM, ARROW, CROSSED, HOLLOW, LINE
from bound_validation.report import figures as figures_module
from bound_validation.report import overview
from bound_validation.report.figures import NAMES, draw_all
from bound_validation.results import Row
from bound_validation.views import normalised, select, shares
from icsmdp_jax.drawing import interactive, style
from icsmdp_jax.runs.worker import Unable, Worker
from tests.bound_validation.synthetic_rows import full_rows, make_summary, model_rows, uncertified, violated

ROWS = [row for row in full_rows() if row.axis != "total" or (row.width != 2 and row.gap != 0.1)]
SUMMARY = make_summary(ROWS)
# axis, index of the panel, series, group: what is drawn as points with intervals, and lines of theory beside them
PANELS = [
    ("width", 0, "approximant", None), ("width", 0, "projection", None), ("width", 1, "fixed_point", None),
    ("gap", 0, "gap", None), ("gap", 0, "gap_value_aware", None), ("gap", 1, "policy_loss", None),
    ("gap", 2, "icq_error", None), ("gap", 3, "sharp_family", None),
    ("samples", 0, "spread", "tabular"), ("samples", 0, "bias", "tabular"), ("samples", 1, "rmse", "linear, m = 16"),
    ("samples", 2, "constant_plain", "tabular, 3 agents"), ("samples", 2, "harmonic_plain", "tabular, 3 agents"),
    ("samples", 3, "polynomial_plain", "linear, m = 2, 3 agents"),
    ("samples", 4, "constant_step", "tabular, 8 agents"), ("samples", 5, "decaying_step", "linear, m = 2, 8 agents"),
    ("overview", 2, "constant_plain", "tabular, 3 agents"),
    ("mixing", 0, "spread", None), ("mixing", 1, "constant_step", None),
    ("durations", 0, "amplification", None), ("durations", 1, "contraction", None),
    ("durations", 2, "planted_ratio", None),
    ("agents", 0, "gap", None), ("agents", 1, "spread", None), ("agents", 2, "constant_step", None),
    ("audit", 0, "error", "gap closed"), ("audit", 3, "miss_batch_means", "slow mixing"),
    ("returns", 2, "gap_loss", None), ("messages", 7, "shift", "nearest"), ("messages", 8, "shift", "high, clipped"),
    ("neural", 3, "linearisation_seen", "gap closed"), ("neural", 4, "floor", None),
    ("neural", 4, "frobenius_floor", None),
]  # fmt: skip


def figure_of(name, rows, summary=SUMMARY):
    module = overview if name == "overview" else importlib.import_module(f"bound_validation.axes.{name}.figure")
    with style.house_style():
        return module.figure(rows, summary)


@pytest.fixture(scope="module")
def figures():
    """All figures by name, wide and for a column, as ``draw_all`` would save them; the wide ones are laid out."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", lambda figure, folder, name: found.setdefault(name, figure) and folder / name)
        patch.setattr(style, "save_pdf", lambda figure, folder, name: found.setdefault(name, figure))
        patch.setattr(interactive, "save_data", lambda figure, folder, name: None)
        draw_all(ROWS, SUMMARY, "nowhere")
    with style.house_style():
        for name in NAMES:
            found[name].draw_without_rendering()
    return found


def test_every_axis_has_its_figure_in_the_order_of_the_report(figures):
    assert tuple(figures) == tuple(f"{name}{kind}" for name in NAMES for kind in ("", "-column")) and len(NAMES) == 12
    for name in NAMES:
        assert figures[name].get_figwidth() == style.FULL_WIDTH
        assert figures[f"{name}-column"].get_figwidth() == style.COLUMN_WIDTH
        for column, wide in zip(panels_of(figures[f"{name}-column"]), panels_of(figures[name]), strict=True):
            assert len(column.patches) == len(wide.patches) and len(column.lines) == len(wide.lines)
            if wide.lines:
                assert sorted(map(tuple, marks(column))) == sorted(map(tuple, marks(wide))), "another figure"


def panels_of(figure):
    return [axes for axes in figure.axes if axes.axison]


def marks(axes):
    """``[n, 2]`` places of all markers, without crosses and without the ends of intervals."""
    return np.concatenate([drawn.get_xydata() for drawn in axes.lines if drawn.get_marker() not in ("None", "x", "_")])


def corners(axes):
    """``[n, 2]`` corners of all lines, and the places of the short strokes that stand for lone points."""
    found = [drawn.get_xydata() for drawn in axes.lines if drawn.get_linestyle() != "None"]
    strokes = [drawn for drawn in axes.lines if drawn.get_linestyle() != "None" and list(drawn.get_xdata()) == [-7, 7]]
    places = [axes.transData.inverted().transform(drawn.get_transform().transform([(0, 0)])) for drawn in strokes]
    return np.concatenate([*found, *places])


def holds(points, x, y):
    return bool((np.isclose(points[:, 0], x, atol=1e-9) & np.isclose(points[:, 1], y, rtol=1e-6, atol=1e-9)).any())


def legend_texts(figure):
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


@pytest.mark.parametrize(("axis", "index", "series", "group"), PANELS)
def test_the_numbers_of_the_table_are_drawn(figures, axis, index, series, group):
    axes = panels_of(figures[axis])[index]
    rows = select(ROWS, "samples" if axis == "overview" else axis, series, group)
    assert rows
    points, theory = marks(axes), corners(axes)
    bars = [path.vertices for bundle in axes.collections for path in bundle.get_paths()]
    for row in rows:
        arrow = row.measured <= 1e-9 < row.ci_high
        assert holds(points, row.x, row.ci_high if arrow else row.measured), f"{row.cell}: not drawn"
        if row.ci_high - row.ci_low > 1e-6 * row.measured and not arrow:
            ends = np.array([[row.x, row.ci_low], [row.x, row.ci_high]])
            assert any(np.allclose(bar, ends) for bar in bars), f"{row.cell}: no interval"
        smooth = series == "sharp_family"  # its prediction is drawn as a curve that need not meet every point
        for value in (row.bound, row.alternative, math.nan if smooth else row.prediction):
            assert math.isnan(value) or holds(theory, row.x, value), f"{row.cell}: {value} is on no line"


def test_the_shares_and_returns_of_the_table_are_drawn(figures):
    cells = shares(ROWS)
    bars = [[bar for bar in axes.patches if bar.get_height() > 0] for axes in figures["total"].axes]
    drawn = sorted(bar.get_height() for panel in bars for bar in panel)
    expected = [part for c in cells for heights in (c.measured, c.bound) for part in normalised(heights) if part > 0]
    np.testing.assert_allclose(drawn, sorted(expected), atol=1e-12)
    letters = [text.get_text() for axes in figures["total"].axes for text in axes.texts]
    largest = [c.dominant[0].upper() for c in cells] + [c.dominant_bound[0].upper() for c in cells]
    assert sorted(letters) == sorted(largest)
    for index, kind in enumerate(("tabular", "mlp")):
        axes = panels_of(figures["returns"])[index]
        rows = [row for row in ROWS if row.series == "return" and f", {kind}," in row.group]
        lost = marks(axes)[:, 0]
        np.testing.assert_allclose(np.sort(lost), np.sort([1 - row.measured for row in rows]), atol=1e-12)
        numbers = [text.get_text() for text in axes.texts]
        assert [f"{i}" for i in range(6)] == numbers[:6]


def test_the_bound_of_nets_is_stacked_beside_the_measurement(figures):
    rows = [row for row in ROWS if row.axis == "neural"]
    parts = ("part_sampling", "part_hidden", "part_linearisation")
    for index, group, name, fixed in ((0, "gap closed", "width", ("samples", 10_000)),
                                      (1, "gap open", "width", ("samples", 10_000)),
                                      (2, "gap closed", "samples", ("width", 1024))):  # fmt: skip
        axes = panels_of(figures["neural"])[index]
        here = [row for row in rows if row.group == group and getattr(row, fixed[0]) == fixed[1]]
        places = sorted({getattr(row, name) for row in here if row.series in parts})
        top = {round(bar.get_x() + bar.get_width() / 2): bar.get_y() + bar.get_height() for bar in axes.patches}
        for place in places:
            found = [row for row in here if getattr(row, name) == place]
            width = found[0].width
            (near,) = [r.bound for r in rows if (r.series, r.group, r.width) == ("approximation", group, width)]
            whole = sum(row.measured for row in found if row.series in parts) + near
            assert top[places.index(place)] == pytest.approx(whole)
            for row in found:
                if row.series == "projected_net":
                    assert holds(marks(axes), places.index(place), row.measured)
                    assert row.bound == pytest.approx(whole - near)
    broken = violated(rows, "projected_net")
    figure = figure_of("neural", broken)
    assert CROSSED in legend_texts(figure)
    assert [d for axes in figure.axes[:3] for d in axes.lines if to_hex(d.get_color()).upper() == ALARM]


def test_a_learner_that_no_number_of_scalars_serves_shares_the_whole_state():
    rows = [row for row in ROWS if row.axis == "returns" and "tabular, central" in row.group]
    rows = [dataclasses.replace(row, measured=math.nan) if row.series == "crossing" else row for row in rows]
    axes = figure_of("returns", rows).axes[0]
    assert [text.get_text() for text in axes.texts][0] == "whole\nstate"


def test_theory_and_measurement_differ_without_colour(figures):
    for name in ("overview", "width", "gap", "samples", "mixing", "durations", "agents", "audit"):
        for axes in panels_of(figures[name]):
            for drawn in axes.lines:
                assert (drawn.get_marker() == "None") != (drawn.get_linestyle() == "None"), f"{name}: both or neither"
    dashes = [(str(look["linestyle"]), look["linewidth"]) for look in LINE.values()]
    assert len({dash for dash, _ in dashes}) == len(LINE)
    residual = panels_of(figures["samples"])[4]
    assert {drawn.get_marker() for drawn in residual.lines} == {"o", "s", "_", "None"}, (
        "two series in one panel have two markers"
    )


def test_the_key_says_what_occurs(figures):
    assert {"bound (theorem)", "fitted slope", ARROW} <= set(legend_texts(figures["samples"]))
    assert {"T3$^{1/2}$", "T3+$^{1/2}$", "B of each", "decaying step"} <= set(legend_texts(figures["samples"]))
    for figure in figures.values():
        assert not {HOLLOW, CROSSED} & set(legend_texts(figure))
        assert not [drawn for axes in figure.axes for drawn in axes.lines if drawn.get_color() == ALARM]


COLUMNS = [pytest.param(f"{name}-column", marks=pytest.mark.slow) for name in NAMES[1:]]


@pytest.mark.parametrize("name", [*NAMES, "overview-column", *COLUMNS])
def test_legends_cover_nothing_and_texts_are_readable(figures, name):
    figure = figures[name]
    if name not in NAMES:
        with style.house_style():
            figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    frames = [axes.get_window_extent() for axes in panels_of(figure)]
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    boxes = [legend.get_window_extent(renderer) for legend in legends]
    assert len(legends) >= 3
    for i, box in enumerate(boxes):
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1
        assert not any(box.overlaps(other) for other in frames + boxes[:i]), "a legend covers data or a legend"
    for axes in panels_of(figure):
        for axis in (axes.xaxis, axes.yaxis):
            label = axis.label.get_window_extent(renderer)
            assert not any(box.overlaps(label) for box in boxes if axis.label.get_text()), "a legend covers a label"
            ticks = [tick.get_window_extent(renderer) for tick in axis.get_ticklabels() if tick.get_text()]
            assert not any(a.overlaps(b) for i, a in enumerate(ticks) for b in ticks[:i]), "ticks overlap"
    sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text() and text.get_visible()}
    assert min(sizes) >= 7.0


def test_violations_are_crossed_out_in_red():
    for name, series in (("width", "fixed_point"), ("gap", "gap_value_aware")):
        rows = violated([row for row in ROWS if row.axis == name], series)
        (broken,) = [row for row in rows if row.holds == 0]
        figure = figure_of(name, rows)
        crosses = [d.get_xydata() for axes in figure.axes for d in axes.lines if to_hex(d.get_color()).upper() == ALARM]
        assert [list(place[0]) for place in crosses] == [[broken.x, broken.measured]]
        assert CROSSED in legend_texts(figure)


def test_uncertified_cells_are_hollow_and_explained():
    rows = uncertified(ROWS, "width")
    assert HOLLOW in legend_texts(figure_of("width", rows))
    curves = {name: measured(select(rows, "width", name))[0] for name in ("projection", "fixed_point")}
    assert curves["projection"].certified.all(), "T2.1 for the projection does not need A6"
    assert not curves["fixed_point"].certified.any()
    with style.house_style():
        axes = style.new_figure(2, 2).subplots()
        draw(axes, curves["fixed_point"])
        draw(axes, curves["projection"])
    assert [d.get_markerfacecolor() for d in axes.lines if d.get_marker() == "o"] == ["white", style.BLACK]


def test_an_estimate_of_zero_is_an_arrow_at_the_upper_end():
    rows = [Row("a", "", "bias", "K", x, y, ci_low=0.0, ci_high=0.5) for x, y in ((1.0, 0.2), (2.0, 0.0))]
    (curve,) = measured(rows)
    axes = style.new_figure(2, 2).subplots()
    draw(axes, curve)
    (arrow,) = [d for d in axes.lines if d.get_marker() == r"$\downarrow$"]
    assert arrow.get_xydata().tolist() == [[2.0, 0.5]]


def test_only_rows_of_an_axis_draw_its_figure():
    for axis in NAMES[1:]:
        rows = [row for row in ROWS if row.axis != axis]
        assert figure_of(axis, rows, {}) is None
    others = [row for row in ROWS if row.axis not in ("width", "gap", "samples", "neural", "total")]
    assert figure_of("overview", others, {}) is None
    assert len(figure_of("overview", [row for row in ROWS if row.axis == "width"], {}).axes) == 1


def test_the_overview_has_a_panel_for_nets_where_there_are_some():
    shared = dict(axis="neural", series="projected_net", x_name="m", measured=0.3, ci_low=0.2, ci_high=0.4, trivial=0.6)
    nets = [Row(cell=f"neural/{m}", x=m, bound=2 / m**0.5, **shared) for m in (16.0, 64.0, 256.0)]
    others = [row for row in ROWS if row.axis != "neural"]
    drawn = [panels_of(figure_of("overview", rows)) for rows in (others, others + nets)]
    titles = [[axes.get_title(loc="left").rpartition(" ")[2] for axes in one] for one in drawn]
    assert titles[0] == ["approximation", "interface", "residual", "total"]
    assert titles[1] == ["approximation", "interface", "residual", "neural", "total"]
    axes = drawn[1][3]
    for row in nets:
        assert holds(marks(axes), row.x, row.measured) and holds(corners(axes), row.x, row.bound)
        assert holds(corners(axes), row.x, row.trivial)


def test_no_rows_give_no_figures(tmp_path):
    assert draw_all([], {}, tmp_path) == {}
    assert not list(tmp_path.iterdir())


def test_one_point_per_series_is_enough():
    rows = [row for row in ROWS if row.x in (4, 1000, 0.05, 0.5)]
    for name in ("gap", "total"):
        assert figure_of(name, rows) is not None


def test_missing_numbers_are_left_out():
    infinite = Row("samples", "samples/0", "constant_step", "handoffs", 1e3, 0.3, bound=math.inf, group="tabular")
    missing = Row("samples", "samples/0", "constant_step", "handoffs", 2e3, math.nan, bound=1.0, group="tabular")
    (axes,) = figure_of("samples", [infinite, missing], {}).axes
    assert marks(axes).tolist() == [[1e3, 0.3]]
    assert line([infinite], "bound") == []


def test_a_given_model_has_overview_and_samples(monkeypatch):
    found = {}
    monkeypatch.setattr(style, "save", lambda figure, folder, name: found.setdefault(name, figure) and folder / name)
    monkeypatch.setattr(style, "save_pdf", lambda figure, folder, name: found.setdefault(name, figure))
    monkeypatch.setattr(interactive, "save_data", lambda figure, folder, name: None)
    rows = violated(model_rows(), "policy_loss")
    draw_all(rows, make_summary(rows, model="mine.npz"), "nowhere")
    assert list(found) == ["overview", "overview-column", "samples", "samples-column"]
    single = found["overview"].axes[0]
    assert [text.get_text() for text in single.get_yticklabels()] == [
        "gap, T1",
        "gap, T1.2",
        "gap, T1.1",
        "policy loss, T1.3",
    ]
    for place, row in enumerate(rows[:2]):
        assert holds(marks(single), row.measured, place) or place
    assert [d.get_xdata()[0] for d in single.lines if d.get_color() == ALARM] == [
        row.measured for row in rows if row.holds == 0
    ]


def test_files_are_the_same_bytes_whatever_the_settings_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "DPI", 50)
    some = [row for row in ROWS if row.axis == "agents"]
    first = draw_all(some, SUMMARY, tmp_path / "a", columns=False)
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 90}):
        second = draw_all(some, SUMMARY, tmp_path / "b", columns=False)
    assert dict(matplotlib.rcParams) == before
    assert list(first) == ["agents"] and len(list((tmp_path / "a" / "figures").iterdir())) == 3
    for name, path in first.items():
        assert path == tmp_path / "a" / "figures" / f"{name}.png" and Image.open(path).width == style.FULL_WIDTH * 50
        for kind in (".png", ".pdf", ".json"):
            assert path.with_suffix(kind).read_bytes() == second[name].with_suffix(kind).read_bytes()
        assert b"CreationDate" not in path.with_suffix(".pdf").read_bytes()
        assert not {"Creation Time", "date:create", "Software"} & set(Image.open(path).info)


class There:
    """A worker that keeps what it is sent, or does nothing, if it is gone."""

    def __init__(self, gone: bool = False) -> None:
        self.gone, self.sent = gone, []

    def call(self, function, progress):
        if self.gone:
            raise Unable
        names, *_ = pickle.loads(pickle.dumps(function)).args
        self.sent += names
        return {name: Path(name) for name in names}


@pytest.mark.parametrize("gone", [False, True])
def test_a_worker_is_sent_every_other_figure(monkeypatch, gone):
    here = []
    monkeypatch.setattr(figures_module, "_draw", lambda names, *_: here.extend(names) or {n: Path(n) for n in names})
    worker = There(gone)
    assert list(draw_all(ROWS, SUMMARY, "nowhere", False, worker)) == list(NAMES)
    assert sorted(here + worker.sent) == sorted(NAMES)
    assert worker.sent == ([] if gone else list(NAMES[1::2]))


def test_a_worker_draws_the_same_bytes(tmp_path, monkeypatch):
    some = [row for row in ROWS if row.axis == NAMES[7]]
    draw_all(some, SUMMARY, tmp_path / "here", False)
    monkeypatch.setattr(style, "save", None)  # not drawn here again
    worker = Worker()
    try:
        paths = draw_all(some, SUMMARY, tmp_path / "there", False, worker)
    finally:
        worker.end()
    assert paths == {NAMES[7]: tmp_path / "there" / "figures" / f"{NAMES[7]}.png"}
    for kind in (".png", ".pdf", ".json"):
        drawn = paths[NAMES[7]].with_suffix(kind)
        assert drawn.read_bytes() == (tmp_path / "here" / "figures" / drawn.name).read_bytes()


def test_places_of_panels_are_rounded(tmp_path):
    """The solver behind them is not exactly reproducible, and shades of pixels would not be either."""
    figure = figure_of("total", ROWS)
    with style.house_style():
        style.save(figure, tmp_path, "total")
    corners = [axes.get_position(original=True).get_points() for axes in figure.axes]
    corners += [part.bbox_relative.get_points() for part in figure.subfigs]
    assert len(figure.subfigs) > 0 and len({corner.tobytes() for corner in corners}) > 4
    for corner in corners:
        np.testing.assert_array_equal(corner, corner.round(style.PLACES))


def test_an_axis_with_zero_shows_it_and_is_logarithmic_beyond_its_smallest_value(figures):
    axes = panels_of(figures["gap"])[0]
    assert axes.get_xscale() == axes.get_yscale() == "symlog"
    assert axes.get_xticklabels()[0].get_text() == axes.get_yticklabels()[0].get_text() == "0"
    etas = np.array([0.0, 0.02, 0.2, 0.8])
    assert axes.xaxis.get_transform().linthresh == 0.02
    at = axes.transData.transform(np.column_stack([etas, etas]))[:, 0]
    assert np.diff(at)[2] / np.diff(at)[1] == pytest.approx(math.log(4) / math.log(10))
    for other in (axes, panels_of(figures["returns"])[2]):
        low, high = other.get_ylim()
        assert all(low <= y <= high for _, y in marks(other)), "a point outside the axes"
    assert panels_of(figures["width"])[0].get_yscale() == "log"


def test_negative_ends_are_shown_where_zero_is():
    rows = [Row("a", "", "loss", "eta", x, y, ci_low=y - 0.2, ci_high=y + 0.2) for x, y in ((0.0, 0.0), (0.1, 0.1))]
    axes = style.new_figure(2, 2).subplots()
    dress(axes, "y", np.array([0.0, 0.1, 0.3, -0.1]))
    assert axes.get_ylim()[0] < -0.1 and measured(rows)[0].low.min() == -0.2


def test_no_interactive_backend_is_loaded():
    code = (
        "import sys, bound_validation.report.figures as f; early = 'matplotlib' in sys.modules;"
        "f.draw_all([], {}, '.'); print(early, 'matplotlib.pyplot' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
