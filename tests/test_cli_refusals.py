"""The command line, clause by clause: what it refuses, in one line and without leaving anything behind."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from icsmdp_jax import __version__, cli
from icsmdp_jax.devices.cache import set_compilation_cache
from icsmdp_jax.learner import experiment
from icsmdp_jax.learner.experiment import Outcome as Learned
from tests.bound_validation.runs import GOLDEN, ROOT, Outcome, icsmdp, leftovers, refused
from tests.command_line import PLAIN, contents, subprocess_run
from tests.helpers import golden, golden_analysis

# Bad input: exit code 2, one line, nothing left behind


def commands(model: object, out: Path) -> dict[str, list[str]]:
    return {
        "analyse": ["analyse", str(model)],
        "solve": ["solve", str(model), "--out", str(out)],
        "learn": ["learn", str(model), "--samples", "10", "--replicas", "2", "--out", str(out)],
    }


COMMANDS = pytest.mark.parametrize("command", ["analyse", "solve", "learn"])


@COMMANDS
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "text", "folder", "single array", "pickle"])
def test_a_model_file_that_cannot_be_read(command, damage, tmp_path):
    model, out = tmp_path / "model.npz", tmp_path / "out.npz"
    content = PLAIN.read_bytes()
    if damage == "truncated":
        model.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        model.write_bytes(b"")
    elif damage == "text":
        model.write_text("not a model\n" * 50)
    elif damage == "folder":
        model.mkdir()
    elif damage == "single array":
        with open(model, "wb") as stream:
            np.save(stream, np.zeros(3))
    elif damage == "pickle":
        np.savez(model, **{**contents(PLAIN), "agent": np.array([{"a": 1}], dtype=object)})
    before = sorted(tmp_path.rglob("*"))
    refused(icsmdp(*commands(model, out)[command]), str(model))
    assert sorted(tmp_path.rglob("*")) == before


@COMMANDS
def test_a_model_with_a_wrong_row_is_named_by_array_index_and_value(command, tmp_path):
    arrays = contents(PLAIN)
    arrays["transition"][3, 1] *= 0.5
    np.savez(tmp_path / "model.npz", **arrays)
    out = tmp_path / "out.npz"
    refused(icsmdp(*commands(tmp_path / "model.npz", out)[command]), "transition[3, 1]", "0.5", "expected")
    assert not out.exists()


@COMMANDS
def test_a_missing_array_is_named(command, tmp_path):
    arrays = contents(PLAIN)
    del arrays["gamma"]
    np.savez(tmp_path / "model.npz", **arrays)
    refused(icsmdp(*commands(tmp_path / "model.npz", tmp_path / "out.npz")[command]), "gamma", "missing")


def laws() -> dict[str, tuple[np.ndarray, str]]:
    """Behaviour policies for ``episodic_masks`` that are none, and what the message must name."""
    mask = golden("episodic_masks").option_mask
    fine = golden_analysis("episodic_masks").interface.chain.behaviour
    z, o = (int(i) for i in np.argwhere(mask & (fine > 0))[0])
    blocked = tuple(int(i) for i in np.argwhere(~mask & (fine.sum(axis=1, keepdims=True) > 0))[0])

    def changed(place: tuple[int, ...], value: float) -> np.ndarray:
        law = fine.copy()
        law[place] = value
        return law

    return {
        "wrong shape": (fine[:, :-1], "shape"),
        "transposed": (fine.T.copy(), "shape"),
        "one number": (np.array(0.5), "shape"),
        "zero on an available option": (changed((z, o), 0.0), f"behaviour[{z}, {o}] = 0"),
        "negative": (changed((z, o), -0.25), f"behaviour[{z}, {o}] = -0.25"),
        "not a number": (changed((z, o), math.nan), f"behaviour[{z}, {o}] = nan"),
        "weight on an unavailable option": (changed(blocked, 0.1), f"behaviour[{blocked[0]}, {blocked[1]}] = 0.1"),
        "does not sum to 1": (2 * fine, "sums to 2"),
        "complex": (fine + 0j, "complex"),
        "text": (fine.astype(str), "behaviour"),
    }


@pytest.mark.parametrize("name", laws())
def test_a_behaviour_policy_that_is_none(name, tmp_path):
    law, fragment = laws()[name]
    np.save(tmp_path / "law.npy", law)
    out = tmp_path / "out.npz"
    for command in ("analyse", "solve", "learn"):
        arguments = commands(GOLDEN / "episodic_masks.npz", out)[command]
        refused(icsmdp(*arguments, "--behaviour", tmp_path / "law.npy"), fragment)
    assert [path.name for path in tmp_path.iterdir()] == ["law.npy"]


class Trap:
    """An object whose unpickling leaves a trace."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "pickle", "npz", "broken zip", "folder"])
