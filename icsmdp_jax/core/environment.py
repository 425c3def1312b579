"""The environment contract: ``reset``, ``step_env`` (exact final state) and ``step`` (automatic reset).

Argument order is ``(key, state, option, params)``; random keys are arguments and never part of the state.
Measurement code calls ``step_env``, which leaves the final state in place; training loops call ``step``.
"""

from __future__ import annotations

import abc
from typing import Any, Generic, TypeVar

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.handoff import EnvSpec, Handoff

State = TypeVar("State")
Params = TypeVar("Params")


class Environment(abc.ABC, Generic[State, Params]):
    """A functional IC-SMDP (D1): all methods are pure, jittable and vmappable.

    Environments that can turn raw random words into a transition set ``words_per_step`` to the number of
    ``uint32`` words that one step consumes and implement ``step_from_words``: a training loop then draws the
    words of many steps at once, ahead of the scan, which on a CPU is several times faster than one key per step.
    """

    words_per_step: int = 0

    @property
    @abc.abstractmethod
    def spec(self) -> EnvSpec:
        """Static facts of this environment."""

    @abc.abstractmethod
    def reset(self, key: chex.PRNGKey, params: Params) -> tuple[Handoff, State]:
        """Starts a run; the returned handoff carries zeros for the segment that does not exist yet."""

    @abc.abstractmethod
    def step_env(self, key: chex.PRNGKey, state: State, option: chex.Array, params: Params) -> tuple[Handoff, State]:
        """Runs one option to its end, without automatic reset: the state returned is the one really entered."""

    def step(self, key: chex.PRNGKey, state: State, option: chex.Array, params: Params) -> tuple[Handoff, State]:
        """Runs one option to its end and, if that ended the episode, starts the next one in the same call.

        The segment fields and ``final_*`` still describe the segment that ended.
        """
        key_step, key_reset = jax.random.split(key)
        handoff, entered = self.step_env(key_step, state, option, params)
        fresh, fresh_state = self.reset(key_reset, params)
        return restart(handoff, entered, fresh, fresh_state)


def restart(handoff: Handoff, entered: Any, fresh: Handoff, fresh_state: Any) -> tuple[Handoff, Any]:
    """Replaces the decision of an ended episode by a fresh one, and nothing else (D4).

    Args:
      handoff: what ``step_env`` returned.
      entered: the state it returned.
      fresh: what ``reset`` returned.
      fresh_state: the state that belongs to it.

    Returns:
      The handoff to act on, with the ended segment's fields and ``final_*`` untouched, and its state.
    """
    done = handoff.terminated | handoff.truncated

    def pick(new: chex.Array, old: chex.Array) -> chex.Array:
        return jnp.where(done, new, old)

    merged = handoff._replace(
        agent=pick(fresh.agent, handoff.agent),
        interface=pick(fresh.interface, handoff.interface),
        mask=pick(fresh.mask, handoff.mask),
    )
    return merged, jax.tree.map(pick, fresh_state, entered)
