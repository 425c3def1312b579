"""Where results are written: through links, over regular files only, all or nothing, and nothing left behind."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from icsmdp_jax.io import atomic_write, check_folder, file_target
from tests.bound_validation.runs import GOLDEN, ROOT, icsmdp, refused
from tests.command_line import PLAIN, contents

SOLVED = {"q_star", "q_interface", "stationary", "weights"}
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def solve(out: object) -> Any:
    return icsmdp("solve", PLAIN, "--out", os.fspath(out))  # type: ignore[call-overload]


def commands(out: object) -> dict[str, list[str]]:
    return {
        "solve": ["solve", str(PLAIN), "--out", str(out)],
        "learn": ["learn", str(PLAIN), "--samples", "10", "--replicas", "2", "--out", str(out)],
    }


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Links


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    for folder in ("real", "here"):
        (tmp_path / folder).mkdir()
    target, link = tmp_path / "real" / "out.npz", tmp_path / "here" / "link.npz"
    target.write_text("old")
    link.symlink_to("../real/out.npz")
    assert solve(link).code == 0
    assert link.is_symlink() and os.readlink(link) == "../real/out.npz" and not target.is_symlink()
    assert set(contents(target)) == SOLVED
    assert names(tmp_path / "real") == ["out.npz"] and names(tmp_path / "here") == ["link.npz"]


def test_a_chain_of_links_through_a_linked_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "first.npz").symlink_to("second.npz")
    (tmp_path / "second.npz").symlink_to("folder/out.npz")
    assert solve(tmp_path / "first.npz").code == 0
    assert set(contents(tmp_path / "real" / "out.npz")) == SOLVED and not (tmp_path / "real" / "out.npz").is_symlink()
    assert os.readlink(tmp_path / "first.npz") == "second.npz"
    assert names(tmp_path) == ["first.npz", "folder", "real", "second.npz"] and names(tmp_path / "real") == ["out.npz"]


def test_a_dangling_link_gets_its_target(tmp_path):
    link = tmp_path / "link.npz"
    link.symlink_to("later.npz")
    assert solve(link).code == 0
    assert link.is_symlink() and set(contents(tmp_path / "later.npz")) == SOLVED
    other = tmp_path / "nowhere.npz"
    other.symlink_to(tmp_path / "missing" / "out.npz")
    refused(solve(other), str(other), f"folder {tmp_path / 'missing'} does not exist")
    assert names(tmp_path) == ["later.npz", "link.npz", "nowhere.npz"] and other.is_symlink()


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused(solve(tmp_path / "a"), str(tmp_path / "a"))
    assert names(tmp_path) == ["a", "b"]


# What is no regular file


def special(kind: str, place: Path) -> None:
    if kind == "FIFO":
        os.mkfifo(place)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(os.fspath(place))
    elif kind == "directory":
        place.mkdir()
    else:
        os.mknod(place, 0o666 | stat.S_IFCHR, os.makedev(1, 3))


KINDS = ["FIFO", "socket", "directory", pytest.param("character device", marks=ROOT_ONLY)]


@pytest.mark.parametrize("command", ["solve", "learn"])
@pytest.mark.parametrize("through", ["itself", "a link"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_refused(kind, through, command, tmp_path, monkeypatch):
    """Before the model is even read: nothing waits for a reader of the FIFO, and a device is not replaced."""
    monkeypatch.chdir(tmp_path)  # a socket's name may not be long
    try:
        special(kind, Path("thing"))
    except PermissionError:
        pytest.skip("not allowed to make a device")
    before = os.lstat("thing")
    out = "thing"
    if through == "a link":
        os.symlink("thing", "link")
        out = "link"
    arguments = commands(out)[command]
    arguments[1] = "no-such-model.npz"
    refused(icsmdp(*arguments), f"--out {out}: is a {kind}, expected a regular file")
    after = os.lstat("thing")
    assert (after.st_ino, after.st_mode, after.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)
    assert set(names(tmp_path)) <= {"thing", "link"}


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout", "/proc/self/fd/1"])
def test_devices_of_the_system_survive(name):
    """Only what the check says is looked at, so that a fault in it destroys nothing."""
    with open(os.devnull, "w") as null:
        kept = os.dup(1)
        try:
            os.dup2(null.fileno(), 1)
            with pytest.raises(ValueError, match="is a character device, expected a regular file"):
                file_target(name, "--out")
        finally:
            os.dup2(kept, 1)
            os.close(kept)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_names_that_are_none(tmp_path):
    refused(solve(""), "--out: is empty")
    refused(solve(tmp_path / ("x" * 300)), "--out")
    refused(solve(tmp_path / "a" / "b"), f"folder {tmp_path / 'a'} does not exist")
    with pytest.raises(ValueError, match="expected the name of a file"):
        file_target("a\0b")
    assert names(tmp_path) == []


def test_a_long_name_is_written(tmp_path):
    """The temporary file's name is longer than the target's; both have to fit into what file systems allow."""
    name = "x" * 250 + ".npz"
    assert solve(tmp_path / name).code == 0 and names(tmp_path) == [name]


# Permissions


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_an_existing_file_keeps_its_mode(mode, tmp_path):
    out = tmp_path / "out.npz"
    out.write_text("old")
    out.chmod(mode)
    assert solve(out).code == 0 and mode_of(out) == mode and set(contents(out)) == SOLVED


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_follows_the_mask(mask, tmp_path):
    before = os.umask(mask)
    try:
        assert solve(tmp_path / "out.npz").code == 0
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "out.npz") == 0o666 & ~mask


def test_a_private_file_is_private_while_it_is_written(tmp_path):
    out = tmp_path / "out"
    out.write_text("old")
    out.chmod(0o600)
    with atomic_write(out) as stream:
        stream.write(b"new")
        (part,) = [path for path in tmp_path.iterdir() if path != out]
        assert mode_of(part) == 0o600 and out.read_text() == "old"
    assert out.read_text() == "new"


@ROOT_ONLY
def test_a_file_keeps_its_owner(tmp_path):
    out = tmp_path / "out"
    out.write_text("old")
    os.chown(out, 12345, 12346)
    with atomic_write(out, "w") as stream:
        stream.write("new")
    assert (out.stat().st_uid, out.stat().st_gid) == (12345, 12346)


class AsNobody:
    """Without the rights of root, for whom no file is protected."""

    def __enter__(self) -> None:
        if os.geteuid() == 0:
            os.seteuid(65534)

    def __exit__(self, *error: object) -> None:
        if os.getuid() == 0:
            os.seteuid(0)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    folder, out = tmp_path / "locked", tmp_path / "locked" / "out.npz"
    folder.mkdir()
    out.write_text("mine")
    out.chmod(0o666)
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(path.stat().st_mode | 0o055)
    folder.chmod(0o555)
    with AsNobody():
        with pytest.raises(ValueError, match=f"--out {out}: folder {folder} cannot be written to"):
            file_target(out, "--out")
        with pytest.raises(ValueError, match="cannot be written to"):
            check_folder(folder / "new" / "run")
    folder.chmod(0o777)
    assert out.read_text() == "mine" and names(folder) == ["out.npz"]


def test_a_file_that_is_write_protected(tmp_path):
    out = tmp_path / "out.npz"
    out.write_text("mine")
    out.chmod(0o444)
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(path.stat().st_mode | 0o055)
    tmp_path.chmod(0o777)
    with AsNobody(), pytest.raises(ValueError, match=f"{out}: is write-protected"), atomic_write(out):
        pass
    assert out.read_text() == "mine" and names(tmp_path) == ["out.npz"]


# All or nothing


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError, ZeroDivisionError])
def test_whatever_ends_a_write_leaves_what_was_there(error, tmp_path):
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(error), atomic_write(out) as stream:
        stream.write(b"half")
        raise error
    assert out.read_text() == "mine" and names(tmp_path) == ["out"]


def test_an_interruption_before_the_first_byte_leaves_nothing(tmp_path, monkeypatch):
    """Between making the temporary file and opening it."""

    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fdopen", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_text_is_utf8_whatever_the_locale(tmp_path):
    code = "from icsmdp_jax.io import atomic_write\nwith atomic_write('out', 'w') as stream: stream.write('\\u03bb')"
    bare = {"PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **bare}, check=True)
    assert (tmp_path / "out").read_bytes() == "λ".encode()


# Run directories


@pytest.mark.parametrize("command", ["validate", "sweep", "experiment"])
def test_a_run_directory_is_checked_before_anything_is_done(command, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    first = {
        "validate": ["validate", "--preset", "testing", "--model", str(GOLDEN / "plain.npz")],
        "sweep": ["sweep", str(tmp_path / "no-such-file.toml")],
        "experiment": ["experiment", "planted", "--preset", "testing"],
    }[command]
    refused(icsmdp(*first, "--out", taken), f"--out {taken}: is a file, expected a directory")
    refused(icsmdp(*first, "--out", taken / "deep" / "er"), f"{taken} is a file")
    refused(icsmdp(*first, "--out", ""), "--out: is empty")
    assert names(tmp_path) == ["taken"] and taken.read_text() == "mine"


def test_a_run_directory_may_be_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    check_folder(tmp_path / "run")
    check_folder(tmp_path / "run" / "new")
    (tmp_path / "elsewhere").rmdir()
    (tmp_path / "elsewhere").write_text("mine")
    with pytest.raises(ValueError, match="is a file, expected a directory"):
        check_folder(tmp_path / "run")
