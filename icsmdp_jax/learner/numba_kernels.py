"""The loops of ``numba_executor``: handoffs of IC-Q on one core, with the bits of the XLA program (D9, D10).

The behaviour of these runs is fixed, so that a trajectory depends on no value. A block of handoffs passes four short
loops: random words (vectorised), states and options (a chain, a few replicas side by side), rewards, and learning.
Unsigned indices spare the test for negative ones. Where XLA contracts a product and a sum into one rounding
(``fused``), so does ``fma`` here; nothing else may be contracted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

SIDE_BY_SIDE = 16
BLOCK = 32
u32, u64, f32 = np.uint32, np.uint64, np.float32

# Compiled code belongs to the user, not into the package; other functions of the process keep their own place.
_config: Any = numba.config
_elsewhere = _config.CACHE_DIR
if not _elsewhere:
    _config.CACHE_DIR = os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(Path.home(), ".cache"), "icsmdp_jax", "numba"
    )
kernel = njit(nogil=True, cache=True, error_model="numpy")
scalar = njit(nogil=True, cache=True, error_model="numpy", forceinline=True)


def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a b + c`` of float32, rounded once."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), build


fma: Any = intrinsic(_fma)


@scalar
def rotated(x: Any, by: int) -> Any:
    """Bits of a uint32 rotated to the left by a number of places."""
    return u32(u32(x << u32(by)) | u32(x >> u32(32 - by)))


@scalar
def four_rounds(x: Any, y: Any, a: int, b: int, c: int, d: int) -> Any:
    """Four rounds of mixing, between which the other word is turned so far."""
    x = u32(x + y)
    y = u32(rotated(y, a) ^ x)
    x = u32(x + y)
    y = u32(rotated(y, b) ^ x)
    x = u32(x + y)
    y = u32(rotated(y, c) ^ x)
    x = u32(x + y)
    return x, u32(rotated(y, d) ^ x)


@kernel
def threefry(k0: Any, k1: Any, first: Any, second: Any, count: int, one: Any, other: Any) -> None:
    """Threefry-2x32 with 20 rounds of counters ``(first + i, second)``, as JAX counts them.

    Both words of a block have an array of their own. Every uint32 is said to be one: only so is this vector code.
    """
    k2 = u32(u32(k0 ^ k1) ^ u32(0x1BD11BDA))
    for i in range(count):
        x, y = u32(u32(first + u32(i)) + k0), u32(second + k1)
        x, y = four_rounds(x, y, 13, 15, 26, 6)
        x, y = four_rounds(u32(x + k1), u32(y + u32(k2 + u32(1))), 17, 29, 16, 24)
        x, y = four_rounds(u32(x + k2), u32(y + u32(k0 + u32(2))), 13, 15, 26, 6)
        x, y = four_rounds(u32(x + k0), u32(y + u32(k1 + u32(3))), 17, 29, 16, 24)
        x, y = four_rounds(u32(x + k1), u32(y + u32(k2 + u32(4))), 13, 15, 26, 6)
        one[i] = u32(x + k2)
        other[i] = u32(y + u32(k0 + u32(5)))


@scalar
def cell_of(word: Any, row: Any, count: Any) -> Any:
    """Index of an alias cell, and the position in it (``split_word``)."""
    product = u64(word) * count
    return row * count + (product >> u64(32)), product & u64(0xFFFFFFFF)


@scalar
def side_of(cell: Any, position: Any) -> Any:
    """Outcome of a packed cell: threshold in 32 bits, then lower and upper code in 16 each; no branch."""
    below = (position - (cell >> u64(32))) >> u64(63)
    return (cell >> (below << u64(4))) & u64(0xFFFF)


@kernel
def follow(
    here: Any, lanes: int, count: int, words: Any, stride: int, blocks: int, chooses: int, moves: int, restarts: int,
    behaviour: Any, successor: Any, start: Any, interface: Any, states: int, split: bool, terminal: Any, ends: bool,
    options: int, choice: int, outcomes: int, row: Any, code: Any,
) -> None:  # fmt: skip
    """Pairs (state, option) and outcomes of ``count`` handoffs of ``lanes`` replicas; their states ``here`` move."""
    o, n, c, s = u64(options), u64(choice), u64(outcomes), u64(states)
    for t in range(count):
        word, place = u64(t) * u64(blocks), u64(t)
        for g in range(lanes):
            state = here[g]
            cell, position = cell_of(words[word + u64(chooses)], u64(interface[state]), n)
            both = state * o + side_of(behaviour[cell], position)
            cell, position = cell_of(words[word + u64(moves)], both, c)
            found = side_of(successor[cell], position)
            row[place], code[place] = both, found
            entered = found % s if split else found
            if ends and terminal[entered]:
                cell, position = cell_of(words[word + u64(restarts)], u64(0), s)
                entered = side_of(start[cell], position)
            here[g] = entered
            word += u64(stride)
            place += u64(BLOCK)


@kernel
def pay(
    fused: bool, count: int, words: Any, blocks: int, lasts: int, shakes: int, duration: Any, law: Any, durations: int,
    states: int, joint: bool, split: bool, rate: Any, noise: Any, annuity: Any, discount: Any, interface: Any,
    terminal: Any, ends: bool, lump: Any, lumps: int, last_discount: Any, row: Any, code: Any, reward: Any, passed: Any,
    final: Any,
) -> None:  # fmt: skip
    """Rewards, discounts and next interfaces of one replica's segments (D2), ``segment`` of ``envs.tabular``."""
    plain = not split and lumps == 0 and not ends
    m, s, word = u64(durations), u64(states), u64(0)
    for t in range(count):
        both, entered = u64(row[t]), u64(code[t])
        unit = f32(f32(f32(np.int32(words[word + u64(shakes)] >> u32(9))) + f32(0.5)) * f32(2.0**-22)) - f32(1)
        extra = f32(noise * unit)
        place = u64(0)
        if split:
            place, entered = entered // s, entered % s
        tau = place
        if not joint:
            cell, position = cell_of(words[word + u64(lasts)], u64(law[both]), m)
            tau = side_of(duration[cell], position)
        r = fma(rate[both], annuity[tau], extra) if fused else f32(rate[both] * annuity[tau]) + extra
        d = discount[tau]
        if not plain:
            if lumps > 0:
                paid = lump[both * u64(lumps) + (u64(0) if lumps == 1 else (entered if joint else place))]
                r = fma(last_discount[tau], paid, r) if fused else r + f32(last_discount[tau] * paid)
            d = f32(0) if ends and terminal[entered] else d
        reward[t], passed[t], final[t] = r, d, interface[entered]
        word += u64(blocks)


