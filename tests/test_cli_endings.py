"""How commands end: exit codes and their one line, tracebacks in files, pipes, locales, interruptions."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from icsmdp_jax import cli, endings
from icsmdp_jax.endings import deliberate
from tests.bound_validation.runs import ROOT, Outcome, cheap_tasks, icsmdp, refused, running, with_blank_figures
from tests.bound_validation.sweep.small import TOML, written
from tests.command_line import PLAIN, subprocess_run

# Errors of a program, of a library, of a user's function: exit code 3, one line, the traceback in a file


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch) -> Path:
    """A folder for temporary files of each test's own, as TMPDIR would name it."""
    place = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return place


def failed(outcome: Outcome, *fragments: str) -> str:
    """Asserts an error that is not the user's input; returns the traceback that the line names."""
    assert outcome.code == 3, outcome
    assert outcome.out == "" and outcome.err.startswith("icsmdp: ") and outcome.err.count("\n") == 1, outcome
    for fragment in fragments:
        assert fragment in outcome.err, outcome.err
    named = re.search(r"; the traceback is in (.*)\n$", outcome.err)
    assert named, outcome.err
    return Path(named[1]).read_text(encoding="utf-8")


def raising(monkeypatch, error: BaseException) -> None:
    """``icsmdp analyse`` raises this."""

    def broken(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("icsmdp_jax.commands.analyse_file", broken)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (AssertionError("a bug"), "AssertionError: a bug"),
        (TypeError("two\nlines"), "TypeError: two lines"),
        (MemoryError("Unable to allocate 7 TiB"), "out of memory (MemoryError: Unable to allocate 7 TiB)"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "out of memory (RuntimeError: RESOURCE_EXHAUSTED"),
        (KeyError(), "KeyError; the traceback"),
        (RecursionError("x" * 5000), "x ..."),
    ],
)
def test_an_unexpected_error_is_one_line_and_a_file(monkeypatch, temporary, tmp_path, error, words):
    monkeypatch.chdir(tmp_path)
    raising(monkeypatch, error)
    kept = failed(icsmdp("analyse", PLAIN), words)
    assert "Traceback" in kept and type(error).__name__ in kept and __file__ in kept
    assert list(tmp_path.iterdir()) == [] and len(list(temporary.iterdir())) == 1


def test_what_a_library_refuses_is_an_error_of_ours(monkeypatch):
    """A ValueError of NumPy is not the user's bad input, from Python code and from compiled code alike."""
    for call in (lambda *_: np.linalg.inv(np.zeros((2, 2))), lambda *_: np.zeros(-1), lambda *_: int("x")):
        monkeypatch.setattr("icsmdp_jax.commands.analyse_file", call)
        assert "Traceback" in failed(icsmdp("analyse", PLAIN), "Error: ")


def test_nothing_is_written_into_the_working_directory(monkeypatch, tmp_path):
    """Python falls back on it where there is no folder for temporary files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    raising(monkeypatch, TypeError("a bug"))
    outcome = icsmdp("analyse", PLAIN)
    assert outcome.code == 3 and "TypeError: a bug; set ICSMDP_TRACEBACK=1" in outcome.err
    assert list(tmp_path.iterdir()) == []


def caught(function) -> ValueError:
    with pytest.raises(ValueError) as found:
        function()
    return found.value


def refuse() -> None:
    raise ValueError("on purpose")


def wrap(function) -> None:
    try:
        function()
    except ValueError as error:
        raise ValueError(f"cell 1: {error}") from error


def hide(function) -> None:
    try:
        function()
    except ValueError:
        raise ValueError("cannot be read") from None


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (refuse, True),
        (lambda: wrap(refuse), True),
        (lambda: wrap(lambda: wrap(refuse)), True),
        (lambda: wrap(lambda: int("x")), False),  # the cause decides, however often it was put into words
        (lambda: hide(lambda: int("x")), True),  # whoever leaves the cause out has understood it
        (lambda: int("x"), False),
        (lambda: np.zeros(2).reshape(3), False),
        (lambda: np.stack([]), False),  # raised on purpose, but by a library
        (lambda: json.loads("{"), False),
    ],
)
def test_a_refusal_is_told_from_a_failure(function, expected):
    assert deliberate(caught(function)) is expected


FAMILIES = {
    "raises": ("def family(a):\n    return 1 / a", 3, "cell toml/a=0: own.py:family raised ZeroDivisionError"),
    "library": (
        "import numpy as np\ndef family(a):\n    return np.zeros(int(a) - 1)",
        3,
        "raised ValueError: negative",
    ),
    "memory": ("def family(a):\n    raise MemoryError", 3, "out of memory (MemoryError)"),
    "system": ("def family(a):\n    open('/none/there')", 3, "raised FileNotFoundError"),
    "refuses": (
        "def family(a):\n    raise ValueError('a = 0: expected more')",
        2,
        "cell toml/a=0: a = 0: expected more",
    ),
    "other": ("def family(a):\n    return a", 2, "returned float, expected a TabularModel"),
    "syntax": ("def family(a) return a", 3, "own.py: cannot be imported: SyntaxError"),
    "import": ("import no_such_module\ndef family(a): pass", 3, "cannot be imported: ModuleNotFoundError"),
    "lacks": ("def families(a): pass", 2, "no function family, did you mean families?"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_users_family(name, tmp_path):
    """What it raises is an error of the user's function; only what it refuses with a ValueError is bad input."""
    code, exit_code, words = FAMILIES[name]
    text = TOML.format(family="own.py:family").replace("stakes", "a")
    place = written(tmp_path, text)
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    outcome = icsmdp("sweep", place, "--out", tmp_path / "out")
    if exit_code == 2:
        refused(outcome, words)
    else:
        assert "own.py" in failed(outcome, words)
    assert not (tmp_path / "out").exists()


