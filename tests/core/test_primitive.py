"""Environments with primitive steps: the lifted form is the one stepped by hand, in every bit and in law.

Every stochastic test has fixed keys and compares p-values with ``ALARM`` divided by the number of its p-values, so that
a right program fails it with probability at most ``ALARM``.
"""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icsmdp_jax.core import primitive
from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.core.primitive import Lifted, LiftedParams, LiftedState, draw_action
from icsmdp_jax.envs.workshop.env import RAW, Workshop, WorkshopParams, WorkshopState, feature_tables, workshop
from icsmdp_jax.envs.workshop.exact import workshop_model
from icsmdp_jax.exact.primitive import (
    PrimitiveModel,
    greedy_workflow,
    option_moments,
    solve,
)
from icsmdp_jax.exact.solve import modified_policy_iteration
from tests.helpers import chi_square, same_bits
from tests.relay import EPISODE, Relay, RelayState

ALARM = 1e-6
DRAWS = 4000
PAGE = Path(__file__).resolve().parents[2] / "docs" / "adaptable.md"


def first_or_last(last: object, agent: object, option: object, observation: object, mask: jax.Array) -> jax.Array:
    """A deterministic local policy: the first action, or the last one that is available."""
    return jnp.where(last, 1.0, -1.0) * 1e6 * jnp.arange(mask.shape[0], dtype=jnp.float32)


def relay_at(agent: int, count: int) -> LiftedState:
    env = Relay()
    inner = RelayState(jnp.int32(agent), jnp.int32(count), jnp.int32(0), jnp.int32(0))
    return LiftedState(inner, env._decision(inner))


@cache
def relay_step(name: str) -> Any:
    return jax.jit(getattr(Lifted(Relay(), first_or_last), name))


@pytest.mark.parametrize(
    ("agent", "count", "option", "last", "reward", "tau", "discount", "terminated", "truncated"),
    [
        (0, 0, 0, False, 1.0, 1, 0.5, False, False),
        (1, 0, 0, False, 5.0, 1, 0.5, False, False),
        (0, 1, 1, False, 1 + 1 / 2 + 1 / 4, 3, 0.125, False, False),
        # Action 2 twice, and at the last step, where it is not available, action 1.
        (0, 1, 1, True, 3 + 3 / 2 + 2 / 4, 3, 0.125, False, False),
        (1, 1, 1, True, 7 + 7 / 2 + 6 / 4, 3, 0.125, False, False),
        (1, EPISODE - 1, 0, False, 5.0, 1, 0.0, True, False),
        (0, EPISODE - 1, 1, False, 1.75, 3, 0.125, False, True),
    ],
)
def test_segment_by_hand(agent, count, option, last, reward, tau, discount, terminated, truncated):
    params = LiftedParams(jnp.float32(0.5), jnp.asarray(last))
    for name in ("step_env", "step"):
        step = relay_step(name)
        handoff, state = step(jax.random.key(3), relay_at(agent, count), jnp.int32(option), params)
        assert same_bits(handoff.reward, np.float32(reward))
        assert same_bits(handoff.duration, np.int32(tau))
        assert same_bits(handoff.discount, np.float32(discount))
        assert bool(handoff.terminated) == terminated and bool(handoff.truncated) == truncated
        assert int(handoff.final_agent) == 1 - agent
        assert int(handoff.final_interface) == EPISODE * (1 - agent) + (count + 1) % EPISODE
        assert int(state.inner.count) == (0 if name == "step" and count == EPISODE - 1 else count + 1)
        assert int(handoff.interface) == EPISODE * int(handoff.agent) + int(state.inner.count) % EPISODE
        assert [bool(m) for m in handoff.final_mask] == [True, not (agent == 0 and count == 1)]
        assert all(same_bits(a, b) for a, b in zip(state.decision, handoff[:3], strict=True))


