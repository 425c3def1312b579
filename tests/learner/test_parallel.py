"""The parallel learner as a whole: tables against plain loops, keys, interruptions, sweeps in one compilation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest

from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.learner import channel, networks, schedules
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner, State
from icsmdp_jax.learner.rollout import Rows
from icsmdp_jax.learner.schedules import StepSize
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import golden, same_bits
from tests.learner import courier
from tests.reference import simulate

CLOSE = 2e-5  # float32 rounding relative to the scale of Q; a wrong sign, mask or weight is off by 1e-2 and more


class Record(NamedTuple):
    """A run, update by update: rows ``[U, T, B]``, tables after each update ``[U, Z, O]``, and the first table."""

    rows: Rows
    tables: np.ndarray
    first: np.ndarray


@cache
def tabular_learner(copies: int, length: int) -> ParallelLearner:
    """On a model with masks, terminal states and restarts, under uniform behaviour."""
    env, _ = tabular_env(golden("episodic_masks"))
    return ParallelLearner(
        env, networks.tabular(env.num_interfaces, env.num_options), None, copies, length, "behaviour", graph=True
    )


@cache
def compiled_record(learner: ParallelLearner, updates: int) -> Callable[..., Any]:
    def body(carry: State, key: jax.Array, hyper: Hyper) -> tuple[State, tuple[Rows, Any]]:
        carry, rows = learner.collect(key, carry, hyper)
        carry, _ = learner.update(key, carry, rows, hyper)
        return carry, (rows, carry.params)

    def run(key: jax.Array, state: State, hyper: Hyper) -> Any:
        return jax.lax.scan(lambda carry, k: body(carry, k, hyper), state, jax.random.split(key, updates))[1]

    return courier.quick_jit(run)


def record(learner: ParallelLearner, params: Any, size: StepSize, updates: int, seed: int = 0) -> Record:
    """Runs the learner from a random first table and writes everything down."""
    hyper = Hyper(params, None, size)
    state = courier.program(learner.init)(jax.random.key(seed), hyper)
    first = courier.random_like(state.params, seed, 3.0)
    rows, tables = compiled_record(learner, updates)(jax.random.key(seed + 1), state._replace(params=first), hyper)
    return Record(*jax.device_get((rows, tables, first)))


def plain_update(table: np.ndarray, seen: np.ndarray, rows: Rows, size: Callable[[int], float]) -> None:
    """One update in place, float64: the mean target of each entry's own rows, with step ``1 - (1 - alpha)^n``."""
    mine: dict[tuple[int, int], list[float]] = {}
    for at in np.ndindex(rows.agent.shape):
        offered = [
            q for q, allowed in zip(table[rows.final_interface[at]], rows.final_mask[at], strict=True) if allowed
        ]
        y = float(rows.reward[at]) + float(rows.discount[at]) * max(offered)
        mine.setdefault((int(rows.interface[at]), int(rows.option[at])), []).append(y)
    for entry, targets in mine.items():  # every target was formed before any entry moves
        n, alpha = len(targets), min(size(int(seen[entry])), 1.0)
        table[entry] += (1.0 - (1.0 - alpha) ** n) * (np.mean(targets) - table[entry])
        seen[entry] += n


SIZES: list[tuple[StepSize, Callable[[int], float]]] = [
    (schedules.constant(1.0), lambda c: 1.0),
    (schedules.polynomial(0.6), lambda c: (1.0 + c) ** -0.6),
    (schedules.rescaled_linear(0.75), lambda c: 1 / (1 + 0.25 * c)),
]


@pytest.mark.parametrize(
    ("copies", "length", "size", "plain"), [(1, 1, *SIZES[1]), (7, 3, *SIZES[0]), (7, 3, *SIZES[1]), (7, 3, *SIZES[2])]
)
def test_tables_are_the_plain_loop(copies: int, length: int, size: StepSize, plain: Callable[[int], float]) -> None:
    """The same rows, the definition in NumPy, the same table after each of 300 updates."""
    model = golden("episodic_masks")
    found = record(tabular_learner(copies, length), tabular_env(model)[1], size, 300)
    table, seen = found.first.astype(float), np.zeros(found.first.shape, int)
    scale = 1 + np.abs(found.tables).max()
    for k in range(300):
        rows = jax.tree.map(lambda leaf, k=k: leaf[k], found.rows)
        plain_update(table, seen, rows, plain)
        np.testing.assert_allclose(found.tables[k], table, rtol=0, atol=CLOSE * scale)
    assert np.abs(table - found.first).max() > 0.5  # something was learned
    assert (found.rows.discount == 0).any() and seen.max() > 10
    if copies == 1:
        flat = jax.tree.map(lambda leaf: leaf.reshape(300, *leaf.shape[3:]), found.rows)
        terminal = flat.discount == 0
        segment = (flat.agent, -flat.agent, flat.interface, flat.option, flat.reward, flat.duration)
        path = simulate.Trajectory(*segment, -flat.agent, flat.final_interface, terminal, flat.final_mask)
        count = simulate.visit_counts(path, *found.first.shape)
        wanted = simulate.tabular_icq(path, np.vectorize(plain)(count), model.gamma, found.first)
        np.testing.assert_allclose(found.tables, wanted, rtol=0, atol=CLOSE * scale)


