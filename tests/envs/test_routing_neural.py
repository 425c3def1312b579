"""Networks in the nodes: gradients, the size of a step, what passes between nodes, and that they learn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.envs.routing import neural
from icsmdp_jax.envs.routing.conditions import network_params
from icsmdp_jax.envs.routing.measure import delivery_times
from icsmdp_jax.envs.routing.network import TICKS, NetworkSize, NetworkState, backlog, empty_network
from icsmdp_jax.envs.routing.neural import ICQ_NEURAL, Nets, evaluate, learn
from icsmdp_jax.envs.routing.policies import absorb
from tests.envs.routing_traces import neighbours, ring

SIZE = NetworkSize(6, 3, 50)
KEY = jax.random.key(0)
NODE, DESTINATION, SLOT = jnp.int32(1), jnp.int32(3), jnp.int32(2)


def some_nets(seed: int = 0) -> Nets:
    """Networks that have learned something: times to ``DESTINATION`` are positive."""
    nets = neural.init(jax.random.key(seed), SIZE)
    out = 0.02 * jax.random.uniform(jax.random.key(seed + 1), nets.out.shape, jnp.float32)
    # At the start one unit lies on its threshold, where the gradient has a jump.
    return nets._replace(hidden=0.999 * nets.hidden, out=out * jnp.sign(nets.hidden[:, DESTINATION])[:, None, :])


def pending(ahead: tuple[float, ...] = (1, 2, 3, 4, 5, 6)) -> NetworkState:
    """The ring at time 100 with a packet for node 3 at node 1, and promised work at every node."""
    state = empty_network(SIZE, network_params(ring(), 1.0), jnp.uint32(1))
    clock = jnp.int32(100 * TICKS)
    packet = state.packet._replace(active=jnp.ones((), bool), node=NODE, destination=DESTINATION, sent=clock - TICKS)
    return state._replace(clock=clock, last_service=clock + jnp.array(ahead, jnp.int32) * TICKS, packet=packet)


def route(nets: Nets, state: NetworkState, rates=None):  # type: ignore[no-untyped-def]
    params = jax.tree.map(jnp.asarray, network_params(ring(), 1.0))
    return ICQ_NEURAL.route(nets, params, state, rates or ICQ_NEURAL.rates, jnp.uint32(2**31))


def test_few_units_of_both_signs_are_active_for_one_destination_at_the_start() -> None:
    nets = neural.init(KEY, SIZE)
    hidden = np.asarray(jax.vmap(lambda d: evaluate(nets, NODE, d).hidden)(jnp.arange(6, dtype=jnp.int32)))
    assert (np.asarray(abs(nets.hidden) > neural.THRESHOLD).sum(axis=-1) == neural.ACTIVE).all()
    assert ((hidden != 0).sum(axis=1) == neural.ACTIVE).all() and not np.asarray(nets.out).any()
    assert ((hidden > 0).any(axis=1) & (hidden < 0).any(axis=1)).all()


def test_steps_for_one_destination_move_the_others_by_little_and_by_nothing_on_average() -> None:
    """The overlap of two destinations' features, relative to their squared length, over all pairs of 36 nodes."""
    hidden = np.asarray(neural.init(KEY, NetworkSize(36, 4)).hidden, np.float64)
    hidden = hidden - np.clip(hidden, -neural.THRESHOLD, neural.THRESHOLD)
    overlap = hidden @ hidden.swapaxes(1, 2) / (hidden**2).sum(axis=2)[:, None, :]
    between = overlap[:, ~np.eye(36, dtype=bool)]
    error = between.mean(axis=1).std() / 6  # over 36 independent nodes
    assert abs(between.mean()) < 4 * error < 0.003 and 0 < between.std() < 0.06


def test_a_step_follows_the_gradient_and_is_as_long_as_the_move() -> None:
    nets, move = some_nets(), jnp.array([3.0, -1.0, 2.0], jnp.float32)

    def along(changed: Nets, direction: jax.Array) -> jax.Array:
        moved = nets._replace(hidden=changed.hidden, out=changed.out)
        return jnp.sum(evaluate(moved, NODE, DESTINATION).times * direction)

    floats = Nets(nets.hidden, nets.out, jnp.zeros(()))  # uses are counts: nothing to differentiate
    gradient = jax.grad(along)(floats, move)
    now = evaluate(nets, NODE, DESTINATION)
    after = learn(nets, NODE, DESTINATION, now, move)
    for name in ("hidden", "out"):
        change, slope = (np.asarray(getattr(found, name), np.float64).ravel() for found in (after, gradient))
        change = change - np.asarray(getattr(nets, name), np.float64).ravel()
        assert np.abs(change).max() > 0
        # The same factor for all parameters: the length of the move over that of the gradient.
        length = sum(float((leaf.astype(np.float64) ** 2).sum()) for leaf in map(np.asarray, gradient[:2]))
        np.testing.assert_allclose(change, float((move**2).sum()) / length * slope, atol=3e-7)
    advance = evaluate(after, NODE, DESTINATION).times - now.times
    np.testing.assert_allclose(float(advance @ move), float(move @ move), rtol=0.01)


