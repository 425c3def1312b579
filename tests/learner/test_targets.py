"""Targets over chains of handoffs: against double loops, by hand at episode ends, fixed points by enumeration."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.core.handoff import Segment
from icsmdp_jax.learner import schedules, targets
from icsmdp_jax.learner.message import best_value, protocol
from tests.helpers import examples
from tests.reference import chain as twin_chain
from tests.reference import interface as twin_interface
from tests.reference import targets as twin
from tests.reference.models import Array, Model, random_model, uniform_behaviour

TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}  # float32: sums of at most 12 terms of size one

one = jax.jit(targets.one_handoff)
relay = jax.jit(targets.relay)
n_traced = jax.jit(targets.n_handoff)
lambda_returns = jax.jit(targets.lambda_returns)
peng = jax.jit(targets.peng_q_lambda)
watkins = jax.jit(targets.watkins_q_lambda)
naive = jax.jit(targets.naive_q_lambda)
chained = jax.jit(targets.chain_targets)


def f32(*values: Any) -> list[Any]:
    """Floats as float32, truth values as they are."""
    arrays = [np.asarray(value) for value in values]
    return [a if a.dtype == bool else a.astype(np.float32) for a in arrays]


def continuing(seed: int, length: int) -> dict[str, Array]:
    """A chain without terminal handoffs and truncations, and all that any target needs with it."""
    rng = np.random.default_rng(seed)
    return {
        "rewards": rng.normal(size=length),
        "discounts": 0.9 ** rng.integers(1, 8, size=length),
        "scalars": rng.normal(size=length),
        "lambdas": rng.random(length),
        "taken": rng.normal(size=length),
        "greedy": rng.random(length + 1) < 0.6,
        "truncated": np.zeros(length, bool),
    }


chains = st.builds(continuing, st.integers(0, 10**6), st.sampled_from([1, 4, 7]))


@examples(50)
@given(chains, st.integers(1, 15))
def test_continuing_chains_against_double_loops(data: dict[str, Array], n: int) -> None:
    r, d, v, lam, cut = (data[k] for k in ("rewards", "discounts", "scalars", "lambdas", "truncated"))
    jr, jd, jv, jlam, jcut, jtaken, jgreedy = f32(r, d, v, lam, cut, data["taken"], data["greedy"])
    np.testing.assert_allclose(one(jr[0], jd[0], jv[0]), r[0] + d[0] * v[0], **TOLERANCE)
    expected = twin.n_handoff(r, d, v, n, cut)
    np.testing.assert_allclose(n_traced(jr, jd, jv, np.int32(n), jcut), expected, **TOLERANCE)
    expected = twin.lambda_mixture(r, d, v, lam, cut)
    np.testing.assert_allclose(lambda_returns(jr, jd, jv, jlam, jcut), expected, **TOLERANCE)
    np.testing.assert_allclose(peng(jr, jd, jv, jlam, jcut), expected, **TOLERANCE)
    np.testing.assert_allclose(chained(jr, jd, jv, jlam, jcut).targets, expected, **TOLERANCE)
    expected = twin.watkins(r, d, v, lam, cut, data["greedy"])
    np.testing.assert_allclose(watkins(jr, jd, jv, jlam, jcut, jgreedy), expected, **TOLERANCE)
    expected = twin.naive(r, d, v, data["taken"], lam, cut)
    np.testing.assert_allclose(naive(jr, jd, jv, jtaken, jlam, jcut), expected, **TOLERANCE)


@pytest.mark.parametrize("seed", range(4))
def test_limits(seed: int) -> None:
    """One handoff, Monte Carlo with the last offer at the end, and what is the same with one lambda for all."""
    data = continuing(seed, 4)
    r, d, v, q, cut, greedy = f32(
        *(data[k] for k in ("rewards", "discounts", "scalars", "taken", "truncated", "greedy"))
    )
    none, every, some = (np.full(4, weight, np.float32) for weight in (0, 1, 0.3 + 0.1 * seed))
    always, never = np.ones(5, bool), np.zeros(5, bool)
    for target in (
        n_traced(r, d, v, np.int32(1), cut),
        lambda_returns(r, d, v, none, cut),
        watkins(r, d, v, none, cut, greedy),
        watkins(r, d, v, some, cut, never),
        naive(r, d, v, q, none, cut),
        lambda_returns(r, d, v, some, np.ones(4, bool)),
    ):
        np.testing.assert_allclose(target, r + d * v, **TOLERANCE)
    total, weight = 0.0, 1.0
    for t in range(4):
        total, weight = total + weight * data["rewards"][t], weight * data["discounts"][t]
    total += weight * data["scalars"][-1]
    for n in (4, 11):
        np.testing.assert_allclose(n_traced(r, d, v, np.int32(n), cut)[0], total, **TOLERANCE)
    np.testing.assert_allclose(lambda_returns(r, d, v, every, cut)[0], total, **TOLERANCE)
    np.testing.assert_array_equal(lambda_returns(r, d, v, some[0], cut), lambda_returns(r, d, v, some, cut))
    # A trace that is never cut is Peng's; naive is Peng's where the option taken was worth the best value.
    np.testing.assert_allclose(watkins(r, d, v, some, cut, always), peng(r, d, v, some, cut), **TOLERANCE)
    np.testing.assert_allclose(naive(r, d, v, np.roll(v, 1), some, cut), peng(r, d, v, some, cut), **TOLERANCE)
    static = jax.jit(targets.n_handoff, static_argnums=3)(r, d, v, 3, cut)
    np.testing.assert_allclose(static, n_traced(r, d, v, np.int32(3), cut), rtol=1e-6)


REWARDS, HALF, OFFERS = [1.0, 2.0, 4.0, 8.0], 0.5, [10.0, 20.0, 30.0, 40.0]
# Segment 1 ends in a terminal handoff or is truncated; segments 2 and 3 are the next episode. All of 1/2-power numbers.
ENDS = {
    "terminal": ([0.5, 0.0, 0.5, 0.5], [False] * 4),
    "truncated": ([0.5] * 4, [False, True, False, False]),
    "both": ([0.5, 0.0, 0.5, 0.5], [False, True, False, False]),
}
BY_HAND = {
    # kind, end: targets of the four segments
    ("n=2", "terminal"): [1 + 0.5 * 2, 2, 4 + 0.5 * 8 + 0.25 * 40, 8 + 0.5 * 40],
    ("n=2", "truncated"): [1 + 0.5 * 2 + 0.25 * 20, 2 + 0.5 * 20, 4 + 0.5 * 8 + 0.25 * 40, 8 + 0.5 * 40],
    ("n=9", "terminal"): [1 + 0.5 * 2, 2, 4 + 0.5 * 8 + 0.25 * 40, 8 + 0.5 * 40],
    ("n=9", "truncated"): [1 + 0.5 * 2 + 0.25 * 20, 2 + 0.5 * 20, 4 + 0.5 * 8 + 0.25 * 40, 8 + 0.5 * 40],
    # lambda = 1/2: 28, then 4 + (30 + 28) / 4 = 18.5; 2 or 12, then 1 + (10 + 2 or 12) / 4
    ("lambda", "terminal"): [1 + 12 / 4, 2, 18.5, 28],
    ("lambda", "truncated"): [1 + 22 / 4, 12, 18.5, 28],
    # greedy nowhere but at epoch 3: segment 0 bootstraps from 10, segment 2 looks on
    ("watkins", "terminal"): [6, 2, 18.5, 28],
    ("watkins", "truncated"): [6, 12, 18.5, 28],
    # taken = 1 everywhere: 1 + (10 + (2 or 12 - 1) / 2) / 2 and 4 + (30 + (28 - 1) / 2) / 2
    ("naive", "terminal"): [6.25, 2, 25.75, 28],
    ("naive", "truncated"): [8.75, 12, 25.75, 28],
}


def by_kind(kind: str, r: Any, d: Any, v: Any, cut: Any) -> Any:
    """Targets under one of the names above; lambda is 1/2."""
    if kind.startswith("n="):
        return n_traced(r, d, v, np.int32(int(kind[2:])), cut)
    half = np.full(4, 0.5, np.float32)
    if kind == "watkins":
        return watkins(r, d, v, half, cut, np.array([False, False, False, True, False]))
    if kind == "naive":
        return naive(r, d, v, np.ones_like(r), half, cut)
    if kind == "chain":
        return chained(r, d, v, half, cut).targets
    return lambda_returns(r, d, v, half, cut)


def changed(array: Any, where: Any, by: float) -> Any:
    """A copy with ``by`` added there."""
    other = array.copy()
    other[where] += np.float32(by)
    return other


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["n=2", "n=9", "lambda", "chain", "watkins", "naive"])
def test_episode_ends_by_hand(kind: str, end: str) -> None:
    r, d, v, cut = f32(REWARDS, ENDS[end][0], OFFERS, ENDS[end][1])
    name = "lambda" if kind == "chain" else kind
    expected = BY_HAND[name, "terminal" if end == "both" else end]
    assert np.asarray(by_kind(kind, r, d, v, cut)).tolist() == expected


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["n=2", "n=9", "lambda", "chain", "watkins", "naive"])
def test_nothing_leaks_across_an_end(kind: str, end: str) -> None:
    """What the next episode holds, finite or not, changes no bit; what this one holds does."""
    r, d, v, cut = f32(REWARDS, ENDS[end][0], OFFERS, ENDS[end][1])
    clean = np.asarray(by_kind(kind, r, d, v, cut))
    for poison in (1e30, np.inf, np.nan):
        late = slice(2, None)
        dirty = np.asarray(by_kind(kind, changed(r, late, poison), d, changed(v, late, poison), cut))
        np.testing.assert_array_equal(dirty[:2], clean[:2])
    louder = np.asarray(by_kind(kind, changed(r, 1, 16.0), d, v, cut))
    looks_on = kind != "watkins"  # whose trace is cut at epoch 1
    assert (louder[0] != clean[0]) == looks_on and louder[1] == clean[1] + 16


def test_without_an_end_the_next_segments_do_count() -> None:
    """The cases above would not notice targets that never look ahead: these numbers would."""
    r, d, v, cut = f32(REWARDS, [HALF] * 4, OFFERS, [False] * 4)
    assert by_kind("n=9", r, d, v, cut).tolist() == [1 + 1 + 1 + 1 + 2.5, 2 + 2 + 2 + 5, 4 + 4 + 10, 28]
    assert by_kind("lambda", r, d, v, cut).tolist() == [1 + (10 + 11.625) / 4, 2 + (20 + 18.5) / 4, 18.5, 28]


def test_double_q_by_hand() -> None:
    online, other = jnp.array([1.0, 5.0, 3.0]), jnp.array([7.0, -2.0, 4.0])
    offer = jax.jit(targets.double_q_offer)
    assert float(offer(online, other, jnp.array([True, True, True]))) == -2.0
    assert float(offer(online, other, jnp.array([True, False, True]))) == 4.0
    assert float(offer(online, other, jnp.zeros(3, bool))) == 0.0
    assert offer(online, other, jnp.ones(3, bool)).shape == ()
    mask = jnp.array([True, False, True])
    assert float(offer(online, online, mask)) == float(best_value(online, mask))


class Agent:
    """One link of a chain, with what it alone knows; ``receive`` is the only way in and its answer the only way out."""

    def __init__(self, reward: Any, discount: Any, own_value: Any, lambda_: Any) -> None:
        self.private = (reward, discount, own_value, lambda_)  # own_value, lambda_: at the start of its own segment
        self.target: Any = None

    def receive(self, message: Any) -> Any:
        reward, discount, own_value, lambda_ = self.private
        self.target = one(reward, discount, message)
        return relay(own_value, self.target, lambda_)


@pytest.mark.parametrize("seed", range(2))
def test_a_chain_of_agents_that_pass_one_float_back_gets_lambda_returns(seed: int) -> None:
    data = continuing(seed, 7)
    r, d, v, lam, cut = f32(*(data[k] for k in ("rewards", "discounts", "scalars", "lambdas", "truncated")))
    # Agent t starts segment t at epoch t, where its own value is scalars[t - 1]; nobody asks for the first one's.
    agents = [Agent(r[t], d[t], v[t - 1], lam[t - 1]) for t in range(7)]
    message, crossed = v[6], []  # whom the last segment led to has no segment of its own: the plain offer
    for agent in reversed(agents):
        assert message.shape == () and message.dtype == jnp.float32
        crossed.append(message)
        message = agent.receive(message)
    expected = lambda_returns(r, d, v, lam, cut)
    np.testing.assert_allclose([float(a.target) for a in agents], expected, **TOLERANCE)
    outcome = chained(r, d, v, lam, cut)
    np.testing.assert_allclose(outcome.messages, np.asarray(crossed)[::-1], **TOLERANCE)
    assert len(crossed) == outcome.messages.size == 7  # one float per handoff
    # Other lambdas give other targets, so the agreement is not for want of a difference.
    assert np.abs(np.asarray(expected) - lambda_returns(r, d, v, 1 - lam, cut)).max() > 1e-2


def test_absorb_takes_a_relayed_scalar_as_it_takes_an_offer() -> None:
    """The error that absorb reports is the target of the chain minus the agent's own value: absorb need not change."""
    data = continuing(5, 4)
    r, d, v, lam, cut = f32(*(data[k] for k in ("rewards", "discounts", "scalars", "lambdas", "truncated")))
    outcome = chained(r, d, v, lam, cut)
    rule = schedules.stochastic_approximation(schedules.constant(0.5), "visits", True)
    absorb = jax.jit(protocol(lambda params, view: params, rule).absorb)
    table, state = np.array([0.25, -1.5], np.float32), rule.init(jnp.zeros(2))
    messages, expected = np.asarray(outcome.messages), np.asarray(lambda_returns(r, d, v, lam, cut))
    for t in range(4):
        segment = Segment(np.int32(0), np.int32(1), r[t], d[t], np.int32(t))
        _, _, error = absorb(table, state, segment, messages[t])
        np.testing.assert_allclose(error, expected[t] + 1.5, **TOLERANCE)


