"""Rows: what the environment returned, in order; whose turn waits for whom; random words and keys."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.learner import networks, rollout
from icsmdp_jax.learner.exploration import uniform_option
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner, State
from icsmdp_jax.learner.rollout import Rows
from icsmdp_jax.learner.schedules import constant
from tests.helpers import golden, same_bits
from tests.learner.courier import OPTIONS, Courier, CourierParams, quick_jit

COPIES, LENGTH = 3, 60
KEY = jax.random.key(3)
ENVS = ("words", "keys")
FLOAT = {"rtol": 2e-6, "atol": 2e-6}  # float32: products and sums of at most LENGTH terms of size one


def environment(name: str) -> tuple[Environment, Any]:
    """A tabular model with masks and restarts, stepped from words; the courier, stepped from keys."""
    return tabular_env(golden("episodic_masks")) if name == "words" else (Courier(), CourierParams())


@cache
def recorded(name: str, bootstrap: str = "message") -> tuple[State, State, Rows]:
    """The state before, the state after and the rows ``[LENGTH, COPIES]`` of one stretch under uniform behaviour."""
    env, params = environment(name)
    spec = env.spec
    if spec.num_interfaces:
        values = networks.tabular(spec.num_interfaces, OPTIONS)
    else:
        values = networks.linear(spec.num_agents, OPTIONS, dim=spec.interface_shape[0])
    optimiser = None if spec.num_interfaces else optax.sgd
    learner = ParallelLearner(env, values, optimiser, COPIES, LENGTH, "behaviour", bootstrap=bootstrap)
    hyper = Hyper(params, None, constant(0.1))
    before = quick_jit(learner.init)(jax.random.key(1), hyper)
    return before, *jax.device_get(quick_jit(learner.collect)(KEY, before, hyper))


@pytest.mark.parametrize("name", ENVS)
def test_rows_are_what_the_environment_returned(name: str) -> None:
    """Stepping each copy by itself, with its words or the key made of them, gives the same rows and the same end."""
    env, params = environment(name)
    before, after, rows = recorded(name)
    per_handoff = env.words_per_step + 1  # and one word for the option
    words = np.asarray(random_words(KEY, LENGTH * COPIES, per_handoff)).reshape(LENGTH, COPIES, per_handoff)
    options = jax.jit(jax.vmap(jax.vmap(uniform_option)))(words[..., -1], rows.mask)
    before, options = jax.device_get((before, options))
    if name == "words":
        step = quick_jit(lambda w, s, o: env.step_from_words(w[:-1], s, o, params))
    else:
        step = quick_jit(lambda w, s, o: env.step(jax.random.wrap_key_data(w[:-1]), s, o, params))
    ends = np.zeros(2, int)
    for b in range(COPIES):
        now, state = jax.tree.map(lambda leaf, b=b: leaf[b], (before.handoff, before.env_state))
        for t in range(LENGTH):
            row = jax.tree.map(lambda leaf, at=(t, b): leaf[at], rows)
            assert row.mask[row.option] and row.valid
            assert row.option == options[t, b]  # drawn from a word of its own
            then, state = jax.device_get(step(words[t, b], state, row.option))
            for field in ("agent", "interface", "mask"):
                assert same_bits(getattr(row, field), np.asarray(getattr(now, field)))
            for field in ("duration", "truncated", "final_agent", "final_mask"):
                assert same_bits(getattr(row, field), getattr(then, field))
            for field in ("reward", "discount", "final_interface"):
                np.testing.assert_allclose(getattr(row, field), getattr(then, field), rtol=1e-6, atol=1e-6)
            ends += [int(then.terminated), int(then.truncated)]
            now = then
        assert same_bits(now.agent, after.handoff.agent[b])
    assert ends[0] > 5 and (ends[1] > 5) == (name == "keys"), "episode ends of every kind were to be met"


def own_turns(rows: Rows, b: int, team: bool) -> list[tuple]:
    """What ``own_turn`` has to give in copy ``b``, from its definition: every segment up to its agent's next turn.

    Each entry: ``(t of the next turn, t of the segment, reward, discount, duration)``.
    """
    out = []
    for start in range(LENGTH):
        agent, reward, discount, duration, cut = rows.agent[start, b], 0.0, 1.0, 0, False
        for t in range(start, LENGTH):
            if t > start and rows.agent[t, b] == agent:
                out.append((t, start, reward, discount, duration))
                break
            if t == start or team:
                reward += discount * float(rows.reward[t, b])
            duration += int(rows.duration[t, b]) if discount > 0 else 0
            discount *= float(rows.discount[t, b])
            cut = cut or (bool(rows.truncated[t, b]) and discount > 0)
            if cut:  # the rest of this segment's future is unknown
                break
    return out


@pytest.mark.parametrize("team", [False, True])
def test_own_turns_against_a_double_loop(team: bool) -> None:
    _, _, plain = recorded("keys")
    _, _, rows = recorded("keys", "own-turn-team" if team else "own-turn")
    np.testing.assert_array_equal(rows.final_agent, plain.agent)  # the same run, seen differently
    seen = 0
    for b in range(COPIES):
        wanted = {entry[0]: entry[1:] for entry in own_turns(plain, b, team)}
        np.testing.assert_array_equal(np.flatnonzero(rows.valid[:, b]), sorted(wanted))
        for t, (start, reward, discount, duration) in wanted.items():
            seen += 1
            assert rows.agent[t, b] == rows.final_agent[t, b] == plain.agent[start, b]
            assert rows.option[t, b] == plain.option[start, b] and not rows.truncated[t, b]
            assert same_bits(rows.interface[t, b], plain.interface[start, b])
            assert same_bits(rows.mask[t, b], plain.mask[start, b])
            assert same_bits(rows.final_interface[t, b], plain.interface[t, b])
            assert same_bits(rows.final_mask[t, b], plain.mask[t, b])
            assert rows.duration[t, b] == duration
            np.testing.assert_allclose(rows.reward[t, b], reward, **FLOAT)
            np.testing.assert_allclose(rows.discount[t, b], discount, **FLOAT)
    assert seen > 100


def test_nothing_waits_at_first_and_a_stretch_goes_on_where_the_last_one_ended() -> None:
    """Two halves of a stretch complete the same own turns as the whole: what waits is carried over."""
    before, after, rows = recorded("keys", "own-turn")
    assert not before.waiting.valid.any() and after.waiting.valid.any()
    env, params = environment("keys")
    split = env.words_per_step
    drawn = random_words(KEY, LENGTH * COPIES, split + 1).reshape(LENGTH, COPIES, split + 1)

    def body(carry: Any, at: tuple) -> tuple[Any, Rows]:
        state, now, waiting = carry
        words, option = at
        then, state = jax.vmap(lambda w, s, o: env.step_from_words(w, s, o, params))(words[:, :-1], state, option)
        row, waiting = jax.vmap(lambda p, n, o, a: rollout.own_turn(p, n, o, a, False))(waiting, now, option, then)
        return (state, then, waiting), row

    _, _, plain = recorded("keys")
    carry, parts = (before.env_state, before.handoff, before.waiting), []
    run = quick_jit(lambda carry, words, options: jax.lax.scan(body, carry, (words, options)))
    for half in (slice(0, LENGTH // 2), slice(LENGTH // 2, LENGTH)):
        carry, part = run(carry, drawn[half], jnp.asarray(plain.option[half]))
        parts.append(part)
    both = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    np.testing.assert_array_equal(both.valid, rows.valid)
    np.testing.assert_array_equal(both.option, rows.option)
    np.testing.assert_allclose(both.discount, rows.discount, **FLOAT)
