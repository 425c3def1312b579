"""A parallel learner's traced inputs, its state, and its metrics (D9)."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax.numpy as jnp

from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.core.sampling import AliasTable
from icsmdp_jax.core.words import in_short
from icsmdp_jax.learner.channel import Channel, History
from icsmdp_jax.learner.diagnostics import cosine_matrix, gradient_norm
from icsmdp_jax.learner.exploration import Ramp
from icsmdp_jax.learner.rollout import Rows
from icsmdp_jax.learner.schedules import StepSize


class Hyper(NamedTuple):
    """Traced inputs of a training run; any of them may get a leading axis and be mapped over.

    Attributes:
      env_params: parameters of the environment.
      data: data of the function class (features), or None.
      step_size: schedule of the learning rate; its clock counts an agent's (a table's entry's) own updates.
      behaviour: alias tables of the exploring policy, leading axis Z; None explores uniformly over what is available.
      exploration: epsilon, or the temperature, by update; unused with a fixed behaviour policy.
      lambda_: ``[]`` float32, for lambda targets.
      handoffs: ``[]`` int32, for n-handoff targets.
      target_rate: ``[]`` float32 in (0, 1], how far target parameters move to the trained ones at each update.
      channel: faults of the messages; None for messages that always arrive as they were sent.
      owner: ``[Z]`` int32, the agent of each interface, where interfaces are listed by ``data``; a learner with fewer
        interfaces than rows in an update then evaluates each interface once instead of each row. None: row by row.
    """

    env_params: Any
    data: Any
    step_size: StepSize
    behaviour: AliasTable | None = None
    exploration: Ramp | None = None
    lambda_: chex.Array | float = 0.0
    handoffs: chex.Array | int = 1
    target_rate: chex.Array | float = 1.0
    channel: Channel | None = None
    owner: chex.Array | None = None

    def __repr__(self) -> str:
        return in_short(self)


class State(NamedTuple):
    """What a learner carries from update to update.

    Attributes:
      params: parameters stacked over slots.
      opt_state: the slots' optimiser states.
      target_params: slowly moving copy, or None.
      env_state: states of the environments, leading axis B.
      handoff: their decisions to take next.
      waiting: segments that wait for their agent's next turn; None where messages are used.
      since: ``[slots]`` float32 rows of each slot since the last federated average; None without federation.
      history: messages on their way, for late ones, or None.
      updates: ``[]`` int32 updates so far.
    """

    params: Any
    opt_state: Any
    target_params: Any
    env_state: Any
    handoff: Handoff
    waiting: Any
    since: chex.Array | None
    history: History | None
    updates: chex.Array

    def __repr__(self) -> str:
        return in_short(self)


class Metrics(NamedTuple):
    """Metrics of one update, per agent: leading axis N.

    Attributes:
      td_square: sum of squared temporal differences over the agent's rows.
      visits: int32, rows of the agent.
      gradient_norm: Euclidean norm of the agent's mean gradient; 0 without rows.
      handoffs: ``[N, N]`` int32, from row to column; segments that ended an episode do not count. None without
        ``ParallelLearner.graph``.
      durations: ``[N, N]`` int32, primitive steps of the segments behind them; None likewise.
      reward: ``[]`` float32, mean segment reward.
      cosine: ``[N, N]`` cosines between the agents' gradients, or None without ``ParallelLearner.roles``.
    """

    td_square: chex.Array
    visits: chex.Array
    gradient_norm: chex.Array
    handoffs: chex.Array | None
    durations: chex.Array | None
    reward: chex.Array
    cosine: chex.Array | None

    def __repr__(self) -> str:
        return in_short(self)


class Absorbed(NamedTuple):
    """What went into one update, for diagnostics.

    Attributes:
      rows: the segments, leading axis ``R = T B``.
      error: ``[R]`` temporal differences; 0 where there is no segment.
      ascent: per slot, the sum of ``error * grad Q`` over its rows.
      slots: ``[R]`` int32.
      hits: ``[slots, O]`` float32 rows of each slot and option.
      by_role: ``ascent`` with one entry for each agent, even where parameters are shared; None without
        ``ParallelLearner.roles``.
    """

    rows: Rows
    error: chex.Array
    ascent: Any
    slots: chex.Array
    hits: chex.Array
    by_role: Any


def measured(done: Absorbed, agents: int, graph: bool = False) -> Metrics:
    """The metrics of one update of ``agents`` agents, with handoffs from each to each if ``graph``."""
    flat = done.rows
    valid = flat.valid.astype(jnp.int32)
    visits = jnp.zeros((agents,), jnp.int32).at[flat.agent].add(valid)
    handoffs = durations = None
    if graph:
        pair, passed_on = (flat.agent, flat.final_agent), valid * (flat.discount > 0).astype(jnp.int32)
        handoffs = jnp.zeros((agents, agents), jnp.int32).at[pair].add(passed_on)
        durations = jnp.zeros((agents, agents), jnp.int32).at[pair].add(flat.duration * passed_on)
    owner = jnp.full((done.hits.shape[0],), -1, jnp.int32).at[done.slots].max(jnp.where(flat.valid, flat.agent, -1))
    if done.by_role is None:
        norm = gradient_norm(done.ascent, owner, agents)
    else:
        norm = gradient_norm(done.by_role)
    return Metrics(
        td_square=jnp.zeros((agents,), jnp.float32).at[flat.agent].add(done.error**2),
        visits=visits,
        gradient_norm=norm / jnp.maximum(visits, 1).astype(jnp.float32),
        handoffs=handoffs,
        durations=durations,
        reward=jnp.sum(flat.reward * flat.valid.astype(jnp.float32))
        / jnp.maximum(jnp.sum(visits, dtype=jnp.int32), 1).astype(jnp.float32),
        cosine=None if done.by_role is None else cosine_matrix(done.by_role),
    )
