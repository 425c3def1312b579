"""Simulation of a tabular IC-SMDP (D1, D2): functional, jittable, one gather per draw.

One handoff consumes three ``uint32`` words: duration, next state and reward noise; a fourth, for the restart, where
there are terminal states.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import of_type
from icsmdp_jax.core.arrival import Ended
from icsmdp_jax.core.sampling import AliasTable, alias_table, draw_at, uniform_symmetric
from icsmdp_jax.core.words import in_short
from icsmdp_jax.envs.finite import FiniteEnv, TabularState, check_made_from
from icsmdp_jax.models.arrays import pmf, real
from icsmdp_jax.models.tabular import TabularModel, annuities


class TabularParams(NamedTuple):
    """Traced arrays of a tabular model; two models of the same shapes share one compilation.

    Attributes:
      successor: laws of the outcome given ``[S, O]``; the code is the next state, or ``tau_index * S + state``
        where durations and next states are dependent, or ``place * S + state`` where the lump depends on the place of
        the next state among those that can follow.
      duration: laws of ``tau - 1`` given ``[S, O]``; unused (one cell) where the outcome carries it.
      first: law of the first state.
      start: law of the state that replaces a terminal handoff.
      reward_rate: ``[S, O]`` float32.
      reward_noise: ``[]`` float32.
      discount: ``[T]`` float32 ``gamma^tau`` for ``tau = 1..T``.
      annuity: ``[T]`` float32 ``(1 - gamma^tau) / (1 - gamma)``.
      agent: ``[S]`` int32.
      interface: ``[S]`` int32.
      mask: ``[Z, O]`` bool.
      terminal: ``[S]`` bool.
      lump: ``[S, O]`` float32 what is paid with the last step, or ``[S, O, places]`` (``[S, O, S]`` for a joint law) if
        that depends on the next state; None if nothing is.
      last_discount: ``[T]`` float32 ``gamma^(tau-1)``; None likewise.
    """

    successor: AliasTable
    duration: AliasTable
    first: AliasTable
    start: AliasTable
    reward_rate: chex.Array
    reward_noise: chex.Array
    discount: chex.Array
    annuity: chex.Array
    agent: chex.Array
    interface: chex.Array
    mask: chex.Array
    terminal: chex.Array
    lump: chex.Array | None = None
    last_discount: chex.Array | None = None

    def __repr__(self) -> str:
        return in_short(self)


@dataclasses.dataclass(frozen=True)
class TabularEnv(FiniteEnv[TabularParams]):
    """A finite IC-SMDP given by a model; make one with ``tabular_env``.

    Attributes:
      joint: whether duration and next state are drawn together.
      has_terminal: whether some states are terminal.
      name: readable name.
      words_per_step: duration, next state, noise, restart (3 without terminal states).
      model: what it was made from. Environments of the same sizes are equal whatever their models.
    """

    joint: bool
    has_terminal: bool
    name: str = "tabular"
    words_per_step: int = 4
    model: TabularModel | None = dataclasses.field(default=None, repr=False, compare=False)

    def segment(
        self, words: chex.Array, state: TabularState, option: chex.Array, params: TabularParams
    ) -> tuple[chex.Array, Ended]:
        """State entered and segment: words for duration, next state and noise."""
        s = state.index
        code = draw_at(words[1], params.successor, (s, option))
        by_next = params.lump is not None and params.lump.ndim == 3
        count = params.agent.shape[0]
        place, entered = (code // count, code % count) if self.joint or by_next else (code, code)
        tau = place if self.joint else draw_at(words[0], params.duration, (s, option))
        noise = params.reward_noise * uniform_symmetric(words[2])
        reward = params.reward_rate[s, option] * params.annuity[tau] + noise
        if params.lump is not None and params.last_discount is not None:
            which = (s, option, entered if self.joint else place) if by_next else (s, option)
            reward = reward + params.last_discount[tau] * params.lump[which]
        done = params.terminal[entered] if self.has_terminal else jnp.zeros((), bool)
        discount = jnp.where(done, jnp.float32(0), params.discount[tau])
        return entered, Ended(reward, tau + 1, discount, terminated=done, truncated=jnp.zeros((), bool))

    def restart_law(self, params: TabularParams) -> AliasTable:
        """The model's start law, wherever the run began."""
        return params.start

    def global_view(self, state: TabularState, params: TabularParams) -> chex.Array:
        """``[S]`` float32: which state it is, one 1 among zeros."""
        return jax.nn.one_hot(state.index, params.agent.shape[0], dtype=jnp.float32)

    @property
    def has_exact_model(self) -> bool:
        """Whether the model is kept."""
        return self.model is not None

    def exact_model(self, params: TabularParams) -> TabularModel:
        """The model that is simulated.

        Raises:
          ValueError: if it is not kept, or the parameters are not those that were made from it.
        """
        if self.model is None:
            return super().exact_model(params)
        check_made_from(params, tabular_env(self.model)[1]._replace(first=params.first), "env.model")
        return self.model


