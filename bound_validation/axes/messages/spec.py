"""Presets of the axis of messages: which faults of the channel."""

from __future__ import annotations

import dataclasses

from bound_validation.axes.returns.spec import FAR_SIGHTED, HALF_SIZE, StepSetting
from icsmdp_jax.envs.planted.model import PlantedConfig


@dataclasses.dataclass(frozen=True)
class MessagesSpec:
    """Axis of messages: faults of the channel by kind, each with and without clipping.

    Attributes:
      faults: kind and strengths: ``loss`` (probability), ``late`` (messages), ``nearest`` and ``random`` (bits,
        rounding to the nearest level or to one of two at random), ``noise`` (standard deviation in widths of the value
        range), ``high``, ``low`` and ``negate`` (share of agents that lie).
      updates: of tabular IC-Q; a multiple of ``parts``.
      replicas: replicas, which share their handoffs over all channels.
      excess: how far beyond the value range ``high`` and ``low`` are, in its widths.
      parts: number of equal parts of a run, which is looked at after each of them; strengths of ``loss`` are
        multiples of ``1 / parts``.
      copies: environments side by side.
      length: handoffs of each environment between two updates.
      step: step size.
      model: the planted model.
      seed: of all runs.
    """

    faults: tuple[tuple[str, tuple[float, ...]], ...]
    updates: int
    replicas: int
    excess: float = 1.0
    parts: int = 10
    copies: int = 32
    length: int = 8
    step: StepSetting = StepSetting(1.0, 0.8, 0.5)
    model: PlantedConfig = FAR_SIGHTED
    seed: int = 19

    @property
    def samples(self) -> int:
        """Handoffs of one replica."""
        return self.updates * self.copies * self.length


PRESETS = {
    "testing": MessagesSpec(
        (("loss", (0.5,)), ("late", (1,)), ("nearest", (2, 8)), ("random", (2, 8)), ("noise", (0.01,)),
         ("high", (0.1,)), ("low", (0.1,)), ("negate", (0.1,))),
        updates=20, replicas=4, model=HALF_SIZE,
    ),
    "quick": MessagesSpec(
        (("loss", (0.1, 0.3, 0.5, 0.8)), ("late", (1, 2, 4, 8)), ("nearest", (1, 2, 3, 4, 6, 8)),
         ("random", (1, 2, 3, 4, 6, 8)), ("noise", (0.001, 0.003, 0.01, 0.03, 0.1)),
         ("high", (0.1, 0.2, 0.3, 0.5)), ("low", (0.1, 0.2, 0.3, 0.5)), ("negate", (0.1, 0.2, 0.3, 0.5))),
        updates=600, replicas=8, model=HALF_SIZE,
    ),
    "full": MessagesSpec(
        (("loss", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)), ("late", (1, 2, 4, 8, 16)),
         ("nearest", (1, 2, 3, 4, 5, 6, 7, 8, 10)), ("random", (1, 2, 3, 4, 5, 6, 7, 8, 10)),
         ("noise", (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)),
         ("high", (0.1, 0.2, 0.3, 0.4, 0.5)), ("low", (0.1, 0.2, 0.3, 0.4, 0.5)),
         ("negate", (0.1, 0.2, 0.3, 0.4, 0.5))),
        updates=4000, replicas=32,
    ),
}  # fmt: skip
