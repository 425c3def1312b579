"""``icsmdp status``: finished is what has its table and its summary, and nothing else."""

from __future__ import annotations

import json
import math
import os
import socket
from pathlib import Path
from unittest import mock

import pytest

from icsmdp_jax.runs import engine, status
from icsmdp_jax.runs.meter import Report
from icsmdp_jax.runs.tasks import Task
from tests.bound_validation.runs import cheap_tasks, icsmdp, running

MANIFEST = {"tasks": ["a/0"]}


class Nothing:
    """A task's outcome."""

    def plain(self) -> dict[str, int]:
        return {"value": 1}


def run(place: Path, finish=lambda done: None) -> None:
    engine.run(place, [Task("a/0", lambda progress: Nothing(), 10)], MANIFEST, show=False, finish=finish)


@pytest.mark.parametrize(
    "change", [{"updated": "x"}, {"pid": 1e300}, {"work": None}, {"elapsed_s": math.nan}, {"state": []}]
)
def test_a_progress_file_that_is_none_is_left_out(tmp_path, change):
    run(tmp_path)
    place = tmp_path / "progress" / "process-0.json"
    report = json.loads(place.read_text())
    place.write_text(json.dumps({**report, **change}))
    for content in (place.read_text(), "[" * 100_000, "[]"):
        place.write_text(content)
        outcome = icsmdp("status", tmp_path, "--json")
        assert outcome.code == 0 and json.loads(outcome.out)["processes"] == []


def test_while_the_table_is_written_the_run_is_running(tmp_path):
    """All parts are there, the progress is renewed, and nobody else may enter the directory."""
    seen: list[dict] = []

    def finish(done: engine.Finished) -> None:
        assert done.contents == [{"value": 1}]
        seen.append(status.status(tmp_path))
        with pytest.raises(ValueError, match="another process is already running there"):
            run(tmp_path)

    run(tmp_path, finish)
    assert (seen[0]["state"], seen[0]["tasks_done"], seen[0]["written"]) == ("running", 1, False)


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")])
def test_a_table_that_was_not_written_is_not_finished(tmp_path, error, state):
    def finish(done: engine.Finished) -> None:
        (tmp_path / "results.parquet").write_text("")
        raise error("while the figures are drawn")

    with pytest.raises(error):
        run(tmp_path, finish)
    found = status.status(tmp_path)
    assert (found["state"], found["tasks_done"], found["written"]) == (state, 1, False)
    assert "resume with --resume" in icsmdp("status", tmp_path).out


def test_after_validate(tmp_path):
    """Table and summary have to be there, both of them; the parts alone make no finished run."""
    with running(cheap_tasks(2, [])):
        assert icsmdp("validate", "--preset", "testing", "--out", tmp_path).code == 0
    assert icsmdp("status", tmp_path).out.startswith(f"{tmp_path}: finished, 2 of 2 tasks written\n")
    for name in ("results.parquet", "summary.json"):
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        found = json.loads(icsmdp("status", tmp_path, "--json").out)
        assert (found["state"], found["written"], found["tasks_done"]) == ("gone", False, 2)
        assert "resume with --resume" in icsmdp("status", tmp_path).out
        (tmp_path / name).write_bytes(kept)
    assert status.status(tmp_path)["state"] == "finished"


def test_all_experiments_have_a_report_in_the_place_of_a_table(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"experiments": True, "tasks": []}))
    (tmp_path / "summary.json").write_text("{}")
    found = status.status(tmp_path)
    assert found["state"] == "gone" and found["resume"] == "run the same command again to resume"
    (tmp_path / "report.html").write_text("")
    assert status.status(tmp_path)["state"] == "finished"


def report(state: str, pid: int, process: int, host: str = "") -> Report:
    numbers = {name: 1 for name in Report._fields} | {"task": "", "seconds_left": None, "handoffs_per_second": None}
    who = {"state": state, "pid": pid, "process": process, "host": host or socket.gethostname(), "updated": 1000.0}
    return Report(**{**numbers, **who})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reports", "state"),
    [
        ([], "gone"),
        ([("running", 0)], "running"),
        ([("running", -1)], "gone"),
        ([("finished", 0), ("running", 0)], "running"),
        ([("running", 0), ("interrupted", 0)], "interrupted"),
        ([("interrupted", 0), ("failed", 0)], "failed"),
        ([("finished", 0), ("finished", 0)], "gone"),  # each says that it is done, but there is no table
    ],
)
def test_of_several_processes_the_worst_decides_until_there_is_a_table(tmp_path, reports, state):
    (tmp_path / "manifest.json").write_text("{}")
    ended = 2**22 + 1  # beyond the largest number that Linux gives to a process
    listed = [report(said, os.getpid() + (pid and ended), index) for index, (said, pid) in enumerate(reports)]
    with mock.patch.object(status, "read_reports", lambda folder: listed):
        assert status.status(tmp_path, now=1001.0)["state"] == state
        for name in ("results.parquet", "summary.json"):
            (tmp_path / name).write_text("")
        assert status.status(tmp_path, now=1001.0)["state"] == "finished"
