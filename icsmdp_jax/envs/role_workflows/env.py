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

from icsmdp_jax.core.arrival import Ended
from icsmdp_jax.core.sampling import AliasTable, alias_table, draw_at
from icsmdp_jax.core.words import in_short
from icsmdp_jax.envs.finite import FiniteEnv, TabularState, check_made_from
from icsmdp_jax.envs.role_workflows.model import listing_of, workflow_model
from icsmdp_jax.envs.role_workflows.rules import Listing, Rules
from icsmdp_jax.models.tabular import TabularModel, annuities

TAU_BITS = 3  # an outcome's code: number of blocks less 1 in the low bits, whether it pays, then the next state
LONGEST = 2**TAU_BITS


class RoleParams(NamedTuple):
    """Traced numbers of a workflow.

    Attributes:
      outcome: laws of an outcome's code given ``[S, O]``.
      first: law of the first state, which is a new prompt.
      paid: ``[2 LONGEST]`` float32 segment reward, by whether the outcome pays and by the number of blocks.
      discount: ``[LONGEST]`` float32 gamma^tau.
      epoch: ``[S, 3]`` int32 who acts, what it sees, and what it may do (one bit for each option).
      ends: ``[]`` int32, number of the first of the two terminal states, which come last.
    """

    outcome: AliasTable
    first: AliasTable
    paid: chex.Array
    discount: chex.Array
    epoch: chex.Array
    ends: chex.Array

    def __repr__(self) -> str:
        return in_short(self)


@dataclasses.dataclass(frozen=True)
class RoleWorkflow(FiniteEnv[RoleParams]):
    """A workflow of roles; make one with ``eval_opt``, ``voting`` or ``orch_workers``.

    Attributes:
      rules: what happens; its settings say what is paid.
      words_per_step: outcome, next prompt.
    """

    rules: Rules
    words_per_step: int = 2

    @property
    def name(self) -> str:  # type: ignore[override]
        """Of the rules."""
        return self.rules.name

    def segment(
        self, words: chex.Array, state: TabularState, option: chex.Array, params: RoleParams
    ) -> tuple[chex.Array, Ended]:
        """State entered and segment, from one word."""
        code = draw_at(words[0], params.outcome, (state.index, option))
        tau = code & (LONGEST - 1)
        entered = code >> (TAU_BITS + 1)
        done = entered >= params.ends
        discount = jnp.where(done, jnp.float32(0), params.discount[tau])
        ended = Ended(params.paid[code & (2 * LONGEST - 1)], tau + 1, discount, done, jnp.zeros((), bool))
        return entered, ended

    def decision(self, index: chex.Array, params: RoleParams) -> tuple[chex.Array, chex.Array, chex.Array]:
        """Who acts, what it sees, and what it may do, from one row of a table."""
        row = params.epoch[index]
        mask = (row[2] >> jnp.arange(self.num_options, dtype=jnp.int32)) & 1
        return row[0], row[1], mask.astype(bool)

    def global_view(self, state: TabularState, params: RoleParams) -> chex.Array:
        """``[S]`` float32, one-hot: which state it is, including hidden correctness and whose turn it is."""
        return (jnp.arange(params.epoch.shape[0], dtype=jnp.int32) == state.index).astype(jnp.float32)

    def interface_features(self, params: RoleParams) -> np.ndarray:
        """``[Z, D]`` float32, what each interface shows, in ``rules.feature_names``; zeros for the terminal one."""
        return listing_of(self.rules).features.astype(np.float32)

    def exact_model(self, params: RoleParams) -> TabularModel:
        """The workflow as a finite IC-SMDP.

        Raises:
          ValueError: for parameters of other rules.
        """
        check_made_from(params, _params(listing_of(self.rules)), "env.rules")
        return workflow_model(self.rules)


def workflow(rules: Rules) -> tuple[RoleWorkflow, RoleParams]:
    """The environment of any rules, and its parameters."""
    listing = listing_of(rules)
    width = max(len(names) for names in rules.options)
    env = RoleWorkflow(len(rules.agents), len(listing.views) + 1, width, int(listing.most.max()), rules)
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
        first=start,
        paid=paid.astype(np.float32),
        discount=(settings.gamma**tau).astype(np.float32),
        epoch=epoch.astype(np.int32),
        ends=np.int32(len(listing.states) - 2),
    )
    return jax.tree.map(jnp.asarray, params)
