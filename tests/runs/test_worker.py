"""A second process: what it is sent comes back, what it cannot do is said, and it never outlives the first one."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.io import atomic_write
from icsmdp_jax.runs import engine
from icsmdp_jax.runs.tasks import Task
from icsmdp_jax.runs.worker import Unable, Worker
from tests.runs.processes import ROOT, environment, gone

MANIFEST = {"tasks": ["a/0", "a/1", "b/0"]}
LIMIT = 60.0


def counted(number: int, progress: Callable[[int], None]) -> tuple[int, int]:
    for amount in range(number):
        progress(amount)
    print("not an answer")
    return os.getpid(), number


def failing(progress: Callable[[int], None]) -> None:
    raise ZeroDivisionError("of the function")


def unsendable(progress: Callable[[int], None]) -> Any:
    return lambda: None


def dying(progress: Callable[[int], None]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leaving(error: BaseException, progress: Callable[[int], None]) -> None:
    raise error


def large(size: int, progress: Callable[[int], None]) -> bytes:
    return bytes(size)


def options(progress: Callable[[int], None]) -> Any:
    return jax.config.jax_default_matmul_precision, jax.config.jax_debug_nans


def where(progress: Callable[[int], None]) -> str:
    import random

    assert random.random() < 1
    return str(Path(engine.__file__).parents[2])


def write(place: Path, progress: Callable[[int], None]) -> None:
    with atomic_write(place) as stream:
        stream.write(b"half")
        time.sleep(LIMIT)


def compiling(progress: Callable[[int], None]) -> float:
    return float(jax.jit(lambda x: jax.numpy.sin(x) * 3 + 7.125)(0.0))


def endless(progress: Callable[[int], None]) -> None:
    while True:
        progress(1)
        time.sleep(0.01)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.end()


def ignored(amount: int) -> None:
    pass


def test_functions_are_called_there_and_their_progress_is_heard_here(worker):
    heard: list[int] = []
    pid, number = worker.call(partial(counted, 3), heard.append)
    assert (number, heard) == (3, [0, 1, 2]) and pid != os.getpid()
    assert worker.call(partial(counted, 1), heard.append)[0] == pid
    worker.close()
    assert gone(pid)
    with pytest.raises(Unable):
        worker.call(partial(counted, 1), ignored)


class Unreadable:
    """Cannot be unpickled; what comes after it in the pickle, small or large, must not be taken for an answer."""

    def __init__(self, size: int) -> None:
        self.rest = [f"N.{index}" for index in range(size)]

    def __call__(self, progress: Any) -> None:
        raise AssertionError("was read after all")

    def __setstate__(self, state: Any) -> None:
        raise LookupError("unreadable")


def test_what_cannot_be_done_is_said_and_the_next_function_is_called(worker):
    for number, (function, said) in enumerate((
        (failing, "of the function"),
        (partial(leaving, SystemExit("leaves")), "leaves"),
        (partial(leaving, EOFError("of the function")), "of the function"),
        (unsendable, "local object"),
        (lambda progress: None, "lambda"),
        (Unreadable(0), "unreadable"),
        (Unreadable(50_000), "unreadable"),
    )):  # fmt: skip
        with pytest.raises(Unable, match=said):
            worker.call(function, ignored)
        assert worker.call(partial(counted, number), ignored)[1] == number
    for function in (dying, partial(counted, 1)):
        with pytest.raises(Unable):
            worker.call(function, ignored)


def test_large_answers_come_through(worker):
    assert len(worker.call(partial(large, 20_000_000), ignored)) == 20_000_000


def test_it_has_the_options_of_jax_of_the_first_process():
    before = jax.config.values["jax_default_matmul_precision"], jax.config.values["jax_debug_nans"]
    try:
        jax.config.update("jax_default_matmul_precision", "highest")
        jax.config.update("jax_debug_nans", True)
        worker = Worker()
    finally:
        jax.config.update("jax_default_matmul_precision", before[0])
        jax.config.update("jax_debug_nans", before[1])
    try:
        assert worker.call(options, ignored) == ("highest", True)
    finally:
        worker.end()


def test_it_imports_what_the_first_process_imports(tmp_path, monkeypatch, worker):
    """From another folder, with packages of the same names in it, and with an entry that Python itself ignores."""
    (tmp_path / "icsmdp_jax").mkdir()
    (tmp_path / "icsmdp_jax" / "__init__.py").write_text("raise RuntimeError('of the folder')")
    (tmp_path / "random.py").write_text("raise RuntimeError('of the folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*(entry for entry in sys.path if entry), tmp_path])
    other = Worker()
    try:
        assert other.call(where, ignored) == worker.call(where, ignored) == str(ROOT)
    finally:
        other.end()


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_stream_of_the_first_process_does_not_matter(closed):
    code = (
        "import os, sys\n"
        f"os.close({closed})\n"
        "from tests.runs.test_worker import *\n"
        "worker = Worker(); sys.exit(worker.call(partial(counted, 3), ignored)[1] + 40)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), timeout=LIMIT).returncode == 43


def test_a_function_that_is_told_to_stop_ends_the_process():
    worker = Worker()
    pid = worker.call(partial(counted, 1), ignored)[0]

    def progress(amount: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.call(endless, progress)
    assert gone(pid, 0.0)
    with pytest.raises(Unable):
        worker.call(partial(counted, 1), ignored)


def test_it_goes_when_the_first_process_is_killed():
    code = (
        "from tests.runs.test_worker import *\n"
        "worker = Worker(); print(worker.call(partial(counted, 1), print)[0], flush=True)\n"
        "worker.call(endless, ignored)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()  # progress
        second = int(first.stdout.readline())
        first.kill()
    assert gone(second)


def test_what_it_compiles_is_counted_here(worker):
    heard: list[tuple[float, int, int]] = []
    for _ in range(2):
        assert worker.call(compiling, ignored, lambda *found: heard.append(found)) == 7.125
    assert all(seconds > 0 and programs > 0 and loaded <= programs for seconds, programs, loaded in heard)
    assert len(heard) == 2 and worker.call(partial(counted, 0), ignored)[1] == 0


class Where:
    """A task's outcome: a number, and the process that computed it."""

    pids: dict[str, int] = {}

    def __init__(self, name: str, value: float) -> None:
        self.name, self.value, self.pid = name, value, os.getpid()

    def plain(self) -> dict[str, float]:
        self.pids[self.name] = self.pid
        return {"value": self.value}


