"""Long runs as a host loop over compiled chunks: replicas and lanes by vmap, snapshots at given handoff counts.

A *lane* is one setting of the traced inputs (a gap, a step size, ...); every lane runs all replicas. The random
words of a chunk come from ``fold_in(fold_in(key, replica), chunk)``: the bits of one replica do not depend on how
many run with it, nor on how often the run was interrupted.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.devices.placement import (
    CELLS,
    EVERYWHERE,
    PAIRS,
    REPLICAS,
    Grid,
    compiler_options,
    device_grid,
    device_memory,
    join_batches,
    largest_divisor,
    over_pairs,
)
from icsmdp_jax.learner import averages, memory, numba_executor, slots
from icsmdp_jax.learner.averages import CompensatedSum
from icsmdp_jax.learner.icq import Inputs, Learner, LearnerState
from icsmdp_jax.learner.memory import COPIES

LAST_CHUNK = 2**31 - 1  # chunks are counted in int32
LONGEST_CHUNK = 4096  # up to which chunk means have the same bits on every compiler path, see averages.py
CHUNK = 1000  # handoffs per chunk; checkpoints are multiples of it
UNROLL = 2  # handoffs per turn of the compiled loop: fewer turns; more would cost compile time and gain little
CACHE = 2**18  # bytes of learner state that a CPU core keeps close while a group of replicas runs
WORDS = 2**23  # bytes of random words drawn ahead for a group: what the cores share of the cache
WORD_COPIES = 2  # of the words drawn ahead at once, while they are drawn
FEW = 20_000_000  # handoffs up to which side by side saves a CPU less time than another program takes to compile
ALONE = 64  # replicas of a CPU device from which lanes gain nothing from each other
SMALLEST_GROUP = 32  # fewer replicas side by side would leave the loop's own cost uncovered

Traces: dict[Learner, int] = {}  # how often each learner was traced; a test reads it


class RunState(NamedTuple):
    """What one replica carries from chunk to chunk.

    Attributes:
      learner: the learner's state.
      total: compensated sum of the chunk means of the parameters.
      chunk: ``[]`` int32, chunks done.
      key: the replica's key.
    """

    learner: LearnerState
    total: CompensatedSum
    chunk: chex.Array
    key: chex.PRNGKey


def init_run(learner: Learner, key: chex.PRNGKey, inputs: Inputs) -> RunState:
    """State of one replica before its first handoff."""
    key_init, key_run = jax.random.split(key)
    state = learner.init(key_init, inputs)
    return RunState(state, averages.zeros_like(state.params), jnp.int32(0), key_run)


def run_chunk(learner: Learner, state: RunState, inputs: Inputs, length: int) -> RunState:
    """Runs ``length`` handoffs of one replica and adds the mean of their iterates to the total (D10)."""
    words = random_words(jax.random.fold_in(state.key, state.chunk), length, learner.words_per_step)
    remaining = jnp.arange(length - 1, -1, -1, dtype=jnp.float32)
    weighted = jax.tree.map(jnp.zeros_like, state.learner.params)

    def body(carry: tuple[LearnerState, Any], ahead: tuple[chex.Array, chex.Array]) -> tuple[Any, None]:
        current, acc = carry
        row, left = ahead
        current, (slot, change, _) = learner.step(row, current, inputs)
        return (current, averages.weigh_change(acc, slot, change, left)), None

    unroll = 1 if slots.wide(weighted) else UNROLL  # the loop's own cost is nothing compared with that of wide nets
    (last, weighted), _ = jax.lax.scan(body, (state.learner, weighted), (words, remaining), unroll=unroll)
    mean = averages.chunk_mean(state.learner.params, weighted, length)
    return RunState(last, averages.add(state.total, mean), state.chunk + 1, state.key)


def group_size(state: RunState, lanes: int, replicas: int, words: int) -> int:
    """Replicas that run side by side: as many as a CPU's cache holds, or an accelerator's memory.

    Args:
      state: of one replica, or its shapes.
      lanes: lanes of one device.
      replicas: replicas of one device.
      words: random words that one replica draws ahead.
    """
    most = device_memory() // (4 * 4 * words * lanes)  # a quarter of the memory for words
    if jax.default_backend() != "cpu":
        return largest_divisor(replicas, most)
    touched = (state.learner.params, state.learner.opt_state, state.total.high)  # the last as large as the accumulator
    wanted = max(min(CACHE // max(tree_bytes(touched), 1), WORDS // (4 * words * lanes)), -(-SMALLEST_GROUP // lanes))
    size = largest_divisor(replicas, wanted)
    # Few divisors, as for a prime: all at once after all, unless their words would fill the memory.
    return size if size * lanes >= SMALLEST_GROUP or replicas > most else replicas


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree, or of what ``jax.eval_shape`` says of them."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _in_groups(run: Callable[[RunState], RunState], state: RunState, size: int) -> RunState:
    """``run`` on ``size`` replicas after ``size`` replicas, axis 1 of every leaf."""
    lanes, replicas = state.chunk.shape
    if size == replicas:
        return run(state)

    def cut(leaf: chex.Array) -> chex.Array:
        return jnp.moveaxis(leaf.reshape(lanes, replicas // size, size, *leaf.shape[2:]), 1, 0)

    return jax.tree.map(join_batches, jax.lax.map(run, jax.tree.map(cut, state)))


@lru_cache(maxsize=64)
def _compiled(learner: Learner, length: int, layout: Grid, brief: bool = False) -> tuple[Callable[..., Any], ...]:
    """Jitted ``init`` and ``advance`` over ``[lanes, replicas]`` of a long or ``brief`` run; one trace per shapes."""

    def init(keys: chex.Array, inputs: Inputs) -> RunState:
        return over_pairs(lambda key, lane: init_run(learner, key, lane), (REPLICAS, CELLS))(keys, inputs)

    def advance(state: RunState, inputs: Inputs, chunks: chex.Array) -> RunState:
        Traces[learner] = Traces.get(learner, 0) + 1
        step = over_pairs(lambda replica, lane: run_chunk(learner, replica, lane, length), (PAIRS, CELLS))

        def run(group: RunState) -> RunState:
            return jax.lax.fori_loop(0, chunks, lambda _, s: step(s, inputs), group)

        shapes = jax.eval_shape(lambda many: jax.tree.map(lambda leaf: leaf[0, 0], many), state)
        lanes, replicas = state.chunk.shape
        return _in_groups(run, state, group_size(shapes, lanes, replicas, length * learner.words_per_step))

    options, whole = compiler_options(), layout.share(advance, PAIRS, CELLS, EVERYWHERE)
    first = jax.jit(layout.share(init, REPLICAS, CELLS), compiler_options=options)
    return first, jax.jit(whole, donate_argnums=0, compiler_options=options if brief else None)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """State of a run at one handoff count, on the host.

    Attributes:
      samples: handoffs per replica so far.
      last: parameters ``[lanes, replicas, ...]`` float32, the last iterate.
      total: float64 sum of the chunk means so far, ``[lanes, replicas, ...]``.
    """

    samples: int
    last: Any
    total: Any


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
      snapshots: one per checkpoint, in order.
      chunk: handoffs per chunk.
      compile_s: seconds spent tracing and compiling.
      run_s: seconds spent computing, compilation left out.
      handoffs: handoffs of all lanes and replicas together.
      executor: what ran it, ``xla``, ``numba`` or ``pallas``.
    """

    snapshots: tuple[Snapshot, ...]
    chunk: int
    compile_s: float
    run_s: float
    handoffs: int
    executor: str = "xla"

    def average(self, index: int = -1, since: int = 0) -> Any:
        """Float64 mean of the iterates ``since <= k < samples`` of one snapshot (D10).

        Args:
          index: which snapshot.
          since: first handoff of the average; must itself be 0 or a checkpoint.

        Raises:
          ValueError: if ``since`` is not 0 or an earlier checkpoint.
        """
        end = self.snapshots[index]
        chunks = (end.samples - since) // self.chunk
        if since == 0:
            return jax.tree.map(lambda total: total / chunks, end.total)
        begin = next((s for s in self.snapshots if s.samples == since), None)
        if begin is None or since >= end.samples:
            raise ValueError(f"since = {since}: expected 0 or a checkpoint before {end.samples}")
        return jax.tree.map(lambda late, early: (late - early) / chunks, end.total, begin.total)


