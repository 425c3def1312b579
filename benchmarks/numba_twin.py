"""How does IC-Q on a CPU compare with a hand-written Numba program: alias tables, xoshiro, one replica after the other?

The twin is what one would write who needs only this learner: it draws two 64-bit words a handoff
from xoshiro256++, has alias cells of eight bytes, steps of each entry's own count, averages of all iterates and a
thread for each core. Equal work, other random numbers.
It runs twice, with its steps by their formula and with tabulated ones, next to the two executors of ``train``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numba import njit

from benchmarks import run
from benchmarks.common import Record, Size, bench_model, race, record
from benchmarks.learner_throughput import learners
from icsmdp_jax.devices.cores import usable_cores
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.numba_executor import packed
from icsmdp_jax.learner.train import CHUNK, train

NAME = "numba_twin"
TWIN, TABULATED = "Numba twin", "Numba twin, tabulated steps"
EXECUTORS = ("numba", "xla")
u32, u64, f32 = np.uint32, np.uint64, np.float32
scalar = njit(nogil=True, error_model="numpy", forceinline=True)


@scalar
def turned(x: Any, by: int) -> Any:
    """Bits of a uint64 rotated to the left by a number of places."""
    return u64(u64(x << u64(by)) | u64(x >> u64(64 - by)))


@scalar
def xoshiro(a: Any, b: Any, c: Any, d: Any) -> Any:
    """xoshiro256++ (Blackman and Vigna): a word and the next state."""
    word = u64(turned(u64(a + d), 23) + a)
    moved = u64(b << u64(17))
    c, d = u64(c ^ a), u64(d ^ b)
    b, a = u64(b ^ c), u64(a ^ d)
    return word, a, b, u64(c ^ moved), turned(d, 45)


@scalar
def cell_of(word: Any, row: Any, count: Any) -> Any:
    """Index of an alias cell, and the position in it."""
    product = u64(word) * count
    return row * count + (product >> u64(32)), product & u64(0xFFFFFFFF)


@scalar
def side_of(cell: Any, position: Any) -> Any:
    """Outcome of a packed cell: threshold in 32 bits, then lower and upper code in 16 each; no branch."""
    below = (position - (cell >> u64(32))) >> u64(63)
    return (cell >> (below << u64(4))) & u64(0xFFFF)


@scalar
def step_of(count: Any, scale: Any, rescale: Any, power: Any) -> Any:
    """``min(1, scale (1 + rescale n)^-power)``."""
    return min(f32(1), f32(scale * f32(1 + rescale * f32(count)) ** f32(-power)))


@njit(nogil=True, error_model="numpy")
def tables(
    first: int, last: int, handoffs: int, seeds: Any, state: Any, average: Any, behaviour: Any, successor: Any,
    duration: Any, interface: Any, owner: Any, rate: Any, annuity: Any, discount: Any, noise: Any, steps: Any,
    formula: bool, scale: Any, rescale: Any, power: Any, options: int, outcomes: int, durations: int, psi: Any,
    size: int,
) -> None:  # fmt: skip
    """Tabular IC-Q of replicas ``first`` to ``last``; ``average [replicas, Z O]`` float64."""
    o, c, m = u64(options), u64(outcomes), u64(durations)
    n = average.shape[1]
    q, seen, weighted = np.empty(n, np.float32), np.empty(n, np.uint32), np.empty(n, np.float64)
    for r in range(first, last):
        w, x, y, v = seeds[r, 0], seeds[r, 1], seeds[r, 2], seeds[r, 3]
        q[:], seen[:], weighted[:] = 0, 0, 0
        s = u64(state[r])
        for t in range(handoffs):
            one, w, x, y, v = xoshiro(w, x, y, v)
            other, w, x, y, v = xoshiro(w, x, y, v)
            z = u64(interface[s])
            cell, position = cell_of(u32(one), z, o)
            option = side_of(behaviour[cell], position)
            both = s * o + option
            cell, position = cell_of(u32(one >> u64(32)), both, c)
            s = side_of(successor[cell], position)
            cell, position = cell_of(u32(other), both, m)
            tau = side_of(duration[cell], position)
            unit = f32(np.int32(other >> u64(40))) * f32(2.0**-23) - f32(1)
            reward = rate[both] * annuity[tau] + noise * unit
            there = u64(interface[s]) * o
            top = q[there]
            for j in range(u64(1), o):
                top = max(q[there + j], top)
            i = z * o + option
            k = seen[i]
            alpha = step_of(k, scale, rescale, power) if formula else steps[k]
            change = alpha * (reward + discount[tau] * top - q[i])
            seen[i] += u32(1)
            q[i] += change
            weighted[i] += np.float64(change) * (handoffs - 1 - t)
        for i in range(n):
            average[r, i] = weighted[i] / handoffs


@njit(nogil=True, error_model="numpy", fastmath=True)
def linear(
    first: int, last: int, handoffs: int, seeds: Any, state: Any, average: Any, behaviour: Any, successor: Any,
    duration: Any, interface: Any, owner: Any, rate: Any, annuity: Any, discount: Any, noise: Any, steps: Any,
    formula: bool, scale: Any, rescale: Any, power: Any, options: int, outcomes: int, durations: int, psi: Any,
    size: int,
) -> None:  # fmt: skip
    """Linear IC-Q of replicas ``first`` to ``last``; ``average [replicas, agents O size]`` float64."""
    o, c, m, p = u64(options), u64(outcomes), u64(durations), u64(size)
    n = average.shape[1]
    theta, weighted = np.empty(n, np.float32), np.empty(n, np.float32)
    seen = np.empty(n // size, np.uint32)
    for r in range(first, last):
        w, x, y, v = seeds[r, 0], seeds[r, 1], seeds[r, 2], seeds[r, 3]
        theta[:], seen[:], weighted[:] = 0, 0, 0
        s = u64(state[r])
        for t in range(handoffs):
            one, w, x, y, v = xoshiro(w, x, y, v)
            other, w, x, y, v = xoshiro(w, x, y, v)
            z = u64(interface[s])
            cell, position = cell_of(u32(one), z, o)
            option = side_of(behaviour[cell], position)
            both = s * o + option
            cell, position = cell_of(u32(one >> u64(32)), both, c)
            s = side_of(successor[cell], position)
            cell, position = cell_of(u32(other), both, m)
            tau = side_of(duration[cell], position)
            unit = f32(np.int32(other >> u64(40))) * f32(2.0**-23) - f32(1)
            reward = rate[both] * annuity[tau] + noise * unit
            there = u64(interface[s])
            top = f32(-np.inf)
            for j in range(o):
                at, value = (u64(owner[there]) * o + j) * p, f32(0)
                for f in range(p):
                    value += theta[at + f] * psi[there * p + f]
                top = max(value, top)
            i = u64(owner[z]) * o + option
            value = f32(0)
            for f in range(p):
                value += theta[i * p + f] * psi[z * p + f]
            k = seen[i]
            alpha = step_of(k, scale, rescale, power) if formula else steps[k]
            step = f32(alpha * (reward + discount[tau] * top - value))
            seen[i] += u32(1)
            for f in range(p):
                change = step * psi[z * p + f]
                theta[i * p + f] += change
                weighted[i * p + f] += change * f32(handoffs - 1 - t)
        for i in range(n):
            average[r, i] = weighted[i] / handoffs


def twin(learner: Learner, inputs: Inputs, replicas: int, most: int, formula: bool) -> Callable[[int], np.ndarray]:
    """The twin of a learner, a function of the handoffs (at most ``most``): averages ``[replicas, n]``."""
    p = jax.tree.map(np.array, inputs.env_params)
    assert not p.terminal.any() and p.mask.all() and p.lump is None, "the twin knows plain models only"
    threads = usable_cores()
    owner = np.zeros(len(p.mask), np.uint32)
    owner[p.interface] = p.agent
    plain = learner.values.name == "tabular"
    psi = np.zeros((1, 0), np.float32) if plain else np.array(inputs.data, np.float32)
    n = p.mask.size if plain else (int(p.agent.max()) + 1) * p.mask.shape[1] * psi.shape[1]
    model = (
        *(packed(law).reshape(-1) for law in (inputs.behaviour, p.successor, p.duration)),
        p.interface.astype(np.uint32), owner,
        p.reward_rate.reshape(-1), p.annuity, p.discount, np.float32(p.reward_noise),
        np.array(jax.jit(inputs.step_size.at)(jnp.arange(most, dtype=jnp.int32))), formula,
        *(np.float32(x) for x in inputs.step_size[:3]), p.mask.shape[1],
        p.successor.threshold.shape[-1], p.duration.threshold.shape[-1], psi.reshape(-1), psi.shape[1],
    )  # fmt: skip
    generator = np.random.default_rng(0)
    seeds = generator.integers(1, 2**63, (replicas, 4), dtype=np.uint64)
    state = generator.integers(0, len(p.agent), replicas).astype(np.uint32)
    function = tables if plain else linear

    def averages(handoffs: int) -> np.ndarray:
        average = np.empty((replicas, n))
        share = -(-replicas // (4 * threads))

        def work(first: int) -> None:
            function(first, min(first + share, replicas), handoffs, seeds, state, average, *model)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(0, replicas, share)))
        return average

    return averages


def measure(size: Size) -> Iterator[Record]:
    """Handoffs per second of both executors and of each twin, at each number of replicas; whole calls of ``train``."""
    known = bench_model()
    repetitions = size.pick(1, 3, 7)
    key = jax.random.key(0)
    for kind in ("tabular", "linear"):
        learner, inputs = learners(known)[kind]
        most = size.pick(0, 24_000_000, 64_000_000) // (1 if kind == "tabular" else 2)
        for replicas in size.pick((8,), (64, 1024), (64, 1024, 8192)):
            runs: dict[str, Callable[[], Any]] = {}
            work = {}
            for name in (*EXECUTORS, TWIN, TABULATED):
                samples = CHUNK * max(1, most // (CHUNK * replicas * (16 if name == "xla" else 1)))
                work[name] = samples * replicas
                if name in EXECUTORS:
                    runs[name] = partial(train, learner, [inputs], key, replicas, [samples], executor=name)
                else:
                    runs[name] = partial(twin(learner, inputs, replicas, samples, name == TWIN), samples)
                runs[name]()
            times = race(runs, repetitions)
            for name, timing in times.items():
                for other in [None] if name == TWIN else [TWIN] if name != "numba" else [TWIN, TABULATED]:
                    base = None if other is None else (other, times[other], work[other])
                    case = {"learner": kind, "replicas": replicas}
                    facts = {"handoffs": work[name], "numba": metadata.version("numba")}
                    yield record(NAME, case, name, timing, base, work[name], "handoffs/s", **facts)


if __name__ == "__main__":
    run.main([NAME, *sys.argv[1:]])
