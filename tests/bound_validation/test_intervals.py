"""What all axes share: intervals, slopes and resampling.

Coverage is counted over simulated data with fixed seeds. A count of n intervals at level c has standard deviation
(c (1 - c) / n)^(1/2); the admitted ranges are at least four of them wide on either side, so that a right
implementation would fail for fewer than 1 seed in 10000.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from bound_validation.intervals import (
    Slope,
    fitted_slope,
    judged,
    resampled_roots,
    resampled_spreads,
    root_interval,
    spread_interval,
)

LEVEL = 0.95


# Intervals


def quadratic_forms(rng: np.random.Generator, draws: int, replicas: int) -> tuple[np.ndarray, float]:
    """``[draws, replicas]`` squared norms of Gaussian errors of 20 unequal coordinates, and their mean."""
    variances = np.arange(1, 21) / 20
    return (rng.normal(size=(draws, replicas, 20)) ** 2) @ variances, float(variances.sum())


def test_root_interval_covers_the_root_mean_square():
    """The t-interval is approximate for squares; its level at 32 replicas is within a percent of 95 %."""
    squares, mean = quadratic_forms(np.random.default_rng(0), 4000, 32)
    found = np.array([root_interval(row) for row in squares])
    inside = (found[:, 1] <= mean**0.5) & (mean**0.5 <= found[:, 2])
    assert 0.925 < inside.mean() < 0.97
    assert (found[:, 1] <= found[:, 0]).all() and (found[:, 0] <= found[:, 2]).all()


@pytest.mark.parametrize(
    ("variances", "replicas"),
    [((1.0,), 64), ((1.0, 0.1, 0.05, 0.02), 64), (tuple(np.arange(1, 21) / 20), 16)],
    ids=["one direction", "a slow chain", "many directions"],
)
def test_spread_interval_covers_the_spread(variances, replicas):
    """Total variance of Gaussian errors around a mean that is estimated as well; the value is unbiased in the square.

    Of the same draws, a t-interval of the squared deviations covers 92 % in the first two cases and is out of range.
    """
    rng = np.random.default_rng(1)
    total = float(np.sum(variances))
    errors = rng.normal(size=(4000, replicas, len(variances))) * np.sqrt(variances) + 3.0
    deviations = errors - errors.mean(axis=1, keepdims=True)
    found = np.array([spread_interval((one**2).sum(axis=-1), one) for one in deviations])
    squares = found[:, 0] ** 2
    assert abs(squares.mean() - total) < 4 * squares.std() / 4000**0.5  # fails for 1 seed in 15000
    inside = (found[:, 1] <= total**0.5) & (total**0.5 <= found[:, 2])
    assert 0.93 < inside.mean() < 0.97
    if len(variances) < 20:
        simple = np.array([root_interval(one * replicas / (replicas - 1)) for one in (deviations**2).sum(axis=-1)])
        assert ((simple[:, 1] <= total**0.5) & (total**0.5 <= simple[:, 2])).mean() < inside.mean() - 0.008


def test_spread_interval_by_hand():
    one = np.array([[-1.0], [-1.0], [0.0], [2.0]])  # total variance 2, one direction: 3 degrees of freedom
    low, high = (2 * 3 / quantile for quantile in (9.348403604496148, 0.21579528262389788))  # of chi-square
    squares = (one**2).sum(axis=1)
    assert spread_interval(squares, one) == pytest.approx((2**0.5, low**0.5, high**0.5))
    assert np.isnan(spread_interval(np.zeros(1), np.zeros((1, 3)))).all()  # one replica tells nothing of the spread
    assert spread_interval(np.zeros(5), np.zeros((5, 2))) == (0.0, 0.0, 0.0)
    assert spread_interval(squares[:2], one[:2])[0] == pytest.approx(2**0.5)


def test_root_interval_by_hand():
    value, low, high = root_interval(np.array([1.0, 4.0, 4.0, 7.0]))
    half = 3.182446305284263 * 6**0.5 / 2  # t_{0.975, 3} s / sqrt(4)
    assert value == 2.0 and low == pytest.approx((4 - half) ** 0.5) and high == pytest.approx((4 + half) ** 0.5)
    assert root_interval(np.array([9.0])) == pytest.approx((3.0, np.nan, np.nan), nan_ok=True)
    assert root_interval(np.zeros(5)) == (0.0, 0.0, 0.0)
    assert root_interval(np.array([0.0, 0.0, 100.0]))[1] == 0.0  # the interval of the square reaches below 0


# Verdicts


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((1.0, 2.0), True), ((1.2, 1.8), True), ((0.9, 1.5), None), ((1.5, 2.1), None), ((0.5, 3.0), None),
     ((0.5, 0.9), False), ((2.1, 3.0), False), ((math.nan, 1.5), True), ((0.5, 1.0), None)],
)  # fmt: skip
def test_a_value_is_judged_on_its_whole_interval(interval, verdict):
    """In [1, 2]; the value itself, 1.5, counts only where the interval is not known."""
    assert judged(1.5, *interval, 1.0, 2.0) is verdict


def test_what_is_not_a_number_is_in_no_range():
    assert judged(math.nan, math.nan, math.nan, -math.inf, math.inf) is False


# Slopes


@pytest.mark.parametrize("power", [-0.5, 1.0, -2.25])
def test_an_exact_power_law_is_fitted_exactly(power):
    x = np.array([1.0, 3.0, 10.0, 250.0])
    fit = fitted_slope(x, 0.7 * x**power, target=power, target_low=power - 0.1, target_high=power + 0.1)
    assert fit.slope == pytest.approx(power, abs=1e-12)
    assert 10**fit.intercept == pytest.approx(0.7, rel=1e-12)
    assert fit.ci_low == pytest.approx(power, abs=1e-6) and fit.ci_high == pytest.approx(power, abs=1e-6)
    assert fit.passed is True and fit.target == power


def test_two_points_give_a_slope_without_interval():
    fit = fitted_slope(np.array([1.0, 100.0]), np.array([5.0, 0.5]))
    assert fit.slope == pytest.approx(-0.5) and math.isnan(fit.ci_low) and math.isnan(fit.ci_high)
    assert fit.passed is None


def test_least_squares_interval_covers_the_slope():
    """Exact for Gaussian errors of the logarithm: 95 %, plus or minus four standard deviations of the count."""
    rng = np.random.default_rng(2)
    x = np.geomspace(10, 1e5, 6)
    fits = [fitted_slope(x, 3 * x**-0.5 * 10 ** rng.normal(scale=0.1, size=6)) for _ in range(2000)]
    inside = np.mean([fit.ci_low <= -0.5 <= fit.ci_high for fit in fits])
    assert abs(inside - LEVEL) < 4 * (LEVEL * (1 - LEVEL) / 2000) ** 0.5


def test_interval_from_draws_is_that_of_their_slopes():
    rng = np.random.default_rng(3)
    x = np.array([1.0, 10.0, 100.0])
    draws = x**-0.5 * 10 ** rng.normal(scale=0.05, size=(400, 3))
    fit = fitted_slope(x, x**-0.5, draws)
    slopes = [np.polyfit(np.log10(x), np.log10(row), 1)[0] for row in draws]
    assert (fit.ci_low, fit.ci_high) == pytest.approx(tuple(np.percentile(slopes, [2.5, 97.5])), abs=1e-12)
    assert fit.slope == pytest.approx(-0.5, abs=1e-12)


@pytest.mark.parametrize(("slope", "passed"), [(-0.56, False), (-0.55, True), (-0.45, True), (-0.44, False)])
def test_a_slope_passes_inside_its_range(slope, passed):
    assert Slope(slope, slope, slope, 0.0, -0.5, -0.55, -0.45).passed is passed
    wide = Slope(slope, -0.6, -0.4, 0.0, -0.5, -0.55, -0.45)
    assert wide.passed is None and wide.undecided and not Slope(slope, -0.6, -0.4, 0.0, -0.5).undecided
    assert Slope(slope, slope, slope, 0.0, -0.5).passed is None


# Resampling


def test_resampled_spreads_against_brute_force():
    rng = np.random.default_rng(4)
    weight = rng.dirichlet(np.ones(6)).reshape(3, 2)
    weight[1, 1] = 0.0
    tables = [scale * rng.normal(size=(9, 3, 2)) + 50.0 for scale in (1.0, 0.1)]
    found = resampled_spreads(tables, weight, resamples=25, seed=8)
    picks = np.random.default_rng(8).multinomial(9, np.full(9, 1 / 9), size=25)
    for resample, counts in enumerate(picks):
        for column, table in enumerate(tables):
            drawn = np.repeat(table, counts, axis=0)
            square = (weight * (drawn - drawn.mean(axis=0)) ** 2).sum() / (9 - 1)
            assert found[resample, column] == pytest.approx(square**0.5, rel=1e-9)
    assert found.shape == (25, 2)


def test_resamples_of_the_same_run_are_paired():
    """Tables that are multiples of each other give one slope in every resample: no interval of a ratio is lost."""
    table = np.random.default_rng(5).normal(size=(12, 2, 2))
    found = resampled_spreads([table, table / 8], np.full((2, 2), 0.25), resamples=50, seed=0)
    np.testing.assert_allclose(found[:, 0] / found[:, 1], 8.0, rtol=1e-9)
    assert found[:, 0].std() > 0.05 * found[:, 0].mean()


def test_one_replica_over_and_over_has_no_spread():
    found = resampled_spreads([np.ones((6, 2, 2)) / 3], np.full((2, 2), 0.25), resamples=10, seed=0)
    np.testing.assert_allclose(found, 0.0, atol=1e-12)


def test_resampled_roots_against_brute_force():
    squares = [np.array([1.0, 4.0, 9.0]), np.array([16.0, 16.0])]
    found = resampled_roots(squares, resamples=300, seed=1)
    rng = np.random.default_rng(1)
    brute = [math.sqrt(np.mean(pick)) for pick in rng.choice(squares[0], size=(300, 3))]
    np.testing.assert_allclose(found[:, 0], brute, rtol=1e-12)
    np.testing.assert_allclose(found[:, 1], 4.0, rtol=1e-12)
    possible = {round(math.sqrt((a + b + c) / 3), 9) for a in (1, 4, 9) for b in (1, 4, 9) for c in (1, 4, 9)}
    assert {round(float(value), 9) for value in found[:, 0]} == possible  # 300 draws of 27 triples, 10 values


def test_one_draw_has_no_interval():
    """Resampling it would repeat it, and claim that nothing is uncertain."""
    draws = resampled_roots([np.array([4.0]), np.array([1.0])], 100, 0)
    assert draws.shape == (100, 2) and np.isnan(draws).all()
    fit = fitted_slope(np.array([1.0, 4.0]), np.array([2.0, 1.0]), draws)
    assert fit.slope == pytest.approx(-0.5) and math.isnan(fit.ci_low) and math.isnan(fit.ci_high)
