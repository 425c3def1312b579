"""``kill -9`` at random moments of a run of the testing preset: resumed, its table is the uninterrupted one."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from icsmdp_jax.runs.status import status
from tests.bound_validation.runs import leftovers
from tests.runs.processes import finish, gone, start

KILLS = 20
RUN = """
import sys
from pathlib import Path
from unittest import mock
from bound_validation.running import validate
from icsmdp_jax.devices.cache import set_compilation_cache

set_compilation_cache()
with mock.patch("bound_validation.report.figures.draw_all", lambda rows, summary, out, columns, worker: {}):
    validate(Path(sys.argv[1]), "testing", resume=True, apart=True)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path, float]:
    """Compilation cache, uninterrupted run, and how long it takes with every program in the cache."""
    cache, place = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("whole")
    finish(start(["-c", RUN, tmp_path_factory.mktemp("first")], cache=cache))
    begun = time.perf_counter()
    finish(start(["-c", RUN, place], cache=cache))
    return cache, place, time.perf_counter() - begun


@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_run_resumes_to_the_same_table(tmp_path, whole, number):
    cache, place, seconds = whole
    process = start(["-c", RUN, tmp_path], cache=cache)
    time.sleep(seconds * random.Random(number).uniform(0.02, 0.98))
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    others = workers.read_text().split() if workers.exists() else []
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert all(gone(int(number)) for number in others)
    if (tmp_path / "manifest.json").exists() and process.returncode == -signal.SIGKILL:
        assert status(tmp_path)["state"] in ("gone", "finished")
    finish(start(["-c", RUN, tmp_path], cache=cache))
    assert (tmp_path / "results.parquet").read_bytes() == (place / "results.parquet").read_bytes()
    assert leftovers(tmp_path) == []