def test_a_behaviour_file_that_cannot_be_read(damage, tmp_path):
    place = tmp_path / "law.npy"
    if damage == "empty":
        place.write_bytes(b"")
    elif damage == "truncated":
        np.save(place, np.full((12, 2), 0.5))
        place.write_bytes(place.read_bytes()[:-40])
    elif damage == "pickle":
        np.save(place, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    elif damage == "npz":
        with open(place, "wb") as stream:
            np.savez(stream, law=np.full((12, 2), 0.5))
    elif damage == "broken zip":
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("law.npy", b"x" * 100)
        place.write_bytes(place.read_bytes()[:80])
    elif damage == "folder":
        place.mkdir()
    refused(icsmdp("analyse", PLAIN, "--behaviour", place), str(place))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("command", ["solve", "learn"])
def test_out_that_cannot_be_written(command, tmp_path):
    nowhere = tmp_path / "missing" / "out.npz"
    refused(icsmdp(*commands(PLAIN, nowhere)[command]), str(nowhere), "does not exist")
    refused(icsmdp(*commands(PLAIN, tmp_path)[command]), str(tmp_path), "directory")
    file = tmp_path / "file"
    file.write_text("mine")
    refused(icsmdp(*commands(PLAIN, file / "out.npz")[command]), str(file))
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and file.read_text() == "mine"


@pytest.mark.parametrize("option", ["--samples", "--replicas", "--width", "--tail"])
@pytest.mark.parametrize("value", ["0", "-1", "abc", "1.5", "", "nan", "inf", "1e400"])
def test_counts_are_whole_and_positive(option, value, tmp_path):
    arguments = ["learn", PLAIN, "--samples", "10", "--replicas", "2", "--out", tmp_path / "l.npz", f"{option}={value}"]
    refused(icsmdp(*arguments), option)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", ["abc", "1.5", "99999999999999999999999", "-99999999999999999999999"])
@pytest.mark.parametrize("function_class", ["tabular", "linear"])
def test_a_seed_that_is_none(seed, function_class, tmp_path):
    more = ("--function-class", function_class, f"--seed={seed}")
    refused(icsmdp(*commands(PLAIN, tmp_path / "l.npz")["learn"], *more), "seed")
    assert list(tmp_path.iterdir()) == []


def test_a_tail_longer_than_the_run(tmp_path):
    refused(icsmdp(*commands(PLAIN, tmp_path / "l.npz")["learn"], "--tail", "11"), "tail", "11", "10")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["analyse"],
        ["analyse", str(PLAIN), "--unknown"],
        ["analyse", str(PLAIN), "too", "many"],
        ["solve", str(PLAIN)],
        ["learn", str(PLAIN), "--out", "l.npz"],
        ["learn", str(PLAIN), "--samples", "10", "--out", "l.npz", "--function-class", "quadratic"],
    ],
)
def test_arguments_that_argparse_refuses(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(icsmdp(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    """Neither from the command line nor from names inside a file; a refusal stays one line."""
    refused(icsmdp("analyse", PLAIN, "a\nb\x1b[31m"), r"a b\x1b[31m")
    np.savez(tmp_path / "m.npz", **contents(PLAIN), **{"\x1b[31m": np.zeros(1)})
    outcome = icsmdp("analyse", tmp_path / "m.npz")
    assert outcome.code == 0 and outcome.err.endswith(r"ignoring unknown arrays \x1b[31m" + "\n")
    refused(icsmdp("analyse", tmp_path / "m\x1b.npz"), r"m\x1b.npz: no such file")


def test_two_dashes_are_no_value(tmp_path):
    """Python 3.11 reads ``--samples=--`` as an option without a value, later versions as one that is no number."""
    refused(icsmdp(*commands(PLAIN, tmp_path / "out.npz")["learn"], "--replicas=--"), "replicas")
    refused(icsmdp("bound", PLAIN, "--samples", "5", "--samples=--"), "samples")
    assert list(tmp_path.iterdir()) == []


def test_a_long_argument_is_cut_off(tmp_path):
    outcome = icsmdp("bound", PLAIN, "--samples", "9" * 5000)
    refused(outcome, "--samples", "999 ...")
    assert len(outcome.err) < 500


def test_no_progress_bar_where_nobody_looks(tmp_path, monkeypatch):
    """A bar draws itself with carriage returns, which have no place in a file or a pipe."""
    from icsmdp_jax import commands as functions

    with functions._bar() as bar:
        bar.total = 10
        bar.update(5)
        assert bar.disable


def test_a_file_that_is_refused_is_not_warned_about(tmp_path):
    """One line is enough: what is ignored matters only where the rest is used."""
    arrays = {**contents(PLAIN), "comment": np.zeros(1), "gamma": np.array(2.0)}
    np.savez(tmp_path / "m.npz", **arrays)
    refused(icsmdp("analyse", tmp_path / "m.npz"), "gamma = 2.0")


def test_bad_input_in_a_process_of_its_own(tmp_path):
    """What a shell script sees: the code, one line, and no file."""
    done = subprocess_run("solve", tmp_path / "missing.npz", "--out", tmp_path / "out.npz")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("icsmdp: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_is_no_number_leaves_no_file(tmp_path):
    """Rewards beyond float32 make values that are no numbers: this must not look like a success."""
    arrays = contents(PLAIN)
    arrays["reward_rate"] = 1e38 * arrays["reward_rate"]
    np.savez(tmp_path / "huge.npz", **arrays)
    out = tmp_path / "l.npz"
    outcome = icsmdp(*commands(tmp_path / "huge.npz", out)["learn"], "--json")
    assert outcome.code == 2 and outcome.out == ""
    assert not out.exists() and leftovers(tmp_path) == []


@pytest.mark.parametrize("command", ["solve", "learn"])
def test_a_write_that_fails_leaves_nothing(command, tmp_path, monkeypatch):
    out = tmp_path / "out.npz"
    out.write_text("what was there before")

    def full(stream: object, **arrays: np.ndarray) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    tables = np.zeros((2, 12, 2))
    monkeypatch.setattr(experiment, "learn", lambda *arguments: Learned(tables, tables, {}, []))
    refused(icsmdp(*commands(PLAIN, out)[command]), "No space left")
    assert out.read_text() == "what was there before" and leftovers(tmp_path) == []


# The rest of the program


def test_interrupting_ends_with_130(monkeypatch):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("icsmdp_jax.commands.analyse_file", stop)
    assert icsmdp("analyse", PLAIN) == Outcome(130, "", "icsmdp: interrupted\n")


def test_a_traceback_can_be_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("ICSMDP_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no such file"):
        icsmdp("analyse", tmp_path / "missing.npz")


def test_version():
    assert icsmdp("--version") == Outcome(0, f"icsmdp {__version__}\n", "")


def test_help_lists_the_commands():
    outcome = icsmdp("--help")
    assert outcome.code == 0 and outcome.err == ""
    for command in ("analyse", "solve", "learn", "validate"):
        assert command in outcome.out


def test_the_program_is_what_pyproject_declares():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'icsmdp = "icsmdp_jax.cli:main"' in project and callable(cli.main)


@pytest.fixture
def settings_of_jax():
    """Puts the settings of the cache back, which other tests of this process share."""
    import jax

    names = [name for name in jax.config.values if name.startswith(("jax_compilation_cache", "jax_persistent_cache"))]
    kept = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in kept.items():
        jax.config.update(name, value)


def test_the_compilation_cache_of_the_user_is_respected(settings_of_jax, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    set_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    set_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "cache" / "icsmdp_jax" / "jax")


def test_help_and_refusals_do_not_load_jax():
    """With every command that pyproject.toml declares, ``validate`` included."""
    code = """
        import sys, tomllib
        from importlib.metadata import EntryPoint
        from icsmdp_jax import cli
        project = tomllib.load(open("pyproject.toml", "rb"))["project"]
        entries = project["entry-points"][cli.COMMAND_GROUP]
        cli.entry_points = lambda group: [EntryPoint(name, value, group) for name, value in entries.items()]
        assert "validate" in cli.build_parser().format_help()
        print([name for name in ("jax", "scipy", "matplotlib", "pyarrow") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
