"""Words of bits: one bit for each run of a program, each pair of registers, or each option.

A step of this environment is a few hundred bitwise operations on words. Every word is a separate array, so that many
copies side by side are many words in a row, on which a processor works eight or sixteen at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

NONE = np.uint32(0)
ALL = np.uint32(0xFFFFFFFF)


def union(words: Sequence[chex.Array]) -> chex.Array:
    """Bits that are set in at least one of the words."""
    total = words[0]
    for word in words[1:]:
        total = total | word
    return total


def given(condition: chex.Array, bits: chex.Array | int) -> chex.Array:
    """``bits`` as a uint32 if ``condition``, else no bit."""
    return jnp.where(condition, jnp.asarray(bits, jnp.uint32), NONE)


def spread(word: chex.Array, count: int) -> chex.Array:
    """``[count]`` bool: the lowest bits of a word, one by one."""
    return ((word >> jnp.arange(count, dtype=jnp.uint32)) & jnp.uint32(1)) == 1


def once(word: chex.Array) -> chex.Array:
    """The word itself, as a value that is computed once.

    XLA repeats elementwise work in every place that uses its result: once for every option over which a word is
    spread, once for every register that a choice writes to. Results of reductions it keeps, on a CPU at least; the
    union of the two halves of a word is the word.

    Args:
      word: ``[]`` uint32 or bool.

    Returns:
      The same, of the same type.
    """
    if word.dtype == bool:
        return once(word.astype(jnp.uint32)) == 1
    halves = word & jnp.array([0x0000FFFF, 0xFFFF0000], jnp.uint32)
    return jax.lax.reduce(halves, NONE, jax.lax.bitwise_or, (0,))
