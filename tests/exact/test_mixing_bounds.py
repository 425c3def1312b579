"""Both ends of the mixing time against powers of small chains, and what they rest on, each against something else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from icsmdp_jax.exact import mixing_bounds
from icsmdp_jax.exact.chain import MixingClock, distance_to_stationarity, stationary_law
from icsmdp_jax.exact.large_chain import Restarted, period, sparse_law
from icsmdp_jax.exact.mixing_bounds import MixingBounds, largest_eigenvalue, relative_error
from tests.helpers import examples

LEVELS = (0.87, 0.45, 0.25, 0.1, 1e-2, 1e-4, 1e-7)
seeds = st.integers(0, 2**16)


def ring(count: int, forward: float, backward: float) -> np.ndarray:
    """A walk on a ring that stays with what is left."""
    step = np.roll(np.eye(count), 1, axis=1)
    return forward * step + backward * step.T + (1 - forward - backward) * np.eye(count)


def random_chain(seed: int, count: int, width: int, slow: float) -> np.ndarray:
    """A few successors each beside a cycle, made slow by staying; sometimes with rare states."""
    rng = np.random.default_rng(seed)
    rows = 0.1 * np.roll(np.eye(count), 1, axis=1)
    for _ in range(width):
        rows[np.arange(count), rng.integers(count, size=count)] += rng.exponential(size=count)
    if seed % 3 == 0:
        rows[:, : count // 2] *= 1e-3
    rows /= rows.sum(axis=1, keepdims=True)
    return slow * np.eye(count) + (1 - slow) * rows


def encloses(rows: np.ndarray) -> list[tuple[float, float, float]]:
    law = stationary_law(rows)
    exact, bounds = MixingClock(rows, law), MixingBounds(sparse.csr_array(rows), law)
    found = []
    for level in LEVELS:
        low, high = bounds.bounds(level)
        assert low <= exact(level) <= high == bounds(level), (level, low, exact(level), high)
        assert exact.bounds(level) == (exact(level), exact(level))
        found.append((low, exact(level), high))
    assert exact.exact and not bounds.exact
    return found


@examples(25)
@given(seeds, st.integers(2, 90), st.integers(1, 4), st.sampled_from([0.0, 0.3, 0.9, 0.999]))
def test_bounds_enclose_the_mixing_time_of_random_chains(seed: int, count: int, width: int, slow: float) -> None:
    encloses(random_chain(seed, count, width, slow))


@pytest.mark.parametrize(
    "rows",
    [
        ring(60, 0.25, 0.25),  # slow and reversible
        ring(40, 0.97, 0.0),  # nearly periodic, far from reversible
        ring(41, 0.5, 0.5),  # odd ring: period 1, though every step flips parity until the seam
        ring(30, 0.5, 0.499),  # nearly of period 2
        0.99 * np.roll(np.eye(50), 1, axis=1) + 0.01 / 50,  # a cycle that restarts at random
        ring(2, 1e-3, 0.0),
    ],
    ids=["slow", "drift", "odd", "parity", "restart", "sticky"],
)
def test_bounds_of_slow_and_nearly_periodic_chains_are_close(rows: np.ndarray) -> None:
    for level, (low, exact, high) in zip(LEVELS, encloses(rows), strict=True):
        if level <= 0.25:
            assert low >= 0.7 * exact - 1 and high <= 4 * exact + 4


@pytest.mark.parametrize(
    ("rows", "classes"), [(ring(12, 1.0, 0.0), 12), (ring(12, 0.5, 0.5), 2), (ring(7, 0.5, 0.5), 1)]
)
def test_period_and_what_it_does_to_mixing(rows: np.ndarray, classes: int) -> None:
    law = stationary_law(rows)
    bounds = MixingBounds(sparse.csr_array(rows), law)
    assert period(sparse.csr_array(rows)) == bounds.period == classes
    if classes > 1:
        for level in (0.25, 1e-3, 1 - 1 / classes - 0.01):
            assert bounds.bounds(level) == (math.inf, math.inf) == (MixingClock(rows, law)(level),) * 2
    assert bounds.bounds(1.0) == (0.0, 0.0)
    assert bounds.bounds(0.0) == (math.inf, math.inf)


@pytest.mark.parametrize("forward", [0.5, 0.8])
def test_period_through_a_restart(forward: float) -> None:
    """A corridor whose end restarts at its first state has the corridor's length as period; two starts mend that."""
    count = 6
    kept = np.eye(count, k=1)
    lost = np.eye(count)[-1]
    one = Restarted(sparse.csr_array(kept), lost, np.eye(count)[0])
    two = Restarted(sparse.csr_array(kept), lost, forward * np.eye(count)[0] + (1 - forward) * np.eye(count)[1])
    assert (period(one), period(two)) == (6, 1)
    every_other = Restarted(sparse.csr_array(kept), lost, (np.eye(count)[0] + np.eye(count)[2]) / 2)
    assert period(every_other) == 2
    apart = np.eye(count, k=1)
    apart[2, 3] = 0.0  # two corridors of length 3, the second entered by a restart only
    halves = (np.eye(count)[0] + np.eye(count)[3]) / 2
    assert period(Restarted(sparse.csr_array(apart), np.eye(count)[2] + np.eye(count)[5], halves)) == 3


