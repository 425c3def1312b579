"""Our environments as gymnax's, see ``ways.to_gymnax``."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
from gymnax.environments import spaces
from gymnax.environments.environment import Environment as GymnaxEnvironment

from icsmdp_jax.adapters.spaces import interface_space, option_space
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff


class ViewState(NamedTuple):
    """A state as gymnax carries it.

    Attributes:
      inner: the environment's.
      agent: ``[]`` int32, the agent whose turn it is.
      mask: ``[O]`` bool, what is available to it.
      discount: ``[]`` float32, of the segment that led here.
      truncated: ``[]`` bool, whether the environment cut the episode here.
      time: ``[]`` int32, handoffs of this episode.
    """

    inner: Any
    agent: chex.Array
    mask: chex.Array
    discount: chex.Array
    truncated: chex.Array
    time: chex.Array


def _state(now: Handoff, inner: Any, time: chex.Array) -> ViewState:
    return ViewState(inner, now.agent, now.mask, now.discount, now.truncated, time)


class OneLearner(GymnaxEnvironment):  # type: ignore[misc,type-arg]
    """Pure and compiled like any gymnax environment; ``step`` and ``reset`` are gymnax's own."""

    def __init__(self, env: Environment, params: Any) -> None:
        super().__init__()
        self.env, self._params = env, params

    @property
    def default_params(self) -> Any:
        """The parameters of the environment."""
        return self._params

    def reset_env(self, key: chex.PRNGKey, params: Any) -> tuple[chex.Array, ViewState]:
        """Starts an episode."""
        now, inner = self.env.reset(key, params)
        return now.interface, _state(now, inner, jnp.int32(0))

    def step_env(
        self, key: chex.PRNGKey, state: ViewState, action: chex.Array, params: Any
    ) -> tuple[chex.Array, ViewState, chex.Array, chex.Array, dict[str, chex.Array]]:
        """Runs an option of the agent whose turn it is to its end."""
        now, inner = self.env.step_env(key, state.inner, jnp.asarray(action, jnp.int32), params)
        info = {"agent": now.agent, "action_mask": now.mask, "duration": now.duration, "discount": now.discount}
        return now.interface, _state(now, inner, state.time + 1), now.reward, now.terminated, info

    def is_truncated(self, state: ViewState, params: Any) -> chex.Array:
        """Whether the environment cut the episode here."""
        return state.truncated

    def discount(self, state: ViewState, params: Any) -> chex.Array:
        """``gamma^tau`` of the segment that led here, 0 if it was terminal."""
        return state.discount

    @property
    def name(self) -> str:
        """The environment's."""
        return self.env.spec.name

    @property
    def num_actions(self) -> int:
        """Number of options."""
        return self.env.spec.num_options

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """Options."""
        return option_space(self.env.spec, spaces)

    def observation_space(self, params: Any = None) -> spaces.Space:
        """Interfaces."""
        return interface_space(self.env.spec, spaces)
