"""Queries of hidden type and difficulty, the experts' chances with them, and all states of a query on its way.

No language model is run: chances and dollars come from ``table.py``. Ours: how an expert's accuracy on a type spreads
over difficulties. At difficulty ``d = 0, 1, 2`` (easy, medium, hard), all equally frequent, an expert is right with
probability ``sigmoid(ability - slope (d - 1))``, and its ability is such that the mean is the published accuracy; bills
and tokens grow with ``STRETCH``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from icsmdp_jax.envs.expert_routing.table import KINDS, published, shares
from icsmdp_jax.envs.finite import one_hot
from icsmdp_jax.envs.listed import Listing

DIFFICULTIES = ("easy", "medium", "hard")
DIFFICULTY_LAW = np.full(3, 1 / 3)
STRETCH = np.array([0.5, 1.0, 1.5])  # tokens and dollars at each difficulty, as a multiple of the published mean
ANSWER, CHECKED, HAND = 0, 1, 2  # options: answer, answer with a check, hand on to agent o - HAND
READINGS = len(KINDS) * len(DIFFICULTIES)


class Experts(NamedTuple):
    """Numbers of the experts; agent 0 is the front. Arrays over ``[kinds, difficulties, N]`` unless said otherwise.

    Attributes:
      kinds: ``[kinds]`` law of the type.
      right: probability of a right answer.
      dollars: dollars of an answer.
      blocks: ``[2, kinds, difficulties, N, 2]`` mean latency in blocks, by effort (plain, checked) and backlog.
      check_dollars: dollars of an answer with a check.
      notice: probability that the check notices a wrong answer.
      blur: ``[N]`` probability that a reading is drawn at random, for type and for difficulty.
      busy: ``[N]`` probability of a backlog.
    """

    kinds: np.ndarray
    right: np.ndarray
    dollars: np.ndarray
    blocks: np.ndarray
    check_dollars: np.ndarray
    notice: float
    blur: np.ndarray
    busy: np.ndarray


class Queries(NamedTuple):
    """All states of a query, one row each, in the order of the environment's numbers; int arrays ``[S]``.

    Attributes:
      kind: hidden type.
      difficulty: hidden difficulty.
      agent: who holds it.
      kind_read: type as this agent reads it.
      difficulty_read: difficulty as it reads it.
      backlog: whether this agent has work waiting: its private state, with the readings.
      failed: whether an answer was noticed to be wrong: part of the artifact.
      hops: how often it may still be handed on: part of the artifact.
    """

    kind: np.ndarray
    difficulty: np.ndarray
    agent: np.ndarray
    kind_read: np.ndarray
    difficulty_read: np.ndarray
    backlog: np.ndarray
    failed: np.ndarray
    hops: np.ndarray


def experts(
    models: tuple[str, ...],
    mix: float | None,
    slope: float,
    tokens_per_block: float,
    wait: float,
    check_share: float,
    notice: float,
    noise: float,
    blur: tuple[float, ...],
    busy: tuple[float, ...],
) -> Experts:
    """The experts' numbers from the published tables; arguments as in ``env.expert_routing``."""
    accuracy, dollars, tokens = published(models)
    level = np.arange(len(DIFFICULTIES)) - 1.0
    ability = np.array([[calibrated(p, slope) for p in row] for row in accuracy])
    longer = np.array([1.0, 1.0 + check_share])
    spent = dollars[:, None, :] * STRETCH[:, None]
    length = tokens[:, None, :] * STRETCH[:, None] / tokens_per_block
    blocks = longer[:, None, None, None, None] * length[None, ..., None] + wait * np.arange(2)
    return Experts(
        kinds=shares(mix),
        right=expit(ability[:, None, :] - slope * level[:, None]),
        dollars=spent,
        blocks=np.maximum(blocks, 1.0),
        check_dollars=spent * longer[1],
        notice=notice,
        blur=noise * np.array(blur),
        busy=np.array(busy),
    )


def calibrated(accuracy: float, slope: float) -> float:
    """The ability at which the mean chance over the difficulties is ``accuracy``."""
    level = np.arange(len(DIFFICULTIES)) - 1.0
    reach = abs(slope) + 40.0
    return float(brentq(lambda a: DIFFICULTY_LAW @ expit(a - slope * level) - accuracy, -reach, reach, xtol=1e-13))


def _sizes(num_agents: int, hops: int) -> tuple[int, ...]:
    return (len(KINDS), len(DIFFICULTIES), num_agents, len(KINDS), len(DIFFICULTIES), 2, 2, hops + 1)


@lru_cache(maxsize=8)
def queries(num_agents: int, hops: int) -> Queries:
    """Lists the states that a query can be in, whatever the probabilities are.

    A query that still has all its hops is with the front; one that has been handed on may be with anybody but, after a
    single hop, the front.
    """
    every = Queries(*(axis.reshape(-1) for axis in np.indices(_sizes(num_agents, hops))))
    used = hops - every.hops
    at_front = every.agent == 0
    keep = np.where(at_front, used != 1, used != 0)
    return Queries(*(axis[keep] for axis in every))


