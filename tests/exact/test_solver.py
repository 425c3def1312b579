"""The exact solver: its certified error is a bound (L2), its rounds are few, its edge cases have closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from icsmdp_jax.exact.moments import as_dense, kernel_moments
from icsmdp_jax.exact.solve import (
    Solution,
    backup,
    evaluate_policy,
    greedy_value,
    modified_policy_iteration,
    optimal_q,
    value_bounds,
)
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import examples

EPS = np.finfo(float).eps
many = examples(150)


def problem(
    seed: int, count: int, options: int, low: float, high: float, ends: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reward ``[n, O]``, substochastic rows ``[n*O, n]`` of masses in ``[low, high]`` and mask ``[n, O]``."""
    rng = np.random.default_rng(seed)
    rows = rng.gamma(0.3, size=(count * options, count)) + 1e-9
    rows *= (rng.uniform(low, high, size=count * options) / rows.sum(axis=1))[:, None]
    mask = rng.random((count, options)) < 0.8
    mask[np.arange(count), rng.integers(options, size=count)] = True
    if ends and count > 1:
        mask[rng.integers(count)] = False
    rows *= mask.reshape(-1, 1)
    if seed % 2:
        rows[:, ~mask.any(axis=1)] = 0.0  # as kernel_moments has it; the solver must not depend on that
    return rng.normal(size=(count, options)), rows, mask


