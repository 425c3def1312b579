"""What every end of a command has to look like, whatever it was given: the judge of all fuzzing tests.

No traceback, no warning of a library, one line for bad input, strict JSON and finite numbers for success, and a
folder that is as it was after a refusal.
"""

from __future__ import annotations

import json
import os
import re
import stat
import unicodedata
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from tests.bound_validation.runs import Outcome, icsmdp

CASES = "ICSMDP_FUZZ"  # if set, that many new random cases instead of the same ones every time
LONGEST_LINE = 2000  # characters of a refusal, the names that a case made up included
INVALID, FAILED = 2, 3


class TooLong(BaseException):
    """A case that is valid and would simulate for long: what it would say is not looked at."""


Snapshot = dict[str, tuple[int, bytes | str]]


def many(count: int) -> settings:
    """The same ``count`` cases in every run, or as many new ones as the environment asks for."""
    wanted = os.environ.get(CASES)
    return settings(
        max_examples=int(wanted or count), deadline=None, database=None, derandomize=not wanted,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=bool(wanted),
    )  # fmt: skip


def snapshot(folder: Path) -> Snapshot:
    """Everything below a folder: modes, contents and targets of links; what is no regular file is not opened."""
    found: Snapshot = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root, name)
            status = path.lstat()
            content: bytes | str = ""
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            found[str(path.relative_to(folder))] = (status.st_mode, content)
    return found


def judged(folder: Path, *arguments: object, codes: tuple[int, ...] = (0, 1, INVALID)) -> Outcome:
    """Runs a command that works inside a folder, and asserts that it ended as it should.

    Args:
      folder: which nothing but the command changes.
      arguments: of the command.
      codes: the exit codes that are admitted.
    """
    before = snapshot(folder)
    with strict_warnings():
        outcome = icsmdp(*map(str, arguments))
    after = snapshot(folder)
    assert outcome.code in codes, explained(arguments, outcome)
    complaints = [line for line in outcome.err.splitlines() if not line.startswith("icsmdp: warning: ")]
    for word in ("Traceback", "RuntimeWarning", "DeprecationWarning", "encountered in"):
        assert word not in outcome.err, explained(arguments, outcome)
    control = {letter for letter in outcome.err if unicodedata.category(letter) == "Cc"}
    assert control <= {"\n"}, explained(arguments, outcome)
    if outcome.code == INVALID:
        assert outcome.out == "", explained(arguments, outcome)
        assert len(complaints) == 1 and outcome.err.endswith("\n"), explained(arguments, outcome)
        assert re.match(r"icsmdp[ a-z]*: \S.{4}", complaints[0]), explained(arguments, outcome)
        assert len(complaints[0]) < LONGEST_LINE, explained(arguments, outcome)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert not changed, f"{changed} changed: {explained(arguments, outcome)}"
    elif outcome.code in (0, 1) and "--json" in arguments and not {"--help", "-h", "--version"} & set(arguments):
        strict_json(outcome.out)
    left = [name for name in after if name.endswith(".part") and name not in before]
    assert not left, explained(arguments, outcome)
    return outcome


@contextmanager
def strict_warnings() -> Any:
    """Makes what NumPy would only mumble an error, which has a traceback to look at."""
    with warnings.catch_warnings():
        for category in (RuntimeWarning, DeprecationWarning, FutureWarning):
            warnings.simplefilter("error", category)
        yield


def strict_json(text: str) -> dict[str, Any]:
    """The one JSON object of a text, without the numbers that JSON does not have."""

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    assert text.count("\n") == 1 and text.endswith("\n"), text
    found = json.loads(text, parse_constant=refuse)
    assert isinstance(found, dict), text
    return found


def explained(arguments: tuple[object, ...], outcome: Outcome) -> str:
    """A case and its outcome, with the traceback if there is one."""
    named = re.search(r"the traceback is in (.*)\n", outcome.err)
    trace = Path(named[1]).read_text(encoding="utf-8")[-3000:] if named else ""
    return f"{[str(argument) for argument in arguments]}\n{outcome}\n{trace}"
