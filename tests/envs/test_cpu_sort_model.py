"""What the team can reach, and the exact model: against a plain-Python search and the environment itself."""

from __future__ import annotations

import copy
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.envs.cpu_sort import (
    cpu_sort,
    machine,
    model,
    reachable,
    search,
    shortest_programs,
    team,
)
from icsmdp_jax.exact import kernel_moments, optimal_q
from icsmdp_jax.exact.interface import solve_both
from tests.reference import cpu_sort as twin

GAMMA = 0.75  # a power of two in the denominator: exact in float32


@cache
def parts(n: int, sees_all: bool = False):  # type: ignore[no-untyped-def]
    env, params = cpu_sort(n, gamma=GAMMA, sees_all=sees_all)
    return env, params, reachable(n, env.length_limit), env.exact_model(params)


def key_of(situation: team.Situation) -> tuple:
    """What the twin calls ``everything``, from a host situation."""
    runs = np.arange(len(machine.permutations(situation.machine.holds.shape[1])))
    bits = (situation.machine.holds[..., None] >> runs) & 1  # [register, value, run]
    values = np.arange(1, bits.shape[1] + 1)
    registers = tuple(map(tuple, np.einsum("kvr,v->rk", bits, values).tolist()))
    agent = machine.NAMES[int(situation.agent)]
    if agent in ("mov", "cmp"):
        return agent, registers
    flags = tuple((bool(situation.machine.less >> r & 1), bool(situation.machine.greater >> r & 1)) for r in runs)
    return agent, registers, flags, machine.register_pairs(bits.shape[1])[int(situation.pair)]


def test_two_values_against_a_plain_search() -> None:
    """All situations, their depths, masks, successors and durations, from the twin's own breadth-first search."""
    env, _, reach, _ = parts(2)
    assert (np.diff(reach.depth) >= 0).all()
    names = [key_of(jax.tree.map(lambda leaf, i=i: leaf[i], reach.situation)) for i in range(len(reach.depth))]
    number = {name: i for i, name in enumerate(names)}
    waiting: list[list[twin.Team]] = [[] for _ in range(env.length_limit + 2)]
    waiting[0].append(twin.Team(2, env.length_limit, GAMMA, 1.0))
    found: dict[tuple, int] = {}
    for depth, games in enumerate(waiting):
        for game in games:
            if game.everything() in found:
                continue
            found[game.everything()] = depth
            row = number[game.everything()]
            own = game.available()
            assert reach.mask[row].tolist() == own + [False] * (reach.mask.shape[1] - len(own))
            assert reach.score[row] == twin.score(game.runs)
            if depth >= env.length_limit:
                assert reach.cut[row] and (reach.successor[row] == model.LOST).all()
                continue
            for option in np.flatnonzero(own):
                after = copy.deepcopy(game)
                outcome = after.step(int(option))
                assert reach.duration[row, option] == outcome.duration
                to = reach.successor[row, option]
                if outcome.terminated:
                    assert to == (model.CORRECT if twin.is_sorted(after.runs) else model.LOST)
                else:
                    assert names[to] == after.everything()
                    waiting[depth + outcome.duration].append(after)
    assert found == dict(zip(names, reach.depth.tolist(), strict=True))


@pytest.mark.parametrize(("n", "sees_all"), [(2, False), (3, False), (3, True)])
def test_the_model_is_the_environment(n: int, sees_all: bool) -> None:
    """Random available options: the same interfaces, masks, rewards, durations and ends, from start to limit."""
    env, params, reach, exact = parts(n, sees_all)
    reset, step = jax.jit(env.reset), jax.jit(env.step_env)
    key, rng, total = jax.random.key(0), np.random.default_rng(0), 0
    tau = np.arange(1, team.LONGEST_RUN + 1)
    annuity = (1 - GAMMA**tau) / (1 - GAMMA)
    assert exact.start is not None and exact.start[0] == 1
    assert exact.successor is not None and exact.duration is not None
    for _ in range(25):
        handoff, state = reset(key, params)
        s, ended = 0, False
        while not ended:
            z = int(handoff.interface)
            assert z == exact.interface[s] and int(handoff.agent) == exact.agent[s]
            np.testing.assert_array_equal(handoff.mask, exact.option_mask[z])
            option = int(rng.choice(np.flatnonzero(exact.option_mask[z])))
            handoff, state = step(key, state, jnp.int32(option), params)
            law = exact.duration[s, option]
            assert law[int(handoff.duration) - 1] == 1
            assert float(handoff.reward) == pytest.approx(exact.reward_rate[s, option] * (law @ annuity), abs=2e-6)
            s = int(exact.successor[s, option, 0])
            assert bool(handoff.terminated) == (s >= len(reach.depth))
            assert int(handoff.final_interface) == exact.interface[s]
            ended = bool(handoff.terminated | handoff.truncated)
            total += 1
    assert total > 60


