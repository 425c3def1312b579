"""Patterns of cooperation: every planted one is found, clean chains show none, and the bound is a bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from icsmdp_jax.traces import patterns
from icsmdp_jax.traces.patterns import CUT, END, NOBODY, Handoffs

NAMES = ("front", "solver", "checker", "expert")
FRONT, SOLVER, CHECKER, EXPERT = range(4)
Next = Callable[[np.random.Generator, list[int], dict], int]


def chain(rng: np.random.Generator) -> np.ndarray:
    """``[4, 5]`` probabilities of the next agent, the end last."""
    return rng.dirichlet(np.full(5, 2.0), 4)


def written(
    rng: np.random.Generator, runs: int, law: np.ndarray, rule: Callable[..., int | None] = lambda *_: None,
    ends: Callable[..., bool] = lambda rng, path: rng.random() < 0.8, blind: float = 1.0,
) -> Handoffs:  # fmt: skip
    """Runs of a chain in which ``rule(rng, path)`` overrules the next agent; agents are what they see.

    The values would have the agent that the law makes most likely, which is never overruled in a clean chain.
    """
    rows, solved = [], []
    for run in range(runs):
        path, follower = [FRONT], 0
        while follower >= 0:
            at = path[-1]
            forced = rule(rng, path)
            follower = int(rng.choice(5, p=law[at])) if forced is None else forced
            follower = END if follower == 4 else CUT if len(path) == 30 else follower
            wanted = int(law[at, :4].argmax())
            rows.append((run, at, at, 0, follower, 1, 0.0, rng.normal(), wanted, blind * law[at, wanted]))
            path.append(follower)
        solved.append(follower == END and ends(rng, path))
    return Handoffs(NAMES, *map(np.array, zip(*rows, strict=True)), np.array(solved))


def back(rng: np.random.Generator, path: list[int]) -> int | None:
    """Once handed back, an agent hands there again."""
    bounced = len(path) >= 3 and path[-1] == path[-3] != path[-2]
    return path[-2] if bounced and rng.random() < 0.8 else None


def again(rng: np.random.Generator, path: list[int]) -> int | None:
    """A lap of three agents is walked again."""
    lap = len(path) >= 4 and path[-1] == path[-4] and len({*path[-3:]}) == 3
    return path[-3] if lap and rng.random() < 0.8 else None


def same(rng: np.random.Generator, path: list[int]) -> int | None:
    """The checker says what it said, whenever it is asked again at once or after one other."""
    if path[-1] == CHECKER:
        for gap in (2, 3):
            if len(path) > gap and path[-gap] == CHECKER:
                return path[1 - gap]
    return None


def avoided(rng: np.random.Generator, path: list[int]) -> int | None:
    """Nobody hands to the expert but for one time in 40."""
    return int(rng.choice([SOLVER, CHECKER, 4])) if rng.random() < 0.975 else EXPERT


def bypass(rng: np.random.Generator, path: list[int]) -> int | None:
    """The solver never hands to the expert, as its values would have it."""
    return int(rng.choice([FRONT, CHECKER, 4])) if path[-1] == SOLVER else None


EVEN = np.full((4, 5), 0.2)
TO_EXPERT = np.array(
    [[0.1, 0.3, 0.1, 0.4, 0.1], [0.2, 0.1, 0.2, 0.4, 0.1], [0.3, 0.2, 0.1, 0.3, 0.1], [0.4, 0.1, 0.2, 0.1, 0.2]]
)
PLANTED = {
    "ping-pong": (EVEN, back, {}, lambda one: len(one.agents) == 2),
    "loop": (EVEN, again, {}, lambda one: len(one.agents) == 3),
    "dead end": (EVEN, None, {"ends": lambda rng, path: EXPERT not in path}, lambda one: one.agents == ("expert",)),
    "starvation": (TO_EXPERT, avoided, {}, lambda one: one.agents == ("expert",)),
    "bypassed expert": (TO_EXPERT, bypass, {}, lambda one: one.agents == ("expert", "solver")),
    "redundant verification": (EVEN, same, {}, lambda one: one.agents == ("checker",)),
}


@pytest.mark.parametrize("pattern", patterns.PATTERNS)
def test_every_planted_pattern_is_found(pattern: str) -> None:
    law, rule, more, right = PLANTED[pattern]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        found = patterns.find(written(rng, 200, law, rule or (lambda *_: None), **more))
        assert any(one.pattern == pattern and right(one) for one in found), (seed, found)
        if pattern == "ping-pong":
            assert {one.pattern for one in found} == {pattern}


def alarms(count: int, runs: int) -> int:
    """Clean logs, each of a chain of its own, in which anything is found."""
    out = 0
    for seed in range(count):
        rng = np.random.default_rng([seed, 7])
        out += bool(patterns.find(written(rng, runs, chain(rng))))
    return out


def test_clean_chains_raise_few_alarms() -> None:
    assert alarms(200, 20) <= 2


@pytest.mark.slow
def test_clean_chains_raise_few_alarms_in_larger_logs() -> None:
    assert alarms(400, 150) <= 4


def test_the_bound_is_above_the_exact_tail() -> None:
    for n, m in ((6, 2), (12, 7)):
        p = Fraction(m, n)
        for h in range(m + 1, n + 1):
            tail = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(h, n + 1))
            bound = patterns.tail_bound(h, m, n)
            assert float(tail) * (1 - 1e-12) <= bound <= 2 * math.sqrt(2 * n) * float(tail)
    assert patterns.tail_bound(3, 3, 9) == 1.0 and patterns.tail_bound(1, 0, 9) == 0.0
    assert patterns.tail_bound(4, 2, 4) == pytest.approx(0.5**4)


def test_trials_and_hits_are_those_of_a_loop_over_rows() -> None:
    rng = np.random.default_rng(2)
    h = written(rng, 60, chain(rng), back)
    for length in (2, 3):
        counted: dict[tuple[int, ...], list[float]] = {}
        for t in range(length, len(h.run)):
            lap = [int(h.agent[t - length + k]) for k in range(length)]
            if h.run[t - length] != h.run[t] or len(set(lap)) < length or h.agent[t] != lap[0]:
                continue
            first = lap.index(min(lap))
            key = tuple(lap[first:] + lap[:first])
            mine = [f for a, f in zip(h.agent, h.follower, strict=True) if a == lap[0]]
            row = counted.setdefault(key, [0, 0, 0.0])
            row[0] += 1
            row[1] += h.follower[t] == lap[1]
            row[2] += mine.count(lap[1]) / len(mine)
        found = {c[0]: [len(c[1]), c[1].sum(), c[2].sum()] for c in patterns._laps(h, [length])}
        assert found.keys() == counted.keys() and counted
        for key, row in counted.items():
            assert found[key] == pytest.approx(row)


def test_process_and_graph_of_two_runs_by_hand() -> None:
    nan = np.nan
    h = Handoffs(
        NAMES, np.array([0, 0, 0, 0, 1]), np.array([0, 1, 0, 1, 0]), np.zeros(5, int), np.zeros(5, int),
        np.array([1, 0, 1, END, CUT]), np.array([1, 2, 3, 4, 10]), np.zeros(5), np.array([5.0, 1.0, 6.0, nan, nan]),
        np.full(5, NOBODY), np.zeros(5), np.array([True, False]),
    )  # fmt: skip
    told = patterns.process(h)
    assert told["handoffs_per_solved"] == 5 and told["solved"] == 0.5
    assert told["useful_share"] == pytest.approx((1 + 2 + 4) / 20)  # the third handoff starts a second lap
    assert told["idle"] == ["checker", "expert"] and told["busiest_share"] == pytest.approx(14 / 20)
    assert told["errors"] == 0  # -4 and +5: not a standard deviation below
    fell = patterns.process(h._replace(offered=np.array([5.0, 1.0, 6.0, 6.0, nan])))
    assert (fell["errors"], fell["recovered"], fell["handoffs_to_recover"]) == (1, 1.0, 1.0)
    edges = patterns.graph(h, 2)
    assert edges["count"][:, 0, 1].tolist() == [2, 0] and edges["count"][:, 0, 4].tolist() == [0, 1]
    assert edges["duration"][0, 0, 1] == 2 and edges["offered"][0, 0, 1] == 5.5
