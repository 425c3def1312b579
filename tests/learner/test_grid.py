"""One trainer on a grid: every pair is the run of its own, in one call or in several, as a whole or in parts."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.learner.curves import train
from icsmdp_jax.learner.grid import GridTrainer, replica_keys
from icsmdp_jax.learner.schedules import polynomial
from icsmdp_jax.learner.setups import Setup, setup
from icsmdp_jax.models.random import random_model

UPDATES, KEYS = 6, replica_keys(jax.random.key(1), 3)
POWERS = np.array([[0.6, 0.7, 0.8], [0.9, 1.0, 0.5]])  # by cell and replica


@cache
def parts() -> tuple[Setup, Any, Any]:
    """IC-Q with tables, the parameters of two models, and a step size for each pair."""
    models = [random_model(seed, num_interfaces=6, num_agents=3) for seed in (1, 2)]
    params = [tabular_env(model)[1] for model in models]
    steps = jax.jit(jax.vmap(jax.vmap(polynomial)))(POWERS.astype(np.float32))
    return setup(models[0], copies=4, length=3), params, steps


@cache
def on_grid() -> np.ndarray:
    one, params, steps = parts()
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    trainer = GridTrainer(one.learner, one.hyper, {"env_params": stacked})
    run = trainer.train(KEYS, UPDATES, {"step_size": steps})
    assert run.handoffs == 6 * UPDATES * 4 * 3 and run.compile_s > 0
    again = trainer.train(KEYS, UPDATES, {"step_size": steps})
    assert again.compile_s == 0 and np.array_equal(again.params, run.params)
    return run.params


@cache
def trainer() -> GridTrainer:
    """Of one model; the tests share it, so that each program is traced once."""
    one, _, _ = parts()
    return GridTrainer(one.learner, one.hyper)


@cache
def whole() -> np.ndarray:
    return trainer().train(KEYS, UPDATES).params


def test_every_pair_is_the_run_on_its_own_inputs():
    one, params, steps = parts()
    alone = jax.jit(lambda key, hyper: one.learner.train(key, hyper, UPDATES)[0].params)
    for cell in range(2):
        for replica in range(3):
            step = jax.tree.map(lambda leaf, at=(cell, replica): np.asarray(leaf)[at], steps)
            found = alone(KEYS[replica], one.hyper._replace(env_params=params[cell], step_size=step))
            np.testing.assert_allclose(on_grid()[cell, replica], found, rtol=1e-5, atol=1e-6)
    assert len(np.unique(np.abs(on_grid()).sum(axis=(2, 3)))) == 6  # no two pairs are the same


def test_parts_are_runs_that_end_earlier():
    half = trainer().train(KEYS, UPDATES // 2).params
    found = trainer().train(KEYS, UPDATES, parts=2).params
    np.testing.assert_array_equal(found, np.stack([half, whole()], axis=2))
    with pytest.raises(ValueError, match="updates = 6: expected a multiple of parts = 4"):
        trainer().train(KEYS, UPDATES, parts=4)


def test_records_are_sums_over_parts_of_the_same_runs():
    one, _, _ = parts()
    curves, run = trainer().record(KEYS, UPDATES, 4)  # parts of 1, 2, 1 and 2 updates
    np.testing.assert_allclose(run.params, whole(), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(curves.returns[:, :, -1], run.params)
    np.testing.assert_array_equal(curves.updates[0], [[1, 3, 4, 6]] * 3)
    np.testing.assert_array_equal(curves.visits.sum(axis=-1), np.broadcast_to([12, 24, 12, 24], (1, 3, 4)))
    key_init, key_run = jax.random.split(KEYS[0])
    told = jax.jit(lambda: one.learner.run(key_run, one.learner.init(key_init, one.hyper), one.hyper, UPDATES)[1])()
    square, visits = (np.add.reduceat(np.asarray(leaf), [0, 1, 3, 4]) for leaf in (told.td_square, told.visits))
    np.testing.assert_array_equal(curves.visits[0, 0], visits)
    np.testing.assert_allclose(curves.td_error[0, 0], np.sqrt(square / np.maximum(visits, 1)), rtol=1e-4)


def test_what_a_run_of_a_thousand_agents_records_is_small_and_known_before():
    """No array over pairs of agents, none over updates: neither in what comes out nor on the way there."""
    one = setup(random_model(3, num_interfaces=1000, num_agents=1000, num_options=2), copies=2, length=2)
    run = partial(train, one, updates=1500)
    state, curves = jax.eval_shape(run, jax.random.key(0))
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(curves)) == 4 * 50 * (2 * 1000 + 2)
    made = [aval.size for aval in outputs(jax.make_jaxpr(run)(jax.random.key(0)).jaxpr)]
    assert len(made) > 100 and max(made) < 1500 * 1000
    assert state.params.shape == (1000, 2)


def outputs(jaxpr):
    """All arrays that a program makes, those of its loops included."""
    for equation in jaxpr.eqns:
        yield from (out.aval for out in equation.outvars if hasattr(out.aval, "size"))
        for inner in jaxprs_in_params(equation.params):
            yield from outputs(inner)


def test_inputs_of_another_number_of_cells_or_replicas_are_refused():
    """Padding over devices would repeat the last one and say nothing."""
    one, _, steps = parts()
    three = GridTrainer(one.learner, one.hyper, {"lambda_": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=r"shape \(2, 3\): expected leading axes \(3, 3\)"):
        three.train(KEYS, UPDATES, {"step_size": steps})
    with pytest.raises(ValueError, match=r"shape \(2, 3\): expected leading axes \(2, 2\)"):
        trainer().train(KEYS[:2], UPDATES, {"step_size": steps})


def test_several_calls_are_one_run_from_the_same_start():
    first, then = (keys for keys in jax.vmap(jax.random.split, out_axes=1)(KEYS))
    starts, told = np.zeros(whole().shape[1:], np.float32), []
    run = trainer().train_from(starts, (first, then), UPDATES, 2, told.append)
    np.testing.assert_array_equal(run.params, whole())
    assert told == [3 * 2 * 4 * 3] * 3 and sum(told) == run.handoffs
    moved = trainer().train_from(starts + 1, (first, then), UPDATES, 2).params
    assert not np.array_equal(moved, whole())
    with pytest.raises(ValueError, match="updates = 6: expected a multiple of per_call = 4"):
        trainer().train_from(starts, (first, then), UPDATES, 4)


@pytest.mark.slow  # compiled as users do: the quick flags of the fast suite hide it
@pytest.mark.parametrize("method", ["ic_q", "central"])
def test_tables_have_the_same_bits_however_many_replicas_there_are(method):
    """With more of them the compiler once handed sums to a library together with targets, which rounded otherwise."""
    model = random_model(1)
    one, keys = setup(model, method=method, copies=32, length=8), replica_keys(jax.random.key(2), 16)
    many, few = (GridTrainer(one.learner, one.hyper).train(keys[:count], 3).params for count in (16, 4))
    assert np.any(few) and np.array_equal(many[:, :4], few)
