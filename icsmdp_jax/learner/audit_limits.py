"""Confidence limits of means over dependent handoffs: batch means, random scaling, empirical Bernstein (T5).

A pair is met at random times, so its mean is a ratio of two sums over ``b`` batches of consecutive handoffs: sums
``S_j`` over visits, and visits ``N_j``. Batch means and random scaling look at ``r_j = S_j - (sum S / sum N) N_j`` and
are asymptotic: batches must be long compared with the memory of the chain. The Bernstein limit holds at every
number of handoffs, but only where the differences from the mean are martingale differences (closed gap).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

BATCHES = 32
METHODS = ("batch-means", "random-scaling", "bernstein")
ANGLES = (np.arange(400) + 0.5) * (np.pi / 2 / 400)  # midpoints of the quadrature over a quarter of the circle


class Sums(NamedTuple):
    """What was met in ``b`` batches; leading axes may be added before ``b`` and ``P``.

    Attributes:
      visits: ``[..., b, P]`` visits of each pair in each batch.
      total: ``[..., b, P]`` sums over these visits.
      square: ``[..., P]`` sums of squares over all batches.
    """

    visits: np.ndarray
    total: np.ndarray
    square: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """``[..., P]`` visits of each pair."""
        return self.visits.sum(axis=-2)

    @property
    def mean(self) -> np.ndarray:
        """``[..., P]`` mean over the visits of each pair; NaN where there was none."""
        with np.errstate(invalid="ignore"):
            return self.total.sum(axis=-2) / self.times

    @property
    def deviations(self) -> np.ndarray:
        """``[..., b, P]`` ``r_j``: they sum to 0 over the batches."""
        return self.total - np.nan_to_num(self.mean)[..., None, :] * self.visits

    @property
    def met(self) -> np.ndarray:
        """``[..., P]`` int, batches in which a pair was met at all."""
        return (self.visits > 0).sum(axis=-2)


def covered(sums: Sums, method: str) -> np.ndarray:
    """``[..., P]`` bool, whether a limit is given: pairs met in less than half of the batches tell too little."""
    return sums.times > 0 if method == "bernstein" else 2 * sums.met >= sums.visits.shape[-2]


def half_width(sums: Sums, method: str, level: float, size: float | None = None, sides: int = 2) -> np.ndarray:
    """Half-widths of intervals around ``sums.mean``, each of which misses with probability ``level`` (T5).

    Args:
      sums: sums by batch.
      method: one of ``METHODS``.
      level: probability of a miss, of one interval.
      size: largest absolute value of a term; needed by ``bernstein`` only.
      sides: 1 if only one end is used.

    Returns:
      ``[..., P]``, infinite where ``covered`` says no.

    Raises:
      ValueError: for an unknown method, or ``bernstein`` without a size.
    """
    if method not in METHODS:
        raise ValueError(f"method = {method!r}: expected one of {', '.join(METHODS)}")
    fine, count = covered(sums, method), np.maximum(sums.times, 1)
    tail = level / sides
    if method == "bernstein":
        if size is None:
            raise ValueError("size: missing, expected a bound on the differences for method 'bernstein'")
        width = _bernstein(sums, count, tail, size)
    elif method == "batch-means":
        met = np.maximum(sums.met, 2)
        variance = (sums.deviations**2).sum(axis=-2) * met / (met - 1)
        width = stats.t.ppf(1 - tail, met - 1) * np.sqrt(variance) / count
    else:
        partial = np.cumsum(sums.deviations, axis=-2)
        width = scaling_quantile(2 * tail, sums.visits.shape[-2]) * np.sqrt((partial**2).mean(axis=-2)) / count
    return np.where(fine, width, np.inf)


def scaling_quantile(level: float, batches: int = BATCHES) -> float:
    """``c`` with ``P(|T| > c) = level`` for ``T = W(1) / (sum_j B(j/b)^2 / b)^(1/2)``: random scaling in ``b`` batches.

    The bridge ``B`` does not depend on ``W(1)``, and ``U``, the sum under the root, has eigenvalues
    ``1 / (2 b sin(pi j / 2b))^2``. Craig's form of the normal tail gives
    ``P(|T| > c) = (2 / pi) int_0^(pi/2) E exp(-c^2 U / (2 sin^2 theta)) d theta``.
    """
    eigenvalues = 1 / (2 * batches * np.sin(np.pi * np.arange(1, batches) / (2 * batches))) ** 2

    def missed(c: float) -> float:
        rates = (c / np.sin(ANGLES)) ** 2
        return float(np.exp(-0.5 * np.log1p(rates[:, None] * eigenvalues).sum(axis=1)).mean())

    return float(optimize.brentq(lambda c: missed(c) - level, 0.1, 1e4))


def _bernstein(sums: Sums, count: np.ndarray, tail: float, size: float) -> np.ndarray:
    """Empirical Bernstein around a mean, at every number of visits (Howard, Ramdas, McAuliffe and Sekhon 2021).

    ``exp(l sum (x - mean) - psi(l) sum (x - guess)^2)`` is a supermartingale for ``|x - guess| <= c`` and
    ``psi(l) = (-log(1 - c l) - c l) / c^2``, whatever was predicted as the guess; 0 is, the mean of a learned table's
    differences. The best of some ``l`` is taken, and the level shared among them.
    """
    rates = 0.5 ** np.arange(1, 2 + math.ceil(math.log2(max(float(count.max()), 2.0)) / 2)) / size
    psi = (-np.log1p(-size * rates) - size * rates) / size**2
    widths = [
        (math.log(len(rates) / tail) + p * sums.square) / (rate * count) for rate, p in zip(rates, psi, strict=True)
    ]
    return np.minimum.reduce(widths)
