"""Counts in windows of time, lanes side by side, and when a network is called saturated."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.envs.routing.conditions import Change, network_params, stack_params
from icsmdp_jax.envs.routing.graph import critical_load, graph_from_links, next_slots, through_traffic
from icsmdp_jax.envs.routing.measure import Delivery, delivery, delivery_times, over_time
from icsmdp_jax.envs.routing.network import TICKS, NetworkSize
from icsmdp_jax.envs.routing.policies import Q_ROUTING, SHORTEST_PATH, Rates
from icsmdp_jax.envs.routing.simulate import CHUNK, COUNTS, WORDS, begin, run_lanes, step_lane
from tests.envs.routing_traces import ring

KEY = jax.random.key(0)
SIZE = NetworkSize(6, 3, 100)
EDGES = jnp.array([40 * TICKS, 90 * TICKS], jnp.int32)


def test_lanes_count_what_their_events_say() -> None:
    """The windows of ``run_lanes`` against events counted one by one on the host."""
    params = jax.tree.map(jnp.asarray, network_params(ring(), 2.0))
    keys = jax.random.split(KEY, 3)
    lanes = run_lanes(Q_ROUTING, params, Q_ROUTING.rates, keys, EDGES, SIZE)
    step = partial(step_lane, Q_ROUTING, params, Q_ROUTING.rates, SIZE, EDGES)
    for lane, key in enumerate(keys):
        key_lane, key_words = jax.random.split(key)
        words = random_words(jax.random.fold_in(key_words, 0), CHUNK, WORDS)
        _, events = jax.jit(partial(jax.lax.scan, step))(begin(Q_ROUTING, params, key_lane, SIZE, 2), words)
        clock, sent = np.asarray(events.clock), events.sent
        for window, (start, stop) in enumerate(((0, 40 * TICKS), (40 * TICKS, 90 * TICKS))):
            inside = (clock >= start) & (clock < stop)
            got = inside & np.asarray(sent.delivered)
            counts = dict(zip(COUNTS, np.asarray(lanes.counts)[lane, window], strict=True))
            assert clock[-1] > stop and counts["delivered"] == got.sum() > 30
            assert counts["hops"] == np.asarray(sent.hops)[got].sum()
            np.testing.assert_allclose(counts["delay"], np.asarray(sent.delay)[got].sum(), rtol=1e-5)
            new = np.asarray(events.packet.active) & (np.asarray(events.packet.hops) == 0) & inside
            assert abs(counts["arrived"] - new.sum()) <= 1  # an arrival counts where the event before it lies


def test_networks_loads_and_rates_side_by_side_are_the_same_as_alone() -> None:
    other = graph_from_links([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5), (0, 3)])
    networks = [network_params(ring(), 1.0), network_params(ring(), 2.0), network_params(other, 1.0)]
    rates = [Rates(0.5), Rates(0.1), Rates(0.9)]
    keys = jax.random.split(KEY, 3)
    stacked = Rates(*(jnp.array(column, jnp.float32) for column in zip(*rates, strict=True)))
    together = run_lanes(Q_ROUTING, stack_params(networks), stacked, keys, EDGES, SIZE)
    for lane, (params, rate) in enumerate(zip(networks, rates, strict=True)):
        one = jax.tree.map(jnp.asarray, params)
        own = Rates(*(jnp.float32(value) for value in rate))
        alone = run_lanes(Q_ROUTING, one, own, keys[lane : lane + 1], EDGES, SIZE)
        np.testing.assert_array_equal(together.counts[lane, :2], alone.counts[0, :2])
    assert len({tuple(row) for row in np.asarray(together.counts)[:, 1].tolist()}) == 3


def test_a_server_is_busy_as_often_as_the_traffic_through_it_says() -> None:
    """The mean number of links and the share of time at work, against what the table of next hops gives exactly."""
    graph, load = ring(), 1.5
    seen = delivery_times(SHORTEST_PATH, graph, [load], 16, KEY, warm_up=100, window=2000)
    hops = 1 + through_traffic(graph, next_slots(graph)).sum() / 30
    # 48 000 packets; their numbers of links are independent, with a deviation below 1.
    np.testing.assert_allclose(
        (seen.hops * seen.delivered).sum() / seen.delivered.sum(), hops, atol=5 / np.sqrt(48_000)
    )
    assert abs(seen.offered.sum() - 16 * load * 2000) < 5 * np.sqrt(16 * load * 2000)


def test_saturation_begins_at_the_critical_load() -> None:
    graph = ring()
    most = critical_load(graph)
    seen = delivery_times(SHORTEST_PATH, graph, [0.9 * most, 1.15 * most], 6, KEY, warm_up=500, window=4000)
    assert seen.saturated.tolist() == [[False] * 6, [True] * 6]
    assert (seen.delay[1] > 5 * seen.delay[0]).all() and (seen.carried[0] > 0.99).all()


def test_a_load_that_falls_lets_the_network_recover() -> None:
    changes = (Change(300, load=6.0), Change(600, load=0.5))
    seen = over_time(SHORTEST_PATH, ring(), 0.5, [300, 600, 1500, 1800], 4, KEY, changes=changes)
    assert seen.delay.shape == (4, 4)
    assert (seen.delay[:, 1] > 3 * seen.delay[:, 0]).all() and (seen.delay[:, 3] < 1.3 * seen.delay[:, 0]).all()
    assert (seen.offered[:, 1] > 5 * seen.offered[:, 0]).all()


def test_counts_become_means() -> None:
    seen = delivery(np.array([[10, 50, 30, 12, 1, 0], [0, 0, 0, 4, 0, 0]]))
    np.testing.assert_array_equal(seen.delay, [5, np.nan])
    np.testing.assert_array_equal(seen.hops, [3, np.nan])
    np.testing.assert_array_equal(seen.offered, [13, 4])
    assert isinstance(seen, Delivery) and seen.saturated.all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"replicas": 0}, "replicas = 0: expected 1 or more"),
        ({"edges": [0, 5]}, "edges[0] = 0: expected ascending times above 0, up to 400000 time units"),
        ({"edges": [5, 4]}, "edges[1] = 4: expected ascending times above 0, up to 400000 time units"),
        ({"edges": [5, 1e6]}, "edges[1] = 1e+06: expected ascending times above 0, up to 400000 time units"),
        ({"edges": [float("nan")]}, "edges[0] = nan: expected ascending times above 0, up to 400000 time units"),
        ({"edges": []}, "edges: none: expected ascending times above 0, up to 400000 time units"),
        ({"load": -2.0}, "load = -2: expected a positive number"),
    ],
)
def test_bad_requests_are_refused_in_one_line(changed: dict, message: str) -> None:
    arguments = {"load": 1.0, "edges": [5.0], "replicas": 2, **changed}
    with pytest.raises(ValueError) as caught:
        over_time(SHORTEST_PATH, ring(), key=KEY, **arguments)
    assert str(caught.value) == message
