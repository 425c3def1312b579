"""Presets: what each axis sweeps. Cell ids are frozen and readable: ``width/3`` is the fourth width of the preset."""

from __future__ import annotations

import dataclasses

from bound_validation.learning_sweeps import MESSAGES, RETURNS, MessagesSpec, ReturnsSpec
from icsmdp_jax.envs.planted.model import PlantedConfig

MEDIUM = {
    "fields": (("topic", 4), ("stage", 2), ("risk", 2)),
    "views": (("topic", "stage"),) * 10,
}  # ten agents with 16 interfaces each, 320 states: enough for features to matter, small enough to sample


@dataclasses.dataclass(frozen=True)
class TrainedSpec:
    """Two-layer nets with a trained hidden layer, on the model of the width axis.

    Attributes:
      widths: units per agent and option.
      starts: independent starts; each is trained twice, on independent data.
      updates: of every run; a multiple of 100, or less than 100.
      copies: environments side by side.
      length: handoffs of each environment between two updates.
      step: Adam's first step at width 1; it falls with the root of the width and, during a run, linearly to 0.
      seed: seed of starts and data.

    Raises:
      ValueError: for another number of updates.
    """

    widths: tuple[int, ...]
    starts: int
    updates: int
    copies: int = 256
    length: int = 4
    step: float = 0.3
    seed: int = 17

    def __post_init__(self) -> None:
        if self.updates > 100 and self.updates % 100:
            raise ValueError(f"updates = {self.updates}: expected a multiple of 100, or less than 100")

    @property
    def samples(self) -> int:
        """Handoffs of one run."""
        return self.updates * self.copies * self.length


@dataclasses.dataclass(frozen=True)
class WidthSpec:
    """Width axis: feature counts and independent feature draws on one planted model, and nets trained on it."""

    widths: tuple[int, ...]
    draws: int
    model: PlantedConfig
    seed: int = 11
    trained: TrainedSpec | None = None


@dataclasses.dataclass(frozen=True)
class GapSpec:
    """Gap axis: values of eta, flip probabilities of the sharp family, and IC-Q runs at every eta."""

    gaps: tuple[float, ...]
    flips: tuple[float, ...]
    samples: int
    replicas: int
    model: PlantedConfig
    seed: int = 12


