"""Solvers for ``Q = r + P^g max Q`` with row-substochastic ``P^g`` and a certified stopping rule (D3, L1, L2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from icsmdp_jax.exact.iterative import solve as solve_linear
from icsmdp_jax.exact.moments import KernelMoments, Matrix

PATIENCE = 50  # rounds without a better certificate after which rounding is taken to have the last word
EVALUATION = 1e-13  # residual of an iterative policy evaluation, relative to the largest reward
EPISODE = 64  # handoffs to which episodes are tried to end, before their values are solved for as if they need not
DIRECT_LIMIT = 4000  # states up to which a slow evaluation is replaced by a linear solve


class Solution(NamedTuple):
    """Fixed point of a Bellman operator.

    Attributes:
      q: ``[n, O]`` float64, minus infinity at unavailable options.
      value: ``[n]`` float64, ``max_o q``; 0 where no option is available (terminal).
      error_bound: certified bound on ``max |q - q*|``.
      iterations: rounds of policy improvement.
    """

    q: np.ndarray
    value: np.ndarray
    error_bound: float
    iterations: int


def backup(reward: np.ndarray, discounted: Matrix, value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One application of the Bellman operator to a value function (D3).

    Args:
      reward: ``[n, O]`` expected segment reward.
      discounted: ``[n*O, n]`` discounted kernel.
      value: ``[n]`` value of each successor.
      mask: ``[n, O]`` bool, available options.

    Returns:
      ``[n, O]``, minus infinity at unavailable options.
    """
    q = reward + (discounted @ value).reshape(reward.shape)
    return np.where(mask, q, -np.inf)


def greedy_value(q: np.ndarray) -> np.ndarray:
    """``[n]`` largest entry of each row; 0 for rows without any available option."""
    top = q.max(axis=1)
    return np.where(np.isfinite(top), top, 0.0)


