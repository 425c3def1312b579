"""The certificate of A6 and the table of constants of one model (P1, D6, D8, T1, P2)."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any

import numpy as np

from icsmdp_jax.exact.asymptotics import CentralLimit, central_limit
from icsmdp_jax.exact.certificate import kappa_bounds
from icsmdp_jax.exact.chain import MixingClock, structure_warnings
from icsmdp_jax.exact.fixed_point import (
    FeatureBasis,
    ProjectedSolution,
    Projection,
    projected_fixed_point,
    projection,
)
from icsmdp_jax.exact.interface import (
    AISConstants,
    InterfaceGap,
    InterfaceModel,
    ais_constants,
    interface_gap,
    interface_model,
)
from icsmdp_jax.exact.mixing_bounds import MixingBounds
from icsmdp_jax.exact.moments import as_dense, scale_rows
from icsmdp_jax.exact.payments import largest_reward
from icsmdp_jax.exact.returns import Returns
from icsmdp_jax.exact.solve import Solution
from icsmdp_jax.models.tabular import TabularModel

DENSE_EIGEN_LIMIT = 1500  # interfaces up to which a dense symmetric eigensolver is used


def kappa_certificate(interface: InterfaceModel) -> float:
    """Upper bound on the modulus of ``T_phi`` in ``||.||_d``; A6 is certified where it is below 1 (P1).

    ``sigma_max(D^{1/2} P^g_phi E^{-1/2})`` with ``D = diag d(z,o)`` and ``E = diag(d(z) min_o mu(o|z))``, the
    minimum over available options. Computed from the Gram matrix over interfaces; where that is too large or the
    analysis is sparse, the upper end of ``kappa_bounds``.
    """
    if interface.chain.sparse or interface.model.num_interfaces > DENSE_EIGEN_LIMIT:
        return kappa_bounds(interface).high
    live = np.flatnonzero(interface.mask.any(axis=1))
    least = np.where(interface.mask, interface.chain.behaviour, np.inf).min(axis=1)
    inverse = np.zeros(len(least))
    inverse[live] = 1 / np.sqrt(interface.interface_weight[live] * least[live])
    scaled = scale_rows(np.sqrt(interface.pair_weight.reshape(-1)), interface.discounted)
    gram = scale_rows(inverse, scale_rows(inverse, scaled.T @ scaled).T)
    dense = as_dense(gram)
    top = max(float(np.linalg.eigvalsh((dense + dense.T) / 2)[-1]), 0.0)
    return math.sqrt(top * (1 + 4 * len(live) * float(np.finfo(float).eps)))  # rounding of the eigensolver included


SHARED = ("returns", "ais", "gap", "kappa", "omega", "clock")  # what does not depend on the function class


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """Everything that is known without sampling of one model, one behaviour policy and one function class.

    Each quantity is computed when it is first asked for; the linear solves behind some of them raise a ``ValueError``
    then if they do not reach their tolerance (large models only).

    Attributes:
      interface: the interface model (D5).
      basis: whitened features of a linear class (D7); None for tables.
    """

    interface: InterfaceModel
    basis: FeatureBasis | None = None

    def with_features(self, basis: FeatureBasis) -> Analysis:
        """The same model with a linear class (D7); whatever does not depend on the class is computed once."""
        other = Analysis(self.interface, basis)
        vars(other).update((name, getattr(self, name)) for name in SHARED)  # where cached_property looks first
        return other

    @cached_property
    def returns(self) -> Returns:
        """Exact returns of policies (D3)."""
        return Returns.on(self.interface)

    @property
    def q_phi(self) -> Solution:
        """``Q_phi``, the fixed point on interfaces (D5)."""
        return self.returns.q_phi

    @property
    def q_star(self) -> Solution:
        """``Q*``, the oracle's fixed point on states (D3)."""
        return self.returns.q_star

    @cached_property
    def q_phi_table(self) -> np.ndarray:
        """``[Z, O]`` ``Q_phi``, 0 outside the mask."""
        return np.where(self.interface.mask, self.q_phi.q, 0.0)

    @cached_property
    def ais(self) -> AISConstants:
        """epsilon, delta and delta_mass (D6)."""
        return ais_constants(self.interface)

    @cached_property
    def gap(self) -> InterfaceGap:
        """The interface gap and its bounds (T1)."""
        return interface_gap(self.interface, self.q_phi, self.q_star, self.ais)

    @cached_property
    def kappa(self) -> float:
        """Certificate of A6, for every class at once (P1)."""
        return kappa_certificate(self.interface)

    @cached_property
    def omega(self) -> float:
        """Smallest eigenvalue of the second moment of tables: least ``d(z, o)``; ``operator.omega`` is the class's."""
        return float(self.interface.pair_weight[self.interface.mask].min())

    @cached_property
    def clock(self) -> MixingClock | MixingBounds:
        """Mixing times ``t_mix(e)`` of the behaviour chain (D8); on large models their upper ends."""
        chain = self.interface.chain
        return (MixingBounds if chain.sparse else MixingClock)(chain.transition, chain.stationary[chain.states])

    @cached_property
    def operator(self) -> Projection:
        """The projection on the function class (D7)."""
        return projection(self.interface, self.basis)

    @cached_property
    def fixed(self) -> ProjectedSolution:
        """``Q_m``, where IC-Q with this class converges, and its coefficients (D7); ``Q_phi`` for tables."""
        if self.basis is None:
            theta = self.q_phi_table[self.interface.mask]
            return ProjectedSolution(self.q_phi_table, theta, 0.0, True, 0)
        return projected_fixed_point(self.interface, self.operator, self.q_phi_table)

    @cached_property
    def limit(self) -> CentralLimit:
        """Central limit of tail-averaged IC-Q with this class (P2)."""
        return central_limit(self.interface, self.operator, self.fixed.q)

    @property
    def uncertified(self) -> str:
        """What commands say where A6 is not certified; empty where it is."""
        if self.a6_certified:
            return ""
        return f"A6 is not certified (kappa = {self.kappa:.4g}, 1 or more): Theorems 2 and 3 are not claimed"

    @property
    def a6_certified(self) -> bool:
        """Whether ``kappa < 1``, so that Theorems 2 and 3 may be claimed."""
        return self.kappa < 1

    @property
    def reward_max(self) -> float:
        """Bound ``R_max`` on the absolute segment reward, noise included."""
        return largest_reward(self.interface.model, self.interface.moments.used)

    def table(self) -> dict[str, Any]:
        """The constants as plain numbers, and warnings, in the form that ``icsmdp analyse --json`` prints."""
        model = self.interface.model
        low, high = self.clock.bounds(0.25)
        exact = self.clock.exact or low == high
        stationary = self.interface.chain.stationary
        return {
            "gamma_bar": self.interface.gamma_bar,
            "epsilon": self.ais.epsilon,
            "delta": self.ais.delta,
            "interface_gap": self.gap.gap,
            "interface_bound": self.gap.bound,
            "interface_bound_value_aware": self.gap.bound_value_aware,
            "interface_bound_mass_span": self.gap.bound_mass_span,
            "policy_loss": self.gap.policy_loss,
            "policy_loss_bound": self.gap.policy_loss_bound,
            "kappa": self.kappa,
            "a6_certified": self.a6_certified,
            "mixing_time": _finite(high) if exact else None,
            "mixing_time_low": _finite(low),
            "mixing_time_high": _finite(high),
            "exact_mixing": exact,
            "omega": self.omega,
            "clt_coefficient": self.limit.coefficient,
            "clt_coefficient_iid": self.limit.coefficient_iid,
            "clt_standard_error": self.limit.standard_error,
            "action_gap": _finite(self.limit.action_gap),
            "stationary_min": float(stationary[stationary > 0].min()),
            "num_states": model.num_states,
            "num_interfaces": model.num_interfaces,
            "num_agents": model.num_agents,
            "num_options": model.num_options,
            "warnings": [*structure_warnings(model, self.interface.chain), *self.limit.warnings],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def analyse(model: TabularModel, behaviour: np.ndarray | None = None, sparse: bool | None = None) -> Analysis:
    """What is known of one model without sampling, in float64 on the host; each constant when it is first asked for.

    Args:
      model: the IC-SMDP.
      behaviour: ``[Z, O]`` behaviour policy; uniform over available options if None.
      sparse: whether to use iterative solvers and bounds, which need no square array over states; if None, on models
        with more than ``chain.SPARSE_ABOVE`` states. Mixing times are then enclosed, not exact, and with many
        parameters the central limit's coefficients are estimates with a standard error.

    Returns:
      An ``Analysis`` for tables; ``with_features`` gives that of a linear class.

    Raises:
      ValueError: if the behaviour chain has not exactly one recurrent class, or the policy is not one.
    """
    return Analysis(interface_model(model, behaviour, iterative=sparse))
