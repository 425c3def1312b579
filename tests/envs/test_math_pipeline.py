"""The mathematics pipeline against its twin and its exact model, and what must hold whatever the numbers are."""

from __future__ import annotations

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsmdp_jax.core.checks import check_environment
from icsmdp_jax.envs.expert_routing.table import KINDS, MODELS
from icsmdp_jax.envs.math_pipeline import ROLES, TEAM, math_pipeline, states
from icsmdp_jax.envs.math_pipeline.pipeline import DESK
from icsmdp_jax.exact import kernel_moments
from icsmdp_jax.exact.interface import ais_constants
from icsmdp_jax.exact.returns import Returns
from tests.envs.listed_checks import check_alias, check_draws, jitted
from tests.helpers import exact_model
from tests.reference import math_pipeline as twin

KEY = jax.random.key(0)
OTHER = dict(
    budget=9, lift=2.0, repair=0.3, harm=0.2, noise=0.9, tokens_per_block=1100.0, plan_share=0.4, verify_share=0.8,
    submit_tokens=2500.0, value=2.0, dollar_weight=3.0, block_cost=0.02, gamma=0.9,
)  # fmt: skip
BOTH = pytest.mark.parametrize("changes", [{}, OTHER], ids=["default", "other"])


@cache
def _made(items: tuple):  # type: ignore[no-untyped-def]
    changes = dict(items)
    env, params = math_pipeline(**changes)
    return env, params, env.exact_model(params), twin.Pipeline(**changes)


def made(**changes: object):  # type: ignore[no-untyped-def]
    return _made(tuple(changes.items()))


def named(env) -> list[twin.Problem]:  # type: ignore[no-untyped-def]
    """The environment's states, in its order, as the twin names them."""
    return [
        twin.Problem(KINDS[k], DESK[d], ROLES[i], KINDS[kr], DESK[looks], int(left))
        for k, d, i, kr, looks, left in zip(*states(env), strict=True)
    ]


def test_random_traces_agree_with_the_twin() -> None:
    """Every field of every handoff of 60 problems under random options."""
    env, params, _, line = made(**OTHER)
    reset, step = jitted(env)
    names, rng = [*named(env), twin.RIGHT, twin.OVER], np.random.default_rng(1)
    ends, worked = set(), set()
    for run in range(60):
        handoff, state = reset(jax.random.fold_in(KEY, run), params)
        problem = names[int(state.index)]
        assert line.start()[problem] > 0
        while True:
            assert (ROLES[int(handoff.agent)], int(handoff.interface)) == (problem.holder, line.interface(problem))
            assert handoff.mask.shape == (4,) and handoff.mask.all()
            option = int(rng.choice(4, p=[0.4, 0.2, 0.2, 0.2]))
            key = jax.random.fold_in(jax.random.key(run), problem.left)
            handoff, state = step(key, state, jnp.int32(option), params)
            after, tau = names[int(state.index)], int(handoff.duration)
            assert line.outcomes(problem, option)[after] > 0
            assert tau == line.blocks(problem, option)
            assert math.isclose(handoff.reward, line.reward(problem, option, after), abs_tol=3e-6)
            assert math.isclose(handoff.discount, line.discount(tau, after), rel_tol=1e-5)
            worked.add((problem.holder, option))
            if not isinstance(after, twin.Problem):
                assert bool(handoff.terminated) and int(handoff.interface) == env.num_interfaces - 1
                ends.add(after)
                break
            problem = after
    assert ends == {twin.RIGHT, twin.OVER} and len(worked) == 20