def by_policy_iteration(reward: np.ndarray, rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``V*`` by policy improvement with exact linear solves until no option is better by more than rounding."""
    count, options = reward.shape
    decides = mask.any(axis=1)
    policy = np.where(mask, reward, -np.inf).argmax(axis=1)
    for _ in range(1000):
        index = np.arange(count) * options + policy
        step = np.where(decides[:, None], rows[index], 0.0)
        pays = np.where(decides, reward[np.arange(count), policy], 0.0)
        value = np.linalg.solve(np.eye(count) - step, pays)
        q = np.where(mask, reward + (rows @ value).reshape(reward.shape), -np.inf)
        better = q.max(axis=1) > q[np.arange(count), policy] + 1e-13 * (1 + np.abs(value).max())
        if not (better & decides).any():
            return value
        policy = np.where(better, q.argmax(axis=1), policy)
    raise ArithmeticError("policy iteration did not settle")


shapes = given(
    st.integers(0, 2**16),
    st.integers(1, 12),
    st.integers(1, 4),
    st.sampled_from([(0.0, 0.5), (0.3, 0.9), (0.98, 0.999), (0.95, 0.95)]),
    st.booleans(),
)


@many
@shapes
def test_certified_error_is_a_bound(
    seed: int, count: int, options: int, masses: tuple[float, float], ends: bool
) -> None:
    """Whenever the solver is told to stop early or late, the true error is below what it certifies."""
    reward, rows, mask = problem(seed, count, options, *masses, ends)
    if not mask.any():
        return
    value = by_policy_iteration(reward, rows, mask)
    exact = np.where(mask, reward + (rows @ value).reshape(reward.shape), 0.0)
    rounding = 64 * EPS * (1 + np.abs(value).max()) / (1 - rows.sum(axis=1).max())  # of the answer it is held to
    certified = []
    for rounds, sweeps, tolerance in ((1, 1, 0.1), (2, 1, 0.1), (3, 5, 1e-2), (20, 3, 1e-5), (10**4, 40, 1e-11)):
        found = modified_policy_iteration(reward, rows, mask, tolerance, sweeps, rounds)
        error = np.abs(np.where(mask, found.q, 0.0) - exact).max()
        assert error <= found.error_bound + rounding
        assert np.isneginf(found.q[~mask]).all()
        np.testing.assert_array_equal(found.value, greedy_value(found.q))
        assert found.iterations <= rounds
        certified.append(found.error_bound)
    assert certified[-1] <= 1e-11 * (1 + np.abs(value).max()) + rounding


@many
@shapes
def test_bounds_from_one_backup_enclose_the_value(
    seed: int, count: int, options: int, masses: tuple[float, float], ends: bool
) -> None:
    """L2 itself: ``a <= V* - TV <= b`` for any V, with the smallest and the largest row modulus."""
    reward, rows, mask = problem(seed, count, options, *masses, ends)
    decides = mask.any(axis=1)
    if not decides.any():
        return
    modulus = rows.sum(axis=1).reshape(reward.shape)
    low = float(modulus[mask].min()) if decides.all() else 0.0
    high = float(modulus[mask].max())
    best = by_policy_iteration(reward, rows, mask)
    rng = np.random.default_rng(seed + 1)
    for offset, noise in ((0.0, 0.0), (50.0, 0.0), (-50.0, 0.0), (0.0, 5.0), (50.0, 1.0), (-50.0, 1.0)):
        value = np.where(decides, best + offset + noise * rng.normal(size=count), 0.0)
        improved = greedy_value(backup(reward, rows, value, mask))
        below, above = value_bounds((improved - value)[decides], 1 - high, 1 - low)
        slack = 256 * EPS * (51 + np.abs(best).max()) / (1 - high)
        assert below - slack <= (best - improved)[decides].min()
        assert (best - improved)[decides].max() <= above + slack


def test_error_bound_is_not_vacuous() -> None:
    """On a hard problem stopped early, the certificate is within a factor 10^3 of the truth, and falls with work."""
    reward, rows, mask = problem(3, 30, 3, 0.9, 0.99, False)
    exact = by_policy_iteration(reward, rows, mask)
    bounds = []
    for rounds in (1, 4, 8):
        found = modified_policy_iteration(reward, rows, mask, 1e-14, 5, rounds)
        true = np.abs(found.value - exact).max()
        assert true <= found.error_bound
        bounds.append(found.error_bound)
    assert bounds[2] <= bounds[1] < 0.1 * bounds[0]
    found = modified_policy_iteration(reward, rows, mask, 1e-14, 5, 1)
    assert found.error_bound < 1e3 * np.abs(found.value - exact).max()


def large_problem() -> tuple[np.ndarray, sparse.csr_array, np.ndarray]:
    """2000 states, 8 options, gamma = 0.99 in single steps: 16000 rows of 10 successors each."""
    rng = np.random.default_rng(0)
    count, options, width = 2000, 8, 10
    columns = rng.integers(count, size=(count * options, width))
    law = rng.dirichlet(np.ones(width), size=count * options)
    start = np.arange(count * options + 1) * width
    rows = sparse.csr_array((0.99 * law.reshape(-1), columns.reshape(-1), start), shape=(count * options, count))
    rows.sum_duplicates()
    return rng.normal(size=(count, options)), rows, np.ones((count, options), bool)


def test_large_problem_takes_few_rounds() -> None:
    """Plain value iteration needs log(1e-11) / log(0.99), about 2500 backups of all options; this one a handful."""
    reward, rows, mask = large_problem()
    found = modified_policy_iteration(reward, rows, mask)
    assert found.iterations <= 15
    assert found.error_bound <= 1e-11 * (1 + np.abs(found.value).max())
    value = evaluate_policy(reward, rows, found.q.argmax(axis=1))
    np.testing.assert_allclose(value, found.value, rtol=0, atol=1e-9)
    assert np.abs(backup(reward, rows, value, mask) - found.q).max() < 1e-9


@pytest.mark.parametrize(("gamma", "longest"), [(0.99, 20), (0.999, 60), (0.999, 200)])
def test_options_of_very_different_length_do_not_stop_the_solver(gamma: float, longest: int) -> None:
    """Row moduli from gamma^longest to gamma: still certified to 1e-11 of the scale, in a few dozen rounds."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        count, options = 20, 2
        duration = np.eye(longest)[rng.integers(longest, size=(count, options))]
        model = TabularModel(
            reward_rate=rng.normal(size=(count, options)),
            agent=np.zeros(count, int),
            interface=np.arange(count),
            gamma=gamma,
            transition=rng.dirichlet(np.full(count, 0.2), size=(count, options)),
            duration=duration,
        )
        moments = kernel_moments(model)
        found = optimal_q(moments)
        exact = by_policy_iteration(moments.reward_mean, moments.discounted, moments.used)
        scale = 1 + np.abs(exact).max()
        assert np.abs(found.value - exact).max() <= 1e-9 * scale
        assert found.error_bound <= 1e-11 * scale
        assert found.iterations <= 60


def test_dense_and_compressed_rows_agree() -> None:
    reward, rows, mask = problem(11, 40, 3, 0.5, 0.95, True)
    dense = modified_policy_iteration(reward, rows, mask)
    compressed = modified_policy_iteration(reward, sparse.csr_array(rows), mask)
    np.testing.assert_allclose(compressed.value, dense.value, rtol=0, atol=1e-10)
    policy, decides = dense.q.argmax(axis=1), mask.any(axis=1)
    first = evaluate_policy(reward, rows, policy, decides)
    second = evaluate_policy(reward, sparse.csr_array(rows), policy, decides)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-12)
    np.testing.assert_allclose(first, dense.value, rtol=0, atol=1e-9)
    assert (first[~decides] == 0).all()


