"""What it is worth to show an agent more of the state, and what it may do without (E).

Whatever an agent sees besides splits its interfaces. The refined model keeps the law of everything, states, options,
durations and rewards, and the behaviour policy is copied to the parts of a split interface. ``Q_phi`` of the refined
model and its greedy policy are then exact, and so is what the policy loses against the oracle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.interface import InterfaceModel, interface_gap, interface_model, solve_interface
from icsmdp_jax.exact.moments import KernelMoments, kernel_moments
from icsmdp_jax.exact.solve import Solution, evaluate_policy, optimal_q
from icsmdp_jax.models.tabular import TabularModel

ALL = -1  # stands for every field of the state, and is all that can be shown in a model without fields
SAME = 1e-9  # change of the loss, relative to the largest value, up to which nothing is lost or gained


class Candidate(NamedTuple):
    """Something to show: a field, or with ``ALL`` the whole state, to one agent."""

    agent: int
    field: int = ALL


class Shown(NamedTuple):
    """A model with more shown, all of it exact.

    Attributes:
      shown: candidates that are shown beyond the model's own interfaces.
      policy_loss: largest ``V*(s) - V^pi(s)`` over recurrent states, pi greedy in ``Q_phi``.
      weighted_loss: its mean under the stationary law.
      start_loss: its mean under the law of the first state, where the model has terminal states; else the same.
      epsilon, delta: AIS constants (D6).
      interface_gap: sup norm (T1).
      interfaces_added: interfaces of the recurrent states beyond the model's own; fewer if something was hidden.
      clt_coefficient: how many handoffs it takes to learn (P2).
    """

    shown: tuple[Candidate, ...]
    policy_loss: float
    weighted_loss: float
    start_loss: float
    epsilon: float
    delta: float
    interface_gap: float
    interfaces_added: int
    clt_coefficient: float


def refined(model: TabularModel, behaviour: np.ndarray, key: np.ndarray) -> tuple[TabularModel, np.ndarray]:
    """The model with interfaces split by a key of their states, and the behaviour policy that is copied to the parts.

    Args:
      model: the IC-SMDP.
      behaviour: ``[Z, O]``.
      key: ``[S]`` or ``[S, k]`` int; states of one interface share a part of it if their keys agree.

    Returns:
      The model, without descriptions of interfaces, and ``[Z', O]``.
    """
    rows = np.column_stack([model.interface, np.asarray(key).reshape(model.num_states, -1)])
    _, first, interface = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    parent = model.interface[first]
    none = dict.fromkeys(("features", "interface_name", "visible"))
    new = model.replace(interface=interface.reshape(-1), available=model.option_mask[parent], **none)
    return new, behaviour[parent]


def coarsened(interface: InterfaceModel, key: np.ndarray) -> tuple[TabularModel, np.ndarray] | None:
    """The model whose interfaces are merged where agent and key agree, and the mean of the merged behaviour (D5).

    Args:
      interface: the interface model, whose stationary law weighs the behaviour.
      key: ``[S]`` or ``[S, k]`` int.

    Returns:
      The model and ``[Z', O]``; None if interfaces with different options would be merged.
    """
    model = interface.model
    rows = np.column_stack([model.agent, model.is_terminal, np.asarray(key).reshape(model.num_states, -1)])
    _, first, label = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    label = label.reshape(-1)
    masks = model.option_mask[model.interface]
    if not (masks == masks[first][label])[~model.is_terminal].all():
        return None
    law, behaviour = interface.chain.stationary, interface.lift(interface.chain.behaviour)
    weight = np.bincount(label, law)
    total = np.zeros((len(first), model.num_options))
    np.add.at(total, label, law[:, None] * behaviour)
    mean = np.where(weight[:, None] > 0, total / np.where(weight > 0, weight, 1.0)[:, None], behaviour[first])
    none = dict.fromkeys(("features", "interface_name", "visible"))
    return model.replace(interface=label, available=masks[first], **none), mean


@dataclasses.dataclass(frozen=True, eq=False)
class Showing:
    """The value of showing on one model; kernel and oracle are computed once (E).

    Attributes:
      base: interface model of what is seen today.
    """

    base: InterfaceModel

    @staticmethod
    def on(model: TabularModel, behaviour: np.ndarray | None = None) -> Showing:
        """From a model and a behaviour policy ``[Z, O]``, uniform if None."""
        return Showing(interface_model(model, behaviour))

    @property
    def model(self) -> TabularModel:
        """The IC-SMDP as it is."""
        return self.base.model

    @cached_property
    def moments(self) -> KernelMoments:
        """Moments of the kernel, which do not depend on what is shown."""
        return kernel_moments(self.model)

    @cached_property
    def q_star(self) -> Solution:
        """The oracle."""
        return optimal_q(self.moments)

    @property
    def scale(self) -> float:
        """Largest absolute optimal value of a recurrent state, or 1 where there is none."""
        return float(np.abs(self.q_star.value[self.base.chain.stationary > 0]).max()) or 1.0

    def candidates(self) -> list[Candidate]:
        """Fields that an agent does not see; the whole state where the model has no fields or not who sees them."""
        model = self.model
        agents = sorted({int(agent) for agent in model.agent[self.base.chain.states]})
        if model.fields is None or model.visible is None:
            return [Candidate(agent) for agent in agents]
        return [Candidate(i, int(f)) for i in agents for f in np.flatnonzero(~model.visible[i])]

    def show(self, *shown: Candidate) -> Shown:
        """What is known with these candidates shown.

        Raises:
          ValueError: for a field that the model does not have.
        """
        model = self.model
        key = np.zeros((model.num_states, len(shown)), int)
        for column, (agent, field) in enumerate(shown):
            fields = 0 if model.fields is None else model.fields.shape[1]
            if not ALL <= field < fields:
                raise ValueError(f"field = {field}: expected a number below {fields}, or {ALL} for the whole state")
            facts = np.arange(model.num_states) + 1 if field == ALL else np.asarray(model.fields)[:, field] + 1
            key[:, column] = np.where((model.agent == agent) & ~model.is_terminal, facts, 0)
        return self._known(*refined(model, self.base.chain.behaviour, key), shown)

    def split(self, interface: int) -> Shown:
        """What is known with one interface split into its hidden states."""
        states = np.where(self.model.interface == interface, np.arange(self.model.num_states) + 1, 0)
        return self._known(*refined(self.model, self.base.chain.behaviour, states), ())

    def order(self, length: int | None = None) -> list[Shown]:
        """What to show next, greedily: each entry shows one candidate more, of the least loss; ties by agent, field.

        It ends where no single candidate lowers the loss. A greedy list need not be the best of its length.
        """
        now, out, left = self.show(), list[Shown](), self.candidates()
        while left and (length is None or len(out) < length):
            found = [self.show(*now.shown, candidate) for candidate in left]
            best = min(found, key=lambda one: one.policy_loss)
            if best.policy_loss >= now.policy_loss - SAME * self.scale:
                break
            out.append(best)
            left.remove(best.shown[-1])
            now = best
        return out

    def hideable(self) -> list[Candidate]:
        """Visible fields that may be hidden together at no loss: backward, in the order of agents and fields.

        The behaviour of merged interfaces is their mean under the stationary law. Empty without ``visible``.
        """
        model = self.model
        if model.fields is None or model.visible is None:
            return []
        visible, hidden = model.visible.copy(), list[Candidate]()
        least = self.show().policy_loss
        for agent, field in np.argwhere(visible):
            visible[agent, field] = False
            merged = coarsened(self.base, np.where(visible[model.agent], model.fields, 0))
            loss = np.inf if merged is None else self._known(*merged, ()).policy_loss
            if loss <= least + SAME * self.scale:
                hidden.append(Candidate(int(agent), int(field)))
            else:
                visible[agent, field] = True
        return hidden

    def _known(self, model: TabularModel, behaviour: np.ndarray, shown: Sequence[Candidate]) -> Shown:
        """Everything about one interface; the law of behaviour may have zeros where interfaces are never met."""
        interface = interface_model(model, behaviour, moments=self.moments)
        q_phi = solve_interface(interface)
        known = Analysis(interface)
        gap = interface_gap(interface, q_phi, self.q_star, known.ais)
        live, stationary = interface.chain.stationary > 0, interface.chain.stationary
        value = evaluate_policy(
            self.moments.reward_mean, self.moments.discounted, interface.lift(q_phi.q.argmax(axis=1)), live,
            interface.chain.sparse, self.moments.killing,
        )  # fmt: skip
        loss = np.where(live, self.q_star.value - value, 0.0)
        first = interface.chain.start if interface.chain.start.any() else stationary
        return Shown(
            shown=tuple(shown),
            policy_loss=gap.policy_loss,
            weighted_loss=float(stationary @ loss),
            start_loss=float(first @ loss),
            epsilon=known.ais.epsilon,
            delta=known.ais.delta,
            interface_gap=gap.gap,
            interfaces_added=int(interface.mask.any(axis=1).sum() - self.base.mask.any(axis=1).sum()),
            clt_coefficient=known.limit.coefficient,
        )
