"""Update rules of slots: optimisers on their own clocks, steps toward means, balls around the start, frozen parts."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsmdp_jax.learner import networks, schedules, updates
from icsmdp_jax.learner.updates import from_optimiser, stay_within, stochastic_approximation, update_slots
from tests.helpers import same_bits
from tests.learner.courier import AGENTS, DIM, OPTIONS, gaussian, hyper, learner, random_like, random_rows

SLOTS = 4


def stacked(seed: int = 0) -> dict[str, jax.Array]:
    """Parameters of four slots: two leaves of different shapes, options along the first axis of each slot."""
    return random_like({"a": jnp.zeros((SLOTS, 2, 3)), "b": jnp.zeros((SLOTS, 2))}, seed)


def one_slot(tree: Any, slot: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[slot], tree)


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam", "clipped"])
def test_each_slot_is_an_optimiser_of_its_own(kind: str) -> None:
    """Slots that take part at different updates, against optax run for each slot alone on its own updates only."""
    make = {
        "sgd": optax.sgd,
        "momentum": lambda size: optax.sgd(size, momentum=0.9),
        "adam": optax.adam,
        "clipped": lambda size: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(size)),
    }[kind]
    size = schedules.polynomial(1.0, scale=0.2)
    rule = from_optimiser(make, size)
    params = stacked()
    state = jax.vmap(rule.init)(params)
    apply = jax.jit(lambda *arguments: update_slots(rule, *arguments))
    alone = [one_slot(params, slot) for slot in range(SLOTS)]
    transformation = make(lambda count: 0.2 / (1.0 + count))
    alone_state = [transformation.init(tree) for tree in alone]
    rng = np.random.default_rng(1)
    clocks = np.zeros(SLOTS, int)
    for k in range(12):
        ascent = random_like(params, 100 + k, 3.0)
        hits = rng.integers(0, 3, (SLOTS, 2)) * (rng.random(SLOTS) < 0.6)[:, None]
        hits[3] = 0  # the last slot never takes part
        before = (params, state)
        params, state = apply(params, state, ascent, jnp.asarray(hits, jnp.float32))
        for slot in range(SLOTS):
            if hits[slot].sum() == 0:
                for old, new in zip(
                    *(jax.tree.leaves(one_slot(t, slot)) for t in (before, (params, state))), strict=True
                ):
                    assert same_bits(old, new)
                continue
            clocks[slot] += 1
            rows = hits[slot].sum()
            gradient = jax.tree.map(lambda g, n=rows: -g / n, one_slot(ascent, slot))
            step, alone_state[slot] = transformation.update(gradient, alone_state[slot], alone[slot])
            alone[slot] = optax.apply_updates(alone[slot], step)
            for mine, wanted in zip(*map(jax.tree.leaves, (one_slot(params, slot), alone[slot])), strict=True):
                np.testing.assert_allclose(mine, wanted, rtol=2e-5, atol=2e-6)
    assert clocks[3] == 0 and len(set(clocks.tolist())) > 2


def test_the_schedule_counts_own_updates_only() -> None:
    """Steps of sgd on a gradient of 1 are the schedule itself: slot 0 takes part always, slot 1 every third time."""
    rule = from_optimiser(optax.sgd, schedules.polynomial(1.0))
    params = jnp.zeros((2, 1))
    state = jax.vmap(rule.init)(params)
    moved = []
    for k in range(7):
        hits = jnp.array([[2.0], [3.0 * (k % 3 == 0)]])
        after, state = update_slots(rule, params, state, hits, hits)
        moved.append(np.asarray(after - params)[:, 0])
        params = after
    steps = np.stack(moved)
    np.testing.assert_allclose(steps[:, 0], 1 / (1 + np.arange(7)), rtol=1e-5)
    np.testing.assert_allclose(steps[::3, 1], [1, 1 / 2, 1 / 3], rtol=1e-5)
    assert not steps[[1, 2, 4, 5], 1].any()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    alpha=st.floats(2.0**-20, 1.0, width=32),
    n=st.integers(1, 1000),
    value=st.floats(-10, 10, width=32, allow_subnormal=False),
    target=st.floats(-10, 10, width=32, allow_subnormal=False),
)
def test_one_step_toward_the_mean_is_many_steps_toward_one_target(
    alpha: float, n: int, value: float, target: float
) -> None:
    """``1 - (1 - alpha)^n``, in float64 by repeated steps; never beyond the target; the plain step for one row."""
    rule = stochastic_approximation(schedules.constant(alpha))
    params = jnp.array([value, 7.0], jnp.float32)
    hits = jnp.array([n, 0], jnp.float32)
    ascent = jnp.array([n * (np.float32(target) - np.float32(value)), 0.0], jnp.float32)
    after, count = rule.update(params, rule.init(params), ascent, hits)
    step, expected = float(np.float32(alpha)), float(np.float32(value))
    for _ in range(n):
        expected += step * (float(np.float32(target)) - expected)
    scale = abs(value) + abs(target)
    assert abs(float(after[0]) - expected) <= 3e-6 * scale + 1e-30
    assert float(after[1]) == 7.0 and count.tolist() == [n, 0]
    low, high = sorted((value, target))
    assert low - 1e-6 * scale <= float(after[0]) <= high + 1e-6 * scale


def test_small_steps_of_tables_do_not_round_away() -> None:
    """A step of 1e-8 on an error of 1: ``1 - alpha`` is 1 in float32, the step is not 0."""
    rule = stochastic_approximation(schedules.constant(1e-8))
    for n in (1.0, 5.0):
        after, _ = rule.update(jnp.zeros(1), jnp.zeros(1, jnp.int32), jnp.array([n]), jnp.array([n]))
        assert float(after[0]) == pytest.approx(n * 1e-8, rel=1e-5)


def test_entries_of_tables_have_clocks_of_their_own() -> None:
    """Rows counted by entry; all rows of one update stand at the clock before it."""
    rule = stochastic_approximation(schedules.polynomial(1.0))
    params, state = jnp.zeros((1, 2)), jnp.array([[3, 0]], jnp.int32)
    hits = jnp.array([[2.0, 1.0]])
    after, state = update_slots(rule, params, state, hits, hits)  # every target is 1
    np.testing.assert_allclose(after, [[1 - (1 - 1 / 4) ** 2, 1.0]], rtol=1e-5)
    assert state.tolist() == [[5, 1]]


def test_caps_above_one_are_one_for_tables() -> None:
    rule = stochastic_approximation(schedules.constant(5.0))
    after, _ = rule.update(jnp.array([2.0]), jnp.zeros(1, jnp.int32), jnp.array([3.0]), jnp.array([1.0]))
    assert after.tolist() == [5.0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.0625, 8.0, width=32), per_option=st.booleans())
def test_the_ball_holds_and_inside_it_no_bit_changes(seed: int, radius: float, per_option: bool) -> None:
    start = one_slot(stacked(seed), 0)
    ball = stay_within(jnp.float32(radius), per_option)
    state = ball.init(start)
    params = jax.tree.map(jnp.add, start, random_like(start, seed + 1, 0.3 * radius))
    step = random_like(start, seed + 2, 0.5 * radius)
    found, after = ball.update(step, state, params)
    assert all(same_bits(a, b) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True))

    def lengths(tree: Any) -> np.ndarray:
        squares = np.stack(
            [np.square(np.asarray(leaf, float)).reshape(2, -1).sum(axis=1) for leaf in jax.tree.leaves(tree)]
        )
        return np.sqrt(squares.sum(axis=0) if per_option else np.repeat(squares.sum(), 2))

    far = jax.tree.map(lambda p, u, s: np.float64(p) + u - s, params, step, start)
    held = jax.tree.map(lambda p, u, s: np.float64(p) + u - s, params, found, start)
    outside = lengths(far) > radius
    assert (lengths(held) <= radius * (1 + 1e-5) + 1e-6).all()
    for option in range(2):
        for wanted, got, away, kept in zip(*map(jax.tree.leaves, (step, found, far, held)), strict=True):
            if not outside[option] and lengths(far)[option] < radius * (1 - 1e-6):
                assert same_bits(wanted[option], got[option])
            elif outside[option]:  # the nearest point of the ball: the same direction, at the radius
                shrunk = away[option] * radius / lengths(far)[option]
                np.testing.assert_allclose(kept[option], shrunk, rtol=1e-4, atol=1e-5)


def test_balls_of_options_are_told_apart_and_parameters_are_asked_for() -> None:
    """One long option does not shorten the other one if each has a ball of its own."""
    start = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(2)}
    step = {"a": jnp.array([[3.0, 0, 0], [0.1, 0, 0]]), "b": jnp.array([4.0, 0.0])}
    one, each = (stay_within(1.0, per_option) for per_option in (False, True))
    together, _ = one.update(step, one.init(start), start)
    apart, _ = each.update(step, each.init(start), start)
    np.testing.assert_allclose(apart["a"], [[0.6, 0, 0], [0.1, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(apart["b"], [0.8, 0], rtol=1e-6)
    assert float(together["a"][1, 0]) == pytest.approx(0.1 / np.sqrt(25.01), rel=1e-5)
    with pytest.raises(ValueError, match="stay_within"):
        one.update(step, one.init(start))


def test_the_radius_may_be_traced() -> None:
    start, step = jnp.zeros((2, 2)), jnp.full((2, 2), 3.0)

    def length(radius: jax.Array) -> jax.Array:
        ball = stay_within(radius)
        return jnp.linalg.norm(ball.update(step, ball.init(start), start)[0])

    np.testing.assert_allclose(jax.jit(jax.vmap(length))(jnp.array([0.5, 2.0, 100.0])), [0.5, 2.0, 6.0], rtol=1e-6)


@pytest.mark.parametrize("optimiser", [optax.sgd, partial(optax.adamw, weight_decay=0.3)])
def test_frozen_hidden_weights_keep_every_bit(optimiser: Any) -> None:
    """Ten updates: the output weights move, the hidden ones do not; trained the other way round, only they exist."""
    rows = [random_rows(k, 2, 6) for k in range(10)]
    moved = {}
    for hidden in ("frozen", "trained"):
        made = learner(networks.two_layer(AGENTS, OPTIONS, 6, hidden, DIM), optimiser=optimiser, copies=6, length=2)
        given_hyper = hyper(0.1)
        params = gaussian(made.values, 0)
        opt_state = jax.vmap(made.rule(given_hyper).init)(params)
        absorb = jax.jit(lambda p, s, r, v, made=made, h=given_hyper: made.absorb(p, s, r, v, h)[:2])
        after = params
        for row in rows:
            after, opt_state = absorb(after, opt_state, row, row.reward)
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


@pytest.mark.parametrize("name", ["linear", "mlp", "two-layer"])
def test_shared_parameters_are_one_set_for_everybody(name: str) -> None:
    """One slot, begun as the first agent would, used and moved by all agents' rows."""
    own = {
        "linear": networks.linear(AGENTS, OPTIONS, DIM),
        "mlp": networks.mlp(AGENTS, OPTIONS, 4, 1, DIM),
        "two-layer": networks.two_layer(AGENTS, OPTIONS, 4, "trained", DIM),
    }[name]
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
    opt_state = jax.vmap(made.rule(given_hyper).init)(params)
    results = []
    for agent in range(AGENTS):  # whoever the rows belong to
        mine = rows._replace(agent=jnp.full_like(rows.agent, agent))
        results.append(made.absorb(params, opt_state, mine, rows.reward, given_hyper)[0])
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
    after, _ = update_slots(rule, params, jax.vmap(rule.init)(params), jax.tree.map(jnp.zeros_like, params), hits)
    for old, new in zip(jax.tree.leaves(params), jax.tree.leaves(after), strict=True):
        for slot in range(SLOTS):
            assert same_bits(old[slot], new[slot]) == (slot != 1)
