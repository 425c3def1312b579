"""Presets of a run on a given model file."""

from __future__ import annotations

import dataclasses

from bound_validation.axes.samples.spec import doubling


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What is run on a given model.

    Attributes:
      limit_samples: handoff counts of the tail-averaged run; halves must be multiples of the chunk.
      replicas: replicas of that run.
      theorem_samples: handoff counts under Theorem 3's schedules.
      theorem_replicas: replicas of those.
      draws: feature draws per width.
      seed: seed of everything.
    """

    limit_samples: tuple[int, ...]
    replicas: int
    theorem_samples: tuple[int, ...]
    theorem_replicas: int
    draws: int
    seed: int = 17


PRESETS = {
    "testing": ModelSpec((4000, 8000, 16_000), 8, (1000, 4000), 8, 8),
    "quick": ModelSpec(doubling(8000, 9), 32, (1000, 10_000, 100_000), 16, 64),
    "full": ModelSpec(doubling(8000, 12), 64, (1000, 10_000, 100_000, 1_000_000), 32, 200),
}
