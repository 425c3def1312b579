"""Presets of the grid of groups of interfaces, gap and samples."""

from __future__ import annotations

import dataclasses

from bound_validation.axes.samples.spec import COMPACT
from icsmdp_jax.envs.planted.model import PlantedConfig


@dataclasses.dataclass(frozen=True)
class TotalSpec:
    """The grid of all three axes.

    Attributes:
      groups: groups of interfaces that each agent tells apart, each number a function class of its own.
      gaps: values of eta.
      samples: handoffs of each replica, multiples of the chunk.
      replicas: of each cell.
      model: the planted model.
      chunk: handoffs per compiled chunk.
      seed: seed of the runs.
    """

    groups: tuple[int, ...]
    gaps: tuple[float, ...]
    samples: tuple[int, ...]
    replicas: int
    model: PlantedConfig = COMPACT
    chunk: int = 50
    seed: int = 16


GAPS = (0.0, 0.05, 0.1, 0.2)  # up to where the whole bound of a long run is below the trivial value in every cell
PRESETS = {
    "testing": TotalSpec((1, 4), (0.0, 0.2), (100, 400), 32, chunk=100),
    "quick": TotalSpec((1, 2, 4), (0.0, 0.1, 0.2), (150, 800, 4000), 64),
    "full": TotalSpec((1, 2, 4), GAPS, (300, 3000, 30_000), 256),
}
