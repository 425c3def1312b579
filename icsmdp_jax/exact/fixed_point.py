"""Linear function classes: projection, whitening and the fixed point ``Q_m`` of ``Pi T_phi`` (D7, L5, T2).

Each agent has its own features of its own interfaces and one weight vector per option, so that
``psi(z, o)`` is ``table[z]`` placed in the block of ``(agent(z), o)``: agents share nothing.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from icsmdp_jax.core.words import holding
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.moments import Matrix, as_dense
from icsmdp_jax.exact.relative import NEAR_ONE, backed_up, is_small, relative_fixed_point
from icsmdp_jax.exact.solve import backup, greedy_value, modified_policy_iteration

RANK_TOLERANCE = 1e-9  # directions whose share of the largest singular value is below this are left out of F


@dataclasses.dataclass(frozen=True)
class FeatureBasis:
    """Per-agent features of interfaces (D7).

    Attributes:
      table: ``[Z, p]`` float64; row z holds the features that the owner of z computes, Euclidean norm at most 1
        once whitened; columns beyond an agent's rank are 0.
      agent: ``[Z]`` int, owner of each interface, -1 where no decision is taken.
      rank: ``[N]`` int, number of used columns of each agent.
    """

    table: np.ndarray
    agent: np.ndarray
    rank: np.ndarray

    @property
    def width(self) -> int:
        """Number ``p`` of columns."""
        return self.table.shape[1]

    def columns(self, mask: np.ndarray) -> np.ndarray:
        """``[P]`` positions in the flattened ``[N, O, p]`` parameters of the columns that carry weight."""
        o_count, p = mask.shape[1], self.width
        used = np.zeros((len(self.rank), o_count, p), bool)
        z, o, column = np.nonzero(mask[:, :, None] & (self.table != 0)[:, None, :])
        used[self.agent[z], o, column] = True
        return np.flatnonzero(used)

    def psi(self, mask: np.ndarray) -> sparse.csr_array:
        """``[Z*O, P]`` feature matrix over pairs, in the order of ``columns``.

        Args:
          mask: ``[Z, O]`` bool, pairs that carry weight; the other rows are 0.
        """
        z_count, o_count = mask.shape
        p = self.width
        columns = self.columns(mask)
        z, o, column = np.nonzero(mask[:, :, None] & (self.table != 0)[:, None, :])
        place = np.searchsorted(columns, (self.agent[z] * o_count + o) * p + column)
        return sparse.csr_array(
            (self.table[z, column], (z * o_count + o, place)), shape=(z_count * o_count, len(columns))
        )

    def unpack(self, theta: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """``[N, O, p]`` parameters from the ``[P]`` ones that carry weight; the rest are 0."""
        out = np.zeros((len(self.rank), mask.shape[1], self.width))
        out.reshape(-1)[self.columns(mask)] = theta
        return out


def tabular_psi(mask: np.ndarray) -> sparse.csr_array:
    """``[Z*O, P]`` indicator features of the pairs in ``mask``: the tabular class (D7)."""
    rows = np.flatnonzero(mask.reshape(-1))
    return sparse.csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(mask.size, len(rows)))


def whiten(raw: np.ndarray, interface: InterfaceModel) -> FeatureBasis:
    """Whitens each agent's features by that agent's own second moments and scales them to norm at most 1 (L5).

    Args:
      raw: ``[Z, m]`` features before whitening.
      interface: gives the owner and the weight ``d(z)`` of each interface.

    Returns:
      A basis of the same span (directions below ``RANK_TOLERANCE`` left out).
    """
    owner = np.where(interface.mask.any(axis=1), interface.model.interface_agent, -1)
    count = interface.model.num_agents
    table = np.zeros((raw.shape[0], raw.shape[1]))
    rank = np.zeros(count, int)
    for agent in range(count):
        rows = np.flatnonzero(owner == agent)
        if len(rows) == 0:
            continue
        weight = interface.interface_weight[rows] / interface.interface_weight[rows].sum()
        left, singular, _ = np.linalg.svd(np.sqrt(weight)[:, None] * raw[rows], full_matrices=False)
        keep = singular > RANK_TOLERANCE * max(singular[0], np.finfo(float).tiny)
        white = left[:, keep] / np.sqrt(weight)[:, None]
        largest = np.sqrt((white**2).sum(axis=1).max()) if keep.any() else 1.0
        rank[agent] = int(keep.sum())
        table[rows, : rank[agent]] = white / largest
    return FeatureBasis(table, owner, rank)


@dataclasses.dataclass(frozen=True)
class Projection:
    """The d-orthogonal projection on the span of per-agent features, block by block (D7).

    Agents share nothing and every option has weights of its own, so the projection splits into one least-squares
    problem per (agent, option), each solved by the singular value decomposition of its weighted features.

    Attributes:
      psi: ``[Z*O, P]`` feature matrix.
      weight: ``[Z*O]`` weights ``d(z, o)``.
      rows: ``[blocks, n]`` int, pairs ``z * O + o`` of each block, padded with -1.
      columns: ``[blocks, p]`` int, columns of ``psi`` of each block, padded with -1.
    """

    psi: Matrix
    weight: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    @cached_property
    def _decomposition(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Root weights ``[b, n]`` and the factors ``U [b, n, r]``, ``s [b, r]``, ``V^T [b, r, p]``."""
        root = np.where(self.rows >= 0, np.sqrt(self.weight)[self.rows], 0.0)
        blocks = np.zeros((*self.rows.shape, self.columns.shape[1]))
        single = blocks.shape[1:] == (1, 1)  # indicators, of which there may be very many
        if single:
            blocks[:, 0, 0] = np.asarray(self.psi[self.rows[:, 0], self.columns[:, 0]]).reshape(-1)
        for block, (rows, columns) in enumerate(() if single else zip(self.rows, self.columns, strict=True)):
            r, c = rows[rows >= 0], columns[columns >= 0]
            blocks[block, : len(r), : len(c)] = as_dense(self.psi[r][:, c])
        left, singular, right = np.linalg.svd(root[:, :, None] * blocks, full_matrices=False)
        singular = np.where(singular > 1e-7 * singular.max(axis=1, keepdims=True), singular, 0.0)
        return root, left * (singular > 0)[:, None, :], singular, right

    @property
    def omega(self) -> float:
        """Smallest eigenvalue of the second moment on the span."""
        singular = self._decomposition[2]
        return float((singular[singular > 0] ** 2).min())

    @cached_property
    def orthonormal(self) -> sparse.csr_array:
        """``[Z*O, R]`` a d-orthonormal basis of the span: the class in coordinates whose second moment is the identity.

        Where masks or weights leave some columns of ``psi`` dependent, this basis has fewer columns than ``psi``.
        """
        root, left, singular, _ = self._decomposition
        block, place, rank = np.nonzero((root > 0)[:, :, None] & (singular > 0)[:, None, :])
        number = np.cumsum((singular > 0).reshape(-1)).reshape(singular.shape) - 1
        values = left[block, place, rank] / root[block, place]
        shape = (self.psi.shape[0], int((singular > 0).sum()))
        return sparse.csr_array((values, (self.rows[block, place], number[block, rank])), shape=shape)

    def _amplitudes(self, table: np.ndarray) -> np.ndarray:
        root, left, _, _ = self._decomposition
        values = root * np.where(self.rows >= 0, table.reshape(-1)[self.rows], 0.0)
        return np.einsum("bnr,bn->br", left, values)

    def coefficients(self, table: np.ndarray) -> np.ndarray:
        """``[P]`` theta with ``psi theta = Pi table`` for a ``[Z, O]`` table."""
        _, _, singular, right = self._decomposition
        inverse = np.where(singular > 0, 1 / np.where(singular > 0, singular, 1.0), 0.0)
        per_block = np.einsum("brp,br->bp", right, inverse * self._amplitudes(table))
        theta = np.zeros(self.psi.shape[1])
        theta[self.columns[self.columns >= 0]] = per_block[self.columns >= 0]
        return theta

    def __call__(self, table: np.ndarray) -> np.ndarray:
        """``[Z, O]`` projection of a ``[Z, O]`` table, 0 at pairs without weight; entries must be finite."""
        root, left, _, _ = self._decomposition
        fitted = np.einsum("bnr,br->bn", left, self._amplitudes(table))
        live = root > 0
        out = np.zeros(table.size)
        out[self.rows[live]] = fitted[live] / root[live]
        return out.reshape(table.shape)


