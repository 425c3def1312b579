"""Delivery times: many replicas of the network, counted in windows of time.

A network *keeps up* if what comes in goes out again. Where it does not, queues grow until arrivals are refused, and the
mean delay of the packets that happen to be delivered says more about the limit on packets than about the routing rule;
``Delivery.saturated`` says where that is so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.envs.routing.conditions import Change, network_params
from icsmdp_jax.envs.routing.graph import Graph
from icsmdp_jax.envs.routing.network import LONGEST_RUN, NetworkSize
from icsmdp_jax.envs.routing.policies import Policy, Rates
from icsmdp_jax.envs.routing.simulate import COUNTS, run_lanes, ticks

MISSING = 0.005  # share of the packets offered that may stay in the network before it is called saturated


class Delivery(NamedTuple):
    """What was counted, float64; leading axes as the function says.

    Attributes:
      delay: mean time from birth to arrival of the packets delivered, time units; NaN if there were none.
      hops: mean number of links that they took.
      delivered: packets delivered.
      offered: packets that came, refused ones included.
      refused: packets that were not let in.
      lost: packets that met a full queue.
    """

    delay: np.ndarray
    hops: np.ndarray
    delivered: np.ndarray
    offered: np.ndarray
    refused: np.ndarray
    lost: np.ndarray

    @property
    def carried(self) -> np.ndarray:
        """Packets delivered for each packet offered; in a short window it may be above 1."""
        return self.delivered / np.maximum(self.offered, 1)

    @property
    def saturated(self) -> np.ndarray:
        """Whether more than ``MISSING`` of the packets offered stayed in the network or were rejected."""
        return self.offered - self.delivered > MISSING * self.offered


def delivery_times(
    policy: Policy,
    graph: Graph,
    loads: Sequence[float],
    replicas: int,
    key: chex.PRNGKey,
    rates: Rates | None = None,
    warm_up: float = 10_000,
    window: float = 10_000,
    changes: Sequence[Change] = (),
    size: NetworkSize | None = None,
) -> Delivery:
    """Delivery times in one window of time, for several loads.

    Args:
      policy: the routing rule.
      graph: the graph.
      loads: packets per time unit at the start of the run.
      replicas: independent runs for each load.
      key: source of randomness; each load has its own.
      rates: learning rates; the policy's own if None.
      warm_up: time units before the window.
      window: its length in time units.
      changes: of load and topology during the run.
      size: static sizes; at most 1000 packets by default.

    Returns:
      Arrays ``[loads, replicas]``.

    Raises:
      ValueError: for bad loads, changes or times.
    """
    runs = [
        over_time(policy, graph, load, [warm_up, warm_up + window], replicas, one, rates, changes, size)
        for load, one in zip(loads, jax.random.split(key, len(loads)), strict=True)
    ]
    return Delivery(*(np.stack([column[:, 1] for column in columns]) for columns in zip(*runs, strict=True)))


def over_time(
    policy: Policy,
    graph: Graph,
    load: float,
    edges: Sequence[float],
    replicas: int,
    key: chex.PRNGKey,
    rates: Rates | None = None,
    changes: Sequence[Change] = (),
    size: NetworkSize | None = None,
) -> Delivery:
    """The same in consecutive windows of one run, from time 0: how a rule learns, and how it copes with changes.

    Args:
      policy: the routing rule.
      graph: the graph.
      load: packets per time unit at the start.
      edges: ``[W]`` time units at which the windows end, ascending.
      replicas: independent runs.
      key: source of randomness.
      rates: learning rates; the policy's own if None.
      changes: of load and topology during the run.
      size: static sizes; at most 1000 packets by default.

    Returns:
      Arrays ``[replicas, W]``.

    Raises:
      ValueError: for bad loads, changes, edges or numbers of replicas.
    """
    if replicas < 1:
        raise ValueError(f"replicas = {replicas}: expected 1 or more")
    times = np.array([ticks(edge) if 0 < edge <= LONGEST_RUN else 0 for edge in edges], np.int32)
    bad = np.flatnonzero(np.diff(times, prepend=0) <= 0)
    if bad.size or not times.size:
        shown = f"edges[{bad[0]}] = {edges[bad[0]]:g}" if bad.size else "edges: none"
        raise ValueError(f"{shown}: expected ascending times above 0, up to {LONGEST_RUN} time units")
    size = NetworkSize(graph.num_nodes, graph.max_degree) if size is None else size
    params = jax.tree.map(jnp.asarray, network_params(graph, load, changes))
    own = policy.rates if rates is None else rates
    traced = Rates(*(jnp.float32(rate) for rate in own))
    lanes = run_lanes(policy, params, traced, jax.random.split(key, replicas), jnp.asarray(times), size)
    return delivery(np.asarray(lanes.counts)[:, :-1])


def delivery(counts: np.ndarray) -> Delivery:
    """Counts ``[..., 6]`` in the order of ``simulate.COUNTS`` as means and sums ``[...]``."""
    column = dict(zip(COUNTS, np.moveaxis(np.asarray(counts, np.float64), -1, 0), strict=True))
    some = np.where(column["delivered"] > 0, column["delivered"], np.nan)
    return Delivery(
        delay=column["delay"] / some,
        hops=column["hops"] / some,
        delivered=column["delivered"],
        offered=column["arrived"] + column["refused"],
        refused=column["refused"],
        lost=column["lost"],
    )