LENGTH, LAMBDA, CHAINS = 3, 0.75, 2**14


@jax.jit
@jax.vmap
def all_targets(r: Any, d: Any, v: Any, taken: Any, greedy: Any) -> dict[str, Any]:
    """Each kind of target of the first segment of a chain that nothing cuts."""
    cut = jnp.zeros(LENGTH, bool)
    return {
        "one": targets.one_handoff(r[0], d[0], v[0]),
        "n=2": targets.n_handoff(r, d, v, 2, cut)[0],
        "peng": targets.peng_q_lambda(r, d, v, LAMBDA, cut)[0],
        "watkins": targets.watkins_q_lambda(r, d, v, LAMBDA, cut, greedy)[0],
        "naive": targets.naive_q_lambda(r, d, v, taken, LAMBDA, cut)[0],
        "chain": targets.chain_targets(r, d, v, LAMBDA, cut).targets[0],
    }


@cache
def enumerated(gap: float, greedy_policy: bool) -> tuple[Array, dict[str, Array]]:
    """``Q_phi [Z, O]`` and the exact expectation of each kind of target at ``Q_phi``, over all chains of 3 segments.

    The first state is drawn by ``w(s|z)`` of the uniform behaviour, later options by that policy or the greedy one.
    """
    model: Model = random_model(np.random.default_rng(3), interfaces_per_agent=1, longest=2, gap=gap, gamma=0.8)
    uniform = uniform_behaviour(model)
    q = twin_interface.interface_q(model, uniform)
    weights = twin_chain.interface_weights(model, twin_chain.stationary_law(model, uniform))
    best = q.argmax(axis=1)
    policy = np.eye(2)[best] if greedy_policy else uniform
    columns: list[list[Any]] = [[] for _ in range(8)]
    for s, z in enumerate(model["interface"]):
        for o in range(2):
            for chance, chain in twin.paths(model, policy, s, o, LENGTH):
                rewards, discounts = twin.segment_numbers(model, chain)
                offers = [q[model["interface"][after]].max() for _, _, _, after in chain]
                taken = [q[model["interface"][before], option] for before, option, _, _ in chain]
                greedy = [option == best[model["interface"][before]] for before, option, _, _ in chain] + [True]
                row = (z, o, weights[s] * chance, rewards, discounts, offers, taken, greedy)
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
    z, o, chance, *rest = (np.array(column) for column in columns)
    wide = f32(*(np.resize(column, (CHAINS, *column.shape[1:])) for column in rest))  # one program for all of them
    kinds = {name: np.asarray(found)[: len(z)] for name, found in jax.device_get(all_targets(*wide)).items()}
    total = np.zeros_like(q)
    np.add.at(total, (z, o), chance)
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
    expectation = {}
    for name, target in kinds.items():
        expectation[name] = np.zeros_like(q)
        np.add.at(expectation[name], (z, o), chance * np.asarray(target, np.float64))
    return q, expectation


