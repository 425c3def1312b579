"""A third executor of a replica learner, for GPUs: a chunk of tabular IC-Q in one Pallas kernel.

The XLA program of a handoff is dozens of small kernels, each of which reads and writes all replicas' tables through
the device's memory. Here a thread is a replica and one launch runs a whole chunk: state, key and random words (the
same Threefry bits, made where they are needed) stay in registers from handoff to handoff, and the model is looked up
through the caches. Tables stay where XLA put them, ``[replicas, Z, O]`` in device memory, and are updated there entry
by entry: Triton has neither registers nor shared memory that a thread can index. A block of threads works on its own
few rows until its chunk is over, so these rows are in the L1 and L2 caches; "on chip" means only that.

A thread must see its own writes. It does if it alone touches its replica: ``Tuning.block`` is 32 threads for each warp
and so every array of the kernel has one element for each thread, the same in all loads and stores.

What ends a chunk, its mean and the compensated total, is the code of ``averages``. A handoff is that of ``icq`` and
``envs.tabular``, written with look-ups in memory; a test holds the bits of both against each other. On a GPU they are
the same where XLA contracts the same products and sums into one rounding, which ``Tuning.fuse`` can force, and as
long as values are finite. On a CPU the kernel is interpreted: slow, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from icsmdp_jax.core.sampling import AliasTable, split_word, uniform_symmetric
from icsmdp_jax.devices.placement import CELLS, EVERYWHERE, PAIRS, Grid
from icsmdp_jax.envs.tabular import TabularEnv
from icsmdp_jax.learner import averages, networks
from icsmdp_jax.learner.icq import Inputs, Learner

STEPS = 2**24  # step sizes that are tabulated at most, over all lanes
ENTRIES = 2**31  # numbers of one array, which indices of 32 bits reach
TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))  # of Threefry-2x32


class Tuning(NamedTuple):
    """How the kernel is compiled; except for ``fuse``, no result depends on it.

    Attributes:
      block: replicas of a block, 32 for each of its 1, 2, 4, ... 32 warps.
      stages: stages of Triton's software pipeline.
      fuse: whether ``a b + c`` is rounded once; a pair says it for rewards and for targets. None leaves it to the
        compiler, as the XLA program does.
    """

    block: int = 128
    stages: int = 1
    fuse: bool | tuple[bool | None, bool | None] | None = None


def refusal(learner: Learner, lanes: Sequence[Inputs], replicas: int, samples: int) -> str | None:
    """Why this kernel cannot do a run, in words; None if it can."""
    spec = learner.env.spec
    if type(learner) is not Learner or type(learner.env) is not TabularEnv:
        return "expected the plain learner on a tabular model"
    if learner.values != networks.tabular(spec.num_interfaces, spec.num_options):
        return f"expected tables, got {learner.values.name}"
    if learner.greedy or learner.optimiser is not None or any(lane.behaviour is None for lane in lanes):
        return "expected fixed behaviour and a step-size schedule"
    if learner.project:
        return "expected no projection"
    if samples * len(lanes) > STEPS:
        return f"expected at most {STEPS} step sizes to tabulate, got {samples * len(lanes)}"
    entries = replicas * spec.num_interfaces * spec.num_options
    return f"expected tables of fewer than {ENTRIES} entries, got {entries}" if entries >= ENTRIES else None


def prepared(
    learner: Learner, lanes: Sequence[Inputs], inputs: Any, count: int, length: int, layout: Grid, tuning: Tuning | None
) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Inputs with tabulated step sizes, placed on the devices, and ``advance(state, inputs, chunks)``.

    Args:
      learner: static configuration.
      lanes: inputs of each lane, on the host.
      inputs: the same, placed.
      count: handoffs of a replica in all.
      length: handoffs of a chunk.
      layout: where things are placed.
      tuning: how the kernel is compiled.

    Raises:
      ValueError: in one line, for a block of another size.
    """
    tuning = tuning or Tuning()
    if tuning.block not in [32 << power for power in range(6)]:
        raise ValueError(f"block = {tuning.block}: expected 32, 64, 128, 256, 512 or 1024")
    full = all(bool(np.all(lane.env_params.mask)) for lane in lanes)
    return (inputs, layout.place(tabulated(lanes, count), CELLS)), _compiled(learner, length, layout, full, tuning)


@lru_cache(maxsize=64)
def _compiled(learner: Learner, length: int, layout: Grid, full: bool, tuning: Tuning) -> Callable[..., Any]:
    """``advance`` over ``[lanes, replicas]``; no words are drawn ahead."""

    def advance(state: Any, lanes: Any, chunks: chex.Array) -> Any:
        step = jax.vmap(lambda one, lane: run_chunk(learner, one, lane, length, full, tuning))
        return jax.lax.fori_loop(0, chunks, lambda _, now: step(now, lanes), state)

    return jax.jit(layout.share(advance, PAIRS, CELLS, EVERYWHERE), donate_argnums=0)


