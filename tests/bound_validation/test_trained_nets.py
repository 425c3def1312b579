"""Trained two-layer nets on the width axis: rows, intervals, reference slopes, frozen layers against exact answers."""

from __future__ import annotations

import dataclasses
import importlib
import math

import jax
import numpy as np
import pytest
from scipy import stats

from bound_validation.axes.width import measure as width
from bound_validation.axes.width import trained
from bound_validation.axes.width.figure import REFERENCES, trained_panel
from bound_validation.axes.width.spec import PRESETS, TrainedSpec
from bound_validation.axis import SETTINGS
from bound_validation.drawing.curves import reference
from bound_validation.intervals import root_interval
from bound_validation.results import Row
from icsmdp_jax.drawing.style import house_style
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact.fixed_point import projected_fixed_point, projection, whiten
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.experiment import measure_errors
from tests.bound_validation.synthetic_rows import full_rows, make_summary

SMALL = planted_model(PlantedConfig.small())
SPEC = TrainedSpec((2, 4, 8), starts=5, updates=200, copies=16, length=2)


def invented_tables(spec: TrainedSpec) -> list[np.ndarray]:
    """Tables whose error falls like ``1 / m``; a third of its square is not common to the two runs of a start."""
    rng = np.random.default_rng(1)
    shape = SMALL.q_planted.shape
    out = []
    for m in spec.widths:
        common = np.repeat(rng.standard_normal((spec.starts, *shape)), 2, axis=0)
        out.append(SMALL.q_planted + (common + 0.5**0.5 * rng.standard_normal(common.shape)) / m)
    return out


@pytest.fixture
def measured(monkeypatch):
    """Result of the axis on invented tables, and the tables."""
    tables = invented_tables(SPEC)
    asked = iter(tables)
    monkeypatch.setattr(trained, "train", lambda *given: (next(asked), 0.5))
    return trained.measure(SMALL, width.constants(SMALL), SPEC, lambda done: None), tables


def test_rows_claim_no_bound_and_are_roots_of_means_over_starts(measured):
    result, tables = measured
    assert [(r.series, r.x) for r in result.rows] == [(part, m) for m in SPEC.widths for part in trained.PARTS]
    weight = SMALL.interface.pair_weight
    for row in result.rows:
        assert row.term == "" and row.holds == -1 and math.isnan(row.bound) and math.isnan(row.ratio)
        assert math.isnan(row.prediction) and math.isnan(row.alternative)
        assert row.axis == "width" and row.width == row.x and row.replicas == SPEC.starts
        assert row.samples == SPEC.samples == 200 * 16 * 2
        assert row.kappa < 1 and row.q_norm == SMALL.q_norm
        if row.series == "trained":
            errors = tables[SPEC.widths.index(row.width)] - SMALL.q_planted
            squares = np.array([(weight * e**2).sum() for e in errors]).reshape(SPEC.starts, 2).mean(axis=1)
            assert (row.measured, row.ci_low, row.ci_high) == pytest.approx(root_interval(squares), rel=1e-12)
    for index in range(len(SPEC.widths)):
        error, bias, spread = (row.measured for row in result.rows[3 * index : 3 * index + 3])
        assert error**2 == pytest.approx(bias**2 + spread**2, rel=1e-12)
    assert result.compile_s == 1.5 and result.handoffs == trained.work(SPEC)


def test_claims_are_reported_and_never_judged(measured):
    result, _ = measured
    claims = {claim.name: claim for claim in result.claims}
    assert set(claims) == {"width_trained_slope", "width_trained_limited_slope", "width_trained_share"}
    for claim in claims.values():
        assert claim.passed is None and claim.target == "reported"
    slope = result.slopes["width_trained"]
    assert slope.passed is None and slope.target is None
    assert slope.ci_low < -1 < slope.ci_high and slope.ci_high - slope.ci_low < 0.3  # invented with slope -1
    assert claims["width_trained_slope"].ci_low == slope.ci_low
    assert 0.2 < claims["width_trained_share"].value < 0.45  # invented with 1/3
    assert result.slopes["width_trained_limited"] == slope, "all widths limit the invented nets"


def test_a_single_width_that_limits_has_no_slope(monkeypatch):
    spec = dataclasses.replace(SPEC, widths=(2, 4))
    tables = [invented_tables(SPEC)[0], SMALL.q_planted + np.random.default_rng(6).standard_normal((10, 40, 2))]
    asked = iter(tables)
    monkeypatch.setattr(trained, "train", lambda *given: (next(asked), 0.0))
    result = trained.measure(SMALL, width.constants(SMALL), spec, lambda done: None)
    assert set(result.slopes) == {"width_trained"}
    assert [claim.name for claim in result.claims] == ["width_trained_slope", "width_trained_share"]
    assert result.claims[-1].value > 0.8


