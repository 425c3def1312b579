"""A gymnax environment as an IC-SMDP with one agent, whose options repeat an action for a random time (D1)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import expect, shown, within
from icsmdp_jax.core.arrival import Ended, arrive, no_segment
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.core.optional import needed


class RepeatParams(NamedTuple):
    """Parameters of ``Repeat``; all may be traced.

    Attributes:
      inner: the gymnax environment's.
      gamma: ``[]`` float32, discount of one primitive step.
      longer: ``[O, D - 1]`` float32, probability that an action lasts longer than 1, ..., D - 1 steps.
    """

    inner: Any
    gamma: chex.Array
    longer: chex.Array


@dataclasses.dataclass(frozen=True)
class Repeat(Environment[Any, RepeatParams]):
    """One agent; an option repeats one action of the gymnax environment, until its time is up or the episode is over.

    Attributes:
      inner: the gymnax environment.
      facts: static facts.
    """

    inner: Any
    facts: EnvSpec

    @property
    def spec(self) -> EnvSpec:
        """One agent, whose options are actions."""
        return self.facts

    def reset(self, key: chex.PRNGKey, params: RepeatParams) -> tuple[Handoff, Any]:
        """Starts an episode."""
        seen, state = self.inner.reset_env(key, params.inner)
        return self._arrive(seen, no_segment()), _arrays(state)

    def step_env(self, key: chex.PRNGKey, state: Any, option: chex.Array, params: RepeatParams) -> tuple[Handoff, Any]:
        """Repeats one action; ``reward`` is the discounted sum of the rewards on the way."""
        if self.spec.longest_duration == 1:  # as fast as gymnax: no loop, and its random numbers
            seen, state, reward, terminated = self._primitive(key, state, option, params)
            tau, discount = jnp.int32(1), params.gamma
        else:
            key_time, key = jax.random.split(key)
            drawn = jax.random.uniform(key_time, dtype=jnp.float32)
            planned = 1 + jnp.sum(drawn < params.longer[option], dtype=jnp.int32)
            first = (*self._primitive(jax.random.fold_in(key, 0), state, option, params), jnp.int32(1), params.gamma)

            def goes_on(carry: Any) -> chex.Array:
                _, state, _, terminated, tau, _ = carry
                return (tau < planned) & ~terminated & ~self._cut(state, params)

            def again(carry: Any) -> Any:
                _, state, total, _, tau, discount = carry
                key_now = jax.random.fold_in(key, tau)
                seen, state, reward, terminated = self._primitive(key_now, state, option, params)
                return seen, state, total + discount * reward, terminated, tau + 1, discount * params.gamma

            seen, state, reward, terminated, tau, discount = jax.lax.while_loop(goes_on, again, first)
        cut = self._cut(state, params) & ~terminated
        return self._arrive(seen, Ended(reward, tau, jnp.where(terminated, 0.0, discount), terminated, cut)), state

    def _primitive(self, key: chex.PRNGKey, state: Any, action: chex.Array, params: RepeatParams) -> Any:
        seen, state, reward, terminated, _ = self.inner.step_env(key, state, action, params.inner)
        return seen, _arrays(state), jnp.asarray(reward, jnp.float32), jnp.asarray(terminated, bool)

    def _cut(self, state: Any, params: RepeatParams) -> chex.Array:
        return jnp.asarray(self.inner.is_truncated(state, params.inner), bool)

    def _arrive(self, seen: Any, ended: Ended) -> Handoff:
        spec = self.spec
        interface = jnp.asarray(seen, spec.interface_dtype).reshape(spec.interface_shape)
        return arrive(jnp.int32(0), interface, jnp.ones((spec.num_options,), bool), ended)


def _arrays(state: Any) -> Any:
    """The state with arrays instead of Python numbers, none of them weakly typed: reset and step agree."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.result_type(leaf)), state)


def from_gymnax(
    env: Any, params: Any = None, *, gamma: float = 0.99, duration: Sequence[Any] = (1.0,)
) -> tuple[Repeat, RepeatParams]:
    """A gymnax environment with discrete actions as an IC-SMDP of one agent.

    An option repeats one action for ``tau`` primitive steps, with rewards discounted on the way (D1); it ends early
    with the episode. gymnax's time limits are truncations and keep their discount. Observations become float32
    vectors, or stay numbers where their space is discrete.

    Args:
      env: a gymnax environment, or the name of one.
      params: its parameters; its own defaults if None.
      gamma: discount of one primitive step, in [0, 1).
      duration: probabilities of 1, 2, ... steps: ``[D]`` for all actions, or ``[O, D]``; always one step unless given.

    Returns:
      ``(env, params)`` for ``setup``, ``train`` and everything else.

    Raises:
      ModuleNotFoundError: if gymnax is not installed.
      ValueError: in one line, for other spaces, and for durations that are not a distribution.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> env, params = ic.from_gymnax("CartPole-v1", gamma=0.99, duration=[0.5, 0.25, 0.25])
      >>> env.spec.num_options, env.spec.interface_shape, env.spec.longest_duration
      (2, (4,), 3)
      >>> ic.setup(env, params)
      Setup(IC-Q in CartPole-v1: mlp, 64 copies, 8 handoffs each between updates)
    """
    needed("gymnax", "gymnax", "adapters")
    import gymnax
    from gymnax.environments import spaces
    from gymnax.environments.environment import Environment as GymnaxEnvironment

    expect("a number in [0, 1)", gamma=gamma)
    if isinstance(env, str):
        if env not in gymnax.registered_envs:
            raise ValueError(f"env = {env!r}: expected one of {', '.join(gymnax.registered_envs)}")
        env = gymnax.make(env)[0]
    if not isinstance(env, GymnaxEnvironment):
        raise ValueError(f"env = {shown(env)}: expected a gymnax environment or the name of one")
    params = env.default_params if params is None else params
    actions, seen = env.action_space(params), env.observation_space(params)
    if not isinstance(actions, spaces.Discrete):
        raise ValueError(f"env = {env.name}: actions in {actions}, expected a Discrete space")
    if isinstance(seen, spaces.Discrete):
        sizes: tuple[int, tuple[int, ...], Any] = (int(seen.n), (), jnp.int32)
    elif isinstance(seen, spaces.Box):
        sizes = (0, (math.prod(seen.shape),), jnp.float32)
    else:
        raise ValueError(f"env = {env.name}: observations in {type(seen).__name__}, expected a Box or Discrete space")
    law = np.asarray(duration, np.float64)
    law = np.broadcast_to(law, (int(actions.n), law.shape[-1])) if law.ndim == 1 else law
    if law.ndim != 2 or law.shape[0] != int(actions.n) or not law.size:
        raise ValueError(f"duration: shape {list(law.shape)}, expected [D] or [{int(actions.n)}, D]")
    within(0, 1, duration=law)
    wrong = np.flatnonzero(np.abs(law.sum(axis=1) - 1) > 1e-6)
    if wrong.size:
        raise ValueError(f"duration[{wrong[0]}]: sums to {law[wrong[0]].sum():g}, expected 1")
    longer = (1 - np.cumsum(law, axis=1))[:, :-1].clip(0, 1).astype(np.float32)
    spec = EnvSpec(env.name, 1, int(actions.n), *sizes, law.shape[1], False)
    return Repeat(env, spec), RepeatParams(params, jnp.float32(gamma), jnp.asarray(longer))
