"""Presets of the grid of width, gap and samples."""

from __future__ import annotations

import dataclasses

from bound_validation.axes.samples.spec import MEDIUM
from icsmdp_jax.envs.planted.model import PlantedConfig


@dataclasses.dataclass(frozen=True)
class TotalSpec:
    """The grid of all three axes."""

    widths: tuple[int, ...]
    gaps: tuple[float, ...]
    samples: tuple[int, ...]
    replicas: int
    model: PlantedConfig
    seed: int = 16


PRESETS = {
    "testing": TotalSpec((2, 8), (0.0, 0.2), (1000, 4000), 8, MEDIUM),
    "quick": TotalSpec((2, 4, 8), (0.0, 0.1, 0.4), (1000, 10_000, 100_000), 16, MEDIUM),
    "full": TotalSpec((2, 4, 8, 16), (0.0, 0.05, 0.1, 0.2, 0.4), (1000, 10_000, 100_000, 1_000_000), 64, MEDIUM),
}
