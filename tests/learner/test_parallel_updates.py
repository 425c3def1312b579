"""One update of the parallel learner with networks, against definitions: whose rows, which step, what scalar.

Forward passes are written again in NumPy and derivatives taken by central differences, so nothing of the package's
networks, dispatch or differentiation is used to check them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from icsmdp_jax.learner import channel, networks, schedules, updates
from icsmdp_jax.learner.parallel import ParallelLearner, State
from icsmdp_jax.learner.rollout import Rows
from tests.helpers import same_bits
from tests.learner.courier import AGENTS, DIM, OPTIONS, gaussian, hyper, learner, program, random_like, random_rows

LENGTH, COPIES = 3, 5
CLOSE = {"rtol": 2e-5, "atol": 2e-5}  # float32 against float64, numbers of size one; differences are exact to 1e-8


def dense(depth: int) -> Callable[[Any, np.ndarray], np.ndarray]:
    def values(p: Any, x: np.ndarray) -> np.ndarray:
        for k in range(depth + 1):
            layer = p["params"][f"Dense_{k}"]
            x = x @ layer["kernel"] + layer["bias"]
            x = np.maximum(x, 0.0) if k < depth else x
        return x

    return values


def two_layer(p: Any, x: np.ndarray) -> np.ndarray:
    w = p["params"]["w"]  # [O, m, dim]
    signs = p["params"].get("b", np.tile([1.0, -1.0], w.shape[1])[: w.shape[1]])
    return (signs * np.maximum(w @ x, 0.0)).sum(axis=-1) / np.sqrt(w.shape[1])


SHAPE = (AGENTS, OPTIONS)
CLASSES: dict[str, tuple[networks.ValueClass, Callable[[Any, np.ndarray], np.ndarray]]] = {
    "linear": (networks.linear(*SHAPE, DIM), lambda p, x: p @ x),
    "mlp-1": (networks.mlp(*SHAPE, 4, 1, DIM), dense(1)),
    "mlp-2": (networks.mlp(*SHAPE, 4, 2, DIM), dense(2)),
    "two-layer": (networks.two_layer(*SHAPE, 5, "trained", DIM), two_layer),
    "frozen": (networks.two_layer(*SHAPE, 5, "frozen", DIM), two_layer),
    "wide": (networks.mlp(*SHAPE, 64, 1, DIM), dense(1)),  # large enough that rows are sorted by agent
    "shared": (networks.shared(networks.mlp(*SHAPE, 4, 1, DIM)), dense(1)),
}


def taken(tree: Any, slot: int) -> Any:
    """One slot's parameters, float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[slot], float), tree)


def each_row(rows: Rows) -> list[Rows]:
    host = jax.device_get(rows)
    return [jax.tree.map(lambda leaf, at=at: leaf[at], host) for at in np.ndindex(LENGTH, COPIES)]


def slot_of(name: str, agent: Any) -> int:
    return 0 if name == "shared" else int(agent)


def best(values: np.ndarray, mask: np.ndarray) -> float:
    return max(float(q) for q, allowed in zip(values, mask, strict=True) if allowed)


def descent(name: str, params: Any, slot: int, rows: list[Rows], targets: list[float]) -> np.ndarray:
    """Gradient of ``mean (y - Q(z, o))^2 / 2`` over the slot's own rows, by central differences, flat."""
    values, tree = CLASSES[name][1], taken(params, slot)
    mine = [(row, y) for row, y in zip(rows, targets, strict=True) if row.valid and slot_of(name, row.agent) == slot]

    def loss(flat: np.ndarray) -> float:
        parts, offset = [], 0
        for leaf in jax.tree.leaves(tree):
            parts.append(flat[offset : offset + leaf.size].reshape(leaf.shape))
            offset += leaf.size
        own = jax.tree.unflatten(jax.tree.structure(tree), parts)
        errors = [y - values(own, row.interface.astype(float))[row.option] for row, y in mine]
        return float(np.mean(np.square(errors)) / 2)

    base, step = slot_vector(params, slot).astype(float), 1e-5
    gradient = [(loss(base + step * e) - loss(base - step * e)) / (2 * step) for e in np.eye(base.size)]
    if name == "frozen":  # its hidden weights are not parameters that move
        moves = [np.full(leaf.size, key[-1].key == "b") for key, leaf in jax.tree.leaves_with_path(tree)]
        gradient = np.where(np.concatenate(moves), gradient, 0.0)
    return np.asarray(gradient)


