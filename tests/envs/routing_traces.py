"""What the routing tests share: small graphs, recorded traces of compiled runs, the same trace in plain Python."""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import jax
import numpy as np

from icsmdp_jax.envs.routing.conditions import Change, network_params
from icsmdp_jax.envs.routing.graph import Graph, graph_from_links, irregular_grid
from icsmdp_jax.envs.routing.network import TICKS, NetworkParams, NetworkSize
from icsmdp_jax.envs.routing.policies import Policy, Rates
from icsmdp_jax.envs.routing.simulate import Event, Lane, record_lane
from tests.reference import routing as twin

OUTCOMES = ("queued", "delivered", "lost")


@cache
def grid() -> Graph:
    return irregular_grid()


@cache
def ring() -> Graph:
    """Six nodes on a ring, with one chord: short, and with detours."""
    return graph_from_links([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5), (1, 4)])


class Trace(NamedTuple):
    """A recorded run: the copy after it, its events on the host, the words that broke ties."""

    lane: Lane
    events: Event
    words: np.ndarray

    @property
    def active(self) -> np.ndarray:
        """Which events brought a packet."""
        return np.asarray(self.events.packet.active)


@partial(jax.jit, static_argnums=(0, 4, 5))
def _record(policy: Policy, params: NetworkParams, rates: Rates, key: jax.Array, steps: int, size: NetworkSize):  # type: ignore[no-untyped-def]
    return record_lane(policy, params, rates, key, steps, size)


def record(
    policy: Policy,
    graph: Graph,
    load: float,
    steps: int = 3000,
    seed: int = 0,
    rates: Rates | None = None,
    size: NetworkSize | None = None,
    changes: tuple[Change, ...] = (),
) -> Trace:
    """Runs one copy and keeps everything."""
    size = NetworkSize(graph.num_nodes, graph.max_degree, 300) if size is None else size
    params = network_params(graph, load, changes)
    own = policy.rates if rates is None else rates
    return Trace(*jax.device_get(_record(policy, params, own, jax.random.key(seed), steps, size)))


def neighbours(graph: Graph) -> list[list[int]]:
    return [[int(y) for y in row[used]] for row, used in zip(graph.neighbour, graph.mask, strict=True)]


def tie_words(trace: Trace):  # type: ignore[no-untyped-def]
    """The compiled run's way to break ties: the high part of word times count, one word for each decision."""
    words = iter(int(word) for word in trace.words[trace.active])
    return lambda count: (next(words) * count) >> 32


def decisions(trace: Trace) -> list[twin.Decision]:
    """The compiled run's decisions, in the twin's form."""
    events, packet = trace.events, trace.events.packet
    outcome = np.where(events.sent.delivered, 1, np.where(events.sent.lost, 2, 0))
    columns = (
        events.clock,
        packet.node,
        packet.source,
        packet.destination,
        packet.birth,
        packet.sent,
        packet.hops,
        events.slot,
        outcome,
    )
    rows = zip(*(np.asarray(column)[trace.active].tolist() for column in columns), strict=True)
    return [twin.Decision(*row[:-1], OUTCOMES[row[-1]]) for row in rows]


def arrivals_of(trace: Trace) -> list[twin.Arrival]:
    """The arrivals that were let in; refused ones are not recorded."""
    packet = trace.events.packet
    new = trace.active & (np.asarray(packet.hops) == 0)
    return [
        (int(time), int(source), int(destination))
        for time, source, destination in zip(
            packet.birth[new], packet.source[new], packet.destination[new], strict=True
        )
    ]


def replay(trace: Trace, router: twin.Router, graph: Graph, size: NetworkSize | None = None, masks=()) -> twin.Run:  # type: ignore[no-untyped-def]
    """The twin on the same arrivals, for as many decisions as the trace has."""
    capacity = None if size is None else size.capacity
    most = int(trace.active.sum())
    return twin.simulate(router, arrivals_of(trace), float("inf"), TICKS, 10**9, capacity, masks, most)
