"""How a cell is measured: its constants and bounds, and runs under the theorems' schedules, replayed in float64."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bound_validation import cell, theorem
from bound_validation.bounds import RADIUS_MARGIN, approximation, classic_bound, radius, residual_bound
from bound_validation.cell import (
    Learned,
    constants,
    features,
    function_class,
    limit_run,
    theorem_run,
)
from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.fixed_point import bellman, whiten
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.learner.experiment import (
    default_tabular_step,
    model_inputs,
    random_relu,
    stationary_env,
    tables_of,
)
from icsmdp_jax.learner.icq import Learner
from icsmdp_jax.learner.schedules import POWER
from icsmdp_jax.learner.train import init_run, replica_keys
from tests.helpers import golden_analysis

CHUNK, SAMPLES, REPLICAS = 16, 64, 3


@cache
def tabular() -> Analysis:
    """Ten agents, A6 certified."""
    return golden_analysis("ten_agents")


@cache
def linear() -> Analysis:
    """The same model with two random features per agent, fewer than its interfaces."""
    known = tabular()
    rng = np.random.default_rng(3)
    x = rng.normal(size=(known.interface.model.num_interfaces, 4))
    raw = random_relu(x, known.interface.model.interface_agent, 2, rng)
    return known.with_features(whiten(raw, known.interface))


CLASSES = pytest.mark.parametrize("make", [tabular, linear], ids=["tabular", "linear"])


def ignore(done: int) -> None:
    """No progress is shown."""


# Constants and bounds


@CLASSES
def test_the_target_is_the_projected_fixed_point(make):
    known = make()
    interface, q = known.interface, known.fixed.q
    assert known.fixed.converged
    assert interface.norm(known.operator(bellman(interface, q)) - q) < 1e-10
    if known.basis is None:
        np.testing.assert_array_equal(q, np.where(interface.mask, known.q_phi.q, 0.0))
    else:
        assert interface.norm(q - known.q_phi_table) > 0.1  # the class is too small, or nothing is tested


@CLASSES
def test_every_block_of_the_fixed_point_lies_inside_the_ball(make):
    known = make()
    theta, mask = known.fixed.theta, known.interface.mask
    rows = theta[:, None] if known.basis is None else known.basis.unpack(theta, mask).reshape(-1, 2)
    norms = np.linalg.norm(rows, axis=1)
    assert RADIUS_MARGIN >= 1
    assert radius(known) == pytest.approx(RADIUS_MARGIN * norms.max(), rel=1e-12)
    np.testing.assert_allclose(tables(known, rows.reshape(1, *_shape(known)))[0][mask], known.fixed.q[mask], atol=1e-9)


def tables(known: Analysis, params: np.ndarray) -> np.ndarray:
    return tables_of(function_class(known), params, features(known), known.interface)


def _shape(known: Analysis) -> tuple[int, ...]:
    model = known.interface.model
    if known.basis is None:
        return (model.num_interfaces, model.num_options)
    return (model.num_agents, model.num_options, known.basis.width)


def plain_mixing_time(known: Analysis, accuracy: float) -> int:
    """Least t with ``max_s TV(P^t(s, .), d) <= accuracy``, by powers of the matrix."""
    chain = known.interface.chain
    step = np.asarray(chain.transition.todense() if hasattr(chain.transition, "todense") else chain.transition)
    law = chain.stationary[chain.states]
    power, t = np.eye(len(law)), 0
    while 0.5 * np.abs(power - law).sum(axis=1).max() > accuracy:
        power, t = power @ step, t + 1
    return t


@CLASSES
@pytest.mark.parametrize("samples", [1, 1000, 10**6])
def test_classic_bound_is_the_theorem_with_this_models_constants(make, samples):
    known = make()
    interface = known.interface
    model, moments = interface.model, interface.moments
    gamma, longest = moments.gamma, model.longest_duration
    largest = np.abs(model.reward_rate).max() * sum(gamma**t for t in range(longest)) + model.reward_noise
    gradient = largest + 2 * radius(known)
    psi = as_dense(known.operator.psi)
    kappa, omega = known.kappa, np.linalg.eigvalsh(psi.T @ (known.operator.weight[:, None] * psi))[0]
    mixing = plain_mixing_time(known, samples**-0.5)
    distance = float(np.sum(known.fixed.theta**2))
    square = (distance + gradient**2 * (9 + 12 * mixing)) / (2 * (1 - kappa) * samples**0.5)
    assert classic_bound(known, samples) == pytest.approx(square**0.5, rel=1e-9)
    through = theorem.residual_bound_constant_step(distance**0.5, gradient, mixing, kappa, samples)
    assert classic_bound(known, samples) == pytest.approx(theorem.residual_rms(through), rel=1e-9)

    mixing = plain_mixing_time(known, 1 / (omega * (samples + 1) * (1 - kappa)))
    square = gradient**2 * (9 + 24 * mixing) * (1 + math.log(samples)) / (samples * (1 - kappa) ** 2 * omega)
    assert classic_bound(known, samples, decaying=True) == pytest.approx(square**0.5, rel=1e-7)


def test_without_a6_no_residual_is_claimed():
    known = golden_analysis("plain")
    assert known.kappa >= 1
    assert math.isnan(residual_bound(known, 1000)) and math.isnan(residual_bound(known, 1000, decaying=True))
    assert constants(known)["certified"] is False


def test_constants_are_those_of_the_analysis():
    known, other = tabular(), linear()
    table = known.table()
    found = constants(known)
    for name in ("gamma_bar", "kappa", "epsilon", "delta", "mixing_time", "clt_coefficient", "clt_coefficient_iid"):
        assert found[name] == table[name], name
    assert found["omega"] == pytest.approx(table["omega"], rel=1e-12) and found["certified"] is True
    assert found["gamma"] == known.interface.model.gamma
    assert constants(other)["clt_coefficient"] != found["clt_coefficient"]
    assert constants(other)["kappa"] == found["kappa"]  # P1 certifies A6 for every class at once


def test_a_function_class_shares_what_does_not_depend_on_it():
    known, other = tabular(), linear()
    for name in ("interface", "returns", "q_phi", "q_star", "ais", "gap", "kappa", "clock", "omega"):
        assert getattr(other, name) is getattr(known, name), name
    assert other.basis is not None and known.basis is None and other.operator is not known.operator
    assert approximation(known) == (0.0, 0.0)
    error, bound = approximation(other)
    nearest = other.interface.norm(other.operator(other.q_phi_table) - other.q_phi_table)
    assert 0 < nearest <= error <= bound == pytest.approx(nearest / (1 - known.kappa**2) ** 0.5)


# Runs, replayed


class Path(NamedTuple):
    """One replica's segments, ``[SAMPLES]`` each."""

    interface: np.ndarray
    option: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    next_interface: np.ndarray


