"""The certificate of A6 and the table of constants of one model (P1, D6, D8, T1, P2)."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any

import numpy as np

from icsmdp_jax.core.arguments import of_type
from icsmdp_jax.exact import breakdown, words
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
    AISDeviations,
    InterfaceGap,
    InterfaceModel,
    ais_constants,
    ais_deviations,
    interface_gap,
    interface_model,
    policy_losses,
)
from icsmdp_jax.exact.mixing_bounds import MixingBounds
from icsmdp_jax.exact.moments import as_dense, scale_rows
from icsmdp_jax.exact.payments import largest_reward
from icsmdp_jax.exact.returns import Returns
from icsmdp_jax.exact.showing import Showing
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


TABLE = (
    "gamma_bar", "epsilon", "delta", "interface_gap", "interface_bound", "interface_bound_value_aware",
    "interface_bound_mass_span", "policy_loss", "policy_loss_bound", "kappa", "a6_certified", "mixing_time",
    "mixing_time_low", "mixing_time_high", "exact_mixing", "omega", "clt_coefficient", "clt_coefficient_iid",
    "clt_standard_error", "action_gap", "stationary_min", "num_states", "num_interfaces", "num_agents", "num_options",
    "warnings", "sentence", "by_agent", "by_interface",
)  # fmt: skip
SHARED = ("returns", "ais", "gap", "kappa", "omega", "clock")  # what does not depend on the function class


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Analysis:
    """Everything that is known without sampling about one model, one behaviour policy and one function class.

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
        return ais_constants(self.interface, self._ais_deviations)

    @cached_property
    def _ais_deviations(self) -> AISDeviations:
        return ais_deviations(self.interface)

    @cached_property
    def gap(self) -> InterfaceGap:
        """The interface gap and its bounds (T1)."""
        return interface_gap(self.interface, self.q_phi, self.q_star, self.ais, self._losses)

    @cached_property
    def _losses(self) -> np.ndarray:
        return policy_losses(self.interface, self.q_phi.q, self.q_star.value)

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

    # The names of the JSON that ``icsmdp analyse`` prints; what has the same name there and here stands above.

    @property
    def gamma_bar(self) -> float:
        """Largest modulus over recurrent decision states and available options (L1)."""
        return self.interface.gamma_bar

    @property
    def epsilon(self) -> float:
        """What interfaces hide of the reward (D6)."""
        return self.ais.epsilon

    @property
    def delta(self) -> float:
        """What interfaces hide of the discounted transition law (D6)."""
        return self.ais.delta

    @property
    def interface_gap(self) -> float:
        """``max |Q_phi(phi(s), o) - Q*(s, o)|`` over recurrent decision states and available options (T1)."""
        return self.gap.gap

    @property
    def interface_bound(self) -> float:
        """Theorem 1's bound on the gap."""
        return self.gap.bound

    @property
    def interface_bound_value_aware(self) -> float:
        """T1.1's bound on the gap."""
        return self.gap.bound_value_aware

    @property
    def interface_bound_mass_span(self) -> float:
        """T1.2's bound on the gap."""
        return self.gap.bound_mass_span

    @property
    def policy_loss(self) -> float:
        """Most that the greedy policy of ``Q_phi`` loses in a recurrent state (T1.3)."""
        return self.gap.policy_loss

    @property
    def policy_loss_bound(self) -> float:
        """T1.3's bound on the loss."""
        return self.gap.policy_loss_bound

    @property
    def mixing_time(self) -> float | None:
        """``t_mix(1/4)`` in handoffs (D8); None where it is only enclosed, or infinite."""
        return _finite(self.clock.bounds(0.25)[1]) if self.exact_mixing else None

    @property
    def mixing_time_low(self) -> float | None:
        """Lower end of the mixing time; None if it is infinite."""
        return _finite(self.clock.bounds(0.25)[0])

    @property
    def mixing_time_high(self) -> float | None:
        """Upper end of the mixing time; None if it is infinite."""
        return _finite(self.clock.bounds(0.25)[1])

    @property
    def exact_mixing(self) -> bool:
        """Whether the two ends of the mixing time are the same number."""
        low, high = self.clock.bounds(0.25)
        return self.clock.exact or low == high

    @property
    def clt_coefficient(self) -> float:
        """Spread of tail averages times the root of their handoffs, in the limit (P2)."""
        return self.limit.coefficient

    @property
    def clt_coefficient_iid(self) -> float:
        """The same without the Poisson terms (P2)."""
        return self.limit.coefficient_iid

    @property
    def clt_standard_error(self) -> float:
        """Relative standard error of the two coefficients; 0 where they are exact."""
        return self.limit.standard_error

    @property
    def action_gap(self) -> float | None:
        """Least lead of a best option over the second (P2); None where no interface has two options."""
        return _finite(self.limit.action_gap)

    @property
    def stationary_min(self) -> float:
        """Probability of the rarest recurrent state (D4)."""
        stationary = self.interface.chain.stationary
        return float(stationary[stationary > 0].min())

    @property
    def num_states(self) -> int:
        """``S``, terminal states included."""
        return self.interface.model.num_states

    @property
    def num_interfaces(self) -> int:
        """``Z``."""
        return self.interface.model.num_interfaces

    @property
    def num_agents(self) -> int:
        """``N``."""
        return self.interface.model.num_agents

    @property
    def num_options(self) -> int:
        """``O``."""
        return self.interface.model.num_options

    @property
    def warnings(self) -> list[str]:
        """Sentences about transient and absorbing states, several recurrent classes, and digits that were lost."""
        return [*structure_warnings(self.interface.model, self.interface.chain), *self.limit.warnings]

    def table(self) -> dict[str, Any]:
        """The constants as plain numbers, and warnings, in the form that ``icsmdp analyse --json`` prints."""
        return {name: getattr(self, name) for name in TABLE}

    @cached_property
    def showing(self) -> Showing:
        """What it is worth to show an agent more (E)."""
        found = Showing(self.interface)
        vars(found).update(q_star=self.q_star)  # where cached_property looks first
        return found

    @cached_property
    def _state_maxima(self) -> np.ndarray:
        return breakdown.state_maxima(self.interface, self._ais_deviations, self.q_phi, self.q_star, self._losses)

    @cached_property
    def by_agent(self) -> list[dict[str, Any]]:
        """The constants of each agent's interfaces, and those of the model in which it sees the whole state (E).

        The latter are None on large models, where ``advise`` computes them.
        """
        much = self.interface.chain.sparse or self.num_agents * self.num_states > breakdown.AFFORDED
        return breakdown.by_agent(self.interface, self._state_maxima, None if much else self.showing)

    @cached_property
    def by_interface(self) -> list[dict[str, Any]]:
        """The constants of each interface with recurrent states."""
        return breakdown.by_interface(self.interface, self._state_maxima)

    @cached_property
    def sentence(self) -> str:
        """Which interface is the bottleneck, where that is known, and what the constants say."""
        said = words.sentence({name: getattr(self, name) for name in words.SAID}, self.showing.scale)
        if self.by_agent[0]["gain"] is None:
            return said
        return f"{words.bottleneck(self.by_agent, self.policy_loss, self.showing.scale)} {said}"

    def __repr__(self) -> str:
        kind = "tables" if self.basis is None else f"{self.basis.table.shape[1]} features"
        model = self.interface.model
        sizes = f"{model.num_states} states, {model.num_interfaces} interfaces, {model.num_agents} agents"
        return f"Analysis({sizes}, {model.num_options} options; {kind})"

    def __str__(self) -> str:
        return words.as_text(self.table())

    def _repr_html_(self) -> str:
        return words.as_html(self.table())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def analyse(model: TabularModel, behaviour: np.ndarray | None = None, sparse: bool | None = None) -> Analysis:
    """What is known about one model without sampling, in float64 on the host; each constant when it is first asked for.

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

    Example:
      >>> import icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> known = ic.analyse(env.exact_model(params))
      >>> known
      Analysis(160 states, 40 interfaces, 10 agents, 4 options; tables)
      >>> round(known.gamma_bar, 4)
      0.9309
    """
    of_type(TabularModel, "a TabularModel; load_model reads a model file", model=model)
    return Analysis(interface_model(model, behaviour, iterative=sparse))
