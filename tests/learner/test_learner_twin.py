"""The compiled learner against a plain Python one on the same trajectory, and its averages against plain sums.

The learner's own handoffs are recorded step by step and fed, with the step sizes that the schedule prescribes, to
the loops of ``tests/reference/simulate.py``. Nothing here is random beyond the recorded trajectory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.learner import averages, networks, schedules, train
from icsmdp_jax.learner.icq import Inputs, Learner, LearnerState
from icsmdp_jax.learner.schedules import StepSize
from tests.helpers import golden, golden_analysis, learner_inputs, same_bits
from tests.reference import simulate

MODEL = "episodic_masks"  # masks, terminal states and restarts all at once
STEPS = 1000
CLOSE = 2e-5  # float32 rounding relative to the scale of Q; a wrong sign, mask or step is off by 1e-2 and more


class Record(NamedTuple):
    """What one run of the learner did: its trajectory, and parameters and temporal difference at each step."""

    trajectory: simulate.Trajectory
    iterates: np.ndarray
    first: np.ndarray
    errors: np.ndarray


def feature_table() -> np.ndarray:
    """``[Z, 3]`` float32 rows of norm at most 1."""
    rows = np.random.default_rng(5).normal(size=(golden(MODEL).num_interfaces, 3))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@cache
def tabular_learner(clock: str = "visits", project: bool = False) -> Learner:
    model = golden(MODEL)
    env, _ = tabular_env(model)
    return Learner(env, networks.tabular(model.num_interfaces, model.num_options), clock, project)


@cache
def linear_learner(clock: str = "visits", project: bool = False) -> Learner:
    model = golden(MODEL)
    env, _ = tabular_env(model)
    return Learner(env, networks.linear(model.num_agents, model.num_options), clock, project)


def inputs_for(learner: Learner, size: StepSize, radius: float = 0.0) -> Inputs:
    _, params = tabular_env(golden(MODEL))
    data = feature_table() if learner.values.name == "linear" else None
    behaviour = golden_analysis(MODEL).interface.chain.behaviour
    return jax.tree.map(jnp.asarray, learner_inputs(params, behaviour, size, data, radius))


@cache
def compiled_run(learner: Learner) -> Callable[..., Any]:
    """Steps that also tell what happened: trajectory, parameters and error of each."""

    def advance(state: LearnerState, row: jax.Array, inputs: Inputs) -> tuple[LearnerState, tuple]:
        option = learner.act(row[learner.env.words_per_step :], state, inputs)
        new, (_, _, error) = learner.step(row, state, inputs)
        now, then = state.handoff, new.handoff
        segment = (now.agent, state.env_state.index, now.interface, option, then.reward, then.duration)
        # Where the segment ended no learner may know, so the trajectory's next state is left out (-1).
        receiver = (jnp.int32(-1), then.final_interface, then.terminated, then.final_mask)
        return new, (simulate.Trajectory(*segment, *receiver), new.params, error)

    return jax.jit(lambda state, words, inputs: jax.lax.scan(lambda s, row: advance(s, row, inputs), state, words)[1])


def record(learner: Learner, size: StepSize, radius: float = 0.0, seed: int = 0, scale: float = 3.0) -> Record:
    """Steps the learner from random first parameters and writes everything down."""
    inputs = inputs_for(learner, size, radius)
    state = jax.jit(learner.init)(jax.random.key(seed), inputs)
    rng = np.random.default_rng(seed)
    first = (scale * rng.normal(size=state.params.shape)).astype(np.float32)
    if learner.project:
        vectors = first.reshape(*first.shape[:2], -1)
        vectors *= np.minimum(1, radius / np.linalg.norm(vectors, axis=-1, keepdims=True))
    words = jax.random.bits(jax.random.key(seed + 100), (STEPS, learner.words_per_step), jnp.uint32)
    ran = compiled_run(learner)(state._replace(params=first), words, inputs)
    trajectory, iterates, errors = jax.device_get(ran)
    return Record(trajectory, iterates, first, errors.astype(float))


def agree(found: np.ndarray, wanted: np.ndarray) -> None:
    scale = 1 + np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=CLOSE * scale)
    assert np.abs(wanted[-1] - wanted[0]).max() > 0.1  # something was learned


def epochs(trajectory: simulate.Trajectory) -> np.ndarray:
    return np.arange(len(trajectory.option))


def visits(trajectory: simulate.Trajectory, rows: np.ndarray) -> np.ndarray:
    """Earlier updates of the same (row, option), counted plainly."""
    seen: dict[tuple[int, int], int] = {}
    out = []
    for pair in zip(rows.tolist(), trajectory.option.tolist(), strict=True):
        out.append(seen.get(pair, 0))
        seen[pair] = out[-1] + 1
    return np.array(out)


def test_recorded_trajectory_shows_every_case() -> None:
    """Masks at the receiving end, terminal handoffs, restarts and several agents all occur."""
    path = record(tabular_learner(), schedules.constant(0.1)).trajectory
    model = golden(MODEL)
    assert path.terminal.sum() > 20 and (~path.next_mask).any(axis=1).sum() > 100
    assert set(path.agent) == set(range(model.num_agents))
    assert model.option_mask[path.interface, path.option].all()
    assert (path.interface[1:] != path.next_interface[:-1])[path.terminal[:-1]].any()
    np.testing.assert_array_equal(
        path.interface[1:][~path.terminal[:-1]], path.next_interface[:-1][~path.terminal[:-1]]
    )


@pytest.mark.parametrize(
    ("clock", "size", "plain"),
    [
        ("visits", schedules.polynomial(0.8, 0.5, 3.0, 0.7), lambda c: np.minimum(0.7, 3 * (1 + c / 2) ** -0.8)),
        ("visits", schedules.rescaled_linear(0.75), lambda c: 1 / (1 + 0.25 * c)),
        ("epoch", schedules.theorem_decaying(0.5, 0.9), lambda c: 1 / (0.5 * (c + 1) * 0.1)),
    ],
)
def test_tabular_learner_is_the_plain_loop(clock: str, size: StepSize, plain: object) -> None:
    found = record(tabular_learner(clock), size)
    path = found.trajectory
    model = golden(MODEL)
    if clock == "epoch":
        count = epochs(path)
    else:
        count = simulate.visit_counts(path, model.num_interfaces, model.num_options)
    wanted = simulate.tabular_icq(path, plain(count), model.gamma, found.first)  # type: ignore[operator]
    agree(found.iterates, wanted)
    # The temporal difference that the learner reports is the plain one, too.
    before = np.concatenate([found.first[None].astype(float), wanted[:-1]])
    differences = [
        simulate.target(
            path.reward[k],
            path.duration[k],
            model.gamma,
            simulate.message(before[k][path.next_interface[k]], path.next_mask[k], path.terminal[k]),
        )
        - before[k][path.interface[k], path.option[k]]
        for k in range(STEPS)
    ]
    np.testing.assert_allclose(found.errors, differences, rtol=0, atol=4 * CLOSE * (1 + np.abs(before).max()))


@pytest.mark.parametrize(
    ("clock", "size", "plain"),
    [
        ("visits", schedules.polynomial(0.6), lambda c: np.minimum(1, (1.0 + c) ** -0.6)),
        ("epoch", schedules.theorem_decaying(0.5, 0.0), lambda c: 2 / (c + 1)),
    ],
)
def test_linear_learner_is_the_plain_loop(clock: str, size: StepSize, plain: object) -> None:
    found, model, table = record(linear_learner(clock), size), golden(MODEL), feature_table()
    path = found.trajectory
    features = np.zeros((model.num_interfaces, model.num_options, model.num_agents, model.num_options, 3))
    for z in range(model.num_interfaces):
        for o in range(model.num_options):
            features[z, o, max(model.interface_agent[z], 0), o] = table[z]
    features = features.reshape(model.num_interfaces, model.num_options, -1)
    count = epochs(path) if clock == "epoch" else visits(path, path.agent)
    steps = plain(count)  # type: ignore[operator]
    wanted = simulate.linear_icq(path, features, steps, model.gamma, found.first.ravel())
    agree(found.iterates, wanted.reshape(found.iterates.shape))


def plain_projected(found: Record, table: np.ndarray, step: float, radius: float) -> np.ndarray:
    """Linear IC-Q with a ball around 0 for each vector ``theta_{i,o}``, one line per line of (D9) and (T3)."""
    path, gamma = found.trajectory, golden(MODEL).gamma
    owner = np.maximum(golden(MODEL).interface_agent, 0)
    theta = found.first.astype(float)
    out = []
    for k in range(STEPS):
        i, o, psi = path.agent[k], path.option[k], table[path.interface[k]].astype(float)
        z_next = path.next_interface[k]
        offered = theta[owner[z_next]] @ table[z_next].astype(float)
        scalar = simulate.message(offered, path.next_mask[k], path.terminal[k])
        error = simulate.target(path.reward[k], path.duration[k], gamma, scalar) - theta[i, o] @ psi
        theta[i, o] += step * error * psi
        length = float(np.linalg.norm(theta[i, o]))
        if length > radius:
            theta[i, o] *= radius / length
        out.append(theta.copy())
    return np.array(out)


def test_linear_learner_projects_each_vector_onto_its_ball() -> None:
    radius = 1.5
    found = record(linear_learner("epoch", project=True), schedules.constant(0.3), radius)
    wanted = plain_projected(found, feature_table(), 0.3, radius)
    agree(found.iterates, wanted)
    length = np.linalg.norm(found.iterates, axis=-1)
    assert length.max() <= radius * (1 + 1e-6)
    assert (length > radius * (1 - 1e-6)).any() and (length < 0.9 * radius).any()  # the ball is met and left again


def test_tabular_learner_projects_each_entry_onto_its_interval() -> None:
    radius = 1.0
    found = record(tabular_learner("epoch", project=True), schedules.constant(0.3), radius)
    path, gamma, table = found.trajectory, golden(MODEL).gamma, found.first.astype(float)
    wanted = []
    for k in range(STEPS):
        scalar = simulate.message(table[path.next_interface[k]], path.next_mask[k], path.terminal[k])
        z, o = path.interface[k], path.option[k]
        error = simulate.target(path.reward[k], path.duration[k], gamma, scalar) - table[z, o]
        table[z, o] = np.clip(table[z, o] + 0.3 * error, -radius, radius)
        wanted.append(table.copy())
    agree(found.iterates, np.array(wanted))
    assert np.abs(found.iterates).max() <= radius and (np.abs(found.iterates[-1]) == radius).any()


# Averages


def test_averages_of_train_are_plain_averages_of_the_iterates() -> None:
    """``train``'s words are drawn again here, every iterate is kept, and the mean is taken in float64."""
    learner, chunk, chunks, replicas = linear_learner(), 50, 4, 2
    inputs = inputs_for(learner, schedules.polynomial(0.6))
    key = jax.random.key(3)
    run = train.train(learner, [inputs], key, replicas, [100, 200], chunk)
    assert run.handoffs == 200 * replicas and [s.samples for s in run.snapshots] == [100, 200]

    step = jax.jit(learner.step)
    for replica in range(replicas):
        state = train.init_run(learner, jax.random.fold_in(key, replica), inputs)
        current, iterates = state.learner, []
        for part in range(chunks):
            for row in np.asarray(random_words(jax.random.fold_in(state.key, part), chunk, learner.words_per_step)):
                iterates.append(np.asarray(current.params, np.float64))
                current, _ = step(row, current, inputs)
        kept = np.array(iterates)
        assert np.abs(kept[-1]).max() > 0.5
        close = {"rtol": 0, "atol": 1e-6 * (1 + np.abs(kept).max())}
        np.testing.assert_allclose(run.snapshots[-1].last[0, replica], current.params, **close)
        np.testing.assert_allclose(run.average()[0, replica], kept.mean(axis=0), **close)
        np.testing.assert_allclose(run.average(0)[0, replica], kept[:100].mean(axis=0), **close)
        np.testing.assert_allclose(run.average(-1, since=100)[0, replica], kept[100:].mean(axis=0), **close)
        np.testing.assert_allclose(run.average(-1, since=100)[0, replica], simulate.tail_average(kept), **close)


