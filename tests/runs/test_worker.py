"""A second process: what it is sent comes back, what it cannot do is said, and it never outlives the first one."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.runs import engine
from icsmdp_jax.runs.tasks import Task
from icsmdp_jax.runs.worker import Unable, Worker
from tests.runs.processes import ROOT, environment

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


def options(progress: Callable[[int], None]) -> Any:
    return jax.config.jax_default_matmul_precision, str(jax.numpy.zeros(1).dtype)


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


def test_functions_are_called_there_and_their_progress_is_heard_here(worker):
    heard: list[int] = []
    pid, number = worker.call(partial(counted, 3), heard.append)
    assert (number, heard) == (3, [0, 1, 2]) and pid != os.getpid()
    assert worker.call(partial(counted, 1), heard.append)[0] == pid


def test_what_cannot_be_done_is_said_and_the_next_function_is_called(worker):
    for function, said in (
        (failing, "of the function"),
        (unsendable, "local object"),
        (lambda progress: None, "lambda"),
    ):
        with pytest.raises(Unable, match=said):
            worker.call(function, lambda amount: None)
        assert worker.call(partial(counted, 1), lambda amount: None)[1] == 1
    for function in (dying, partial(counted, 1)):
        with pytest.raises(Unable):
            worker.call(function, lambda amount: None)


def test_it_has_the_options_of_jax_of_the_first_process():
    with jax.default_matmul_precision("highest"):
        worker = Worker()
    try:
        assert worker.call(options, lambda amount: None) == ("highest", "float32")
    finally:
        worker.end()


def test_what_it_compiles_is_counted_here(worker):
    heard: list[tuple[float, int, int]] = []
    for _ in range(2):
        assert worker.call(compiling, lambda amount: None, lambda *found: heard.append(found)) == 7.125
    assert all(seconds > 0 and programs > 0 and loaded <= programs for seconds, programs, loaded in heard)
    assert len(heard) == 2 and worker.call(partial(counted, 0), lambda amount: None)[1] == 0


def test_a_function_that_is_told_to_stop_ends_the_process(worker):
    def progress(amount: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.call(endless, progress)
    with pytest.raises(Unable):
        worker.call(partial(counted, 1), lambda amount: None)


def test_it_goes_when_the_first_process_is_killed():
    code = (
        "from tests.runs.test_worker import *\n"
        "worker = Worker(); print(worker.call(partial(counted, 1), print)[0], flush=True)\n"
        "worker.call(endless, lambda amount: None)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()  # progress
        second = int(first.stdout.readline())
        first.kill()
    until = time.monotonic() + LIMIT
    while _runs(second) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(second)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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
        found.worker.call(partial(counted, 1), lambda amount: None)


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
