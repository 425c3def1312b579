"""Diagnostics against loops, hand-computed cases and, for the handoff graph, independent draws from the exact law."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact.chain import behaviour_chain, uniform_behaviour
from icsmdp_jax.exact.moments import kernel_moments
from icsmdp_jax.learner.diagnostics import (
    cosine_matrix,
    exact_handoff_graph,
    flat_gradients,
    gradient_mass,
    gradient_norm,
    handoff_graph,
    visits_share,
)
from icsmdp_jax.learner.exploration import behaviour_table, fixed_behaviour
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import as_model, chi_square
from tests.reference import twin
from tests.reference.models import (
    Model,
    available_options,
    joint_kernel,
    random_behaviour,
    random_model,
    terminal_states,
)
from tests.reference.models import (
    uniform_behaviour as twin_uniform,
)

PLANTED = PlantedConfig(
    num_agents=4, fields=(("a", 2), ("b", 2)), private_states=1, successors=3, duration_mean=4.0, duration_spread=0.6
)


def tree_of(rng: np.random.Generator, agents: int = 3) -> dict[str, np.ndarray]:
    shapes = {"bias": (agents, 2), "deep": (agents, 2, 3, 2), "scalar": (agents,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_visits_are_ratios_of_sums() -> None:
    visits = np.array([2, 0, 1])
    np.testing.assert_allclose(visits_share(visits), [2 / 3, 0, 1 / 3], rtol=1e-6)
    np.testing.assert_array_equal(visits_share(np.zeros(3)), np.zeros(3))
    np.testing.assert_allclose(visits_share(np.array([[1, 3], [2, 2]])), [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(gradient_mass(np.array([3.0, 8.0]), np.array([1, 3])), [0.75, 6.0])


def test_gradient_norms_and_cosines_agree_with_loops() -> None:
    tree = tree_of(np.random.default_rng(0))
    rows = [np.concatenate([np.ravel(tree[name][i]) for name in sorted(tree)]).astype(float) for i in range(3)]
    np.testing.assert_array_equal(flat_gradients(tree), np.array(rows, np.float32))
    np.testing.assert_allclose(gradient_norm(tree), [np.sqrt(sum(x * x for x in row)) for row in rows], rtol=1e-6)
    cosine = np.asarray(jax.jit(cosine_matrix)(tree))
    for i in range(3):
        for j in range(3):
            wanted = sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
            wanted /= np.sqrt(sum(a * a for a in rows[i]) * sum(b * b for b in rows[j]))
            assert cosine[i, j] == pytest.approx(wanted, abs=1e-6)


def test_cosines_of_known_directions_at_any_magnitude() -> None:
    """Squares of 1e-30 and 1e30 leave float32; zero gradients have no direction."""
    rows = jnp.array([[1e-30, 0.0], [3e30, 4e30], [0.0, 0.0], [-2.0, 0.0]], jnp.float32)
    wanted = np.array([[1.0, 0.6, 0.0, -1.0], [0.6, 1.0, 0.0, -0.6], [0.0, 0.0, 0.0, 0.0], [-1.0, -0.6, 0.0, 1.0]])
    np.testing.assert_allclose(jax.jit(cosine_matrix)(rows), wanted, atol=1e-6)
    np.testing.assert_allclose(jax.jit(gradient_norm)(rows), [1e-30, 5e30, 0.0, 2.0], rtol=1e-6)


def test_norms_of_tables_add_up_the_slots_of_each_agent() -> None:
    slots = np.array([[3.0, 0.0], [0.0, 4.0], [1.0, 0.0], [100.0, 100.0]])
    found = gradient_norm(slots, owner=np.array([1, 1, 0, -1]), num_agents=3)
    np.testing.assert_allclose(found, [1.0, 5.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(gradient_norm(np.zeros((2, 2)), np.array([0, 1]), 2), [0.0, 0.0])


def test_graph_of_hand_made_counts() -> None:
    counts = np.array([[0, 6, 0], [2, 0, 0], [0, 0, 0]])
    sums = np.array([[0, 30, 0], [2, 0, 0], [0, 0, 0]])
    ended = np.array([0, 2, 0])
    graph = handoff_graph(counts, sums, ended)
    np.testing.assert_allclose(graph.share, [0.6, 0.4, 0.0], rtol=1e-6)
    np.testing.assert_allclose(graph.rate, counts / 10, rtol=1e-6)
    np.testing.assert_allclose(graph.probability, [[0, 1, 0], [0.5, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(graph.ended, [0, 0.5, 0])
    nan = np.nan
    np.testing.assert_allclose(graph.mean_duration, [[nan, 5, nan], [1, nan, nan], [nan, nan, nan]])
    assert np.isnan(graph.half_width).all()  # nothing is known of the spread over runs
    without = handoff_graph(counts, sums)
    np.testing.assert_allclose(without.probability, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert without.rate.sum() == pytest.approx(1.0)


def test_runs_count_alike_however_long_they_are() -> None:
    """Two runs of 10 and 100 segments: the mean of their rates, and Student's interval with one degree of freedom."""
    counts = np.array([[[0, 6], [2, 0]], [[20, 30], [10, 0]]])
    ended, sums = np.array([[0, 2], [40, 0]]), 3 * counts
    graph = handoff_graph(counts, sums, ended)
    np.testing.assert_allclose(graph.rate, [[0.1, 0.45], [0.15, 0]], rtol=1e-12)
    np.testing.assert_allclose(graph.share, [0.75, 0.25], rtol=1e-12)
    np.testing.assert_allclose(graph.ended * graph.share, [0.2, 0.1], rtol=1e-12)
    np.testing.assert_allclose(graph.half_width, 12.706204736 * np.array([[0.1, 0.15], [0.05, 0]]), rtol=1e-9)
    np.testing.assert_allclose(graph.mean_duration[graph.rate > 0], 3, rtol=1e-12)


