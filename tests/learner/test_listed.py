"""Interfaces that are listed are evaluated once in each update, and nothing but rounding tells that from row by row."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from icsmdp_jax.learner import channel
from icsmdp_jax.learner.setups import Setup, setup
from icsmdp_jax.models.random import random_model
from tests.learner.courier import quick_jit

UPDATES = 4
CLOSE = {"rtol": 0, "atol": 2e-5}  # float32 sums in another order, over four updates of numbers of size one
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "double": {"target_network": True, "double": True},
    "peng": {"target": "peng"},
    "boltzmann": {"explore": "boltzmann", "roles": True},
}


@cache
def made(variant: str = "plain", method: str = "ic_q", width: int = 48, length: int = 4) -> Setup:
    model = random_model(3)
    ready = setup(model, None, method, "mlp", width=width, depth=1, copies=16, length=length)
    return dataclasses.replace(ready, learner=dataclasses.replace(ready.learner, **VARIANTS[variant]))


def trained(ready: Setup, hyper: Any) -> Any:
    state, metrics = quick_jit(ready.learner.train, static_argnums=2)(jax.random.key(5), hyper, UPDATES)
    return jax.device_get((state.params, state.handoff, metrics))


@pytest.mark.slow  # through a channel, the same is in the fast suite
@pytest.mark.parametrize("variant", ["double", "plain", "peng", "boltzmann"])
def test_the_same_as_row_by_row(variant: str) -> None:
    ready = made(variant)
    hyper = ready.hyper._replace(lambda_=0.7)
    assert (
        hyper.owner is not None
        and ready.learner.table_of(ready.learner.values.init(jax.random.key(0), hyper.data), hyper) is not None
    )
    listed, rows = trained(ready, hyper), trained(ready, hyper._replace(owner=None))
    for one, two in zip(jax.tree.leaves(listed), jax.tree.leaves(rows), strict=True):
        np.testing.assert_allclose(one, two, **CLOSE)
    start = ready.learner.values.init(jax.random.split(jax.random.key(5))[0], hyper.data)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), listed[0], jax.device_get(start))
    assert min(jax.tree.leaves(moved)) > 1e-3  # four steps of Adam with rate 3e-3


@pytest.mark.slow
@pytest.mark.parametrize("method", ["no_message", pytest.param("shared", marks=pytest.mark.slow)])
def test_baselines_too(method: str) -> None:
    ready = made(method=method)
    listed, rows = trained(ready, ready.hyper), trained(ready, ready.hyper._replace(owner=None))
    for one, two in zip(jax.tree.leaves(listed), jax.tree.leaves(rows), strict=True):
        np.testing.assert_allclose(one, two, **CLOSE)


@pytest.mark.slow
def test_a_channel_in_between() -> None:
    ready = made()
    hyper = ready.hyper._replace(channel=channel.clean(ready.model.num_agents, (-1.0, 1.0)).noisy(0.1))
    listed, rows = trained(ready, hyper), trained(ready, hyper._replace(owner=None))
    for one, two in zip(jax.tree.leaves(listed), jax.tree.leaves(rows), strict=True):
        np.testing.assert_allclose(one, two, **CLOSE)


def test_more_interfaces_than_rows_are_not_listed() -> None:
    """With one row for each copy an update has 16 rows, fewer than there are interfaces: then row by row."""
    for length, listed in ((1, False), (4, True)):
        ready = made(length=length)
        assert ready.hyper.owner.shape[0] > 16
        params = jax.eval_shape(ready.learner.values.init, jax.random.key(0), ready.hyper.data)
        table = jax.eval_shape(ready.learner.table_of, params, ready.hyper)
        assert (table is not None) == listed


def test_each_interface_is_read_with_its_own_agents_parameters() -> None:
    """Against a loop over interfaces; NaN in one agent's parameters reaches its own interfaces only."""
    ready = made()
    learner, hyper = ready.learner, ready.hyper
    params = jax.device_get(quick_jit(learner.values.init)(jax.random.key(1), hyper.data))
    owner = np.asarray(hyper.owner)
    read = quick_jit(learner.table_of)
    table = np.asarray(read(params, hyper))
    apply = quick_jit(learner.values.apply)
    for z, agent in enumerate(owner):
        own = jax.tree.map(lambda leaf, agent=agent: leaf[agent], params)
        np.testing.assert_allclose(table[z], apply(own, np.asarray(hyper.data)[z]), rtol=0, atol=1e-6)
    broken = jax.tree.map(np.copy, params)
    for leaf in jax.tree.leaves(broken):
        leaf[owner[0]] = np.nan
    found = np.asarray(read(broken, hyper))
    assert np.array_equal(np.isnan(found).all(axis=1), owner == owner[0])
    assert np.array_equal(np.isnan(found).any(axis=1), owner == owner[0])


@pytest.mark.slow
def test_mapped_over_seeds_and_rates() -> None:
    ready = made()
    keys = jax.random.split(jax.random.key(2), 3)
    many = quick_jit(jax.vmap(lambda key: ready.learner.train(key, ready.hyper, UPDATES)[0].params))(keys)
    one = quick_jit(lambda key: ready.learner.train(key, ready.hyper, UPDATES)[0].params)(keys[1])
    for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a[1], b, **CLOSE)
