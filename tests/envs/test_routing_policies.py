"""Routing rules: the two functions between nodes, privacy, ties, what is learned on networks one can overlook."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.envs.routing import policies
from icsmdp_jax.envs.routing.conditions import network_params
from icsmdp_jax.envs.routing.graph import distances
from icsmdp_jax.envs.routing.network import TICKS, NetworkSize, NetworkState, backlog, empty_network
from icsmdp_jax.envs.routing.policies import FULL_ECHO, ICQ, ICQ_QUEUE, POLICIES, Q_ROUTING, RANDOM, Rates
from tests.envs.routing_traces import decisions, grid, neighbours, record, replay, ring
from tests.helpers import chi_square
from tests.reference import routing as twin

LEARNERS = [Q_ROUTING, FULL_ECHO, ICQ, ICQ_QUEUE]
by_name = partial(pytest.mark.parametrize, "policy", ids=lambda policy: policy.name)
SIZE = NetworkSize(6, 3, 20)


def pending(node: int, destination: int, waited: float = 0.0, ahead: tuple[float, ...] = (0.0,) * 6) -> NetworkState:
    """The ring at time 100 with one pending packet, and ``ahead`` time units of work promised by each node."""
    state = empty_network(SIZE, network_params(ring(), 1.0), jnp.uint32(1))
    clock = jnp.int32(100 * TICKS)
    packet = state.packet._replace(
        active=jnp.ones((), bool),
        node=jnp.int32(node),
        destination=jnp.int32(destination),
        sent=clock - jnp.int32(waited * TICKS),
    )
    last = clock + (jnp.array(ahead) * TICKS).astype(jnp.int32)
    return state._replace(clock=clock, last_service=last, packet=packet)


def route(policy, memory, state, rates=None):  # type: ignore[no-untyped-def]
    params = jax.tree.map(jnp.asarray, network_params(ring(), 1.0))
    return policy.route(memory, params, state, rates or policy.rates, jnp.uint32(7))


def some_memory(policy, seed: int = 0):  # type: ignore[no-untyped-def]
    table = jnp.asarray(np.random.default_rng(seed).uniform(1, 9, (6, 6, 3)), jnp.float32)
    return table if policy in (Q_ROUTING, FULL_ECHO) else policies.Estimates(table, jnp.full((6, 6, 3), 4, jnp.int32))


def times(memory):  # type: ignore[no-untyped-def]
    return memory.time if isinstance(memory, policies.Estimates) else memory


def test_offer_is_the_least_time_after_the_wait():
    row, mask = jnp.array([3.0, 2.0, 1.0]), jnp.array([True, True, False])
    assert policies.offer(row, mask, jnp.float32(0), False) == 2.0
    assert policies.offer(row, mask, jnp.float32(1.5), False) == 3.5
    assert policies.offer(row, mask, jnp.float32(1.5), True) == 0.0


def test_absorb_by_hand():
    rates = Rates(step=0.1, power=0.5, share=0.5, fade=0.1)
    row, uses = jnp.array([4.0, 6.0, 0.2]), jnp.array([3, 6, 1])
    # Step (1 + 3)^-1/2 = 1/2 of the error 1 + 9 - 4 = 6; the others fade by 0.1 / (1 + 0.1 * 10) and move by half of 3.
    after, used = policies.absorb(row, uses, jnp.int32(0), jnp.float32(1), jnp.float32(9), rates)
    np.testing.assert_allclose(after, [7.0, 6.0 * 0.95 + 1.5, 0.2 * 0.95 + 1.5], rtol=1e-6)
    np.testing.assert_array_equal(used, [4, 6, 1])
    # A large number of uses leaves the floor; estimates never fall below 0.
    many = jnp.array([10_000, 0, 0])
    after, _ = policies.absorb(row, many, jnp.int32(0), jnp.float32(1), jnp.float32(-17), rates)
    np.testing.assert_allclose(after[0], 4.0 - 0.1 * 20.0, rtol=1e-6)
    assert after[2] == 0.0


def test_q_routing_by_hand():
    memory = some_memory(Q_ROUTING)
    memory = memory.at[1, 3].set(jnp.array([5.0, 2.0, 7.0])).at[2, 3].set(jnp.array([4.0, 3.0, 0.0]))
    # Node 1 has neighbours 0, 2, 4; it sends to 2, which has two neighbours and offers 3 (its unused slot holds 0).
    slot, after = route(Q_ROUTING, memory, pending(1, 3, waited=2.5))
    assert slot == 1
    np.testing.assert_allclose(after[1, 3], [5.0, 2.0 + 0.5 * (2.5 + 3.0 - 2.0), 7.0])


def test_full_echo_updates_before_it_chooses():
    memory = jnp.zeros((6, 6, 3)).at[1, 3].set(jnp.array([2.0, 2.1, 9.0]))
    memory = memory.at[0, 3].set(10.0).at[2, 3].set(1.0).at[4, 3].set(0.5)
    slot, after = route(FULL_ECHO, memory, pending(1, 3))
    assert slot == 1
    np.testing.assert_allclose(after[1, 3], [6.0, 1.55, 4.75])


def test_a_queue_in_view_is_offered_and_the_own_wait_is_not_charged():
    rates = Rates(step=0.5, power=64.0, share=0.0, fade=0.0)
    memory = some_memory(ICQ_QUEUE)
    memory = memory._replace(time=memory.time.at[1, 3].set(jnp.array([5.0, 2.0, 7.0])).at[2, 3].set(4.0))
    state = pending(1, 3, waited=2.5, ahead=(0, 0, 6, 0, 0, 0))
    _, seen = route(ICQ_QUEUE, memory, state, rates)
    np.testing.assert_allclose(seen.time[1, 3, 1], 2.0 + 0.5 * (1.0 + 6.0 + 4.0 - 2.0))
    _, blind = route(ICQ, memory, state, rates)
    np.testing.assert_allclose(blind.time[1, 3, 1], 2.0 + 0.5 * (2.5 + 4.0 - 2.0))
    assert backlog(state, jnp.int32(2)) == 6.0 and backlog(state, jnp.int32(3)) == 0.0


@by_name(LEARNERS)
def test_only_the_row_of_the_sender_changes(policy):
    memory = some_memory(policy)
    _, after = route(policy, memory, pending(1, 3, waited=1.5))
    for before, now in zip(jax.tree.leaves(memory), jax.tree.leaves(after), strict=True):
        changed = np.argwhere(np.asarray(before != now).any(axis=-1))
        assert changed.tolist() == [[1, 3]]
    idle = pending(1, 3)
    idle = idle._replace(packet=idle.packet._replace(active=jnp.zeros((), bool)))
    _, same = route(policy, memory, idle)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), memory, same)))


@by_name([Q_ROUTING, ICQ, ICQ_QUEUE])
def test_one_scalar_is_all_that_passes_between_nodes(policy):
    """Other nodes' estimates and queues may be anything, as long as the receiver offers the same number."""
    memory, state = some_memory(policy), pending(1, 3, waited=1.5, ahead=(1, 2, 3, 4, 5, 6))
    slot, after = route(policy, memory, state)
    receiver = neighbours(ring())[1][int(slot)]
    wait = state.last_service[receiver] - state.clock if policy is ICQ_QUEUE else 0
    offered = times(memory)[receiver, 3][: len(neighbours(ring())[receiver])].min() + wait / TICKS
    other = some_memory(policy, seed=1)

    def blend(mine: jax.Array, theirs: jax.Array) -> jax.Array:
        return theirs.at[1].set(mine[1])

    strange = jax.tree.map(blend, memory, other)
    best = jnp.full(3, offered)
    queue = state._replace(last_service=jnp.full(6, state.clock))
    strange = (
        strange._replace(time=strange.time.at[receiver, 3].set(best))
        if isinstance(strange, policies.Estimates)
        else strange.at[receiver, 3].set(best)
    )
    slot_strange, after_strange = route(policy, strange, queue)
    assert slot == slot_strange
    for one, two in zip(jax.tree.leaves(after), jax.tree.leaves(after_strange), strict=True):
        np.testing.assert_allclose(one[1], two[1], rtol=1e-6)
    # And the number matters: another offer gives another estimate.
    louder = jax.tree.map(lambda leaf: leaf, strange)
    louder = (
        louder._replace(time=louder.time.at[receiver, 3].add(1.0))
        if isinstance(louder, policies.Estimates)
        else louder.at[receiver, 3].add(1.0)
    )
    assert (times(route(policy, louder, queue)[1])[1] != times(after_strange)[1]).any()


