"""Behaviour: a fixed policy of the interface, or epsilon-greedy on the agent's own values (D4)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.sampling import AliasTable, alias_table, draw_at

WORDS = 2  # random words per decision: which option of the fixed policy, and whether to explore


def behaviour_table(behaviour: np.ndarray) -> AliasTable:
    """Alias tables of a behaviour policy ``[Z, O]``; rows of interfaces that never decide may be all zero."""
    law = np.asarray(behaviour, np.float64)
    empty = law.sum(axis=1) <= 0
    law = np.where(empty[:, None], 1.0 / law.shape[1], law)
    return jax.tree.map(jnp.asarray, alias_table(law / law.sum(axis=1, keepdims=True)))


def fixed_behaviour(word: chex.Array, interface: chex.Array, table: AliasTable) -> chex.Array:
    """An option of the fixed policy.

    Args:
      word: ``[]`` uint32.
      interface: ``[]`` int32.
      table: tables with leading axis Z.

    Returns:
      ``[]`` int32.
    """
    return draw_at(word, table, (interface,))


def epsilon_greedy(
    words: chex.Array,
    interface: chex.Array,
    values: chex.Array,
    mask: chex.Array,
    epsilon: chex.Array,
    table: AliasTable,
) -> chex.Array:
    """The agent's own best option, or with probability epsilon an option of the fixed policy.

    Args:
      words: ``[2]`` uint32.
      interface: ``[]`` int32.
      values: ``[O]`` float32, the active agent's own values.
      mask: ``[O]`` bool.
      epsilon: ``[]`` float32.
      table: tables of the exploring policy with leading axis Z.

    Returns:
      ``[]`` int32.
    """
    explore = (words[1] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24) < epsilon
    greedy = jnp.argmax(jnp.where(mask, values, -jnp.inf)).astype(jnp.int32)
    return jnp.where(explore, fixed_behaviour(words[0], interface, table), greedy)
