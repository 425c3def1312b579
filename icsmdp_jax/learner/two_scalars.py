"""IC-Q with a second scalar: the receiver sends the variance of its offer, too, and the sender weighs by it.

The rule is ours. Every entry keeps the sum ``S`` of its squared temporal differences and their number ``n``. Besides
``v = max_o Q(z', o)`` the receiver sends ``V = S / n^2`` of that entry, the variance of a mean of ``n`` targets, or
infinity where ``n = 0``. The sender knows the spread ``s^2 = S / n`` of its own entry, and takes the share

    w = max(LEAST, s^2 / (s^2 + d^2 V)),    d = gamma^tau,

of its step: inverse-variance weighting, scaled to 1 for an offer that is certain (and where ``n = 0`` for itself).
``V`` goes to 0 as entries are visited, so that the fixed point is that of one scalar. No theorem is about it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax.numpy as jnp

from icsmdp_jax.learner.parallel import ParallelLearner
from icsmdp_jax.learner.parallel_state import Absorbed, Hyper, State
from icsmdp_jax.learner.rollout import Rows

LEAST = 0.25  # so that no entry waits for ever


@dataclasses.dataclass(frozen=True)
class TwoScalars(ParallelLearner):
    """``ParallelLearner`` on tables, with the rule of this module; ``opt_state`` also holds ``S`` and ``n``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.values.name != "tabular" or self.bootstrap != "message" or self.target != "one-handoff":
            raise ValueError(f"values = {self.values.name}: expected tables with messages and one-handoff targets")

    def init(self, key: chex.PRNGKey, hyper: Hyper) -> State:
        """As ``ParallelLearner.init``, with nothing known of any spread."""
        state = super().init(key, hyper)
        none = jnp.zeros_like(state.params)
        return state._replace(opt_state=(state.opt_state, none, none))

    def transmit(
        self, key: chex.PRNGKey, state: State, rows: Rows, offers: chex.Array, hyper: Hyper
    ) -> tuple[State, Rows, chex.Array]:
        """As ``ParallelLearner.transmit``; offers come back so that their errors are ``w`` times as large."""
        inner, square, count = state.opt_state
        state, rows, heard = super().transmit(key, state, rows, offers, hyper)
        there = jnp.where(rows.final_mask, state.params[rows.final_interface], -jnp.inf)
        entry = (rows.final_interface, jnp.argmax(there, axis=-1))
        here = (rows.interface, rows.option)
        error = rows.reward + rows.discount * heard - state.params[here]
        weight = share(square[here], count[here], square[entry], count[entry], rows.discount)
        moved = heard + (weight - 1) * error / jnp.where(rows.discount > 0, rows.discount, 1.0)
        valid = rows.valid.astype(jnp.float32)
        spread = (square.at[here].add(valid * error**2), count.at[here].add(valid))
        return state._replace(opt_state=(inner, *spread)), rows, jnp.where(rows.discount > 0, moved, heard)

    def absorb(
        self, params: Any, opt_state: Any, rows: Rows, scalars: chex.Array, hyper: Hyper
    ) -> tuple[Any, Any, Absorbed]:
        """As ``ParallelLearner.absorb``; temporal differences are the weighted ones."""
        inner, *spread = opt_state
        params, inner, absorbed = super().absorb(params, inner, rows, scalars, hyper)
        return params, (inner, *spread), absorbed


def share(
    square: chex.Array, count: chex.Array, offered_square: chex.Array, offered_count: chex.Array, discount: chex.Array
) -> chex.Array:
    """The weight ``w`` of the module docstring, elementwise; 1 where nothing follows."""
    own = square / jnp.maximum(count, 1.0)
    offered = offered_square / jnp.maximum(offered_count, 1.0) ** 2
    total = own + discount**2 * offered
    weight = jnp.where(total > 0, own / jnp.where(total > 0, total, 1.0), 1.0)
    weight = jnp.where((offered_count == 0) & (discount > 0), 0.0, weight)
    return jnp.maximum(jnp.where(count == 0, 1.0, weight), LEAST)
