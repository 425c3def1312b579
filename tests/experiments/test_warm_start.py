"""Warm starts: the hull is what it is called, the loss is the temporal difference, and counts are counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.drawing import style
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.result import exactly, over_replicas
from icsmdp_jax.experiments.warm_start import (
    GOAL,
    METHODS,
    NEW,
    SEARCHED,
    WEIGHTS,
    Found,
    Watched,
    _result,
    coefficients,
    distance,
    mixing_loss,
    tasks,
    until,
    watch,
)  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return tasks()


def test_only_the_inside_lies_in_the_hull(made):
    """Parameters give the exact ``Q_phi``, and only inside is it a convex combination of the experts'."""
    for name in ("inside", "near", "outside"):
        task = made[name]
        values = np.einsum("zom,zm->zo", task.planted[task.model.interface_agent], task.model.features)
        np.testing.assert_allclose(values, task.returns.q_phi.q, atol=1e-9)
        assert task.scaled(values) == pytest.approx(1, abs=1e-9)  # the gap is 0: the interface hides nothing
    assert distance(made["inside"], WEIGHTS) < 1e-12 > abs(np.sum(WEIGHTS) - 1)
    off = {name: distance(task) for name, task in made.items()}
    assert off["inside"] < 1e-6 < 0.02 < off["near"] < off["outside"]
    assert off["rewards"] > 0.02  # a maximum over options is not linear in the rewards
    assert distance(made["near"]) <= distance(made["near"], WEIGHTS)


def test_loss_is_the_temporal_difference_of_the_new_agent(made):
    task, rng = made["inside"], np.random.default_rng(0)
    alpha, held = rng.dirichlet(np.ones(NEW), 2)
    agent_of = task.model.interface_agent
    interface, received = rng.integers(task.model.num_interfaces, size=(2, 40))
    seen = Watched(
        agent_of[interface], interface, rng.integers(4, size=40), rng.normal(size=40), rng.uniform(0, 1, 40),
        agent_of[received], received,
    )  # fmt: skip
    errors = []
    for b in np.flatnonzero(seen.agent == NEW):
        own = sum(alpha[k] * task.planted[k] for k in range(NEW))
        theirs = task.planted[seen.receiver[b]]
        if seen.receiver[b] == NEW:
            theirs = sum(held[k] * task.planted[k] for k in range(NEW))
        offer = max(theirs @ task.model.features[received[b]])
        value = own[seen.option[b]] @ task.model.features[interface[b]]
        errors.append(value - seen.reward[b] - seen.discount[b] * offer)
    seen32 = jax.tree.map(lambda x: jnp.asarray(x, jnp.int32 if x.dtype.kind == "i" else jnp.float32), seen)
    loss = mixing_loss(jnp.asarray(task.planted, jnp.float32), jnp.asarray(task.model.features, jnp.float32), seen32)
    found = float(loss(jnp.asarray(alpha, jnp.float32), jnp.asarray(held, jnp.float32)))
    assert len(errors) > 5 and found == pytest.approx(np.mean(np.square(errors)), rel=1e-4)


def test_gradient_free_mixing_is_within_two_percent_of_full_gradients(made):
    """On a fixed key, inside the hull: in the start's return, in its values, and in the coefficients.

    The same segments, so that sampling noise is common to both; what is left is the search's own noise, which vanishes
    with the gradient.

    Over keys 2 to 34 values never differed by more than 0.007, returns once by more than 0.02 (0.022): another stream
    of random numbers would break this test with a probability of 1 in 33, at most 0.16 with confidence 0.95.
    """
    task = made["inside"]
    env, params = tabular_env(task.model)
    features, planted = (jnp.asarray(part, jnp.float32) for part in (task.model.features, task.planted))

    @jax.jit
    def found(key):
        return coefficients(planted, features, watch(env, params, key, 600), jax.random.fold_in(key, 1))

    weights = {name: np.asarray(w, float) for name, w in found(jax.random.key(2)).items()}
    off = {name: distance(task, w) for name, w in weights.items()}
    starts = task.planted[None].repeat(2, 0)
    starts[:, NEW] = [np.tensordot(weights[name], task.planted[:NEW], 1) for name in SEARCHED]
    worth = task.scaled(np.einsum("rzom,zm->rzo", starts[:, task.model.interface_agent], task.model.features))
    free, full = SEARCHED
    assert abs(off[free] - off[full]) < 0.02 and abs(worth[0] - worth[1]) < 0.02
    assert max(off[free], off[full]) < 0.5 * min(off["uniform_mixing"], off["data_size_mixing"])
    for w in weights.values():
        assert w.min() >= 0 and w.sum() == pytest.approx(1, abs=1e-5)
    visits = weights["data_size_mixing"]
    assert visits[0] > visits[1] and visits[3] > visits[2]  # twice as many interfaces


def test_handoffs_until_the_goal_count_what_was_watched():
    course = np.array([[0.1, GOAL, 0.2, 1.0], [0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0]])
    assert until(course, 10, 5).tolist() == [15, 35, 5]


def test_result_counts_what_it_took(made):
    """Made-up curves: the searched mixtures arrive three points earlier and pay for what they watched."""
    every, watched, replicas = 1000, 300, 3
    course = {method: np.full((replicas, 5), 0.5) for method in METHODS}
    course["cold_start"][:, 4:], course[SEARCHED[0]][:, 1:], course[SEARCHED[1]][:, 1:] = GOAL, GOAL, 1.0
    weights = dict.fromkeys((m for m in METHODS if m != "cold_start"), np.tile(np.full(NEW, 1 / NEW), (replicas, 1)))
    weights |= dict.fromkeys(SEARCHED, np.tile(WEIGHTS, (replicas, 1)))
    found = dict.fromkeys(made, Found(weights, course))
    result = _result(Options("warm-start", "quick"), made, found, every, watched)
    rows = {tuple(row[:2]): row[2:] for row in result.tables[0].rows}
    error, start, spent, saved, never = rows["inside", METHODS[SEARCHED[0]]]
    assert error.mean < 1e-12 and (start.mean, spent.mean, saved.mean, never) == (0.5, 1300, 2700, 0)
    assert rows["near", METHODS["uniform_mixing"]][2:] == [over_replicas(np.full(3, 4000)), exactly(0, 3), 3]
    assert rows["inside", METHODS["cold_start"]][0] == "-" and result.methods["cold_start"].mean == 4000
    assert set(result.checks.values()) == {True} and result.settings["handoffs"] == 4000
    with style.house_style():
        axes = result.figures["families"]().axes
    assert len(axes) == 4
    for drawn in axes:
        lines = {line.get_label(): line.get_xydata() for line in drawn.lines}
        np.testing.assert_allclose(lines[METHODS["cold_start"]][:, 1], course["cold_start"].mean(axis=0))
    late = dict(course, **{SEARCHED[0]: course["cold_start"] - 0.1})
    later = _result(Options("warm-start", "quick"), made, dict.fromkeys(made, Found(weights, late)), every, watched)
    assert set(later.checks.values()) == {False}