def test_parts_tell_the_common_error_from_the_spread():
    """Unbiased: over 4000 starts the estimates are within five standard errors, a chance of 1e-6."""
    rng = np.random.default_rng(2)
    weight = SMALL.interface.pair_weight
    systematic = rng.standard_normal(weight.shape)
    errors = 0.3 * systematic + 0.5 * rng.standard_normal((8000, *weight.shape))
    parts = trained.parts(SMALL.interface, errors)
    np.testing.assert_allclose(parts["trained"], parts["trained_bias"] + parts["trained_spread"], rtol=1e-12)
    for name, truth in (("trained_bias", 0.09 * (weight * systematic**2).sum()), ("trained_spread", 0.25)):
        sample = parts[name]
        assert abs(sample.mean() - truth) < 5 * sample.std(ddof=1) / 4000**0.5, name


def test_interval_of_the_slope_covers():
    """Intervals from 6 starts use t with 5 degrees of freedom where four widths have 20 together, so that they cover
    with probability 0.98; of 600 then 575 to 599 with probability above 0.999."""
    rng = np.random.default_rng(3)
    widths = np.array([2.0, 4.0, 8.0, 16.0])
    hits = 0
    for _ in range(600):
        squares = [m ** (2 * -0.7) * rng.chisquare(40, 6) / 40 for m in widths]
        slope = trained.slope_of(widths, squares)
        hits += slope.ci_low <= -0.7 <= slope.ci_high
    assert 575 <= hits <= 599
    alone = trained.slope_of(widths, [np.array([m**-1.4]) for m in widths])
    assert alone.slope == pytest.approx(-0.7) and math.isnan(alone.ci_low), "one start has no interval"


@pytest.mark.slow
def test_starts_are_those_of_the_class():
    rng = np.random.default_rng(4)
    for hidden in ("trained", "frozen"):
        values = networks.two_layer(10, 2, 16, hidden)
        own = values.init(jax.random.key(0), SMALL.model.features.astype(np.float32))
        starts = trained.gaussian_starts(SMALL, values, rng, 3)
        assert jax.tree.map(lambda leaf: (3, *leaf.shape), own) == jax.tree.map(lambda leaf: leaf.shape, starts)
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(starts))
        drawn = starts["params"]["w"].ravel()
        for sample in (drawn, np.asarray(own["params"]["w"]).ravel()):
            assert stats.kstest(sample, "norm").pvalue > 1e-4
        if hidden == "frozen":
            assert not starts["params"]["b"].any() and not np.asarray(own["params"]["b"]).any()
    shared = trained.gaussian_starts(SMALL, values, rng, 2, shared_by_options=True)["params"]["w"]
    assert (shared[:, :, 0] == shared[:, :, 1]).all() and (shared[0] != shared[1]).all()


@pytest.mark.slow
def test_frozen_layer_learns_the_exact_projected_fixed_point_of_its_own_features():
    """Eight runs over one draw of features: their mean is ``Q_m`` up to what eight runs leave undecided (T2, D7).

    Given an unbiased mean its squared distance is ``spread^2 / 8`` on average, with ten degrees of freedom or more
    (40 coefficients, unequal weights); three times that has a probability below 0.004.
    """
    runs, m = 8, 2
    values = networks.two_layer(10, 2, m, "frozen")
    start = trained.gaussian_starts(SMALL, values, np.random.default_rng(3), 1, shared_by_options=True)
    weights = start["params"]["w"][0, :, 0].astype(np.float64)
    owners, vectors = SMALL.model.interface_agent, SMALL.model.features
    raw = np.stack([np.maximum(weights[i] @ x, 0.0) for i, x in zip(owners, vectors, strict=True)])
    operator = projection(SMALL.interface, whiten(raw, SMALL.interface))
    exact = projected_fixed_point(SMALL.interface, operator, SMALL.q_planted)
    assert exact.converged

    starts = jax.tree.map(lambda leaf: np.repeat(leaf, runs, axis=0), start)
    spec = TrainedSpec((m,), starts=1, updates=600, copies=128, length=4)
    told = []
    tables, compile_s = trained.train(SMALL, values, starts, spec, 0.4, 5, told.append)
    assert sum(told) == runs * spec.samples and compile_s > 0

    errors = measure_errors(SMALL.interface, tables, exact.q)
    assert errors.raw_bias**2 < 3 * errors.spread**2 / runs
    # The other candidates are far away: the best approximation, and the solution that these features cannot represent.
    norm, q = SMALL.interface.norm, SMALL.q_planted
    assert errors.rmse < 0.15 * min(norm(exact.q - operator(q)), norm(exact.q - q))
    assert measure_errors(SMALL.interface, tables, q).rmse == pytest.approx(norm(exact.q - q), rel=0.02)