def test_a_chunk_mean_is_the_mean_of_the_iterates_before_each_update() -> None:
    rng = np.random.default_rng(0)
    slots = rng.integers(4, size=9)
    changes = rng.normal(size=(9, 3)).astype(np.float32)
    first = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    current, iterates, weighted = np.asarray(first, np.float64), [], jnp.zeros((4, 3), jnp.float32)
    for k in range(9):
        iterates.append(current.copy())
        current[slots[k]] += changes[k]
        weighted = jax.jit(averages.weigh_change)(weighted, slots[k], changes[k], np.float32(8 - k))
    found = jax.jit(averages.chunk_mean, static_argnums=2)(first, weighted, 9)
    np.testing.assert_allclose(found, np.mean(iterates, axis=0), rtol=0, atol=1e-6)


def adversarial(index: jax.Array) -> jax.Array:
    """Chunk means that rise from 0 to 1000 half way and carry a small ripple that must not get lost."""
    level = jnp.where(index < 50_000, jnp.float32(0.1), jnp.float32(1000.1))
    return level + (index % 7).astype(jnp.float32) * jnp.float32(1e-3)


def test_hundred_million_terms_average_right() -> None:
    """10^5 chunk means of 1000 handoffs each: the compensated sum meets float64 to 1e-6, plain float32 does not."""
    chunks = 100_000
    terms = np.asarray(jax.jit(jax.vmap(adversarial))(jnp.arange(chunks)), np.float64)
    exact = terms.sum()

    def body(index: jax.Array, carry: tuple) -> tuple:
        total, naive, running = carry
        term = {"w": adversarial(index)}
        mean = running + (term["w"] - running) / (index + 1).astype(jnp.float32)
        return averages.add(total, term), naive + term["w"], mean

    start = (averages.zeros_like({"w": jnp.zeros((), jnp.float32)}), jnp.float32(0), jnp.float32(0))
    total, naive, running = jax.jit(lambda: jax.lax.fori_loop(0, chunks, body, start))()
    assert averages.to_float64(total)["w"] / chunks == pytest.approx(exact / chunks, abs=1e-6, rel=0)
    assert abs(float(naive) / chunks - exact / chunks) > 1e-3
    assert abs(float(running) - exact / chunks) > 1e-4


