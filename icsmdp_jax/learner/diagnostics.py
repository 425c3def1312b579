"""What goes on inside a run, agent by agent: errors, visits, gradients, and who hands to whom.

All but ``exact_handoff_graph`` are pure functions of plain arrays, jittable and vmappable: a run accumulates counts and
sums, these turn them into what is reported and drawn. ``N`` agents; NaN stands for "not measured".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.exact.chain import behaviour_chain
from icsmdp_jax.exact.moments import as_dense, kernel_moments
from icsmdp_jax.models.tabular import TabularModel


def rms_td_error(td_square: chex.Array, visits: chex.Array) -> chex.Array:
    """Root mean square temporal difference of each agent.

    Args:
      td_square: ``[..., N]`` sums of squared temporal differences.
      visits: ``[..., N]`` numbers of terms.

    Returns:
      ``[..., N]``; NaN where there was no visit.
    """
    return jnp.sqrt(_ratio(td_square, visits, jnp.nan))


def visits_share(visits: chex.Array) -> chex.Array:
    """``[..., N]`` share of all handoffs at which each agent decided; 0 if there was none at all."""
    return _ratio(visits, visits.sum(axis=-1, keepdims=True), 0.0)


def flat_gradients(tree: Any) -> chex.Array:
    """``[N, P]`` gradients of stacked parameters: a pytree of ``[N, ...]`` leaves, side by side."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def gradient_norm(gradients: Any, owner: chex.Array | None = None, num_agents: int | None = None) -> chex.Array:
    """Euclidean norm of each agent's gradient, without overflow or underflow of the squares.

    Args:
      gradients: ``[N, P]``, or a pytree of stacked leaves.
      owner: ``[slots]`` int32, agent of each row, for classes with several slots per agent (tables); None: row i is
        agent i's. Negative owners count for nobody.
      num_agents: ``N``, with ``owner``.

    Returns:
      ``[N]``.
    """
    unit, size = _scaled(flat_gradients(gradients))
    norm = size * jnp.sqrt(jnp.sum(unit * unit, axis=1))
    if owner is None:
        return norm
    assert num_agents is not None, "owner needs num_agents"
    top = norm.max(initial=0.0)
    square = (norm / jnp.where(top > 0, top, 1.0)) ** 2
    index = jnp.where(jnp.asarray(owner) < 0, num_agents, owner)  # out of range: dropped, not counted from the end
    return top * jnp.sqrt(jnp.zeros(num_agents, square.dtype).at[index].add(square, mode="drop"))


