"""Mutated logs: no traceback, and every line is accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsmdp_jax.endings import deliberate
from icsmdp_jax.traces.config import config_of
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

EXPORT = (Path(__file__).parents[1] / "traces" / "data" / "spans.otlp.jsonl").read_text()
EXPORTED = [
    {"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}},
    {"key": "gen_ai.agent.name", "value": {"stringValue": "triage"}},
]
ATTRIBUTES = [
    "gen_ai.agent.id", "gen_ai.conversation.id", "gen_ai.usage.input_tokens", "icsmdp.options", "icsmdp.option",
    "icsmdp.probability", "icsmdp.reward.latency", "icsmdp.seen.topic",
]  # fmt: skip
SPANS = config_of({"gamma": 0.9, "time": {"step": 1e-3}, "reward": {"latency": {}}})


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


def mutated_spans(rng: np.random.Generator) -> bytes:
    """Up to five faults in a real export: spans and attributes retyped, lost, repeated, put into each other."""
    export = json.loads(EXPORT)
    spans = export["resourceSpans"][0]["scopeSpans"][0]["spans"]
    for _ in range(rng.integers(1, 6)):
        at, other = rng.integers(len(spans), size=2)
        value = VALUES[rng.integers(len(VALUES))]
        kind = rng.integers(6)
        if kind == 0 or not isinstance(spans[at], dict) or not spans[at]:
            spans[at] = value
        elif kind == 1:
            spans[at] = {**spans[at], str(rng.choice(list(spans[at]))): value}
        elif kind == 2:
            spans[at] = {key: kept for key, kept in spans[at].items() if rng.integers(8)}
        elif kind == 3:
            spans.insert(at, spans[other])
        elif kind == 4:
            around = spans[other].get("spanId") if isinstance(spans[other], dict) else value
            spans[at] = {**spans[at], "parentSpanId": around}
        else:
            key, form = str(rng.choice(ATTRIBUTES)), str(rng.choice(["intValue", "stringValue", "arrayValue"]))
            spans[at] = {**spans[at], "attributes": [{"key": key, "value": {form: value}}, *EXPORTED]}
    if not rng.integers(20):
        spans[:] = [span for span in spans if not isinstance(span, dict)]  # no agent at all
    return json.dumps(export).encode()


def judge_spans(path: Path, seed: int) -> None:
    data = mutated_spans(np.random.default_rng(seed))
    path.write_bytes(data)
    try:
        counted = read_log(path, SPANS).counted()
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error), seed
        return
    assert counted["lines"] == counted["good"] + sum(counted["bad"].values()), seed
    spans = json.loads(data)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert counted["lines"] + counted["other"] == len(spans), seed


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


@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.slow)])
def test_mutated_spans(tmp_path: Path, count: int) -> None:
    with strict_warnings():
        for seed in range(count):
            judge_spans(tmp_path / "spans.json", seed)
