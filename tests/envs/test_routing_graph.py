"""Graphs of the packet network against published figures, plain Python and, where it is installed, networkx."""

from __future__ import annotations

import numpy as np
import pytest

from icsmdp_jax.envs.routing.conditions import Change, network_params, stack_params
from icsmdp_jax.envs.routing.graph import (
    IRREGULAR_GRID_LINKS,
    critical_load,
    distances,
    graph_from_links,
    graph_from_networkx,
    irregular_grid,
    mask_without,
    next_slots,
    through_traffic,
)
from icsmdp_jax.envs.routing.network import LONGEST_RUN, TICKS
from tests.reference import routing as twin


class Drawn:
    """A graph with the part of networkx's interface that is read; nodes have names, in an order of their own."""

    def __init__(self, nodes: list[str], edges: list[tuple[str, str]], directed: bool = False) -> None:
        self.nodes, self.edges, self.is_directed = nodes, edges, lambda: directed


def random_links(seed: int) -> tuple[int, list[tuple[int, int]]]:
    """A tree and some more links: number of nodes, links in random order and direction."""
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(2, 30))
    links = {(int(rng.integers(0, node)), node) for node in range(1, nodes)}
    for _ in range(int(rng.integers(0, 2 * nodes))):
        a, b = (int(node) for node in rng.choice(nodes, 2, replace=False))
        links.add((min(a, b), max(a, b)))
    order = rng.permutation(len(links))
    return nodes, [sorted(links)[k][:: int(rng.choice([-1, 1]))] for k in order]


def hops_over(nodes: int, links: list[tuple[int, int]]) -> np.ndarray:
    adjacent = [[b for a, b in links + [link[::-1] for link in links] if a == node] for node in range(nodes)]
    return np.array([twin.breadth_first(adjacent, node) for node in range(nodes)])


def test_irregular_grid_has_the_published_figures():
    graph = irregular_grid()
    hops = distances(graph)
    assert (graph.num_nodes, graph.max_degree, len(graph.links)) == (36, 4, 50)
    assert hops.sum() == 6092 and hops.max() == 11
    assert round(hops.sum() / 1260, 4) == 4.8349
    # Nodes are row-major: links join neighbours in a 6x6 grid, and two of them join the halves.
    for a, b in graph.links:
        (row_a, column_a), (row_b, column_b) = divmod(a, 6), divmod(b, 6)
        assert abs(row_a - row_b) + abs(column_a - column_b) == 1
    assert [link for link in graph.links if {a % 6 for a in link} == {2, 3}] == [(2, 3), (14, 15)]


def test_neighbours_are_padded_and_masked():
    graph = graph_from_links([(2, 0), (0, 1)])
    np.testing.assert_array_equal(graph.neighbour, [[1, 2], [0, 1], [0, 2]])
    np.testing.assert_array_equal(graph.mask, [[True, True], [True, False], [True, False]])
    assert graph.links == ((0, 1), (0, 2)) and graph.labels == (0, 1, 2)


@pytest.mark.parametrize("seed", range(8))
def test_distances_and_next_slots_agree_with_breadth_first_search(seed):
    nodes, links = random_links(seed)
    graph = graph_from_links(links, nodes)
    expected = hops_over(nodes, links)
    np.testing.assert_array_equal(distances(graph), expected)
    slots = next_slots(graph)
    for node in range(nodes):
        for destination in range(nodes):
            if node != destination:
                after = expected[graph.neighbour[node], destination]
                best = np.flatnonzero(graph.mask[node] & (after == expected[node, destination] - 1))
                assert slots[node, destination] == best[-1]


@pytest.mark.parametrize("seed", range(4))
def test_traffic_through_a_node_is_what_following_every_packet_gives(seed):
    nodes, links = random_links(200 + seed)
    graph = graph_from_links(links, nodes)
    slots, through = next_slots(graph), np.zeros(nodes, int)
    for source in range(nodes):
        for destination in range(nodes):
            at = source
            while at != destination:
                at = graph.neighbour[at, slots[at, destination]]
                through[at] += at != destination
    np.testing.assert_array_equal(through_traffic(graph, slots), through)
    most = nodes * (nodes - 1) / through.max() if through.any() else np.inf
    assert critical_load(graph) == pytest.approx(most)


def test_shortest_paths_saturate_where_they_should():
    assert 2.2 < critical_load(irregular_grid()) < 2.4


@pytest.mark.parametrize("seed", range(4))
def test_networkx_agrees(seed):
    nx = pytest.importorskip("networkx")
    nodes, links = random_links(300 + seed)
    source = nx.Graph(links)
    graph = graph_from_networkx(source)
    lengths = dict(nx.all_pairs_shortest_path_length(source))
    names = list(source.nodes)
    assert graph.labels == tuple(names) and graph.num_nodes == nodes
    np.testing.assert_array_equal(distances(graph), [[lengths[a][b] for b in names] for a in names])
    with pytest.raises(ValueError, match="^graph: directed"):
        graph_from_networkx(nx.DiGraph([(0, 1)]))
    with pytest.raises(ValueError, match="^link 0-1: given twice$"):
        graph_from_networkx(nx.MultiGraph([(0, 1), (0, 1)]))