def replica_keys(key: chex.PRNGKey, replicas: int) -> chex.Array:
    """One key per replica, independent of how many there are."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(replicas, dtype=jnp.int32))


def stack_inputs(lanes: Sequence[Inputs]) -> Inputs:
    """Stacks the inputs of several lanes along a new first axis; shapes must agree."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *lanes)


def train(
    learner: Learner,
    lanes: Sequence[Inputs],
    key: chex.PRNGKey,
    replicas: int,
    checkpoints: Sequence[int],
    chunk: int = CHUNK,
    progress: Callable[[int], None] | None = None,
    largest_call: int = 20_000_000,
    values: int = 0,
    executor: str | None = None,
    tuning: Any = None,
) -> Run:
    """Runs all replicas of all lanes up to the last checkpoint.

    Args:
      learner: static configuration.
      lanes: traced inputs of each lane, of equal shapes.
      key: key of the run; every lane uses the same replica keys (common random numbers).
      replicas: number of independent replicas per lane.
      checkpoints: increasing handoff counts per replica, each a multiple of ``chunk``.
      chunk: handoffs per chunk.
      progress: called with the number of handoffs (all lanes and replicas) done since its last call.
      largest_call: about how many handoffs one device call may cover, so that progress moves.
      values: numbers that the caller will make of the parameters of one replica, for the forecast of memory.
      executor: ``xla``, ``numba``, ``pallas`` or ``auto``, see ``numba_executor.chosen``; results do not depend on it.
      tuning: ``pallas_executor.Tuning`` of the Pallas kernel; its default if None.

    Returns:
      A ``Run``.

    Raises:
      ValueError: for checkpoints that do not increase, are not multiples of ``chunk`` or are more than 2^31 chunks,
        if the replicas do not fit into memory, and for an executor that does not apply.
    """
    if not 1 <= chunk <= LONGEST_CHUNK:
        raise ValueError(f"chunk = {chunk}: expected a number from 1 to {LONGEST_CHUNK}")
    counts = [int(c) for c in checkpoints]
    if not counts or any(c % chunk or c <= 0 for c in counts) or sorted(set(counts)) != counts:
        raise ValueError(f"checkpoints = {counts}: expected increasing multiples of {chunk}")
    if counts[-1] // chunk > LAST_CHUNK:
        raise ValueError(f"samples = {counts[-1]}: expected at most {LAST_CHUNK * chunk} in chunks of {chunk}")
    check_memory(learner, lanes[0], len(lanes), replicas, len(counts), chunk, values)
    handoffs = counts[-1] * len(lanes) * replicas
    generator = str(jax.random.key_impl(key))
    which = numba_executor.chosen(executor, learner, lanes, handoffs, counts[-1], generator)
    if which == "numba":
        return _train(learner, lanes, key, replicas, counts, chunk, progress, largest_call, which)
    size = _lanes_at_once(learner, lanes[0], len(lanes), replicas, counts[-1])
    runs = []
    for first in range(0, len(lanes), size):
        batch = list(lanes[first : first + size])
        missing = size - len(batch)  # a batch of another size would be compiled again
        batch += batch[-1:] * missing
        run = _train(learner, batch, key, replicas, counts, chunk, progress, largest_call, which, tuning)
        runs.append((run, size - missing))
    return _joined(runs, replicas)


