"""A run directory: what is run in ``manifest.json``, what is finished in ``parts/``, one atomic file for each task.

Nothing in it is ever overwritten by accident: the directory of another run, a damaged part and a part of another run
are refused in one line that names the file. A part file has two lines. The first says which task of which run it is and
gives the SHA-256 of the second, which is the content; every byte of the file is covered by one check or another.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from icsmdp_jax.io import atomic_write, file_target, to_plain, write_json

MANIFEST, PARTS, FINISHED = "manifest.json", "parts", "summary.json"
PROGRESS, FIGURES = "progress", "figures"
TABLE, REPORT = "results.parquet", "report.html"
PROVENANCE = ("schema", "versions", "code", "device", "flags")  # what a manifest says besides the configuration


class RunDirectory:
    """A directory that belongs to one run.

    Attributes:
      path: where it is.
      run: digest of the manifest, which every part carries.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.run = _digest(json.dumps(to_plain(manifest), sort_keys=True).encode())
        self._lock: IO[str] | None = None
        self._made: Path | None = None  # the lock's file, if there was none before

    @property
    def parts(self) -> Path:
        """The folder of part files."""
        return self.path / PARTS

    def part(self, task: str) -> Path:
        """The path of a task's part file."""
        return self.parts / f"{task.replace('/', '-')}.jsonl"

    def write(self, task: str, content: Any) -> Any:
        """Writes a part, atomically, and returns its content as ``read`` will give it."""
        body = json.dumps(to_plain(content), allow_nan=False)
        with atomic_write(self.part(task), "w") as stream:
            stream.write(f"{self._header(task, body)}\n{body}\n")
        # What was just computed goes through the same door as what is resumed, so both give the same bits.
        return json.loads(body)

    def read(self, task: str) -> Any:
        """The content of a part.

        Raises:
          ValueError: in one line that names the file, if it is damaged or of another task or run.
        """
        place = self.part(task)
        hint = "move it away to recompute it"
        try:
            text = place.read_bytes().decode("utf-8")
            if text.count("\n") != 2 or not text.endswith("\n"):
                raise ValueError("expected two complete lines")
            line, body, _ = text.split("\n")
            header = json.loads(line)
            if not isinstance(header, dict) or set(header) != {"task", "run", "sha256"}:
                raise ValueError("the first line is not the header of a part")
        except (ValueError, OSError, RecursionError) as error:
            raise ValueError(f"{place}: damaged part file ({_one_line(error)}); {hint}") from None
        if header["sha256"] != _digest(body.encode()) or line != json.dumps(header):
            raise ValueError(f"{place}: damaged part file (checksum does not match); {hint}")
        for name, expected in (("task", task), ("run", self.run)):
            if header[name] != expected:
                found = header["task"] if name == "task" else "another run"
                raise ValueError(f"{place}: foreign part file (of {found}), expected the part of {task}; {hint}")
        return json.loads(body)

    def finished(self, tasks: Sequence[str]) -> dict[str, Any]:
        """Contents of all parts that are there.

        Raises:
          ValueError: in one line that names the file, if one is damaged, or belongs to no task of this run.
        """
        expected = {self.part(task).name for task in tasks}
        for found in sorted(self.parts.iterdir()):
            if found.name not in expected and not found.name.endswith(".part"):
                raise ValueError(f"{found}: foreign file, expected only parts of this run; move it away to continue")
        return {task: self.read(task) for task in tasks if self.part(task).exists()}

    def unfinished(self) -> None:
        """Removes the mark of a finished run, before anything is computed."""
        (self.path / FINISHED).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Removes what processes that were killed while writing left behind; no process may be writing."""
        for left in self.parts.glob(".*.part"):
            left.unlink()
        with contextlib.suppress(OSError):
            for left in (self.path / "figures").glob(".*.part"):
                left.unlink()

    def lock(self, index: int) -> None:
        """Keeps a second process from computing the same run; the lock ends with the process, however that ends.

        Raises:
          ValueError: if another process holds it.
        """
        try:
            import fcntl
        except ImportError:  # not available on this system; then no process is kept out
            return
        file = self.path / f".lock-{index}"
        self._made = None if os.path.lexists(file) else file
        stream = open(file, "a")  # noqa: SIM115 - held as long as the run lasts
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            raise ValueError(
                f"--out {self.path}: another process is already running there; see icsmdp status"
            ) from None
        except OSError:  # a file system without locks
            pass
        self._lock = stream

    def close(self, untouched: bool = False) -> None:
        """Releases the lock, and removes its traces if the directory is to stay as it was."""
        if untouched and self._lock is not None and self._made is not None:
            self._made.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _header(self, task: str, body: str) -> str:
        return json.dumps({"task": task, "run": self.run, "sha256": _digest(body.encode())})


def open_directory(
    out: Path, manifest: dict[str, Any], resume: bool = False, overwrite: bool = False, index: int = 0
) -> RunDirectory:
    """Creates a run directory, or opens that of the very same run.

    Args:
      out: where; made if it does not exist.
      manifest: plain data that decides about every number of the run.
      resume: keep what is finished there.
      overwrite: start over whatever is there; with ``resume``, only if what is there is another run.
      index: of the process that asks, for its lock.

    Raises:
      ValueError: in one line, if the place cannot be used, or its run may be neither resumed nor lost.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"--out {out}: is a file, expected a directory") from None
    if not os.access(out, os.W_OK):
        raise ValueError(f"--out {out}: cannot be written to")
    _check_places(out, (PROGRESS,) if overwrite and not resume else (PROGRESS, PARTS))
    place = RunDirectory(out, manifest)
    place.lock(index)
    try:
        _settle(place, to_plain(manifest), resume, overwrite)
    except BaseException:
        place.close(untouched=True)
        raise
    return place


