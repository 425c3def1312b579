"""Every term of the bound as a function of plain constants, equation by equation (docs/theory.md).

All functions are pure. They take floats, NumPy scalars or arrays that broadcast together, and return a
Python float if every argument is a scalar, else a float64 array. None of them sees a model, a key or a
learner. Values are in units of discounted reward, numbers of samples and mixing times in handoffs. A constant
outside its range is refused with a ``ValueError`` of one line that names it; ``kappa >= 1`` is refused
because no bound that needs A6 holds then.

The mixing time may be ``inf`` (a periodic chain); the residual bounds are then ``inf``: they say nothing.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Constant: TypeAlias = Any  # float, NumPy scalar, or array that broadcasts with the other arguments


def _checked(name: str, value: Constant, expected: str, valid: Any, infinite: bool = False) -> np.ndarray:
    """``value`` as a float64 array, or one line that says which entry of what is out of range."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected {expected}, found {type(value).__name__} {value!r}")
    array = array.astype(np.float64)
    bad = np.isnan(array) | ~valid(array)
    if not infinite:
        bad |= np.isinf(array)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f"{name}[{', '.join(map(str, index))}]" if index else name
        raise ValueError(f"{place} = {float(array[index]):.9g}: expected {expected}")
    return array


def _nonnegative(name: str, value: Constant) -> np.ndarray:
    return _checked(name, value, "a finite number of at least 0", lambda x: x >= 0)


def _positive(name: str, value: Constant) -> np.ndarray:
    return _checked(name, value, "a finite number above 0", lambda x: x > 0)


def _finite(name: str, value: Constant) -> np.ndarray:
    return _checked(name, value, "a finite number", np.isfinite)


def _count(name: str, value: Constant) -> np.ndarray:
    return _checked(name, value, "a finite number of at least 1", lambda x: x >= 1)


def _modulus(name: str, value: Constant) -> np.ndarray:
    return _checked(name, value, "a modulus in [0, 1)", lambda x: (x >= 0) & (x < 1))


def _killing(name: str, modulus: Constant, killing: Constant | None) -> np.ndarray:
    """``1 - modulus``; as given, where the caller knows it to more digits than the subtraction leaves."""
    left = 1 - _modulus(name, modulus)
    if killing is None:
        return left
    given = _checked("killing", killing, "a number in (0, 1]", lambda x: (x > 0) & (x <= 1))
    off = np.abs(given - left)
    if (off > 1e-9).any():
        raise ValueError(f"killing: off by {float(off.max()):.3g}, expected 1 - {name}")
    return given


def _maybe_infinite(name: str, value: Constant) -> np.ndarray:
    return _checked(name, value, "a number of at least 0, or inf", lambda x: x >= 0, infinite=True)


def _certified(kappa: Constant) -> np.ndarray:
    """``kappa``, refused where it does not certify A6 (P1)."""
    array = _maybe_infinite("kappa", kappa)
    if (array >= 1).any():
        raise ValueError(f"A6 is not certified: kappa = {float(array.max()):.9g}, expected less than 1")
    return array


def _plain(value: Any) -> Any:
    """A Python float for a scalar (so that it goes into JSON), else the array."""
    array = np.asarray(value, dtype=np.float64)
    return float(array) if array.ndim == 0 else array


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
    kernel_part = _nonnegative("delta", delta) * _nonnegative("value_norm", value_norm)
    return interface_bound_value_aware(_nonnegative("epsilon", epsilon) + kernel_part, gamma_bar, killing)


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
    return _plain(_nonnegative("numerator", numerator) / _killing("gamma_bar", gamma_bar, killing))


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
    span_part = _nonnegative("delta", delta) * _nonnegative("value_span", value_span) / 2
    mass_part = np.abs(_finite("value_mid", value_mid)) * _nonnegative("delta_mass", delta_mass)
    return interface_bound_value_aware(_nonnegative("epsilon", epsilon) + span_part + mass_part, gamma_bar, killing)


def policy_loss_bound(interface_bound: Constant) -> Any:
    """Twice the interface bound: what acting greedily on ``Q_phi`` can lose, in V and the sup norm (T1.3).

    Args:
      interface_bound: right side of T1, T1.1 or T1.2 (a bound, not a measured gap).

    Raises:
      ValueError: the bound is negative or not finite.
    """
    return _plain(2 * _nonnegative("interface_bound", interface_bound))


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
    p = _checked("flip_probability", flip_probability, inside, lambda x: (x >= 0) & (x <= 1))
    rest = _killing("gamma_bar", gamma_bar, killing) + 2 * p * _modulus("gamma_bar", gamma_bar)
    return _plain(_nonnegative("epsilon", epsilon) / rest)