@kernel
def learn_tables(
    fused: bool, first: int, lanes: int, count: int, left: int, epoch: int, visits: bool, steps: Any, options: int,
    mask: Any, full: bool, radius: Any, entry: Any, row: Any, final: Any, reward: Any, passed: Any, params: Any,
    seen: Any, weighted: Any,
) -> bool:  # fmt: skip
    """Offer, absorb, and the chunk's accumulator for tables; False as soon as a step is not finite."""
    o = u64(options)
    for t in range(count):
        remaining = f32(left - t)
        for g in range(lanes):
            r = u64(first) + u64(g)
            at = u64(g) * u64(BLOCK) + u64(t)
            there, i = u64(final[at]) * o, u64(entry[row[at]])
            top = f32(-np.inf)
            if full and options == 2:
                top = max(params[r, there + u64(1)], params[r, there])
            elif full:
                top = params[r, there]
                for j in range(u64(1), o):
                    top = max(params[r, there + j], top)
            else:
                some = False
                for j in range(o):
                    if mask[there + j]:
                        some, top = True, max(params[r, there + j], top)
                top = top if some else f32(0)
            y = fma(passed[at], top, reward[at]) if fused else reward[at] + f32(passed[at] * top)
            old, k = params[r, i], seen[r, i]
            step = f32(steps[u64(k) if visits else u64(epoch + t)] * f32(y - old))
            if not abs(step) < f32(np.inf):
                return False
            seen[r, i] = u32(k + u32(1))
            if radius < 0:
                new = f32(old + step)
                params[r, i] = new
                weighted[g, i] += f32(remaining * f32(new - old))
                continue
            begin = i - i % o  # the projection goes over all options of the slot
            for j in range(begin, begin + o):
                old = params[r, j]
                moved = f32(old + step) if j == i else old
                norm = np.sqrt(f32(moved * moved))
                shrink = f32(radius / max(norm, f32(1e-30))) if norm > radius else f32(1)
                params[r, j] = f32(moved * shrink)
                change = fma(moved, shrink, -old) if fused else f32(params[r, j] - old)
                weighted[g, j] += f32(remaining * change)
    return True


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def dot(theta: Any, at: Any, psi: Any, row: Any, size: Any) -> Any:
    """Product of one option's parameters and one row of features, summed in the order that is fastest."""
    total = f32(0)
    for f in range(size):
        total += theta[at + f] * psi[row + f]
    return total


