"""The loop over tasks: a full disk, an interruption, several hosts without any host, and progress seen from outside."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.devices.hosts import Hosts
from icsmdp_jax.runs import engine, meter, status
from icsmdp_jax.runs.directory import RunDirectory, first_difference
from icsmdp_jax.runs.tasks import Task
from tests.bound_validation.runs import icsmdp, interrupt, leftovers, refused
from tests.runs.processes import ROOT, environment

MANIFEST = {"tasks": ["a/0", "a/1", "a/2"], "seed": 7}


class Number:
    """A task's outcome."""

    def __init__(self, value: float) -> None:
        self.value = value

    def plain(self) -> dict[str, float]:
        return {"value": self.value}


def tasks(effect=lambda index: None) -> list[Task]:
    """Three tasks of ten handoffs and two cells each; the last one only computes on the host."""

    def make(index: int) -> Task:
        def run(progress):
            progress(4)
            effect(index)
            progress(6)
            return Number(0.1 * index)

        return Task(f"a/{index}", run, 10, cells=2, joint=index < 2)

    return [make(index) for index in range(3)]


def contents(place: Path, effect=lambda index: None, **how) -> list[dict]:
    return engine.run(place, tasks(effect), MANIFEST, show=False, **how).contents


def test_contents_come_in_order_and_through_json(tmp_path):
    assert contents(tmp_path) == [{"value": 0.0}, {"value": 0.1}, {"value": 0.2}]
    assert contents(tmp_path, lambda index: 1 / 0, resume=True) == [{"value": 0.0}, {"value": 0.1}, {"value": 0.2}]


def test_names_are_distinct(tmp_path):
    with pytest.raises(ValueError, match="a/0 appears twice"):
        engine.run(tmp_path, [*tasks(), tasks()[0]], MANIFEST)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), max_size=12), st.integers(1, 5))
def test_every_task_has_one_owner_and_host_work_is_spread(kinds, count):
    listed = [Task(f"t{i}", lambda progress: Number(0), work, joint=joint) for i, (work, joint) in enumerate(kinds)]
    owner = engine.owners(listed, count)
    assert set(owner) == {task.name for task in listed} and set(owner.values()) <= set(range(count))
    alone = [task for task in listed if not task.joint]
    load = [sum(max(task.work, 1) for task in alone if owner[task.name] == host) for host in range(count)]
    assert max(load) - min(load) <= max((max(task.work, 1) for task in alone), default=0)
    together = [owner[task.name] for task in listed if task.joint]
    assert together == [index % count for index in range(len(together))]


def test_a_full_disk_ends_cleanly(tmp_path):
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        if os.readlink(f"/proc/self/fd/{handle}").rpartition("/")[2].startswith(".a-1.jsonl"):
            calls.append(handle)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with mock.patch("os.fsync", full), pytest.raises(OSError, match="no space left .* resume with --resume") as raised:
        contents(tmp_path)
    assert raised.value.errno == errno.ENOSPC and len(calls) == 1
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["a-0.jsonl"] and leftovers(tmp_path) == []
    assert meter.read_reports(tmp_path)[0].state == "failed"
    ran: list[int] = []
    assert contents(tmp_path, ran.append, resume=True) == [{"value": 0.0}, {"value": 0.1}, {"value": 0.2}]
    assert ran == [1, 2]


def test_every_flipped_bit_is_noticed(tmp_path):
    """A single-bit fault in every byte of a part file, one after the other; and every truncation."""
    place = RunDirectory(tmp_path, MANIFEST)
    place.parts.mkdir()
    wanted = place.write("a/0", {"value": 0.125, "text": "\u00e9", "none": None})
    path = place.part("a/0")
    whole = path.read_bytes()
    assert place.read("a/0") == wanted
    for index in range(len(whole)):
        for bit in (index % 8, 7 - index % 8):
            path.write_bytes(whole[:index] + bytes([whole[index] ^ 1 << bit]) + whole[index + 1 :])
            with pytest.raises(ValueError, match=r"a-0\.jsonl: (damaged|foreign) part file"):
                place.read("a/0")
        path.write_bytes(whole[:index])
        with pytest.raises(ValueError, match=r"a-0\.jsonl: damaged part file"):
            place.read("a/0")


def test_differences_are_named():
    old = {"a": {"b": [1, 2, {"c": 1.5}]}, "d": None}
    assert first_difference(old, json.loads(json.dumps(old))) is None
    assert first_difference(old, {**old, "a": {"b": [1, 2, {"c": 2.5}]}}) == "a.b[2].c was 1.5, but is 2.5 now"
    assert first_difference(old, {"a": old["a"]}) == "d was set, but is not now"
    assert first_difference(old, {**old, "e": 1}) == "e is set now, but was not"
    assert first_difference({"a": 1}, {"a": True}) == "a was 1, but is True now"
    assert first_difference({"a": [1]}, {"a": [1, 2]}) == "a was [1], but is [1, 2] now"