def number(rows: Queries, num_agents: int, hops: int) -> np.ndarray:
    """Numbers of states given by their fields (any shape); -1 for those that cannot occur."""
    sizes = _sizes(num_agents, hops)
    listed = np.full(int(np.prod(sizes)), -1)
    listed[np.ravel_multi_index(queries(num_agents, hops), sizes)] = np.arange(len(queries(num_agents, hops).agent))
    return listed[np.ravel_multi_index(rows, sizes)]


def interfaces(rows: Queries, num_agents: int, hops: int) -> np.ndarray:
    """``[S]`` number of what the agent that holds a query sees of it."""
    seen = (rows.agent, rows.kind_read, rows.difficulty_read, rows.backlog, rows.failed, rows.hops)
    return np.ravel_multi_index(seen, (num_agents, len(KINDS), len(DIFFICULTIES), 2, 2, hops + 1))


def masks(num_agents: int, hops: int) -> np.ndarray:
    """``[Z, O]`` available options: no second check after a failure, no handing on to itself or without a hop left."""
    sizes = (num_agents, READINGS, 2, 2, hops + 1)
    agent, _, _, failed, left = (axis.reshape(-1) for axis in np.indices(sizes))
    mask = np.ones((len(agent) + 1, HAND + num_agents), bool)
    mask[:-1, CHECKED] = failed == 0
    mask[:-1, HAND:] = (left > 0)[:, None] & (agent[:, None] != np.arange(num_agents))
    return mask


def arrivals(numbers: Experts) -> np.ndarray:
    """``[kinds, difficulties, N, kinds, difficulties, 2]`` law of what an agent sees of a query that comes in."""
    blur = numbers.blur[:, None, None]
    kind = (1 - blur) * np.eye(len(KINDS)) + blur / len(KINDS)  # [N, true, read]
    difficulty = (1 - blur) * np.eye(len(DIFFICULTIES)) + blur / len(DIFFICULTIES)
    backlog = np.stack([1 - numbers.busy, numbers.busy], axis=1)
    return np.einsum("ntx,ndy,nb->tdnxyb", kind, difficulty, backlog)


def listing(numbers: Experts, hops: int) -> Listing:
    """States, laws, latencies and dollars of every query under every option."""
    count = numbers.right.shape[2]
    rows, width = queries(count, hops), 2 * READINGS
    size = len(rows.agent)
    hidden = (rows.kind, rows.difficulty)
    mine = (*hidden, rows.agent)
    successor = np.full((size, HAND + count, width), size + 1)
    probability = np.zeros((size, HAND + count, width))

    right = numbers.right[mine]
    successor[:, :HAND, 0] = size
    probability[:, :HAND, 0] = right[:, None]
    probability[:, ANSWER, 1] = 1 - right
    again = number(rows._replace(failed=np.ones_like(rows.failed)), count, hops)
    noticed = np.where(rows.failed == 0, numbers.notice, 0.0)  # a second check is not available
    successor[:, CHECKED, 2] = again
    probability[:, CHECKED, 1] = (1 - right) * (1 - noticed)
    probability[:, CHECKED, 2] = (1 - right) * noticed

    reading = Queries(*np.indices((1, 1, 1, len(KINDS), len(DIFFICULTIES), 2, 1, 1)).reshape(8, -1))
    law = arrivals(numbers)
    for receiver in range(count):
        to = Queries(
            kind=rows.kind[:, None] + 0 * reading.kind,
            difficulty=rows.difficulty[:, None] + 0 * reading.kind,
            agent=np.full((size, width), receiver),
            kind_read=reading.kind_read + 0 * rows.kind[:, None],
            difficulty_read=reading.difficulty_read + 0 * rows.kind[:, None],
            backlog=reading.backlog + 0 * rows.kind[:, None],
            failed=rows.failed[:, None] + 0 * reading.kind,
            hops=np.maximum(rows.hops - 1, 0)[:, None] + 0 * reading.kind,
        )
        place = number(to, count, hops)
        allowed = (rows.hops > 0) & (rows.agent != receiver)
        option = HAND + receiver
        successor[:, option] = np.where(allowed[:, None], place, size + 1)
        probability[:, option] = law[rows.kind, rows.difficulty, receiver].reshape(size, width)

    blocks, dollars = np.ones((size, HAND + count)), np.zeros((size, HAND + count))
    for effort in (ANSWER, CHECKED):
        blocks[:, effort] = numbers.blocks[effort][(*mine, rows.backlog)]
        dollars[:, effort] = (numbers.dollars, numbers.check_dollars)[effort][mine]
    first = numbers.kinds[rows.kind] * DIFFICULTY_LAW[rows.difficulty]
    first = first * law[(*mine, rows.kind_read, rows.difficulty_read, rows.backlog)]
    return Listing(
        agent=rows.agent,
        interface=interfaces(rows, count, hops),
        mask=masks(count, hops),
        successor=successor,
        probability=probability,
        blocks=blocks,
        dollars=dollars,
        start=first * ((rows.agent == 0) & (rows.hops == hops) & (rows.failed == 0)),
        view=one_hot(rows, _sizes(count, hops)),
    )
