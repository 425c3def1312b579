"""The residual term: step sizes, what T3, T3+ and N guarantee, and what the central limit predicts."""

from __future__ import annotations

from typing import Any

import numpy as np

from bound_validation.theorem import check
from bound_validation.theorem.check import Constant


def gradient_bound(reward_max: Constant, radius_max: Constant) -> Any:
    """``G = R_max + 2 max_i B_i``: bound on the length of one semi-gradient under projection per agent (L4).

    Args:
      reward_max: bound on the absolute segment reward, noise included.
      radius_max: largest radius of the balls on which the agents project their blocks.

    Raises:
      ValueError: a constant is out of range.
    """
    return check.plain(check.nonnegative("reward_max", reward_max) + 2 * check.nonnegative("radius_max", radius_max))


def constant_step(samples: Constant) -> Any:
    """``K^{-1/2}``: the step of T3, and the accuracy at which its mixing time is taken.

    Raises:
      ValueError: fewer than one sample.
    """
    return check.plain(1 / np.sqrt(check.count("samples", samples)))


def decaying_step(k: Constant, omega: Constant, kappa: Constant) -> Any:
    """``1 / (omega (k + 1) (1 - kappa))``: the step of T3.1; at ``k = K`` the accuracy of its ``t_mix``.

    Args:
      k: index of the handoff, from 0.
      omega: smallest non-zero eigenvalue of ``E_d[psi psi^T]`` (D7).
      kappa: certificate of A6 (P1).

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    return check.plain(
        1 / (check.positive("omega", omega) * (check.nonnegative("k", k) + 1) * (1 - check.certified(kappa)))
    )


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
    distance = check.nonnegative("initial_distance", initial_distance)
    square = check.positive("gradient_bound", gradient_bound) ** 2
    mixing, contraction, k = (
        check.maybe_infinite("mixing_time", mixing_time),
        1 - check.certified(kappa),
        check.count("samples", samples),
    )
    bound = (distance**2 + square * (9 + 12 * mixing)) / (2 * contraction * np.sqrt(k))
    if not stationary_start:
        bound = bound + 2 * square * np.minimum(mixing, k) / (contraction * k)
    return check.plain(bound)


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
    square = check.positive("gradient_bound", gradient_bound) ** 2
    mixing, contraction = check.maybe_infinite("mixing_time", mixing_time), 1 - check.certified(kappa)
    k = check.count("samples", samples)
    bound = square * (9 + 24 * mixing) * (1 + np.log(k)) / (k * contraction**2 * check.positive("omega", omega))
    if not stationary_start:
        bound = bound + 4 * square * np.minimum(mixing, k) / (contraction * k)
    return check.plain(bound)


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
    return check.plain(neural_statistical_term(initial_distance, gradient_square, drift, boundary, step, samples)
                  / (1 - check.certified(kappa)))  # fmt: skip


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
    contraction, k = 1 - check.certified(kappa), check.count("samples", samples)
    second = check.nonnegative("gradient_square", gradient_square) + 2 * check.nonnegative("drift", drift)
    main = second * (1 + np.log(k)) / (contraction**2 * check.positive("omega", omega))
    return check.plain((main + 2 * check.nonnegative("boundary", boundary) / contraction) / k)


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
    second = check.positive("gradient_square", gradient_square) + 2 * check.nonnegative("drift", drift)
    return check.plain(
        check.nonnegative("initial_distance", initial_distance) / np.sqrt(second * check.count("samples", samples))
    )


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
    alpha, k = check.positive("step", step), check.count("samples", samples)
    distance = check.nonnegative("initial_distance", initial_distance)
    noise = check.nonnegative("gradient_square", gradient_square) / 2 + check.nonnegative("drift", drift)
    return check.plain(distance**2 / (2 * alpha * k) + alpha * noise + check.nonnegative("boundary", boundary) / k)


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
    e, h = check.nonnegative("linearisation", linearisation), check.nonnegative("gradient", gradient)
    modulus = check.certified(kappa)
    square = (
        check.nonnegative("statistical", statistical) + check.nonnegative("mismatch", mismatch) + (1 + modulus) * e * h
    )
    return check.plain((1 + modulus) / (1 - modulus) * (e + h) + e + np.sqrt(square / (1 - modulus)))


def target_distance(slack: Constant, kappa: Constant) -> Any:
    """``(slack / (1 - kappa))^{1/2}``: how far a computed target is from the fixed point at most, in ``||.||_d`` (N4).

    Args:
      slack: by how much it misses the variational inequality.
      kappa: certificate of A6 (P1).

    Raises:
      ValueError: a constant is out of range, or A6 is not certified.
    """
    return check.plain(np.sqrt(check.nonnegative("slack", slack) / (1 - check.certified(kappa))))


def informative(bound: Constant, trivial: Constant) -> Any:
    """Whether a bound is below the error of the zero function, so that it rules out that nothing was learned (D12).

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
    share = check.checked("tail_fraction", tail_fraction, "a share in (0, 1]", lambda x: (x > 0) & (x <= 1))
    return check.plain(check.maybe_infinite("mean_square", mean_square) / share)


def residual_rms(mean_square: Constant) -> Any:
    """Square root of a bound on a mean square: the residual as it enters the sum of T4.

    Raises:
      ValueError: the bound is negative or not a number.
    """
    return check.plain(np.sqrt(check.maybe_infinite("mean_square", mean_square)))


def central_limit_spread(coefficient: Constant, tail_samples: Constant) -> Any:
    """``c_clt K_tail^{-1/2}``: predicted spread of the tail average over replicas, in ``||.||_d`` (P2).

    Args:
      coefficient: ``trace(Sigma_psi A^{-1} Gamma A^{-T})^{1/2}``.
      tail_samples: number of handoffs in the tail average, at least 1.

    Raises:
      ValueError: a constant is out of range.
    """
    return check.plain(
        check.nonnegative("coefficient", coefficient) / np.sqrt(check.count("tail_samples", tail_samples))
    )
