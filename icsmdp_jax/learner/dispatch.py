"""Rows sent to the parameters of their own slot, at a cost that does not grow with the number of slots (D9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax

Params = Any
Views = Any
Apply = Callable[[Params, Any], chex.Array]


def gathered(apply: Apply, params: Params, slots: chex.Array, views: Views) -> chex.Array:
    """Each row with its own copy of its slot's parameters: what all other forms have to equal.

    Args:
      apply: ``(params of one slot, view) -> [O]``.
      params: parameters with leading axis ``num_slots``.
      slots: ``[R]`` int32.
      views: pytree with leading axis R.

    Returns:
      ``[R, O]``.
    """
    return jax.vmap(lambda slot, view: apply(jax.tree.map(lambda leaf: leaf[slot], params), view))(slots, views)


def by_slot(apply: Apply, params: Params, slots: chex.Array, views: Views, num_slots: int) -> chex.Array:
    """Values of every row from the parameters of its own slot.

    Args:
      apply: ``(params of one slot, view) -> [O]``.
      params: parameters with leading axis ``num_slots``.
      slots: ``[R]`` int32.
      views: pytree with leading axis R.
      num_slots: number of slots.

    Returns:
      ``[R, O]``.
    """
    return gathered(apply, params, slots, views)
