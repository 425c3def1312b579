"""A reference without handoffs: a dynamic net and kernel ridge regression with uncertainty, offline and online.

The algorithm follows the abstract of arXiv 2604.20021 in its parts; every choice within them is ours, and none of that
paper's theorems is claimed. In each round the cache holds the answer to one point. A query comes in and is answered
from the cache, whose worth is known, or by a model, whose worth is observed once, right or wrong, and otherwise
unknown. Observations are gathered in the cells of a ``DynamicNet``, and a kernel ridge regression over its centres says
what each model is worth at any query, and how certain that is. The cache is chosen at the beginning of epochs only,
whose lengths grow with the rounds, and changed only where that pays for the switch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from icsmdp_jax.envs.semantic_cache import world
from icsmdp_jax.envs.semantic_cache.net import DynamicNet

RIDGE = 3.0  # variance of one observation, as a multiple of the prior variance
PRIOR, DEVIATION = 0.3, 0.3  # of the worth of an answer before anything is observed
SCALE = 0.7  # chord over which worths are similar
GROWTH = 0.1  # length of an epoch as a share of the rounds before it
OPTIMISM = 0.5  # deviations added to the mean


class Prices(NamedTuple):
    """Numbers of the environment that the reference is given: its ``drift``, ``switch`` and ``block_cost``."""

    drift: float = 0.05
    switch: float = 0.3
    block_cost: float = 0.03


DEFAULTS = Prices()


class Ridge(NamedTuple):
    """Kernel ridge regression on centres ``[C, 3]``, each of which stands for several observations.

    Attributes:
      centres: those with an observation.
      weights: ``[C]`` dual weights of the mean.
      inverse: ``[C, C]`` of kernel matrix plus ridge.
    """

    centres: np.ndarray
    weights: np.ndarray
    inverse: np.ndarray

    @classmethod
    def fit(cls, centres: np.ndarray, counts: np.ndarray, sums: np.ndarray) -> Ridge:
        """Fits ``counts [C]`` observations with ``sums [C]``; the same as one row for each, at its centre."""
        seen = counts > 0
        at, n = centres[seen], counts[seen]
        inverse = np.linalg.inv(kernel(at, at) + np.diag(RIDGE / n))
        return cls(at, inverse @ (sums[seen] / n - PRIOR), inverse)

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``[n]`` mean and standard deviation at ``[n, 3]`` points."""
        across = kernel(points, self.centres)
        variance = 1 - np.einsum("ni,ij,nj->n", across, self.inverse, across)
        return PRIOR + across @ self.weights, DEVIATION * np.sqrt(np.maximum(variance, 0.0))


def kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``[n, m]`` Gaussian kernel of chords."""
    return np.exp(-0.5 * (world.chord(one, other) / SCALE) ** 2)


class Memory:
    """What a learner has seen: a net of queries, arrivals in its cells by phase, observations by model."""

    def __init__(self, radius: float = 0.5) -> None:
        self.net = DynamicNet(radius)
        self.arrivals = np.zeros((world.PHASES, 0))
        self.counts, self.sums = np.zeros((len(world.MODELS), 0)), np.zeros((len(world.MODELS), 0))

    def add(self, point: np.ndarray, phase: int, model: int, worth: float) -> None:
        """A query, and what a model's answer to it was worth; ``model`` is -1 where the cache answered."""
        cell = self.net.add(point)
        if cell == self.counts.shape[1]:
            grown = (np.pad(each, ((0, 0), (0, 1))) for each in (self.arrivals, self.counts, self.sums))
            self.arrivals, self.counts, self.sums = grown
        self.arrivals[phase, cell] += 1
        if model >= 0:
            self.counts[model, cell] += 1
            self.sums[model, cell] += worth

    def worths(self, points: np.ndarray, deviations: float) -> np.ndarray:
        """``[n, models]`` estimates, a number of standard deviations above the mean (below, if negative)."""
        fits = [Ridge.fit(self.net.centres, *each).at(points) for each in zip(self.counts, self.sums, strict=True)]
        return np.stack([mean + deviations * deviation for mean, deviation in fits], axis=1)


def true_worths(points: np.ndarray, prices: Prices) -> np.ndarray:
    """``[n, models]`` mean worth of the models' answers, handing on included."""
    return world.quality(points) - world.DOLLARS - prices.block_cost * (1 + world.blocks(points))


def contents(points: np.ndarray, mass: np.ndarray, best: np.ndarray, prices: Prices) -> np.ndarray:
    """``[PHASES]`` points to keep in each phase, the best pair of them in the long run, counting switches.

    Args:
      points: ``[C, 3]`` what can be kept, and what comes in.
      mass: ``[PHASES, C]`` law of what comes in.
      best: ``[C]`` worth of the best model there.
      prices: of switches and blocks.
    """
    cached = world.from_cache(points, points) - prices.block_cost
    gain = mass @ np.maximum(cached, best[:, None])
    pair = (gain[0][:, None] + gain[1]) / 2 - prices.drift * prices.switch * (1 - np.eye(len(points)))
    return np.array(np.unravel_index(pair.argmax(), pair.shape))


