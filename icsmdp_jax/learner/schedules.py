"""Step sizes and update rules of one agent (D9, T3, T3.1).

One traced form covers the schedules of the theory: ``min(cap, scale (1 + rescale c)^-power)``, where the clock
``c`` counts either the handoffs of the whole run or the agent's own updates of the entry concerned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from icsmdp_jax.core.arguments import within
from icsmdp_jax.core.dtypes import default_dtypes
from icsmdp_jax.core.handoff import Segment
from icsmdp_jax.learner.message import OptState, Params, Rule

CLOCKS = ("epoch", "visits")


class StepSize(NamedTuple):
    """Parameters of a step-size schedule, all traced, so that one compilation serves many schedules.

    Attributes:
      scale: ``[]`` float32, step at clock 0 before the cap.
      rescale: ``[]`` float32, how fast the clock counts.
      power: ``[]`` float32; 0 gives a constant step.
      cap: ``[]`` float32, largest step ever taken.
    """

    scale: chex.Array
    rescale: chex.Array
    power: chex.Array
    cap: chex.Array

    def at(self, clock: chex.Array) -> chex.Array:
        """Step size at integer clock ``clock`` (``[]`` int32, exact beyond the 2**24 of a float32 counter)."""
        base = 1.0 + self.rescale * clock.astype(jnp.float32)
        # jnp.power calls the C library once per number; exp and log compile to vector code.
        return jnp.minimum(self.cap, self.scale * jnp.exp(-self.power * jnp.log(base)))


def _size(scale: Any, rescale: Any, power: Any, cap: Any) -> StepSize:
    within(0, math.inf, scale=scale, rescale=rescale, power=power, cap=cap)
    return StepSize(*(jnp.asarray(value, jnp.float32) for value in (scale, rescale, power, cap)))


def constant(step: Any) -> StepSize:
    """The same step at every update; ``K**-0.5`` is the one of T3.

    Example:
      >>> import jax.numpy as jnp, icsmdp_jax as ic
      >>> float(ic.constant(0.5).at(jnp.int32(7)))
      0.5
    """
    within(0, math.inf, step=step)
    return _size(step, 0.0, 0.0, jnp.inf)


def theorem_decaying(omega: Any, kappa: Any) -> StepSize:
    """``1 / (omega (k+1) (1-kappa))`` on the shared clock: the one of T3.1."""
    return _size(1.0 / (omega * (1.0 - kappa)), 1.0, 1.0, jnp.inf)


def polynomial(power: Any = 0.7, rescale: Any = 1.0, scale: Any = 1.0, cap: Any = 1.0) -> StepSize:
    """``min(cap, scale (1 + rescale c)^-power)``; with ``1/2 < power < 1`` the tail average meets P2.

    Example:
      >>> import jax.numpy as jnp, icsmdp_jax as ic
      >>> round(float(ic.polynomial(0.5).at(jnp.int32(3))), 6)
      0.5
    """
    return _size(scale, rescale, power, cap)


SHARED_CLOCK = ("constant", "harmonic", "polynomial")
POWER = 0.7  # of polynomial steps; any value in (1/2, 1) gives the same limit law (P2), this one less bias


def shared_clock(schedule: str, count: int, omega: float, kappa: float) -> tuple[float, float, float]:
    """``(scale, rescale, power)`` of a schedule on the shared clock for K handoffs (theorem B); steps are at most 1.

    Args:
      schedule: ``constant`` (``K^(-1/2)`` throughout), ``harmonic`` (``1/(1 + (1 - kappa) omega k)``) or ``polynomial``
        (``(1 + omega k)^(-0.7)``).
      count: K.
      omega: smallest ``d(z, o)``.
      kappa: certificate of A6.

    Raises:
      ValueError: for another schedule, or for the harmonic one where A6 is not certified.
    """
    if schedule == "constant":
        return count**-0.5, 0.0, 0.0
    if schedule == "harmonic":
        if not kappa < 1:
            raise ValueError(f"schedule harmonic: A6 is not certified (kappa = {kappa:.6g}), expected less than 1")
        return 1.0, (1.0 - kappa) * omega, 1.0
    if schedule == "polynomial":
        return 1.0, omega, POWER
    raise ValueError(f"schedule = {schedule!r}: expected one of {', '.join(SHARED_CLOCK)}")


def rescaled_linear(gamma_bar: Any) -> StepSize:
    """``1 / (1 + (1 - gamma_bar) c)``: the step of the last-iterate analyses of synchronous Q-learning."""
    return _size(1.0, 1.0 - gamma_bar, 1.0, 1.0)


class Visits(NamedTuple):
    """Optimiser state of the stochastic-approximation rule: ``count`` int32, the agent's own updates so far."""

    count: chex.Array


