"""What tests of validation runs share: the command line in this process, cheap tasks, and one real testing run."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import re
import tomllib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

from matplotlib.figure import Figure
from PIL import Image

from bound_validation.axes import AXES
from bound_validation.axis import Axis
from bound_validation.results import Row, checked
from bound_validation.tasks import Claim, Task, TaskResult
from icsmdp_jax import cli
from icsmdp_jax.runs import provenance

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
MODELS = ROOT / "examples" / "models"
DOCUMENT = ROOT / "docs" / "validation.md"
digest = cache(provenance.code_digest)  # nobody changes the sources while tests run


class Outcome(NamedTuple):
    """How a command ended: exit code, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str


def declared(group: str) -> list[EntryPoint]:
    """Entry points of pyproject.toml: what an installed package offers, for the code that is being tested."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [EntryPoint(name, value, group) for name, value in project["entry-points"].get(group, {}).items()]


def icsmdp(*arguments: str | os.PathLike[str]) -> Outcome:
    """Runs ``icsmdp`` in this process; an exception that escapes it is one that a user would see as a traceback."""
    out, err = io.StringIO(), io.StringIO()
    show = warnings.showwarning  # the command line replaces it for good
    cache = {"JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", "")}  # leave the user's alone
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.dict(os.environ, cache):
        with mock.patch.object(cli, "entry_points", declared):
            try:
                code = cli.main([os.fspath(argument) for argument in arguments])
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                warnings.showwarning = show
    return Outcome(code, out.getvalue(), err.getvalue())


def refused(outcome: Outcome, *fragments: str) -> None:
    """Asserts bad input as the contract wants it: exit code 2, silence on stdout, one line on stderr."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("icsmdp") and outcome.err.endswith("\n"), outcome.err
    assert outcome.err.count("\n") == 1 and "\r" not in outcome.err, outcome.err
    for fragment in fragments:
        assert fragment in outcome.err, outcome.err


def leftovers(folder: Path) -> list[str]:
    """Temporary files anywhere below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(".part"))


def preset(name: str) -> SimpleNamespace:
    """The specs of all axes in a preset, by the name of the axis."""
    return SimpleNamespace(**{axis.name: axis.spec(name) for axis in AXES.values()})


def parts(place: Path) -> list[str]:
    """Names of the part files of a run."""
    return sorted(path.name for path in (place / "parts").iterdir())


@contextlib.contextmanager
def running(tasks: Sequence[Task], draw: bool = False) -> Iterator[None]:
    """Replaces the tasks of every preset, one after the other, and leaves figures out unless they are asked for."""

    def replaced(axis: Axis) -> Axis:
        return dataclasses.replace(axis, tasks=lambda spec, settings: list(tasks) if axis.name == "width" else [])

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(AXES, {name: replaced(axis) for name, axis in AXES.items()}))
        stack.enter_context(mock.patch("bound_validation.running.usable_cores", lambda: 1))  # else order is chance
        stack.enter_context(mock.patch.object(provenance, "code_digest", lambda packages=(): digest(tuple(packages))))
        if not draw:
            stack.enter_context(without_figures())
        yield


def without_figures() -> Any:
    """Leaves the figures out, for runs in which they are not what is tested."""
    return mock.patch("bound_validation.report.figures.draw_all", lambda rows, summary, out, columns, worker: {})


def with_blank_figures(saver: str = "icsmdp_jax.drawing.style.save") -> Any:
    """Figures are made from the rows and saved as blank pictures: laying them out takes as long as all else."""

    def save(figure: Figure, folder: Path, name: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.pdf").write_bytes(b"%PDF-1.4 blank")
        Image.new("1", (round(100 * figure.get_figwidth()), 100)).save(folder / f"{name}.png")
        return folder / f"{name}.png"

    return mock.patch(saver, save)


def cheap_row(index: int, measured: float = 0.5) -> Row:
    """A row of the width axis with a bound of 1."""
    return checked(
        Row(
            axis="width", cell=f"width/{index}", series="projection", term="approximation", x_name="features per agent",
            x=2.0**index, width=2**index, measured=measured / 3, bound=1 / 3, kappa=0.7, gamma=0.9, gamma_bar=0.1 + 0.2,
        )
    )  # fmt: skip


def cheap_task(index: int, ran: list[int], effect: Callable[[], None] = lambda: None) -> Task:
    """A task that notes that it ran, does something, and returns a row and a claim."""

    def run(progress: Callable[[int], None]) -> TaskResult:
        ran.append(index)
        effect()
        progress(10)
        claim = Claim(f"claim_{index}", "A claim.", 0.1 * index, "reported", None)
        return TaskResult([cheap_row(index)], {}, [claim], compile_s=0.25, handoffs=10)

    return Task(f"cheap/{index}", run, 10)


def cheap_tasks(count: int, ran: list[int], effects: dict[int, Callable[[], None]] | None = None) -> list[Task]:
    """``count`` such tasks, some of them with an effect of their own."""
    return [cheap_task(index, ran, (effects or {}).get(index, lambda: None)) for index in range(count)]


def interrupt() -> None:
    """What Ctrl-C does in the middle of a task."""
    raise KeyboardInterrupt


def shared_run(basetemp: Path) -> tuple[Path, Outcome]:
    """``icsmdp validate --preset testing`` with blank figures, once for all tests, also where processes share them.

    Args:
      basetemp: pytest's temporary folder of this process.
    """
    shared = basetemp.parent if "PYTEST_XDIST_WORKER" in os.environ else basetemp
    place, note = shared / "testing-run", shared / "testing-run.json"
    with open(shared / "testing-run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists():
            with with_blank_figures():
                note.write_text(json.dumps(icsmdp("validate", "--preset", "testing", "--out", place)))
        return place, Outcome(*json.loads(note.read_text()))


def section(title: str) -> str:
    """One section of docs/validation.md."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def first_cells(text: str) -> list[str]:
    """Names in backquotes in the first column of the tables of a text."""
    lines = re.findall(r"^\| *(`.*?) *\|", text, re.MULTILINE)
    return [name for line in lines for name in re.findall(r"`([^`]+)`", line)]


def documented_series() -> set[tuple[str, str]]:
    """Pairs of axis and series that docs/validation.md describes."""
    axes = re.findall(r"^### `(\w+)`[^\n]*\n(.*?)(?=^### |\Z)", section("Series"), re.MULTILINE | re.DOTALL)
    return {(axis, series) for axis, text in axes for series in first_cells(text)}