def decision_process(seed: int, deterministic: bool) -> TabularModel:
    """One agent that sees the state, five states, three options that take one step each: an ordinary MDP."""
    rng = np.random.default_rng(seed)
    law = rng.dirichlet(np.ones(5), size=(5, 3))
    if deterministic:
        law = np.eye(5)[rng.integers(5, size=(5, 3))]
        law[:, 0] = np.eye(5)[(np.arange(5) + 1) % 5]  # option 0 goes round, so that all states recur
    states = np.arange(5)
    return TabularModel(rng.normal(size=(5, 3)), 0 * states, states, 0.8, transition=law, duration=np.ones((5, 3, 1)))


@cache
def mdp_learner(copies: int, length: int) -> ParallelLearner:
    env, _ = tabular_env(decision_process(0, True))
    return ParallelLearner(env, networks.tabular(5, 3), None, copies, length, "behaviour")


def test_one_agent_and_options_of_one_step_are_q_learning() -> None:
    """Watkins' rule ``Q(s, a) += alpha (r + gamma max Q(s', .) - Q(s, a))`` on the recorded run, step by step."""
    model = decision_process(0, False)
    found = record(mdp_learner(1, 1), tabular_env(model)[1], schedules.constant(0.3), 400)
    q = found.first.astype(float)
    s, a, s_next = (found.rows._asdict()[name][:, 0, 0] for name in ("interface", "option", "final_interface"))
    np.testing.assert_array_equal(s[1:], s_next[:-1])
    for k in range(400):
        reward = model.reward_rate[s[k], a[k]]
        q[s[k], a[k]] += 0.3 * (reward + 0.8 * q[s_next[k]].max() - q[s[k], a[k]])
        np.testing.assert_allclose(found.tables[k], q, rtol=0, atol=CLOSE * 10)


def test_q_learning_with_step_one_is_value_iteration_where_nothing_is_random() -> None:
    model = decision_process(1, True)
    found = record(mdp_learner(8, 10), tabular_env(model)[1], schedules.constant(1.0), 300)
    q = np.zeros((5, 3))
    for _ in range(300):
        q = model.reward_rate + 0.8 * model.transition @ q.max(axis=1)  # type: ignore[operator]
    np.testing.assert_allclose(found.tables[-1], q, rtol=0, atol=CLOSE * (1 + np.abs(q).max()))


def everything() -> tuple[ParallelLearner, Hyper]:
    """A learner that carries all that can be carried: optimiser, slow parameters, averages, late messages."""
    agents = courier.AGENTS
    learner = courier.learner(
        networks.linear(agents, courier.OPTIONS, courier.DIM),
        optimiser=optax.adam,
        explore="epsilon-greedy",
        target_network=True,
        double=True,
        federated_every=4,
        latest=2,
    )
    faults = channel.clean(agents, (-3.0, 3.0)).late(2).noisy(0.01).dropping(0.1)
    size = schedules.polynomial(0.5, scale=0.05)
    return learner, courier.hyper()._replace(
        step_size=size, exploration=ramp(1.0, 0.0, 15), target_rate=0.3, channel=faults
    )


def all_bits(first: Any, second: Any) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(same_bits(a, b) for a, b in pairs)


def test_an_interrupted_run_is_the_run() -> None:
    """Twice 10 updates are 20 updates, bit for bit; the same key gives the same bits, another key others."""
    learner, hyper = everything()
    run = jax.jit(learner.run, static_argnums=3)
    start = jax.jit(learner.init)(jax.random.key(0), hyper)
    key = jax.random.key(1)
    whole, told = run(key, start, hyper, 20)
    half, told_first = run(key, start, hyper, 10)
    resumed, told_second = run(key, half, hyper, 10)
    assert int(whole.updates) == 20 and not all_bits(half.params, whole.params)
    assert all_bits(resumed, whole)
    assert all_bits(jax.tree.map(lambda *parts: np.concatenate(parts), told_first, told_second), told)
    again, _ = run(key, start, hyper, 20)
    assert all_bits(again, whole)
    other, _ = run(jax.random.key(2), start, hyper, 20)
    assert not all_bits(other.params, whole.params)


class Lanes(NamedTuple):
    """Traced inputs of several runs, one entry of each field for each."""

    keys: jax.Array
    hypers: list[Hyper]