def test_ties_are_broken_evenly():
    # False alarms: two tests at level 1e-4.
    words = jax.random.bits(jax.random.key(0), (6000,), jnp.uint32)
    mask = jnp.array([True, True, False, True])
    row = jnp.array([2.0, 2.0, 1.0, 2.0])
    slots = jax.vmap(lambda word: policies.least(row, mask, word))(words)
    assert chi_square(np.bincount(slots, minlength=4), np.array([1, 1, 0, 1]) / 3) > 1e-4
    state, params = pending(0, 3), network_params(ring(), 1.0)
    random = jax.vmap(lambda word: RANDOM.route((), params, state, Rates(0.0), word)[0])(words)
    assert chi_square(np.bincount(random, minlength=3), np.array([1, 1, 0]) / 2) > 1e-4
    alone = jax.vmap(lambda word: policies.least(jnp.array([3.0, 1.0, 2.0, 1.5]), mask, word))(words)
    assert (alone == 1).all()


@by_name([ICQ, ICQ_QUEUE])
def test_estimates_agree_with_the_twin_at_the_usual_rates(policy):
    trace = record(policy, ring(), 1.5, steps=6000)
    slots = iter([decision.slot for decision in decisions(trace)])

    class Forced(twin.IcqQueue if policy is ICQ_QUEUE else twin.Icq):  # type: ignore[misc]
        """The twin, but with the compiled run's choices, which differ where rounding decides."""

        def route(self, node, destination, cost, waits):  # type: ignore[no-untyped-def]
            slot = next(slots)
            row = self.time[node][destination]
            assert row[slot] <= min(row) + 1e-3
            self.learn(node, destination, slot, cost, waits)
            return slot

    rates = policy.rates
    router = Forced(
        neighbours(ring()), lambda _: 0, step=rates.step, power=rates.power, share=rates.share, fade=rates.fade
    )
    assert replay(trace, router, ring()).decisions == decisions(trace)
    for node, rows in enumerate(router.time):
        for destination, row in enumerate(rows):
            np.testing.assert_allclose(trace.lane.memory.time[node, destination, : len(row)], row, rtol=1e-3, atol=1e-3)
            np.testing.assert_array_equal(
                trace.lane.memory.uses[node, destination, : len(row)], router.uses[node][destination]
            )


@by_name(LEARNERS)
def test_learners_find_short_paths_where_there_is_no_traffic(policy):
    trace = record(policy, ring(), 0.02, steps=12_000, size=NetworkSize(6, 3, 50))
    table = np.where(ring().mask[:, None, :], times(trace.lane.memory), np.inf)
    hops = distances(ring())
    best = ring().neighbour[np.arange(6)[:, None], table.argmin(axis=2)]
    apart = hops > 0
    right = hops[best, np.arange(6)[None, :]][apart] == hops[apart] - 1
    # IC-Q may be about to try an option again whose estimate has faded; the others stay with what they have found.
    assert right.all() if policy in (Q_ROUTING, FULL_ECHO) else right.sum() >= 28


def test_policies_have_names():
    assert list(POLICIES) == ["shortest-path", "random", "q-routing", "full-echo", "icq", "icq-queue"]
    assert len({hash(policy) for policy in POLICIES.values()}) == len(POLICIES)
    assert grid().num_nodes == 36
