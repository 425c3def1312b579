"""The second scalar: steps are those of a loop in plain Python, and the fixed point is that of one scalar."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.learner.schedules import polynomial
from icsmdp_jax.learner.setups import setup
from icsmdp_jax.learner.two_scalars import LEAST, TwoScalars


def learners():
    model = planted_model(PlantedConfig(num_agents=2, gap=0.0)).model
    one = setup(model, copies=1, length=1, step_size=polynomial(0.7))
    return model, dataclasses.replace(one, learner=TwoScalars(**vars(one.learner)))


def test_steps_are_those_of_a_loop():
    _, one = learners()
    key = jax.random.key(3)
    step = jax.jit(one.learner.update)
    collect = jax.jit(one.learner.collect)
    state = one.learner.init(key, one.hyper)
    q = np.zeros(state.params.shape)
    square, count = np.zeros((2, *q.shape))
    seen = set()
    for turn in range(60):
        state, rows = collect(jax.random.fold_in(key, turn), state, one.hyper)
        state, _ = step(key, state, rows, one.hyper)
        z, o, after = int(rows.interface[0, 0]), int(rows.option[0, 0]), int(rows.final_interface[0, 0])
        d = float(rows.discount[0, 0])
        best = int(np.where(rows.final_mask[0, 0], q[after], -np.inf).argmax())
        error = float(rows.reward[0, 0]) + d * q[after, best] - q[z, o]
        weight = 1.0
        if count[z, o]:
            own = square[z, o] / count[z, o]
            theirs = np.inf if not count[after, best] else square[after, best] / count[after, best] ** 2
            weight = max(LEAST, own / (own + d**2 * theirs))
        seen.add("all" if weight == 1 else "least" if weight == LEAST else "between")
        q[z, o] += (1 + count[z, o]) ** -0.7 * weight * error
        square[z, o] += error**2
        count[z, o] += 1
        np.testing.assert_allclose(state.params, q, atol=2e-5)
    assert seen == {"all", "least", "between"}


def test_networks_are_refused():
    model, _ = learners()
    other = setup(model, network="linear", copies=1, length=1)
    with pytest.raises(ValueError, match="tables"):
        TwoScalars(**vars(other.learner))
