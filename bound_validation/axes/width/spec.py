"""Presets of the width axis: feature counts, feature draws and trained nets."""

from __future__ import annotations

import dataclasses

from icsmdp_jax.envs.planted.model import PlantedConfig


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


PRESETS = {
    "testing": WidthSpec(
        (4, 8, 16), 8, PlantedConfig.wide(), trained=TrainedSpec((2, 8), starts=2, updates=60, copies=128, step=1.0)
    ),
    "quick": WidthSpec(
        (4, 8, 16, 32, 64), 160, PlantedConfig.wide(), trained=TrainedSpec((2, 4, 8, 16), starts=4, updates=600)
    ),
    "full": WidthSpec(
        (4, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048, 4096), 400, PlantedConfig.wide(),
        trained=TrainedSpec((2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), starts=6, updates=3200),
    ),
}  # fmt: skip