def test_reset_has_no_segment():
    handoff, state = jax.jit(Lifted(Relay()).reset)(jax.random.key(0), LiftedParams(jnp.float32(0.5), None))
    assert float(handoff.reward) == float(handoff.discount) == 0 and int(handoff.duration) == 0
    assert not handoff.terminated and not handoff.truncated
    assert same_bits(handoff.interface, handoff.final_interface) and same_bits(handoff.mask, state.decision.mask)


def test_discount_of_a_long_option_is_accumulated():
    """A thousand steps: gamma^1000 from float32 products, against float64."""
    env, gamma = Relay(), jnp.float32(0.995)
    at = relay_at(0, 0)

    @jax.jit
    def run() -> Any:
        begun = primitive.launch(env, jax.random.key(0), at.decision, at.inner, jnp.int32(1), gamma)
        return jax.lax.while_loop(
            lambda o: ~o.tick.ended,
            lambda o: primitive.advance(env, jax.random.key(1), o, jnp.int32(0), gamma),
            begun._replace(state=begun.state._replace(left=jnp.int32(1000))),
        )

    ended = run()
    exact = float(gamma) ** 1000
    assert int(ended.duration) == 1000
    np.testing.assert_allclose(float(ended.discount), exact, rtol=1000 * 2.0**-24)
    np.testing.assert_allclose(float(ended.reward), (1 - exact) / (1 - float(gamma)), rtol=1e-5)


def test_a_tick_of_another_dtype_is_refused():
    env = Lifted(Relay(reward_dtype=jnp.int32))
    with pytest.raises(AssertionError):
        env.step_env(jax.random.key(0), relay_at(0, 0), jnp.int32(0), LiftedParams(jnp.float32(0.5), None))


def test_actions_follow_the_softmax_of_those_available():
    """Chi-square; an unavailable action would fail it outright."""
    logits, mask = jnp.array([0.0, 3.0, 1.0, -1.0]), jnp.array([True, False, True, True])
    keys = jax.random.split(jax.random.key(8), 50_000)
    drawn = jax.jit(jax.vmap(lambda key: draw_action(key, logits, mask)))(keys)
    law = np.exp(np.array([0.0, -np.inf, 1.0, -1.0]))
    assert chi_square(np.bincount(drawn, minlength=4), law / law.sum()) > ALARM


@cache
def shop(kept: float = 0.3) -> tuple[Workshop, WorkshopParams, PrimitiveModel]:
    env, params = workshop(kept)
    return env, params, workshop_model(env, params)


def local_law(policy: jax.Array, agent: jax.Array, option: jax.Array, seen: jax.Array, mask: jax.Array) -> jax.Array:
    """A local policy with parameters: one table for all agents and options, ``[X, A]`` logits."""
    return policy[seen]


@cache
def preference() -> tuple[jax.Array, np.ndarray]:
    """Parameters of ``local_law``, and the same policy as a table over situations."""
    env, _, model = shop()
    logits = np.random.default_rng(5).normal(size=(env.local_spec.num_observations, env.num_tools)).astype(np.float32)
    law = np.exp(logits.astype(np.float64))
    law /= law.sum(axis=1, keepdims=True)
    seen = np.arange(model.num_situations) // env.spec.num_options % env.local_spec.num_observations
    return jnp.asarray(logits), law[seen]


