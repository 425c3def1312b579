"""A primitive environment small enough to be followed by hand: two agents, nothing random but the start.

Option 0 lasts one primitive step, option 1 three. A step pays ``1 + action + 4 agent``, the discount is 1/2, so that
every number is exact in float32. After an option the other agent is active. The fourth handoff ends the episode: in a
terminal state after option 0, by truncation after option 1. Agent 1 may not choose option 1 when two handoffs have
happened. Action 2 is not available at the last step of an option.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.handoff import EnvSpec
from icsmdp_jax.core.primitive import Decision, LocalSpec, PrimitiveEnvironment, Tick

EPISODE = 4  # handoffs


class RelayState(NamedTuple):
    """All int32: who is active, handoffs so far, the option, primitive steps that it still takes."""

    agent: chex.Array
    count: chex.Array
    option: chex.Array
    left: chex.Array


@dataclasses.dataclass(frozen=True)
class Relay(PrimitiveEnvironment[RelayState, chex.Array]):
    """Interface ``4 agent + count``, local observation: steps left; the parameter is the discount.

    The end of an episode looks like its beginning, so that values learned there would show if they were used.
    """

    reward_dtype: type = jnp.float32

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec("relay", 2, 2, 2 * EPISODE, (), jnp.int32, 3, False)

    @property
    def local_spec(self) -> LocalSpec:
        return LocalSpec(3, 4, (), jnp.int32)

    def gamma(self, params: chex.Array) -> chex.Array:
        return params

    def reset(self, key: chex.PRNGKey, params: chex.Array) -> tuple[Decision, RelayState]:
        zero = jnp.zeros((), jnp.int32)
        state = RelayState(jax.random.bernoulli(key).astype(jnp.int32), zero, zero, zero)
        return self._decision(state), state

    def begin(
        self, key: chex.PRNGKey, state: RelayState, option: chex.Array, params: chex.Array
    ) -> tuple[Tick, RelayState]:
        option = jnp.asarray(option, jnp.int32)
        state = state._replace(option=option, left=1 + 2 * option)
        return self._tick(state, jnp.zeros(()), jnp.zeros((), bool)), state

    def tick(
        self, key: chex.PRNGKey, state: RelayState, action: chex.Array, params: chex.Array
    ) -> tuple[Tick, RelayState]:
        reward = 1 + action + 4 * state.agent
        left = state.left - 1
        ended = left == 0
        state = state._replace(
            agent=jnp.where(ended, 1 - state.agent, state.agent), count=state.count + ended, left=left
        )
        return self._tick(state, reward, ended), state

    def _tick(self, state: RelayState, reward: chex.Array, ended: chex.Array) -> Tick:
        over = ended & (state.count == EPISODE)
        return Tick(
            observation=state.left,
            action_mask=jnp.array([True, True, True]) & ((jnp.arange(3) < 2) | (state.left != 1)),
            reward=reward.astype(self.reward_dtype),
            ended=ended,
            terminated=over & (state.option == 0),
            truncated=over & (state.option == 1),
            decision=self._decision(state),
        )

    def _decision(self, state: RelayState) -> Decision:
        mask = jnp.array([True, True]) & ~((jnp.arange(2) == 1) & (state.agent == 1) & (state.count == 2))
        return Decision(state.agent, EPISODE * state.agent + state.count % EPISODE, mask)
