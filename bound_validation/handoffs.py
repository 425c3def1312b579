"""How many handoffs bring tabular IC-Q within a given distance of the oracle: expected, and guaranteed (E)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bound_validation import theorem
from bound_validation.cell import radius
from bound_validation.certificates import tabular_certificates
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.poisson import linear_bounds, poisson_constants

SEARCHED = 4096  # handoffs up to which theorem B is run, at powers of two
MOST = 2**62  # beyond this, never


class Handoffs(NamedTuple):
    """Numbers of handoffs for a target; None for what no number reaches.

    Attributes:
      expected: smallest K with interface gap and central-limit spread ``c_clt K^(-1/2)`` together at most the target.
      certified: smallest K found at which the value-aware interface bound and a certificate are: that of T3+ with its
        best step, or that of theorem B with the step ``K^(-1/2)`` at a power of two.
      limiting_term: ``interface`` or ``residual``, what has to shrink for a missing number; None if none is missing.
    """

    expected: int | None
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
    aware = float(theorem.interface_bound_value_aware(known.gap.value_numerator, interface.gamma_bar))
    expected = None
    if gap < error:
        expected = max(math.ceil((known.limit.coefficient / (error - gap)) ** 2), 1)
    certified = _certified(known, error - aware) if aware < error else None
    limiting = None
    if expected is None or aware >= error:
        limiting = "interface"
    elif certified is None:
        limiting = "residual"
    return Handoffs(expected, certified, limiting)


def _certified(known: Analysis, residual: float) -> int | None:
    """Smallest K at which a certificate of the residual is at most this; None if none is found."""
    found = [k for k in (_by_poisson(known, residual), _by_comparison(known, residual)) if k is not None]
    return min(found) if found else None


def _by_poisson(known: Analysis, residual: float) -> int | None:
    """T3+ with its best step is ``(D ((G^2 + 2 C) / K)^(1/2) + M / K) / (1 - kappa)``, which falls in K."""
    if not known.a6_certified:
        return None
    constants = poisson_constants(known.interface, linear_bounds(known.interface, radius(known)))
    distance = float(np.linalg.norm(known.fixed.theta))

    def holds(k: int) -> bool:
        step = theorem.poisson_best_step(distance, constants[0], constants[1], k)
        square = theorem.poisson_bound_constant_step(distance, *constants, known.kappa, step, k)
        return bool(theorem.residual_rms(square) <= residual)

    low, high = 0, 1
    while not holds(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _by_comparison(known: Analysis, residual: float) -> int | None:
    """Smallest power of two up to ``SEARCHED`` at which theorem B serves; None also where its moments do not fit."""
    k = 1
    while k <= SEARCHED:
        try:
            (found,) = tabular_certificates(known, [k])
        except ValueError:
            return None
        if found.comparison <= residual:
            return k
        k *= 2
    return None