def effective_horizon(modulus: Constant, killing: Constant | None = None) -> Any:
    """``1 / (1 - modulus)``, the effective horizon in handoffs (L1).

    Args:
      modulus: ``gamma_bar``; ``gamma`` in its place gives a longer horizon that is not the right one.
      killing: ``1 - modulus`` without cancellation, where it is known.

    Raises:
      ValueError: the modulus is not in ``[0, 1)``.
    """
    return _plain(1 / _killing("modulus", modulus, killing))


# Approximation term


def approximation_bound(projection_error: Constant, kappa: Constant) -> Any:
    """``||Pi Q_phi - Q_phi||_d / (1 - kappa^2)^{1/2}``: bound on ``||Q_m - Q_phi||_d`` (T2).

    Args:
      projection_error: ``||Pi Q_phi - Q_phi||_d``.
      kappa: certificate of A6 (P1).

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    return _plain(_nonnegative("projection_error", projection_error) / np.sqrt(1 - _certified(kappa) ** 2))


def width_rate(c: Constant, width: Constant) -> Any:
    """``C m^{-1/2}``: root mean square error of the sampled approximant, exactly (T2.1).

    Args:
      c: the constant C of T2.1.
      width: number m of features per agent and option, at least 1.

    Raises:
      ValueError: a constant is out of range.
    """
    return _plain(_nonnegative("c", c) / np.sqrt(_count("width", width)))


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


# Residual term


def gradient_bound(reward_max: Constant, radius_max: Constant) -> Any:
    """``G = R_max + 2 max_i B_i``: bound on the length of one semi-gradient under projection per agent (L4).

    Args:
      reward_max: bound on the absolute segment reward, noise included.
      radius_max: largest radius of the balls on which the agents project their blocks.

    Raises:
      ValueError: a constant is out of range.
    """
    return _plain(_nonnegative("reward_max", reward_max) + 2 * _nonnegative("radius_max", radius_max))


def constant_step(samples: Constant) -> Any:
    """``K^{-1/2}``: the step of T3, and the accuracy at which its mixing time is taken.

    Raises:
      ValueError: fewer than one sample.
    """
    return _plain(1 / np.sqrt(_count("samples", samples)))


def decaying_step(k: Constant, omega: Constant, kappa: Constant) -> Any:
    """``1 / (omega (k + 1) (1 - kappa))``: the step of T3.1; at ``k = K`` the accuracy of its ``t_mix``.

    Args:
      k: index of the handoff, from 0.
      omega: smallest non-zero eigenvalue of ``E_d[psi psi^T]`` (D7).
      kappa: certificate of A6 (P1).

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    return _plain(1 / (_positive("omega", omega) * (_nonnegative("k", k) + 1) * (1 - _certified(kappa))))