def test_stepping_by_hand_gives_the_same_bits():
    """A Python loop over ``tick`` with the documented keys, beside one call of the lifted environment."""
    env, params, _ = shop()
    policy, _ = preference()
    lifted, lifted_params = Lifted(env, local_law), LiftedParams(params, policy)
    step, begin, tick = jax.jit(lifted.step_env), jax.jit(env.begin), jax.jit(env.tick)
    act = jax.jit(draw_action)
    reset = jax.jit(lifted.reset)
    _, state = reset(jax.random.key(1), lifted_params)
    lasted = []
    for n in range(12):
        key, option = jax.random.fold_in(jax.random.key(2), n), jnp.int32(int(np.argmax(state.decision.mask)))
        key_begin, key_run = primitive.option_keys(key)
        seen, inner = begin(key_begin, state.inner, option, params)
        reward, discount, tau = np.float32(0), np.float32(1), 0
        while not seen.ended:
            key_action, key_tick = primitive.tick_keys(key_run, tau)
            logits = np.asarray(policy)[int(seen.observation)]
            seen, inner = tick(key_tick, inner, act(key_action, logits, seen.action_mask), params)
            reward, discount, tau = reward + discount * np.asarray(seen.reward), discount * np.float32(0.95), tau + 1
        handoff, after = step(key, state, option, lifted_params)
        lasted.append(tau)
        assert int(handoff.duration) == tau
        # The compiler may fuse multiply and add: one rounding of partial sums, which stay below 4, for each step.
        np.testing.assert_allclose(handoff.reward, reward, rtol=0, atol=4 * tau * 2.0**-24)
        np.testing.assert_allclose(handoff.discount, 0 if seen.terminated else discount, rtol=1e-6)
        entered = zip(jax.tree.leaves((inner, seen.decision)), jax.tree.leaves(tuple(after)), strict=True)
        assert all(same_bits(a, b) for a, b in entered)
        state = after if bool(np.any(after.decision.mask)) else reset(key, lifted_params)[1]
    assert len(set(lasted)) > 3


def test_a_batch_gives_the_bits_of_single_calls_and_keys_those_of_words():
    env, params, _ = shop()
    lifted, lifted_params = Lifted(env), LiftedParams(params, None)
    keys = jax.random.split(jax.random.key(4), 8)

    def both(key: jax.Array) -> tuple:
        _, state = lifted.reset(key, lifted_params)
        return state, lifted.step(key, state, jnp.int32(0), lifted_params)

    states, batch = jax.jit(jax.vmap(both))(keys)
    assert len(set(np.asarray(batch[0].duration).tolist())) > 2  # copies did wait for each other
    single = jax.jit(lifted.step_from_words)
    for k in range(8):
        state = jax.tree.map(lambda leaf, k=k: leaf[k], states)
        one = single(jax.random.key_data(keys[k]), state, jnp.int32(0), lifted_params)
        assert all(same_bits(a[k], b) for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(one), strict=True))


# Decision pairs for the statistical tests: agent, status of the parts, clamped tools, option.
PAIRS = [
    (0, (0, 0), (0, 1, 2), 4),
    (1, (0, 2), (2, 0, 1), 2),
    (2, (2, 0), (1, 1, 0), 5),
]


def place_numbers(env: Workshop) -> dict[tuple, int]:
    """Numbers of the decision states, in the order that ``workshop_model`` documents by its arrays."""
    statuses = [s for s in itertools.product(range(3), repeat=env.num_parts) if RAW in s]
    benches = itertools.product(range(env.num_tools), repeat=env.num_agents)
    return {place: s for s, place in enumerate(itertools.product(range(env.num_agents), statuses, benches))}


@cache
def drawn_segments() -> tuple[np.ndarray, Handoff]:
    """``[pairs, DRAWS]`` number of the state entered (``S`` if delivered), and the handoffs."""
    env, params, model = shop()
    lifted, lifted_params = Lifted(env, local_law), LiftedParams(params, preference()[0])

    def one(key, agent, status, clamped, option):
        zero = jnp.int32(0)
        inner = WorkshopState(agent, status, clamped, zero, zero, zero, zero)
        return lifted.step_env(key, LiftedState(inner, env._decision(inner)), option, lifted_params)

    columns = [jnp.asarray(column, jnp.int32) for column in zip(*PAIRS, strict=True)]
    keys = jax.random.split(jax.random.key(77), (len(PAIRS), DRAWS))
    every = jax.vmap(jax.vmap(one, (0, None, None, None, None)))
    handoff, entered = jax.tree.map(np.asarray, jax.jit(every)(keys, *columns))
    numbers, inner = place_numbers(env), entered.inner
    found = np.empty(handoff.agent.shape, int)
    for index in np.ndindex(found.shape):
        place = (int(inner.agent[index]), tuple(inner.status[index].tolist()), tuple(inner.clamped[index].tolist()))
        found[index] = numbers.get(place, len(model.agent))
    return found, handoff


