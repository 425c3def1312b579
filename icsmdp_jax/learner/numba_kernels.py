"""The loops of ``numba_executor``: handoffs of IC-Q on one core, with the bits of the XLA program (D9, D10).

The behaviour of these runs is fixed, so a trajectory depends on no value. A block of handoffs of a few replicas
passes three short loops: random words (vectorised), states and options (chains of look-ups, side by side), and rewards
with learning. Unsigned indices spare the test for negative ones. Where XLA contracts a product and a sum into one
rounding (``fused``), so does ``fma`` here; nothing else may be contracted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from icsmdp_jax.learner.numba_primitives import as_u16, as_u32, dot, float_of, fma, kernel, move, owning, scalar

SIDE_BY_SIDE = 8
BLOCK = 64
u32, u64, f32 = np.uint32, np.uint64, np.float32


@scalar
def mixed(a: Any, b: Any, c: Any, d: Any, p: Any, q: Any, r: Any, s: Any, by: int) -> Any:
    """One round of four blocks: sums, and the other words turned so far and mixed in."""
    up, down = u32(by), u32(32 - by)
    a, b, c, d = u32(a + p), u32(b + q), u32(c + r), u32(d + s)
    i, j, k, m = u32(p << up), u32(q << up), u32(r << up), u32(s << up)
    p, q, r, s = u32(p >> down), u32(q >> down), u32(r >> down), u32(s >> down)
    p, q, r, s = u32(p | i), u32(q | j), u32(r | k), u32(s | m)
    return a, b, c, d, u32(p ^ a), u32(q ^ b), u32(r ^ c), u32(s ^ d)


@scalar
def rounds(
    a: Any, b: Any, c: Any, d: Any, p: Any, q: Any, r: Any, s: Any, by: int, then: int, third: int, last: int,
    x: Any, y: Any,
) -> Any:  # fmt: skip
    """Four rounds of four blocks, and a part of the key added to both words."""
    a, b, c, d, p, q, r, s = mixed(a, b, c, d, p, q, r, s, by)
    a, b, c, d, p, q, r, s = mixed(a, b, c, d, p, q, r, s, then)
    a, b, c, d, p, q, r, s = mixed(a, b, c, d, p, q, r, s, third)
    a, b, c, d, p, q, r, s = mixed(a, b, c, d, p, q, r, s, last)
    return u32(a + x), u32(b + x), u32(c + x), u32(d + x), u32(p + y), u32(q + y), u32(r + y), u32(s + y)


@kernel
def threefry(k0: Any, k1: Any, first: Any, second: Any, count: int, one: Any, other: Any) -> None:
    """Threefry-2x32 with 20 rounds of counters ``(first + i, second)``, as JAX counts them; up to three too many.

    Each word of a block has its own array, and every uint32 is declared as one: only then is this vector code.
    A round waits for the one before it, so four quarters of the counters take turns.
    """
    h = (count + 3) // 4
    k2 = u32(u32(k0 ^ k1) ^ u32(0x1BD11BDA))
    y1, y2, y3, y4, y5 = u32(k2 + u32(1)), u32(k0 + u32(2)), u32(k1 + u32(3)), u32(k2 + u32(4)), u32(k0 + u32(5))
    begin = u32(first + k0)
    for i in range(h):
        a, b, c, d = (
            u32(u32(i) + begin),
            u32(u32(i + h) + begin),
            u32(u32(i + 2 * h) + begin),
            u32(u32(i + 3 * h) + begin),
        )
        p = q = r = s = u32(second + k1)
        a, b, c, d, p, q, r, s = rounds(a, b, c, d, p, q, r, s, 13, 15, 26, 6, k1, y1)
        a, b, c, d, p, q, r, s = rounds(a, b, c, d, p, q, r, s, 17, 29, 16, 24, k2, y2)
        a, b, c, d, p, q, r, s = rounds(a, b, c, d, p, q, r, s, 13, 15, 26, 6, k0, y3)
        a, b, c, d, p, q, r, s = rounds(a, b, c, d, p, q, r, s, 17, 29, 16, 24, k1, y4)
        a, b, c, d, p, q, r, s = rounds(a, b, c, d, p, q, r, s, 13, 15, 26, 6, k2, y5)
        one[i], one[i + h], one[i + 2 * h], one[i + 3 * h] = a, b, c, d
        other[i], other[i + h], other[i + 2 * h], other[i + 3 * h] = p, q, r, s


@scalar
def draw(cells: Any, first: Any, word: Any, count: Any) -> Any:
    """Outcome of the law whose ``count`` packed cells begin at ``first``, by one word (``split_word``); no branch."""
    product = u64(word) * count
    cell = first + (product >> u64(32))
    below = u64(1) if u32(product) < as_u32(cells, u64(2) * cell + u64(1)) else u64(0)
    return u64(as_u16(cells, u64(4) * cell + below))


@kernel
def follow(
    here: Any, count: int, words: Any, stride: int, blocks: int, chooses: int, moves: int, restarts: int,
    behaviour: Any, successor: Any, start: Any, begins: Any, special: Any, options: int, outcomes: int, pair: Any,
    begin: Any, code: Any,
) -> None:  # fmt: skip
    """Pairs (state, option), entries where interfaces begin, and outcomes of ``count`` handoffs of some replicas.

    Their states ``here`` move. ``pair``, ``begin`` and ``code`` have handoffs in rows and replicas in columns.
    """
    o, c, s, by = u64(options), u64(outcomes), u64(len(begins)), u64(stride)
    choice, onward, again, place = u64(chooses), u64(moves), u64(restarts), u64(0)
    for _ in range(count):
        for replica in range(SIDE_BY_SIDE):
            g = u64(replica)
            state = u64(here[g])
            first = begins[state]
            both = state * o + draw(behaviour, u64(first), words[choice + by * g], o)
            found = draw(successor, both * c, words[onward + by * g], c)
            pair[place + g], begin[place + g] = both, first
            if special is not None:
                _, split, terminal, ends = special[:4]
                code[place + g] = found
                found = found % s if split else found
                if ends and terminal[found]:
                    found = draw(start, u64(0), words[again + by * g], s)
            here[g] = found
        place += u64(SIDE_BY_SIDE)
        choice, onward, again = choice + u64(blocks), onward + u64(blocks), again + u64(blocks)
    for replica in range(SIDE_BY_SIDE):
        begin[place + u64(replica)] = begins[here[u64(replica)]]


@scalar
def sum_of(fused: Any, a: Any, b: Any, c: Any) -> Any:
    """``a b + c``, rounded once, or twice where ``fused`` is None."""
    return f32(a * b) + c if fused is None else fma(a, b, c)


@scalar
def segment(
    fused: Any, both: Any, at: Any, last: Any, shake: Any, begin: Any, code: Any, pairs: Any, duration: Any,
    durations: Any, paid: Any, noise: Any, begins: Any, special: Any,
) -> Any:  # fmt: skip
    """Reward, discount and the entry where the next interface begins (D2), ``segment`` of ``envs.tabular``."""
    unit = f32(f32(f32(np.int32(shake >> u32(9))) + f32(0.5)) * f32(2.0**-22)) - f32(1)
    extra, rate, law = f32(noise * unit), float_of(pairs[both * u64(4)]), u64(pairs[both * u64(4) + u64(1)])
    if special is None:
        tau = draw(duration, law, last, durations) * u64(4)
        there = u64(begin[at + u64(SIDE_BY_SIDE)])  # no restart in between, the next handoff begins there
        return sum_of(fused, rate, paid[tau], extra), paid[tau + u64(1)], there
    joint, split, terminal, ends, lump, lumps = special[:6]
    place, entered = u64(0), u64(code[at])
    if split:
        place, entered = entered // u64(len(begins)), entered % u64(len(begins))
    tau = (place if joint else draw(duration, law, last, durations)) * u64(4)
    r, d = sum_of(fused, rate, paid[tau], extra), paid[tau + u64(1)]
    if lumps > 0:
        bonus = lump[both * u64(lumps) + (u64(0) if lumps == 1 else (entered if joint else place))]
        r = sum_of(fused, paid[tau + u64(2)], bonus, r)
    return r, f32(0) if ends and terminal[entered] else d, u64(begins[entered])


@kernel
def learn_tables(
    fused: Any, first: int, lanes: int, count: int, left: int, epoch: int, visits: bool, steps: Any, options: int,
    params: Any, seen: Any, weighted: Any, entries: int, pair: Any, begin: Any, code: Any, words: Any, stride: int,
    blocks: int, lasts: int, shakes: int, pairs: Any, duration: Any, durations: int, paid: Any, noise: Any,
    begins: Any, special: Any, two: Any,
) -> None:  # fmt: skip
    """Pay, offer, absorb, and the chunk's accumulator for tables."""
    o, by, n, base = u64(options), u64(stride), u64(entries), u64(first) * u64(entries)
    last, shake, place = u64(lasts), u64(shakes), u64(0)
    for t in range(count):
        remaining = f32(left - t)
        for replica in range(lanes):
            g = u64(replica)
            both = u64(pair[place + g])
            r, d, there = segment(
                fused, both, place + g, words[last + by * g], words[shake + by * g], begin, code, pairs, duration,
                u64(durations), paid, noise, begins, special,
            )  # fmt: skip
            at = base + n * g + there
            if special is None and two is not None:
                top = max(params[at + u64(1)], params[at])
            elif special is None:
                top = params[at]
                for j in range(u64(1), o):
                    top = max(params[at + j], top)
            else:
                mask, full, radius = special[6:]
                top, some = f32(-np.inf), False
                for j in range(o):
                    if full or mask[there + j]:
                        some, top = True, max(params[at + j], top)
                top = top if some else f32(0)
            y = sum_of(fused, d, top, r)
            own = u64(pairs[both * u64(4) + u64(2)])
            i, w = base + n * g + own, n * g + own
            old, k = params[i], seen[i]
            step = f32(steps[u64(k) if visits else u64(epoch + t)] * f32(y - old))
            seen[i] = u32(k + u32(1))
            if special is None or radius < 0:
                new = f32(old + step)
                params[i] = new
                weighted[w] += f32(remaining * f32(new - old))
                continue
            for j in range(own - own % o, own - own % o + o):  # the projection goes over all options of the slot
                i = base + n * g + j
                old = params[i]
                moved = f32(old + step) if j == own else old
                norm = np.sqrt(f32(moved * moved))
                shrink = f32(radius / max(norm, f32(1e-30))) if norm > radius else f32(1)
                params[i] = f32(moved * shrink)
                weighted[n * g + j] += f32(remaining * f32(sum_of(fused, moved, shrink, -old)))
        place += u64(SIDE_BY_SIDE)
        last, shake = last + u64(blocks), shake + u64(blocks)


