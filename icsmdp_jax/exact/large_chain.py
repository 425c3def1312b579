"""Behaviour chains of many states: a restart without its outer product, the stationary law, the period (D4, D8)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from icsmdp_jax.exact.elimination import (
    A_PRIORI,
    LEAST,
    UNIT,
    Elimination,
    Law,
    certificate,
    eliminated,
    frequent_state,
    refuse_rare,
)
from icsmdp_jax.exact.iterative import solve
from icsmdp_jax.exact.moments import Matrix

SETTLED = 1e-14  # relative change of every entry in one step at which smoothing the stationary law ends
EPISODE = 64  # handoffs to which episodes are tried to end, before their visits are solved for as if they need not
SMOOTHING = 400  # most steps of that kind
REFINEMENTS = 8  # most corrections of relative errors that follow
CERTIFIED = 1e-6  # largest certified relative error of a stationary law that is passed on
DIRECT_WORK = 1e10  # multiplications of an elimination that is preferred to iteration
LAST_RESORT = 1e12  # and of one where iteration fails
DIRECT_MEMORY = 1e9  # bytes of its factors; four times as many where iteration fails
NARROWEST = 64  # states of a block of an elimination, at least
HUBS = 32  # states that may be kept out of the order of the others, at most
LONG = 64  # entries of a row beyond which they are summed pairwise


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


def sums(matrix: sparse.csr_array) -> np.ndarray:
    """Row sums of compressed rows of positive numbers, of ``LONG`` roundings at most in each."""
    out = np.asarray(matrix @ np.ones(matrix.shape[1]))
    for row in np.flatnonzero(np.diff(matrix.indptr) > LONG):
        out[row] = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]].sum()  # pairwise
    return out


def moves(transition: Matrix) -> sparse.csr_array:
    """Who is followed by whom with what probability, without the diagonal; a restart is one more state, the last."""
    if isinstance(transition, Restarted):
        into, out = sparse.csr_array(transition.lost[:, None]), sparse.csr_array(transition.start[None, :])
        transition = sparse.block_array([[transition.kept, into], [out, None]], format="csr")
    entries = sparse.coo_array(transition)
    other = (entries.row != entries.col) & (entries.data > 0)
    return sparse.csr_array((entries.data[other], (entries.row[other], entries.col[other])), shape=entries.shape)


def sparse_law(transition: Matrix, names: np.ndarray | None = None) -> Law:
    """Stationary law of an irreducible chain in compressed rows, with a certificate for every weight (D4).

    By elimination, block by block, where the states can be put into an order in which they have transitions to near
    ones only (and to a few hubs), or are few. By iteration where they cannot: such chains mix fast as a rule. If the
    iteration cannot be certified, by elimination after all, unless that would take too long.

    Args:
      transition: ``[n, n]`` stochastic matrix, compressed or ``Restarted``.
      names: ``[n]`` int, what a message calls the states; their indices if None.

    Raises:
      ValueError: one line, if a weight is below ``LEAST`` or the law cannot be certified to ``CERTIFIED``.
    """
    if isinstance(transition, Restarted) and not transition.lost.any():
        transition = transition.kept
    away = moves(transition)
    states, count = transition.shape[0], away.shape[0]
    if count == 1:
        return Law(np.ones(1), 0.0, 0.0, None)
    exits, backward = sums(away), sparse.csr_array(away.T)
    names = np.arange(states) if names is None else names
    if count > states:
        names = np.append(names, names[transition.start.argmax()])
    order = Order.of(away)
    found = None
    if order.work > DIRECT_WORK or order.memory > DIRECT_MEMORY:
        found = iterated(transition, backward, exits)
    factors = None
    if found is None and order.work <= LAST_RESORT and order.memory <= 4 * DIRECT_MEMORY:

        def eliminate(reference: int) -> Elimination:
            def part(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
                return away[rows][:, columns].toarray()

            return Elimination(part, exits, *order.around(reference), names)

        law, factors = eliminated(eliminate, frequent_state(lambda weights: backward @ weights, exits), names)
        found = law, factors.steps_back(factors.scaled_law())
    bound, law = math.inf, np.zeros(count)
    if found is not None:
        law, steps = found
        refuse_rare(law, names)
        balance = law * exits
        flow = sparse.csr_array((backward.data * law[backward.indices], backward.indices, backward.indptr), away.shape)
        difference = sums(flow) - balance
        bound = certificate(float(np.abs(difference / balance).max()), LONG, steps)
        if factors is not None:
            bound = min(bound, A_PRIORI * count**2 * UNIT)
    if not bound <= CERTIFIED:
        raise ValueError(
            f"stationary law: certified to a relative error of {bound:.3g} only, expected {CERTIFIED:.3g} or less (the "
            f"chain of {states} states mixes too slowly for an iterative solver and is too entangled for elimination)"
        )
    whole = law[:states].sum()
    return Law(law[:states] / whole, float(np.abs(difference[:states]).sum() / whole), bound, factors)


@dataclasses.dataclass(frozen=True, eq=False)
class Order:
    """States in an order in which transitions lead to near ones, but for hubs.

    Attributes:
      hubs: states with very many neighbours.
      rest: all others, in order.
      width: how far apart in ``rest`` two states with a transition between them can be.
    """

    hubs: np.ndarray
    rest: np.ndarray
    width: int

    @staticmethod
    def of(away: sparse.csr_array) -> Order:
        """The order of Cuthill and McKee, reversed."""
        pattern = sparse.csr_array((np.ones(away.nnz), away.indices, away.indptr), away.shape)
        both = sparse.csr_array(pattern + pattern.T)
        degree = np.diff(both.indptr)
        many = np.argsort(-degree, kind="stable")[:HUBS]
        hubs = many[degree[many] > np.maximum(LONG, 8 * np.median(degree))]
        others = np.setdiff1d(np.arange(len(degree)), hubs)
        inner = both[others][:, others]
        place = csgraph.reverse_cuthill_mckee(sparse.csr_matrix(inner), symmetric_mode=True)
        rank = np.empty(len(place), int)
        rank[place] = np.arange(len(place))
        entries = sparse.coo_array(inner)
        return Order(hubs, others[place], int(np.abs(rank[entries.row] - rank[entries.col]).max(initial=1)))

    @property
    def block(self) -> int:
        """States of a block."""
        width = max(self.width, NARROWEST)
        return width if 3 * width < len(self.rest) else len(self.rest)

    @property
    def work(self) -> float:
        """Multiplications of an elimination."""
        count, block = len(self.rest), self.block
        return count**3 / 3 if block == count else 3.0 * count * (block + len(self.hubs)) ** 2

    @property
    def memory(self) -> float:
        """Bytes of its factors."""
        count, block = len(self.rest), self.block
        return 8.0 * count * (count if block == count else 4 * (block + len(self.hubs)))

    def around(self, reference: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Border and blocks for an elimination with the given reference state."""
        cuts = range(self.block, len(self.rest), self.block)
        blocks = [part[part != reference] for part in np.split(self.rest, list(cuts))]
        border = np.append(reference, self.hubs[self.hubs != reference])
        return border, [part for part in blocks if len(part)]