@dataclasses.dataclass(frozen=True)
class SamplesSpec:
    """Samples axis for one function class.

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

    @property
    def model_gap(self) -> float:
        """eta of the model."""
        return self.model.gap


@dataclasses.dataclass(frozen=True)
class MixingSpec:
    """Mixing axis: how often the hidden part is redrawn, with the gap open and closed, at a fixed K."""

    flips: tuple[float, ...]
    open_gap: float
    samples: int
    replicas: int
    theorem_samples: int
    theorem_replicas: int
    model: PlantedConfig
    seed: int = 14


@dataclasses.dataclass(frozen=True)
class DurationsSpec:
    """Duration axis: laws of tau and their means at one discount per primitive step."""

    laws: tuple[str, ...]
    means: tuple[float, ...]
    longest: int
    model: PlantedConfig
    perturbations: int
    seed: int = 15


@dataclasses.dataclass(frozen=True)
class TotalSpec:
    """The grid of all three axes."""

    widths: tuple[int, ...]
    gaps: tuple[float, ...]
    samples: tuple[int, ...]
    replicas: int
    model: PlantedConfig
    seed: int = 16


@dataclasses.dataclass(frozen=True)
class AgentsSpec:
    """Agents axis: pipelines of growing length.

    Attributes:
      counts: numbers of agents that are simulated.
      per_agent: handoffs per replica for each agent, an even multiple of the chunk.
      replicas: replicas of every run.
      model: the planted model, whose number of agents is varied.
      large: models that are analysed only.
      seed: seed of the runs.
    """

    counts: tuple[int, ...]
    per_agent: int
    replicas: int
    model: PlantedConfig
    large: tuple[PlantedConfig, ...] = ()
    seed: int = 20

    def samples(self, count: int) -> int:
        """Handoffs of one replica with so many agents."""
        return self.per_agent * count


@dataclasses.dataclass(frozen=True)
class Preset:
    """A whole validation run.

    Attributes:
      name: testing, quick or full.
      chunk: handoffs per compiled chunk; every handoff count is a multiple of it.
      resamples: bootstrap resamples behind intervals of slopes.
    """

    name: str
    width: WidthSpec
    gap: GapSpec
    samples: tuple[SamplesSpec, ...]
    mixing: MixingSpec
    durations: DurationsSpec
    total: TotalSpec
    agents: AgentsSpec
    returns: ReturnsSpec
    messages: MessagesSpec
    chunk: int = 1000
    resamples: int = 1000


TRAINED = {
    "testing": TrainedSpec((2, 8), starts=2, updates=60, copies=128, step=1.0),
    "quick": TrainedSpec((2, 4, 8, 16, 32), starts=6, updates=800),
    "full": TrainedSpec((2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), starts=6, updates=3200),
}
LARGE = (
    PlantedConfig(num_agents=1000, fields=(("topic", 5), ("stage", 5), ("risk", 2)), gap=0.2),  # 100 000 states
)
LAWS = ("deterministic", "uniform", "geometric", "negative_binomial", "truncated_power_law", "phase_type")


def doubling(first: int, count: int) -> tuple[int, ...]:
    """``first, 2 first, 4 first, ...``: handoff counts whose halves are checkpoints as well."""
    return tuple(first * 2**i for i in range(count))


def _preset(
    name: str,
    widths: tuple[int, ...],
    draws: int,
    gaps: tuple[float, ...],
    flips: tuple[float, ...],
    learned: tuple[int, int],
    limits: tuple[tuple[int, ...], tuple[int, ...]],
    replicas: tuple[int, int],
    theorem: tuple[tuple[int, ...], int],
    mixing: tuple[tuple[float, ...], int, int, int, int],
    means: tuple[float, ...],
    grid: tuple[tuple[int, ...], tuple[float, ...], tuple[int, ...], int],
    agents: tuple[tuple[int, ...], int, int, int],
    chunk: int = 1000,
    resamples: int = 1000,
) -> Preset:
    small, medium = PlantedConfig.small(), PlantedConfig.small(**MEDIUM)
    opened = small.replace(gap=0.2)
    return Preset(
        name=name,
        width=WidthSpec(widths, draws, PlantedConfig.wide(), trained=TRAINED[name]),
        gap=GapSpec(gaps, flips, *learned, model=small),
        samples=(
            SamplesSpec("tabular", "tabular", limits[0], replicas[0], *theorem, model=opened),
            SamplesSpec("linear", "linear, m = 8", limits[1], replicas[1], *theorem,
                        model=medium.replace(gap=0.2), width=8),
        ),
        mixing=MixingSpec(mixing[0], 0.5, *mixing[1:], model=small),
        durations=DurationsSpec(LAWS, means, 256, small.replace(gap=0.3), 400),
        total=TotalSpec(*grid, model=medium),
        agents=AgentsSpec(*agents[:3], model=opened, large=LARGE[: agents[3]]),
        returns=RETURNS[name],
        messages=MESSAGES[name],
        chunk=chunk,
        resamples=resamples,
    )  # fmt: skip


PRESETS = {
    "testing": _preset(
        "testing",
        widths=(4, 8, 16), draws=8,
        gaps=(0.0, 0.05, 0.2), flips=(0.1, 0.001),
        learned=(2000, 8),
        limits=((4000, 8000, 16000, 32000), (4000, 8000, 16000)), replicas=(32, 16),
        theorem=((1000, 4000), 8),
        mixing=((0.5, 0.05), 20_000, 16, 2000, 8),
        means=(2.0, 8.0),
        grid=((2, 8), (0.0, 0.2), (1000, 4000), 8),
        agents=((2,), 1000, 8, 0),
        chunk=500, resamples=200,
    ),
    "quick": _preset(
        "quick",
        widths=(4, 8, 16, 32, 64), draws=160,
        gaps=(0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4), flips=(0.3, 0.1, 0.03, 0.01, 0.003, 0.001),
        learned=(20_000, 32),
        limits=(doubling(4000, 9), doubling(4000, 9)), replicas=(128, 64),
        theorem=((1000, 10_000, 100_000), 24),
        mixing=((0.5, 0.15, 0.05, 0.02, 0.01), 256_000, 64, 20_000, 32),
        means=(2.0, 4.0, 8.0, 16.0, 32.0),
        grid=((2, 4, 8), (0.0, 0.1, 0.4), (1000, 10_000, 100_000), 16),
        agents=((2, 5, 20, 50), 20_000, 32, 0),
    ),
    "full": _preset(
        "full",
        widths=(4, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048, 4096), draws=400,
        gaps=(0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4),
        flips=(0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001),
        learned=(200_000, 64),
        limits=(doubling(10_000, 11), doubling(10_000, 9)), replicas=(128, 64),
        theorem=((1000, 10_000, 100_000, 1_000_000), 64),
        mixing=((0.5, 0.15, 0.05, 0.02, 0.01, 0.005), 2_048_000, 64, 100_000, 64),
        means=(2.0, 4.0, 8.0, 16.0, 32.0, 64.0),
        grid=((2, 4, 8, 16), (0.0, 0.05, 0.1, 0.2, 0.4), (1000, 10_000, 100_000, 1_000_000), 64),
        agents=((2, 5, 10, 30, 100, 300, 1000), 20_000, 64, 1),
    ),
}  # fmt: skip


def preset_for(name: str, accelerator: bool = False) -> Preset:
    """A preset for the device at hand: on an accelerator the samples axis of ``full`` goes to 10^8 handoffs.

    Args:
      name: testing, quick or full.
      accelerator: whether the handoffs are simulated on a GPU or TPU.
    """
    chosen = PRESETS[name]
    if name != "full" or not accelerator:
        return chosen
    longer = [dataclasses.replace(spec, limit_samples=doubling(8000, 15)) for spec in chosen.samples]
    return dataclasses.replace(chosen, samples=tuple(longer))
