"""The central limit's coefficients without square arrays over parameters or states (P2).

In d-orthonormal coordinates the squared coefficient is ``trace(A^-1 Gamma A^-T) = sum_g y_g^T Gamma y_g`` with
``A^T y_g = g``, over any orthonormal ``g``. Each term is the asymptotic variance of the scalar ``y_g . e`` along the
chain: one solve over interfaces, one Poisson equation over states with a single right side, and no matrix is formed.

With few parameters ``g`` runs through all unit vectors, and the trace is exact up to the solvers' tolerance. With many
it is estimated (Hutchinson 1990): for ``g`` with independent random signs ``E[g^T M g] = trace M``, and the variance of
``g^T M g`` holds no diagonal entry of ``M``, which is the bulk of it here. One direction is taken out and counted
exactly, that of equal errors everywhere, on which a long horizon puts its weight. The standard error over the probes
is reported with the coefficient; it is an estimate of the error, not a bound.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from icsmdp_jax.exact.fixed_point import Projection
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.iterative import solve
from icsmdp_jax.exact.moments import KernelMoments, as_dense, scale_rows
from icsmdp_jax.exact.relative import (
    NEAR_ONE,
    RelativeSolution,
    as_given,
    greedy_rows,
    is_small,
    is_table,
    relative_fixed_point,
    sensitivity,
)
from icsmdp_jax.exact.solve import greedy_value

EXACT_WORK = 4e8  # parameters times entries of the chain up to which every unit vector is taken
EXACT_STATES = 6000  # states up to which they are taken whatever the work: there dense algebra could be asked as well
FEWEST_PROBES, PROBES = 16, 80  # random vectors beyond that
PRECISION = 4e-4  # standard error relative to the squared coefficient at which no more are drawn
BLOCK_ENTRIES = 3e6  # numbers of one block of right sides
PROBE_TOLERANCE = 1e-9  # of the solvers where the probes' own error is far larger


class Coefficients(NamedTuple):
    """Squared coefficients of P2 and the standard errors of their estimates, 0 where they are exact.

    Attributes:
      full: ``trace(A^-1 Gamma A^-T)``.
      iid: the same without the Poisson terms.
      full_error: standard error of ``full``.
      iid_error: standard error of ``iid``.
      residual: largest relative residual of the Poisson equations, in ``||.||_d``; 0 where elimination solves them.
        Each solution is off by ``sum_k P^k r`` for a centred ``r``, hence by at most ``m / (1 - s)`` times its residual
        if ``||P^m f||_d <= s ||f||_d`` for ``f`` of mean 0 (``mixing_bounds.Singular``).
      condition: by what factor rounding grows in the sensitivities.
    """

    full: float
    iid: float
    full_error: float
    iid_error: float
    residual: float
    condition: float


class Target(NamedTuple):
    """The temporal difference ``R + gamma^tau V(z') - Q(z, o)`` with all values counted from a level in their middle.

    Replacing ``R`` by ``R - (1 - gamma^tau) level``, ``V`` by ``V - level`` (``-level`` at terminal states) and ``Q``
    by ``Q - level`` gives the same random number, but values of long horizons no longer cancel in it.

    Attributes:
      moments: those of the option kernel, with the reward rate lowered by ``(1 - gamma) level``.
      state_value: ``[S]`` ``V`` of the next state.
      q_state: ``[S, O]`` ``Q`` of the state's interface.
    """

    moments: KernelMoments
    state_value: np.ndarray
    q_state: np.ndarray

    @staticmethod
    def of(interface: InterfaceModel, q: np.ndarray, level: float = 0.0) -> Target:
        """That of a table ``level + q`` of values, ``[Z, O]``."""
        m, model = interface.moments, interface.model
        value = greedy_value(np.where(interface.mask, q, -np.inf))
        decides = np.asarray(interface.mask.any(axis=1))
        live = value[decides]
        middle = float(live.max() + live.min()) / 2
        level = level + middle
        lowered = dataclasses.replace(m, reward_rate=np.where(m.used, m.reward_rate - level * (1 - m.gamma), 0.0))
        state_value = np.where(m.terminal | ~decides[model.interface], -level, value[model.interface] - middle)
        return Target(lowered, state_value, interface.lift(np.where(interface.mask, q - middle, 0.0)))

    def difference(self) -> tuple[np.ndarray, np.ndarray]:
        """First two conditional moments ``[S, O]`` of the temporal difference given ``(s, o)``."""
        m, value, q = self.moments, self.state_value, self.q_state
        first = (m.discounted_all @ value).reshape(q.shape)
        cross = m.reward_rate * (m.annuity_discounted @ value).reshape(q.shape)
        if m.lumps is not None:
            cross = cross + (m.lumps.discounted @ value).reshape(q.shape)
        square = (m.discounted_square_all @ value**2).reshape(q.shape)
        mean_target = m.reward_mean + first
        return mean_target - q, m.reward_square + 2 * cross + square - 2 * q * mean_target + q**2


class Variances:
    """``g -> (y^T Gamma y, y^T Gamma_iid y)`` with ``A^T y = g``, for blocks of columns."""

    def __init__(
        self, interface: InterfaceModel, operator: Projection, fixed: RelativeSolution, tolerance: float
    ) -> None:
        """Takes the interface model, the projection on the class and its fixed point."""
        chain, model, target = interface.chain, interface.model, Target.of(interface, fixed.rest, fixed.level)
        m, shape = target.moments, interface.mask.shape
        self.tolerance, self.residual = tolerance, 0.0
        self.psi = operator.orthonormal
        # With discounts near 1 iteration would lose digits, and A is inverted if it is small.
        self._inverse: np.ndarray | None = None
        self.condition = 1 / interface.least_killing
        if interface.least_killing < NEAR_ONE and is_small(self.psi):
            self._inverse, self.condition = sensitivity(interface, self.psi, operator.weight, fixed.policy)
        # A = I - B C with B [R, Z] the projected kernel and C [Z, R] the features of greedy pairs.
        self._greedy = self.psi[greedy_rows(interface, fixed.policy)]
        ahead = self.psi.T @ scale_rows(operator.weight, interface.discounted)
        self._ahead = sparse.csr_array(ahead.T) if sparse.issparse(ahead) else np.ascontiguousarray(ahead.T)
        one_each = self.psi.nnz == self.psi.shape[1]  # indicators: then C B is as sparse as the kernel
        self._inner = sparse.csr_array(self._ahead @ self._greedy.T) if one_each and sparse.issparse(ahead) else None

        behaviour = interface.lift(chain.behaviour) * m.used
        pair = chain.stationary[:, None] * behaviour
        mean, square = target.difference()
        per_pair = np.zeros(shape)
        np.add.at(per_pair, model.interface, pair * square)
        self._square = per_pair.reshape(-1)[:, None]
        self._chain, self._law = chain, chain.stationary[chain.states]

        # Rows of live pairs: e's conditional mean, and its product with what follows the segment.
        options = shape[1]
        live = (chain.states[:, None] * options + np.arange(options)).reshape(-1)
        columns = (model.interface[chain.states][:, None] * options + np.arange(options)).reshape(-1)
        self._columns, self._options = columns, options
        self._mean = (behaviour * mean).reshape(-1)[live]
        weight = pair.reshape(-1)[live]
        ends, early, paid = (
            scale_rows(weight * factor, sparse.csr_array(matrix)[live])
            for factor, matrix in (
                (target.q_state.reshape(-1)[live], m.probability),
                (1.0, m.discounted_all),
                (m.reward_rate.reshape(-1)[live], m.annuity_kernel),
            )
        )
        if m.lumps is not None:
            paid = paid + scale_rows(weight, sparse.csr_array(m.lumps.mean)[live])
        follow = sparse.csr_array(paid - ends + early @ sparse.diags_array(target.state_value))
        self._follow = sparse.csr_array(follow[:, chain.states])
        self._ended = np.asarray(follow @ m.terminal.astype(float))
        self._restart = chain.start[chain.states]

    def __call__(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variances ``[c]`` of the columns of ``g [R, c]``, with and without the Poisson terms."""
        table = as_dense(self.psi @ self._transposed_solve(g))
        iid = (self._square * table**2).sum(axis=0)
        at_pairs = table[self._columns]
        drift = (self._mean[:, None] * at_pairs).reshape(-1, self._options, g.shape[1]).sum(axis=1)
        drift -= self._law @ drift
        ahead = self._poisson(drift)
        expected = self._follow @ ahead + self._ended[:, None] * (self._restart @ ahead)
        return iid + 2 * (at_pairs * expected).sum(axis=0), iid

    def _poisson(self, drift: np.ndarray) -> np.ndarray:
        """``f`` with ``(I - P) f = drift`` and mean 0.

        Iteration works on ``D^{1/2} f``, so that its residual counts in ``||.||_d``, as everything does that is made of
        ``f``: features of rare interfaces are large there, and a residual relative to them would say nothing elsewhere.
        """
        if self._chain.elimination is not None:
            return self._chain.poisson(drift)
        root, transition = np.sqrt(self._law), self._chain.transition

        def apply(g: np.ndarray) -> np.ndarray:
            return g - root[:, None] * (transition @ (g / root[:, None])) + root[:, None] * (root @ g)

        right = root[:, None] * drift
        size = np.sqrt((right**2).sum(axis=0))
        scaled = np.divide(right, size, out=np.zeros_like(right), where=size > 0)
        found = solve(apply, scaled, "Poisson equation of the central limit", self.tolerance)
        left = np.sqrt(((scaled - apply(found.x)) ** 2).sum(axis=0))
        self.residual = max(self.residual, float(left.max()))
        return found.x * size / root[:, None]

    def _transposed_solve(self, g: np.ndarray) -> np.ndarray:
        """``y`` with ``A^T y = g``: ``y = g + C^T (I - B^T C^T)^-1 B^T g`` takes a system over interfaces only."""
        if self._inverse is not None:
            return self._inverse.T @ g

        def apply(x: np.ndarray) -> np.ndarray:
            return x - (self._ahead @ (self._greedy.T @ x) if self._inner is None else self._inner @ x)

        right = self._ahead @ g
        return g + self._greedy.T @ solve(apply, right, "sensitivity of the central limit", self.tolerance).x


def nearby(interface: InterfaceModel, operator: Projection, q: np.ndarray) -> RelativeSolution:
    """The fixed point near ``q [Z, O]``: solved for where gamma is near 1, if the class is not large; else ``q``."""
    psi = operator.orthonormal
    if interface.least_killing < NEAR_ONE and (is_table(interface, psi) or is_small(psi)):
        return relative_fixed_point(interface, psi, operator.weight, q)
    return as_given(interface, q)


def coefficients(
    interface: InterfaceModel,
    operator: Projection,
    fixed: RelativeSolution,
    exact: bool | None = None,
    seed: int = 0,
) -> Coefficients:
    """Squared coefficients of the central limit (P2).

    Args:
      interface: the interface model.
      operator: projection on the function class.
      fixed: fixed point of ``Pi T_phi``, as ``nearby`` gives it.
      exact: whether to take every unit vector; by the number of states and the work that it takes (``EXACT_STATES``,
        ``EXACT_WORK``) if None.
      seed: of the random signs otherwise.

    Returns:
      The coefficients and their standard errors.

    Raises:
      ValueError: one line, if a system cannot be solved to its tolerance.
    """
    count = operator.orthonormal.shape[1]
    chain = interface.chain.transition
    entries = chain.nnz if hasattr(chain, "nnz") else chain.size
    if exact is None:
        few = len(interface.chain.states) <= EXACT_STATES or count <= PROBES
        exact = few or count * entries <= EXACT_WORK
    variances = Variances(interface, operator, fixed, 1e-12 if exact else PROBE_TOLERANCE)
    width = max(1, int(BLOCK_ENTRIES // max(len(interface.chain.states) * interface.mask.shape[1], 1)))
    if exact:
        full, iid = _in_blocks(variances, lambda c: _units(count, c), count, width)
        return Coefficients(float(full.sum()), float(iid.sum()), 0.0, 0.0, variances.residual, variances.condition)
    rng = np.random.default_rng([seed, 3])
    # Equal errors everywhere: psi g = 1 on the span, normalised.
    level = as_dense(operator.orthonormal.T @ operator.weight)
    level = (level / np.linalg.norm(level))[:, None]
    alone, alone_iid = variances(level)

    def signs(columns: range) -> np.ndarray:
        drawn = 2.0 * rng.integers(2, size=(count, len(columns))) - 1
        return drawn - level * (level.T @ drawn)

    full = iid = np.zeros(0)
    while True:
        more = _in_blocks(variances, signs, FEWEST_PROBES, width)
        full, iid = np.append(full, more[0]), np.append(iid, more[1])
        error, error_iid = (float(x.std(ddof=1)) / math.sqrt(len(x)) for x in (full, iid))
        whole = float(full.mean() + alone[0])
        if len(full) >= PROBES or error <= PRECISION * whole:
            break
    return Coefficients(
        whole, float(iid.mean() + alone_iid[0]), error, error_iid, variances.residual, variances.condition
    )


def _units(count: int, columns: range) -> np.ndarray:
    out = np.zeros((count, len(columns)))
    out[np.array(columns), np.arange(len(columns))] = 1.0
    return out


def _in_blocks(
    variances: Variances, vectors: Callable[[range], np.ndarray], count: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    parts = [variances(vectors(range(at, min(at + width, count)))) for at in range(0, count, width)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