def tabulated(lanes: Sequence[Inputs], count: int) -> np.ndarray:
    """``[lanes, count]`` float32 step sizes at clocks from 0 on, by the formula of the XLA program."""
    at = jax.jit(lambda size: size.at(jnp.arange(count, dtype=jnp.int32)))
    return np.stack([np.asarray(at(lane.step_size)) for lane in lanes])


def threefry(k0: Any, k1: Any, counter: Any) -> tuple[Any, Any]:
    """Both words of Threefry-2x32 with 20 rounds of counters ``(counter, 0)``; uint32, elementwise."""
    keys = (k0, k1, k0 ^ k1 ^ jnp.uint32(0x1BD11BDA))
    x, y = counter + k0, k1
    for turn in range(5):
        for by in TURNS[turn % 2]:
            x = x + y
            y = ((y << jnp.uint32(by)) | (y >> jnp.uint32(32 - by))) ^ x
        x, y = x + keys[(turn + 1) % 3], y + (keys[(turn + 2) % 3] + jnp.uint32(turn + 1))
    return x, y


class Law(NamedTuple):
    """An ``AliasTable`` in memory: flat cells, and how many of them a row has."""

    threshold: Any
    codes: Any

    def draw(self, word: Any, row: Any, count: int) -> Any:
        """``sampling.draw_at``, a row and a word for each thread."""
        if count == 1:
            return triton.load(self.codes.at[2 * row])
        cell, position = split_word(word, count)
        at = row * count + cell
        side = (position >= triton.load(self.threshold.at[at])).astype(jnp.int32)
        return triton.load(self.codes.at[2 * at + side])


class Model(NamedTuple):
    """What the kernel looks up: arrays of one lane, flat; ``one`` is a 1 that no compiler knows."""

    behaviour: Law
    successor: Law
    duration: Law
    start: Law
    interface: Any
    terminal: Any
    mask: Any
    rate: Any
    noise: Any
    annuity: Any
    discount: Any
    lump: Any
    last_discount: Any
    steps: Any
    one: Any


def _model(inputs: Inputs, steps: chex.Array) -> Model:
    p = inputs.env_params

    def law(table: AliasTable | None) -> Law:
        assert table is not None
        return Law(jnp.ravel(table.threshold), jnp.ravel(table.codes))

    def flat(values: Any, dtype: Any = jnp.float32) -> chex.Array:
        return jnp.ravel(jnp.asarray(0 if values is None else values, dtype))

    return Model(
        law(inputs.behaviour), law(p.successor), law(p.duration), law(p.start), flat(p.interface, jnp.int32),
        flat(p.terminal, jnp.int32), flat(p.mask, jnp.int32), flat(p.reward_rate), flat(p.reward_noise),
        flat(p.annuity), flat(p.discount), flat(p.lump), flat(p.last_discount), steps,
        # exp(0), which no compiler evaluates in advance.
        jnp.exp(jnp.minimum(jnp.abs(flat(p.reward_noise)), 0.0)),
    )  # fmt: skip