def _check_places(out: Path, kept: tuple[str, ...]) -> None:
    """Refuses what stands where the run will write, now and not after hours of computing; links in ``kept`` too."""
    own, known = Path(os.path.realpath(out)), dict[Path, str]()
    links = sorted(f"{name}/{file.name}" for name in kept for file in (out / name).glob("*") if file.is_symlink())
    for name in (MANIFEST, FINISHED, TABLE, REPORT, *links):
        target, _ = file_target(out / name)
        other = known.setdefault(target, name)
        if target != own / name and (other != name or target.is_relative_to(own)):
            raise ValueError(f"{out / name}: is a link to {target.name} of the same run, expected a file of its own")
    for name in (PARTS, PROGRESS, FIGURES):
        if os.path.lexists(out / name) and not (out / name).is_dir():
            raise ValueError(f"{out / name}: is a file, expected a directory; move it away to continue")


def follow_directory(out: Path, manifest: dict[str, Any], index: int) -> RunDirectory:
    """The directory that process 0 of the same run has opened, for another one of its processes.

    Raises:
      ValueError: in one line, if this process does not see it, or was started for another run.
    """
    place = RunDirectory(out, manifest)
    try:
        found = read_manifest(out)
    except ValueError as error:
        raise ValueError(f"{error}; expected the directory of process 0, on a file system that all hosts see") from None
    differs = first_difference(found, to_plain(manifest))
    if differs is not None:
        raise ValueError(f"--process-id {index}: {differs}; expected the same run as process 0")
    place.lock(index)
    return place


def _settle(place: RunDirectory, manifest: dict[str, Any], resume: bool, overwrite: bool) -> None:
    """Keeps the parts that are there, removes them, or refuses."""
    out, written = place.path, place.path / MANIFEST
    if not written.exists():
        if place.parts.exists() and any(place.parts.iterdir()):
            raise ValueError(f"--out {out}: contains a folder {PARTS} but no {MANIFEST}, so it is not a run directory")
        _begin(place, manifest)
        return
    found = read_manifest(out) if not overwrite else _read_or_none(written)
    differs = first_difference(found, manifest)
    if resume and differs is None:
        place.parts.mkdir(exist_ok=True)
        return
    if not overwrite:
        if resume:
            raise ValueError(f"{written}: {differs}; a run can only be resumed with the settings it was started with")
        other = first_difference(_configuration(found), _configuration(manifest))
        if other is not None:
            raise ValueError(f"{written}: {other}; choose another --out, or use --overwrite to replace that run")
        if not (out / FINISHED).exists():
            raise ValueError(
                f"--out {out}: an unfinished run of this configuration is there; use --resume to continue it, or "
                "--overwrite to start over"
            )
    shutil.rmtree(place.parts, ignore_errors=True)
    place.unfinished()
    _begin(place, manifest)


def _begin(place: RunDirectory, manifest: dict[str, Any]) -> None:
    write_json(place.path / MANIFEST, manifest)
    place.parts.mkdir(exist_ok=True)


def read_manifest(out: Path) -> dict[str, Any]:
    """The manifest of a run directory.

    Raises:
      ValueError: in one line, if there is none, or if it is not readable.
    """
    place = out / MANIFEST
    if not place.exists():
        raise ValueError(f"{out}: contains no {MANIFEST}, so it is not a run directory")
    found = _read_or_none(place)
    if found is None:
        raise ValueError(f"{place}: not a readable manifest, so the run cannot be resumed")
    return found


def is_written(out: Path, manifest: dict[str, Any]) -> bool:
    """Whether everything that a run leaves is there: the summary, which is written last, and table or report."""
    needed = (FINISHED, REPORT if manifest.get("experiments") else TABLE)
    return all((out / name).is_file() for name in needed)


def resuming(manifest: dict[str, Any]) -> str:
    """How a run with this manifest is resumed, in words."""
    return "run the same command again to resume" if manifest.get("experiments") else "resume with --resume"


def _read_or_none(place: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("tasks", []), list) else None


def _configuration(manifest: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (manifest or {}).items() if key not in PROVENANCE}


def first_difference(found: Any, wanted: Any, name: str = "") -> str | None:
    """The first place where two pieces of plain data differ, in words; None if they are equal."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inside = f"{name}.{key}" if name else str(key)
            if (key in found) != (key in wanted):
                return f"{inside} is set now, but was not" if key in wanted else f"{inside} was set, but is not now"
            differs = first_difference(found[key], wanted[key], inside)
            if differs is not None:
                return differs
        return None
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        inside_list = (first_difference(a, b, f"{name}[{i}]") for i, (a, b) in pairs)
        return next((differs for differs in inside_list if differs is not None), None)
    if type(found) is type(wanted) and found == wanted:
        return None
    return f"{name} was {_short(found)}, but is {_short(wanted)} now"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
