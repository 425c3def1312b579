"""The 6x6 grid: published facts about the links, exact routes, and what the hidden bit changes."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from scipy import sparse

from examples import routing_6x6 as routing
from icsmdp_jax.models.tabular import TabularModel
from tests.examples.shipped import (
    MODELS,
    assert_file_holds,
    discount_factors,
    expected_rewards,
    oracle_values,
    transition_matrix,
    value_iteration,
)

PAIRS = 36 * 36
G = (0.9 + 0.81 + 0.729) / 3  # E[gamma^tau] of a service time, uniform on 1, 2, 3
HOP = (1 - G) / 0.1  # expected discounted time of one hop


def hops(links: set[tuple[int, int]]) -> np.ndarray:
    """``[36, 36]`` distances by breadth-first search; -1 where there is no route."""
    table = np.full((36, 36), -1)
    for source in range(36):
        table[source, source] = 0
        queue = deque([source])
        while queue:
            node = queue.popleft()
            for a, b in links:
                for here, there in ((a, b), (b, a)):
                    if here == node and table[source, there] < 0:
                        table[source, there] = table[source, node] + 1
                        queue.append(there)
    return table


@pytest.fixture(scope="module")
def distance() -> np.ndarray:
    return hops(set(routing.LINKS))


@pytest.fixture(scope="module")
def plain_q() -> np.ndarray:
    return oracle_values(routing.build_plain())


def test_links_are_fifty_and_grid_neighbours():
    assert len(set(routing.LINKS)) == 50
    for a, b in routing.LINKS:
        assert a < b
        assert b - a == 6 or (b - a == 1 and a // 6 == b // 6)  # one row down, or one column to the right


def test_neighbours_are_symmetric_and_at_most_four():
    rows = routing.neighbours()
    assert sum(len(row) for row in rows) == 100
    assert all(node in rows[other] for node, row in enumerate(rows) for other in row)
    assert {len(row) for row in rows} == {2, 3, 4}


def test_distances_are_the_published_ones(distance):
    assert distance.sum() == 6092
    assert round(distance.sum() / 1260, 4) == 4.8349
    assert distance.max() == 11


def test_two_bridges_join_the_halves_and_either_one_suffices():
    links = set(routing.LINKS)
    left = {node for node in range(36) if node % 6 < 3}
    assert {link for link in links if len(left & set(link)) == 1} == set(routing.BRIDGES)
    for bridge in routing.BRIDGES:
        assert hops(links - {bridge}).min() >= 0
    cut = hops(links - set(routing.BRIDGES))
    assert set(np.flatnonzero(cut[0] >= 0)) == left
    assert (cut[3] >= 0).sum() == 18


def test_plain_model_has_one_state_for_each_pair():
    model = TabularModel(**routing.build_plain())
    assert (model.num_states, model.num_interfaces, model.num_options, model.num_agents) == (
        PAIRS,
        PAIRS,
        4,
        36,
    )
    assert model.is_terminal.sum() == 36
    assert model.start is not None and np.count_nonzero(model.start) == 1260
    np.testing.assert_allclose(model.start[model.start > 0], 1 / 1260, rtol=1e-14)


def test_plain_options_lead_to_the_neighbour_and_keep_the_destination():
    arrays = routing.build_plain()
    state, slot = routing.pair_index(14, 35), routing.neighbours()[14].index(15)
    assert arrays["successor"][state, slot].tolist() == [routing.pair_index(15, 35)]
    assert arrays["duration"][state, slot].tolist() == [1 / 3, 1 / 3, 1 / 3]
    assert arrays["agent"][state] == 14
    expected = -(1 + (1 + 0.9) + (1 + 0.9 + 0.81)) / 3  # minus the discounted time of 1, 2 or 3 steps
    assert expected_rewards(arrays)[state, slot] == pytest.approx(expected, rel=1e-14)


def test_values_are_those_of_the_distance(plain_q, distance):
    """V at distance D is a geometric sum; the grid is bipartite, so that a detour costs exactly two hops."""
    d = distance.ravel()
    best = np.nanmax(np.where(np.isnan(plain_q), -np.inf, plain_q), axis=1)
    live = d > 0
    np.testing.assert_allclose(best[live], -HOP * (1 - G ** d[live]) / (1 - G), rtol=0, atol=1e-11)
    loss = (best[:, None] - plain_q)[live]
    detour = (HOP * (1 + G) * G**d)[live, None]
    is_detour = loss > 1e-6
    np.testing.assert_allclose(loss[is_detour], np.broadcast_to(detour, loss.shape)[is_detour], rtol=1e-9)
    assert not is_detour[d[live] == 11].any()  # at the greatest distance every neighbour is nearer
    assert loss[is_detour].min() == pytest.approx(0.4277, abs=5e-5)


def test_greedy_routes_of_the_exact_values_are_shortest(plain_q):
    assert routing.greedy_hops(plain_q) == (6092, 1260)


def test_greedy_hops_ignores_slots_that_a_node_lacks(plain_q):
    assert routing.greedy_hops(np.where(np.isnan(plain_q), 1e9, plain_q)) == (6092, 1260)


def test_greedy_hops_counts_only_routes_that_arrive(distance):
    """Always the first neighbour: 0 and 1 point at each other, so that only what lies before is reached."""
    first = [row[0] for row in routing.neighbours()]
    total = delivered = 0
    for source in range(36):
        node, seen = first[source], [source]
        while node not in seen:
            seen.append(node)
            node = first[node]
        delivered += len(seen) - 1
        total += sum(range(1, len(seen)))
    assert routing.greedy_hops(np.zeros((PAIRS, 4))) == (total, delivered)
    assert delivered < 1260


def test_greedy_hops_refuses_another_shape():
    with pytest.raises(ValueError, match=r"q: expected shape \[1296, 4\], found \[2592, 4\]"):
        routing.greedy_hops(np.zeros((2 * PAIRS, 4)))


def test_hidden_model_without_delay_is_the_plain_one(plain_q):
    plain, hidden = routing.build_plain(), routing.build_hidden(delay=0)
    fold = transition_matrix(hidden).toarray().reshape(2, PAIRS * 4, 2, PAIRS).sum(axis=2)
    for bit in range(2):
        np.testing.assert_allclose(fold[bit], transition_matrix(plain).toarray(), rtol=0, atol=1e-15)
        half = slice(bit * PAIRS, (bit + 1) * PAIRS)
        for name in ("duration", "reward_rate", "agent", "interface", "terminal"):
            np.testing.assert_array_equal(hidden[name][half], plain[name])
        np.testing.assert_allclose(oracle_values(hidden)[half], plain_q, rtol=0, atol=1e-11)
    np.testing.assert_allclose(hidden["start"].reshape(2, PAIRS).sum(axis=0), plain["start"], rtol=1e-14)


def test_congestion_delays_crossings_of_one_bridge_only():
    hidden, steps = routing.build_hidden(), np.arange(1, 10)
    mean = (hidden["duration"] @ steps).reshape(2, 36, 36, 4)
    for bit, (a, b) in enumerate(routing.BRIDGES):
        slow = {(here, routing.neighbours()[here][slot]) for here, _, slot in np.argwhere(mean[bit] > 3)}
        assert slow == {(a, b), (b, a)}
        assert (mean[bit] > 3).sum() == 70  # two directions, 35 destinations each
        assert mean[bit][mean[bit] > 3] == pytest.approx(8.0)  # 7, 8 or 9 instead of 1, 2 or 3


def test_hidden_bit_flips_at_every_handoff_and_no_interface_shows_it():
    hidden = routing.build_hidden()
    np.testing.assert_array_equal(hidden["interface"][:PAIRS], hidden["interface"][PAIRS:])
    stays = hidden["successor"] // PAIRS == (np.arange(2 * PAIRS) // PAIRS)[:, None, None]
    taken = hidden["probability"] > 0
    np.testing.assert_array_equal(hidden["probability"][taken & stays], 0.95)
    np.testing.assert_array_equal(hidden["probability"][taken & ~stays], 0.05)
    TabularModel(**hidden)


def test_seeing_the_bit_is_worth_something():
    q = oracle_values(routing.build_hidden())
    slot = routing.neighbours()[14].index(15)
    across = q.reshape(2, 36, 36, 4)[:, 14, 15, slot]
    # Handing over the bridge ends the journey, so its value is minus the discounted crossing time.
    assert across[0] == pytest.approx(-HOP, rel=1e-12)
    assert across[1] == pytest.approx(-(1 - 0.9**6 * G) / 0.1, rel=1e-12)
    best = np.nanargmax(np.where(np.isnan(q), -np.inf, q), axis=1)
    assert (best[:PAIRS] != best[PAIRS:]).any()


def test_routes_that_ignore_the_bit_stay_the_shortest(plain_q):
    """Under uniform behaviour bit and pair are independent: the interface model averages two halves."""
    arrays = routing.build_hidden()
    factors, rewards = discount_factors(arrays), expected_rewards(arrays)
    mean = (factors[:PAIRS] + factors[PAIRS:]) / 2
    discounted = sparse.csr_array(sparse.diags_array(mean.ravel()) @ transition_matrix(routing.build_plain()))
    q = value_iteration((rewards[:PAIRS] + rewards[PAIRS:]) / 2, discounted, ~np.isnan(plain_q))
    assert routing.greedy_hops(q) == (6092, 1260)
    assert np.nanmax(np.abs(oracle_values(arrays) - np.tile(q, (2, 1)))) == pytest.approx(2.097, abs=5e-4)


@pytest.mark.parametrize(("name", "build"), [("plain", routing.build_plain), ("hidden", routing.build_hidden)])
def test_shipped_files_are_what_the_script_builds(name, build):
    assert_file_holds(MODELS / f"routing_6x6_{name}.npz", build())


def test_main_writes_both_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["routing_6x6.py", "--out", str(tmp_path / "new")])
    routing.main()
    assert_file_holds(tmp_path / "new" / "routing_6x6_plain.npz", routing.build_plain())
    assert_file_holds(tmp_path / "new" / "routing_6x6_hidden.npz", routing.build_hidden())
    assert "routing_6x6_hidden.npz" in capsys.readouterr().out
