"""Federated routing as an experiment: fixed routes against closed forms; the whole of it where there is time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from icsmdp_jax.envs.expert_routing.table import published, shares
from icsmdp_jax.envs.federated_routing import federated_routing
from icsmdp_jax.envs.federated_routing.env import TEAM
from icsmdp_jax.exact.returns import Returns
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.federated import routed, run, spent, totals, workflow


def test_everything_to_one_model_has_the_published_accuracy() -> None:
    """Where prompts come evenly, types count one half each; the linear solve says the same as the sum."""
    env, params = federated_routing(coverage=5, focus=0.0)
    returns = Returns(env.exact_model(params))
    accuracy, dollars, _ = published(TEAM)
    count = totals(returns)
    for model in range(5):
        found = count.of(count.by_choice(workflow(np.full((4, 24), model))))
        assert found["right"] == pytest.approx(accuracy[:, model].mean(), abs=1e-6)
        assert found["dollars"] == pytest.approx(dollars[:, model].mean(), rel=1e-5)
    assert shares(None)[0] != 0.5  # which is what tells this mix from that of expert-routing


def test_sums_over_prompts_are_what_the_model_says() -> None:
    env, params = federated_routing(coverage=5)
    count = totals(Returns(env.exact_model(params)))
    choices = routed(2, 40, 1, 0)[0]
    assert len(choices) == 6
    for each in choices.values():
        found = count.of(count.by_choice(workflow(each[0])))
        np.testing.assert_allclose(spent(each[0]), (found["right"], found["dollars"]), rtol=1e-5)


@pytest.mark.slow
def test_the_experiment_runs() -> None:
    result = run(Options("federated-routing", preset="testing"))
    assert {table.name for table in result.tables} >= {"coverage", "frontier", "sizes"}
    assert result.message_scalars_per_handoff == 1 and set(result.checks.values()) == {None}
    assert result.methods["ic_q"].replicas == result.settings["replicas"]
    assert set(result.methods) == set(result.normalised) > {"kmeans_federated", "mlp_local", "best_router"}
    json.dumps(result.as_json(), allow_nan=False)
    for draw in result.figures.values():
        assert draw().axes
