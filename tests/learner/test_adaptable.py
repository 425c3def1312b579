"""The adaptable learner step by step: what is computed, what crosses, and that frozen it is the other regime."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from icsmdp_jax.core.handoff import Segment
from icsmdp_jax.core.primitive import Lifted, LiftedParams, LiftedState
from icsmdp_jax.envs.workshop.env import workshop
from icsmdp_jax.learner import networks, schedules
from icsmdp_jax.learner.adaptable import (
    AdaptableLearner,
    AdaptableState,
    Inputs,
    Record,
    decision_keys,
    inputs_for,
    tabular_learner,
)
from icsmdp_jax.learner.adaptable_state import situation_index
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.message import protocol
from tests.helpers import same_bits
from tests.learner.courier import quick_jit
from tests.reference import adaptable as twin
from tests.relay import Relay

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adaptable.md"
CLOSE = 2e-5  # float32 rounding on values of size 10; a wrong sign, mask, step or bootstrap is off by 1e-2 and more
STEPS = (twin.Step(0.8, 0.1, 0.7, 1.0), twin.Step(0.7, 0.01, 0.5, 5.0), twin.Step(1.0, 0.2, 0.6, 0.9))


def environment(name: str) -> tuple[Any, Any]:
    return (Relay(), jnp.float32(0.5)) if name == "relay" else workshop()


@cache
def learner(name: str, copies: int, adapt: bool = True) -> AdaptableLearner:
    return tabular_learner(environment(name)[0], copies, adapt)


def inputs(name: str, entropy: float = 0.0, epsilon: float = 0.6) -> Inputs:
    sizes = (schedules.StepSize(*map(jnp.float32, step)) for step in STEPS)
    return inputs_for(environment(name)[1], *sizes, explore=ramp(epsilon, epsilon, 0), entropy=entropy)


@cache
def story(name: str, copies: int, adapt: bool = True, steps: int = 150, epsilon: float = 0.6) -> Any:
    """First state, and states and records after each of ``steps`` primitive steps: leaves ``[steps, ...]``."""
    configured, given, key = learner(name, copies, adapt), inputs(name, 0.05, epsilon), jax.random.key(11)

    def body(state: AdaptableState, _: None) -> tuple[AdaptableState, tuple[AdaptableState, Record]]:
        new, record = configured.step(key, state, given)
        return new, (new, record)

    def run() -> Any:
        first = configured.init(key, given)
        return first, *jax.lax.scan(body, first, None, steps)[1]

    return jax.tree.map(np.asarray, quick_jit(run)())


def moment(name: str, records: Record, t: int, copy: int) -> twin.Moment:
    env = environment(name)[0]
    before, after = (jax.tree.map(lambda leaf: leaf[t, copy], part) for part in (records.before, records.after))
    number = situation_index(env.local_spec.num_observations, env.spec.num_options)
    return twin.Moment(
        interface=int(before.decision.interface),
        option=int(before.option),
        situation=int(number(before.decision.agent, before.option, before.tick.observation)),
        action_mask=before.tick.action_mask,
        action=int(records.action[t, copy]),
        reward=float(after.tick.reward),
        ended=bool(after.tick.ended),
        terminated=bool(after.tick.terminated),
        next_situation=int(number(before.decision.agent, before.option, after.tick.observation)),
        next_interface=int(after.tick.decision.interface),
        next_mask=after.tick.decision.mask,
    )


@pytest.mark.parametrize("name", ["relay", pytest.param("workshop", marks=pytest.mark.slow)])
def test_tables_agree_with_plain_loops(name: str) -> None:
    """Option values, actor, critic and every message, after each of 150 primitive steps of six copies."""
    copies, env = 6, environment(name)[0]
    _, states, records = story(name, copies)
    situations = env.spec.num_agents * env.local_spec.num_observations * env.spec.num_options
    gamma = 0.5 if name == "relay" else float(np.float32(0.95))
    shape = (env.spec.num_interfaces, env.spec.num_options)
    tables = twin.Tables(shape, situations, env.local_spec.num_actions, copies, gamma)
    ends = np.zeros(3, int)
    for t in range(len(records.action)):
        moments = [moment(name, records, t, copy) for copy in range(copies)]
        messages = tables.learn(moments, STEPS, 0.05)
        for copy, message in enumerate(messages):
            assert np.isnan(records.message[t, copy]) == (message is None)
            if message is not None:
                assert abs(records.message[t, copy] - message) < CLOSE
        np.testing.assert_allclose(states.values.params[t], tables.values, atol=CLOSE)
        np.testing.assert_allclose(states.actor.params[t], tables.actor, atol=CLOSE)
        np.testing.assert_allclose(states.critic.params[t][:, 0], tables.critic, atol=CLOSE)
        tick = records.after.tick
        ends += [int(flag[t].sum()) for flag in (tick.ended, tick.terminated, tick.truncated)]
        assert int(states.handoffs[t]) == int(states.scalars[t]) == tables.scalars == ends[0]
        assert int(states.episodes[t]) == ends[1] + ends[2]
    assert ends[0] > 100 and ends[1] > 5 and (ends[2] > 5 or name == "workshop")
    assert np.abs(tables.actor).max() > 0.1 and np.abs(tables.critic).max() > 0.1


def owners(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Agent of every interface, and of every situation."""
    env = environment(name)[0]
    each = env.local_spec.num_observations * env.spec.num_options
    interface = np.arange(env.spec.num_interfaces) // (env.spec.num_interfaces // env.spec.num_agents)
    return interface, np.arange(env.spec.num_agents * each) // each