def residual_bound_constant_step(
    initial_distance: Constant,
    gradient_bound: Constant,
    mixing_time: Constant,
    kappa: Constant,
    samples: Constant,
    stationary_start: bool = True,
) -> Any:
    """Bound on the mean square ``E ||Q_avg - Q_m||_d^2`` of the uniform average, step ``K^{-1/2}`` (T3).

    ``(||theta_0 - theta*||^2 + G^2 (9 + 12 t_mix(K^{-1/2}))) / (2 (1 - kappa) K^{1/2})``; its root is
    ``residual_rms``.

    Args:
      initial_distance: Euclidean ``||theta_0 - theta*||`` over all blocks (it is squared here).
      gradient_bound: G, above 0.
      mixing_time: ``t_mix(constant_step(samples))`` in handoffs; ``inf`` is allowed.
      kappa: certificate of A6 (P1).
      samples: number K of handoffs.
      stationary_start: whether the run starts from the stationary law; if not, remark 1 adds a term.

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    distance = _nonnegative("initial_distance", initial_distance)
    square = _positive("gradient_bound", gradient_bound) ** 2
    mixing, contraction, k = (
        _maybe_infinite("mixing_time", mixing_time),
        1 - _certified(kappa),
        _count("samples", samples),
    )
    bound = (distance**2 + square * (9 + 12 * mixing)) / (2 * contraction * np.sqrt(k))
    if not stationary_start:
        bound = bound + 2 * square * np.minimum(mixing, k) / (contraction * k)
    return _plain(bound)


def residual_bound_decaying_step(
    gradient_bound: Constant,
    mixing_time: Constant,
    kappa: Constant,
    omega: Constant,
    samples: Constant,
    stationary_start: bool = True,
) -> Any:
    """Bound on the mean square ``E ||Q_avg - Q_m||_d^2`` of the uniform average, ``decaying_step`` (T3.1).

    ``G^2 (9 + 24 t_mix(alpha_K)) (1 + log K) / (K (1 - kappa)^2 omega)``; its root is
    ``residual_rms``.

    Args:
      gradient_bound: G, above 0.
      mixing_time: ``t_mix(decaying_step(samples, omega, kappa))`` in handoffs; ``inf`` is allowed.
      kappa: certificate of A6 (P1).
      omega: smallest non-zero eigenvalue of ``E_d[psi psi^T]`` (D7).
      samples: number K of handoffs.
      stationary_start: whether the run starts from the stationary law; if not, remark 1 adds a term.

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    square = _positive("gradient_bound", gradient_bound) ** 2
    mixing, contraction = _maybe_infinite("mixing_time", mixing_time), 1 - _certified(kappa)
    k = _count("samples", samples)
    bound = square * (9 + 24 * mixing) * (1 + np.log(k)) / (k * contraction**2 * _positive("omega", omega))
    if not stationary_start:
        bound = bound + 4 * square * np.minimum(mixing, k) / (contraction * k)
    return _plain(bound)


def poisson_bound_constant_step(
    initial_distance: Constant,
    gradient_square: Constant,
    drift: Constant,
    boundary: Constant,
    kappa: Constant,
    step: Constant,
    samples: Constant,
) -> Any:
    """Bound on the mean square ``E ||Q_avg - Q_m||_d^2`` with a constant step, by Poisson constants (T3+).

    ``(||theta_0 - theta*||^2 / (2 alpha K) + alpha (G_2^2 / 2 + C_Z) + M / K) / (1 - kappa)``, for a stationary start.

    Args:
      initial_distance: Euclidean ``||theta_0 - theta*||`` over all blocks.
      gradient_square: ``G_2^2``.
      drift: ``C_Z``.
      boundary: ``M``.
      kappa: certificate of A6 (P1).
      step: ``alpha``, above 0.
      samples: number K of handoffs.

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    return _plain(neural_statistical_term(initial_distance, gradient_square, drift, boundary, step, samples)
                  / (1 - _certified(kappa)))  # fmt: skip


def poisson_bound_decaying_step(
    gradient_square: Constant,
    drift: Constant,
    boundary: Constant,
    kappa: Constant,
    omega: Constant,
    samples: Constant,
) -> Any:
    """Bound on the mean square ``E ||Q_avg - Q_m||_d^2`` with ``decaying_step``, by Poisson constants (T3+).

    ``((G_2^2 + 2 C_Z)(1 + log K) / ((1 - kappa)^2 omega) + 2 M / (1 - kappa)) / K``, for a stationary start.

    Args:
      gradient_square: ``G_2^2``.
      drift: ``C_Z``.
      boundary: ``M``.
      kappa: certificate of A6 (P1).
      omega: smallest non-zero eigenvalue of ``E_d[psi psi^T]`` (D7).
      samples: number K of handoffs.

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    contraction, k = 1 - _certified(kappa), _count("samples", samples)
    second = _nonnegative("gradient_square", gradient_square) + 2 * _nonnegative("drift", drift)
    main = second * (1 + np.log(k)) / (contraction**2 * _positive("omega", omega))
    return _plain((main + 2 * _nonnegative("boundary", boundary) / contraction) / k)


def poisson_best_step(initial_distance: Constant, gradient_square: Constant, drift: Constant, samples: Constant) -> Any:
    """``||theta_0 - theta*|| / ((G_2^2 + 2 C_Z) K)^{1/2}``: the constant step at which T3+ and N+ are least.

    Args:
      initial_distance: Euclidean distance of the start from the target.
      gradient_square: ``G_2^2``, above 0.
      drift: ``C_Z``.
      samples: number K of handoffs.

    Raises:
      ValueError: a constant is out of range.
    """
    second = _positive("gradient_square", gradient_square) + 2 * _nonnegative("drift", drift)
    return _plain(_nonnegative("initial_distance", initial_distance) / np.sqrt(second * _count("samples", samples)))


