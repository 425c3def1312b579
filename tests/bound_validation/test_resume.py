"""Resuming a validation run: the same bytes after every interruption, and a refusal by name of what does not fit."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bound_validation.results import NAN
from bound_validation.running import validate
from bound_validation.tasks import TaskResult, in_range
from tests.bound_validation.runs import (
    ROOT,
    Outcome,
    cheap_row,
    cheap_tasks,
    icsmdp,
    interrupt,
    leftovers,
    parts,
    refused,
    running,
    shared_run,
    without_figures,
)

COUNT = 5  # cheap tasks of a run


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> bytes:
    """``results.parquet`` of the cheap tasks, computed in one go."""
    place = tmp_path_factory.mktemp("uninterrupted")
    with running(cheap_tasks(COUNT, [])):
        validate(place, "testing")
    return (place / "results.parquet").read_bytes()


def everything(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_parts_go_through_json_and_back(tmp_path):
    result = TaskResult([cheap_row(1), dataclasses.replace(cheap_row(2), bound=NAN, x=0.1 + 0.2)], compile_s=1.5)
    result.claims.append(in_range("name", "text", 0.5, 0.0, 1.0, ci_low=0.25, ci_high=1.5))
    back = TaskResult.from_plain(json.loads(json.dumps(result.plain(), allow_nan=False)))
    assert repr(back) == repr(result)


def test_a_finished_run_is_resumed_without_computing_anything(tmp_path, uninterrupted):
    ran: list[int] = []
    with running(cheap_tasks(COUNT, ran)):
        validate(tmp_path, "testing")
        validate(tmp_path, "testing", resume=True)
    assert ran == list(range(COUNT))
    assert (tmp_path / "results.parquet").read_bytes() == uninterrupted


@pytest.mark.parametrize("stop", range(COUNT))
def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path, uninterrupted, stop):
    ran: list[int] = []
    with running(cheap_tasks(COUNT, ran, {stop: interrupt})), pytest.raises(KeyboardInterrupt):
        validate(tmp_path, "testing")
    assert ran == list(range(stop + 1))
    assert parts(tmp_path) == [f"cheap-{index}.jsonl" for index in range(stop)]
    assert not (tmp_path / "results.parquet").exists() and leftovers(tmp_path) == []
    ran.clear()
    with running(cheap_tasks(COUNT, ran)):
        validate(tmp_path, "testing", resume=True)
    assert ran == list(range(stop, COUNT))
    assert (tmp_path / "results.parquet").read_bytes() == uninterrupted


def test_the_command_can_be_interrupted_and_resumed(tmp_path, uninterrupted):
    with running(cheap_tasks(COUNT, [], {3: interrupt})):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path)
    assert outcome.code == 130 and outcome.out == "" and outcome.err.splitlines()[-1] == "icsmdp: interrupted"
    ran: list[int] = []
    with running(cheap_tasks(COUNT, ran)):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path, "--resume")
    assert outcome.code == 0 and outcome.out.splitlines()[-1] == str(tmp_path / "report.html")
    assert ran == [3, 4] and (tmp_path / "results.parquet").read_bytes() == uninterrupted


KILLED = """
import os, signal, sys
from pathlib import Path
from bound_validation.running import validate
from tests.bound_validation.runs import cheap_tasks, running

replace = os.replace

def die(source, target):
    if Path(target).name == "cheap-2.jsonl":  # written, but not yet under its name
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = die
with running(cheap_tasks(5, [])):
    validate(Path(sys.argv[1]), "testing")
