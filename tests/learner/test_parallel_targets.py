"""Targets of the parallel learner on rollouts with masks, terminal handoffs and truncations, against plain loops."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from icsmdp_jax.learner import networks
from icsmdp_jax.learner.parallel import TARGETS, Hyper, ParallelLearner, State
from icsmdp_jax.learner.rollout import Rows
from tests.learner.courier import AGENTS, DIM, OPTIONS, CourierParams, hyper, learner, quick_jit, random_like
from tests.reference import targets as twin

COPIES, LENGTH = 4, 20
LAMBDA, HANDOFFS = 0.7, 3
FLOAT = {"rtol": 2e-5, "atol": 2e-5}  # float32: sums of at most LENGTH terms of size one
GIVEN = hyper(0.1, env_params=CourierParams(ends=0.15, limit=4), lambda_=LAMBDA, handoffs=HANDOFFS)


class Recorded(NamedTuple):
    """A rollout, the state it was made with, and what the definitions make of it in float64, ``[T, B]`` each."""

    state: State
    rows: Rows
    own: np.ndarray
    offers: np.ndarray


def made(target: str, **static: Any) -> ParallelLearner:
    values = networks.linear(AGENTS, OPTIONS, DIM)
    return learner(values, optimiser=optax.sgd, copies=COPIES, length=LENGTH, target=target, **static)


@cache
def recorded() -> Recorded:
    """Uniform behaviour under random linear parameters; every table of values from ``theta_{i,o} . z``."""
    collector = made("one-handoff")
    state = quick_jit(collector.init)(jax.random.key(0), GIVEN)
    state = state._replace(params=random_like(state.params, 1))
    state, rows = quick_jit(collector.collect)(jax.random.key(1), state, GIVEN)
    rows = jax.device_get(rows)
    theta = np.asarray(state.params, float)
    own = np.einsum("tbod,tbd->tbo", theta[rows.agent], rows.interface)
    there = np.einsum("tbod,tbd->tbo", theta[rows.final_agent], rows.final_interface)
    return Recorded(state, rows, own, np.where(rows.final_mask, there, -np.inf).max(axis=-1))


def wanted(target: str, seen: Recorded) -> np.ndarray:
    """Targets of every copy from the definitions."""
    rows, out = seen.rows, np.zeros((LENGTH, COPIES))
    for b in range(COPIES):
        numbers = (rows.reward[:, b].astype(float), rows.discount[:, b].astype(float), seen.offers[:, b])
        cut, option = rows.truncated[:, b], rows.option[:, b]
        weights = np.full(LENGTH, np.float32(LAMBDA), float)
        if target == "one-handoff":
            out[:, b] = twin.n_handoff(*numbers, 1, cut)
        elif target == "n-handoff":
            out[:, b] = twin.n_handoff(*numbers, HANDOFFS, cut)
        elif target in ("lambda", "peng"):
            out[:, b] = twin.lambda_mixture(*numbers, weights, cut)
        elif target == "watkins":
            best = np.where(rows.mask[:, b], seen.own[:, b], -np.inf).argmax(axis=-1)
            out[:, b] = twin.watkins(*numbers, weights, cut, np.append(best == option, True))
        else:
            taken = seen.own[np.arange(LENGTH), b, option]
            out[:, b] = twin.naive(*numbers, taken, weights, cut)
    return out


def test_the_rollout_shows_every_case() -> None:
    rows, ended = recorded().rows, recorded().rows.discount == 0
    assert ended.sum() >= 5 and rows.truncated.sum() >= 5 and not (ended & rows.truncated).any()
    assert (~rows.final_mask).any(axis=-1).sum() > 20
    # After an end the next row starts elsewhere: bootstrapping from it would be another target.
    apart = (rows.final_interface[:-1] != rows.interface[1:]).any(axis=-1)
    np.testing.assert_array_equal(apart, (ended | rows.truncated)[:-1])


def test_offers_are_masked_maxima_where_the_segment_ended() -> None:
    seen = recorded()
    offers = quick_jit(made("one-handoff").offers)(seen.state, seen.rows, GIVEN)
    np.testing.assert_allclose(offers, seen.offers, **FLOAT)
    theta = np.asarray(seen.state.params, float)
    unmasked = np.einsum("tbod,tbd->tbo", theta[seen.rows.final_agent], seen.rows.final_interface).max(axis=-1)
    assert (np.abs(unmasked - seen.offers) > 0.1).sum() > 10
    nothing = quick_jit(made("one-handoff", bootstrap="nothing").offers)(seen.state, seen.rows, GIVEN)
    assert nothing.shape == (LENGTH, COPIES) and not np.asarray(nothing).any()
    closed = seen.rows._replace(final_mask=np.zeros_like(seen.rows.final_mask))
    assert not np.asarray(quick_jit(made("one-handoff").offers)(seen.state, closed, GIVEN)).any()


@cache
def absorbed(target: str) -> Any:
    """Errors ``[T, B]`` of one update on the recorded rollout, and the new parameters."""
    seen, configured = recorded(), made(target)

    def run(state: State, rows: Rows, given: Hyper) -> Any:
        scalars = configured.offers(state, rows, given)
        params, _, done = configured.absorb(state.params, state.opt_state, rows, scalars, given)
        return done.error.reshape(LENGTH, COPIES), params

    return jax.device_get(quick_jit(run)(seen.state, seen.rows, GIVEN))


@pytest.mark.parametrize("target", TARGETS)
def test_targets_are_those_of_the_double_loops(target: str) -> None:
    """Error plus own value is the target, for every row of the rollout; the parameters follow from the errors."""
    seen = recorded()
    error, params = absorbed(target)
    taken = np.take_along_axis(seen.own, seen.rows.option[..., None], axis=-1)[..., 0]
    targets = wanted(target, seen)
    np.testing.assert_allclose(error + taken, targets, **FLOAT)
    theta = np.array(seen.state.params, float)
    for i in range(AGENTS):
        step = np.zeros((OPTIONS, DIM))
        for t, b in np.argwhere(seen.rows.agent == i):
            step[seen.rows.option[t, b]] += (targets[t, b] - taken[t, b]) * seen.rows.interface[t, b]
        theta[i] += 0.1 * step / (seen.rows.agent == i).sum()
    np.testing.assert_allclose(params, theta, **FLOAT)


@pytest.mark.parametrize("target", TARGETS)
def test_truncation_bootstraps_and_termination_does_not(target: str) -> None:
    """Whatever the target: at a cut it is ``R + gamma^tau v`` of the epoch that was cut off, at an end ``R``."""
    seen = recorded()
    error, _ = absorbed(target)
    taken = np.take_along_axis(seen.own, seen.rows.option[..., None], axis=-1)[..., 0]
    cut, ended = seen.rows.truncated, seen.rows.discount == 0
    boot = seen.rows.discount * seen.offers
    np.testing.assert_allclose((error + taken)[cut], (seen.rows.reward + boot)[cut], **FLOAT)
    np.testing.assert_allclose((error + taken)[ended], seen.rows.reward[ended], **FLOAT)
    assert np.abs(boot[cut]).max() > 0.1


def test_the_targets_differ() -> None:
    """No two of them are the same on this rollout but Peng's, which is the lambda return of best values."""
    errors = {target: absorbed(target)[0] for target in TARGETS}
    for first in TARGETS:
        for second in TARGETS:
            same = first == second or {first, second} == {"lambda", "peng"}
            assert (np.abs(errors[first] - errors[second]).max() < 1e-5) == same


def test_immediate_rewards_are_the_targets_of_who_bootstraps_from_nothing() -> None:
    seen, configured = recorded(), made("one-handoff", bootstrap="nothing")
    targets = configured.targets_of(seen.rows, jnp.full((LENGTH, COPIES), jnp.nan), jnp.asarray(seen.own), GIVEN)
    np.testing.assert_array_equal(targets, seen.rows.reward)
