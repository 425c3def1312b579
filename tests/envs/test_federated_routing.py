"""Federated routing against its twin; routers against pooled sums and plain gradient descent."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.core.checks import check_environment
from icsmdp_jax.envs.federated_routing import covered, federated_routing, routers
from icsmdp_jax.envs.federated_routing.env import CLIENTS, embedding, mixes, states
from tests.envs.listed_checks import jitted
from tests.reference import federated_routing as twin


def named() -> list[twin.Prompt]:
    """The environment's states, in its order, as the twin names them."""
    who = (*twin.CLIENTS, *twin.MODELS)
    return [
        twin.Prompt(who[holder], int(number), bool(backlog), bool(left))
        for holder, number, backlog, left in zip(*states(), strict=True)
    ]


@pytest.mark.parametrize("changes", [{}, dict(coverage=4, focus=0.5)], ids=["default", "other"])
def test_all_tables_agree_with_the_twin(changes: dict) -> None:
    env, params = federated_routing(**changes)
    office, names = twin.Agency(**changes), named()
    host = jax.tree.map(np.asarray, params)
    start = office.start()
    assert math.isclose(host.start.sum(), 1, rel_tol=1e-5) and len(set(names)) == len(names) == env.num_deciding
    ends = [*names, twin.RIGHT, twin.WRONG]
    for s, prompt in enumerate(names):
        assert math.isclose(host.start[s], start.get(prompt, 0.0), abs_tol=1e-6)
        assert host.mask[host.interface[s]].tolist() == office.options(prompt)
        for o in np.flatnonzero(office.options(prompt)):
            law: dict[object, float] = {}
            for to, p in zip(host.successor[s, o], host.probability[s, o], strict=True):
                law[ends[to]] = law.get(ends[to], 0.0) + float(p)
            expected = office.outcomes(prompt, int(o))
            assert law.keys() == expected.keys()
            assert all(math.isclose(law[to], expected[to], abs_tol=1e-6) for to in law)
            mean = host.shortest[s, o] + host.longer[s, o]
            assert math.isclose(mean, office.mean_blocks(prompt, int(o)), rel_tol=1e-6)
            assert math.isclose(host.dollars[s, o], office.dollars(prompt, int(o)), rel_tol=1e-6)


def test_steps_are_those_of_the_twin() -> None:
    env, params = federated_routing()
    office, names, rng = twin.Agency(), named(), np.random.default_rng(0)
    reset, step = jitted(env)
    ends = [*names, twin.RIGHT, twin.WRONG]
    seen = set()
    for run in range(25):
        handoff, state = reset(jax.random.key(run), params)
        for turn in range(3):
            prompt = names[int(state.index)]
            option = int(rng.choice(np.flatnonzero(handoff.mask)))
            handoff, state = step(jax.random.key(100 * run + turn), state, jnp.int32(option), params)
            after, tau = ends[int(state.index)], int(handoff.duration)
            assert office.outcomes(prompt, option)[after] > 0
            assert abs(tau - office.mean_blocks(prompt, option)) < 1
            paid = office.reward(option, tau, after, office.dollars(prompt, option))
            assert math.isclose(handoff.reward, paid, abs_tol=3e-6)
            seen.add((turn, after if isinstance(after, str) else "on"))
            if handoff.terminated:
                break
        else:
            raise AssertionError("a prompt was handed on more than twice")
    assert {(0, "on"), (1, "on"), (1, twin.RIGHT), (2, twin.RIGHT)} <= seen


@pytest.mark.slow
def test_the_contract() -> None:
    env, params = federated_routing()
    assert check_environment(env, params, jax.random.key(1)).agents == 9


def logs(coverage: int = 2, count: int = 60) -> routers.Log:
    return routers.evaluations(np.random.default_rng(0), mixes(0.8), covered(coverage), count)


