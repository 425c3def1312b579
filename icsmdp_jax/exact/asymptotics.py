"""The central limit of tail-averaged IC-Q, with and without the Poisson terms (P2, P2.1)."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property

import numpy as np
from scipy import sparse

from icsmdp_jax.core.words import holding
from icsmdp_jax.exact.fixed_point import Projection
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.iterative import EPS, ROUNDING
from icsmdp_jax.exact.large_limit import Target, coefficients, nearby
from icsmdp_jax.exact.moments import Matrix, as_dense, scale_columns, scale_rows
from icsmdp_jax.exact.relative import lost_digits, relative_fixed_point, sensitivity

WANTED = 1e-6  # relative error of coefficients beyond which there is a warning


@dataclasses.dataclass(frozen=True, eq=False)
class CentralLimit:
    """Limit law of ``K^{1/2} (theta_avg - theta*)``, theta in d-orthonormal coordinates of the class (P2).

    The limit of the averaged values does not depend on the coordinates, and in these ``Sigma_psi`` is the identity.

    Attributes:
      coefficient: ``K_tail^{1/2}`` times the spread of the averaged iterate over replicas, in ``||.||_d``.
      coefficient_iid: the same without the Poisson terms, as if epochs were independent.
      inverse: ``[P, P]`` ``A^{-1}``; None on large models, where no such array is formed.
      gamma: ``[P, P]`` ``Gamma``, Poisson terms included; None on large models.
      action_gap: smallest difference between the best and the second-best option of ``Q_m`` over interfaces that
        decide; the limit needs it to be positive.
      standard_error: of ``coefficient``, where random probes estimate it; 0 where it is exact.
      standard_error_iid: of ``coefficient_iid``.
      residual: largest relative residual of the Poisson equations; see ``large_limit.Coefficients``.
      relative_error: estimate, not a bound, of the relative error that discounts near 1 cause through rounding.
    """

    coefficient: float
    coefficient_iid: float
    inverse: np.ndarray | None
    gamma: np.ndarray | None
    action_gap: float
    standard_error: float = 0.0
    standard_error_iid: float = 0.0
    residual: float = 0.0
    relative_error: float = 0.0

    def __repr__(self) -> str:
        return holding(self, coefficient=self.coefficient, coefficient_iid=self.coefficient_iid)

    @property
    def warnings(self) -> list[str]:
        """One sentence if digits are lost that one would count on."""
        if self.relative_error <= WANTED:
            return []
        return [
            f"central limit: rounding leaves a relative error of about {self.relative_error:.1g} in its coefficients, "
            f"expected {WANTED:g} or less (discounts too near 1 for this function class or for iterative solvers)"
        ]

    @cached_property
    def covariance(self) -> np.ndarray:
        """``[P, P]`` limit covariance ``A^{-1} Gamma A^{-T}`` of the parameters.

        Raises:
          ValueError: on large models, where only its trace is known.
        """
        if self.inverse is None or self.gamma is None:
            raise ValueError("covariance: not formed on large models, expected an analysis with sparse=False")
        return self.inverse @ self.gamma @ self.inverse.T


def action_gap(q: np.ndarray, mask: np.ndarray) -> float:
    """Smallest lead of the best option over the second best; ``inf`` if no interface has a choice.

    Args:
      q: ``[Z, O]`` values.
      mask: ``[Z, O]`` bool, available options.
    """
    choice = mask.sum(axis=1) > 1
    if not choice.any():
        return float("inf")
    ordered = np.sort(np.where(mask, q, -np.inf)[choice], axis=1)
    return float((ordered[:, -1] - ordered[:, -2]).min())


def central_limit(interface: InterfaceModel, operator: Projection, q: np.ndarray) -> CentralLimit:
    """Computes the limit covariance at the fixed point ``q = Q_m`` (P2).

    Args:
      interface: the interface model, which carries the states, the behaviour chain and the kernel's moments.
      operator: projection on the function class.
      q: ``[Z, O]`` fixed point of ``Pi T_phi``, or a table so near that policy iteration finds it from there.

    Returns:
      The coefficients and the covariance, float64.

    Raises:
      ValueError: one line, if an iterative solver does not reach its tolerance (large models only).
    """
    if interface.chain.sparse:
        fixed = nearby(interface, operator, q)
        found = coefficients(interface, operator, fixed)
        root, root_iid = (math.sqrt(max(square, 0.0)) for square in (found.full, found.iid))
        return CentralLimit(
            coefficient=root,
            coefficient_iid=root_iid,
            inverse=None,
            gamma=None,
            action_gap=action_gap(fixed.rest, interface.mask),
            standard_error=found.full_error / (2 * root) if root else 0.0,
            standard_error_iid=found.iid_error / (2 * root_iid) if root_iid else 0.0,
            residual=found.residual,
            relative_error=ROUNDING * EPS * found.condition + lost_digits(interface, operator, fixed),
        )
    shape, psi = interface.mask.shape, operator.orthonormal
    fixed = relative_fixed_point(interface, psi, operator.weight, q)
    target = Target.of(interface, fixed.rest, fixed.level)
    inverse, condition = sensitivity(interface, psi, operator.weight, fixed.policy)

    pair = interface.chain.stationary[:, None] * interface.lift(interface.chain.behaviour) * interface.moments.used
    error_mean, error_square = target.difference()
    per_pair = np.zeros(shape)
    np.add.at(per_pair, interface.model.interface, pair * error_square)
    gamma_iid = as_dense(psi.T @ scale_rows(per_pair.reshape(-1), psi))
    cross = _poisson_terms(interface, psi, target, error_mean, pair)

    square = inverse.T @ inverse  # the squared norm of the error is that of its orthonormal coordinates
    gamma = gamma_iid + cross + cross.T
    return CentralLimit(
        coefficient=float(np.sqrt(max(np.sum(square * gamma), 0.0))),
        coefficient_iid=float(np.sqrt(max(np.sum(square * gamma_iid), 0.0))),
        inverse=inverse,
        gamma=gamma,
        action_gap=action_gap(fixed.rest, interface.mask),
        relative_error=ROUNDING * EPS * condition + lost_digits(interface, operator, fixed),
    )


def _poisson_terms(
    interface: InterfaceModel, psi: Matrix, target: Target, error_mean: np.ndarray, pair: np.ndarray
) -> np.ndarray:
    """``[P, P]`` ``E[e nu(s')^T]``, where nu solves the Poisson equation of the conditional mean of e (P2)."""
    m, chain, model = target.moments, interface.chain, interface.model
    options = pair.shape[1]
    states = chain.states
    live = np.flatnonzero(pair.reshape(-1) > 0)
    rows_psi = psi[model.interface[live // options] * options + live % options]
    position = np.full(model.num_states, -1)
    position[states] = np.arange(len(states))
    conditional = (interface.lift(chain.behaviour) * m.used * error_mean).reshape(-1)[live]
    drift = _sum_rows(position[live // options], scale_rows(conditional, rows_psi), len(states))
    ahead = np.zeros((model.num_states, psi.shape[1]))
    ahead[states] = chain.poisson(drift - (chain.stationary[states] @ drift)[None, :])
    if m.terminal.any():
        ahead[m.terminal] = chain.start @ ahead
    # What e is worth by the state entered, summed over the pairs of each parameter before it meets the solutions.
    weight = pair.reshape(-1)[live]
    follow = scale_rows(weight * m.reward_rate.reshape(-1)[live], m.annuity_kernel[live])
    follow = follow - scale_rows(weight * target.q_state.reshape(-1)[live], m.probability[live])
    follow = follow + scale_columns(scale_rows(weight, m.discounted_all[live]), target.state_value)
    if m.lumps is not None:
        follow = follow + scale_rows(weight, m.lumps.mean[live])
    return as_dense((rows_psi.T @ follow) @ ahead)


def _sum_rows(target: np.ndarray, rows: Matrix, count: int) -> np.ndarray:
    """Dense ``[count, P]`` sums of the given rows by target index."""
    gather = sparse.csr_array((np.ones(len(target)), (target, np.arange(len(target)))), shape=(count, len(target)))
    return as_dense(gather @ rows)