@kernel
def learn_linear(
    fused: bool, count: int, left: int, epoch: int, visits: bool, steps: Any, options: int, mask: Any, radius: Any,
    size: int, psi: Any, owner: Any, entry: Any, row: Any, final: Any, reward: Any, passed: Any, theta: Any, seen: Any,
    weighted: Any,
) -> bool:  # fmt: skip
    """The same for linear features ``psi [Z, size]``, parameters ``[agents, O, size]``."""
    o, p = u64(options), u64(size)
    for t in range(count):
        z, option = u64(entry[row[t]]) // o, u64(row[t]) % o
        there, i = u64(final[t]), u64(owner[z]) * o + option
        top, some = f32(-np.inf), False
        for j in range(o):
            if mask[there * o + j]:
                v, some = dot(theta, (u64(owner[there]) * o + j) * p, psi, there * p, p), True
                top = v if v > top else top
        top = top if some else f32(0)
        y = fma(passed[t], top, reward[t]) if fused else reward[t] + f32(passed[t] * top)
        k = seen[i]
        step = f32(steps[u64(k) if visits else u64(epoch + t)] * f32(y - dot(theta, i * p, psi, z * p, p)))
        if not abs(step) < f32(np.inf):
            return False
        remaining, square = f32(left - t), f32(0)
        seen[i] = u32(k + u32(1))
        if radius < 0:
            for f in range(p):
                old = theta[i * p + f]
                new = fma(step, psi[z * p + f], old) if fused else old + f32(step * psi[z * p + f])
                theta[i * p + f] = new
                weighted[i * p + f] += f32(remaining * f32(new - old))
            continue
        for f in range(p):
            new = theta[i * p + f] + f32(step * psi[z * p + f])
            square += new * new
        norm = np.sqrt(square)
        shrink = f32(radius / max(norm, f32(1e-30))) if norm > radius else f32(1)
        for f in range(p):
            old = theta[i * p + f]
            new = f32(f32(old + f32(step * psi[z * p + f])) * shrink)
            theta[i * p + f] = new
            weighted[i * p + f] += f32(remaining * f32(new - old))
    return True


@kernel
def close_chunk(fused: bool, length: int, start: Any, weighted: Any, high: Any, low: Any) -> None:
    """The mean of a chunk's iterates, added to the compensated total (``averages``); XLA divides by a product."""
    share = f32(f32(1) / f32(length))
    for i in range(len(start)):
        mean = fma(weighted[i], share, start[i]) if fused else start[i] + f32(weighted[i] * share)
        one = high[i] + mean
        shadow = one - high[i]
        two = low[i] + ((high[i] - (one - shadow)) + (mean - shadow))
        total = one + two
        shadow = total - one
        high[i], low[i] = total, (one - (total - shadow)) + (two - shadow)


