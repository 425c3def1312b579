"""Presets of the mixing axis: how often the hidden part is redrawn."""

from __future__ import annotations

import dataclasses

from bound_validation.axes.samples.spec import COMPACT
from icsmdp_jax.envs.planted.model import PlantedConfig


@dataclasses.dataclass(frozen=True)
class MixingSpec:
    """Mixing axis: how often the hidden part is redrawn, with the gap open and closed, at a fixed K.

    The spread is measured on ``model``, projected runs on ``finite_model``.
    """

    flips: tuple[float, ...]
    open_gap: float
    samples: int
    replicas: int
    theorem_samples: int
    theorem_replicas: int
    model: PlantedConfig
    finite_model: PlantedConfig = COMPACT
    seed: int = 14


PRESETS = {
    "testing": MixingSpec((0.5, 0.05), 0.5, 20_000, 32, 2000, 32, PlantedConfig.small()),
    "quick": MixingSpec((0.5, 0.15, 0.05, 0.02, 0.01), 0.5, 256_000, 128, 50_000, 32, PlantedConfig.small()),
    "full": MixingSpec((0.5, 0.15, 0.05, 0.02, 0.01, 0.005), 0.5, 2_048_000, 64, 100_000, 64, PlantedConfig.small()),
}
