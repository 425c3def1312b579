"""The tabular environment: laws of its draws, the segment's arithmetic, termination, restart, repeatable bits.

Every stochastic test has fixed keys and compares p-values with ``ALARM`` divided by the number of its p-values, so
that a right environment fails one of them with probability at most ``ALARM`` each, and any with about 10^-5.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.core.sampling import alias_table
from icsmdp_jax.envs.tabular import TabularEnv, TabularParams, TabularState, tabular_env
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import GOLDEN_NAMES, chi_square, golden, same_bits
from tests.reference.models import joint_kernel

ALARM = 1e-6
DRAWS = 10_000


class Draws(NamedTuple):
    """One step from every decision pair, ``DRAWS`` times: arrays ``[pairs, DRAWS]``."""

    pairs: np.ndarray
    entered: np.ndarray
    handoff: Handoff


def test_more_states_than_a_16_bit_number_has() -> None:
    """100 000 states: start and stationary laws over all of them, next states beyond 65 535, all in seconds."""
    count = 100_000
    state = np.arange(count)
    model = TabularModel(
        reward_rate=(state / count)[:, None],
        agent=np.zeros(count, int),
        interface=state // 10,
        gamma=0.9,
        successor=np.stack([(state + 7) % count, (state + 50_000) % count], axis=1)[:, None],
        probability=np.broadcast_to([0.25, 0.75], (count, 1, 2)),
        duration=np.ones((count, 1, 1)),
        start=np.where(state >= 70_000, 1.0, 0.0) / 30_000,
    )
    env, params = on_device(tabular_env(model))
    keys = jax.random.split(jax.random.key(0), DRAWS)
    _, first = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, params)
    begun = np.asarray(first.index)
    assert stats.kstest((begun - 70_000 + 0.5) / 30_000, "uniform").pvalue > ALARM
    _, entered = jax.jit(jax.vmap(env.step, in_axes=(0, 0, None, None)))(keys, first, jnp.int32(0), params)
    jump = (np.asarray(entered.index) - begun) % count
    assert set(jump.tolist()) == {7, 50_000}
    assert stats.binomtest(int((jump == 7).sum()), DRAWS, 0.25).pvalue > ALARM


def on_device(made: tuple[TabularEnv, TabularParams]) -> tuple[TabularEnv, TabularParams]:
    return made[0], jax.tree.map(jnp.asarray, made[1])


@cache
def environment(name: str) -> tuple[TabularEnv, TabularParams]:
    return on_device(tabular_env(golden(name)))


def decision_pairs(model: TabularModel) -> np.ndarray:
    """``[pairs, 2]`` states that decide with their available options."""
    return np.argwhere(model.option_mask[model.interface] & ~model.is_terminal[:, None])


def law_of(name: str) -> np.ndarray:
    """Joint law ``[S, O, T, S]`` by the twin's own reading of the file."""
    return joint_kernel(golden(name).arrays())


@cache
def draws(name: str) -> Draws:
    env, params = environment(name)
    pairs = decision_pairs(golden(name))
    keys = jax.random.split(jax.random.key(2024), (len(pairs), DRAWS))

    def one(key: jax.Array, state: jax.Array, option: jax.Array) -> tuple[jax.Array, Handoff]:
        handoff, entered = env.step_env(key, TabularState(state), option, params)
        return entered.index, handoff

    per_pair = jax.vmap(jax.vmap(one, in_axes=(0, None, None)))
    entered, handoff = jax.jit(per_pair)(keys, *(jnp.asarray(column, jnp.int32) for column in pairs.T))
    return Draws(pairs, np.asarray(entered), jax.tree.map(np.asarray, handoff))


def histogram(first: np.ndarray, first_size: int, second: np.ndarray, second_size: int) -> np.ndarray:
    flat = np.bincount(first * second_size + second, minlength=first_size * second_size)
    return flat.reshape(first_size, second_size)


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_duration_and_next_state_follow_their_joint_law(name: str) -> None:
    """Chi-square for tau, for s' and for both together, at every decision pair: Bonferroni over all of them."""
    law, found = law_of(name), draws(name)
    longest, count = law.shape[2:]
    pvalues = []
    for (s, o), entered, duration in zip(found.pairs, found.entered, found.handoff.duration, strict=True):
        table = histogram(duration - 1, longest, entered, count)
        joint = law[s, o]
        pvalues += [
            chi_square(table.sum(axis=0), joint.sum(axis=0)),
            chi_square(table.sum(axis=1), joint.sum(axis=1)),
            chi_square(table, joint),
        ]
    assert min(pvalues) > ALARM / len(pvalues)


