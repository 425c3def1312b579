"""Mutated logs: no traceback, and every line is accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsmdp_jax.endings import deliberate
from icsmdp_jax.traces.fit import fit
from icsmdp_jax.traces.log import read_log
from icsmdp_jax.traces.outputs import policy, report
from tests.fuzz.judge import strict_warnings
from tests.traces.logs import config, desk

VALUES: list[Any] = [
    None, True, -1, 0, 7, 1e400, float("nan"), 10**400, 2**31, "", "a\u0000b", "\ud800", "x" * 300, [],
    ["solve", 1], {}, {"topic": {}}, {"load": "high", "topic": [1]}, {"load": float("inf")},
    {"outcome": float("nan")}, {"cost": "free"},
]  # fmt: skip


def mutated(rng: np.random.Generator, lines: list[dict[str, Any]]) -> bytes:
    """Up to four faults: fields retyped, renamed or lost, lines lost, swapped or repeated, bytes spoilt."""
    lines = [dict(line) for line in lines]
    for _ in range(rng.integers(1, 4)):
        at, other = rng.integers(len(lines), size=2)
        kind = rng.integers(6)
        key = str(rng.choice(list(lines[at]) or ["run"]))
        if kind == 0:
            lines[at][key] = VALUES[rng.integers(len(VALUES))]
        elif kind == 1:
            lines[at].pop(key, None)
        elif kind == 2 and len(lines) > 2:
            del lines[at]
        elif kind == 3:
            lines.insert(at, lines[other])
        elif kind == 4:
            lines[at], lines[other] = lines[other], lines[at]
        else:
            lines[at][key] = lines[other].get(str(rng.choice(list(lines[other]) or ["run"])))
    data = bytearray(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    for _ in range(rng.integers(0, 3)):
        at = rng.integers(len(data))
        if rng.integers(2):
            data[at] ^= 1 << int(rng.integers(8))
        else:
            del data[at : at + int(rng.integers(1, 40))]
    return bytes(data)


def judge(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = mutated(rng, desk(int(rng.integers(1, 8))))
    path.write_bytes(data)
    try:
        counted = read_log(path, config()).counted()
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error), seed
        return
    assert counted["lines"] == sum(not line.isspace() for line in data.split(b"\n") if line), seed
    assert counted["lines"] == counted["good"] + counted["other"] + sum(counted["bad"].values()), seed


@pytest.mark.slow
def test_mutated_logs_are_fitted_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for seed in range(200):
        rng = np.random.default_rng(seed)
        path.write_bytes(mutated(rng, desk(int(rng.integers(1, 8)))))
        try:
            with strict_warnings():
                done = fit(read_log(path, config()))
        except ValueError as error:
            assert deliberate(error), seed
            continue
        json.dumps(done.content, allow_nan=False)
        assert "</html>" in report(done.content, "log") and len(policy(done).agents) > 0


@pytest.mark.parametrize("count", [100, pytest.param(100_000, marks=pytest.mark.slow)])
def test_mutated_logs(tmp_path: Path, count: int) -> None:
    with strict_warnings():
        for seed in range(count):
            judge(tmp_path / "log.jsonl", seed)
