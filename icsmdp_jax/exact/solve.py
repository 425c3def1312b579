"""Solvers for ``Q = r + P^g max Q`` with row-substochastic ``P^g`` and a certified stopping rule (D3, L1, L2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import lu_factor, lu_solve
from scipy.sparse import linalg as sparse_linalg

from icsmdp_jax.core.words import holding
from icsmdp_jax.exact.backups import Backups
from icsmdp_jax.exact.elimination import UNIT, Elimination
from icsmdp_jax.exact.iterative import solve as solve_linear
from icsmdp_jax.exact.moments import KernelMoments, Matrix, as_dense

PATIENCE = 50  # rounds without a better certificate after which rounding is taken to have the last word
EVALUATION = 1e-9  # of what is left of the equation, what one correction by an iterative solver may leave
EPISODE = 64  # handoffs to which episodes are tried to end, before their values are solved for as if they need not
DIRECT_LIMIT = 4000  # states up to which a slow evaluation is replaced by a linear solve
PARTIAL = 1e-8  # of what is left of the equation, what one correction by a sum of powers leaves
CALL, PRODUCTS = 8000, 60  # entries that a call costs as much as, and multiplications of a factorisation to one of them
TINY = float(np.finfo(float).tiny)
SETTLED = 0.1  # width of the bounds of L2 on a policy's values, relative to the first, at which it is evaluated well
CORRECTIONS = 6  # times that the value of a policy is solved for


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

    def __repr__(self) -> str:
        return holding(self, error_bound=self.error_bound)


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
    top = q[:, 0]
    for column in q.T[1:]:  # several times as fast as a maximum along rows of a few numbers
        top = np.maximum(top, column)
    return np.where(np.isfinite(top), top, 0.0)


def _best(q: np.ndarray) -> np.ndarray:
    """``[n]`` int, first of the largest entries of each row."""
    top, policy = q[:, 0].copy(), np.zeros(len(q), int)
    for option, column in enumerate(q.T[1:], 1):
        np.copyto(policy, option, where=column > top)
        np.maximum(top, column, out=top)
    return policy


def value_bounds(change: np.ndarray, least: float, most: float) -> tuple[float, float]:
    """Bounds on ``V* - TV`` from the change ``TV - V`` of one backup (L2).

    Args:
      change: ``[n]`` entries of ``TV - V``, or any set of numbers that they lie between.
      least: smallest ``1 - gbar(s, o)`` over the states that decide, above 0.
      most: largest one.

    Returns:
      ``(a, b)`` with ``a <= V* - TV <= b`` everywhere.
    """
    a, b = float(change.min()), float(change.max())
    killed_a = least if a < 0 else most
    killed_b = least if b > 0 else most
    return (1 - killed_a) / killed_a * a, (1 - killed_b) / killed_b * b


def modified_policy_iteration(
    reward: np.ndarray,
    discounted: Matrix,
    mask: np.ndarray,
    tolerance: float = 1e-11,
    sweeps: int = 40,
    max_rounds: int = 100_000,
    killing: np.ndarray | None = None,
    relative_error: float = 0.0,
    reward_size: np.ndarray | None = None,
) -> Solution:
    """Solves for the fixed point by policy improvement with partial evaluation, stopped by L2.

    Args:
      reward: ``[n, O]`` expected segment reward.
      discounted: ``[n*O, n]`` row-substochastic discounted kernel, dense or compressed rows.
      mask: ``[n, O]`` bool; a row without any available option has value 0.
      tolerance: stop when the certified error is below this times ``max |V|`` or ``max |reward|``.
      sweeps: backups with the improved policy per round.
      max_rounds: limit on rounds.
      killing: ``[n, O]`` ``1 - gbar(s, o)``, to full relative accuracy; what the rows lack to 1 if None.
      relative_error: bound on the relative error of the kernel's entries, of ``killing`` and, in units of
        ``reward_size``, of the reward; what they are meant to be is then what the certified error is about.
      reward_size: ``[n, O]``; the reward's absolute value if None.

    Returns:
      A ``Solution``; its ``error_bound`` holds whether or not the tolerance was reached, rounding included.

    Raises:
      ValueError: if some available row has a modulus of 1 or more.
    """
    count = len(reward)
    if not mask.any():
        return Solution(np.full(reward.shape, -np.inf), np.zeros(count), 0.0, 0)
    backups = Backups(reward, discounted, mask, killing, relative_error, reward_size)
    decides, high = backups.decides, 1 - backups.least
    deciding = slice(None) if decides.all() else decides
    alike = (
        count > DIRECT_LIMIT and backups.most < 1.01 * backups.least
    )  # then a halt may be a change of policy: one is let pass
    level, rest = 0.0, np.zeros(count)
    best: tuple[np.ndarray, float, int] | None = None
    error, halts, stalled = np.inf, 0, 0
    for rounds in range(1, max_rounds + 1):
        q = backups(level, rest)
        improved = greedy_value(q)
        change = (improved - rest)[deciding]
        below, above = value_bounds(change, backups.least, backups.most)
        centre, width = (below + above) / 2, (above - below) / 2
        shifted = level + centre
        value = np.where(decides, shifted + improved, 0.0)
        largest = float(np.abs(value).max())
        # |V* - value| <= width by L2, and one more backup contracts it by `high`. On top comes rounding: of this
        # backup, which moves the fixed point itself, of the difference and the sums behind `value`, and of the last
        # backup.
        noise = UNIT * float(np.abs(change).max())
        rounding = backups.roughly(level, rest, noise)
        if rounding > high * width:
            rounding = backups.accumulated(backups.rounding(level, rest) + noise)
        rounding += 4 * UNIT * (largest + abs(below) + abs(above) + abs(shifted))
        rounding += backups.largest_rounding(0.0, value)
        previous, error = error, high * width + rounding
        if best is None or error < best[1]:
            best, stalled = (value, error, rounds), 0
        else:
            stalled += 1
        wanted = max(tolerance * max(largest, backups.size), TINY)
        enough = error <= 0.1 * wanted or high * width <= rounding  # evaluated less, answers would end just inside
        if enough or stalled >= PATIENCE:
            break
        # Starting the evaluation from the middle of the bounds is what makes equal moduli fast, but it can overshoot
        # for ever where they differ: then the policy is evaluated exactly, or, on large models, without the shift.
        halts += int(error > 0.5 * previous)
        slow = halts > alike
        policy = _best(q)
        pays, killed, step = backups.of_policy(policy)
        if slow and count <= DIRECT_LIMIT:
            rest = rest + _correction(killed, step)(improved - rest)
        else:
            level = level if slow else shifted
            rest, paid, first = improved, np.where(decides, pays - level * killed, 0.0), 0.0
            for _ in range(sweeps):
                rest, before = step @ rest, rest
                rest += paid
                # No certificate: rounding of 1 - gbar, which no sweep takes away, is none of its business.
                below, above = value_bounds(rest - before, *backups.nearly)
                first, left = max(first, above - below), (above - below) / max(wanted, rounding)
                if left < 1e-3 or (count > DIRECT_LIMIT and above - below <= SETTLED * first and left > 1e4):
                    break
            if slow:
                rest = _nearly_evaluated(paid, step, decides, rest)
        level, rest = _centred(level, rest, decides)
    assert best is not None
    q = backup(reward, discounted, best[0], mask)
    return Solution(q, greedy_value(q), *best[1:])


def _centred(level: float, rest: np.ndarray, decides: np.ndarray) -> tuple[float, np.ndarray]:
    """The same value with ``rest`` around 0."""
    live = rest[decides]
    middle = float(live.max() + live.min()) / 2
    return level + middle, np.where(decides, rest - middle, 0.0)


def _correction(killing: np.ndarray, step: Matrix) -> Callable[[np.ndarray], np.ndarray]:
    """``b -> (I - P)^-1 b`` for a policy's rows, directly.

    Elimination reads no diagonal and is right in every entry; where no row is nearly stochastic, a factorisation, or
    the sum of the first powers of ``P``, is good enough, as what it leaves is corrected.
    """
    count, sums = len(killing), sparse.issparse(step)
    if killing.min() > 1e-6:
        sweeps = math.ceil(math.log(PARTIAL) / math.log1p(-min(float(killing.min()), 0.9)))
        if sweeps * (_entries(step) + CALL) < count**3 / PRODUCTS:
            return lambda right: _summed(step, right, sweeps)
        if not sums:
            factored = lu_factor(np.eye(count) - step, overwrite_a=True, check_finite=False)
            return lambda right: lu_solve(factored, right, check_finite=False)
    if sums and (count > DIRECT_LIMIT or killing.min() > 1e-6):
        system = sparse.csc_array(sparse.eye_array(count) - step)
        return sparse_linalg.splu(sparse.csc_matrix(system)).solve
    factors = Elimination.killed(as_dense(step), killing)
    return lambda right: factors.solve(np.append(0.0, right))[1:]


def _entries(matrix: Matrix) -> int:
    return int(matrix.nnz if sparse.issparse(matrix) else matrix.size)


def _summed(step: Matrix, right: np.ndarray, sweeps: int) -> np.ndarray:
    out = right
    for _ in range(sweeps):
        out = right + step @ out
    return out


def _nearly_evaluated(pays: np.ndarray, step: Matrix, decides: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """The policy's value by an iterative solver from ``rest``, or ``rest`` itself where that does not converge."""
    try:
        return rest + _iterative(step, decides)(pays + step @ rest - rest)
    except ValueError:
        return rest


