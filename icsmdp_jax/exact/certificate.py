"""Both ends of the certificate of A6 without its Gram matrix (P1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.moments import scale_rows

EPS = float(np.finfo(float).eps)
CLOSE = 1e-10  # relative distance of the two ends of the eigenvalue that is aimed at
SHIFTS = 6  # shifts that are tried, each ten times farther from the eigenvalue


class KappaBounds(NamedTuple):
    """``low <= kappa <= high``; A6 is certified where ``high`` is below 1 (P1)."""

    low: float
    high: float


def largest_of_positive(apply: Callable[[np.ndarray], np.ndarray], count: int, terms: int) -> tuple[float, float]:
    """Encloses the largest eigenvalue of a symmetric matrix ``A`` with entries of 0 or more.

    From below: the Rayleigh quotient of any vector. From above: ``max_i (Ax)_i / x_i`` for any ``x > 0``, because the
    eigenvalue is at most the sup norm of ``diag(x)^-1 A diag(x)`` (Collatz and Wielandt); no irreducibility is needed.
    ``x = (t - A)^-1 1`` with ``t`` above the eigenvalue is a sum of non-negative powers, so it is positive, and
    ``Ax = t x - 1 <= t x``: its ratios are all below ``t``, in every block of a reducible matrix. The system is solved
    approximately, and the ratios are then taken from what came out, so that nothing depends on the solver.

    Args:
      apply: ``[n]`` to ``A`` times it.
      count: ``n``.
      terms: longest sum of non-negative terms in a product, for the rounding of the upper end.

    Returns:
      ``(low, high)``.
    """
    ones = np.ones(count)
    if not apply(ones).any():
        return 0.0, 0.0
    vector = ones
    if count > 2:
        system = sparse_linalg.LinearOperator((count, count), matvec=lambda x: apply(x.reshape(-1)), dtype=np.float64)
        try:
            vector = np.abs(sparse_linalg.eigsh(system, k=1, which="LA", v0=ones, tol=1e-13)[1][:, 0])
        except sparse_linalg.ArpackNoConvergence:
            pass
    else:
        vector = np.abs(np.linalg.eigh(np.stack([apply(e) for e in np.eye(count)], axis=1))[1][:, -1])
    low = float(vector @ apply(vector) / (vector @ vector))
    high = math.inf
    gap = CLOSE
    for _ in range(SHIFTS):
        shift = low * (1 + gap)
        shifted = sparse_linalg.LinearOperator(
            (count, count), matvec=lambda x, t=shift: t * x.reshape(-1) - apply(x.reshape(-1)), dtype=np.float64
        )
        guess = vector * (vector.sum() / (shift - low) / (vector @ vector))
        found, _ = sparse_linalg.cg(shifted, ones, x0=guess, rtol=1e-10, maxiter=500)
        for candidate in (found, apply(np.maximum(found, 0.0)) + ones):
            if (candidate > 0).all():
                high = min(high, float((apply(candidate) / candidate).max()))
        if high <= low * (1 + 10 * gap):
            break
        gap *= 10
    return low, max(low, high) * (1 + 4 * terms * EPS)


def kappa_bounds(interface: InterfaceModel) -> KappaBounds:
    """Encloses ``sigma_max(D^{1/2} P^g_phi E^{-1/2})`` by products with ``P^g_phi`` alone (P1).

    Its Gram matrix is symmetric and has no negative entry, so ``largest_of_positive`` applies; the upper end is
    rigorous, and rounding is included in it.
    """
    live = np.flatnonzero(interface.mask.any(axis=1))
    least = np.where(interface.mask, interface.chain.behaviour, np.inf).min(axis=1)[live]
    inverse = 1 / np.sqrt(interface.interface_weight[live] * least)
    scaled = scale_rows(np.sqrt(interface.pair_weight.reshape(-1)), interface.discounted)[:, live]
    longest = scaled.shape[1]
    backward = scaled.T
    if sparse.issparse(scaled):
        backward = sparse.csr_array(backward)
        longest = int(max(np.diff(scaled.indptr).max(initial=0), np.diff(backward.indptr).max(initial=0)))

    def apply(x: np.ndarray) -> np.ndarray:
        return inverse * (backward @ (scaled @ (inverse * x)))

    low, high = largest_of_positive(apply, len(live), 2 * longest + 8)
    return KappaBounds(math.sqrt(max(low, 0.0)), math.sqrt(max(high, 0.0)))