@kernel
def advance(
    fused: bool, first: int, last: int, keys: Any, chunk: int, chunks: int, length: int, epoch: int, state: Any,
    params: Any, seen: Any, high: Any, low: Any, at: Any, blocks: int, behaviour: Any, successor: Any, start: Any,
    duration: Any, law: Any, durations: int, interface: Any, entry: Any, states: int, joint: bool, split: bool,
    terminal: Any, ends: bool, options: int, choice: int, outcomes: int, rate: Any, noise: Any, annuity: Any,
    discount: Any, lump: Any, lumps: int, last_discount: Any, mask: Any, full: bool, visits: bool, steps: Any,
    radius: Any, size: int, psi: Any, owner: Any,
) -> bool:  # fmt: skip
    """``chunks`` chunks of replicas ``first`` to ``last`` of one lane, in place; False if values are not finite.

    ``at`` says where the words of a handoff are: duration, next state, noise, restart, option. ``entry [S O]`` is the
    place of a pair (state, option) in a table. Tables have ``size`` 0, a run without projection ``radius`` -1.
    """
    half, many = BLOCK * blocks, SIDE_BY_SIDE * BLOCK
    words = np.empty(SIDE_BY_SIDE * 2 * half, u32)
    row, code, final = np.empty(many, u32), np.empty(many, u32), np.empty(many, u32)
    reward, passed = np.empty(many, np.float32), np.empty(many, np.float32)
    inner, here = np.empty((SIDE_BY_SIDE, 2), u32), np.empty(SIDE_BY_SIDE, u64)
    before = np.empty((SIDE_BY_SIDE, params.shape[1]), np.float32)
    weighted = np.empty((SIDE_BY_SIDE, params.shape[1]), np.float32)
    for r in range(first, last, SIDE_BY_SIDE):
        lanes = min(SIDE_BY_SIDE, last - r)
        here[:lanes] = state[r : r + lanes]
        for c in range(chunks):
            for g in range(lanes):
                threefry(keys[r + g, 0], keys[r + g, 1], u32(0), u32(chunk + c), 1, inner[g, :1], inner[g, 1:])
                before[g] = params[r + g]
                weighted[g] = 0
            for t in range(0, length, BLOCK):
                count, left, now = min(BLOCK, length - t), length - 1 - t, epoch + c * length + t
                for g in range(lanes):
                    one = words[2 * g * half : (2 * g + 1) * half]
                    other = words[(2 * g + 1) * half : (2 * g + 2) * half]
                    threefry(inner[g, 0], inner[g, 1], u32(t * blocks), u32(0), count * blocks, one, other)
                follow(
                    here, lanes, count, words, 2 * half, blocks, at[4], at[1], at[3], behaviour, successor, start,
                    interface, states, split, terminal, ends, options, choice, outcomes, row, code,
                )  # fmt: skip
                for g in range(lanes):
                    own = slice(g * BLOCK, (g + 1) * BLOCK)
                    pay(
                        fused, count, words[2 * g * half :], blocks, at[0], at[2], duration, law, durations, states,
                        joint, split, rate, noise, annuity, discount, interface, terminal, ends, lump, lumps,
                        last_discount, row[own], code[own], reward[own], passed[own], final[own],
                    )  # fmt: skip
                fine = True
                if size == 0:
                    fine = learn_tables(
                        fused, r, lanes, count, left, now, visits, steps, options, mask, full, radius, entry, row,
                        final, reward, passed, params, seen, weighted,
                    )  # fmt: skip
                for g in range(lanes if size > 0 else 0):
                    own = slice(g * BLOCK, (g + 1) * BLOCK)
                    fine = fine and learn_linear(
                        fused, count, left, now, visits, steps, options, mask, radius, size, psi, owner, entry,
                        row[own], final[own], reward[own], passed[own], params[r + g], seen[r + g], weighted[g],
                    )  # fmt: skip
                if not fine:
                    return False
            for g in range(lanes):
                close_chunk(fused, length, before[g], weighted[g], high[r + g], low[r + g])
        for g in range(lanes):
            state[r + g] = here[g]
    return True


_config.CACHE_DIR = _elsewhere
