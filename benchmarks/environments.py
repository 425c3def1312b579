"""How many handoffs a second does each environment run, compared with two well-known environments?

Uniformly random options, 1024 copies, automatic restart, nothing learned. gymnax's CartPole and JaxMARL's switch_riddle
run in the same process if they are installed (``pip install -e ".[rivals]"``), each in its own usual way: a key for
each copy and step. One step of theirs is one joint decision; one of ours is one handoff, whatever it lasts.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common
from benchmarks.common import Record, Size, compile_seconds, many, race, record, repeats
from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.envs.registry import environments, make
from icsmdp_jax.learner.exploration import uniform_option

NAME = "environments"
FEW = ("planted", "expert-routing")  # what the smallest size compiles
CARTPOLE, SWITCH = "gymnax CartPole-v1", "JaxMARL switch_riddle"

Start = Callable[[chex.PRNGKey], Any]  # key -> carry
Chunk = Callable[[Any, chex.PRNGKey], tuple[Any, chex.Array]]  # (carry, key) -> (carry, a number that uses it all)


def total(tree: Any) -> chex.Array:
    """One number that depends on every entry, so that no part of a step is left out as unused."""
    return sum((jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(tree)), jnp.float32(0))


def ours(name: str, copies: int, steps: int) -> tuple[Start, Chunk]:
    """An environment of the registry, random words drawn ahead."""
    env, params = make(name)
    split = env.words_per_step

    def start(key: chex.PRNGKey) -> Any:
        return jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key, copies), params)

    def chunk(carry: Any, key: chex.PRNGKey) -> tuple[Any, chex.Array]:
        words = random_words(key, steps * copies, split + 1).reshape(steps, copies, split + 1)

        def one(drawn: chex.Array, handoff: Any, state: Any) -> Any:
            option = uniform_option(drawn[split], handoff.mask)
            return env.step_from_words(drawn[:split], state, option, params)

        def body(carry: Any, drawn: chex.Array) -> tuple[Any, chex.Array]:
            handoff, state = jax.vmap(one)(drawn, *carry)
            seen = (handoff.reward, handoff.discount, handoff.interface, handoff.final_interface)
            return (handoff, state), total(seen)

        carry, sums = jax.lax.scan(body, carry, words)
        return carry, jnp.sum(sums)

    return start, chunk


def cartpole(copies: int, steps: int) -> tuple[Start, Chunk]:
    """CartPole of gymnax."""
    import gymnax

    env, params = gymnax.make("CartPole-v1")
    actions = env.num_actions

    def start(key: chex.PRNGKey) -> Any:
        return jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key, copies), params)

    def one(key: chex.PRNGKey, state: Any) -> Any:
        key_act, key_step = jax.random.split(key)
        action = jax.random.randint(key_act, (), 0, actions)
        return env.step(key_step, state, action, params)

    return start, loop(one, copies, steps)


def switch_riddle(copies: int, steps: int) -> tuple[Start, Chunk]:
    """The switch riddle of JaxMARL."""
    import jaxmarl

    env = jaxmarl.make("switch_riddle")

    def start(key: chex.PRNGKey) -> Any:
        return jax.vmap(env.reset)(jax.random.split(key, copies))

    def one(key: chex.PRNGKey, state: Any) -> Any:
        key_act, key_step = jax.random.split(key)
        choices = jax.random.randint(key_act, (env.num_agents,), 0, env.action_space(env.agents[0]).n)
        return env.step(key_step, state, {agent: choices[i] for i, agent in enumerate(env.agents)})

    return start, loop(one, copies, steps)


def loop(one: Callable[[chex.PRNGKey, Any], Any], copies: int, steps: int) -> Chunk:
    """``steps`` steps of all copies, with ``one(key, state) -> (observation, state, reward, ...)``."""

    def chunk(carry: Any, key: chex.PRNGKey) -> tuple[Any, chex.Array]:
        def body(carry: Any, step_key: chex.PRNGKey) -> tuple[Any, chex.Array]:
            seen, state, reward, *_ = jax.vmap(one)(jax.random.split(step_key, copies), carry[1])
            return (seen, state), total((seen, reward))

        carry, sums = jax.lax.scan(body, carry, jax.random.split(key, steps))
        return carry, jnp.sum(sums)

    return chunk


RIVALS = {CARTPOLE: cartpole, SWITCH: switch_riddle}


def runner(start: Start, chunk: Chunk) -> Callable[[], Any]:
    """A function that runs one chunk and goes on from where it was."""
    carry = jax.jit(start)(jax.random.key(0))
    go = jax.jit(chunk, donate_argnums=0)
    turn = 0

    def run() -> chex.Array:
        nonlocal carry, turn
        turn += 1
        carry, seen = go(carry, jax.random.key(turn))
        return seen

    return run


@contextlib.contextmanager
def output_to_stderr() -> Iterator[None]:
    """Sends standard output to standard error, below Python: importing JaxMARL sets ``sys.stdout`` anew."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # and puts the present ``sys.stdout`` back
            os.dup2(2, 1)
            yield
    finally:
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()  # what was printed meanwhile
        os.dup2(kept, 1)
        os.close(kept)


def measure(size: Size) -> Iterator[Record]:
    """Handoffs (of the rivals: steps) per second under random options."""
    copies, steps = size.pick(16, 1024, 1024), size.pick(4, 32, 128)
    repetitions, at_least = size.pick(1, 5, 7), size.pick(0.0, 0.1, 0.3)
    made: dict[str, Callable[[], Any]] = {}
    for name, build in RIVALS.items():
        try:
            with output_to_stderr():  # they print; standard output is for measurements
                made[name] = runner(*build(copies, steps))
        except ImportError as error:  # not installed: the others are measured all the same
            print(f"{NAME}: {name} is left out ({error})", file=sys.stderr)
    chosen = size.pick(FEW, environments(), environments())
    made |= {name: runner(*ours(name, copies, steps)) for name in chosen}
    runs, work, compile_s = {}, {}, {}
    for name, run in made.items():
        compile_s[name] = compile_seconds(run)
        calls = repeats(run, at_least, 1000)
        runs[name], work[name] = partial(many, run, calls), calls * copies * steps
    times = race(runs, repetitions)
    common_base = SWITCH if SWITCH in runs else chosen[0]
    for name, timing in times.items():
        base = (common_base, times[common_base], work[common_base]) if name != common_base else None
        case = {"copies": copies, "environment": name}
        beside: dict[str, float] = {}
        if CARTPOLE in runs:
            paired = work[name] / work[CARTPOLE] * times[CARTPOLE].wall / timing.wall
            beside["of_cartpole"] = float(np.median(paired))
        variant = "rival" if name in RIVALS else "ours"
        yield record(NAME, case, variant, timing, base, work[name], "handoffs/s", compile_s[name], **beside)


if __name__ == "__main__":
    common.main(measure, __doc__)
