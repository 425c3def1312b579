"""Presets of the agents axis: pipelines of growing length."""

from __future__ import annotations

import dataclasses

from bound_validation.axes.samples.spec import COMPACT
from icsmdp_jax.envs.planted.model import PlantedConfig


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
        """Handoffs of one replica with this number of agents."""
        return self.per_agent * count


MODEL = PlantedConfig.small(gap=0.2)
LARGE = PlantedConfig(num_agents=1000, fields=(("topic", 5), ("stage", 5), ("risk", 2)), gap=0.2)  # 100 000 states
PRESETS = {
    "testing": AgentsSpec((3,), 1000, 32, COMPACT.replace(gap=0.2)),
    "quick": AgentsSpec((2, 8, 32), 20_000, 32, MODEL),
    "full": AgentsSpec((2, 5, 10, 30, 100, 300, 1000), 20_000, 64, MODEL, large=(LARGE,)),
}