def test_an_entry_point_that_is_broken_is_an_error(monkeypatch):
    def broken(group: str) -> list:
        raise ImportError("a package that no longer works")

    with mock.patch.object(cli, "entry_points", broken), mock.patch("sys.stderr", io.StringIO()) as err:
        assert cli.main(["analyse", str(PLAIN)]) == 3
    assert "ImportError: a package that no longer works" in err.getvalue()


def test_a_number_that_is_none_is_no_success(monkeypatch):
    for more in ((), ("--json",)):
        monkeypatch.setattr("icsmdp_jax.commands.analyse_file", lambda *_: {"kappa": 0.5, "epsilon": float("nan")})
        failed(icsmdp("analyse", PLAIN, *more), "epsilon = nan: expected a finite number")


# Pipes


class Broken(io.TextIOWrapper):
    """A pipe whose reader is gone."""

    def __init__(self, when: str) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.when = when

    def write(self, text: str) -> int:
        if self.when == "write":
            raise BrokenPipeError
        return len(text)

    def flush(self) -> None:
        if self.when == "flush":
            raise BrokenPipeError


@pytest.mark.parametrize("when", ["write", "flush"])
@pytest.mark.parametrize("arguments", [["analyse", str(PLAIN)], ["analyse", str(PLAIN), "--json"], ["--help"]])
def test_a_reader_that_has_read_enough(arguments, when, capfd):
    stream = Broken(when)
    with mock.patch("sys.stdout", stream):
        try:
            code = cli.main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    stream.when = ""  # Python 3.13 and later report what fails when a stream is thrown away
    assert code in (0, 141) and capfd.readouterr().err == ""


