"""Alias tables: one 32-bit random word, one comparison and one table row per draw from a finite law.

Walker's method splits a law over ``n`` outcomes into ``n`` equally likely cells, each shared by at most two
outcomes. The cell is the high part of the product ``word * n`` and the position inside it the low 32 bits, all in
``uint32`` arithmetic, so that probabilities are exact to ``n * 2**-32`` on every device, however it rounds.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

LARGEST_CODE = 2**31 - 1
SHORT = 64  # number of outcomes up to which cells are paired one by one


class AliasTable(NamedTuple):
    """Alias tables for a batch of laws over ``n`` outcomes each.

    Attributes:
      threshold: ``[..., n]`` uint32; positions below it in a cell belong to ``lower``.
      codes: ``[..., n, 2]`` int32 outcome codes of each cell, ``lower`` and ``upper``: side by side, because the
        comparison then chooses an index, and only one code is read.
    """

    threshold: chex.Array
    codes: chex.Array

    @property
    def lower(self) -> chex.Array:
        """``[..., n]`` outcome codes below the threshold."""
        return self.codes[..., 0]

    @property
    def upper(self) -> chex.Array:
        """``[..., n]`` outcome codes from the threshold on."""
        return self.codes[..., 1]


def alias_table(probability: np.ndarray, outcome: np.ndarray | None = None) -> AliasTable:
    """Builds alias tables on the host.

    Args:
      probability: ``[..., n]`` rows that sum to 1; all-zero rows (never drawn from) are allowed.
      outcome: ``[..., n]`` int codes of the outcomes; the column index if None.

    Returns:
      Host tables (NumPy); two laws with the same ``n`` give tables of the same shape.

    Raises:
      ValueError: if an outcome's code does not fit int32.
    """
    law = np.asarray(probability, np.float64)
    count = law.shape[-1]
    flat = law.reshape(-1, count)
    codes = np.arange(count) if outcome is None else np.asarray(outcome)
    if codes.size and not -LARGEST_CODE <= codes.min() <= codes.max() <= LARGEST_CODE:
        worst = max(int(codes.max()), int(codes.min()), key=abs)
        raise ValueError(f"alias table: an outcome has code {worst}, expected {LARGEST_CODE} or less (int32)")
    codes = np.broadcast_to(codes, law.shape).reshape(-1, count)
    share, partner = (_paired if count <= SHORT else _swept)(flat * count)
    threshold = np.minimum(np.floor(share * 2.0**32), 2.0**32 - 1).astype(np.uint32)
    whole = share >= 1.0 - 2.0**-40
    partner = np.where(whole, np.arange(count), partner)
    upper = np.take_along_axis(codes, partner, axis=1)
    pairs = np.stack([codes, upper], axis=-1).astype(np.int32)
    return AliasTable(threshold.reshape(law.shape), pairs.reshape(*law.shape, 2))


def _swept(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The split of long rows, in linear time apart from a sort: the share of each cell that its own outcome keeps, and
    the outcome of the rest.

    Take the cells below 1 in turn, and the cells above 1 in turn. Each cell below is filled up by the first cell above
    that earlier needs have not used up. A cell above that falls below 1 with its last gift is filled up by the next
    one. So the running sums of what is needed and of what can be spared tell who fills whom (Huebschle-Schneider and
    Sanders 2019).
    """
    share = np.minimum(scaled, 1.0)
    partner = np.tile(np.arange(scaled.shape[1]), (len(scaled), 1))
    for row, own, other in zip(scaled, share, partner, strict=True):
        below, above = np.flatnonzero(row < 1.0), np.flatnonzero(row > 1.0)
        if not len(above) or not len(below):
            own[:] = 1.0  # all equal up to rounding, or a row of zeros that nothing is drawn from
            continue
        needed, spare = np.cumsum(1.0 - row[below]), np.cumsum(row[above] - 1.0)
        last = len(above) - 1
        other[below] = above[np.minimum(np.searchsorted(spare, np.append(0.0, needed[:-1]), side="right"), last)]
        # What a cell above has given with its last gift: the first running sum of needs that reaches its own.
        given = needed[np.minimum(np.searchsorted(needed, spare), len(needed) - 1)]
        own[above[:-1]] = np.clip(1.0 - (given - spare), 0.0, 1.0)[:-1]
        other[above[:-1]] = above[1:]
        own[above[-1]] = 1.0
    return share, partner


