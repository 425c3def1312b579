"""Presets of the audit axis: numbers of handoffs learned from, and handoffs of the audit."""

from __future__ import annotations

import dataclasses

from icsmdp_jax.envs.planted.model import PlantedConfig

BASE = PlantedConfig(num_agents=3, duration_mean=16, longest_duration=128)  # 48 states, A6 certified
MODELS = (  # groups of the figure
    ("gap closed", BASE),
    ("gap open", BASE.replace(gap=0.4)),
    ("slow mixing", BASE.replace(gap=0.4, hidden_flip=0.02)),
)


@dataclasses.dataclass(frozen=True)
class AuditSpec:
    """Audit axis: tables after more and more handoffs, each audited with parameters frozen.

    Attributes:
      samples: handoffs learned from, even multiples of the chunk.
      handoffs: M, handoffs of every audit.
      replicas: tables of each model.
      models: groups with their planted models, of one shape.
      seed: seed of the runs.
    """

    samples: tuple[int, ...]
    handoffs: int
    replicas: int
    models: tuple[tuple[str, PlantedConfig], ...] = MODELS
    seed: int = 26


PRESETS = {
    "testing": AuditSpec((1000, 2000), 1600, 16),
    "quick": AuditSpec((2000, 8000, 32_000), 32_000, 48),
    "full": AuditSpec((2000, 8000, 32_000, 128_000), 320_000, 200),
}