@examples(15)
@given(seeds, st.integers(3, 40))
def test_a_restart_in_two_parts_is_the_whole_chain(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    lost = rng.uniform(0, 0.5, count) * rng.integers(2, size=count)
    start = rng.dirichlet(np.ones(count))
    parts = Restarted(sparse.csr_array((1 - lost)[:, None] * random_chain(seed, count, 2, 0.2)), lost, start)
    whole = parts.toarray()
    block = rng.normal(size=(count, 3))
    np.testing.assert_allclose(parts @ block, whole @ block, atol=1e-13)
    np.testing.assert_allclose(parts.T @ block, whole.T @ block, atol=1e-13)
    np.testing.assert_allclose(block[:, 0] @ parts, block[:, 0] @ whole, atol=1e-13)
    assert period(parts) == period(sparse.csr_array(whole))
    found = sparse_law(parts)
    np.testing.assert_allclose(found.law, stationary_law(whole), rtol=1e-9)
    assert found.residual < 1e-12
    bounds = MixingBounds(parts, found.law)
    # The distances behind the upper ends, against powers of the dense chain.
    power = np.eye(count)
    for steps, distance in bounds._starts:
        exact = math.sqrt(((power**2) / found.law).sum(axis=1).max() - 1)
        assert exact <= distance <= exact * (1 + 1e-6) + 2e-6, steps
        power = power @ whole
    assert [steps for steps, _ in bounds._starts] == [0, 1, 2]
    for level in (0.25, 1e-3):
        low, high = bounds.bounds(level)
        assert low <= MixingClock(whole, found.law)(level) <= high


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seeds, st.integers(70, 160))
def test_singular_values_and_eigenpairs_against_dense_ones(seed: int, count: int) -> None:
    """More states than are treated densely, so that Lanczos and Arnoldi speak."""
    rows = random_chain(seed, count, 3, 0.5)
    law = stationary_law(rows)
    bounds = MixingBounds(sparse.csr_array(rows), law)
    root = np.sqrt(law)
    assert len(bounds.singular) > 1
    for steps, value in bounds.singular:
        centred = root[:, None] * (np.linalg.matrix_power(rows, steps) - law) / root
        exact = np.linalg.svd(centred, compute_uv=False)[0]
        assert exact <= value <= 1.0
        assert value <= exact**0.85 or value < 0.1  # upper ends are not idle
    for level in (0.45, 0.1, 1e-3):
        below = int(bounds._low_by_eigenpair(level)) - 1
        if below >= 1:
            assert distance_to_stationarity(np.linalg.matrix_power(rows, below), law) > level


def test_an_inaccurate_eigenpair_weakens_the_lower_end_and_never_breaks_it() -> None:
    """Any function may be handed in as the eigenfunction: its residual takes away what it does not prove."""
    rows = ring(80, 0.3, 0.3)
    law = stationary_law(rows)
    clock = MixingClock(rows, law)
    rng = np.random.default_rng(0)
    wave = np.cos(2 * np.pi * np.arange(80) / 80)
    best = 0.0
    for noise in (0.0, 1e-6, 1e-4, 1e-2, 1.0):
        f = wave + noise * rng.normal(size=80)
        f /= np.abs(f).max()
        for g, modulus in ((f, float(f @ (rows @ f) / (f @ f))), (f, 1.0), (f, 0.9), (np.ones(80), 1.0)):
            bounds = MixingBounds(sparse.csr_array(rows), law)
            bounds.__dict__["_eigenpair"] = (modulus, float(np.abs(rows @ g - modulus * g).max()), float(abs(law @ g)))
            low = bounds._low_by_eigenpair(0.1)
            assert low <= clock(0.1)
            best = max(best, low)
    assert best > 0.5 * clock(0.1)


@pytest.mark.parametrize("steps", [8, 16, 64])
def test_lanczos_errs_no_more_often_than_it_says(steps: int) -> None:
    """At a failure probability of 0.05 the upper end may be too small in 5 % of the runs; we see 300 of them.

    With 300 runs a true rate of 0.05 exceeds 30 failures with probability below 1e-3.
    """
    rng = np.random.default_rng(steps)
    values = np.sort(np.concatenate([[1.0], 1 - rng.exponential(0.02, size=199)]))
    values = np.clip(values, 0, 1)
    wrong = 0
    for _ in range(300):
        start = rng.normal(size=200)
        low, high, taken = largest_eigenvalue(lambda x: 0.9 * values * x, start, 0.05, steps, close=0.0)
        assert low <= 0.9 * (1 + 1e-12) and taken == steps
        wrong += high < 0.9
    assert wrong <= 30


def test_relative_error_solves_its_equation() -> None:
    for steps, dimension, failure in ((50, 1000, 1e-6), (400, 10**5, 1e-12)):
        e = relative_error(steps, dimension, failure)
        probability = (
            math.sqrt(2 * dimension / math.pi) * 2 * math.sqrt((1 - e) / e) * math.exp(-2 * math.sqrt(e) * (steps - 1))
        )
        assert probability == pytest.approx(failure, rel=1e-6)
    assert relative_error(4, 10**5, 1e-12) == 1.0  # too few steps to say anything


def test_without_work_the_upper_end_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing_bounds, "UPPER_WORK", 0)
    monkeypatch.setattr(mixing_bounds, "SMALL", 0)
    rows = ring(60, 0.25, 0.25)
    law = stationary_law(rows)
    low, high = MixingBounds(sparse.csr_array(rows), law).bounds(0.25)
    assert 1 <= low <= MixingClock(rows, law)(0.25) and high == math.inf