def exact_law(model: PrimitiveModel, local: np.ndarray, row: int, horizon: int) -> np.ndarray:
    """``[horizon, S + 1]`` law of duration and next state; the last column is delivery."""
    law = local[model.situation]
    inside = np.asarray(model.begin[[row]].toarray())[0]
    found = np.zeros((horizon, len(model.agent) + 1))
    for t in range(horizon):
        pairs = (inside[:, None] * law).reshape(-1)
        found[t, :-1], inside = pairs @ model.leave, pairs @ model.stay
        found[t, -1] = pairs.sum() - found[t].sum() - inside.sum()
    return np.maximum(found, 0)


def test_lifted_duration_and_next_state_follow_the_exact_law():
    """Chi-square of tau, of s' and of both together at every pair, against the enumerated primitive steps."""
    env, _, model = shop()
    numbers, horizon = place_numbers(env), 400
    found, handoff = drawn_segments()
    pvalues = []
    for k, (*place, option) in enumerate(PAIRS):
        row = numbers[tuple(place)] * env.spec.num_options + option
        law = exact_law(model, preference()[1], row, horizon)
        assert abs(law.sum() - 1) < 1e-5  # options longer than the horizon: less than the test could see
        law[law < 1e-12] = 0  # rounding of a probability that is 0
        table = np.zeros(law.shape)
        np.add.at(table, (handoff.duration[k] - 1, found[k]), 1)
        pvalues += [chi_square(table.sum(axis=axis), law.sum(axis=axis)) for axis in (0, 1)]
        pvalues.append(chi_square(table, law))
    assert min(pvalues) > ALARM / len(pvalues)


def test_lifted_moments_agree_with_the_exact_ones():
    """z-tests of E[R] and of E[gamma^tau; not delivered], at every pair (D2)."""
    env, _, model = shop()
    numbers = place_numbers(env)
    _, handoff = drawn_segments()
    moments = option_moments(model, preference()[1])
    modulus = np.asarray(moments.discounted.sum(axis=1)).reshape(model.mask.shape)
    scores = []
    for k, (*place, option) in enumerate(PAIRS):
        s = numbers[tuple(place)]
        for sample, exact in (
            (handoff.reward[k], moments.reward[s, option]),
            (handoff.discount[k], modulus[s, option]),
        ):
            sample = sample.astype(np.float64)
            assert sample.std() > 0.01
            scores.append(abs(sample.mean() - exact) / (sample.std() / np.sqrt(DRAWS)))
    assert 2 * stats.norm.sf(max(scores)) > ALARM / len(scores)


