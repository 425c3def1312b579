"""Textbook problems with published answers: Howard's taxicab and toymaker, four semi-Markov problems of Tijms.

Howard's gains are averages per action; ``(1 - gamma) V`` tends to them. Tijms's problems pay when an action begins, and
last whole numbers of time units: 1 or 2 in Example 6.1.1, always 1 in Exercises 6.4 and 6.7, 1 to 9 in Exercise 7.3.
With a continuous discount rate ``r`` per unit, a payment ``x`` and a duration ``d`` contribute ``x + e^(-r d) V``: with
``gamma = e^-r``, ``tau = d`` and the payment as a lump ``x gamma^-(d-1)`` at the end this is exact, nothing is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from icsmdp_jax.exact import kernel_moments, optimal_q
from icsmdp_jax.exact.solve import Solution
from icsmdp_jax.models.importers import from_mdptoolbox
from icsmdp_jax.models.tabular import TabularModel

RATE = 0.1  # per time unit


def solved(model: TabularModel) -> Solution:
    return optimal_q(kernel_moments(model))


def policy(model: TabularModel) -> list[int]:
    return solved(model).q.argmax(axis=1).tolist()


def gain(build: Callable[[float], TabularModel]) -> np.ndarray:
    """Limit of ``(1 - gamma) V`` from two discounts: its error is of second order in ``1 - gamma``."""
    first, second = ((1 - gamma) * solved(build(gamma)).value for gamma in (1 - 1e-4, 1 - 5e-5))
    return 2 * second - first


# Howard, Dynamic Programming and Markov Processes (1960)

TAXICAB = [  # for each town its alternatives: probabilities of the next town, and what the trip pays
    [([1 / 2, 1 / 4, 1 / 4], [10, 4, 8]), ([1 / 16, 3 / 4, 3 / 16], [8, 2, 4]), ([1 / 4, 1 / 8, 5 / 8], [4, 6, 4])],
    [([1 / 2, 0, 1 / 2], [14, 0, 18]), ([1 / 16, 7 / 8, 1 / 16], [8, 16, 8])],
    [([1 / 4, 1 / 4, 1 / 2], [10, 2, 8]), ([1 / 8, 3 / 4, 1 / 8], [6, 4, 2]), ([3 / 4, 1 / 16, 3 / 16], [4, 0, 8])],
]
TOYMAKER = [
    [([0.5, 0.5], [9, 3]), ([0.8, 0.2], [4, 4])],
    [([0.4, 0.6], [3, -7]), ([0.7, 0.3], [1, -19])],
]


def howard(towns: list, gamma: float) -> TabularModel:
    """Rewards by transition; an alternative that a town lacks pays minus infinity."""
    count, most = len(towns), max(len(town) for town in towns)
    law, paid = np.zeros((most, count, count)), np.full((most, count, count), -np.inf)
    law[:, :, 0] = 1
    for s, town in enumerate(towns):
        for a, (probability, reward) in enumerate(town):
            law[a, s], paid[a, s] = probability, reward
    return from_mdptoolbox(law, paid, gamma)


def test_taxicab_has_howards_gain_and_policy() -> None:
    assert policy(howard(TAXICAB, 0.999)) == [1, 1, 1]  # the second alternative in every town
    found = gain(lambda gamma: howard(TAXICAB, gamma))
    np.testing.assert_allclose(found, 13.3445, rtol=0, atol=5e-5)
    # Exactly: the stationary law of that policy, by the matrix tree theorem, against what it earns.
    chosen = [([Fraction(p) for p in town[1][0]], town[1][1]) for town in TAXICAB]
    (p, _), (q, _), (r, _) = chosen
    trees = [q[0] * r[0] + q[0] * r[1] + r[0] * q[2], p[1] * r[1] + p[1] * r[0] + r[1] * p[2]]
    trees.append(p[2] * q[2] + p[2] * q[0] + q[2] * p[1])
    earned = [sum(x * pay for x, pay in zip(law, pays, strict=True)) for law, pays in chosen]
    exact = sum(tree * e for tree, e in zip(trees, earned, strict=True)) / sum(trees)
    assert exact == Fraction(1588, 119)
    np.testing.assert_allclose(found, float(exact), rtol=0, atol=1e-5)


def test_toymaker_has_howards_values_and_gain() -> None:
    model = howard(TOYMAKER, 0.9)
    assert policy(model) == [1, 1]
    np.testing.assert_allclose(solved(model).value, [2.02 / 0.091, 1.12 / 0.091], rtol=1e-12)
    np.testing.assert_array_equal(np.round(solved(model).value, 1), [22.2, 12.3])
    np.testing.assert_allclose(gain(lambda gamma: howard(TOYMAKER, gamma)), 2, rtol=0, atol=1e-5)


# Tijms, A First Course in Stochastic Models (2003)

Choice = tuple[int, float, dict[int, float]]  # duration, payment, law of the next state


def tijms(states: list[list[Choice]], gamma: float) -> TabularModel:
    """Payments at the beginning of an action that lasts a whole number of units; the agent sees the state."""
    count, options = len(states), max(len(choices) for choices in states)
    longest = max(duration for choices in states for duration, _, _ in choices)
    shape = (count, options)
    transition, tau = np.zeros((*shape, count)), np.zeros((*shape, longest))
    lump, available = np.zeros(shape), np.zeros(shape, bool)
    for s, choices in enumerate(states):
        for o, (duration, payment, law) in enumerate(choices):
            transition[s, o, list(law)] = list(law.values())
            tau[s, o, duration - 1] = 1
            lump[s, o] = payment / gamma ** (duration - 1)
            available[s, o] = True
    return TabularModel(
        reward_rate=np.zeros(shape),
        lump_reward=lump,
        agent=np.zeros(count, int),
        interface=np.arange(count),
        gamma=gamma,
        transition=transition,
        duration=tau,
        available=available,
    )


def maintenance() -> list[list[Choice]]:
    """Example 6.1.1: a machine wears out; repair it in time, one day, or after it failed, two days."""
    wear = [{0: 0.9, 1: 0.1}, {1: 0.8, 2: 0.1, 3: 0.05, 4: 0.05}, {2: 0.7, 3: 0.1, 4: 0.2}, {3: 0.5, 4: 0.5}]
    states: list[list[Choice]] = [[(1, 0.0, law)] for law in wear]
    for s, cost in ((1, 7.0), (2, 7.0), (3, 5.0)):
        states[s].append((1, -cost, {0: 1.0}))
    return [*states, [(2, -10.0, {0: 1.0})]]


def waste() -> list[list[Choice]]:
    """Exercise 6.4: waste arrives daily; empty the tanks of four units, or pay for what exceeds them."""
    arrives = [1 / 8, 1 / 2, 1 / 4, 1 / 8]
    states: list[list[Choice]] = []
    for level in range(5):
        excess = sum(p * max(level + k - 4, 0) for k, p in enumerate(arrives))
        after: dict[int, float] = {}
        for k, p in enumerate(arrives):
            after[min(level + k, 4)] = after.get(min(level + k, 4), 0.0) + p
        states.append([(1, -30 * excess, after)])
        if level:
            states[-1].append((1, -25.0 - 5 * level, dict(enumerate(arrives))))
    return states


def stock() -> list[list[Choice]]:
    """Exercise 6.7: a round trip of five towns with five units to sell; restock here, or pay for demand unmet next."""
    restock = [60, 30, 50, 25, 100]
    demand = np.array([[0.5, 0.25, 0.375, 0.3, 0.5], [0.3, 0.5, 0.375, 0.5, 0.25], [0.2, 0.25, 0.25, 0.2, 0.25]])
    states: list[list[Choice]] = []
    for town in range(5):
        for left in range(6):
            unmet = float(demand[left + 1 :, town].sum())
            choices: list[Choice] = []
            for level, cost in ((left, 200 * unmet), (5, float(restock[town]))):
                law: dict[int, float] = {}
                for wanted in range(3):
                    to = 6 * ((town + 1) % 5) + max(level - wanted, 0)
                    law[to] = law.get(to, 0.0) + float(demand[wanted, (town + 1) % 5])
                choices.append((1, -cost, law))
            states.append(choices)
    return states


def trips() -> list[list[Choice]]:
    """Exercise 7.3: from place to place; every trip has its length and its fee."""
    length = [[0, 3, 6, 3, 2], [4, 0, 1, 7, 5], [5, 1, 0, 6, 8], [3, 8, 5, 0, 2], [2, 5, 9, 2, 0]]
    fee = [[0, 8, 12, 6, 6], [20, 0, 2, 14, 16], [16, 2, 0, 18, 16], [6, 10, 20, 0, 6], [8, 16, 20, 8, 0]]
    return [[(length[i][j], float(fee[i][j]), {j: 1.0}) for j in range(5) if j != i] for i in range(5)]


PUBLISHED = {  # sum of V at rate 0.1, average reward per time unit: relund/mdp, tests/testthat/test_criteria.R
    maintenance: (-36.6474287369603786, -0.433789954337899297),
    waste: (-920.579684166031711, -17.76869158878504606),
    stock: (-2754.88121322102369959, -7.81327076593577807),
    trips: (240.15912306112875, 4.0),
}


@pytest.mark.parametrize("problem", PUBLISHED)
def test_semi_markov_problems_have_their_published_values(problem: Callable[[], list[list[Choice]]]) -> None:
    total, average = PUBLISHED[problem]
    states = problem()
    assert solved(tijms(states, math.exp(-RATE))).value.sum() == pytest.approx(total, rel=1e-10)
    np.testing.assert_allclose(gain(lambda gamma: tijms(states, gamma)), average, rtol=0, atol=1e-4)
