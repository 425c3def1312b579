"""How many environment steps a second does IC-Q with networks learn from, compared with DQN of a well-known library?

CartPole of gymnax, for us a model of one agent whose options last one step. rejax trains it by DQN with replay: a
batch is drawn for each step of all environments. Ours learns from the steps themselves, as many to a batch. Width,
depth, batch, target network, optimiser and steps between two updates are the same, and neither is evaluated meanwhile.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import chex
import gymnax
import jax
import jax.numpy as jnp
import optax
import rejax

from benchmarks import common
from benchmarks.common import Record, Size, compile_seconds, many, race, record, repeats
from icsmdp_jax.core.arrival import Ended, arrive, no_segment
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.learner import networks, schedules
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner

NAME = "peers_training"
OURS, REJAX = "IC-Q", "rejax DQN"
GAMMA, RATE, EPSILON, POLYAK = 0.99, 3e-4, 0.05, 0.99
CALL = 64  # updates per call
CARTPOLE, DEFAULTS = gymnax.make("CartPole-v1")


@dataclasses.dataclass(frozen=True)
class CartPole(Environment[Any, Any]):
    """CartPole with one agent; its time limit cuts a segment short."""

    @property
    def spec(self) -> EnvSpec:
        """Static facts."""
        shape = CARTPOLE.observation_space(DEFAULTS).shape
        return EnvSpec("CartPole-v1", 1, CARTPOLE.num_actions, 0, shape, jnp.float32, 1, False)

    def reset(self, key: chex.PRNGKey, params: Any) -> tuple[Handoff, Any]:
        """Starts an episode."""
        seen, state = CARTPOLE.reset(key, params)
        return arrive(jnp.int32(0), seen, jnp.ones(2, bool), no_segment()), state

    def step_env(self, key: chex.PRNGKey, state: Any, option: chex.Array, params: Any) -> tuple[Handoff, Any]:
        """One step of the cart."""
        seen, state, reward, fell, _ = CARTPOLE.step_env(key, state, option, params)
        discount, late = jnp.where(fell, 0.0, jnp.float32(GAMMA)), CARTPOLE.is_truncated(state, params)
        ended = Ended(jnp.asarray(reward, jnp.float32), jnp.int32(1), discount, fell, late & ~fell)
        return arrive(jnp.int32(0), seen, jnp.ones(2, bool), ended), state


class FiveValues:
    """CartPole with steps of five values, as rejax 0.1 expects them: a time limit is an end there."""

    def __getattr__(self, name: str) -> Any:
        return getattr(CARTPOLE, name)

    def step(self, *arguments: Any) -> tuple[Any, ...]:
        """One step of the cart."""
        seen, state, reward, fell, late, facts = CARTPOLE.step(*arguments)
        return seen, state, reward, fell | late, facts


def repeated(go: Callable[[Any], Any], state: Any, shown: Callable[[Any], chex.Array]) -> Callable[[], Any]:
    """A function that goes on from where it was; returns an array to wait for."""

    def run() -> chex.Array:
        nonlocal state
        state = go(state)
        return shown(state)

    return run


def ours(width: int, depth: int, batch: int) -> Callable[[], Any]:
    """``CALL`` updates of IC-Q."""
    values = networks.mlp(1, CARTPOLE.num_actions, width, depth, dim=4)
    learner = ParallelLearner(CartPole(), values, optax.adam, batch, 1, target_network=True)
    exploration = ramp(EPSILON, EPSILON, 0)
    hyper = Hyper(DEFAULTS, None, schedules.constant(RATE), exploration=exploration, target_rate=1 - POLYAK)
    go = jax.jit(lambda state, hyper: learner.run(jax.random.key(1), state, hyper, CALL)[0], donate_argnums=0)
    state = jax.jit(learner.init)(jax.random.key(0), hyper)
    return repeated(partial(go, hyper=hyper), state, lambda state: state.updates)


def theirs(width: int, depth: int, batch: int) -> Callable[[], Any]:
    """``CALL`` iterations of rejax's DQN: a step of all environments and one batch from the replay buffer each."""
    algorithm = rejax.DQN.create(
        env=FiveValues(), env_params=DEFAULTS, num_envs=batch, batch_size=batch, num_epochs=1, fill_buffer=0,
        ddqn=False, gamma=GAMMA, learning_rate=RATE, eps_start=EPSILON, eps_end=EPSILON, polyak=POLYAK,
        buffer_size=100 * batch, agent_kwargs={"activation": "relu"},
    )  # fmt: skip
    algorithm = algorithm.replace(agent=algorithm.agent.clone(hidden_layer_sizes=(width,) * depth))
    go = jax.jit(lambda state: jax.lax.fori_loop(0, CALL, lambda _, ts: algorithm.train_iteration(ts), state))
    return repeated(go, algorithm.init_state(jax.random.key(0)), lambda state: state.global_step)


def measure(size: Size) -> Iterator[Record]:
    """Steps per second that are acted and learned from."""
    repetitions, at_least = size.pick(1, 5, 7), size.pick(0.0, 0.1, 0.3)
    for width, depth, batch in size.pick([(16, 1, 16)], [(64, 2, 256)], [(64, 2, 256), (256, 2, 256), (64, 2, 2048)]):
        runs, work, compile_s = {}, {}, {}
        for name, build in ((REJAX, theirs), (OURS, ours)):
            run = build(width, depth, batch)
            compile_s[name] = compile_seconds(run)
            calls = repeats(run, at_least, 100)
            runs[name], work[name] = partial(many, run, calls), calls * CALL * batch
        case = {"width": width, "layers": depth, "batch": batch}
        for name, timing in (times := race(runs, repetitions)).items():
            base = None if name == REJAX else (REJAX, times[REJAX], work[REJAX])
            facts = {"handoffs": work[name]}
            yield record(NAME, case, name, timing, base, work[name], "handoffs/s", compile_s[name], **facts)


if __name__ == "__main__":
    common.main(measure, __doc__)