def _kernel(
    learner: Learner, inputs: Inputs, length: int, replicas: int, full: bool, tuning: Tuning, interpret: bool
) -> Any:
    """The program of one block; shapes of ``inputs`` are static, its numbers come as references."""
    env, p = learner.env, inputs.env_params
    assert isinstance(env, TabularEnv) and inputs.behaviour is not None
    states, options, width = len(p.agent), p.mask.shape[1], learner.words_per_step
    entries, blocks = p.mask.size, -(-width // 2)
    choices, outcomes, durations = (law.threshold.shape[-1] for law in (inputs.behaviour, p.successor, p.duration))
    by_next = p.lump is not None and p.lump.ndim == 3
    in_reward, in_target = tuning.fuse if isinstance(tuning.fuse, tuple) else (tuning.fuse, tuning.fuse)
    places = 0 if p.lump is None else int(np.prod(p.lump.shape[2:]))

    def fused(a: Any, b: Any, c: Any, once: bool | None) -> Any:
        if once is None or interpret:
            return a * b + c
        code = "fma.rn.f32 $0, $1, $2, $3;"
        if not once:
            code = "{ .reg .f32 t; mul.rn.f32 t, $1, $2; add.rn.f32 $0, t, $3; }"
        shape = [jax.ShapeDtypeStruct((tuning.block,), jnp.float32)]
        (result,) = triton.elementwise_inline_asm(
            code, args=(a, b, c), constraints="=f,f,f,f", pack=1, result_shape_dtypes=shape
        )
        return result

    def kernel(m: Model, keys: Any, epochs: Any, *arrays: Any) -> None:
        index, params, seen, weighted = arrays[4:]  # the outputs, which begin as the inputs before them
        replica = pl.program_id(0) * tuning.block + jnp.arange(tuning.block, dtype=jnp.int32)
        live = None if replicas % tuning.block == 0 else replica < replicas

        def own(ref: Any, at: Any) -> Any:
            return triton.load(ref.at[at], mask=live, other=None if live is None else jnp.zeros((), ref.dtype))

        def put(ref: Any, at: Any, value: Any) -> None:
            triton.store(ref.at[at], value, mask=live)

        def at(ref: Any, where: Any) -> Any:
            return triton.load(ref.at[where])

        k0, k1 = own(keys, 2 * replica), own(keys, 2 * replica + 1)
        first, epoch = replica * entries, own(epochs, replica)
        noise, one = m.noise[0], m.one[0]

        def handoff(t: Any, carry: Any) -> Any:
            s, interface = carry
            counter = t.astype(jnp.uint32) * jnp.uint32(blocks)
            pairs = [threefry(k0, k1, counter + jnp.uint32(block)) for block in range(blocks)]
            words = [x for x, _ in pairs] + [y for _, y in pairs]  # in the order of random_words
            option = m.behaviour.draw(words[env.words_per_step], interface, choices)
            row = s * options + option
            code = m.successor.draw(words[1], row, outcomes)
            place, entered = code, code
            if env.joint or by_next:
                place, entered = jax.lax.div(code, jnp.int32(states)), jax.lax.rem(code, jnp.int32(states))
            tau = place if env.joint else m.duration.draw(words[0], row, durations)
            reward = fused(at(m.rate, row), at(m.annuity, tau), noise * uniform_symmetric(words[2]), in_reward)
            if places:
                which = row * places + (0 if places == 1 else entered if env.joint else place)
                reward = fused(at(m.last_discount, tau), at(m.lump, which), reward, in_reward)
            discount, final = at(m.discount, tau), at(m.interface, entered)

            if full:
                top = own(params, first + final * options)
                for o in range(1, options):
                    top = jnp.maximum(top, own(params, first + final * options + o))
            else:
                top, some = jnp.full_like(reward, -jnp.inf), jnp.zeros_like(final)
                for o in range(options):
                    allowed = at(m.mask, final * options + o)
                    value = own(params, first + final * options + o)
                    top, some = jnp.where(allowed > 0, jnp.maximum(top, value), top), some | allowed
                top = jnp.where(some > 0, top, jnp.float32(0))
            s, z = entered, final
            if env.has_terminal:
                ended = at(m.terminal, entered) > 0
                discount = jnp.where(ended, jnp.float32(0), discount)
                s = jnp.where(ended, m.start.draw(words[env.words_per_step - 1], jnp.zeros_like(s), states), s)
                z = at(m.interface, s)

            entry = first + interface * options + option
            old, count = own(params, entry), own(seen, entry)
            alpha = at(m.steps, count if learner.clock == "visits" else epoch + t)
            # Products are rounded before they are added; times ``one``, so that a contraction changes nothing.
            new = old + alpha * (fused(discount, top, reward, in_target) - old) * one
            change = jnp.float32(length - 1 - t) * (new - old)
            put(params, entry, new)
            put(seen, entry, count + 1)
            put(weighted, entry, own(weighted, entry) + change * one)
            return s, z

        begin = own(index, replica)
        s, _ = jax.lax.fori_loop(jnp.int32(0), jnp.int32(length), handoff, (begin, at(m.interface, begin)))
        put(index, replica, s)

    return kernel


def run_chunk(
    learner: Learner, state: Any, lane: tuple[Inputs, chex.Array], length: int, full: bool, tuning: Tuning
) -> Any:
    """``train.run_chunk`` for all replicas of one lane.

    Args:
      learner: static configuration, one that ``refusal`` accepts.
      state: the ``RunState`` of ``[replicas]``.
      lane: traced inputs and ``tabulated`` step sizes ``[count]``.
      length: handoffs.
      full: whether all options are available everywhere.
      tuning: how the kernel is compiled.

    Returns:
      The state ``length`` handoffs on; of the current handoff, only the decision (the rest is as it was).
    """
    inputs, old, p = lane[0], state.learner, lane[0].env_params
    replicas = state.chunk.shape[0]
    keys = jax.random.key_data(jax.vmap(jax.random.fold_in)(state.key, state.chunk))
    flat = jnp.ravel(old.params)
    arrays = (old.env_state.index, flat, jnp.ravel(old.opt_state.count), jnp.zeros_like(flat))
    arguments = (_model(*lane), jnp.ravel(keys), old.epoch)
    interpret = jax.default_backend() == "cpu"
    fixed = len(jax.tree.leaves(arguments))
    index, params, seen, weighted = pl.pallas_call(
        _kernel(learner, inputs, length, replicas, full, tuning, interpret),
        [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays],
        grid=(pl.cdiv(replicas, tuning.block),),
        input_output_aliases={fixed + i: i for i in range(len(arrays))},
        compiler_params=triton.CompilerParams(num_warps=tuning.block // 32, num_stages=tuning.stages),
        interpret=interpret,
        name="icq_chunk",
    )(*arguments, *arrays)
    mean = averages.chunk_mean(old.params, weighted.reshape(old.params.shape), length)
    interface = p.interface[index]
    learned = old._replace(
        params=params.reshape(old.params.shape),
        opt_state=old.opt_state._replace(count=seen.reshape(old.opt_state.count.shape)),
        env_state=old.env_state._replace(index=index),
        handoff=old.handoff._replace(agent=p.agent[index], interface=interface, mask=p.mask[interface]),
        epoch=old.epoch + length,
    )
    return state._replace(learner=learned, total=averages.add(state.total, mean), chunk=state.chunk + 1)
