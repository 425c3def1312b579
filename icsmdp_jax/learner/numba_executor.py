"""The other executor of a replica learner: on CPUs, for tables and linear features, in Numba.

``train`` has one definition of a handoff, the JAX program. Two executors run it: XLA, which compiles the program, and
the loops of ``numba_kernels``, which do the same on the same state from the same random words. Tables get the same bits
from both, linear features agree to rounding; tests hold that. ``refusal`` says where these loops do not apply.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.sampling import AliasTable
from icsmdp_jax.devices.cores import usable_cores
from icsmdp_jax.devices.placement import CELLS, REPLICAS, Grid, compiler_options, over_pairs
from icsmdp_jax.envs.tabular import TabularEnv
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.averages import CompensatedSum
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.schedules import StepSize
from icsmdp_jax.runs import provenance

EXECUTORS = ("auto", "xla", "numba", "pallas")
THREEFRY = "threefry2x32"  # the generator whose words the other executors compute themselves
WORTH = 20_000_000  # handoffs below which loading numba takes longer than it saves
STEPS = 2**24  # step sizes that are tabulated at most, over all lanes
STEP_BLOCK = 2**15  # number of them at a time
CODES = 2**16  # outcome codes must be below
SMALLEST = 1e-20  # rewards from here on leave room above the numbers that XLA takes for 0
TINY = float(np.finfo(np.float32).tiny)


def chosen(
    executor: str | None, learner: Learner, lanes: Sequence[Inputs], handoffs: int, samples: int,
    generator: str = THREEFRY,
) -> str:  # fmt: skip
    """``xla``, ``numba`` or ``pallas``, for a run with these numbers of handoffs in all and of samples per replica.

    Args:
      executor: one of ``EXECUTORS``; the environment variable ``ICSMDP_EXECUTOR``, or else ``auto``, if None.
      generator: name of what the run's key belongs to.

    Raises:
      ValueError: in one line, for another name, or where ``numba`` or ``pallas`` is asked for and does not apply.
    """
    wanted = executor or os.environ.get(provenance.EXECUTOR) or "auto"
    if wanted not in EXECUTORS:
        raise ValueError(f"executor = {wanted!r}: expected one of {', '.join(EXECUTORS)}")
    if wanted == "xla" or (wanted == "auto" and handoffs < WORTH):
        return "xla"
    name = "pallas" if wanted == "pallas" else "numba"
    reason: str | None
    if generator != THREEFRY:
        reason = f"expected a key of {THREEFRY}, got {generator}"
    elif name == "pallas":
        from icsmdp_jax.learner import pallas_executor  # loads Pallas

        reason = pallas_executor.refusal(learner, lanes, handoffs // (samples * len(lanes)), samples)
    else:
        reason = refusal(learner, lanes, samples)
    if reason is not None and executor == name:
        raise ValueError(f"executor = {name!r}: {reason}")
    return "xla" if reason is not None else name


def refusal(learner: Learner, lanes: Sequence[Inputs], samples: int) -> str | None:
    """Why a run needs XLA, in words; None if Numba can do it."""
    spec = learner.env.spec
    if type(learner) is not Learner or type(learner.env) is not TabularEnv:
        return "expected the plain learner on a tabular model"
    tables = learner.values == networks.tabular(spec.num_interfaces, spec.num_options)
    if not tables and learner.values != networks.linear(spec.num_agents, spec.num_options):
        return f"expected tables or linear features, got {learner.values.name}"
    if learner.greedy or learner.optimiser is not None or any(lane.behaviour is None for lane in lanes):
        return "expected fixed behaviour and a step-size schedule"
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return "expected one process on a CPU"
    if samples * len(lanes) > STEPS:
        return f"expected at most {STEPS} step sizes to tabulate, got {samples * len(lanes)}"
    for lane in lanes:
        found = _unfit(lane, tables)
        if found is not None:
            return found
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed (pip install 'icsmdp-jax[numba]')"
    return None if contraction() is not None else "XLA rounds a product and a sum in a way of its own here"


def _unfit(lane: Inputs, tables: bool) -> str | None:
    """What the loops cannot handle in one lane, in words."""
    params = lane.env_params
    laws = (params.successor, params.duration, params.start, lane.behaviour)
    if max(int(np.max(law.codes)) for law in laws if law is not None) >= CODES or len(params.agent) >= CODES:
        return f"expected fewer than {CODES} outcomes"
    pays = [np.abs(np.asarray(x)) for x in (params.reward_rate, params.reward_noise, params.lump) if x is not None]
    if any(np.any((x > 0) & (x < SMALLEST)) for x in pays):
        return f"expected rewards of 0, or of {SMALLEST:.0e} or more"
    if not tables and np.any(_owners(params)[np.asarray(params.interface)] != np.asarray(params.agent)):
        return "expected interfaces that belong to one agent each"
    return None


@cache
def contraction() -> bool | None:
    """Whether XLA's programs round ``a b + c`` once (else twice) on this CPU with these flags; None if it varies."""
    generator = np.random.default_rng(0)
    a, b, c, d = generator.standard_normal((4, 256)).astype(np.float32)
    found = np.asarray(jax.jit(lambda a, b, c, d: (a * b + d * c, c + d * b))(a, b, c, d))

    def once(x: Any, y: Any, z: Any) -> Any:
        return (x.astype(np.float64) * y + z).astype(np.float32)

    if np.array_equal(found, [once(a, b, d * c), once(d, b, c)]):
        return True
    return False if np.array_equal(found, [a * b + d * c, c + d * b]) else None


