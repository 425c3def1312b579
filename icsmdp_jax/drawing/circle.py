"""Geometry of the handoff graph: agents on a circle, arrows between them, and where arrows touch. All in points.

An arrow bends towards the middle, clear of the agents between, and to the left of its direction, so that the two
directions of a pair lie apart. Where many arrows meet at an agent, they are spread along its rim.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from icsmdp_jax.drawing.style import text_size
from icsmdp_jax.learner.diagnostics import HandoffGraph

Order = Literal["given", "spectral"]
Ports = dict[tuple["Arrow", bool], float]

NAME, NUMBER = 7.5, 6.6  # points: type sizes of names and of durations
INSIDE = 7.5  # points: radius from which a short name fits into its node
BEND, PULL = 0.11, 0.16  # shift of an arrow's control point over the distance it spans: to its left, to the middle
RIM, PORT = 0.8, 5.0  # points between node and arrow, and between two arrows at one node
LOOP = 15.0  # points by which a handoff to oneself reaches out of its node
STUB, ASIDE = 15.0, 1.0  # end of an episode: length of its arrow in points, angle by which it stands off outward
FEW = 5  # agents up to which everything is drawn larger
SIDEWAYS = 0.3  # cosine from which a name stands to the side of its node, not above or below


class Arrow(NamedTuple):
    """One arrow to be drawn.

    Attributes:
      sender: agent.
      receiver: agent; ``N`` is the end of the episode.
      rate: share of all handoffs.
      duration: mean duration in primitive steps; NaN for none.
    """

    sender: int
    receiver: int
    rate: float
    duration: float


def arrows_of(graph: HandoffGraph) -> list[Arrow]:
    """All handoffs that occur, the most frequent first; those that end an episode lead to node ``N``."""
    rate, duration = np.asarray(graph.rate, np.float64), np.asarray(graph.mean_duration, np.float64)
    ends = np.asarray(graph.ended, np.float64) * np.asarray(graph.share, np.float64)
    found = [Arrow(int(i), int(j), float(rate[i, j]), float(duration[i, j])) for i, j in np.argwhere(rate > 0)]
    found += [Arrow(int(i), len(ends), float(ends[i]), math.nan) for i in np.flatnonzero(ends > 0)]
    return sorted(found, key=lambda arrow: (-arrow.rate, arrow.sender, arrow.receiver))


def circle_order(graph: HandoffGraph, order: Order) -> list[int]:
    """Agents in the order of their places on the circle, agent 0 first.

    The spectral order is that of the angle in the plane of the two smoothest non-constant eigenvectors of the graph's
    Laplacian: on a ring of agents it recovers the ring.
    """
    count = len(graph.share)
    if order == "given" or count < 4:
        return list(range(count))
    weight = np.asarray(graph.rate, np.float64)
    weight = weight + weight.T
    np.fill_diagonal(weight, 0.0)
    _, vectors = np.linalg.eigh(np.diag(weight.sum(axis=1)) - weight)
    angle = np.arctan2(vectors[:, 2], vectors[:, 1])
    places = [int(i) for i in np.argsort(angle, kind="stable")]
    first = places.index(0)
    places = places[first:] + places[:first]
    return places if places[1] < places[-1] else [places[0], *places[:0:-1]]  # eigenvectors have no sign


class Nodes(NamedTuple):
    """Where the nodes are, in points.

    Attributes:
      centre: ``[N, 2]``.
      radius: ``[N]``; areas are proportional to shares.
      middle: ``[2]``, of the circle.
      outward: ``[N]`` angle at which each agent stands.
      reach: ``[N]`` how far its loop, with its number, stands out of each agent; 0 without a loop.
      inside: whether names stand in their nodes.
      height: of the whole graph.
    """

    centre: np.ndarray
    radius: np.ndarray
    middle: np.ndarray
    outward: np.ndarray
    reach: np.ndarray
    inside: bool
    height: float

    @classmethod
    def on_circle(cls, share: np.ndarray, places: list[int], names: list[str], width: float, loops: set[int]) -> Nodes:
        """Places the agents on the largest circle that leaves room for loops and names."""
        count = len(share)
        top = 15.0 if count <= FEW else 12.5
        radius = top * np.sqrt(np.maximum(share, 1e-3 * share.max()) / share.max())
        # Names stand all inside or all outside, so the smallest node decides.
        inside = max(map(len, names)) <= 2 and bool((radius >= INSIDE).all())
        angle = np.empty(count)
        angle[places] = np.pi / 2 - 2 * np.pi * np.arange(count) / count
        out = np.column_stack([np.cos(angle), np.sin(angle)])
        reach = np.array([LOOP + NUMBER / 2 + 1 if agent in loops else 0.0 for agent in range(count)])
        size = np.array([(0.0, 0.0) if inside else (text_size(n, NAME)[0] + 4, 1.2 * NAME + 3) for n in names])
        margin = radius[:, None] + reach[:, None] + size + 1
        sideways = np.abs(out[:, 0]) > SIDEWAYS
        room = (width / 2 - 2 - margin[sideways, 0]) / np.abs(out[sideways, 0])
        ring = max(float(room.min(initial=min(92.0, 34.0 * count))), 40.0)
        centre = ring * out
        lowest = float((centre[:, 1] - margin[:, 1]).min())
        highest = float((centre[:, 1] + margin[:, 1]).max())
        middle = np.array([width / 2, -lowest])
        return cls(centre + middle, radius, middle, angle, reach, inside, highest - lowest)


def _controls(nodes: Nodes, arrow: Arrow) -> np.ndarray:
    """``[2, 2]`` points that an arrow aims at as it leaves its sender and from which it comes to its receiver."""
    start, sender = nodes.centre[arrow.sender], arrow.sender
    if arrow.receiver == len(nodes.centre):
        return np.tile(start + unit(nodes.outward[sender] - ASIDE), (2, 1))
    if arrow.sender == arrow.receiver:
        wide = 7.5 / nodes.radius[sender]
        return np.array([start + unit(nodes.outward[sender] + side) for side in (wide, -wide)])
    end = nodes.centre[arrow.receiver]
    along, middle = end - start, (start + end) / 2
    inward = nodes.middle - middle
    pull = 0.0  # with few agents none stands between
    if len(nodes.centre) > FEW:
        pull = min(PULL * float(np.hypot(*along)), float(np.hypot(*inward)))
    return np.tile(middle + BEND * np.array([-along[1], along[0]]) + pull * direction(inward), (2, 1))


def ports(nodes: Nodes, shown: list[Arrow]) -> Ports:
    """Angles at which arrows touch their nodes, by ``(arrow, at its tip)``, pushed apart where heads would overlap."""
    wished: list[list[tuple[float, bool, tuple[Arrow, bool]]]] = [[] for _ in nodes.centre]
    for arrow in shown:
        controls = _controls(nodes, arrow)
        fixed = arrow.sender == arrow.receiver or arrow.receiver == len(nodes.centre)
        for tip, node in ((False, arrow.sender), (True, arrow.receiver)):
            if node < len(nodes.centre):
                toward = controls[int(tip)] - nodes.centre[node]
                wished[node].append((math.atan2(toward[1], toward[0]) % (2 * math.pi), fixed, (arrow, tip)))
    found: Ports = {}
    for node, asked in enumerate(wished):
        asked.sort(key=lambda wish: (wish[0], wish[2]))
        angles = spread_angles(
            np.array([angle for angle, _, _ in asked]),
            np.array([fixed for _, fixed, _ in asked], bool),
            PORT / float(nodes.radius[node]),
        )
        found |= {key: float(angle) for angle, (_, _, key) in zip(angles, asked, strict=True)}
    return found


def spread_angles(angles: np.ndarray, fixed: np.ndarray, gap: float) -> np.ndarray:
    """Sorted angles on a circle, pushed apart until neighbours differ by ``gap``, or evenly if there is no room.

    Args:
      angles: ``[n]`` radians in ascending order within one turn.
      fixed: ``[n]`` bool, angles that stay where they are.
      gap: radians.

    Returns:
      ``[n]`` radians; the order round the circle does not change.
    """
    count = len(angles)
    out = angles.astype(np.float64).copy()
    if count < 2:
        return out
    gap = min(gap, 0.95 * 2 * math.pi / count)
    turn = np.where(np.arange(count) == count - 1, 2 * math.pi, 0.0)  # from the last to the first
    loose = (~fixed).astype(np.float64)
    after = np.roll(loose, -1)
    moving = np.maximum(loose + after, 1.0)
    for _ in range(300):
        lack = np.maximum(gap - (np.roll(out, -1) + turn - out), 0.0)
        if lack.max() < 1e-3:
            break
        push = 0.5 * lack / moving  # half of what is missing at a time: neighbours push back
        out -= push * loose
        out += np.roll(push * after, 1)
    return out


def curve(nodes: Nodes, arrow: Arrow, ports: Ports) -> np.ndarray:
    """``[4, 2]`` control points of a cubic from the sender's rim to the tip at the receiver's."""
    start, radius, angle = nodes.centre[arrow.sender], nodes.radius[arrow.sender], ports[arrow, False]
    begin = start + (radius + RIM) * unit(angle)
    if arrow.receiver == len(nodes.centre):
        return np.linspace(begin, start + (radius + STUB) * unit(angle), 4)
    tip = nodes.centre[arrow.receiver] + (nodes.radius[arrow.receiver] + RIM) * unit(ports[arrow, True])
    if arrow.sender == arrow.receiver:
        out = nodes.outward[arrow.sender]
        # A cubic reaches 3/4 of the way to its two inner control points.
        far = [start + (radius + LOOP * 4 / 3) * unit(out + side) for side in (0.5, -0.5)]
        return np.array([begin, far[0], far[1], tip])
    control = _controls(nodes, arrow)[0]
    return np.array([begin, begin + (control - begin) * 2 / 3, tip + (control - tip) * 2 / 3, tip])


def unit(angle: float) -> np.ndarray:
    """``[2]`` unit vector at an angle."""
    return np.array([math.cos(angle), math.sin(angle)])


def direction(vector: np.ndarray) -> np.ndarray:
    """``[2]`` a vector's direction."""
    return vector / max(float(np.hypot(*vector)), 1e-12)


def along(curve: np.ndarray, t: np.ndarray) -> np.ndarray:
    """``[n, 2]`` points of a cubic at parameters ``[n]``."""
    s = 1 - t[:, None]
    t = t[:, None]
    return s**3 * curve[0] + 3 * s**2 * t * curve[1] + 3 * s * t**2 * curve[2] + t**3 * curve[3]
