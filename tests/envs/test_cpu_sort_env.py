"""The environment against its plain-Python twin, and the contract."""

from __future__ import annotations

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.envs.cpu_sort import CpuSort, CpuSortParams, cpu_sort, machine, team
from tests.reference import cpu_sort as twin

KEY = jax.random.key(0)
GAMMA, SHAPING = 0.9, 1.0
SHORT = {2: 4, 3: 6, 4: 5}  # limits at which many programs are cut

# One shortest program each, as the team would write it: (agent, run, receiver).
EXCHANGE = "mov s r{a} > cmp; cmp r{a} r{b} > cmovg; cmovg r{a} r{b}, cmovg r{b} s > {to}"
SHORTEST = {
    2: [EXCHANGE.format(a=1, b=2, to="mov")],
    3: [
        EXCHANGE.format(a=1, b=3, to="mov"),
        "mov s r2 > cmp; cmp r1 r2 > cmovg; cmovg r2 r1, cmovg r1 s > cmp",
        "cmp r2 r3 > cmovg; cmovg r2 r3, cmovg r3 s > mov",
    ],
    4: [EXCHANGE.format(a=a, b=b, to="mov") for a, b in ((1, 2), (3, 4), (1, 3), (2, 4), (2, 3))],
}


def chosen_options(n: int) -> list[int]:
    """The options whose runs and receivers spell ``SHORTEST[n]``."""
    game, chosen = twin.Team(n, 99, GAMMA, SHAPING), []
    for part in "; ".join(SHORTEST[n]).split("; "):
        run, receiver = part.split(" > ")
        spelled = []
        for instruction in run.split(", "):
            name, a, b = instruction.split()
            spelled.append((name, *(n if register == "s" else int(register[1:]) - 1 for register in (a, b))))
        option = game.options().index(twin.Option(tuple(spelled), receiver))
        chosen.append(option)
        game.step(option)
    return chosen


@cache
def made(n: int, **choices: object) -> tuple[CpuSort, CpuSortParams]:
    return cpu_sort(n, **choices)  # type: ignore[arg-type]


@cache
def _jitted(env: CpuSort):  # type: ignore[no-untyped-def]
    return jax.jit(env.reset), jax.jit(env.step_env)


def compiled(n: int, **choices: object):  # type: ignore[no-untyped-def]
    """``reset()`` and ``step_env(state, option)``; one compilation serves all discounts and weights."""
    env, params = made(n, **choices)
    reset, step = _jitted(env)
    return lambda: reset(KEY, params), lambda state, option: step(KEY, state, jnp.int32(option), params)


def option_of(rng: np.random.Generator, mask: np.ndarray, count: int, heed: bool) -> int:
    return int(rng.choice(np.flatnonzero(mask) if heed else count))


def close(a: object, b: object) -> bool:
    return bool(np.allclose(np.asarray(a), b, rtol=0, atol=2e-6))


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow), 4])
def test_random_traces_agree_with_the_twin(n: int) -> None:
    """Every field of every handoff; three quarters of the traces take available options only."""
    limit = SHORT[n]
    env, _ = made(n, length_limit=limit)
    reset, step = compiled(n, length_limit=limit)
    rng = np.random.default_rng(n)
    seen = {"terminated": 0, "truncated": 0, "unwise": 0}
    numbers: dict[tuple, set[int]] = {}
    for trace in range(40):
        game = twin.Team(n, env.length_limit, GAMMA, SHAPING)
        handoff, state = reset()
        ended = False
        while not ended:
            own = game.available()
            assert machine.NAMES[int(handoff.agent)] == game.agent
            mask = np.asarray(handoff.mask)
            assert mask[: len(own)].tolist() == own and not mask[len(own) :].any()
            number = int(handoff.interface)
            if env.listed and trace % 4:
                assert number < env.listed
                numbers.setdefault(game.view(), set()).add(number)
            option = option_of(rng, mask, len(own), heed=bool(trace % 4))
            seen["unwise"] += not mask[option]
            handoff, state = step(state, option)
            outcome = game.step(option)
            assert close(handoff.reward, outcome.reward) and close(handoff.discount, outcome.discount)
            assert int(handoff.duration) == outcome.duration
            assert bool(handoff.terminated) == outcome.terminated
            assert bool(handoff.truncated) == outcome.truncated
            assert machine.NAMES[int(handoff.final_agent)] == game.agent
            ended = outcome.terminated or outcome.truncated
            seen["terminated"] += outcome.terminated
            seen["truncated"] += outcome.truncated
        written = np.asarray(state.program)[: int(state.length)]
        spelled = [(machine.NAMES[op], a, b) for op, a, b in machine.instructions(n)[written].tolist()]
        assert spelled == game.program
        assert (np.asarray(state.program)[int(state.length) :] == team.NOTHING).all()
    assert min(seen.values()) >= 3
    listed = [number for group in numbers.values() for number in group]
    assert len(listed) == len(set(listed)) == len(numbers), "a view has one number, and no two views share it"