def test_dependence_of_duration_and_next_state_is_kept() -> None:
    """The joint model's draws contradict the product of its own marginals: the test above could fail."""
    law, found = law_of("dependent_duration"), draws("dependent_duration")
    rejected = 0
    for (s, o), entered, duration in zip(found.pairs, found.entered, found.handoff.duration, strict=True):
        table = histogram(duration - 1, law.shape[2], entered, law.shape[3])
        product = law[s, o].sum(axis=1)[:, None] * law[s, o].sum(axis=0)[None, :]
        impossible = table[product == 0].any()
        rejected += bool(impossible) or chi_square(table, product) < ALARM
    assert rejected >= 0.9 * len(found.pairs)
    env, _ = environment("dependent_duration")
    assert env.joint and not environment("plain")[0].joint


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_reward_is_rate_times_annuity_plus_uniform_noise(name: str) -> None:
    """Kolmogorov-Smirnov for the noise at every decision pair; its bound and independence of tau beside it."""
    model, found = golden(name), draws(name)
    half = model.reward_noise
    assert half > 0
    annuity = (1 - model.gamma ** np.arange(1, model.longest_duration + 1)) / (1 - model.gamma)
    pvalues, by_duration = [], []
    for (s, o), reward, duration in zip(found.pairs, found.handoff.reward, found.handoff.duration, strict=True):
        noise = (reward.astype(np.float64) - model.reward_rate[s, o] * annuity[duration - 1]) / half
        assert np.abs(noise).max() <= 1 + 1e-4  # float32 rounding of a reward of size 10, relative to h
        pvalues.append(stats.kstest(noise, "uniform", args=(-1, 2)).pvalue)
        by_duration.append(stats.spearmanr(noise, duration).pvalue if len(np.unique(duration)) > 1 else 1.0)
    assert min(pvalues) > ALARM / (2 * len(pvalues))
    assert min(by_duration) > ALARM / (2 * len(pvalues))


def test_noise_is_independent_of_the_next_state() -> None:
    """Chi-square of sign against s', over the pairs of one model."""
    model, found = golden("plain"), draws("plain")
    annuity = (1 - model.gamma ** np.arange(1, model.longest_duration + 1)) / (1 - model.gamma)
    pvalues = []
    for (s, o), entered, handoff_reward, duration in zip(
        found.pairs, found.entered, found.handoff.reward, found.handoff.duration, strict=True
    ):
        positive = handoff_reward - model.reward_rate[s, o] * annuity[duration - 1] > 0
        table = histogram(positive.astype(int), 2, entered, model.num_states)
        table = table[:, table.sum(axis=0) >= 20]
        pvalues.append(stats.chi2_contingency(table).pvalue)
    assert min(pvalues) > ALARM / len(pvalues)


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_segment_fields_are_exact(name: str) -> None:
    """Discount, flags, agent, interface and mask are functions of (tau, s'), to the bit."""
    model, found = golden(name), draws(name)
    handoff, entered = found.handoff, found.entered
    done = model.is_terminal[entered]
    powers = (model.gamma ** np.arange(1, model.longest_duration + 1)).astype(np.float32)
    assert same_bits(handoff.discount, np.where(done, np.float32(0), powers[handoff.duration - 1]))
    assert same_bits(handoff.terminated, done)
    assert not handoff.truncated.any()
    for field in ("agent", "final_agent"):
        assert same_bits(getattr(handoff, field), model.agent[entered])
    for field in ("interface", "final_interface"):
        assert same_bits(getattr(handoff, field), model.interface[entered])
    for field in ("mask", "final_mask"):
        assert same_bits(getattr(handoff, field), model.option_mask[model.interface[entered]])
    assert handoff.duration.min() >= 1 and handoff.duration.max() <= model.longest_duration
    assert handoff.duration.dtype == np.int32 and handoff.reward.dtype == np.float32
    if name == "episodic_masks":
        assert done.any() and not done.all()


