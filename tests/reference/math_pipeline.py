"""The mathematics pipeline from its definition, one problem at a time, with named fields and plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

KINDS = ("AIME", "LiveMathBench")
ROLES = ("planner", "solver A", "solver B", "verifier", "finalizer")
# role -> (accuracy in percent), (dollars for 60 and 121 problems), dollars per million tokens out, of its model
TABLE = {
    "planner": ((76.67, 76.03), (0.31, 0.23), 0.60),
    "solver A": ((86.67, 52.89), (1.13, 1.04), 2.90),
    "solver B": ((55.00, 73.55), (0.17, 0.19), 1.00),
    "verifier": ((88.33, 79.34), (4.57, 4.09), 10.00),
    "finalizer": ((43.33, 61.98), (0.15, 0.17), 0.88),
}
PROBLEMS = {"AIME": 60, "LiveMathBench": 121}
PLANS, DRAFTS = ("sound plan", "flawed plan"), ("right draft", "wrong draft")
RIGHT, OVER = "submitted right", "over"
WORK, PASS = "work", "pass"
CHOICES = {
    "planner": [(WORK, "solver A"), (WORK, "solver B"), (PASS, "solver A"), (PASS, "solver B")],
    "solver A": [(WORK, "verifier"), (WORK, "finalizer"), (PASS, "solver B"), (PASS, "planner")],
    "solver B": [(WORK, "verifier"), (WORK, "finalizer"), (PASS, "solver A"), (PASS, "planner")],
    "verifier": [(WORK, "finalizer"), (PASS, "finalizer"), (PASS, "solver A"), (PASS, "solver B")],
    "finalizer": [(WORK, "the world"), (PASS, "verifier"), (PASS, "solver A"), (PASS, "solver B")],
}


@dataclass(frozen=True)
class Problem:
    """A problem on somebody's desk; ``looks`` is what that agent takes ``desk`` for."""

    kind: str
    desk: str
    holder: str
    kind_read: str
    looks: str
    left: int