def root(name: str, number: int, progress: Callable[[int], None]) -> Where:
    progress(10)
    time.sleep(0.3)  # so that no process takes all
    return Where(name, math.sqrt(number))


def here(first: int, progress: Callable[[int], None]) -> Where:
    if os.getpid() != first:
        raise RuntimeError("nothing for a worker")
    return root("b/0", 2, progress)


def tasks() -> list[Task]:
    return [
        Task("a/0", partial(root, "a/0", 0), 10),
        Task("a/1", partial(root, "a/1", 1), 10),
        Task("b/0", partial(here, os.getpid()), 10),
        Task("c/0", lambda progress: root("c/0", 3, progress), 10),
    ]


def test_tasks_in_several_processes_give_the_same_contents(tmp_path):
    alone = engine.run(tmp_path / "alone", tasks(), MANIFEST, show=False).contents
    assert set(Where.pids.values()) == {os.getpid()}
    found = engine.run(tmp_path / "apart", tasks(), MANIFEST, show=False, at_once=3, apart=True)
    assert found.contents == alone == [{"value": math.sqrt(number)} for number in range(4)]
    assert found.worker is not None
    assert Where.pids["b/0"] == Where.pids["c/0"] == os.getpid()  # what a worker cannot do is done here
    with pytest.raises(Unable):  # gone with the run
        found.worker.call(partial(counted, 1), ignored)


def test_a_task_is_computed_by_a_worker(tmp_path):
    made = [Task(f"{letter}/0", partial(root, f"{letter}/0", 5), 10) for letter in "xyz"]
    engine.run(tmp_path, made, {"tasks": ["x/0", "y/0", "z/0"]}, show=False, at_once=2, apart=True)
    assert len({Where.pids[f"{letter}/0"] for letter in "xyz"}) == 2


def test_a_failing_task_fails_here_and_the_worker_goes(tmp_path):
    made = [Task("x/0", partial(root, "x/0", 5), 10), Task("y/0", failing, 10)]
    manifest = {"tasks": ["x/0", "y/0"]}
    with pytest.raises(ZeroDivisionError, match="of the function"):
        engine.run(tmp_path, made, manifest, show=False, at_once=2, apart=True)
    assert {path.name for path in (tmp_path / "parts").iterdir()} <= {"x-0.jsonl"}
    assert Where.pids.get("x/0", os.getpid()) == os.getpid() or gone(Where.pids["x/0"], 0.0)


def test_files_that_a_worker_was_writing_are_cleared_away(tmp_path):
    """As when a run is interrupted while figures are drawn."""
    figures = tmp_path / "figures"

    def finish(done: engine.Finished) -> None:
        figures.mkdir()
        assert done.worker is not None
        writing = pool.submit(done.worker.call, partial(write, figures / "file"), ignored)
        until = time.monotonic() + LIMIT
        while not list(figures.iterdir()) and time.monotonic() < until:
            time.sleep(0.01)
        assert [path.name[:6] for path in figures.iterdir()] == [".file."] and not writing.done()
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        engine.run(tmp_path, tasks()[:1], MANIFEST, show=False, at_once=2, apart=True, finish=finish)
    assert list(figures.iterdir()) == []


@given(
    groups=st.lists(st.integers(1, 4), max_size=5),
    turns=st.lists(st.integers(0, 2), min_size=30, max_size=60),
)
def test_every_task_is_handed_out_once_and_groups_stay_together(groups, turns):
    """Whoever asks in whatever order: all tasks once; a task of another one's group only when no group is left."""
    made = [Task(f"{g}/{i}", failing, 1) for g, count in enumerate(groups) for i in range(count)]
    shares = engine.Shares(made, 3)
    taken: list[tuple[int, str]] = []
    for turn in [*turns, *[0] * len(made)]:
        task = shares.next(turn)
        if task is not None:
            taken.append((turn, task.name))
        else:
            assert len(taken) == len(made)
    assert sorted(name for _, name in taken) == sorted(task.name for task in made)
    begun: set[str] = set()
    owner: dict[str, int] = {}
    for turn, name in taken:
        group = name.partition("/")[0]
        if group in owner and owner[group] != turn:
            assert len(begun) == len(groups), "taken from another share while there were whole groups"
        owner.setdefault(group, turn)
        begun.add(group)
    assert shares.next(1) is None