def features_learner(name: str, copies: int = 1) -> tuple[AdaptableLearner, Inputs]:
    """Linear in random features with Adam, parameters of each kind for every agent."""
    env, params = environment(name)
    agents, options, actions = env.spec.num_agents, env.spec.num_options, env.local_spec.num_actions
    rng = np.random.default_rng(1)
    situations = agents * env.local_spec.num_observations * options
    data = [jnp.asarray(rng.normal(size=(n, 5)), jnp.float32) for n in (env.spec.num_interfaces, situations)]
    configured = AdaptableLearner(
        env=env,
        values=networks.linear(agents, options),
        actor=networks.linear(agents, actions),
        critic=networks.linear(agents, 1),
        situation=situation_index(env.local_spec.num_observations, options),
        copies=copies,
        optimiser=optax.adam,
        actor_optimiser=optax.adam,
    )
    step = schedules.constant(0.01)
    return configured, inputs_for(params, step, step, step, ramp(0.6, 0.6, 0), 0.01, *data)


def test_only_the_active_agent_changes() -> None:
    """Parameters and optimiser states, bit for bit, over 25 primitive steps of one copy."""
    configured, given = features_learner("relay")
    key = jax.random.key(2)
    state = jax.jit(configured.init)(key, given)
    step = jax.jit(configured.step)
    seen = set()
    for _ in range(25):
        new, record = step(key, state, given)
        i, ended = int(record.before.decision.agent[0]), bool(record.after.tick.ended[0])
        for part in ("values", "actor", "critic"):
            old, fresh = (jax.tree.map(np.asarray, getattr(s, part)) for s in (state, new))
            for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(fresh), strict=True):
                assert same_bits(a[1 - i], b[1 - i])
            changed = any(
                not same_bits(a[i], b[i])
                for a, b in zip(jax.tree.leaves(old.params), jax.tree.leaves(fresh.params), strict=True)
            )
            assert changed == (ended or part != "values")
        seen.add((i, ended))
        state = new
    assert len(seen) == 4


@pytest.mark.parametrize("name", ["relay", pytest.param("workshop", marks=pytest.mark.slow)])
def test_only_rows_of_the_situation_change(name: str) -> None:
    """Tables: nothing moves but the rows that the six copies are in, so no other agent's."""
    first, states, records = story(name, 6)
    interface_owner, situation_owner = owners(name)
    before = first
    for t in range(len(records.action)):
        now = jax.tree.map(lambda leaf, t=t: leaf[t], states)
        moments = [moment(name, records, t, copy) for copy in range(6)]
        rows = {m.situation for m in moments}, {m.interface for m in moments if m.ended}
        active = set(records.before.decision.agent[t].tolist())
        for old, new, touched, owner in (
            (before.actor, now.actor, rows[0], situation_owner),
            (before.critic, now.critic, rows[0], situation_owner),
            (before.values, now.values, rows[1], interface_owner),
        ):
            moved = np.flatnonzero((old.params != new.params).any(axis=1))
            assert set(moved.tolist()) <= touched and {int(owner[r]) for r in moved} <= active
        before = now