def _scaled(rows: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Rows divided by their largest absolute entry (zero rows left alone), and these entries ``[N]``."""
    size = jnp.abs(rows).max(axis=1, initial=0.0)
    return rows / jnp.where(size > 0, size, 1.0)[:, None], size


def gradient_mass(norm: chex.Array, visits: chex.Array) -> chex.Array:
    """``[..., N]`` gradient mass per step of each role: the norm of its update times its share of all updates."""
    return norm * visits_share(visits)


def cosine_matrix(gradients: Any) -> chex.Array:
    """``[N, N]`` cosines between the agents' gradients; 0 where one of the two is zero, the diagonal included.

    Args:
      gradients: ``[N, P]``, or a pytree of stacked leaves with the same architecture for all agents.
    """
    rows, _ = _scaled(flat_gradients(gradients))
    norm = jnp.sqrt(jnp.sum(rows * rows, axis=1, keepdims=True))
    unit = rows / jnp.where(norm > 0, norm, 1.0)
    return jnp.clip(jnp.matmul(unit, unit.T, precision=jax.lax.Precision.HIGHEST), -1.0, 1.0)


class HandoffCounts(NamedTuple):
    """Who handed to whom, as sums over a run; they may be added up over chunks and copies.

    Attributes:
      handoffs: ``[N, N]`` segments that began with agent i and ended with a decision of agent j.
      durations: ``[N, N]`` sums of their durations in primitive steps.
      ended: ``[N]`` segments of agent i that ended in a terminal handoff, where nobody decides.
    """

    handoffs: chex.Array
    durations: chex.Array
    ended: chex.Array


def count_handoffs(
    agent: chex.Array, final_agent: chex.Array, duration: chex.Array, terminated: chex.Array, num_agents: int
) -> HandoffCounts:
    """Counts one batch of segments.

    Args:
      agent: ``[...]`` int32, agent whose option ran.
      final_agent: ``[...]`` int32, agent of the epoch that it led to (``Handoff.final_agent``: before any restart).
      duration: ``[...]`` int32, primitive steps.
      terminated: ``[...]`` bool, whether it led to a terminal handoff.
      num_agents: ``N``.

    Returns:
      int32 sums, exact below 2**31; a run that may exceed that adds them up on the host.
    """
    sender, receiver = agent.reshape(-1), final_agent.reshape(-1)
    ends = terminated.reshape(-1).astype(jnp.int32)
    empty = jnp.zeros((num_agents, num_agents), jnp.int32)
    return HandoffCounts(
        handoffs=empty.at[sender, receiver].add(1 - ends),
        durations=empty.at[sender, receiver].add((1 - ends) * duration.reshape(-1)),
        ended=jnp.zeros(num_agents, jnp.int32).at[sender].add(ends),
    )


class HandoffGraph(NamedTuple):
    """The handoff graph: agents as nodes, handoffs as arrows.

    Attributes:
      share: ``[N]`` share of all decisions that agent i takes.
      rate: ``[N, N]`` handoffs from i to j per handoff of the whole system; sums to 1 less the terminal ones.
      probability: ``[N, N]`` probability that i hands to j when its option ends; 0 where i never acted.
      mean_duration: ``[N, N]`` mean duration of the segments behind the arrow, primitive steps; NaN without any.
      ended: ``[N]`` probability that an option of i ends in a terminal handoff.
    """

    share: Any
    rate: Any
    probability: Any
    mean_duration: Any
    ended: Any


def handoff_graph(handoffs: chex.Array, durations: chex.Array, ended: chex.Array | None = None) -> HandoffGraph:
    """The graph of what was counted.

    Args:
      handoffs: ``[N, N]`` counts, or any multiple of them.
      durations: ``[N, N]`` sums of durations, on the same scale.
      ended: ``[N]`` counts of terminal handoffs; none if None.

    Returns:
      The graph, on the host if the counts are NumPy arrays.
    """
    xp = np if isinstance(handoffs, np.ndarray) else jnp  # counts of a long run on the host may not fit 32 bits
    over = xp.zeros(handoffs.shape[0], handoffs.dtype) if ended is None else ended
    return _graph(xp, handoffs, durations, over)


def _graph(xp: Any, handoffs: Any, durations: Any, ended: Any) -> HandoffGraph:
    visits = handoffs.sum(axis=1) + ended
    total = visits.sum()
    return HandoffGraph(
        share=_ratio(visits, total, 0.0, xp),
        rate=_ratio(handoffs, total, 0.0, xp),
        probability=_ratio(handoffs, visits[:, None], 0.0, xp),
        mean_duration=_ratio(durations, handoffs, xp.nan, xp),
        ended=_ratio(ended, visits, 0.0, xp),
    )


def exact_handoff_graph(model: TabularModel, behaviour: np.ndarray | None = None) -> HandoffGraph:
    """The graph that a long run under a fixed behaviour tends to, from its stationary law (D4); float64.

    Args:
      model: the IC-SMDP.
      behaviour: ``[Z, O]`` behaviour policy; uniform over available options if None.

    Raises:
      ValueError: if the behaviour chain has not exactly one recurrent class, or the policy is not one.
    """
    moments = kernel_moments(model)
    chain = behaviour_chain(model, behaviour, moments.probability)
    weight = (chain.stationary[:, None] * chain.behaviour[model.interface] * moments.used).reshape(-1)
    member = np.eye(model.num_agents)[model.agent]  # [S, N]
    sender = np.repeat(member, model.num_options, axis=0).T * weight  # [N, S*O]
    receiver = member * ~model.is_terminal[:, None]
    reached = as_dense(moments.probability @ receiver)
    handoffs = sender @ reached
    if model.kernel is not None:
        steps = np.arange(1, model.longest_duration + 1)
        durations = sender @ (np.einsum("t,sotn->son", steps, model.kernel).reshape(len(weight), -1) @ receiver)
    else:
        assert model.duration is not None
        mean = (model.duration @ np.arange(1, model.longest_duration + 1)).reshape(-1)
        durations = (sender * mean) @ reached  # duration and next state are independent given state and option
    ended = sender @ (moments.probability @ model.is_terminal.astype(float))
    return _graph(np, handoffs, durations, ended)


def _ratio(above: Any, below: Any, otherwise: float, xp: Any = jnp) -> Any:
    """``above / below``, ``otherwise`` where ``below`` is 0; nothing is ever divided by 0."""
    some = below > 0
    return xp.where(some, above / xp.where(some, below, 1), otherwise)
