"""The analysis for many states against the dense one, number by number, and what only it reports."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact import analyse, chain, iterative, large_limit
from icsmdp_jax.exact.asymptotics import central_limit
from icsmdp_jax.exact.certificate import kappa_bounds, largest_of_positive
from icsmdp_jax.exact.chain import behaviour_chain, stationary_law
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.fixed_point import FeatureBasis, projected_fixed_point, projection, whiten
from icsmdp_jax.exact.interface import interface_model
from icsmdp_jax.exact.iterative import solve
from icsmdp_jax.exact.large_chain import Restarted, sparse_law
from icsmdp_jax.exact.moments import as_dense, kernel_moments
from icsmdp_jax.exact.solve import evaluate_policy
from icsmdp_jax.models.random import large_model
from icsmdp_jax.models.tabular import TabularModel
from tests.command_line import PEAK
from tests.helpers import as_model, constants, examples
from tests.pages import DOCS, examples_print_what_they_say, named_things_exist
from tests.reference.models import Model, models, random_behaviour

ROOT = Path(__file__).resolve().parents[2]
seeds = st.integers(0, 2**16)
BOUNDS = {"mixing_time", "mixing_time_low", "mixing_time_high", "exact_mixing"}


def agree(model: TabularModel, behaviour: np.ndarray | None = None) -> tuple[Analysis, Analysis]:
    """Both analyses, after comparing every number of their tables and what the solution file holds."""
    dense, large = analyse(model, behaviour, sparse=False), analyse(model, behaviour, sparse=True)
    first, second = constants(dense), constants(large)
    assert set(first) == set(second)
    for name in set(first) - BOUNDS:
        if first[name] is None or isinstance(first[name], bool | list):
            assert first[name] == second[name], name
        else:
            assert abs(first[name] - second[name]) <= 1e-8 * (1 + abs(first[name])), name
    assert first["exact_mixing"]
    exact = math.inf if first["mixing_time"] is None else first["mixing_time"]
    assert first["mixing_time_low"] == first["mixing_time_high"] == first["mixing_time"]
    low, high = (
        math.inf if second[f"mixing_time_{end}"] is None else second[f"mixing_time_{end}"] for end in ("low", "high")
    )
    assert low <= exact <= high
    assert second["mixing_time"] == (second["mixing_time_high"] if second["exact_mixing"] else None)
    for one, other in (
        (dense.q_star.q, large.q_star.q),
        (dense.q_phi.q, large.q_phi.q),
        (dense.interface.chain.stationary, large.interface.chain.stationary),
        (dense.interface.weights, large.interface.weights),
    ):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-8 * (1 + np.abs(one[np.isfinite(one)]).max()))
    np.testing.assert_array_equal(large.interface.chain.states, dense.interface.chain.states)
    assert large.interface.chain.residual < 1e-12 > dense.interface.chain.residual
    return dense, large


@examples(16)
@given(models(), seeds)
def test_both_analyses_agree_on_random_models_of_every_form(model: Model, seed: int) -> None:
    agree(as_model(model), random_behaviour(np.random.default_rng(seed), model))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"terminal_states": 30},
        {"stay": 0.98},
        {"gamma": 0.999, "longest_duration": 2},
        {"num_options": 1, "num_agents": 1, "num_interfaces": 1},
        {"num_interfaces": 200, "num_agents": 50},
    ],
)
def test_both_analyses_agree_on_larger_models(changes: dict) -> None:
    agree(large_model(3, **({"num_states": 260, "num_interfaces": 40, "num_agents": 5} | changes)))


@pytest.mark.parametrize("flip", [0.5, 0.01])
def test_both_analyses_agree_on_planted_models(flip: float) -> None:
    planted = planted_model(PlantedConfig.small(gap=0.5, hidden_flip=flip))
    dense, large = agree(planted.model, planted.behaviour)
    with pytest.raises(ValueError, match="covariance: not formed on large models"):
        _ = large.limit.covariance
    assert dense.limit.covariance.shape == (80, 80)


def test_the_path_follows_the_number_of_states(monkeypatch: pytest.MonkeyPatch) -> None:
    model = large_model(0, 50, 10, 2)
    assert not analyse(model).interface.chain.sparse
    monkeypatch.setattr(chain, "SPARSE_ABOVE", 49)
    assert analyse(model).interface.chain.sparse and not analyse(model, sparse=False).interface.chain.sparse


@examples(15)
@given(models(max_interfaces_per_agent=4), seeds, st.integers(1, 3))
def test_central_limit_of_feature_classes(model: Model, seed: int, width: int) -> None:
    """The coefficients of linear classes, whose projection is no table of indicators."""
    rng = np.random.default_rng(seed)
    behaviour = random_behaviour(rng, model)
    packed = as_model(model)
    dense, large = (interface_model(packed, behaviour, iterative=many) for many in (False, True))
    basis: FeatureBasis = whiten(rng.normal(size=(packed.num_interfaces, width)), dense)
    fixed = projected_fixed_point(dense, projection(dense, basis), max_iterations=3000)
    if not fixed.converged:
        return
    one, other = (central_limit(i, projection(i, basis), fixed.q) for i in (dense, large))
    for name in ("coefficient", "coefficient_iid", "action_gap"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-8, abs=1e-8), name
    assert other.standard_error == 0 and other.residual < 1e-9


def test_probes_estimate_the_trace_within_their_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 25 seeds the errors in units of the reported one stay below 4.5 and their mean square is near 1.

    Were they normal with that deviation, the first would fail with probability below 1e-3, the second, at 2.5, below
    1e-6; probes are few, so the reported deviation is itself rough.
    """
    planted = planted_model(PlantedConfig.small(gap=0.5, hidden_flip=0.02))
    analysis = analyse(planted.model, planted.behaviour, sparse=True)
    interface, operator = analysis.interface, projection(analysis.interface, None)
    fixed = large_limit.nearby(interface, operator, planted.q_planted)
    exact = large_limit.coefficients(interface, operator, fixed, exact=True)
    assert exact.full_error == 0 == exact.iid_error
    assert exact.full == pytest.approx(analysis.limit.coefficient**2, rel=1e-12)
    monkeypatch.setattr(large_limit, "PROBES", 32)
    scores = []
    for seed in range(25):
        found = large_limit.coefficients(interface, operator, fixed, exact=False, seed=seed)
        assert 0 < found.full_error < 0.2 * exact.full
        scores += [(found.full - exact.full) / found.full_error, (found.iid - exact.iid) / found.iid_error]
    assert np.abs(scores).max() < 4.5 and 0.4 < np.mean(np.square(scores)) < 2.5


