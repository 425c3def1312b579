"""Figures from rows: all of them, the same bytes again, nothing covered, violations in plain sight."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bound_validation.drawing.curves import fitted, line, measured, same_line
from bound_validation.drawing.scales import log_scale, thinned, ticks_of
from bound_validation.drawing.style import ALARM, DPI, FULL_WIDTH, house_style
from bound_validation.report.figures import NAMES, draw_all
from bound_validation.results import Row
from bound_validation.views import PARTS, Fit, fit_of, normalised, select, shares
from tests.bound_validation.synthetic_rows import full_rows, make_summary, model_rows, uncertified, violated

ROWS = full_rows()
SUMMARY = make_summary(ROWS)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, draw_all(ROWS, SUMMARY, out)


def figure_of(name, rows, summary=SUMMARY):
    module = "report.overview" if name == "overview" else f"axes.{name}.figure"
    with house_style():
        return importlib.import_module(f"bound_validation.{module}").figure(rows, summary)


def alarm_pixels(path: Path) -> int:
    """Number of pixels in the colour of violated bounds."""
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    wanted = np.array([int(ALARM[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(image - wanted).max(axis=-1) <= 2).sum())


def test_every_figure_is_drawn_as_png_and_pdf(drawn):
    out, paths = drawn
    assert tuple(paths) == NAMES
    for name, path in paths.items():
        assert path == out / "figures" / f"{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert Image.open(path).width == FULL_WIDTH * DPI
    assert len(list((out / "figures").iterdir())) == 2 * len(NAMES), "temporary files were left behind"


def test_same_rows_give_the_same_bytes_whatever_the_settings_of_the_user(drawn, tmp_path):
    out, _ = drawn
    before = dict(matplotlib.rcParams)
    some = [row for row in ROWS if row.axis in ("total", "mixing")]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 50}):
        paths = draw_all(some, SUMMARY, tmp_path)
    assert tuple(paths) == ("mixing", "total")
    for name in paths:
        for kind in ("png", "pdf"):
            first, second = (folder / "figures" / f"{name}.{kind}" for folder in (out, tmp_path))
            assert first.read_bytes() == second.read_bytes(), f"{name}.{kind} differs"
    assert dict(matplotlib.rcParams) == before


def test_files_hold_no_date(drawn):
    _, paths = drawn
    for path in paths.values():
        assert b"CreationDate" not in path.with_suffix(".pdf").read_bytes()
        assert not {"Creation Time", "date:create", "Software"} & set(Image.open(path).info)


@pytest.mark.parametrize("axis", ["width", "mixing", "durations", "agents", "returns", "messages"])
def test_a_single_axis_is_enough(axis):
    rows = [row for row in ROWS if row.axis == axis]
    others = {"width", "gap", "samples", "mixing", "durations", "total", "agents", "returns", "messages"} - {axis}
    assert figure_of(axis, rows, {}) is not None
    assert all(figure_of(other, rows, {}) is None for other in others)
    assert (figure_of("overview", rows, {}) is None) == (axis != "width")


def test_no_rows_give_no_figures(tmp_path):
    assert draw_all([], {}, tmp_path) == {}
    assert not list(tmp_path.iterdir())


def test_one_point_per_series_is_enough():
    rows = [row for row in ROWS if row.x in (4, 1000, 0.05, 2, 0.5)]
    for name in ("overview", "gap", "total"):
        assert figure_of(name, rows) is not None


def test_missing_numbers_are_left_out():
    rows = [Row("width", "width/0", "projection", "features per agent", 4.0, math.nan, bound=1.0, holds=0)]
    rows += [row for row in ROWS if row.axis == "width"]
    infinite = Row("samples", "samples/0", "constant_step", "handoffs", 1e3, 0.3, bound=math.inf, group="tabular")
    assert figure_of("width", rows) is not None
    assert figure_of("samples", [infinite], {}) is not None
    assert line([infinite], "bound") == []


def test_a_given_model_has_overview_and_samples(tmp_path):
    rows = model_rows()
    paths = draw_all(violated(rows, "policy_loss"), make_summary(rows, model="mine.npz"), tmp_path)
    assert tuple(paths) == ("overview", "samples")
    assert alarm_pixels(paths["overview"]) > 100


@pytest.mark.parametrize("name", ["width", "gap"])
def test_violations_are_marked_in_red(name, drawn, tmp_path):
    series = {"width": "fixed_point", "gap": "gap_value_aware"}[name]
    rows = violated([row for row in ROWS if row.axis == name], series)
    assert alarm_pixels(drawn[1][name]) == 0
    with house_style():
        figure = importlib.import_module(f"bound_validation.axes.{name}.figure").figure(rows, SUMMARY)
        figure.savefig(tmp_path / "figure.png", dpi=DPI)
    assert alarm_pixels(tmp_path / "figure.png") > 200  # the cross and the one that explains it
    assert "bound violated" in legend_texts(figure)


def legend_texts(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_uncertified_cells_are_hollow_and_explained():
    clean = figure_of("width", ROWS)
    marked = figure_of("width", uncertified(ROWS, "width"))
    assert "A6 not certified" not in legend_texts(clean)
    assert "A6 not certified" in legend_texts(marked)
    curves = {
        name: measured(select(uncertified(ROWS, "width"), "width", name))[0] for name in ("projection", "fixed_point")
    }
    assert curves["projection"].certified.all(), "T2.1 for the projection does not need A6"
    assert not curves["fixed_point"].certified.any()


@pytest.mark.parametrize(
    "name", ["overview", "gap", "samples", "mixing", "durations", "total", "agents", "returns", "messages"]
)
def test_labels_cover_no_measured_point_and_no_other_label(name):
    figure = figure_of(name, ROWS)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        texts = [text for text in axes.texts if text.get_fontsize() == 7.6]
        boxes = [text.get_window_extent(renderer) for text in texts]
        points = [
            axes.transData.transform(drawn_line.get_xydata())
            for drawn_line in axes.lines
            if drawn_line.get_marker() in tuple("osD^vP+") and drawn_line.get_transform() == axes.transData
        ]
        for i, box in enumerate(boxes):
            assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, f"{texts[i].get_text()} leaves the figure"
            for x, y in np.concatenate(points):
                assert not (box.x0 < x < box.x1 and box.y0 < y < box.y1), f"{texts[i].get_text()} covers a point"
            for j in range(i):
                apart = box.x1 <= boxes[j].x0 or boxes[j].x1 <= box.x0 or box.y1 <= boxes[j].y0 or boxes[j].y1 <= box.y0
                assert apart, f"{texts[i].get_text()} on {texts[j].get_text()}"


def test_zero_has_its_own_place_left_of_the_break():
    scale = log_scale(np.array([0.0, 5e-16, 0.02, 0.8]))
    assert scale.zero is not None and scale.zero < scale.low == 0.02
    np.testing.assert_array_equal(scale.place(np.array([0.0, 0.05])), [scale.zero, 0.05])
    assert log_scale(np.array([0.02, 0.8])).zero is None
    axes = figure_of("gap", ROWS).axes[0]
    assert axes.get_xticklabels()[0].get_text() == "0" and axes.get_yticklabels()[0].get_text() == "0"


@settings(deadline=None, max_examples=300)
@given(st.floats(-8, 8), st.floats(0.05, 9))
def test_ticks_are_few_round_and_inside(power, decades):
    low, high = 10.0**power, 10.0 ** (power + decades)
    major, minor = ticks_of(low, high)
    assert 1 <= len(major) <= 9 and major == sorted(major)
    assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in major + minor)
    assert all(float(f"{tick:.3g}") == pytest.approx(tick) for tick in major), "a tick that is not round"
    if decades >= 1:
        assert len(major) >= 2


def test_thinned_keeps_the_ends():
    values = np.arange(20.0)
    assert len(thinned(values)) <= 7 and thinned(values)[-1] == 19.0
    assert thinned(np.array([3.0, 1.0, 3.0])) == [1.0, 3.0]


def test_fit_goes_through_the_data_with_its_slope():
    rows = [Row("width", "", "projection", "m", m, 3.0 * m**-0.7) for m in (2.0, 8.0, 32.0)]
    (curve,) = fitted(rows, Fit(-0.7, -0.75, -0.65))
    np.testing.assert_allclose(curve.y, 3.0 * curve.x**-0.7)
    assert curve.label == "slope \N{MINUS SIGN}0.70 [\N{MINUS SIGN}0.75, \N{MINUS SIGN}0.65]"
    assert fitted(rows[:1], Fit(-0.7, -0.75, -0.65)) == [] and fitted(rows, None) == []
    assert fit_of({"slopes": {"gap": {"slope": None}}}, "gap") is None
    assert math.isnan(fit_of({"slopes": {"gap": {"slope": 1.0, "ci_low": None, "ci_high": None}}}, "gap").low)


def test_same_line_needs_agreement_everywhere():
    first = line([Row("w", "", "s", "m", x, 1.0, bound=2.0 / x) for x in (1.0, 2.0)], "bound")
    second = line([Row("w", "", "s", "m", x, 1.0, prediction=2.0 / x) for x in (1.0, 2.0)], "prediction")
    longer = line([Row("w", "", "s", "m", x, 1.0, prediction=2.0 / x) for x in (1.0, 2.0, 3.0)], "prediction")
    assert same_line(first, second) and not same_line(first, longer) and not same_line(first, [])


def test_shares_sum_to_one_and_name_the_largest():
    cells = shares(ROWS)
    assert len(cells) == 36
    for cell in cells:
        assert sum(normalised(cell.measured)) == pytest.approx(1.0)
        assert cell.measured[PARTS.index(cell.dominant)] == max(cell.measured)
    closed = [cell for cell in cells if cell.gap == 0]
    assert all(cell.measured[2] == 0 for cell in closed), "rounding noise owns no share"
    assert {cell.dominant_bound for cell in shares(uncertified(ROWS, "total"))} == {None}
    assert all(math.isnan(share) for share in normalised((0.0, 0.0, 0.0)))


def test_no_interactive_backend_is_loaded():
    code = (
        "import sys, bound_validation.report.figures as f; early = 'matplotlib' in sys.modules;"
        "f.draw_all([], {}, '.'); print(early, 'matplotlib.pyplot' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
