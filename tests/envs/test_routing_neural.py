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
from icsmdp_jax.envs.routing.neural import ICQ_NEURAL, Nets, evaluate, gentle_start, learn
from tests.envs.routing_traces import neighbours, ring

SIZE = NetworkSize(6, 3, 50)
KEY = jax.random.key(0)
NODE, DESTINATION, SLOT = jnp.int32(1), jnp.int32(3), jnp.int32(2)
QUEUE = jnp.float32(2.5)


def some_nets(seed: int = 0) -> Nets:
    """Networks that have learned something: outputs are not 0."""
    nets = neural.init(jax.random.key(seed), SIZE)
    return nets._replace(out=jax.random.uniform(jax.random.key(seed + 1), nets.out.shape, jnp.float32))


def pending(ahead: tuple[float, ...] = (1, 2, 3, 4, 5, 6)) -> NetworkState:
    """The ring at time 100 with a packet for node 3 at node 1, and promised work at every node."""
    state = empty_network(SIZE, network_params(ring(), 1.0), jnp.uint32(1))
    clock = jnp.int32(100 * TICKS)
    packet = state.packet._replace(active=jnp.ones((), bool), node=NODE, destination=DESTINATION, sent=clock - TICKS)
    return state._replace(clock=clock, last_service=clock + jnp.array(ahead, jnp.int32) * TICKS, packet=packet)


def route(nets: Nets, state: NetworkState, rates=None):  # type: ignore[no-untyped-def]
    params = jax.tree.map(jnp.asarray, network_params(ring(), 1.0))
    return ICQ_NEURAL.route(nets, params, state, rates or ICQ_NEURAL.rates, jnp.uint32(2**31))


def test_few_units_are_active_for_one_destination_at_the_start() -> None:
    nets = neural.init(KEY, SIZE)
    active = np.asarray(nets.destination > 0).sum(axis=-1)
    assert (active == neural.ACTIVE).all() and not np.asarray(nets.out).any()


def test_a_step_follows_the_gradient() -> None:
    nets, target = some_nets(), jnp.float32(30.0)

    def output(changed: Nets) -> jax.Array:
        return evaluate(changed, NODE, DESTINATION, QUEUE).times[SLOT]

    gradient = jax.grad(output)(nets)
    length = sum(float((leaf**2).sum()) for leaf in gradient)
    after = learn(nets, NODE, DESTINATION, QUEUE, SLOT, evaluate(nets, NODE, DESTINATION, QUEUE), target, 0.1)
    move = 0.1 * (30.0 - float(output(nets))) / length
    for old, new, slope in zip(nets, after, gradient, strict=True):
        np.testing.assert_allclose(new - old, move * slope, atol=2e-5)
    small = learn(nets, NODE, DESTINATION, QUEUE, SLOT, evaluate(nets, NODE, DESTINATION, QUEUE), target, 0.01)
    error = 30.0 - float(output(nets))
    np.testing.assert_allclose(float(output(small)) - float(output(nets)), 0.01 * error, rtol=0.05)


def test_only_the_sender_learns_and_only_from_a_packet() -> None:
    nets, state = some_nets(), pending()
    slot, after = route(nets, state)
    for old, new in zip(nets, after, strict=True):
        changed = np.asarray(old != new).reshape(6, -1).any(axis=1)
        assert changed.tolist() == [False, True, False, False, False, False]
    assert not np.asarray(nets.destination != after.destination).any(axis=-1)[1, [0, 1, 2, 4, 5]].any()
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
        times = evaluate(all_nets, jnp.int32(receiver), DESTINATION, wait).times[: len(neighbours(ring())[receiver])]
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
def test_networks_learn_on_the_ring_after_a_gentle_start() -> None:
    first, changes = gentle_start(1.5, 600)
    assert (first, [change.load for change in changes]) == (0.1, [0.3, 0.75, 1.5])
    seen = delivery_times(ICQ_NEURAL, ring(), [first], 4, KEY, warm_up=800, window=400, changes=changes)
    # 1.6 links are the mean distance; random walks would take several times as many.
    assert not seen.refused.any() and np.median(seen.hops) < 2.1