def _paired(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The split of short rows (Vose 1991), as in ``_swept``.

    All rows advance together: in each round every row pairs its smallest open cell with its fullest donor.
    """
    rows, count = scaled.shape
    left = scaled.copy()
    share = np.ones_like(left)
    partner = np.tile(np.arange(count), (rows, 1))
    open_cells = np.ones_like(left, bool)
    everyone = np.arange(rows)
    for _ in range(count - 1):
        smallest = np.where(open_cells, left, np.inf).argmin(axis=1)
        donor = np.where(open_cells, left, -np.inf).argmax(axis=1)
        amount = np.clip(left[everyone, smallest], 0.0, 1.0)
        act = (amount < 1.0) & (smallest != donor)
        if not act.any():
            break
        r, s, d = everyone[act], smallest[act], donor[act]
        share[r, s], partner[r, s] = amount[act], d
        open_cells[r, s] = False
        left[r, d] -= 1.0 - amount[act]
    return share, partner


def draw(word: chex.Array, table: AliasTable) -> chex.Array:
    """Draws one outcome from one law with one random word.

    Args:
      word: ``[]`` uint32, uniform.
      table: an ``AliasTable`` whose arrays have shape ``[n]``.

    Returns:
      ``[]`` int32 outcome code.
    """
    return draw_at(word, table, ())


def draw_at(word: chex.Array, table: AliasTable, row: tuple[chex.Array, ...]) -> chex.Array:
    """Draws from row ``row`` of a batch of laws, touching one cell of the table and nothing else.

    Args:
      word: ``[]`` uint32, uniform.
      table: an ``AliasTable`` with arrays ``[..., n]``.
      row: index of the law, one entry per leading axis.

    Returns:
      ``[]`` int32 outcome code.
    """
    count = table.threshold.shape[-1]
    if count == 1:
        return table.codes[(*row, 0, 0)]
    cell, position = split_word(word, count)
    index = (*row, cell)
    side = (position >= table.threshold[index]).astype(jnp.int32)
    return table.codes[(*index, side)]


def split_word(word: chex.Array, count: int) -> tuple[chex.Array, chex.Array]:
    """Cell ``floor(word * count / 2**32)`` and the next 32 bits of the product, in uint32 arithmetic.

    Args:
      word: ``[]`` uint32.
      count: number of cells, below ``2**31``; below ``2**16`` if it is traced.

    Returns:
      ``(cell [] int32, position [] uint32)``.
    """
    n = jnp.uint32(count & 0xFFFF)
    high, low = word >> 16, word & jnp.uint32(0xFFFF)
    low_product = low * n
    middle = high * n + (low_product >> 16)
    cell, position = middle >> 16, ((middle & jnp.uint32(0xFFFF)) << 16) | (low_product & jnp.uint32(0xFFFF))
    if isinstance(count, int) and count >> 16:  # the upper half of the count: its product is shifted by 16 bits
        n = jnp.uint32(count >> 16)
        low_product = low * n
        added = position + (low_product << 16)
        carry = (added < position).astype(jnp.uint32)
        cell, position = cell + high * n + (low_product >> 16) + carry, added
    return cell.astype(jnp.int32), position


def random_words(key: chex.PRNGKey, rows: int, width: int) -> chex.Array:
    """Random words for many steps at once; both words of every Threefry block are used.

    ``jax.random.bits`` merges two words into one, so that draws can be partitioned over devices; here every replica
    has its own key, and there is nothing to partition.

    Args:
      key: a key; if its generator is not Threefry, JAX's default, the words are those of ``jax.random.bits``.
      rows: number of rows.
      width: words per row.

    Returns:
      ``[rows, width]`` uint32, independent and uniform.
    """
    if jax.random.key_impl(key) != "threefry2x32":
        return jax.random.bits(key, (rows, width), jnp.uint32)
    blocks = -(-width // 2)
    counter = jnp.arange(rows * blocks, dtype=jnp.uint32)
    words = threefry_2x32(jax.random.key_data(key), jnp.concatenate([counter, jnp.zeros_like(counter)]))
    first, second = words.reshape(2, rows, blocks)
    return jnp.concatenate([first, second], axis=1)[:, :width]


def uniform_symmetric(word: chex.Array) -> chex.Array:
    """``[]`` float32 uniform on the 2**23 midpoints of (-1, 1), all exact in float32: the mean is exactly 0."""
    return ((word >> 9).astype(jnp.float32) + 0.5) * jnp.float32(2.0**-22) - 1.0
