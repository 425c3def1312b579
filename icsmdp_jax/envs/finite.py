"""Environments whose states have numbers: who decides, what it sees and what it may do are looked up (D1, D2).

What differs between them is the law of a segment, which they draw from a few random words; the last word of a step is
that of the state that replaces an end.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arrival import Ended, arrive, no_segment
from icsmdp_jax.core.environment import Environment, restart
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.core.sampling import AliasTable, draw


class TabularState(NamedTuple):
    """State of one copy: ``index`` ``[]`` int32, the global handoff state."""

    index: chex.Array


class Starts(Protocol):
    """What the parameters of all finite environments have."""

    @property
    def first(self) -> AliasTable:
        """Law of the first state."""


Params = TypeVar("Params", bound=Starts)


@dataclasses.dataclass(frozen=True)
class FiniteEnv(Environment[TabularState, Params]):
    """A finite IC-SMDP, one lookup for each option.

    Attributes:
      num_agents: ``N``.
      num_interfaces: ``Z``.
      num_options: ``O``.
      longest_duration: ``T`` in primitive steps.
    """

    num_agents: int
    num_interfaces: int
    num_options: int
    longest_duration: int

    name = "finite"
    has_terminal = True

    @abc.abstractmethod
    def segment(
        self, words: chex.Array, state: TabularState, option: chex.Array, params: Params
    ) -> tuple[chex.Array, Ended]:
        """``[]`` int32 state entered, and the segment that led there, from ``words [words_per_step]`` uint32."""

    def decision(self, index: chex.Array, params: Any) -> tuple[chex.Array, chex.Array, chex.Array]:
        """Who decides in a state, what it sees, and which options it has: ``[]`` int32, ``[]`` int32, ``[O]`` bool.

        By default from tables ``agent [S]``, ``interface [S]`` and ``mask [Z, O]`` among the parameters.
        """
        interface = params.interface[index]
        return params.agent[index], interface, params.mask[interface]

    def restart_law(self, params: Params) -> AliasTable:
        """Law of the state that replaces an end."""
        return params.first

    @property
    def spec(self) -> EnvSpec:
        """Static facts of this environment."""
        return EnvSpec(
            name=self.name,
            num_agents=self.num_agents,
            num_options=self.num_options,
            num_interfaces=self.num_interfaces,
            interface_shape=(),
            interface_dtype=jnp.int32,
            longest_duration=self.longest_duration,
            exact_oracle=True,
        )

    def reset(self, key: chex.PRNGKey, params: Params) -> tuple[Handoff, TabularState]:
        """Draws the first state."""
        return self._at(draw(jax.random.bits(key, (), jnp.uint32), params.first), params, no_segment())

    def step_env(
        self, key: chex.PRNGKey, state: TabularState, option: chex.Array, params: Params
    ) -> tuple[Handoff, TabularState]:
        """Runs one option; the state returned is the one entered, terminal or not (D2)."""
        return self._enter(self._words(key), state, option, params)

    def step(
        self, key: chex.PRNGKey, state: TabularState, option: chex.Array, params: Params
    ) -> tuple[Handoff, TabularState]:
        """Runs one option and restarts after an end, with one draw of words for both."""
        return self.step_from_words(self._words(key), state, option, params)

    def step_from_words(
        self, words: chex.Array, state: TabularState, option: chex.Array, params: Params
    ) -> tuple[Handoff, TabularState]:
        """``step`` with the random words given: ``words`` is ``[words_per_step]`` uint32."""
        handoff, entered = self._enter(words, state, option, params)
        if not self.has_terminal:
            return handoff, entered
        return restart(handoff, entered, *self._at(draw(words[-1], self.restart_law(params)), params, no_segment()))

    def _words(self, key: chex.PRNGKey) -> chex.Array:
        return jax.random.bits(key, (self.words_per_step,), jnp.uint32)

    def _enter(
        self, words: chex.Array, state: TabularState, option: chex.Array, params: Params
    ) -> tuple[Handoff, TabularState]:
        entered, ended = self.segment(words, state, option, params)
        return self._at(entered, params, ended)

    def _at(self, index: chex.Array, params: Params, ended: Ended) -> tuple[Handoff, TabularState]:
        return arrive(*self.decision(index, params), ended), TabularState(index)


def check_made_from(params: Any, made: Any, source: str) -> None:
    """Refuses parameters (a ``NamedTuple``) that an exact model does not belong to.

    Args:
      params: what is given.
      made: what the model's source gives.
      source: what that is, for the message.

    Raises:
      ValueError: in one line, naming the first field that differs.
    """
    for field, one, other in zip(made._fields, made, params, strict=True):
        if not all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other))):
            raise ValueError(f"params: {field} is not that of {source}, expected the parameters that were made with it")


def one_hot(fields: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """``[S, sum(sizes)]`` float64: every field, ``[S]`` int below its size, as zeros and ones, side by side."""
    return np.concatenate([np.eye(size)[axis] for size, axis in zip(sizes, fields, strict=True)], axis=1)
