"""Wrapped environments: with the owner added to the interface, with everything in view, or checked at run time.

The first two exist for baselines. They change what the active agent sees and nothing else: not the dynamics, not the
options, not the segment.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any

import chex
import jax
import jax.numpy as jnp
from jax.experimental import checkify

from icsmdp_jax.core.arguments import of_type
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff

if TYPE_CHECKING:
    from icsmdp_jax.models.tabular import TabularModel


@dataclasses.dataclass(frozen=True)
class View(Environment[Any, Any]):
    """An environment whose agents see something else.

    Attributes:
      env: the environment.
    """

    env: Environment

    @abc.abstractmethod
    def see(self, handoff: Handoff, state: Any, params: Any) -> Handoff:
        """The handoff with what is seen instead of the environment's interfaces."""

    def reset(self, key: chex.PRNGKey, params: Any) -> tuple[Handoff, Any]:
        """Starts a run."""
        handoff, state = self.env.reset(key, params)
        return self.see(handoff, state, params), state

    def step_env(self, key: chex.PRNGKey, state: Any, option: chex.Array, params: Any) -> tuple[Handoff, Any]:
        """Runs one option to its end."""
        handoff, state = self.env.step_env(key, state, option, params)
        return self.see(handoff, state, params), state


@dataclasses.dataclass(frozen=True)
class WithOwner(View):
    """Appends a one-hot code of the active agent to its interface, a vector, so that parameters can be shared."""

    @property
    def spec(self) -> EnvSpec:
        """The environment's, with ``N`` more numbers in the interface."""
        spec = self.env.spec
        if len(spec.interface_shape) != 1:
            raise ValueError(f"interface_shape = {spec.interface_shape}: expected one axis to append the owner to")
        return spec._replace(interface_shape=(spec.interface_shape[0] + spec.num_agents,), num_interfaces=0)

    def see(self, handoff: Handoff, state: Any, params: Any) -> Handoff:
        """Interfaces with the owner's code."""

        def view(interface: chex.Array, agent: chex.Array) -> chex.Array:
            return jnp.concatenate([interface, jax.nn.one_hot(agent, self.env.spec.num_agents, dtype=interface.dtype)])

        return handoff._replace(
            interface=view(handoff.interface, handoff.agent),
            final_interface=view(handoff.final_interface, handoff.final_agent),
        )


@dataclasses.dataclass(frozen=True)
class Central(View):
    """One agent that sees the global state, for the central learner.

    Attributes:
      size: length of the environment's global view, see ``Environment.global_view_size``.
    """

    size: int

    def __post_init__(self) -> None:
        if not self.env.has_global_view:
            raise ValueError(f"{self.env.spec.name}: no global_view, expected an environment that implements it")

    @property
    def spec(self) -> EnvSpec:
        """One agent, whose interface is the global view."""
        return self.env.spec._replace(
            num_agents=1, num_interfaces=0, interface_shape=(self.size,), interface_dtype=jnp.float32
        )

    def see(self, handoff: Handoff, state: Any, params: Any) -> Handoff:
        """The global view, whichever agent is active."""
        view = self.env.global_view(state, params)
        chex.assert_shape(view, (self.size,))
        nobody = jnp.zeros_like(handoff.agent)
        return handoff._replace(agent=nobody, interface=view, final_agent=nobody, final_interface=view)


@dataclasses.dataclass(frozen=True)
class Checked(Environment[Any, Any]):
    """An environment that reports, at run time, illegal options and outcomes that break the contract.

    For debugging: compile with ``checkify``, which collects what is found and raises it outside the program.

    Attributes:
      env: the environment.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> from jax.experimental import checkify
      >>> env, params = ic.make("planted")
      >>> learner = ic.setup(ic.Checked(env), params, copies=4).learner
      >>> train = checkify.checkify(jax.jit(learner.train, static_argnums=2))
      >>> error, trained = train(jax.random.key(0), ic.setup(ic.Checked(env), params).hyper, 2)
      >>> error.throw()  # nothing: all options were available
    """

    env: Environment

    def __post_init__(self) -> None:
        of_type(Environment, "an Environment", env=self.env)

    @property
    def spec(self) -> EnvSpec:
        """The environment's."""
        return self.env.spec

    def reset(self, key: chex.PRNGKey, params: Any) -> tuple[Handoff, Any]:
        """Starts a run."""
        handoff, state = self.env.reset(key, params)
        return handoff, (state, handoff.mask)

    def step_env(self, key: chex.PRNGKey, state: Any, option: chex.Array, params: Any) -> tuple[Handoff, Any]:
        """Runs one option to its end and checks what goes in and what comes out."""
        inner, mask = state
        count, agents = self.spec.num_options, self.spec.num_agents
        inside = (option >= 0) & (option < count)
        checkify.check(inside, f"option = {{option}}: expected 0 to {count - 1}", option=option)
        available = mask[jnp.clip(option, 0, count - 1)]
        checkify.check(available, "option = {option}: not available at this interface", option=option)
        handoff, inner = self.env.step_env(key, inner, option, params)
        known = (handoff.agent >= 0) & (handoff.agent < agents)
        checkify.check(known, f"agent = {{agent}}: expected 0 to {agents - 1}", agent=handoff.agent)
        checkify.check(handoff.duration >= 1, "duration = {tau}: expected 1 or more", tau=handoff.duration)
        sound = (handoff.discount >= 0) & (handoff.discount <= 1)
        checkify.check(sound, "discount = {discount}: expected 0 to 1", discount=handoff.discount)
        checkify.check(jnp.isfinite(handoff.reward), "reward = {reward}: expected a number", reward=handoff.reward)
        return handoff, (inner, handoff.mask)

    def global_view(self, state: Any, params: Any) -> chex.Array:
        """The environment's."""
        return self.env.global_view(state[0], params)

    @property
    def has_global_view(self) -> bool:
        """Whether the environment has one."""
        return self.env.has_global_view

    @property
    def has_exact_model(self) -> bool:
        """Whether the environment can be listed."""
        return self.env.has_exact_model

    def exact_model(self, params: Any) -> TabularModel:
        """The environment's."""
        return self.env.exact_model(params)
