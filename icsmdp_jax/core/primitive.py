"""Environments that show their primitive steps, and their options as one-call segments (D1, D2).

A ``PrimitiveEnvironment`` does not run an option by itself: ``begin`` starts one, and ``tick`` asks for a local action
at every primitive step until the option has ended. With fixed local-action policies it becomes an ordinary
``Environment`` (``Lifted``: the preconfigured regime); a learner that trains the local policies as well works with
``launch``, ``advance`` and ``handoff_of``, which ``Lifted`` calls in a loop.

Keys: an option that is run with ``key`` begins with the first half of ``option_keys(key)``; its primitive step ``t``
uses ``tick_keys`` of the other half and ``t``. Code that follows this rule gets the same bits whether it runs an
option in one call or one step at a time, alone or in a batch.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Generic, NamedTuple

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.arrival import Ended, arrive, no_segment
from icsmdp_jax.core.environment import Environment, Params, State
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.core.words import in_short

LocalPolicy = Callable[[Any, chex.Array, chex.Array, chex.Array, chex.Array], chex.Array]
"""``(policy_params, agent, option, observation, action_mask) -> [A]`` logits; masked actions are left to the caller."""


class LocalSpec(NamedTuple):
    """Static facts of what happens inside an option.

    Attributes:
      num_actions: number ``A`` of local actions (masks may forbid some).
      num_observations: number ``X`` of local observations of one agent if they are enumerable, else 0.
      observation_shape: shape of one local observation; ``()`` for an index.
      observation_dtype: its dtype.
    """

    num_actions: int
    num_observations: int
    observation_shape: tuple[int, ...]
    observation_dtype: Any


class Decision(NamedTuple):
    """A decision epoch: who is to choose an option, and what it sees.

    Attributes:
      agent: ``[]`` int32, the active agent.
      interface: ``[]`` int32 or ``[...]`` float32, all that it sees.
      mask: ``[O]`` bool, options that are available.
    """

    agent: chex.Array
    interface: chex.Array
    mask: chex.Array


class Tick(NamedTuple):
    """What one primitive step returns; ``begin`` returns one too, with reward 0 and nothing ended.

    Attributes:
      observation: ``[]`` int32 or ``[...]`` float32, what the active agent sees inside its option; meaningless once
        the option has ended.
      action_mask: ``[A]`` bool, local actions that are available there.
      reward: ``[]`` float32, of this primitive step.
      ended: ``[]`` bool, whether the option ended with this step: a handoff.
      terminated: ``[]`` bool, whether that handoff is terminal; implies ``ended``.
      truncated: ``[]`` bool, whether a limit outside the model cut the option or the episode; implies ``ended``.
      decision: the epoch that the option led to; meaningless unless it has ended. After a truncation it is the one
        from which the value of continuing is to be estimated.
    """

    observation: chex.Array
    action_mask: chex.Array
    reward: chex.Array
    ended: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    decision: Decision


class PrimitiveEnvironment(abc.ABC, Generic[State, Params]):
    """A functional IC-SMDP that shows its primitive steps: all methods are pure, jittable and vmappable."""

    @property
    @abc.abstractmethod
    def spec(self) -> EnvSpec:
        """Static facts at the option scale."""

    @property
    @abc.abstractmethod
    def local_spec(self) -> LocalSpec:
        """Static facts of what happens inside an option."""

    @abc.abstractmethod
    def gamma(self, params: Params) -> chex.Array:
        """``[]`` float32 discount of one primitive step."""

    @abc.abstractmethod
    def reset(self, key: chex.PRNGKey, params: Params) -> tuple[Decision, State]:
        """Starts an episode."""

    @abc.abstractmethod
    def begin(self, key: chex.PRNGKey, state: State, option: chex.Array, params: Params) -> tuple[Tick, State]:
        """Starts an option; takes no time. The tick carries the first local observation, reward 0, nothing ended."""

    @abc.abstractmethod
    def tick(self, key: chex.PRNGKey, state: State, action: chex.Array, params: Params) -> tuple[Tick, State]:
        """Runs one primitive step of the option under way."""


class Ongoing(NamedTuple):
    """An option under way, of one copy.

    Attributes:
      state: the environment's state.
      decision: the epoch at which the option was chosen.
      option: ``[]`` int32.
      tick: what the latest primitive step returned.
      reward: ``[]`` float32, ``sum_t gamma^t r_{t+1}`` so far.
      discount: ``[]`` float32, ``gamma`` to the number of primitive steps so far, by repeated multiplication.
      duration: ``[]`` int32, that number.
    """

    state: Any
    decision: Decision
    option: chex.Array
    tick: Tick
    reward: chex.Array
    discount: chex.Array
    duration: chex.Array


def option_keys(key: chex.PRNGKey) -> tuple[chex.PRNGKey, chex.PRNGKey]:
    """``(key of begin, key from which those of the primitive steps are made)``."""
    first, second = jax.random.split(key)
    return first, second


def tick_keys(key_run: chex.PRNGKey, duration: chex.Array) -> tuple[chex.PRNGKey, chex.PRNGKey]:
    """``(key of the local action, key of the environment)`` of the primitive step that follows ``duration`` others."""
    first, second = jax.random.split(jax.random.fold_in(key_run, duration))
    return first, second


def launch(
    env: PrimitiveEnvironment, key: chex.PRNGKey, decision: Decision, state: Any, option: chex.Array, params: Any
) -> Ongoing:
    """Begins an option: no primitive step done, nothing earned, discount 1."""
    tick, state = env.begin(key, state, option, params)
    _check(env, tick)
    one, zero = jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32)
    return Ongoing(state, decision, jnp.asarray(option, jnp.int32), tick, zero, one, jnp.zeros((), jnp.int32))


def advance(env: PrimitiveEnvironment, key: chex.PRNGKey, ongoing: Ongoing, action: chex.Array, params: Any) -> Ongoing:
    """Runs one primitive step and adds it to the segment (D2).

    Args:
      env: the environment.
      key: key of this step.
      ongoing: an option that has not ended.
      action: ``[]`` int32 local action.
      params: the environment's parameters.

    Returns:
      The option after the step; whether it has ended is in ``tick.ended``.
    """
    tick, state = env.tick(key, ongoing.state, action, params)
    _check(env, tick)
    return ongoing._replace(
        state=state,
        tick=tick,
        reward=ongoing.reward + ongoing.discount * tick.reward,
        discount=ongoing.discount * env.gamma(params),
        duration=ongoing.duration + 1,
    )


def handoff_of(ongoing: Ongoing) -> Handoff:
    """What an option that has ended reports at the option scale: the fields of the ordinary contract."""
    tick = ongoing.tick
    discount = jnp.where(tick.terminated, jnp.zeros_like(ongoing.discount), ongoing.discount)
    return arrive(*tick.decision, Ended(ongoing.reward, ongoing.duration, discount, tick.terminated, tick.truncated))


def masked_logits(logits: chex.Array, action_mask: chex.Array) -> chex.Array:
    """``[A]`` logits, those of unavailable actions so low that their probability is exactly 0."""
    return jnp.where(action_mask, logits, jnp.asarray(-1e30, logits.dtype))


def draw_action(key: chex.PRNGKey, logits: chex.Array, action_mask: chex.Array) -> chex.Array:
    """``[]`` int32, an available local action drawn from the softmax of ``logits [A]``."""
    return jax.random.categorical(key, masked_logits(logits, action_mask)).astype(jnp.int32)


def uniform_policy(
    policy: Any, agent: chex.Array, option: chex.Array, observation: chex.Array, action_mask: chex.Array
) -> chex.Array:
    """The ``LocalPolicy`` that takes each available action with the same probability; it has no parameters."""
    return jnp.zeros(action_mask.shape, jnp.float32)


class LiftedState(NamedTuple):
    """State of a lifted environment: the primitive one's, and the decision that is due."""

    inner: Any
    decision: Decision


