"""How wrong an agent's values may be, from its own segments and the scalars it was sent (T5), without a model.

All agents are frozen (``learning=False``) and keep handing off. Each averages its own temporal differences and its own
``gamma^tau`` and tells the others two numbers, its largest upper limits; ``error_bound`` puts them together. Limits are
by batch means over the agent's own segments, hence asymptotic: batches must be long compared with the memory of the
run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from icsmdp_jax.runtime.agent import Agent

BATCHES = 32
LEVEL = 0.05  # probability that any limit of any agent fails


class Report(NamedTuple):
    """What one agent knows after an audit; the first two numbers are what it tells.

    Attributes:
      limit: largest upper limit of ``|e(z, o)|``; infinite if a pair was visited too rarely.
      modulus: largest upper limit of ``E[gamma^tau; not terminal | z, o]``.
      residual: largest absolute mean temporal difference.
      segments: how many the report is based on.
      pairs: pairs of interface and available option at the interfaces that were visited.
      covered: those that were visited in at least half of the batches.
      correlation: of neighbouring batches; above 0.1 they are too short.
    """

    limit: float
    modulus: float
    residual: float
    segments: int
    pairs: int
    covered: int
    correlation: float


def error_bound(limits: Sequence[tuple[float, float]]) -> float:
    """Bound on ``||Q - Q_phi||_inf`` from the two numbers of every agent: largest limit over 1 - largest modulus."""
    modulus = max(pair[1] for pair in limits)
    return max(pair[0] for pair in limits) / (1 - modulus) if modulus < 1 else math.inf


def audited(agent: Agent, num_agents: int, level: float = LEVEL, batches: int = BATCHES) -> Report:
    """The report of one agent on the segments that it absorbed while it was frozen.

    Args:
      agent: the agent.
      num_agents: how many agents share ``level``, each an equal part of it.
      level: probability that any limit of any agent fails; Bonferroni over pairs and both kinds of limits.
      batches: b; segments beyond a multiple of it are not used.

    Raises:
      ValueError: for fewer segments than two for each batch.
    """
    rows = agent.store.db.execute("SELECT slot, x, option, error, discount FROM audit ORDER BY number").fetchall()
    length = len(rows) // batches
    if length < 2:
        raise ValueError(f"audit: {len(rows)} segments, expected at least {2 * batches} in {batches} batches")
    rows = rows[: length * batches]
    places: dict[tuple[int, bytes], int] = {}
    met = np.array([places.setdefault((slot, x), len(places)) for slot, x, *_ in rows])
    options = len(agent.policy.options)
    mask = np.zeros((len(places), options), bool)
    for (slot, x), number in places.items():
        mask[number, agent.options_at(slot, np.frombuffer(x))] = True
    option = np.array([row[2] for row in rows])
    mask[met, option] = True  # whatever was chosen was available
    pair = np.cumsum(mask.ravel()) - 1
    place = pair[met * options + option]
    count = int(mask.sum())
    at = np.repeat(np.arange(batches), length) * count + place

    def summed(weight: np.ndarray | None) -> np.ndarray:
        return np.bincount(at, weight, batches * count).reshape(batches, count)

    visits, values = summed(None), np.array([row[3:] for row in rows])
    fine, each = 2 * (visits > 0).sum(axis=0) >= batches, level / (2 * num_agents * count)
    error, width, deviations = mean_and_width(visits, summed(values[:, 0]), each / 2)
    discount, over, _ = mean_and_width(visits, summed(values[:, 1]), each)
    size = float((deviations**2).sum())
    return Report(
        limit=float(np.where(fine, np.abs(error) + width, np.inf).max()),
        modulus=min(float(np.where(fine, discount + over, np.inf).max()), agent.policy.gamma),
        residual=float(np.abs(error[fine]).max()) if fine.any() else math.inf,
        segments=len(rows),
        pairs=count,
        covered=int(fine.sum()),
        correlation=float((deviations[1:] * deviations[:-1]).sum()) / size if size > 0 else 0.0,
    )


def mean_and_width(visits: np.ndarray, total: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of each pair over its visits, half-width of its limit by batch means, and the batches' deviations (T5).

    Args:
      visits: ``[b, P]``.
      total: ``[b, P]`` sums over these visits.
      tail: probability beyond one end.
    """
    times = np.maximum(visits.sum(axis=0), 1)
    mean = total.sum(axis=0) / times
    deviations = total - mean * visits
    met = np.maximum((visits > 0).sum(axis=0), 2)
    quantile = np.array([t_quantile(tail, int(n) - 1) for n in met])
    return mean, quantile * np.sqrt((deviations**2).sum(axis=0) * met / (met - 1)) / times, deviations


def t_quantile(tail: float, degrees: int) -> float:
    """``t`` with ``P(T > t) = tail`` for Student's law with a whole number of degrees, by bisection."""
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > tail and high < 1e300:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) > tail else (low, middle)
    return high


def t_tail(t: float, degrees: int) -> float:
    """``P(T > t)``, ``t >= 0``: the finite sum of Student's law (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine2 = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term = total = math.cos(angle) if odd else 1.0
    for step in range(2 + odd, degrees - 1, 2):
        term *= cosine2 * (step - 1) / step
        total += term
    if odd:
        inside = 2 / math.pi * (angle + (sine * total if degrees > 1 else 0.0))
    else:
        inside = sine * total
    return (1 - inside) / 2
