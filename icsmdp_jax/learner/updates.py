"""From the summed gradients of a batch to new parameters, slot by slot (D9).

A batch leaves each slot with the sum of ``error * grad Q(z, o)`` over the rows that are its own, and with their number
for each option. A slot without rows keeps its parameters and its optimiser state bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from icsmdp_jax.core.dtypes import default_dtypes
from icsmdp_jax.learner.message import OptState, Params
from icsmdp_jax.learner.schedules import StepSize

Optimiser = Callable[[Any], optax.GradientTransformation]  # such as optax.adam: from a learning rate or schedule


def error(own: chex.Array, row: tuple[chex.Array, chex.Array, chex.Array]) -> chex.Array:
    """``[]`` temporal difference of a row ``(target, option, valid)`` from its own values ``[O]``; 0 without a segment.

    The value is read, not summed over options: the compiler may hand a sum together with the target to a library, or
    not, as the number of replicas suggests, and the two round ``reward + discount * scalar`` differently.
    """
    target, option, valid = row
    return jnp.where(valid, target - own[option], 0.0)


def weights(own: chex.Array, row: tuple[chex.Array, chex.Array, chex.Array]) -> chex.Array:
    """``[O]`` the error at the option that was taken, 0 at the others."""
    _, option, valid = row
    return jax.nn.one_hot(option, own.shape[0], dtype=jnp.float32) * valid.astype(jnp.float32) * error(own, row)


class SlotRule(NamedTuple):
    """How one slot turns what a batch left with it into an update.

    Attributes:
      init: ``params -> state``, for one slot.
      update: ``(params, state, ascent, hits) -> (params, state)`` for one slot: ``ascent`` is the sum of
        ``error * grad Q`` over its rows, ``hits`` ``[O]`` float32 how many rows there were of each option.
    """

    init: Callable[[Params], OptState]
    update: Callable[[Params, OptState, Params, chex.Array], tuple[Params, OptState]]


def from_optimiser(optimiser: Optimiser, size: StepSize) -> SlotRule:
    """Any optax optimiser on the mean over the slot's rows of half the squared temporal difference.

    Args:
      optimiser: makes the transformation from a schedule, e.g. ``optax.adam``.
      size: learning rate; its clock counts the slot's own updates.
    """
    transformation = optimiser(size.at)

    def init(params: Params) -> OptState:
        with default_dtypes():
            return transformation.init(params)

    def update(params: Params, state: OptState, ascent: Params, hits: chex.Array) -> tuple[Params, OptState]:
        count = jnp.maximum(jnp.sum(hits), 1.0)
        gradient = jax.tree.map(lambda leaf: -leaf / count, ascent)
        with default_dtypes():
            updates, state = transformation.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

    return SlotRule(init, update)


def stochastic_approximation(size: StepSize) -> SlotRule:
    """Steps ``1 - (1 - alpha)^n`` toward the mean target of each option's ``n`` rows, for tables (D9).

    That is what ``n`` steps of size ``alpha`` toward one target would do, so the step never overshoots however many
    environments meet at one entry. With one row for each entry it is the plain step ``alpha``.

    Args:
      size: the schedule of ``alpha``; its clock counts the entry's own rows so far.
    """

    def update(params: Params, state: OptState, ascent: Params, hits: chex.Array) -> tuple[Params, OptState]:
        alpha = jnp.minimum(size.at(state), 1.0)
        # expm1 and log1p, because alpha may be far below the rounding of 1 - alpha
        weight = jnp.where(alpha < 1.0, -jnp.expm1(hits * jnp.log1p(-jnp.minimum(alpha, 0.9999999))), 1.0)
        moved = jnp.where(hits == 1.0, alpha, weight) * ascent / jnp.maximum(hits, 1.0)
        return params + moved, state + hits.astype(jnp.int32)

    return SlotRule(lambda params: jnp.zeros(params.shape[:1], jnp.int32), update)


def update_slots(rule: SlotRule, params: Params, state: OptState, ascent: Params, hits: chex.Array) -> Any:
    """Applies a rule to every slot that has rows.

    Args:
      rule: the rule of one slot.
      params: parameters stacked over slots.
      state: the slots' states.
      ascent: like ``params``.
      hits: ``[slots, O]`` float32.

    Returns:
      ``(params, state)``; slots without rows as they were.
    """
    new = jax.vmap(rule.update)(params, state, ascent, hits)
    touched = jnp.sum(hits, axis=1) > 0

    def pick(fresh: chex.Array, old: chex.Array) -> chex.Array:
        return jnp.where(touched.reshape(touched.shape + (1,) * (fresh.ndim - 1)), fresh, old)

    return jax.tree.map(pick, new, (params, state))


class Start(NamedTuple):
    """State of ``stay_within``: the parameters at the start."""

    params: Params


def stay_within(radius: Any, per_option: bool = False) -> optax.GradientTransformation:
    """Projects the parameters onto a ball around their start; last in an ``optax.chain`` (T3, and lazy training).

    Args:
      radius: radius of the ball, in the units of the parameters; may be traced.
      per_option: whether each option (first axis of every leaf) has its own ball, instead of one for all the
        parameters of an agent.
    """

    def init(params: Params) -> Start:
        return Start(jax.tree.map(jnp.array, params))

    def update(updates: Params, state: Start, params: Params | None = None) -> tuple[Params, Start]:
        if params is None:
            raise ValueError("stay_within needs the parameters: call update(updates, state, params)")
        away = jax.tree.map(lambda p, u, s: p + u - s, params, updates, state.params)

        def squares(leaf: chex.Array) -> chex.Array:
            return jnp.sum(leaf**2, axis=tuple(range(1, leaf.ndim))) if per_option else jnp.sum(leaf**2)

        norm = jnp.sqrt(sum(squares(leaf) for leaf in jax.tree.leaves(away)))
        shrink = jnp.where(norm > radius, radius / jnp.maximum(norm, 1e-30), 1.0)

        def back(far: chex.Array, step: chex.Array, p: chex.Array, s: chex.Array) -> chex.Array:
            factor = shrink.reshape(shrink.shape + (1,) * (far.ndim - shrink.ndim))
            return jnp.where(factor < 1.0, s + factor * far - p, step)  # inside the ball no bit of the step changes

        return jax.tree.map(back, away, updates, params, state.params), state

    return optax.GradientTransformation(init, update)
