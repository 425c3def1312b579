"""Sweeps in processes of their own: with so many devices, joined or killed, and the tables that they leave."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bound_validation.results import Row, read_table

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("-m", "tests.runs.small_sweep")
LIMIT = 400  # seconds after which a process is taken to hang


def environment(devices: int = 1, cache: Path | None = None) -> dict[str, str]:
    """Of a process with so many CPU devices, and a compilation cache of its own or none."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    given |= {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip(),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(cache or ""),
    }
    return given


def start(arguments: Sequence[Any], devices: int = 1, cache: Path | None = None) -> subprocess.Popen[str]:
    """``python ...`` with those devices."""
    return subprocess.Popen(
        [sys.executable, *(str(argument) for argument in arguments)],
        cwd=ROOT, env=environment(devices, cache), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Waits for its end with that code; what it wrote to stderr."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"hangs: {process.communicate()[1]}") from None
    assert process.returncode == code, f"{process.returncode}: {out} {err}"
    return err


def joined(command: Sequence[Any], count: int, cache: Path | None = None) -> list[subprocess.Popen[str]]:
    """The same command as ``count`` processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", count, "--process-id"]
    return [start([*command, *together, index], cache=cache) for index in range(count)]


def rows(place: Path) -> list[Row]:
    """The table of a run."""
    return read_table(place / "results.parquet")


def gone(pid: int, seconds: float = 60.0) -> bool:
    """Whether a process ends within that time."""
    until = time.monotonic() + seconds
    while True:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(0.02)
