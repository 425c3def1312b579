"""The privacy boundary of IC-Q as two function signatures (D9).

``offer`` is all that an agent ever tells anyone, ``absorb`` all that an agent ever learns from anyone. The
learner in ``icq.py`` gathers the arguments of these two functions, calls them, and does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.handoff import Segment

Params = Any  # parameters of one agent, a pytree
OptState = Any  # optimiser state of one agent, a pytree
Apply = Callable[[Params, chex.Array], chex.Array]  # (params_i, interface_i) -> [O] values
Offer = Callable[[Params, chex.Array, chex.Array], chex.Array]
Absorb = Callable[[Params, OptState, Segment, chex.Array], tuple[Params, OptState, chex.Array]]


class Rule(NamedTuple):
    """How one agent turns a temporal difference into an update of its own parameters.

    Attributes:
      init: ``params_i -> opt_state_i``.
      update: ``(params_i, opt_state_i, direction, error, segment) -> (params_i, opt_state_i)``, where
        ``direction`` is the gradient of ``Q_i(z, o)`` in ``params_i`` and ``error`` the temporal difference.
    """

    init: Callable[[Params], OptState]
    update: Callable[[Params, OptState, Params, chex.Array, Segment], tuple[Params, OptState]]


class Protocol(NamedTuple):
    """The two functions that cross the boundary between agents.

    Attributes:
      offer: ``(params_j, interface_j, mask_j) -> scalar``.
      absorb: ``(params_i, opt_state_i, segment_i, scalar) -> (params_i, opt_state_i, error)``.
    """

    offer: Offer
    absorb: Absorb


def best_value(values: chex.Array, mask: chex.Array) -> chex.Array:
    """Largest value among the available options.

    Args:
      values: ``[O]`` float32.
      mask: ``[O]`` bool; 0 is returned if no option is available (a terminal epoch).

    Returns:
      ``[]`` float32.
    """
    top = jnp.max(jnp.where(mask, values, -jnp.inf))
    return jnp.where(jnp.any(mask), top, jnp.zeros_like(top))


def protocol(apply: Apply, rule: Rule) -> Protocol:
    """The message protocol of IC-Q for one function class and one update rule (D9).

    Args:
      apply: values of all options at one interface, from one agent's own parameters.
      rule: the agent's own update rule.

    Returns:
      ``offer`` and ``absorb``; unbatched, pure, to be vmapped by the caller.
    """

    def offer(params_j: Params, interface_j: chex.Array, mask_j: chex.Array) -> chex.Array:
        """The single scalar that agent j returns: its best value at its own interface."""
        return best_value(apply(params_j, interface_j), mask_j)

    def absorb(
        params_i: Params, opt_state_i: OptState, segment_i: Segment, scalar: chex.Array
    ) -> tuple[Params, OptState, chex.Array]:
        """Agent i's update from its own segment and the scalar it received: y = R + gamma^tau v."""

        def own_value(params: Params) -> chex.Array:
            values = apply(params, segment_i.interface)
            # A mask, not an index: its derivative is a product, where that of an index is a scatter into zeros.
            chosen = jnp.arange(values.shape[0], dtype=jnp.int32) == segment_i.option
            return jnp.sum(jnp.where(chosen, values, 0.0))

        value, direction = jax.value_and_grad(own_value)(params_i)
        error = segment_i.reward + segment_i.discount * scalar - value
        params_i, opt_state_i = rule.update(params_i, opt_state_i, direction, error, segment_i)
        return params_i, opt_state_i, error

    return Protocol(offer, absorb)
