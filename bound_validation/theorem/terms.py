"""The interface and approximation terms, and the sum of the bound (T1, T2, T4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from bound_validation.theorem import check
from bound_validation.theorem.check import Constant

# Interface term


def interface_bound(
    epsilon: Constant, delta: Constant, value_norm: Constant, gamma_bar: Constant, killing: Constant | None = None
) -> Any:
    """``(epsilon + delta ||V_phi||_inf) / (1 - gamma_bar)``: bound on the interface gap (T1).

    Args:
      epsilon: reward constant of D6, at least 0.
      delta: kernel constant of D6, an L1 distance.
      value_norm: ``||V_phi||_inf``.
      gamma_bar: modulus of D2, in ``[0, 1)``.
      killing: ``1 - gamma_bar`` without cancellation, where it is known.

    Returns:
      Bound on ``max |Q_phi(phi(s), o) - Q*(s, o)|``.

    Raises:
      ValueError: a constant is out of range.
    """
    kernel_part = check.nonnegative("delta", delta) * check.nonnegative("value_norm", value_norm)
    return interface_bound_value_aware(check.nonnegative("epsilon", epsilon) + kernel_part, gamma_bar, killing)


def interface_bound_value_aware(numerator: Constant, gamma_bar: Constant, killing: Constant | None = None) -> Any:
    """``beta / (1 - gamma_bar)``: bound on the interface gap that knows ``V_phi`` (T1.1).

    Args:
      numerator: ``beta = max |E[R|s,o] + sum P^g(z'|s,o) V_phi(z') - Q_phi(phi(s), o)|``.
      gamma_bar: modulus of D2, in ``[0, 1)``.
      killing: as in ``interface_bound``.

    Returns:
      Bound on ``max |Q_phi(phi(s), o) - Q*(s, o)|``, never above that of T1.

    Raises:
      ValueError: a constant is out of range.
    """
    return check.plain(check.nonnegative("numerator", numerator) / check.killing("gamma_bar", gamma_bar, killing))


def interface_bound_mass_span(
    epsilon: Constant,
    delta: Constant,
    value_span: Constant,
    value_mid: Constant,
    delta_mass: Constant,
    gamma_bar: Constant,
    killing: Constant | None = None,
) -> Any:
    """``(epsilon + delta span/2 + |mid| delta_mass) / (1 - gamma_bar)`` (T1.2).

    Args:
      epsilon: reward constant of D6.
      delta: kernel constant of D6, an L1 distance.
      value_span: ``max V_phi - min V_phi``.
      value_mid: ``(max V_phi + min V_phi) / 2``, of either sign.
      delta_mass: largest difference of the masses of the two kernels (D6), at most ``delta``.
      gamma_bar: modulus of D2, in ``[0, 1)``.
      killing: as in ``interface_bound``.

    Returns:
      Bound on ``max |Q_phi(phi(s), o) - Q*(s, o)|``, between those of T1.1 and T1.

    Raises:
      ValueError: a constant is out of range.
    """
    span_part = check.nonnegative("delta", delta) * check.nonnegative("value_span", value_span) / 2
    mass_part = np.abs(check.finite("value_mid", value_mid)) * check.nonnegative("delta_mass", delta_mass)
    return interface_bound_value_aware(
        check.nonnegative("epsilon", epsilon) + span_part + mass_part, gamma_bar, killing
    )


def policy_loss_bound(interface_bound: Constant) -> Any:
    """Twice the interface bound: what acting greedily on ``Q_phi`` can lose, in V and the sup norm (T1.3).

    Args:
      interface_bound: right side of T1, T1.1 or T1.2 (a bound, not a measured gap).

    Raises:
      ValueError: the bound is negative or not finite.
    """
    return check.plain(2 * check.nonnegative("interface_bound", interface_bound))


def sharp_gap(
    epsilon: Constant, gamma_bar: Constant, flip_probability: Constant, killing: Constant | None = None
) -> Any:
    """``epsilon / (1 - gamma_bar (1 - 2p))``: the exact interface gap of the sharp family (T1.4).

    Args:
      epsilon: what the hidden bit pays, at least 0.
      gamma_bar: the constant modulus, in ``[0, 1)``.
      flip_probability: p in ``[0, 1]``; at 0 the value is the limit, which equals the bound of T1.
      killing: as in ``interface_bound``.

    Raises:
      ValueError: a constant is out of range.
    """
    inside = "a probability in [0, 1]"
    p = check.checked("flip_probability", flip_probability, inside, lambda x: (x >= 0) & (x <= 1))
    rest = check.killing("gamma_bar", gamma_bar, killing) + 2 * p * check.modulus("gamma_bar", gamma_bar)
    return check.plain(check.nonnegative("epsilon", epsilon) / rest)


def effective_horizon(modulus: Constant, killing: Constant | None = None) -> Any:
    """``1 / (1 - modulus)``, the effective horizon in handoffs (L1).

    Args:
      modulus: ``gamma_bar``; ``gamma`` in its place gives a longer horizon that is not the right one.
      killing: ``1 - modulus`` without cancellation, where it is known.

    Raises:
      ValueError: the modulus is not in ``[0, 1)``.
    """
    return check.plain(1 / check.killing("modulus", modulus, killing))


# Approximation term


def approximation_bound(projection_error: Constant, kappa: Constant) -> Any:
    """``||Pi Q_phi - Q_phi||_d / (1 - kappa^2)^{1/2}``: bound on ``||Q_m - Q_phi||_d`` (T2).

    Args:
      projection_error: ``||Pi Q_phi - Q_phi||_d``.
      kappa: certificate of A6 (P1).

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    return check.plain(
        check.nonnegative("projection_error", projection_error) / np.sqrt(1 - check.certified(kappa) ** 2)
    )


def width_rate(c: Constant, width: Constant) -> Any:
    """``C m^{-1/2}``: root mean square error of the sampled approximant, exactly (T2.1).

    Args:
      c: the constant C of T2.1.
      width: number m of features per agent and option, at least 1.

    Raises:
      ValueError: a constant is out of range.
    """
    return check.plain(check.nonnegative("c", c) / np.sqrt(check.count("width", width)))


def approximation_guarantee(c: Constant, width: Constant, kappa: Constant) -> Any:
    """``C m^{-1/2} (1 - kappa^2)^{-1/2}``: bound on ``||Q_m - Q_phi||_d`` over random features (T2, T2.1).

    The bound is on the root mean square over the draws of the features.

    Args:
      c: the constant C of T2.1.
      width: number m of features per agent and option, at least 1.
      kappa: certificate of A6 (P1), valid for every draw.

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    return approximation_bound(width_rate(c, width), kappa)


# The sum


def total_bound(residual_rms: Constant, approximation: Constant, interface: Constant) -> Any:
    """Sum of the three terms: bound on ``RMSE_d(Q_K - Q*)`` (T4).

    Args:
      residual_rms: root of T3 or T3.1; ``inf`` is allowed.
      approximation: right side of T2, or of ``approximation_guarantee``.
      interface: right side of T1, T1.1 or T1.2 (in the sup norm, which dominates ``||.||_d``).

    Raises:
      ValueError: a term is negative or not a number.
    """
    exact_part = check.nonnegative("approximation", approximation) + check.nonnegative("interface", interface)
    return check.plain(check.maybe_infinite("residual_rms", residual_rms) + exact_part)
