"""Presets of the duration axis: laws of tau and their means."""

from __future__ import annotations

import dataclasses

from icsmdp_jax.envs.planted.model import PlantedConfig


@dataclasses.dataclass(frozen=True)
class DurationsSpec:
    """Duration axis: laws of tau and their means at one discount per primitive step."""

    laws: tuple[str, ...]
    means: tuple[float, ...]
    longest: int
    model: PlantedConfig
    perturbations: int
    seed: int = 15


LAWS = ("deterministic", "uniform", "geometric", "negative_binomial", "truncated_power_law", "phase_type")
MODEL = PlantedConfig.small(gap=0.3)
PRESETS = {
    "testing": DurationsSpec(LAWS, (2.0, 8.0), 256, MODEL, 400),
    "quick": DurationsSpec(LAWS, (2.0, 4.0, 8.0, 16.0, 32.0), 256, MODEL, 400),
    "full": DurationsSpec(LAWS, (2.0, 4.0, 8.0, 16.0, 32.0, 64.0), 256, MODEL, 400),
}