@BOTH
def test_all_tables_agree_with_the_twin(changes: dict) -> None:
    """Start, laws, durations, dollars: each state, each option."""
    env, params, _, line = made(**changes)
    names = named(env)
    assert len(set(names)) == len(names)
    host = jax.tree.map(np.asarray, params)
    start = {name: float(p) for name, p in zip(names, host.start, strict=True) if p > 0}
    assert close_laws(start, line.start())
    ends = [*names, twin.RIGHT, twin.OVER]
    for s, problem in enumerate(names):
        assert (ROLES[host.agent[s]], host.interface[s]) == (problem.holder, line.interface(problem))
        for o in range(4):
            law: dict[object, float] = {}
            for to, p in zip(host.successor[s, o], host.probability[s, o], strict=True):
                if p > 0:
                    law[ends[to]] = law.get(ends[to], 0.0) + float(p)
            assert close_laws(law, line.outcomes(problem, o)), (problem, o)
            assert (host.shortest[s, o], host.longer[s, o]) == (line.blocks(problem, o), 0)
            assert math.isclose(host.dollars[s, o], line.dollars(problem, o), rel_tol=1e-6)


def close_laws(found: dict, expected: dict) -> bool:
    expected = {name: p for name, p in expected.items() if p > 0}
    return found.keys() == expected.keys() and all(math.isclose(found[k], expected[k], abs_tol=1e-6) for k in found)


@BOTH
def test_the_oracle_is_that_of_a_plain_search(changes: dict) -> None:
    """Dynamic programming over named problems, against the exact solver on the listing."""
    env, _, model, line = made(**changes)
    returns, known = Returns(model), {}
    best = sum(p * line.value_of(problem, known) for problem, p in line.start().items())
    assert math.isclose(returns.oracle, best, abs_tol=2e-6)
    value = returns.q_star.value
    for s, problem in enumerate(named(env)):
        if problem in known:
            assert math.isclose(value[s], known[problem], abs_tol=5e-6)


def test_the_environment_draws_what_the_model_says() -> None:
    env, params, model, _ = made()
    check_alias(env, params)
    names, rows = named(env), []
    for holder, desk, left, option in (
        ("solver A", "flawed plan", 9, 0), ("verifier", "wrong draft", 5, 0), ("finalizer", "right draft", 3, 0),
    ):  # fmt: skip
        problem = next(p for p in names if (p.holder, p.desk, p.left) == (holder, desk, left))
        rows.append((names.index(problem), option))
    check_draws(env, params, model, rows)


def test_expected_rewards_of_the_model() -> None:
    """Against the twin's sum over outcomes, and the modulus against its mean discount."""
    env, _, model, line = made()
    moments, names = kernel_moments(model), named(env)
    for s in np.random.default_rng(3).choice(len(names), 100, replace=False):
        for o in range(4):
            tau = line.blocks(names[s], o)
            law = line.outcomes(names[s], o)
            mean = sum(p * line.reward(names[s], o, entered) for entered, p in law.items())
            kept = sum(p * line.discount(tau, entered) for entered, p in law.items())
            assert math.isclose(moments.reward_mean[s, o], mean, abs_tol=2e-6)
            assert math.isclose(moments.modulus[s, o], kept, abs_tol=2e-6)


def test_the_contract() -> None:
    env, params, _, _ = made()
    seen = check_environment(env, params, jax.random.key(1), copies=8, handoffs=64)
    assert seen.terminated > 10 and seen.agents == 5 and seen.longest == 4


def test_what_the_interface_hides() -> None:
    """Something by default, nothing without noise; the oracle, which needs no reading, does not care."""
    returns = Returns(made()[2])
    noisy = ais_constants(returns.interface)
    assert noisy.epsilon > 0.1 and noisy.delta > 0.1
    clear = Returns(made(noise=0.0)[2])
    closed = ais_constants(clear.interface)
    assert closed.epsilon < 1e-6 and closed.delta < 1e-6
    assert math.isclose(clear.interface_optimum, clear.oracle, abs_tol=1e-7)
    assert math.isclose(clear.oracle, returns.oracle, abs_tol=1e-6)
    assert returns.interface_optimum < returns.oracle - 0.05


def test_only_the_finalizer_is_paid() -> None:
    """Whoever looks at the next payment does nothing useful; the oracle earns most of what can be earned."""
    returns = Returns(made()[2])
    assert returns.greedy_immediate < 0 < returns.interface_optimum < returns.oracle
    assert returns.interface_optimum - returns.random > 0.5