def value_bounds(change: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Bounds on ``V* - TV`` from the change ``TV - V`` of one backup (L2).

    Args:
      change: ``[n]`` entries of ``TV - V``.
      low: smallest row modulus over the states that decide.
      high: largest row modulus, below 1.

    Returns:
      ``(a, b)`` with ``a <= V* - TV <= b`` everywhere.
    """
    a, b = float(change.min()), float(change.max())
    rate_a = high if a < 0 else low
    rate_b = high if b > 0 else low
    return rate_a * a / (1 - rate_a), rate_b * b / (1 - rate_b)


def modified_policy_iteration(
    reward: np.ndarray,
    discounted: Matrix,
    mask: np.ndarray,
    tolerance: float = 1e-11,
    sweeps: int = 40,
    max_rounds: int = 100_000,
) -> Solution:
    """Solves for the fixed point by policy improvement with partial evaluation, stopped by L2.

    Args:
      reward: ``[n, O]`` expected segment reward.
      discounted: ``[n*O, n]`` row-substochastic discounted kernel, dense or compressed rows.
      mask: ``[n, O]`` bool; a row without any available option has value 0.
      tolerance: stop when the certified error is below this times ``1 + max |V|``.
      sweeps: backups with the improved policy per round.
      max_rounds: limit on rounds.

    Returns:
      A ``Solution``; its ``error_bound`` holds whether or not the tolerance was reached.

    Raises:
      ValueError: if some available row has a modulus of 1 or more.
    """
    count, options = reward.shape
    decides = np.asarray(mask.any(axis=1))
    modulus = np.asarray(discounted.sum(axis=1)).reshape(count, options)
    if not decides.any():
        return Solution(np.full(reward.shape, -np.inf), np.zeros(count), 0.0, 0)
    low, high = float(modulus[mask].min()), float(modulus[mask].max())
    if high >= 1:
        raise ValueError(f"discounted kernel: a row sums to {high:.9g}, expected less than 1")
    if not decides.all():
        low = 0.0  # a step into a row of fixed value 0 takes no further part in the recursion
    value = np.zeros(count)
    best: Solution | None = None
    error, slow, stalled = np.inf, 0, 0
    for rounds in range(1, max_rounds + 1):
        q = backup(reward, discounted, value, mask)
        improved = greedy_value(q)
        below, above = value_bounds((improved - value)[decides], low, high)
        centre, width = (below + above) / 2, (above - below) / 2
        scale = 1.0 + float(np.abs(improved).max())
        shifted = np.where(decides, improved + centre, 0.0)
        # |V* - shifted| <= width by L2, and one more backup contracts it by `high`; rounding comes on top.
        previous, error = error, high * width + 4 * np.finfo(float).eps * scale / (1 - high)
        if best is None or error < best.error_bound:
            final_q = backup(reward, discounted, shifted, mask)
            best, stalled = Solution(final_q, greedy_value(final_q), error, rounds), 0
        else:
            stalled += 1
        if best.error_bound <= tolerance * scale or stalled >= PATIENCE:
            break
        # Starting the evaluation from the middle of the bounds is what makes equal moduli fast, but it can overshoot
        # for ever where they differ: then the policy is evaluated exactly, or, on large models, without the shift.
        slow += int(error > 0.5 * previous)
        policy = np.where(np.isfinite(q), q, -np.inf).argmax(axis=1)
        if slow and count <= DIRECT_LIMIT:
            value = evaluate_policy(reward, discounted, policy, decides)
        else:
            begin = improved if slow else shifted
            value = _partial_evaluation(reward, discounted, policy, decides, begin, sweeps)
            if slow:
                value = _nearly_evaluated(reward, discounted, policy, decides, value)
    assert best is not None
    return best


def _chosen_rows(discounted: Matrix, rows: np.ndarray) -> Matrix:
    return discounted[rows]


def _partial_evaluation(
    reward: np.ndarray,
    discounted: Matrix,
    policy: np.ndarray,
    decides: np.ndarray,
    value: np.ndarray,
    sweeps: int,
) -> np.ndarray:
    states = np.arange(len(policy))
    pays = np.where(decides, reward[states, policy], 0.0)
    step = _chosen_rows(discounted, states * reward.shape[1] + policy)
    for _ in range(sweeps):
        value = np.where(decides, pays + step @ value, 0.0)
    return value


def _nearly_evaluated(
    reward: np.ndarray, discounted: Matrix, policy: np.ndarray, decides: np.ndarray, value: np.ndarray
) -> np.ndarray:
    """The policy's value by an iterative solver from ``value``, or ``value`` itself where that does not converge."""
    try:
        return _evaluated_iteratively(reward, discounted, policy, decides, value)
    except ValueError:
        return value


def _evaluated_iteratively(
    reward: np.ndarray, discounted: Matrix, policy: np.ndarray, decides: np.ndarray, value: np.ndarray | None
) -> np.ndarray:
    states = np.arange(len(policy))
    pays = np.where(decides, reward[states, policy], 0.0)
    step = _chosen_rows(discounted, states * reward.shape[1] + policy)

    def apply(v: np.ndarray) -> np.ndarray:
        return v - decides[:, None] * (step @ v)

    sweeps = 0 if decides.all() else EPISODE
    return np.where(decides, solve_linear(apply, pays, "value of a policy", EVALUATION, value, sweeps=sweeps).x, 0.0)


def evaluate_policy(
    reward: np.ndarray,
    discounted: Matrix,
    policy: np.ndarray,
    decides: np.ndarray | None = None,
    iterative: bool = False,
) -> np.ndarray:
    """Value of a deterministic policy, by a direct linear solve or, on large models, an iterative one (D3).

    The error of the latter is at most its residual over ``1 - gbar``: ``(I - P)^-1`` has that sup norm.

    Args:
      reward: ``[n, O]``.
      discounted: ``[n*O, n]``.
      policy: ``[n]`` int, option taken in each state.
      decides: ``[n]`` bool, states that are not terminal (all, by default).
      iterative: whether to iterate to a residual of ``EVALUATION`` times the largest reward.

    Returns:
      ``[n]`` float64 value, 0 at states that do not decide.

    Raises:
      ValueError: one line, if the iterative solver does not reach its tolerance.
    """
    if iterative:
        everywhere = np.ones(len(policy), bool) if decides is None else decides
        return _evaluated_iteratively(reward, discounted, policy, everywhere, None)
    states = np.arange(len(policy))
    decides = np.ones(len(policy), bool) if decides is None else decides
    pays = np.where(decides, reward[states, policy], 0.0)
    step = _chosen_rows(discounted, states * reward.shape[1] + policy)
    if sparse.issparse(step):
        value = sparse_linalg.spsolve(sparse.csc_array(sparse.eye_array(len(policy)) - step), pays)
    else:
        value = np.linalg.solve(np.eye(len(policy)) - step, pays)
    return np.where(decides, value, 0.0)


def optimal_q(moments: KernelMoments, tolerance: float = 1e-11) -> Solution:
    """``Q*``: what a centralized oracle that sees the global state computes (D3).

    Args:
      moments: moments of the option kernel.
      tolerance: relative certified error.

    Returns:
      A ``Solution`` over handoff states.
    """
    return modified_policy_iteration(moments.reward_mean, moments.discounted, moments.used, tolerance)
