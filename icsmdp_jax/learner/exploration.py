"""Behaviour: a fixed policy of the interface, epsilon-greedy or Boltzmann on the agent's own values (D4).

Everything here needs one agent's interface and values only, so exploring crosses no boundary.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import within
from icsmdp_jax.core.sampling import AliasTable, alias_table, draw_at

WORDS = 2  # random words per decision: which option of the fixed policy, and whether to explore


class Ramp(NamedTuple):
    """A number that moves linearly from ``begin`` to ``end`` over the first ``updates`` updates, then stays.

    Attributes:
      begin: ``[]`` float32, value at update 0.
      end: ``[]`` float32, value from update ``updates`` on.
      updates: ``[]`` float32, length of the ramp; 0 gives ``end`` at once.
    """

    begin: chex.Array
    end: chex.Array
    updates: chex.Array

    def at(self, update: chex.Array) -> chex.Array:
        """Value at integer update number ``update``."""
        done = jnp.where(self.updates > 0, update.astype(jnp.float32) / jnp.maximum(self.updates, 1e-30), 1.0)
        return self.begin + (self.end - self.begin) * jnp.clip(done, 0.0, 1.0)


def ramp(begin: Any, end: Any, updates: Any) -> Ramp:
    """A ``Ramp``, for an epsilon or a temperature.

    Raises:
      ValueError: for a negative number.

    Example:
      >>> import jax.numpy as jnp, icsmdp_jax as ic
      >>> round(float(ic.ramp(1.0, 0.5, 10).at(jnp.int32(5))), 6)
      0.75
    """
    within(0, math.inf, begin=begin, end=end, updates=updates)
    return Ramp(*(jnp.asarray(value, jnp.float32) for value in (begin, end, updates)))


def unit(word: chex.Array) -> chex.Array:
    """A float32 in ``[0, 1)`` from 24 bits of a word."""
    return (word >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


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
    explore = unit(words[1]) < epsilon
    greedy = best_option(values, mask)
    return jnp.where(explore, fixed_behaviour(words[0], interface, table), greedy)


def best_option(values: chex.Array, mask: chex.Array) -> chex.Array:
    """``[]`` int32, the first of the best available options; 0 if there is none (a terminal epoch)."""
    return jnp.argmax(jnp.where(mask, values, -jnp.inf)).astype(jnp.int32)


def uniform_option(word: chex.Array, mask: chex.Array) -> chex.Array:
    """An available option, all equally likely up to 2**-24; 0 if there is none.

    Args:
      word: ``[]`` uint32.
      mask: ``[O]`` bool.

    Returns:
      ``[]`` int32.
    """
    if mask.shape[0] > 32:
        rank = jnp.cumsum(mask, dtype=jnp.int32)
        return jnp.argmax(rank > _share(word, rank[-1])).astype(jnp.int32)
    # One bit for each option, and a search among 16, 8, 4, 2, 1 of them: many times as fast as a cumulative sum.
    place = jnp.arange(mask.shape[0], dtype=jnp.uint32)
    bits = jnp.sum(mask.astype(jnp.uint32) << place, dtype=jnp.uint32)
    count = jax.lax.population_count(bits).astype(jnp.int32)
    wanted, at = _share(word, count), jnp.uint32(0)
    for size in (16, 8, 4, 2, 1):
        below = jax.lax.population_count((bits >> at) & jnp.uint32((1 << size) - 1)).astype(jnp.int32)
        beyond = wanted >= below
        wanted = wanted - jnp.where(beyond, below, 0)
        at = at + jnp.where(beyond, jnp.uint32(size), jnp.uint32(0))
    return jnp.where(count > 0, at, jnp.uint32(0)).astype(jnp.int32)


def _share(word: chex.Array, count: chex.Array) -> chex.Array:
    """``[]`` int32 below ``count``, all equally likely up to 2**-24."""
    return jnp.floor(unit(word) * count.astype(jnp.float32)).astype(jnp.int32)


def boltzmann(word: chex.Array, values: chex.Array, mask: chex.Array, temperature: chex.Array) -> chex.Array:
    """An option with probability proportional to ``exp(Q_i(z, o) / temperature)``.

    Args:
      word: ``[]`` uint32.
      values: ``[O]`` float32, the active agent's own values.
      mask: ``[O]`` bool.
      temperature: ``[]`` float32, in units of value; 0 is the limit, a uniform choice among the best options.

    Returns:
      ``[]`` int32.
    """
    lead = jnp.where(mask, values, -jnp.inf)
    lead = lead - jnp.max(jnp.where(mask, values, jnp.finfo(jnp.float32).min))
    temperature = jnp.maximum(temperature, jnp.finfo(jnp.float32).tiny)  # 0 / 0 would choose option 0
    mass = jnp.cumsum(jnp.where(mask, jnp.exp(lead / temperature), 0.0))
    chosen = jnp.argmax(mass > unit(word) * mass[-1]).astype(jnp.int32)
    return jnp.where(mask[chosen], chosen, best_option(values, mask))
