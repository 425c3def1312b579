"""Presets of the neural axis: one model, nets of growing width, and the runs that are made with them."""

from __future__ import annotations

import dataclasses

from icsmdp_jax.envs.planted.model import PlantedConfig

# Two agents with four interfaces each, a bit that no agent sees (16 states), options of 6 to 18 primitive steps.
MODEL = PlantedConfig(
    num_agents=2, fields=(("topic", 2), ("hidden", 2)), interface_dim=4, duration_law="deterministic",
    duration_mean=12.0, longest_duration=18, duration_spread=0.5, successors=4, planted_scale=0.5,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class NetRun:
    """One run of projected neural IC-Q: gap (eta), units of each net, handoffs and replicas."""

    gap: float
    width: int
    samples: int
    replicas: int


@dataclasses.dataclass(frozen=True)
class NeuralSpec:
    """Neural axis: widths, the balls that units are kept in, and runs.

    Attributes:
      widths: units per agent and option, even.
      samples: handoffs at which the bound is computed, whether or not there is a run.
      starts: drawn starts behind the floor at each width; runs begin at the first one.
      runs: runs.
      reach: ``m^(1/2) rho``, the radius of the balls in units that do not depend on the width.
      open_gap: eta of the second model.
      model: the model, with the gap closed.
      seed: seed of starts and runs.
    """

    widths: tuple[int, ...]
    samples: tuple[int, ...]
    starts: int
    runs: tuple[NetRun, ...]
    reach: float = 1.95
    open_gap: float = 0.5
    model: PlantedConfig = MODEL
    seed: int = 23


def runs(widths: tuple[int, ...], samples: int, replicas: int, gap: float = 0.0) -> tuple[NetRun, ...]:
    """One run for each width."""
    return tuple(NetRun(gap, width, samples, replicas) for width in widths)


PRESETS = {
    "testing": NeuralSpec((16, 64), (1000, 2000), 2, runs((64,), 1000, 4) + runs((64,), 1000, 4, 0.5)),
    "quick": NeuralSpec(
        (16, 64, 256, 1024), (1000, 10_000, 100_000, 1_000_000), 8,
        (*runs((16, 64, 256), 10_000, 4), NetRun(0.0, 1024, 10_000, 3), NetRun(0.0, 1024, 100_000, 3),
         NetRun(0.5, 1024, 10_000, 3)),
    ),
    "full": NeuralSpec(
        (16, 64, 256, 1024, 4096), (1000, 10_000, 100_000, 1_000_000, 10_000_000), 16,
        (*runs((16, 64, 256, 1024, 4096), 100_000, 8), *runs((1024, 4096), 1_000_000, 8),
         *runs((16, 64, 256, 1024, 4096), 100_000, 8, 0.5)),
    ),
}  # fmt: skip
