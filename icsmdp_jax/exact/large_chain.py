"""Behaviour chains of many states: a restart without its outer product, the stationary law, the period (D4, D8)."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from icsmdp_jax.exact.iterative import solve
from icsmdp_jax.exact.moments import Matrix

SETTLED = 1e-13  # relative change of every entry in one step at which smoothing the stationary law ends
EPISODE = 64  # handoffs to which episodes are tried to end, before their visits are solved for as if they need not
SMOOTHING = 400  # most steps of that kind
ACCEPTED = 1e-10  # largest L1 residual of a stationary law that is passed on


@dataclasses.dataclass(frozen=True, eq=False)
class Restarted:
    """``kept + lost start^T``: a chain that restarts, kept as two parts because the second may be full (D4).

    Attributes:
      kept: ``[n, m]`` rows without the restart, compressed.
      lost: ``[n]`` mass that each row sends to the restart.
      start: ``[m]`` law of the restart.
    """

    kept: Matrix
    lost: np.ndarray
    start: np.ndarray

    __array_ufunc__ = None  # so that arrays leave ``array @ chain`` to this class

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.kept.shape

    @property
    def nnz(self) -> int:
        """Stored numbers."""
        return int(self.kept.nnz + len(self.lost) + len(self.start))

    @property
    def T(self) -> Restarted:  # noqa: N802
        """The transpose, of the same form."""
        return Restarted(self.kept.T, self.start, self.lost)

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        """Product with ``[m]`` or ``[m, c]``."""
        through = self.start @ other
        return self.kept @ other + (self.lost * through if other.ndim == 1 else self.lost[:, None] * through)

    def __rmatmul__(self, other: np.ndarray) -> np.ndarray:
        """Product of ``[n]`` with the chain."""
        return self.T @ other

    def restricted(self, states: np.ndarray) -> Restarted:
        """The block of some states."""
        return Restarted(sparse.csr_array(self.kept[states][:, states]), self.lost[states], self.start[states])

    def toarray(self) -> np.ndarray:
        """Dense, for small chains."""
        return self.kept.toarray() + self.lost[:, None] * self.start[None, :]


def restarted(rows: Matrix, terminal: np.ndarray, start: np.ndarray) -> Matrix:
    """Sends the mass that enters terminal states to the start law, without forming all pairs (D4).

    Args:
      rows: ``[S, S]`` sub-stochastic rows over next states.
      terminal: ``[S]`` bool.
      start: ``[S]`` restart law.

    Returns:
      Compressed rows if nothing is terminal, else a ``Restarted``.
    """
    compressed = sparse.csr_array(rows)
    if not terminal.any():
        return compressed
    lost = np.asarray(compressed @ terminal.astype(float))
    kept = sparse.csr_array(compressed @ sparse.diags_array((~terminal).astype(float)))
    kept.eliminate_zeros()
    return Restarted(kept, lost, start)


def graph(transition: Matrix) -> tuple[sparse.csr_array, int]:
    """Who can follow whom, and the number of states; a restart is one more node, after all states."""
    if not isinstance(transition, Restarted):
        plain = sparse.csr_array(transition)
        plain.eliminate_zeros()
        return plain, plain.shape[0]
    count = transition.shape[0]
    into = sparse.csr_array((transition.lost > 0).astype(float)[:, None])
    out = sparse.csr_array((transition.start > 0).astype(float)[None, :])
    joined = sparse.csr_array(sparse.block_array([[transition.kept, into], [out, None]], format="csr"))
    joined.eliminate_zeros()
    return joined, count


class StationaryLaw(NamedTuple):
    """A stationary law and what is left of its equation.

    Attributes:
      law: ``[n]`` positive weights that sum to 1.
      residual: ``sum_s |(d P - d)(s)|``. The error obeys ``sum |d - exact| <= 2 t_mix residual`` with any upper bound
        on ``t_mix(1/4)``: the error is ``sum_k rho P^k`` with ``rho`` the residual, whose mass is 0, and ``t_mix``
        steps halve such a vector. Without mixing (a periodic chain) the residual alone is what is known.
    """

    law: np.ndarray
    residual: float


def iterative_stationary_law(transition: Matrix) -> StationaryLaw:
    """Stationary law of an irreducible chain by an iterative solver, then smoothed (D4).

    ``(I - P^T + u 1^T) d = u`` with ``u`` uniform has the stationary law as its only solution: summing all equations
    gives ``1^T d = 1``, and then ``d = P^T d``. A chain that restarts has ``d`` proportional to the expected visits
    ``(I - kept^T)^-1 start`` of one episode. Lazy steps ``d <- (d + dP)/2`` follow: they make the relative error
    of each entry an average of those before it, so that rare states become as accurate as frequent ones.

    Args:
      transition: ``[n, n]`` stochastic matrix, compressed or ``Restarted``.

    Returns:
      The law and its residual.

    Raises:
      ValueError: one line, if the residual stays too large.
    """
    if isinstance(transition, Restarted) and not transition.lost.any():
        transition = transition.kept  # no episode ever ends, so that its visits cannot be counted
    count = transition.shape[0]
    backward = transition.T
    uniform = np.full(count, 1 / count)

    def apply(block: np.ndarray) -> np.ndarray:
        return block - backward @ block + uniform[:, None] * block.sum(axis=0)

    if isinstance(transition, Restarted):
        kept = sparse.csr_array(transition.kept.T)
        start = transition.start
        law = solve(lambda block: block - kept @ block, start, "stationary law", tolerance=1e-13, sweeps=EPISODE).x
    else:
        law = solve(apply, uniform, "stationary law", tolerance=1e-13).x
    law = np.maximum(law, 0.0)
    law /= law.sum()
    for _ in range(SMOOTHING):
        following = backward @ law
        law, change = (law + following) / 2, np.abs(following - law)
        law /= law.sum()
        if (change <= SETTLED * law).all():
            break
    residual = float(np.abs(backward @ law - law).sum())
    if not residual <= ACCEPTED or not (law > 0).all():
        least = float(law.min())
        raise ValueError(
            f"stationary law: residual {residual:.3g} and smallest entry {least:.3g}, "
            f"expected at most {ACCEPTED:.3g} and more than 0 (the chain mixes too slowly for an iterative solver)"
        )
    return StationaryLaw(law, residual)


def period(transition: Matrix) -> int:
    """Period of an irreducible chain: greatest common divisor of the lengths of its cycles.

    With any potential ``h`` that grows by an edge's length along a spanning tree, the period is the greatest common
    divisor of ``h(u) + length - h(v)`` over all edges. The node of a restart is left by edges of length 0.
    """
    edges, count = graph(transition)
    order, parent = csgraph.breadth_first_order(edges, 0, directed=True)
    height = np.zeros(edges.shape[0], np.int64)
    for node in order[1:]:
        before = parent[node]
        height[node] = height[before] + (before < count)
    source, target = edges.nonzero()
    differences = np.abs(height[source] + (source < count) - height[target])
    reached = np.zeros(edges.shape[0], bool)
    reached[order] = True
    return math.gcd(*(int(d) for d in np.unique(differences[reached[source]])))