"""


def test_a_killed_process_leaves_whole_parts_only(tmp_path, uninterrupted):
    """kill -9 at the worst moment: a part is on the disk, but not yet under its name."""
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [name for name in parts(tmp_path) if not name.startswith(".")] == ["cheap-0.jsonl", "cheap-1.jsonl"]
    ran: list[int] = []
    with running(cheap_tasks(COUNT, ran)):
        validate(tmp_path, "testing", resume=True)
    assert ran == [2, 3, 4]
    assert (tmp_path / "results.parquet").read_bytes() == uninterrupted
    assert leftovers(tmp_path) == []


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """One bit of the first digit of a measured value."""
    place = content.index(b'"measured": 0.') + len(b'"measured": 0.')
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [truncated, flipped, lambda content: b"", lambda content: b"[]\n[]\n", lambda content: b'{"content": null}\n',
     lambda content: b"\xff\xfe", lambda content: content[:-1], lambda content: content + b"\n"],
    ids=["truncated", "flipped bit", "empty", "list", "no checksum", "not text", "last byte", "one more line"],
)  # fmt: skip
def test_a_damaged_part_is_refused_by_name(tmp_path, damage):
    with running(cheap_tasks(COUNT, [], {4: interrupt})), pytest.raises(KeyboardInterrupt):
        validate(tmp_path, "testing")
    place = tmp_path / "parts" / "cheap-1.jsonl"
    place.write_bytes(damage(place.read_bytes()))
    before = everything(tmp_path)
    ran: list[int] = []
    with running(cheap_tasks(COUNT, ran)):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path, "--resume")
    refused(outcome, str(place), "damaged part file")
    assert ran == [] and everything(tmp_path) == before
    place.unlink()
    with running(cheap_tasks(COUNT, ran)):
        assert icsmdp("validate", "--preset", "testing", "--out", tmp_path, "--resume").code == 0
    assert ran == [1, 4]


@pytest.mark.parametrize("name", ["results.parquet", "summary.json", "report.html", "manifest.json"])
def test_what_could_not_be_written_at_the_end_is_said_at_the_beginning(tmp_path, name):
    with running(cheap_tasks(COUNT, [], {4: interrupt})), pytest.raises(KeyboardInterrupt):
        validate(tmp_path, "testing")
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    before = everything(tmp_path)
    ran: list[int] = []
    with running(cheap_tasks(COUNT, ran)):
        for option in ("--resume", "--overwrite"):
            outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path, option)
            refused(outcome, f"{tmp_path / name}: is a directory, expected a regular file")
    assert ran == [] and everything(tmp_path) == before


@pytest.mark.parametrize("name", ["parts", "progress", "figures"])
def test_a_file_where_a_folder_of_the_run_belongs(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with running(cheap_tasks(COUNT, [])):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path)
    refused(outcome, f"{tmp_path / name}: is a file, expected a directory")
    assert everything(tmp_path) == {name: b"mine"}


def test_a_refusal_leaves_no_lock_and_what_others_have_left(tmp_path):
    with running(cheap_tasks(COUNT, [], {4: interrupt})), pytest.raises(KeyboardInterrupt):
        validate(tmp_path, "testing")
    (tmp_path / ".lock-0").unlink()
    (tmp_path / "parts" / "notes.txt").write_text("mine")
    (tmp_path / "parts" / ".cheap-4.jsonl.0123.part").write_text("half")
    before = everything(tmp_path)
    for options in (["--resume"], []):
        with running(cheap_tasks(COUNT, [])):
            assert icsmdp("validate", "--preset", "testing", "--out", tmp_path, *options).code == 2
        assert everything(tmp_path) == before
    (tmp_path / "parts" / "notes.txt").unlink()
    with running(cheap_tasks(COUNT, [])):
        assert icsmdp("validate", "--preset", "testing", "--out", tmp_path, "--resume").code == 0
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"preset": "quick"}, "preset"),
        ({"model": "other.npz"}, "model"),
        ({"tasks": ["cheap/0"]}, "tasks"),
        ({"versions": {"jax": "0.0.1"}}, "versions"),
        ({"code": "0123"}, "code"),
        ({"schema": 0}, "schema"),
    ],
)
def test_another_run_is_not_resumed(tmp_path, change, named):
    with running(cheap_tasks(COUNT, [])):
        validate(tmp_path, "testing")
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    before = everything(tmp_path)
    ran: list[int] = []
    with running(cheap_tasks(COUNT, ran)):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path, "--resume")
    refused(outcome, str(manifest), named)
    assert ran == [] and everything(tmp_path) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", '{"tasks": 3}'])
def test_a_damaged_manifest_is_refused_by_name(tmp_path, content):
    with running(cheap_tasks(COUNT, [])):
        validate(tmp_path, "testing")
    (tmp_path / "manifest.json").write_text(content)
    before = everything(tmp_path)
    with running(cheap_tasks(COUNT, [])):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path, "--resume")
    refused(outcome, str(tmp_path / "manifest.json"))
    refused(icsmdp("status", tmp_path), f"{tmp_path / 'manifest.json'}: not a readable manifest")
    assert everything(tmp_path) == before


def test_a_foreign_part_is_refused_by_name(tmp_path):
    """The part of another task, of another run, and a file that is no part at all."""
    place, other = tmp_path / "run", tmp_path / "other"
    with running(cheap_tasks(COUNT, [])):
        validate(place, "testing")
    with running(cheap_tasks(COUNT + 1, [])):
        validate(other, "testing")
    lost = place / "parts" / "cheap-1.jsonl"
    for source, said in (
        (place / "parts" / "cheap-2.jsonl", "of cheap/2"),
        (other / "parts" / lost.name, "another run"),
    ):
        shutil.copy(source, lost)
        before = everything(place)
        with running(cheap_tasks(COUNT, [])):
            refused(icsmdp("validate", "--preset", "testing", "--out", place, "--resume"), str(lost), "foreign", said)
        assert everything(place) == before
    lost.unlink()
    stranger = place / "parts" / "thesis.txt"
    stranger.write_text("mine")
    with running(cheap_tasks(COUNT, [])):
        refused(icsmdp("validate", "--preset", "testing", "--out", place, "--resume"), str(stranger), "foreign file")
    assert stranger.read_text() == "mine"


def test_another_run_is_lost_only_when_asked_to(tmp_path, uninterrupted):
    """Neither an unfinished run nor one of another configuration is overwritten unless ``--overwrite`` says so."""
    with running(cheap_tasks(COUNT, [], {COUNT - 1: interrupt})), pytest.raises(KeyboardInterrupt):
        validate(tmp_path, "testing")
    before = everything(tmp_path)
    with running(cheap_tasks(COUNT, [])):
        refused(
            icsmdp("validate", "--preset", "testing", "--out", tmp_path), "unfinished run", "--resume", "--overwrite"
        )
    for more in ((), ("--resume",)):
        with running(cheap_tasks(COUNT + 2, [])):
            refused(icsmdp("validate", "--preset", "testing", "--out", tmp_path, *more), "manifest.json", "tasks")
    assert everything(tmp_path) == before
    for more in (("--overwrite",), ("--overwrite", "--resume")):
        with running(cheap_tasks(COUNT + 2, [])):
            assert icsmdp("validate", "--preset", "testing", "--out", tmp_path, *more).code == 0
        ran: list[int] = []
        with running(cheap_tasks(COUNT, ran)):
            assert icsmdp("validate", "--preset", "testing", "--out", tmp_path, *more).code == 0
        assert ran == list(range(COUNT))
        assert parts(tmp_path) == [f"cheap-{index}.jsonl" for index in range(COUNT)]
        assert (tmp_path / "results.parquet").read_bytes() == uninterrupted
    with running(cheap_tasks(COUNT, ran)):  # the very run: --resume comes first
        assert icsmdp("validate", "--preset", "testing", "--out", tmp_path, "--resume", "--overwrite").code == 0
    assert ran == list(range(COUNT))


def test_a_finished_run_can_be_run_again(tmp_path, uninterrupted):
    ran: list[int] = []
    with running(cheap_tasks(COUNT, ran)):
        validate(tmp_path, "testing")
        validate(tmp_path, "testing")
    assert ran == 2 * list(range(COUNT))
    assert (tmp_path / "results.parquet").read_bytes() == uninterrupted


def test_two_processes_do_not_share_a_directory(tmp_path):
    """A second run in the same directory is turned away while the first one is at work."""
    refusals: list[Outcome] = []

    def meanwhile() -> None:
        refusals.append(icsmdp("validate", "--preset", "testing", "--out", tmp_path, "--resume"))

    with running(cheap_tasks(COUNT, [], {1: meanwhile})):
        assert icsmdp("validate", "--preset", "testing", "--out", tmp_path).code == 0
    refused(refusals[0], str(tmp_path), "another process is already running there")


def test_resuming_nothing_is_a_fresh_start(tmp_path):
    ran: list[int] = []
    with running(cheap_tasks(COUNT, ran)):
        validate(tmp_path / "new" / "folder", "testing", resume=True)
    assert ran == list(range(COUNT))


def test_a_folder_that_is_no_run_keeps_its_files(tmp_path):
    """``--out .`` in the wrong place must not cost anybody a folder that happens to be called parts."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "thesis.txt").write_text("mine")
    with running(cheap_tasks(COUNT, [])):
        icsmdp("validate", "--preset", "testing", "--out", tmp_path)
    assert (tmp_path / "parts" / "thesis.txt").read_text() == "mine"


