"""Run directories whose files were damaged, mixed up or added to: resumed as they were, or refused by name.

Whatever lies in the directory, a resumed run that ends well has the table of an undisturbed one, and a refused one
changes nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bound_validation.running import validate
from tests.bound_validation.runs import cheap_tasks, interrupt, running
from tests.fuzz.damage import changed
from tests.fuzz.judge import INVALID, judged, many

COUNT, DONE = 4, 3  # tasks of the run, and those that were written before it was interrupted
PARTS = tuple(f"parts/cheap-{index}.jsonl" for index in range(COUNT))
OTHERS = (
    "manifest.json", "progress/process-0.json", "summary.json", "results.parquet", "report.html", ".lock-0",
    "parts/.cheap-3.jsonl.0123456789ab.part", "parts/cheap-9.jsonl", "parts/notes.txt", "parts/.hidden",
    "parts/cheap-3.jsonl/x",
    "notes.txt", "parts/cheap-1.jsonl.bak", "progress/process-1.json", "progress/process-x.json", "figures/x.png",
)  # fmt: skip
CONTENTS = (
    b"", b"\n", b"\n\n", b"{}", b"[]\n", b"null\n{}\n", b"{}\n{}\n", b"\xff\xfe",
    b"[" * 100_000, b"[" * 100_000 + b"\n{}\n", b'{"tasks": 3}', b'{"tasks": [1], "schema": null}',
    b'{"a": NaN}\n', b'{"state": "running"}', b"PAR1", b"1" * 5000, b'"' + b"x" * 300 + b'"',
)  # fmt: skip
Change = Callable[[Path], None]


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, ...]]:
    """What happens to the directory: to existing files mostly, and to parts most of all."""
    kind = st.sampled_from(
        ("damage", "damage", "damage", "write", "copy", "swap", "foreign", "edit", "remove", "folder", "link")
    )
    return draw(
        st.lists(st.tuples(kind, st.sampled_from(PARTS * 3 + OTHERS), st.sampled_from(PARTS + OTHERS)), max_size=3)
    )


def disturb(draw: st.DrawFn, folder: Path, foreign: Path) -> None:
    """Changes up to three files of a run directory."""
    for kind, name, other in draw(changes()):
        place, second = folder / name, folder / other
        if any(up.is_file() or up.is_symlink() for up in place.parents) or place.is_dir() and kind != "remove":
            continue
        place.parent.mkdir(exist_ok=True)
        if kind == "damage" and place.is_file():
            place.write_bytes(changed(draw, place.read_bytes()))
        elif kind == "write":
            place.write_bytes(draw(st.sampled_from(CONTENTS)))
        elif kind == "copy" and second.is_file() and not (place.exists() and place.samefile(second)):
            shutil.copy(second, place)
        elif kind == "swap" and place.is_file() and second.is_file() and place != second:
            ours, theirs = place.read_bytes(), second.read_bytes()
            place.write_bytes(theirs)
            second.write_bytes(ours)
        elif kind == "foreign" and (foreign / name).is_file():
            shutil.copy(foreign / name, place)
        elif kind == "edit" and place.is_file():
            edit(draw, place)
        elif kind == "remove":
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        elif kind == "folder" and not (place.exists() or place.is_symlink()):
            place.mkdir()
        elif kind == "link" and not (place.exists() or place.is_symlink()):
            place.symlink_to(draw(st.sampled_from((str(second), "loop", name.rpartition("/")[2], "/dev/null"))))


def edit(draw: st.DrawFn, place: Path) -> None:
    """One value of the first JSON object in a file becomes another."""
    try:
        head, line, rest = place.read_text(encoding="utf-8").partition("\n")
        content = json.loads(head) if place.suffix == ".jsonl" else json.loads(head + line + rest)
    except (ValueError, RecursionError):
        return
    if not isinstance(content, dict) or not content:
        return
    name = draw(st.sampled_from(sorted(content)))
    content[name] = draw(st.sampled_from((None, 0, -1, "", "x", [], {}, [1], 1e300, True, {"a": {}})))
    text = json.dumps(content)
    place.write_text(text + line + rest if place.suffix == ".jsonl" else text, encoding="utf-8")


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """An interrupted run, another one, and the whole one: folders ``run``, ``other`` and ``whole``."""
    return made(tmp_path_factory.mktemp("begun"))


def made(place: Path) -> Path:
    for name, count in (("run", COUNT), ("other", COUNT + 1)):
        with running(cheap_tasks(count, [], {DONE: interrupt})), pytest.raises(KeyboardInterrupt):
            validate(place / name, "testing")
    with running(cheap_tasks(COUNT, [])):
        validate(place / "whole", "testing")
    return place


def case(draw: st.DrawFn, begun: Path, folder: Path) -> int:
    """Disturbs a copy of the interrupted run, asks how far it is, and resumes it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(begun / draw(st.sampled_from(("run", "run", "whole"))), folder)
    disturb(draw, folder, begun / "other")
    judged(folder, "status", folder, *draw(st.sampled_from(((), ("--json",)))))
    manifest = (folder / "manifest.json").read_bytes() if (folder / "manifest.json").is_file() else None
    ran: list[int] = []
    mode = draw(st.sampled_from((("--resume",),) * 6 + ((), ("--overwrite",), ("--resume", "--overwrite"))))
    with running(cheap_tasks(COUNT, ran)):
        outcome = judged(folder, "validate", "--preset", "testing", "--out", folder, *mode, "--json")
    assert outcome.code in (0, INVALID), outcome
    if outcome.code == INVALID:
        assert ran == [] and str(folder) in outcome.err, outcome
    else:
        assert (folder / "results.parquet").read_bytes() == (begun / "whole" / "results.parquet").read_bytes()
        if mode == ("--resume",) and manifest is not None:
            assert (folder / "manifest.json").read_bytes() == manifest
    return outcome.code


FAST, SLOW = 8, 1500


@pytest.mark.parametrize("count", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_directories_that_are_not_as_they_were(count, tmp_path, begun):
    @many(count)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        case(data.draw, begun, tmp_path / "run")

    check()
