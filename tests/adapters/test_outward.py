"""Our environments in PettingZoo, Gymnasium, gymnax and JaxMARL: their own checkers, and a walk of known numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import icsmdp_jax as ic
from icsmdp_jax.envs import registry

SMALL: dict[str, dict[str, Any]] = {"cpu-sort3": {"length_limit": 5}}  # what makes the listing short
QUICK = ("planted",)  # the others take seconds each to compile
NAMES = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in registry.environments()]
GAMMA = 0.5


class Relay(ic.Environment):
    """Three agents in a ring; option o of agent a pays 10 a + o, lasts o + 1 steps; the third handoff ends the round.

    Agent a has options 0 and a only. Option 2 of agent 2 ends by a cut, option 0 by a terminal handoff.
    """

    spec = ic.EnvSpec("relay", 3, 3, 0, (2,), jnp.float32, 3, False)

    def _at(self, turn: Any, ended: Any) -> Any:
        options = jnp.arange(3, dtype=jnp.int32)
        seen = jnp.stack([turn.astype(jnp.float32), jnp.float32(7)])
        return ic.arrive(turn % 3, seen, (options == 0) | (options == turn % 3), ended), turn

    def reset(self, key: Any, params: Any) -> Any:
        return self._at(jnp.int32(0), ic.no_segment())

    def step_env(self, key: Any, state: Any, option: Any, params: Any) -> Any:
        over = state == 2
        done = over & (option == 0)
        discount = jnp.where(done, 0.0, params ** (option + 1)).astype(jnp.float32)
        ended = ic.Ended((10 * state + option).astype(jnp.float32), option + 1, discount, done, over & ~done)
        return self._at(state + 1, ended)

    def global_view(self, state: Any, params: Any) -> Any:
        return jnp.stack([state.astype(jnp.float32)])


RELAY = (Relay(), jnp.float32(GAMMA))


@pytest.mark.parametrize("name", NAMES)
def test_pettingzoo_passes_its_own_tests(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    testing = pytest.importorskip("pettingzoo.test")
    made = registry.make(name, **SMALL.get(name, {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they warn of what is unusual: no pictures, zeros
        testing.api_test(ic.to_pettingzoo(*made), num_cycles=20)
        testing.seed_test(lambda: ic.to_pettingzoo(*made), num_cycles=20)
    assert "Passed API test" in capsys.readouterr().out


@pytest.mark.parametrize(("rewards", "expected"), [("team", [33.0, 33.0, 33.0]), ("own", [0.0, 11.0, 22.0])])
def test_pettingzoo_pays_and_ends(rewards: str, expected: list[float]) -> None:
    pytest.importorskip("pettingzoo")
    game = ic.to_pettingzoo(*RELAY, rewards=rewards)
    game.reset(seed=0)
    earned = dict.fromkeys(game.possible_agents, 0.0)
    for turn, option in enumerate((0, 1, 2)):
        seen, _, terminated, truncated, info = game.last()
        assert game.agent_selection == f"agent_{turn}" and not terminated and not truncated
        assert info["duration"] == turn and info["discount"] == (0.0 if turn == 0 else GAMMA**turn)
        np.testing.assert_array_equal(seen["observation"], [turn, 7])
        assert seen["action_mask"].tolist() == [int(o in (0, turn)) for o in range(3)]
        others = {agent: game.observe(agent)["action_mask"].sum() for agent in game.agents}
        assert [others.pop(f"agent_{turn}"), *others.values()] == [1 + (turn > 0), 0, 0]
        np.testing.assert_array_equal(game.state(), [turn])
        game.step(option)
        for agent, reward in game.rewards.items():
            earned[agent] += reward
    assert all(game.truncations.values()) and not any(game.terminations.values())
    assert list(earned.values()) == expected
    for _ in range(3):
        game.step(None)
    assert game.agents == []


def test_pettingzoo_refuses_what_is_not_available_and_stops_at_the_limit() -> None:
    pytest.importorskip("pettingzoo")
    game = ic.to_pettingzoo(*RELAY, limit=2)
    game.reset()
    with pytest.raises(ValueError, match=r"^action = 2: not available to agent_0, expected one of \[0\]$"):
        game.step(2)
    game.step(0)
    assert not any(game.truncations.values())
    game.step(1)
    assert all(game.truncations.values()) and game.last()[0]["action_mask"].sum() == 0


@pytest.mark.parametrize("name", [*NAMES, "relay"])
def test_gymnasium_passes_its_own_checker(name: str) -> None:
    checker = pytest.importorskip("gymnasium.utils.env_checker")
    made = RELAY if name == "relay" else registry.make(name, **SMALL.get(name, {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checker.check_env(ic.to_gymnasium(*made, agent=1))


def test_gymnasium_joins_the_segments_up_to_the_next_turn() -> None:
    pytest.importorskip("gymnasium")
    last: Callable[..., Any] = lambda key, now: 2 - jnp.argmax(now.mask[::-1]).astype(jnp.int32)  # noqa: E731
    view = ic.to_gymnasium(*RELAY, agent=0, others=last)
    seen, info = view.reset(seed=0)
    np.testing.assert_array_equal(seen, [0, 7])
    assert info["action_mask"].tolist() == [1, 0, 0] and info["duration"] == 0
    seen, reward, terminated, truncated, info = view.step(2)  # not available: 0 is taken
    # 0, then 11 after 1 step, then 22 after 1 + 2 steps, whose segment of 3 steps is cut at agent 0's turn
    assert reward == 0 + GAMMA * 11 + GAMMA**3 * 22 and info["duration"] == 6 and info["discount"] == GAMMA**6
    assert (terminated, truncated) == (False, True)
    np.testing.assert_array_equal(seen, [3, 7])
    second = ic.to_gymnasium(*RELAY, agent=1, strict=True)
    second.reset(seed=1)
    assert second.action_masks().tolist() == [True, True, False]
    with pytest.raises(ValueError, match=r"^action = 2: not available, expected one of \[0, 1\]$"):
        second.step(2)
    hasty = ic.to_gymnasium(*RELAY, agent=2, patience=1)
    with pytest.raises(ValueError, match="^agent = 2: had no turn in 1 handoffs, expected one that has$"):
        hasty.reset()


class Hasty(Relay):
    """The same, but agent 0 or 1 begins, and each handoff ends the round with probability 1/2."""

    def reset(self, key: Any, params: Any) -> Any:
        return self._at(jax.random.bernoulli(key).astype(jnp.int32), ic.no_segment())

    def step_env(self, key: Any, state: Any, option: Any, params: Any) -> Any:
        over = jax.random.bernoulli(key)
        return self._at(
            state + 1, ic.Ended(jnp.float32(1), jnp.int32(1), jnp.where(over, 0, params), over, over & ~over)
        )


def test_gymnasium_starts_at_the_first_turn_even_if_earlier_rounds_end_without_one() -> None:
    pytest.importorskip("gymnasium")
    view = ic.to_gymnasium(Hasty(), jnp.float32(GAMMA), agent=1)
    for seed in range(8):
        seen, info = view.reset(seed=seed)
        assert seen.tolist() == [1, 7] and info["action_mask"].tolist() == [1, 1, 0]
        assert (info["duration"], info["discount"]) == (0, 0.0)


def test_gymnax_sees_the_same_handoffs() -> None:
    pytest.importorskip("gymnax")
    view, params = ic.to_gymnax(*RELAY)
    assert view.default_params is RELAY[1] and view.num_actions == 3 and view.name == "relay"
    assert view.observation_space(params).shape == (2,) and view.action_space(params).n == 3
    seen, state = view.reset(jax.random.key(0), params)
    for turn, option in enumerate((0, 1, 2)):
        assert int(state.agent) == turn
        key = jax.random.key(turn)
        seen, state, reward, terminated, truncated, info = view.step(key, state, option, params)
        assert float(reward) == 11 * turn and int(info["duration"]) == turn + 1 and not terminated
        np.testing.assert_array_equal(info["final_observation"], [turn + 1, 7])
    assert truncated and float(info["discount"]) == GAMMA**3
    np.testing.assert_array_equal(seen, [0, 7])  # of the next episode
    assert int(state.time) == 0 and int(state.agent) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.environments())
def test_gymnax_and_jaxmarl_run_every_environment(name: str) -> None:
    """Compiled, side by side, in the wrapper that JaxMARL's training loops use; observations are in their spaces."""
    pytest.importorskip("gymnax")
    baselines = pytest.importorskip("jaxmarl.wrappers.baselines")
    made = registry.make(name, **SMALL.get(name, {}))
    view, params = ic.to_gymnax(*made)
    team = ic.to_jaxmarl(*made)
    logged = baselines.LogWrapper(team)

    def turn(carry: Any, key: Any) -> Any:
        state, log = carry
        seen, state, reward, *_ = view.step(key, state, jnp.argmax(state.mask), params)
        actions = {agent: jnp.argmax(mask) for agent, mask in team.get_avail_actions(log.env_state).items()}
        told, log, rewards, dones, _ = logged.step(key, log, actions)
        inside = view.observation_space(params).contains(seen)
        return (state, log), (inside, reward, rewards["agent_0"], dones["__all__"], log.env_state.mask.any())

    def run(key: Any) -> Any:
        return jax.lax.scan(turn, (view.reset(key, params)[1], logged.reset(key)[1]), jax.random.split(key, 24))[1]

    inside, reward, same, _, available = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 4))
    assert inside.all() and available.all() and np.isfinite(reward).all()
    np.testing.assert_array_equal(reward, same)  # one key, one walk