@pytest.mark.parametrize("n", [2, 3])
def test_the_oracle_writes_a_shortest_program(n: int) -> None:
    """Its value is gamma^(L-1) for the length L of the search over all programs, not only the team's."""
    _, _, reach, exact = parts(n)
    solution = optimal_q(kernel_moments(exact))
    length = shortest_programs(n).length
    assert solution.value[0] == pytest.approx(GAMMA ** (length - 1), abs=1e-9)
    program = follow(n, reach, lambda s: int(np.argmax(solution.q[s])))
    assert len(program) == length
    assert twin.is_sorted(twin.execute(twin.start(n), program))


@pytest.mark.parametrize("n", [2, 3])
def test_what_the_interfaces_show_suffices(n: int) -> None:
    """The greedy policy of the exact Q_phi (uniform behaviour) writes a shortest program, though much is hidden."""
    _, _, reach, exact = parts(n)
    _, phi, star = solve_both(exact)
    program = follow(n, reach, lambda s: int(np.argmax(phi.q[exact.interface[s]])))
    assert len(program) == shortest_programs(n).length
    assert twin.is_sorted(twin.execute(twin.start(n), program))
    if n == 3:
        decides = ~exact.is_terminal
        assert len(np.unique(exact.interface[decides])) < decides.sum() / 3
        assert np.abs(phi.q[exact.interface[decides]].max(axis=1) - star.value[decides]).max() > 0.1


def follow(n, reach, choose) -> list[twin.Instruction]:  # type: ignore[no-untyped-def]
    """The program that a policy writes."""
    game, s = twin.Team(n, 99, GAMMA, 1.0), 0
    while s >= 0 and len(game.program) < 20:
        option = choose(s)
        game.step(option)
        s = int(reach.successor[s, option])
    return game.program


def test_the_team_needs_as_many_instructions_as_the_shortest_program_has() -> None:
    """Instructions still needed from the team's situations for two values, by sweeps over the listing."""
    _, _, reach, _ = parts(2)
    needed = np.where(reach.cut, np.inf, 99.0)
    for _ in range(40):
        after = np.where(reach.successor >= 0, needed[reach.successor], np.where(reach.successor == -1, 0.0, np.inf))
        after = np.where(reach.mask & ~reach.cut[:, None], reach.duration + after, np.inf)
        needed = np.minimum(needed, after.min(axis=1))
    assert (needed < 99).sum() > 20 and needed[0] == search.shortest_programs(2).length == 4


def test_features_of_the_numbers() -> None:
    """A row per interface, equal to what the same environment shows as bits; no two rows are the same."""
    env, params, reach, exact = parts(2)
    features = env.interface_features(params)
    bits, params_bits = cpu_sort(2, gamma=GAMMA, as_bits=True)
    assert features.shape == (env.spec.num_interfaces, *bits.spec.interface_shape)
    shown = jax.jit(jax.vmap(lambda situation: bits.interface(situation, params_bits)))(reach.situation)
    number = exact.interface[: len(reach.depth)]
    np.testing.assert_array_equal(features[number], shown)
    agents = np.zeros(env.listed)
    agents[number] = reach.situation.agent
    assert len(np.unique(np.column_stack([features[:-1], agents]), axis=0)) == env.listed
    assert not features[-1].any()


def test_what_cannot_be_listed_is_refused() -> None:
    with pytest.raises(ValueError, match="num_values = 4: situations can be listed for 2 and 3"):
        reachable(4, 20)
    env, params = cpu_sort(2, as_bits=True)
    with pytest.raises(ValueError, match="as_bits = True: expected numbered interfaces"):
        env.exact_model(params)
