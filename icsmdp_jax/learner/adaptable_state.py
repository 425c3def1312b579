"""The adaptable learner's traced inputs, its state, and its record of a step (D9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.primitive import Ongoing
from icsmdp_jax.learner.exploration import Ramp
from icsmdp_jax.learner.networks import num_slots
from icsmdp_jax.learner.schedules import StepSize
from icsmdp_jax.learner.updates import SlotRule, update_slots

Situation = Callable[[chex.Array, chex.Array, chex.Array], chex.Array]
"""``(agent, option, observation) ->`` what actor and critic take for an interface: an index, or a vector."""


@lru_cache(maxsize=256)
def situation_index(num_observations: int, num_options: int) -> Situation:
    """Numbers situations as ``(agent * X + observation) * O + option``: for tables and feature tables."""
    return lambda agent, option, observation: (agent * num_observations + observation) * num_options + option


@lru_cache(maxsize=256)
def situation_vector(num_options: int) -> Situation:
    """The observation, a vector, followed by the option in one-hot form: for networks that read vectors."""
    return lambda agent, option, observation: jnp.concatenate(
        [observation, jax.nn.one_hot(option, num_options, dtype=jnp.float32)]
    )


class Inputs(NamedTuple):
    """Traced inputs of a run; any of them may get a leading axis and be mapped over.

    Attributes:
      env_params: parameters of the environment.
      step_size: schedule of the option values; its clock counts a slot's (a table's entry's) own updates.
      actor_step: the same for the local policies.
      critic_step: the same for the local critics.
      exploration: epsilon by primitive step.
      entropy: ``[]`` float32, weight of the local policies' entropy (0: none).
      data: data of the class of the option values (features), or None.
      local_data: data of the classes of actor and critic, or None.
    """

    env_params: Any
    step_size: StepSize
    actor_step: StepSize
    critic_step: StepSize
    exploration: Ramp
    entropy: chex.Array | float = 0.0
    data: Any = None
    local_data: Any = None


class TrainState(NamedTuple):
    """Parameters and optimiser states, both stacked over slots."""

    params: Any
    opt_state: Any

    def climb(
        self, rule: SlotRule, slots: chex.Array, ascent: Any, entry: chex.Array, rows: chex.Array, entries: int
    ) -> TrainState:
        """One step of every slot that has a row; all other slots keep parameters and optimiser state.

        Args:
          rule: the rule of one slot.
          slots: ``[B]`` int32, the slot of each row.
          ascent: direction of each row, leading axis B.
          entry: ``[B]`` int32, which of the slot's outputs the row is about.
          rows: ``[B]`` bool, rows that count.
          entries: number of outputs.
        """

        def summed(leaf: chex.Array, direction: chex.Array) -> chex.Array:
            counts = rows.reshape(-1, *[1] * (leaf.ndim - 1))
            return jnp.zeros_like(leaf).at[slots].add(jnp.where(counts, direction, 0.0))

        total = jax.tree.map(summed, self.params, ascent)
        hits = jnp.zeros((num_slots(self.params), entries), jnp.float32).at[slots, entry].add(rows.astype(jnp.float32))
        return TrainState(*update_slots(rule, self.params, self.opt_state, total, hits))


class AdaptableState(NamedTuple):
    """What a run carries from primitive step to primitive step.

    Attributes:
      values: option values of all agents.
      actor: local policies of all agents.
      critic: local critics of all agents.
      ongoing: the options under way, leading axis B.
      decisions: ``[B]`` int32, decisions taken so far in each copy; all but the latest have led to a handoff.
      steps: ``[]`` int32, primitive steps so far of each copy.
      scalars: ``[]`` int32, messages that crossed, counted where they arrive.
      episodes: ``[]`` int32, episodes that ended.
    """

    values: TrainState
    actor: TrainState
    critic: TrainState
    ongoing: Ongoing
    decisions: chex.Array
    steps: chex.Array
    scalars: chex.Array
    episodes: chex.Array

    @property
    def handoffs(self) -> chex.Array:
        """``[]`` int32, handoffs so far, counted where decisions are taken."""
        return jnp.sum(self.decisions - 1, axis=-1)


class Record(NamedTuple):
    """What one primitive step of all copies did, leading axis B.

    Attributes:
      before: the options before the step.
      action: ``[B]`` int32, the local actions.
      after: the options after it, ended ones included.
      message: ``[B]`` float32, the scalar that crossed; NaN where no handoff happened.
      value_error: ``[B]`` float32 temporal difference of the option values; NaN likewise.
      local_error: ``[B]`` float32 temporal difference inside the option; zeros if the local policies are frozen.
    """

    before: Ongoing
    action: chex.Array
    after: Ongoing
    message: chex.Array
    value_error: chex.Array
    local_error: chex.Array