ALL = ["one", "n=2", "peng", "watkins", "naive", "chain"]


@pytest.mark.parametrize("kind", ALL)
def test_fixed_point_when_the_target_policy_acts(kind: str) -> None:
    q, expectation = enumerated(0.0, True)
    np.testing.assert_allclose(expectation[kind], q, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_which_targets_are_off_policy_correct(kind: str) -> None:
    """Uniform behaviour: three keep the fixed point, the uncorrected ones visibly lose it."""
    q, expectation = enumerated(0.0, False)
    if kind in ("one", "watkins", "naive"):
        np.testing.assert_allclose(expectation[kind], q, rtol=1e-5, atol=1e-5)
    else:
        assert (expectation[kind] < q - 1e-2).all()  # options worse than the greedy one were looked through


@pytest.mark.parametrize("kind", ["one", "watkins", "naive"])
def test_with_an_interface_gap_only_one_handoff_keeps_q_phi(kind: str) -> None:
    q, expectation = enumerated(1.0, False)
    if kind == "one":
        np.testing.assert_allclose(expectation[kind], q, rtol=1e-5, atol=1e-5)
    else:
        assert np.abs(expectation[kind] - q).max() > 1e-2


def test_gradients_are_the_callers_business() -> None:
    """A target is differentiable in its scalars, with static and traced n, unless the caller stops it."""
    data = continuing(1, 4)
    r, d, v, lam, cut = f32(*(data[k] for k in ("rewards", "discounts", "scalars", "lambdas", "truncated")))
    slope = jax.jit(jax.grad(lambda v: targets.n_handoff(r, d, v, 2, cut)[0]))(v)
    np.testing.assert_allclose(slope, [0, d[0] * d[1], 0, 0], rtol=1e-6)
    traced = jax.jit(jax.grad(lambda v, n: targets.n_handoff(r, d, v, n, cut)[0]))(v, np.int32(2))
    np.testing.assert_allclose(traced, slope, rtol=1e-6)
    slope = jax.jit(jax.grad(lambda v: targets.lambda_returns(r, d, v, lam, cut)[0]))(v)
    assert (np.asarray(slope) > 0).all()

    def loss(theta: Any) -> Any:
        target = jax.lax.stop_gradient(targets.lambda_returns(r, d, v * theta, lam, cut))
        return 0.5 * jnp.sum((target - theta) ** 2)

    residual = np.asarray(lambda_returns(r, d, v * np.float32(1.5), lam, cut)) - 1.5
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(1.5), -residual.sum(), rtol=1e-5)


def test_wrong_arguments_are_refused() -> None:
    r, d, v, cut = f32(REWARDS, [HALF] * 4, OFFERS, [False] * 4)
    with pytest.raises(ValueError, match="n = 0: expected at least 1 handoff"):
        targets.n_handoff(r, d, v, 0, cut)
    with pytest.raises(AssertionError):
        targets.lambda_returns(r, d, v[:3], 0.5, cut)
    with pytest.raises(AssertionError):
        targets.watkins_q_lambda(r, d, v, 0.5, cut, jnp.ones(4, bool))
    with pytest.raises(AssertionError):
        targets.lambda_returns(r[None], d[None], v[None], 0.5, cut[None])


def test_types_are_those_of_the_inputs() -> None:
    r, d, v, cut = f32(REWARDS, [HALF] * 4, OFFERS, [False] * 4)
    for target in (n_traced, lambda_returns):
        assert jax.eval_shape(target, r, d, v, 3, cut) == jax.ShapeDtypeStruct((4,), jnp.float32)
