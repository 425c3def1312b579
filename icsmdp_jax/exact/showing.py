"""What it is worth to show an agent more of the state, and what it may do without (E).

Whatever more an agent sees splits its interfaces. The refined model keeps the law of everything, states, options,
durations and rewards, and the behaviour policy is copied to the parts of a split interface. ``Q_phi`` of the refined
model and its greedy policy are then exact, and so is what the policy loses against the oracle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from icsmdp_jax.exact.chain import BehaviourChain
from icsmdp_jax.exact.interface import InterfaceModel, interface_model, largest_gap, policy_losses, solve_interface
from icsmdp_jax.exact.solve import Solution, optimal_q
from icsmdp_jax.models.tabular import TabularModel

ALL = -1  # stands for the whole state
SAME = 1e-9  # change of the loss, relative to the largest value, up to which nothing is lost or gained
ROUNDING = 1e-14  # by which a mean of equal probabilities may differ from them


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
      interface_gap: sup norm (T1).
      interfaces_added: interfaces of the recurrent states beyond the model's own; fewer if something was hidden.
    """

    shown: tuple[Candidate, ...]
    policy_loss: float
    weighted_loss: float
    start_loss: float
    interface_gap: float
    interfaces_added: int


def refined(model: TabularModel, behaviour: np.ndarray, key: np.ndarray) -> tuple[TabularModel, np.ndarray]:
    """The model with interfaces split by a key of their states, and the behaviour policy that is copied to the parts.

    Args:
      model: the IC-SMDP.
      behaviour: ``[Z, O]``.
      key: ``[S]`` or ``[S, k]`` int; states of one interface share a part of it if their keys agree.

    Returns:
      The model, without descriptions of interfaces, and ``[Z', O]``.
    """
    first, interface = _numbered([model.interface, *np.asarray(key).reshape(model.num_states, -1).T])
    parent = model.interface[first]
    return model.seen_through(interface, model.option_mask[parent]), behaviour[parent]