def stochastic_approximation(
    size: StepSize,
    clock: str,
    per_option: bool,
    radius: chex.Array | None = None,
    project: Callable[[Params, chex.Array], Params] | None = None,
) -> Rule:
    """Plain semi-gradient step ``theta <- Proj(theta + alpha error grad Q_i(z, o))`` (D9).

    Args:
      size: the schedule.
      clock: ``"epoch"`` for the shared clock, ``"visits"`` for the agent's own count of updates.
      per_option: with ``"visits"``, whether each option of the parameter slot keeps its own count
        (tabular: every pair (z, o) has one).
      radius: ``[]`` float32; if given, parameters are projected after each step.
      project: how, given the agent's parameters and the radius; ``project_rows`` if None (T3).

    Returns:
      The rule of one agent.

    Raises:
      ValueError: for an unknown clock.
    """
    if clock not in CLOCKS:
        raise ValueError(f"clock = {clock!r}: expected 'epoch' or 'visits'")

    def init(params: Params) -> Visits:
        options = jax.tree.leaves(params)[0].shape[0]
        return Visits(jnp.zeros((options,) if per_option else (), jnp.int32))

    def update(
        params: Params, state: OptState, direction: Params, error: chex.Array, segment: Segment
    ) -> tuple[Params, OptState]:
        # A row of O counts is read and written whole, so a mask costs less than a gather and a scatter in it.
        hit = (
            (jnp.arange(state.count.shape[0], dtype=jnp.int32) == segment.option).astype(jnp.int32)
            if per_option
            else jnp.int32(1)
        )
        seen = jnp.sum(hit * state.count)
        alpha = size.at(segment.epoch if clock == "epoch" else seen)
        count = state.count + hit
        params = jax.tree.map(lambda p, g: p + alpha * error * g, params, direction)
        if radius is not None:
            params = (project or project_rows)(params, radius)
        return params, Visits(count)

    return Rule(init, update)


def project_rows(params: chex.Array, radius: chex.Array) -> chex.Array:
    """Projects each option's vector onto the ball of radius ``radius`` around 0 (T3).

    Args:
      params: ``[O]`` or ``[O, p]`` float32.
      radius: ``[]`` float32.

    Returns:
      The same shape.
    """
    rows = params.reshape(params.shape[0], -1)
    norm = jnp.sqrt(jnp.sum(rows * rows, axis=1, keepdims=True))
    shrink = jnp.where(norm > radius, radius / jnp.maximum(norm, 1e-30), 1.0)
    return (rows * shrink).reshape(params.shape)


def from_optax(optimiser: optax.GradientTransformation) -> Rule:
    """Any optax optimiser as the rule of one agent; it descends half the squared temporal difference.

    Args:
      optimiser: the transformation, applied to one agent's own parameters.

    Returns:
      The rule.
    """

    def init(params: Params) -> OptState:
        with default_dtypes():
            return optimiser.init(params)

    def update(
        params: Params, state: OptState, direction: Params, error: chex.Array, segment: Segment
    ) -> tuple[Params, OptState]:
        gradient = jax.tree.map(lambda g: -error * g, direction)
        with default_dtypes():
            updates, state = optimiser.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

    return Rule(init, update)