def one_state(gamma: float, rate: float, pmf: list[float]) -> TabularModel:
    return TabularModel(
        reward_rate=np.array([[rate]]),
        agent=np.array([0]),
        interface=np.array([0]),
        gamma=gamma,
        transition=np.ones((1, 1, 1)),
        duration=np.array([[pmf]]),
    )


@pytest.mark.parametrize("pmf", [[1.0], [0.0, 1.0], [0.25, 0.25, 0.5]])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.999])
def test_single_state_is_a_perpetuity(gamma: float, pmf: list[float]) -> None:
    """Whatever the durations, a constant rate for ever is worth rate / (1 - gamma)."""
    found = optimal_q(kernel_moments(one_state(gamma, 3.0, pmf)))
    assert found.value[0] == pytest.approx(3.0 / (1 - gamma), rel=1e-10)
    assert abs(found.value[0] - 3.0 / (1 - gamma)) <= found.error_bound + 1e-12 * found.value[0]


def test_discount_zero_pays_the_first_step_only() -> None:
    rng = np.random.default_rng(5)
    rate = rng.normal(size=(6, 2))
    model = TabularModel(
        reward_rate=rate,
        agent=np.zeros(6, int),
        interface=np.arange(6),
        gamma=0.0,
        transition=rng.dirichlet(np.ones(6), size=(6, 2)),
        duration=rng.dirichlet(np.ones(4), size=(6, 2)),
    )
    found = optimal_q(kernel_moments(model))
    np.testing.assert_array_equal(found.q, rate)
    assert found.iterations == 1


def test_terminal_states_end_the_reward() -> None:
    """A corridor 0 -> 1 -> 2 -> end, one unit per step: values 1 + g + g^2, 1 + g, 1, and 0 at the end."""
    step = np.eye(4, k=1)
    step[3, 3] = 1.0
    model = TabularModel(
        reward_rate=np.ones((4, 1)),
        agent=np.zeros(4, int),
        interface=np.arange(4),
        gamma=0.9,
        transition=step[:, None, :],
        duration=np.ones((4, 1, 1)),
        terminal=np.array([False, False, False, True]),
        start=np.array([1.0, 0.0, 0.0, 0.0]),
    )
    moments = kernel_moments(model)
    found = optimal_q(moments)
    np.testing.assert_allclose(found.value, [1 + 0.9 + 0.81, 1.9, 1.0, 0.0], rtol=0, atol=1e-12)
    assert moments.modulus[2, 0] == 0 and moments.modulus[0, 0] == pytest.approx(0.9)
    assert not as_dense(moments.discounted)[:, 3].any()


def test_nothing_decides() -> None:
    found = modified_policy_iteration(np.zeros((3, 2)), np.zeros((6, 3)), np.zeros((3, 2), bool))
    assert isinstance(found, Solution) and found.error_bound == 0 and found.iterations == 0
    assert (found.value == 0).all() and np.isneginf(found.q).all()


@pytest.mark.parametrize("mass", [1.0, 1.5])
def test_rows_that_do_not_contract_are_refused(mass: float) -> None:
    rows = np.array([[0.5, 0.0], [0.0, mass]])
    with pytest.raises(ValueError, match=f"a row sums to {mass:.9g}, expected less than 1"):
        modified_policy_iteration(np.zeros((2, 1)), rows, np.ones((2, 1), bool))
    ignored = modified_policy_iteration(np.ones((2, 1)), rows, np.array([[True], [False]]))
    assert ignored.value[0] == pytest.approx(2.0)


def test_solution_follows_scale_and_shift_of_the_reward() -> None:
    """Q* is homogeneous in the reward; adding c (1 - gbar(s, o)) to it adds c to every value."""
    reward, rows, mask = problem(21, 20, 3, 0.4, 0.97, False)
    base = modified_policy_iteration(reward, rows, mask)
    tripled = modified_policy_iteration(3 * reward, rows, mask)
    np.testing.assert_allclose(tripled.value, 3 * base.value, rtol=0, atol=1e-9)
    modulus = rows.sum(axis=1).reshape(reward.shape)
    shifted = modified_policy_iteration(reward + 7 * (1 - modulus), rows, mask)
    np.testing.assert_allclose(shifted.value, base.value + 7, rtol=0, atol=1e-9)
