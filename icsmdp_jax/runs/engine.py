"""The loop over the tasks of a run: resuming, sharing parts among hosts, progress, and a clean end whatever happens.

With several hosts, tasks that simulate are computed by all devices together, in the same order everywhere, and one
host writes the part; tasks that only compute on the host are divided. Among hosts there is no scheduler: the list of
tasks determines who writes what, and hosts wait for each other at the beginning, at the end, and inside shared
programs. On one host, tasks at once are shared out as they go.
"""

from __future__ import annotations

import errno
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from icsmdp_jax.devices.hosts import Hosts, this_run
from icsmdp_jax.runs.directory import RunDirectory, follow_directory, open_directory, resuming
from icsmdp_jax.runs.meter import Meter
from icsmdp_jax.runs.tasks import Task
from icsmdp_jax.runs.worker import Unable, Worker


class Finished(NamedTuple):
    """A finished run.

    Attributes:
      contents: plain content of every task, in order.
      seconds: wall time of this process.
      primary: whether this process is the one that writes what belongs to all.
      worker: a second process that has nothing to do any more, if there is one.
    """

    contents: list[Any]
    seconds: float
    primary: bool
    worker: Worker | None = None


def owners(tasks: list[Task], count: int) -> dict[str, int]:
    """Which process writes the part of each task: joint ones in turn, the others by their work, largest first."""
    owner = {task.name: index % count for index, task in enumerate(task for task in tasks if task.joint)}
    load = [0] * count
    for task in sorted((task for task in tasks if not task.joint), key=lambda task: -task.work):
        least = load.index(min(load))
        owner[task.name] = least
        load[least] += max(task.work, 1)
    return owner


def run(
    out: Path,
    tasks: list[Task],
    manifest: dict[str, Any],
    resume: bool = False,
    overwrite: bool = False,
    hosts: Hosts | None = None,
    show: bool = True,
    complete: Callable[[str], bool] = lambda name: True,
    finish: Callable[[Finished], None] = lambda done: None,
    at_once: int = 1,
    ending: float = 0.0,
    apart: bool = False,
) -> Finished:
    """Computes every task that has no part yet, and reads all parts back.

    Args:
      out: run directory; with several hosts one that all of them see.
      tasks: what to compute, names distinct, the same list on every host.
      manifest: plain data that decides about every number of the run.
      resume: keep what is finished in ``out``.
      overwrite: start over whatever is in ``out``; with ``resume``, only if it is another run.
      hosts: the processes of this run; those that JAX knows of by default.
      show: whether to show progress on stderr.
      complete: whether what a finished task has left outside its part is still there; if not, it is computed again.
      finish: writes what belongs to all tasks, on the primary process; the run counts as running until it is done.
      at_once: tasks at once on a single host, so that one compiles while another one runs; all have to fit into memory.
      ending: how long ``finish`` takes, in the unit of ``Task.seconds``.
      apart: whether each of the tasks at once has a process of its own, this one or a worker; what cannot be pickled
        is computed here.

    Returns:
      The contents, the same bits however often the run was interrupted.

    Raises:
      ValueError: in one line, if the directory or a part in it is refused.
      OSError: if a part cannot be written.
    """
    hosts = this_run() if hosts is None else hosts
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"tasks: {twice} appears twice, expected distinct names")
    began = time.perf_counter()
    place = _open(out, manifest, resume, overwrite, hosts)
    try:
        found = _checked(place, tasks, hosts)
    except BaseException:
        place.close(untouched=True)
        raise
    at_once = at_once if hosts.count == 1 else 1
    workers: list[Worker] = []
    try:
        with suppress(OSError):  # without them, tasks at once are threads
            workers += (Worker() for _ in range(at_once - 1 if apart else 0))
        contents = {name: content for name, content in found.items() if complete(name)}
        if hosts.primary:
            place.unfinished()
        meter = Meter(tasks, out, hosts.index, show and hosts.primary, ending=ending)
        with meter.running():
            _compute(place, tasks, contents, meter, hosts, at_once, workers)
            for worker in workers[1:]:
                worker.close()
            hosts.wait("all parts are written")
            if hosts.count > 1:
                contents = {name: place.read(name) for name in names}
            done = Finished(
                [contents[name] for name in names],
                time.perf_counter() - began,
                hosts.primary,
                next(iter(workers), None),
            )
            if hosts.primary:
                finish(done)
        return done
    except KeyboardInterrupt:
        if hosts.primary:
            print(f"{out}: finished parts are kept; {resuming(manifest)}", file=sys.stderr)
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno, f"no space left for {out}; finished parts are kept; {resuming(manifest)}"
            ) from error
        raise
    finally:
        for worker in workers:
            worker.end()
        if workers:
            with suppress(OSError):
                place.tidy()  # what a worker was writing
        place.close()


