"""A simulated support desk, shared by all clients: tickets, who sees what, what happens. NumPy only.

A ticket has a topic and may be hard. Triage reads how it is worded, which is right about the topic 90 times in 100. A
specialist sees whether the ticket is her own and whether it is hard; she answers at once, does research first or passes
it on. Review sees a verdict on the answer, which is right 98 times in 100, and sends or returns it. No agent sees more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

AGENTS = ("triage", "billing", "tech", "review")
TRIAGE, BILLING, TECH, REVIEW = range(4)
OPTIONS = ("to billing", "to tech", "answer", "research", "pass on", "send", "return")
OWN = (
    ("to billing", "to tech"),
    ("answer", "research", "pass on"),
    ("answer", "research", "pass on"),
    ("send", "return"),
)
GAMMA = 0.98  # of one primitive step: a minute
MINUTES = {"to billing": 2, "to tech": 2, "answer": 4, "research": 9, "pass on": 2, "send": 1, "return": 2}
LONGEST = 12  # minutes
COST = 0.1  # for each minute
GOOD, BAD = 10.0, -10.0  # for an answer that is sent
IS_TECH, IS_HARD, WORDED_RIGHT, VERDICT_RIGHT = 0.45, 0.5, 0.9, 0.98
RIGHT = {  # probability of a right answer, by option and (own topic, hard)
    "answer": {(True, False): 0.9, (True, True): 0.25, (False, False): 0.1, (False, True): 0.05},
    "research": {(True, False): 0.95, (True, True): 0.85, (False, False): 0.2, (False, True): 0.1},
}
FIELDS = {"triage": ("wording",), "billing": ("own", "hard"), "tech": ("own", "hard"), "review": ("verdict",)}
TOPICS = ("billing", "tech")


class State(NamedTuple):
    """All that there is to know of a ticket; what is not known yet is 0."""

    agent: int
    topic: int
    hard: int
    wording: int = 0  # the topic that it seems to have
    author: int = 0  # specialist whose answer is in review
    right: int = 0  # whether the answer is
    verdict: int = 0

    def facts(self) -> dict[str, str]:
        """What the active agent sees."""
        seen = {
            "wording": TOPICS[self.wording],
            "own": "yes" if self.topic == self.agent - BILLING else "no",
            "hard": "hard" if self.hard else "easy",
            "verdict": "right" if self.verdict else "wrong",
        }
        return {name: seen[name] for name in FIELDS[AGENTS[self.agent]]}

    def hidden(self) -> dict[str, str]:
        """What the log sees besides, for those who fit a model to it."""
        full = {"topic": TOPICS[self.topic], "difficulty": "hard" if self.hard else "easy"}
        if self.agent == REVIEW:
            full |= {"author": AGENTS[self.author], "answer": "right" if self.right else "wrong"}
        return full


def first_states() -> dict[State, float]:
    """Law of a new ticket."""
    law = {}
    for topic, hard, right in np.ndindex(2, 2, 2):
        chance = (IS_TECH if topic else 1 - IS_TECH) * (IS_HARD if hard else 1 - IS_HARD)
        wording = topic if right else 1 - topic
        law[State(TRIAGE, topic, hard, wording)] = chance * (WORDED_RIGHT if right else 1 - WORDED_RIGHT)
    return law


def next_states(now: State, option: str) -> dict[State | None, float]:
    """Law of what follows; None is the end."""
    if option == "send":
        return {None: 1.0}
    if option in ("answer", "research"):
        law: dict[State | None, float] = {}
        chance = RIGHT[option][now.topic == now.agent - BILLING, bool(now.hard)]
        for right, true in np.ndindex(2, 2):
            verdict = right if true else 1 - right
            state = State(REVIEW, now.topic, now.hard, 0, now.agent, right, verdict)
            law[state] = (chance if right else 1 - chance) * (VERDICT_RIGHT if true else 1 - VERDICT_RIGHT)
        return law
    to = {"to billing": BILLING, "to tech": TECH, "return": now.author}.get(option, BILLING + TECH - now.agent)
    return {State(to, now.topic, now.hard): 1.0}


def outcome(now: State, option: str) -> float:
    """What is paid with the last minute of an option."""
    return (GOOD if now.right else BAD) if option == "send" else 0.0


def duration_law(option: str) -> np.ndarray:
    """``[T]`` law of the minutes that an option takes: the usual ones, give or take one."""
    law = np.zeros(LONGEST)
    law[max(MINUTES[option] - 2, 0) : MINUTES[option] + 1] = 1.0
    return law / law.sum()


def by_hand(agent: str, facts: dict[str, str]) -> str:
    """The routing that is in place: by the wording, everybody answers at once, review trusts the verdict."""
    if agent == "triage":
        return f"to {facts['wording']}"
    if agent == "review":
        return "send" if facts["verdict"] == "right" else "return"
    return "answer"


class Desk:
    """The desk as a finite model with exact values, and as a simulation."""

    def __init__(self) -> None:
        """Lists all states."""
        self.states: list[State] = list(first_states())
        self.number = {state: at for at, state in enumerate(self.states)}
        for state in self.states:  # grows while it is walked through
            for option in OWN[state.agent]:
                for after in next_states(state, option):
                    if after is not None and after not in self.number:
                        self.number[after] = len(self.states)
                        self.states.append(after)
        self.start = np.zeros(len(self.states))
        for state, chance in first_states().items():
            self.start[self.number[state]] = chance

    def arrays(self) -> dict[str, Any]:
        """The arrays of a model file; the last state is the end."""
        count, end = len(self.states) + 1, len(self.states)
        transition, duration = np.zeros((count, len(OPTIONS), count)), np.zeros((count, len(OPTIONS), LONGEST))
        lump = np.zeros((count, len(OPTIONS)))
        views = sorted({(state.agent, *state.facts().values()) for state in self.states})
        interface = [views.index((state.agent, *state.facts().values())) for state in self.states]
        available = np.zeros((len(views) + 1, len(OPTIONS)), bool)
        for at, state in enumerate(self.states):
            for option in OWN[state.agent]:
                o = OPTIONS.index(option)
                available[interface[at], o] = True
                duration[at, o] = duration_law(option)
                lump[at, o] = outcome(state, option)
                for after, chance in next_states(state, option).items():
                    transition[at, o, end if after is None else self.number[after]] = chance
        return {
            "transition": transition, "duration": duration, "reward_rate": np.full((count, len(OPTIONS)), -COST),
            "lump_reward": lump, "gamma": GAMMA, "available": available, "start": np.append(self.start, 0.0),
            "agent": [*(state.agent for state in self.states), 0], "interface": [*interface, len(views)],
            "terminal": np.arange(count) == end, "agent_name": np.array(AGENTS), "option_name": np.array(OPTIONS),
            "interface_name": np.array([f"{AGENTS[view[0]]}: {', '.join(view[1:])}" for view in views] + ["end"]),
        }  # fmt: skip

    def value(self, policy: np.ndarray | None) -> float:
        """Expected discounted reward of a new ticket.

        Args:
          policy: ``[S, O]`` probabilities; None for the best there is, which sees the whole ticket.
        """
        told = self.arrays()
        minutes = GAMMA ** np.arange(1, LONGEST + 1)
        modulus = (told["duration"] @ minutes)[:-1]
        reward = (
            -COST * (1 - modulus) / (1 - GAMMA) + (told["duration"] @ minutes)[:-1] / GAMMA * told["lump_reward"][:-1]
        )
        kernel = modulus[:, :, None] * told["transition"][:-1, :, :-1]
        mask = told["available"][told["interface"][:-1]]
        value = np.zeros(len(self.states))
        for _ in range(3000):
            q = np.where(mask, reward + kernel @ value, -np.inf)
            new = q.max(axis=1) if policy is None else (policy * np.where(mask, q, 0.0)).sum(axis=1)
            if np.abs(new - value).max() < 1e-12:
                break
            value = new
        return float(self.start @ value)

    def table(self, choose: Any) -> np.ndarray:
        """``[S, O]`` a routing as a policy: ``choose(agent, facts)`` gives an option's name."""
        policy = np.zeros((len(self.states), len(OPTIONS)))
        for at, state in enumerate(self.states):
            policy[at, OPTIONS.index(choose(AGENTS[state.agent], state.facts()))] = 1.0
        return policy

    def uniform(self) -> np.ndarray:
        """``[S, O]`` the random workflow."""
        mask = np.array([[option in OWN[state.agent] for option in OPTIONS] for state in self.states])
        return mask / mask.sum(axis=1, keepdims=True)

    def gain(self, choose: Any) -> float:
        """Value of a routing on the scale from the random workflow (0) to the exact oracle (1)."""
        low, high = self.value(self.uniform()), self.value(None)
        return (self.value(self.table(choose)) - low) / (high - low)


def drawn(law: dict[Any, float], rng: np.random.Generator) -> Any:
    """One of the keys, by its probability."""
    return list(law)[rng.choice(len(law), p=list(law.values()))]