def _padded(groups: list[np.ndarray]) -> np.ndarray:
    out = np.full((len(groups), max(len(g) for g in groups)), -1)
    for row, group in zip(out, groups, strict=True):
        row[: len(group)] = group
    return out


def projection(interface: InterfaceModel, basis: FeatureBasis | None) -> Projection:
    """Projection on the span of a basis; on all tables if ``basis`` is None (D7)."""
    mask = interface.mask
    weight = interface.pair_weight.reshape(-1)
    if basis is None:
        pairs = np.flatnonzero(mask.reshape(-1))[:, None]
        return Projection(tabular_psi(mask), weight, pairs, np.arange(len(pairs))[:, None])
    o_count, p = mask.shape[1], basis.width
    positions = basis.columns(mask)
    rows, columns = [], []
    for agent in range(len(basis.rank)):
        for option in range(o_count):
            block = np.flatnonzero((basis.agent == agent) & mask[:, option]) * o_count + option
            first = (agent * o_count + option) * p
            inside = np.flatnonzero((positions >= first) & (positions < first + p))
            if len(block) and len(inside):
                rows.append(block)
                columns.append(inside)
    return Projection(basis.psi(mask), weight, _padded(rows), _padded(columns))


class ProjectedSolution(NamedTuple):
    """Fixed point of ``Pi T_phi`` (D7).

    Attributes:
      q: ``[Z, O]`` ``Q_m``; 0 outside the mask.
      theta: ``[P]`` its coefficients.
      residual: ``||Pi T_phi q - q||_d``.
      converged: whether the residual reached the tolerance.
      iterations: number of applications of ``Pi T_phi``.
    """

    q: np.ndarray
    theta: np.ndarray
    residual: float
    converged: bool
    iterations: int

    def __repr__(self) -> str:
        return holding(self, residual=self.residual)