@pytest.mark.slow  # importing JaxMARL takes seconds
@pytest.mark.parametrize(("rewards", "own"), [("team", False), ("own", True)])
def test_jaxmarl_has_dictionaries_by_agent(rewards: str, own: bool) -> None:
    pytest.importorskip("jaxmarl")
    team = ic.to_jaxmarl(*RELAY, rewards=rewards)
    assert team.agents == ["agent_0", "agent_1", "agent_2"] and team.action_space("agent_2").n == 3
    seen, state = team.reset(jax.random.key(0))
    for turn in range(3):
        np.testing.assert_array_equal(
            np.stack(list(seen.values())), [[turn, 7] if agent == turn else [0, 0] for agent in range(3)]
        )
        masks = np.stack(list(team.get_avail_actions(state).values()))
        assert masks.tolist() == [[True, agent == turn == 1, agent == turn == 2] for agent in range(3)]
        actions = {agent: jnp.int32(i) for i, agent in enumerate(team.agents)}
        seen, state, paid, dones, infos = team.step(jax.random.key(turn), state, actions)
        assert [float(value) for value in paid.values()] == [
            0.0 if own and agent != turn else 11.0 * turn for agent in range(3)
        ]
        assert int(infos["agent"]) == turn and int(infos["duration"]) == turn + 1
        assert {name: bool(done) for name, done in dones.items()} == dict.fromkeys([*team.agents, "__all__"], turn == 2)
    np.testing.assert_array_equal(seen["agent_0"], [0, 7])  # of the next episode


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ic.to_pettingzoo(*RELAY, rewards="mine"), "rewards = 'mine': expected one of team, own"),
        (lambda: ic.to_pettingzoo(*RELAY, limit=0), "limit = 0: expected a whole number of at least 1"),
        (lambda: ic.to_gymnasium(*RELAY, agent=3), "agent = 3: expected a number from 0 to 2"),
        (lambda: ic.to_gymnax("relay", None), "env = 'relay': expected an Environment"),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == said


def test_a_missing_library_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "icsmdp_jax.adapters.pettingzoo", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        ic.to_pettingzoo(*RELAY)
    message = str(caught.value)
    assert message.startswith("pettingzoo: cannot be imported (") and "\n" not in message
    assert message.endswith("pip install 'icsmdp-jax[adapters]'")
