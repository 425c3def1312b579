"""Graphs of the packet network against networkx and against published figures."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from icsmdp_jax.envs.routing.conditions import Change, network_params, stack_params
from icsmdp_jax.envs.routing.graph import (
    IRREGULAR_GRID_LINKS,
    distances,
    graph_from_links,
    graph_from_networkx,
    irregular_grid,
    mask_without,
    next_slots,
)
from icsmdp_jax.envs.routing.network import LONGEST_RUN, TICKS


def random_graph(seed: int) -> nx.Graph:
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(2, 30))
    tree = nx.Graph([(int(rng.integers(0, node)), node) for node in range(1, nodes)])
    for _ in range(int(rng.integers(0, 2 * nodes))):
        a, b = (int(node) for node in rng.choice(nodes, 2, replace=False))
        tree.add_edge(a, b)
    return tree


def networkx_distances(graph: nx.Graph) -> np.ndarray:
    nodes = list(graph.nodes)
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    return np.array([[lengths[a].get(b, -1) for b in nodes] for a in nodes])


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
def test_distances_and_next_slots_agree_with_networkx(seed):
    source = random_graph(seed)
    graph = graph_from_networkx(source)
    expected = networkx_distances(source)
    np.testing.assert_array_equal(distances(graph), expected)
    slots = next_slots(graph)
    for node in range(graph.num_nodes):
        for destination in range(graph.num_nodes):
            if node != destination:
                slot = slots[node, destination]
                best = [
                    k
                    for k in range(graph.max_degree)
                    if graph.mask[node, k] and expected[graph.neighbour[node, k], destination] == expected[node, destination] - 1
                ]
                assert slot == best[-1]


def test_networkx_names_are_kept_in_order():
    source = nx.Graph([("c", "a"), ("a", "b")])
    graph = graph_from_networkx(source)
    assert graph.labels == ("c", "a", "b") and graph.links == ((0, 1), (1, 2))


@pytest.mark.parametrize("seed", range(8))
def test_links_that_are_down_are_not_used(seed):
    source = random_graph(100 + seed)
    graph = graph_from_networkx(source)
    labels = list(source.nodes)
    for a, b in graph.links:
        cut = source.copy()
        cut.remove_edge(labels[a], labels[b])
        if nx.is_connected(cut):
            mask = mask_without(graph, [(b, a)])
            assert graph.mask.sum() - mask.sum() == 2
            np.testing.assert_array_equal(distances(graph, mask), networkx_distances(cut))
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


def test_bad_networkx_graphs_are_refused():
    with pytest.raises(ValueError, match="^graph: directed"):
        graph_from_networkx(nx.DiGraph([(0, 1)]))
    with pytest.raises(ValueError, match="^link 0-0: leads from a node to itself$"):
        graph_from_networkx(nx.Graph([("a", "a"), ("a", "b")]))
    with pytest.raises(ValueError, match="^link 0-1: given twice$"):
        graph_from_networkx(nx.MultiGraph([(0, 1), (0, 1)]))


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
