"""A new agent's parameters as a convex combination of those of agents that are there already.

The coefficients are searched with values alone: one two-point step evaluates the combination at ``alpha + d u`` and at
``alpha - d u``, two forward passes, for one random direction ``u``, and never differentiates anything. Parameters are
pytrees whose leaves have a first axis of K experts; coefficients are ``[K]`` float32, 0 or more, with sum 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.arguments import whole

Loss = Callable[[chex.Array, chex.Array], chex.Array]  # of (coefficients, coefficients whose targets are held)


def combine(experts: Any, weights: chex.Array) -> Any:
    """``sum_k weights[k] theta_k``: leaves ``[K, ...]`` to leaves ``[...]``, of their dtype."""
    return jax.tree.map(lambda leaf: jnp.tensordot(weights.astype(leaf.dtype), leaf, axes=1), experts)


def onto_simplex(point: chex.Array) -> chex.Array:
    """The nearest point with entries of 0 or more and sum 1, in Euclidean distance; ``[K]`` of the point's dtype."""
    falling = jnp.sort(point)[::-1]
    excess = (jnp.cumsum(falling) - 1) / jnp.arange(1, point.shape[0] + 1, dtype=point.dtype)
    last = jnp.sum(falling > excess) - 1
    return jnp.maximum(point - excess[last], 0)


def direction(key: chex.PRNGKey, experts: int) -> chex.Array:
    """``[K]`` float32 ``u``, uniform on the unit sphere where the sum is 0: ``E[u u'] = (I - 11'/K) / (K - 1)``."""
    drawn = jax.random.normal(key, (experts,), jnp.float32)
    centred = drawn - drawn.mean()
    return centred / jnp.linalg.norm(centred)


def two_point(loss: Callable[[chex.Array], chex.Array], at: chex.Array, u: chex.Array, radius: float) -> chex.Array:
    """``(K - 1) (loss(at + radius u) - loss(at - radius u)) / (2 radius) u``: two forward passes.

    Its mean over ``direction`` is the gradient along the simplex for quadratic losses, whatever the radius, and for
    smooth ones as the radius falls. Near the boundary one of the two points lies outside the simplex.
    """
    slope = (loss(at + radius * u) - loss(at - radius * u)) / (2 * radius)
    return (at.shape[0] - 1) * slope * u


def mix(
    loss: Loss, experts: int, steps: int, size: chex.Array, key: chex.PRNGKey | None = None, radius: float = 0.1
) -> chex.Array:
    """Coefficients after projected steps from the uniform ones, ``alpha <- Proj(alpha - size g)``.

    Without gradients the noise of a step vanishes with the gradient: inside the simplex steps of constant size
    converge, on its boundary they stay within reach of the best point.

    Args:
      loss: ``loss(alpha, held)``, whose targets are those of the combination ``held``; a step goes down in the first
        argument at ``held = alpha``, as a temporal difference does.
      experts: K, 2 or more.
      steps: steps to take.
      size: ``[]`` float32 step size.
      key: of the random directions; None for full gradients, by differentiation.
      radius: distance of the two points from the current coefficients.

    Returns:
      ``[K]`` float32.
    """
    whole(2, experts=experts)

    def step(alpha: chex.Array, index: chex.Array) -> tuple[chex.Array, None]:
        if key is None:
            slope = jax.grad(loss)(alpha, alpha)
        else:
            u = direction(jax.random.fold_in(key, index), experts)
            slope = two_point(lambda at: loss(at, alpha), alpha, u, radius)
        return onto_simplex(alpha - size * slope), None

    start = jnp.full((experts,), 1 / experts, jnp.float32)
    return jax.lax.scan(step, start, jnp.arange(steps))[0]
