"""The NumPy twin by hand, by enumeration and against the laws of its own simulator.

The package is held to the twin on random models, and to the golden files of another program; the twin need not be held
to these again.
"""

from __future__ import annotations

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

small = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


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


@pytest.mark.parametrize("seed", range(2))
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
