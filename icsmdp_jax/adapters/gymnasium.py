"""Our environments as one agent meets them, see ``ways.to_gymnasium``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.adapters.spaces import interface_space, on_host, option_space
from icsmdp_jax.core.checks import random_option
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff

Policy = Callable[[chex.PRNGKey, Handoff], chex.Array]


@partial(jax.jit, static_argnums=(0, 1))
def _start(
    env: Environment, others: Policy, agent: chex.Array, patience: chex.Array, key: chex.PRNGKey, params: Any
) -> tuple[Handoff, Any]:
    """The agent's first turn, in a later episode if it has none in earlier ones."""
    key, key_reset = jax.random.split(key)

    def waits(carry: Any) -> chex.Array:
        return (carry[1].agent != agent) & (carry[3] < patience)

    def turn(carry: Any) -> Any:
        key, now, state, count = carry
        key, key_act, key_step = jax.random.split(key, 3)
        return key, *env.step(key_step, state, others(key_act, now), params), count + 1

    key, now, state, _ = jax.lax.while_loop(waits, turn, (key, *env.reset(key_reset, params), jnp.int32(0)))
    return now, (key, state)


@partial(jax.jit, static_argnums=(0, 1))
def _advance(
    env: Environment,
    others: Policy,
    agent: chex.Array,
    patience: chex.Array,
    carry: Any,
    option: chex.Array,
    params: Any,
) -> tuple[Handoff, Any]:
    """The agent's option, then those of the others up to the agent's next turn, as one longer segment."""
    key, key_step = jax.random.split(carry[0])
    after, state = env.step_env(key_step, carry[1], option, params)

    def waits(carry: Any) -> chex.Array:
        _, now, _, count = carry
        return (now.agent != agent) & ~now.terminated & ~now.truncated & (count < patience)

    def turn(carry: Any) -> Any:
        key, now, state, count = carry
        key, key_act, key_step = jax.random.split(key, 3)
        after, state = env.step_env(key_step, state, others(key_act, now), params)
        joined = after._replace(
            reward=now.reward + now.discount * after.reward,
            duration=now.duration + after.duration,
            discount=now.discount * after.discount,
        )
        return key, joined, state, count + 1

    key, now, state, _ = jax.lax.while_loop(waits, turn, (key, after, state, jnp.int32(1)))
    cut = (now.agent != agent) & ~now.terminated
    return now._replace(truncated=now.truncated | cut), (key, state)


def _random(key: chex.PRNGKey, now: Handoff) -> chex.Array:
    return random_option(key, now.mask)


class OneAgent(gymnasium.Env):  # type: ignore[misc,type-arg]
    """One agent's view on the host; each step is one compiled call."""

    def __init__(
        self, env: Environment, params: Any, agent: int, others: Policy | None, strict: bool, patience: int
    ) -> None:
        self.env, self.params, self.agent = env, params, agent
        self._strict, self._patience = strict, patience
        self._fixed = (env, others or _random, np.int32(agent), np.int32(patience))
        self.metadata = {"name": env.spec.name, "render_modes": []}
        self.observation_space = interface_space(env.spec, gymnasium.spaces)
        self.action_space = option_space(env.spec, gymnasium.spaces)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The agent's first turn of an episode.

        Raises:
          ValueError: if it has none within ``patience`` handoffs.
        """
        super().reset(seed=seed)
        key = jax.random.key(self.np_random.integers(2**32, dtype=np.uint32))
        now, self._carry = _start(*self._fixed, key, self.params)
        now = jax.device_get(now)
        if now.agent != self.agent:
            raise ValueError(f"agent = {self.agent}: had no turn in {self._patience} handoffs, expected one that has")
        new = {"terminated": np.False_, "truncated": np.False_}  # an earlier episode may have ended without its turn
        return self._arrive(now._replace(duration=np.int32(0), discount=np.float32(0), **new))

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Runs an option of the agent, then those of the others up to the agent's next turn.

        Raises:
          ValueError: in one line, for what is not an option, and with ``strict`` for one that is not available.
        """
        legal = np.flatnonzero(self._mask).tolist()
        if action not in self.action_space or (self._strict and action not in legal):
            raise ValueError(f"action = {action}: not available, expected one of {legal}")
        option = np.int32(action if self._mask[action] else legal[0])
        now, self._carry = _advance(*self._fixed, self._carry, option, self.params)
        now = jax.device_get(now)
        seen, info = self._arrive(now)
        return seen, float(now.reward), bool(now.terminated), bool(now.truncated), info

    def _arrive(self, now: Handoff) -> tuple[Any, dict[str, Any]]:
        mine = now.agent == self.agent and not now.terminated
        self._mask = np.array(now.mask) if mine else np.zeros_like(now.mask)
        if mine:
            self._seen = now.interface
        about = {"duration": int(now.duration), "discount": float(now.discount)}
        return on_host(self._seen), {"action_mask": self._mask.astype(np.int8), **about}

    def action_masks(self) -> np.ndarray:
        """``[O]`` bool, what is available now, under the name that sb3-contrib asks for."""
        return self._mask.copy()
