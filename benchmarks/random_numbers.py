"""What do random numbers cost in the loop of the learner, and which way of drawing them costs least?

The same tabular IC-Q four times, with words drawn ahead of the scan, one key per handoff, or one split per draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from benchmarks import common
from benchmarks.common import Record, Size, bench_model, compile_seconds, race, record
from benchmarks.learner_throughput import learners
from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.learner.icq import Inputs, Learner, LearnerState

NAME = "random_numbers"
OURS = "random_words ahead"
Step = Callable[[chex.Array, LearnerState], LearnerState]
Way = Callable[[chex.PRNGKey, LearnerState, Step, int, int], LearnerState]


def ours(key: chex.PRNGKey, state: LearnerState, step: Step, length: int, width: int) -> LearnerState:
    """The learner's way: the words of a chunk in one call before the scan, every word of every Threefry block used."""
    words = random_words(key, length, width)
    return jax.lax.scan(lambda s, row: (step(row, s), None), state, words)[0]


def bits_ahead(key: chex.PRNGKey, state: LearnerState, step: Step, length: int, width: int) -> LearnerState:
    """The same with ``jax.random.bits``, which merges the two words of each block into one."""
    words = jax.random.bits(key, (length, width), jnp.uint32)
    return jax.lax.scan(lambda s, row: (step(row, s), None), state, words)[0]


def key_per_step(key: chex.PRNGKey, state: LearnerState, step: Step, length: int, width: int) -> LearnerState:
    """One key per handoff, split ahead of the scan; the words of a handoff are drawn within."""

    def body(s: LearnerState, step_key: chex.PRNGKey) -> tuple[LearnerState, None]:
        return step(jax.random.bits(step_key, (width,), jnp.uint32), s), None

    return jax.lax.scan(body, state, jax.random.split(key, length))[0]


def split_per_draw(key: chex.PRNGKey, state: LearnerState, step: Step, length: int, width: int) -> LearnerState:
    """The key carried along and split anew for every single draw."""

    def body(carry: tuple[chex.PRNGKey, LearnerState], _: None) -> tuple[Any, None]:
        current, s = carry
        words = []
        for _draw in range(width):
            current, draw_key = jax.random.split(current)
            words.append(jax.random.bits(draw_key, (), jnp.uint32))
        return (current, step(jnp.stack(words), s)), None

    return jax.lax.scan(body, (key, state), None, length)[0][1]


WAYS: dict[str, Way] = {
    OURS: ours,
    "jax.random.bits ahead": bits_ahead,
    "one key per handoff": key_per_step,
    "one split per draw": split_per_draw,
}


def compiled(learner: Learner, inputs: Inputs, way: Way, replicas: int, length: int) -> Callable[[], Any]:
    """A function without arguments that runs ``length`` handoffs of every replica from the same start."""

    def step(words: chex.Array, state: LearnerState) -> LearnerState:
        return learner.step(words, state, inputs)[0]

    def one(key: chex.PRNGKey, state: LearnerState) -> LearnerState:
        return way(key, state, step, length, learner.words_per_step)

    keys = jax.random.split(jax.random.key(0), replicas)
    states = jax.jit(jax.vmap(lambda key: learner.init(key, inputs)))(keys)
    return partial(jax.jit(jax.vmap(one)), keys, states)


def measure(size: Size) -> Iterator[Record]:
    """Handoffs per second for each way of drawing at each number of replicas."""
    learner, inputs = learners(bench_model())["tabular"]
    inputs = jax.tree.map(jnp.asarray, inputs)
    handoffs, repetitions = size.pick(1000, 1_000_000, 2_000_000), size.pick(1, 5, 7)
    ways = {name: WAYS[name] for name in size.pick(list(WAYS)[:2], list(WAYS), list(WAYS))}
    for replicas in size.pick((8,), (512,), (64, 512)):
        length = max(1, handoffs // replicas)
        runs = {name: compiled(learner, inputs, way, replicas, length) for name, way in ways.items()}
        compile_s = {name: compile_seconds(run) for name, run in runs.items()}
        times = race(runs, repetitions)
        work = length * replicas
        for name, timing in times.items():
            base = None if name == OURS else (OURS, times[OURS], work)
            facts = {"handoffs": work, "words_per_handoff": learner.words_per_step}
            case = {"replicas": replicas}
            yield record(NAME, case, name, timing, base, work, "handoffs/s", compile_s[name], **facts)


if __name__ == "__main__":
    common.main(measure, __doc__)
