"""Other views of an environment: with the owner's name attached, or with everything in view.

Both wrappers exist for baselines. They change what the active agent sees and nothing else: not the dynamics, not the
options, not the segment.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff


@dataclasses.dataclass(frozen=True)
class WithOwner(Environment[Any, Any]):
    """Appends a one-hot code of the active agent to its interface vector, for parameters that are shared.

    Attributes:
      env: an environment whose interfaces are vectors.
    """

    env: Environment

    @property
    def spec(self) -> EnvSpec:
        """The environment's, with ``N`` more numbers in the interface."""
        spec = self.env.spec
        if len(spec.interface_shape) != 1:
            raise ValueError(f"interface_shape = {spec.interface_shape}: expected one axis to append the owner to")
        return spec._replace(interface_shape=(spec.interface_shape[0] + spec.num_agents,), num_interfaces=0)

    def _see(self, handoff: Handoff) -> Handoff:
        def view(interface: chex.Array, agent: chex.Array) -> chex.Array:
            return jnp.concatenate([interface, jax.nn.one_hot(agent, self.env.spec.num_agents, dtype=interface.dtype)])

        return handoff._replace(
            interface=view(handoff.interface, handoff.agent),
            final_interface=view(handoff.final_interface, handoff.final_agent),
        )

    def reset(self, key: chex.PRNGKey, params: Any) -> tuple[Handoff, Any]:
        """Starts a run."""
        handoff, state = self.env.reset(key, params)
        return self._see(handoff), state

    def step_env(self, key: chex.PRNGKey, state: Any, option: chex.Array, params: Any) -> tuple[Handoff, Any]:
        """Runs one option to its end."""
        handoff, state = self.env.step_env(key, state, option, params)
        return self._see(handoff), state


@dataclasses.dataclass(frozen=True)
class Central(Environment[Any, Any]):
    """One agent that sees the global state, for the central learner.

    Attributes:
      env: an environment with a global view.
      size: length of that view, see ``Environment.global_view_size``.
    """

    env: Environment
    size: int

    def __post_init__(self) -> None:
        if not self.env.has_global_view:
            raise ValueError(f"{self.env.spec.name}: no global_view, expected an environment that implements it")

    @property
    def spec(self) -> EnvSpec:
        """One agent, whose interface is the global view."""
        return self.env.spec._replace(
            num_agents=1, num_interfaces=0, interface_shape=(self.size,), interface_dtype=jnp.float32
        )

    def reset(self, key: chex.PRNGKey, params: Any) -> tuple[Handoff, Any]:
        """Starts a run."""
        handoff, state = self.env.reset(key, params)
        return self._see(handoff, state, params), state

    def step_env(self, key: chex.PRNGKey, state: Any, option: chex.Array, params: Any) -> tuple[Handoff, Any]:
        """Runs one option to its end."""
        handoff, state = self.env.step_env(key, state, option, params)
        return self._see(handoff, state, params), state

    def _see(self, handoff: Handoff, state: Any, params: Any) -> Handoff:
        view = self.env.global_view(state, params)
        chex.assert_shape(view, (self.size,))
        nobody = jnp.zeros_like(handoff.agent)
        return handoff._replace(agent=nobody, interface=view, final_agent=nobody, final_interface=view)
