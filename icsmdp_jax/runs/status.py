"""What ``icsmdp status DIR`` says about a run, from any shell that sees its directory."""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from icsmdp_jax.runs.directory import PARTS, is_written, read_manifest, resuming
from icsmdp_jax.runs.meter import (
    BEAT,
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    Report,
    duration,
    read_reports,
    sentence,
)

SILENT = 10 * BEAT  # seconds without a renewal after which a process is taken to be gone, if it is on another machine
GONE = "gone"
UNFINISHED = (FAILED, INTERRUPTED, GONE, RUNNING)  # with several processes, the first of these that applies decides


def status(folder: Path, now: float | None = None) -> dict[str, Any]:
    """How far a run is.

    Args:
      folder: run directory.
      now: seconds since 1970, for tests.

    Returns:
      ``state`` (running, finished, interrupted, failed, gone), ``tasks``, ``tasks_done``, ``written`` (whether the
      table, or the report of all experiments, and the summary are there; without them no run is finished), ``resume``
      (how it is resumed, in words) and ``processes``, the reports of all processes with their ``state`` as seen from
      here and ``age_s``, seconds since the last renewal.

    Raises:
      ValueError: in one line, if it is not a run directory.
    """
    manifest = read_manifest(folder)
    tasks = manifest.get("tasks", [])
    parts = [path for path in (folder / PARTS).glob("*.jsonl") if not path.name.startswith(".")]
    now = time.time() if now is None else now
    processes = []
    for report in read_reports(folder):
        age = max(now - report.updated, 0.0)
        processes.append({**report._asdict(), "state": seen_state(report, age), "age_s": age})
    states = [process["state"] for process in processes]
    written = is_written(folder, manifest)
    state = FINISHED if written else next((one for one in UNFINISHED if one in states), GONE)
    return {
        "directory": str(folder),
        "state": state,
        "tasks": len(tasks),
        "tasks_done": len(parts),
        "written": written,
        "resume": resuming(manifest),
        "processes": processes,
    }


def seen_state(report: Report, age: float) -> str:
    """The state of a process: ``gone`` if it says that it runs, but is no longer there."""
    if report.state != RUNNING:
        return report.state
    if report.host == socket.gethostname():
        try:
            os.kill(report.pid, 0)
        except (ProcessLookupError, OverflowError):
            return GONE
        except OSError:
            pass
    return GONE if age > SILENT else RUNNING


def readable(found: dict[str, Any]) -> str:
    """A status for people."""
    advice = {
        FAILED: f"; it ended with an error, {found['resume']}",
        INTERRUPTED: f"; {found['resume']}",
        GONE: f"; no process is working on it, {found['resume']}",
    }
    rest = advice.get(found["state"], "")
    lines = [f"{found['directory']}: {found['state']}, {found['tasks_done']} of {found['tasks']} tasks written{rest}"]
    for process in found["processes"]:
        report = Report(**{name: process[name] for name in Report._fields})
        loaded = f"{report.programs_compiled} programs compiled, {report.programs_loaded} from the cache"
        seen = f"{process['state']}, last seen {duration(process['age_s'])} ago"
        lines.append(f"process {report.process} on {report.host} ({seen}): {sentence(report)}; {loaded}")
    return "\n".join(lines)


def add_command(commands: Any) -> None:
    """Adds ``status`` to the parser of the command line."""
    command = commands.add_parser("status", help="show how far a run is, from any shell")
    command.add_argument("directory", help="run directory: --out of validate, sweep or experiment all")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(handler=_run)


def _run(args: argparse.Namespace) -> int:
    found = status(Path(args.directory))
    print(json.dumps(found, allow_nan=False) if args.json else readable(found))
    return 0