def plain_targets(name: str, params: Any, rows: list[Rows]) -> list[float]:
    values = CLASSES[name][1]
    return [
        float(r.reward)
        + float(r.discount) * best(values(taken(params, slot_of(name, r.final_agent)), r.final_interface), r.final_mask)
        for r in rows
    ]


def start(made: ParallelLearner, given: Any) -> State:
    """A state with random parameters; no environment is needed for an update."""
    params = gaussian(made.values, 4)
    slow = random_like(params, 5) if made.target_network else None
    opt_state = program(made.rule(given).init, True)(params)
    since = np.zeros(networks.num_slots(params), np.float32) if made.federated_every else None
    return State(params, opt_state, slow, None, None, None, since, None, jnp.int32(0))  # type: ignore[arg-type]


def slot_vector(params: Any, slot: int) -> np.ndarray:
    """One slot's parameters, one behind the other."""
    return np.concatenate([np.asarray(leaf)[slot].ravel() for leaf in jax.tree.leaves(params)])


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "mlp-1"])
def test_one_update_is_one_gradient_step_on_the_mean_over_own_rows(name: str) -> None:
    """Agents 0 and 2 have rows, some of them lost; agent 1 has none and keeps every bit."""
    made = learner(CLASSES[name][0], optimiser=optax.sgd, copies=COPIES, length=LENGTH)
    given = hyper(1.0)
    state, rows = start(made, given), random_rows(7, LENGTH, COPIES, agents=(0, 2), lost=0.2)
    after, told = program(made.update)(jax.random.key(0), state, rows, given)
    plain = each_row(rows)
    targets = plain_targets(name, state.params, plain)
    for slot in range(networks.num_slots(state.params)):
        old, new = slot_vector(state.params, slot), slot_vector(after.params, slot)
        if slot == 1:
            assert same_bits(old, new)
            continue
        wanted = -descent(name, state.params, slot, plain, targets)
        assert np.abs(wanted).max() > 0.01
        np.testing.assert_allclose(new - old, wanted, **CLOSE)
        if name != "shared":
            np.testing.assert_allclose(told.gradient_norm[slot], np.linalg.norm(wanted), rtol=1e-4)
    own = [float(CLASSES[name][1](taken(state.params, slot_of(name, r.agent)), r.interface)[r.option]) for r in plain]
    square = np.zeros(AGENTS)
    for row, y, q in zip(plain, targets, own, strict=True):
        square[row.agent] += row.valid * (y - q) ** 2
    np.testing.assert_allclose(told.td_square, square, rtol=1e-4)
    np.testing.assert_array_equal(told.visits, [sum(r.valid and r.agent == i for r in plain) for i in range(AGENTS)])


def test_adam_runs_on_each_agents_own_clock() -> None:
    """Five updates, in which different agents take part, against Adam in NumPy with a count for each agent."""
    name, size = "mlp-1", schedules.polynomial(0.5, scale=0.1)
    made = learner(CLASSES[name][0], optimiser=optax.adam, copies=COPIES, length=LENGTH)
    given = hyper()._replace(step_size=size)
    state = start(made, given)
    update = program(made.update)
    width = slot_vector(state.params, 0).size
    first, second, count = np.zeros((AGENTS, width)), np.zeros((AGENTS, width)), np.zeros(AGENTS, int)
    compared = 0
    for k, active in enumerate([(0, 2), (0,), (1, 2), (0, 1, 2), (2,)]):
        rows = random_rows(20 + k, LENGTH, COPIES, active)
        after, _ = update(jax.random.key(0), state, rows, given)
        plain = each_row(rows)
        targets = plain_targets(name, state.params, plain)
        for i in range(AGENTS):
            old, new = slot_vector(state.params, i), slot_vector(after.params, i)
            if i not in active:
                assert same_bits(old, new)
                for a, b in zip(jax.tree.leaves(state.opt_state), jax.tree.leaves(after.opt_state), strict=True):
                    assert same_bits(np.asarray(a)[i], np.asarray(b)[i])
                continue
            gradient = descent(name, state.params, i, plain, targets)
            alpha = 0.1 * (1.0 + count[i]) ** -0.5
            count[i] += 1
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            mean, square = first[i] / (1 - 0.9 ** count[i]), second[i] / (1 - 0.999 ** count[i])
            step = -alpha * mean / (np.sqrt(square) + 1e-8)
            live = np.abs(gradient) > 1e-3  # where a derivative is all but 0, its rounding decides Adam's step
            np.testing.assert_allclose((new - old)[live], step[live], rtol=1e-3, atol=2e-5)
            compared += live.sum()
        state = after
    assert count.tolist() == [3, 2, 4] and compared > 3 * width