def state_shapes(learner: Learner, inputs: Inputs) -> RunState:
    """Shapes and types of one replica's state."""
    return _one(learner).eval_shape(jax.random.key(0), inputs)


_one = lru_cache(maxsize=64)(lambda learner: jax.jit(partial(init_run, learner)))  # one trace for equal shapes


def check_memory(
    learner: Learner, lane: Inputs, lanes: int, replicas: int, checkpoints: int, chunk: int = CHUNK, values: int = 0
) -> None:
    """Refuses a run that would not fit into memory, before any of it is taken; arguments as for ``train``.

    Raises:
      ValueError: in one line with the forecast and what would fit.
    """
    state = state_shapes(learner, lane)
    words = chunk * learner.words_per_step
    sizes = memory.Sizes(
        state=tree_bytes(state), params=tree_bytes(state.learner.params), inputs=input_bytes(lane),
        words=lambda columns: WORD_COPIES * 4 * words * group_size(state, 1, columns, words),
        lanes=lanes, checkpoints=checkpoints, values=values,
    )  # fmt: skip
    memory.check(sizes, replicas)


def input_bytes(lane: Inputs) -> int:
    """Bytes of the inputs of one lane."""
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(lane))


def _lanes_at_once(learner: Learner, lane: Inputs, count: int, replicas: int, samples: int) -> int:
    """Lanes whose states and inputs fit into the devices' memory together: mostly all of them.

    On a CPU the lanes of a run that is short, or has many replicas, go one by one: runs of any number of lanes then
    share a program, and all replicas look things up in one model.
    """
    if jax.default_backend() == "cpu" and jax.process_count() == 1:
        if count * replicas * samples <= FEW or replicas >= ALONE * jax.device_count():
            return 1
    state = state_shapes(learner, lane)
    inputs = input_bytes(lane)
    layout = device_grid(count, replicas)
    each = inputs + COPIES * tree_bytes(state) * layout.block[1]
    fit = max(1, device_memory() // max(each, 1)) * layout.rows
    batches = -(-count // fit)
    return -(-count // batches)


def _joined(runs: Sequence[tuple[Run, int]], replicas: int) -> Run:
    """Joins runs of some lanes each into one run of all, without the lanes that are padding."""
    if len(runs) == 1:
        return runs[0][0]

    def join(*leaves: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf[:count] for leaf, (_, count) in zip(leaves, runs, strict=True)])

    def joined(trees: Sequence[Any]) -> Any:
        return jax.tree.map(join, *trees)

    snapshots = [
        Snapshot(many[0].samples, joined([one.last for one in many]), joined([one.total for one in many]))
        for many in zip(*[run.snapshots for run, _ in runs], strict=True)
    ]
    lanes = sum(count for _, count in runs)
    return Run(
        tuple(snapshots), runs[0][0].chunk, sum(run.compile_s for run, _ in runs), sum(run.run_s for run, _ in runs),
        snapshots[-1].samples * lanes * replicas, runs[0][0].executor,
    )  # fmt: skip


def _train(
    learner: Learner,
    lanes: Sequence[Inputs],
    key: chex.PRNGKey,
    replicas: int,
    counts: Sequence[int],
    chunk: int,
    progress: Callable[[int], None] | None,
    largest_call: int,
    executor: str = "xla",
    tuning: Any = None,
) -> Run:
    """``train`` on lanes that fit into memory together."""
    begin = time.perf_counter()
    layout = device_grid(len(lanes), replicas)
    inputs = layout.place(stack_inputs(lanes), CELLS)
    keys = layout.place(replica_keys(key, replicas), REPLICAS)
    brief = learner.values.name in ("tabular", "linear") and counts[-1] * len(lanes) * replicas <= FEW
    init, advance = _compiled(learner, chunk, layout, brief)
    state, loops = None, None  # type: Any, numba_executor.Executor | None
    if executor == "numba":
        index, words = layout.fetch(numba_executor.first_states(learner, layout, init_run)(keys, inputs))
        loops = numba_executor.Executor(learner, lanes, state_shapes(learner, lanes[0]), index, words, chunk)
        loops.advance(0)
    else:
        state = init(keys, inputs)
        if executor == "pallas":
            from icsmdp_jax.learner import pallas_executor  # loads Pallas

            inputs, advance = pallas_executor.prepared(learner, lanes, inputs, counts[-1], chunk, layout, tuning)
        state = jax.block_until_ready(advance(state, inputs, jnp.int32(0)))  # zero chunks compile and change nothing
    compile_s, begin = time.perf_counter() - begin, time.perf_counter()
    per_call = max(1, largest_call // ((width := len(lanes) * replicas) * chunk))
    snapshots, done = [], 0
    for count in counts:
        while done < count:
            chunks = min(per_call, (count - done) // chunk)
            if loops is not None and not loops.advance(chunks):
                # Values that are not finite are left to XLA, which resumes from the last common state.
                state = layout.place(loops.resumed(init(keys, inputs), lanes), PAIRS)
                loops, executor = None, "xla"
            if loops is None:
                state = advance(state, inputs, jnp.int32(chunks))
            done += chunks * chunk
            if progress is not None:
                jax.block_until_ready(state)
                progress(chunks * chunk * width)
        more = count < counts[-1]
        last, total = layout.fetch((state.learner.params, state.total)) if loops is None else loops.values(more)
        snapshots.append(Snapshot(count, last, averages.to_float64(total)))
    run_s = time.perf_counter() - begin
    return Run(tuple(snapshots), chunk, compile_s, run_s, counts[-1] * width, executor)