def test_reset_law_is_the_one_of_the_model():
    env, params, model = shop()
    keys = jax.random.split(jax.random.key(12), 20_000)
    decision, _ = jax.jit(jax.vmap(env.reset, (0, None)))(keys, params)
    law = np.bincount(model.interface, weights=model.first, minlength=env.spec.num_interfaces)
    assert chi_square(np.bincount(decision.interface, minlength=len(law)), law) > ALARM
    assert same_bits(decision.agent, np.asarray(decision.interface) // (9 * env.num_tools))


def test_two_routes_to_the_preconfigured_optimum_agree():
    """Value iteration over primitive steps, and policy iteration on the moments of the option kernel (D2, D3)."""
    *_, model = shop()
    for local in (model.uniform_local(), preference()[1]):
        moments = option_moments(model, local)
        at_option_scale = modified_policy_iteration(moments.reward, moments.discounted, model.mask)
        step_by_step = solve(model, local)
        np.testing.assert_allclose(step_by_step.value, at_option_scale.value, atol=1e-9)
        assert step_by_step.error_bound < 1e-9 and at_option_scale.error_bound < 1e-9


def greedy_local(model: PrimitiveModel, action_values: np.ndarray) -> np.ndarray:
    """The local policy that takes the best action on average over what a situation does not show."""
    total = np.zeros((model.num_situations, action_values.shape[1]))
    np.add.at(total, model.situation, action_values)
    return np.eye(action_values.shape[1])[total.argmax(axis=1)]


def test_exact_values_are_ordered_and_attained():
    *_, model = shop(0.0)
    uniform, any_option = model.uniform_local(), model.uniform_workflow()
    full, fixed, inside = solve(model), solve(model, uniform), solve(model, workflow=any_option)
    least = solve(model, uniform, any_option)
    assert (full.value >= fixed.value - 1e-9).all() and (full.value >= inside.value - 1e-9).all()
    assert (fixed.value >= least.value - 1e-9).all() and (inside.value >= least.value - 1e-9).all()
    greedy = np.eye(model.mask.shape[1])[full.q.argmax(axis=1)]
    # Local policies that do not see the other parts lose nothing, on the way from the start.
    attained = solve(model, greedy_local(model, full.action_values), greedy)
    assert abs(model.first @ (attained.value - full.value)) < 1e-9
    see_all = dataclasses.replace(model, situation=np.arange(len(model.situation)), num_situations=len(model.situation))
    attained = solve(see_all, greedy_local(see_all, full.action_values), greedy)
    np.testing.assert_allclose(attained.value, full.value, atol=1e-9)


def spread_inside_interfaces(model: PrimitiveModel, q: np.ndarray) -> float:
    return max(
        float(np.ptp(q[model.interface == z][:, model.mask[model.interface == z][0]], axis=0).max())
        for z in np.unique(model.interface)
    )


def test_interfaces_hide_nothing_unless_benches_keep_their_tools():
    for kept, lower, upper in ((0.0, 0.0, 1e-9), (1.0, 0.01, 1.0)):
        *_, model = shop(kept)
        assert lower <= spread_inside_interfaces(model, solve(model).q) <= upper


def test_documented_values_of_the_workshop():
    """The table of docs/adaptable.md, recomputed."""
    *_, model = shop(0.0)
    uniform, any_option, first = model.uniform_local(), model.uniform_workflow(), model.first
    full, fixed = solve(model), solve(model, uniform)
    preconfigured = np.eye(model.mask.shape[1])[fixed.q.argmax(axis=1)]
    alone = solve(dataclasses.replace(model, leave=0 * model.leave))
    shortsighted = solve(model, greedy_local(model, alone.action_values))
    wanted = {
        "uniform | any": solve(model, uniform, any_option),
        "uniform | best": fixed,
        "best | any": solve(model, workflow=any_option),
        "best for their own reward | best": shortsighted,
        "best | best for uniform tools": solve(model, workflow=preconfigured),
        "best | best": full,
    }
    low, high = first @ fixed.value, first @ full.value
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for name, solution in wanted.items():
        (row,) = [line for line in lines if line.startswith(f"| {name} |")]
        value, normalised = (float(cell) for cell in row.strip("|").split("|")[2:])
        assert abs(first @ solution.value - value) <= 0.0005
        assert abs((first @ solution.value - low) / (high - low) - normalised) <= 0.005


def test_greedy_workflow_reads_interfaces():
    *_, model = shop(0.0)
    values = np.random.default_rng(0).normal(size=(model.interface.max() + 1, model.mask.shape[1]))
    chosen = greedy_workflow(model, values)
    assert (chosen.sum(axis=1) == 1).all() and not (chosen.astype(bool) & ~model.mask).any()
    best = np.where(model.mask, values[model.interface], -np.inf).max(axis=1)
    np.testing.assert_array_equal((chosen * values[model.interface]).sum(axis=1), best)


def test_features_tell_interfaces_and_situations_apart():
    env, *_ = shop(0.0)
    interfaces, situations = feature_tables(env)
    counts = env.spec.num_interfaces, 3 * env.local_spec.num_observations * env.spec.num_options
    for table, count in zip((interfaces, situations), counts, strict=True):
        assert table.shape[0] == count == len(np.unique(table, axis=0)) and table.dtype == np.float32
