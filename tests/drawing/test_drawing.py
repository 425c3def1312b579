"""Figures of runs: what is drawn is what was given, nothing is covered, and the same input gives the same bytes."""

from __future__ import annotations

import math
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, PathPatch, Polygon
from PIL import Image

from icsmdp_jax.drawing import style
from icsmdp_jax.drawing.circle import Nodes, arrows_of, circle_order, curve, ports, spread_angles
from icsmdp_jax.drawing.handoffs import duration_text, handoff_figure, percent_text
from icsmdp_jax.drawing.training import (
    LOOKS,
    MARKERS,
    AgentRecord,
    Curve,
    agent_figure,
    return_figure,
)
from icsmdp_jax.learner.diagnostics import HandoffGraph, handoff_graph


def some_graph(agents: int, seed: int = 0, filled: float = 1.0, ends: bool = False) -> HandoffGraph:
    """A random handoff graph, as counted over 10 000 segments or so."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 200, size=(agents, agents)) * (rng.random((agents, agents)) < filled)
    counts[np.arange(agents), (np.arange(agents) + 1) % agents] += 20
    durations = counts * rng.uniform(1.0, 30.0, size=(agents, agents))
    return handoff_graph(counts, durations, rng.integers(1, 20, size=agents) if ends else None)


GRAPHS = {
    "three": (some_graph(3), None),
    "ten dense": (some_graph(10, seed=1), None),
    "ten sparse": (some_graph(10, seed=2, filled=0.1), None),
    "named": (some_graph(4, seed=3, ends=True), ["triage", "drafting", "review", "release"]),
    "one": (some_graph(1), None),
    "two": (some_graph(2, ends=True), ["first agent", "second agent"]),
    "rarely acting": (handoff_graph(np.array([[0, 500, 1], [500, 0, 0], [1, 0, 0]]), np.full((3, 3), 1000.0)), None),
}


def figure_of(name: str, **changes):
    graph, names = GRAPHS[name]
    with style.house_style():
        figure = handoff_figure(graph, names, **changes)
    figure.draw_without_rendering()
    return figure


def text_boxes(figure, axes) -> list[tuple[str, np.ndarray]]:
    renderer = figure.canvas.get_renderer()
    return [(t.get_text(), np.asarray(t.get_window_extent(renderer).extents)) for t in axes.texts if t.get_text()]


def stems(figure) -> list[PathPatch]:
    """Stems of the arrows in the order of drawing: the rarest first; white edges are left out."""
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    return [patch for patch in patches if to_rgb(patch.get_edgecolor()) != (1.0, 1.0, 1.0)]


@pytest.mark.parametrize("name", GRAPHS)
def test_no_text_of_a_handoff_graph_covers_another_or_leaves_the_figure(name: str) -> None:
    figure = figure_of(name)
    boxes = text_boxes(figure, figure.axes[0])
    width, height = figure.bbox.width, figure.bbox.height
    for i, (text, box) in enumerate(boxes):
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height, f"{text} leaves the figure"
        for other, taken in boxes[:i]:
            apart = box[2] <= taken[0] or taken[2] <= box[0] or box[3] <= taken[1] or taken[3] <= box[1]
            assert apart, f"{text} on {other}"


@pytest.mark.parametrize("name", ["three", "ten dense", "named"])
def test_arrows_are_as_wide_and_agents_as_large_as_they_should_be(name: str) -> None:
    graph, _ = GRAPHS[name]
    figure, every = figure_of(name), arrows_of(graph)
    drawn = stems(figure)[::-1]
    assert len(drawn) == min(24, len(every))
    rates = np.array([arrow.rate for arrow in every[: len(drawn)]])
    widths = np.array([patch.get_linewidth() for patch in drawn])
    clear = widths > 0.36  # thinner lines would be lost in print
    assert clear.sum() >= 3
    np.testing.assert_allclose(widths[clear] / widths[0], rates[clear] / rates[0], rtol=1e-6)
    shades = [to_rgb(patch.get_edgecolor())[0] for patch in drawn]
    assert shades == sorted(shades) and shades[-1] <= 0.67
    circles = [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]
    areas = np.array([circle.radius**2 for circle in circles])
    np.testing.assert_allclose(areas[:-1] / areas[0], graph.share / graph.share[0], rtol=1e-6)
    key = next(t.get_text() for t in figure.axes[0].texts if "of decisions" in t.get_text())
    wanted = 100 * graph.share[0] * areas[-1] / areas[0]
    assert float(key.split("\N{NO-BREAK SPACE}")[0]) == pytest.approx(wanted, rel=0.06)


def test_arrows_between_agents_that_nearly_touch_keep_a_stem() -> None:
    """Long names leave little room for the circle: arrows between neighbours are shorter than their heads would be."""
    counts = np.eye(9, k=1, dtype=int) + 200 * np.eye(9, k=1 - 9, dtype=int)
    counts[0, 1] = counts[1, 0] = 200
    with style.house_style():
        figure = handoff_figure(handoff_graph(counts, 2.0 * counts), ["a rather long name of an agent"] * 9)
    drawn = stems(figure)
    assert len(drawn) == 10 and all(len(stem.get_path().vertices) for stem in drawn)


def test_arrows_lead_from_sender_to_receiver_and_carry_their_duration() -> None:
    counts = np.array([[0, 30, 0], [0, 0, 10], [20, 0, 0]])
    graph = handoff_graph(counts, counts * np.array([[0, 2.5, 0], [0, 0, 7.0], [111.0, 0, 0]]))
    with style.house_style():
        figure = handoff_figure(graph)
    axes = figure.axes[0]
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)][:3]
    centre = np.array([circle.center for circle in circles])
    tips = [patch.get_xy()[0] for patch in axes.patches if isinstance(patch, Polygon)][:3]
    expected = [(1, 2), (2, 0), (0, 1)]  # rarest first
    for stem, tip, (sender, receiver) in zip(stems(figure), tips, expected, strict=True):
        points = stem.get_path().vertices
        assert np.hypot(*(points[0] - centre[sender])) == pytest.approx(circles[sender].radius + 0.8, abs=1e-6)
        assert np.hypot(*(tip - centre[receiver])) == pytest.approx(circles[receiver].radius + 0.8, abs=1e-6)
    numbers = {text.get_text(): np.array(text.get_position()) for text in axes.texts}
    for text, (sender, receiver) in {"2.5": (0, 1), "7.0": (1, 2), "111": (2, 0)}.items():
        middle = (centre[sender] + centre[receiver]) / 2
        assert np.hypot(*(numbers[text] - middle)) < 0.3 * np.hypot(*(centre[sender] - centre[receiver]))


def test_the_key_tells_what_is_left_out() -> None:
    graph, _ = GRAPHS["ten dense"]
    rates = np.sort(np.asarray(graph.rate).ravel())[::-1]
    texts = [text.get_text() for text in figure_of("ten dense", most_arrows=10).axes[0].texts]
    assert f"10 of 100 arrows, {percent_text(rates[:10].sum())} of all handoffs" in texts
    assert not any(" arrows, " in text.get_text() for text in figure_of("three").axes[0].texts)
    assert any("end of the episode" in text.get_text() for text in figure_of("named").axes[0].texts)
    assert not any("end of the episode" in text.get_text() for text in figure_of("three").axes[0].texts)


def test_what_cannot_be_drawn_is_refused() -> None:
    graph, _ = GRAPHS["three"]
    empty = handoff_graph(np.zeros((2, 2)), np.zeros((2, 2)))
    for arguments, message in (
        ((empty,), "graph: there is no handoff"),
        ((graph, ["a", "b"]), "names: expected 3, one for each agent, found 2"),
        ((graph, None, "given", 0), "most_arrows = 0: expected 1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            handoff_figure(*arguments)


def test_spectral_order_recovers_a_ring() -> None:
    rng = np.random.default_rng(4)
    ring = [0, *(rng.permutation(8) + 1)]
    counts = np.zeros((9, 9), int)
    for i, agent in enumerate(ring):
        counts[agent, ring[(i + 1) % 9]] = 10
        counts[agent, agent] = 100
    graph = handoff_graph(counts, counts)
    found = circle_order(graph, "spectral")
    assert found in ([int(i) for i in ring], [0, *(int(i) for i in ring[:0:-1])])
    assert circle_order(graph, "given") == list(range(9)) != found


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 6.28), st.booleans()), min_size=1, max_size=14), st.floats(0.05, 0.4))
def test_angles_are_spread_and_keep_their_order(wishes: list[tuple[float, bool]], gap: float) -> None:
    wishes = sorted(wishes)
    angles, fixed = np.array([a for a, _ in wishes]), np.array([f for _, f in wishes])
    found = spread_angles(angles, fixed, gap)
    np.testing.assert_array_equal(found[fixed], angles[fixed])
    if len(found) == 1:
        return
    if not fixed.any():
        steps = np.diff(np.append(found, found[0] + 2 * math.pi))
        assert steps.min() >= min(gap, 0.95 * 2 * math.pi / len(found)) - 0.01
        if np.diff(np.append(angles, angles[0] + 2 * math.pi)).min() >= gap:
            np.testing.assert_array_equal(found, angles)


def test_arrows_touch_an_agent_apart_from_each_other() -> None:
    graph, _ = GRAPHS["ten dense"]
    shown = arrows_of(graph)[:24]
    loops = {a.sender for a in shown if a.sender == a.receiver}
    nodes = Nodes.on_circle(graph.share, list(range(10)), [str(i) for i in range(10)], 245.0, loops)
    touching = ports(nodes, shown)
    ends: dict[int, list[np.ndarray]] = {}
    for arrow in shown:
        points = curve(nodes, arrow, touching)
        ends.setdefault(arrow.sender, []).append(points[0])
        ends.setdefault(arrow.receiver, []).append(points[-1])
    nearest = [np.hypot(*(a - b)) for points in ends.values() for i, a in enumerate(points) for b in points[:i]]
    assert len(nearest) > 30 and min(nearest) > 3.5


def test_numbers_are_short() -> None:
    assert [duration_text(d) for d in (1.0, 8.06, 99.94, 99.96, 12345.6)] == ["1.0", "8.1", "99.9", "100", "12346"]
    space = "\N{NO-BREAK SPACE}"
    assert [percent_text(s) for s in (1.0, 0.0996, 0.0234, 0.00012)] == [
        f"{p}{space}%" for p in ("100", "10", "2.3", "0.012")
    ]


def some_curve(name: str, points: int = 41, level: float = 1.0, start: float = 0.0) -> Curve:
    x = np.linspace(start, 2e5, points)
    mean = level * (1 - np.exp(-x / 4e4))
    return Curve(name, x, mean, mean - 0.02, mean + 0.02)


METHODS = ["IC-Q", "central learner", "no message", "full message", "shared parameters", "federated averaging"]


def test_methods_differ_without_colour() -> None:
    assert len({marker for _, marker, _ in LOOKS}) == len({str(dashes) for _, _, dashes in LOOKS}) == len(LOOKS)
    with style.house_style():
        figure = return_figure([some_curve(name, level=1 - 0.1 * i) for i, name in enumerate(METHODS)])
    lines = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.2 and line.get_linestyle() != "None"]
    markers = [line.get_marker() for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert len(lines) == len(set(markers)) == len(METHODS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == METHODS
    for line, i in zip(lines, range(len(METHODS)), strict=True):
        np.testing.assert_allclose(line.get_ydata(), some_curve("", level=1 - 0.1 * i).mean)


def test_markers_of_different_methods_stand_apart() -> None:
    with style.house_style():
        figure = return_figure([some_curve(name) for name in METHODS[:4]])
    marked = [line.get_xdata() for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert all(2 <= len(x) <= MARKERS for x in marked)
    assert len(np.unique(np.concatenate(marked))) == sum(map(len, marked))


@pytest.mark.parametrize("x_log", [False, True])
def test_oracle_and_random_are_named_lines_inside_the_axes(x_log: bool) -> None:
    curves = [some_curve("IC-Q", start=100.0), some_curve("no message", level=0.7, start=100.0)]
    with style.house_style():
        figure = return_figure(curves, oracle=1.1, random=-0.05, x_log=x_log)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert low < -0.05 and high > 1.1
    heights = [
        line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2
    ]
    assert heights == [1.1, -0.05]
    boxes = dict(text_boxes(figure, axes))
    assert set(boxes) == {"oracle", "random"}
    frame = axes.get_window_extent().extents
    for name, value in (("oracle", 1.1), ("random", -0.05)):
        box, line = boxes[name], axes.transData.transform((1000.0, value))[1]
        assert frame[0] <= box[0] and box[2] <= frame[2] and frame[1] <= box[1] and box[3] <= frame[3] + 1
        assert box[1] >= line if name == "oracle" else box[3] <= line
        for curve_ in curves:
            points = axes.transData.transform(np.column_stack([curve_.x, curve_.mean]))
            inside = (points >= box[:2]).all(axis=1) & (points <= box[2:]).all(axis=1)
            assert not inside.any(), f"{name} covers a curve"


def test_a_single_replica_or_point_is_drawn_without_a_band() -> None:
    x = np.array([10.0])
    nothing = np.full(1, np.nan)
    with style.house_style():
        figure = return_figure([Curve("alone", x, np.array([0.5]), nothing, nothing)], oracle=1.0)
        figure.draw_without_rendering()
    for count in (0, len(LOOKS) + 1):
        with pytest.raises(ValueError, match=f"curves: expected 1 to {len(LOOKS)}, found {count}"):
            return_figure([some_curve(str(i)) for i in range(count)])


def some_record(agents: int, runs: int = 4, parts: int = 5) -> AgentRecord:
    rng = np.random.default_rng(agents)
    visits = rng.integers(1, 100, (runs, parts, agents))
    return AgentRecord(rng.uniform(0.1, 1.0, (runs, parts, agents)), visits)


@pytest.mark.parametrize("agents", [1, 3, 10])
def test_agent_panels_show_means_over_runs_with_intervals(agents: int) -> None:
    record = some_record(agents)
    with style.house_style():
        figure = agent_figure(record)
    figure.draw_without_rendering()
    assert figure.get_figwidth() == style.COLUMN_WIDTH
    errors, visits = figure.axes
    dots = [line for line in errors.lines if line.get_marker() == "o"]
    hollow = [line for line in dots if line.get_markerfacecolor() == "white"]
    filled = [line for line in dots if line.get_markerfacecolor() != "white"]
    for chosen, part in ((hollow, 0), (filled, -1)):
        np.testing.assert_allclose([line.get_xdata()[0] for line in chosen], record.td_error[:, part].mean(axis=0))
        assert [line.get_ydata()[0] for line in chosen] == list(range(agents))
    share = 100 * record.visits[:, -1] / record.visits[:, -1].sum(axis=1, keepdims=True)
    np.testing.assert_allclose([bar.get_width() for bar in visits.patches], share.mean(axis=0))
    half = 3.182446305 * share.std(axis=0, ddof=1) / 2  # Student's quantile, three degrees of freedom
    drawn = np.ptp([segment[:, 0] for segment in visits.collections[0].get_segments()], axis=1)
    np.testing.assert_allclose(drawn, 2 * half, rtol=1e-6)
    assert [label.get_text() for label in errors.get_yticklabels()] == [f"agent {i}" for i in range(agents)]
    labels = [axes.xaxis.label.get_window_extent(figure.canvas.get_renderer()) for axes in figure.axes]
    assert labels[0].x1 < labels[1].x0, "labels of two panels touch"


def test_agent_panels_with_gaps_and_single_values() -> None:
    record = some_record(3, runs=1, parts=1)
    record.td_error[0, 0, 1] = np.nan  # an agent that never acted
    with style.house_style():
        figure = agent_figure(record, ["a", "b", "c"])
    assert sum(line.get_marker() == "o" for line in figure.axes[0].lines) == 4 and not figure.legends
    with pytest.raises(ValueError, match="visits: expected 3 agents, as td_error has, found 2"):
        agent_figure(record._replace(visits=np.ones((1, 1, 2))))
    with pytest.raises(ValueError, match="names: expected 3 agents"):
        agent_figure(record, ["a"])


def test_the_key_tells_how_well_rates_are_known() -> None:
    counts = np.array([[[0, 60], [40, 0]], [[0, 50], [50, 0]]])
    with style.house_style():
        texts = [text.get_text() for text in handoff_figure(handoff_graph(counts, counts)).axes[0].texts]
    wanted = percent_text(12.706204736 * 0.05)
    assert f"95 % intervals over runs: at most \N{PLUS-MINUS SIGN}{wanted} of all handoffs" in texts
    assert not any("intervals" in text.get_text() for text in figure_of("three").axes[0].texts)


def test_files_are_the_same_bytes_whatever_the_settings_of_the_user(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(style, "DPI", 60)

    def draw(folder):
        with style.house_style():
            drawn = {
                "handoffs": handoff_figure(*GRAPHS["named"]),
                "training": return_figure([some_curve("IC-Q")], oracle=1.2, random=0.1),
                "agents": agent_figure(some_record(3)),
            }
            return [style.save(figure, folder, name) for name, figure in drawn.items()]

    first = draw(tmp_path / "a")
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 50}):
        style.text_size.cache_clear()  # texts are measured anew, under these settings
        second = draw(tmp_path / "b")
    assert dict(matplotlib.rcParams) == before
    assert [path.name for path in first] == ["handoffs.png", "training.png", "agents.png"]
    for one, two in zip(first, second, strict=True):
        assert Image.open(one).width == round(style.COLUMN_WIDTH * style.DPI)
        for kind in (".png", ".pdf"):
            assert one.with_suffix(kind).read_bytes() == two.with_suffix(kind).read_bytes()
        assert b"CreationDate" not in one.with_suffix(".pdf").read_bytes()
    assert len(list((tmp_path / "a").iterdir())) == 6, "temporary files were left behind"


@pytest.mark.parametrize(
    "names", [METHODS, ["$C\\,m^{-1/2}(1-\\kappa^2)^{-1/2}$", "a", "slope 0.50 [0.49, 0.51]"], ["one"]]
)
def test_legends_are_as_low_as_their_room_allows(names: list[str]) -> None:
    with style.house_style():
        figure = style.new_figure(style.FULL_WIDTH, 2)
        handles = [Line2D([], []) for _ in names]

        def width(columns: int) -> float:
            legend = figure.legend(handles, names, ncols=columns)
            return legend.get_window_extent().width * 72 / figure.dpi

        for room in (60.0, 150.0, 230.0, 480.0):
            columns = style.legend_columns(names, room)
            assert columns == 1 or width(columns) <= room + 3
            rows = -(-len(names) // columns)
            if rows > 1:
                lower = -(-len(names) // (rows - 1))
                assert width(lower) > room - 6, "one row less would have had room"


def test_matplotlib_loads_where_it_is_used_and_never_its_interactive_part() -> None:
    code = (
        "import sys, icsmdp_jax.drawing, icsmdp_jax.exact.returns, icsmdp_jax.learner.simulated_returns, "
        "icsmdp_jax.learner.diagnostics; early = 'matplotlib' in sys.modules;"
        "import icsmdp_jax.drawing.handoffs, icsmdp_jax.drawing.training;"
        "print(early, 'matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True", "False"]
