"""What a run consists of: named tasks, each of which computes one part of the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

Progress = Callable[[int], None]


class Outcome(Protocol):
    """What a task returns: anything that can become plain data."""

    def plain(self) -> dict[str, Any]:
        """The outcome as JSON-ready data."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A resumable unit of a run.

    Attributes:
      name: frozen readable id, e.g. ``samples/tabular``.
      run: computes the result; called with a progress callback that counts work.
      work: total work that ``run`` reports, in handoffs (exact tasks report their share once).
      cells: number of cells of the run that it covers.
      joint: whether all devices of all hosts compute it together; otherwise one host does.
      simulates: whether ``work`` is a number of simulated handoffs, if it is joint.
      seconds: how long it takes relative to the others of the run, compilation included; 0: unknown.
    """

    name: str
    run: Callable[[Progress], Outcome]
    work: int
    cells: int = 1
    joint: bool = True
    simulates: bool = True
    seconds: float = 0.0
