"""Numbers of interfaces: hashes of what is seen, and the place of a hash in an ascending list.

A binary search through ten thousand hashes takes fourteen dependent steps. Hashes are spread evenly, so their leading
bits almost give their place: a list of the first place of every *bucket* of hashes with equal leading bits, and a few
steps through one bucket, give the same place.
"""

from __future__ import annotations

from collections.abc import Iterable

import chex
import jax.numpy as jnp
import numpy as np

KEYS_PER_BUCKET = 0.5  # on average, at most


def digest(words: Iterable[chex.Array], salt: chex.Array) -> chex.Array:
    """A 32-bit hash of uint32 words: multiply, rotate and mix, word by word."""
    value = jnp.asarray(salt, jnp.uint32)
    for word in words:
        block = word * jnp.uint32(0xCC9E2D51)
        block = ((block << 15) | (block >> 17)) * jnp.uint32(0x1B873593)
        value = value ^ block
        value = ((value << 13) | (value >> 19)) * jnp.uint32(5) + jnp.uint32(0xE6546B64)
    value = (value ^ (value >> 16)) * jnp.uint32(0x85EBCA6B)
    value = (value ^ (value >> 13)) * jnp.uint32(0xC2B2AE35)
    return value ^ (value >> 16)


def buckets(keys: np.ndarray) -> tuple[np.ndarray, int]:
    """Where to begin looking for a key.

    Args:
      keys: ``[V]`` uint32, ascending; may be empty.

    Returns:
      ``[2^b]`` int32 places in ``keys`` of the first key whose ``b`` leading bits are at least the index (the last
      place if there is none), ``b >= 1``, and the number of keys in the fullest bucket.
    """
    if len(keys) == 0:
        return np.zeros(0, np.int32), 0
    bits = max(1, int(np.ceil(np.log2(len(keys) / KEYS_PER_BUCKET))))
    bucket = keys >> np.uint32(32 - bits)
    first = np.searchsorted(bucket, np.arange(2**bits))
    return np.minimum(first, len(keys) - 1).astype(np.int32), int(np.bincount(bucket).max())


def place_of(key: chex.Array, keys: chex.Array, first: chex.Array, fullest: int) -> chex.Array:
    """The place of a key in a list, or the length of the list.

    Args:
      key: ``[]`` uint32.
      keys: ``[V]`` uint32, ascending.
      first: ``[2^b]`` int32, see ``buckets``.
      fullest: the number of keys in the fullest bucket.

    Returns:
      ``[]`` int32.
    """
    leading = first.shape[0].bit_length() - 1
    place = first[(key >> (32 - leading)).astype(jnp.int32)]
    for _ in range(fullest - 1):
        place = place + (keys[place] < key).astype(jnp.int32)  # a key that is listed is never passed
    return jnp.where(keys[place] == key, place, keys.shape[0]).astype(jnp.int32)