def _iterative(step: Matrix, decides: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    sweeps = 0 if decides.all() else EPISODE

    def apply(v: np.ndarray) -> np.ndarray:
        return v - step @ v

    return lambda right: solve_linear(apply, right, "value of a policy", EVALUATION, sweeps=sweeps).x


def evaluate_policy(
    reward: np.ndarray,
    discounted: Matrix,
    policy: np.ndarray,
    decides: np.ndarray | None = None,
    iterative: bool = False,
    killing: np.ndarray | None = None,
) -> np.ndarray:
    """Value of a deterministic policy, by a direct linear solve or, on large models, an iterative one (D3).

    What a solve leaves of the equation is computed in the coordinates of ``Backups`` and solved for again, until
    rounding is all that is left. The error is at most that residual over ``1 - gbar``: ``(I - P)^-1`` has that sup
    norm.

    Args:
      reward: ``[n, O]``.
      discounted: ``[n*O, n]``.
      policy: ``[n]`` int, option taken in each state.
      decides: ``[n]`` bool, states that are not terminal (all, by default).
      iterative: whether to use an iterative solver.
      killing: ``[n, O]`` ``1 - gbar(s, o)``, to full relative accuracy; what the rows lack to 1 if None.

    Returns:
      ``[n]`` float64 value, 0 at states that do not decide.

    Raises:
      ValueError: one line, if the iterative solver does not reach its tolerance.
    """
    decides = np.ones(len(policy), bool) if decides is None else decides
    level, rest = relative_value(reward, discounted, policy, decides, iterative, killing)
    return np.where(decides, level + rest, 0.0)


def relative_value(
    reward: np.ndarray,
    discounted: Matrix,
    policy: np.ndarray,
    decides: np.ndarray,
    iterative: bool = False,
    killing: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """The same value as a level in its middle and what is left ``[n]``, 0 at states that do not decide (L2).

    Where every ``1 - gbar`` is tiny, the value is large, and a sum of the two no longer holds by how much states
    differ. Arguments and errors are those of ``evaluate_policy``.
    """
    states = np.arange(len(policy))
    taken = np.zeros(reward.shape, bool)
    taken[states, policy] = decides
    if not decides.any():
        return 0.0, np.zeros(len(policy))
    backups = Backups(reward, discounted, taken, killing, 0.0, None)
    pays, killed, step = backups.of_policy(policy)
    correct = _iterative(step, decides) if iterative else _correction(killed, step)
    level, rest, left = 0.0, np.zeros(len(policy)), pays
    for _ in range(CORRECTIONS):
        level, rest = _centred(level, rest + correct(left), decides)
        before, left = left, np.where(decides, pays - level * killed + step @ rest - rest, 0.0)
        size = float(np.abs(left).max())
        if size <= backups.rounding(level, rest).max() or size > 0.5 * float(np.abs(before).max()):
            break
    return level, rest


def optimal_q(moments: KernelMoments, tolerance: float = 1e-11) -> Solution:
    """``Q*``: what a centralized oracle that sees the global state computes (D3).

    Args:
      moments: moments of the option kernel.
      tolerance: relative certified error.

    Returns:
      A ``Solution`` over handoff states.
    """
    return modified_policy_iteration(
        moments.reward_mean,
        moments.discounted,
        moments.used,
        tolerance,
        killing=moments.killing,
        relative_error=moments.relative_error,
        reward_size=moments.reward_size,
    )
