"""The packet network of Boyan and Littman (1993) as a compiled event-driven simulation.

Packets arrive in a Poisson stream, each between two different nodes, all pairs equally likely. Every node has one
queue, first in first out, and one server. A new packet leaves its source at once; a packet sent at time ``t`` to a node
that is not its destination is served there at ``max(last + 1, t + 1)``, where ``last`` is the latest service time that
the node has promised: transit takes one time unit, during which the server may be at work. When it is served, a routing
rule chooses the neighbour to which it goes. A packet that reaches its destination is gone.

Times are whole ticks, so that events have an order that rounding cannot change. At the same tick changes of the
conditions come first, then services by number of the node, then arrivals.

One step of the simulation sends the pending packet and then advances to the next event, which may make another packet
pending: the ring buffers are written before they are read, so the compiler keeps one copy of them.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import chex
import jax.numpy as jnp

from icsmdp_jax.core.sampling import split_word

TICKS = 4096  # per time unit
NEVER = 2**31 - 1  # ticks: no such event
LONGEST_RUN = 400_000  # time units; int32 ticks would last a little longer
LONGEST_GAP = 2**28  # ticks between two arrivals at most: 65536 time units
WORDS = 3  # random words of one step: ties, the gap after an arrival, its two ends


@dataclasses.dataclass(frozen=True)
class NetworkSize:
    """Static sizes.

    Attributes:
      nodes: ``N``.
      degree: ``D``, slots per node.
      max_live: packets under way at most; arrivals beyond are refused.
      capacity: packets in one queue at most, ``max_live`` if None; what is sent to a full queue is lost.

    Raises:
      ValueError: for sizes below 1.
    """

    nodes: int
    degree: int
    max_live: int = 1000
    capacity: int | None = None

    def __post_init__(self) -> None:
        if self.capacity is None:
            object.__setattr__(self, "capacity", self.max_live)
        for name in ("nodes", "degree", "max_live", "capacity"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected 1 or more")

    @property
    def places(self) -> int:
        """Places of one ring buffer: one more than the capacity, so that there is always one that holds nothing."""
        assert self.capacity is not None
        return self.capacity + 1


class NetworkParams(NamedTuple):
    """Traced numbers of a run; ``conditions.network_params`` makes them. ``P`` phases follow each other.

    Attributes:
      neighbour: ``[N, D]`` int32.
      start: ``[P]`` int32 ticks at which the phases begin, the first at 0.
      load: ``[P]`` float32 packets per time unit.
      mask: ``[P, N, D]`` bool, usable slots.
      next_slot: ``[P, N, N]`` int32, for node and destination a slot on a shortest path.
    """

    neighbour: chex.Array
    start: chex.Array
    load: chex.Array
    mask: chex.Array
    next_slot: chex.Array


class Packet(NamedTuple):
    """A packet about to be sent; all ``[]``.

    Attributes:
      active: bool, whether there is one.
      node: int32, where it is.
      source: int32, where it came into the network.
      destination: int32.
      birth: int32 tick at which it came into the network.
      sent: int32 tick at which it was sent to ``node``; its birth at the source.
      hops: int32, times it has been sent.
    """

    active: chex.Array
    node: chex.Array
    source: chex.Array
    destination: chex.Array
    birth: chex.Array
    sent: chex.Array
    hops: chex.Array


class Sent(NamedTuple):
    """What happened to the pending packet; all ``[]``.

    Attributes:
      delivered: bool, it was sent to its destination.
      lost: bool, it was sent to a full queue.
      delay: float32 time units from birth to arrival, if it was delivered.
      hops: int32, times it has been sent by now.
    """

    delivered: chex.Array
    lost: chex.Array
    delay: chex.Array
    hops: chex.Array


class NetworkState(NamedTuple):
    """State of one copy.

    Attributes:
      clock: ``[]`` int32 tick.
      phase: ``[]`` int32.
      next_arrival: ``[]`` int32 tick.
      last_service: ``[N]`` int32, the latest service time promised.
      head_service: ``[N]`` int32, when the next packet is served; ``NEVER`` if no packet waits.
      head: ``[N]`` int32, its place in the ring buffer.
      length: ``[N]`` int32, packets in the queue.
      ring: ``[N, places, 4]`` int32: birth, sent, hops, and ``source * N + destination``.
      packet: the pending packet.
      arrived: ``[]`` int32, packets let in.
      delivered: ``[]`` int32.
      live: ``[]`` int32, packets under way, the pending one included.
      refused: ``[]`` int32, arrivals that were not let in.
      lost: ``[]`` int32.
    """

    clock: chex.Array
    phase: chex.Array
    next_arrival: chex.Array
    last_service: chex.Array
    head_service: chex.Array
    head: chex.Array
    length: chex.Array
    ring: chex.Array
    packet: Packet
    arrived: chex.Array
    delivered: chex.Array
    live: chex.Array
    refused: chex.Array
    lost: chex.Array


def empty_network(size: NetworkSize, params: NetworkParams, word: chex.Array) -> NetworkState:
    """No packets; ``word`` ``[]`` uint32 decides when the first one arrives."""
    zero = jnp.int32(0)
    none = Packet(jnp.zeros((), bool), zero, zero, zero, zero, zero, zero)
    return NetworkState(
        clock=zero,
        phase=zero,
        next_arrival=gap(word, jnp.asarray(params.load)[0]),
        last_service=jnp.full((size.nodes,), -TICKS, jnp.int32),
        head_service=jnp.full((size.nodes,), NEVER, jnp.int32),
        head=jnp.zeros((size.nodes,), jnp.int32),
        length=jnp.zeros((size.nodes,), jnp.int32),
        ring=jnp.zeros((size.nodes, size.places, 4), jnp.int32),
        packet=none,
        arrived=zero,
        delivered=zero,
        live=zero,
        refused=zero,
        lost=zero,
    )


def gap(word: chex.Array, load: chex.Array) -> chex.Array:
    """``[]`` int32 ticks between two arrivals: exponential of mean ``1 / load`` time units, rounded."""
    uniform = ((word >> 8).astype(jnp.float32) + 0.5) * jnp.float32(2.0**-24)
    ticks = -jnp.log(uniform) * (jnp.float32(TICKS) / load)
    return jnp.minimum(jnp.round(ticks), jnp.float32(LONGEST_GAP)).astype(jnp.int32)


def backlog(state: NetworkState, node: chex.Array) -> chex.Array:
    """``[]`` float32 time units that a packet sent to ``node`` now would wait there, transit not included."""
    return jnp.maximum(state.last_service[node] - state.clock, 0).astype(jnp.float32) * jnp.float32(1 / TICKS)


def usable(params: NetworkParams, state: NetworkState, node: chex.Array) -> chex.Array:
    """``[D]`` bool, the slots that ``node`` may use in this phase."""
    return jnp.asarray(params.mask)[state.phase, node]


def send(state: NetworkState, slot: chex.Array, params: NetworkParams) -> tuple[NetworkState, Sent]:
    """Sends the pending packet, if there is one, to the neighbour in ``slot``."""
    packet, nodes = state.packet, state.length.shape[0]
    places = state.ring.shape[1]
    receiver = jnp.asarray(params.neighbour)[packet.node, slot]
    length = state.length[receiver]
    delivered = packet.active & (receiver == packet.destination)
    lost = packet.active & ~delivered & (length >= places - 1)
    queued = packet.active & ~delivered & ~lost
    service = jnp.maximum(state.last_service[receiver], state.clock) + TICKS
    place = state.head[receiver] + length
    place = jnp.where(place >= places, place - places, place)
    # Where nothing is queued, what is written lies in a place that holds nothing.
    row = jnp.stack([packet.birth, state.clock, packet.hops + 1, packet.source * nodes + packet.destination])
    here = (jnp.arange(nodes, dtype=jnp.int32) == receiver) & queued
    first = here & (length == 0)
    gone = (delivered | lost).astype(jnp.int32)
    after = state._replace(
        last_service=jnp.where(here, service, state.last_service),
        head_service=jnp.where(first, service, state.head_service),
        length=state.length + here.astype(jnp.int32),
        ring=state.ring.at[receiver, place].set(row),
        delivered=state.delivered + delivered.astype(jnp.int32),
        live=state.live - gone,
        lost=state.lost + lost.astype(jnp.int32),
    )
    ticks = state.clock + TICKS - packet.birth
    delay = ticks.astype(jnp.float32) * jnp.float32(1 / TICKS)
    return after, Sent(delivered, lost, delay, packet.hops + 1)


def advance(state: NetworkState, words: chex.Array, params: NetworkParams, max_live: int) -> NetworkState:
    """Advances to the next event: a change of conditions, a service or an arrival.

    Args:
      state: after ``send``.
      words: ``[2]`` uint32: the gap to the arrival after this one, and its two ends.
      params: the run.
      max_live: packets under way at most.

    Returns:
      The state at the event, with the packet that the event makes pending, if any.
    """
    nodes, places, _ = state.ring.shape
    everyone = jnp.arange(nodes, dtype=jnp.int32)
    service = jnp.min(state.head_service)
    server = jnp.min(jnp.where(state.head_service == service, everyone, nodes - 1))
    phase = state.phase
    is_change = jnp.zeros((), bool)
    if params.start.shape[0] > 1:
        following = jnp.minimum(phase + 1, params.start.shape[0] - 1)
        change = jnp.where(following > phase, jnp.asarray(params.start)[following], NEVER)
        is_change = change <= jnp.minimum(service, state.next_arrival)
        phase = jnp.where(is_change, following, phase)
    is_service = ~is_change & (service <= state.next_arrival)
    is_arrival = ~is_change & ~is_service
    clock = jnp.minimum(service, state.next_arrival)
    if params.start.shape[0] > 1:
        clock = jnp.where(is_change, change, clock)

    place = state.head[server]
    birth, sent, hops, ends = state.ring[server, place]
    served = (everyone == server) & is_service
    length = state.length - served.astype(jnp.int32)
    # A packet that waited behind this one was sent before now, so it is served exactly one time unit later.
    upcoming = jnp.where(length > 0, clock + TICKS, NEVER)
    following_place = jnp.where(place + 1 == places, 0, place + 1)

    source, rest = split_word(words[1], nodes)
    other = split_word(rest, nodes - 1)[0]
    destination = other + (other >= source).astype(jnp.int32)
    admitted = is_arrival & (state.live < max_live)
    # By the memoryless law of the gaps, the gap that a change of load cuts short may be drawn again.
    renewed = clock + gap(words[0], jnp.asarray(params.load)[phase])
    packet = Packet(
        active=is_service | admitted,
        node=jnp.where(is_service, server, source),
        source=jnp.where(is_service, ends // nodes, source),
        destination=jnp.where(is_service, ends % nodes, destination),
        birth=jnp.where(is_service, birth, clock),
        sent=jnp.where(is_service, sent, clock),
        hops=jnp.where(is_service, hops, 0),
    )
    return state._replace(
        clock=clock,
        phase=phase,
        next_arrival=jnp.where(is_service, state.next_arrival, renewed),
        head_service=jnp.where(served, upcoming, state.head_service),
        head=jnp.where(served, following_place, state.head),
        length=length,
        packet=packet,
        arrived=state.arrived + admitted.astype(jnp.int32),
        live=state.live + admitted.astype(jnp.int32),
        refused=state.refused + (is_arrival & ~admitted).astype(jnp.int32),
    )