def test_merged_statistics_are_those_of_the_pooled_log() -> None:
    """In given cells; against a plain loop over all evaluations."""
    log = logs()
    centres = np.random.default_rng(1).normal(size=(5, 2)) + 1
    merged = routers.Statistics.merged([routers.Statistics.of(centres, log, client) for client in range(CLIENTS)])
    pooled = routers.Statistics.of(centres, log.pooled(), 0)
    plain: dict[tuple[int, int], list[float]] = {}
    for client in range(CLIENTS):
        for at, model, right in zip(log.at[client], log.model[client], log.right[client], strict=True):
            cell = min(range(5), key=lambda c: math.dist(at, centres[c]))
            plain.setdefault((cell, int(model)), []).append(right)
    for one, other in zip(merged, pooled, strict=True):
        np.testing.assert_allclose(one, other)
    for cell, model in np.ndindex(5, 5):
        found = plain.get((cell, model), [])
        assert (merged.asked[cell, model], merged.right[cell, model]) == (len(found), sum(found))
    accuracy, _ = merged.estimates()
    overall = merged.right[:, 4].sum() / merged.asked[:, 4].sum()
    some = int(merged.asked[:, 4].argmax())
    expected = (merged.right[some, 4] + 2 * overall) / (merged.asked[some, 4] + 2)
    assert accuracy[some, 4] == pytest.approx(expected)


def test_k_means_stays_where_it_is_best() -> None:
    """Weights count as copies, and each centre is the mean of its own points."""
    rng = np.random.default_rng(2)
    points, weight = rng.normal(size=(40, 2)), rng.integers(1, 4, size=40)
    centres, share = routers.k_means(points, weight, 4, rounds=50)
    cell = routers.nearest(points, centres)
    for each in range(4):
        np.testing.assert_allclose(
            centres[each], np.average(points[cell == each], axis=0, weights=weight[cell == each])
        )
        assert share[each] == weight[cell == each].sum()
    first = int(weight.argmax())
    order = np.append(first, np.delete(np.arange(40), first))
    copies, _ = routers.k_means(points[np.repeat(order, weight[order])], np.ones(weight.sum()), 4, rounds=50)
    np.testing.assert_allclose(copies, centres)


def test_local_routers_never_ask_what_they_do_not_cover() -> None:
    log, reach = logs(), covered(2)
    for found in (routers.by_cells(log), routers.by_perceptron(log, reach, 0, 20)):
        asked = routers.chosen(found["local"], 3.0)
        assert all(reach[client, model] for client, row in enumerate(asked) for model in row)
        assert np.isnan(found["local"][0]).any() and not np.isnan(found["federated"][0]).any()


def test_averaging_each_step_is_gradient_descent_on_the_pooled_logs() -> None:
    """Against a plain loop on the pooled log; alone, a client does not depend on the others."""
    log = logs(count=20)
    given = routers.Log(*(jnp.asarray(each, jnp.int32 if each.dtype.kind == "i" else jnp.float32) for each in log))
    together = routers.averaged(jax.random.key(3), given, jnp.int32(1), 20)
    params = routers.initial(jax.random.key(3))
    speed = jax.tree.map(jnp.zeros_like, params)
    slope = jax.jit(jax.grad(routers.loss))
    pooled = [each[0] for each in jax.tree.map(jnp.asarray, given.pooled())]
    for _ in range(20):
        speed = jax.tree.map(lambda v, g: 0.9 * v - 0.2 * 0.1 * g, speed, slope(params, *pooled))
        params = jax.tree.map(jnp.add, params, speed)
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(one, np.broadcast_to(other, one.shape), rtol=2e-4, atol=2e-5)
    alone = routers.averaged(jax.random.key(3), given, jnp.int32(21), 20)
    swapped = routers.Log(*(each.at[1:].set(each[:1]) for each in given))
    again = routers.averaged(jax.random.key(3), swapped, jnp.int32(21), 20)
    assert not np.allclose(alone["out"][0], alone["out"][1])
    np.testing.assert_allclose(alone["out"][0], again["out"][0], rtol=1e-5, atol=1e-6)


def test_prompts_of_a_class_lie_together() -> None:
    middle = embedding().reshape(6, 4, 2).mean(axis=1)
    spread = np.linalg.norm(embedding().reshape(6, 4, 2) - middle[:, None], axis=2)
    away = np.linalg.norm(middle[:, None] - middle, axis=2)[np.triu_indices(6, 1)]
    assert spread.mean() < away.min()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(coverage=0), "coverage = 0: expected a whole number of at least 1"),
        (dict(coverage=6), "coverage = 6: expected at most 5, the number of models"),
        (dict(focus=1.5), "focus = 1.5: expected a number from 0 to 1"),
        (dict(gamma=1.0), "gamma = 1.0: expected a number between 0 and 1"),
    ],
)
def test_bad_numbers_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        federated_routing(**changes)
