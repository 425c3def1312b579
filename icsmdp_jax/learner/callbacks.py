"""What ``train`` reports as it runs, and to whom: files, TensorBoard, Weights & Biases, a meter, an early stop.

A callback is any function of a ``Point``; one that returns True ends the training. If it has a method ``close``, that
is called when training ends, however it ends. All of it happens on the host between two compiled programs, so a
callback may do anything without changing a bit of what is learned.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import chex
import numpy as np

from icsmdp_jax.core.arguments import expect, one_of, whole
from icsmdp_jax.core.optional import needed
from icsmdp_jax.io import file_target, to_plain
from icsmdp_jax.learner.parallel_state import State
from icsmdp_jax.runs.meter import Meter
from icsmdp_jax.runs.tasks import Task

if TYPE_CHECKING:
    from icsmdp_jax.learner.curves import Curves

METRICS = ("reward", "td_error", "returns")


class Point(NamedTuple):
    """How far a training is.

    Attributes:
      updates: updates so far.
      total: updates at its end.
      handoffs: handoffs so far, of each seed.
      curves: this point of the curves, on the host; with seeds every field has a leading axis.
      state: the learner's state, on the device.
      key: the key that ``train`` was given, with which it can be resumed.

    Example:
      >>> import icsmdp_jax as ic
      >>> ic.Point._fields
      ('updates', 'total', 'handoffs', 'curves', 'state', 'key')
    """

    updates: int
    total: int
    handoffs: int
    curves: Curves
    state: State
    key: chex.PRNGKey

    @property
    def metrics(self) -> dict[str, float]:
        """``reward``, ``td_error`` (root mean square over decisions) and ``returns`` if asked for; seeds averaged."""
        visits = np.asarray(self.curves.visits, np.float64)
        square = np.sum(visits * np.asarray(self.curves.td_error, np.float64) ** 2, axis=-1)
        error = np.sqrt(square / np.maximum(visits.sum(axis=-1), 1))
        found = {"reward": float(np.mean(self.curves.reward, dtype=np.float64)), "td_error": float(error.mean())}
        if self.curves.returns is not None:
            found["returns"] = float(np.mean(self.curves.returns, dtype=np.float64))
        return found


class Callback(Protocol):
    """What ``train`` calls at each point."""

    def __call__(self, point: Point) -> bool | None:
        """Looks at a point; True ends the training."""


class JSONLines:
    """Appends a line of JSON for each point: ``updates``, ``handoffs`` and the metrics; null for what is not finite.

    Raises:
      ValueError: in one line, for a place that cannot be written to.

    Example:
      >>> import icsmdp_jax as ic, tempfile, pathlib
      >>> lines = ic.JSONLines(pathlib.Path(tempfile.mkdtemp()) / "run.jsonl")
      >>> lines.path.name
      'run.jsonl'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = file_target(path)[0]

    def __call__(self, point: Point) -> None:
        """Writes a whole line at once, so that anyone reading in the meantime reads valid JSON."""
        told = to_plain({"updates": point.updates, "handoffs": point.handoffs, **point.metrics})
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(told, allow_nan=False) + "\n")


class TensorBoard:
    """Writes the metrics as scalars by handoffs for TensorBoard, through tensorboardX (extra ``tracking``).

    Raises:
      ModuleNotFoundError: if tensorboardX is not installed.

    Example:
      >>> import icsmdp_jax as ic, tempfile
      >>> board = ic.TensorBoard(tempfile.mkdtemp())  # icsmdp_jax imports tensorboardX here, not before
      >>> board.close()
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._made = needed("tensorboardX", "tensorboardX", "tracking").SummaryWriter
        self._writer: Any = None

    def __call__(self, point: Point) -> None:
        """Adds the point to the metrics' scalars."""
        self._writer = self._writer or self._made(str(self.folder))
        for name, value in point.metrics.items():
            self._writer.add_scalar(name, value, point.handoffs)

    def close(self) -> None:
        """Writes what is left; the next training opens a new file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class WandB:
    """Logs the metrics by handoffs to Weights & Biases (extra ``tracking``).

    Args:
      **settings: of ``wandb.init``: ``project``, ``config``, ``mode="offline"``, ...

    Raises:
      ModuleNotFoundError: if wandb is not installed.

    Example:
      >>> import icsmdp_jax as ic
      >>> watch = ic.WandB(project="handoffs", mode="offline")  # begins a run with the first point
      >>> watch.settings["mode"]
      'offline'
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self._wandb = needed("wandb", "wandb", "tracking")
        self._run: Any = None

    def __call__(self, point: Point) -> None:
        """Logs the point."""
        self._run = self._run or self._wandb.init(**self.settings)
        self._run.log({**point.metrics, "updates": point.updates}, step=point.handoffs)

    def close(self) -> None:
        """Finishes the run."""
        if self._run is not None:
            self._run.finish()
            self._run = None


class ProgressBar:
    """A meter on stderr: a bar on a terminal, else a line every ten seconds, with a forecast free of compile time.

    Example:
      >>> import icsmdp_jax as ic
      >>> ic.ProgressBar("IC-Q").name
      'IC-Q'
    """

    def __init__(self, name: str = "training") -> None:
        self.name = name
        self._meter: Any = None
        self._running: Any = None
        self._done = 0

    def __call__(self, point: Point) -> None:
        """Moves the meter to the point; the first one begins it."""
        if self._meter is None:
            work = point.handoffs * point.total // point.updates
            self._task = Task(self.name, lambda _: None, work)  # type: ignore[arg-type,return-value]
            self._meter, self._done = Meter([self._task], None), 0
            self._running = self._meter.running()
            self._running.__enter__()
            self._meter.begin(self._task)
        self._meter.add(point.handoffs - self._done)
        self._done = point.handoffs

    def close(self) -> None:
        """Removes the meter."""
        if self._meter is not None:
            if self._done == self._task.work:
                self._meter.end()
            self._running.__exit__(None, None, None)
            self._meter = None


class EarlyStop:
    """Ends training when a metric has not improved for some points.

    Args:
      metric: ``returns``, which ``train`` simulates if ``episodes`` are given, ``reward`` or ``td_error``.
      patience: points without improvement after which it stops.
      least: smallest change that counts as one.

    Raises:
      ValueError: in one line, for wrong arguments, or at the first point if the metric is not recorded.

    Example:
      >>> import icsmdp_jax as ic
      >>> ic.EarlyStop("returns", patience=3).best
      -inf
    """

    def __init__(self, metric: str = "returns", patience: int = 5, least: float = 0.0) -> None:
        one_of(METRICS, metric=metric)
        whole(1, patience=patience)
        expect("0 or more", least=least)
        self.metric, self.patience, self.least = metric, patience, least
        self.best, self._waited = -math.inf, 0

    def __call__(self, point: Point) -> bool:
        """Whether it is time to stop."""
        found = point.metrics
        if self.metric not in found:
            raise ValueError(f"metric = {self.metric!r}: not recorded, expected episodes > 0 in train")
        value = -found[self.metric] if self.metric == "td_error" else found[self.metric]
        if value > self.best + self.least:
            self.best, self._waited = value, 0
        else:
            self._waited += 1
        return self._waited >= self.patience
