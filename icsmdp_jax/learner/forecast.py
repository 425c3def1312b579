"""How long a sweep will take and how much memory it needs on any number of devices, before it is run.

Replicas and cells never meet, so the only costs that grow with the number of devices are places left empty in the grid
and the tables that travel to the hosts at checkpoints. Everything else divides. docs/scaling.md says how the forecast
was checked.
"""

from __future__ import annotations

from typing import NamedTuple

from icsmdp_jax.devices.placement import device_grid
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.memory import COPIES
from icsmdp_jax.learner.train import CHUNK, WORD_COPIES, input_bytes, state_shapes, tree_bytes


class Forecast(NamedTuple):
    """What a sweep of one static shape costs.

    Attributes:
      pairs: (cell, replica) pairs of the device that has most.
      idle: share of places in the grid that are left empty.
      simulate_s: seconds of simulation.
      fetch_s: seconds to bring the tables of all checkpoints to every host.
      bytes_per_device: memory that a device needs.
      bytes_per_host: memory that all snapshots take on each host.
    """

    pairs: int
    idle: float
    simulate_s: float
    fetch_s: float
    bytes_per_device: int
    bytes_per_host: int


def state_bytes(learner: Learner, inputs: Inputs) -> int:
    """Bytes of one replica's state, from shapes alone."""
    return tree_bytes(state_shapes(learner, inputs))


def table_bytes(learner: Learner, inputs: Inputs) -> int:
    """Bytes of what one replica leaves at a checkpoint: the last iterate and the compensated sum of all."""
    state = state_shapes(learner, inputs)
    return tree_bytes((state.learner.params, state.total))


def forecast(
    learner: Learner,
    inputs: Inputs,
    cells: int,
    replicas: int,
    samples: int,
    checkpoints: int,
    devices: int,
    rate: float,
    bandwidth: float = 1e9,
    chunk: int = CHUNK,
) -> Forecast:
    """Time and memory of one run of ``train``.

    Args:
      learner: static configuration.
      inputs: those of one cell.
      cells: number of cells of these shapes.
      replicas: replicas of each cell.
      samples: handoffs of each replica.
      checkpoints: how many snapshots are kept.
      devices: devices of all hosts together.
      rate: handoffs a second of one device, measured with as many pairs as it will have.
      bandwidth: bytes a second at which a host receives tables.
      chunk: handoffs per compiled chunk.

    Returns:
      A ``Forecast``; compilation comes on top, once for each static shape whatever the number of devices.
    """
    layout = device_grid(cells, replicas, devices)
    rows, columns = layout.block
    pairs = rows * columns
    words = WORD_COPIES * 4 * chunk * learner.words_per_step
    tables = table_bytes(learner, inputs) * cells * replicas * checkpoints
    return Forecast(
        pairs=pairs,
        idle=1 - cells * replicas / (layout.padded_cells * layout.padded_replicas),
        simulate_s=pairs * samples / rate,
        fetch_s=tables / bandwidth,
        bytes_per_device=pairs * (COPIES * state_bytes(learner, inputs) + words) + rows * input_bytes(inputs),
        bytes_per_host=2 * tables,  # sums are kept in float64
    )
