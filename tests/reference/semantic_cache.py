"""Semantic caching from its definition, one query at a time, with named fields and plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

AGENTS = ("front", "small", "large", "expert")
Point = tuple[float, float, float]
# agent -> the query that it answers best, worth there, loss at the far side, dollars, least blocks, blocks more
MODELS: dict[str, tuple[Point, float, float, float, float, float]] = {
    "small": ((0.0, 0.0, -1.0), 0.65, 0.35, 0.08, 1.0, 0.5),
    "large": ((0.6, 0.8, 0.0), 0.97, 0.1, 0.35, 3.0, 1.0),
    "expert": ((-0.6, 0.0, 0.8), 0.95, 0.75, 0.18, 2.0, 0.8),
}


@dataclass(frozen=True)
class Desk:
    """A query on somebody's desk, by number, and the point whose answer the cache holds."""

    holder: str
    phase: int
    query: int
    kept: int


@dataclass(frozen=True)
class Cache:
    """The world with its numbers; ``mass[phase][point]`` is the law of queries."""

    points: list[Point]
    mass: list[list[float]]
    drift: float = 0.05
    switch: float = 0.3
    block_cost: float = 0.03
    gamma: float = 0.9

    def options(self, desk: Desk) -> list[bool]:
        return [True] * 4 if desk.holder == "front" else [True, True, False, False]

    def outcomes(self, desk: Desk, option: int) -> dict[Desk, float]:
        if desk.holder == "front" and option > 0:
            return {replace(desk, holder=AGENTS[option]): 1.0}
        kept = desk.query if desk.holder != "front" and option == 1 else desk.kept
        law: dict[Desk, float] = {}
        for phase, masses in enumerate(self.mass):
            turn = 1 - self.drift if phase == desk.phase else self.drift
            for query, share in enumerate(masses):
                law[Desk("front", phase, query, kept)] = turn * share
        return law

    def far(self, desk: Desk) -> float:
        best = MODELS[desk.holder][0]
        return (1 - sum(a * b for a, b in zip(self.points[desk.query], best, strict=True))) / 2

    def durations(self, desk: Desk) -> dict[int, float]:
        if desk.holder == "front":
            return {1: 1.0}
        mean = MODELS[desk.holder][4] + MODELS[desk.holder][5] * self.far(desk)
        least = math.floor(mean)
        return {least: 1 - (mean - least), least + 1: mean - least}

    def reward(self, desk: Desk, option: int, tau: int) -> float:
        if desk.holder == "front":
            away = math.dist(self.points[desk.query], self.points[desk.kept])
            due = math.exp(-((away / 0.6) ** 2)) if option == 0 else 0.0
        else:
            _, top, fall, dollars, _, _ = MODELS[desk.holder]
            due = top - fall * self.far(desk) - dollars - (self.switch if option == 1 else 0.0)
        return self.gamma ** (tau - 1) * due - self.block_cost * sum(self.gamma**k for k in range(tau))


class Net:
    """Balls on the sphere: whatever lies outside the nearest one opens its own; visits halve a ball."""

    def __init__(self, radius: float) -> None:
        self.radius = radius
        self.balls: list[tuple[Point, int]] = []

    def nearest(self, point: Point) -> int:
        return min(range(len(self.balls)), key=lambda ball: math.dist(self.balls[ball][0], point))

    def add(self, point: Point) -> int:
        if self.balls:
            ball = self.nearest(point)
            centre, visits = self.balls[ball]
            reach, needed = self.radius, 32
            while visits >= needed:
                reach, needed = reach / 2, needed * 4
            if math.dist(centre, point) <= reach:
                self.balls[ball] = (centre, visits + 1)
                return ball
        self.balls.append((point, 1))
        return len(self.balls) - 1
