"""Small tabular models of every kind, and the learners that all executors run on them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.schedules import StepSize
from icsmdp_jax.learner.train import Run
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import as_model, learner_inputs
from tests.reference.models import random_model

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "episodic": {"masks": True, "terminals": True},
    "joint": {"joint_kernel": True, "terminals": True},
    "lumps": {"lumps": True, "masks": True},
    "joint lumps": {"joint_kernel": True, "lumps": True},
    "lists": {"successor_lists": True, "lumps": True, "terminals": True},
}


@cache
def drawn(kind: str, seed: int) -> TabularModel:
    return as_model(random_model(np.random.default_rng(seed), **KINDS[kind]))


def prepared(
    model: TabularModel, size: StepSize, clock: str = "visits", radius: float | None = None, data: Any = None
) -> tuple[Learner, Inputs]:
    """Learner and inputs on a model, behaviour uniform over what is available."""
    env, params = tabular_env(model)
    values = networks.tabular(model.num_interfaces, model.num_options)
    if data is not None:
        values = networks.linear(model.num_agents, model.num_options)
    behaviour = model.option_mask / np.maximum(model.option_mask.sum(axis=1, keepdims=True), 1)
    inputs = learner_inputs(params, behaviour, size, data, radius or 0.0)
    return Learner(env, values, clock, radius is not None), inputs


def same(one: Run, other: Run) -> None:
    """Two runs have the same bits, of tables that moved."""
    for first, second in zip(one.snapshots, other.snapshots, strict=True):
        assert np.abs(first.last).max() > 0
        np.testing.assert_array_equal(first.last.view(np.int32), second.last.view(np.int32))
        np.testing.assert_array_equal(first.total, second.total)
