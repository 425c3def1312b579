"""The environment contract: ``reset``, ``step_env`` (exact final state) and ``step`` (automatic reset).

Argument order is ``(key, state, option, params)``; random keys are arguments and never part of the state.
Measurement code calls ``step_env``, which leaves the final state in place; training loops call ``step`` or
``step_from_words``. What an environment may offer in addition, a global view and its exact model, are methods too;
by default they refuse in one line.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import chex
import jax
import jax.numpy as jnp

from icsmdp_jax.core.arguments import is_traced, one_key
from icsmdp_jax.core.handoff import EnvSpec, Handoff

if TYPE_CHECKING:
    from icsmdp_jax.models.tabular import TabularModel

State = TypeVar("State")
Params = TypeVar("Params")


class Environment(abc.ABC, Generic[State, Params]):
    """A functional IC-SMDP (D1): all methods but ``exact_model`` are pure, jittable and vmappable.

    Training loops draw the random words of many steps at once, ahead of the scan, which on a CPU is several times
    faster than one key per step, and call ``step_from_words``. By default the words of a step are the data of one key;
    environments that can turn raw words into a transition set ``words_per_step`` and implement it.

    Example:
      >>> import jax, jax.numpy as jnp, icsmdp_jax as ic
      >>> class Turns(ic.Environment):  # two agents in turn; option 1 pays
      ...     spec = ic.EnvSpec("turns", 2, 2, 2, (), jnp.int32, 1, False)
      ...
      ...     def reset(self, key, params):
      ...         return ic.arrive(jnp.int32(0), jnp.int32(0), jnp.ones(2, bool), ic.no_segment()), jnp.int32(0)
      ...
      ...     def step_env(self, key, state, option, params):
      ...         no, turn = jnp.zeros((), bool), 1 - state
      ...         ended = ic.Ended(option.astype(jnp.float32), jnp.int32(1), jnp.float32(params), no, no)
      ...         return ic.arrive(turn, turn, jnp.ones(2, bool), ended), turn
      >>> ic.setup(Turns(), 0.9)
      Setup(IC-Q in turns: tabular, 64 copies, 8 handoffs each between updates)
    """

    words_per_step: int = 2  # the data of one Threefry key

    def __init_subclass__(cls, **more: Any) -> None:
        """Has every implementation of a step check its option while it is traced, which costs nothing later."""
        super().__init_subclass__(**more)
        for name in ("step_env", "step_from_words"):
            if name in vars(cls):
                setattr(cls, name, _with_checked_option(vars(cls)[name]))

    @property
    @abc.abstractmethod
    def spec(self) -> EnvSpec:
        """Static facts of this environment."""

    @abc.abstractmethod
    def reset(self, key: chex.PRNGKey, params: Params) -> tuple[Handoff, State]:
        """Starts a run; the returned handoff carries zeros for the segment that does not exist yet."""

    @abc.abstractmethod
    def step_env(self, key: chex.PRNGKey, state: State, option: chex.Array, params: Params) -> tuple[Handoff, State]:
        """Runs one option to its end, without automatic reset: the state returned is the one actually entered."""

    def step(self, key: chex.PRNGKey, state: State, option: chex.Array, params: Params) -> tuple[Handoff, State]:
        """Runs one option to its end and, if that ended the episode, starts the next one in the same call.

        The segment fields and the ``final_*`` fields still describe the segment that ended.
        """
        key_step, key_reset = jax.random.split(one_key(key))
        handoff, entered = self.step_env(key_step, state, option, params)
        fresh, fresh_state = self.reset(key_reset, params)
        return restart(handoff, entered, fresh, fresh_state)

    def step_from_words(
        self, words: chex.Array, state: State, option: chex.Array, params: Params
    ) -> tuple[Handoff, State]:
        """``step`` from random words: ``words`` is ``[words_per_step]`` uint32, by default the data of its key."""
        return self.step(jax.random.wrap_key_data(words, impl="threefry2x32"), state, option, params)

    @property
    def has_global_view(self) -> bool:
        """Whether ``global_view`` is implemented."""
        return type(self).global_view is not Environment.global_view

    def global_view(self, state: State, params: Params) -> chex.Array:
        """``[V]`` float32 with everything that a central learner may see, including whose turn it is.

        Raises:
          ValueError: unless the environment implements it.
        """
        raise ValueError(f"{self.spec.name}: no global_view, expected an environment that implements it")

    def global_view_size(self, params: Params) -> int:
        """``V``, the length of the global view; nothing is computed.

        Raises:
          ValueError: if it is not a float32 vector.
        """
        view = jax.eval_shape(lambda key: self.global_view(self.reset(key, params)[1], params), jax.random.key(0))
        if len(view.shape) != 1 or view.dtype != jnp.float32:
            found = f"{view.dtype.name} of shape {list(view.shape)}"
            raise ValueError(f"{self.spec.name}: global_view is {found}, expected a float32 vector")
        return int(view.shape[0])

    @property
    def has_exact_model(self) -> bool:
        """Whether ``exact_model`` lists this environment."""
        return self.spec.exact_oracle and type(self).exact_model is not Environment.exact_model

    def exact_model(self, params: Params) -> TabularModel:
        """The environment as a finite IC-SMDP with the same numbering of interfaces and options (D1), on the host.

        Raises:
          ValueError: unless the environment can be listed.
        """
        raise ValueError(f"{self.spec.name}: no exact model, expected an environment that can be listed")


def check_option(spec: EnvSpec, option: Any) -> None:
    """Refuses an option that is not a single whole number, or is known not to be one of the environment's.

    Raises:
      ValueError: in one line.
    """
    shape, dtype = jnp.shape(option), jnp.result_type(option)
    if shape != () or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(
            f"option: {dtype.name} of shape {list(shape)}, expected one whole number (shape [] under vmap) from 0 to "
            f"{spec.num_options - 1} for {spec.name}"
        )
    if not is_traced(option) and not 0 <= int(option) < spec.num_options:
        raise ValueError(f"option = {int(option)}: expected 0 to {spec.num_options - 1} for {spec.name}")


def _with_checked_option(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def checked(self: Environment, source: Any, state: Any, option: Any, params: Any) -> Any:
        check_option(self.spec, option)
        return step(self, source, state, option, params)

    return checked


def restart(handoff: Handoff, entered: Any, fresh: Handoff, fresh_state: Any) -> tuple[Handoff, Any]:
    """Replaces the decision of an ended episode with a fresh one, and nothing else (D4).

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