@cache
def paths(seed: int) -> list[Path]:
    """The handoffs of every replica, recorded from a learner that never learns: behaviour does not depend on values."""
    known = tabular()
    env, env_params = stationary_env(known)
    inputs = model_inputs(known, env_params, None, default_tabular_step(0.0))
    inputs = jax.tree.map(jnp.asarray, inputs)
    learner = Learner(env, function_class(known))
    split = learner.env.words_per_step

    @jax.jit
    def step(words, state):
        option = learner.act(words[split:], state, inputs)
        handoff, env_state = env.step_from_words(words[:split], state.env_state, option, inputs.env_params)
        row = Path(
            state.handoff.interface, option, handoff.reward, handoff.discount, handoff.final_interface
        )  # fmt: skip
        return state._replace(env_state=env_state, handoff=handoff), row

    found = []
    for key in replica_keys(jax.random.key(seed), REPLICAS):
        run = init_run(learner, key, inputs)
        state, rows = run.learner, []
        for chunk in range(SAMPLES // CHUNK):
            for words in random_words(jax.random.fold_in(run.key, chunk), CHUNK, learner.words_per_step):
                state, row = step(words, state)
                rows.append(row)
        found.append(Path(*(np.stack(column) for column in zip(*jax.device_get(rows), strict=True))))
    return found


def replayed(path: Path, steps: np.ndarray, radius: float) -> np.ndarray:
    """Plain float64 IC-Q tables before each segment and after the last, ``[SAMPLES + 1, Z, O]``.

    ``steps[k, n]`` is the step of segment k at the n-th visit of its pair.
    """
    model = tabular().interface.model
    table = np.zeros((model.num_interfaces, model.num_options))
    visits = np.zeros(table.shape, int)
    iterates = [table.copy()]
    for k, (z, o, reward, discount, following) in enumerate(zip(*path, strict=True)):
        error = reward + discount * table[following].max() - table[z, o]
        table[z, o] = np.clip(table[z, o] + steps[k, visits[z, o]] * error, -radius, radius)
        visits[z, o] += 1
        iterates.append(table.copy())
    return np.stack(iterates)


def assert_replays(found: Learned, lane: int, seed: int, steps: np.ndarray, radius: float) -> np.ndarray:
    last = np.asarray(found.run.snapshots[-1].last[lane])
    whole, tail = (dataclasses.replace(found, tail=tail).tables(lane, SAMPLES) for tail in (False, True))
    everything = []
    for replica, path in enumerate(paths(seed)):
        iterates = replayed(path, steps, radius)
        scale = 1 + np.abs(iterates).max()
        np.testing.assert_allclose(last[replica], iterates[-1], atol=2e-5 * scale)
        np.testing.assert_allclose(whole[replica], iterates[:-1].mean(axis=0), atol=2e-5 * scale)
        np.testing.assert_allclose(tail[replica], iterates[SAMPLES // 2 : -1].mean(axis=0), atol=4e-5 * scale)
        everything.append(iterates)
    return np.stack(everything)


@cache
def tabular_theorem_run() -> Learned:
    """Lanes: constant step of K = 32, constant step of K = 64, decaying step."""
    known = tabular()
    lanes = [(known, SAMPLES // 2), (known, SAMPLES), (known, None)]
    return theorem_run(lanes, jax.random.key(5), REPLICAS, CHUNK, ignore)


@pytest.mark.parametrize(("lane", "step"), [(0, 32**-0.5), (1, 0.125)])
def test_theorem_run_takes_the_constant_step_of_its_lane(lane, step):
    steps = np.full((SAMPLES, SAMPLES), step)
    assert_replays(tabular_theorem_run(), lane, 5, steps, radius(tabular()))


def test_theorem_run_decays_on_the_shared_clock_and_projects():
    known = tabular()
    clock = np.arange(SAMPLES)[:, None] * np.ones(SAMPLES)  # whatever the visits, step k is that of handoff k
    steps = 1 / (known.omega * (1 - known.kappa) * (clock + 1))
    iterates = assert_replays(tabular_theorem_run(), 2, 5, steps, radius(known))
    assert (np.abs(iterates) == radius(known)).any(axis=(1, 2, 3)).all()  # the ball was reached, so projection matters


def test_limit_run_counts_visits_and_does_not_project():
    known = tabular()
    found = limit_run([known], jax.random.key(6), REPLICAS, [SAMPLES], CHUNK, ignore)
    visits = np.ones(SAMPLES)[:, None] * np.arange(SAMPLES)
    steps = (1 + (1 - known.interface.gamma_bar) * visits) ** -POWER
    assert found.tail and not tabular_theorem_run().tail
    assert_replays(found, 0, 6, steps, np.inf)


def test_theorem_run_keeps_every_block_of_features_inside_the_ball():
    known = linear()
    done: list[int] = []
    lanes = [(known, CHUNK), (known, SAMPLES), (known, None)]
    found = theorem_run(lanes, jax.random.key(7), REPLICAS, CHUNK, done.append)
    for snapshot in found.run.snapshots:
        norms = np.linalg.norm(snapshot.last, axis=-1)
        assert norms.shape == (3, REPLICAS, 10, 2)
        assert norms.max() <= radius(known) * (1 + 1e-6)
        assert norms[2].max() >= radius(known) * (1 - 1e-6)  # the decaying step starts large and is cut off
    assert sum(done) == found.handoffs == 3 * REPLICAS * SAMPLES
    assert found.tables(0, SAMPLES).shape == (REPLICAS, 30, 2)


def test_theorem_run_starts_from_the_stationary_law(monkeypatch):
    """T3 as it is computed here asks for a stationary start and for theta_0 = 0."""
    caught = {}
    monkeypatch.setattr(
        cell, "train", lambda learner, lanes, *rest, **named: caught.update(learner=learner, lanes=lanes)
    )
    known = linear()
    theorem_run([(known, 100), (known, None)], jax.random.key(0), 2, 100, ignore)
    learner, lanes = caught["learner"], caught["lanes"]
    assert (learner.clock, learner.project, learner.greedy, learner.optimiser) == ("epoch", True, False, None)
    law = known.interface.chain.stationary
    env_params = jax.tree.map(jnp.asarray, lanes[0].env_params)
    keys = jax.random.split(jax.random.key(1), 60_000)
    draws = jax.vmap(lambda key: learner.env.reset(key, env_params)[1].index)(keys)
    found = np.bincount(np.asarray(draws), minlength=len(law)) / len(keys)
    # Each of 60 frequencies leaves 5 standard deviations with probability below 1e-6.
    np.testing.assert_array_less(np.abs(found - law), 5 * np.sqrt(law / len(keys)))
    assert all(float(lane.radius) == pytest.approx(radius(known), rel=1e-6) for lane in lanes)
    assert not np.asarray(learner.init(jax.random.key(0), lanes[0]).params).any()