def test_double_q_and_slow_parameters_by_hand() -> None:
    """Offers come from the slow parameters; with ``double`` the trained ones choose. Slow ones move by the rate."""
    name = "linear"
    rows = random_rows(3, LENGTH, COPIES)
    plain, values = each_row(rows), CLASSES[name][1]
    given = hyper(0.2, target_rate=0.25)
    different = 0
    for double in (False, True):
        made = learner(
            CLASSES[name][0], optimiser=optax.sgd, copies=COPIES, length=LENGTH, target_network=True, double=double
        )
        state = start(made, given)
        wanted = []
        for row in plain:
            slow = values(taken(state.target_params, row.final_agent), row.final_interface)
            online = values(taken(state.params, row.final_agent), row.final_interface)
            chosen = int(np.where(row.final_mask, online, -np.inf).argmax())
            different += double and float(slow[chosen]) != best(slow, row.final_mask)
            wanted.append(float(slow[chosen]) if double else best(slow, row.final_mask))
        offers = program(made.offers)(state, rows, given)
        assert offers.shape == (LENGTH, COPIES) and offers.dtype == jnp.float32
        np.testing.assert_allclose(offers.ravel(), wanted, **CLOSE)
        after, _ = program(made.update)(jax.random.key(0), state, rows, given)
        targets = [float(r.reward) + float(r.discount) * v for r, v in zip(plain, wanted, strict=True)]
        for i in range(AGENTS):
            new = slot_vector(state.params, i) - 0.2 * descent(name, state.params, i, plain, targets)
            np.testing.assert_allclose(slot_vector(after.params, i), new, **CLOSE)
            slow = 0.75 * slot_vector(state.target_params, i) + 0.25 * new
            np.testing.assert_allclose(slot_vector(after.target_params, i), slow, **CLOSE)
    assert different > 0  # chosen by one and valued by the other is not the maximum of either


def test_without_slow_parameters_none_are_kept() -> None:
    made = learner(CLASSES["linear"][0], optimiser=optax.sgd)
    state = program(made.init)(jax.random.key(0), hyper())
    assert (state.target_params, state.waiting, state.since, state.history) == (None, None, None, None)


def test_federated_averages_weigh_agents_by_their_rows() -> None:
    """Every third update all agents get the mean of all parameters, weighted by rows since the last time."""
    made = learner(CLASSES["linear"][0], optimiser=optax.sgd, copies=COPIES, length=LENGTH, federated_every=3)
    alone = learner(CLASSES["linear"][0], optimiser=optax.sgd, copies=COPIES, length=LENGTH)
    given, update, plainly = hyper(0.2), program(made.update), program(alone.update)
    state, key = start(made, given), jax.random.key(0)
    weight = np.zeros(AGENTS)
    for k, active in enumerate([(0,), (0, 1), (1, 2), (2,)]):
        rows = random_rows(40 + k, LENGTH, COPIES, active, lost=0.3)
        apart, _ = plainly(key, state._replace(since=None), rows, given)
        state, _ = update(key, state, rows, given)
        np.add.at(weight, np.asarray(rows.agent).ravel(), np.asarray(rows.valid).ravel().astype(float))
        if k != 2:
            np.testing.assert_allclose(state.params, apart.params, rtol=1e-6)
            continue
        mean = np.tensordot(weight / weight.sum(), np.asarray(apart.params, float), axes=1)
        for i in range(AGENTS):
            np.testing.assert_allclose(state.params[i], mean, **CLOSE)
        assert weight.min() > 0 and (weight / weight.sum()).max() > 0.4 and not np.asarray(state.since).any()
        weight[:] = 0
    np.testing.assert_array_equal(state.since, weight)


def test_nothing_to_average_leaves_everything_as_it_is() -> None:
    """All messages lost: nobody has a row, nobody moves, and the average of no rows is not 0 but nothing."""
    made = learner(CLASSES["mlp-1"][0], optimiser=optax.adam, copies=COPIES, length=LENGTH, federated_every=1)
    given = hyper(0.2)._replace(channel=channel.clean(AGENTS).dropping(1.0))
    rows = random_rows(3, LENGTH, COPIES)
    rows = rows._replace(discount=jnp.full((LENGTH, COPIES), 0.9, jnp.float32))
    state = start(made, given)._replace(history=channel.new_history(COPIES, 0))
    after, told = program(made.update)(jax.random.key(0), state, rows, given)
    assert told.visits.tolist() == [0, 0, 0] and int(after.updates) == 1
    for old, new in zip(*(jax.tree.leaves((s.params, s.opt_state)) for s in (state, after)), strict=True):
        assert same_bits(old, new)


