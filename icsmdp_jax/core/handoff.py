"""The vocabulary: what a handoff shows, what a finished segment leaves its agent, what an environment declares.

Every structure is a ``NamedTuple`` of arrays, hence a JAX pytree: it can be carried through ``lax.scan``,
mapped with ``vmap`` and donated. Shapes below are those of one environment; a leading batch axis is added by ``vmap``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex


class Handoff(NamedTuple):
    """What one decision epoch returns (D1, D2).

    The first three fields describe the decision to be taken *now*; the next five describe the segment that has
    just ended (zeros after ``reset``); the ``final_*`` fields describe the epoch in which that segment really ended,
    which differs from the first three only where an automatic reset replaced it.

    Attributes:
      agent: ``[]`` int32, the active agent.
      interface: ``[]`` int32 (tabular) or ``[...]`` float32, all that the active agent sees.
      mask: ``[O]`` bool, the options available at this interface.
      reward: ``[]`` float32, segment reward ``R = sum_t gamma^t r_{t+1}`` of the segment that ended.
      duration: ``[]`` int32, its number ``tau >= 1`` of primitive steps (0 after a reset).
      discount: ``[]`` float32, ``gamma^tau``; 0 if the segment ended in a terminal handoff.
      terminated: ``[]`` bool, whether it ended in a terminal handoff.
      truncated: ``[]`` bool, whether it was cut by a limit that is not part of the model; then ``discount`` is not 0.
      final_agent: ``[]`` int32, agent of the epoch that the segment led to, before any automatic reset.
      final_interface: interface of that epoch, same shape and dtype as ``interface``.
      final_mask: ``[O]`` bool, its mask.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> first, state = env.reset(jax.random.key(0), params)
      >>> first.mask.shape, int(first.duration)  # four options; nothing has lasted yet
      ((4,), 0)
    """

    agent: chex.Array
    interface: chex.Array
    mask: chex.Array
    reward: chex.Array
    duration: chex.Array
    discount: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    final_agent: chex.Array
    final_interface: chex.Array
    final_mask: chex.Array


class Segment(NamedTuple):
    """What the agent whose option has just ended keeps of it, for its own update (D9).

    Attributes:
      interface: ``[]`` int32 or ``[...]`` float32, what the agent saw when it chose.
      option: ``[]`` int32, the option it chose.
      reward: ``[]`` float32, segment reward ``R``.
      discount: ``[]`` float32, ``gamma^tau``; 0 at a terminal handoff.
      epoch: ``[]`` int32, number of handoffs before this one on the shared clock (step-size schedules may use it).
    """

    interface: chex.Array
    option: chex.Array
    reward: chex.Array
    discount: chex.Array
    epoch: chex.Array


class EnvSpec(NamedTuple):
    """Static facts of an environment: plain Python values, never traced.

    Attributes:
      name: readable name.
      num_agents: number ``N`` of agents.
      num_options: number ``O`` of options (masks may forbid some).
      num_interfaces: number ``Z`` of interfaces if they are enumerable, else 0.
      interface_shape: shape of one interface; ``()`` for an index.
      interface_dtype: dtype of the interface.
      longest_duration: largest possible ``tau`` in primitive steps, 0 if unbounded.
      exact_oracle: whether the underlying model is small enough to be solved exactly (``Environment.exact_model``).

    Example:
      >>> import icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> env.spec.num_agents, env.spec.num_interfaces, env.spec.interface_shape  # numbered interfaces
      (10, 40, ())
    """

    name: str
    num_agents: int
    num_options: int
    num_interfaces: int
    interface_shape: tuple[int, ...]
    interface_dtype: Any
    longest_duration: int
    exact_oracle: bool