def test_status_from_inside_and_after(tmp_path):
    seen: list[dict] = []

    def look(index: int) -> None:
        time.sleep(0.01)
        if index == 1:
            now.save()
            seen.append(status.status(tmp_path))

    now = mock.Mock()
    real = meter.Meter.running

    def watched(self):
        now.save = self._save
        return real(self)

    with mock.patch.object(meter.Meter, "running", watched):
        contents(tmp_path, look)
    (found,) = seen
    (process,) = found["processes"]
    assert (found["state"], found["tasks"], found["tasks_done"], found["written"]) == ("running", 3, 1, False)
    assert (process["cells_done"], process["cells"], process["work_done"], process["work"]) == (2, 6, 14, 30)
    assert process["task"] == "a/1" and process["handoffs"] == 14 and process["seconds_left"] > 0
    after = status.status(tmp_path)
    assert (after["state"], after["written"], after["tasks_done"]) == ("gone", False, 3)  # nobody has written a table
    for name in ("results.parquet", "summary.json"):
        assert status.status(tmp_path)["state"] == "gone"
        (tmp_path / name).write_text("")
    after = status.status(tmp_path)
    assert (after["state"], after["written"], after["tasks_done"]) == ("finished", True, 3)
    assert after["processes"][0]["handoffs"] == 20  # what the host computes by itself simulates nothing
    outcome = icsmdp("status", tmp_path)
    assert outcome.code == 0 and "finished, 3 of 3 tasks written" in outcome.out and "6 of 6 cells" in outcome.out
    assert json.loads(icsmdp("status", tmp_path, "--json").out)["state"] == "finished"


def test_status_of_what_is_no_run(tmp_path):
    refused(icsmdp("status", tmp_path), str(tmp_path), "contains no manifest.json")
    refused(icsmdp("status", tmp_path / "missing"), "contains no manifest.json")
    (tmp_path / "manifest.json").write_text("{")
    refused(icsmdp("status", tmp_path), "not a readable manifest")


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have it ignored
from pathlib import Path
from tests.runs.test_engine import contents
contents(Path(sys.argv[1]), lambda index: index == 1 and (print("ready", flush=True), time.sleep(60)))
"""


def test_an_interrupt_ends_it_and_status_knows(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        contents(tmp_path, lambda index: index == 1 and interrupt())
    found = status.status(tmp_path)
    assert (found["state"], found["tasks_done"]) == ("interrupted", 1) and "--resume" in status.readable(found)
    assert contents(tmp_path, resume=True) == [{"value": 0.0}, {"value": 0.1}, {"value": 0.2}]


INTERRUPT = pytest.param(signal.SIGINT, "interrupted", marks=pytest.mark.slow)


@pytest.mark.parametrize(("number", "state"), [INTERRUPT, (signal.SIGKILL, "gone")])
def test_a_signal_ends_it_and_status_knows(tmp_path, number, state):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, tmp_path], cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    assert status.status(tmp_path)["state"] == "running"
    process.send_signal(number)
    process.communicate(timeout=60)
    found = status.status(tmp_path)
    assert (found["state"], found["tasks_done"]) == (state, 1) and "--resume" in status.readable(found)
    assert contents(tmp_path, resume=True) == [{"value": 0.0}, {"value": 0.1}, {"value": 0.2}]


def test_a_silent_process_elsewhere_is_gone():
    report = meter.Report(
        "running", "a", 0, 1, 0, 1, 0, 1, 0, None, 0.0, 0, 0, 1.0, None, "some other machine", 1, 0, 0.0
    )
    assert status.seen_state(report, 1.0) == "running"
    assert status.seen_state(report, status.SILENT + 1) == "gone"
    assert status.seen_state(report._replace(state="finished"), 1e9) == "finished"


def test_one_process_agrees_with_itself():
    alone = Hosts()
    assert alone.anywhere([True, False]) == [True, False] and alone.primary
    alone.wait("for nobody")
    with pytest.raises(OSError, match="mine"):
        alone.together(OSError("mine"), "what")


def test_sentences_for_people():
    assert [meter.duration(s) for s in (0.4, 59.4, 61, 3599, 7265)] == [
        "0 s", "59 s", "1 min 01 s", "59 min 59 s", "2 h 01 min",
    ]  # fmt: skip
    assert [meter.scaled(v) for v in (12, 1234, 5.5e6, 7e9)] == ["12", "1.23 k", "5.5 M", "7 G"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--coordinator", "localhost:1"], "--num-processes: is missing, expected together with --coordinator"),
        (["--num-processes", "2", "--process-id", "0"], "--coordinator: is missing"),
        (
            ["--coordinator", "localhost:1", "--num-processes", "0", "--process-id", "0"],
            "--num-processes 0: expected 1",
        ),
        (["--coordinator", "localhost:1", "--num-processes", "2", "--process-id", "2"], "--process-id 2: expected"),
        (["--distributed", "--process-id", "0"], "--distributed: finds the other hosts by itself"),
    ],
)
def test_options_of_several_hosts_are_checked(tmp_path, options, said):
    refused(icsmdp("validate", "--preset", "testing", "--out", tmp_path, *options), said)
    assert list(tmp_path.iterdir()) == []


def test_two_tasks_at_once_give_the_same_and_one_that_fails_ends_the_other(tmp_path):
    """The first two wait for each other, which none could that ran alone; then one fails while the other works."""
    both = threading.Barrier(2, timeout=60)
    found = contents(tmp_path / "a", lambda index: index < 2 and both.wait(), at_once=2)
    assert found == [{"value": 0.0}, {"value": 0.1}, {"value": 0.2}]
    report = meter.read_reports(tmp_path / "a")[0]
    assert (report.state, report.tasks_done, report.work_done, report.handoffs) == ("finished", 3, 30, 20)
    failed, begun = threading.Event(), []

    def effect(index: int) -> None:
        begun.append(index)
        both.wait()
        if index == 0:
            failed.set()
            raise ZeroDivisionError
        failed.wait()
        time.sleep(0.2)  # the engine has heard of it by now

    with pytest.raises(ZeroDivisionError):
        contents(tmp_path / "b", effect, at_once=2)
    assert sorted(begun) == [0, 2] and leftovers(tmp_path / "b") == []
    assert list((tmp_path / "b" / "parts").iterdir()) == []  # nothing of the task that was told to stop
    assert contents(tmp_path / "b", resume=True) == found
