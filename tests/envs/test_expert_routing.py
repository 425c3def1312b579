"""Expert routing against its twin and its exact model, and what must hold whatever the numbers are."""

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
from icsmdp_jax.envs.expert_routing import (
    MODELS,
    TEAM,
    backlogs,
    best_agents,
    expert_routing,
    states,
)
from icsmdp_jax.envs.expert_routing.queries import DIFFICULTIES, KINDS
from icsmdp_jax.envs.expert_routing.table import published
from icsmdp_jax.envs.finite import TabularState
from icsmdp_jax.exact import kernel_moments
from icsmdp_jax.exact.interface import ais_constants
from icsmdp_jax.exact.returns import Returns
from tests.envs.listed_checks import check_alias, check_draws, jitted
from tests.reference import expert_routing as twin

KEY = jax.random.key(0)
OTHER = dict(
    noise=0.7, notice=0.5, wait=1.5, tokens_per_block=3000.0, check_share=0.8, value=2.0, dollar_weight=1.5,
    block_cost=0.02, gamma=0.9, slope=1.0, hops=3,
)  # fmt: skip


@cache
def made(**changes: object):  # type: ignore[no-untyped-def]
    env, params = expert_routing(**changes)  # type: ignore[arg-type]
    return env, params, env.exact_model(params), twin.Office(**changes)  # type: ignore[arg-type]


@cache
def named(hops: int) -> list[twin.Query]:
    """The environment's states, in its order, as the twin names them."""
    rows = states(made(**(OTHER if hops == 3 else {}))[0])
    return [
        twin.Query(KINDS[k], DIFFICULTIES[d], int(i), KINDS[kr], DIFFICULTIES[dr], bool(b), bool(f), int(h))
        for k, d, i, kr, dr, b, f, h in zip(*rows, strict=True)
    ]


def listed_laws(env, params, s: int, o: int) -> dict[object, float]:  # type: ignore[no-untyped-def]
    """The law in the parameters, by name, without outcomes of probability 0."""
    names = [*named(env.hops), twin.RIGHT, twin.WRONG]
    law: dict[object, float] = {}
    for to, p in zip(np.asarray(params.successor)[s, o], np.asarray(params.probability)[s, o], strict=True):
        if p > 0:
            law[names[to]] = law.get(names[to], 0.0) + float(p)
    return law


def close_laws(found: dict, expected: dict) -> bool:
    expected = {name: p for name, p in expected.items() if p > 0}
    return found.keys() == expected.keys() and all(math.isclose(found[k], expected[k], abs_tol=1e-6) for k in found)


@pytest.mark.parametrize("changes", [OTHER], ids=["other"])
def test_random_traces_agree_with_the_twin(changes: dict) -> None:
    """Every field of every handoff of 40 queries under random options."""
    env, params, _, office = made(**changes)
    reset, step = jitted(env)
    names, rng = [*named(env.hops), twin.RIGHT, twin.WRONG], np.random.default_rng(1)
    seen = set()
    for run in range(40):
        handoff, state = reset(jax.random.fold_in(KEY, run), params)
        query = names[int(state.index)]
        assert office.start()[query] > 0
        for turn in range(20):
            assert (int(handoff.agent), int(handoff.interface)) == (query.holder, office.interface(query))
            assert np.asarray(handoff.mask).tolist() == office.options(query)
            option = int(rng.choice(np.flatnonzero(handoff.mask)))
            handoff, state = step(jax.random.key(1000 * run + turn), state, jnp.int32(option), params)
            after, tau = names[int(state.index)], int(handoff.duration)
            assert office.outcomes(query, option)[after] > 0
            assert office.durations(query, option)[tau] > 0
            assert math.isclose(handoff.reward, office.reward(query, option, tau, after), abs_tol=3e-6)
            assert math.isclose(handoff.discount, office.discount(tau, after), rel_tol=1e-5)
            seen.add((option, after if isinstance(after, str) else after.failed))
            if after in (twin.RIGHT, twin.WRONG):
                assert bool(handoff.terminated) and int(handoff.interface) == env.num_interfaces - 1
                break
            query = after
        else:
            raise AssertionError("a query never ended")
    assert {(o, e) for o in (0, 1) for e in (twin.RIGHT, twin.WRONG)} | {(1, True)} <= seen


