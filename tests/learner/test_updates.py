"""Update rules of slots: optimisers on their own clocks, steps toward means, balls around the start, frozen parts."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.learner import networks, schedules, updates
from icsmdp_jax.learner.updates import from_optimiser, stay_within, stochastic_approximation, update_slots
from tests.helpers import examples, same_bits
from tests.learner.courier import AGENTS, DIM, OPTIONS, gaussian, hyper, learner, program, random_like, random_rows

SLOTS = 4


def stacked(seed: int = 0) -> dict[str, jax.Array]:
    """Parameters of four slots: two leaves of different shapes, options along the first axis of each slot."""
    return random_like({"a": jnp.zeros((SLOTS, 2, 3)), "b": jnp.zeros((SLOTS, 2))}, seed)


def one_slot(tree: Any, slot: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[slot], tree)


@pytest.mark.parametrize("kind", ["momentum", "clipped"])
def test_each_slot_is_an_optimiser_of_its_own(kind: str) -> None:
    """Slots that take part at different updates, against optax run for each slot alone on its own updates only."""
    make = {
        "momentum": lambda size: optax.sgd(size, momentum=0.9),
        "clipped": lambda size: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(size)),
    }[kind]
    rule = from_optimiser(make, schedules.polynomial(1.0, scale=0.2))
    transformation = make(lambda count: 0.2 / (1.0 + count))

    @jax.jit
    def apply_alone(gradient: Any, state: Any, params: Any) -> Any:
        step, state = transformation.update(gradient, state, params)
        return optax.apply_updates(params, step), state

    apply = jax.jit(partial(update_slots, rule))
    params = stacked()
    state = jax.jit(jax.vmap(rule.init))(params)
    alone = [(one_slot(params, slot), transformation.init(one_slot(params, slot))) for slot in range(SLOTS)]
    rng = np.random.default_rng(1)
    clocks = np.zeros(SLOTS, int)
    for k in range(8):
        ascent = random_like(params, 100 + k, 3.0)
        hits = rng.integers(0, 3, (SLOTS, 2)) * (rng.random(SLOTS) < 0.6)[:, None]
        hits[3] = 0  # the last slot never takes part
        before = (params, state)
        params, state = jax.device_get(apply(params, state, ascent, np.asarray(hits, np.float32)))
        for slot in range(SLOTS):
            if hits[slot].sum() == 0:
                for old, new in zip(
                    *(jax.tree.leaves(one_slot(t, slot)) for t in (before, (params, state))), strict=True
                ):
                    assert same_bits(old, new)
                continue
            clocks[slot] += 1
            rows = np.float32(hits[slot].sum())
            gradient = jax.tree.map(lambda g, n=rows: -g / n, one_slot(ascent, slot))
            alone[slot] = apply_alone(gradient, alone[slot][1], alone[slot][0])
            for mine, wanted in zip(*map(jax.tree.leaves, (one_slot(params, slot), alone[slot][0])), strict=True):
                np.testing.assert_allclose(mine, wanted, rtol=2e-5, atol=2e-6)
    assert clocks[3] == 0 and len(set(clocks.tolist())) > 2


def test_the_schedule_counts_own_updates_only() -> None:
    """Steps of sgd on a gradient of 1 are the schedule itself: slot 0 takes part always, slot 1 every third time."""
    rule = from_optimiser(optax.sgd, schedules.polynomial(1.0))
    apply = jax.jit(partial(update_slots, rule))
    params = np.zeros((2, 1), np.float32)
    state = jax.vmap(rule.init)(params)
    moved = []
    for k in range(7):
        hits = np.array([[2.0], [3.0 * (k % 3 == 0)]], np.float32)
        after, state = jax.device_get(apply(params, state, hits, hits))
        moved.append((after - params)[:, 0])
        params = after
    steps = np.stack(moved)
    np.testing.assert_allclose(steps[:, 0], 1 / (1 + np.arange(7)), rtol=1e-5)
    np.testing.assert_allclose(steps[::3, 1], [1, 1 / 2, 1 / 3], rtol=1e-5)
    assert not steps[[1, 2, 4, 5], 1].any()


def test_one_step_toward_the_mean_is_many_steps_toward_one_target() -> None:
    """``1 - (1 - alpha)^n``, in float64 by repeated steps; never beyond the target; caps; no rounding to nothing."""
    rng = np.random.default_rng(0)
    count = 400
    alpha = np.exp2(rng.uniform(-27, 0, count)).astype(np.float32)
    alpha[:4] = 1e-8, 1.0, 5.0, 2.0**-20
    hits = np.stack([rng.integers(1, 1000, count), np.zeros(count, int)], axis=1)
    hits[::5, 0] = 1
    value, target = (rng.uniform(-10, 10, count).astype(np.float32) for _ in range(2))
    value[0] = 0.0
    params = np.stack([value, np.full(count, 7.0)], axis=1).astype(np.float32)
    ascent = np.stack([hits[:, 0] * (target - value), np.zeros(count)], axis=1).astype(np.float32)

    def one(step: jax.Array, *arguments: jax.Array) -> Any:
        return stochastic_approximation(schedules.constant(step)).update(*arguments)

    zero = np.zeros((count, 2), np.int32)
    after, seen = jax.device_get(jax.jit(jax.vmap(one))(alpha, params, zero, ascent, hits.astype(np.float32)))
    np.testing.assert_array_equal(seen, hits)
    assert (after[:, 1] == 7.0).all()
    expected = value.astype(float)
    for k in range(1000):
        expected += (k < hits[:, 0]) * np.minimum(alpha, 1.0) * (target - expected)
    scale = np.abs(value) + np.abs(target)
    assert (np.abs(after[:, 0] - expected) <= 3e-6 * scale).all()
    assert (after[:, 0] >= np.minimum(value, target) - 1e-6 * scale).all()
    assert (after[:, 0] <= np.maximum(value, target) + 1e-6 * scale).all()
    # A step of 1e-8: 1 - alpha is 1 in float32, the step is not 0.
    assert after[0, 0] == pytest.approx(hits[0, 0] * 1e-8 * target[0], rel=1e-5)


def test_entries_of_tables_have_clocks_of_their_own() -> None:
    """Rows counted by entry; all rows of one update stand at the clock before it."""
    rule = stochastic_approximation(schedules.polynomial(1.0))
    params, state = jnp.zeros((1, 2)), jnp.array([[3, 0]], jnp.int32)
    hits = jnp.array([[2.0, 1.0]])
    after, state = update_slots(rule, params, state, hits, hits)  # every target is 1
    np.testing.assert_allclose(after, [[1 - (1 - 1 / 4) ** 2, 1.0]], rtol=1e-5)
    assert state.tolist() == [[5, 1]]


@partial(jax.jit, static_argnums=0)
def held(per_option: bool, radius: jax.Array, start: Any, params: Any, step: Any) -> Any:
    """The step that a ball of this radius, which is traced, leaves of ``step``; and its state before and after."""
    ball = stay_within(radius, per_option)
    state = ball.init(start)
    return *ball.update(step, state, params), state


@examples(50)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.0625, 8.0, width=32), per_option=st.booleans())
def test_the_ball_holds_and_inside_it_no_bit_changes(seed: int, radius: float, per_option: bool) -> None:
    start = one_slot(stacked(seed), 0)
    params = jax.tree.map(np.add, start, random_like(start, seed + 1, 0.3 * radius))
    step = random_like(start, seed + 2, 0.5 * radius)
    found, after, state = held(per_option, np.float32(radius), start, params, step)
    assert all(same_bits(a, b) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True))

    def lengths(tree: Any) -> np.ndarray:
        squares = np.stack(
            [np.square(np.asarray(leaf, float)).reshape(2, -1).sum(axis=1) for leaf in jax.tree.leaves(tree)]
        )
        return np.sqrt(squares.sum(axis=0) if per_option else np.repeat(squares.sum(), 2))

    far = jax.tree.map(lambda p, u, s: np.float64(p) + u - s, params, step, start)
    kept_in = jax.tree.map(lambda p, u, s: np.float64(p) + u - s, params, found, start)
    outside = lengths(far) > radius
    assert (lengths(kept_in) <= radius * (1 + 1e-5) + 1e-6).all()
    for option in range(2):
        for wanted, got, away, kept in zip(*map(jax.tree.leaves, (step, found, far, kept_in)), strict=True):
            if not outside[option] and lengths(far)[option] < radius * (1 - 1e-6):
                assert same_bits(wanted[option], got[option])
            elif outside[option]:  # the nearest point of the ball: the same direction, at the radius
                shrunk = away[option] * radius / lengths(far)[option]
                np.testing.assert_allclose(kept[option], shrunk, rtol=1e-4, atol=1e-5)


def test_balls_of_options_are_told_apart_and_parameters_are_asked_for() -> None:
    """One long option does not shorten the other one if each has a ball of its own."""
    start = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(2)}
    step = {"a": jnp.array([[3.0, 0, 0], [0.1, 0, 0]]), "b": jnp.array([4.0, 0.0])}
    (together, *_), (apart, *_) = (held(per_option, 1.0, start, start, step) for per_option in (False, True))
    np.testing.assert_allclose(apart["a"], [[0.6, 0, 0], [0.1, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(apart["b"], [0.8, 0], rtol=1e-6)
    assert float(together["a"][1, 0]) == pytest.approx(0.1 / np.sqrt(25.01), rel=1e-5)
    ball = stay_within(1.0)
    with pytest.raises(ValueError, match="stay_within"):
        ball.update(step, ball.init(start))


def test_frozen_hidden_weights_keep_every_bit() -> None:
    """Weight decay or not, the output weights move and the hidden ones do not; trained, only the latter exist."""
    optimiser = partial(optax.adamw, weight_decay=0.3)
    rows = [random_rows(k, 2, 6) for k in range(3)]
    moved = {}
    for hidden in ("frozen", "trained"):
        made = learner(networks.two_layer(AGENTS, OPTIONS, 6, hidden, DIM), optimiser=optimiser, copies=6, length=2)
        given_hyper = hyper(0.1)
        params = gaussian(made.values, 0)
        opt_state = program(made.rule(given_hyper).init, True)(params)
        after = params
        for row in rows:
            after, opt_state, *_ = program(made.absorb)(after, opt_state, row, row.reward, given_hyper)
        moved[hidden] = {name: not same_bits(leaf, after["params"][name]) for name, leaf in params["params"].items()}
    assert moved == {"frozen": {"w": False, "b": True}, "trained": {"w": True}}


def test_two_layer_nets_are_linear_in_what_is_trained_and_start_at_zero_if_frozen() -> None:
    values = networks.two_layer(1, OPTIONS, 6, "frozen", DIM)
    params = one_slot(values.init(jax.random.key(1), None), 0)
    x = jnp.array([0.3, -0.8])
    assert not np.asarray(values.apply(params, x)).any()
    first, second = (jnp.asarray(np.random.default_rng(k).normal(size=(OPTIONS, 6)), jnp.float32) for k in (0, 1))

    def at(b: jax.Array) -> np.ndarray:
        return np.asarray(values.apply({"params": {**params["params"], "b": b}}, x))

    np.testing.assert_allclose(at(2 * first - 3 * second), 2 * at(first) - 3 * at(second), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="hidden = 'half'"):
        networks.two_layer(1, OPTIONS, 6, "half", DIM)


def test_shared_parameters_are_one_set_for_everybody() -> None:
    """One slot, begun as the first agent would, used and moved by all agents' rows."""
    own = networks.mlp(AGENTS, OPTIONS, 4, 1, DIM)
    values = networks.shared(own)
    assert networks.shared(own) is values and values.name == own.name  # part of a compilation's cache key
    key = jax.random.key(2)
    params, apart = values.init(key, None), own.init(key, None)
    assert networks.num_slots(params) == 1 and networks.num_slots(apart) == AGENTS
    for one, many in zip(jax.tree.leaves(params), jax.tree.leaves(apart), strict=True):
        assert same_bits(one[0], many[0])
    assert [int(values.slot(jnp.int32(i), jnp.zeros(DIM))) for i in range(AGENTS)] == [0] * AGENTS
    made = learner(values, optimiser=optax.sgd, copies=4, length=2)
    given_hyper, rows = hyper(0.1), random_rows(0, 2, 4)
    opt_state = program(made.rule(given_hyper).init, True)(params)
    results = []
    for agent in range(AGENTS):  # whoever the rows belong to
        mine = rows._replace(agent=jnp.full_like(rows.agent, agent))
        results.append(program(made.absorb)(params, opt_state, mine, rows.reward, given_hyper)[0])
    for other in results[1:]:
        for one, two in zip(jax.tree.leaves(results[0]), jax.tree.leaves(other), strict=True):
            assert same_bits(one, two)


def test_tables_are_shared_already() -> None:
    table = networks.tabular(5, 2)
    assert networks.shared(table) is table
    assert [int(table.slot(jnp.int32(i), jnp.int32(3))) for i in (0, 1)] == [3, 3]


def test_update_slots_leaves_slots_without_rows_alone_whatever_the_rule() -> None:
    """Even a rule that always moves its parameters, such as weight decay, does so for slots with rows only."""

    def decaying(size: Any) -> optax.GradientTransformation:
        return optax.adamw(size, weight_decay=0.5)

    rule = updates.from_optimiser(decaying, schedules.constant(0.1))
    params = stacked(4)
    hits = jnp.zeros((SLOTS, 2)).at[1, 0].set(1.0)
    state = jax.jit(jax.vmap(rule.init))(params)
    after, _ = jax.jit(partial(update_slots, rule))(params, state, jax.tree.map(np.zeros_like, params), hits)
    for old, new in zip(jax.tree.leaves(params), jax.tree.leaves(after), strict=True):
        for slot in range(SLOTS):
            assert same_bits(old[slot], new[slot]) == (slot != 1)