@examples(12)
@given(seeds, st.integers(1, 30), st.sampled_from([0.05, 0.3, 1.0]))
def test_the_largest_eigenvalue_lies_between_both_ends(seed: int, count: int, filled: float) -> None:
    """Also of reducible matrices, whose blocks have eigenvalues far apart, and of ones with empty rows."""
    rng = np.random.default_rng(seed)
    half = rng.exponential(size=(count, count)) * (rng.random((count, count)) < filled)
    half *= 10.0 ** rng.integers(-4, 3, size=count)
    matrix = half.T @ half
    low, high = largest_of_positive(lambda x: matrix @ x, count, count)
    exact = float(np.linalg.eigvalsh(matrix)[-1])
    assert low <= exact * (1 + 1e-12) and exact <= high * (1 + 1e-12)
    assert high - low <= 1e-6 * high


@examples(12)
@given(models(), seeds)
def test_kappa_lies_between_both_ends(model: Model, seed: int) -> None:
    behaviour = random_behaviour(np.random.default_rng(seed), model)
    known = analyse(as_model(model), behaviour)
    low, high = kappa_bounds(known.interface)
    assert low <= known.kappa * (1 + 1e-12) and known.kappa <= high * (1 + 1e-12)
    assert high - low <= 1e-7 * high


