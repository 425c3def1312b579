"""One slot of parameters that are stacked over slots: read, replaced, added to; all others keep their bits."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

WIDE, FEW = 256, 16  # numbers in a slot, and slots, with which a mask is several times as fast as a scatter


def take(tree: Any, slot: chex.Array) -> Any:
    """The entries of one slot of a stacked pytree."""
    return jax.tree.map(lambda leaf: leaf[slot], tree)


def put(tree: Any, slot: chex.Array, entry: Any) -> Any:
    """The stacked pytree with one slot replaced."""

    def one(leaf: chex.Array, value: chex.Array) -> chex.Array:
        return jnp.where(_here(leaf, slot), value, leaf) if _masked(leaf) else leaf.at[slot].set(value)

    return jax.tree.map(one, tree, entry)


def add(tree: Any, slot: chex.Array, term: Any) -> Any:
    """The stacked pytree with something added to one slot."""

    def one(leaf: chex.Array, value: chex.Array) -> chex.Array:
        return jnp.where(_here(leaf, slot), leaf + value, leaf) if _masked(leaf) else leaf.at[slot].add(value)

    return jax.tree.map(one, tree, term)


def wide(tree: Any) -> bool:
    """Whether a slot of some leaf has many numbers."""
    return any(leaf.size >= WIDE * leaf.shape[0] for leaf in jax.tree.leaves(tree))


def _masked(leaf: chex.Array) -> bool:
    """Whether to go through all slots: with replicas side by side, an index becomes a scatter, one number at a time."""
    return leaf.shape[0] <= FEW and wide(leaf)


def _here(leaf: chex.Array, slot: chex.Array) -> chex.Array:
    return (jnp.arange(leaf.shape[0]) == slot).reshape((-1,) + (1,) * (leaf.ndim - 1))