def neural_statistical_term(
    initial_distance: Constant,
    gradient_square: Constant,
    drift: Constant,
    boundary: Constant,
    step: Constant,
    samples: Constant,
) -> Any:
    """``||delta_C||^2 / (2 alpha K) + alpha (G_2^2 / 2 + C_Z) + M / K``: what sampling contributes to theorem N (N+).

    Arguments as in ``poisson_bound_constant_step``.

    Raises:
      ValueError: a constant is out of range.
    """
    alpha, k = _positive("step", step), _count("samples", samples)
    distance = _nonnegative("initial_distance", initial_distance)
    noise = _nonnegative("gradient_square", gradient_square) / 2 + _nonnegative("drift", drift)
    return _plain(distance**2 / (2 * alpha * k) + alpha * noise + _nonnegative("boundary", boundary) / k)


def neural_bound(
    linearisation: Constant, gradient: Constant, mismatch: Constant, statistical: Constant, kappa: Constant
) -> Any:
    """Bound on the root mean square ``(E ||Q_avg - Q_C||_d^2)^{1/2}`` of neural IC-Q near its start (theorem N).

    ``(1 + kappa)/(1 - kappa) (e + h) + e + ((S + c_C + (1 + kappa) e h) / (1 - kappa))^{1/2}``. With ``statistical`` 0
    it is the floor that no number of samples removes.

    Args:
      linearisation: ``e = ||e_f||_d``.
      gradient: ``h = ||e_h||_d``.
      mismatch: ``c_C``, with the slack of a computed target.
      statistical: ``S``, of ``neural_statistical_term``.
      kappa: certificate of A6 (P1).

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    e, h = _nonnegative("linearisation", linearisation), _nonnegative("gradient", gradient)
    modulus = _certified(kappa)
    square = _nonnegative("statistical", statistical) + _nonnegative("mismatch", mismatch) + (1 + modulus) * e * h
    return _plain((1 + modulus) / (1 - modulus) * (e + h) + e + np.sqrt(square / (1 - modulus)))


def target_distance(slack: Constant, kappa: Constant) -> Any:
    """``(slack / (1 - kappa))^{1/2}``: how far a computed target is from the fixed point at most, in ``||.||_d`` (N4).

    Args:
      slack: by how much it misses the variational inequality.
      kappa: certificate of A6 (P1).

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    return _plain(np.sqrt(_nonnegative("slack", slack) / (1 - _certified(kappa))))


def informative(bound: Constant, trivial: Constant) -> Any:
    """Whether a bound is below the error of the zero function, so that it excludes that nothing was learned (D12).

    Args:
      bound: the bound; NaN or ``inf`` say nothing.
      trivial: the trivial value of the same row.

    Returns:
      A bool, or an array of them.
    """
    found = np.asarray(bound, np.float64) < np.asarray(trivial, np.float64)
    return bool(found) if found.ndim == 0 else found


def tail_average_bound(mean_square: Constant, tail_fraction: Constant) -> Any:
    """Bound for the average of the last share f of the iterates: the uniform one over f (T3.1, remark 2).

    Args:
      mean_square: value of a ``residual_bound_*`` function; ``inf`` is allowed.
      tail_fraction: f in ``(0, 1]``.

    Raises:
      ValueError: a constant is out of range.
    """
    share = _checked("tail_fraction", tail_fraction, "a share in (0, 1]", lambda x: (x > 0) & (x <= 1))
    return _plain(_maybe_infinite("mean_square", mean_square) / share)


def residual_rms(mean_square: Constant) -> Any:
    """Square root of a bound on a mean square: the residual as it enters the sum of T4.

    Raises:
      ValueError: the bound is negative or not a number.
    """
    return _plain(np.sqrt(_maybe_infinite("mean_square", mean_square)))


def central_limit_spread(coefficient: Constant, tail_samples: Constant) -> Any:
    """``c_clt K_tail^{-1/2}``: predicted spread of the tail average over replicas, in ``||.||_d`` (P2).

    Args:
      coefficient: ``trace(Sigma_psi A^{-1} Gamma A^{-T})^{1/2}``.
      tail_samples: number of handoffs in the tail average, at least 1.

    Raises:
      ValueError: a constant is out of range.
    """
    return _plain(_nonnegative("coefficient", coefficient) / np.sqrt(_count("tail_samples", tail_samples)))


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
    exact_part = _nonnegative("approximation", approximation) + _nonnegative("interface", interface)
    return _plain(_maybe_infinite("residual_rms", residual_rms) + exact_part)
