"""Semantic caching as an IC-SMDP: who answers a query that resembles an earlier one, and which answer is kept.

Agent 0 is the front, agents 1 to 3 are models (D1):

* artifact: the query, a point of a fine net on the sphere; the phase of the drift, which all can read;
* the front's private state: whose answer the cache holds, a point of the same net. It goes with the query, so that a
  model can say whether its answer is worth keeping;
* interface: agent, phase, and the cells of query and cached point in a net of radius ``radius`` that is refined where
  queries fall. With ``radius = 0`` the interface hides nothing;
* option of the front, 0: answer from the cache. Option ``j``: hand on to agent ``j``, one block. Option of a model,
  0: answer. 1: answer, and the cache keeps it, at the cost ``switch``;
* after an answer the phase changes with probability ``drift``, and the next query comes in; there is no end.

A segment pays ``-block_cost`` in every block and, in its last block, the worth of the answer, less its dollars and less
``switch`` where the cache changed. A model's answer takes ``blocks`` of the world, rounded up or down at random.
"""

from __future__ import annotations

import numpy as np

from icsmdp_jax.core.arguments import expect, whole
from icsmdp_jax.envs.semantic_cache import world
from icsmdp_jax.envs.semantic_cache.net import cells_of
from icsmdp_jax.envs.tabular import TabularEnv, TabularParams, tabular_env
from icsmdp_jax.models.tabular import TabularModel

AGENTS = ("front", *world.MODELS)
MOST = 100  # points; the pool from which they are picked has four times as many
CACHE, KEEP = 0, 1  # the front's option to answer from the cache, a model's option to answer and have the answer kept


def semantic_cache(
    points: int = 14,
    radius: float = 1.2,
    drift: float = 0.05,
    switch: float = 0.3,
    block_cost: float = 0.03,
    gamma: float = 0.9,
) -> tuple[TabularEnv, TabularParams]:
    """The environment ``semantic-cache`` and its parameters.

    Args:
      points: points of the fine net, which the queries are, 2 to 100; there are ``8 points^2`` states.
      radius: of the net behind the interface, a chord from 0 to 2.
      drift: probability that the phase changes after an answer.
      switch: cost of changing the cache.
      block_cost: price of a block of latency.
      gamma: discount of one block.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for a number out of range.
    """
    whole(2, points=points)
    if points > MOST:
        raise ValueError(f"points = {points}: expected at most {MOST}")
    expect("0 or more", radius=radius, switch=switch, block_cost=block_cost)
    expect("a number between 0 and 1", drift=drift, gamma=gamma)
    where, mass = world.fine_net(points)
    agent, phase, query, kept = (axis.reshape(-1) for axis in np.indices(sizes(points)))
    count, width = len(agent), len(AGENTS)

    def number(*fields: np.ndarray | int) -> np.ndarray:
        return np.ravel_multi_index(np.broadcast_arrays(*fields), sizes(points))

    turn = np.array([[1 - drift, drift], [drift, 1 - drift]])
    arriving = (turn[:, :, None] * mass).reshape(world.PHASES, -1)  # next phase and query
    next_phase, next_query = (axis.reshape(-1) for axis in np.indices((world.PHASES, points)))
    successor = np.zeros((count, width, len(next_phase)), int)
    probability = np.zeros(successor.shape)
    for option in range(width):
        content = np.where((agent > 0) & (option == KEEP), query, kept)
        answered = number(0, next_phase, next_query, content[:, None])
        handed = number(option, phase, query, kept)
        passes = (agent == 0) & (option != CACHE)
        successor[:, option] = np.where(passes[:, None], handed[:, None], answered)
        probability[:, option] = np.where(passes[:, None], np.eye(len(next_phase))[0], arriving[phase])

    is_front, model = agent == 0, np.maximum(agent - 1, 0)
    mean = np.where(is_front, 1.0, world.blocks(where)[query, model])
    longest = int(np.ceil(mean).max())
    shortest = np.floor(mean).astype(int)
    duration = np.zeros((count, width, longest))
    s = np.arange(count)
    duration[s, :, shortest - 1] = (1 - (mean - shortest))[:, None]
    more = mean > shortest
    duration[s[more], :, shortest[more]] = (mean - shortest)[more, None]

    lump = np.zeros((count, width))
    lump[is_front, CACHE] = world.from_cache(where, where)[query, kept][is_front]
    worth = (world.quality(where) - world.DOLLARS)[query, model]
    lump[~is_front] = worth[~is_front, None] - switch * (np.arange(width) == KEEP)
    cell = cells_of(where, mass.mean(axis=0), radius)
    return tabular_env(
        TabularModel(
            reward_rate=np.full((count, width), -block_cost),
            lump_reward=lump,
            agent=agent,
            interface=number(agent, phase, cell[query], cell[kept]),
            gamma=gamma,
            successor=successor,
            probability=probability,
            duration=duration,
            available=(agent == 0)[:, None] | (np.arange(width) <= KEEP),  # interfaces are numbered like states
            start=is_front * mass[phase, query] / (world.PHASES * points),
            agent_name=np.array(AGENTS),
        ),
        name="semantic-cache",
    )


def sizes(points: int) -> tuple[int, int, int, int]:
    """Agents, phases, queries, contents of the cache: the fields behind the numbers of states and interfaces."""
    return len(AGENTS), world.PHASES, points, points
