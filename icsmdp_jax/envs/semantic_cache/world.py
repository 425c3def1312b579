"""Queries on the unit sphere, a cache that answers what resembles its content, and models that differ by region.

All of it is ours. A query is a unit vector in three dimensions, drawn from a mixture of topics; the weights of the
topics drift, that is, a phase that everybody can see changes now and then. Distances are chords, from 0 to 2.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

TOPICS = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]])
WEIGHTS = np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])  # of the topics in each phase
PHASES = len(WEIGHTS)
SPREAD = 0.35  # of a topic
WIDTH = 0.6  # chord at which the cached answer has lost 63 % of its worth
MODELS = ("small", "large", "expert")
DOLLARS = np.array([0.08, 0.35, 0.18])  # of an answer, in units of the worth of a perfect one
BLOCKS = np.array([1.0, 3.0, 2.0])  # least blocks of an answer
LONGER = np.array([0.5, 1.0, 0.8])  # further blocks at the far side from the model's best query
BEST = np.array([[0.0, 0.0, -1.0], [0.6, 0.8, 0.0], [-0.6, 0.0, 0.8]])  # the query that a model answers best
TOP, FALL = np.array([0.65, 0.97, 0.95]), np.array([0.35, 0.1, 0.75])  # quality there, and its loss at the far side


def draw(rng: np.random.Generator, count: int, phase: np.ndarray | int) -> np.ndarray:
    """``[count, 3]`` queries of a phase, or of ``[count]`` phases."""
    law = WEIGHTS[np.broadcast_to(phase, count)]
    topic = (rng.random((count, 1)) > law.cumsum(axis=1)).sum(axis=1).clip(max=len(TOPICS) - 1)
    raw = TOPICS[topic] + SPREAD * rng.standard_normal((count, 3))
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def chord(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``[n, m]`` chords between ``[n, 3]`` and ``[m, 3]`` points; exactly 0 for equal ones."""
    return np.linalg.norm(one[:, None] - other[None], axis=2)


@lru_cache(maxsize=8)
def fine_net(count: int, draws: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Points far from one another among drawn queries, and how many queries are nearest to each.

    Args:
      count: number of points.
      draws: queries of each phase from which the points are picked and with which their masses are measured.

    Returns:
      ``(points [count, 3], mass [PHASES, count])``.
    """
    rng = np.random.default_rng(0)
    drawn = [draw(rng, draws, phase) for phase in range(PHASES)]
    pool = np.concatenate([one[:200] for one in drawn])
    picked = [int(chord(pool, pool).sum(axis=1).argmin())]
    away = chord(pool, pool[picked])[:, 0]
    while len(picked) < count:
        picked.append(int(away.argmax()))
        away = np.minimum(away, chord(pool, pool[picked[-1:]])[:, 0])
    points = pool[picked]
    nearest = [chord(one, points).argmin(axis=1) for one in drawn]
    return points, np.stack([np.bincount(one, minlength=count) / draws for one in nearest])


def from_cache(query: np.ndarray, content: np.ndarray) -> np.ndarray:
    """``[n, m]`` worth of the answer to one query, given to another."""
    return np.exp(-((chord(query, content) / WIDTH) ** 2))


def far(query: np.ndarray) -> np.ndarray:
    """``[n, models]`` from 0 at a model's best query to 1 at the other side of the sphere."""
    return (1 - query @ BEST.T) / 2


def quality(query: np.ndarray) -> np.ndarray:
    """``[n, models]`` probability of a good answer."""
    return TOP - FALL * far(query)


def blocks(query: np.ndarray) -> np.ndarray:
    """``[n, models]`` mean blocks of an answer."""
    return BLOCKS + LONGER * far(query)
