"""The adaptable regime: agents learn what they do inside their options together with the workflow (D1, D9).

Every agent has, besides its option values ``Q_i(z, o)``, a local policy ``pi_i(a | x, o)`` and a local critic
``V_i(x, o)``: what it expects from local observation ``x`` until the end of option ``o``, and after it. Inside the
option the critic bootstraps from itself, at the handoff from the scalar that arrives there anyway:

    error = r + gamma V_i(x', o) - V_i(x, o)        while the option continues
    error = r + gamma v          - V_i(x, o)        where it ended; 0 instead of v if the handoff is terminal

The same ``v`` enters ``y = R + gamma^tau v`` of the option values, through the same ``offer`` and ``absorb`` as in the
preconfigured regime; with ``adapt=False`` that is all that is left.

``B`` copies of the environment share the parameters and advance by primitive steps side by side: no copy waits for
another one's option to end. Where a handoff happened, agents exchange their scalar and learn; everywhere the active
agent's actor and critic learn. Parameters without a row in a step keep their bits.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from icsmdp_jax.core import primitive
from icsmdp_jax.core.handoff import Handoff, Segment
from icsmdp_jax.core.primitive import Decision, Ongoing, PrimitiveEnvironment
from icsmdp_jax.learner import exploration, networks, schedules, updates
from icsmdp_jax.learner.adaptable_state import AdaptableState, Inputs, Record, Situation, TrainState, situation_index
from icsmdp_jax.learner.exploration import Ramp
from icsmdp_jax.learner.icq import take
from icsmdp_jax.learner.message import Protocol, Rule, protocol
from icsmdp_jax.learner.networks import ValueClass
from icsmdp_jax.learner.schedules import StepSize

__all__ = ["AdaptableLearner", "AdaptableState", "Inputs", "Record", "inputs_for", "tabular_learner"]


def _hand_back(params: Any, state: Any, direction: Any, error: chex.Array, segment: Segment) -> tuple[Any, Any]:
    return jax.tree.map(lambda leaf: error * leaf, direction), state


ASCENT = Rule(init=lambda params: None, update=_hand_back)
"""A rule that takes no step: ``absorb`` returns ``error * grad Q`` instead of parameters, for sums over rows."""


def local_error(
    reward: chex.Array,
    gamma: chex.Array,
    value: chex.Array,
    value_next: chex.Array,
    scalar: chex.Array,
    ended: chex.Array,
    terminated: chex.Array,
) -> chex.Array:
    """Temporal difference inside an option, bootstrapped at its end by the scalar of the handoff.

    Args:
      reward: ``[]`` float32, of the primitive step.
      gamma: ``[]`` float32.
      value: ``[]`` float32 ``V_i(x, o)``.
      value_next: ``[]`` float32 ``V_i(x', o)``; ignored if the option has ended.
      scalar: ``[]`` float32, what the next agent offered; ignored unless it has ended.
      ended: ``[]`` bool.
      terminated: ``[]`` bool, whether the handoff is terminal; a truncation is not.

    Returns:
      ``[]`` float32.
    """
    after = jnp.where(terminated, jnp.zeros_like(scalar), scalar)
    return reward + gamma * jnp.where(ended, after, value_next) - value


@dataclasses.dataclass(frozen=True)
class AdaptableLearner:
    """Static configuration.

    Attributes:
      env: the primitive environment.
      values: function class of the option values.
      actor: function class of the local policies: ``A`` logits at a situation.
      critic: function class of the local critics: one number at a situation.
      situation: makes a situation of agent, option and local observation.
      copies: number ``B`` of copies of the environment.
      optimiser: makes an optax transformation from a schedule, e.g. ``optax.adam``, for values and critics; None for
        tables, which then take plain steps.
      actor_optimiser: the same for the local policies.
      adapt: whether the local policies learn; False is the preconfigured regime, with the actor as it is.
    """

    env: PrimitiveEnvironment
    values: ValueClass
    actor: ValueClass
    critic: ValueClass
    situation: Situation
    copies: int
    optimiser: updates.Optimiser | None = None
    actor_optimiser: updates.Optimiser = optax.sgd
    adapt: bool = True

    def __post_init__(self) -> None:
        for kind in (self.values, self.critic):
            if self.optimiser is None and kind.name != "tabular":
                raise ValueError(f"optimiser = None: expected an optax optimiser for {kind.name} values")

    def rules(self, inputs: Inputs) -> tuple[updates.SlotRule, updates.SlotRule, updates.SlotRule]:
        """Update rules of one slot of the option values, the local policies and the local critics."""

        def of(step: StepSize) -> updates.SlotRule:
            if self.optimiser is None:
                return updates.stochastic_approximation(step)
            return updates.from_optimiser(self.optimiser, step)

        actor = updates.from_optimiser(self.actor_optimiser, inputs.actor_step)
        return of(inputs.step_size), actor, of(inputs.critic_step)

    def protocol(self) -> Protocol:
        """``offer``, and an ``absorb`` that hands back its direction instead of taking the step."""
        return protocol(self.values.apply, ASCENT)

    def policy(
        self, policy: Any, agent: chex.Array, option: chex.Array, observation: chex.Array, action_mask: chex.Array
    ) -> chex.Array:
        """The local policies as a ``LocalPolicy``; ``policy`` is ``(actor parameters, local_data)``."""
        params, data = policy
        return _apply(self.actor, params, data, agent, self.situation(agent, option, observation))

    def init(self, key: chex.PRNGKey, inputs: Inputs) -> AdaptableState:
        """First parameters, and the first option of every copy; ``train`` continues with the same key."""
        key_params, key_copies = jax.random.split(key)
        kinds = (self.values, self.actor, self.critic)
        data = (inputs.data, inputs.local_data, inputs.local_data)
        keys = jax.random.split(key_params, 3)

        def fresh(part: chex.PRNGKey, kind: ValueClass, rule: updates.SlotRule, its_data: Any) -> TrainState:
            params = kind.init(part, its_data)
            return TrainState(params, jax.vmap(rule.init)(params))

        values, actor, critic = map(fresh, keys, kinds, self.rules(inputs), data)
        zero = jnp.zeros((), jnp.int32)
        epsilon = inputs.exploration.at(zero)

        def begin(key_copy: chex.PRNGKey) -> Ongoing:
            decision, state = self.env.reset(jax.random.fold_in(key_copy, 0), inputs.env_params)
            return self._launch(jax.random.fold_in(key_copy, 1), decision, state, values.params, epsilon, inputs)

        ongoing = jax.vmap(begin)(self._copy_keys(key_copies))
        return AdaptableState(values, actor, critic, ongoing, jnp.ones((self.copies,), jnp.int32), zero, zero, zero)

    def step(self, key: chex.PRNGKey, state: AdaptableState, inputs: Inputs) -> tuple[AdaptableState, Record]:
        """One primitive step of every copy, and what is learned from it.

        Args:
          key: the run's key, the same at every step.
          state: the run.
          inputs: traced inputs.

        Returns:
          The run after the step, and what happened.
        """
        keys = self._copy_keys(jax.random.split(key)[1])
        action, after = jax.vmap(partial(self._tick, state.actor.params, inputs))(keys, state.decisions, state.ongoing)
        ended = after.tick.ended
        handoff = jax.vmap(primitive.handoff_of)(after)
        offers = jax.vmap(partial(self._offer, state.values.params, inputs.data))(handoff)
        message = jnp.where(ended, offers, jnp.nan)  # all that crosses
        received = jnp.where(ended, message, 0.0)

        value_rule, actor_rule, critic_rule = self.rules(inputs)
        slots, ascent, errors = jax.vmap(partial(self._absorb, state.values.params, inputs.data))(
            after, handoff, received, state.decisions - 1
        )
        option = after.option
        values = state.values.climb(value_rule, slots, ascent, option, ended, self.env.spec.num_options)
        actor, critic, inner = state.actor, state.critic, jnp.zeros_like(received)
        if self.adapt:
            learn = partial(self._learn_inside, actor.params, critic.params, inputs)
            slots, ascents, inner = jax.vmap(learn)(state.ongoing, action, after, received)
            everyone = jnp.ones_like(ended)
            actions = self.env.local_spec.num_actions
            actor = actor.climb(actor_rule, slots[0], ascents[0], action, everyone, actions)
            critic = critic.climb(critic_rule, slots[1], ascents[1], jnp.zeros_like(action), everyone, 1)

        steps = state.steps + 1
        go_on = partial(self._go_on, values.params, inputs.exploration.at(steps), inputs)
        new = AdaptableState(
            values=values,
            actor=actor,
            critic=critic,
            ongoing=jax.vmap(go_on)(keys, state.decisions, after),
            decisions=state.decisions + ended.astype(jnp.int32),
            steps=steps,
            scalars=state.scalars + jnp.sum(~jnp.isnan(message), dtype=jnp.int32),
            episodes=state.episodes + jnp.sum(handoff.terminated | handoff.truncated, dtype=jnp.int32),
        )
        return new, Record(state.ongoing, action, after, message, jnp.where(ended, errors, jnp.nan), inner)

    def run(self, key: chex.PRNGKey, state: AdaptableState, inputs: Inputs, steps: int) -> AdaptableState:
        """Runs ``steps`` primitive steps of every copy; may be called again with the state that it returned."""
        return jax.lax.scan(lambda current, _: (self.step(key, current, inputs)[0], None), state, None, steps)[0]

    def train(self, key: chex.PRNGKey, inputs: Inputs, steps: int) -> AdaptableState:
        """``init``, then ``run``: pure, to be jitted and mapped over ``key`` and any part of ``inputs``."""
        return self.run(key, self.init(key, inputs), inputs, steps)

    def local_table(self, actor_params: Any, inputs: Inputs) -> chex.Array:
        """``[N*X*O, A]`` probabilities of the local actions at every situation, for enumerable observations.

        Action masks are not known here: unavailable actions are left in.
        """
        each = self.env.local_spec.num_observations * self.env.spec.num_options
        index = jnp.arange(self.env.spec.num_agents * each, dtype=jnp.int32)
        logits = jax.vmap(lambda n: _apply(self.actor, actor_params, inputs.local_data, n // each, n))(index)
        return jax.nn.softmax(logits, axis=-1)

    def _copy_keys(self, key: chex.PRNGKey) -> chex.Array:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.copies, dtype=jnp.int32))

    def _tick(
        self, actor_params: Any, inputs: Inputs, key_copy: chex.PRNGKey, decisions: chex.Array, ongoing: Ongoing
    ) -> tuple[chex.Array, Ongoing]:
        """The active agent of one copy acts, and one primitive step passes."""
        _, key_step, _ = decision_keys(jax.random.fold_in(key_copy, decisions))
        key_action, key_tick = primitive.tick_keys(primitive.option_keys(key_step)[1], ongoing.duration)
        seen, available = ongoing.tick.observation, ongoing.tick.action_mask
        logits = self.policy((actor_params, inputs.local_data), ongoing.decision.agent, ongoing.option, seen, available)
        action = primitive.draw_action(key_action, logits, available)
        return action, primitive.advance(self.env, key_tick, ongoing, action, inputs.env_params)

    def _offer(self, params: Any, data: Any, handoff: Handoff) -> chex.Array:
        """The scalar of the agent that an option led to, from its own parameters (D9)."""
        slot = self.values.slot(handoff.final_agent, handoff.final_interface)
        view = self.values.view(data, handoff.final_interface)
        return self.protocol().offer(take(params, slot), view, handoff.final_mask)

    def _absorb(
        self, params: Any, data: Any, ongoing: Ongoing, handoff: Handoff, scalar: chex.Array, epoch: chex.Array
    ) -> tuple[chex.Array, Any, chex.Array]:
        """Slot, direction and error of the agent whose option it is (D9)."""
        now = ongoing.decision
        slot = self.values.slot(now.agent, now.interface)
        view = self.values.view(data, now.interface)
        segment = Segment(view, ongoing.option, handoff.reward, handoff.discount, epoch)
        ascent, _, error = self.protocol().absorb(take(params, slot), None, segment, scalar)
        return slot, ascent, error

    def _learn_inside(
        self,
        actor_params: Any,
        critic_params: Any,
        inputs: Inputs,
        before: Ongoing,
        action: chex.Array,
        after: Ongoing,
        scalar: chex.Array,
    ) -> tuple[tuple[chex.Array, chex.Array], tuple[Any, Any], chex.Array]:
        """Slots and directions of the active agent's actor and critic, and its temporal difference."""
        agent, option, data, tick = before.decision.agent, before.option, inputs.local_data, after.tick
        here = self.situation(agent, option, before.tick.observation)
        there = self.situation(agent, option, tick.observation)
        slots = self.actor.slot(agent, here), self.critic.slot(agent, here)
        own = take(critic_params, slots[1])
        value, pull = jax.vjp(lambda p: self.critic.apply(p, self.critic.view(data, here))[0], own)
        value_next = _apply(self.critic, critic_params, data, agent, there)[0]
        gamma = self.env.gamma(inputs.env_params)
        error = local_error(tick.reward, gamma, value, value_next, scalar, tick.ended, tick.terminated)

        def gain(params: Any) -> chex.Array:
            """What the actor climbs: error times log-probability, plus the weighted entropy."""
            logits = self.actor.apply(params, self.actor.view(data, here))
            log_law = jax.nn.log_softmax(primitive.masked_logits(logits, before.tick.action_mask))
            return error * log_law[action] - inputs.entropy * jnp.sum(jnp.exp(log_law) * log_law)

        return slots, (jax.grad(gain)(take(actor_params, slots[0])), pull(error)[0]), error

    def _go_on(
        self,
        params: Any,
        epsilon: chex.Array,
        inputs: Inputs,
        key_copy: chex.PRNGKey,
        decisions: chex.Array,
        ongoing: Ongoing,
    ) -> Ongoing:
        """The option itself while it lasts; where it ended, the next one, in a new episode if necessary."""
        _, _, key_reset = decision_keys(jax.random.fold_in(key_copy, decisions))
        fresh = self.env.reset(key_reset, inputs.env_params)
        tick = ongoing.tick
        decision, state = _pick(tick.terminated | tick.truncated, fresh, (tick.decision, ongoing.state))
        begun = self._launch(jax.random.fold_in(key_copy, decisions + 1), decision, state, params, epsilon, inputs)
        return _pick(tick.ended, begun, ongoing)

    def _launch(
        self,
        key_decision: chex.PRNGKey,
        decision: Decision,
        state: Any,
        params: Any,
        epsilon: chex.Array,
        inputs: Inputs,
    ) -> Ongoing:
        """The active agent chooses an option, epsilon-greedily by its own values, and the option begins."""
        key_choice, key_step, _ = decision_keys(key_decision)
        words = jax.random.bits(key_choice, (exploration.WORDS,), jnp.uint32)
        values = _apply(self.values, params, inputs.data, decision.agent, decision.interface)
        option = jnp.where(
            exploration.unit(words[1]) < epsilon,
            exploration.uniform_option(words[0], decision.mask),
            exploration.best_option(values, decision.mask),
        )
        key_begin, _ = primitive.option_keys(key_step)
        return primitive.launch(self.env, key_begin, decision, state, option, inputs.env_params)


def decision_keys(key: chex.PRNGKey) -> tuple[chex.PRNGKey, chex.PRNGKey, chex.PRNGKey]:
    """Keys of one decision: choice of the option, its run, and the reset after it.

    The last two are the halves that ``Environment.step`` makes of its key, so a lifted environment that is stepped with
    the second half of ``key`` lives through the same segment.
    """
    key_choice, key_step = jax.random.split(key)
    key_run, key_reset = jax.random.split(key_step)
    return key_choice, key_run, key_reset


def tabular_learner(env: PrimitiveEnvironment, copies: int = 64, adapt: bool = True) -> AdaptableLearner:
    """Tables for option values, local policies and critics; local policies start uniform.

    Args:
      env: an environment with enumerable interfaces and local observations.
      copies: number of copies side by side.
      adapt: whether the local policies learn.

    Returns:
      The learner.

    Raises:
      ValueError: if interfaces or local observations are not enumerable.
    """
    spec, local = env.spec, env.local_spec
    if not (spec.num_interfaces and local.num_observations):
        raise ValueError(f"{spec.name}: expected enumerable interfaces and local observations for tables")
    situations = spec.num_agents * local.num_observations * spec.num_options
    return AdaptableLearner(
        env=env,
        values=networks.tabular(spec.num_interfaces, spec.num_options),
        actor=networks.tabular(situations, local.num_actions),
        critic=networks.tabular(situations, 1),
        situation=situation_index(local.num_observations, spec.num_options),
        copies=copies,
        adapt=adapt,
    )


def inputs_for(
    env_params: Any,
    step_size: StepSize | None = None,
    actor_step: StepSize | None = None,
    critic_step: StepSize | None = None,
    explore: Ramp | None = None,
    entropy: float = 0.0,
    data: Any = None,
    local_data: Any = None,
) -> Inputs:
    """Traced inputs with settings that suit tables: critics faster than actors, half of the options at random.

    Args:
      env_params: parameters of the environment.
      step_size: schedule of the option values.
      actor_step: schedule of the local policies.
      critic_step: schedule of the local critics.
      explore: epsilon by primitive step.
      entropy: weight of the local policies' entropy.
      data: features of interfaces, for networks.
      local_data: features of situations, for networks.
    """
    return Inputs(
        env_params=env_params,
        step_size=schedules.polynomial(0.7, 0.1) if step_size is None else step_size,
        actor_step=schedules.constant(1.0) if actor_step is None else actor_step,
        critic_step=schedules.polynomial(0.6, 0.2) if critic_step is None else critic_step,
        exploration=exploration.ramp(0.5, 0.5, 0) if explore is None else explore,
        entropy=jnp.float32(entropy),
        data=data,
        local_data=local_data,
    )


def _apply(kind: ValueClass, params: Any, data: Any, agent: chex.Array, interface: chex.Array) -> chex.Array:
    """Outputs of one agent's own parameters at its own interface or situation."""
    return kind.apply(take(params, kind.slot(agent, interface)), kind.view(data, interface))


def _pick(condition: chex.Array, first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), first, second)
