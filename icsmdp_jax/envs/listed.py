"""Work that is handed on until it is delivered, right or wrong: environments with few enough states to list.

What such an environment does at a handoff is a lookup. It draws the next state from the law of (state, option) and,
independently, the duration, which is ``shortest`` or one block more. Two states are terminal: delivered *right*, and
every other end. A segment of ``tau`` blocks that spends ``dollars`` pays

    R = -block_cost (1 + gamma + ... + gamma^(tau-1)) + gamma^(tau-1) (value [delivered right] - dollar_weight dollars):

the bill, like the worth of the answer, falls due in the segment's last block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import expect
from icsmdp_jax.core.arrival import Ended
from icsmdp_jax.core.sampling import AliasTable, alias_table, draw_at
from icsmdp_jax.core.words import in_short
from icsmdp_jax.envs.finite import FiniteEnv, TabularState
from icsmdp_jax.models.tabular import TabularModel, annuities


class Listing(NamedTuple):
    """A listed world before it is turned into parameters: host arrays, float64 and int.

    ``S`` counts the states that decide; their successors may also be ``S`` (delivered right) and ``S + 1`` (the other
    end). ``W`` successors are listed for each state and option.

    Attributes:
      agent: ``[S]`` who decides.
      interface: ``[S]`` what is seen.
      mask: ``[Z, O]`` bool, available options; at the last interface, that of the two ends, all of them.
      successor: ``[S, O, W]`` int.
      probability: ``[S, O, W]``; rows of unavailable options are laws, too.
      blocks: ``[S, O]`` mean duration, 1 or more: the duration is this number rounded down or up.
      dollars: ``[S, O]`` dollars spent.
      start: ``[S]`` law of the first state.
      view: ``[S, V]`` everything about a state, as zeros and ones.
    """

    agent: np.ndarray
    interface: np.ndarray
    mask: np.ndarray
    successor: np.ndarray
    probability: np.ndarray
    blocks: np.ndarray
    dollars: np.ndarray
    start: np.ndarray
    view: np.ndarray


class ListedParams(NamedTuple):
    """Traced numbers; two worlds of the same sizes share one compilation.

    Attributes:
      outcome: laws of the next state given ``[S, O]``.
      first: law of the first state.
      successor: ``[S, O, W]`` int32; with ``probability`` what ``outcome`` was made from, for ``listed_model``.
      probability: ``[S, O, W]`` float32.
      start: ``[S]`` float32.
      shortest: ``[S, O]`` int32 shorter one of the two durations, in blocks.
      longer: ``[S, O]`` float32 probability of one block more.
      dollars: ``[S, O]`` float32.
      agent: ``[S + 2]`` int32.
      interface: ``[S + 2]`` int32.
      mask: ``[Z, O]`` bool.
      view: ``[S + 2, V]`` float32.
      power: ``[T + 1]`` float32 ``gamma^k``.
      annuity: ``[T + 1]`` float32 ``1 + gamma + ... + gamma^(k-1)``.
      gamma: ``[]`` float32 discount of one block.
      value: ``[]`` float32 worth of what is delivered right.
      dollar_weight: ``[]`` float32 price of a dollar.
      block_cost: ``[]`` float32 price of a block of latency.
    """

    outcome: AliasTable
    first: AliasTable
    successor: chex.Array
    probability: chex.Array
    start: chex.Array
    shortest: chex.Array
    longer: chex.Array
    dollars: chex.Array
    agent: chex.Array
    interface: chex.Array
    mask: chex.Array
    view: chex.Array
    power: chex.Array
    annuity: chex.Array
    gamma: chex.Array
    value: chex.Array
    dollar_weight: chex.Array
    block_cost: chex.Array

    def __repr__(self) -> str:
        return in_short(self)


@dataclasses.dataclass(frozen=True)
class Listed(FiniteEnv[ListedParams]):
    """A listed world as an environment; states ``S`` and ``S + 1`` are the two ends.

    Attributes:
      num_deciding: ``S``.
      words_per_step: duration, next state, restart.
      name: readable name.
    """

    num_deciding: int
    words_per_step: int = 3
    name: str = "listed"

    def segment(
        self, words: chex.Array, state: TabularState, option: chex.Array, params: ListedParams
    ) -> tuple[chex.Array, Ended]:
        """State entered and segment: words for duration and next state."""
        # Nothing follows an end: a step from there, without a restart, continues from the last state.
        at = (jnp.minimum(state.index, self.num_deciding - 1), option)
        entered = draw_at(words[1], params.outcome, at)
        chance = (words[0] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
        tau = params.shortest[at] + (chance < params.longer[at]).astype(jnp.int32)
        done, right = entered >= self.num_deciding, entered == self.num_deciding
        due = jnp.where(right, params.value, 0.0) - params.dollar_weight * params.dollars[at]
        reward = params.power[tau - 1] * due - params.block_cost * params.annuity[tau]
        discount = jnp.where(done, jnp.float32(0), params.power[tau])
        return entered, Ended(reward, tau, discount, terminated=done, truncated=jnp.zeros((), bool))

    def global_view(self, state: TabularState, params: ListedParams) -> chex.Array:
        """``[V]`` float32: everything about the state; zeros at an end."""
        return params.view[state.index]

    def interface_features(self, params: ListedParams) -> np.ndarray | None:
        """``[Z, dim]`` optional description of the interfaces."""
        return None

    def exact_model(self, params: ListedParams) -> TabularModel:
        """A finite IC-SMDP with the same states (the two ends last), interfaces and options (D1)."""
        return listed_model(self.longest_duration, params, self.interface_features(params))


Env = TypeVar("Env", bound=Listed)


def listed_env(kind: Callable[..., Env], listing: Listing, num_agents: int, **own: Any) -> Env:
    """The environment of a listed world.

    Args:
      kind: ``Listed`` or a class derived from it.
      listing: the world.
      num_agents: ``N``.
      **own: fields of that class.
    """
    size, width = listing.blocks.shape
    longest = int(np.ceil(listing.blocks).max())
    return kind(num_agents, len(listing.mask), width, longest, size, **own)


def listed_params(
    listing: Listing, gamma: float, value: float, dollar_weight: float, block_cost: float
) -> ListedParams:
    """The parameters of a listed world.

    Args:
      listing: states, laws, durations and dollars.
      gamma: discount of one block, in ``(0, 1)``.
      value: worth of what is delivered right.
      dollar_weight: price of a dollar, 0 or more.
      block_cost: price of a block of latency, 0 or more.

    Returns:
      JAX arrays.

    Raises:
      ValueError: for a number out of range, or a duration below 1.
    """
    expect("a number between 0 and 1", gamma=gamma)
    expect("0 or more", value=value, dollar_weight=dollar_weight, block_cost=block_cost)
    shortest, longest = np.floor(listing.blocks), int(np.ceil(listing.blocks).max())
    if shortest.min() < 1:
        raise ValueError(f"blocks = {listing.blocks.min():.6g}: expected durations of 1 block or more")
    ends, last = 2, len(listing.mask) - 1
    power = gamma ** np.arange(longest + 1)
    # Successors of probability 0 are never drawn; rows that have few others are padded with them.
    params = ListedParams(
        outcome=alias_table(listing.probability, listing.successor),
        first=AliasTable(*(array[0] for array in alias_table(listing.start[None]))),
        successor=listing.successor.astype(np.int32),
        probability=listing.probability.astype(np.float32),
        start=listing.start.astype(np.float32),
        shortest=shortest.astype(np.int32),
        longer=(listing.blocks - shortest).astype(np.float32),
        dollars=listing.dollars.astype(np.float32),
        agent=np.append(listing.agent, [0] * ends).astype(np.int32),
        interface=np.append(listing.interface, [last] * ends).astype(np.int32),
        mask=listing.mask,
        view=np.pad(listing.view, ((0, ends), (0, 0))).astype(np.float32),
        power=power.astype(np.float32),
        annuity=np.append(0.0, np.cumsum(power[:-1])).astype(np.float32),
        gamma=np.float32(gamma),
        value=np.float32(value),
        dollar_weight=np.float32(dollar_weight),
        block_cost=np.float32(block_cost),
    )
    return jax.tree.map(jnp.asarray, params)


def listed_model(longest: int, params: ListedParams, features: np.ndarray | None = None) -> TabularModel:
    """A listed world as a finite IC-SMDP: same states (the two ends last), interfaces and options (D1).

    The rewards of the model are right in the mean, ``E[R|s,o]``, and spread evenly over the blocks: laws of next state
    and duration, values and policies are those of the environment, but the scatter of single rewards is not.

    Args:
      longest: ``T``, the longest duration.
      params: the parameters.
      features: ``[Z, dim]`` optional description of the interfaces.

    Returns:
      The model.
    """
    host: Any = jax.tree.map(np.asarray, params)
    count, width = host.shortest.shape
    gamma = float(host.gamma)
    duration = np.zeros((count + 2, width, longest))
    duration[count:, :, 0] = 1.0
    s, o = np.indices((count, width))
    longer = host.longer.astype(np.float64)
    duration[s, o, host.shortest - 1] = 1 - longer
    more = longer > 0
    duration[s[more], o[more], host.shortest[more]] = longer[more]
    power = gamma ** np.arange(longest + 1)
    right = (host.probability.astype(np.float64) * (host.successor == count)).sum(axis=2)
    due = float(host.value) * right - float(host.dollar_weight) * host.dollars
    last, whole = (duration[:count] @ each for each in (power[:-1], annuities(gamma, longest)))
    reward = last * due - float(host.block_cost) * whole
    padding = np.zeros((2, width), int)
    law = np.zeros((2, width, host.probability.shape[2]))
    law[:, :, 0] = 1.0
    return TabularModel(
        reward_rate=np.concatenate([reward / whole, padding]),
        agent=host.agent,
        interface=host.interface,
        gamma=gamma,
        successor=np.concatenate([host.successor, np.repeat(padding[:, :, None], law.shape[2], axis=2)]),
        probability=np.concatenate([host.probability, law]),
        duration=duration,
        features=features,
        available=host.mask,
        start=np.append(host.start, [0.0, 0.0]),
        terminal=np.arange(count + 2) >= count,
    )
