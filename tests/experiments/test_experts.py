"""What is counted on the way of a query, against closed forms; the experiment itself where there is time."""

from __future__ import annotations

import json
import math
from functools import cache

import numpy as np
import pytest

from icsmdp_jax.envs.expert_routing import TEAM, best_agents, expert_routing, states
from icsmdp_jax.envs.expert_routing.queries import HAND
from icsmdp_jax.envs.expert_routing.table import published, shares
from icsmdp_jax.exact.returns import Interval, Returns
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.experts import DEFAULT, WEIGHTS, Frontier, run, single, totals
from icsmdp_jax.experiments.training import Budget


@cache
def parts():  # type: ignore[no-untyped-def]
    env, params = expert_routing()
    model = env.exact_model(params)
    return env, params, model, totals(env, params, model)


@pytest.mark.parametrize("agent", range(5))
def test_everything_to_one_model_has_the_published_accuracy(agent: int) -> None:
    """And its bill: difficulties average out by construction, types with their shares."""
    env, _, _, count = parts()
    accuracy, dollars, _ = published(TEAM)
    found = count.of(count.by_choice(single(env, agent)))
    assert math.isclose(found["right"], shares(None) @ accuracy[:, agent], abs_tol=1e-6)
    assert math.isclose(found["dollars"], shares(None) @ dollars[:, agent], rel_tol=1e-5)
    assert math.isclose(found["handed on"], float(agent > 0), abs_tol=1e-9)
    assert math.isclose(found[f"agent {agent}"], 1, abs_tol=1e-9) and found["checks"] == 0


def test_a_router_that_knows_is_always_right_about_whom_to_ask() -> None:
    env, params, _, count = parts()
    rows = states(env)
    best = best_agents(env, params)[rows.kind, rows.difficulty]
    assert math.isclose(count.of(count.by_choice(single(env, best)))["routed"], 1, abs_tol=1e-6)
    worst = (best + 1) % 5
    assert count.of(count.by_choice(single(env, worst)))["routed"] == 0


def test_totals_of_the_random_workflow_by_simulation() -> None:
    """2000 queries followed through the exact model's own laws; each mean within 4.5 standard errors (1e-4 in all)."""
    env, params, model, count = parts()
    exact, rng = count.of(count.uniform()), np.random.default_rng(0)
    seen = {name: np.zeros(2000) for name in ("dollars", "handed on", "checks", "right")}
    for query in range(2000):
        s = int(rng.choice(model.num_states, p=model.start / model.start.sum()))
        while s < env.num_deciding:
            o = int(rng.choice(np.flatnonzero(model.option_mask[model.interface[s]])))
            after = int(rng.choice(model.successor[s, o], p=model.probability[s, o] / model.probability[s, o].sum()))
            seen["dollars"][query] += np.asarray(params.dollars)[s, o]
            seen["handed on"][query] += o >= HAND
            seen["checks"][query] += o == 1
            seen["right"][query] += after == env.num_deciding
            s = after
    for name, values in seen.items():
        assert abs(values.mean() - exact[name]) < 4.5 * values.std() / math.sqrt(2000) + 1e-9, name
    assert math.isclose(sum(exact[f"agent {i}"] for i in range(5)), 1, abs_tol=1e-6)


def test_returns_are_totals_without_discount() -> None:
    """As gamma goes to 1, the oracle's return is what its totals are worth."""
    env, params = expert_routing(gamma=0.99999)
    model = env.exact_model(params)
    count, returns = totals(env, params, model), Returns(model)
    found = count.of(count.by_choice(returns.q_star.q.argmax(axis=1)))
    worth = found["right"] - 3.0 * found["dollars"] - 0.01 * found["blocks"]
    assert math.isclose(worth, returns.oracle, abs_tol=2e-4)


@pytest.mark.slow
def test_the_frontier_falls_with_the_price() -> None:
    """Dearer dollars never make an exact oracle spend more, and what it saves costs accuracy."""
    env, params, _, _ = parts()
    frontier = Frontier(env, params, Budget(updates=2, copies=2, length=2, replicas=2), 0)
    dollars = [row["dollars"].mean for row in frontier.oracle]
    right = [row["right"].mean for row in frontier.oracle]
    assert dollars == sorted(dollars, reverse=True) and right == sorted(right, reverse=True)
    assert WEIGHTS[DEFAULT] == float(params.dollar_weight)
    for share in frontier.shares:
        np.testing.assert_allclose(share.sum(axis=1), 1)
    assert 0.9 < frontier.some_right < 1


@pytest.mark.slow
def test_the_experiment_runs() -> None:
    result = run(Options("expert-routing", preset="testing"))
    assert {table.name for table in result.tables} >= {"metrics", "references", "frontier"}
    assert isinstance(result.methods["ic_q"], Interval) and result.message_scalars_per_handoff == 1
    json.dumps(result.as_json(), allow_nan=False)
    for draw in result.figures.values():
        assert draw().axes
