"""Linear systems too large to factorise: many right sides at once, accepted by their true residual or refused.

Every system here is ``(I - K) x = b`` with ``K`` close to a contraction: a policy's discounted rows, a stochastic
matrix with its stationary direction removed, or their transposes. Biconjugate gradients (stabilised) run on all columns
together; whatever they claim, a column is accepted by a residual that is recomputed. Columns that are not get
restarted, then solved by GMRES, and if that fails too, the caller is told in one line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import linalg as sparse_linalg

Apply = Callable[[np.ndarray], np.ndarray]

EPS = float(np.finfo(float).eps)
ROUNDING = 64.0  # a residual below this times eps times the solution's size is rounding, and cannot be reduced
STEPS, RESTARTS = 400, 6  # two-product steps of the block solver before it restarts, and how often it does
BASIS, CYCLES = 80, 25  # of GMRES


class Solved(NamedTuple):
    """Solutions of one system for several right sides.

    Attributes:
      x: ``[n]`` or ``[n, c]`` float64, as the right side was.
      residual: ``[c]`` largest absolute entry of ``b - A x``, computed from the returned ``x``.
      products: applications of ``A`` to a block.
    """

    x: np.ndarray
    residual: np.ndarray
    products: int


def solve(
    apply: Apply,
    right: np.ndarray,
    what: str,
    tolerance: float = 1e-12,
    start: np.ndarray | None = None,
    steps: int = STEPS,
    sweeps: int = 0,
) -> Solved:
    """Solves ``A x = b`` for every column of ``b`` to a residual that is checked.

    Args:
      apply: maps ``[n, c]`` to ``A`` times it, for any ``c``.
      right: ``[n]`` or ``[n, c]`` right sides.
      what: name of the system, for the message.
      tolerance: on ``max |b - A x|`` relative to ``max |b|``, column by column; where rounding alone exceeds it, a few
        dozen units of rounding of the solution's size are accepted instead.
      start: first guess of the right side's shape, zeros if None.
      steps: two-product steps between restarts.
      sweeps: number of steps ``x <- x + (b - A x)`` at the start. Episodes that cannot be longer than that
        make ``K`` nilpotent, and then these steps end at the solution, where Krylov spaces make no headway before their
        dimension is reached.

    Returns:
      A ``Solved``.

    Raises:
      ValueError: one line, if some column has not reached the tolerance.
    """
    b = right if right.ndim == 2 else right[:, None]
    x = np.zeros(b.shape) if start is None else np.array(start, np.float64).reshape(b.shape)
    wanted = tolerance * np.abs(b).max(axis=0)
    products = 0
    residual = b - apply(x) if start is not None else b.copy()
    if sweeps:
        swept, left, used = _swept(apply, b, x, residual, wanted, sweeps)
        products += used
        better = np.abs(left).max(axis=0) < np.abs(residual).max(axis=0)
        x[:, better], residual[:, better] = swept[:, better], left[:, better]
    size = np.abs(residual).max(axis=0)
    for _ in range(RESTARTS):
        open_columns = np.flatnonzero(size > _allowed(wanted, x))
        if not len(open_columns):
            break
        step, used = _stabilised(apply, residual[:, open_columns], wanted[open_columns], steps)
        products += used + 1
        candidate = x[:, open_columns] + step
        left = b[:, open_columns] - apply(candidate)
        reached = np.abs(left).max(axis=0)
        better = reached < size[open_columns]  # False for NaN as well
        kept = open_columns[better]
        x[:, kept], residual[:, kept], size[kept] = candidate[:, better], left[:, better], reached[better]
        if not better.any():
            break
    for column in np.flatnonzero(size > _allowed(wanted, x)):
        x[:, column], used = _minimal_residual(apply, b[:, column], x[:, column], 0.1 * wanted[column])
        products += used
        size[column] = float(np.abs(b[:, column] - apply(x[:, column, None])[:, 0]).max())
    failed = np.flatnonzero(~(size <= _allowed(wanted, x)))
    if len(failed):
        worst = float((size[failed] / np.maximum(np.abs(b[:, failed]).max(axis=0), 1e-300)).max())
        raise ValueError(
            f"{what}: relative residual {worst:.3g} after {products} products, expected {tolerance:.3g} or less "
            "(a chain that mixes too slowly for an iterative solver)"
        )
    return Solved(x.reshape(right.shape), size, products)


def _swept(
    apply: Apply, b: np.ndarray, x: np.ndarray, residual: np.ndarray, wanted: np.ndarray, sweeps: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """``x <- x + (b - A x)`` until every column is done, or ``sweeps`` times."""
    used = 0
    for _ in range(sweeps):
        used += 1
        x = x + residual
        residual = b - apply(x)
        if (np.abs(residual).max(axis=0) <= _allowed(wanted, x)).all():
            break
    return x, residual, used


def _allowed(wanted: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.maximum(wanted, ROUNDING * EPS * np.abs(x).max(axis=0))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("nc,nc->c", a, b)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.zeros_like(top), where=np.abs(bottom) > 1e-290)


def _stabilised(apply: Apply, residual: np.ndarray, wanted: np.ndarray, steps: int) -> tuple[np.ndarray, int]:
    """BiCGSTAB on a block, from zero, each column with scalars of its own (van der Vorst 1992)."""
    x = np.zeros_like(residual)
    r, shadow, p = residual.copy(), residual, residual.copy()
    rho = _dot(shadow, r)
    first = np.abs(residual).max(axis=0)
    used = 0
    for _ in range(steps):
        used += 2
        v = apply(p)
        alpha = _ratio(rho, _dot(shadow, v))
        r -= alpha * v
        t = apply(r)
        omega = _ratio(_dot(t, r), _dot(t, t))
        x += alpha * p
        x += omega * r
        r -= omega * t
        size = np.abs(r).max(axis=0)
        following = _dot(shadow, r)
        beta = _ratio(following * alpha, rho * omega)
        done = (size <= 0.3 * wanted) | ~np.isfinite(size) | (beta == 0)
        if done.all() or (size[np.isfinite(size)] > 1e6 * first.max()).any():
            break
        # A column that is done stays as it is: every scalar of its own vanishes from here on.
        p = np.where(done, 0.0, r + beta * (p - omega * v))
        rho = np.where(done, 0.0, following)
        r[:, done] = 0.0
    return x, used


def _minimal_residual(apply: Apply, right: np.ndarray, start: np.ndarray, wanted: float) -> tuple[np.ndarray, int]:
    """Restarted GMRES on one column."""
    count, calls = len(right), 0

    def product(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return apply(x.reshape(-1, 1))[:, 0]

    system = sparse_linalg.LinearOperator((count, count), matvec=product, dtype=np.float64)
    x, _ = sparse_linalg.gmres(
        system, right, x0=start, rtol=0.0, atol=wanted, restart=min(BASIS, count), maxiter=CYCLES
    )
    return x, calls
