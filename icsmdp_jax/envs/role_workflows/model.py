"""The exact model of a workflow of simulated roles, and what policies of its roles are worth in right answers.

States, interfaces and options have the numbers of the environment. The environment pays 1 or nothing at the last block;
the model's reward is its mean given state and option, which is all that values depend on (D1).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from icsmdp_jax.envs.role_workflows.rules import Listing, Rules, listed
from icsmdp_jax.models.tabular import TabularModel, annuities

if TYPE_CHECKING:
    from icsmdp_jax.envs.role_workflows.env import RoleParams, RoleWorkflow


@lru_cache(maxsize=32)
def listing_of(rules: Rules) -> Listing:
    """The listing behind a workflow; cached."""
    return listed(rules)


def workflow_model(rules: Rules) -> TabularModel:
    """A workflow as a finite IC-SMDP, with features of the interfaces and the law of the prompts as its start law."""
    listing, settings = listing_of(rules), rules.settings
    gamma = settings.gamma
    durations = listing.durations()
    longest = durations.shape[-1]
    unused = listing.probability.sum(axis=-1) <= 0
    last = durations @ gamma ** np.arange(longest)
    annuity = np.where(unused, 1.0, durations @ annuities(gamma, longest))
    success = (listing.probability * listing.pays).sum(axis=-1)
    # paid at the last block, gamma^(tau - 1); E[R] = rate (1 - E gamma^tau) / (1 - gamma) spreads it over the segment
    rate = success * last / annuity - settings.cost
    return TabularModel(
        reward_rate=np.where(unused, 0.0, rate),
        agent=listing.agent,
        interface=listing.interface,
        gamma=gamma,
        successor=listing.successor,
        probability=listing.probability,
        duration=durations,
        features=listing.features,
        available=listing.available,
        start=listing.start,
        terminal=listing.is_end,
    )


class Worth(NamedTuple):
    """What policies of the roles achieve; each ``[...]`` float64.

    Attributes:
      value: discounted return, the ``J`` of ``icsmdp_jax.exact.returns``.
      accuracy: probability that the final answer is right, not discounted.
      blocks: mean number of blocks of tokens of an episode.
    """

    value: np.ndarray
    accuracy: np.ndarray
    blocks: np.ndarray


def worth(env: RoleWorkflow, params: RoleParams, policies: np.ndarray) -> Worth:
    """Many policies at once, exactly: forward over as many handoffs as an episode can have.

    Args:
      env: the environment.
      params: its parameters.
      policies: ``[..., Z, O]`` probabilities of the options at every interface.
    """
    listing, model = listing_of(env.rules), workflow_model(env.rules)
    table = np.asarray(policies, np.float64)
    lead, (s, o) = table.shape[:-2], listing.least.shape
    used = listing.probability.sum(axis=-1) > 0
    choice = table.reshape(-1, *table.shape[-2:])[:, listing.interface] * used  # [n, S, O]
    rows = np.repeat(np.arange(s * o), listing.successor.shape[-1])
    moves = sparse.csr_array((listing.probability.ravel(), (rows, listing.successor.ravel())), shape=(s * o, s))
    durations = listing.durations()
    tau = np.arange(1, durations.shape[-1] + 1)
    discount = durations @ model.gamma**tau
    reward = model.reward_rate * (durations @ annuities(model.gamma, len(tau)))
    right = (moves @ listing.right.astype(float)).reshape(s, o)

    def forward(factor: np.ndarray, *earned: np.ndarray) -> list[np.ndarray]:
        """Sums of ``earned`` over an episode, weighed by the law of each handoff times what ``factor`` left of it."""
        onward = (moves.multiply(factor.reshape(-1, 1))).T.tocsr()
        law, total = np.tile(listing.start, (len(choice), 1)), [np.zeros(len(choice)) for _ in earned]
        for _ in range(env.rules.longest_episode):
            taken = law[..., None] * choice
            for sums, each in zip(total, earned, strict=True):
                sums += (taken * each).sum(axis=(1, 2))
            law = (onward @ taken.reshape(len(choice), -1).T).T
        return [sums.reshape(lead) for sums in total]

    return Worth(*forward(discount, reward), *forward(np.ones_like(discount), right, durations @ tau))