def _numbered(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The first index of each distinct row of ``[S]`` columns in lexicographic order, and ``[S]`` which row each is."""
    label = np.zeros(len(columns[0]), np.int64)
    for column in columns:  # number by number: sorting rows as such takes thirty times as long
        values, place = np.unique(column, return_inverse=True)
        _, first, label = np.unique(label * len(values) + place, return_index=True, return_inverse=True)
    return first, label


def coarsened(interface: InterfaceModel, key: np.ndarray) -> tuple[TabularModel, np.ndarray] | None:
    """The model whose interfaces are merged where agent and key agree, and the mean of the merged behaviour (D5).

    Args:
      interface: the interface model, whose stationary law weighs the behaviour.
      key: ``[S]`` or ``[S, k]`` int.

    Returns:
      The model and ``[Z', O]``; None if interfaces with different options would be merged.
    """
    model = interface.model
    first, label = _numbered([model.agent, model.is_terminal, *np.asarray(key).reshape(model.num_states, -1).T])
    masks = model.option_mask[model.interface]
    if not (masks == masks[first][label])[~model.is_terminal].all():
        return None
    law, behaviour = interface.chain.stationary, interface.lift(interface.chain.behaviour)
    weight = np.bincount(label, law)
    total = np.zeros((len(first), model.num_options))
    np.add.at(total, label, law[:, None] * behaviour)
    mean = np.where(weight[:, None] > 0, total / np.where(weight > 0, weight, 1.0)[:, None], behaviour[first])
    return model.seen_through(label, masks[first]), mean


@dataclasses.dataclass(frozen=True, eq=False)
class Showing:
    """The value of showing on one model; kernel, chain and oracle are computed once (E).

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
    def q_star(self) -> Solution:
        """The oracle."""
        return optimal_q(self.base.moments)

    @cached_property
    def now(self) -> Shown:
        """What is known with nothing more shown."""
        return self._known(self.model, self.base.chain.behaviour, (), self.base.chain)

    @property
    def scale(self) -> float:
        """Largest absolute optimal value of a recurrent state, or 1 where all are 0."""
        largest = float(np.abs(self.q_star.value[self.base.chain.stationary > 0]).max())
        return largest if largest > 1e-290 else 1.0

    def fields(self) -> list[Candidate]:
        """Fields that an agent does not see; without ``visible`` those that would split an interface of its own."""
        model = self.model
        if model.fields is None:
            return []
        agents = range(model.num_agents)
        if model.visible is not None:
            return [Candidate(i, int(f)) for i in agents for f in np.flatnonzero(~model.visible[i])]
        every = [Candidate(i, f) for i in agents for f in range(model.fields.shape[1])]
        return [one for one in every if self._added(self.refine(one)[0])]

    def candidates(self) -> list[Candidate]:
        """Fields that an agent does not see; in a model without fields the whole state, for every agent that acts."""
        if self.model.fields is not None:
            return self.fields()
        return [Candidate(agent) for agent in np.unique(self.model.agent[self.base.chain.states]).tolist()]

    def refine(self, *shown: Candidate) -> tuple[TabularModel, np.ndarray]:
        """The model in which these candidates are shown, and its behaviour policy ``[Z', O]``, ready for ``analyse``.

        Raises:
          ValueError: for a field that the model does not have.
        """
        model = self.model
        key = np.zeros((model.num_states, len(shown)), int)
        for column, (agent, field) in enumerate(shown):
            fields = 0 if model.fields is None else model.fields.shape[1]
            if not ALL <= field < fields:
                raise ValueError(f"field = {field}: expected a number below {fields}, or {ALL} for the whole state")
            facts = np.arange(model.num_states) if field == ALL else np.asarray(model.fields, int)[:, field]
            key[:, column] = np.where((model.agent == agent) & ~model.is_terminal, facts, 0)
        return refined(model, self.base.chain.behaviour, key)

    def show(self, *shown: Candidate) -> Shown:
        """What is known with these candidates shown; arguments and errors as for ``refine``."""
        model, behaviour = self.refine(*shown)
        if not self._added(model):
            return self.now._replace(shown=tuple(shown))
        return self._known(model, behaviour, shown, self.base.chain)

    def split(self, interface: int) -> Shown:
        """What is known with one interface split into its hidden states."""
        states = np.where(self.model.interface == interface, np.arange(self.model.num_states) + 1, 0)
        return self._known(*refined(self.model, self.base.chain.behaviour, states), (), self.base.chain)

    def order(self) -> list[Shown]:
        """What to show next, greedily: each entry shows one candidate more, of the least loss; ties by agent, field.

        It ends where no single candidate lowers the loss. A greedy list need not be the best of its length.
        """
        now, out, left = self.now, list[Shown](), self.candidates()
        while left:
            found = [self.show(*now.shown, candidate) for candidate in left]
            best = min(found, key=lambda one: round(one.policy_loss / (SAME * self.scale)))
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
        for agent, field in np.argwhere(visible):
            visible[agent, field] = False
            merged = coarsened(self.base, np.where(visible[model.agent], model.fields, 0))
            if (np.inf if merged is None else self._merged(*merged)) <= self.now.policy_loss + SAME * self.scale:
                hidden.append(Candidate(int(agent), int(field)))
            else:
                visible[agent, field] = True
        return hidden

    def _merged(self, model: TabularModel, behaviour: np.ndarray) -> float:
        """The policy loss with interfaces merged; the chain is as it was if all parts behaved alike."""
        if not self._added(model):
            return self.now.policy_loss
        before = self.base.lift(self.base.chain.behaviour)[self.base.chain.states]
        alike = np.abs(behaviour[model.interface[self.base.chain.states]] - before).max() < ROUNDING
        return self._known(model, behaviour, (), self.base.chain if alike else None).policy_loss

    def _added(self, model: TabularModel) -> int:
        """Interfaces of the recurrent states beyond the model's own."""
        states = self.base.chain.states
        return len(np.unique(model.interface[states])) - len(np.unique(self.model.interface[states]))

    def _known(
        self,
        model: TabularModel,
        behaviour: np.ndarray,
        shown: Sequence[Candidate],
        chain: BehaviourChain | None = None,
    ) -> Shown:
        """Everything about one interface; the chain is as it was where only more is shown."""
        if chain is not None:
            chain = dataclasses.replace(chain, behaviour=behaviour)
        interface = interface_model(model, behaviour, self.base.moments, chain=chain)
        q_phi = solve_interface(interface)
        loss = policy_losses(interface, q_phi.q, self.q_star.value)
        law, start = interface.chain.stationary, interface.chain.start
        return Shown(
            shown=tuple(shown),
            policy_loss=max(0.0, float(loss.max())),
            weighted_loss=float(law @ loss),
            start_loss=float((start if start.any() else law) @ loss),
            interface_gap=largest_gap(interface, q_phi.q, self.q_star.q),
            interfaces_added=self._added(model),
        )
