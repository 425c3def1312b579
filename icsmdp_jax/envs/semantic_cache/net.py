"""A net of a growing set of points that is refined where they fall: the interface, and the reference's memory."""

from __future__ import annotations

import numpy as np

from icsmdp_jax.envs.semantic_cache.world import chord

SPLIT = 8  # visits of a cell after which its radius is halved; four times as many for each further halving


class DynamicNet:
    """Balls that cover all points seen; a ball shrinks as it is visited, and what then lies outside opens its own.

    Attributes:
      radius: of a new ball, a chord.
      centres: ``[C, 3]``.
      visits: ``[C]`` points that fell into each ball.
    """

    def __init__(self, radius: float) -> None:
        self.radius = radius
        self.centres = np.zeros((0, 3))
        self.visits = np.zeros(0, int)

    def add(self, point: np.ndarray) -> int:
        """The ball of a point ``[3]``: the nearest one, or a new one where that is too small."""
        if len(self.centres):
            away = np.linalg.norm(self.centres - point, axis=1)
            cell = int(away.argmin())
            if away[cell] <= self.radius / 2 ** (np.log2(max(self.visits[cell] / SPLIT, 1)) // 2):
                self.visits[cell] += 1
                return cell
        self.centres = np.vstack([self.centres, point])
        self.visits = np.append(self.visits, 1)
        return len(self.visits) - 1

    def cells(self, points: np.ndarray) -> np.ndarray:
        """``[n]`` nearest centres of ``[n, 3]`` points."""
        return chord(points, self.centres).argmin(axis=1)


def cells_of(points: np.ndarray, mass: np.ndarray, radius: float, queries: int = 200) -> np.ndarray:
    """``[M]`` cells of fine points ``[M, 3]`` in a net that saw all of them, then queries drawn from ``[M]`` masses.

    With radius 0 every point has its own cell.
    """
    net = DynamicNet(radius)
    drawn = np.random.default_rng(0).choice(len(points), queries, p=mass)
    for index in (*np.argsort(-mass, kind="stable"), *drawn):
        net.add(points[index])
    return net.cells(points)
