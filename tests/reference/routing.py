"""A plain-Python, event-driven copy of the packet network of Boyan and Littman and of its routing rules.

One heap of packets, one ``last`` service time per node, dictionaries and lists. Times are any numbers: floats with
``unit=1.0`` for Poisson arrivals in continuous time, ticks with ``unit=4096`` for exact comparison with the compiled
simulator. ``number`` is the type in which estimates are kept.
"""

from __future__ import annotations

import abc
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Arrival = tuple[float, int, int]  # time, source, destination


class Decision(NamedTuple):
    """One packet leaves one node."""

    time: float
    node: int
    source: int
    destination: int
    birth: float
    sent: float
    hops: int
    slot: int
    outcome: str  # "queued", "delivered" or "lost"


class Run(NamedTuple):
    """What happened."""

    decisions: list[Decision]
    delays: list[float]  # of the packets delivered, in the order of delivery
    refused: int
    live: int


class Router(abc.ABC):
    """Chooses a slot; a learner also updates its tables. ``pick(count)`` breaks ties among ``count`` slots."""

    def __init__(
        self,
        neighbours: Sequence[Sequence[int]],
        pick: Callable[[int], int],
        number: Callable[[float], Any] = float,
        step: float = 0.5,
        power: float = 0.5,
        share: float = 0.3,
        fade: float = 0.02,
    ) -> None:
        self.neighbours, self.pick, self.number = neighbours, pick, number
        self.step, self.power = number(step), power
        self.share, self.fade = number(share), number(fade)
        count = len(neighbours)
        self.time = [[[number(0.0) for _ in row] for _ in range(count)] for row in neighbours]
        self.uses = [[[0 for _ in row] for _ in range(count)] for row in neighbours]
        self.usable: list[list[bool]] = [[True] * len(row) for row in neighbours]

    def best(self, node: int, destination: int) -> Any:
        """What a node answers when it is asked: 0 at the destination."""
        if node == destination:
            return self.number(0.0)
        return min(t for t, use in zip(self.time[node][destination], self.usable[node], strict=True) if use)

    def least(self, node: int, destination: int) -> int:
        """The slot of the least estimate, ties picked."""
        best = min(t for t, use in zip(self.time[node][destination], self.usable[node], strict=True) if use)
        ties = [k for k, t in enumerate(self.time[node][destination]) if self.usable[node][k] and t == best]
        return ties[self.pick(len(ties))]

    @abc.abstractmethod
    def route(self, node: int, destination: int, cost: Any, waits: list[Any]) -> int:
        """Slot for a packet whose last transit and wait took ``cost``; it will wait ``waits[k]`` at neighbour ``k``."""


class ShortestPath(Router):
    """The last slot among those that lie on a shortest path."""

    def route(self, node: int, destination: int, cost: Any, waits: list[Any]) -> int:
        hops = breadth_first(self.neighbours, destination, self.usable)
        return max(k for k, y in enumerate(self.neighbours[node]) if self.usable[node][k] and hops[y] == hops[node] - 1)


class QRouting(Router):
    """Only the estimate in use is updated, after the choice."""

    def route(self, node: int, destination: int, cost: Any, waits: list[Any]) -> int:
        slot = self.least(node, destination)
        row = self.time[node][destination]
        row[slot] = row[slot] + self.step * (cost + self.best(self.neighbours[node][slot], destination) - row[slot])
        return slot


class FullEcho(Router):
    """All estimates are updated, then one neighbour is chosen."""

    def route(self, node: int, destination: int, cost: Any, waits: list[Any]) -> int:
        row = self.time[node][destination]
        answers = [self.best(y, destination) for y in self.neighbours[node]]
        for k, answer in enumerate(answers):
            if self.usable[node][k]:
                row[k] = row[k] + self.step * (cost + answer - row[k])
        return self.least(node, destination)


class Icq(Router):
    """IC-Q without its queue in view: falling step, shared moves, fading."""

    in_view = False

    def route(self, node: int, destination: int, cost: Any, waits: list[Any]) -> int:
        slot = self.least(node, destination)
        self.learn(node, destination, slot, cost, waits)
        return slot

    def learn(self, node: int, destination: int, slot: int, cost: Any, waits: list[Any]) -> None:
        """The update after a choice that may also have been made elsewhere."""
        number, row, uses = self.number, self.time[node][destination], self.uses[node][destination]
        receiver = self.neighbours[node][slot]
        answer = self.best(receiver, destination)
        if self.in_view:
            cost = number(1.0)
            if receiver != destination:
                answer = number(waits[slot]) + answer
        step = max(self.step, number((1.0 + uses[slot]) ** -self.power))
        move = step * (cost + answer - row[slot])
        fading = self.fade / (number(1.0) + self.fade * number(sum(uses)))
        for k in range(len(row)):
            if k == slot:
                row[k] = row[k] + move
            else:
                row[k] = max(row[k] - fading * row[k] + self.share * move, number(0.0))
        uses[slot] += 1


class IcqQueue(Icq):
    """IC-Q with its queue in view."""

    in_view = True


