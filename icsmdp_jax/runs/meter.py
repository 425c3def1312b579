"""How far a run is: counted by the task loop, shown on the terminal, and kept in a file for ``icsmdp status``.

Work is counted in handoffs; tasks that only compute on the host count for as many as take about as long. Compile time
is what JAX itself reports, and is taken off before anything is divided by time.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from icsmdp_jax.io import write_json
from icsmdp_jax.runs.compile_clock import CompileClock
from icsmdp_jax.runs.directory import PROGRESS
from icsmdp_jax.runs.tasks import Task

BEAT = 2.0  # seconds between two renewals of the file
LINE = 10.0  # seconds between two lines where there is no terminal
ENOUGH = 0.1  # share of this process's work from which on a forecast is made at once,
STEADY, LITTLE = 30.0, 0.01  # or seconds of measuring, compile time taken off, and the least share of the work
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"  # without the bar's own, hasty forecast
RUNNING, FINISHED, INTERRUPTED, FAILED = "running", "finished", "interrupted", "failed"


class Report(NamedTuple):
    """How far one process is, according to its progress file.

    Attributes:
      state: running, finished, interrupted or failed.
      task: what is being computed, or was last; with several tasks at once the one that began first.
      tasks_done: tasks with a part file.
      tasks: all tasks of the run.
      cells_done: cells in finished tasks.
      cells: all cells.
      work_done: work done, finished parts of earlier processes included.
      work: all work.
      handoffs: handoffs simulated by this process.
      handoffs_per_second: while simulating, compile time taken off; None before the first ones.
      compile_s: seconds of compilation in this process.
      programs_compiled: programs that it compiled.
      programs_loaded: programs that it found in the persistent compilation cache.
      elapsed_s: seconds since this process began.
      seconds_left: forecast for what is left; None until enough was measured, see ``Meter.report``.
      host: name of the machine.
      pid: number of the process.
      process: number of the process among those of the run.
      updated: time of the last renewal, in seconds since 1970.
    """

    state: str
    task: str
    tasks_done: int
    tasks: int
    cells_done: int
    cells: int
    work_done: int
    work: int
    handoffs: int
    handoffs_per_second: float | None
    compile_s: float
    programs_compiled: int
    programs_loaded: int
    elapsed_s: float
    seconds_left: float | None
    host: str
    pid: int
    process: int
    updated: float


TEXTS, FLOATS = ("state", "task", "host"), ("compile_s", "elapsed_s", "updated")
OPTIONAL = ("handoffs_per_second", "seconds_left")


class Meter:
    """Counts what a run has done and tells about it.

    Args:
      tasks: all tasks of the run.
      folder: run directory, or None to keep no file.
      process: number of this process.
      show: whether to write to stderr.
      clock: seconds since some moment.
      ending: seconds that what follows the last task takes, in the unit of ``Task.seconds``.
    """

    def __init__(
        self,
        tasks: list[Task],
        folder: Path | None,
        process: int = 0,
        show: bool = True,
        clock: Callable[[], float] = time.perf_counter,
        ending: float = 0.0,
    ) -> None:
        self._all = tasks
        self._now = clock
        self._compiled: list[float] = []  # seconds of compilation of each task that was computed here
        self._folder, self._process, self._show = folder, process, show
        self._ending = ending
        self._done: set[str] = set()
        self._seconds = 0.0  # of what was computed here, as the tasks have it
        self._kept = 0  # work that was there already
        self._work = 0
        self._handoffs = 0
        self._simulating = 0.0
        self._running: dict[str, _Running] = {}  # by name, in the order in which they began
        self._mine = threading.local()  # the task of each thread
        self._began = clock()
        self._last_task = self._began
        self._clock = CompileClock()
        self._state = RUNNING
        self._line = self._began
        self._bar: Any = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    @contextmanager
    def running(self) -> Iterator[Meter]:
        """Renews the file and the display until the block ends, and says how it ended."""
        interactive = self._show and sys.stderr.isatty()
        if interactive:
            from tqdm import tqdm

            self._bar = tqdm(
                total=sum(task.work for task in self._all), unit=" handoffs", unit_scale=True, file=sys.stderr,
                delay=2, mininterval=0.2, smoothing=0.05, dynamic_ncols=True, bar_format=BAR,
            )  # fmt: skip
        beat = threading.Thread(target=self._beat, daemon=True)
        self._save()
        beat.start()
        try:
            yield self
            self._state = FINISHED
        except KeyboardInterrupt:
            self._state = INTERRUPTED
            raise
        except BaseException:
            self._state = FAILED
            raise
        finally:
            self._stopping.set()
            beat.join()
            self._clock.stop()
            if self._bar is not None:
                self._bar.close()
            self._save()

    def kept(self, task: Task) -> None:
        """Counts a task whose part was there already."""
        with self._lock:
            self._done.add(task.name)
            self._kept += task.work
            self._work += task.work
        self._move(task.work)

    def begin(self, task: Task) -> None:
        """Begins the next task of this thread."""
        with self._lock:
            self._mine.name = task.name
            self._running[task.name] = _Running(task, self._now(), self._clock.seconds)
        if self._bar is not None:
            self._bar.set_description(task.name, refresh=False)

    def add(self, amount: int) -> None:
        """Counts work within the current task of this thread."""
        with self._lock:
            current = self._running.get(getattr(self._mine, "name", ""))
            if current is None:
                return
            amount = min(amount, current.task.work - current.inside)
            current.inside += amount
            self._work += amount
        self._move(amount)

    def compiled(self, seconds: float, programs: int, loaded: int) -> None:
        """Counts what the compiler did in another process, for a task of this one."""
        with self._lock:
            self._clock.add(seconds, programs, loaded)

    def end(self) -> None:
        """Counts the current task of this thread as finished, its part written."""
        current = self._running.get(getattr(self._mine, "name", ""))
        if current is None:
            return
        task = current.task
        self.add(task.work - current.inside)
        with self._lock:
            self._done.add(task.name)
            self._seconds += task.seconds
            self._last_task = self._now()
            self._compiled.append(self._clock.seconds - current.compiled)
            if _simulates(task):
                self._handoffs += task.work
                self._simulating += self._since(current, self._last_task)
            del self._running[task.name]

    def report(self) -> Report:
        """How far the run is now.

        The forecast is the work that is left at the speed measured so far, compile time taken off, and for each task
        to come the compile time of the median task. Where all tasks say how long they take relative to each other, it
        uses that instead. It says nothing before a tenth of the work is done, or a hundredth of it and half a minute
        was measured.
        """
        now = self._now()
        with self._lock:
            running, handoffs, simulating = list(self._running.values()), self._handoffs, self._simulating
            for one in running:
                if _simulates(one.task):
                    handoffs += one.inside
                    simulating += self._since(one, now)
            total = sum(task.work for task in self._all)
            spent = now - self._began
            left = self._left(total, spent) if self._state == RUNNING else None
            return Report(
                state=self._state,
                task=running[0].task.name if running else "",
                tasks_done=len(self._done),
                tasks=len(self._all),
                cells_done=sum(task.cells for task in self._all if task.name in self._done),
                cells=sum(task.cells for task in self._all),
                work_done=self._work,
                work=total,
                handoffs=handoffs,
                handoffs_per_second=handoffs / simulating if handoffs and simulating > 0 else None,
                compile_s=self._clock.seconds,
                programs_compiled=self._clock.programs - self._clock.loaded,
                programs_loaded=self._clock.loaded,
                elapsed_s=spent,
                seconds_left=left,
                host=socket.gethostname(),
                pid=os.getpid(),
                process=self._process,
                updated=time.time(),
            )

    def _left(self, total: int, spent: float) -> float | None:
        seconds = [task.seconds for task in self._all]
        if seconds and min(seconds) > 0:
            left = self._left_by_seconds(spent)
            return left if left is not None and left > 0 else None
        done, measured = self._work - self._kept, max(spent - self._clock.seconds, 0.0)
        share = done / max(total - self._kept, 1)
        if self._work >= total or not (share >= ENOUGH or (measured >= STEADY and share >= LITTLE)):
            return None
        to_come = len(self._all) - len(self._done) - len(self._running)
        compiling = statistics.median(self._compiled) if self._compiled else 0.0
        return (total - self._work) * measured / done + to_come * compiling

    def _left_by_seconds(self, spent: float) -> float | None:
        open_ = [task for task in self._all if task.name not in self._done]
        inside = sum(one.task.seconds * one.inside / max(one.task.work, 1) for one in self._running.values())
        done, left = self._seconds + inside, sum(task.seconds for task in open_) - inside + self._ending
        if not open_:  # only what follows is left
            speed = (self._last_task - self._began) / self._seconds if self._seconds else 1.0
            return self._ending * speed - (self._now() - self._last_task)
        return left * spent / done if done >= ENOUGH * (done + left) else None

    def _since(self, task: _Running, now: float) -> float:
        return max(now - task.began - (self._clock.seconds - task.compiled), 0.0)

    def _move(self, amount: int) -> None:
        if self._bar is not None:
            report = self.report()
            left = "" if report.seconds_left is None else f", about {duration(report.seconds_left)} left"
            cells = f"cells {report.cells_done}/{report.cells}, " if report.cells > 1 else ""
            self._bar.set_postfix_str(f"{cells}compiling {report.compile_s:.0f} s{left}", refresh=False)
            self._bar.update(amount)

    def _beat(self) -> None:
        while not self._stopping.wait(BEAT):
            self._save()
            if self._show and self._bar is None and self._now() - self._line >= LINE:
                self._line = self._now()
                try:
                    print(sentence(self.report()), file=sys.stderr, flush=True)
                except OSError:  # stderr is closed; the file is still renewed
                    self._show = False

    def _save(self) -> None:
        if self._folder is None:
            return
        place = self._folder / PROGRESS
        try:
            place.mkdir(exist_ok=True)
            write_json(place / f"process-{self._process}.json", self.report()._asdict())
        except (OSError, ValueError):
            pass  # a full disk stops the run where it loses something, not here


@dataclasses.dataclass
class _Running:
    """A task that is being computed: when it began, what was compiled by then, and its work so far."""

    task: Task
    began: float
    compiled: float
    inside: int = 0


def _simulates(task: Task) -> bool:
    return task.joint and task.simulates


def read_reports(folder: Path) -> list[Report]:
    """Progress files of a run directory, by number of the process; those that cannot be read are left out."""
    found = []
    for path in (folder / PROGRESS).glob("process-*.json"):
        try:
            report = Report(**json.loads(path.read_text(encoding="utf-8")))
            if all(_fits(name, value) for name, value in report._asdict().items()):
                found.append(report)
        except (ValueError, TypeError, OSError, RecursionError):
            continue
    return sorted(found, key=lambda report: report.process)


def _fits(name: str, value: Any) -> bool:
    """Whether a value from a file is what a report has under this name."""
    if name in TEXTS:
        return isinstance(value, str)
    if value is None:
        return name in OPTIONAL
    whole = isinstance(value, int) and abs(value) < 2**63
    return whole or (name in (*FLOATS, *OPTIONAL) and isinstance(value, float) and math.isfinite(value))


def sentence(report: Report) -> str:
    """One line for people."""
    parts = [f"{report.cells_done} of {report.cells} cells"] if report.cells > 1 else []
    parts.append(f"{100 * report.work_done / max(report.work, 1):.0f} % of the work")
    if report.handoffs_per_second is not None:
        parts.append(f"{scaled(report.handoffs_per_second)} handoffs/s")
    parts.append(f"{duration(report.elapsed_s)} so far, {duration(report.compile_s)} of it compiling")
    if report.seconds_left is not None:
        parts.append(f"about {duration(report.seconds_left)} left")
    if report.task:
        parts.append(f"now {report.task}")
    return ", ".join(parts)


def scaled(value: float) -> str:
    """A count with k, M or G."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    whole = int(round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"
