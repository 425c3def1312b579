"""The tagged packet against its plain-Python twin, its recorded background against the network, and the contract."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icsmdp_jax.core.checks import check_environment
from icsmdp_jax.envs.routing import delivery_times, routing, table_option
from icsmdp_jax.envs.routing.background import check_table, record_background, sample, trace
from icsmdp_jax.envs.routing.conditions import network_params
from icsmdp_jax.envs.routing.env import Routing, RoutingParams, RoutingState
from icsmdp_jax.envs.routing.graph import distances, irregular_grid, next_slots
from icsmdp_jax.envs.routing.network import TICKS, NetworkSize
from icsmdp_jax.envs.routing.policies import SHORTEST_PATH
from tests.envs.routing_traces import grid, neighbours, ring
from tests.helpers import chi_square
from tests.reference import routing as twin

KEY = jax.random.key(0)


@cache
def made(load: float = 1.5, **choices: object) -> tuple[Routing, RoutingParams]:
    return routing(ring(), load, lanes=4, units=256, **choices)  # type: ignore[arg-type]


def host(state: RoutingState) -> RoutingState:
    return RoutingState(*(int(value) for value in state))


@pytest.mark.parametrize(("per_unit", "trials"), [pytest.param(1, 80, marks=pytest.mark.slow), (4, 40)])
def test_random_traces_agree_with_the_twin(per_unit: int, trials: int) -> None:
    """Every field of every handoff, on a busy ring, up to delivery or the limit. Waits are rarer in whole units."""
    env, params = made(2.5, per_unit=per_unit, limit=20, gamma=0.95)
    waits = np.asarray(params.wait).reshape(-1, env.nodes).tolist()
    packet = twin.TaggedPacket(neighbours(ring()), waits, 0.95, per_unit, env.cap, 20 * per_unit)
    reset, step = jax.jit(env.reset), jax.jit(env.step_env)
    rng = np.random.default_rng(per_unit)
    ended, waited = [], 0
    for trial in range(trials):
        handoff, state = reset(jax.random.fold_in(KEY, trial), params)
        at = host(state)
        assert at.wait == at.elapsed == 0 and at.node != at.destination
        assert at.row % env.rows < env.starts
        packet.start(at.node, at.destination, at.row)
        for _ in range(40):
            option = int(rng.choice(np.flatnonzero(handoff.mask)))
            handoff, state = step(KEY, state, jnp.int32(option), params)
            seen = packet.step(option)
            index = (seen.node * env.nodes + seen.destination) * (env.cap + 1) + seen.queue
            assert (int(handoff.agent), int(handoff.interface), int(handoff.duration)) == (
                seen.node,
                index,
                seen.duration,
            )
            assert (bool(handoff.terminated), bool(handoff.truncated)) == (seen.terminated, seen.truncated)
            np.testing.assert_allclose(handoff.reward, seen.reward, rtol=2e-6)
            np.testing.assert_allclose(handoff.discount, seen.discount, rtol=2e-6)
            np.testing.assert_array_equal(handoff.mask, ring().mask[seen.node])
            waited += seen.queue > 0
            if seen.terminated or seen.truncated:
                ended.append(seen.terminated)
                break
    assert len(ended) == trials and {True, False} == set(ended) and waited > 50


@pytest.mark.parametrize("choices", [{"as_vector": True}, {"per_unit": 2, "cap": 2}])
def test_contract(choices: dict) -> None:
    env, params = made(**choices)
    seen = check_environment(env, params, KEY)
    assert seen.terminated > 50 and seen.agents == 6 and seen.longest > env.per_unit


def test_words_are_equal_in_law_to_keys() -> None:
    # False alarms: two tests at level 1e-4.
    env, params = made()
    option = jnp.int32(0)
    state = RoutingState(*(jnp.int32(value) for value in (0, 1, 7, 0, 0)))  # slot 0 of node 0 leads to node 1
    words = jax.random.bits(KEY, (6000, 2), jnp.uint32)
    by_words = jax.jit(jax.vmap(lambda w: env.step_from_words(w, state, option, params)))(words)
    by_key = jax.jit(jax.vmap(lambda k: env.step(k, state, option, params)))(jax.random.split(KEY, 6000))
    for handoff, fresh in (by_words, by_key):
        assert np.asarray(handoff.terminated).all() and (np.asarray(handoff.final_agent) == 1).all()
        pairs = np.zeros((6, 6))
        np.add.at(pairs, (np.asarray(fresh.node), np.asarray(fresh.destination)), 1)
        assert chi_square(pairs, (1 - np.eye(6)) / 30) > 1e-4


def test_vector_interface_and_global_view_say_what_they_should() -> None:
    env, params = made(2.5)
    vectors, _ = made(2.5, as_vector=True)
    state = RoutingState(*(jnp.int32(value) for value in (4, 2, 300, 2, 9)))
    handoff, after = jax.jit(env.step_env)(KEY, state, jnp.int32(1), params)
    vector, same = jax.jit(vectors.step_env)(KEY, state, jnp.int32(1), params)
    assert host(after) == host(same)
    destination, queue = int(handoff.interface) // (env.cap + 1) % env.nodes, int(handoff.interface) % (env.cap + 1)
    np.testing.assert_array_equal(vector.interface, [*(np.arange(6) == destination), queue / env.cap])
    view = np.asarray(env.global_view(state, params))
    waits = np.asarray(params.wait).reshape(-1, 6)
    np.testing.assert_array_equal(view, [*(np.arange(6) == 4), *(np.arange(6) == 2), 2, *waits[302]])


def test_what_is_sampled_is_what_the_servers_have_promised() -> None:
    params, size = network_params(ring(), 2.5), NetworkSize(6, 3)
    clock, promised = trace(params, jax.random.split(KEY, 4), 400 * TICKS, size)
    assert (clock[-1] >= 400 * TICKS).all() and (np.diff(clock, axis=0) >= 0).all()
    times = np.arange(20, 380) * TICKS + 1000
    for lane in range(4):
        waits = sample(clock[:, lane], promised[:, lane], times)
        for time, row in zip(times.tolist(), waits, strict=True):
            before = [k for k in range(len(clock)) if clock[k, lane] <= time][-1]
            assert row.tolist() == [max(int(promise) - time, 0) for promise in promised[before, lane]]
    # A server promises what it has not promised yet: one time unit more than before, or than now.
    for lane in range(4):
        for node in range(6):
            change = np.flatnonzero(np.diff(promised[:, lane, node]))
            old, new = promised[change, lane, node], promised[change + 1, lane, node]
            np.testing.assert_array_equal(new, np.maximum(old, clock[change + 1, lane]) + TICKS)


def test_a_packet_alone_takes_its_distance() -> None:
    env, params = routing(load=0.001, lanes=2, units=300, gamma=0.9)
    hops = distances(irregular_grid())

    def follow(key: jax.Array) -> tuple[jax.Array, RoutingState]:
        first, state = env.reset(key, params)

        def body(carry, _):  # type: ignore[no-untyped-def]
            state, going, time = carry
            handoff, after = env.step_env(key, state, table_option(state, params), params)
            return (after, going & ~handoff.terminated, time + going * handoff.duration), None

        (_, going, time), _ = jax.lax.scan(body, (state, jnp.array(True), jnp.int32(0)), length=12)
        return jnp.where(going, -1, time), state

    time, state = jax.jit(jax.vmap(follow))(jax.random.split(KEY, 500))
    expected = hops[np.asarray(state.node), np.asarray(state.destination)]
    assert (np.asarray(time) >= expected).all() and (np.asarray(time) == expected).mean() > 0.99


@pytest.mark.slow
def test_delivery_by_the_table_takes_as_long_as_in_the_network() -> None:
    """The tagged packet and the packets of the simulator under the same rule. False alarm: 1e-4."""
    graph, load, lanes = ring(), 2.5, 24
    env, params = routing(graph, load, lanes=lanes, units=700, limit=200)

    def follow(lane: jax.Array, key: jax.Array) -> jax.Array:
        _, state = env.reset(key, params)
        state = state._replace(row=state.row % env.rows + lane * env.rows)

        def body(carry, _):  # type: ignore[no-untyped-def]
            state, going, time = carry
            handoff, after = env.step_env(key, state, table_option(state, params), params)
            return (after, going & ~handoff.terminated, time + going * handoff.duration), None

        return jax.lax.scan(body, (state, jnp.array(True), jnp.int32(0)), length=4)[0][2].astype(jnp.float32)

    many = jax.vmap(jax.vmap(follow, in_axes=(None, 0)))
    times = jax.jit(many)(jnp.arange(lanes), jax.random.split(KEY, (lanes, 2000)))
    network = delivery_times(SHORTEST_PATH, graph, [load], lanes, KEY, warm_up=500, window=1000)
    tagged = np.asarray(times).mean(axis=1)
    assert not network.saturated.any() and network.delay.mean() > 1.2 * network.hops.mean()
    assert stats.ttest_ind(tagged, network.delay[0], equal_var=False).pvalue > 1e-4
    assert abs(tagged.mean() / network.delay.mean() - 1) < 0.03


def test_recording_rounds_without_bias() -> None:
    one, four = (record_background(ring(), 2.5, next_slots(ring()), KEY, 4, 400, per_unit) for per_unit in (1, 4))
    assert one.wait.shape == (4, 400, 6) and four.wait.shape == (4, 1600, 6)
    exact = four.wait[:, ::4].astype(float) / 4
    assert (np.abs(one.wait - exact) < 1.25).all()
    # 9600 roundings of spread at most 1/2 each: five deviations.
    assert abs((one.wait - exact).mean()) < 5 * 0.5 / np.sqrt(9600)


def test_graphs_may_be_given_in_four_ways() -> None:
    links = [(0, 1), (1, 2), (2, 0)]
    names = ["a", "b", "c"]
    like_networkx = SimpleNamespace(nodes=names, edges=[("a", "b"), ("b", "c"), ("c", "a")], is_directed=lambda: False)
    for graph in (links, like_networkx):
        env, params = routing(graph, 0.5, lanes=2, units=200)
        assert (env.nodes, env.degree, env.name) == (3, 2, "routing")
        np.testing.assert_array_equal(params.neighbour, [[1, 2], [0, 2], [0, 1]])
    assert routing(load=0.001, lanes=2, units=300)[0].name == "routing-6x6"


def test_the_background_follows_the_table_that_it_is_given() -> None:
    links = [(0, 1), (1, 2), (2, 3), (3, 0)]
    clockwise = np.array([[(node + 1) % 4] * 4 for node in range(4)])
    env, params = routing(links, 0.5, next_hop=clockwise, lanes=4, units=300)
    assert params.next_slot.tolist() == [[0, 0, 0, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 0, 0, 0]]
    # Round the ring a packet meets on average one server on its way: half the load of each, a quarter of the nodes.
    waits = np.asarray(params.wait).reshape(-1, 4)
    assert (waits > 0).mean() > 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph": "7x7"}, "graph = '7x7': expected '6x6', links or a networkx graph"),
        ({"graph": 3}, "graph = 3: expected '6x6', links or a networkx graph"),
        ({"graph": [(0, 1), (2, 3)]}, "graph: not connected, no path from node 0 to node 2"),
        ({"load": 2.4}, "load = 2.4: expected less than 2.329, where this table of next hops saturates"),
        ({"load": -1.0}, "load = -1.0: expected a positive number"),
        ({"load": float("nan")}, "load = nan: expected a positive number"),
        ({"gamma": 1.0}, "gamma = 1.0: expected a number between 0 and 1"),
        ({"cap": 0}, "cap = 0: expected a whole number of at least 1"),
        ({"limit": 0}, "limit = 0: expected a whole number of at least 1"),
        ({"lanes": 0}, "lanes = 0: expected a whole number of at least 1"),
        ({"per_unit": 3}, "per_unit = 3: expected 1, 2 or 4"),
        ({"units": 100}, "units = 100: expected more than 165 for limit = 100"),
        ({"next_hop": np.zeros((2, 2))}, "next_hop: expected shape [36, 36], found [2, 2]"),
        ({"next_hop": np.zeros((36, 36))}, "next_hop[0, 1] = 0.0: expected a neighbour of node 0"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        routing(**arguments)
    assert str(caught.value) == message


def test_tables_that_lead_in_a_circle_are_refused() -> None:
    ring_links = grid()
    table = ring_links.neighbour[np.arange(36)[:, None], next_slots(ring_links)]
    assert (check_table(ring_links, table) == next_slots(ring_links)).all()
    table[0, 35], table[1, 35] = 1, 0
    with pytest.raises(ValueError, match="^next_hop: packets from node 0 to node 35 go in a circle"):
        check_table(ring_links, table)