@settings(max_examples=5, deadline=None, derandomize=True)
@given(lift=st.floats(1.0, 10.0), repair=st.floats(0.0, 1.0), harm=st.floats(0.0, 1.0), factor=st.floats(0.1, 10.0))
def test_invariances(lift: float, repair: float, harm: float, factor: float) -> None:
    """Laws are laws; more repair and less harm help; rewards and the oracle scale with value and prices together."""
    common = dict(lift=lift, budget=7)
    env, params = math_pipeline(**common, repair=repair, harm=harm)
    assert np.allclose(np.asarray(params.probability, np.float64).sum(axis=2), 1, atol=1e-6)
    oracle = Returns(env.exact_model(params)).oracle
    better = Returns(exact_model(math_pipeline(**common, repair=(1 + repair) / 2, harm=harm / 2))).oracle
    assert better >= oracle - 1e-6
    scaled = math_pipeline(
        **common, repair=repair, harm=harm, value=factor, dollar_weight=factor, block_cost=0.01 * factor
    )
    assert math.isclose(Returns(exact_model(scaled)).oracle, factor * oracle, rel_tol=1e-4, abs_tol=1e-6)


def test_a_verifier_that_cannot_help_changes_nothing() -> None:
    """Without repair, and with a solver as good as certain, what is left are the costs of the shortest way."""
    env, params, model, line = made(repair=0.0, harm=1.0, lift=1e9, dollar_weight=0.0, block_cost=0.0, gamma=0.9)
    sound = {kind: line.accuracy("planner", kind) for kind in twin.KINDS}
    # A sound plan makes any solver certain; the oracle, which sees a flawed one, may plan again or draft without it.
    assert Returns(model).oracle <= 0.9 ** (1 + 1 + 1 - 1) + 1e-6
    first = line.aime_share * sound["AIME"] * 0.9**3 + (1 - line.aime_share) * sound["LiveMathBench"] * 0.9**2
    assert Returns(model).oracle >= first - 1e-6


def test_features_and_global_view_tell_everything_apart() -> None:
    env, params, model, _ = made()
    features = env.interface_features(None)
    assert len(features) == env.num_interfaces and not features[-1].any()
    owner = np.arange(env.num_interfaces - 1) // ((env.num_interfaces - 1) // len(ROLES))
    assert len(np.unique(np.column_stack([owner, features[:-1]]), axis=0)) == env.num_interfaces - 1
    assert (owner[model.interface[:-2]] == model.agent[:-2]).all()
    assert len(np.unique(np.asarray(params.view)[:-2], axis=0)) == env.num_deciding


def test_the_models_of_the_roles() -> None:
    for role, name in zip(twin.ROLES, TEAM, strict=True):
        accuracy, bill, price = twin.TABLE[role]
        assert MODELS[name][1:] == (price, accuracy, bill)
    assert twin.ROLES == ROLES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(models=TEAM[:4]), "models: found 4, expected 5: planner, solver A, "),
        (dict(models=("x", *TEAM[1:])), r"models\[0\] = 'x': expected one of Claude-sonnet-4, "),
        (dict(budget=2), "budget = 2: expected a whole number of at least 3"),
        (dict(repair=1.1), "repair = 1.1: expected a number from 0 to 1"),
        (dict(harm=math.nan), "harm = nan: expected a number from 0 to 1"),
        (dict(lift=0.5), "lift = 0.5: expected 1 or more"),
        (dict(blur=(1, 1, 1, 1, -1)), r"blur\[4\] = -1: expected a number from 0 to 1"),
        (dict(plan_share=0.0), "plan_share = 0.0: expected a positive number"),
        (dict(gamma=0.0), "gamma = 0.0: expected a number between 0 and 1"),
        (dict(value=math.inf), "value = inf: expected 0 or more"),
        (dict(mix=2.0), "mix = 2.0: expected a number from 0 to 1"),
    ],
)
def test_bad_numbers_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        math_pipeline(**changes)
    assert "\n" not in str(caught.value)