def test_head_in_a_shell():
    """What a user sees of a pipe that closes: nothing, and no exit code 1 that would look like a finding."""
    shell = "set -o pipefail; " + f"{sys.executable} -m icsmdp_jax.cli analyse {PLAIN} | head -1"
    done = subprocess.run(
        ["bash", "-c", shell], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == "" and done.stdout.count("\n") == 1 and done.returncode in (0, 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_does_not_fit_is_no_success():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "icsmdp_jax.cli", "analyse", PLAIN, "--json"], cwd=ROOT, stdout=full,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("icsmdp: ") and done.stderr.count("\n") == 1


# Locales


def encoded(encoding: str, errors: str, *arguments: object) -> tuple[int, bytes, bytes]:
    """The command with streams of this encoding, as Python makes them from the locale."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors) for _ in range(2)]
    with mock.patch("sys.stdout", streams[0]), mock.patch("sys.stderr", streams[1]):
        code = cli.main([os.fspath(argument) for argument in arguments])  # type: ignore[arg-type]
    for stream in streams:
        stream.flush()
    return code, *(stream.buffer.getvalue() for stream in streams)  # type: ignore[attr-defined, return-value]


@pytest.mark.parametrize(
    ("encoding", "errors", "shown"),
    [
        ("ascii", "strict", rb"mod\xe8le"),
        ("ascii", "surrogateescape", rb"mod\xe8le"),
        ("latin-1", "strict", "modèle".encode("latin-1")),
        ("utf-8", "strict", "modèle".encode()),
    ],
)
def test_every_locale_prints(encoding, errors, shown, tmp_path):
    out = tmp_path / "modèle λ.npz"
    code, said, complained = encoded(encoding, errors, "solve", PLAIN, "--out", out)
    assert code == 0 and complained == b"" and shown in said and out.exists()
    code, said, complained = encoded(encoding, errors, "analyse", tmp_path / "modèle.npz")
    assert code == 2 and said == b"" and shown in complained and complained.count(b"\n") == 1


def test_a_file_name_that_is_no_text_prints(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/mod\xe8le.npz")
    code, _, complained = encoded("utf-8", "strict", "analyse", name)
    assert code == 2 and rb"mod\udce8le" in complained
    shutil.copy(PLAIN, name)
    assert encoded("ascii", "strict", "analyse", name)[0] == 0


def test_a_shell_without_a_locale(tmp_path):
    """In a process of its own, where Python decides about the encoding of files as well."""
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess_run("solve", PLAIN, "--out", tmp_path / "modèle.npz", **bare)
    assert done.returncode == 0 and done.stderr == "" and "mod" in done.stdout


@pytest.mark.parametrize("start", ["\ufeff", pytest.param("", marks=pytest.mark.slow)])
def test_a_toml_file_may_begin_with_a_byte_order_mark(tmp_path, start):
    place = written(tmp_path)
    place.write_bytes((start + place.read_text(encoding="utf-8")).replace("\n", "\r\n").encode())
    with with_blank_figures("bound_validation.sweep.figure.save"):
        assert icsmdp("sweep", place, "--out", tmp_path / "out").code == 0


def test_a_toml_file_in_another_encoding_is_refused(tmp_path):
    place = written(tmp_path)
    place.write_text(place.read_text(encoding="utf-8"), encoding="utf-16")
    refused(icsmdp("sweep", place, "--out", tmp_path / "out"), "sweep.toml: cannot be read as TOML")


# Interruptions


def test_an_interrupted_run_says_how_to_resume(tmp_path):
    def stop() -> None:
        raise KeyboardInterrupt

    with running(cheap_tasks(3, [], {1: stop})):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path)
    assert outcome.code == 130 and outcome.out == ""
    lines = outcome.err.splitlines()
    assert sum("resume with --resume" in line for line in lines) == 1 and lines[-1] == "icsmdp: interrupted"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_write_without_a_trace(name, tmp_path, monkeypatch):
    """Half of a file is written when the system asks the process to end."""
    number = getattr(signal, name)
    outside = signal.signal(number, signal.SIG_DFL)  # nohup, say, has SIGHUP ignored, and so would the command
    before = signal.getsignal(number)

    def half(stream: io.BufferedWriter, **arrays: np.ndarray) -> None:
        stream.write(b"half")
        os.kill(os.getpid(), number)

    monkeypatch.setattr(np, "savez_compressed", half)
    out = tmp_path / "out.npz"
    out.write_text("mine")
    try:
        outcome = icsmdp("solve", PLAIN, "--out", out)
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, outside)
    assert outcome == Outcome(128 + number, "", "icsmdp: terminated\n")
    assert out.read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_an_ignored_signal_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with endings._signals_as_exceptions():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_terminating_a_process(tmp_path):
    """From outside: exit code 143 with one line, whatever the process was doing."""
    code = """
        import sys, time
        from icsmdp_jax import cli, commands

        def analyse(*arguments):
            print("ready", flush=True)
            time.sleep(60)

        commands.analyse_file = analyse
        sys.exit(cli.main(["analyse", "model.npz"]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=60)[1] == "icsmdp: terminated\n" and process.returncode == 143


# Options that would do nothing


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("planted", "--load", "1"), ("load = 1", "routing-6x6", "planted")),
        (("planted", "--load", "1", "--oracle-only"), ("load = 1", "routing-6x6", "planted")),
        (("routing-6x6", "--load", "1", "--oracle-only"), ("--load", "--oracle-only")),
        (("planted", "--force"), ("planted", "--force", "all")),
        (("planted", "--overwrite", "--oracle-only"), ("planted", "--overwrite", "all")),
    ],
)
def test_options_that_would_do_nothing_are_refused(arguments, fragments, tmp_path):
    refused(icsmdp("experiment", *arguments, "--out", tmp_path / "out"), *fragments)
    assert not (tmp_path / "out").exists()


def test_the_oracle_is_written_where_it_is_asked_for(tmp_path):
    outcome = icsmdp("experiment", "cpu-sort2", "--oracle-only", "--out", tmp_path / "new" / "out", "--json")
    place = tmp_path / "new" / "out" / "oracle.json"
    assert outcome.code == 0 and str(place) in outcome.err
    assert json.loads(place.read_text(encoding="utf-8")) == json.loads(outcome.out)
    assert [path.name for path in place.parent.iterdir()] == ["oracle.json"]