def test_nothing_but_the_scalar_reaches_the_sender() -> None:
    """All that is the receiver's is replaced, but its best value: the sender's update keeps its bits."""
    configured, given = learner("relay", 1), inputs("relay", 0.05)
    key, step = jax.random.key(5), jax.jit(learner("relay", 1).step)
    interface_owner, situation_owner = owners("relay")
    state, rng, checked = jax.device_get(jax.jit(configured.init)(key, given)), np.random.default_rng(0), 0
    for _ in range(30):
        noise = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape).astype(np.float32), state.values.params)
        state = state._replace(values=state.values._replace(params=noise))
        new, record = jax.device_get(step(key, state, given))
        if record.after.tick.ended[0] and not record.after.tick.terminated[0]:
            i, to = int(record.before.decision.agent[0]), record.after.tick.decision
            mask, z = to.mask[0], int(to.interface[0])
            table = state.values.params
            best = int(np.where(mask, table[z], -np.inf).argmax())
            theirs = interface_owner != i
            other = np.where(theirs[:, None], rng.normal(size=table.shape), table).astype(np.float32)
            other[z] = table[z, best] - np.abs(rng.normal(size=2)).astype(np.float32)
            other[z, ~mask] += 100  # what is not available does not count either
            other[z, best] = table[z, best]
            elsewhere = situation_owner != i
            replaced = state._replace(
                values=state.values._replace(params=other),
                **{
                    part: getattr(state, part)._replace(
                        params=np.where(elsewhere[:, None], np.float32(7), getattr(state, part).params)
                    )
                    for part in ("actor", "critic")
                },
            )
            again, _ = jax.device_get(step(key, replaced, given))
            assert same_bits(again.values.params[~theirs], new.values.params[~theirs])
            for part in ("actor", "critic"):
                a, b = (getattr(s, part).params[~elsewhere] for s in (again, new))
                assert same_bits(a, b)
            shouted = table.copy()
            shouted[z, best] += 1
            louder = state._replace(values=state.values._replace(params=shouted))
            heard, _ = jax.device_get(step(key, louder, given))
            for part, rows in (("values", ~theirs), ("actor", ~elsewhere), ("critic", ~elsewhere)):
                assert not same_bits(getattr(heard, part).params[rows], getattr(new, part).params[rows])
            checked += 1
        state = new
    assert checked > 5


@cache
def lifted_story(copy: int) -> tuple[np.ndarray, Any, LiftedState]:
    """The handoffs of one copy of the frozen run by the lifted environment, with the keys that the learner uses.

    Returns when they happened in the learner, what the lifted environment returned, and the states before it.
    """
    _, _, records = story("workshop", 3, adapt=False)
    ends = np.flatnonzero(records.after.tick.ended[:, copy])
    options = np.zeros(len(records.action), np.int32)
    options[: len(ends)] = records.after.option[ends, copy]
    told = jax.tree.map(lambda leaf: np.asarray(leaf)[: len(ends)], compiled_lifted_story()(copy, options))
    return ends, *told


@cache
def compiled_lifted_story() -> Any:
    env, params = workshop()
    lifted, lifted_params = Lifted(env), LiftedParams(params, None)

    def run(copy: jax.Array, options: jax.Array) -> Any:
        key_copy = jax.random.fold_in(jax.random.split(jax.random.key(11))[1], copy)

        def body(state: LiftedState, now: tuple[jax.Array, jax.Array]) -> Any:
            number, option = now
            key_step = jax.random.split(jax.random.fold_in(key_copy, number))[1]
            handoff, after = lifted.step(key_step, state, option, lifted_params)
            return after, (handoff, state)

        _, state = lifted.reset(jax.random.fold_in(key_copy, 0), lifted_params)
        return jax.lax.scan(body, state, (jnp.arange(1, len(options) + 1), options))[1]

    return jax.jit(run)


def test_decision_keys_are_those_of_a_lifted_step() -> None:
    key = jax.random.key(4)
    _, key_run, key_reset = decision_keys(key)
    halves = jax.random.split(jax.random.split(key)[1])
    assert same_bits(jax.random.key_data(jnp.stack([key_run, key_reset])), jax.random.key_data(halves))


