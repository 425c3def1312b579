"""Runs of the packet network: one step, a recorded run of one copy, many copies side by side.

A copy of the network with what its nodes have learned and what was counted is a *lane*. Lanes keep their own clocks;
``run_lanes`` stops when the last of them has passed the end, and counts nothing beyond it.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.envs.routing.network import (
    TICKS,
    WORDS,
    NetworkParams,
    NetworkSize,
    NetworkState,
    Packet,
    Sent,
    advance,
    empty_network,
    send,
)
from icsmdp_jax.envs.routing.policies import Memory, Policy, Rates

COUNTS = ("delivered", "delay", "hops", "arrived", "refused", "lost")
CHUNK = 1024  # steps between two looks at the clocks


class Lane(NamedTuple):
    """One copy.

    Attributes:
      state: the network.
      memory: what the nodes have learned, in the policy's own form.
      counts: ``[W + 1, 6]`` float32, sums of ``COUNTS`` in each window of time, the last one after the end. Sums of
        delays are in time units. An arrival counts where the event before it lies.
    """

    state: NetworkState
    memory: Memory
    counts: chex.Array


class Event(NamedTuple):
    """What happened in one step.

    Attributes:
      clock: ``[]`` int32 tick at which ``packet`` was sent.
      packet: the pending packet; none at changes of conditions and refused arrivals.
      slot: ``[]`` int32, where it went.
      sent: what happened to it.
    """

    clock: chex.Array
    packet: Packet
    slot: chex.Array
    sent: Sent


def begin(policy: Policy, params: NetworkParams, key: chex.PRNGKey, size: NetworkSize, windows: int) -> Lane:
    """An empty network whose nodes know nothing."""
    key_word, key_memory = jax.random.split(key)
    state = empty_network(size, params, jax.random.bits(key_word, (), jnp.uint32))
    return Lane(state, policy.init(key_memory, size), jnp.zeros((windows + 1, len(COUNTS)), jnp.float32))


def step_lane(
    policy: Policy,
    params: NetworkParams,
    rates: Rates,
    size: NetworkSize,
    edges: chex.Array,
    lane: Lane,
    words: chex.Array,
) -> tuple[Lane, Event]:
    """Sends the pending packet and advances to the next event.

    Args:
      policy: the routing rule.
      params: the run.
      rates: its learning rates.
      size: static sizes.
      edges: ``[W]`` int32 ticks at which the windows end.
      lane: the copy.
      words: ``[3]`` uint32.

    Returns:
      The copy at the next event, and what happened.
    """
    before = lane.state
    slot, memory = policy.route(lane.memory, params, before, rates, words[0])
    after, sent = send(before, slot, params)
    after = advance(after, words[1:], params, size.max_live)
    delivered = sent.delivered.astype(jnp.float32)
    counted = jnp.stack(
        [
            delivered,
            delivered * sent.delay,
            delivered * sent.hops.astype(jnp.float32),
            (after.arrived - before.arrived).astype(jnp.float32),
            (after.refused - before.refused).astype(jnp.float32),
            (after.lost - before.lost).astype(jnp.float32),
        ]
    )
    window = jnp.sum(before.clock >= edges, dtype=jnp.int32)
    here = jnp.arange(lane.counts.shape[0], dtype=jnp.int32) == window
    counts = lane.counts + jnp.where(here[:, None], counted[None, :], 0)
    return Lane(after, memory, counts), Event(before.clock, before.packet, slot, sent)


def record_lane(
    policy: Policy, params: NetworkParams, rates: Rates, key: chex.PRNGKey, steps: int, size: NetworkSize
) -> tuple[Lane, Event, chex.Array]:
    """Runs one copy and keeps everything.

    Returns:
      The copy after ``steps`` steps, with all counts in window 0; its events, leading axis ``steps``; and ``[steps]``
      uint32, the words that broke ties.
    """
    key_lane, key_words = jax.random.split(key)
    lane = begin(policy, params, key_lane, size, 0)
    words = random_words(key_words, steps, WORDS)
    step = partial(step_lane, policy, params, rates, size, jnp.zeros((0,), jnp.int32))
    lane, events = jax.lax.scan(step, lane, words)
    return lane, events, words[:, 0]


@partial(jax.jit, static_argnums=(0, 5))
def run_lanes(
    policy: Policy,
    params: NetworkParams,
    rates: Rates,
    keys: chex.PRNGKey,
    edges: chex.Array,
    size: NetworkSize,
) -> Lane:
    """Runs copies side by side up to the last edge.

    Args:
      policy: the routing rule.
      params: one run for all, or stacked runs (``conditions.stack_params``), one for each copy.
      rates: learning rates for all, or with a leading axis, one set for each copy.
      keys: ``[B]`` random keys.
      edges: ``[W]`` int32 ticks, ascending, at which the windows of time end.
      size: static sizes.

    Returns:
      ``Lane`` with leading axis ``B``. Copies run on past the end until the last has reached it; what happens there
      is in the last row of ``counts``.
    """
    own_params = 0 if jnp.ndim(params.load) == 2 else None
    own_rates = Rates(*(0 if jnp.ndim(rate) else None for rate in rates))
    split = jax.vmap(jax.random.split)(keys)
    lanes = jax.vmap(lambda p, k: begin(policy, p, k, size, edges.shape[0]), in_axes=(own_params, 0))(
        params, split[:, 0]
    )

    def step(p: NetworkParams, r: Rates, lane: Lane, words: chex.Array) -> Lane:
        return step_lane(policy, p, r, size, edges, lane, words)[0]

    steps = jax.vmap(step, in_axes=(own_params, own_rates, 0, 0))

    def chunk(carry: tuple[Lane, chex.Array]) -> tuple[Lane, chex.Array]:
        lane, index = carry
        chunk_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(split[:, 1], index)
        words = jax.vmap(lambda key: random_words(key, CHUNK, WORDS))(chunk_keys)
        lane, _ = jax.lax.scan(
            lambda now, w: (steps(params, rates, now, w), None), lane, jnp.swapaxes(words, 0, 1), unroll=1
        )
        return lane, index + 1

    def going(carry: tuple[Lane, chex.Array]) -> chex.Array:
        return jnp.any(carry[0].state.clock < edges[-1])

    return jax.lax.while_loop(going, chunk, (lanes, jnp.int32(0)))[0]


def ticks(time: float) -> int:
    """Time units as whole ticks."""
    return round(time * TICKS)
