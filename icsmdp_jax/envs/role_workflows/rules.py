"""What a workflow of roles is, and its listing: from rules in words of one state at a time to flat tables.

A workflow's rules say who acts in a state, what that agent sees, and what each of its options may lead to. ``listed``
follows them from the prompts on and numbers states and interfaces; nothing is left out, because episodes are short.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from icsmdp_jax.envs.role_workflows.published import Settings

State = tuple[Any, ...]  # hashable
END = "end"  # first entry of a terminal state; the second is whether the final answer is right


class Branch(NamedTuple):
    """One thing that an option may lead to.

    Attributes:
      probability: of this branch, given state and option.
      state: the state that it leads to.
      own: whether the acting role has done its own work well.
    """

    probability: float
    state: State
    own: bool = False


class Rules(Protocol):
    """A workflow, one state at a time; the first entry of a state says which stage it is in.

    Attributes:
      name: registered name.
      agents: name of each agent.
      roles: name of each role.
      role_of_agent: role of each agent.
      options: names of the options of each role, by effort.
      feature_names: what the entries of ``features`` are; the same for all agents.
      longest_episode: largest number of handoffs from a prompt to an end.
      settings: see ``Settings``.
    """

    name: ClassVar[str]
    agents: ClassVar[tuple[str, ...]]
    roles: ClassVar[tuple[str, ...]]
    role_of_agent: ClassVar[tuple[int, ...]]
    options: ClassVar[tuple[tuple[str, ...], ...]]
    feature_names: ClassVar[tuple[str, ...]]
    longest_episode: ClassVar[int]

    @property
    def settings(self) -> Settings:
        """Prices, discount, prompts."""
        ...

    def __hash__(self) -> int:
        """Rules of equal numbers have equal hashes: listings are cached by them."""
        ...

    def starts(self) -> list[tuple[float, State]]:
        """First states with their probabilities."""
        ...

    def agent(self, state: State) -> int:
        """Who acts."""
        ...

    def view(self, state: State) -> State:
        """What that agent sees; views of different agents never count as the same."""
        ...

    def available(self, state: State) -> tuple[int, ...]:
        """Options of that agent; must be a function of what it sees."""
        ...

    def blocks(self, state: State, option: int) -> tuple[int, int]:
        """Least and largest number of blocks of tokens, all between equally likely."""
        ...

    def branches(self, state: State, option: int) -> list[Branch]:
        """What may happen; probabilities sum to 1, independent of the number of blocks."""
        ...

    def features(self, agent: int, view: State) -> list[float]:
        """``[D]`` numbers that describe what the agent sees, without saying who it is."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """A workflow as arrays: ``S`` states (the two ends last: wrong, right), ``O`` options, ``Z`` interfaces.

    The last interface is that of the two ends, where no one decides. Rows of ends and of options that are not
    available are zero.

    Attributes:
      rules: where it comes from.
      states: the states, in their order.
      views: ``(agent, view)`` of each interface but the last, in their order.
      start: ``[S]`` law of the first state.
      agent: ``[S]`` int; 0 at the ends.
      interface: ``[S]`` int.
      available: ``[Z, O]`` bool; everything at the last interface.
      successor: ``[S, O, W]`` int.
      probability: ``[S, O, W]``, zero where a row has fewer branches.
      own: ``[S, O, W]`` bool, whether the acting role has done its own work well.
      least, most: ``[S, O]`` int, range of the uniform number of blocks; 1 where there is none.
      features: ``[Z, D]``; zeros at the last interface.
    """

    rules: Rules
    states: tuple[State, ...]
    views: tuple[tuple[int, State], ...]
    start: np.ndarray
    agent: np.ndarray
    interface: np.ndarray
    available: np.ndarray
    successor: np.ndarray
    probability: np.ndarray
    own: np.ndarray
    least: np.ndarray
    most: np.ndarray
    features: np.ndarray

    @property
    def is_end(self) -> np.ndarray:
        """``[S]`` bool."""
        return np.arange(len(self.states)) >= len(self.states) - 2

    @property
    def right(self) -> np.ndarray:
        """``[S]`` bool, the end with a right final answer."""
        return np.arange(len(self.states)) == len(self.states) - 1

    @property
    def pays(self) -> np.ndarray:
        """``[S, O, W]`` bool, branches that pay 1 at the last block, under the reward of the settings."""
        if self.rules.settings.reward == "role":
            return self.own
        return self.right[self.successor] & (self.probability > 0)

    def durations(self) -> np.ndarray:
        """``[S, O, T]`` pmf of the number of blocks 1 to T."""
        tau = np.arange(1, int(self.most.max()) + 1)
        inside = (self.least[..., None] <= tau) & (tau <= self.most[..., None])
        return inside / inside.sum(axis=-1, keepdims=True)


def listed(rules: Rules) -> Listing:
    """Follows the rules from the prompts on.

    Returns:
      All states that can be reached, in the order in which they are found, and the two ends.

    Raises:
      ValueError: if branches do not sum to 1, or options depend on what the agent does not see.
    """
    ends: tuple[State, State] = ((END, False), (END, True))
    states = [state for _, state in rules.starts()]
    number = {state: index for index, state in enumerate(states)}
    rows: list[dict[int, list[Branch]]] = []
    for state in states:  # grows while the loop reads it
        row = {option: rules.branches(state, option) for option in rules.available(state)}
        for option, branches in row.items():
            total = sum(branch.probability for branch in branches)
            if abs(total - 1) > 1e-9:
                raise ValueError(f"branches{(*state, option)} sum to {total}: expected 1")
            for branch in branches:
                if branch.probability > 0 and branch.state[0] != END and branch.state not in number:
                    number[branch.state] = len(states)
                    states.append(branch.state)
        rows.append(row)
    for end in ends:
        number[end] = len(states)
        states.append(end)
    return _arrays(rules, states, number, rows)


def _arrays(
    rules: Rules, states: list[State], number: dict[State, int], rows: list[dict[int, list[Branch]]]
) -> Listing:
    count, decides = len(states), len(rows)
    width = max(len(names) for names in rules.options)
    seen = [(rules.agent(state), rules.view(state)) for state in states[:decides]]
    views = sorted(set(seen), key=lambda pair: (pair[0], seen.index(pair)))
    interface = np.array([views.index(pair) for pair in seen] + [len(views)] * 2)
    available = np.ones((len(views) + 1, width), bool)
    for z, pair in enumerate(views):
        offered = {rules.available(state) for state, other in zip(states, seen, strict=False) if other == pair}
        if len(offered) != 1:
            raise ValueError(f"available: {sorted(offered)} at view {pair}: expected the same wherever it is seen")
        available[z] = np.isin(np.arange(width), offered.pop())
    merged = [{o: _merged(branches) for o, branches in row.items()} for row in rows]
    fullest = max(len(branches) for row in merged for branches in row.values())
    successor, own = np.zeros((count, width, fullest), int), np.zeros((count, width, fullest), bool)
    probability = np.zeros((count, width, fullest))
    least, most = np.ones((count, width), int), np.ones((count, width), int)
    for s, row in enumerate(merged):
        for option, branches in row.items():
            for w, branch in enumerate(branches):
                successor[s, option, w] = number[branch.state]
                probability[s, option, w], own[s, option, w] = branch.probability, branch.own
            least[s, option], most[s, option] = rules.blocks(states[s], option)
    start = np.zeros(count)
    for chance, state in rules.starts():
        start[number[state]] += chance
    agent = np.array([pair[0] for pair in seen] + [0, 0])
    shown = [rules.features(*pair) for pair in views]
    features = np.array([*shown, [0.0] * len(rules.feature_names)])
    return Listing(
        rules, tuple(states), tuple(views), start, agent, interface, available, successor, probability, own, least,
        most, features,
    )  # fmt: skip


def _merged(branches: list[Branch]) -> list[Branch]:
    """Branches to the same state with the same judgement merged, impossible ones left out."""
    total: dict[tuple[State, bool], float] = {}
    for branch in branches:
        if branch.probability > 0:
            key = (branch.state, branch.own)
            total[key] = total.get(key, 0.0) + branch.probability
    return [Branch(probability, state, own) for (state, own), probability in total.items()]
