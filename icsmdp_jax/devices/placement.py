"""Cells and replicas on a grid of devices: one compiled program per static shape, memory bounded by batches.

A run computes one function for every pair of a *cell* (a setting of traced inputs) and a *replica* (a key). The
devices of all hosts form a grid with these two axes; each device gets a block of pairs, and no device ever waits for
another one. Where the numbers do not divide, the last cell or replica is repeated and what it gives is dropped. What
one pair computes does not depend on where it runs, nor on what runs with it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

CELL, REPLICA = "cell", "replica"
EVERYWHERE = PartitionSpec()
CELLS = PartitionSpec(CELL)
REPLICAS = PartitionSpec(REPLICA)
PAIRS = PartitionSpec(CELL, REPLICA)
USABLE = 0.6  # share of a device's memory that a program may take; the rest is for what lives outside of it
GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # versions 2 and 1
LEVEL = "xla_backend_optimization_level"
MEMORY_VARIABLE = "ICSMDP_DEVICE_MEMORY"  # bytes for each device, instead of what the device itself reports


@dataclasses.dataclass(frozen=True)
class Grid:
    """Devices in rows of cells and columns of replicas.

    Attributes:
      cells: number of cells.
      replicas: number of replicas of each.
      rows: devices along the cells.
      columns: devices along the replicas.
    """

    cells: int
    replicas: int
    rows: int
    columns: int

    @property
    def padded_cells(self) -> int:
        """Cells with those that fill the last row."""
        return -(-self.cells // self.rows) * self.rows

    @property
    def padded_replicas(self) -> int:
        """Replicas with those that fill the last column."""
        return -(-self.replicas // self.columns) * self.columns

    @property
    def block(self) -> tuple[int, int]:
        """Cells and replicas of one device."""
        return self.padded_cells // self.rows, self.padded_replicas // self.columns

    @property
    def mesh(self) -> Mesh:
        """The devices of all hosts, with axes ``cell`` and ``replica``."""
        return Mesh(np.asarray(jax.devices()).reshape(self.rows, self.columns), (CELL, REPLICA))

    def place(self, tree: Any, spec: PartitionSpec) -> Any:
        """Pads host arrays and lays them out.

        Args:
          tree: arrays whose leading axes are those that ``spec`` names, the same on every host.
          spec: ``EVERYWHERE``, ``CELLS``, ``REPLICAS`` or ``PAIRS``.
        """
        sharding = NamedSharding(self.mesh, spec)

        def put(leaf: Any) -> jax.Array:
            if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
                return leaf
            for axis, name in enumerate(spec):
                leaf = _padded(leaf, axis, self.padded_cells if name == CELL else self.padded_replicas)
            if jax.process_count() == 1:
                return jax.device_put(leaf, sharding)
            return _from_every_host(leaf, sharding)

        return jax.tree.map(put, tree)

    def fetch(self, tree: Any) -> Any:
        """Arrays ``[cells, replicas, ...]`` on the host, without padding; on every host the same."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            tree = multihost_utils.process_allgather(tree, tiled=True)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: self.cells, : self.replicas], tree)

    def share(self, function: Callable[..., Any], *specs: PartitionSpec) -> Callable[..., Any]:
        """``function`` on the blocks of all devices at once; it returns arrays ``[cells, replicas, ...]``.

        By ``shard_map`` and not by the compiler's own propagation, which would keep what an initialisation returns on
        every device, and compile what follows again for what it returned first.
        """
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=PAIRS, check_vma=False)


