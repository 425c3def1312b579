"""IC-Q, vectorised: gather, offer, absorb, scatter, and nothing else (D9).

``Learner`` is static (shapes, functions), ``Inputs`` is traced (model arrays, schedules, exploration): one
compilation serves every gap, step size and seed of the same shapes. Everything here is for one replica;
``train.py`` maps it over replicas and lanes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff, Segment
from icsmdp_jax.core.sampling import AliasTable
from icsmdp_jax.learner import exploration, fits
from icsmdp_jax.learner.message import Protocol, Rule, protocol
from icsmdp_jax.learner.networks import ValueClass
from icsmdp_jax.learner.schedules import CLOCKS, StepSize, from_optax, stochastic_approximation
from icsmdp_jax.learner.slots import put, take


class Inputs(NamedTuple):
    """Traced inputs of a run.

    Attributes:
      env_params: parameters of the environment.
      data: data of the function class (features), or None.
      behaviour: alias tables of the behaviour policy, leading axis Z; uniform over what is available if None.
      step_size: the schedule.
      radius: ``[]`` float32 radius of the projection; ignored unless the learner projects.
      epsilon: ``[]`` float32; 1 follows the behaviour policy always; ignored unless the learner is epsilon-greedy.
    """

    env_params: Any
    data: Any
    behaviour: AliasTable | None
    step_size: StepSize
    radius: chex.Array
    epsilon: chex.Array


class LearnerState(NamedTuple):
    """What one replica carries from handoff to handoff.

    Attributes:
      params: parameters stacked over slots.
      opt_state: the agents' optimiser states, stacked likewise.
      env_state: the environment's state.
      handoff: the decision to take next.
      epoch: ``[]`` int32, handoffs so far.
    """

    params: Any
    opt_state: Any
    env_state: Any
    handoff: Handoff
    epoch: chex.Array


@dataclasses.dataclass(frozen=True)
class Learner:
    """Static configuration of IC-Q.

    Attributes:
      env: the environment.
      values: the function class.
      clock: ``"visits"`` (own updates) or ``"epoch"`` (shared clock) for the step-size schedule.
      project: whether parameters are projected after each step, onto balls of the radius of the inputs: one for each
        option's vector, or what ``values.project`` says.
      greedy: whether behaviour is epsilon-greedy instead of the fixed policy.
      optimiser: an optax optimiser that replaces the step-size schedule, or None.
    """

    env: Environment
    values: ValueClass
    clock: str = "visits"
    project: bool = False
    greedy: bool = False
    optimiser: Any = None

    def __post_init__(self) -> None:
        fits.check_parts(self.env, self.values)
        fits.check_transformation(self.optimiser)
        if self.clock not in CLOCKS:
            raise ValueError(f"clock = {self.clock!r}: expected 'epoch' or 'visits'")

    @property
    def words_per_step(self) -> int:
        """Random ``uint32`` words that one handoff consumes."""
        return self.env.words_per_step + exploration.WORDS - (0 if self.greedy else 1)

    def rule(self, inputs: Inputs) -> Rule:
        """The update rule that every agent runs on its own parameters."""
        if self.optimiser is not None:
            return from_optax(self.optimiser)
        radius = inputs.radius if self.project else None
        return stochastic_approximation(
            inputs.step_size, self.clock, self.values.per_option, radius, self.values.project
        )

    def protocol(self, inputs: Inputs) -> Protocol:
        """``offer`` and ``absorb`` of this learner."""
        return protocol(self.values.apply, self.rule(inputs))

    def init(self, key: chex.PRNGKey, inputs: Inputs) -> LearnerState:
        """Initial parameters and the first decision of one replica.

        Raises:
          ValueError: in one line, for inputs that do not fit the learner.
        """
        fits.check_step_size(inputs.step_size)
        fits.check_values(self.env, self.values, inputs.data)
        key_params, key_env = jax.random.split(key)
        params = self.values.init(key_params, inputs.data)
        opt_state = jax.vmap(self.rule(inputs).init)(params)
        handoff, env_state = self.env.reset(key_env, inputs.env_params)
        return LearnerState(params, opt_state, env_state, handoff, jnp.int32(0))

    def act(self, words: chex.Array, state: LearnerState, inputs: Inputs) -> chex.Array:
        """Option of the active agent, from its own interface and its own parameters only."""
        now = state.handoff
        if inputs.behaviour is None:
            if self.greedy:
                raise ValueError("behaviour = None: expected alias tables to explore with where behaviour is greedy")
            return exploration.uniform_option(words[0], now.mask)
        if not self.greedy:
            return exploration.fixed_behaviour(words[0], now.interface, inputs.behaviour)
        own = take(state.params, self.values.slot(now.agent, now.interface))
        values = self.values.apply(own, self.values.view(inputs.data, now.interface))
        return exploration.epsilon_greedy(words, now.interface, values, now.mask, inputs.epsilon, inputs.behaviour)

    def update(
        self, state: LearnerState, option: chex.Array, handoff: Handoff, env_state: Any, inputs: Inputs
    ) -> tuple[LearnerState, tuple[chex.Array, Any, chex.Array]]:
        """One handoff: the receiver offers one scalar, the sender absorbs it.

        Args:
          state: state before the option.
          option: ``[]`` int32, the option taken.
          handoff: what the environment returned for it.
          env_state: the environment's state after it.
          inputs: traced inputs.

        Returns:
          The new state, and ``(slot, change, error)``: which slot changed, by how much, and the temporal difference.
        """
        values = self.values
        offer, absorb = self.protocol(inputs)
        slot_j = values.slot(handoff.final_agent, handoff.final_interface)
        view_j = values.view(inputs.data, handoff.final_interface)
        scalar = offer(take(state.params, slot_j), view_j, handoff.final_mask)

        now = state.handoff
        slot_i = values.slot(now.agent, now.interface)
        view_i = values.view(inputs.data, now.interface)
        segment = Segment(view_i, option, handoff.reward, handoff.discount, state.epoch)
        before = take(state.params, slot_i)
        after, opt_after, error = absorb(before, take(state.opt_state, slot_i), segment, scalar)
        new = LearnerState(
            params=put(state.params, slot_i, after),
            opt_state=put(state.opt_state, slot_i, opt_after),
            env_state=env_state,
            handoff=handoff,
            epoch=state.epoch + 1,
        )
        change = jax.tree.map(jnp.subtract, after, before)
        return new, (slot_i, change, error)

    def step(
        self, words: chex.Array, state: LearnerState, inputs: Inputs
    ) -> tuple[LearnerState, tuple[chex.Array, Any, chex.Array]]:
        """Acts, steps the environment (with restart) and updates; see ``update`` for what is returned."""
        split = self.env.words_per_step
        option = self.act(words[split:], state, inputs)
        handoff, env_state = self.env.step_from_words(words[:split], state.env_state, option, inputs.env_params)
        return self.update(state, option, handoff, env_state, inputs)
