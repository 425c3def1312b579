"""The data behind figures: what was drawn, under the names of the legend, and nothing that is markup."""

from __future__ import annotations

import json

import numpy as np
import pytest

from icsmdp_jax.drawing import style
from icsmdp_jax.drawing.interactive import describe, save_data, text, trace


def panels(figure, folder) -> dict:
    save_data(figure, folder, "one")
    return json.loads((folder / "one.json").read_text())


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("plain", "plain"),
        (r"$\|Q_m - Q_\phi\|_d$", "‖Q<sub>m</sub> − Q<sub>φ</sub>‖<sub>d</sub>"),
        (r"T3+$^{1/2}$", "T3+<sup>1/2</sup>"),
        (r"$\bf{(a)}$ shares", "<b>(a)</b> shares"),
        (r"$10^{-3}$", "10<sup>−3</sup>"),
        (r"$\mathdefault{100}$", "100"),
        ("two\nlines", "two<br>lines"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("$<b>_&$", "&lt;b&gt;<sub>&amp;</sub>"),
    ],
)
def test_labels_become_html_that_holds_no_markup_of_theirs(label, shown):
    assert text(label) == shown


def test_what_matplotlib_drew_is_read_off(tmp_path):
    x, y = np.array([1.0, 10.0, 100.0]), np.array([0.5, 0.25, 1 / 3])
    with style.house_style():
        figure = style.new_figure(3, 2)
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.plot(x, y, color=style.BLUE, linestyle="--", label="mean")
        axes.fill_between(x, y - 0.1, y + 0.1, color=style.BLUE, alpha=0.2)
        axes.errorbar(x, 2 * y, yerr=[y / 2, y], color=style.GREEN, marker="s", linestyle="none", label="runs")
        axes.axhline(0.125, color="black")
        axes.legend()
        found = panels(figure, tmp_path)
    assert found["complete"]
    (panel,) = found["panels"]
    by_mode = {(one["name"], one["mode"]): one for one in panel["data"]}
    assert set(by_mode) == {("mean", "lines"), ("mean", "none"), ("runs", "markers")}
    mean, runs = by_mode["mean", "lines"], by_mode["runs", "markers"]
    assert mean["x"] == x.tolist() and np.allclose(mean["y"], y, rtol=1e-6)
    assert mean["line"]["dash"].endswith("px") and mean["line"]["color"] == style.BLUE.lower()
    assert runs["marker"]["symbol"] == "square"
    assert np.allclose(runs["error_y"]["array"], y, rtol=1e-6)
    assert np.allclose(runs["error_y"]["arrayminus"], y / 2, rtol=1e-6)
    (level,) = panel["layout"]["shapes"]
    assert (level["xref"], level["y0"], level["y1"]) == ("x domain", 0.125, 0.125)
    assert panel["layout"]["xaxis"]["type"] == "log" and panel["layout"]["yaxis"]["type"] == "linear"


def test_an_axis_that_shows_0_says_where_it_is_linear(tmp_path):
    with style.house_style():
        figure = style.new_figure(3, 2)
        axes = figure.subplots()
        axes.plot([0.0, 0.1, 1.0], [1, 2, 3])
        axes.set_xscale("symlog", linthresh=0.1, linscale=0.45)
        found = panels(figure, tmp_path)["panels"][0]["layout"]
        place = axes.xaxis.get_transform().transform(np.array([0.0, 0.1, 1.0]))
    meta = found["meta"]["x"]
    assert meta["linear"] == pytest.approx(0.1)
    assert meta["decades"] == pytest.approx((place[1] - place[0]) / (place[2] - place[1]), rel=1e-6)


def test_a_panel_that_knows_its_series_is_asked(tmp_path):
    with style.house_style():
        figure = style.new_figure(3, 2)
        axes = figure.subplots()
        axes.plot([1], [1])
        describe(axes, lambda: [trace("own", [1.0], [float("nan")])])
        (panel,) = panels(figure, tmp_path)["panels"]
    assert panel["data"] == [{"type": "scatter", "name": "own", "x": [1.0], "y": [None]}]


def test_what_cannot_be_read_off_stays_a_picture(tmp_path):
    with style.house_style():
        figure = style.new_figure(3, 2)
        left, right = figure.subplots(1, 2)
        left.imshow(np.zeros((2, 2)))
        save_data(figure, tmp_path, "none")
        assert not (tmp_path / "none.json").exists()
        right.plot([0, 1], [0, 1])
        found = panels(figure, tmp_path)
    assert not found["complete"] and len(found["panels"]) == 1
    assert found["pictured"] == 1.0  # side by side


def test_a_picture_is_cut_above_the_panels_that_can_be_explored(tmp_path):
    with style.house_style():
        figure = style.new_figure(3, 4)
        upper, lower = figure.subplots(2, 1)
        upper.imshow(np.zeros((2, 2)))
        lower.plot([0, 1], [0, 1])
        lower.set_title("below")
        figure.draw_without_rendering()
        found = panels(figure, tmp_path)
        edges = [1 - lower.title.get_window_extent().y1 / figure.bbox.height, 1 - upper.get_position().y0]
    assert edges[1] < found["pictured"] <= edges[0]