def lanes(**more: list[Any]) -> tuple[Any, Lanes]:
    """Four runs that differ in seed, step size, discount and gap of a planted model, and its environment."""
    hypers = []
    for k in range(4):
        knobs = {"num_agents": 3, "duration_mean": 3.0, "longest_duration": 12, "planted_atoms": 64}
        model = planted_model(PlantedConfig(gamma=0.8 + 0.05 * k, gap=0.25 * k, **knobs)).model  # type: ignore[arg-type]
        env, params = tabular_env(model)
        features = np.asarray(model.features, np.float32)
        hyper = Hyper(params, features, schedules.constant(0.01 * (k + 1)), None, ramp(0.5, 0.1 * k, 10))
        hypers.append(hyper._replace(**{name: np.float32(value[k]) for name, value in more.items()}))
    return env, Lanes(jax.random.split(jax.random.key(5), 4), hypers)


def test_one_compilation_serves_seeds_steps_gaps_and_discounts() -> None:
    """``jax.vmap(train)`` over all of them is traced once, and gives what the runs give one by one."""
    env, made = lanes(lambda_=[0.0, 0.3, 0.6, 0.9], target_rate=[1.0, 0.5, 0.2, 0.1])
    values = networks.linear(3, env.num_options)
    learner = ParallelLearner(env, values, optax.adam, 8, 4, target="lambda", target_network=True, graph=True)
    traces = []

    def train(key: jax.Array, hyper: Hyper) -> tuple[State, Any]:
        traces.append(None)
        return learner.train(key, hyper, 20)

    together = courier.quick_jit(jax.vmap(train))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *made.hypers)
    states, metrics = jax.device_get(together(made.keys, stacked))
    together(made.keys, jax.tree.map(lambda leaf: leaf[::-1], stacked))
    assert len(traces) == 1 and together._cache_size() == 1  # type: ignore[attr-defined]
    alone = courier.quick_jit(train)
    for k, hyper in enumerate(made.hypers):
        hyper = jax.tree.map(np.asarray, hyper)
        state, told = alone(made.keys[k], hyper)
        np.testing.assert_array_equal(metrics.visits[k], told.visits)
        np.testing.assert_array_equal(metrics.handoffs[k], told.handoffs)
        for several, single in zip(jax.tree.leaves(states), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(several[k], single, rtol=1e-5, atol=1e-5)
    assert len(traces) == 2 and alone._cache_size() == 1  # type: ignore[attr-defined]
    final = [one.tobytes() for one in np.asarray(jax.tree.leaves(states.params)[0])]
    assert len(set(final)) == 4


def test_a_run_is_collect_and_update_in_turn() -> None:
    """``train`` is ``init`` and ``run``, and ``run`` draws the words of update ``k`` from ``fold_in(key, k)``."""
    learner, params = tabular_learner(7, 3), tabular_env(golden("episodic_masks"))[1]
    hyper = Hyper(params, None, schedules.polynomial(0.6))
    trained, _ = courier.quick_jit(learner.train, static_argnums=2)(jax.random.key(8), hyper, 5)
    key_init, key_run = jax.random.split(jax.random.key(8))
    state = courier.program(learner.init)(key_init, hyper)
    collect, update = courier.program(learner.collect), courier.program(learner.update)
    for k in range(5):
        key_act, key_send = jax.random.split(jax.random.fold_in(key_run, k))
        state, rows = collect(key_act, state, hyper)
        state, told = update(key_send, state, rows, hyper)
        np.testing.assert_array_equal(told.visits, np.bincount(rows.agent.ravel(), minlength=3))
        pairs = np.zeros((3, 3), int)
        np.add.at(pairs, (rows.agent.ravel(), rows.final_agent.ravel()), (rows.discount > 0).ravel().astype(int))
        np.testing.assert_array_equal(told.handoffs, pairs)
        np.testing.assert_allclose(told.reward, rows.reward.mean(), rtol=1e-5)
    assert int(state.updates) == int(trained.updates) == 5
    np.testing.assert_array_equal(state.env_state.index, trained.env_state.index)
    np.testing.assert_allclose(state.params, trained.params, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"explore": "softly"}, "explore = 'softly'"),
        ({"target": "two-handoff"}, "target = 'two-handoff'"),
        ({"bootstrap": "hearsay"}, "bootstrap = 'hearsay'"),
        ({"double": True}, "target_network"),
        ({"federated_every": 3}, "federated_every"),
        ({"roles": True}, "roles"),
        ({"bootstrap": "own-turn", "target": "lambda"}, "one-handoff"),
        ({"values": networks.linear(3, 3)}, "optimiser = None"),
    ],
)
def test_what_means_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(tabular_learner(1, 1), **changes)
