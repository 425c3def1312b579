"""What the theorems guarantee for a model with its function class, and what is trivial there (T2, T3, T3+, T4, D12)."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from bound_validation import theorem
from bound_validation.results import NAN
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.poisson import RADIUS_MARGIN, PoissonConstants, linear_bounds, poisson_constants
from icsmdp_jax.learner.experiment import oracle_squares
from icsmdp_jax.learner.message_bounds import model_value_range


def radius(known: Analysis) -> float:
    """Radius of the ball on which each (agent, option) block is projected in runs of T3."""
    if known.basis is None:
        norms = np.abs(known.q_phi_table)
    else:
        blocks = known.basis.unpack(known.fixed.theta, known.interface.mask)
        norms = np.sqrt((blocks**2).sum(axis=-1))
    return RADIUS_MARGIN * float(norms.max())


def residual_bound(known: Analysis, samples: int, decaying: bool = False) -> float:
    """The better one of ``poisson_bound`` and ``classic_bound``; NaN if A6 is not certified."""
    bounds = (poisson_bound(known, samples, decaying), classic_bound(known, samples, decaying))
    return min((bound for bound in bounds if not math.isnan(bound)), default=NAN)


def classic_bound(known: Analysis, samples: int, decaying: bool = False) -> float:
    """Root of T3 (constant step) or T3.1 (decaying) for a stationary start from 0; NaN if A6 is not certified."""
    if not known.a6_certified:
        return NAN
    kappa, omega = known.kappa, known.operator.omega
    gradient = theorem.gradient_bound(known.reward_max, radius(known))
    if gradient == 0:  # no reward at all: every iterate is 0, and so is the residual
        return 0.0
    if decaying:
        mixing = known.clock(theorem.decaying_step(samples, omega, kappa))
        square = theorem.residual_bound_decaying_step(gradient, mixing, kappa, omega, samples)
    else:
        mixing = known.clock(theorem.constant_step(samples))
        distance = float(np.linalg.norm(known.fixed.theta))
        square = theorem.residual_bound_constant_step(distance, gradient, mixing, kappa, samples)
    return float(theorem.residual_rms(square))


def poisson_bound(known: Analysis, samples: int, decaying: bool = False) -> float:
    """Root of T3+ for the same runs; NaN if A6 is not certified, or if the model is too large for its constants."""
    if not known.a6_certified:
        return NAN
    found = _poisson(known)
    if found is None:
        return NAN
    if decaying:
        square = theorem.poisson_bound_decaying_step(*found, known.kappa, known.operator.omega, samples)
    else:
        distance = float(np.linalg.norm(known.fixed.theta))
        step = theorem.constant_step(samples)
        square = theorem.poisson_bound_constant_step(distance, *found, known.kappa, step, samples)
    return float(theorem.residual_rms(square))


@lru_cache(maxsize=32)
def _poisson(known: Analysis) -> PoissonConstants | None:
    """The constants of T3+, remembered within a run; None where square arrays over states are not to be formed."""
    if known.interface.chain.sparse:
        return None
    try:
        return poisson_constants(known.interface, linear_bounds(known.interface, radius(known), known.basis))
    except ValueError:
        return None


def approximation(known: Analysis) -> tuple[float, float]:
    """``||Q_m - Q_phi||_d`` and its bound, NaN if A6 is not certified (T2); both are 0 for tables."""
    if known.basis is None:
        return 0.0, 0.0
    interface, q = known.interface, known.q_phi_table
    projected = interface.norm(known.operator(q) - q)
    bound = theorem.approximation_bound(projected, known.kappa) if known.a6_certified else NAN
    return interface.norm(known.fixed.q - q), bound


def interface_bound(known: Analysis) -> float:
    """The best bound on the interface gap (T1.1), in the sup norm, hence in ``||.||_d`` as well."""
    interface = known.interface
    killing = interface.least_killing
    return float(theorem.interface_bound_value_aware(known.gap.value_numerator, interface.gamma_bar, killing))


def total_bound(known: Analysis, samples: int) -> float:
    """Sum of the three terms under the constant step, each by its best bound; NaN if A6 is not certified (T4)."""
    if not known.a6_certified:
        return NAN
    return theorem.total_bound(residual_bound(known, samples), approximation(known)[1], interface_bound(known))


def value_width(known: Analysis) -> float:
    """``h - l``, the width of the a-priori range of values (L6): no interface gap and no loss of a policy exceeds it.

    Both value functions that a gap compares lie in the range; so does the value of every policy, since the expected
    rewards that make it up do.
    """
    low, high = model_value_range(known.interface.model, known.interface.moments)
    return high - low


def oracle_norm(known: Analysis) -> float:
    """``||Q*||_d``, weighted over states: the error of a table of zeros against the oracle (D12)."""
    zero = np.zeros((1, *known.interface.mask.shape))
    return math.sqrt(oracle_squares(known.interface, zero, known.q_star.q)[0])