@pytest.mark.slow
def test_frozen_it_is_the_preconfigured_regime() -> None:
    """Handoff for handoff the lifted environment's run, for every copy, though copies do not wait for each other."""
    first, states, records = story("workshop", 3, adapt=False)
    for part in ("actor", "critic"):
        for leaf, begun in zip(
            jax.tree.leaves(getattr(states, part)), jax.tree.leaves(getattr(first, part)), strict=True
        ):
            assert same_bits(leaf[-1], begun)
    for copy in range(3):
        ends, handoff, state = lifted_story(copy)
        assert len(ends) > 15 and handoff.terminated.any()
        after = jax.tree.map(lambda leaf, copy=copy, ends=ends: leaf[ends, copy], records.after)
        assert same_bits(handoff.duration, after.duration)
        assert same_bits(handoff.terminated, after.tick.terminated)
        assert same_bits(handoff.final_interface, after.tick.decision.interface)
        assert same_bits(state.decision.interface, after.decision.interface)
        assert all(same_bits(a[1:], b[:-1]) for a, b in zip(state.decision, handoff[:3], strict=True))
        # Compilers may fuse a multiplication and an addition here and not there: a rounding for each step.
        np.testing.assert_allclose(handoff.reward, after.reward, rtol=0, atol=1e-6)
        np.testing.assert_allclose(handoff.discount, np.where(handoff.terminated, 0, after.discount), rtol=1e-6)


def test_frozen_values_are_those_of_plain_ic_q() -> None:
    """``offer`` and ``absorb`` with the replica-wise rule, handoff after handoff, on the lifted environment's run."""
    _, states, _ = story("workshop", 3, adapt=False)
    size = schedules.StepSize(*map(jnp.float32, STEPS[0]))
    rule = schedules.stochastic_approximation(size, "visits", per_option=True)
    offer, absorb = protocol(learner("workshop", 3).values.apply, rule)
    offer, absorb = jax.jit(offer), jax.jit(absorb)
    shape = states.values.params.shape[1:]
    table, clock, met = np.zeros(shape, np.float32), np.zeros(shape, np.int32), 0
    for t in range(len(states.steps)):
        before, touched = table.copy(), []
        for copy in range(3):
            ends, handoffs, decided = lifted_story(copy)
            for n in np.flatnonzero(ends == t):
                handoff, z = jax.tree.map(lambda leaf, n=n: leaf[n], handoffs), int(decided.decision.interface[n])
                to = int(handoff.final_interface)
                scalar = offer(before[to], to, handoff.final_mask)
                option = story("workshop", 3, adapt=False)[2].after.option[t, copy]
                segment = Segment(jnp.int32(z), option, handoff.reward, handoff.discount, jnp.int32(0))
                table[z], memory, _ = absorb(table[z], schedules.Visits(clock[z]), segment, scalar)
                clock[z] = memory.count
                touched.append((z, int(option)))
        assert len(set(touched)) == len(touched)  # else the rule for batches would differ, see `updates`
        met += len(touched) > 1
        np.testing.assert_allclose(states.values.params[t], table, atol=CLOSE)
    assert clock.sum() > 50 and met > 3


def test_policies_and_their_table_are_the_same() -> None:
    """What a run acts with, what a lifted environment is given, and what exact answers are computed from."""
    configured = learner("relay", 6)
    actor = jnp.asarray(story("relay", 6)[1].actor.params[-1])
    table = quick_jit(configured.local_table)(actor, inputs("relay"))
    spec = configured.env.spec
    sizes = (spec.num_agents, configured.env.local_spec.num_observations, spec.num_options)
    agent, seen, option = (grid.astype(np.int32).reshape(-1) for grid in np.indices(sizes))
    one = lambda i, o, x: jax.nn.softmax(configured.policy((actor, None), i, o, x, jnp.ones(3, bool)))  # noqa: E731
    np.testing.assert_allclose(table, quick_jit(jax.vmap(one))(agent, option, seen), rtol=1e-6)
    assert np.abs(table - 1 / 3).max() > 0.05


def test_tables_need_what_can_be_enumerated() -> None:
    class Vague(Relay):
        @property
        def spec(self) -> Any:
            return super().spec._replace(num_interfaces=0)

    with pytest.raises(ValueError, match="relay: expected enumerable"):
        tabular_learner(Vague())
    env = Relay()
    with pytest.raises(ValueError, match="optimiser = None"):
        AdaptableLearner(env, networks.mlp(2, 2, 4), networks.mlp(2, 3, 4), networks.mlp(2, 1, 4), len, 1)  # type: ignore