def test_names_are_kept_in_order():
    graph = graph_from_networkx(Drawn(["c", "a", "b"], [("c", "a"), ("a", "b")]))
    assert graph.labels == ("c", "a", "b") and graph.links == ((0, 1), (1, 2))


@pytest.mark.parametrize("seed", range(8))
def test_links_that_are_down_are_not_used(seed):
    nodes, links = random_links(100 + seed)
    graph = graph_from_links(links, nodes)
    for a, b in graph.links:
        hops = hops_over(nodes, [link for link in graph.links if link != (a, b)])
        if (hops >= 0).all():
            mask = mask_without(graph, [(b, a)])
            assert graph.mask.sum() - mask.sum() == 2
            np.testing.assert_array_equal(distances(graph, mask), hops)
        else:
            with pytest.raises(ValueError, match="not connected"):
                mask_without(graph, [(a, b)])


@pytest.mark.parametrize(
    ("links", "nodes", "message"),
    [
        ([(0, 1), (2, 3)], None, "graph: not connected, no path from node 0 to node 2"),
        ([(0, 1)], 3, "graph: not connected, no path from node 0 to node 2"),
        ([(0, 1), (1, 1)], None, "link 1-1: leads from a node to itself"),
        ([(0, 1), (1, 5)], 3, "link 1-5: unknown node, expected numbers from 0 to 2"),
        ([(0, 1), (-1, 0)], 3, "link -1-0: unknown node, expected numbers from 0 to 2"),
        ([(0, 1), (1, 0)], None, "link 1-0: given twice"),
        ([], None, "graph: 0 nodes, expected at least 2"),
        ([], 1, "graph: 1 nodes, expected at least 2"),
        ([(0, 1, 2)], None, "link (0, 1, 2): expected a pair of node numbers"),
        ([(0, 0.5)], None, "link (0, 0.5): expected a pair of node numbers"),
        ([("a", "b")], None, "link ('a', 'b'): expected a pair of node numbers"),
        ([(0, float("nan"))], None, "link (0, nan): expected a pair of node numbers"),
        ([3], None, "link 3: expected a pair of node numbers"),
    ],
)
def test_bad_links_are_refused_in_one_line(links, nodes, message):
    with pytest.raises(ValueError) as caught:
        graph_from_links(links, nodes)
    assert str(caught.value) == message


def test_bad_graphs_with_names_are_refused():
    with pytest.raises(ValueError, match="^graph: directed"):
        graph_from_networkx(Drawn(["a", "b"], [("a", "b")], directed=True))
    with pytest.raises(ValueError, match="^link 0-0: leads from a node to itself$"):
        graph_from_networkx(Drawn(["a", "b"], [("a", "a"), ("a", "b")]))
    with pytest.raises(ValueError, match="^link 0-1: given twice$"):
        graph_from_networkx(Drawn(["a", "b"], [("a", "b"), ("a", "b")]))


def test_conditions_list_phases():
    graph = irregular_grid()
    params = network_params(graph, 1.5, [Change(10, load=2.0), Change(20.5, down=[(3, 2)]), Change(30, down=[])])
    np.testing.assert_array_equal(params.start, np.array([0, 10, 20.5, 30]) * TICKS)
    np.testing.assert_array_equal(params.load, np.array([1.5, 2, 2, 2], np.float32))
    assert [int(mask.sum()) for mask in params.mask] == [100, 100, 98, 100]
    far = distances(graph, params.mask[2])
    at_two = params.neighbour[2, params.next_slot[2, 2, 3]]
    assert at_two == 1 and far[2, 3] == 1 + far[1, 3] and far[2, 3] > 1


@pytest.mark.parametrize(
    ("load", "changes", "message"),
    [
        (0.0, (), "load = 0: expected a positive number"),
        (float("inf"), (), "load = inf: expected a positive number"),
        (1.0, [Change(5, load=-1.0)], "load = -1: expected a positive number"),
        (1.0, [Change(0.0, load=2.0)], "change at time 0: expected ascending times"),
        (1.0, [Change(5.0), Change(4.0)], "change at time 4: expected ascending times"),
        (1.0, [Change(float("nan"))], "change at time nan: expected ascending times"),
        (1.0, [Change(LONGEST_RUN + 1)], "change at time 400001: expected ascending times up to 400000"),
        (1.0, [Change(5, down=[(0, 7)])], "link 0-7: not a link of the graph"),
        (1.0, [Change(5, down=[(2, 3), (14, 15)])], "graph: not connected"),
    ],
)
def test_bad_conditions_are_refused_in_one_line(load, changes, message):
    with pytest.raises(ValueError) as caught:
        network_params(irregular_grid(), load, changes)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_networks_of_different_shapes_do_not_stack():
    grid, line = irregular_grid(), graph_from_links([(0, 1)])
    with pytest.raises(ValueError, match="^networks of different shapes"):
        stack_params([network_params(grid, 1.0), network_params(line, 1.0)])
    assert len(IRREGULAR_GRID_LINKS) == len(set(IRREGULAR_GRID_LINKS)) == 50
