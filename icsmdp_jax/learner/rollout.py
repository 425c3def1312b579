"""Stretches of handoffs in many environments at once, as rows that an update can use (D9).

A row is one finished segment together with the epoch that its target bootstraps from. For IC-Q that epoch is where the
segment ended. For learners without messages it is the same agent's own next turn, some handoffs later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.core.sampling import random_words


class Rows(NamedTuple):
    """Finished segments, leading axes ``[T, B]``: ``T`` consecutive handoffs of ``B`` environments.

    Attributes:
      agent: int32, whose segment it is.
      interface: what that agent saw.
      mask: ``[..., O]`` bool, what was available to it.
      option: int32, what it chose.
      reward: float32, segment reward ``R``.
      discount: float32, ``gamma^tau``, or the product of discounts up to the epoch below; 0 if nothing follows.
      duration: int32, primitive steps.
      truncated: bool, whether the episode was cut there by a limit outside the model.
      final_agent: int32, whose value the target bootstraps from.
      final_interface: what that agent sees.
      final_mask: ``[..., O]`` bool, what is available to it.
      valid: bool, whether there is a segment at all.
    """

    agent: chex.Array
    interface: chex.Array
    mask: chex.Array
    option: chex.Array
    reward: chex.Array
    discount: chex.Array
    duration: chex.Array
    truncated: chex.Array
    final_agent: chex.Array
    final_interface: chex.Array
    final_mask: chex.Array
    valid: chex.Array


class Pending(NamedTuple):
    """Segments that wait for their agent's own next turn, one for each agent of one environment: leading axis N.

    Attributes:
      interface, mask, option, reward, duration: as in ``Rows``.
      discount: product of the discounts since the segment began.
      valid: bool, whether there is such a segment.
    """

    interface: chex.Array
    mask: chex.Array
    option: chex.Array
    reward: chex.Array
    discount: chex.Array
    duration: chex.Array
    valid: chex.Array


def no_pending(handoff: Handoff, num_agents: int) -> Pending:
    """Nothing waits yet."""

    def each(leaf: chex.Array) -> chex.Array:
        return jnp.zeros((num_agents, *leaf.shape), leaf.dtype)

    return Pending(
        interface=each(handoff.interface),
        mask=each(handoff.mask),
        option=jnp.zeros((num_agents,), jnp.int32),
        reward=jnp.zeros((num_agents,), jnp.float32),
        discount=jnp.zeros((num_agents,), jnp.float32),
        duration=jnp.zeros((num_agents,), jnp.int32),
        valid=jnp.zeros((num_agents,), bool),
    )


def own_turn(pending: Pending, now: Handoff, option: chex.Array, after: Handoff, team: bool) -> tuple[Rows, Pending]:
    """The row that the active agent's turn completes, and what waits after its option.

    Args:
      pending: what waited.
      now: the decision, by which the active agent's earlier segment is over.
      option: ``[]`` int32, what it chose.
      after: what the environment returned.
      team: whether an agent also collects the discounted rewards of the others' segments until its own next turn, as
        it could if rewards were announced to everybody.

    Returns:
      The completed row (``valid`` says whether there was one) and the new ``Pending``. A truncation leaves nothing to
      bootstrap from, so that segments whose discount is not 0 are dropped. After a terminal handoff it is 0 and stays
      so: the segment is complete, whatever happens in later episodes.
    """
    mine: Pending = jax.tree.map(lambda leaf: leaf[now.agent], pending)
    row = Rows(
        agent=now.agent,
        interface=mine.interface,
        mask=mine.mask,
        option=mine.option,
        reward=mine.reward,
        discount=mine.discount,
        duration=mine.duration,
        truncated=jnp.zeros((), bool),
        final_agent=now.agent,
        final_interface=now.interface,
        final_mask=now.mask,
        valid=mine.valid,
    )
    fresh = Pending(
        interface=now.interface,
        mask=now.mask,
        option=option,
        reward=jnp.float32(0.0),
        discount=jnp.float32(1.0),
        duration=jnp.int32(0),
        valid=jnp.asarray(True),
    )
    waiting = jax.tree.map(lambda leaf, value: leaf.at[now.agent].set(value), pending, fresh)
    own = jnp.arange(waiting.option.shape[0], dtype=jnp.int32) == now.agent
    earned = waiting.discount * after.reward if team else jnp.where(own, after.reward, 0.0)
    discount = waiting.discount * after.discount
    waiting = waiting._replace(
        reward=waiting.reward + earned,
        discount=discount,
        duration=waiting.duration + jnp.where(waiting.discount > 0, after.duration, 0),
        valid=waiting.valid & ~(after.truncated & (discount > 0)),
    )
    return row, waiting


def segment(now: Handoff, option: chex.Array, after: Handoff) -> Rows:
    """The row of a segment that has just ended, bootstrapping from where it ended."""
    return Rows(
        agent=now.agent,
        interface=now.interface,
        mask=now.mask,
        option=option,
        reward=after.reward,
        discount=after.discount,
        duration=after.duration,
        truncated=after.truncated,
        final_agent=after.final_agent,
        final_interface=after.final_interface,
        final_mask=after.final_mask,
        valid=jnp.asarray(True),
    )


Act = Callable[[chex.Array, Handoff], chex.Array]  # (words [B, ...], decisions [B]) -> options [B]
Turn = Callable[[Any, Handoff, chex.Array, Handoff], tuple[Rows, Any]]


def collect(
    env: Environment,
    env_params: Any,
    act: Act,
    act_words: int,
    turn: Turn,
    key: chex.PRNGKey,
    start: tuple[Any, Handoff, Any],
    length: int,
) -> tuple[tuple[Any, Handoff, Any], Rows]:
    """``length`` handoffs in every environment.

    Args:
      env: the environment.
      env_params: its parameters, shared by all copies.
      act: chooses the options of all copies from random words and their decisions.
      act_words: words that ``act`` consumes for each decision.
      turn: ``(carry, decision, option, outcome) -> (row, carry)`` of one copy.
      key: source of randomness.
      start: ``(environment states, decisions, carry of turn)``, leading axis B.
      length: ``T``.

    Returns:
      What ``start`` has become, and the rows ``[T, B]``.
    """
    copies, split = start[1].agent.shape[0], env.words_per_step
    words = random_words(key, length * copies, split + act_words).reshape(length, copies, split + act_words)

    def body(carry: tuple[Any, Handoff, Any], drawn: chex.Array) -> tuple[tuple[Any, Handoff, Any], Rows]:
        env_state, now, waiting = carry
        option = act(drawn[:, split:], now)
        after, env_state = jax.vmap(env.step_from_words, in_axes=(0, 0, 0, None))(
            drawn[:, :split], env_state, option, env_params
        )
        row, waiting = jax.vmap(turn)(waiting, now, option, after)
        return (env_state, after, waiting), row

    return jax.lax.scan(body, start, words)
