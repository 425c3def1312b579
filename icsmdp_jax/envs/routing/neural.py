"""IC-Q with a small network in every node instead of a table; a ``Policy`` like the others.

Each node has parameters of its own, stacked over nodes. Its network reads the destination, one-hot, and the node's own
queue as ``log(1 + backlog)``; one hidden layer of rectified units feeds one output for each slot and one that all slots
share, so that a move for one neighbour takes the others along, as ``share`` does in the tables. Hidden units start with
thresholds, so that few of them are active for one destination and destinations hardly disturb each other. What passes
between two nodes is the same single number as in ``icq-queue``: the wait promised plus the least output of the
receiver, or 0 if that is negative.

A node learns online from every packet that it sends, one step each, along the gradient of its own output and divided by
the gradient's squared length: the output moves by the share ``step`` of its error, to first order, whatever the size of
the weights. All of this is ours.

What is learned for one destination still disturbs the others a little, and time adds up without a discount. Where a
full network makes all times long, this is enough to keep it full for a long time: started at load 2, the rule has not
recovered after 14 000 time units. ``gentle_start`` lets the load rise first.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.sampling import split_word
from icsmdp_jax.envs.routing.conditions import Change
from icsmdp_jax.envs.routing.network import NetworkParams, NetworkSize, NetworkState, backlog, usable
from icsmdp_jax.envs.routing.policies import Policy, Rates, least, offer

WIDTH = 192  # hidden units of one node
ACTIVE = 8  # of them for one destination, at the start
SMALL = 1e-6  # added to the squared length
FIRST_LOAD, SECOND_LOAD = 0.1, 0.3  # packets per time unit, of a gentle start
QUEUE_SCALE = 0.1  # standard deviation of the weights of the queue at the start; that of the others is 1
SHARED = 0.65  # weight of the shared output: 0.65^2 / (1 + 0.65^2) = 0.3 of a move is common to all slots


class Nets(NamedTuple):
    """Parameters of all nodes, float32, ``H`` hidden units.

    Attributes:
      destination: ``[N, N, H]`` weights of the one-hot destination, hidden biases included.
      queue: ``[N, H]`` weights of the own queue.
      out: ``[N, D + 1, H]`` output weights; the last row is the shared output.
    """

    destination: chex.Array
    queue: chex.Array
    out: chex.Array


class Forward(NamedTuple):
    """One evaluation: ``hidden`` ``[H]`` float32 units and ``times`` ``[D]`` float32 estimates in time units."""

    hidden: chex.Array
    times: chex.Array


def init(key: chex.PRNGKey, size: NetworkSize) -> Nets:
    """Random hidden layers, outputs 0: like a table, a network starts from the best that could be."""
    key_destination, key_queue = jax.random.split(key)
    drawn = jax.random.normal(key_destination, (size.nodes, size.nodes, WIDTH), jnp.float32)
    threshold = jnp.sort(drawn, axis=-1)[..., WIDTH - ACTIVE - 1]
    return Nets(
        destination=drawn - threshold[..., None],
        queue=QUEUE_SCALE * jax.random.normal(key_queue, (size.nodes, WIDTH), jnp.float32),
        out=jnp.zeros((size.nodes, size.degree + 1, WIDTH), jnp.float32),
    )


def evaluate(nets: Nets, node: chex.Array, destination: chex.Array, queue: chex.Array) -> Forward:
    """One node's estimates for one destination.

    Args:
      nets: all nodes' parameters; only those of ``node`` are read.
      node: ``[]`` int32.
      destination: ``[]`` int32.
      queue: ``[]`` float32, its own backlog in time units.
    """
    hidden = jax.nn.relu(nets.destination[node, destination] + nets.queue[node] * jnp.log1p(queue))
    outputs = jnp.sum(nets.out[node] * hidden, axis=1)
    return Forward(hidden, outputs[:-1] + SHARED * outputs[-1])


def learn(
    nets: Nets,
    node: chex.Array,
    destination: chex.Array,
    queue: chex.Array,
    slot: chex.Array,
    now: Forward,
    target: chex.Array,
    step: chex.Array,
) -> Nets:
    """One normalised gradient step of one node towards ``target``; a step of 0 changes nothing.

    Args:
      nets: all nodes' parameters; only those of ``node`` change.
      node: ``[]`` int32.
      destination: ``[]`` int32.
      queue: ``[]`` float32 time units.
      slot: ``[]`` int32, the output that is corrected.
      now: what ``evaluate`` returned.
      target: ``[]`` float32 time units.
      step: ``[]`` float32, share of the error that is made good.
    """
    slots = nets.out.shape[1] - 1
    weight = (jnp.arange(slots + 1, dtype=jnp.int32) == slot).astype(jnp.float32).at[slots].set(SHARED)
    level = jnp.log1p(queue)
    back = jnp.sum(weight[:, None] * nets.out[node], axis=0) * (now.hidden > 0).astype(jnp.float32)
    length = jnp.sum(weight**2) * jnp.sum(now.hidden**2) + jnp.sum(back**2) * (1 + level**2) + SMALL
    move = step * (target - now.times[slot]) / length
    return Nets(
        destination=nets.destination.at[node, destination].add(move * back),
        queue=nets.queue.at[node].add(move * back * level),
        out=nets.out.at[node].add(move * weight[:, None] * now.hidden),
    )


def _route(
    nets: Nets, params: NetworkParams, state: NetworkState, rates: Rates, word: chex.Array
) -> tuple[chex.Array, Nets]:
    node, destination = state.packet.node, state.packet.destination
    own = backlog(state, node)
    now = evaluate(nets, node, destination, own)
    mask = usable(params, state, node)
    draw, rest = split_word(word, 2**15)
    explore = draw.astype(jnp.float32) < jnp.float32(rates.fade) * 2**15
    slot = least(jnp.where(explore, 0.0, now.times), mask, rest)
    receiver = jnp.asarray(params.neighbour)[node, slot]
    wait = backlog(state, receiver)
    there = evaluate(nets, receiver, destination, wait).times
    offered = offer(jnp.maximum(there, 0), usable(params, state, receiver), wait, receiver == destination)
    step = jnp.where(state.packet.active, jnp.float32(rates.step), 0.0)
    return slot, learn(nets, node, destination, own, slot, now, 1.0 + offered, step)


ICQ_NEURAL = Policy("icq-neural", Rates(step=0.4, power=0.0, share=0.0, fade=0.005), init, _route)
"""``step`` as above; ``fade`` is the share of packets sent to a random neighbour; the other rates are unused."""


def gentle_start(load: float, time: float) -> tuple[float, tuple[Change, ...]]:
    """A load that rises in steps to ``load`` at ``time``: what ``measure.delivery_times`` takes as load and changes."""
    first = min(FIRST_LOAD, load)
    steps = ((0.2, min(SECOND_LOAD, load)), (0.4, load / 2), (1, load))
    return first, tuple(Change(part * time, load=value) for part, value in steps)