class LiftedParams(NamedTuple):
    """Traced parameters of a lifted environment: the primitive one's, and the local policies'."""

    env: Any
    policy: Any

    def __repr__(self) -> str:
        return in_short(self)


@dataclasses.dataclass(frozen=True)
class Lifted(Environment[LiftedState, LiftedParams]):
    """A primitive environment with fixed local policies as an ordinary one: one call runs one option to its end.

    Equal in law to calling ``tick`` by hand, and with the same keys equal in every bit. Under ``vmap`` every call lasts
    as long as the longest of the options; learners that cannot afford that advance all copies by primitive steps.

    Attributes:
      env: the primitive environment. Its options must end with probability 1, or the loop never does.
      policy: the local policies; their parameters are ``LiftedParams.policy``.
    """

    env: PrimitiveEnvironment
    policy: LocalPolicy = uniform_policy

    @property
    def spec(self) -> EnvSpec:
        """Static facts of the primitive environment."""
        return self.env.spec

    def reset(self, key: chex.PRNGKey, params: LiftedParams) -> tuple[Handoff, LiftedState]:
        """Starts an episode."""
        decision, inner = self.env.reset(key, params.env)
        return arrive(*decision, no_segment()), LiftedState(inner, decision)

    def step_env(
        self, key: chex.PRNGKey, state: LiftedState, option: chex.Array, params: LiftedParams
    ) -> tuple[Handoff, LiftedState]:
        """Runs one option to its end; the state returned is the one entered, terminal or not (D2)."""
        key_begin, key_run = option_keys(key)
        agent = state.decision.agent

        def body(ongoing: Ongoing) -> Ongoing:
            key_action, key_tick = tick_keys(key_run, ongoing.duration)
            seen, available = ongoing.tick.observation, ongoing.tick.action_mask
            logits = self.policy(params.policy, agent, ongoing.option, seen, available)
            return advance(self.env, key_tick, ongoing, draw_action(key_action, logits, available), params.env)

        begun = launch(self.env, key_begin, state.decision, state.inner, option, params.env)
        ended = jax.lax.while_loop(lambda ongoing: ~ongoing.tick.ended, body, begun)
        return handoff_of(ended), LiftedState(ended.state, ended.tick.decision)


def _check(env: PrimitiveEnvironment, tick: Tick) -> None:
    """Shapes and dtypes of a tick, at trace time, where checking is free."""
    spec, local = env.spec, env.local_spec
    chex.assert_shape(tick.observation, local.observation_shape)
    chex.assert_type(tick.observation, local.observation_dtype)
    chex.assert_shape(tick.action_mask, (local.num_actions,))
    chex.assert_shape(tick.decision.interface, spec.interface_shape)
    chex.assert_type(tick.decision.interface, spec.interface_dtype)
    chex.assert_shape(tick.decision.mask, (spec.num_options,))
    flags = [tick.ended, tick.terminated, tick.truncated]
    chex.assert_shape([tick.reward, tick.decision.agent, *flags], ())
    chex.assert_type([tick.reward, tick.decision.agent, *flags], [jnp.float32, jnp.int32, bool, bool, bool])
    chex.assert_type([tick.action_mask, tick.decision.mask], bool)
