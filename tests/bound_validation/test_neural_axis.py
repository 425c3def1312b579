"""The neural axis: bounds recomputed from their definition, weakened constants caught, runs that repeat to the bit."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from bound_validation import theorem
from bound_validation.axes.neural import measure
from bound_validation.axes.neural.certificate import NetCertificate, certificate
from bound_validation.axes.neural.spec import MODEL
from bound_validation.axis import SETTINGS
from bound_validation.results import checked
from bound_validation.tasks import TaskResult
from icsmdp_jax.exact import nets
from icsmdp_jax.exact.fixed_point import bellman
from tests.bound_validation.runs import preset

SPEC = preset("testing").neural
OPEN = SPEC.open_gap


@cache
def net(gap: float, width: int) -> NetCertificate:
    return certificate(measure.known_of(SPEC, gap), width, SPEC.reach, SPEC.seed, 0)


@cache
def ran(gap: float) -> TaskResult:
    (one,) = [one for one in SPEC.runs if (one.gap, one.width) == (gap, 64)]
    return measure.run(SPEC, one, SETTINGS["testing"], lambda done: None)


def test_the_model_is_the_one_that_was_chosen() -> None:
    """Its constants, fixed before any run: fast, certified, 16 states, options of 6 to 18 steps."""
    known = measure.known_of(SPEC, 0.0)
    model = known.interface.model
    assert (model.num_agents, model.num_interfaces, model.num_states, model.num_options) == (2, 8, 16, 2)
    assert model.features is not None and model.features.shape == (8, 4)
    np.testing.assert_allclose(np.linalg.norm(model.features, axis=1), 1.0, rtol=1e-12)
    taken = np.flatnonzero(model.duration.sum(axis=(0, 1)) > 0) + 1
    assert taken.min() >= 6 and taken.max() <= 18
    assert known.kappa == pytest.approx(0.486, abs=1e-3) and known.clock(0.25) <= 4
    assert known.interface.norm(known.q_phi_table) == pytest.approx(0.6005, abs=1e-4)
    assert known.gap.gap < 1e-9 < measure.known_of(SPEC, OPEN).gap.gap
    assert MODEL.gap == 0.0


@pytest.mark.parametrize("gap", [0.0, OPEN])
@pytest.mark.parametrize("width", SPEC.widths)
def test_the_parts_are_theorem_n(gap: float, width: int) -> None:
    """The right side as docs/theory.md writes it, from the constants."""
    one, known = net(gap, width), measure.known_of(SPEC, gap)
    e, h, c = one.floors
    second, drift, boundary = one.poisson
    for k in SPEC.samples:
        alpha = one.distance / np.sqrt((second + 2 * drift) * k)
        assert one.step(k) == pytest.approx(alpha, rel=1e-12)
        left = one.distance**2 / (2 * alpha * k) + alpha * (second / 2 + drift) + boundary / k
        ratio = (1 + known.kappa) / (1 - known.kappa)
        root = ((left + c + (1 + known.kappa) * e * h) / (1 - known.kappa)) ** 0.5
        assert one.bound(k) == pytest.approx(ratio * (e + h) + e + root, rel=1e-12)
        parts = one.parts(k)
        assert parts["linearisation"] == pytest.approx(theorem.neural_bound(e, h, 0, 0, known.kappa))
        assert all(part >= 0 for part in parts.values())
    assert (one.parts(1000)["hidden"] > 0.05) == (gap > 0)  # c_C is shown where the gap is open


@pytest.mark.parametrize("width", SPEC.widths)
def test_the_target_is_one(width: int) -> None:
    """In the balls, and its inequality holds against drawn members of the class, up to the slack that is charged."""
    one = net(0.0, width)
    start, interface = one.start, one.known.interface
    assert one.radius == pytest.approx(SPEC.reach * width**-0.5)
    assert np.linalg.norm(one.target.delta, axis=3).max() <= one.radius * (1 + 1e-12)
    np.testing.assert_allclose(start.linear(one.target.delta), one.target.table, atol=1e-12)
    change = np.where(
        interface.mask, interface.pair_weight * (bellman(interface, one.target.table) - one.target.table), 0
    )
    rng = np.random.default_rng(0)
    for _ in range(100):
        other = start.per_unit(rng.standard_normal(start.hidden.shape) * 10 ** rng.uniform(-2, 2), one.radius)
        assert np.sum(change * (start.linear(other) - one.target.table)) <= one.target.slack + 1e-12
    error, bound = one.approximation
    assert not one.inside and 0.02 < error <= bound  # these nets are too narrow, which is what the row shows
    assert one.floors[2] >= one.target.slack


def test_a_rough_target_is_as_far_from_the_fixed_point_as_its_slack_allows() -> None:
    one = net(0.0, 16)
    interface, kappa = one.known.interface, one.known.kappa
    first = np.zeros(one.start.hidden.shape)
    close = nets.projected_target(one.start, one.radius, first, kappa, tolerance=1e-8)
    for tolerance in (0.1, 1e-2, 1e-4):
        rough = nets.projected_target(one.start, one.radius, first, kappa, tolerance=tolerance)
        apart = interface.norm(rough.table - close.table)
        limit = theorem.target_distance(rough.slack, kappa) + theorem.target_distance(close.slack, kappa)
        assert 0.02 * limit < apart <= limit
    assert theorem.target_distance(0.02, 0.5) == pytest.approx(0.2)


def test_a_table_inside_the_class_is_found_there() -> None:
    one = net(0.0, 1024)
    assert one.inside and one.approximation == (0.0, 0.0)
    np.testing.assert_allclose(one.target.table, one.known.q_phi_table, atol=1e-7)
    assert one.floors[2] < 1e-6 and one.bound(100_000) < one.trivial  # informative, before any run
    least, _ = nets.least_radius(one.start, one.known.q_phi_table)
    assert nets.interpolant(one.start, one.known.q_phi_table, 0.99 * least) is None
    found = nets.interpolant(one.start, one.known.q_phi_table, 1.01 * least)
    assert found is not None and np.linalg.norm(found, axis=3).max() <= 1.01 * least


@pytest.mark.parametrize("seed", [0, 1])
def test_a_search_that_becomes_ill_conditioned_still_ends_at_a_table_that_is_met(seed: int) -> None:
    known = measure.known_of(SPEC, 0.0)
    interface, rng = known.interface, np.random.default_rng([seed, 64])
    start = nets.draw_start(interface, interface.model.features, 64, rng)
    radius, delta = nets.least_radius(start, known.q_phi_table)
    np.testing.assert_allclose(start.linear(delta), known.q_phi_table, atol=1e-7)
    assert 2.0 < radius * 8 < 3.0


def test_rows_of_a_run_stand_beside_their_bounds() -> None:
    for gap in (0.0, OPEN):
        rows = {row.series: row for row in ran(gap).rows}
        one = net(gap, 64)
        error = rows["projected_net"]
        assert error.holds == 1 and error.bound == one.bound(1000) and error.trivial == one.trivial
        assert error.measured < 0.75 * error.trivial  # something was learned
        known = measure.known_of(SPEC, gap)
        whole = one.bound(1000) + one.approximation[1] + known.gap.bound
        assert rows["total"].bound == pytest.approx(whole) and rows["total"].holds == 1
        seen = rows["linearisation_seen"]
        largest = nets.linearisation_error(one.start, one.radius).max()
        assert seen.bound == pytest.approx(largest) and 1e-4 < seen.measured <= largest
        assert {row.cell for row in rows.values()} == {error.cell} and error.group == measure.group_of(gap)


def test_a_run_repeats_to_the_bit() -> None:
    (one,) = [one for one in SPEC.runs if (one.gap, one.width) == (OPEN, 64)]
    again = measure.run(SPEC, one, SETTINGS["testing"], lambda done: None)
    assert [row.measured for row in again.rows] == [row.measured for row in ran(OPEN).rows]


def test_claims_can_fail() -> None:
    known = ran(0.0).rows[0]
    width, samples = measure.PROMISED
    good = checked(dataclasses.replace(known, width=width, samples=samples, bound=0.5, trivial=0.6))
    bad = checked(dataclasses.replace(good, bound=0.61))
    assert [claim.passed for claim in measure.claims([known, good])] == [True]
    assert [claim.passed for claim in measure.claims([good, bad])] == [False]
    for change in ({"gap": 0.5}, {"samples": 10_000}, {"width": 256}, {"series": "total"}):
        assert measure.claims([dataclasses.replace(bad, **change)]) == []
    widths, rng = np.array([64.0, 256.0, 1024.0]), np.random.default_rng(0)
    noise = np.exp(0.05 * rng.standard_normal((3, 8)))
    admitted = {"target_low": -0.6, "target_high": -0.4}
    for power, passed in ((-0.5, True), (-1 / 6, False)):
        slope = measure.slope_of(widths, (widths**power)[:, None] * noise, **admitted)
        assert slope.passed is passed and slope.ci_low < power < slope.ci_high