@pytest.mark.parametrize("explore", ["epsilon-greedy", "boltzmann"])
def test_options_come_from_own_values_and_masks(explore: str) -> None:
    """Closed options look best by far and are never taken; without exploration the best open one is."""
    made = learner(CLASSES["linear"][0], optimiser=optax.sgd, explore=explore, copies=COPIES, length=60)
    given = hyper()._replace(exploration=jax.tree.map(np.float32, hyper().exploration._replace(begin=0.0, end=1e-6)))
    state = program(made.init)(jax.random.key(0), given)
    weights = np.random.default_rng(0).normal(size=(AGENTS, OPTIONS, DIM))
    weights[:, 1:] -= 30.0  # options 1 and 2 are open where a coordinate is positive: there they look worst
    state = state._replace(params=jnp.asarray(weights, jnp.float32))
    _, rows = jax.device_get(program(made.collect)(jax.random.key(1), state, given))
    assert (~rows.mask).any() and np.take_along_axis(rows.mask, rows.option[..., None], axis=-1).all()
    values = np.einsum("tbod,tbd->tbo", weights[rows.agent], rows.interface)
    greedy = np.where(rows.mask, values, -np.inf).argmax(axis=-1)
    assert (values.argmax(axis=-1) != greedy).mean() > 0.2  # without masks other options would be best
    np.testing.assert_array_equal(rows.option, greedy)


def test_lost_messages_are_rows_that_are_not_there() -> None:
    """A channel that loses some: the same update as without these rows, and lost is not the same as zero."""
    made = learner(CLASSES["linear"][0], optimiser=optax.sgd, copies=COPIES, length=LENGTH)
    plain = hyper(0.3)
    given = plain._replace(channel=channel.clean(AGENTS).dropping(0.5))
    rows = random_rows(5, LENGTH, COPIES)
    state = start(made, given)._replace(history=channel.new_history(COPIES, 0))
    _, left, _ = program(made.transmit)(jax.random.key(3), state, rows, program(made.offers)(state, rows, given), given)
    lost = ~np.asarray(left.valid)
    assert 2 < lost.sum() < LENGTH * COPIES - 2 and not (lost & (np.asarray(rows.discount) == 0)).any()
    faulty, _ = program(made.update)(jax.random.key(3), state, rows, given)
    without, _ = program(made.update)(jax.random.key(3), state._replace(history=None), left, plain)
    whole, _ = program(made.update)(jax.random.key(3), state._replace(history=None), rows, plain)
    np.testing.assert_allclose(faulty.params, without.params, rtol=1e-6)
    assert np.abs(faulty.params - whole.params).max() > 1e-3


def test_longer_targets_and_learners_without_messages_refuse_a_channel() -> None:
    given = hyper()._replace(channel=channel.clean(AGENTS))
    rows = random_rows(0, LENGTH, COPIES)
    for changes in ({"target": "lambda"}, {"bootstrap": "own-turn"}):
        made = learner(CLASSES["linear"][0], optimiser=optax.sgd, copies=COPIES, length=LENGTH, **changes)
        state = start(made, given)._replace(history=channel.new_history(COPIES, 0))
        with pytest.raises(ValueError, match="hyper.channel"):
            made.transmit(jax.random.key(0), state, rows, rows.reward, given)


def test_a_ball_around_the_start_holds_in_the_learner() -> None:
    """``stay_within`` at the end of a chain: each agent's parameters are held at the radius around its own start."""

    def optimiser(size: Any) -> optax.GradientTransformation:
        return optax.chain(optax.sgd(size), updates.stay_within(0.5))

    made = learner(CLASSES["two-layer"][0], optimiser=optimiser, copies=COPIES, length=LENGTH)
    given = hyper(2.0)
    first = state = start(made, given)
    for k in range(4):
        state, _ = program(made.update)(jax.random.key(0), state, random_rows(k, LENGTH, COPIES), given)
    away = [np.linalg.norm(slot_vector(state.params, i) - slot_vector(first.params, i)) for i in range(AGENTS)]
    np.testing.assert_allclose(away, 0.5, rtol=1e-5)