def test_reward_without_noise_is_exact() -> None:
    model = golden("plain").replace(reward_noise=0.0)
    env, params = on_device(tabular_env(model))
    pairs = decision_pairs(model)
    keys = jax.random.split(jax.random.key(5), (len(pairs), 50))
    step = jax.vmap(jax.vmap(lambda k, s, o: env.step_env(k, TabularState(s), o, params)[0], in_axes=(0, None, None)))
    handoff = jax.jit(step)(keys, *(jnp.asarray(column, jnp.int32) for column in pairs.T))
    tau = np.asarray(handoff.duration)
    annuity = ((1 - model.gamma ** np.arange(1, model.longest_duration + 1)) / (1 - model.gamma)).astype(np.float32)
    rate = model.reward_rate.astype(np.float32)[pairs[:, 0], pairs[:, 1]][:, None]
    assert same_bits(handoff.reward, rate * annuity[tau - 1])


@cache
def episodic_steps() -> tuple[np.ndarray, Handoff, np.ndarray, Handoff, np.ndarray]:
    """``step_env`` and ``step`` with the same keys, from states that can end: handoffs and states of both."""
    env, params = environment("episodic_masks")
    model = golden("episodic_masks")
    moves = law_of("episodic_masks").sum(axis=2)[:, :, model.is_terminal].sum(axis=2)
    moves = np.where(model.option_mask[model.interface] & ~model.is_terminal[:, None], moves, 0.0)
    s, o = np.unravel_index(moves.argmax(), moves.shape)
    keys = jax.random.split(jax.random.key(77), 60_000)
    state, option = TabularState(jnp.int32(s)), jnp.int32(o)
    exact = jax.jit(jax.vmap(lambda key: env.step_env(key, state, option, params)))(keys)
    loop = jax.jit(jax.vmap(lambda key: env.step(key, state, option, params)))(keys)
    as_numpy = jax.tree.map(np.asarray, (exact, loop))
    return keys, as_numpy[0][0], as_numpy[0][1].index, as_numpy[1][0], as_numpy[1][1].index


def test_final_state_is_kept_at_termination() -> None:
    """``step_env`` stays where the segment ended; ``step`` goes on elsewhere and still reports where it ended."""
    model = golden("episodic_masks")
    _, exact, entered, loop, after = episodic_steps()
    done = exact.terminated
    assert done.sum() > 1000 and (~done).sum() > 1000
    assert model.is_terminal[entered[done]].all()
    assert not model.is_terminal[after].any()
    for field in ("reward", "duration", "discount", "terminated", "final_agent", "final_interface", "final_mask"):
        assert same_bits(getattr(exact, field), getattr(loop, field)), field
    np.testing.assert_array_equal(loop.final_interface[done], model.interface[entered[done]])
    np.testing.assert_array_equal(after[~done], entered[~done])
    assert (loop.discount[done] == 0).all() and (loop.discount[~done] > 0).all()
    np.testing.assert_array_equal(loop.interface, model.interface[after])
    np.testing.assert_array_equal(loop.agent, model.agent[after])
    np.testing.assert_array_equal(loop.mask, model.option_mask[model.interface[after]])


def test_restart_follows_the_start_law() -> None:
    """Chi-square over the states that replace a terminal one."""
    model = golden("episodic_masks")
    _, exact, _, _, after = episodic_steps()
    counts = np.bincount(after[exact.terminated], minlength=model.num_states)
    assert model.start is not None
    law = np.where(model.is_terminal, 0.0, model.start)
    assert chi_square(counts, law / law.sum()) > ALARM


def test_restart_is_independent_of_how_the_episode_ended() -> None:
    _, exact, entered, _, after = episodic_steps()
    done = exact.terminated
    ends = np.unique(entered[done], return_inverse=True)[1]
    columns = [np.stack([ends, after[done]]), np.stack([exact.duration[done] % 2, after[done]])]
    pvalues = []
    for first, second in columns:
        table = histogram(first, first.max() + 1, second, second.max() + 1)
        table = table[:, table.sum(axis=0) >= 30]
        table = table[table.sum(axis=1) > 0]
        if min(table.shape) > 1:
            pvalues.append(stats.chi2_contingency(table).pvalue)
    assert pvalues and min(pvalues) > ALARM / len(pvalues)


