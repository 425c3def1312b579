"""Load and topology of a run: phases, each with its own load, usable links and table of shortest paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.envs.routing.graph import Graph, mask_without, next_slots
from icsmdp_jax.envs.routing.network import LONGEST_RUN, TICKS, NetworkParams


class Change(NamedTuple):
    """What changes during a run.

    Attributes:
      time: when, in time units.
      load: packets per time unit from then on; as before if None.
      down: links that are down from then on, and no others; as before if None.
    """

    time: float
    load: float | None = None
    down: Sequence[Sequence[int]] | None = None


def network_params(graph: Graph, load: float, changes: Sequence[Change] = ()) -> NetworkParams:
    """The traced numbers of a run.

    Packets queued at a node whose link goes down are sent elsewhere; shortest paths are those of the phase.

    Args:
      graph: the graph.
      load: packets per time unit at the start.
      changes: in order of time.

    Returns:
      Host arrays, one row for each phase; two runs with the same graph and number of changes have the same shapes.

    Raises:
      ValueError: for loads that are not positive, times that do not ascend, or links that cannot be down.
    """
    starts, loads, masks = [0], [_positive(load)], [graph.mask]
    for change in changes:
        start = round(change.time * TICKS) if math.isfinite(change.time) else -1
        if start <= starts[-1]:
            raise ValueError(f"change at time {change.time:g}: expected ascending times")
        if change.time > LONGEST_RUN:
            raise ValueError(f"change at time {change.time:g}: expected ascending times up to {LONGEST_RUN}")
        starts.append(start)
        loads.append(loads[-1] if change.load is None else _positive(change.load))
        masks.append(masks[-1] if change.down is None else mask_without(graph, change.down))
    return NetworkParams(
        neighbour=graph.neighbour,
        start=np.array(starts, np.int32),
        load=np.array(loads, np.float32),
        mask=np.stack(masks),
        next_slot=np.stack([next_slots(graph, mask) for mask in masks]),
    )


def stack_params(networks: Sequence[NetworkParams]) -> NetworkParams:
    """Networks of equal shapes side by side, with a leading axis, for ``simulate.run_lanes`` or ``jax.vmap``.

    Raises:
      ValueError: if their shapes differ.
    """
    shapes = {tuple(np.shape(leaf) for leaf in network) for network in networks}
    if len(shapes) != 1:
        raise ValueError("networks of different shapes: expected equal numbers of nodes, slots and phases")
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *networks)


def _positive(load: float) -> float:
    if not 0 < load < math.inf:
        raise ValueError(f"load = {load:g}: expected a positive number")
    return float(load)
