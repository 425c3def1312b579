"""What does it cost to give each agent its own network, compared with one network that all agents share?

The whole learner in both cases: acting, offers, gradients and Adam, in an environment that costs next to nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import common
from benchmarks.common import Record, Size, compile_seconds, many, race, record, repeats
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.core.sampling import AliasTable, alias_table, draw
from icsmdp_jax.learner import networks, schedules
from icsmdp_jax.learner.dispatch import gathered
from icsmdp_jax.learner.exploration import ramp, unit
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner

NAME = "dispatch"
SHARED = "one network for all agents"
OWN = "a network for each agent"
COPIED = "the same, weights copied to each row"
MASKED = "the same, every agent on every row"

DIM, OPTIONS, SEEN = 16, 4, 8  # numbers that an agent sees, its options, interfaces of each agent
CALL = 8  # updates per call
EVEN, UNEVEN = "even", "1/rank"
ROWS, LISTED = "rows", "listed"


class Crowd(NamedTuple):
    """Parameters of ``Crossing``: the law of the next interface."""

    law: AliasTable


@dataclasses.dataclass(frozen=True)
class Crossing(Environment[chex.Array, Crowd]):
    """Whoever comes next does not depend on anything; rewards are noise. All the time goes into learning."""

    num_agents: int
    words_per_step: int = 2

    @property
    def spec(self) -> EnvSpec:
        """Static facts."""
        return EnvSpec("crossing", self.num_agents, OPTIONS, self.num_agents * SEEN, (), jnp.int32, 1, False)

    def reset(self, key: chex.PRNGKey, params: Crowd) -> tuple[Handoff, chex.Array]:
        """Draws who begins."""
        return self.step_from_words(jax.random.bits(key, (2,), jnp.uint32), jnp.int32(0), jnp.int32(0), params)

    def step_env(
        self, key: chex.PRNGKey, state: chex.Array, option: chex.Array, params: Crowd
    ) -> tuple[Handoff, chex.Array]:
        """One handoff."""
        return self.step_from_words(jax.random.bits(key, (2,), jnp.uint32), state, option, params)

    def step_from_words(
        self, words: chex.Array, state: chex.Array, option: chex.Array, params: Crowd
    ) -> tuple[Handoff, chex.Array]:
        """The same from random words."""
        interface = draw(words[0], params.law)
        agent, no, all_options = interface // SEEN, jnp.zeros((), bool), jnp.ones((OPTIONS,), bool)
        reward, one = unit(words[1]), jnp.int32(1)
        ended = (reward, one, jnp.float32(0.9), no, no)
        return Handoff(agent, interface, all_options, *ended, agent, interface, all_options), state


@dataclasses.dataclass(frozen=True)
class OtherWay(ParallelLearner):
    """The learner with another way of evaluating rows, for comparison."""

    way: Callable[..., chex.Array] = gathered

    def _by_row(self, params: Any, agent: chex.Array, interface: chex.Array, hyper: Hyper) -> chex.Array:
        """As in the class above."""
        return self.way(self.values.apply, params, agent, jnp.asarray(hyper.data)[interface])


def masked(apply: Callable[..., chex.Array], params: Any, slots: chex.Array, views: chex.Array) -> chex.Array:
    """Every network on every row, ``N`` times the arithmetic."""
    every = jax.vmap(lambda own: jax.vmap(partial(apply, own))(views))(params)
    mine = slots[None, :, None] == jnp.arange(every.shape[0])[:, None, None]
    return jnp.sum(jnp.where(mine, every, 0.0), axis=0)


class Case(NamedTuple):
    """What is varied.

    Attributes:
      agents: ``N``.
      layers: hidden layers, one or two.
      handoffs: ``T``, handoffs of each environment between two updates.
      turns: who is active: all agents equally often, or the one of rank k in proportion to 1/k.
      interfaces: whether an update evaluates the rows as they come, as it must where interfaces are vectors, or the
        list of all interfaces once.
      environments: ``B``.
      width: units of each hidden layer.
    """

    agents: int
    layers: int = 1
    handoffs: int = 8
    turns: str = EVEN
    interfaces: str = ROWS
    environments: int = 256
    width: int = 256


def inputs(case: Case) -> Hyper:
    """Traced inputs of a case."""
    share = np.ones(case.agents) if case.turns == EVEN else 1.0 / np.arange(1, case.agents + 1)
    law = np.repeat(share / share.sum() / SEEN, SEEN)
    crowd = Crowd(AliasTable(*(jnp.asarray(table[0]) for table in alias_table(law[None]))))
    seen = np.random.default_rng(0).normal(size=(case.agents * SEEN, DIM)).astype(np.float32)
    owner = jnp.arange(case.agents * SEEN, dtype=jnp.int32) // SEEN if case.interfaces == LISTED else None
    return Hyper(crowd, jnp.asarray(seen), schedules.constant(1e-3), exploration=ramp(0.1, 0.1, 0), owner=owner)


def variant(case: Case, name: str) -> Callable[[], Any]:
    """``CALL`` updates by one call, compiled on the first; returns the squared error of the last."""
    values = networks.mlp(case.agents, OPTIONS, case.width, case.layers)
    if name == SHARED:
        values = networks.shared(values)
    settings = (Crossing(case.agents), values, optax.adam, case.environments, case.handoffs)
    learner = ParallelLearner(*settings)
    hyper = inputs(case)
    state = jax.jit(learner.init)(jax.random.key(0), hyper)
    if name in (COPIED, MASKED):
        learner = OtherWay(*settings, way=gathered if name == COPIED else masked)
    go = jax.jit(partial(learner.run, count=CALL), donate_argnums=1)

    def run() -> chex.Array:
        nonlocal state
        state, metrics = go(jax.random.key(1), state, hyper)
        return jnp.sum(metrics.td_square[-1])

    return run


def cases(size: Size) -> list[tuple[Case, tuple[str, ...]]]:
    """What is measured, and how."""
    ways = (SHARED, OWN, MASKED, COPIED)
    if size is Size.TINY:
        return [(Case(4, environments=16, handoffs=2, width=32), ways)]
    found = [(Case(4), ways)]
    sweep = [(10, 1, 32, ROWS), (100, 1, 128, ROWS), (10, 1, 32, LISTED), (100, 1, 128, LISTED)]
    if size is Size.FULL:
        sweep = [(10, 1, 8, ROWS), (100, 1, 8, ROWS), (100, 1, 32, ROWS), *sweep]
        sweep += [(10, 2, 32, ROWS)]
    for agents, layers, handoffs, interfaces in sweep:
        found += [(Case(agents, layers, handoffs, turns, interfaces), ways[:2]) for turns in (EVEN, UNEVEN)]
    return found


def measure(size: Size) -> Iterator[Record]:
    """Handoffs per second that are acted, offered and learned from."""
    repetitions, at_least = size.pick(1, 5, 7), size.pick(0.0, 0.1, 0.2)
    for case, ways in cases(size):
        runs: dict[str, Callable[[], Any]] = {}
        error, compile_s, work = {}, {}, {}
        for name in ways:
            run = variant(case, name)
            compile_s[name] = compile_seconds(run)
            error[name] = float(run())
            calls = repeats(run, at_least, 100)
            runs[name] = partial(many, run, calls)
            work[name] = calls * CALL * case.handoffs * case.environments
        for name, timing in (times := race(runs, repetitions)).items():
            base = None if name == SHARED else (SHARED, times[SHARED], work[SHARED])
            facts = {"handoffs": work[name], "squared_error": error[name]}
            shown = case._asdict()
            yield record(NAME, shown, name, timing, base, work[name], "handoffs/s", compile_s[name], **facts)


if __name__ == "__main__":
    common.main(measure, __doc__)
