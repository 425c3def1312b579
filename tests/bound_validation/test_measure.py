"""What all axes share: targets and their bounds, runs under the theorems' schedules, intervals and slopes.

Coverage is counted over simulated data with fixed seeds. A count of n intervals at level c has standard deviation
(c (1 - c) / n)^(1/2); the admitted ranges are at least four of them wide on either side, so that a right
implementation would fail for fewer than 1 seed in 10000.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bound_validation import measure, theorem
from bound_validation.measure import (
    RADIUS_MARGIN,
    Slope,
    Target,
    fitted_slope,
    lane_average,
    limit_run,
    resampled_roots,
    resampled_spreads,
    root_interval,
    theorem_run,
)
from icsmdp_jax.exact.fixed_point import bellman, whiten
from icsmdp_jax.learner.experiment import POWER, default_tabular_step, model_inputs, random_relu, stationary_env
from icsmdp_jax.learner.icq import Learner
from icsmdp_jax.learner.train import Run, init_run, replica_keys
from icsmdp_jax.sampling import random_words
from tests.helpers import golden_analysis

CHUNK, SAMPLES, REPLICAS = 16, 64, 3
LEVEL = 0.95


@cache
def tabular_target() -> Target:
    """Ten agents, A6 certified."""
    return Target(golden_analysis("ten_agents"))


@cache
def linear_target() -> Target:
    """The same model with two random features per agent, fewer than its interfaces."""
    known = golden_analysis("ten_agents")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(known.interface.model.num_interfaces, 4))
    raw = random_relu(x, known.interface.model.interface_agent, 2, rng)
    return Target(known, whiten(raw, known.interface))


TARGETS = pytest.mark.parametrize("make", [tabular_target, linear_target], ids=["tabular", "linear"])


# Targets


@TARGETS
def test_the_target_is_the_projected_fixed_point(make):
    target = make()
    interface, q = target.known.interface, target.fixed.q
    assert target.fixed.converged
    assert interface.norm(target.operator(bellman(interface, q)) - q) < 1e-10
    if target.basis is None:
        np.testing.assert_array_equal(q, np.where(interface.mask, target.known.q_phi.q, 0.0))
    else:
        assert interface.norm(q - target.q_phi) > 0.1  # the class is too small, or nothing is tested


@TARGETS
def test_every_block_of_the_fixed_point_lies_inside_the_ball(make):
    target = make()
    theta, mask = target.fixed.theta, target.known.interface.mask
    rows = theta[:, None] if target.basis is None else target.basis.unpack(theta, mask).reshape(-1, 2)
    norms = np.linalg.norm(rows, axis=1)
    assert RADIUS_MARGIN >= 1
    assert target.radius == pytest.approx(RADIUS_MARGIN * norms.max(), rel=1e-12)
    np.testing.assert_allclose(
        target.tables(rows.reshape(1, *_shape(target)))[0][mask], target.fixed.q[mask], atol=1e-9
    )


def _shape(target: Target) -> tuple[int, ...]:
    model = target.known.interface.model
    if target.basis is None:
        return (model.num_interfaces, model.num_options)
    return (model.num_agents, model.num_options, target.basis.width)


def plain_mixing_time(target: Target, accuracy: float) -> int:
    """Least t with ``max_s TV(P^t(s, .), d) <= accuracy``, by powers of the matrix."""
    chain = target.known.interface.chain
    step = np.asarray(chain.transition.todense() if hasattr(chain.transition, "todense") else chain.transition)
    law = chain.stationary[chain.states]
    power, t = np.eye(len(law)), 0
    while 0.5 * np.abs(power - law).sum(axis=1).max() > accuracy:
        power, t = power @ step, t + 1
    return t


@TARGETS
@pytest.mark.parametrize("samples", [1, 1000, 10**6])
def test_residual_bound_is_the_theorem_with_this_models_constants(make, samples):
    target = make()
    known, interface = target.known, target.known.interface
    model, moments = interface.model, interface.moments
    gamma, longest = moments.gamma, model.longest_duration
    largest = np.abs(model.reward_rate).max() * sum(gamma**t for t in range(longest)) + model.reward_noise
    gradient = largest + 2 * target.radius
    kappa, omega = known.kappa, np.linalg.eigvalsh(target.operator.second_moment)[0]
    mixing = plain_mixing_time(target, samples**-0.5)
    distance = float(np.sum(target.fixed.theta**2))
    square = (distance + gradient**2 * (9 + 12 * mixing)) / (2 * (1 - kappa) * samples**0.5)
    assert target.residual_bound(samples) == pytest.approx(square**0.5, rel=1e-9)
    through = theorem.residual_bound_constant_step(distance**0.5, gradient, mixing, kappa, samples)
    assert target.residual_bound(samples) == pytest.approx(theorem.residual_rms(through), rel=1e-9)

    mixing = plain_mixing_time(target, 1 / (omega * (samples + 1) * (1 - kappa)))
    square = gradient**2 * (9 + 24 * mixing) * (1 + math.log(samples)) / (samples * (1 - kappa) ** 2 * omega)
    assert target.residual_bound(samples, decaying=True) == pytest.approx(square**0.5, rel=1e-7)


def test_without_a6_no_residual_is_claimed():
    target = Target(golden_analysis("plain"))
    assert target.known.kappa >= 1
    assert math.isnan(target.residual_bound(1000)) and math.isnan(target.residual_bound(1000, decaying=True))
    assert target.constants()["certified"] is False


def test_constants_are_those_of_the_analysis():
    target, linear = tabular_target(), linear_target()
    table = target.known.table()
    found = target.constants()
    for name in ("gamma_bar", "kappa", "epsilon", "delta", "mixing_time", "clt_coefficient", "clt_coefficient_iid"):
        assert found[name] == table[name], name
    assert found["omega"] == pytest.approx(table["omega"], rel=1e-12) and found["certified"] is True
    assert found["gamma"] == target.known.interface.model.gamma
    assert linear.constants()["clt_coefficient"] != found["clt_coefficient"]
    assert linear.constants()["kappa"] == found["kappa"]  # P1 certifies A6 for every class at once


# Runs, replayed


class Path(NamedTuple):
    """One replica's segments, ``[SAMPLES]`` each."""

    interface: np.ndarray
    option: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    next_interface: np.ndarray


