"""Arriving at an epoch: the handoff that an environment returns before any automatic reset (D2).

Until a reset replaces it, the decision to be taken is the one that the finished segment led to, so the ``final_*``
fields repeat the first three fields of the handoff.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax.numpy as jnp

from icsmdp_jax.core.handoff import Handoff


class Ended(NamedTuple):
    """The segment that led to an epoch; fields, shapes and types are those of ``Handoff``.

    Example:
      >>> import icsmdp_jax as ic
      >>> ic.Ended(reward=1.0, duration=3, discount=0.0, terminated=True, truncated=False)._fields
      ('reward', 'duration', 'discount', 'terminated', 'truncated')
    """

    reward: chex.Array
    duration: chex.Array
    discount: chex.Array
    terminated: chex.Array
    truncated: chex.Array


def no_segment() -> Ended:
    """What comes before the first epoch of a run: zeros.

    Example:
      >>> import icsmdp_jax as ic
      >>> int(ic.no_segment().duration)
      0
    """
    zero, no = jnp.float32(0), jnp.zeros((), bool)
    return Ended(reward=zero, duration=jnp.int32(0), discount=zero, terminated=no, truncated=no)


def arrive(agent: chex.Array, interface: chex.Array, mask: chex.Array, ended: Ended) -> Handoff:
    """The handoff at which a segment has ended: who decides now, what it sees, and its ``[O]`` options.

    Example:
      >>> import jax.numpy as jnp, icsmdp_jax as ic
      >>> handoff = ic.arrive(jnp.int32(1), jnp.zeros(3), jnp.ones(2, bool), ic.no_segment())
      >>> int(handoff.agent), int(handoff.final_agent)
      (1, 1)
    """
    return Handoff(agent, interface, mask, *ended, final_agent=agent, final_interface=interface, final_mask=mask)
