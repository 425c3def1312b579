"""Probe models: tiny IC-SMDPs, each of which only a learner with one particular ability gets right.

All have the same shapes (three agents, four deciding states with an interface each, a terminal state, two options), so
that one compilation serves all of them. ``answers`` says in closed form what each method of ``methods.METHODS`` has
to learn on each, under the behaviour that is uniform over what is available.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from icsmdp_jax.models.tabular import TabularModel

GAMMA, LONGEST = 0.8, 3
NAMES = ("value", "discounting", "option", "interface", "receiver")
AGENT = np.array([0, 0, 1, 2, 2])  # of states 0..3, and of the terminal state 4, where nobody decides
END = 4

Fate = tuple[float, Sequence[float], int]  # mean segment reward, law of tau = 1..LONGEST, next state

ONE, TWO, THREE = np.eye(LONGEST)
EITHER = (ONE + THREE) / 2
MEAN_POWER = (GAMMA + GAMMA**3) / 2  # E[gamma^tau] under EITHER


def discount(law: Sequence[float]) -> float:
    """``E[gamma^tau]``."""
    return float(np.asarray(law) @ GAMMA ** np.arange(1, LONGEST + 1))


def probe_model(fates: dict[tuple[int, int], Fate], start: Sequence[float]) -> TabularModel:
    """A model in which option ``o`` at state ``s`` has one fate; options without a fate are not available.

    Args:
      fates: by ``(s, o)``; states without any get one that nobody ever meets.
      start: ``[4]`` law of the first state.
    """
    rate, law, following = np.zeros((5, 2)), np.tile(ONE, (5, 2, 1)), np.full((5, 2), END)
    available = np.zeros((5, 2), bool)
    for (s, o), (reward, pmf, then) in fates.items():
        rate[s, o] = reward * (1 - GAMMA) / (1 - discount(pmf))
        law[s, o], following[s, o], available[s, o] = pmf, then, True
    available[~available.any(axis=1), 0] = True
    return TabularModel(
        reward_rate=rate,
        agent=AGENT,
        interface=np.arange(5),
        gamma=GAMMA,
        transition=np.eye(5)[following],
        duration=law,
        features=np.eye(5),
        available=available,
        start=np.append(start, 0.0),
        terminal=np.arange(5) == END,
    )


@cache
def probe(name: str) -> TabularModel:
    """The probe of that name; see ``answers`` for what it asks."""
    if name == "value":  # one agent, one option, one handoff
        return probe_model({(0, 0): (1.5, TWO, END)}, [1, 0, 0, 0])
    if name == "discounting":  # two agents in a row, the first one's option lasts one step or three
        return probe_model({(0, 0): (0.0, EITHER, 2), (2, 0): (2.0, TWO, END)}, [1, 0, 0, 0])
    if name == "option":  # two options of one agent, of different durations
        return probe_model({(0, 0): (1.0, ONE, END), (0, 1): (-0.5, THREE, END)}, [1, 0, 0, 0])
    if name == "interface":  # two interfaces of one agent, opposite best options
        fates = {(s, o): (1.0 if s == o else -1.0, ONE, END) for s in (0, 1) for o in (0, 1)}
        return probe_model(fates, [0.5, 0.5, 0, 0])
    # receiver: whom to hand to. Agent 1 has a good option and a bad one, agent 2 two middling ones; both hand back.
    fates = {
        (0, 0): (0.0, ONE, 2),
        (0, 1): (0.3, ONE, 3),
        (2, 0): (2.0, TWO, 1),
        (2, 1): (0.0, TWO, 1),
        (3, 0): (1.3, TWO, 1),
        (3, 1): (1.3, TWO, 1),
        (1, 0): (1.0, ONE, END),
    }
    return probe_model(fates, [1, 0, 0, 0])


RIGHT = ("ic_q", "central", "full_information", "shared", "federated")  # those that must find Q*


def answers(name: str, method: str) -> dict[tuple[int, int], float]:
    """What the method learns on the probe, by ``(interface, option)``; exact.

    Everybody is right about own rewards. ``immediate`` knows nothing else. ``no_message`` adds, discounted, what the
    agent itself may expect at its own next turn of the same episode. ``no_message_team`` also adds the rewards of the
    others in between, averaged over what they happened to do instead of maximised.
    """
    if name == "value":
        return {(0, 0): 1.5}
    if name == "discounting":
        alone = method in ("immediate", "no_message")
        return {(0, 0): 0.0 if alone else MEAN_POWER * 2.0, (2, 0): 2.0}
    if name == "option":
        return {(0, 0): 1.0, (0, 1): -0.5}
    if name == "interface":
        return {(0, 0): 1.0, (0, 1): -1.0, (1, 0): -1.0, (1, 1): 1.0}
    last = {(1, 0): 1.0}
    own = {(2, 0): 2.0, (2, 1): 0.0, (3, 0): 1.3, (3, 1): 1.3}
    back = GAMMA**2 * 1.0  # worth of handing back to agent 0, seen by agents 1 and 2
    if method == "immediate":
        return last | own | {(0, 0): 0.0, (0, 1): 0.3}
    if method == "no_message":
        return last | own | {(0, 0): 0.0 + GAMMA * back, (0, 1): 0.3 + GAMMA * back}
    first, second = (2.0, 1.3) if method in RIGHT else ((2.0 + 0.0) / 2, 1.3)
    passed = {entry: reward + back for entry, reward in own.items()}
    return last | passed | {(0, 0): 0.0 + GAMMA * (first + back), (0, 1): 0.3 + GAMMA * (second + back)}