@dataclass(frozen=True)
class Pipeline:
    """The pipeline with its numbers; the defaults are those of the environment."""

    budget: int = 12
    aime_share: float = 60 / 181
    lift: float = 3.0
    repair: float = 0.7
    harm: float = 0.1
    noise: float = 0.3
    blur: tuple[float, ...] = (1.0, 1.0, 1.0, 0.4, 0.8)
    tokens_per_block: float = 1500.0
    plan_share: float = 0.2
    verify_share: float = 0.3
    submit_tokens: float = 200.0
    value: float = 1.0
    dollar_weight: float = 1.0
    block_cost: float = 0.01
    gamma: float = 0.98

    def accuracy(self, role: str, kind: str) -> float:
        return TABLE[role][0][KINDS.index(kind)] / 100

    def work_tokens(self, role: str, kind: str) -> float:
        """Output tokens of an answer, from the bill, times the share of an answer that the role's work is."""
        if role == "finalizer":
            return self.submit_tokens
        tokens = TABLE[role][1][KINDS.index(kind)] / PROBLEMS[kind] / TABLE[role][2] * 1e6
        return tokens * {"planner": self.plan_share, "verifier": self.verify_share}.get(role, 1.0)

    def work_blocks(self, role: str, kind: str) -> int:
        return max(1, math.floor(self.work_tokens(role, kind) / self.tokens_per_block + 0.5))

    def work_dollars(self, role: str, kind: str) -> float:
        return self.work_tokens(role, kind) * TABLE[role][2] / 1e6

    def arrivals(self, kind: str, desk: str, receiver: str, left: int) -> dict[Problem, float]:
        """How the problem may look to the agent it comes to."""
        blind = self.noise * self.blur[ROLES.index(receiver)]
        alike = next(group for group in (("empty",), PLANS, DRAFTS) if desk in group)
        law: dict[Problem, float] = {}
        for kind_read in KINDS:
            for looks in alike:
                p = (1 - blind) * (kind_read == kind) + blind / 2
                p *= (1 - blind) * (looks == desk) + blind / len(alike)
                law[Problem(kind, desk, receiver, kind_read, looks, left)] = p
        return law

    def start(self) -> dict[Problem, float]:
        law: dict[Problem, float] = {}
        for kind, share in (("AIME", self.aime_share), ("LiveMathBench", 1 - self.aime_share)):
            for problem, p in self.arrivals(kind, "empty", "planner", self.budget).items():
                law[problem] = p * share
        return law

    def work(self, problem: Problem) -> dict[str, float]:
        """Law of what lies on the desk after the holder's own work."""
        role, kind, desk = problem.holder, problem.kind, problem.desk
        if role == "planner":
            sound = self.accuracy(role, kind)
            return {"sound plan": sound, "flawed plan": 1 - sound}
        if role == "verifier":
            right = 1 - self.harm if desk == "right draft" else self.repair
        else:
            odds = self.accuracy(role, kind) / (1 - self.accuracy(role, kind))
            odds *= {"empty": 1.0, "sound plan": self.lift, "right draft": self.lift}.get(desk, 1 / self.lift)
            right = odds / (1 + odds)
        return {"right draft": right, "wrong draft": 1 - right}

    def blocks(self, problem: Problem, option: int) -> int:
        """Passing on takes one block; work is cut where the budget ends."""
        if CHOICES[problem.holder][option][0] == PASS:
            return 1
        return min(problem.left, self.work_blocks(problem.holder, problem.kind))

    def dollars(self, problem: Problem, option: int) -> float:
        if CHOICES[problem.holder][option][0] == PASS:
            return 0.0
        share = self.blocks(problem, option) / self.work_blocks(problem.holder, problem.kind)
        return self.work_dollars(problem.holder, problem.kind) * share

    def outcomes(self, problem: Problem, option: int) -> dict[object, float]:
        """Law of what comes next: a problem, ``RIGHT`` or ``OVER``."""
        does, receiver = CHOICES[problem.holder][option]
        if receiver == "the world":
            done = problem.left >= self.work_blocks("finalizer", problem.kind)
            return {RIGHT if done and problem.desk == "right draft" else OVER: 1.0}
        left = problem.left - self.blocks(problem, option)
        if left == 0:
            return {OVER: 1.0}
        desks = self.work(problem) if does == WORK else {problem.desk: 1.0}
        law: dict[object, float] = {}
        for desk, p in desks.items():
            for seen, q in self.arrivals(problem.kind, desk, receiver, left).items():
                law[seen] = p * q
        return law

    def reward(self, problem: Problem, option: int, entered: object) -> float:
        """Block by block: latency in each of them, bill and worth in the last."""
        total, tau = 0.0, self.blocks(problem, option)
        for block in range(tau):
            total -= self.gamma**block * self.block_cost
        due = (self.value if entered == RIGHT else 0.0) - self.dollar_weight * self.dollars(problem, option)
        return total + self.gamma ** (tau - 1) * due

    def discount(self, tau: int, entered: object) -> float:
        return 0.0 if entered in (RIGHT, OVER) else self.gamma**tau

    def interface(self, problem: Problem) -> int:
        """Agent, kind as read, desk as read, blocks left: the first counts most."""
        number = ROLES.index(problem.holder)
        number = 2 * number + KINDS.index(problem.kind_read)
        number = 5 * number + ("empty", *PLANS, *DRAFTS).index(problem.looks)
        return self.budget * number + problem.left - 1

    def value_of(self, problem: Problem, known: dict[Problem, float]) -> float:
        """The oracle's value, by going through everything that can follow; ``known`` remembers."""
        if problem not in known:
            best = -math.inf
            for option in range(4):
                worth = 0.0
                for entered, p in self.outcomes(problem, option).items():
                    if p == 0:
                        continue
                    later = self.value_of(entered, known) if isinstance(entered, Problem) else 0.0
                    discount = self.gamma ** self.blocks(problem, option)
                    worth += p * (self.reward(problem, option, entered) + discount * later)
                best = max(best, worth)
            # With readings the state is larger than what the oracle needs: its value depends on what is true only.
            for kind_read in KINDS:
                for looks in {problem.looks, *(PLANS if problem.desk in PLANS else DRAFTS)}:
                    if (problem.desk == "empty") == (looks == "empty"):
                        known[replace(problem, kind_read=kind_read, looks=looks)] = best
        return known[problem]
