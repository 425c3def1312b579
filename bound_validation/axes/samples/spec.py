"""Presets of the samples axis: numbers of handoffs, for tables and for linear features."""

from __future__ import annotations

import dataclasses

from icsmdp_jax.envs.planted.model import PlantedConfig

MEDIUM = PlantedConfig.small(
    fields=(("topic", 4), ("stage", 2), ("risk", 2)), views=(("topic", "stage"),) * 10
)  # ten agents with 16 interfaces each, 320 states: enough for features to matter, small enough to sample

COMPACT = PlantedConfig(
    num_agents=3, duration_mean=16, longest_duration=128
)  # 48 states, 12 interfaces, long options: certificates fall below the trivial value within 10^4 handoffs
SCHEDULES = ("constant", "polynomial", "harmonic")  # of plain runs, see ``bound_validation.certificates``


@dataclasses.dataclass(frozen=True)
class SamplesSpec:
    """One function class on the samples axis.

    Attributes:
      slug: part of the cell id.
      label: name in figures.
      limit_samples: handoff counts of the tail-averaged run; halves must be multiples of the chunk.
      replicas: replicas of that run.
      theorem_samples: handoff counts of the projected runs under Theorem 3's schedules.
      theorem_replicas: replicas of those.
      model: the planted model of the tail-averaged run.
      width: features per agent there, 0 for tables.
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


@dataclasses.dataclass(frozen=True)
class FiniteSpec:
    """One function class in finite time: plain runs beside theorem B, projected runs beside T3+.

    Attributes:
      slug: part of the cell id.
      label: name in figures.
      plain_samples: handoff counts of plain runs under each of ``SCHEDULES``.
      projected_samples: handoff counts of projected runs, multiples of the chunk.
      replicas: replicas of all of them.
      chunk: handoffs per compiled chunk of plain runs.
      model: the planted model.
      width: features per agent, 0 for tables.
      seed: seed of the runs.
    """

    slug: str
    label: str
    plain_samples: tuple[int, ...]
    projected_samples: tuple[int, ...]
    replicas: int
    chunk: int = 100
    model: PlantedConfig = dataclasses.field(default_factory=lambda: COMPACT.replace(gap=0.2))
    width: int = 0
    seed: int = 21


@dataclasses.dataclass(frozen=True)
class AxisSpec:
    """The whole axis: the central limit of long runs, and finite time."""

    limits: tuple[SamplesSpec, ...]
    finite: tuple[FiniteSpec, ...]


def doubling(first: int, count: int) -> tuple[int, ...]:
    """``first, 2 first, 4 first, ...``: handoff counts whose halves are checkpoints as well."""
    return tuple(first * 2**i for i in range(count))


def classes(
    limits: tuple[tuple[int, ...], tuple[int, ...]],
    replicas: tuple[int, int],
    plain_samples: tuple[int, ...],
    projected_samples: tuple[int, ...],
    finite_replicas: int,
) -> AxisSpec:
    """Tables and linear features, all with the gap open; the finite-time runs of both are on the compact model."""
    runs = ((), 0)  # none under Theorem 3's schedules on the models of the limit
    finite = (plain_samples, projected_samples, finite_replicas)
    return AxisSpec(
        (
            SamplesSpec("tabular", "tabular", limits[0], replicas[0], *runs, model=PlantedConfig.small(gap=0.2)),
            SamplesSpec(
                "linear", "linear, m = 8", limits[1], replicas[1], *runs, model=MEDIUM.replace(gap=0.2), width=8
            ),
        ),
        (FiniteSpec("tabular", "tabular", *finite), FiniteSpec("linear", "linear, m = 2", *finite, width=2)),
    )


LINE = (100, 300, 1000, 3000, 10_000)
PRESETS = {
    "testing": classes(
        ((4000, 8000, 16_000, 32_000), (4000, 8000, 16_000)), (32, 16), (100, 400), (1000, 4000), 16
    ),
    "quick": classes((doubling(4000, 9),) * 2, (128, 64), LINE, (1000, 10_000, 100_000), 64),
    "full": classes(
        (doubling(10_000, 11), doubling(10_000, 9)), (128, 64), (*LINE, 30_000), (1000, 10_000, 100_000, 1_000_000),
        256,
    ),
}  # fmt: skip
ACCELERATED = {  # to 10^8 handoffs
    "full": dataclasses.replace(
        PRESETS["full"],
        limits=tuple(dataclasses.replace(spec, limit_samples=doubling(8000, 15)) for spec in PRESETS["full"].limits),
    ),
}