@cache
def paths(seed: int) -> list[Path]:
    """The handoffs of every replica, recorded from a learner that never learns: behaviour does not depend on values."""
    target = tabular_target()
    env, env_params = stationary_env(target.known)
    inputs = model_inputs(target.known, env_params, None, default_tabular_step(0.0))
    inputs = jax.tree.map(jnp.asarray, inputs)
    learner = Learner(env, target.values)
    split = learner.env.words_per_step

    @jax.jit
    def step(words, state):
        option = learner.act(words[split:], state, inputs)
        handoff, env_state = env.step_from_words(words[:split], state.env_state, option, inputs.env_params)
        row = Path(
            state.handoff.interface, option, handoff.reward, handoff.discount, handoff.final_interface
        )  # fmt: skip
        return state._replace(env_state=env_state, handoff=handoff), row

    found = []
    for key in replica_keys(jax.random.key(seed), REPLICAS):
        run = init_run(learner, key, inputs)
        state, rows = run.learner, []
        for chunk in range(SAMPLES // CHUNK):
            for words in random_words(jax.random.fold_in(run.key, chunk), CHUNK, learner.words_per_step):
                state, row = step(words, state)
                rows.append(row)
        found.append(Path(*(np.stack(column) for column in zip(*jax.device_get(rows), strict=True))))
    return found


def replayed(path: Path, steps: np.ndarray, radius: float) -> np.ndarray:
    """Plain float64 IC-Q tables before each segment and after the last, ``[SAMPLES + 1, Z, O]``.

    ``steps[k, n]`` is the step of segment k at the n-th visit of its pair.
    """
    model = tabular_target().known.interface.model
    table = np.zeros((model.num_interfaces, model.num_options))
    visits = np.zeros(table.shape, int)
    iterates = [table.copy()]
    for k, (z, o, reward, discount, following) in enumerate(zip(*path, strict=True)):
        error = reward + discount * table[following].max() - table[z, o]
        table[z, o] = np.clip(table[z, o] + steps[k, visits[z, o]] * error, -radius, radius)
        visits[z, o] += 1
        iterates.append(table.copy())
    return np.stack(iterates)


def assert_replays(run: Run, lane: int, seed: int, steps: np.ndarray, radius: float) -> np.ndarray:
    last = np.asarray(run.snapshots[-1].last[lane])
    everything = []
    for replica, path in enumerate(paths(seed)):
        iterates = replayed(path, steps, radius)
        scale = 1 + np.abs(iterates).max()
        np.testing.assert_allclose(last[replica], iterates[-1], atol=2e-5 * scale)
        average = lane_average(run, lane, -1)[replica]
        np.testing.assert_allclose(average, iterates[:-1].mean(axis=0), atol=2e-5 * scale)
        half = lane_average(run, lane, -1, SAMPLES // 2)[replica]
        np.testing.assert_allclose(half, iterates[SAMPLES // 2 : -1].mean(axis=0), atol=4e-5 * scale)
        everything.append(iterates)
    return np.stack(everything)


@cache
def tabular_theorem_run() -> Run:
    """Lanes: constant step of K = 16, constant step of K = 64, decaying step."""
    target = tabular_target()
    lanes = [(target, 16), (target, SAMPLES), (target, None)]
    return theorem_run(lanes, jax.random.key(5), REPLICAS, [SAMPLES // 2, SAMPLES], CHUNK, None)


@pytest.mark.parametrize(("lane", "step"), [(0, 0.25), (1, 0.125)])
def test_theorem_run_takes_the_constant_step_of_its_lane(lane, step):
    steps = np.full((SAMPLES, SAMPLES), step)
    assert_replays(tabular_theorem_run(), lane, 5, steps, tabular_target().radius)


def test_theorem_run_decays_on_the_shared_clock_and_projects():
    target = tabular_target()
    clock = np.arange(SAMPLES)[:, None] * np.ones(SAMPLES)  # whatever the visits, step k is that of handoff k
    steps = 1 / (target.known.omega * (1 - target.known.kappa) * (clock + 1))
    iterates = assert_replays(tabular_theorem_run(), 2, 5, steps, target.radius)
    assert (np.abs(iterates) == target.radius).any(axis=(1, 2, 3)).all()  # the ball was reached, so projection matters


def test_limit_run_counts_visits_and_does_not_project():
    target = tabular_target()
    run = limit_run([target], jax.random.key(6), REPLICAS, [SAMPLES // 2, SAMPLES], CHUNK, None)
    visits = np.ones(SAMPLES)[:, None] * np.arange(SAMPLES)
    steps = (1 + (1 - target.known.interface.gamma_bar) * visits) ** -POWER
    assert_replays(run, 0, 6, steps, np.inf)


def test_theorem_run_keeps_every_block_of_features_inside_the_ball():
    target = linear_target()
    done: list[int] = []
    lanes = [(target, SAMPLES), (target, None)]
    run = theorem_run(lanes, jax.random.key(7), REPLICAS, [CHUNK, SAMPLES], CHUNK, done.append)
    for snapshot in run.snapshots:
        norms = np.linalg.norm(snapshot.last, axis=-1)
        assert norms.shape == (2, REPLICAS, 10, 2)
        assert norms.max() <= target.radius * (1 + 1e-6)
        assert norms[1].max() >= target.radius * (1 - 1e-6)  # the decaying step starts large and is cut off
    assert sum(done) == run.handoffs == 2 * REPLICAS * SAMPLES
    values = target.tables(run.snapshots[-1].last[0])
    assert values.shape == (REPLICAS, 30, 2)


def test_theorem_run_starts_from_the_stationary_law(monkeypatch):
    """T3 as it is computed here asks for a stationary start and for theta_0 = 0."""
    caught = {}
    monkeypatch.setattr(measure, "train", lambda learner, lanes, *rest: caught.update(learner=learner, lanes=lanes))
    target = linear_target()
    theorem_run([(target, 100), (target, None)], jax.random.key(0), 2, [100], 100, None)
    learner, lanes = caught["learner"], caught["lanes"]
    assert (learner.clock, learner.project, learner.greedy, learner.optimiser) == ("epoch", True, False, None)
    law = target.known.interface.chain.stationary
    env_params = jax.tree.map(jnp.asarray, lanes[0].env_params)
    keys = jax.random.split(jax.random.key(1), 60_000)
    draws = jax.vmap(lambda key: learner.env.reset(key, env_params)[1].index)(keys)
    found = np.bincount(np.asarray(draws), minlength=len(law)) / len(keys)
    # Each of 60 frequencies leaves 5 standard deviations with probability below 1e-6.
    np.testing.assert_array_less(np.abs(found - law), 5 * np.sqrt(law / len(keys)))
    assert all(float(lane.radius) == pytest.approx(target.radius, rel=1e-6) for lane in lanes)
    assert not np.asarray(learner.init(jax.random.key(0), lanes[0]).params).any()


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


def test_root_interval_of_deviations_covers_the_spread():
    """Deviations are measured from the replicas' own mean; a replica's degree of freedom is given back."""
    rng = np.random.default_rng(1)
    errors = rng.normal(size=(4000, 16, 20)) * np.sqrt(np.arange(1, 21) / 20) + 3.0
    deviations = ((errors - errors.mean(axis=1, keepdims=True)) ** 2).sum(axis=-1)
    variance = float((np.arange(1, 21) / 20).sum())
    found = np.array([root_interval(row, degrees_lost=1) for row in deviations])
    squares = found[:, 0] ** 2
    assert abs(squares.mean() - variance) < 4 * squares.std() / 4000**0.5  # unbiased; fails for 1 seed in 15000
    biased = np.array([root_interval(row)[0] ** 2 for row in deviations])
    assert biased.mean() < variance * (1 - 1 / 20)
    inside = (found[:, 1] <= variance**0.5) & (variance**0.5 <= found[:, 2])
    assert 0.92 < inside.mean() < 0.97


def test_root_interval_by_hand():
    value, low, high = root_interval(np.array([1.0, 4.0, 4.0, 7.0]))
    half = 3.182446305284263 * 6**0.5 / 2  # t_{0.975, 3} s / sqrt(4)
    assert value == 2.0 and low == pytest.approx((4 - half) ** 0.5) and high == pytest.approx((4 + half) ** 0.5)
    assert root_interval(np.array([9.0])) == (3.0, 3.0, 3.0)
    assert root_interval(np.zeros(5)) == (0.0, 0.0, 0.0)
    assert root_interval(np.array([0.0, 0.0, 100.0]))[1] == 0.0  # the interval of the square reaches below 0


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
