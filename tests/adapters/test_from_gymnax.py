"""gymnax environments as IC-SMDPs: steps are gymnax's own, rewards are summed as D1 says, durations as asked for."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import icsmdp_jax as ic
from tests.helpers import chi_square

gymnax = pytest.importorskip("gymnax")
GAMMA = 0.9
LAW = np.array([[0.5, 0.2, 0.3], [0.1, 0.9, 0.0]])


def test_single_steps_are_gymnax_s_own() -> None:
    """One primitive step for each option: the same key, state and numbers as gymnax's ``step_env``."""
    env, params = ic.from_gymnax("CartPole-v1", gamma=GAMMA)
    rival, rival_params = gymnax.make("CartPole-v1")
    assert env.spec.longest_duration == 1 and env.spec.num_options == 2 and not env.spec.num_interfaces
    key = jax.random.key(1)
    now, state = env.reset(key, params)
    seen, expected = rival.reset_env(key, rival_params)
    np.testing.assert_array_equal(now.interface, seen)
    advance = jax.jit(env.step_env)
    turns = 0
    while not now.terminated and turns < 20:
        turns += 1
        option = jnp.int32(1)  # the pole falls to one side
        now, state = advance(key, state, option, params)
        seen, expected, reward, terminated, _ = rival.step_env(key, expected, option, rival_params)
        np.testing.assert_allclose(now.interface, seen, rtol=1e-5)
        assert float(now.reward) == float(reward) and bool(now.terminated) == bool(terminated)
        assert float(now.discount) == (0.0 if terminated else np.float32(GAMMA)) and not now.truncated
    assert turns > 5 and bool(now.terminated)


def test_repeated_actions_add_up_and_last_as_long_as_asked() -> None:
    """Each copy against gymnax stepped by hand ``tau`` times; the durations against their law (fixed seed)."""
    env, params = ic.from_gymnax("CartPole-v1", gamma=GAMMA, duration=LAW)
    rival, rival_params = gymnax.make("CartPole-v1")
    copies = 2000
    keys = jax.random.split(jax.random.key(2), copies)
    first = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, params)
    options = jnp.arange(copies, dtype=jnp.int32) % 2
    after, state = jax.jit(jax.vmap(env.step_env, in_axes=(0, 0, 0, None)))(keys, first[1], options, params)
    tau = np.asarray(after.duration)
    by_hand = jax.jit(jax.vmap(lambda s, a: rival.step_env(keys[0], s, a, rival_params)[:2]))
    seen, inner = first[0].interface, first[1]
    for step in range(3):
        moved, inner = by_hand(inner, options)
        seen = jnp.where((step < tau)[:, None], moved, seen)
    np.testing.assert_allclose(after.interface, seen, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after.reward, (1 - GAMMA**tau) / (1 - GAMMA), rtol=1e-6)  # 1 for each step
    np.testing.assert_allclose(after.discount, GAMMA**tau, rtol=1e-6)
    for option in (0, 1):
        counts = np.bincount(tau[option::2] - 1, minlength=3)
        assert chi_square(counts, LAW[option]) > 1e-4


class Ends(gymnax.environments.environment.Environment):
    """Counts; pays 1, ends at ``params``, is cut at 3, whatever the action."""

    def reset_env(self, key: Any, params: Any) -> Any:
        return jnp.zeros((1, 2)), {"time": 0}

    def step_env(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        time = state["time"] + 1
        return jnp.full((1, 2), time, jnp.float32), {"time": time}, 1, time >= params, {}

    def is_truncated(self, state: Any, params: Any) -> Any:
        return state["time"] >= 3

    def action_space(self, params: Any = None) -> Any:
        return gymnax.environments.spaces.Discrete(2)

    def observation_space(self, params: Any = None) -> Any:
        return gymnax.environments.spaces.Box(0, 9, (1, 2))


@pytest.mark.parametrize(("end", "steps", "terminated"), [(2, 2, True), (3, 3, True), (9, 3, False)])
def test_options_end_with_the_episode(end: int, steps: int, terminated: bool) -> None:
    """An end is terminal and leaves no discount; a time limit cuts and keeps it; ``final_*`` is before the restart."""
    env, params = ic.from_gymnax(Ends(), jnp.int32(end), gamma=GAMMA, duration=[0, 0, 0, 0, 1])
    _, state = env.reset(jax.random.key(0), params)
    after, fresh = env.step(jax.random.key(1), state, jnp.int32(0), params)
    assert int(after.duration) == steps and bool(after.terminated) is terminated
    assert bool(after.truncated) is not terminated
    np.testing.assert_allclose(after.discount, 0 if terminated else GAMMA**steps, rtol=1e-6)
    np.testing.assert_allclose(after.reward, sum(GAMMA**i for i in range(steps)), rtol=1e-6)
    np.testing.assert_array_equal(after.final_interface, [steps, steps])
    np.testing.assert_array_equal(after.interface, [0, 0])
    assert int(fresh["time"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in gymnax.registered_envs if "MNIST" not in name])  # a download
def test_every_discrete_environment_keeps_the_contract(name: str) -> None:
    inner, params = gymnax.make(name)
    if not isinstance(inner.action_space(params), gymnax.environments.spaces.Discrete):
        with pytest.raises(ValueError, match=f"^env = {inner.name}: actions in Box.*, expected a Discrete space$"):
            ic.from_gymnax(name)
        return
    if not isinstance(
        inner.observation_space(params), gymnax.environments.spaces.Box | gymnax.environments.spaces.Discrete
    ):
        with pytest.raises(ValueError, match="expected a Box or Discrete space$"):
            ic.from_gymnax(name)
        return
    for duration in ([1.0], [0.5, 0.5]):
        env, made = ic.from_gymnax(inner, duration=duration)
        seen = ic.check_environment(env, made, jax.random.key(0), copies=4, handoffs=16)
        assert seen.handoffs == 64 and seen.longest <= len(duration)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"env": "CartPole"}, "env = 'CartPole': expected one of CartPole-v1, "),
        ({"env": "Pendulum-v1"}, "env = Pendulum-v1: actions in Box("),
        ({"env": 3}, "env = 3: expected a gymnax environment or the name of one"),
        ({"gamma": 1.0}, "gamma = 1.0: expected a number in [0, 1)"),
        ({"duration": [0.5, 0.4]}, "duration[0]: sums to 0.9, expected 1"),
        ({"duration": [1.5, -0.5]}, "duration[0, 0] = 1.5: expected a number from 0 to 1"),
        ({"duration": [[1.0]] * 3}, "duration: shape [3, 1], expected [D] or [2, D]"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        ic.from_gymnax(**{"env": "CartPole-v1", **arguments})
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