def test_generic_step_is_step_env_and_reset_with_split_keys() -> None:
    """The base class's automatic reset agrees with its two parts; tabular environments only save a draw."""
    env, params = environment("episodic_masks")
    keys, *_ = episodic_steps()
    model = golden("episodic_masks")
    s, o = decision_pairs(model)[0]
    state, option = TabularState(jnp.int32(s)), jnp.int32(o)

    def parts(key: jax.Array) -> tuple:
        first, second = jax.random.split(key)
        return env.step_env(first, state, option, params), env.reset(second, params)

    whole = jax.jit(jax.vmap(lambda key: Environment.step(env, key, state, option, params)))(keys[:4000])
    (handoff, entered), (fresh, fresh_state) = jax.jit(jax.vmap(parts))(keys[:4000])
    done = np.asarray(handoff.terminated)
    assert done.any() and not done.all()
    np.testing.assert_array_equal(whole[1].index, np.where(done, fresh_state.index, entered.index))
    for field in Handoff._fields:
        source = np.asarray(getattr(handoff, field))
        if field in ("agent", "interface", "mask"):
            replaced = np.asarray(getattr(fresh, field))
            source = np.where(done.reshape(-1, *[1] * (source.ndim - 1)), replaced, source)
        assert same_bits(getattr(whole[0], field), source), field


@pytest.mark.parametrize("name", ["plain", "dependent_duration", "episodic_masks"])
def test_vmapped_steps_are_the_single_steps(name: str) -> None:
    """A compiled batch, a compiled single call and an eager one give the same bits in every field."""
    env, params = environment(name)
    pairs = decision_pairs(golden(name))
    size = 40
    keys = jax.random.split(jax.random.key(8), size)
    states, options = (jnp.asarray(np.resize(column, size), jnp.int32) for column in pairs.T)

    def step(key: jax.Array, s: jax.Array, o: jax.Array) -> tuple[Handoff, TabularState]:
        return env.step(key, TabularState(s), o, params)

    batch = jax.jit(jax.vmap(step))(keys, states, options)
    single = jax.jit(step)
    for k in range(size):
        one = single(keys[k], states[k], options[k])
        assert all(same_bits(a[k], b) for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(one), strict=True))
    eager = step(keys[0], states[0], options[0])
    assert all(same_bits(a[0], b) for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(eager), strict=True))


@pytest.mark.parametrize("name", ["plain", "dependent_duration"])
def test_parameters_as_made_survive_every_transformation(name: str) -> None:
    """``tabular_env``'s own parameters, closed over or broadcast by ``vmap``, compiled or not: the same bits."""
    env, params = tabular_env(golden(name))
    keys = jax.random.split(jax.random.key(0), 3)
    wanted = [int(env.reset(key, params)[1].index) for key in keys]
    for transformed in (
        jax.jit(jax.vmap(env.reset, in_axes=(0, None))),
        jax.vmap(env.reset, in_axes=(0, None)),
        jax.vmap(lambda key, p: env.reset(key, params), in_axes=(0, None)),
    ):
        assert transformed(keys, params)[1].index.tolist() == wanted
    state, option = TabularState(jnp.int32(0)), jnp.int32(0)
    step = jax.jit(lambda key: env.step(key, state, option, params)[1].index)
    assert int(step(keys[0])) == int(env.step(keys[0], state, option, params)[1].index)


def test_reset_starts_with_an_empty_segment() -> None:
    model = golden("episodic_masks")
    env, params = environment("episodic_masks")
    handoff, state = jax.jit(jax.vmap(lambda key: env.reset(key, params)))(jax.random.split(jax.random.key(1), 500))
    index = np.asarray(state.index)
    assert not model.is_terminal[index].any()
    for field in ("reward", "duration", "discount", "terminated", "truncated"):
        assert not np.asarray(getattr(handoff, field)).any(), field
    assert same_bits(handoff.agent, model.agent[index])
    assert same_bits(handoff.interface, model.interface[index])
    assert same_bits(handoff.final_interface, model.interface[index])
    assert same_bits(handoff.mask, model.option_mask[model.interface[index]])
    single = env.reset(jax.random.split(jax.random.key(1), 500)[7], params)[1].index
    assert int(single) == index[7]


