"""Handoffs of packets in the full network: who sends to whom under IC-Q with its queue in view, packet by packet."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.envs.routing.conditions import network_params
from icsmdp_jax.envs.routing.graph import Graph
from icsmdp_jax.envs.routing.network import TICKS, WORDS, NetworkSize, backlog, usable
from icsmdp_jax.envs.routing.policies import ICQ_QUEUE, Rates, offer
from icsmdp_jax.envs.routing.simulate import Lane, run_lanes, step_lane, ticks
from icsmdp_jax.traces.patterns import CUT, END, NOBODY, Handoffs


class Watched(NamedTuple):
    """Events of one network, ``[steps]`` each; see ``network.Packet`` for those of the packet that was sent.

    Attributes:
      active: whether a packet was sent.
      clock: tick at which it was.
      node, source, destination, birth, hops: of the packet.
      slot: where it went.
      delivered: whether that was its destination.
      lost: whether it met a full queue.
      offered: time units that the receiver said delivery still takes.
    """

    active: Any
    clock: Any
    node: Any
    source: Any
    destination: Any
    birth: Any
    hops: Any
    slot: Any
    delivered: Any
    lost: Any
    offered: Any


def watched(graph: Graph, load: float, warm_up: float, steps: int, key: jax.Array) -> Watched:
    """``steps`` events of one network in which IC-Q has routed for ``warm_up`` time units, host arrays."""
    size = NetworkSize(graph.num_nodes, graph.max_degree)
    params = jax.tree.map(jnp.asarray, network_params(graph, load))
    rates = Rates(*(jnp.float32(rate) for rate in ICQ_QUEUE.rates))
    first, then = jax.random.split(key)
    end = jnp.asarray([ticks(warm_up)], jnp.int32)
    begun = jax.tree.map(lambda leaf: leaf[0], run_lanes(ICQ_QUEUE, params, rates, first[None], end, size))

    def step(lane: Lane, words: jax.Array) -> tuple[Lane, Watched]:
        known = lane.memory.time
        after, event = step_lane(ICQ_QUEUE, params, rates, size, end, lane, words)
        packet = event.packet
        receiver = jnp.asarray(params.neighbour)[packet.node, event.slot]
        offered = offer(
            known[receiver, packet.destination], usable(params, lane.state, receiver), backlog(lane.state, receiver),
            receiver == packet.destination,
        )  # fmt: skip
        return after, Watched(
            packet.active, event.clock, packet.node, packet.source, packet.destination, packet.birth, packet.hops,
            event.slot, event.sent.delivered, event.sent.lost, offered,
        )  # fmt: skip

    return jax.device_get(jax.jit(lambda lane, words: jax.lax.scan(step, lane, words)[1])(
        begun, random_words(then, steps, WORDS)
    ))  # fmt: skip


def packets(graph: Graph, seen: Watched) -> Handoffs:
    """The packets that came into the network in the first half of what was watched, each a run.

    An agent is a node, what it sees the destination, an option one of its links, and a value the time to delivery with
    a minus sign. A run is solved if its packet was delivered; one that is still under way at the end is cut. A node
    always takes the link of its least estimate, so its values favour whom it hands to.
    """
    clock = seen.clock.astype(np.int64)
    early = seen.birth <= (clock[0] + clock[-1]) // 2
    keep = np.flatnonzero(seen.active & early & (seen.birth >= clock[0]))
    name = np.stack([seen.birth, seen.source, seen.destination], axis=1)[keep]
    run = np.unique(name, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((seen.hops[keep], run))
    rows, run = keep[order], run[order]
    last = np.append(run[1:] != run[:-1], True)
    delivered, node = seen.delivered[rows], seen.node[rows]
    receiver = graph.neighbour[node, seen.slot[rows]]
    left = np.append(clock[rows][1:], 0)  # when the packet is sent on
    duration = np.where(last, TICKS, left - clock[rows]) / TICKS
    follower = np.where(delivered, END, np.where(last, CUT, receiver))
    solved = np.bincount(run, delivered) > 0
    return Handoffs(
        tuple(f"node {label}" for label in graph.labels), run, node, seen.destination[rows], seen.slot[rows], follower,
        duration, -duration, np.where(delivered, np.nan, -seen.offered[rows]),
        np.where(delivered, NOBODY, receiver), 1 / graph.mask.sum(axis=1)[node], solved,
    )  # fmt: skip
