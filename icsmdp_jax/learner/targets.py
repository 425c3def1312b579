"""Targets of IC-Q over one handoff and over chains of handoffs, for data that are already there (D9).

A *chain* is a run of ``T`` consecutive segments. Segment ``t`` leaves the epoch ``t`` and leads to epoch ``t + 1``:
``rewards[t]`` is its segment reward, ``discounts[t]`` its ``gamma^tau`` (0 if it ended in a terminal handoff),
``scalars[t]`` what the agent active at epoch ``t + 1`` offers there, and ``truncated[t]`` says that a limit outside the
model cut the episode at epoch ``t + 1``, so that segment ``t + 1`` belongs to another one. The offer at such an epoch
is that of ``Handoff.final_interface``. A target bootstraps from ``scalars[t]`` and looks no further where

* the chain ends (``t = T - 1``),
* ``truncated[t]`` is set: the discount is then not 0 and the offer counts,
* ``discounts[t]`` is 0: nothing counts, and what comes later need not even be finite (``scalars[t]`` itself must be).

Every function is unbatched, pure and jittable; batches are made with ``vmap``. None of them stops a gradient: a target
is differentiable in all it is made of, and a caller who differentiates a loss through it applies
``jax.lax.stop_gradient`` to the target first. ``absorb`` needs no such care, for it differentiates the agent's own
value only.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Chain(NamedTuple):
    """Outcome of a chain that was closed and worked through backwards.

    Attributes:
      targets: ``[T]`` float, the target of every segment.
      messages: ``[T]`` float, all that crossed: ``messages[t]`` went from the agent active at epoch ``t + 1`` to the
        agent whose segment ``t`` is.
    """

    targets: chex.Array
    messages: chex.Array


def one_handoff(reward: chex.Array, discount: chex.Array, scalar: chex.Array) -> chex.Array:
    """The target ``R + gamma^tau v`` (D9).

    Args:
      reward: ``[]`` float, segment reward.
      discount: ``[]`` float, ``gamma^tau``; 0 at a terminal handoff.
      scalar: ``[]`` float, what the receiver returned.

    Returns:
      ``[]`` float.
    """
    return reward + discount * scalar


def double_q_offer(online_values: chex.Array, target_values: chex.Array, mask: chex.Array) -> chex.Array:
    """The receiver's offer with two sets of parameters: one chooses the option, the other values it.

    Both belong to the receiver, so it still returns a single scalar (van Hasselt, Guez and Silver 2016).

    Args:
      online_values: ``[O]`` float, values under the parameters that are trained.
      target_values: ``[O]`` float, values under the slowly moving ones.
      mask: ``[O]`` bool, available options; 0 is returned if there is none (a terminal epoch).

    Returns:
      ``[]`` float.
    """
    chex.assert_equal_shape([online_values, target_values, mask])
    chosen = target_values[jnp.argmax(jnp.where(mask, online_values, -jnp.inf)).astype(jnp.int32)]
    return jnp.where(jnp.any(mask), chosen, jnp.zeros_like(chosen))


def n_handoff(
    rewards: chex.Array, discounts: chex.Array, scalars: chex.Array, n: int | chex.Array, truncated: chex.Array
) -> chex.Array:
    """Targets that look ``n`` handoffs ahead: ``R_t + D_t R_{t+1} + ... + (D_t ... D_{t+n-1}) scalars[t+n-1]``.

    A target that would need more segments than there are before the end of the chain, or of its episode, uses those
    available. For ``n > 1`` it follows the behaviour policy in between: not off-policy correct.

    Args:
      rewards: ``[T]`` float.
      discounts: ``[T]`` float.
      scalars: ``[T]`` float.
      n: number of handoffs, at least 1: an int, or ``[]`` int32 that may be traced (below 1 it then counts as 1).
      truncated: ``[T]`` bool.

    Returns:
      ``[T]`` float, in ``min(n, T)`` vectorised passes, or ``T`` if ``n`` is an array.

    Raises:
      ValueError: for an int ``n`` below 1.
    """
    closed = _closed(rewards, discounts, scalars, truncated)
    length = closed.shape[0]
    if isinstance(n, int) and n < 1:
        raise ValueError(f"n = {n}: expected at least 1 handoff")

    def longer(done: chex.Array, targets: chex.Array) -> chex.Array:
        passed = jnp.where(closed, scalars, jnp.roll(targets, -1))  # what rolls over the end is closed
        return jnp.where(done < n, one_handoff(rewards, discounts, passed), targets)

    # Static bounds whatever n is: reverse differentiation needs them.
    passes = min(n, length) if isinstance(n, int) else length
    return jax.lax.fori_loop(1, passes, longer, one_handoff(rewards, discounts, scalars))


def lambda_returns(
    rewards: chex.Array,
    discounts: chex.Array,
    scalars: chex.Array,
    lambda_: float | chex.Array,
    truncated: chex.Array,
) -> chex.Array:
    """Targets ``G_t = R_t + D_t ((1 - lambda_t) scalars[t] + lambda_t G_{t+1})``, by one backward pass.

    With one ``lambda`` this is the mixture of the ``n``-handoff targets with weights ``(1 - lambda) lambda^{n-1}``,
    the longest taking the rest. It evaluates the policy that the scalars belong to if that policy also acted.

    Args:
      rewards: ``[T]`` float.
      discounts: ``[T]`` float.
      scalars: ``[T]`` float.
      lambda_: ``[]`` or ``[T]`` float in [0, 1]; ``lambda_[t]`` is the choice of the agent active at epoch ``t + 1``.
      truncated: ``[T]`` bool.

    Returns:
      ``[T]`` float.
    """
    closed = _closed(rewards, discounts, scalars, truncated)
    return _corrected(rewards, discounts, scalars, scalars, lambda_, closed)


def peng_q_lambda(
    rewards: chex.Array,
    discounts: chex.Array,
    offers: chex.Array,
    lambda_: float | chex.Array,
    truncated: chex.Array,
) -> chex.Array:
    """Peng's Q(lambda): ``lambda_returns`` with best values as scalars, whatever options were taken.

    Not off-policy correct: its fixed point lies between the value of the behaviour and the optimum, and reaches the
    optimum as the behaviour becomes greedy (Peng and Williams 1996; Kozuno et al. 2021).

    Args:
      rewards: ``[T]`` float.
      discounts: ``[T]`` float.
      offers: ``[T]`` float, each receiver's best value.
      lambda_: ``[]`` or ``[T]`` float in [0, 1].
      truncated: ``[T]`` bool.

    Returns:
      ``[T]`` float.
    """
    return lambda_returns(rewards, discounts, offers, lambda_, truncated)


def watkins_q_lambda(
    rewards: chex.Array,
    discounts: chex.Array,
    offers: chex.Array,
    lambda_: float | chex.Array,
    truncated: chex.Array,
    greedy: chex.Array,
) -> chex.Array:
    """Watkins' Q(lambda): the target stops at the first epoch whose option was not the greedy one.

    Off-policy correct: only greedy options are ever looked through. The price is that exploration makes it short
    (Watkins 1989).

    Args:
      rewards: ``[T]`` float.
      discounts: ``[T]`` float.
      offers: ``[T]`` float, each receiver's best value.
      lambda_: ``[]`` or ``[T]`` float in [0, 1].
      truncated: ``[T]`` bool.
      greedy: ``[T+1]`` bool, whether the option taken at each epoch was a best one for its agent. The first is that
        of the segment to be valued and the last lies beyond the chain: neither matters.

    Returns:
      ``[T]`` float.
    """
    closed = _closed(rewards, discounts, offers, truncated)
    chex.assert_shape(greedy, (closed.shape[0] + 1,))
    return _corrected(rewards, discounts, offers, offers, lambda_, closed | ~greedy[1:])


def naive_q_lambda(
    rewards: chex.Array,
    discounts: chex.Array,
    offers: chex.Array,
    taken: chex.Array,
    lambda_: float | chex.Array,
    truncated: chex.Array,
) -> chex.Array:
    """Naive Q(lambda): ``R_t + D_t (offers[t] + lambda_t (G_{t+1} - taken[t+1]))``, nothing cut.

    The receiver adds its own temporal difference to its best value. At the optimum these differences have mean 0
    under any behaviour, so the fixed point is off-policy correct; that the iteration contracts is known only for
    small ``lambda`` or behaviour close to the target policy (Harutyunyan et al. 2016).

    Args:
      rewards: ``[T]`` float.
      discounts: ``[T]`` float.
      offers: ``[T]`` float, each receiver's best value.
      taken: ``[T]`` float, ``Q_i(z, o)`` of each segment's own agent for the option that it took; the first does not
        matter.
      lambda_: ``[]`` or ``[T]`` float in [0, 1].
      truncated: ``[T]`` bool.

    Returns:
      ``[T]`` float.
    """
    closed = _closed(rewards, discounts, offers, truncated)
    chex.assert_equal_shape([rewards, taken])
    return _corrected(rewards, discounts, offers, jnp.roll(taken, -1), lambda_, closed)


def relay(own_value: chex.Array, own_target: chex.Array, lambda_: float | chex.Array) -> chex.Array:
    """The one number that an agent passes back in a chain: ``(1 - lambda) v_j + lambda G_j``.

    Args:
      own_value: ``[]`` float, the agent's offer at its own interface.
      own_target: ``[]`` float, the target of the segment that the agent itself then started.
      lambda_: ``[]`` float in [0, 1], the agent's own choice; 0 gives the plain offer.

    Returns:
      ``[]`` float; the agent before it forms its target from this number with ``one_handoff`` and nothing else.
    """
    return (1.0 - lambda_) * own_value + lambda_ * own_target


def chain_targets(
    rewards: chex.Array,
    discounts: chex.Array,
    own_values: chex.Array,
    lambda_: float | chex.Array,
    truncated: chex.Array,
) -> Chain:
    """A closed chain as its agents work through it, last segment first: ``relay``, then ``one_handoff``.

    The targets are those of ``lambda_returns``; here they come with the messages that were needed, one float for each
    handoff. An agent without a segment of its own behind the epoch in question sends its plain offer.

    Args:
      rewards: ``[T]`` float, private to each segment's agent.
      discounts: ``[T]`` float, likewise.
      own_values: ``[T]`` float; entry ``t`` is private to the agent active at epoch ``t + 1``.
      lambda_: ``[]`` or ``[T]`` float in [0, 1], entry ``t`` likewise.
      truncated: ``[T]`` bool.

    Returns:
      A ``Chain``.
    """
    closed = _closed(rewards, discounts, own_values, truncated)

    def back(target: chex.Array, at: tuple[chex.Array, ...]) -> tuple[chex.Array, Chain]:
        reward, discount, own_value, weight, alone = at
        message = jnp.where(alone, own_value, relay(own_value, target, weight))
        target = one_handoff(reward, discount, message)
        return target, Chain(target, message)

    weights = jnp.broadcast_to(jnp.asarray(lambda_, own_values.dtype), closed.shape)
    start = jnp.zeros_like(own_values[0])
    return jax.lax.scan(back, start, (rewards, discounts, own_values, weights, closed), reverse=True)[1]


def _closed(rewards: chex.Array, discounts: chex.Array, scalars: chex.Array, truncated: chex.Array) -> chex.Array:
    """``[T]`` bool: segments behind which no target looks. Checks the shapes of a chain on the way."""
    chex.assert_rank(rewards, 1)
    chex.assert_equal_shape([rewards, discounts, scalars, truncated])
    last = jnp.arange(rewards.shape[0], dtype=jnp.int32) == rewards.shape[0] - 1
    return truncated | (discounts == 0) | last


def _corrected(
    rewards: chex.Array,
    discounts: chex.Array,
    scalars: chex.Array,
    baselines: chex.Array,
    lambda_: float | chex.Array,
    closed: chex.Array,
) -> chex.Array:
    """``G_t = R_t + D_t (scalars[t] + lambda_t (G_{t+1} - baselines[t]))``, without the bracket's end where closed."""

    def back(ahead: chex.Array, at: tuple[chex.Array, ...]) -> tuple[chex.Array, chex.Array]:
        reward, discount, scalar, baseline, weight, end = at
        passed = jnp.where(end, scalar, scalar + weight * (ahead - baseline))
        target = one_handoff(reward, discount, passed)
        return target, target

    weights = jnp.broadcast_to(jnp.asarray(lambda_, scalars.dtype), closed.shape)
    inputs = (rewards, discounts, scalars, baselines, weights, closed)
    return jax.lax.scan(back, jnp.zeros_like(scalars[0]), inputs, reverse=True)[1]