@pytest.mark.parametrize("name", ["plain", "episodic_masks"])
def test_first_state_follows_the_law_asked_for(name: str) -> None:
    """Chi-square of reset against the default law and against a given one."""
    model = golden(name)
    keys = jax.random.split(jax.random.key(3), 40_000)
    live = ~model.is_terminal
    start = live / live.sum() if model.start is None else np.where(live, model.start, 0.0)
    given = np.random.default_rng(0).dirichlet(np.ones(model.num_states)) * live
    for first, law in ((None, start / start.sum()), (given / given.sum(), given / given.sum())):
        env, params = on_device(tabular_env(model, first))
        states = jax.jit(jax.vmap(lambda key, e=env, p=params: e.reset(key, p)[1].index))(keys)
        counts = np.bincount(np.asarray(states), minlength=model.num_states)
        assert chi_square(counts, law) > ALARM / 4


def test_a_first_law_leaves_restarts_alone() -> None:
    """``first`` is the law of the first state only: what replaces a terminal handoff stays the start law."""
    model = golden("episodic_masks")
    first = np.eye(model.num_states)[int(np.flatnonzero(~model.is_terminal)[0])]
    _, plain = environment("episodic_masks")
    _, other = tabular_env(model, first)
    assert all(same_bits(a, b) for a, b in zip(plain.start, other.start, strict=True))
    assert not all(same_bits(a, b) for a, b in zip(plain.first, other.first, strict=True))


def test_keys_decide_everything() -> None:
    """Same key, same bits; other keys, other draws; and one word of the four for each purpose."""
    env, params = environment("episodic_masks")
    model = golden("episodic_masks")
    s, o = decision_pairs(model)[3]
    state, option = TabularState(jnp.int32(s)), jnp.int32(o)
    step = jax.jit(lambda key: env.step(key, state, option, params))
    a, b, c = step(jax.random.key(0)), step(jax.random.key(0)), step(jax.random.key(1))
    assert all(same_bits(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    assert not all(same_bits(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(c), strict=True))

    words = jax.random.bits(jax.random.key(4), (4,), jnp.uint32)
    base = env.step_from_words(words, state, option, params)[0]
    changed = env.step_from_words(words.at[2].set(words[2] + jnp.uint32(2**31)), state, option, params)[0]
    assert float(base.reward) != float(changed.reward)
    for field in set(Handoff._fields) - {"reward"}:
        assert same_bits(getattr(base, field), getattr(changed, field)), field
    from_key = env.step(jax.random.key(9), state, option, params)
    drawn = jax.random.bits(jax.random.key(9), (env.words_per_step,), jnp.uint32)
    by_words = env.step_from_words(drawn, state, option, params)
    assert all(same_bits(x, y) for x, y in zip(jax.tree.leaves(from_key), jax.tree.leaves(by_words), strict=True))


def test_spec_and_parameters_describe_the_model() -> None:
    model = golden("ten_agents")
    env, params = tabular_env(model, name="ten agents")
    spec = env.spec
    assert (spec.name, spec.num_agents, spec.num_options, spec.num_interfaces) == ("ten agents", 10, 2, 30)
    assert spec.interface_shape == () and spec.interface_dtype == jnp.int32
    assert spec.longest_duration == model.longest_duration and spec.exact_oracle
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} <= {"float32", "int32", "uint32", "bool"}


def test_models_of_equal_shapes_share_one_compilation() -> None:
    model = golden("plain")
    env, params = environment("plain")
    rng = np.random.default_rng(1)
    assert model.transition is not None and model.duration is not None
    other_model = model.replace(
        transition=rng.dirichlet(np.ones(model.num_states), size=model.transition.shape[:2]),
        duration=rng.dirichlet(np.ones(model.longest_duration), size=model.duration.shape[:2]),
        gamma=0.5,
        reward_noise=0.0,
    )
    other_env, other_params = tabular_env(other_model)
    traced = []

    def reset(key: jax.Array, p: TabularParams) -> jax.Array:
        traced.append(None)
        return env.reset(key, p)[1].index

    compiled = jax.jit(reset)
    compiled(jax.random.key(0), params)
    compiled(jax.random.key(1), other_params)
    assert len(traced) == 1 and env == other_env and hash(env) == hash(other_env)
    flat = alias_table(np.full((1, 4), 0.25))
    assert jax.tree.map(np.shape, flat) == jax.tree.map(np.shape, alias_table(np.array([[0.1, 0.2, 0.3, 0.4]])))
