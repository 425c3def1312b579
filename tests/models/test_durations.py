"""Duration laws against closed forms (D2)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsmdp_jax.models.durations import (
    LAWS,
    DurationLaw,
    deterministic,
    geometric,
    negative_binomial,
    phase_type,
    truncated_power_law,
    uniform,
    with_mean,
)

LONG = 4000  # long enough that truncation is below rounding for the closed forms below
GAMMA = 0.93
PHASES = np.array([[0.3, 0.4, 0.0], [0.1, 0.2, 0.5], [0.0, 0.3, 0.6]])


def test_deterministic_discount() -> None:
    law = deterministic(7, longest=20)
    assert law.discount(GAMMA) == pytest.approx(GAMMA**7, rel=1e-14)
    assert (law.mean(), law.variance(), law.longest, law.tail_mass) == (7.0, 0.0, 20, 0.0)


def test_uniform_discount() -> None:
    low, high = 3, 11
    exact = GAMMA**low * (1 - GAMMA ** (high - low + 1)) / ((1 - GAMMA) * (high - low + 1))
    law = uniform(low, high, longest=30)
    assert law.discount(GAMMA) == pytest.approx(exact, rel=1e-13)
    assert law.mean() == pytest.approx(7.0, rel=1e-14)
    assert law.variance() == pytest.approx(((high - low + 1) ** 2 - 1) / 12, rel=1e-13)


@pytest.mark.parametrize("p", [0.02, 0.3, 1.0])
def test_geometric_discount(p: float) -> None:
    law = geometric(p, LONG)
    assert law.discount(GAMMA) == pytest.approx(p * GAMMA / (1 - (1 - p) * GAMMA), rel=1e-12)
    assert law.mean() == pytest.approx(1 / p, rel=1e-12)
    assert law.variance() == pytest.approx((1 - p) / p**2, rel=1e-11)


@pytest.mark.parametrize(("r", "p"), [(1.0, 0.2), (2.0, 0.1), (3.7, 0.4), (2.0, 1.0)])
def test_negative_binomial_discount(r: float, p: float) -> None:
    law = negative_binomial(r, p, LONG)
    assert law.discount(GAMMA) == pytest.approx(GAMMA * (p / (1 - (1 - p) * GAMMA)) ** r, rel=1e-11)
    assert law.mean() == pytest.approx(1 + r * (1 - p) / p, rel=1e-11)
    if r == 1:
        np.testing.assert_allclose(law.pmf, geometric(p, LONG).pmf, atol=1e-15)


def test_phase_type_discount() -> None:
    alpha = np.array([0.5, 0.2, 0.3])
    law = phase_type(alpha, PHASES, LONG)
    leaves = 1 - PHASES.sum(axis=1)
    exact = alpha @ (GAMMA * np.linalg.solve(np.eye(3) - GAMMA * PHASES, leaves))
    assert law.discount(GAMMA) == pytest.approx(exact, rel=1e-12)
    assert law.mean() == pytest.approx(alpha @ np.linalg.solve(np.eye(3) - PHASES, np.ones(3)), rel=1e-11)


def test_phase_type_of_one_phase_is_geometric() -> None:
    np.testing.assert_allclose(phase_type([1.0], np.array([[0.75]]), 40).pmf, geometric(0.25, 40).pmf, rtol=1e-12)


def test_power_law_ratio_and_tail() -> None:
    law = truncated_power_law(2.5, 60)
    assert law.pmf[9] / law.pmf[0] == pytest.approx(10**-2.5, rel=1e-13)
    assert truncated_power_law(0.7, 60).tail_mass == 1.0
    # zeta(4) = pi^4 / 90: what is cut off is known in closed form
    kept = (np.arange(1, 61) ** -4.0).sum() / (np.pi**4 / 90)
    assert truncated_power_law(4.0, 60).tail_mass == pytest.approx(1 - kept, rel=1e-7)


@pytest.mark.parametrize(
    "build",
    [
        lambda t: geometric(0.1, t),
        lambda t: negative_binomial(2.5, 0.2, t),
        lambda t: phase_type([1.0, 0.0, 0.0], PHASES, t),
    ],
)
def test_truncation_renormalises_and_reports_the_tail(build) -> None:
    short, full = build(12), build(LONG)
    assert short.tail_mass == pytest.approx(full.pmf[12:].sum(), rel=1e-10)
    assert 0.001 < short.tail_mass < 0.5
    np.testing.assert_allclose(short.pmf, full.pmf[:12] / full.pmf[:12].sum(), rtol=1e-11)


@pytest.mark.parametrize("name", sorted(LAWS))
@pytest.mark.parametrize("mean", [1.75, 2.0, 6.4, 8.0, 19.3])
def test_with_mean_has_the_exact_mean_after_truncation(name: str, mean: float) -> None:
    law = with_mean(name, mean, 40)
    assert law.mean() == pytest.approx(mean, abs=1e-11)
    assert law.longest == 40
    assert law.name == name


def test_with_mean_keeps_the_shape_of_each_family() -> None:
    ratio = with_mean("geometric", 6.0, 30).pmf[1:] / with_mean("geometric", 6.0, 30).pmf[:-1]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-10)
    assert np.count_nonzero(with_mean("deterministic", 6.0, 30).pmf) == 1
    np.testing.assert_allclose(with_mean("uniform", 6.0, 30).pmf[:11], 1 / 11, rtol=1e-12)
    decay = np.log(with_mean("truncated_power_law", 6.0, 30).pmf)
    slope = np.diff(decay) / np.diff(np.log(np.arange(1, 31)))
    np.testing.assert_allclose(slope, slope[0], rtol=1e-8)
    # at one and the same mean, the spread of the duration is what tells the laws apart
    spread = {name: with_mean(name, 6.0, 30).variance() for name in LAWS}
    assert spread["deterministic"] == 0 < spread["uniform"] < spread["geometric"]
    assert spread["geometric"] < spread["truncated_power_law"]


@pytest.mark.parametrize("name", ["deterministic", "geometric", "negative_binomial", "truncated_power_law"])
def test_mean_of_one_step_is_the_shortest_law(name: str) -> None:
    assert with_mean(name, 1.0, 30).pmf[0] == pytest.approx(1.0, abs=1e-12)


@given(
    name=st.sampled_from(sorted(LAWS)),
    mean=st.floats(1.72, 15.0),
    longest=st.integers(31, 80),
    gamma=st.floats(0.0, 0.999),
    step=st.floats(1e-4, 0.5),
)
@settings(max_examples=150, deadline=None)
def test_laws_are_laws(name: str, mean: float, longest: int, gamma: float, step: float) -> None:
    law = with_mean(name, mean, longest)
    assert law.pmf.min() >= 0
    assert law.pmf.sum() == pytest.approx(1.0, abs=1e-12)
    discount = law.discount(gamma)
    assert discount >= gamma**mean - 1e-12  # Jensen: gamma^tau is convex in tau
    assert discount <= gamma + 1e-15  # at least one step
    larger = min(gamma + step, 1.0)
    assert law.discount(larger) >= discount
    assert law.horizon(gamma) <= 1 / (1 - gamma) * (1 + 1e-12)
    assert law.annuity(gamma) == pytest.approx((law.pmf * np.cumsum(gamma ** np.arange(longest))).sum(), rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: deterministic(0), "tau = 0"),
        (lambda: uniform(5, 4), "high = 4"),
        (lambda: deterministic(9, longest=8), "longest = 8"),
        (lambda: geometric(0.0, 5), "success probability = 0.0"),
        (lambda: geometric(0.5, 0), "longest = 0"),
        (lambda: negative_binomial(0.0, 0.5, 5), "successes = 0.0"),
        (lambda: truncated_power_law(-1.0, 5), "exponent = -1.0"),
        (lambda: phase_type([0.5, 0.4], np.zeros((2, 2)), 5), "sum of 0.9"),
        (lambda: phase_type([1.0], np.eye(1), 5), "way out"),
        (lambda: phase_type([1.0, 0.0], np.eye(3), 5), r"shape \[2, 2\]"),
        (lambda: with_mean("poisson", 4.0, 8), "'poisson'"),
        (lambda: with_mean("geometric", 0.5, 8), "mean = 0.5"),
        (lambda: with_mean("geometric", 7.0, 8), "expected between 1 and 4.5"),
        (lambda: DurationLaw("mine", np.array([0.5, 0.4])), "sums to 0.9"),
        (lambda: DurationLaw("mine", np.array([1.5, -0.5])), r"pmf\[1\] = -0.5"),
        (lambda: DurationLaw("mine", np.ones((1, 1))), r"\[1, 1\]"),
    ],
)
def test_wrong_parameters_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_pmf_cannot_be_changed() -> None:
    law = with_mean("geometric", 8.0, 64)  # shared through a cache
    with pytest.raises(ValueError):
        law.pmf[0] = 1.0