def _open(out: Path, manifest: dict[str, Any], resume: bool, overwrite: bool, hosts: Hosts) -> RunDirectory:
    """Opens the directory on the primary process first; the others follow."""
    place: RunDirectory | None = None
    error: Exception | None = None
    if hosts.primary:
        try:
            place = open_directory(out, manifest, resume, overwrite)
        except (ValueError, OSError) as caught:
            error = caught
    hosts.together(error, f"--out {out}")
    if not hosts.primary:
        try:
            place = follow_directory(out, manifest, hosts.index)
        except (ValueError, OSError) as caught:
            error = caught
    hosts.together(error, f"--out {out}")
    assert place is not None
    return place


def _checked(place: RunDirectory, tasks: list[Task], hosts: Hosts) -> dict[str, Any]:
    """Contents of the parts that are there, checked before anything is computed."""
    contents: dict[str, Any] = {}
    error: Exception | None = None
    try:
        contents = place.finished([task.name for task in tasks])
        if hosts.primary:
            place.tidy()  # the others wait below
    except (ValueError, OSError) as caught:
        error = caught
    hosts.together(error, f"--out {place.path}")
    return contents


def _compute(
    place: RunDirectory,
    tasks: list[Task],
    contents: dict[str, Any],
    meter: Meter,
    hosts: Hosts,
    at_once: int,
    workers: Sequence[Worker],
) -> None:
    """Computes what has no part: joint tasks first where there are several hosts, so that none waits for long."""
    order = tasks if hosts.count == 1 else sorted(tasks, key=lambda task: not task.joint)
    owner = owners(tasks, hosts.count)
    for task in order:
        if task.name in contents:
            meter.kept(task)
    missing = [task for task in order if task.name not in contents]
    missing = [task for task in missing if task.joint or owner[task.name] == hosts.index]
    given_up, writing = threading.Event(), threading.Lock()

    def progress(amount: int) -> None:
        if given_up.is_set():
            raise _GivenUp
        meter.add(amount)

    def outcome(task: Task, worker: Worker | None) -> dict[str, Any]:
        if worker is not None:
            try:
                return worker.call(task.run, progress, meter.compiled).plain()
            except Unable:
                progress(0)
        return task.run(progress).plain()

    def compute(task: Task, worker: Worker | None) -> None:
        try:
            meter.begin(task)
            found = outcome(task, worker)
            if owner[task.name] == hosts.index:
                with writing:
                    contents[task.name] = place.write(task.name, found)
            meter.end()
        except _GivenUp:
            pass
        except BaseException:
            given_up.set()
            raise

    if at_once == 1:
        for task in missing:
            compute(task, None)
        return
    shares = Shares(missing, at_once)

    def compute_share(index: int) -> None:
        worker = workers[index - 1] if 0 < index <= len(workers) else None
        while not given_up.is_set() and (task := shares.next(index)) is not None:
            compute(task, worker)

    pool = ThreadPoolExecutor(at_once)
    try:
        for done in as_completed([pool.submit(compute_share, index) for index in range(at_once)]):
            done.result()
    except BaseException:  # Ctrl-C: tasks here stop at their next report of progress, waiting ones do not start
        given_up.set()
        for worker in workers:
            worker.end()
        raise
    finally:
        pool.shutdown()


class Shares:
    """Who computes which of some tasks, decided as they go.

    Tasks with the same name up to the first slash go together, since they share programs and models; who has none left
    takes the last task of whoever has most.
    """

    def __init__(self, tasks: Sequence[Task], count: int) -> None:
        groups: dict[str, list[Task]] = {}
        for task in tasks:
            groups.setdefault(task.name.partition("/")[0], []).append(task)
        self._groups = list(groups.values())
        self._shares: list[list[Task]] = [[] for _ in range(count)]
        self._lock = threading.Lock()

    def next(self, index: int) -> Task | None:
        """The next task of that share; None if there are none left."""
        with self._lock:
            own = self._shares[index]
            if not own and self._groups:
                own += self._groups.pop(0)
            if own:
                return own.pop(0)
            longest = max(self._shares, key=lambda share: (sum(task.seconds for task in share), len(share)))
            return longest.pop() if longest else None


class _GivenUp(BaseException):
    """Ends a task because another one failed or the run was interrupted."""
