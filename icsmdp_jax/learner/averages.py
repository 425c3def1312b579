"""Averages of iterates that stay accurate in float32 over 10^8 handoffs and more (D10).

Within a chunk of ``L`` handoffs only one slot changes at a time, so the sum of the iterates is ``L theta_0`` plus
``(L - 1 - t) change_t`` for the change made at step t: constant work per handoff, whatever the table's size. Chunk
means are then added up with a compensated (two-sum) total, which loses nothing where a plain float32 running mean
would stall after about 2^24 terms.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.learner import slots


class CompensatedSum(NamedTuple):
    """An unevaluated sum ``high + low`` of two float32 pytrees of the same shapes."""

    high: Any
    low: Any


def zeros_like(tree: Any) -> CompensatedSum:
    """The empty sum."""
    zero = jax.tree.map(jnp.zeros_like, tree)
    return CompensatedSum(zero, jax.tree.map(jnp.zeros_like, tree))


def two_sum(a: chex.Array, b: chex.Array) -> tuple[chex.Array, chex.Array]:
    """``(s, e)`` with ``s = fl(a + b)`` and ``s + e = a + b`` exactly (Knuth)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def add(total: CompensatedSum, term: Any) -> CompensatedSum:
    """Adds a term without losing its low bits."""

    def one(high: chex.Array, low: chex.Array, value: chex.Array) -> tuple[chex.Array, chex.Array]:
        sum_, error = two_sum(high, value)
        return two_sum(sum_, low + error)

    pairs = jax.tree.map(one, total.high, total.low, term)
    is_pair = lambda node: isinstance(node, tuple) and len(node) == 2 and not hasattr(node, "_fields")  # noqa: E731
    return CompensatedSum(
        jax.tree.map(lambda pair: pair[0], pairs, is_leaf=is_pair),
        jax.tree.map(lambda pair: pair[1], pairs, is_leaf=is_pair),
    )


def to_float64(total: CompensatedSum) -> Any:
    """The sum as host float64 arrays."""
    return jax.tree.map(lambda high, low: np.add(high, low, dtype=np.float64), total.high, total.low)


def exact_factors(value: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Splits float32 numbers into ``high + low`` of 12 significant bits each, exactly.

    The product of either part with an integer up to 4096 is exact, so whether a compiler fuses it with an addition
    (it may, and that may depend on how many replicas run side by side) changes no bit.
    """
    high = jax.lax.reduce_precision(value, exponent_bits=8, mantissa_bits=11)  # 11 stored bits and the hidden one
    return high, value - high


def weigh_change(weighted: Any, slot: chex.Array, change: Any, remaining: chex.Array) -> Any:
    """Adds ``remaining * change`` to the slot that changed, in the chunk's accumulator.

    Args:
      weighted: accumulator, stacked over slots.
      slot: ``[]`` int32, the slot that changed.
      change: its change, float32.
      remaining: ``[]`` float32 whole number up to 4096, iterates of the chunk that the change is part of.
    """

    def term(delta: chex.Array) -> chex.Array:
        high, low = exact_factors(delta)
        return remaining * high + remaining * low

    return slots.add(weighted, slot, jax.tree.map(term, change))


def chunk_mean(first: Any, weighted: Any, length: int) -> Any:
    """Mean of the iterates before each of the chunk's updates."""
    return jax.tree.map(lambda start, acc: start + acc / jnp.float32(length), first, weighted)
