"""The NumPy twin against the golden files, hand computations and the laws of its own simulator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.reference import simulate, twin
from tests.reference.models import (
    Model,
    available_options,
    decision_pairs,
    joint_kernel,
    models,
    num_interfaces,
    random_behaviour,
    random_model,
    terminal_states,
    uniform_behaviour,
)

GOLDEN = Path(__file__).parent.parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
SOLUTION_KEYS = ("q_star", "q_interface", "stationary", "weights")

small = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def golden_model(name: str) -> Model:
    with np.load(GOLDEN / f"{name}.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_constants_match_the_golden_file(name: str) -> None:
    model = golden_model(name)
    answers = twin.analyse(model, uniform_behaviour(model))
    for key, expected in EXPECTED[name].items():
        assert answers[key] == pytest.approx(expected, rel=1e-6, abs=1e-6), key


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_solution_matches_the_golden_file(name: str) -> None:
    model = golden_model(name)
    behaviour = uniform_behaviour(model)
    law = twin.stationary_law(model, behaviour)
    answers = {
        "q_star": twin.optimal_q(model),
        "q_interface": twin.interface_q(model, behaviour),
        "stationary": law,
        "weights": twin.interface_weights(model, law),
    }
    with np.load(GOLDEN / f"{name}.solution.npz") as solution:
        assert set(solution.files) == set(SOLUTION_KEYS)
        for key in SOLUTION_KEYS:
            np.testing.assert_allclose(answers[key], solution[key], rtol=0, atol=1e-6, equal_nan=True)


@small
@given(models())
def test_random_models_are_valid(model: Model) -> None:
    kernel = joint_kernel(model)
    assert kernel.min() >= 0
    np.testing.assert_allclose(kernel.sum(axis=(2, 3)), 1.0, atol=1e-12)
    assert available_options(model).any(axis=1).all()
    for z in range(num_interfaces(model)):
        owners = np.unique(model["agent"][model["interface"] == z])
        assert owners.size == 1
    assert set(np.unique(model["interface"])) == set(range(num_interfaces(model)))
    if "terminal" in model:
        assert model["start"].sum() == pytest.approx(1.0)
        assert (model["start"][model["terminal"]] == 0).all()


@small
@given(models())
def test_stationary_law_is_invariant_and_positive(model: Model) -> None:
    behaviour = uniform_behaviour(model)
    law, chain = twin.stationary_law(model, behaviour), twin.behaviour_chain(model, behaviour)
    live = ~terminal_states(model)
    np.testing.assert_allclose(chain[live].sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(law @ chain, law, atol=1e-12)
    assert (law[live] > 0).all() and (law[~live] == 0).all()


@small
@given(models(gap=0.0))
def test_closed_gap_leaves_no_interface_error(model: Model) -> None:
    behaviour = uniform_behaviour(model)
    constants = twin.ais_constants(model, behaviour)
    assert max(constants) < 1e-12
    assert twin.interface_gap(model, behaviour) < 1e-9
    assert twin.policy_loss(model, behaviour) < 1e-9


@small
@given(models(), st.integers(0, 2**16))
def test_the_three_bounds_hold_and_are_ordered(model: Model, seed: int) -> None:
    behaviour = random_behaviour(np.random.default_rng(seed), model)
    gap = twin.interface_gap(model, behaviour)
    value_aware = twin.interface_bound_value_aware(model, behaviour)
    mass_span = twin.interface_bound_mass_span(model, behaviour)
    plain = twin.interface_bound(model, behaviour)
    slack = 1e-9 * (1.0 + plain)
    assert gap <= value_aware + slack
    assert value_aware <= mass_span + slack
    assert mass_span <= plain + slack
    assert twin.policy_loss(model, behaviour) <= 2.0 * value_aware + slack


@small
@given(models(), st.integers(0, 2**16))
def test_kappa_bounds_the_contraction_in_the_weighted_norm(model: Model, seed: int) -> None:
    rng = np.random.default_rng(seed)
    behaviour = random_behaviour(rng, model)
    seen, kappa = twin.interface_model(model, behaviour), twin.kappa_certificate(model, behaviour)
    first, second = rng.normal(size=(2, *seen.mask.shape))
    image = twin.bellman(*seen, first) - twin.bellman(*seen, second)
    before = twin.weighted_norm(model, behaviour, first - second)
    assert twin.weighted_norm(model, behaviour, image) <= kappa * before + 1e-12


def test_episode_of_one_coin_by_hand() -> None:
    """Two steps of reward 1, then the end with probability 1/2: every number fits on a napkin."""
    model: Model = {
        "transition": np.array([[[0.5, 0.5]], [[0.0, 1.0]]]),
        "duration": np.array([[[0.0, 1.0]], [[0.0, 1.0]]]),
        "reward_rate": np.array([[1.0], [7.0]]),
        "reward_noise": np.array(0.0),
        "agent": np.array([0, 0]),
        "interface": np.array([0, 0]),
        "gamma": np.array(0.5),
        "terminal": np.array([False, True]),
        "start": np.array([1.0, 0.0]),
    }
    behaviour = uniform_behaviour(model)
    # E[R] = 1 + 1/2; the mass that goes on is 1/2, discounted by 1/4; Q* = 1.5 / (1 - 1/8).
    assert twin.expected_reward(model)[0, 0] == pytest.approx(1.5)
    assert twin.modulus(model) == pytest.approx(0.125)
    np.testing.assert_allclose(twin.optimal_q(model), [[12 / 7], [0.0]], atol=1e-12)
    np.testing.assert_allclose(twin.interface_q(model, behaviour), [[12 / 7]], atol=1e-12)
    np.testing.assert_allclose(twin.stationary_law(model, behaviour), [1.0, 0.0])
    # e = +-(gamma^2 Q) / 2, each with probability 1/2; A = 7/8; the chain never leaves its one state.
    limit = twin.central_limit(model, behaviour)
    assert limit.coefficient == pytest.approx((0.25 * 12 / 7 / 2) / (7 / 8))
    assert limit.coefficient_iid == pytest.approx(limit.coefficient)


def test_projected_fixed_point_with_full_features_is_the_interface_solution() -> None:
    rng = np.random.default_rng(3)
    model = random_model(rng, masks=True, terminals=True, options=3)
    behaviour = random_behaviour(rng, model)
    mask = twin.interface_model(model, behaviour).mask
    features = rng.normal(size=(*mask.shape, 4 + int(mask.sum())))
    q = twin.projected_fixed_point(model, behaviour, features)
    np.testing.assert_allclose(q[mask], twin.interface_q(model, behaviour)[mask], atol=1e-8)
    tabular = twin.central_limit(model, behaviour)
    linear = twin.central_limit(model, behaviour, features)
    assert linear.coefficient == pytest.approx(tabular.coefficient, rel=1e-7)
    assert linear.coefficient_iid == pytest.approx(tabular.coefficient_iid, rel=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_projected_fixed_point_agrees_with_the_enumeration_of_policies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(rng, interfaces_per_agent=4, gamma=0.7, masks=True, options=2)
    behaviour = uniform_behaviour(model)
    features = rng.normal(size=(num_interfaces(model), 2, 3))
    found = twin.enumerate_fixed_points(model, behaviour, features)
    assert len(found) == 1
    mask = twin.interface_model(model, behaviour).mask
    q = twin.projected_fixed_point(model, behaviour, features)
    np.testing.assert_allclose(q[mask], found[0][mask], atol=1e-9)
    # And theta of Q_m zeroes the expected semi-gradient: the residual is d-orthogonal to the features.
    seen, law = twin.interface_model(model, behaviour), twin.pair_law(model, behaviour)
    residual = twin.bellman(*seen, q) - q
    np.testing.assert_allclose((law * residual)[mask] @ features[mask], 0.0, atol=1e-12)


def test_closed_gap_takes_mixing_out_of_the_central_limit() -> None:
    rng = np.random.default_rng(5)
    model = random_model(rng, gap=0.0, successor_lists=True, interfaces_per_agent=3, hidden=3)
    limit = twin.central_limit(model, uniform_behaviour(model))
    assert np.abs(limit.conditional_bias).max() < 1e-10
    assert limit.coefficient == pytest.approx(limit.coefficient_iid, rel=1e-9)


@pytest.mark.parametrize("form", ["transition", "joint", "lists"])
def test_segments_follow_the_joint_kernel(form: str) -> None:
    """Chi-square over (tau, s'), false alarm 1e-6; mean reward by Hoeffding, false alarm 1e-6."""
    rng = np.random.default_rng(11)
    model = random_model(rng, joint_kernel=form == "joint", successor_lists=form == "lists", terminals=True)
    kernel, draws = joint_kernel(model), 4000
    s, o = np.argwhere(decision_pairs(model))[0]
    counts, rewards = np.zeros(kernel.shape[2:]), []
    for _ in range(draws):
        reward, duration, successor = simulate.draw_segment(rng, model, kernel, s, o)
        counts[duration - 1, successor] += 1
        rewards.append(reward)
    law = kernel[s, o] * draws
    large = law >= 5.0
    assert not counts[law == 0].any()
    observed = np.append(counts[large], counts[~large].sum())
    expected = np.append(law[large], law[~large].sum())
    keep = expected > 0
    assert stats.chisquare(observed[keep], expected[keep]).pvalue > 1e-6
    width = abs(model["reward_rate"][s, o]) * twin.annuity(model, kernel.shape[2])[-1] + 0.4
    tolerance = width * np.sqrt(np.log(2 / 1e-6) / (2 * draws))
    assert abs(np.mean(rewards) - twin.expected_reward(model)[s, o]) < tolerance


def test_trajectory_restarts_after_a_terminal_handoff() -> None:
    rng = np.random.default_rng(2)
    model = random_model(rng, terminals=True, masks=True, options=3)
    path = simulate.simulate(rng, model, uniform_behaviour(model), 400)
    going_on = ~path.terminal[:-1]
    assert path.terminal.any() and going_on.any()
    np.testing.assert_array_equal(path.state[1:][going_on], path.next_state[:-1][going_on])
    assert not terminal_states(model)[path.state].any()
    np.testing.assert_array_equal(path.terminal, terminal_states(model)[path.next_state])
    np.testing.assert_array_equal(path.interface, model["interface"][path.state])
    assert available_options(model)[path.interface, path.option].all()
    np.testing.assert_array_equal(path.next_mask, available_options(model)[path.next_interface])


def three_segments() -> simulate.Trajectory:
    """Three segments by hand: a plain one, one into a masked interface, one into the end."""
    return simulate.Trajectory(
        agent=np.array([0, 1, 0]),
        state=np.array([0, 1, 0]),
        interface=np.array([0, 1, 0]),
        option=np.array([0, 1, 0]),
        reward=np.array([1.0, 2.0, 3.0]),
        duration=np.array([2, 1, 3]),
        next_state=np.array([1, 0, 1]),
        next_interface=np.array([1, 0, 1]),
        terminal=np.array([False, False, True]),
        next_mask=np.array([[True, True], [False, True], [True, True]]),
    )


def test_tabular_learner_by_hand() -> None:
    first = np.array([[10.0, -4.0], [2.0, 6.0]])
    tables = simulate.tabular_icq(three_segments(), np.array([0.5, 0.25, 1.0]), 0.5, first)
    # y = 1 + 6/4 = 2.5;   y = 2 - 4/2 = 0 (option 0 is masked);   y = 3 (the end)
    np.testing.assert_allclose(tables[0], [[6.25, -4.0], [2.0, 6.0]])
    np.testing.assert_allclose(tables[1], [[6.25, -4.0], [2.0, 4.5]])
    np.testing.assert_allclose(tables[2], [[3.0, -4.0], [2.0, 4.5]])
    np.testing.assert_allclose(simulate.tail_average(tables, 2), [[4.625, -4.0], [2.0, 4.5]])
    np.testing.assert_allclose(simulate.tail_average(tables), simulate.tail_average(tables, 2))
    np.testing.assert_array_equal(simulate.visit_counts(three_segments(), 2, 2), [0, 0, 1])


def test_linear_learner_with_indicators_is_the_tabular_one() -> None:
    rng = np.random.default_rng(8)
    model = random_model(rng, masks=True, terminals=True, options=3)
    path = simulate.simulate(rng, model, uniform_behaviour(model), 300)
    count = num_interfaces(model) * 3
    steps = 1.0 / (1.0 + simulate.visit_counts(path, num_interfaces(model), 3)) ** 0.7
    first = rng.normal(size=(num_interfaces(model), 3))
    tables = simulate.tabular_icq(path, steps, 0.9, first)
    features = np.eye(count).reshape(num_interfaces(model), 3, count)
    thetas = simulate.linear_icq(path, features, steps, 0.9, first.ravel())
    np.testing.assert_allclose(thetas.reshape(tables.shape), tables, atol=1e-12)


def test_linear_learner_by_hand_with_a_ball() -> None:
    features = np.array([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [0.0, -1.0]]])
    thetas = simulate.linear_icq(
        three_segments(), features, np.array([1.0, 1.0, 1.0]), 0.5, np.array([0.0, 1.0]), radius=3.0
    )
    # y = 1 + 1/4, psi = (1, 0): theta = (1.25, 1).
    np.testing.assert_allclose(thetas[0], [1.25, 1.0])
    # y = 2 + 2.5/2 = 3.25, Q = -1, psi = (0, -1): (1.25, -3.25), cut back to length 3.
    cut = np.array([1.25, -3.25]) * 3.0 / np.hypot(1.25, 3.25)
    np.testing.assert_allclose(thetas[1], cut)
    # y = 3, psi = (1, 0), step 1: the first entry lands on 3 and the ball cuts again.
    landed = np.array([3.0, cut[1]])
    np.testing.assert_allclose(thetas[2], landed * 3.0 / np.hypot(*landed))


@pytest.mark.slow
def test_spread_of_the_tail_average_meets_the_central_limit() -> None:
    """96 replicas: the relative standard error of the spread is at most 1 / sqrt(2 * 95) = 7.3 %.

    That is the worst case, one degree of freedom; a deviation of 20 % then has probability below 0.7 %.
    """
    rng = np.random.default_rng(21)
    model = random_model(rng, gap=1.0, gamma=0.6, longest=2, num_agents=2, interfaces_per_agent=1)
    behaviour = uniform_behaviour(model)
    solution, law = twin.interface_q(model, behaviour), twin.pair_law(model, behaviour)
    handoffs, tail, averages = 2000, 1600, []
    for _ in range(96):
        path = simulate.simulate(rng, model, behaviour, handoffs)
        steps = 0.5 * (1.0 + simulate.visit_counts(path, *solution.shape)) ** -0.6
        averages.append(simulate.tail_average(simulate.tabular_icq(path, steps, 0.6, np.zeros_like(solution)), tail))
    spread, bias = simulate.spread_and_bias(np.array(averages), solution, law)
    predicted = twin.central_limit(model, behaviour).coefficient / np.sqrt(tail)
    assert spread == pytest.approx(predicted, rel=0.2)
    assert bias < 0.5 * predicted