def test_long_runs_are_counted_on_the_host_without_rounding() -> None:
    counts = np.array([[2**40, 1], [1, 0]], np.int64)
    graph = handoff_graph(counts, 3 * counts)
    assert graph.rate[0, 1] == 1 / (2**40 + 2) and graph.mean_duration[0, 0] == pytest.approx(3.0, rel=1e-15)


def graph_by_loops(model: Model, behaviour: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates, sums of durations and rates of terminal handoffs, from the definition."""
    kernel, law = joint_kernel(model), twin.stationary_law(model, behaviour)
    agents, ends = int(model["agent"].max()) + 1, terminal_states(model)
    rate, sums, over = np.zeros((agents, agents)), np.zeros((agents, agents)), np.zeros(agents)
    for s, o, t, s_next in np.argwhere(kernel > 0):
        if ends[s] or not available_options(model)[model["interface"][s], o]:
            continue
        mass = law[s] * behaviour[model["interface"][s], o] * kernel[s, o, t, s_next]
        if ends[s_next]:
            over[model["agent"][s]] += mass
        else:
            rate[model["agent"][s], model["agent"][s_next]] += mass
            sums[model["agent"][s], model["agent"][s_next]] += mass * (t + 1)
    return rate, sums, over


@pytest.mark.parametrize("seed", range(6))
def test_exact_graph_agrees_with_loops_over_the_kernel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    form = ({}, {"joint_kernel": True}, {"successor_lists": True})[seed % 3]
    model = random_model(rng, num_agents=3, masks=True, terminals=seed % 2 == 0, **form)
    behaviour = random_behaviour(rng, model)
    rate, sums, over = graph_by_loops(model, behaviour)
    found = exact_handoff_graph(as_model(model), behaviour)
    np.testing.assert_allclose(found.rate, rate, atol=1e-12)
    np.testing.assert_allclose(np.nan_to_num(found.mean_duration) * found.rate, sums, atol=1e-11)
    np.testing.assert_allclose(found.ended * found.share, over, atol=1e-12)
    np.testing.assert_allclose(found.share, rate.sum(axis=1) + over, atol=1e-12)
    np.testing.assert_allclose(found.probability.sum(axis=1) + found.ended, 1.0, atol=1e-12)
    assert found.rate.sum() + over.sum() == pytest.approx(1.0)


def measured_counts(model: TabularModel, copies: int, seed: int) -> tuple[np.ndarray, ...]:
    """One handoff in each of many independent copies that start in the stationary law."""
    chain = behaviour_chain(model, None, kernel_moments(model).probability)
    env, params = tabular_env(model, first=chain.stationary)
    table = behaviour_table(uniform_behaviour(model))

    @jax.vmap
    def segment(key):
        first, act, run = jax.random.split(key, 3)
        now, state = env.reset(first, params)
        option = fixed_behaviour(jax.random.bits(act, (), jnp.uint32), now.interface, table)
        after, _ = env.step(run, state, option, params)
        return now.agent, after.final_agent, after.duration, after.terminated

    seen = jax.jit(segment)(jax.random.split(jax.random.key(seed), copies))
    sender, receiver, lasted, over = map(np.asarray, seen)
    handoffs, durations = np.zeros((2, model.num_agents, model.num_agents), int)
    np.add.at(handoffs, (sender[~over], receiver[~over]), 1)
    np.add.at(durations, (sender[~over], receiver[~over]), lasted[~over])
    return handoffs, durations, np.bincount(sender[over], minlength=model.num_agents)


@pytest.mark.parametrize("episodic", [False, True])
def test_measured_handoffs_follow_the_exact_graph(episodic: bool) -> None:
    """Independent segments, so counts are multinomial: p > 1e-6 (error probability 1e-6), durations within 6 sigma.

    A mean of n durations in 1..T with variance at most (T - 1)^2 / 4 is off by 6 sigma with probability below 2e-9 by
    the central limit theorem, for each of at most 16 arrows with n of 400 or more.
    """
    if episodic:
        model = as_model(random_model(np.random.default_rng(5), num_agents=3, masks=True, terminals=True))
    else:
        model = planted_model(PLANTED).model
    copies = 100_000
    exact, counts = exact_handoff_graph(model), measured_counts(model, copies, seed=7)
    law = np.append(exact.rate.reshape(-1), exact.ended * exact.share)
    assert (exact.ended > 0).any() == episodic
    seen = np.append(counts[0].reshape(-1), counts[2])
    assert seen.sum() == copies and chi_square(seen, law) > 1e-6
    wrong = np.append(exact.rate.T.reshape(-1), exact.ended * exact.share)  # arrows turned round
    assert chi_square(np.where(wrong > 0, seen, 0), wrong) < 1e-6
    measured = handoff_graph(*counts)
    often = seen[: exact.rate.size].reshape(exact.rate.shape) >= 400
    assert often.sum() >= 6
    sigma = (model.longest_duration - 1) / 2 / np.sqrt(counts[0][often])
    assert (np.abs(measured.mean_duration - exact.mean_duration)[often] < 6 * sigma).all()
    turned = np.abs(measured.mean_duration - exact.mean_duration.T)[often]
    assert not (turned < 6 * sigma).all()


def test_graphs_of_several_behaviours_are_averaged() -> None:
    rng = np.random.default_rng(3)
    model = random_model(rng, masks=True)
    two = np.stack([random_behaviour(rng, model) for _ in range(2)])
    each = [exact_handoff_graph(as_model(model), one) for one in two]
    found = exact_handoff_graph(as_model(model), two)
    np.testing.assert_allclose(found.rate, (each[0].rate + each[1].rate) / 2, atol=1e-14)
    timed = [np.nan_to_num(graph.mean_duration) * graph.rate for graph in (found, *each)]
    np.testing.assert_allclose(timed[0], (timed[1] + timed[2]) / 2, atol=1e-13)
    assert np.abs(each[0].rate - each[1].rate).max() > 1e-3 and (found.half_width >= 0).all()


def test_uniform_behaviour_is_the_default() -> None:
    model = random_model(np.random.default_rng(9), masks=True)
    first = exact_handoff_graph(as_model(model))
    second = exact_handoff_graph(as_model(model), twin_uniform(model))
    np.testing.assert_array_equal(first.rate, second.rate)
    assert not np.allclose(
        first.rate, exact_handoff_graph(as_model(model), random_behaviour(np.random.default_rng(1), model)).rate
    )