def regret(rounds: int, seed: int, prices: Prices = DEFAULTS, fine: int = 150) -> np.ndarray:
    """``[rounds]`` what the online algorithm has lost so far to an oracle on a fine net, averaged over the answers.

    The oracle knows masses and worths at ``fine`` points, holds the best content of each phase, and treats a query as
    the nearest of these points. Both see the same queries and pay for switches.
    """
    rng = np.random.default_rng(seed)
    phase = (rng.random(rounds) < prices.drift).cumsum() % world.PHASES
    queries = world.draw(rng, rounds, phase)
    truth, luck = true_worths(queries, prices), rng.random(rounds)
    oracle = _oracle(queries, phase, truth, prices, fine)

    memory, kept, earned = Memory(), np.zeros((world.PHASES, 3)), np.zeros(rounds)
    holds, begin = None, len(world.MODELS)
    for t in range(begin):  # one observation of each model to begin with
        earned[t] = truth[t, t]
        memory.add(queries[t], phase[t], t, _observed(queries[t], t, luck[t], prices))
    while begin < rounds:
        end = min(rounds, begin + max(5, int(GROWTH * begin)))
        centres = memory.net.centres
        best = memory.worths(centres, OPTIMISM).max(axis=1)
        mass = memory.arrivals / memory.arrivals.sum(axis=1, keepdims=True).clip(1)
        wanted = centres[contents(centres, mass, best, prices)]
        kept = _changed(kept, wanted, centres, mass, best, end - begin, prices)
        span = slice(begin, end)
        cached = _in_phase(queries[span], kept, phase[span], prices)
        choice = np.column_stack([cached, memory.worths(queries[span], OPTIMISM)]).argmax(axis=1) - 1
        real = np.column_stack([cached, truth[span]])
        earned[span] = real[np.arange(end - begin), choice + 1]
        for t, model in zip(range(begin, end), choice, strict=True):
            if holds is None or not np.array_equal(holds, kept[phase[t]]):
                holds = kept[phase[t]]
                earned[t] -= prices.switch
            memory.add(queries[t], phase[t], model, _observed(queries[t], model, luck[t], prices))
        begin = end
    return np.cumsum(oracle - earned)


def _cached(queries: np.ndarray, kept: np.ndarray, prices: Prices) -> np.ndarray:
    return world.from_cache(queries, kept) - prices.block_cost


def _in_phase(queries: np.ndarray, kept: np.ndarray, phase: np.ndarray, prices: Prices) -> np.ndarray:
    return np.take_along_axis(_cached(queries, kept, prices), phase[:, None], axis=1)


def _observed(query: np.ndarray, model: int, luck: float, prices: Prices) -> float:
    """Worth of one answer, good or not."""
    if model < 0:
        return 0.0
    good = luck < world.quality(query[None])[0, model]
    return float(good - world.DOLLARS[model] - prices.block_cost * (1 + world.blocks(query[None])[0, model]))


def _changed(
    kept: np.ndarray, wanted: np.ndarray, centres: np.ndarray, mass: np.ndarray, best: np.ndarray, length: int,
    prices: Prices,
) -> np.ndarray:  # fmt: skip
    """What each phase keeps in the next epoch of ``length`` rounds: the wanted point where it pays for the switch."""

    def worth(points: np.ndarray) -> np.ndarray:
        return (mass * np.maximum(_cached(centres, points, prices), best[:, None]).T).sum(axis=1)

    pays = length / world.PHASES * (worth(wanted) - worth(kept)) > prices.switch
    return np.where(pays[:, None], wanted, kept)


def _oracle(queries: np.ndarray, phase: np.ndarray, truth: np.ndarray, prices: Prices, fine: int) -> np.ndarray:
    """``[rounds]`` what the oracle on the fine net earns."""
    points, mass = world.fine_net(fine)
    worths = true_worths(points, prices)
    kept = points[contents(points, mass, worths.max(axis=1), prices)]
    near = world.chord(queries, points).argmin(axis=1)
    believed = np.column_stack([_cached(points, kept, prices)[near, phase], worths[near]])
    real = np.column_stack([_in_phase(queries, kept, phase, prices), truth])
    earned = real[np.arange(len(queries)), believed.argmax(axis=1)]
    switches = np.append(True, phase[1:] != phase[:-1]) if (kept[0] != kept[1]).any() else np.arange(len(phase)) == 0
    return earned - prices.switch * switches


def offline_loss(logged: int, seed: int, prices: Prices = DEFAULTS, tests: int = 2000, fine: int = 150) -> float:
    """Mean loss per query against the same oracle, for a policy from a log in which models were asked at random.

    The policy is cautious: a model counts ``OPTIMISM`` standard deviations less than its mean. Switches are left out.
    """
    rng = np.random.default_rng(seed)
    memory = Memory()
    phase, model = rng.integers(world.PHASES, size=logged), rng.integers(len(world.MODELS), size=logged)
    model[: len(world.MODELS)] = range(len(world.MODELS))
    for query, ph, which, luck in zip(world.draw(rng, logged, phase), phase, model, rng.random(logged), strict=True):
        memory.add(query, ph, which, _observed(query, which, luck, prices))
    centres, mass = memory.net.centres, memory.arrivals / memory.arrivals.sum(axis=1, keepdims=True)
    kept = centres[contents(centres, mass, memory.worths(centres, -OPTIMISM).max(axis=1), prices)]
    then = rng.integers(world.PHASES, size=tests)
    queries = world.draw(rng, tests, then)
    truth = true_worths(queries, prices)
    cached = _in_phase(queries, kept, then, prices)
    choice = np.column_stack([cached, memory.worths(queries, -OPTIMISM)]).argmax(axis=1)
    earned = np.column_stack([cached, truth])[np.arange(tests), choice]
    free = prices._replace(switch=0.0)
    return float((_oracle(queries, then, truth, free, fine) - earned).mean())
