"""The certificate of A6 and the table of constants of one model (P1, D6, D8, T1, P2)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from icsmdp_jax.exact.asymptotics import CentralLimit, central_limit
from icsmdp_jax.exact.certificate import kappa_bounds
from icsmdp_jax.exact.chain import MixingClock, structure_warnings
from icsmdp_jax.exact.fixed_point import projection
from icsmdp_jax.exact.interface import (
    AISConstants,
    InterfaceGap,
    InterfaceModel,
    ais_constants,
    interface_gap,
    solve_both,
)
from icsmdp_jax.exact.mixing_bounds import MixingBounds
from icsmdp_jax.exact.moments import as_dense, scale_rows
from icsmdp_jax.exact.solve import Solution
from icsmdp_jax.models.tabular import TabularModel, annuities

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


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Everything that is known of one model under one behaviour policy without sampling.

    Attributes:
      interface: the interface model (D5).
      q_phi: its fixed point.
      q_star: the oracle's fixed point (D3).
      ais: epsilon, delta and delta_mass (D6).
      gap: the interface gap and its bounds (T1).
      kappa: certificate of A6 (P1).
      omega: smallest eigenvalue of the tabular second moment: least ``d(z, o)``.
      clock: mixing times ``t_mix(e)`` of the behaviour chain (D8); on large models their upper ends, with both ends
        from ``clock.bounds``.
      limit: central limit of tabular IC-Q (P2).
    """

    interface: InterfaceModel
    q_phi: Solution
    q_star: Solution
    ais: AISConstants
    gap: InterfaceGap
    kappa: float
    omega: float
    clock: MixingClock | MixingBounds
    limit: CentralLimit

    @property
    def a6_certified(self) -> bool:
        """Whether ``kappa < 1``, so that Theorems 2 and 3 may be claimed."""
        return self.kappa < 1

    @property
    def reward_max(self) -> float:
        """Bound ``R_max`` on the absolute segment reward, noise included."""
        m = self.interface.moments
        longest = annuities(m.gamma, self.interface.model.longest_duration)[-1]
        return float(np.abs(m.reward_rate[m.used]).max() * longest + m.reward_noise)

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
            "warnings": structure_warnings(model, self.interface.chain),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def analyse(model: TabularModel, behaviour: np.ndarray | None = None, sparse: bool | None = None) -> Analysis:
    """Computes every constant of the theory for one model, in float64 on the host.

    Args:
      model: the IC-SMDP.
      behaviour: ``[Z, O]`` behaviour policy; uniform over available options if None.
      sparse: whether to use iterative solvers and bounds, which need no square array over states; if None, on models
        with more than ``chain.SPARSE_ABOVE`` states. Mixing times are then enclosed, not exact, and with many
        parameters the central limit's coefficients are estimates with a standard error.

    Returns:
      An ``Analysis``.

    Raises:
      ValueError: if the behaviour chain has not exactly one recurrent class, the policy is not one, or an iterative
        solver does not reach its tolerance.
    """
    interface, q_phi, q_star = solve_both(model, behaviour, sparse)
    ais = ais_constants(interface)
    chain = interface.chain
    finite_q = np.where(interface.mask, q_phi.q, 0.0)
    return Analysis(
        interface=interface,
        q_phi=q_phi,
        q_star=q_star,
        ais=ais,
        gap=interface_gap(interface, q_phi, q_star, ais),
        kappa=kappa_certificate(interface),
        omega=float(interface.pair_weight[interface.mask].min()),
        clock=(MixingBounds if chain.sparse else MixingClock)(chain.transition, chain.stationary[chain.states]),
        limit=central_limit(interface, projection(interface, None), finite_q),
    )