@pytest.mark.parametrize("changes", [{}, OTHER], ids=["default", "other"])
def test_all_tables_agree_with_the_twin(changes: dict) -> None:
    """Start, masks, laws, durations, dollars: each state, each available option."""
    env, params, _, office = made(**changes)
    names = named(env.hops)
    assert len(set(names)) == len(names)
    start = {name: float(p) for name, p in zip(names, params.start, strict=True) if p > 0}
    assert close_laws(start, office.start())
    host = jax.tree.map(np.asarray, params)
    for s, query in enumerate(names):
        assert host.mask[host.interface[s]].tolist() == office.options(query)
        assert (host.agent[s], host.interface[s]) == (query.holder, office.interface(query))
        for o in np.flatnonzero(host.mask[host.interface[s]]):
            assert close_laws(listed_laws(env, host, s, int(o)), office.outcomes(query, int(o))), (query, o)
            mean = host.shortest[s, o] + host.longer[s, o]
            assert math.isclose(mean, office.mean_blocks(query, int(o)), rel_tol=1e-6)
            assert math.isclose(host.dollars[s, o], office.dollars(query, int(o)), rel_tol=1e-6)


def test_everything_that_can_follow_is_listed() -> None:
    """From the start laws, through all options: the twin reaches listed states only, and all of them."""
    env, _, _, office = made()
    found, waiting = set(), list(office.start())
    while waiting:
        query = waiting.pop()
        if query in found:
            continue
        found.add(query)
        for option in np.flatnonzero(office.options(query)):
            waiting += [q for q in office.outcomes(query, int(option)) if isinstance(q, twin.Query)]
    assert found == set(named(env.hops))


def test_the_environment_draws_what_the_model_says() -> None:
    env, params, model, _ = made()
    check_alias(env, params)
    rows = states(env)
    busy = int(np.flatnonzero((rows.agent == 3) & (rows.backlog == 1) & (rows.hops == 1) & (rows.failed == 0))[5])
    front = int(np.flatnonzero(model.start)[3])
    check_draws(env, params, model, [(front, 1), (busy, 0), (busy, 2)])


def test_expected_rewards_of_the_model() -> None:
    """Against the twin's sum over durations and outcomes, and the modulus against its mean discount."""
    _, _, model, office = made()
    moments = kernel_moments(model)
    rng, names = np.random.default_rng(3), named(2)
    for s in rng.choice(len(names), 60, replace=False):
        for o in np.flatnonzero(office.options(names[s])):
            mean = kept = 0.0
            for entered, p in office.outcomes(names[s], int(o)).items():
                for tau, q in office.durations(names[s], int(o)).items():
                    mean += p * q * office.reward(names[s], int(o), tau, entered)
                    kept += p * q * office.discount(tau, entered)
            assert math.isclose(moments.reward_mean[s, o], mean, abs_tol=2e-6)
            assert math.isclose(moments.modulus[s, o], kept, abs_tol=2e-6)


@pytest.mark.parametrize("slope", [0.0, 1.0, 4.0])
def test_chances_average_to_the_published_accuracies(slope: float) -> None:
    env, params = expert_routing(slope=slope)
    accuracy, dollars, _ = published(TEAM)
    rows, host = states(env), jax.tree.map(np.asarray, params)
    right = (host.probability[:, 0] * (host.successor[:, 0] == env.num_deciding)).sum(axis=1)
    for kind in range(2):
        for agent in range(5):
            chances, bills = [], []
            for difficulty in range(3):
                at = (rows.kind == kind) & (rows.agent == agent) & (rows.difficulty == difficulty)
                assert np.ptp(right[at]) < 1e-6
                chances.append(right[at][0])
                bills.append(host.dollars[at, 0][0])
            assert chances == sorted(chances, reverse=True)
            assert math.isclose(np.mean(chances), accuracy[kind, agent], abs_tol=1e-6)
            assert math.isclose(np.mean(bills), dollars[kind, agent], rel_tol=1e-6)


@pytest.mark.parametrize("changes", [{}, OTHER], ids=["default", "other"])
def test_the_oracle_and_the_best_agents_are_those_of_a_plain_search(changes: dict) -> None:
    """Dynamic programming over named queries, against the exact solver on the listing."""
    env, params, model, office = made(**changes)
    returns, known = Returns(model), {}
    best = sum(p * office.value_of(query, known) for query, p in office.start().items())
    assert math.isclose(returns.oracle, best, abs_tol=2e-6)
    for s, query in enumerate(named(env.hops)):
        if query in known:
            assert math.isclose(returns.q_star.value[s], known[query], abs_tol=5e-6)
    found = best_agents(env, params).tolist()
    assert found == [[office.best(kind, level, known) for level in twin.LEVELS] for kind in twin.TYPES]
    np.testing.assert_allclose(backlogs(env, params), office.busy, atol=1e-6)
    if not changes:
        assert len({agent for row in found for agent in row}) >= 3  # routing matters: nobody is best for everything


