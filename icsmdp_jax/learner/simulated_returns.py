"""What a policy is worth in any environment, by simulation: means over independent copies with their standard errors.

Discounts accumulate as ``gamma^tau`` from handoff to handoff (D2); on a tabular model the mean is that of
``returns.Returns`` up to its standard error and what the horizon cuts off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff

PolicyFn = Callable[[Any, chex.PRNGKey, Handoff], chex.Array]  # (policy_params, key, handoff) -> [] int32 option


class SimulatedReturn(NamedTuple):
    """A return estimated by simulation.

    Attributes:
      mean: mean discounted return over independent copies.
      standard_error: of that mean.
      remaining: mean discount that was left when the simulation stopped; what was cut off is at most that times the
        largest absolute value of any state.
    """

    mean: float
    standard_error: float
    remaining: float


def simulated_return(
    env: Environment,
    env_params: Any,
    policy_fn: PolicyFn,
    key: chex.PRNGKey,
    copies: int,
    horizon: int,
    policy_params: Any = None,
) -> SimulatedReturn:
    """The return of a policy from ``env.reset``, by simulation of independent copies.

    Args:
      env: any environment; its ``step_env`` is called, and a copy stops where its episode ends or is truncated.
      env_params: its parameters.
      policy_fn: ``(policy_params, key, handoff) -> []`` int32; compiled once for each function object.
      key: source of randomness.
      copies: number of independent copies, 2 or more for a standard error.
      horizon: handoffs of each copy.
      policy_params: traced arrays of the policy, for instance a table of values.

    Returns:
      The estimate.

    Raises:
      ValueError: if there is no copy or no handoff to simulate.
    """
    if copies < 1 or horizon < 1:
        raise ValueError(f"copies = {copies}, horizon = {horizon}: expected 1 or more of each")
    returns, left = discounted_returns(env, env_params, policy_fn, key, copies, horizon, policy_params)
    sample = np.asarray(returns, np.float64)
    error = float(sample.std(ddof=1) / np.sqrt(copies)) if copies > 1 else float("nan")
    return SimulatedReturn(float(sample.mean()), error, float(np.asarray(left, np.float64).mean()))


@partial(jax.jit, static_argnames=("env", "policy_fn", "copies", "horizon"))
def discounted_returns(
    env: Environment,
    env_params: Any,
    policy_fn: PolicyFn,
    key: chex.PRNGKey,
    copies: int,
    horizon: int,
    policy_params: Any = None,
) -> tuple[chex.Array, chex.Array]:
    """``(returns [copies], remaining discount [copies])`` float32 as ``simulated_return`` needs them; vmappable."""

    def copy(copy_key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        key_reset, key_run = jax.random.split(copy_key)
        handoff, state = env.reset(key_reset, env_params)

        def step(carry: tuple[Any, ...], step_key: chex.PRNGKey) -> tuple[tuple[Any, ...], None]:
            handoff, state, alive, weight, total = carry
            key_act, key_env = jax.random.split(step_key)
            option = policy_fn(policy_params, key_act, handoff)
            after, entered = env.step_env(key_env, state, option, env_params)
            total = total + jnp.where(alive, weight * after.reward, 0.0)
            weight = jnp.where(alive, weight * after.discount, weight)
            ended = after.terminated | after.truncated
            handoff, state = jax.tree.map(
                lambda new, old: jnp.where(alive, new, old), (after, entered), (handoff, state)
            )
            return (handoff, state, alive & ~ended, weight, total), None

        begin = (handoff, state, jnp.ones((), bool), jnp.float32(1), jnp.float32(0))
        (_, _, _, weight, total), _ = jax.lax.scan(step, begin, jax.random.split(key_run, horizon))
        return total, weight

    return jax.vmap(copy)(jax.random.split(key, copies))


def random_option(policy_params: Any, key: chex.PRNGKey, handoff: Handoff) -> chex.Array:
    """Policy for ``simulated_return``: each available option equally often, in any environment."""
    return jax.random.categorical(key, jnp.where(handoff.mask, jnp.float32(0), -jnp.inf)).astype(jnp.int32)
