"""Two banks of a river: whoever has the boat sends it now (option 0) or waits for a full one (option 1)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import icsmdp_jax as ic


@dataclasses.dataclass(frozen=True)
class Ferry(ic.Environment):
    """Agents are the banks; a full boat carries ``seats`` people and is ready after 1 to ``patience`` steps."""

    patience: int = 4

    @property
    def spec(self) -> ic.EnvSpec:
        return ic.EnvSpec("ferry", 2, 2, 2, (), jnp.int32, self.patience, False)

    def reset(self, key: jax.Array, params: Any) -> Any:
        return ic.arrive(jnp.int32(0), jnp.int32(0), jnp.ones(2, bool), ic.no_segment()), jnp.int32(0)

    def step_env(self, key: jax.Array, state: Any, option: Any, params: Any) -> Any:
        full = option == 1
        tau = jnp.where(full, jax.random.randint(key, (), 1, self.patience + 1, jnp.int32), 1)
        discount = params["gamma"] ** tau
        carried = jnp.where(full, params["seats"], 1.0)
        no, other = jnp.zeros((), bool), 1 - state
        return ic.arrive(other, other, jnp.ones(2, bool), ic.Ended(discount * carried, tau, discount, no, no)), other


def ferry(seats: float = 5.0, gamma: float = 0.9) -> tuple[Ferry, dict[str, jax.Array]]:
    """The environment and its parameters, for ``ic.make("ferry", seats=3)``."""
    return Ferry(), {"seats": jnp.float32(seats), "gamma": jnp.float32(gamma)}
