"""Recordings of the traffic that a single packet meets: the packet network under a fixed table of next hops.

The network is run by the event-driven simulator, and the wait that every server promises is recorded at regular
intervals. An environment that follows one packet reads such a recording instead of simulating a thousand other packets
at every handoff. What is read is the packet network itself, correlations in time and between nodes included; only that
the one packet delays no other is an idealisation (ours), as is the rounding of waits to the interval.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.envs.routing.conditions import network_params
from icsmdp_jax.envs.routing.graph import Graph, critical_load, distances, through_traffic
from icsmdp_jax.envs.routing.network import TICKS, WORDS, NetworkParams, NetworkSize
from icsmdp_jax.envs.routing.policies import SHORTEST_PATH
from icsmdp_jax.envs.routing.simulate import CHUNK, Lane, begin, step_lane

WARM_UP = 500  # time units from the empty network to the beginning of a recording
LONGEST_WAIT = 63  # time units: the most that a byte holds at four intervals per time unit
CLIPPED = 1e-3  # share of entries that may be longer


class Recording(NamedTuple):
    """Waits read off at regular times, in several independent runs.

    Attributes:
      wait: ``[lanes, rows, N]`` uint8, in intervals, what a packet sent to the node at that time would wait there.
      per_unit: intervals in one time unit.
    """

    wait: np.ndarray
    per_unit: int


@partial(jax.jit, static_argnums=3)
def _chunk(
    params: NetworkParams, lanes: Lane, words: chex.Array, size: NetworkSize
) -> tuple[Lane, chex.Array, chex.Array]:
    """Some steps of all lanes; ``words`` is ``[steps, B, WORDS]`` uint32."""
    edges = jnp.zeros((0,), jnp.int32)

    def one(lane: Lane, word: chex.Array) -> tuple[Lane, tuple[chex.Array, chex.Array]]:
        after, event = step_lane(SHORTEST_PATH, params, SHORTEST_PATH.rates, size, edges, lane, word)
        return after, (event.clock, after.state.last_service)

    lanes, (clock, promised) = jax.lax.scan(jax.vmap(one), lanes, words)
    return lanes, clock, promised


def trace(params: NetworkParams, keys: chex.PRNGKey, end: int, size: NetworkSize) -> tuple[np.ndarray, np.ndarray]:
    """Runs the table ``params.next_slot`` and keeps what every server has promised.

    Args:
      params: the run.
      keys: ``[B]`` random keys.
      end: tick up to which all copies run, at least.
      size: static sizes.

    Returns:
      ``(clock [K, B], promised [K, B, N])`` int32: from tick ``clock[k]`` on, until the next one, the latest service
      times are ``promised[k]``.
    """
    split = jax.vmap(jax.random.split)(keys)
    lanes = jax.vmap(lambda key: begin(SHORTEST_PATH, params, key, size, 0))(split[:, 0])
    clocks: list[np.ndarray] = []
    promises: list[np.ndarray] = []
    while not clocks or clocks[-1][-1].min() < end:
        chunk_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(split[:, 1], len(clocks))
        words = jnp.swapaxes(jax.vmap(lambda key: random_words(key, CHUNK, WORDS))(chunk_keys), 0, 1)
        lanes, clock, promised = _chunk(params, lanes, words, size)
        clocks.append(np.asarray(clock))
        promises.append(np.asarray(promised))
    return np.concatenate(clocks), np.concatenate(promises)


def sample(clock: np.ndarray, promised: np.ndarray, times: np.ndarray) -> np.ndarray:
    """``[T, N]`` int64 ticks of wait at the given ticks, from one run's ``clock [K]`` and ``promised [K, N]``."""
    row = np.searchsorted(clock, times, side="right") - 1
    return np.maximum(promised[row].astype(np.int64) - times[:, None], 0)


def record_background(
    graph: Graph,
    load: float,
    slots: np.ndarray,
    key: chex.PRNGKey,
    lanes: int = 32,
    units: int = 512,
    per_unit: int = 1,
) -> Recording:
    """Records a stationary network.

    Waits are rounded to whole intervals at random, so that their means are right.

    Args:
      graph: the graph.
      load: packets per time unit.
      slots: ``[N, N]`` table of next hops.
      key: source of randomness.
      lanes: independent runs.
      units: length of each, in time units.
      per_unit: intervals in one time unit.

    Returns:
      The recording.

    Raises:
      ValueError: if the table cannot carry the load, or waits are longer than a recording can hold.
    """
    most = critical_load(graph, slots)
    if not load < most:
        raise ValueError(f"load = {load:g}: expected less than {most:.4g}, where this table of next hops saturates")
    end = WARM_UP + units
    size = NetworkSize(graph.num_nodes, graph.max_degree)
    params = network_params(graph, load)._replace(next_slot=np.asarray(slots, np.int32)[None])
    key_run, key_round = jax.random.split(key)
    keys = jax.random.split(key_run, lanes)
    clock, promised = trace(jax.tree.map(jnp.asarray, params), keys, end * TICKS, size)
    interval = TICKS // per_unit
    times = WARM_UP * TICKS + interval * np.arange(units * per_unit)
    ticks = np.stack([sample(clock[:, lane], promised[:, lane], times) for lane in range(lanes)])
    dither = np.asarray(jax.random.randint(key_round, ticks.shape, 0, interval, jnp.int32))
    wait = (ticks + dither) // interval
    longest = LONGEST_WAIT * per_unit
    longer = (wait > longest).mean()
    if longer > CLIPPED:
        raise ValueError(
            f"load = {load:g}: {longer:.2%} of the waits are longer than {LONGEST_WAIT} time units, "
            "expected a load further from saturation"
        )
    return Recording(np.minimum(wait, longest).astype(np.uint8), per_unit)


def check_table(graph: Graph, table: np.ndarray) -> np.ndarray:
    """``[N, N]`` int32 slots from a table of next hops by node and destination; its diagonal is not read.

    Raises:
      ValueError: if an entry is not a neighbour of its node, or the table leads some packet in a loop.
    """
    hops = np.asarray(table)
    count = graph.num_nodes
    if hops.shape != (count, count):
        raise ValueError(f"next_hop: expected shape {[count, count]}, found {list(hops.shape)}")
    match = graph.mask[:, None, :] & (graph.neighbour[:, None, :] == hops[:, :, None])
    bad = np.argwhere(~match.any(axis=2) & ~np.eye(count, dtype=bool))
    if len(bad):
        node, destination = bad[0]
        raise ValueError(
            f"next_hop[{node}, {destination}] = {hops[node, destination]}: expected a neighbour of node {node}"
        )
    slots = np.where(np.eye(count, dtype=bool), 0, match.argmax(axis=2)).astype(np.int32)
    through_traffic(graph, slots)
    return slots


def shortest_delay(graph: Graph) -> float:
    """Mean number of links between two different nodes: the mean delivery time where there is no traffic."""
    count = graph.num_nodes
    return float(distances(graph).sum() / (count * (count - 1)))