def test_two_sum_is_exact() -> None:
    rng = np.random.default_rng(1)
    a = (rng.normal(size=2000) * 10.0 ** rng.integers(-6, 7, size=2000)).astype(np.float32)
    b = (rng.normal(size=2000) * 10.0 ** rng.integers(-6, 7, size=2000)).astype(np.float32)
    total, error = jax.jit(averages.two_sum)(jnp.asarray(a), jnp.asarray(b))
    assert same_bits(total, a + b)
    np.testing.assert_array_equal(
        np.asarray(total, np.longdouble) + np.asarray(error, np.longdouble),
        a.astype(np.longdouble) + b.astype(np.longdouble),
    )


def test_visit_counters_pass_the_limit_of_float32() -> None:
    """2^24 + 1 is not a float32: the counters are int32, and the step size still follows them."""
    size = schedules.polynomial(0.6)
    rule = schedules.stochastic_approximation(size, "visits", per_option=True)
    limit = 2**24
    visits_before = schedules.Visits(jnp.array([limit, 5], jnp.int32))
    segment = train_segment(option=0)
    state = visits_before
    update = jax.jit(rule.update)
    for _ in range(3):
        _, state = update(np.zeros(2, np.float32), state, np.array([1, 0], np.float32), np.float32(1), segment)
    assert state.count.tolist() == [limit + 3, 5] and state.count.dtype == jnp.int32
    for clock in (limit, limit + 1, 10**8, 2**31 - 2):
        found = float(jax.jit(size.at)(np.int32(clock)))
        assert found == pytest.approx((1.0 + clock) ** -0.6, rel=1e-5)


def train_segment(option: int) -> object:
    from icsmdp_jax.core.handoff import Segment

    return Segment(jnp.int32(0), jnp.int32(option), jnp.float32(0), jnp.float32(0), jnp.int32(0))


def test_the_clock_must_be_known() -> None:
    with pytest.raises(ValueError, match="clock = 'wall'"):
        schedules.stochastic_approximation(schedules.constant(0.1), "wall", True)
