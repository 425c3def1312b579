"""Whether a run of ``train`` fits into memory: forecast from shapes, and refused before any of it is taken.

With an accelerator, device and host memory count separately; on a CPU both are the same memory. Each replica leaves its
last parameters in float32 and the sum of all in float64 at every checkpoint, and the caller's tables of values come on
top. docs/scaling.md says how the forecast was checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from icsmdp_jax.devices.placement import device_grid, device_memory, host_memory

COPIES = 3  # of a replica's state at once: itself, the mean of the running chunk, and what is being replaced
SNAPSHOT = 3  # words of 4 bytes for each parameter in a snapshot: the last iterate, and the sum in float64
MEASURING = 12  # of 4 bytes for each value while errors are computed: float64 tables, and what is left of their squares


class Need(NamedTuple):
    """Bytes that a run takes.

    Attributes:
      device: on the device that has most.
      host: on every host, what the devices of a CPU take left out.
    """

    device: int
    host: int


class Sizes(NamedTuple):
    """What the forecast depends on.

    Attributes:
      state: bytes of the state of one replica.
      params: bytes of its parameters, a part of the state.
      inputs: bytes of the inputs of one lane.
      words: bytes of the random words that a device draws ahead, given its number of replicas.
      lanes: lanes that learn; on the devices they may come one after the other.
      checkpoints: snapshots that are kept.
      values: entries of the table of values that the caller makes of a replica's parameters.
    """

    state: int
    params: int
    inputs: int
    words: Callable[[int], int]
    lanes: int
    checkpoints: int
    values: int


def need(sizes: Sizes, replicas: int) -> Need:
    """Forecast for a number of replicas of each lane."""
    columns = device_grid(1, replicas).block[1]
    device = sizes.inputs + COPIES * sizes.state * columns + sizes.words(columns)
    kept = SNAPSHOT * (sizes.checkpoints + 1) * sizes.params  # one more while the next is fetched
    return Need(device, replicas * (sizes.lanes * kept + 4 * MEASURING * sizes.values))


def fits(wanted: Need) -> bool:
    """Whether there is memory for it."""
    if wanted.device > device_memory():
        return False
    shared = jax.default_backend() == "cpu"
    return wanted.host + shared * wanted.device * jax.local_device_count() <= host_memory()


def check(sizes: Sizes, replicas: int) -> None:
    """Refuses replicas that do not fit.

    Raises:
      ValueError: in one line with the forecast, what may be taken, and how many replicas would fit.
    """
    wanted = need(sizes, replicas)
    if fits(wanted):
        return
    most = largest(lambda count: fits(need(sizes, count)), replicas)
    advice = f"{most} would fit" if most else "not even one would fit, so the model or the width is too large"
    raise ValueError(
        f"replicas = {replicas}: the forecast is {in_units(wanted.device)} on each device and {in_units(wanted.host)} "
        f"on the host, expected at most {in_units(device_memory())} and {in_units(host_memory())}; {advice}"
    )


def largest(possible: Callable[[int], bool], limit: int) -> int:
    """A count below ``limit`` that is possible, of two digits and zeros, close to the largest such count; or 0."""
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if possible(middle) else (low, middle)
    step = 10 ** max(len(str(low)) - 2, 0)
    count = low // step * step
    return count if count and possible(count) else 0


def in_units(size: int) -> str:
    """Bytes in readable units."""
    for factor, unit in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= factor:
            return f"{size / factor:.3g} {unit}" if size < 1000 * factor else f"{size / factor:,.0f} {unit}"
    return f"{size} bytes"
