"""Workflows of simulated language models as environments: no model is run, a step is one look-up in flat tables.

One primitive step is one block of generated tokens. The reward of a segment is what its last block pays, 1 or nothing,
discounted to the segment's beginning, less the price of its blocks. One random word chooses branch and number of blocks
together, a second one the next prompt where an episode ends.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.core.sampling import AliasTable, alias_table, draw, draw_at
from icsmdp_jax.envs.role_workflows.rules import Listing, Rules, listed
from icsmdp_jax.models.tabular import annuities

TAU_BITS = 3  # an outcome's code: number of blocks less 1 in the low bits, whether it pays, then the next state
LONGEST = 2**TAU_BITS


class RoleState(NamedTuple):
    """State of one copy: ``index`` ``[]`` int32, position in ``Listing.states``."""

    index: chex.Array


class RoleParams(NamedTuple):
    """Traced numbers of a workflow.

    Attributes:
      outcome: laws of an outcome's code given ``[S, O]``.
      start: law of the first state, which is a new prompt.
      paid: ``[2 LONGEST]`` float32 segment reward, by whether the outcome pays and by the number of blocks.
      discount: ``[LONGEST]`` float32 gamma^tau.
      epoch: ``[S, 3]`` int32 who acts, what it sees, and what it may do (one bit for each option).
      ends: ``[]`` int32, number of the first of the two terminal states, which come last.
    """

    outcome: AliasTable
    start: AliasTable
    paid: chex.Array
    discount: chex.Array
    epoch: chex.Array
    ends: chex.Array


@dataclasses.dataclass(frozen=True)
class RoleWorkflow(Environment[RoleState, RoleParams]):
    """A workflow of roles; make one with ``eval_opt``, ``voting`` or ``orch_workers``.

    Attributes:
      rules: what happens; its settings say what is paid.
      num_interfaces: ``Z``; the last one is that of a terminal handoff.
      longest_duration: largest number of blocks of an option.
    """

    rules: Rules
    num_interfaces: int
    longest_duration: int
    words_per_step: int = 2  # outcome, next prompt

    @property
    def spec(self) -> EnvSpec:
        """Static facts of this environment."""
        return EnvSpec(
            name=self.rules.name,
            num_agents=len(self.rules.agents),
            num_options=self._width,
            num_interfaces=self.num_interfaces,
            interface_shape=(),
            interface_dtype=jnp.int32,
            longest_duration=self.longest_duration,
            exact_oracle=True,
        )

    @property
    def _width(self) -> int:
        return max(len(names) for names in self.rules.options)

    def reset(self, key: chex.PRNGKey, params: RoleParams) -> tuple[Handoff, RoleState]:
        """Draws a prompt."""
        index = draw(jax.random.bits(key, (), jnp.uint32), params.start)
        zero, no = jnp.float32(0), jnp.zeros((), bool)
        now = self._decision(index, params)
        return self._handoff(now, now, zero, jnp.int32(0), zero, no), RoleState(index)

    def step_env(
        self, key: chex.PRNGKey, state: RoleState, option: chex.Array, params: RoleParams
    ) -> tuple[Handoff, RoleState]:
        """Runs one option; the state returned is the one entered, terminal or not (D2)."""
        entered, reward, tau, discount, done = self._outcome(
            jax.random.bits(key, (), jnp.uint32), state, option, params
        )
        now = self._decision(entered, params)
        return self._handoff(now, now, reward, tau, discount, done), RoleState(entered)

    def step(
        self, key: chex.PRNGKey, state: RoleState, option: chex.Array, params: RoleParams
    ) -> tuple[Handoff, RoleState]:
        """Runs one option and starts the next prompt where that ended the episode."""
        return self.step_from_words(jax.random.bits(key, (self.words_per_step,), jnp.uint32), state, option, params)

    def step_from_words(
        self, words: chex.Array, state: RoleState, option: chex.Array, params: RoleParams
    ) -> tuple[Handoff, RoleState]:
        """``step`` with the random words given: ``words`` is ``[2]`` uint32."""
        entered, reward, tau, discount, done = self._outcome(words[0], state, option, params)
        index = jnp.where(done, draw(words[1], params.start), entered)
        now, final = self._decision(index, params), self._decision(entered, params)
        return self._handoff(now, final, reward, tau, discount, done), RoleState(index)

    def _outcome(
        self, word: chex.Array, state: RoleState, option: chex.Array, params: RoleParams
    ) -> tuple[chex.Array, chex.Array, chex.Array, chex.Array, chex.Array]:
        """State entered, segment reward, blocks, discount, and whether the episode is over."""
        code = draw_at(word, params.outcome, (state.index, option))
        tau = code & (LONGEST - 1)
        entered = code >> (TAU_BITS + 1)
        done = entered >= params.ends
        discount = jnp.where(done, jnp.float32(0), params.discount[tau])
        return entered, params.paid[code & (2 * LONGEST - 1)], tau + 1, discount, done

    def _decision(self, index: chex.Array, params: RoleParams) -> tuple[chex.Array, chex.Array, chex.Array]:
        row = params.epoch[index]
        mask = (row[2] >> jnp.arange(self._width, dtype=jnp.int32)) & 1
        return row[0], row[1], mask.astype(bool)

    def _handoff(
        self,
        now: tuple[chex.Array, chex.Array, chex.Array],
        final: tuple[chex.Array, chex.Array, chex.Array],
        reward: chex.Array,
        tau: chex.Array,
        discount: chex.Array,
        done: chex.Array,
    ) -> Handoff:
        return Handoff(*now, reward, tau, discount, done, jnp.zeros((), bool), *final)


def global_view(state: RoleState, params: RoleParams) -> chex.Array:
    """``[S]`` float32, which state it is, hidden correctness and whose turn it is included: one 1 among zeros."""
    return (jnp.arange(params.epoch.shape[0]) == state.index).astype(jnp.float32)


def workflow(rules: Rules) -> tuple[RoleWorkflow, RoleParams]:
    """The environment of any rules, and its parameters."""
    listing = listed(rules)
    env = RoleWorkflow(rules, len(listing.views) + 1, int(listing.most.max()))
    return env, _params(listing)


def _params(listing: Listing) -> RoleParams:
    settings = listing.rules.settings
    durations = listing.durations()
    chance = listing.probability[..., None] * durations[..., None, :]  # [S, O, W, T]
    code = (2 * listing.successor + listing.pays)[..., None] * LONGEST + np.arange(durations.shape[-1])
    rows = chance.reshape(*chance.shape[:2], -1)
    order = np.argsort(rows <= 0, axis=-1, kind="stable")[..., : max(int((rows > 0).sum(axis=-1).max()), 1)]
    outcome = alias_table(
        np.take_along_axis(rows, order, axis=-1), np.take_along_axis(code.reshape(rows.shape), order, axis=-1)
    )
    start = AliasTable(*(array[0] for array in alias_table(listing.start[None][:, listing.start > 0],
                                                           np.flatnonzero(listing.start)[None])))  # fmt: skip
    tau = np.arange(1, LONGEST + 1)
    price = settings.cost * annuities(settings.gamma, LONGEST)
    paid = np.concatenate([-price, settings.gamma ** (tau - 1) - price])
    bits = (listing.available << np.arange(listing.available.shape[1])).sum(axis=1)
    epoch = np.column_stack([listing.agent, listing.interface, bits[listing.interface]])
    params = RoleParams(
        outcome=outcome,
        start=start,
        paid=paid.astype(np.float32),
        discount=(settings.gamma**tau).astype(np.float32),
        epoch=epoch.astype(np.int32),
        ends=np.int32(len(listing.states) - 2),
    )
    return jax.tree.map(jnp.asarray, params)
