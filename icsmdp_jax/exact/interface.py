"""The interface model, its fixed point, the AIS constants and the interface gap (D5, D6, T1)."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from icsmdp_jax.core.words import holding
from icsmdp_jax.exact.chain import BehaviourChain, behaviour_chain
from icsmdp_jax.exact.moments import BELOW_ONE, SMALL, KernelMoments, Matrix, compact, kernel_moments
from icsmdp_jax.exact.solve import Solution, evaluate_policy, modified_policy_iteration, optimal_q
from icsmdp_jax.models.tabular import TabularModel

BLOCK_ENTRIES = 2**24  # numbers of the rows compared at once


@dataclasses.dataclass(frozen=True)
class InterfaceModel:
    """What is left of an IC-SMDP when only the interfaces are seen (D5).

    Attributes:
      model: the IC-SMDP.
      moments: moments of its option kernel.
      chain: behaviour chain and stationary law.
      weights: ``[S]`` ``w(s|z)``; 0 at terminal and transient states.
      interface_weight: ``[Z]`` ``d(z)``.
      mask: ``[Z, O]`` bool, available options of interfaces that decide.
      reward: ``[Z, O]`` ``r_phi``; 0 outside the mask.
      discounted: ``[Z*O, Z]`` ``P^g_phi``, dense or compressed rows.
      killing: ``[Z, O]`` ``1 - gbar_phi(z, o)``, without cancellation; 1 outside the mask.
    """

    model: TabularModel
    moments: KernelMoments
    chain: BehaviourChain
    weights: np.ndarray
    interface_weight: np.ndarray
    mask: np.ndarray
    reward: np.ndarray
    discounted: Matrix
    killing: np.ndarray

    def __repr__(self) -> str:
        return holding(self)

    @cached_property
    def pair_weight(self) -> np.ndarray:
        """``[Z, O]`` ``d(z, o) = d(z) mu(o|z)``: the weights of the norm ``||.||_d``."""
        return self.interface_weight[:, None] * self.chain.behaviour * self.mask

    @cached_property
    def decision_pairs(self) -> np.ndarray:
        """``[S, O]`` bool: recurrent decision states with their available options, where maxima are taken."""
        return self.moments.used & (self.chain.stationary > 0)[:, None]

    @cached_property
    def membership(self) -> Matrix:
        """``[S, Z]`` indicator of ``s in z``."""
        s = self.model.num_states
        return sparse.csr_array(
            (np.ones(s), (np.arange(s), self.model.interface)), shape=(s, self.model.num_interfaces)
        )

    @cached_property
    def lifted_discounted(self) -> Matrix:
        """``[S*O, Z]`` ``sum_{s' in z'} P^g(s'|s,o)``."""
        return compact(self.moments.discounted @ self.membership)

    def lift(self, table: np.ndarray) -> np.ndarray:
        """A table over interfaces as one over states: ``table[phi(s)]``."""
        return table[self.model.interface]

    @property
    def gamma_bar(self) -> float:
        """Largest modulus over recurrent decision states and available options, below 1 also when rounded (L1)."""
        return min(float(self.moments.modulus[self.decision_pairs].max()), BELOW_ONE)

    @property
    def least_killing(self) -> float:
        """``1 - gamma_bar``, to full relative accuracy however close to 1 ``gamma_bar`` is (L1)."""
        return float(self.moments.killing[self.decision_pairs].min())

    @property
    def relative_error(self) -> float:
        """Bound on the relative error of ``P^g_phi``, ``killing`` and, in units of ``E |E[R | s, o]|``, ``reward``."""
        states = int(np.bincount(self.model.interface).max()) + 4
        return self.moments.relative_error + 2 * self.chain.relative_error + states * float(np.finfo(float).eps)

    def averaged(self, table: np.ndarray) -> np.ndarray:
        """``[Z, O]`` averages over the states of each interface under ``w(s|z)`` of a table ``[S, O]``."""
        out = np.zeros((len(self.interface_weight), table.shape[1]))
        live = self.weights > 0
        np.add.at(out, self.model.interface[live], self.weights[live, None] * table[live])
        return out

    def norm(self, error: np.ndarray) -> float:
        """``||error||_d`` of a ``[Z, O]`` table; entries without weight are ignored (D4)."""
        return float(np.sqrt(np.sum(np.where(self.mask, self.pair_weight * np.where(self.mask, error, 0.0) ** 2, 0.0))))

    def state_norm(self, error: np.ndarray) -> float:
        """``||error||_d`` of a ``[S, O]`` table (D4)."""
        weight = self.chain.stationary[:, None] * self.lift(self.chain.behaviour)
        keep = self.decision_pairs
        return float(np.sqrt(np.sum(weight[keep] * error[keep] ** 2)))


def interface_model(
    model: TabularModel,
    behaviour: np.ndarray | None = None,
    moments: KernelMoments | None = None,
    iterative: bool | None = None,
    chain: BehaviourChain | None = None,
) -> InterfaceModel:
    """Averages the IC-SMDP over what no interface shows, under the stationary law (D5).

    Args:
      model: the IC-SMDP.
      behaviour: ``[Z, O]`` behaviour policy, uniform over available options if None.
      moments: moments of the kernel, if they are known already.
      iterative: whether to use what large models need, square arrays over states never; by their number if None.
      chain: the behaviour chain, if it is known already; ``behaviour`` is then ignored.

    Returns:
      The interface model.

    Raises:
      ValueError: if the behaviour chain has not exactly one recurrent class, or the policy is not one.
    """
    moments = kernel_moments(model) if moments is None else moments
    chain = behaviour_chain(model, behaviour, moments.probability, iterative) if chain is None else chain
    z_count = model.num_interfaces
    weight = np.bincount(model.interface, weights=chain.stationary, minlength=z_count)
    inside = weight[model.interface]
    weights = np.divide(chain.stationary, inside, out=np.zeros_like(inside), where=chain.stationary > 0)
    mask = (weight > 0)[:, None] & model.option_mask
    if isinstance(moments.discounted, np.ndarray) and moments.discounted.size <= SMALL:
        member = np.zeros((model.num_states, z_count))
        member[np.arange(model.num_states), model.interface] = 1.0
        average = (member * weights[:, None]).T
        lifted = (moments.discounted @ member).reshape(model.num_states, -1)
        discounted = (average @ lifted).reshape(-1, z_count)
        reward, killing = average @ moments.reward_mean, average @ moments.killing
    else:
        discounted, reward, killing = _averaged(moments, model, weights)
    return InterfaceModel(
        model=model,
        moments=moments,
        chain=chain,
        weights=weights,
        interface_weight=weight,
        mask=mask,
        reward=np.where(mask, reward, 0.0),
        discounted=discounted,
        killing=np.where(mask, killing, 1.0),
    )


def _averaged(
    moments: KernelMoments, model: TabularModel, weights: np.ndarray
) -> tuple[Matrix, np.ndarray, np.ndarray]:
    """``P^g_phi``, rewards and ``1 - gbar`` of interfaces, by compressed rows."""
    z_count, o_count = model.num_interfaces, model.num_options
    live = np.flatnonzero(weights > 0)
    rows = (model.interface[live][:, None] * o_count + np.arange(o_count)).reshape(-1)
    columns = (live[:, None] * o_count + np.arange(o_count)).reshape(-1)
    average = sparse.csr_array(
        (np.repeat(weights[live], o_count), (rows, columns)),
        shape=(z_count * o_count, model.num_states * o_count),
    )
    indicator = sparse.csr_array(
        (np.ones(model.num_states), (np.arange(model.num_states), model.interface)),
        shape=(model.num_states, z_count),
    )
    discounted = compact((average @ moments.discounted) @ indicator)
    reward, killing = (
        (average @ table.reshape(-1)).reshape(z_count, o_count) for table in (moments.reward_mean, moments.killing)
    )
    return discounted, reward, killing


def solve_interface(interface: InterfaceModel, tolerance: float = 1e-11) -> Solution:
    """``Q_phi``, the fixed point of ``T_phi``: where tabular IC-Q converges (D5)."""
    return modified_policy_iteration(
        interface.reward,
        interface.discounted,
        interface.mask,
        tolerance,
        killing=interface.killing,
        relative_error=interface.relative_error,
        reward_size=interface.averaged(interface.moments.reward_size),
    )


class AISConstants(NamedTuple):
    """How far the interface is from an information state (D6).

    Attributes:
      epsilon: largest deviation of the expected segment reward from ``r_phi``.
      delta: largest L1 distance between the discounted kernels into interfaces.
      delta_mass: largest difference of their masses.
    """

    epsilon: float
    delta: float
    delta_mass: float


class AISDeviations(NamedTuple):
    """What the AIS constants are maxima of: ``[S, O]``, 0 where a state is not recurrent or an option unavailable (D6).

    Attributes:
      reward: deviation of the expected segment reward from ``r_phi``.
      kernel: L1 distance between the discounted kernels into interfaces.
      mass: difference of their masses.
    """

    reward: np.ndarray
    kernel: np.ndarray
    mass: np.ndarray


def ais_deviations(interface: InterfaceModel) -> AISDeviations:
    """How far each state and option is from what its interface says, at the option scale (D6)."""
    keep = interface.decision_pairs
    reward = np.where(keep, np.abs(interface.moments.reward_mean - interface.lift(interface.reward)), 0.0)
    o = interface.model.num_options
    rows = np.flatnonzero(keep.reshape(-1))
    pair = interface.model.interface[rows // o] * o + rows % o
    distance, mass = np.zeros(keep.size), np.zeros(keep.size)
    block = max(1, BLOCK_ENTRIES // interface.discounted.shape[1])
    for begin in range(0, len(rows), block):
        part = slice(begin, begin + block)
        difference = interface.lifted_discounted[rows[part]] - interface.discounted[pair[part]]
        distance[rows[part]] = np.asarray(abs(difference).sum(axis=1)).reshape(-1)
        mass[rows[part]] = np.abs(np.asarray(difference.sum(axis=1)).reshape(-1))
    return AISDeviations(reward, distance.reshape(keep.shape), mass.reshape(keep.shape))


def ais_constants(interface: InterfaceModel, deviations: AISDeviations | None = None) -> AISConstants:
    """``epsilon``, ``delta`` and ``delta_mass`` at the option scale (D6); maxima over recurrent decision states."""
    found = ais_deviations(interface) if deviations is None else deviations
    return AISConstants(*(float(table.max()) for table in found))


class InterfaceGap(NamedTuple):
    """The interface gap and what bounds it (T1).

    Attributes:
      gap: ``max |Q_phi(phi(s), o) - Q*(s, o)|`` over recurrent decision states and available options.
      bound: Theorem 1.
      bound_value_aware: T1.1.
      bound_mass_span: T1.2.
      value_numerator: numerator of T1.1.
      value_norm: ``||V_phi||_inf``.
      policy_loss: ``max_s V*(s) - V^pi(s)`` of the policy greedy with respect to ``Q_phi``.
      policy_loss_bound: twice Theorem 1 (T1.3).
    """

    gap: float
    bound: float
    bound_value_aware: float
    bound_mass_span: float
    value_numerator: float
    value_norm: float
    policy_loss: float
    policy_loss_bound: float


def policy_losses(interface: InterfaceModel, q_phi: np.ndarray, value_star: np.ndarray) -> np.ndarray:
    """``[S]`` what acting greedily on ``Q_phi`` loses from each recurrent state on; 0 elsewhere (T1.3).

    Args:
      interface: the interface model.
      q_phi: ``[Z, O]``, minus infinity at unavailable options.
      value_star: ``[S]`` optimal value.
    """
    greedy = interface.lift(q_phi.argmax(axis=1))
    live = interface.chain.stationary > 0
    # Transient states are left out: no option of a recurrent state leads to them.
    moments = interface.moments
    value = evaluate_policy(
        moments.reward_mean, moments.discounted, greedy, live, interface.chain.sparse, moments.killing
    )
    return np.where(live, value_star - value, 0.0)


def policy_loss(interface: InterfaceModel, q_phi: np.ndarray, value_star: np.ndarray) -> float:
    """The largest one of ``policy_losses`` (T1.3)."""
    return max(0.0, float(policy_losses(interface, q_phi, value_star).max()))


def largest_gap(interface: InterfaceModel, q_phi: np.ndarray, q_star: np.ndarray) -> float:
    """``max |Q_phi(phi(s), o) - Q*(s, o)|`` over recurrent decision states and available options (T1)."""
    keep = interface.decision_pairs
    return float(np.abs(interface.lift(q_phi)[keep] - q_star[keep]).max())


def interface_gap(
    interface: InterfaceModel,
    q_phi: Solution,
    q_star: Solution,
    constants: AISConstants | None = None,
    losses: np.ndarray | None = None,
) -> InterfaceGap:
    """Measures the interface gap exactly and computes every form of Theorem 1 (T1, T1.1, T1.2, T1.3).

    Args:
      interface: the interface model.
      q_phi: its solution.
      q_star: the oracle's.
      constants: ``ais_constants``, if they are known already.
      losses: ``policy_losses``, likewise.
    """
    losses = policy_losses(interface, q_phi.q, q_star.value) if losses is None else losses
    constants = ais_constants(interface) if constants is None else constants
    keep, killing = interface.decision_pairs, interface.least_killing
    lifted = interface.lift(q_phi.q)
    decides = interface.mask.any(axis=1)
    value = q_phi.value[decides]
    norm = float(np.abs(value).max())
    span, middle = float(value.max() - value.min()), float(value.max() + value.min()) / 2
    target = interface.moments.reward_mean + (interface.lifted_discounted @ q_phi.value).reshape(keep.shape)
    numerator = float(np.abs(target[keep] - lifted[keep]).max())
    epsilon, delta, delta_mass = constants
    bound = (epsilon + delta * norm) / killing
    return InterfaceGap(
        gap=largest_gap(interface, q_phi.q, q_star.q),
        bound=bound,
        bound_value_aware=numerator / killing,
        bound_mass_span=(epsilon + delta * span / 2 + abs(middle) * delta_mass) / killing,
        value_numerator=numerator,
        value_norm=norm,
        policy_loss=max(0.0, float(losses.max())),
        policy_loss_bound=2 * bound,
    )


def solve_both(
    model: TabularModel, behaviour: np.ndarray | None = None, iterative: bool | None = None
) -> tuple[InterfaceModel, Solution, Solution]:
    """The interface model with ``Q_phi`` and ``Q*`` (D3, D5); ``iterative`` as in ``interface_model``."""
    interface = interface_model(model, behaviour, iterative=iterative)
    return interface, solve_interface(interface), optimal_q(interface.moments)