@kernel
def learn_linear(
    fused: Any, first: int, lanes: int, count: int, left: int, epoch: int, visits: bool, steps: Any, options: int,
    size: int, psi: Any, heads: Any, params: Any, seen: Any, weighted: Any, entries: int, pair: Any, begin: Any,
    code: Any, words: Any, stride: int, blocks: int, lasts: int, shakes: int, pairs: Any, duration: Any,
    durations: int, paid: Any, noise: Any, begins: Any, special: Any, two: Any,
) -> None:  # fmt: skip
    """The same for linear features ``psi [Z, size]``; ``heads [Z O]``: parameters that an entry's value is made of.

    One replica after the other, so that its parameters and sums stay in the first-level cache.
    """
    o, p, by, n, m = u64(options), u64(size), u64(stride), u64(entries), u64(entries) // u64(size)
    for replica in range(lanes):
        g = u64(replica)
        last, shake, place = u64(lasts) - u64(blocks), u64(shakes) - u64(blocks), u64(0) - u64(SIDE_BY_SIDE)
        for t in range(count):
            remaining = f32(left - t)
            place += u64(SIDE_BY_SIDE)
            last, shake = last + u64(blocks), shake + u64(blocks)
            both, base = u64(pair[place + g]), (u64(first) + g) * n
            r, d, there = segment(
                fused, both, place + g, words[last + by * g], words[shake + by * g], begin, code, pairs, duration,
                u64(durations), paid, noise, begins, special,
            )  # fmt: skip
            row = u64(heads[there * u64(2) + u64(1)])
            if special is None and two is not None:
                one = dot(params, base + u64(heads[there * u64(2)]), psi, row, p)
                top = max(dot(params, base + u64(heads[there * u64(2) + u64(2)]), psi, row, p), one)
            elif special is None:
                top = dot(params, base + u64(heads[there * u64(2)]), psi, row, p)
                for j in range(u64(1), o):
                    top = max(dot(params, base + u64(heads[(there + j) * u64(2)]), psi, row, p), top)
            else:
                mask, full, radius = special[6:]
                top, some = f32(-np.inf), False
                for j in range(o):
                    if full or mask[there + j]:
                        v, some = dot(params, base + u64(heads[(there + j) * u64(2)]), psi, row, p), True
                        top = max(v, top)
                top = top if some else f32(0)
            y = sum_of(fused, d, top, r)
            own, slot = u64(pairs[both * u64(4) + u64(2)]), u64(pairs[both * u64(4) + u64(3)])
            row = u64(heads[u64(begin[place + g]) * u64(2) + u64(1)])
            i, w, k = base + own, n * g + own, seen[(u64(first) + g) * m + slot]
            step = f32(steps[u64(k) if visits else u64(epoch + t)] * f32(y - dot(params, i, psi, row, p)))
            seen[(u64(first) + g) * m + slot] = u32(k + u32(1))
            if special is None or radius < 0:
                move(params, i, weighted, w, psi, row, p, step, remaining)
                continue
            square = f32(0)
            for f in range(p):
                new = params[i + f] + f32(step * psi[row + f])
                square += new * new
            norm = np.sqrt(square)
            shrink = f32(radius / max(norm, f32(1e-30))) if norm > radius else f32(1)
            for f in range(p):
                old = params[i + f]
                new = f32(f32(old + f32(step * psi[row + f])) * shrink)
                params[i + f] = new
                weighted[w + f] += f32(remaining * f32(new - old))