@examples(12)
@given(seeds, st.integers(2, 60), st.sampled_from([0.0, 0.9, 0.9999]), st.integers(1, 3))
def test_certified_residuals_against_direct_solutions(seed: int, count: int, slow: float, width: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.roll(np.eye(count), 1, axis=1) + rng.exponential(size=(count, count)) * (rng.random((count, count)) < 0.1)
    rows = slow * np.eye(count) + (1 - slow) * rows / rows.sum(axis=1, keepdims=True)
    law, residual = sparse_law(sparse.csr_array(rows))[:2]
    exact = stationary_law(rows)
    assert residual <= 1e-12
    np.testing.assert_allclose(law, exact, rtol=1e-8)
    right = rng.normal(size=(count, width))
    right -= law @ right
    found = solve(lambda f: f - rows @ f + law @ f, right, "Poisson equation")
    system = np.eye(count) - rows + law[None, :]
    rounding = 64 * np.finfo(float).eps * np.abs(found.x).max(axis=0)
    assert (np.abs(right - system @ found.x).max(axis=0) <= found.residual + rounding).all()
    assert (found.residual <= np.maximum(1e-12 * np.abs(right).max(axis=0), rounding)).all()
    wanted = np.linalg.solve(system, right)
    np.testing.assert_allclose(found.x, wanted, rtol=0, atol=1e-7 * (1 + np.abs(wanted).max()))
    alone = solve(lambda f: f - rows @ f + law @ f, right[:, 0], "Poisson equation")
    assert alone.x.shape == (count,)
    np.testing.assert_allclose(alone.x, wanted[:, 0], rtol=0, atol=1e-7 * (1 + np.abs(wanted).max()))


def test_what_does_not_converge_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drift around a ring, seen from one of its states: no polynomial of low degree solves its Poisson equation."""
    monkeypatch.setattr(iterative, "BASIS", 20)
    monkeypatch.setattr(iterative, "CYCLES", 2)
    count = 2000
    step = sparse.csr_array((np.ones(count), (np.arange(count), np.roll(np.arange(count), -1))), shape=(count, count))
    right = np.eye(count)[0] - 1 / count
    with pytest.raises(ValueError, match=r"^long ring: relative residual .* expected 1e-12 or less") as caught:
        solve(lambda f: f - step @ f + f.mean(axis=0), right, "long ring", steps=5)
    assert "\n" not in str(caught.value)


@examples(12)
@given(models(), seeds)
def test_a_policy_is_evaluated_alike_by_both_solvers(model: Model, seed: int) -> None:
    moments = kernel_moments(as_model(model))
    policy = np.where(moments.used, np.random.default_rng(seed).random(moments.used.shape), -1.0).argmax(axis=1)
    decides = moments.used.any(axis=1)
    one, other = (
        evaluate_policy(moments.reward_mean, moments.discounted, policy, decides, iterative)
        for iterative in (False, True)
    )
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-9 * (1 + np.abs(one).max()))


@examples(12)
@given(models(), seeds)
def test_the_chain_is_the_same_in_both_forms(model: Model, seed: int) -> None:
    packed = as_model(model)
    behaviour = random_behaviour(np.random.default_rng(seed), model)
    probability = kernel_moments(packed).probability
    dense, large = (behaviour_chain(packed, behaviour, probability, many) for many in (False, True))
    assert isinstance(large.transition, Restarted) == packed.is_terminal.any()
    np.testing.assert_allclose(as_dense(large.transition), as_dense(dense.transition), rtol=0, atol=1e-12)


def test_two_recurrent_classes_are_refused_in_both_forms() -> None:
    model = large_model(0, 40, 8, 2)
    assert model.successor is not None
    apart = model.replace(successor=np.broadcast_to(np.arange(40)[:, None, None], model.successor.shape))
    for many in (False, True):
        with pytest.raises(ValueError, match="the behaviour chain has 40 recurrent classes"):
            analyse(apart, sparse=many)


CHECK = f"""
import json
from icsmdp_jax.exact import analyse
from icsmdp_jax.models.random import large_model
known = analyse(large_model(1, 100_000, 20_000, 1000, terminal_states=1000))
table = known.table()
table["peak_bytes"] = {PEAK}
table["residual"] = known.interface.chain.residual
print(json.dumps(table))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_hundred_thousand_states_fit_and_are_consistent() -> None:
    """Less than 4 GB in a process of its own, and the order that the theorems promise."""
    done = subprocess.run([sys.executable, "-c", CHECK], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["peak_bytes"] < 4e9
    assert (found["num_states"], found["num_interfaces"], found["num_agents"]) == (100_000, 20_000, 1000)
    gap, aware = found["interface_gap"], found["interface_bound_value_aware"]
    assert 0 < gap <= aware <= found["interface_bound_mass_span"] <= found["interface_bound"]
    assert 0 <= found["policy_loss"] <= 2 * aware <= found["policy_loss_bound"]
    assert 1 <= found["mixing_time_low"] <= found["mixing_time_high"] <= 3 * found["mixing_time_low"]
    assert found["mixing_time"] is None or found["exact_mixing"]
    assert 0 < found["stationary_min"] < 1e-5 and found["residual"] < 1e-12
    assert 0 < found["clt_standard_error"] < 1e-2 * found["clt_coefficient"]
    assert found["a6_certified"] == (found["kappa"] < 1)


@pytest.mark.parametrize("length", [2, 40, 63, 300])
def test_episodes_end_by_plain_steps_where_they_are_short(length: int) -> None:
    """A path of states that restarts at its end: a nilpotent system, on which Krylov spaces gain nothing at first."""
    kept = sparse.csr_array(sparse.diags_array(np.ones(length - 1), offsets=1, shape=(length, length)))
    lost, start = np.eye(length)[-1], np.eye(length)[0]
    found = sparse_law(Restarted(kept, lost, start))
    np.testing.assert_allclose(found.law, 1 / length, rtol=1e-12)
    assert found.residual < 1e-12
    sums = solve(lambda block: block - 0.9 * (kept @ block), np.ones(length), "path", sweeps=64)
    np.testing.assert_allclose(sums.x, (1 - 0.9 ** np.arange(length, 0, -1)) / 0.1, rtol=1e-11)
    assert (sums.products <= length) == (length < 64)


def test_the_page_runs_and_names_what_exists() -> None:
    examples_print_what_they_say(DOCS / "large_models.md")
    named_things_exist(DOCS / "large_models.md", 2)