def device_grid(cells: int, replicas: int, devices: int | None = None) -> Grid:
    """The grid that leaves the fewest places empty; of several, the one with the longest rows of replicas.

    Args:
      cells: number of cells, 1 or more.
      replicas: replicas of each, 1 or more.
      devices: number of devices; those of all hosts by default.

    Raises:
      ValueError: for no cell, no replica or no device.
    """
    devices = jax.device_count() if devices is None else devices
    for name, value in (("cells", cells), ("replicas", replicas), ("devices", devices)):
        if value < 1:
            raise ValueError(f"{name} = {value}: expected 1 or more")
    grids = [Grid(cells, replicas, rows, devices // rows) for rows in range(1, devices + 1) if devices % rows == 0]
    return min(grids, key=lambda grid: (grid.padded_cells * grid.padded_replicas, grid.rows))


def over_pairs(function: Callable[..., Any], specs: Sequence[PartitionSpec]) -> Callable[..., Any]:
    """``function`` of one pair mapped over the cells and replicas of a block, ``[cells, replicas, ...]``.

    Args:
      function: takes, for each argument, what belongs to one pair.
      specs: which axes each argument has; if none has cells, there is one cell.

    Raises:
      ValueError: if no argument has an axis of replicas.
    """
    inner = [0 if REPLICA in spec else None for spec in specs]
    outer = [0 if CELL in spec else None for spec in specs]
    if all(axis is None for axis in inner):
        raise ValueError("specs: expected an argument with an axis of replicas, found none")
    replicas = jax.vmap(function, inner)
    if any(axis == 0 for axis in outer):
        return jax.vmap(replicas, outer)

    # An axis of one cell would turn every look-up in what all replicas share into a batched one.
    def one_cell(*arguments: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[None], replicas(*arguments))

    return one_cell


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function of all pairs.

    Attributes:
      grid: where it runs.
      specs: axes of its arguments.
      batch: replicas that each device computes side by side.
      call: the compiled function of placed arguments.
    """

    grid: Grid
    specs: tuple[PartitionSpec, ...]
    batch: int
    call: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        """Host arrays ``[cells, replicas, ...]`` of host arrays."""
        placed = [self.grid.place(tree, spec) for tree, spec in zip(arguments, self.specs, strict=True)]
        return self.grid.fetch(self.call(*placed))


@cache
def compiler_options() -> dict[str, Any] | None:
    """Compiler options of programs that run for seconds: on a CPU they compile in little more than half the time.

    Higher levels and fusion emitters make small programs no faster. Not every jaxlib has a choice of emitters. None on
    an accelerator, and where ``XLA_FLAGS`` has chosen a level.
    """
    if jax.default_backend() != "cpu" or LEVEL in os.environ.get("XLA_FLAGS", ""):
        return None
    level: dict[str, Any] = {LEVEL: 1}
    plain = {**level, "xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda x: x + 1).lower(np.float32(0)).compile(plain)
    except RuntimeError:
        return level
    return plain


def compiled(
    function: Callable[..., Any],
    grid: Grid,
    specs: Sequence[PartitionSpec],
    arguments: Sequence[Any],
    options: dict[str, Any] | None = None,
    memory: int | None = None,
) -> Program:
    """Compiles a function of one pair for all pairs, in batches of replicas if it would not fit otherwise.

    Args:
      function: of one pair.
      grid: cells, replicas and devices.
      specs: which axes each argument has.
      arguments: host arrays, for their shapes.
      options: compiler options.
      memory: bytes that the program may take on each device; ``device_memory()`` by default.

    Returns:
      The program. It is compiled once; only where all replicas of a block together would not fit, once more.
    """
    memory = device_memory() if memory is None else memory
    placed = [grid.place(tree, spec) for tree, spec in zip(arguments, specs, strict=True)]
    replicas = grid.block[1]

    def build(batch: int) -> Any:
        whole = over_pairs(function, specs)

        def block(*given: Any) -> Any:
            return whole(*given) if batch == replicas else _in_batches(function, specs, given, batch)

        return jax.jit(grid.share(block, *specs)).lower(*placed).compile(compiler_options=options)

    program, batch = build(replicas), replicas
    needed = _bytes(program)
    if needed > memory and replicas > 1:
        batch = largest_divisor(replicas, int(replicas * memory / needed))
        program = build(batch)
    return Program(grid, tuple(specs), batch, program)


def _in_batches(
    function: Callable[..., Any], specs: Sequence[PartitionSpec], arguments: Sequence[Any], batch: int
) -> Any:
    """A block, ``batch`` replicas of all its cells at a time."""

    def axis(spec: PartitionSpec) -> int | None:
        return None if REPLICA not in spec else list(spec).index(REPLICA)

    def cut(leaf: Any, at: int) -> Any:
        count = leaf.shape[at] // batch
        split = leaf.reshape(*leaf.shape[:at], count, batch, *leaf.shape[at + 1 :])
        return jax.numpy.moveaxis(split, at, 0)

    axes = [axis(spec) for spec in specs]
    moving = [
        jax.tree.map(lambda leaf, at=at: cut(leaf, at), tree)
        for tree, at in zip(arguments, axes, strict=True)
        if at is not None
    ]

    def some(parts: Any) -> Any:
        rest = iter(parts)
        whole = [tree if at is None else next(rest) for tree, at in zip(arguments, axes, strict=True)]
        return over_pairs(function, specs)(*whole)

    done = jax.lax.map(some, moving)
    return jax.tree.map(lambda leaf: join_batches(leaf), done)


def largest_divisor(count: int, limit: int) -> int:
    """The largest number of at most ``limit`` that divides ``count``; 1 if the limit is below it."""
    return max(size for size in range(1, max(1, min(count, limit)) + 1) if count % size == 0)


def join_batches(leaf: Any) -> Any:
    """``[batches, cells, batch, ...]`` as ``[cells, batches * batch, ...]``."""
    leaf = jax.numpy.moveaxis(leaf, 0, 1)
    return leaf.reshape(leaf.shape[0], -1, *leaf.shape[3:])


def device_memory() -> int:
    """Bytes that a program may take on one device: a share of what the device reports, or of the host's memory.

    The host's memory (or that of its control group, if it has less) is divided among its CPU devices.

    Raises:
      ValueError: if the variable ``ICSMDP_DEVICE_MEMORY`` is not a whole number above 0.
    """
    given = os.environ.get(MEMORY_VARIABLE)
    if given is not None:
        if not (given.isascii() and given.isdigit()) or int(given) == 0:
            raise ValueError(f"{MEMORY_VARIABLE}={given}: expected a whole number of bytes above 0")
        return int(given)
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(USABLE * stats["bytes_limit"])
    return host_memory() // jax.local_device_count()


def host_memory() -> int:
    """Bytes that a program may take on this host: a share of its memory, or of its control group's if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in GROUP_LIMITS:
        limit = Path(name)
        if limit.exists() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
            total = min(total, int(text))
    return int(USABLE * total)


def _bytes(program: Any) -> int:
    """What a compiled program takes on one device: inputs, outputs and everything in between."""
    found = program.memory_analysis()
    if found is None:
        return 0
    sizes = (found.temp_size_in_bytes, found.argument_size_in_bytes, found.output_size_in_bytes)
    return int(sum(sizes) - found.alias_size_in_bytes)


def _padded(leaf: Any, axis: int, size: int) -> Any:
    """The array with its last entry along an axis repeated up to ``size``."""
    missing = size - leaf.shape[axis]
    if missing == 0:
        return leaf
    index = np.minimum(np.arange(size), leaf.shape[axis] - 1)
    return leaf[(slice(None),) * axis + (index,)]


def _from_every_host(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """An array over devices of several hosts, each of which holds all of it."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = np.asarray(jax.random.key_data(leaf))
        wide = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec))
        placed = jax.make_array_from_callback(data.shape, wide, lambda index: data[index])
        return jax.random.wrap_key_data(placed, impl=jax.random.key_impl(leaf))
    data = np.asarray(leaf)
    return jax.make_array_from_callback(data.shape, sharding, lambda index: data[index])
