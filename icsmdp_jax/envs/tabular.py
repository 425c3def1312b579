"""Simulation of a tabular IC-SMDP (D1, D2): functional, jittable, one gather per draw.

One handoff consumes three ``uint32`` words: duration, next state and reward noise; a fourth, for the restart, where
there are terminal states.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arrival import Ended, arrive, no_segment
from icsmdp_jax.core.environment import Environment, restart
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.core.sampling import AliasTable, alias_table, draw, draw_at, uniform_symmetric
from icsmdp_jax.models.tabular import TabularModel, annuities


class TabularState(NamedTuple):
    """State of one copy: ``index`` ``[]`` int32, the global handoff state."""

    index: chex.Array


class TabularParams(NamedTuple):
    """Traced arrays of a tabular model; two models of the same shapes share one compilation.

    Attributes:
      successor: laws of the outcome given ``[S, O]``; the code is the next state, or ``tau_index * S + state``
        where durations and next states are dependent.
      duration: laws of ``tau - 1`` given ``[S, O]``; unused (one cell) where the outcome carries it.
      first: law of the first state.
      start: law of the state that replaces a terminal handoff.
      reward_rate: ``[S, O]`` float32.
      reward_noise: ``[]`` float32.
      discount: ``[T]`` float32 ``gamma^tau`` for ``tau = 1..T``.
      annuity: ``[T]`` float32 ``(1 - gamma^tau) / (1 - gamma)``.
      agent: ``[S]`` int32.
      interface: ``[S]`` int32.
      mask: ``[Z, O]`` bool.
      terminal: ``[S]`` bool.
    """

    successor: AliasTable
    duration: AliasTable
    first: AliasTable
    start: AliasTable
    reward_rate: chex.Array
    reward_noise: chex.Array
    discount: chex.Array
    annuity: chex.Array
    agent: chex.Array
    interface: chex.Array
    mask: chex.Array
    terminal: chex.Array


@dataclasses.dataclass(frozen=True)
class TabularEnv(Environment[TabularState, TabularParams]):
    """A finite IC-SMDP as an environment.

    Attributes:
      num_agents: ``N``.
      num_interfaces: ``Z``.
      num_options: ``O``.
      longest_duration: ``T`` in primitive steps.
      joint: whether duration and next state are drawn together.
      has_terminal: whether some states are terminal.
      name: readable name.
    """

    num_agents: int
    num_interfaces: int
    num_options: int
    longest_duration: int
    joint: bool
    has_terminal: bool
    name: str = "tabular"
    words_per_step: int = 4  # duration, next state, noise, restart (3 without terminal states)

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

    def reset(self, key: chex.PRNGKey, params: TabularParams) -> tuple[Handoff, TabularState]:
        """Draws the first state."""
        return self._fresh(jax.random.bits(key, (), jnp.uint32), params.first, params)

    def step_env(
        self, key: chex.PRNGKey, state: TabularState, option: chex.Array, params: TabularParams
    ) -> tuple[Handoff, TabularState]:
        """Runs one option; the state returned is the one entered, terminal or not (D2)."""
        return self._enter(jax.random.bits(key, (self.words_per_step,), jnp.uint32), state, option, params)

    def step(
        self, key: chex.PRNGKey, state: TabularState, option: chex.Array, params: TabularParams
    ) -> tuple[Handoff, TabularState]:
        """Runs one option and restarts after a terminal handoff, with one draw of words for both."""
        words = jax.random.bits(key, (self.words_per_step,), jnp.uint32)
        return self.step_from_words(words, state, option, params)

    def step_from_words(
        self, words: chex.Array, state: TabularState, option: chex.Array, params: TabularParams
    ) -> tuple[Handoff, TabularState]:
        """``step`` with the random words given: ``words`` is ``[words_per_step]`` uint32."""
        handoff, entered = self._enter(words, state, option, params)
        if not self.has_terminal:
            return handoff, entered
        fresh, fresh_state = self._fresh(words[3], params.start, params)
        return restart(handoff, entered, fresh, fresh_state)

    def _enter(
        self, words: chex.Array, state: TabularState, option: chex.Array, params: TabularParams
    ) -> tuple[Handoff, TabularState]:
        s = state.index
        code = draw_at(words[1], params.successor, (s, option))
        if self.joint:
            count = params.agent.shape[0]
            tau, entered = code // count, code % count
        else:
            tau, entered = draw_at(words[0], params.duration, (s, option)), code
        noise = params.reward_noise * uniform_symmetric(words[2])
        reward = params.reward_rate[s, option] * params.annuity[tau] + noise
        done = params.terminal[entered] if self.has_terminal else jnp.zeros((), bool)
        discount = jnp.where(done, jnp.float32(0), params.discount[tau])
        ended = Ended(reward, tau + 1, discount, terminated=done, truncated=jnp.zeros((), bool))
        return self._handoff(entered, params, ended), TabularState(entered)

    def _fresh(self, word: chex.Array, law: AliasTable, params: TabularParams) -> tuple[Handoff, TabularState]:
        index = draw(word, law)
        return self._handoff(index, params, no_segment()), TabularState(index)

    def _handoff(self, index: chex.Array, params: TabularParams, ended: Ended) -> Handoff:
        interface = params.interface[index]
        return arrive(params.agent[index], interface, params.mask[interface], ended)


def tabular_env(
    model: TabularModel, first: np.ndarray | None = None, name: str = "tabular"
) -> tuple[TabularEnv, TabularParams]:
    """An environment and its parameters from a model.

    Args:
      model: the IC-SMDP.
      first: ``[S]`` law of the first state (the stationary law, for the theorems); by default the model's start
        law given that the state decides, or uniform over states if the model has none.
      name: readable name.

    Returns:
      ``(env, params)``; params are JAX arrays in float32, int32, uint32 and bool.
    """
    s, o, t = model.num_states, model.num_options, model.longest_duration
    start = np.where(model.is_terminal, 0.0, np.ones(s) if model.start is None else model.start)
    start = start / start.sum()
    joint = model.kernel is not None
    if model.kernel is not None:
        successor = _compressed(model.kernel.reshape(s, o, t * s))
        duration = alias_table(np.ones((1, 1, 1)))
    else:
        assert model.duration is not None
        duration = alias_table(model.duration)
        if model.transition is not None:
            successor = _compressed(model.transition)
        else:
            assert model.successor is not None and model.probability is not None
            successor = alias_table(model.probability, model.successor)
    tau = np.arange(1, t + 1)
    discount = model.gamma**tau
    params = TabularParams(
        successor=successor,
        duration=duration,
        first=_law(start if first is None else np.asarray(first, np.float64)),
        start=_law(start),
        reward_rate=model.reward_rate.astype(np.float32),
        reward_noise=np.float32(model.reward_noise),
        discount=discount.astype(np.float32),
        annuity=annuities(model.gamma, t).astype(np.float32),
        agent=model.agent,
        interface=model.interface,
        mask=model.option_mask,
        terminal=model.is_terminal,
    )
    env = TabularEnv(
        num_agents=model.num_agents,
        num_interfaces=model.num_interfaces,
        num_options=o,
        longest_duration=t,
        joint=joint,
        has_terminal=bool(model.is_terminal.any()),
        name=name,
        words_per_step=4 if model.is_terminal.any() else 3,
    )
    return env, jax.tree.map(jnp.asarray, params)


def _law(probability: np.ndarray) -> AliasTable:
    """Alias table over all states; shapes do not depend on the law."""
    return AliasTable(*(array[0] for array in alias_table(probability[None])))


def _compressed(law: np.ndarray) -> AliasTable:
    """Alias table over the outcomes of positive probability, in as many cells as the fullest row needs."""
    width = max(int((law > 0).sum(axis=-1).max()), 1)
    order = np.argsort(law <= 0, axis=-1, kind="stable")[..., :width]
    return alias_table(np.take_along_axis(law, order, axis=-1), order)
