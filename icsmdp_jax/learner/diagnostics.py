"""What goes on inside a run, agent by agent: errors, visits, gradients, and who hands to whom.

Visits and gradients are measured by pure functions of plain arrays, jittable and vmappable; handoff graphs are
assembled on the host. ``N`` agents; NaN stands for "not measured".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.exact.chain import behaviour_chain
from icsmdp_jax.exact.moments import KernelMoments, as_dense, kernel_moments
from icsmdp_jax.exact.returns import half_width
from icsmdp_jax.models.tabular import TabularModel


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
        agent i's. Negative owners count for no agent.
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


class HandoffGraph(NamedTuple):
    """The handoff graph: agents as nodes, handoffs as arrows. All float64, on the host.

    Attributes:
      share: ``[N]`` share of all decisions that agent i takes.
      rate: ``[N, N]`` handoffs from i to j per handoff of the whole system; sums to 1 less the terminal ones.
      probability: ``[N, N]`` probability that i hands to j when its option ends; 0 where i never acted.
      mean_duration: ``[N, N]`` mean duration of the segments behind the arrow, primitive steps; NaN without any.
      ended: ``[N]`` probability that an option of i ends in a terminal handoff.
      half_width: ``[N, N]`` half the width of the 95 % t-interval of ``rate`` over runs; NaN for a single run.
    """

    share: np.ndarray
    rate: np.ndarray
    probability: np.ndarray
    mean_duration: np.ndarray
    ended: np.ndarray
    half_width: np.ndarray


def handoff_graph(handoffs: np.ndarray, durations: np.ndarray, ended: np.ndarray | None = None) -> HandoffGraph:
    """The graph of what was counted in one run, or the mean graph of several runs that count alike.

    Args:
      handoffs: ``[N, N]`` or ``[runs, N, N]`` counts, or any multiple of them.
      durations: the same shape, sums of durations on the same scale.
      ended: ``[N]`` or ``[runs, N]`` counts of terminal handoffs; none if None.
    """
    counts, sums = (np.reshape(array, (-1, *np.shape(array)[-2:])) for array in (handoffs, durations))
    over = np.zeros(counts.shape[:2]) if ended is None else np.atleast_2d(ended)
    total = (counts.sum(axis=(1, 2)) + over.sum(axis=1))[:, None]
    total = np.where(total > 0, total, 1.0)
    over, rates, sums = over / total, counts / total[..., None], sums / total[..., None]
    rate, ends = rates.mean(axis=0), over.mean(axis=0)
    share = rate.sum(axis=1) + ends
    return HandoffGraph(
        share=share,
        rate=rate,
        probability=_ratio(rate, share[:, None], 0.0, np),
        mean_duration=_ratio(sums.mean(axis=0), rate, np.nan, np),
        ended=_ratio(ends, share, 0.0, np),
        half_width=half_width(rates),
    )


def exact_handoff_graph(
    model: TabularModel, behaviours: np.ndarray | None = None, moments: KernelMoments | None = None
) -> HandoffGraph:
    """The graph that a long run under a fixed behaviour tends to, from its stationary law (D4).

    Args:
      model: the IC-SMDP.
      behaviours: ``[Z, O]`` behaviour policy, or ``[runs, Z, O]`` for the mean over as many; uniform if None.
      moments: moments of the kernel, if they are known already.

    Raises:
      ValueError: if a behaviour chain has not exactly one recurrent class, or a policy is not one.
    """
    moments = kernel_moments(model) if moments is None else moments
    member = np.eye(model.num_agents)[model.agent]  # [S, N]
    receiver = member * ~model.is_terminal[:, None]
    reached, ends = as_dense(moments.probability @ receiver), moments.probability @ model.is_terminal.astype(float)
    steps = np.arange(1, model.longest_duration + 1)
    if model.kernel is not None:
        timed = np.einsum("t,sotn->son", steps, model.kernel).reshape(len(reached), -1) @ receiver
    else:
        assert model.duration is not None
        timed = (model.duration @ steps).reshape(-1, 1) * reached  # duration and next state: independent given (s, o)
    found = []
    for behaviour in [None] if behaviours is None else np.reshape(behaviours, (-1, *np.shape(behaviours)[-2:])):
        chain = behaviour_chain(model, behaviour, moments.probability)
        weight = (chain.stationary[:, None] * chain.behaviour[model.interface] * moments.used).reshape(-1)
        sender = np.repeat(member, model.num_options, axis=0).T * weight  # [N, S*O]
        found.append((sender @ reached, sender @ timed, sender @ ends))
    return handoff_graph(*(np.stack(part) for part in zip(*found, strict=True)))


def _ratio(above: Any, below: Any, otherwise: float, xp: Any = jnp) -> Any:
    """``above / below``, ``otherwise`` where ``below`` is 0; nothing is ever divided by 0."""
    some = below > 0
    return xp.where(some, above / xp.where(some, below, 1), otherwise)
