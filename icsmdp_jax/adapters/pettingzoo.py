"""Our environments as PettingZoo's: agents in turn, see ``ways.to_pettingzoo``."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

import chex
import gymnasium.spaces
import jax
import numpy as np
from pettingzoo import AECEnv

from icsmdp_jax.adapters.spaces import interface_space, on_host, option_space
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff

Carry = tuple[chex.PRNGKey, Any]  # the key from which later ones are split, and the environment's state


@partial(jax.jit, static_argnums=0)
def _start(env: Environment, key: chex.PRNGKey, params: Any) -> tuple[Handoff, Carry]:
    key, key_reset = jax.random.split(key)
    handoff, state = env.reset(key_reset, params)
    return handoff, (key, state)


@partial(jax.jit, static_argnums=0)
def _advance(env: Environment, carry: Carry, option: chex.Array, params: Any) -> tuple[Handoff, Carry]:
    key, key_step = jax.random.split(carry[0])
    handoff, state = env.step_env(key_step, carry[1], option, params)
    return handoff, (key, state)


class Turns(AECEnv):  # type: ignore[misc]
    """One environment on the host; each step is one compiled call and runs one option to its end."""

    def __init__(self, env: Environment, params: Any, rewards: str, limit: int | None) -> None:
        super().__init__()
        spec = env.spec
        self.env, self.params, self._team, self._limit = env, params, rewards == "team", limit
        self.metadata = {"name": spec.name, "is_parallelizable": False, "render_modes": []}
        self.render_mode = None
        self.possible_agents = [f"agent_{i}" for i in range(spec.num_agents)]
        spaces = gymnasium.spaces
        self.observation_spaces = {
            agent: spaces.Dict(
                {
                    "observation": interface_space(spec, spaces),
                    "action_mask": spaces.Box(0, 1, (spec.num_options,), np.int8),
                }
            )
            for agent in self.possible_agents
        }
        self.action_spaces = {agent: option_space(spec, spaces) for agent in self.possible_agents}
        self._carry: Carry | None = None

    def observation_space(self, agent: str) -> Any:
        """The agent's space of interface and mask, always the same object."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """The agent's space of options, always the same object."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Starts an episode; without a seed, the next one of the same stream, or at first an arbitrary one."""
        if seed is not None:
            key = jax.random.key(np.uint32(seed % 2**32))
        else:
            key = jax.random.key(np.uint32(secrets.randbits(32))) if self._carry is None else self._carry[0]
        now, self._carry = _start(self.env, key, self.params)
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        nothing = np.zeros(self.env.spec.interface_shape, self.env.spec.interface_dtype)
        self._seen = dict.fromkeys(self.agents, nothing)
        self._handoffs, self._skip_agent_selection = 0, None
        self._arrive(jax.device_get(now), over=False)

    def _arrive(self, now: Handoff, over: bool) -> None:
        self.agent_selection = self.possible_agents[int(now.agent)]
        self._mask = np.zeros_like(now.mask) if over else now.mask
        if not now.terminated:  # a terminal handoff decides nothing, its interface need not be one
            self._seen[self.agent_selection] = now.interface
        about = {"reward": float(now.reward), "duration": int(now.duration), "discount": float(now.discount)}
        self.infos = {agent: dict(about) for agent in self.agents}

    def observe(self, agent: str) -> dict[str, Any]:
        """What the agent sees if it is its turn, otherwise what it saw last, and what is available to it now."""
        mask = self._mask if agent == self.agent_selection else np.zeros_like(self._mask)
        return {"observation": on_host(self._seen[agent]), "action_mask": mask.astype(np.int8)}

    def step(self, action: int | None) -> None:
        """Runs an option of the agent whose turn it is to its end.

        Raises:
          ValueError: in one line, for an option that is not available.
        """
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        legal = np.flatnonzero(self._mask).tolist()
        if action not in legal:
            raise ValueError(f"action = {action}: not available to {agent}, expected one of {legal}")
        now, self._carry = _advance(self.env, self._carry, np.int32(action), self.params)
        now = jax.device_get(now)
        self._handoffs += 1
        terminated = bool(now.terminated)
        cut = self._limit is not None and self._handoffs >= self._limit
        truncated = not terminated and (bool(now.truncated) or cut)
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        for receiver in self.agents if self._team else [agent]:
            self.rewards[receiver] = float(now.reward)
        self._accumulate_rewards()
        self.terminations = dict.fromkeys(self.agents, terminated)
        self.truncations = dict.fromkeys(self.agents, truncated)
        self._arrive(now, over=terminated or truncated)

    def state(self) -> np.ndarray:
        """The environment's global view ``[V]``, where it has one."""
        assert self._carry is not None, "reset comes first"
        return np.asarray(self.env.global_view(self._carry[1], self.params))

    def render(self) -> None:
        """Does nothing: there is nothing to draw."""

    def close(self) -> None:
        """Does nothing: there is nothing to close."""