def test_outputs_go_where_the_tables_would_and_other_destinations_stay() -> None:
    nets, state = some_nets(), pending()
    before = evaluate(nets, NODE, DESTINATION).times
    slot, after = route(nets, state)
    receiver = neighbours(ring())[1][int(slot)]
    there = evaluate(nets, jnp.int32(receiver), DESTINATION).times[: len(neighbours(ring())[receiver])]
    offered = backlog(state, jnp.int32(receiver)) + jnp.maximum(there, 0).min()
    uses = jnp.zeros(3, jnp.int32)
    wanted, used = absorb(before, uses, slot, jnp.float32(1), offered, ICQ_NEURAL.rates)
    found = evaluate(after, NODE, DESTINATION).times
    # Not exactly: the hidden layer has a part in it that is not the same for all slots.
    np.testing.assert_allclose(found, wanted, rtol=0.02, atol=0.02 * float(abs(wanted - before).max()))
    assert abs(wanted - before).max() > 1
    assert not evaluate(nets._replace(out=-nets.out), NODE, DESTINATION).times.any()  # no time is below 0
    assert after.uses[NODE, DESTINATION].tolist() == used.tolist()


def test_only_the_sender_learns_and_only_from_a_packet() -> None:
    nets, state = some_nets(), pending()
    slot, after = route(nets, state)
    for old, new in zip(nets, after, strict=True):
        changed = np.asarray(old != new).reshape(6, -1).any(axis=1)
        assert changed.tolist() == [False, True, False, False, False, False]
    assert not np.asarray(nets.hidden != after.hidden).any(axis=-1)[1, [0, 1, 2, 4, 5]].any()
    idle = state._replace(packet=state.packet._replace(active=jnp.zeros((), bool)))
    _, same = route(nets, idle)
    assert all(bool((old == new).all()) for old, new in zip(nets, same, strict=True))
    assert 0 <= int(slot) < 3


def test_one_scalar_is_all_that_passes_between_nodes() -> None:
    """Another receiver, with another queue, that offers the same number leaves the sender with the same network."""
    nets, state = some_nets(), pending()
    slot, after = route(nets, state)
    receiver = neighbours(ring())[1][int(slot)]

    def offered(all_nets: Nets, now: NetworkState) -> float:
        wait = backlog(now, jnp.int32(receiver))
        times = evaluate(all_nets, jnp.int32(receiver), DESTINATION).times[: len(neighbours(ring())[receiver])]
        return float(wait + jnp.maximum(times, 0).min())

    strange = Nets(*(theirs.at[1].set(mine[1]) for mine, theirs in zip(nets, some_nets(7), strict=True)))
    scale = offered(nets, state) / offered(strange, pending((0, 2, 0, 0, 0, 0)))
    strange = strange._replace(out=strange.out.at[receiver].multiply(scale))
    quiet = pending((0, 2, 0, 0, 0, 0))
    np.testing.assert_allclose(offered(strange, quiet), offered(nets, state), rtol=1e-6)
    slot_strange, after_strange = route(strange, quiet)
    assert slot == slot_strange
    for one, two in zip(after, after_strange, strict=True):
        np.testing.assert_allclose(one[1], two[1], rtol=1e-5, atol=1e-6)
    louder = strange._replace(out=strange.out.at[receiver].multiply(1.5))
    assert not np.allclose(route(louder, quiet)[1].out[1], after_strange.out[1])


@pytest.mark.slow
def test_networks_learn_on_the_ring() -> None:
    seen = delivery_times(ICQ_NEURAL, ring(), [1.5], 4, KEY, warm_up=800, window=400)
    # 1.6 links are the mean distance; random walks would take several times as many.
    assert not seen.refused.any() and np.median(seen.hops) < 2.1
