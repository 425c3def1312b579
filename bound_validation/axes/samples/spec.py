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
class PlainSpec:
    """One function class in plain runs, as theorem B has them.

    Attributes:
      slug: part of the cell id.
      label: name in figures.
      samples: handoff counts under each of ``SCHEDULES``, multiples of the chunk.
      replicas: of all runs.
      chunk: handoffs per compiled chunk.
      model: the planted model.
      width: features per agent, 0 for tables.
      seed: seed of the runs.
    """

    slug: str
    label: str
    samples: tuple[int, ...]
    replicas: int
    chunk: int = 100
    model: PlantedConfig = dataclasses.field(default_factory=lambda: COMPACT.replace(gap=0.2))
    width: int = 0
    seed: int = 21


@dataclasses.dataclass(frozen=True)
class AxisSpec:
    """The whole axis.

    Attributes:
      limits: tail averages of long runs (P2).
      plain: average iterates of plain runs (theorem B).
      projected: average iterates of projected runs (T3+); only their ``theorem_samples`` count.
    """

    limits: tuple[SamplesSpec, ...]
    plain: tuple[PlainSpec, ...]
    projected: tuple[SamplesSpec, ...]


def doubling(first: int, count: int) -> tuple[int, ...]:
    """``first, 2 first, 4 first, ...``: handoff counts whose halves are checkpoints as well."""
    return tuple(first * 2**i for i in range(count))


def classes(
    limits: tuple[tuple[int, ...], tuple[int, ...]],
    replicas: tuple[int, int],
    plain: tuple[tuple[int, ...], tuple[int, ...]],
    plain_replicas: int,
    projected: tuple[tuple[int, ...], int],
    agents: int = 8,
) -> AxisSpec:
    """Tables and linear features, all with the gap open: handoff counts, and replicas, of each kind of run; agents of
    the projected ones."""
    none = ((), 0)
    model = COMPACT.replace(gap=0.2, num_agents=agents)
    return AxisSpec(
        (
            SamplesSpec("tabular", "tabular", limits[0], replicas[0], *none, PlantedConfig.small(gap=0.2)),
            SamplesSpec("linear", "linear, m = 8", limits[1], replicas[1], *none, MEDIUM.replace(gap=0.2), 8),
        ),
        (
            PlainSpec("tabular", "tabular, 3 agents", plain[0], plain_replicas),
            PlainSpec("linear", "linear, m = 2, 3 agents", plain[1], plain_replicas, width=2),
        ),
        (
            SamplesSpec("tabular", f"tabular, {agents} agents", *none, *projected, model),
            SamplesSpec("linear", f"linear, m = 2, {agents} agents", *none, *projected, model, 2),
        ),
    )


LINE = (100, 300, 1000, 3000, 10_000)
# Models and replicas of the preset testing are those that other axes have in it, so that they share programs.
PRESETS = {
    "testing": classes(
        ((4000, 8000, 16_000, 32_000), (4000, 8000, 16_000)), (32, 16), ((100, 400), (100,)), 32, ((1000, 4000), 32),
        agents=3,
    ),
    "quick": classes(
        (doubling(4000, 9),) * 2, (128, 64), ((100, 1000, 10_000), (100, 1000, 3000)), 64, ((1000, 10_000, 100_000), 24)
    ),
    "full": classes(
        (doubling(10_000, 11), doubling(10_000, 9)), (128, 64), ((*LINE, 30_000), LINE), 256,
        ((1000, 10_000, 100_000, 1_000_000), 64),
    ),
}  # fmt: skip
ACCELERATED = {  # to 10^8 handoffs
    "full": dataclasses.replace(
        PRESETS["full"],
        limits=tuple(dataclasses.replace(spec, limit_samples=doubling(8000, 15)) for spec in PRESETS["full"].limits),
    ),
}
