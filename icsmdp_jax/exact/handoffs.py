"""How many handoffs bring tabular IC-Q within a given distance of the oracle: expected, and guaranteed (E).

Runs are those of theorem B with the constant step: ``K^(-1/2)`` for K handoffs, from a table of zeros and a stationary
start, averaged over all iterates. ``icsmdp bound --samples K`` prints what this search compares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from icsmdp_jax.exact.comparison import Moments, comparison, linear_process
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.exact.poisson import RADIUS_MARGIN, linear_bounds, poisson_constants
from icsmdp_jax.exact.solve import evaluate_policy

SEARCHED = 1024  # handoffs up to which theorem B is run
WORK = 2e9  # operations of one such run, a fraction of a second
PAIRS = 200  # parameters up to which the mean is followed through all K handoffs
MOST = 2**62  # handoffs beyond this count as never
THEOREM, LIMIT = "theorem B", "central limit"


class Handoffs(NamedTuple):
    """Numbers of handoffs for a target; None where no number reaches it.

    Attributes:
      expected: K at which interface gap and predicted RMSE of the average together are at most the target, and are
        not at K - 1.
      expected_by: ``theorem B``, whose prediction is exact at every K, or, where it would take too long or too much
        memory, ``central limit``; None if there is no number.
      certified: K at which the value-aware interface bound and a certificate are, T3+ or theorem B.
      limiting_term: ``interface`` or ``residual``, what has to shrink for a missing number; None if none is missing.
    """

    expected: int | None
    expected_by: str | None
    certified: int | None
    limiting_term: str | None


def handoffs_for(known: Analysis, error: float) -> Handoffs:
    """Handoffs until the RMSE of the average against ``Q*`` in ``||.||_d`` is at most ``error`` (E, P2, T3+, B).

    Args:
      known: the analysed model, tables.
      error: target, above 0, units of reward.

    Raises:
      ValueError: for a target that is not a positive number.
    """
    if not 0 < error < math.inf:
        raise ValueError(f"error = {error}: expected a positive number")
    interface = known.interface
    gap = interface.state_norm(interface.lift(known.q_phi_table) - known.q_star.q)
    aware = known.interface_bound_value_aware
    run, longest = _runs(known)
    expected, by, certified = None, None, None
    if gap < error:
        expected, by = _smallest(lambda k: run(k).prediction[0] <= error - gap, longest), THEOREM
        if expected is None:
            expected, by = _by_limit(known, error - gap, longest)
    if aware < error:
        found = [
            _by_poisson(known, error - aware),
            _smallest(lambda k: run(k).certificate[0] <= error - aware, longest),
        ]
        certified = min((k for k in found if k is not None), default=None)
    limiting = None
    if gap >= error or aware >= error:
        limiting = "interface"
    elif expected is None or certified is None:
        limiting = "residual"
    return Handoffs(expected, by, certified, limiting)


def bias_in_the_mean(known: Analysis) -> Callable[[int], float]:
    """``K -> ||E y_avg||_d`` with the constant step ``K^(-1/2)``, as if pairs came in their stationary shares (E).

    The mean of the linear process then obeys ``y <- (I - alpha D (I - P)) y`` from ``-Q_phi`` on, P under the greedy
    options of ``Q_phi``. The sum over ``k < K`` tends to ``(I - P)^-1 D^-1 Q_phi / alpha``, which stands for it where
    there are more than ``PAIRS`` parameters.
    """
    interface, table = known.interface, known.q_phi_table
    best, mask = known.q_phi.q.argmax(axis=1), interface.mask
    if mask.sum() > PAIRS:
        start = np.divide(table, interface.pair_weight, out=np.zeros_like(table), where=mask)
        decides, many = np.asarray(mask.any(axis=1)), interface.chain.sparse
        value = evaluate_policy(start, interface.discounted, best, decides, many, interface.killing)
        limit = interface.norm(start + (interface.discounted @ value).reshape(table.shape))
        return lambda k: limit * k**-0.5
    pairs = np.flatnonzero(mask)
    ahead = np.zeros((mask.size, mask.size))
    ahead[:, np.arange(len(best)) * mask.shape[1] + best] = as_dense(interface.discounted)
    weight, start = interface.pair_weight.reshape(-1)[pairs], table.reshape(-1)[pairs]
    drift = weight[:, None] * (np.eye(len(pairs)) - ahead[np.ix_(pairs, pairs)])

    def bias(k: int) -> float:
        once = np.eye(len(pairs)) - k**-0.5 * drift
        total, power = start, once  # the sum of the first n iterates, and ``once`` to the n
        for digit in bin(k)[3:]:
            total, power = total + power @ total, power @ power
            if digit == "1":
                total, power = start + once @ total, once @ power
        return float(np.sqrt(weight @ total**2)) / k

    return bias


def _runs(known: Analysis) -> tuple[Callable[[int], Moments], int]:
    """The moments of a run of K handoffs, and the largest K to ask for; 0 where the recursions are too much."""
    states, pairs = len(known.interface.chain.states), int(known.interface.mask.sum())
    longest = min(SEARCHED, int(WORK / (4.0 * states**2 * pairs**2)))
    process: Any = None
    with suppress(ValueError):  # its moments do not fit
        process = linear_process(known.interface, known.q_phi_table) if longest else None

    @cache
    def run(k: int) -> Moments:
        return comparison(process, np.full(k, k**-0.5), [k])

    return run, 0 if process is None else longest


def _by_limit(known: Analysis, residual: float, beyond: int) -> tuple[int | None, str | None]:
    """A K above ``beyond``, to 1 %, at which bias and ``c_clt K^(-1/2)`` together, squared, are at most this."""
    spread, bias = known.limit.coefficient, bias_in_the_mean(known)
    found = _smallest(lambda k: math.hypot(spread * k**-0.5, bias(k)) <= residual, MOST, beyond, 0.01)
    return found, None if found is None else LIMIT


def _by_poisson(known: Analysis, residual: float) -> int | None:
    """Smallest K at which T3+ is at most this; None without A6 or where its arrays would be too large."""
    if not known.a6_certified or known.interface.chain.sparse:
        return None
    theta = known.fixed.theta
    bounds = linear_bounds(known.interface, RADIUS_MARGIN * float(np.abs(theta).max()))
    try:
        square, drift, boundary = poisson_constants(known.interface, bounds)
    except ValueError:
        return None
    once = (float(theta @ theta) + square) / 2 + drift
    return _smallest(lambda k: once * k**-0.5 + boundary / k <= (1 - known.kappa) * residual**2, MOST)


def _smallest(holds: Callable[[int], bool], most: int, low: int = 0, within: float = 0.0) -> int | None:
    """A number above ``low`` at which it holds, and does not 1, or a share ``within``, before; None beyond ``most``."""
    high = low + 1
    while high <= most and not holds(high):
        low, high = high, 2 * high
    if high > most:
        return None
    while high - low > max(1, int(within * high)):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
