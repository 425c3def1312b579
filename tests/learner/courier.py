"""A small environment that takes keys, shows vectors, masks options, terminates and truncates; rows made by hand."""

from __future__ import annotations

import dataclasses
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.learner import networks, schedules
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner
from icsmdp_jax.learner.rollout import Rows

AGENTS, OPTIONS, DIM = 3, 3, 2

# Tests compile far longer than they run: less optimisation halves it. Where bits are compared, use jax.jit.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@cache
def program(function: Any, over_slots: bool = False) -> Any:
    """A function of a learner compiled once for all tests that call it; over parameters stacked by slot if wanted.

    A method that is asked for anew is another object each time, and ``jax.jit`` would trace it again.
    """
    return quick_jit(jax.vmap(function) if over_slots else function)


class CourierState(NamedTuple):
    """Whose turn it is, where the parcel is ([2] in [-1, 1]), and the handoffs since the start: nobody sees these."""

    agent: jax.Array
    place: jax.Array
    clock: jax.Array


class CourierParams(NamedTuple):
    """``gamma``, the probability ``ends`` of a terminal handoff, and the handoffs after which an episode is cut."""

    gamma: Any = 0.9
    ends: Any = 0.2
    limit: Any = 5


@dataclasses.dataclass(frozen=True)
class Courier(Environment[CourierState, CourierParams]):
    """Random places and receivers; the interface is the place, and its signs say which options there are."""

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec("courier", AGENTS, OPTIONS, 0, (DIM,), jnp.float32, 3, False)

    def reset(self, key: jax.Array, params: CourierParams) -> tuple[Handoff, CourierState]:
        key_agent, key_place = jax.random.split(key)
        state = CourierState(
            jax.random.randint(key_agent, (), 0, AGENTS),
            jax.random.uniform(key_place, (DIM,), minval=-1.0),
            jnp.int32(0),
        )
        zero, no = jnp.float32(0), jnp.bool_(False)
        return self._seen(state, zero, jnp.int32(0), zero, no, no), state

    def step_env(
        self, key: jax.Array, state: CourierState, option: jax.Array, params: CourierParams
    ) -> tuple[Handoff, CourierState]:
        key_tau, key_end, key_next = jax.random.split(key, 3)
        tau = jax.random.randint(key_tau, (), 1, 4)
        _, fresh = self.reset(key_next, params)
        entered = fresh._replace(clock=state.clock + 1)
        done = jax.random.uniform(key_end) < params.ends
        cut = ~done & (entered.clock >= params.limit)
        discount = jnp.where(done, 0.0, jnp.float32(params.gamma) ** tau)
        reward = jnp.sin(3 * state.place[0] + option) + 0.3 * state.agent
        return self._seen(entered, reward, tau, discount, done, cut), entered

    def _seen(self, state: CourierState, reward: Any, tau: Any, discount: Any, done: Any, cut: Any) -> Handoff:
        mask = jnp.concatenate([jnp.ones(1, bool), state.place > 0])
        here = (state.agent, state.place, mask)
        return Handoff(*here, reward, tau, discount, done, cut, *here)

    def global_view(self, state: CourierState, params: CourierParams) -> jax.Array:
        """Everything: place, turn and clock, ``[6]``."""
        return jnp.concatenate([state.place, jax.nn.one_hot(state.agent, AGENTS), state.clock[None] / 5.0])


@cache
def learner(values: Any, **static: Any) -> ParallelLearner:
    """A learner on the courier, few copies of it, following the uniform behaviour unless told otherwise."""
    return ParallelLearner(Courier(), values, **{"copies": 4, "length": 6, "explore": "behaviour", **static})


def hyper(step: float = 0.1, **changes: Any) -> Hyper:
    """Traced inputs on the courier: a constant step, epsilon 0.3."""
    base = Hyper(CourierParams(), None, schedules.constant(step), None, ramp(0.3, 0.3, 0))
    return base._replace(**changes)


def random_rows(seed: int, length: int, copies: int, agents: tuple[int, ...] = (0, 1, 2), lost: float = 0.0) -> Rows:
    """Rows ``[length, copies]`` of unrelated segments whose senders are among ``agents``, anybody may receive them."""
    rng = np.random.default_rng(seed)
    shape = (length, copies)

    def mask() -> np.ndarray:
        available = rng.random((*shape, OPTIONS)) < 0.6
        available[..., 0] = True
        return available

    available = mask()
    noise = np.where(available, rng.random((*shape, OPTIONS)), -1.0)
    rows = Rows(
        agent=rng.choice(agents, shape).astype(np.int32),
        interface=rng.uniform(-1, 1, (*shape, DIM)).astype(np.float32),
        mask=available,
        option=noise.argmax(axis=-1).astype(np.int32),
        reward=rng.normal(size=shape).astype(np.float32),
        discount=np.where(rng.random(shape) < 0.2, 0.0, 0.9 ** rng.integers(1, 4, shape)).astype(np.float32),
        duration=rng.integers(1, 4, shape).astype(np.int32),
        truncated=rng.random(shape) < 0.2,
        final_agent=rng.integers(0, AGENTS, shape).astype(np.int32),
        final_interface=rng.uniform(-1, 1, (*shape, DIM)).astype(np.float32),
        final_mask=mask(),
        valid=rng.random(shape) >= lost,
    )
    return jax.tree.map(jnp.asarray, rows)


def random_like(tree: Any, seed: int, scale: float = 1.0) -> Any:
    """The tree with its float leaves replaced by Gaussian numbers."""
    rng = np.random.default_rng(seed)

    def one(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.asarray(scale * rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(one, tree)


def gaussian(values: networks.ValueClass, seed: int, data: Any = None) -> Any:
    """Gaussian parameters of a class, stacked over its slots, drawn on the host: nothing has to be compiled for it."""
    return random_like(jax.eval_shape(values.init, jax.random.key(0), data), seed)