def tabular_env(
    model: TabularModel, first: np.ndarray | None = None, name: str = "tabular"
) -> tuple[TabularEnv, TabularParams]:
    """An environment and its parameters from a model.

    Args:
      model: the IC-SMDP.
      first: ``[S]`` law of the first state (the stationary law, for the theorems); by default the model's start
        law given that the state decides, or uniform over states if the model has none.
      name: readable name.

    Returns:
      ``(env, params)``; params are JAX arrays in float32, int32, uint32 and bool.

    Raises:
      ValueError: in one line, for what is not a model, or a ``first`` that is not a law of its states.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> model = ic.make("planted", gap=0.2)[0].model
      >>> env, params = ic.tabular_env(model)
      >>> handoff, state = env.reset(jax.random.key(0), params)
      >>> bool(handoff.agent == model.agent[state.index])
      True
    """
    of_type(TabularModel, "a TabularModel; load_model reads a model file", model=model)
    of_type(str, "a text", name=name)
    if first is not None:
        first = pmf("first", real("first", first, (model.num_states,))[None], np.ones(1, bool), (1,))[0]
    s, o, t = model.num_states, model.num_options, model.longest_duration
    start = np.where(model.is_terminal, 0.0, np.ones(s) if model.start is None else model.start)
    start = start / start.sum()
    joint = model.kernel is not None
    lump = model.lump_reward if model.lump_reward_next is None else model.lump
    if model.kernel is not None:
        law, outcome = _compressed(model.kernel.reshape(s, o, t * s))
        duration = alias_table(np.ones((1, 1, 1)))
    else:
        assert model.duration is not None
        duration = alias_table(model.duration)
        if model.transition is not None:
            law, outcome = _compressed(model.transition)
        else:
            assert model.successor is not None and model.probability is not None
            law, outcome = model.probability, model.successor
        if model.lump_reward_next is not None and lump is not None:
            if model.transition is not None:
                lump = np.take_along_axis(lump, outcome, axis=-1)
            outcome = _placed(outcome, s)
    tau = np.arange(1, t + 1)
    discount = model.gamma**tau
    params = TabularParams(
        successor=alias_table(law, outcome),
        duration=duration,
        first=_law(start if first is None else first),
        start=_law(start),
        reward_rate=model.reward_rate.astype(np.float32),
        reward_noise=np.float32(model.reward_noise),
        discount=discount.astype(np.float32),
        annuity=annuities(model.gamma, t).astype(np.float32),
        agent=model.agent,
        interface=model.interface,
        mask=model.option_mask,
        terminal=model.is_terminal,
        lump=None if lump is None else lump.astype(np.float32),
        last_discount=None if lump is None else (model.gamma ** (tau - 1)).astype(np.float32),
    )
    env = TabularEnv(
        num_agents=model.num_agents,
        num_interfaces=model.num_interfaces,
        num_options=o,
        longest_duration=t,
        joint=joint,
        has_terminal=bool(model.is_terminal.any()),
        name=name,
        words_per_step=4 if model.is_terminal.any() else 3,
        model=model,
    )
    return env, jax.device_put(params)  # jnp.asarray would compile a program for every shape


def _law(probability: np.ndarray) -> AliasTable:
    """Alias table over all states; shapes do not depend on the law."""
    return AliasTable(*(array[0] for array in alias_table(probability[None])))


def _compressed(law: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outcomes of positive probability, in as many places as the fullest row needs: their law and their codes."""
    width = max(int((law > 0).sum(axis=-1).max()), 1)
    order = np.argsort(law <= 0, axis=-1, kind="stable")[..., :width]
    return np.take_along_axis(law, order, axis=-1), order


def _placed(state: np.ndarray, count: int) -> np.ndarray:
    """Codes ``place * count + state`` of next states ``[S, O, places]``."""
    places = state.shape[-1]
    if places * count > np.iinfo(np.int32).max:
        raise ValueError(
            f"lump_reward_next: {places} places for each of {count} states, expected a product below 2**31 to simulate"
        )
    return np.arange(places) * count + state.astype(np.int64)
