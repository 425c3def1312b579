"""What is counted on the way of a problem, against closed forms; the experiment itself where there is time."""

from __future__ import annotations

import json
import math
from functools import cache

import numpy as np
import pytest

from icsmdp_jax.envs.expert_routing.table import published, shares
from icsmdp_jax.envs.math_pipeline import TEAM, math_pipeline
from icsmdp_jax.exact.returns import Interval, Returns
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.mathematics import DEFAULT, NOISES, WORKFLOWS, run, totals, workflow
from icsmdp_jax.experiments.training import Budget, prepared, train, train_at

REPAIR, HARM, LIFT = 0.7, 0.1, 3.0  # the environment's own


@cache
def parts():  # type: ignore[no-untyped-def]
    env, params = math_pipeline()
    model = env.exact_model(params)
    return env, params, model, totals(env, params, model)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_fixed_workflows_in_closed_form(name: str) -> None:
    """Accuracy, repairs, harms and dollars from the published table alone."""
    env, _, _, count = parts()
    found = count.of(count.by_choice(workflow(env, WORKFLOWS[name])))
    accuracy, dollars, tokens = published(TEAM)
    solver = 1 if "solver A" in name else 2
    right = accuracy[:, solver]
    bill = dollars[:, solver] + 200 / tokens[:, 4] * dollars[:, 4]
    if "plan" in name:
        odds = right / (1 - right)
        sound = accuracy[:, 0]
        right = sound * LIFT * odds / (1 + LIFT * odds) + (1 - sound) * (odds / LIFT) / (1 + odds / LIFT)
        bill = bill + 0.2 * dollars[:, 0]
    if "verify" in name:
        assert math.isclose(found["repairs"], shares(None) @ ((1 - right) * REPAIR), abs_tol=1e-6)
        assert math.isclose(found["harms"], shares(None) @ (right * HARM), abs_tol=1e-6)
        right = right * (1 - HARM) + (1 - right) * REPAIR
        bill = bill + 0.3 * dollars[:, 3]
    assert math.isclose(found["right"], shares(None) @ right, abs_tol=1e-6)
    assert math.isclose(found["dollars"], shares(None) @ bill, rel_tol=1e-5)
    assert math.isclose(found["submitted"], 1, abs_tol=1e-9) and math.isclose(found["drafts"], 1, abs_tol=1e-9)


def test_returns_are_totals_without_discount() -> None:
    env, params = math_pipeline(gamma=0.99999)
    model = env.exact_model(params)
    count, returns = totals(env, params, model), Returns(model)
    found = count.of(count.by_choice(returns.q_star.q.argmax(axis=1)))
    assert math.isclose(found["right"] - found["dollars"] - 0.01 * found["blocks"], returns.oracle, abs_tol=2e-4)
    assert found["blocks"] <= env.budget + 1e-9


def test_doing_nothing_uses_up_the_budget() -> None:
    """Passing on to and fro: twelve blocks, nothing submitted, nothing spent."""
    env, _, _, count = parts()
    found = count.of(count.by_choice(np.full(env.num_deciding + 2, 2)))
    assert math.isclose(found["blocks"], env.budget, abs_tol=1e-9)
    assert found["dollars"] == found["right"] == found["submitted"] == 0


@pytest.mark.slow
def test_settings_side_by_side_are_the_single_trainings() -> None:
    """Bit for bit would be too much to ask of other shapes; the same up to rounding."""
    env, params, model, _ = parts()
    noiseless = math_pipeline(noise=0.0)[1]
    budget = Budget(updates=20, copies=4, length=8, replicas=2)
    swept = train_at("ic_q", env, [params, noiseless], model, budget)
    for index, setting in enumerate((params, noiseless)):
        alone = train(prepared("ic_q", env, setting, model, budget), budget).tables
        np.testing.assert_allclose(swept[index], alone, atol=1e-5)
    other = math_pipeline(budget=8)[1]
    with pytest.raises(ValueError, match=r"settings\[1\]: arrays of other shapes"):
        train_at("ic_q", env, [params, other], model, budget)


@pytest.mark.slow
def test_the_experiment_runs() -> None:
    result = run(Options("math-pipeline", preset="testing"))
    assert {table.name for table in result.tables} >= {"metrics", "references", "noise"}
    assert isinstance(result.methods["ic_q"], Interval) and result.message_scalars_per_handoff == 1
    json.dumps(result.as_json(), allow_nan=False)
    for draw in result.figures.values():
        assert draw().axes
    assert NOISES[DEFAULT] == 0.3
