"""Federated routing, simulated: clients with different queries and access to some of the models only.

Queries are prompts: four of each type and difficulty of expert-routing, points in the plane. Chances, dollars and
tokens are those of expert-routing, published numbers included, with the model that answers. Agents 0 to 3 are clients,
the others are models (D1):

* artifact: the prompt, and whether it may still be handed on;
* private state of a model: whether it has a backlog, drawn when a prompt comes in. Clients have none;
* interface: all of these, so that nothing is hidden. Agents differ in whose prompts they meet, and in that a
  client sees neither backlogs nor what becomes of its prompts, but is offered one number for each;
* option 0: answer (models). Option ``1 + j``: hand on to model ``j``; a client to those that it covers, a model, which
  has the prompt from a client, to any other;
* duration, reward and ends: as in expert-routing. Handing on takes a block, an answer its tokens and the backlog.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np

from icsmdp_jax.core.arguments import expect, whole
from icsmdp_jax.envs.expert_routing.env import BUSY, TEAM
from icsmdp_jax.envs.expert_routing.queries import DIFFICULTIES, Experts, experts
from icsmdp_jax.envs.expert_routing.table import KINDS
from icsmdp_jax.envs.finite import one_hot
from icsmdp_jax.envs.listed import Listed, ListedParams, Listing, listed_env, listed_params

CLIENTS, EACH = 4, 4  # clients; prompts of each type and difficulty
CLASSES = len(KINDS) * len(DIFFICULTIES)
PROMPTS = CLASSES * EACH
AGENTS = (*(f"client {client}" for client in range(CLIENTS)), *TEAM)
ANSWER, HAND = 0, 1  # options
SCATTER = 0.3  # of prompts around the middle of their class


@dataclasses.dataclass(frozen=True)
class FederatedRouting(Listed):
    """Federated routing; make one with ``federated_routing``."""

    name: str = "federated-routing"

    def interface_features(self, params: ListedParams) -> np.ndarray:
        """``[Z, dim]`` float64: holder, prompt, backlog and hops as zeros and ones; zeros at the end."""
        return np.pad(one_hot(states(), sizes()), ((0, 1), (0, 0)))


def federated_routing(
    coverage: int = 2,
    focus: float = 0.8,
    value: float = 1.0,
    dollar_weight: float = 3.0,
    block_cost: float = 0.01,
    gamma: float = 0.98,
) -> tuple[FederatedRouting, ListedParams]:
    """The environment ``federated-routing`` and its parameters.

    Args:
      coverage: models that each client can call, 1 to 5.
      focus: share of a client's queries that come from its own two classes; the last client has no classes of its own.
      value: worth of a right answer.
      dollar_weight: price of a dollar, in units of value.
      block_cost: price of a block of latency.
      gamma: discount of one block.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for a number out of range.
    """
    reach, numbers = covered(coverage), team()
    expect("a number from 0 to 1", focus=focus)
    holder, prompt, backlog, left = states()
    size, count = len(holder), len(TEAM)
    model = np.maximum(holder - CLIENTS, 0)
    kind, difficulty = np.divmod(prompt // EACH, len(DIFFICULTIES))
    mine, is_model = (kind, difficulty, model), holder >= CLIENTS
    successor = np.full((size, HAND + count, 2), size + 1)
    probability = np.tile([1.0, 0.0], (size, HAND + count, 1))
    blocks, dollars, mask = np.ones((size, HAND + count)), np.zeros((size, HAND + count)), np.ones((size + 1, 6), bool)

    right = numbers.right[mine]
    successor[:, ANSWER, 0] = np.where(is_model, size, size + 1)
    probability[is_model, ANSWER] = np.stack([right, 1 - right], axis=1)[is_model]
    blocks[:, ANSWER] = np.where(is_model, numbers.blocks[0][(*mine, backlog)], 1.0)
    dollars[:, ANSWER] = np.where(is_model, numbers.dollars[mine], 0.0)
    mask[:-1, ANSWER] = is_model
    place = np.full(sizes(), size + 1)
    place[states()] = np.arange(size)
    for receiver in range(count):
        option = HAND + receiver
        client = reach[np.minimum(holder, CLIENTS - 1), receiver]
        allowed = np.where(is_model, (left > 0) & (model != receiver), client)
        mask[:-1, option] = allowed
        busy = numbers.busy[receiver]
        for waits in (0, 1):
            to = place[CLIENTS + receiver, prompt, waits, np.where(is_model, 0, 1)]
            successor[:, option, waits] = np.where(allowed, to, size + 1)
        probability[:, option] = [1 - busy, busy]
    listing = Listing(
        agent=holder, interface=np.arange(size), mask=mask, successor=successor, probability=probability,
        blocks=blocks, dollars=dollars, view=one_hot(states(), sizes()),
        start=np.where(is_model, 0.0, mixes(focus)[np.minimum(holder, CLIENTS - 1), prompt] / CLIENTS),
    )  # fmt: skip
    return listed_env(FederatedRouting, listing, len(AGENTS)), listed_params(
        listing, gamma, value, dollar_weight, block_cost
    )


def sizes() -> tuple[int, int, int, int]:
    """Sizes of the fields of a state: holder, prompt, backlog, hops left."""
    return len(AGENTS), PROMPTS, 2, 2


@cache
def states() -> tuple[np.ndarray, ...]:
    """Holder, prompt, backlog and hops left of each state that decides, ``[S]`` each; the two ends come after them."""
    every = tuple(axis.reshape(-1) for axis in np.indices(sizes()))
    holder, _, backlog, left = every
    keep = (holder >= CLIENTS) | ((backlog == 0) & (left == 1))
    return tuple(axis[keep] for axis in every)


def team() -> Experts:
    """The models' numbers: those of expert-routing with its default arguments, without any noise of reading."""
    return experts(TEAM, None, 2.5, 2000.0, 3.0, 0.5, 0.3, 0.0, (0.0,) * len(TEAM), BUSY)


def covered(coverage: int) -> np.ndarray:
    """``[clients, models]`` bool: client ``i`` covers ``coverage`` models from the ``i``-th on, in a circle.

    Raises:
      ValueError: unless it is a whole number from 1 to the number of models.
    """
    whole(1, coverage=coverage)
    if coverage > len(TEAM):
        raise ValueError(f"coverage = {coverage}: expected at most {len(TEAM)}, the number of models")
    return (np.arange(len(TEAM)) - np.arange(CLIENTS)[:, None]) % len(TEAM) < coverage


def mixes(focus: float) -> np.ndarray:
    """``[clients, prompts]`` law of each client's prompts."""
    own = np.arange(PROMPTS) // EACH // 2 == np.arange(CLIENTS)[:, None]
    own = own | ~own.any(axis=1, keepdims=True)
    return (1 - focus) / PROMPTS + focus * own / own.sum(axis=1, keepdims=True)


@cache
def embedding() -> np.ndarray:
    """``[prompts, 2]`` where prompts lie: type across, difficulty upwards, scattered."""
    kind, difficulty = np.divmod(np.arange(PROMPTS) // EACH, len(DIFFICULTIES))
    return np.stack([2.0 * kind, 1.0 * difficulty], axis=1) + SCATTER * np.random.default_rng(0).normal(
        size=(PROMPTS, 2)
    )
