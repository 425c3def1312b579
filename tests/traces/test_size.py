"""A million handoffs are fitted in a minute on two cores, and in 2 GB."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pytest

from tests.command_line import with_peak
from tests.traces.logs import desk, write
from tests.traces.test_command import TOML

LINES = 10**6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_million_lines(tmp_path: Path) -> None:
    block = write(tmp_path / "block.jsonl", desk(600)).read_text()
    with open(tmp_path / "log.jsonl", "w") as stream:
        for copy in range(-(-LINES // block.count("\n"))):
            stream.write(block.replace('"run": "', f'"run": "{copy}-'))
    (tmp_path / "fit.toml").write_text(TOML)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done, peak = with_peak(
        "fit", tmp_path / "log.jsonl", "--config", tmp_path / "fit.toml", "--out", tmp_path / "out", "--json"
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["log"]["lines"] == found["log"]["good"] >= LINES
    # Seconds of both cores together, so that whatever else the machine does counts less.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 120
    assert peak < 2 * 2**30
