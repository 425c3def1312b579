"""Our environments as JaxMARL's, see ``ways.to_jaxmarl``."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxmarl.environments import spaces
from jaxmarl.environments.multi_agent_env import MultiAgentEnv

from icsmdp_jax.adapters.spaces import interface_space, option_space
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff

Arrays = dict[str, chex.Array]


class TeamState(NamedTuple):
    """A state as JaxMARL carries it.

    Attributes:
      inner: the environment's.
      agent: ``[]`` int32, the agent whose turn it is.
      interface: what it sees.
      mask: ``[O]`` bool, what is available to it.
      step: ``[]`` int32, handoffs of this episode.
    """

    inner: Any
    agent: chex.Array
    interface: chex.Array
    mask: chex.Array
    step: chex.Array


class Team(MultiAgentEnv):  # type: ignore[misc]
    """Pure and compiled like any JaxMARL environment; ``step`` is JaxMARL's own."""

    def __init__(self, env: Environment, params: Any, rewards: str) -> None:
        spec = env.spec
        super().__init__(spec.num_agents)
        self.env, self.params, self._team = env, params, rewards == "team"
        self.observation_spaces = {agent: interface_space(spec, spaces) for agent in self.agents}
        self.action_spaces = {agent: option_space(spec, spaces) for agent in self.agents}

    @partial(jax.jit, static_argnums=0)
    def reset(self, key: chex.PRNGKey) -> tuple[Arrays, TeamState]:
        """Starts an episode."""
        state = _state(*self.env.reset(key, self.params), jnp.int32(0))
        return self.get_obs(state), state

    def step_env(
        self, key: chex.PRNGKey, state: TeamState, actions: Arrays
    ) -> tuple[Arrays, TeamState, Arrays, Arrays, Arrays]:
        """Runs the option of the agent whose turn it is to its end; the actions of the others are ignored."""
        option = jnp.stack([jnp.asarray(actions[agent], jnp.int32) for agent in self.agents])[state.agent]
        now, inner = self.env.step_env(key, state.inner, option, self.params)
        entered = _state(now, inner, state.step + 1)
        over = now.terminated | now.truncated
        everybody = jnp.arange(self.num_agents, dtype=jnp.int32)
        receives = (everybody == state.agent) | self._team
        rewards = dict(zip(self.agents, jnp.where(receives, now.reward, 0.0), strict=True))
        dones = dict.fromkeys([*self.agents, "__all__"], over)
        infos = {"agent": state.agent, "duration": now.duration, "discount": now.discount, "truncated": now.truncated}
        return self.get_obs(entered), entered, rewards, dones, infos

    def get_obs(self, state: TeamState) -> Arrays:
        """The interface of the agent whose turn it is; zeros for the others."""
        zero = jnp.zeros_like(state.interface)
        return {agent: jnp.where(state.agent == i, state.interface, zero) for i, agent in enumerate(self.agents)}

    @partial(jax.jit, static_argnums=0)
    def get_avail_actions(self, state: TeamState) -> Arrays:
        """``[O]`` bool by agent: the mask of the agent whose turn it is; only option 0 for the others."""
        idle = jnp.arange(state.mask.shape[0], dtype=jnp.int32) == 0
        return {agent: jnp.where(state.agent == i, state.mask, idle) for i, agent in enumerate(self.agents)}

    @property
    def name(self) -> str:
        """The environment's."""
        return self.env.spec.name

    @property
    def agent_classes(self) -> dict[str, list[str]]:
        """One class with all agents."""
        return {"agents": list(self.agents)}


def _state(now: Handoff, inner: Any, step: chex.Array) -> TeamState:
    return TeamState(inner, now.agent, now.interface, now.mask, step)