def simulate(
    router: Router,
    arrivals: Iterable[Arrival],
    stop: float,
    unit: float = 1.0,
    limit: int = 1000,
    capacity: int | None = None,
    masks: Sequence[tuple[float, list[list[bool]]]] = (),
    most: int | None = None,
) -> Run:
    """Runs the network until ``stop``; events at the same time: services by node, then arrivals.

    Args:
        router: chooses and learns.
        arrivals: in order of time.
        stop: no event at or after this time.
        unit: length of a time unit.
        limit: packets under way at most.
        capacity: packets in one queue at most; what is sent to a full one is lost.
        masks: ``(time, usable)``, which slots are usable from a time on.
        most: decisions at most.
    """
    neighbours, number = router.neighbours, router.number
    count = len(neighbours)
    last = [-unit] * count
    length = [0] * count
    heap: list[tuple[float, int, tuple[int, int, float, float, int]]] = []
    stream: Iterator[Arrival] = iter(arrivals)
    upcoming = next(stream, None)
    decisions: list[Decision] = []
    delays: list[float] = []
    refused = live = 0
    pending_masks = list(masks)
    while True:
        now = min(heap[0][0] if heap else float("inf"), upcoming[0] if upcoming else float("inf"))
        if now >= stop or len(decisions) == most:
            return Run(decisions, delays, refused, live)
        while pending_masks and now >= pending_masks[0][0]:
            router.usable = pending_masks.pop(0)[1]
        if heap and heap[0][0] == now:
            _, node, (source, destination, birth, sent, hops) = heapq.heappop(heap)
            length[node] -= 1
        else:
            assert upcoming is not None
            _, source, destination = upcoming
            upcoming = next(stream, None)
            if live >= limit:
                refused += 1
                continue
            live += 1
            node, birth, sent, hops = source, now, now, 0
        waits = [max(last[y] - now, 0) / unit for y in neighbours[node]]
        slot = router.route(node, destination, number((now - sent) / unit), waits)
        receiver = neighbours[node][slot]
        if receiver == destination:
            outcome = "delivered"
            delays.append((now + unit - birth) / unit)
            live -= 1
        elif capacity is not None and length[receiver] >= capacity:
            outcome = "lost"
            live -= 1
        else:
            outcome = "queued"
            last[receiver] = max(last[receiver] + unit, now + unit)
            length[receiver] += 1
            heapq.heappush(heap, (last[receiver], receiver, (source, destination, birth, now, hops + 1)))
        decisions.append(Decision(now, node, source, destination, birth, sent, hops, slot, outcome))


def poisson_arrivals(rng: np.random.Generator, load: float, nodes: int) -> Iterator[Arrival]:
    """Arrivals at rate ``load`` in continuous time, between two different nodes."""
    now = 0.0
    while True:
        now += rng.exponential(1.0 / load)
        source, destination = (int(node) for node in rng.choice(nodes, 2, replace=False))
        yield now, source, destination


def breadth_first(neighbours: Sequence[Sequence[int]], start: int, usable: list[list[bool]] | None = None) -> list[int]:
    """Hops from every node to ``start``, -1 if there is no way."""
    hops = [-1] * len(neighbours)
    hops[start] = 0
    queue = [start]
    for node in queue:
        for k, other in enumerate(neighbours[node]):
            if hops[other] < 0 and (usable is None or usable[node][k]):
                hops[other] = hops[node] + 1
                queue.append(other)
    return hops


class Tagged(NamedTuple):
    """What one segment of the tagged packet looks like from outside."""

    node: int
    destination: int
    queue: int
    duration: int
    reward: float
    discount: float
    terminated: bool
    truncated: bool


class TaggedPacket:
    """One packet among recorded waits: a list of lists ``wait[row][node]``, ``per_unit`` steps to a unit."""

    def __init__(
        self,
        neighbours: Sequence[Sequence[int]],
        wait: Sequence[Sequence[int]],
        gamma: float,
        per_unit: int,
        cap: int,
        limit: int,
    ) -> None:
        self.neighbours, self.waits, self.gamma = neighbours, wait, gamma
        self.per_unit, self.cap, self.limit = per_unit, cap, limit

    def start(self, source: int, destination: int, row: int) -> None:
        """A new packet leaves its source at once."""
        self.node, self.destination, self.time, self.born, self.wait = source, destination, row, row, 0

    def queue(self) -> int:
        """Packets ahead, each of which takes a time unit."""
        ahead = 0
        while ahead * self.per_unit < self.wait:
            ahead += 1
        return min(ahead, self.cap)

    def step(self, slot: int) -> Tagged:
        """The packet waits, goes to a neighbour, and takes its place in the queue there when it is sent."""
        node = self.neighbours[self.node][slot]
        reward, duration = 0.0, 0
        for _ in range(self.wait + self.per_unit):
            reward -= self.gamma ** (duration / self.per_unit) / self.per_unit
            duration += 1
        sent = self.time + self.wait
        self.time += duration
        self.node = node
        terminated = node == self.destination
        self.wait = 0 if terminated else self.waits[sent][node]
        truncated = not terminated and self.time - self.born >= self.limit
        discount = 0.0 if terminated else self.gamma ** (duration / self.per_unit)
        return Tagged(node, self.destination, self.queue(), duration, reward, discount, terminated, truncated)
