"""Expert routing from its definition, one query at a time, with named fields and plain numbers.

Written without looking at the package's arrays: laws are dictionaries from what may happen to its probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

# (accuracy on AIME, on LiveMathBench) in percent, dollars for the 60 and 121 problems, dollars per million tokens out
TABLE = {
    "DeepSeek-v3": ((43.33, 61.98), (0.15, 0.17), 0.88),
    "DeepSeek-v3.1": ((55.00, 73.55), (0.17, 0.19), 1.00),
    "Qwen3-235b-thinking": ((86.67, 52.89), (1.13, 1.04), 2.90),
    "DeepSeek-R1": ((85.00, 77.69), (2.09, 2.70), 2.15),
    "GPT-5-medium": ((88.33, 79.34), (4.57, 4.09), 10.00),
}
TYPES = ("AIME", "LiveMathBench")
PROBLEMS = {"AIME": 60, "LiveMathBench": 121}
LEVELS = ("easy", "medium", "hard")
RIGHT, WRONG = "delivered right", "delivered wrong"


@dataclass(frozen=True)
class Query:
    """A query on somebody's desk."""

    type: str
    level: str
    holder: int
    type_read: str
    level_read: str
    backlog: bool
    failed: bool
    hops_left: int


@dataclass(frozen=True)
class Office:
    """The office with its numbers; the defaults are those of the environment."""

    models: tuple[str, ...] = tuple(TABLE)
    hops: int = 2
    aime_share: float = 60 / 181
    slope: float = 2.5
    noise: float = 0.2
    blur: tuple[float, ...] = (1.0, 0.6, 0.6, 0.6, 0.6)
    busy: tuple[float, ...] = (0.1, 0.2, 0.3, 0.3, 0.3)
    wait: float = 3.0
    tokens_per_block: float = 2000.0
    check_share: float = 0.5
    notice: float = 0.3
    value: float = 1.0
    dollar_weight: float = 3.0
    block_cost: float = 0.01
    gamma: float = 0.98

    def chance(self, query_type: str, level: str, agent: int) -> float:
        """Probability of a right answer."""
        accuracy = TABLE[self.models[agent]][0][TYPES.index(query_type)] / 100
        return logistic(ability(accuracy, self.slope) - self.slope * (LEVELS.index(level) - 1))

    def answer_dollars(self, query_type: str, level: str, agent: int) -> float:
        bill = TABLE[self.models[agent]][1][TYPES.index(query_type)]
        return bill / PROBLEMS[query_type] * {"easy": 0.5, "medium": 1.0, "hard": 1.5}[level]

    def arrivals(self, query: Query, receiver: int, hops_left: int) -> dict[Query, float]:
        """How the query may look to the agent it comes to."""
        blind = self.noise * self.blur[receiver]
        law: dict[Query, float] = {}
        for type_read in TYPES:
            for level_read in LEVELS:
                for backlog in (False, True):
                    p = (1 - blind) * (type_read == query.type) + blind / 2
                    p *= (1 - blind) * (level_read == query.level) + blind / 3
                    p *= self.busy[receiver] if backlog else 1 - self.busy[receiver]
                    seen = Query(
                        query.type, query.level, receiver, type_read, level_read, backlog, query.failed, hops_left
                    )
                    law[seen] = p
        return law

    def start(self) -> dict[Query, float]:
        law: dict[Query, float] = {}
        for query_type in TYPES:
            for level in LEVELS:
                blank = Query(query_type, level, 0, query_type, level, False, False, self.hops)
                share = self.aime_share if query_type == "AIME" else 1 - self.aime_share
                for seen, p in self.arrivals(blank, 0, self.hops).items():
                    law[seen] = p * share / 3
        return law

    def options(self, query: Query) -> list[bool]:
        """What is available: answer, answer with a check, hand on to each agent."""
        hand = [query.hops_left > 0 and agent != query.holder for agent in range(len(self.models))]
        return [True, not query.failed, *hand]

    def outcomes(self, query: Query, option: int) -> dict[object, float]:
        """Law of what comes next: a query, ``RIGHT`` or ``WRONG``."""
        right = self.chance(query.type, query.level, query.holder)
        if option == 0:
            return {RIGHT: right, WRONG: 1 - right}
        if option == 1:
            noticed = (1 - right) * self.notice
            return {RIGHT: right, WRONG: 1 - right - noticed, replace(query, failed=True): noticed}
        return dict(self.arrivals(query, option - 2, query.hops_left - 1))

    def mean_blocks(self, query: Query, option: int) -> float:
        if option >= 2:
            return 1.0
        price = TABLE[self.models[query.holder]][2]
        tokens = self.answer_dollars(query.type, query.level, query.holder) / (price / 1e6)
        length = tokens / self.tokens_per_block * (1 + self.check_share * option)
        return max(length + self.wait * query.backlog, 1.0)

    def durations(self, query: Query, option: int) -> dict[int, float]:
        """The mean is rounded down or up."""
        mean = self.mean_blocks(query, option)
        below = math.floor(mean)
        return {tau: p for tau, p in ((below, below + 1 - mean), (below + 1, mean - below)) if p > 0}

    def dollars(self, query: Query, option: int) -> float:
        if option >= 2:
            return 0.0
        return self.answer_dollars(query.type, query.level, query.holder) * (1 + self.check_share * option)

    def reward(self, query: Query, option: int, tau: int, entered: object) -> float:
        """Block by block: latency in each of them, bill and worth in the last."""
        total = 0.0
        for block in range(tau):
            paid = -self.block_cost
            if block == tau - 1:
                paid += (self.value if entered == RIGHT else 0.0) - self.dollar_weight * self.dollars(query, option)
            total += self.gamma**block * paid
        return total

    def discount(self, tau: int, entered: object) -> float:
        return 0.0 if entered in (RIGHT, WRONG) else self.gamma**tau

    def interface(self, query: Query) -> int:
        """Agent, type and level as read, backlog, failed, hops left: the first counts most."""
        number = query.holder
        number = 2 * number + TYPES.index(query.type_read)
        number = 3 * number + LEVELS.index(query.level_read)
        number = 2 * number + query.backlog
        number = 2 * number + query.failed
        return (self.hops + 1) * number + query.hops_left

    def value_of(self, query: Query, known: dict[Query, float]) -> float:
        """The oracle's value, by going through everything that can follow; ``known`` remembers."""
        if query not in known:
            available = [option for option, yes in enumerate(self.options(query)) if yes]
            best = max(self.worth(query, option, known) for option in available)
            for type_read in TYPES:  # readings are nothing to an oracle
                for level_read in LEVELS:
                    known[replace(query, type_read=type_read, level_read=level_read)] = best
        return known[query]

    def worth(self, query: Query, option: int, known: dict[Query, float]) -> float:
        """What an option is worth if the oracle goes on."""
        total = 0.0
        for entered, p in self.outcomes(query, option).items():
            later = self.value_of(entered, known) if isinstance(entered, Query) and p > 0 else 0.0
            for tau, q in self.durations(query, option).items():
                total += p * q * (self.reward(query, option, tau, entered) + self.gamma**tau * later)
        return total

    def best(self, query_type: str, level: str, known: dict[Query, float]) -> int:
        """The agent whose first attempt is worth most to the front, backlogs averaged."""
        worth = []
        for agent in range(len(self.models)):
            total = 0.0
            for backlog in (False, True):
                hops = self.hops if agent == 0 else self.hops - 1
                query = Query(query_type, level, agent, query_type, level, backlog, False, hops)
                attempt = max(self.worth(query, option, known) for option in (0, 1))
                if agent > 0:
                    attempt = self.gamma * attempt - self.block_cost
                total += attempt * (self.busy[agent] if backlog else 1 - self.busy[agent])
            worth.append(total)
        return worth.index(max(worth))


@cache
def ability(accuracy: float, slope: float) -> float:
    """The ability with which the three levels average to the accuracy, by bisection."""
    low, high = -60.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        mean = sum(logistic(middle - slope * shift) for shift in (-1, 0, 1)) / 3
        low, high = (middle, high) if mean < accuracy else (low, middle)
    return low


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
