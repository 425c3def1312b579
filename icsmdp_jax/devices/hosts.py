"""Several hosts as one program: the place of this process among those joined by ``jax.distributed``, and agreement."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The processes of one run.

    Attributes:
      count: how many there are.
      index: which one this is; process 0 writes what all of them found.
    """

    count: int = 1
    index: int = 0

    @property
    def primary(self) -> bool:
        """Whether this process writes what belongs to all."""
        return self.index == 0

    def wait(self, name: str) -> None:
        """Returns when every process has reached the point with this name."""
        if self.count > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(name)

    def anywhere(self, flags: list[bool]) -> list[bool]:
        """For each flag whether any process has raised it; a point where all processes wait for each other."""
        if self.count == 1:
            return list(flags)
        import numpy as np
        from jax.experimental import multihost_utils

        found = np.asarray(multihost_utils.process_allgather(np.asarray(flags, np.int32)))
        return [bool(one) for one in found.reshape(self.count, len(flags)).max(axis=0)]

    def together(self, error: Exception | None, what: str) -> None:
        """Raises this process's error, or reports another's, so that no process waits for one that has given up.

        Args:
          error: what this process found wrong, or None.
          what: what was tried, for the line that other processes print.

        Raises:
          Exception: ``error`` itself.
          ValueError: if only other processes found something wrong.
        """
        failed = self.anywhere([error is not None])[0]
        if error is not None:
            raise error
        if failed:
            raise ValueError(f"{what}: refused by another process of this run, which says why")


def this_run() -> Hosts:
    """The processes that JAX knows of: one, unless ``join`` or the caller joined several."""
    import jax

    return Hosts(jax.process_count(), jax.process_index())


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the options that make a command one process of several."""
    group = command.add_argument_group("several hosts", "Every host runs the same command; all of them must see --out.")
    group.add_argument(
        "--distributed", action="store_true", help="let JAX find the other hosts (TPU pods, SLURM, Kubernetes)"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", default=None, help="address of process 0")
    group.add_argument("--num-processes", type=int, default=None, help="number of processes")
    group.add_argument("--process-id", type=int, default=None, help="number of this process, from 0")


def join(args: argparse.Namespace) -> Hosts:
    """Joins the processes that the command line names, before the first array.

    Raises:
      ValueError: in one line, for options that do not go together, or if the others cannot be reached.
    """
    named = {"coordinator": args.coordinator, "num-processes": args.num_processes, "process-id": args.process_id}
    missing = [f"--{name}" for name, value in named.items() if value is None]
    given = [f"--{name}" for name, value in named.items() if value is not None]
    if len(missing) == 3 and not args.distributed:
        return Hosts()
    if args.distributed and len(missing) < 3:
        raise ValueError("--distributed: finds the other hosts by itself, expected without --coordinator and the like")
    if 0 < len(missing) < 3:
        raise ValueError(f"{missing[0]}: is missing, expected together with {' and '.join(sorted(given))}")
    settings: dict[str, Any] = {}
    if not args.distributed:
        if args.num_processes < 1:
            raise ValueError(f"--num-processes {args.num_processes}: expected 1 or more")
        if not 0 <= args.process_id < args.num_processes:
            raise ValueError(f"--process-id {args.process_id}: expected a number from 0 to {args.num_processes - 1}")
        settings = {
            "coordinator_address": args.coordinator,
            "num_processes": args.num_processes,
            "process_id": args.process_id,
        }
    import jax

    try:
        jax.distributed.initialize(**settings)
    except RuntimeError as error:
        raise ValueError(f"--coordinator {args.coordinator}: {' '.join(str(error).split())[:300]}") from None
    return this_run()