def test_real_tasks_resume_to_the_same_bytes(tmp_path, tmp_path_factory):
    """An exact and a simulated task are lost with everything behind them, and computed again."""
    whole, _ = shared_run(Path(tmp_path_factory.getbasetemp()))
    place = tmp_path / "run"
    shutil.copytree(whole, place)
    lost = ["gap-sharp.jsonl", "mixing-theorem.jsonl"]
    kept = {name: (place / "parts" / name).stat().st_mtime_ns for name in parts(place) if name not in lost}
    for name in [*(f"parts/{name}" for name in lost), "results.parquet", "summary.json", "report.html"]:
        (place / name).unlink()
    with without_figures():
        outcome = icsmdp("validate", "--preset", "testing", "--out", place, "--resume")
    assert outcome.code == 0, outcome.err
    assert (place / "results.parquet").read_bytes() == (whole / "results.parquet").read_bytes()
    assert kept == {name: (place / "parts" / name).stat().st_mtime_ns for name in kept}
    times = ("compile_s", "run_s", "report")
    found, wanted = (json.loads((p / "summary.json").read_text()) for p in (place, whole))
    assert {k: v for k, v in found.items() if k not in times} == {k: v for k, v in wanted.items() if k not in times}


@pytest.mark.parametrize("target", ["manifest.json", "parts/cheap-0.jsonl"])
def test_a_table_that_is_a_link_to_another_file_of_its_run_is_refused(tmp_path, target):
    """Writing through the link would destroy what the run is resumed from."""
    with running(cheap_tasks(COUNT, [])):
        validate(tmp_path, "testing")
        before = (tmp_path / target).read_bytes()
        (tmp_path / "results.parquet").unlink()
        (tmp_path / "results.parquet").symlink_to(tmp_path / target)
        with pytest.raises(ValueError, match=r"results.parquet: is a link to .* of the same run, expected a file of"):
            validate(tmp_path, "testing", resume=True)
    assert (tmp_path / target).read_bytes() == before


@pytest.mark.parametrize("overwrite", [False, True])  # another run, if there is one; here it is this one
def test_a_part_that_is_a_link_to_itself_is_refused_before_anything_is_written(tmp_path, overwrite):
    with running(cheap_tasks(COUNT, [], {1: interrupt})), pytest.raises(KeyboardInterrupt):
        validate(tmp_path, "testing")
    (tmp_path / "parts" / "cheap-1.jsonl").symlink_to("cheap-1.jsonl")
    before = (tmp_path / "progress" / "process-0.json").read_bytes()
    with running(cheap_tasks(COUNT, [])), pytest.raises(ValueError, match="cheap-1.jsonl: Too many levels of"):
        validate(tmp_path, "testing", resume=True, overwrite=overwrite)
    assert (tmp_path / "progress" / "process-0.json").read_bytes() == before