@kernel
def close_chunk(fused: Any, length: int, start: Any, weighted: Any, high: Any, low: Any) -> bool:
    """The mean of a chunk's iterates, added to the compensated total (``averages``); XLA divides by a product.

    False if a value is not finite; once a value is not finite, it never becomes finite again.
    """
    share = f32(f32(1) / f32(length))
    for i in range(len(start)):
        if not abs(weighted[i]) < f32(np.inf):
            return False
        mean = sum_of(fused, weighted[i], share, start[i])
        one = high[i] + mean
        shadow = one - high[i]
        two = low[i] + ((high[i] - (one - shadow)) + (mean - shadow))
        total = one + two
        shadow = total - one
        high[i], low[i] = total, (one - (total - shadow)) + (two - shadow)
    return True


@owning
def advance(
    fused: Any, first: int, last: int, keys: Any, chunk: int, chunks: int, length: int, epoch: int, state: Any,
    params: Any, seen: Any, high: Any, low: Any, at: Any, blocks: int, behaviour: Any, successor: Any, start: Any,
    duration: Any, durations: int, pairs: Any, begins: Any, options: int, outcomes: int, noise: Any, paid: Any,
    visits: bool, special: Any, two: Any, size: int, psi: Any, heads: Any, steps: Any,
) -> bool:  # fmt: skip
    """``chunks`` chunks of replicas ``first`` to ``last`` of one lane, in place; False if values are not finite.

    ``at`` says where the words of a handoff are: duration, next state, noise, restart, option. ``pairs [S O, 4]`` has
    the bits of each pair's reward rate, the first cell of its duration law, and where its parameters and its count
    are; ``paid [T, 4]`` has annuity, discount and last discount, ``begins [S]`` the first of the entries ``[Z O]`` of a
    state's interface. Tables have ``size`` 0. ``special`` has what few models and runs have: joint,
    split, terminal, ends, lump, lumps, mask, full, radius (-1 without projection). None if there is none of it: these
    loops are then compiled without the tests. ``two`` is None unless there are two options.
    """
    half, many, n = BLOCK * blocks, SIDE_BY_SIDE * BLOCK, params.shape[1]
    words = np.empty(SIDE_BY_SIDE * 2 * half, u32)
    pair, code, begin = np.empty(many, u32), np.empty(many, u32), np.empty(many + SIDE_BY_SIDE, u32)
    inner, here = np.empty((SIDE_BY_SIDE, 2, 4), u32), np.zeros(SIDE_BY_SIDE, u32)
    before, weighted = np.empty((SIDE_BY_SIDE, n), np.float32), np.empty((SIDE_BY_SIDE, n), np.float32)
    values, counts, sums = params.reshape(-1), seen.reshape(-1), weighted.reshape(-1)
    for r in range(first, last, SIDE_BY_SIDE):
        lanes = min(SIDE_BY_SIDE, last - r)
        here[:lanes] = state[r : r + lanes]
        for c in range(chunks):
            for g in range(lanes):
                threefry(keys[r + g, 0], keys[r + g, 1], u32(0), u32(chunk + c), 1, inner[g, 0], inner[g, 1])
                before[g] = params[r + g]
            weighted[:] = 0
            for t in range(0, length, BLOCK):
                count, left, now = min(BLOCK, length - t), length - 1 - t, epoch + c * length + t
                for g in range(lanes):
                    one = words[2 * g * half : (2 * g + 1) * half]
                    other = words[(2 * g + 1) * half : (2 * g + 2) * half]
                    threefry(inner[g, 0, 0], inner[g, 1, 0], u32(t * blocks), u32(0), half, one, other)
                follow(
                    here, count, words, 2 * half, blocks, at[4], at[1], at[3], behaviour, successor, start, begins,
                    special, options, outcomes, pair, begin, code,
                )  # fmt: skip
                if size == 0:
                    learn_tables(
                        fused, r, lanes, count, left, now, visits, steps, options, values, counts, sums, n, pair,
                        begin, code, words, 2 * half, blocks, at[0], at[2], pairs, duration, durations, paid, noise,
                        begins, special, two,
                    )  # fmt: skip
                else:
                    learn_linear(
                        fused, r, lanes, count, left, now, visits, steps, options, size, psi, heads, values, counts,
                        sums, n, pair, begin, code, words, 2 * half, blocks, at[0], at[2], pairs, duration, durations,
                        paid, noise, begins, special, two,
                    )  # fmt: skip
            for g in range(lanes):
                if not close_chunk(fused, length, before[g], weighted[g], high[r + g], low[r + g]):
                    return False
        state[r : r + lanes] = here[:lanes]
    return True