def bellman(interface: InterfaceModel, q: np.ndarray) -> np.ndarray:
    """``T_phi q`` as a ``[Z, O]`` table, 0 outside the mask (D5)."""
    value = greedy_value(np.where(interface.mask, q, -np.inf))
    return np.where(interface.mask, backup(interface.reward, interface.discounted, value, interface.mask), 0.0)


def entrywise_bound(interface: InterfaceModel, residual: np.ndarray) -> np.ndarray:
    """``[Z, O]`` bound ``u`` on ``|Q - Q_phi|`` from bounds on ``|T_phi Q - Q|``, 0 outside the mask (T5).

    ``u = |e| + P^g_phi max u`` is the fixed point of an interface model that pays ``|e|``; its own error is added.

    Args:
      interface: the interface model.
      residual: ``[Z, O]`` absolute residuals, or upper limits of them.
    """
    paid = np.where(interface.mask, np.abs(residual), 0.0)
    found = modified_policy_iteration(
        paid, interface.discounted, interface.mask, killing=interface.killing,
        relative_error=interface.relative_error, reward_size=paid,
    )  # fmt: skip
    return np.where(interface.mask, found.q + found.error_bound, 0.0)


def projected_fixed_point(
    interface: InterfaceModel,
    operator: Projection,
    start: np.ndarray | None = None,
    tolerance: float = 1e-12,
    max_iterations: int = 20_000,
) -> ProjectedSolution:
    """``Q_m``, by iterating ``Pi T_phi`` (D7); a contraction with modulus kappa where A6 is certified.

    Where gamma is near 1 small steps say nothing, and ``Q_m`` is solved for by policy iteration, if that settles.

    Args:
      interface: the interface model.
      operator: the projection.
      start: ``[Z, O]`` first iterate, zeros if None (``Q_phi`` saves time).
      tolerance: on ``||Pi T_phi q - q||_d``, relative to ``||q||_d`` or ``||r_phi||_d``, whichever is larger.
      max_iterations: limit; without A6 the iteration may not converge, and ``converged`` says so.
    """
    q = np.zeros(interface.mask.shape) if start is None else operator(np.where(interface.mask, start, 0.0))
    if interface.least_killing < NEAR_ONE and is_small(operator.orthonormal):
        solved = _solved(interface, operator, q, tolerance)
        if solved is not None:
            return solved
    residual, rounds, size = np.inf, 0, interface.norm(interface.reward)
    while rounds < max_iterations:
        rounds += 1
        new = operator(bellman(interface, q))
        residual = interface.norm(new - q)
        q = new
        if not np.isfinite(residual) or residual <= tolerance * max(size, interface.norm(q)):
            break
    converged = bool(residual <= tolerance * max(size, interface.norm(q)))
    return ProjectedSolution(q, operator.coefficients(q), float(residual), converged, rounds)


def _solved(
    interface: InterfaceModel, operator: Projection, q: np.ndarray, tolerance: float
) -> ProjectedSolution | None:
    """``Q_m`` by policy iteration from a table; None if it does not settle to the tolerance."""
    found = relative_fixed_point(interface, operator.orthonormal, operator.weight, q)
    residual = interface.norm(operator(backed_up(interface, found)) - found.rest)
    wanted = tolerance * max(interface.norm(interface.reward), interface.norm(found.rest))
    if not (found.settled and residual <= wanted):
        return None
    table = np.where(interface.mask, found.level + found.rest, 0.0)
    return ProjectedSolution(table, operator.coefficients(table), residual, True, 0)
