"""Command lines as fingers and shell scripts mistype them: every command with any flags and values.

What would simulate for long stops where its memory has been forecast; everything before that is real.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.experiments import catalogue
from icsmdp_jax.learner import train
from tests.bound_validation.runs import cheap_tasks, icsmdp, running
from tests.command_line import PLAIN
from tests.fuzz.judge import TooLong, judged, many

NUMBERS = (
    "0", "1", "2", "10", "20", "-1", "-0", "1.5", "1e1", "1e3", "1e400", "-1e400", "nan", "inf", "-inf", "NaN", "",
    " ", " 3", "+3",
    "1_000", "0x10", "１２", "٣", "1e18", "1e19", "9223372036854775807", "9223372036854775808", "1" + "0" * 30,
    "9" * 5000,
    "1e-3", "abc", "true", "None", "é", "\udce9",
    "\x1b[31m", "a\nb", "--", "-", "=", "1,2", "1 2", "2**3", "1" + "0" * 400,
)  # fmt: skip
PATHS = (
    "model.npz", "law.npy", "text.npz", "sweep.toml", "run", "empty", "out.npz", "new.npz", "missing/new.npz",
    "fifo", "link", "dangling",
    "loop", "device", "locked", ".", "..", "/", "", " ", "-", "model.npz/", "out.npz/x", "x" * 300, "é.npz",
    "new\udce9.npz", "a\nb", "\x1b[31m",
    "~", "$HOME", "*", "run/manifest.json", "run/results.parquet", "run/parts", "run/summary.json", "run/../run",
    "uniform", "file:model.npz",
    "http://localhost/model.npz", "/dev/null", "/proc/self/mem",
)  # fmt: skip
INPUTS = tuple(path for path in PATHS if path != "fifo")  # a pipe is waited for, as everywhere
OUTPUTS = tuple(path for path in PATHS if not path.startswith(("/dev", "/proc")) and path not in ("/", "..", "."))
COMMANDS: dict[str, dict[str, tuple[str, ...] | None]] = {
    "analyse": {"--behaviour": INPUTS, "--json": None},
    "advise": {"--behaviour": INPUTS, "--json": None, "--error": NUMBERS},
    "solve": {"--behaviour": INPUTS, "--json": None, "--out": OUTPUTS, "--full": None},
    "export": {"--behaviour": INPUTS, "--json": None, "--out": OUTPUTS, "--learned": INPUTS},
    "learn": {
        "--behaviour": INPUTS, "--json": None, "--out": OUTPUTS, "--samples": NUMBERS, "--replicas": NUMBERS,
        "--seed": NUMBERS,
        "--width": NUMBERS, "--tail": NUMBERS,
        "--function-class": ("tabular", "linear", "mlp", "two-layer", "", "Tabular"),
    },
    "bound": {
        "--samples": NUMBERS, "--schedule": ("constant", "harmonic", "polynomial", "linear"), "--behaviour": INPUTS,
        "--json": None,
    },
    "validate": {
        "--preset": ("testing", "quick", "full", "", "tests"), "--out": OUTPUTS, "--model": INPUTS,
        "--behaviour": INPUTS,
        "--json": None, "--resume": None, "--overwrite": None, "--num-processes": NUMBERS, "--process-id": NUMBERS,
    },
    "sweep": {"--out": OUTPUTS, "--json": None, "--resume": None, "--overwrite": None, "--process-id": NUMBERS},
    "compare": {"--all": None, "--json": None},
    "status": {"--json": None},
    "experiment": {
        "--out": OUTPUTS, "--preset": ("testing", "quick", "full"), "--seed": NUMBERS, "--load": NUMBERS,
        "--oracle-only": None,
        "--force": None, "--overwrite": None, "--json": None,
    },
    "envs": {"--json": None},
    "fit": {"--config": INPUTS, "--out": OUTPUTS, "--json": None},
}  # fmt: skip
PLACES: dict[str, int] = {"compare": 2, "envs": 0}  # positional arguments; all other commands have one
FIRST = {"sweep": "sweep.toml", "status": "run", "compare": "run", "experiment": "cpu-sort2"}
LIKELY = {
    "export": ("--out", "empty"),
    "solve": ("--out", "new.npz"), "learn": ("--out", "new.npz", "--samples", "10", "--replicas", "2"),
    "validate": ("--preset", "testing", "--out", "empty"), "sweep": ("--out", "empty"),
    "bound": ("--samples", "5", "20"), "fit": ("--config", "sweep.toml", "--out", "empty"),
}  # fmt: skip
STRANGERS = (
    "--help",
    "--version",
    "--unknown",
    "-x",
    "-h",
    "--sample",
    "--js",
    "--",
    "extra",
    "@file",
    "--out",
    "--json=1",
)
TOML = """
[sweep]
name = "tiny"
measure = ["interface"]
[model]
family = "model.npz"
[axes]
gamma = [0.5]
"""


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command line that may be right."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    flags = COMMANDS[name]
    places = PLACES.get(name, 1)
    words = [draw(st.sampled_from((FIRST.get(name, "model.npz"),) * 40 + INPUTS)) for _ in range(places)]
    words += LIKELY.get(name, ()) if draw(st.integers(0, 9)) else ()
    for flag in draw(st.lists(st.sampled_from(sorted(flags)), max_size=4)):
        values = flags[flag]
        if values is None:
            words.append(flag)
        elif draw(st.booleans()):
            words.append(f"{flag}={draw(st.sampled_from(values))}")
        else:
            words += [flag, draw(st.sampled_from(values))]
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(STRANGERS)))
    if draw(st.integers(0, 19)) == 0 and words:
        words.pop(draw(st.integers(0, len(words) - 1)))
    if draw(st.integers(0, 49)) == 0:
        return words
    return [name, *words]


def furnish(folder: Path, finished: Path) -> None:
    """Puts everything that ``PATHS`` names into an empty folder."""
    shutil.copytree(finished, folder / "run")
    shutil.copy(PLAIN, folder / "model.npz")
    with np.load(PLAIN) as model:
        interfaces, options = int(model["interface"].max()) + 1, model["reward_rate"].shape[1]
    np.save(folder / "law.npy", np.full((interfaces, options), 1 / options))
    (folder / "text.npz").write_text("no model\n")
    (folder / "sweep.toml").write_text(TOML)
    (folder / "out.npz").write_bytes(b"mine")
    (folder / "empty").mkdir()
    (folder / "locked").mkdir(mode=0o555)
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("out.npz")
    (folder / "dangling").symlink_to("later.npz")
    (folder / "loop").symlink_to("loop")
    try:
        os.mknod(folder / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        (folder / "device").symlink_to("/dev/null")


def too_long(*_: object) -> None:
    raise TooLong


def forecast(*arguments: Any) -> None:
    """Lets pass what is compiled for one shape and takes moments, once it is known to fit."""
    FORECAST(*arguments)
    if arguments[3:6] != (2, 2, 5):  # replicas, checkpoints, chunk
        raise TooLong


FORECAST = train.check_memory


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Stops what would simulate: learning in other shapes than one, real validation runs, experiments."""
    with (
        mock.patch.object(train, "check_memory", forecast),
        mock.patch.object(catalogue, "experiment", lambda name: catalogue.checked(name) and too_long),
        mock.patch("icsmdp_jax.experiments.command.environments", lambda: {"environments": []}),
        mock.patch("icsmdp_jax.experiments.command.oracle_only", lambda name: {"environment": catalogue.checked(name)}),
        running(cheap_tasks(2, [])),
        mock.patch("bound_validation.sweep.figure.draw_all", lambda sweep, rows, out: {}),
    ):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run of cheap tasks."""
    place = tmp_path_factory.mktemp("finished") / "run"
    with running(cheap_tasks(2, [])):
        assert icsmdp("validate", "--preset", "testing", "--out", place).code == 0
    return place


def case(words: list[str], folder: Path, finished: Path) -> int | None:
    """Runs the line in a furnished folder."""
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    furnish(folder, finished)
    here = os.getcwd()
    os.chdir(folder)
    try:
        with stopping(), mock.patch.dict(os.environ, {"HOME": str(folder)}):
            return judged(folder, *words).code
    except TooLong:
        return None
    finally:
        os.chdir(here)


FAST, SLOW = 20, 3500


@pytest.mark.parametrize("count", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_lines_that_nobody_meant_to_type(count, tmp_path, finished):
    @many(count)
    @given(lines())
    def check(words: list[str]) -> None:
        case(words, tmp_path, finished)

    check()