def test_presets_have_trained_nets_within_their_means():
    sizes = {name: spec.trained for name, spec in PRESETS.items()}
    assert len(sizes["testing"].widths) == 2 and trained.work(sizes["testing"]) < 1_000_000
    assert len(sizes["quick"].widths) == 4 and trained.work(sizes["quick"]) < 20_000_000
    assert max(sizes["full"].widths) >= 1024 and sizes["full"].samples > sizes["quick"].samples
    names = [task.name for task in width.tasks(PRESETS["testing"], SETTINGS["testing"])]
    assert names == ["width", "width/trained"]
    without = dataclasses.replace(PRESETS["testing"], trained=None)
    assert len(width.tasks(without, SETTINGS["testing"])) == 1
    with pytest.raises(ValueError, match="updates = 250: expected a multiple of 100"):
        TrainedSpec((2,), 1, 250)


# The figure


def net_rows() -> list[Row]:
    rows = [
        Row("width", f"width/trained/{i}", "trained", "m", m, 0.6 / m, replicas=4) for i, m in enumerate((2, 8, 32))
    ]
    return rows + [dataclasses.replace(row, series="trained_spread", measured=0.1 * row.measured) for row in rows]


def test_reference_lines_have_the_stated_slopes_through_the_first_point():
    assert {name: float(slope) for name, slope in REFERENCES.items()} == {
        "Cai et al. 2019": -0.25,
        "Xu and Gu 2020": pytest.approx(-1 / 6, rel=1e-15),
    }
    (panel,) = trained_panel(net_rows(), {})
    lines = [curve for curve in panel.curves if curve.kind == "reference"]
    assert len(lines) == 2
    for line, (name, slope) in zip(lines, REFERENCES.items(), strict=True):
        assert np.log(line.y[1] / line.y[0]) / np.log(line.x[1] / line.x[0]) == pytest.approx(float(slope), rel=1e-12)
        assert (line.x[0], line.y[0]) == (2.0, 0.3) and line.x[1] == 32.0
        assert line.label == f"reference slope \N{MINUS SIGN}1/{slope.denominator} ({name})"
    assert not [curve for curve in panel.curves if curve.kind == "bound"] and "no bound" in panel.title
    fit = {"slopes": {"width_trained_limited": dict(slope=-1.0, ci_low=-1.1, ci_high=-0.9)}}
    some = [dataclasses.replace(row, measured=9 * row.measured) if row.x == 32 and "spread" in row.series else row
            for row in net_rows()]  # fmt: skip
    for rows, last in ((net_rows(), 32.0), (some, 8.0)):
        (fitted,) = [curve for curve in trained_panel(rows, fit)[0].curves if curve.kind == "fit"]
        assert fitted.x[-1] == pytest.approx(last), "the fit is drawn where the width limits the nets"
    assert trained_panel(full_rows(), {}) == [] and reference(net_rows()[:1], -0.25, "alone") == []


def test_figure_says_that_references_are_no_bounds_and_covers_no_point():
    rows = [row for row in full_rows() if row.axis == "width"]
    with house_style():
        module = importlib.import_module("bound_validation.axes.width.figure")
        plain, figure = module.figure(rows, {}), module.figure(rows + net_rows(), make_summary(rows))
    assert len(plain.axes) == 2 and len([axes for axes in figure.axes if axes.axison]) == 3
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "reference slope (no bound)" in legend
    assert "reference slope (no bound)" not in [text.get_text() for text in plain.legends[0].get_texts()]
    figure.draw_without_rendering()
    last = figure.axes[2]
    assert last.get_position().width > 1.8 * figure.axes[0].get_position().width, "the last panel fills its row"
    below = last.get_legend()
    assert sum("reference" in text.get_text() for text in below.get_texts()) == 2
    frame, box = last.get_window_extent(), below.get_window_extent(figure.canvas.get_renderer())
    assert not box.overlaps(frame) and 0 <= box.x0 and box.x1 <= figure.bbox.x1
