"""Routing rules: how a node chooses the neighbour for a packet, and what it learns from the answer.

``shortest-path`` and ``random`` do not learn. ``q-routing`` and ``full-echo`` are Boyan and Littman's: node ``x`` keeps
an estimate ``Q_x(d, y)`` of the time to destination ``d`` by way of neighbour ``y``, charges itself for the transit
and the wait that the packet has just had, and receives one number, ``min_z Q_y(d, z)``. Q-routing asks the neighbour
that gets the packet; full echo asks all neighbours, at every decision, and updates before it chooses.

``icq`` is IC-Q on the same network, undiscounted (D9): the receiver *offers* one number and the sender *absorbs* it.
Three things are ours and not Boyan and Littman's. The step falls with the number of uses of an estimate, down to a
floor. The other estimates for the same destination share in the move, since what delays a packet further on delays it
on every way. Estimates that are not in use fade, more slowly the more is known, so that every way is eventually tried
again. ``icq-queue`` sees its own queue, the private state: the receiver adds the wait that it has promised to
the number that it offers, and no node is charged for its own wait any more.

A rule is a ``Policy``: two pure functions, ``init`` and ``route``, and the numbers that they need as ``rates``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.sampling import split_word
from icsmdp_jax.envs.routing.network import TICKS, NetworkParams, NetworkSize, NetworkState, backlog, usable

Memory = Any


class Rates(NamedTuple):
    """Learning rates; they may be traced.

    Attributes:
      step: share of an error that is corrected; for IC-Q the floor to which the step falls.
      power: the step of IC-Q is ``(1 + uses)^-power`` until it has come down to the floor.
      share: share of a move in which the other estimates for the destination take part.
      fade: share by which unused estimates fade at a decision when nothing is known yet.
    """

    step: Any = 0.5
    power: Any = 0.5
    share: Any = 0.3
    fade: Any = 0.02


class Policy(NamedTuple):
    """A routing rule.

    Attributes:
      name: readable name.
      rates: what it uses unless told otherwise.
      init: ``(key, size) -> memory`` of all nodes.
      route: ``(memory, params, state, rates, word) -> (slot, memory)`` for the pending packet; without one the memory
        stays as it is. ``word`` ``[]`` uint32 breaks ties.
    """

    name: str
    rates: Rates
    init: Callable[[chex.PRNGKey, NetworkSize], Memory]
    route: Callable[[Memory, NetworkParams, NetworkState, Rates, chex.Array], tuple[chex.Array, Memory]]


class Estimates(NamedTuple):
    """What IC-Q's nodes remember.

    Attributes:
      time: ``[N, N, D]`` float32, by node, destination and slot: time units from leaving the node to delivery (with
        ``icq``: the wait before leaving included).
      uses: ``[N, N, D]`` int32, how often the slot was taken.
    """

    time: chex.Array
    uses: chex.Array


def least(row: chex.Array, mask: chex.Array, word: chex.Array) -> chex.Array:
    """``[]`` int32, the usable slot of the least estimate; ``word`` chooses among equals, all equally likely."""
    ties = mask & (row == jnp.min(jnp.where(mask, row, jnp.inf)))
    count: Any = jnp.sum(ties, dtype=jnp.uint32)
    chosen = split_word(word, count)[0]
    slot, seen = jnp.int32(0), jnp.int32(0)
    for k in range(row.shape[0]):
        slot = jnp.where(ties[k] & (seen == chosen), k, slot)
        seen = seen + ties[k].astype(jnp.int32)
    return slot


def offer(row: chex.Array, mask: chex.Array, wait: chex.Array, arrived: Any) -> chex.Array:
    """``[]`` float32, the one number that a node ever tells another: the time that delivery still takes from here.

    Args:
      row: ``[D]`` the node's own estimates for the destination.
      mask: ``[D]`` its usable slots.
      wait: ``[]`` time units that the packet will wait in the node's queue, where that is in view; else 0.
      arrived: ``[]`` bool, whether the node is the destination: then there is nothing to wait for.
    """
    return jnp.where(arrived, jnp.float32(0), wait + jnp.min(jnp.where(mask, row, jnp.inf)))


def absorb(
    row: chex.Array, uses: chex.Array, slot: chex.Array, cost: chex.Array, offered: chex.Array, rates: Rates
) -> tuple[chex.Array, chex.Array]:
    """IC-Q's update of one node's estimates for one destination, from its own cost and the offered number (D9).

    Args:
      row: ``[D]`` float32 estimates.
      uses: ``[D]`` int32.
      slot: ``[]`` int32, where the packet went.
      cost: ``[]`` float32 time units that the segment took.
      offered: ``[]`` float32.
      rates: learning rates.

    Returns:
      The new estimates and numbers of uses.
    """
    chosen = jnp.arange(row.shape[0], dtype=jnp.int32) == slot
    before = jnp.float32(1) + jnp.sum(jnp.where(chosen, uses, 0)).astype(jnp.float32)
    step = jnp.maximum(jnp.float32(rates.step), before ** -jnp.float32(rates.power))
    move = step * (cost + offered - row[slot])
    fading = jnp.float32(rates.fade) / (1 + jnp.float32(rates.fade) * jnp.sum(uses).astype(jnp.float32))
    others = jnp.maximum(row - fading * row + jnp.float32(rates.share) * move, 0)
    return jnp.where(chosen, row + move, others), uses + chosen.astype(jnp.int32)


def elapsed(state: NetworkState) -> chex.Array:
    """``[]`` float32 time units since the pending packet was sent to where it is: transit and wait."""
    return (state.clock - state.packet.sent).astype(jnp.float32) * jnp.float32(1 / TICKS)


def _receiver(params: NetworkParams, state: NetworkState, slot: chex.Array) -> chex.Array:
    return jnp.asarray(params.neighbour)[state.packet.node, slot]


def _no_memory(key: chex.PRNGKey, size: NetworkSize) -> Memory:
    return ()


def _zero_table(key: chex.PRNGKey, size: NetworkSize) -> Memory:
    return jnp.zeros((size.nodes, size.nodes, size.degree), jnp.float32)


def _zero_estimates(key: chex.PRNGKey, size: NetworkSize) -> Memory:
    shape = (size.nodes, size.nodes, size.degree)
    return Estimates(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32))


def _shortest_path(
    memory: Memory, params: NetworkParams, state: NetworkState, rates: Rates, word: chex.Array
) -> tuple[chex.Array, Memory]:
    return jnp.asarray(params.next_slot)[state.phase, state.packet.node, state.packet.destination], memory


def _random(
    memory: Memory, params: NetworkParams, state: NetworkState, rates: Rates, word: chex.Array
) -> tuple[chex.Array, Memory]:
    mask = usable(params, state, state.packet.node)
    return least(jnp.zeros(mask.shape, jnp.float32), mask, word), memory


def _q_routing(
    memory: Memory, params: NetworkParams, state: NetworkState, rates: Rates, word: chex.Array
) -> tuple[chex.Array, Memory]:
    node, destination = state.packet.node, state.packet.destination
    row = memory[node, destination]
    slot = least(row, usable(params, state, node), word)
    receiver = _receiver(params, state, slot)
    arrived = receiver == destination
    answer = offer(memory[receiver, destination], usable(params, state, receiver), jnp.float32(0), arrived)
    error = elapsed(state) + answer - row[slot]
    chosen = (jnp.arange(row.shape[0], dtype=jnp.int32) == slot) & state.packet.active
    return slot, memory.at[node, destination].set(jnp.where(chosen, row + rates.step * error, row))


def _full_echo(
    memory: Memory, params: NetworkParams, state: NetworkState, rates: Rates, word: chex.Array
) -> tuple[chex.Array, Memory]:
    node, destination = state.packet.node, state.packet.destination
    row, mask = memory[node, destination], usable(params, state, node)
    receivers = jnp.asarray(params.neighbour)[node]
    masks = jax.vmap(lambda receiver: usable(params, state, receiver))(receivers)
    arrived = receivers == destination
    answers = jax.vmap(offer, in_axes=(0, 0, None, 0))(memory[receivers, destination], masks, jnp.float32(0), arrived)
    moved = jnp.where(mask, row + rates.step * (elapsed(state) + answers - row), row)
    return least(moved, mask, word), memory.at[node, destination].set(jnp.where(state.packet.active, moved, row))


def _icq(in_view: bool) -> Callable[..., tuple[chex.Array, Memory]]:
    """IC-Q with or without its own queue in view."""

    def route(
        memory: Estimates, params: NetworkParams, state: NetworkState, rates: Rates, word: chex.Array
    ) -> tuple[chex.Array, Memory]:
        node, destination = state.packet.node, state.packet.destination
        row, uses = memory.time[node, destination], memory.uses[node, destination]
        slot = least(row, usable(params, state, node), word)
        receiver = _receiver(params, state, slot)
        wait = backlog(state, receiver) if in_view else jnp.float32(0)
        cost = jnp.float32(1) if in_view else elapsed(state)
        mask = usable(params, state, receiver)
        offered = offer(memory.time[receiver, destination], mask, wait, receiver == destination)
        moved, used = absorb(row, uses, slot, cost, offered, rates)
        active = state.packet.active
        return slot, Estimates(
            memory.time.at[node, destination].set(jnp.where(active, moved, row)),
            memory.uses.at[node, destination].set(jnp.where(active, used, uses)),
        )

    return route


SHORTEST_PATH = Policy("shortest-path", Rates(0.0), _no_memory, _shortest_path)
RANDOM = Policy("random", Rates(0.0), _no_memory, _random)
Q_ROUTING = Policy("q-routing", Rates(0.5), _zero_table, _q_routing)
FULL_ECHO = Policy("full-echo", Rates(0.5), _zero_table, _full_echo)
ICQ = Policy("icq", Rates(0.5), _zero_estimates, _icq(in_view=False))
ICQ_QUEUE = Policy("icq-queue", Rates(0.1), _zero_estimates, _icq(in_view=True))

POLICIES: dict[str, Policy] = {
    policy.name: policy for policy in (SHORTEST_PATH, RANDOM, Q_ROUTING, FULL_ECHO, ICQ, ICQ_QUEUE)
}