def test_the_contract() -> None:
    env, params, _, _ = made()
    seen = check_environment(env, params, jax.random.key(1))
    assert seen.terminated > 100 and seen.agents == 5 and seen.longest > 10


def test_what_the_interface_hides() -> None:
    """Something by default, nothing without noise; the oracle, which needs no reading, does not care."""
    returns = Returns(made()[2])
    noisy = ais_constants(returns.interface)
    assert noisy.epsilon > 0.1 and noisy.delta > 0.1
    env, params = expert_routing(noise=0.0)
    clear = Returns(env.exact_model(params))
    closed = ais_constants(clear.interface)
    assert closed.epsilon < 1e-6 and closed.delta < 1e-6
    assert math.isclose(clear.interface_optimum, clear.oracle, abs_tol=1e-7)
    assert math.isclose(clear.oracle, returns.oracle, abs_tol=1e-6)
    assert returns.interface_optimum < returns.oracle - 0.02


def test_answering_at_once_is_not_the_way() -> None:
    """Handing on pays nothing at once, and is what the oracle lives from."""
    returns = Returns(made()[2])
    assert returns.oracle - returns.greedy_immediate > 0.15
    assert returns.interface_optimum - returns.greedy_immediate > 0.1
    assert returns.oracle - returns.random > 0.1


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    factor=st.floats(0.1, 20.0),
    noise=st.floats(0.0, 1.0),
    notice=st.floats(0.0, 1.0),
    gamma=st.floats(0.5, 0.995),
)
def test_invariances(factor: float, noise: float, notice: float, gamma: float) -> None:
    """Laws are laws; rewards and the oracle scale with value and prices together."""
    common = dict(noise=noise, notice=notice, gamma=gamma, models=TEAM[:2], hops=1)
    env, params = expert_routing(**common)
    assert np.allclose(np.asarray(params.probability, np.float64).sum(axis=2), 1, atol=1e-6)
    more = expert_routing(**common, value=factor, dollar_weight=3 * factor, block_cost=0.01 * factor)[1]
    one, other = Returns(env.exact_model(params)), Returns(env.exact_model(more))
    assert math.isclose(other.oracle, factor * one.oracle, rel_tol=1e-4)
    assert one.oracle >= one.interface_optimum - 1e-9


def test_two_settings_share_shapes() -> None:
    """A sweep over prices and noises compiles once."""
    env, params, _, _ = made()
    other_env, other = expert_routing(dollar_weight=9.0, noise=0.1, notice=0.0, gamma=0.9, block_cost=0.0)
    assert other_env == env
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, other)


def test_features_and_global_view_tell_everything_apart() -> None:
    env, params, model, _ = made()
    features = env.interface_features(None)
    assert len(features) == env.num_interfaces and not features[-1].any()
    owner = np.arange(env.num_interfaces - 1) // (len(features[:-1]) // env.num_agents)
    assert len(np.unique(np.column_stack([owner, features[:-1]]), axis=0)) == env.num_interfaces - 1
    view = np.asarray(
        jax.jit(jax.vmap(lambda i: env.global_view(TabularState(i), params)))(jnp.arange(env.num_deciding))
    )
    assert len(np.unique(view, axis=0)) == env.num_deciding


def test_the_published_table() -> None:
    """A sample against what the twin has written down by itself."""
    for name, (accuracy, bill, price) in twin.TABLE.items():
        assert MODELS[name][1:] == (price, accuracy, bill)
    assert TEAM == tuple(twin.TABLE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(models=("DeepSeek-v3", "nobody")), r"models\[1\] = 'nobody': expected one of Claude-sonnet-4, "),
        (dict(models=("DeepSeek-v3",)), "models: found 1, expected 2 or more"),
        (dict(hops=0), "hops = 0: expected a whole number of at least 1"),
        (dict(noise=1.5), "noise = 1.5: expected a number from 0 to 1"),
        (dict(notice=math.nan), "notice = nan: expected a number from 0 to 1"),
        (dict(gamma=1.0), "gamma = 1.0: expected a number between 0 and 1"),
        (dict(block_cost=-1.0), "block_cost = -1.0: expected 0 or more"),
        (dict(blur=(1.0, 2.0, 0, 0, 0)), r"blur\[1\] = 2.0: expected a number from 0 to 1"),
        (dict(busy=(1.0,)), "busy: 1 numbers, expected 5, one for each model"),
        (dict(mix=-0.1), "mix = -0.1: expected a number from 0 to 1"),
        (dict(tokens_per_block=0.0), "tokens_per_block = 0.0: expected a positive number"),
        (dict(slope=-1.0), "slope = -1.0: expected 0 or more"),
    ],
)
def test_bad_numbers_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        expert_routing(**changes)
    assert "\n" not in str(caught.value)
