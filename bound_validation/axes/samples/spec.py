"""Presets of the samples axis: numbers of handoffs, for tables and for linear features."""

from __future__ import annotations

import dataclasses

from icsmdp_jax.envs.planted.model import PlantedConfig

MEDIUM = PlantedConfig.small(
    fields=(("topic", 4), ("stage", 2), ("risk", 2)), views=(("topic", "stage"),) * 10
)  # ten agents with 16 interfaces each, 320 states: enough for features to matter, small enough to sample


@dataclasses.dataclass(frozen=True)
class SamplesSpec:
    """One function class on the samples axis.

    Attributes:
      slug: part of the cell id.
      label: name in figures.
      limit_samples: handoff counts of the tail-averaged run; halves must be multiples of the chunk.
      replicas: replicas of that run.
      theorem_samples: handoff counts of the runs under Theorem 3's schedules.
      theorem_replicas: replicas of those.
      model: the planted model.
      width: features per agent, 0 for tables.
      seed: seed of the runs.
    """

    slug: str
    label: str
    limit_samples: tuple[int, ...]
    replicas: int
    theorem_samples: tuple[int, ...]
    theorem_replicas: int
    model: PlantedConfig = dataclasses.field(default_factory=PlantedConfig.small)
    width: int = 0
    seed: int = 13


def doubling(first: int, count: int) -> tuple[int, ...]:
    """``first, 2 first, 4 first, ...``: handoff counts whose halves are checkpoints as well."""
    return tuple(first * 2**i for i in range(count))


def classes(
    limits: tuple[tuple[int, ...], tuple[int, ...]],
    replicas: tuple[int, int],
    theorem_samples: tuple[int, ...],
    theorem_replicas: int,
) -> tuple[SamplesSpec, SamplesSpec]:
    """Tables and linear features, both with the gap open."""
    theorem = (theorem_samples, theorem_replicas)
    tabular = SamplesSpec("tabular", "tabular", limits[0], replicas[0], *theorem, model=PlantedConfig.small(gap=0.2))
    linear = SamplesSpec(
        "linear", "linear, m = 8", limits[1], replicas[1], *theorem, model=MEDIUM.replace(gap=0.2), width=8
    )
    return tabular, linear


PRESETS = {
    "testing": classes(((4000, 8000, 16_000, 32_000), (4000, 8000, 16_000)), (32, 16), (1000, 4000), 8),
    "quick": classes((doubling(4000, 9),) * 2, (128, 64), (1000, 10_000, 100_000), 24),
    "full": classes((doubling(10_000, 11), doubling(10_000, 9)), (128, 64), (1000, 10_000, 100_000, 1_000_000), 64),
}
ACCELERATED = {  # to 10^8 handoffs
    "full": tuple(dataclasses.replace(spec, limit_samples=doubling(8000, 15)) for spec in PRESETS["full"]),
}
