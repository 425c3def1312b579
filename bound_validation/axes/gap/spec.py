"""Presets of the gap axis: values of eta, the sharp family, and IC-Q runs."""

from __future__ import annotations

import dataclasses

from bound_validation.axes.samples.spec import COMPACT
from icsmdp_jax.envs.planted.model import PlantedConfig


@dataclasses.dataclass(frozen=True)
class GapSpec:
    """Gap axis: values of eta, flip probabilities of the sharp family, and IC-Q runs at every eta.

    What is exact is computed on ``model``, and IC-Q runs on ``finite_model``.
    """

    gaps: tuple[float, ...]
    flips: tuple[float, ...]
    samples: int
    replicas: int
    model: PlantedConfig
    finite_model: PlantedConfig = COMPACT
    seed: int = 12


PRESETS = {
    "testing": GapSpec((0.0, 0.05, 0.2), (0.1, 0.001), 2000, 32, PlantedConfig.small()),
    "quick": GapSpec(
        (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4), (0.3, 0.1, 0.03, 0.01, 0.003, 0.001), 20_000, 32, PlantedConfig.small()
    ),
    "full": GapSpec(
        (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4),
        (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001), 200_000, 64, PlantedConfig.small(),
    ),
}  # fmt: skip