@pytest.mark.parametrize("n", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
def test_the_team_can_write_a_shortest_program(n: int) -> None:
    """The return is gamma^(L-1), with or without shaping; the last handoff is terminal, its discount 0."""
    for shaping in (SHAPING, 0.0):
        reset, step = compiled(n, shaping=shaping)
        env, _ = made(n, shaping=shaping)
        handoff, state = reset()
        total, weight = 0.0, 1.0
        for option in chosen_options(n):
            assert bool(handoff.mask[option]) and not bool(handoff.terminated)
            handoff, state = step(state, option)
            if not shaping and not bool(handoff.terminated):
                assert float(handoff.reward) == 0
            total += weight * float(handoff.reward)
            weight *= float(handoff.discount)
        length = {2: 4, 3: 11, 4: 20}[n]
        assert int(state.length) == length
        assert bool(handoff.terminated) and not bool(handoff.truncated) and float(handoff.discount) == 0
        assert bool(machine.is_sorted(state.situation.machine))
        assert int(handoff.interface) == env.spec.num_interfaces - 1 and bool(handoff.mask.all())
        assert total == pytest.approx(GAMMA ** (length - 1), abs=1e-6)


def test_a_lost_value_ends_the_episode_without_pay() -> None:
    """``mov`` is followed by ``cmp``; ``cmovl`` then overwrites a register that it needs."""
    reset, step = compiled(2, shaping=0.0)
    handoff, state = reset()
    for option in (0, 0):  # mov s r1 > cmp; cmp r1 r2 > cmovl
        handoff, state = step(state, option)
    lost = int(np.flatnonzero(~np.asarray(handoff.mask))[0])
    handoff, state = step(state, lost)
    assert bool(handoff.terminated) and not bool(handoff.truncated)
    assert float(handoff.reward) == 0 and float(handoff.discount) == 0
    assert bool(machine.has_lost(state.situation.machine))
    assert int(handoff.duration) == 1, "the run stops where the value is lost"


def cut_options() -> list[int]:
    """Available options for two values that neither finish nor spoil a program of ``SHORT[2]`` instructions."""
    rng = np.random.default_rng(0)
    while True:
        game, chosen = twin.Team(2, SHORT[2], GAMMA, SHAPING), []
        outcome = None
        while outcome is None or not (outcome.terminated or outcome.truncated):
            chosen.append(int(rng.choice(np.flatnonzero(game.available()))))
            outcome = game.step(chosen[-1])
        if outcome.truncated:
            return chosen


def test_a_cut_program_is_truncated_and_keeps_its_discount() -> None:
    env, _ = made(2, length_limit=SHORT[2])
    reset, step = compiled(2, length_limit=SHORT[2])
    handoff, state = reset()
    for option in cut_options():
        assert not bool(handoff.truncated) and int(state.length) < SHORT[2]
        handoff, state = step(state, option)
    assert bool(handoff.truncated) and not bool(handoff.terminated)
    assert float(handoff.discount) == pytest.approx(GAMMA ** int(handoff.duration))
    assert int(handoff.final_interface) < env.listed and bool(handoff.final_mask.any())
    assert int(state.length) >= SHORT[2]


def test_a_program_that_is_correct_at_the_limit_is_not_cut() -> None:
    reset, step = compiled(2, length_limit=SHORT[2])
    _, state = reset()
    for option in chosen_options(2):
        handoff, state = step(state, option)
    assert int(state.length) == SHORT[2]
    assert bool(handoff.terminated) and not bool(handoff.truncated)


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_automatic_reset_keeps_what_ended(end: str) -> None:
    env, params = made(2, length_limit=SHORT[2])
    reset, step = compiled(2, length_limit=SHORT[2])
    *before, last = chosen_options(2) if end == "terminated" else cut_options()
    first, first_state = reset()
    state = first_state
    for option in before:
        state = step(state, option)[1]
    plain, entered = step(state, last)
    assert bool(getattr(plain, end)) and int(entered.length) > 0
    by_key = jax.jit(env.step)(KEY, state, jnp.int32(last), params)
    words = jnp.zeros((env.words_per_step,), jnp.uint32)
    by_words = jax.jit(env.step_from_words)(words, state, jnp.int32(last), params)
    for handoff, fresh in (by_key, by_words):
        for name in Handoff._fields:
            expected = getattr(first if name in ("agent", "interface", "mask") else plain, name)
            np.testing.assert_array_equal(getattr(handoff, name), expected, err_msg=name)
        for a, b in zip(jax.tree.leaves(fresh), jax.tree.leaves(first_state), strict=True):
            np.testing.assert_array_equal(a, b)


def test_nothing_depends_on_keys() -> None:
    env, params = made(2)
    reset, step = _jitted(env)
    runs = []
    for seed in range(2):
        state = reset(jax.random.key(seed), params)[1]
        for option in chosen_options(2):
            handoff, state = step(jax.random.key(seed), state, jnp.int32(option), params)
        runs.append(jax.tree.leaves((handoff, state)))
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_copies_side_by_side_and_one_compilation() -> None:
    """vmap over copies equals one copy at a time; other discounts and weights need no new compilation."""
    env, params = made(3)
    traced = []

    def rollout(options: jax.Array, given: CpuSortParams) -> Handoff:
        traced.append(None)
        state = env.reset(KEY, given)[1]

        def body(carry, option):  # type: ignore[no-untyped-def]
            handoff, carry = env.step(KEY, carry, option, given)
            return carry, handoff

        return jax.lax.scan(body, state, options)[1]

    options = jnp.asarray(np.random.default_rng(1).integers(12, size=(8, 30)), jnp.int32)
    many = jax.jit(jax.vmap(rollout, in_axes=(0, None)))
    together = many(options, params)
    many(options, params._replace(gamma=jnp.float32(0.5), shaping=jnp.float32(0)))
    assert len(traced) == 1
    assert bool(together.terminated.any()) and together.reward.shape == (8, 30)
    reset, step = compiled(3)
    handoff, state = reset()
    for t in range(30):
        handoff, state = step(state, options[0, t])
        for name in ("reward", "duration", "discount", "terminated", "truncated", "final_agent", "final_interface"):
            assert close(getattr(together, name)[0, t], getattr(handoff, name)), (t, name)
        if bool(handoff.terminated | handoff.truncated):
            handoff, state = reset()


@pytest.mark.parametrize("n", [2, 3, 4])
def test_spec(n: int) -> None:
    env, params = made(n)
    spec = env.spec
    assert (spec.name, spec.num_agents, spec.longest_duration) == (f"cpu-sort{n}", 4, 2)
    assert spec.num_options == {2: 6, 3: 12, 4: 20}[n] and spec.exact_oracle == (n < 4)
    assert spec.interface_shape == () and spec.interface_dtype == jnp.int32
    assert spec.num_interfaces == (len(params.keys) if n < 4 else 4 * 2**14) + 1
    handoff, _ = compiled(n)[0]()
    assert handoff.mask.shape == (spec.num_options,) and 0 <= int(handoff.interface) < spec.num_interfaces
    assert handoff.interface.dtype == jnp.int32 and handoff.reward.dtype == jnp.float32
    assert int(handoff.duration) == 0 and not bool(handoff.terminated) and float(handoff.discount) == 0


def test_interfaces_as_bits() -> None:
    """Equal bits, equal views; for the central learner, equal situations."""
    for n, sees_all in ((2, False), (3, True)):
        env, params = made(n, as_bits=True, sees_all=sees_all)
        spec = env.spec
        reset, step = compiled(n, as_bits=True, sees_all=sees_all)
        handoff, state = reset()
        assert spec.interface_dtype == jnp.float32 and spec.num_interfaces == 0
        assert handoff.interface.shape == spec.interface_shape and handoff.interface.dtype == jnp.float32
        bits, game, rng = {}, twin.Team(n, env.length_limit, GAMMA, SHAPING), np.random.default_rng(5)
        for _ in range(40):
            bits.setdefault(handoff.interface.tobytes(), set()).add(game.everything() if sees_all else game.view()[1:])
            option = option_of(rng, np.asarray(handoff.mask), 0, heed=True)
            handoff, state = step(state, option)
            outcome = game.step(option)
            if outcome.terminated or outcome.truncated:
                (handoff, state), game = reset(), twin.Team(n, env.length_limit, GAMMA, SHAPING)
        assert all(len(group) == 1 for group in bits.values()) and len(bits) > 10
        if sees_all:
            view, seen = jax.jit(lambda s: (env.global_view(s, params), env.interface(s.situation, params)))(state)  # noqa: B023
            np.testing.assert_array_equal(view, seen)


def test_the_central_learner_is_shown_the_state() -> None:
    env, params = made(3, sees_all=True)
    reset, step = compiled(3, sees_all=True)
    rng, numbers = np.random.default_rng(2), {}
    for _ in range(30):
        game = twin.Team(3, env.length_limit, GAMMA, SHAPING)
        handoff, state = reset()
        ended = False
        while not ended:
            numbers.setdefault(game.everything(), set()).add(int(handoff.interface))
            option = option_of(rng, np.asarray(handoff.mask), 0, heed=True)
            handoff, state = step(state, option)
            outcome = game.step(option)
            ended = outcome.terminated or outcome.truncated
    listed = [number for group in numbers.values() for number in group]
    assert len(listed) == len(set(listed)) == len(numbers) and max(listed) < env.listed


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="num_values = 5: expected 2, 3 or 4"):
        cpu_sort(5)
    with pytest.raises(ValueError, match="gamma = 1.0: expected a number between 0 and 1"):
        cpu_sort(2, gamma=1.0)
    with pytest.raises(ValueError, match="length_limit = 0: expected a whole number of at least 1"):
        cpu_sort(2, length_limit=0)


def test_environments_are_static() -> None:
    env, _ = made(2)
    assert env == dataclasses.replace(env) and hash(env) == hash(dataclasses.replace(env))


def test_long_programs_are_written_where_they_end():
    """Beyond what a byte counts: instruction 151 goes to place 150 and to no other."""
    env, params = cpu_sort(2, length_limit=600, as_bits=True)
    reset, step = _jitted(env)
    _, state = jax.device_get(reset(KEY, params))
    earlier = np.where(np.arange(601) < 150, np.int8(1), state.program)
    _, after = jax.device_get(step(KEY, state._replace(length=np.int32(150), program=earlier), jnp.int32(0), params))
    tau = int(after.length) - 150
    assert tau >= 1 and (after.program[150 : 150 + tau] != team.NOTHING).all()
    assert (after.program[:150] == 1).all()
    assert (after.program[150 + tau :] == team.NOTHING).all()