def iterated(transition: Matrix, backward: sparse.csr_array, exits: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The stationary law by iteration, with what ``certificate`` needs to certify it; None where that fails.

    After a first guess, lazy moves ``v <- (v + vJ)/2`` with ``J`` the chain of moves make the relative error of each
    entry an average of those before it. What is left is solved for as a relative error, ``(I - G) e = rho`` in the
    notation of ``certificate``, so that rare states become as accurate as frequent ones.

    Args:
      transition: ``[n, n]`` stochastic matrix, compressed or ``Restarted``.
      backward: ``[m, m]`` transpose of its ``moves``.
      exits: ``[m]`` their sums by row.

    Returns:
      Law ``[m]`` and expected steps back ``[m]``, neither of which is certified by itself.
    """
    law = np.append(_first_guess(transition), 0.0)[: len(exits)]
    if isinstance(transition, Restarted):
        law[-1] = law[:-1] @ transition.lost
    law *= exits
    into = sparse.csr_array(backward @ sparse.diags_array(1 / exits))
    for _ in range(SMOOTHING):
        following = into @ law
        law, change = (law + following) / 2, np.abs(following - law)
        law /= law.sum()
        if (change <= SETTLED * law).all():
            break
    if not (law >= LEAST).all():
        return None
    imbalance, reference = math.inf, int(law.argmax())
    right = np.ones(len(law))
    right[reference] = 0.0
    for _ in range(REFINEMENTS):
        away = _Away(into, law, reference)
        rho = right * (sums(away.back) - 1)
        before, imbalance = imbalance, float(np.abs(rho).max())
        if imbalance <= SETTLED or imbalance > before / 2:
            break
        try:
            law = law * np.maximum(1 + solve(away, rho, "stationary law", tolerance=1e-6).x, 0.1)
        except ValueError:
            return None
        law /= law.sum()
    away = _Away(into, law, reference)
    try:
        steps = solve(away, right, "stationary law", tolerance=0.1).x
    except ValueError:
        return None
    law, left = law / exits, away(steps[:, None])[:, 0]
    certified = (steps >= 0).all() and (left >= 0.6 * right).all()
    return (law / law.sum(), steps) if certified else None


class _Away:
    """``I - G`` without the reference state, whose entry stays as it is."""

    def __init__(self, into: sparse.csr_array, law: np.ndarray, reference: int) -> None:
        rows = np.repeat(np.arange(len(law)), np.diff(into.indptr))
        data = into.data * law[into.indices] / law[rows]
        self.back, self.reference = sparse.csr_array((data, into.indices, into.indptr), into.shape), reference

    def __call__(self, x: np.ndarray) -> np.ndarray:
        inside = x.copy()
        inside[self.reference] = 0.0
        out = inside - self.back @ inside
        out[self.reference] = x[self.reference]
        return out


def _first_guess(transition: Matrix) -> np.ndarray:
    """``[n]`` weights from a linear system, or all equal where it is not solved.

    ``(I - P^T + u 1^T) d = u`` with ``u`` uniform has the stationary law as its only solution: summing all equations
    gives ``1^T d = 1``, and then ``d = P^T d``. A chain that restarts has ``d`` proportional to the expected visits
    ``(I - kept^T)^-1 start`` of one episode.
    """
    if isinstance(transition, Restarted) and not transition.lost.any():
        transition = transition.kept  # no episode ever ends, so that its visits cannot be counted
    count = transition.shape[0]
    backward = transition.T
    uniform = np.full(count, 1 / count)

    def apply(block: np.ndarray) -> np.ndarray:
        return block - backward @ block + uniform[:, None] * block.sum(axis=0)

    try:
        if isinstance(transition, Restarted):
            kept = sparse.csr_array(transition.kept.T)
            start = transition.start
            law = solve(lambda block: block - kept @ block, start, "stationary law", tolerance=1e-13, sweeps=EPISODE).x
        else:
            law = solve(apply, uniform, "stationary law", tolerance=1e-13).x
    except ValueError:
        return uniform
    law = np.maximum(law, 0.0)
    return law / law.sum()


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
