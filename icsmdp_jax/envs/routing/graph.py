"""Graphs of the packet network: links, padded neighbour tables, distances, next hops.

A node's neighbours are numbered in ascending order; the place of a neighbour in that order is its *slot*, and a slot is
what a routing rule chooses. Tables are padded to the largest degree with the node's own number, and a mask says which
slots are real. Everything here runs on the host, once.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

# Boyan and Littman (1993): the irregular 6x6 grid, nodes row-major from the top left.
IRREGULAR_GRID_LINKS: tuple[tuple[int, int], ...] = (
    *((0, 1), (0, 6), (1, 2), (2, 3), (3, 4), (4, 5), (5, 11), (6, 12), (7, 8), (7, 13), (8, 14), (9, 10), (9, 15)),
    *((10, 16), (11, 17), (12, 13), (12, 18), (13, 14), (13, 19), (14, 15), (14, 20), (15, 16), (15, 21), (16, 17)),
    *((16, 22), (17, 23), (18, 19), (18, 24), (19, 20), (19, 25), (20, 26), (21, 22), (21, 27), (22, 23), (22, 28)),
    *((23, 29), (24, 25), (24, 30), (25, 26), (25, 31), (26, 32), (27, 28), (27, 33), (28, 29), (28, 34), (29, 35)),
    *((30, 31), (31, 32), (33, 34), (34, 35)),
)


class Graph(NamedTuple):
    """A connected, undirected graph.

    Attributes:
      neighbour: ``[N, D]`` int32, neighbours in ascending order, then the node itself.
      mask: ``[N, D]`` bool, which slots hold a neighbour.
      links: the links, smaller node first, ascending.
      labels: the nodes' names, in the order of their numbers.
    """

    neighbour: np.ndarray
    mask: np.ndarray
    links: tuple[tuple[int, int], ...]
    labels: tuple[Hashable, ...]

    @property
    def num_nodes(self) -> int:
        """``N``."""
        return self.neighbour.shape[0]

    @property
    def max_degree(self) -> int:
        """``D``."""
        return self.neighbour.shape[1]


def irregular_grid() -> Graph:
    """The irregular 6x6 grid of Boyan and Littman: two halves joined by the bridges 2-3 and 14-15."""
    return graph_from_links(IRREGULAR_GRID_LINKS)


def graph_from_links(
    links: Iterable[Sequence[int]], nodes: int | None = None, labels: Sequence[Hashable] | None = None
) -> Graph:
    """A graph from pairs of node numbers.

    Args:
      links: pairs, in any order and direction.
      nodes: number of nodes; by default one more than the largest number in ``links``.
      labels: names of the nodes; their numbers if None.

    Returns:
      The graph.

    Raises:
      ValueError: if a link is not a pair, names an unknown node, leads nowhere or is given twice, if there are fewer
        than two nodes, or if the graph is not connected.
    """
    pairs = [_pair(link) for link in links]
    count = 1 + max((node for pair in pairs for node in pair), default=-1) if nodes is None else nodes
    if count < 2:
        raise ValueError(f"graph: {count} nodes, expected at least 2")
    seen: set[tuple[int, int]] = set()
    for a, b in pairs:
        if not (0 <= a < count and 0 <= b < count):
            raise ValueError(f"link {a}-{b}: unknown node, expected numbers from 0 to {count - 1}")
        if a == b:
            raise ValueError(f"link {a}-{b}: leads from a node to itself")
        if (min(a, b), max(a, b)) in seen:
            raise ValueError(f"link {a}-{b}: given twice")
        seen.add((min(a, b), max(a, b)))
    adjacent: list[list[int]] = [[] for _ in range(count)]
    for a, b in sorted(seen):
        adjacent[a].append(b)
        adjacent[b].append(a)
    degree = max(len(row) for row in adjacent)
    neighbour = np.tile(np.arange(count, dtype=np.int32)[:, None], (1, max(degree, 1)))
    mask = np.zeros(neighbour.shape, bool)
    for node, row in enumerate(adjacent):
        neighbour[node, : len(row)] = sorted(row)
        mask[node, : len(row)] = True
    graph = Graph(neighbour, mask, tuple(sorted(seen)), tuple(range(count) if labels is None else labels))
    _require_connected(graph, mask)
    return graph


def graph_from_networkx(source: Any) -> Graph:
    """A graph from a networkx graph, or from anything with its ``nodes``, ``edges`` and ``is_directed()``.

    Nodes are numbered in the order in which ``source`` lists them, and keep their names as ``labels``.

    Raises:
      ValueError: for directed graphs, and as in ``graph_from_links``.
    """
    if source.is_directed():
        raise ValueError("graph: directed, expected links that carry packets both ways")
    labels = list(source.nodes)
    number = {label: index for index, label in enumerate(labels)}
    return graph_from_links([(number[edge[0]], number[edge[1]]) for edge in source.edges], len(labels), labels)


def mask_without(graph: Graph, down: Iterable[Sequence[int]]) -> np.ndarray:
    """``[N, D]`` bool, the slots that are usable while some links are down.

    Raises:
      ValueError: if one of them is not a link of the graph, or the rest is not connected.
    """
    mask = graph.mask.copy()
    for link in down:
        a, b = _pair(link)
        if (min(a, b), max(a, b)) not in graph.links:
            raise ValueError(f"link {a}-{b}: not a link of the graph")
        for node, other in ((a, b), (b, a)):
            mask[node] &= graph.neighbour[node] != other
    _require_connected(graph, mask)
    return mask


def distances(graph: Graph, mask: np.ndarray | None = None) -> np.ndarray:
    """``[N, N]`` int, links on the shortest way between two nodes over the usable slots; -1 if there is none."""
    mask = graph.mask if mask is None else mask
    count = graph.num_nodes
    linked = np.zeros((count, count), bool)
    node, slot = np.nonzero(mask)
    linked[node, graph.neighbour[node, slot]] = True
    hops = np.where(np.eye(count, dtype=bool), 0, -1)
    reached = np.eye(count, dtype=bool)
    for step in range(1, count):
        fresh = (reached.astype(np.int64) @ linked.astype(np.int64) > 0) & ~reached
        if not fresh.any():
            break
        hops[fresh] = step
        reached |= fresh
    return hops


def next_slots(graph: Graph, mask: np.ndarray | None = None) -> np.ndarray:
    """``[N, N]`` int32, for node and destination the last usable slot on a shortest way; 0 at the destination itself.

    Which of several shortest ways is taken decides at which load the network saturates; the last one is what the
    reference values of the irregular grid assume.
    """
    mask = graph.mask if mask is None else mask
    hops = distances(graph, mask)
    after = hops[graph.neighbour]  # [N, D, N]
    good = mask[:, :, None] & (after == hops[:, None, :] - 1)
    last = graph.max_degree - 1 - good[:, ::-1, :].argmax(axis=1)
    return np.where(good.any(axis=1), last, 0).astype(np.int32)


def through_traffic(graph: Graph, slots: np.ndarray) -> np.ndarray:
    """``[N]`` int, for each node the number of ordered pairs whose packets it serves on their way.

    A packet's source and destination do not serve it. With every pair equally likely, the server of node ``n`` is busy
    for a share ``load * through[n] / (N (N - 1))`` of the time, as long as that is below 1.

    Args:
      graph: the graph.
      slots: ``[N, N]`` slot chosen for node and destination.

    Raises:
      ValueError: if the table leads some packet in a loop.
    """
    count = graph.num_nodes
    source, destination = np.nonzero(~np.eye(count, dtype=bool))
    at, through = source.copy(), np.zeros(count, np.int64)
    for _ in range(count):
        at = graph.neighbour[at, slots[at, destination]]
        going = at != destination
        if not going.any():
            return through
        at, source, destination = at[going], source[going], destination[going]
        np.add.at(through, at, 1)
    raise ValueError(
        f"next_hop: packets from node {source[0]} to node {destination[0]} go in a circle, expected a way to the end"
    )


def critical_load(graph: Graph, slots: np.ndarray | None = None) -> float:
    """The load, in packets per time unit, at which the busiest server of a fixed next-hop table is always busy.

    Args:
      graph: the graph.
      slots: ``[N, N]`` table; shortest paths if None.
    """
    through = through_traffic(graph, next_slots(graph) if slots is None else slots)
    pairs = graph.num_nodes * (graph.num_nodes - 1)
    return float(pairs / through.max()) if through.any() else float("inf")


def random_critical_load(graph: Graph) -> float:
    """The same for packets on a random walk: exact, from the expected number of visits to every node."""
    count = graph.num_nodes
    moves = np.zeros((count, count))
    node, slot = np.nonzero(graph.mask)
    moves[node, graph.neighbour[node, slot]] = 1 / graph.mask.sum(axis=1)[node]
    served = np.zeros(count)
    for destination in range(count):
        others = np.flatnonzero(np.arange(count) != destination)
        visits = np.linalg.inv(np.eye(count - 1) - moves[np.ix_(others, others)])
        served[others] += visits.sum(axis=0) - 1  # the visit at the source, once for every source, needs no server
    return float(count * (count - 1) / served.max()) if served.max() > 1e-9 else float("inf")


def _pair(link: Any) -> tuple[int, int]:
    try:
        first, second = link
        return operator.index(first), operator.index(second)
    except (TypeError, ValueError):
        raise ValueError(f"link {link}: expected a pair of node numbers") from None


def _require_connected(graph: Graph, mask: np.ndarray) -> None:
    missing = np.flatnonzero(distances(graph, mask)[0] < 0)
    if missing.size:
        raise ValueError(f"graph: not connected, no path from node 0 to node {missing[0]}")