def _owners(params: Any) -> np.ndarray:
    """``[Z]`` int32 owner of each interface; 0 of one that no state has."""
    owner = np.zeros(len(params.mask), np.int32)
    owner[np.asarray(params.interface)] = np.asarray(params.agent)
    return owner


def packed(law: AliasTable) -> np.ndarray:
    """Alias cells ``[rows, n]`` as uint64: threshold, lower code, upper code."""
    threshold, codes = np.asarray(law.threshold, np.uint64), np.asarray(law.codes, np.uint64)
    lower, upper = codes[..., 0], codes[..., 1 if threshold.shape[-1] > 1 else 0]
    return (threshold << np.uint64(32) | lower << np.uint64(16) | upper).reshape(-1, threshold.shape[-1])


def _numbers(values: Any) -> np.ndarray:
    """Flat float32, with 0 where XLA takes a number for 0."""
    flat = np.array(0.0 if values is None else values, np.float32).reshape(-1)
    return np.where(np.abs(flat) < TINY, np.float32(0), flat)


_steps = jax.jit(lambda size, first: size.at(first + jnp.arange(STEP_BLOCK, dtype=jnp.int32)))


@lru_cache(maxsize=64)
def first_states(learner: Learner, layout: Grid, init: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """Jitted: first states and key data ``[lanes, replicas]``, without parameters, which begin at 0 here.

    ``init``: ``train.init_run``.
    """

    def one(key: Any, lane: Inputs) -> tuple[Any, Any]:
        state = init(learner, key, lane)
        return state.learner.env_state.index, jax.random.key_data(state.key)

    whole = layout.share(over_pairs(one, (REPLICAS, CELLS)), REPLICAS, CELLS)
    return jax.jit(whole, compiler_options=compiler_options())


class Executor:
    """Advances the replicas of all lanes, in place.

    Attributes:
      chunks: chunks done.
      length: handoffs of a chunk.
      index: ``[lanes, replicas]`` uint32 state of each environment.
      params: ``[lanes, replicas, n]`` float32.
      seen: ``[lanes, replicas, m]`` uint32 updates so far.
      high: like ``params``, with ``low`` the compensated total.
      low: likewise.
    """

    def __init__(
        self, learner: Learner, lanes: Sequence[Inputs], shapes: Any, index: np.ndarray, keys: np.ndarray, chunk: int
    ) -> None:
        """``shapes`` of one replica's ``RunState``; first states and key data ``[lanes, replicas]``."""
        from icsmdp_jax.learner import numba_kernels, numba_primitives

        shape: tuple[int, ...] = shapes.learner.params.shape
        self._kernels, self._learner, self._shape, self.length = numba_kernels, learner, shape, chunk
        self._plain, self._padded = learner.values.name == "tabular", shape[-1]
        if not self._plain:  # features are padded with zeros, so that whole vectors of them are read
            self._padded += -shape[-1] % numba_primitives.WIDTH
        self._first, self._keys = np.array(index, np.uint32), np.array(keys, np.uint32)
        self._begin()
        self._steps: list[tuple[StepSize, np.ndarray]] = [(lane.step_size, np.empty(0, np.float32)) for lane in lanes]
        self._models = [self._model(lane) for lane in lanes]

    def _begin(self) -> None:
        """The state before the first handoff; zeros take no time until a thread writes to them."""
        width = self._padded if self._plain else 1
        size = int(np.prod(self._shape[:-1]))
        self.chunks, self.index = 0, self._first.copy()
        self.seen = np.zeros((*self.index.shape, size * width), np.uint32)
        self.params, self.high, self.low = (
            np.zeros((*self.index.shape, size * self._padded), np.float32) for _ in range(3)
        )

    def _model(self, lane: Inputs) -> tuple[Any, ...]:
        """Arguments of the kernel for one lane, except the step sizes."""
        learner, p = self._learner, jax.tree.map(np.asarray, lane.env_params)
        env, width = learner.env, learner.words_per_step
        assert isinstance(env, TabularEnv) and lane.behaviour is not None
        blocks = -(-width // 2)
        half = self._kernels.BLOCK * blocks
        words = [k if k < blocks else half + k - blocks for k in range(width)]
        at = np.array([*words[:3], *words[-2:]])  # where nothing ends there is no word for a restart
        choice, successor, duration = packed(lane.behaviour), packed(p.successor), packed(p.duration)
        rows, law = np.unique(duration, axis=0, return_inverse=True)
        options, owner = p.mask.shape[1], _owners(p)
        entry = p.interface[:, None] * options + np.arange(options)
        by_next = p.lump is not None and p.lump.ndim == 3
        psi: np.ndarray = np.zeros(0, np.float32)
        size, heads = 0, np.zeros(0, np.uint32)
        places = [entry, entry]
        if not self._plain:
            psi = np.array(lane.data, np.float32)
            psi = np.pad(psi, [(0, 0), (0, self._padded - psi.shape[1])])
            size = self._padded
            slot = owner[:, None] * options + np.arange(options)  # of each entry
            rows_of = np.broadcast_to(np.arange(len(slot))[:, None], slot.shape)
            heads = np.stack([slot, rows_of], axis=-1).astype(np.uint32).reshape(-1) * np.uint32(size)
            places = [slot[p.interface] * size, slot[p.interface]]
        rate, laws = _numbers(p.reward_rate).view(np.uint32), law.astype(np.uint32) * np.uint32(duration.shape[1])
        laws = np.broadcast_to(laws, rate.shape)  # one for all where durations are drawn with the next states
        pairs = np.stack([rate, laws, *(place.astype(np.uint32).reshape(-1) for place in places)], axis=-1)
        last = np.zeros(len(p.annuity)) if p.last_discount is None else p.last_discount
        paid = np.stack([_numbers(x) for x in (p.annuity, p.discount, last, last)], axis=-1)
        split, full, lump = env.joint or by_next, bool(p.mask.all()), _numbers(p.lump)
        lumps = 0 if p.lump is None else int(np.prod(np.shape(p.lump)[2:]))
        radius = np.float32(lane.radius if learner.project else -1)
        plain = full and lumps == 0 and radius < 0 and not (split or env.has_terminal)
        special = (
            env.joint,
            split,
            np.array(p.terminal),
            env.has_terminal,
            lump,
            lumps,
            np.array(p.mask).reshape(-1),
            full,
            radius,
        )
        return (
            at, blocks, choice.reshape(-1), successor.reshape(-1), packed(p.start).reshape(-1), rows.reshape(-1),
            duration.shape[1], pairs.reshape(-1), entry[:, 0].astype(np.uint32), options, successor.shape[1],
            _numbers(p.reward_noise)[0], paid.reshape(-1), learner.clock == "visits",
            None if plain else special, True if options == 2 else None, size, psi.reshape(-1), heads,
        )  # fmt: skip

    def _tabulated(self, lane: int, count: int) -> np.ndarray:
        """Step sizes at the clocks 0 to ``count`` and some more, by the JAX program."""
        size, known = self._steps[lane]
        if len(known) < count:
            firsts = range(len(known), count, STEP_BLOCK)
            more = [np.asarray(_steps(size, np.int32(first))) for first in firsts]
            known = _numbers(np.concatenate([known, *more]))
            self._steps[lane] = (size, known)
        return known

    def advance(self, chunks: int) -> bool:
        """Runs some chunks of every replica; False, with the state as it was, if a value would not be finite."""
        lanes, replicas = self.index.shape
        done, most = self.chunks * self.length, chunks * self.length
        count = done + most if self._learner.clock == "epoch" else int(self.seen.max(initial=0)) + most
        threads = usable_cores()
        side = self._kernels.SIDE_BY_SIDE
        share = -(-replicas * lanes // (4 * threads * side)) * side  # four shares for each core even out their pace

        def work(lane: int, first: int) -> bool:
            return bool(
                self._kernels.advance(
                    contraction() or None,
                    first,
                    min(first + share, replicas),
                    self._keys[lane],
                    self.chunks,
                    chunks,
                    self.length,
                    done,
                    *(array[lane] for array in (self.index, self.params, self.seen, self.high, self.low)),
                    *self._models[lane],
                    steps[lane],
                )  # fmt: skip
            )

        steps = [self._tabulated(lane, max(count, 1)) for lane in range(lanes)]
        places = [(lane, first) for lane in range(lanes) for first in range(0, replicas, share)]
        if len(places) == 1 or threads == 1:
            fine = all([work(*place) for place in places])
        else:
            with ThreadPoolExecutor(threads) as pool:
                fine = all(list(pool.map(lambda place: work(*place), places)))
        if fine:
            self.chunks += chunks
        else:  # once in a run at most: learning it all again costs less than a copy before every call
            done = self.chunks
            self._begin()
            fine = not self.advance(done)
        return fine

    def values(self, copy: bool) -> tuple[np.ndarray, CompensatedSum]:
        """Parameters, copied where ``advance`` is still to come, and their total, which changes with it."""
        shape = (*self.index.shape, *self._shape[:-1], self._padded)
        whole = (array.reshape(shape) for array in (self.params, self.high, self.low))
        params, high, low = (array[..., : self._shape[-1]] for array in whole)
        return np.array(params, order="C", copy=copy or None), CompensatedSum(high, low)

    def resumed(self, start: Any, lanes: Sequence[Inputs]) -> Any:
        """The ``RunState`` with which XLA takes over from the one before the first handoff."""
        old, (params, total) = start.learner, self.values(False)
        found, index = [jax.tree.map(np.asarray, lane.env_params) for lane in lanes], self.index.astype(np.int32)
        agent, interface = (
            np.stack([table[i] for table, i in zip(tables, index, strict=True)])
            for tables in ([p.agent for p in found], [p.interface for p in found])
        )
        mask = np.stack([p.mask[z] for p, z in zip(found, interface, strict=True)])
        learner = old._replace(
            params=params,
            opt_state=old.opt_state._replace(count=self.seen.astype(np.int32).reshape(*index.shape, *self._shape[:2])),
            env_state=old.env_state._replace(index=index),
            epoch=np.full(index.shape, self.chunks * self.length, np.int32),
            handoff=old.handoff._replace(agent=agent, interface=interface, mask=mask),
        )
        return start._replace(learner=learner, total=total, chunk=np.full(index.shape, self.chunks, np.int32))
