"""Checks that the tests of all listed environments share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.envs.finite import TabularState
from icsmdp_jax.envs.listed import Listed, ListedParams
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import chi_square


@cache
def jitted(env: Listed) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return jax.jit(env.reset), jax.jit(env.step_env)


def alias_law(threshold: np.ndarray, codes: np.ndarray, outcomes: int) -> np.ndarray:
    """``[rows, outcomes]`` the law that an alias table draws from, cell by cell; ``threshold`` ``[rows, n]``."""
    rows, cells = threshold.shape
    share = threshold / 2.0**32
    law = np.zeros((rows, outcomes))
    for cell in range(cells):
        np.add.at(law, (np.arange(rows), codes[:, cell, 0]), share[:, cell] / cells)
        np.add.at(law, (np.arange(rows), codes[:, cell, 1]), (1 - share[:, cell]) / cells)
    return law


def check_alias(env: Listed, params: ListedParams) -> None:
    """What is drawn is what is listed, to the last bits of the words."""
    size, options, width = params.probability.shape
    rows = size * options
    threshold = np.asarray(params.outcome.threshold).reshape(rows, width)
    codes = np.asarray(params.outcome.codes).reshape(rows, width, 2)
    listed = np.zeros((rows, size + 2))
    successor = np.asarray(params.successor).reshape(rows, width)
    np.add.at(listed, (np.arange(rows)[:, None], successor), np.asarray(params.probability).reshape(rows, width))
    np.testing.assert_allclose(alias_law(threshold, codes, size + 2), listed, rtol=0, atol=2e-7)
    first = alias_law(np.asarray(params.first.threshold)[None], np.asarray(params.first.codes)[None], size)
    np.testing.assert_allclose(first[0], params.start, rtol=0, atol=2e-7)


def check_draws(env: Listed, params: ListedParams, model: TabularModel, pairs: list[tuple[int, int]]) -> None:
    """Next states, durations and mean rewards of many draws from the environment, against the exact model.

    Two chi-square tests and one normal test for each pair, each wrong with probability 1e-4.
    """
    draws = 8_000
    step = jax.jit(jax.vmap(env.step_env, in_axes=(0, None, None, None)))
    gamma, tau = model.gamma, np.arange(1, model.longest_duration + 1)
    assert model.successor is not None and model.probability is not None and model.duration is not None
    for s, o in pairs:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(7), s), draws)
        handoff, entered = step(keys, TabularState(jnp.int32(s)), jnp.int32(o), params)
        law = np.bincount(model.successor[s, o], weights=model.probability[s, o], minlength=model.num_states)
        seen = np.unique(np.append(np.flatnonzero(law), np.asarray(entered.index)))
        assert chi_square(np.bincount(entered.index, minlength=model.num_states)[seen], law[seen]) > 1e-4
        assert chi_square(np.bincount(handoff.duration, minlength=len(tau) + 1)[1:], model.duration[s, o]) > 1e-4
        mean = model.reward_rate[s, o] * (model.duration[s, o] @ (1 - gamma**tau)) / (1 - gamma)
        found = np.asarray(handoff.reward, np.float64)
        assert abs(found.mean() - mean) <= 3.9 * found.std() / np.sqrt(draws) + 1e-6
