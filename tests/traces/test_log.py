"""Logs: three formats say the same, every line is accounted for, and nothing of a bad line is repeated."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from icsmdp_jax.traces.config import config_of, read_config
from icsmdp_jax.traces.encode import END, KINDS
from icsmdp_jax.traces.log import Log, read_log
from tests.traces.logs import SETTINGS, config, desk, handoff, write

DATA = Path(__file__).parent / "data"
DESK = read_config(Path(__file__).parents[2] / "examples" / "support_desk" / "fit.toml")
ARRAYS = ("run", "step", "agent", "fields", "offered", "option", "probability", "tau", "rate", "lump", "follows")


def same(a: Log, b: Log) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert (a.labels, a.option_name, a.lines, a.good) == (b.labels, b.option_name, b.lines, b.good)


def test_three_formats_say_the_same(tmp_path: Path) -> None:
    lines = desk()
    log = read_log(write(tmp_path / "log.jsonl", lines), config())
    assert log.good == log.lines == len(lines) == 21 and not log.bad
    flat = [
        {
            **{name: line[name] for name in ("run", "step", "agent", "option", "probability", "duration", "next")},
            "options": "|".join(line["options"]),
            **{f"seen.{name}": value for name, value in line["seen"].items()},
            "hidden.angry": str(line["hidden"]["angry"]).lower(),
            "hidden.load": line["hidden"]["load"],
            **{f"reward.{name}": value for name, value in line["reward"].items()},
        }
        for line in lines
    ]
    with open(tmp_path / "log.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)
    same(log, read_log(tmp_path / "log.csv", config()))
    parquet.write_table(pa.Table.from_pylist(lines), tmp_path / "log.parquet")
    same(log, read_log(tmp_path / "log.parquet", config()))
    parquet.write_table(pa.Table.from_pylist(flat), tmp_path / "flat.parquet")
    same(log, read_log(tmp_path / "flat.parquet", config()))


def test_what_a_line_becomes(tmp_path: Path) -> None:
    lines = [
        handoff("a", 0, "triage", "expert", duration=1.2),  # 3 steps of 0.5
        handoff("a", 1, "expert", None, duration=0, reward={"outcome": 2, "cost": 1.0}),  # 1 step
        handoff("b", 0, "triage", None, duration=99.0, reward=None),  # cut to 8 steps
    ]
    log = read_log(write(tmp_path / "log.jsonl", lines), config())
    assert log.tau.tolist() == [3, 1, 8] and log.follows.tolist() == [1, END, END]
    np.testing.assert_allclose(log.lump, [0.0, 2.0, 0.0], rtol=1e-15)
    np.testing.assert_allclose(log.rate, [-0.1 * 0.3 * (1 + 0.9 + 0.81) / 3, -0.1, 0.0], rtol=1e-14)
    assert log.labels[1] == ("missing", "below 0.5", "0.5 or more")
    assert any("longer than 8" in note for note in log.notes) and any("outcome is missing on 1" in n for n in log.notes)
    late = [handoff("a", 0, "triage", None, duration=1.0)]
    assert read_log(write(tmp_path / "end.jsonl", late), config()).lump[0] == pytest.approx(0.9, rel=1e-15)


def test_every_kind_of_bad_line_is_counted(tmp_path: Path) -> None:
    secret = "s3cret"
    bad = {
        "malformed": [handoff("m", 0, "triage", None, seen=secret)],
        "unknown_agent": [handoff("u", 0, secret, None)],
        "unknown_option": [handoff("o", 0, "triage", None, option=secret)],
        "bad_probability": [handoff("p", 0, "triage", None, probability=1.5)],
        "not_finite": [handoff("n", 0, "triage", None, duration=float("nan"))],
        "negative_duration": [handoff("d", 0, "triage", None, duration=-1)],
        "duplicate": [handoff("r0", 0, "triage", None)],
        "out_of_order": [handoff("x", 1, "expert", None), handoff("x", 0, "triage", "expert")],
        "after_end": [handoff("e", 0, "triage", None), handoff("e", 1, "triage", None)],
        "wrong_next": [handoff("w", 0, "triage", "triage"), handoff("w", 1, "expert", None)],
        "cut_off": [handoff("c", 0, "triage", "expert")],
    }
    assert list(bad) == list(KINDS)
    lines, expected = desk(), {}
    for kind, some in bad.items():
        at = -1 if kind in ("out_of_order", "after_end") else 0
        lines += some
        expected[kind] = [len(lines) - len(some) + 1 + (at % len(some))]
    path = write(tmp_path / "log.jsonl", lines)
    path.write_text(path.read_text() + "not json\n\n{}\n" + '{"run": "cut')
    log = read_log(path, config())
    expected["malformed"] += [len(lines) + 1, len(lines) + 3]
    expected["cut_off"].append(len(lines) + 4)
    counted = log.counted()
    assert counted["first_bad_lines"] == expected
    assert counted["lines"] == len(lines) + 3 == counted["good"] + sum(counted["bad"].values())
    assert secret not in repr(counted) + repr(log.notes)


def test_a_break_ends_the_part_from_the_start(tmp_path: Path) -> None:
    steps = [handoff("a", k, "triage", "triage" if k < 4 else None) for k in range(5)]
    steps[2]["duration"] = "long"
    log = read_log(write(tmp_path / "log.jsonl", [*steps, handoff("b", 1, "triage", None)]), config())
    assert log.step.tolist() == [0, 1, 3, 4, 1]
    assert log.known.tolist() == [True, False, True, True, True]  # line 2 is malformed, so line 1 leads nowhere
    assert log.from_start.tolist() == [True, True, False, False, False]


def test_what_is_seen_follows_from_the_log_unless_it_is_given(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", desk())
    assert read_log(path, config()).visible.tolist() == [[True, False, False], [True, True, False]]
    log = read_log(path, config(visible={}))
    assert log.visible.tolist() == [[True, False, False], [True, False, False]]  # what stands under seen
    settings = {name: table for name, table in SETTINGS.items() if name not in ("fields", "visible")}
    with pytest.raises(ValueError, match=r"^\S+log.jsonl: line 2: field load is a number with a fraction.*bins"):
        read_log(path, config_of(settings))


def test_options_that_vary_are_part_of_what_is_seen(tmp_path: Path) -> None:
    lines = [*desk(), handoff("z", 0, "triage", None, options=["solve"])]
    log = read_log(write(tmp_path / "log.jsonl", lines), config())
    assert log.field_name[-1] == "options offered" and log.labels[-1] == ("missing", "solve", "pass or solve")
    assert log.visible[:, -1].all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gamma = 1.0", r"gamma = 1.0: expected a number from 0 to 1 \(exclusive\)"),
        ("gamma = 0.9\n[rewards.x]", "rewards: unknown, did you mean reward"),
        ("gamma = 0.9", r"\[reward\]: missing"),
        ("gamma = 0.9\n[time]\nstep = 0\n[reward.x]", r"\[time\] step = 0: expected"),
        (
            "gamma = 0.9\n[fields.a]\nbins = [2, 1]\n[reward.x]",
            r"\[fields.a\] bins = \[2, 1\]: expected numbers that inc",
        ),
        ("gamma = 0.9\n[fields.a]\n[visible]\nx = ['b']\n[reward.x]", r"\[visible\] x: b: unknown"),
        ("gamma = nan\n[reward.x]", "gamma = nan: expected"),
        ("gamma = [", "cannot be read as TOML"),
    ],
)
def test_configurations_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "fit.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as found:
        read_config(path)
    assert str(found.value).startswith(f"{path}: ") and "\n" not in str(found.value)


def test_spans_of_opentelemetry(tmp_path: Path) -> None:
    def span(number: int, agent: str, start: float, end: float, parent: str = "", **more: object) -> dict:
        entries = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent, **more}
        kinds = {str: "stringValue", int: "intValue", float: "doubleValue", bool: "boolValue"}
        attributes = [
            {"key": key, "value": {kinds[type(v)]: str(v) if type(v) is int else v}} for key, v in entries.items()
        ]
        return {
            "traceId": "t1", "spanId": str(number), "parentSpanId": parent, "name": "x", "attributes": attributes,
            "startTimeUnixNano": str(int(start * 1e9)), "endTimeUnixNano": str(int(end * 1e9)),
        }  # fmt: skip

    tool = span(9, "triage", 1.0, 1.1)
    tool["attributes"][0]["value"] = {"stringValue": "execute_tool"}
    first = span(1, "triage", 0.0, 2.0, **{"gen_ai.usage.input_tokens": 10, "icsmdp.seen.topic": "bug"})
    spans = [span(2, "expert", 2.5, 4.0), tool, {**first, "startTimeUnixNano": "soon"}, first]
    path = tmp_path / "spans.json"
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}))
    log = read_log(path, config(reward={"input_tokens": {"paid": "start"}, "latency": {"paid": "start"}}))
    assert (log.lines, log.good, log.other, log.counted()["bad"]) == (3, 2, 1, {"malformed": 1})
    assert [log.agent_name[a] for a in log.agent] == ["triage", "expert"]
    assert [log.option_name[o] for o in log.option] == ["expert", "finish"]
    assert log.tau.tolist() == [5, 3] and log.rate.tolist() == [12.0, 1.5]  # until the next span starts; its own length
    assert log.labels[0] == ("missing", "bug") and log.fields[:, 0].tolist() == [1, 0]
    assert any("conversation.id is missing, and the trace stands in on 2 spans" in note for note in log.notes)


def test_spans_as_opentelemetry_exports_them(tmp_path: Path) -> None:
    """The desk in the Agents SDK, traced by OpenTelemetry's instrumentation: data/record_spans.py made the files."""
    spans = DATA / "spans.otlp.jsonl"
    settings = config_of({"gamma": 0.9, "time": {"step": 1e-3}, "reward": {"latency": {}}})
    log, logged = read_log(spans, settings), read_log(DATA / "spans.handoffs.jsonl", DESK)
    assert (log.lines, log.good, log.bad, log.other) == (21, 21, {}, 67 - 21) and log.num_runs == logged.num_runs == 4

    def chains(log: Log) -> list[list[str]]:
        taken = [log.agent_name[agent] for agent in log.agent]
        return sorted(taken[a:b] for a, b in itertools.pairwise([*np.flatnonzero(log.step == 0), len(taken)]))

    assert chains(log) == chains(logged)
    for start, end in itertools.pairwise([*np.flatnonzero(log.step == 0), 21]):
        options = [log.option_name[option] for option in log.option[start:end]]
        assert options == [*(log.agent_name[agent] for agent in log.agent[start + 1 : end]), "finish"]
    assert any("the span is the whole workflow's, on 4 spans" in note for note in log.notes)
    cut = json.loads(spans.read_text())
    inside = cut["resourceSpans"][0]["scopeSpans"][0]["spans"]
    inside[:] = [span for span in inside if span["name"] == "desk"]  # nothing is inside: agents without names
    inside.append(json.loads(spans.read_text())["resourceSpans"][0]["scopeSpans"][0]["spans"][2] | {"parentSpanId": ""})
    assert read_log(write(tmp_path / "cut.jsonl", [cut]), settings).counted()["bad"] == {"malformed": 4}


def test_spans_of_the_agents_sdk(tmp_path: Path) -> None:
    def span(name: str, start: int, end: int | None, data: dict, parent: str | None = None) -> dict:
        times = [None if t is None else f"2026-01-01T00:00:{t:02d}.000000+00:00" for t in (start, end)]
        return {
            "object": "trace.span", "id": name, "trace_id": "t", "parent_id": parent, "started_at": times[0],
            "ended_at": times[1], "span_data": data, "error": None,
        }  # fmt: skip

    agent = {"type": "agent", "name": "triage", "handoffs": ["expert"], "tools": [], "output_type": "str"}
    handed = {"type": "handoff", "from_agent": "triage", "to_agent": "expert"}
    extra = {"type": "custom", "name": "icsmdp", "data": {"seen": {"topic": "bug"}, "probability": 0.25}}
    spans = [
        {"object": "trace", "id": "t", "workflow_name": "desk"},
        span("h", 1, 1, handed, "a"), span("i", 0, 0, extra, "a"), span("a", 0, 2, agent),
        span("b", 2, 5, {**agent, "name": "expert", "handoffs": []}),
        {**span("c", 5, None, {**agent, "name": "expert"}), "trace_id": "u"},
    ]  # fmt: skip
    log = read_log(write(tmp_path / "spans.jsonl", spans), config(reward={"latency": {"paid": "start"}}))
    assert (log.lines, log.good, log.other, log.counted()["bad"]) == (3, 2, 3, {"cut_off": 1})
    assert [log.option_name[o] for o in log.option[:2]] == ["expert", "finish"] and log.probability[0] == 0.25
    assert log.offered.tolist() == [[True, True], [False, True], [True, True]]
    assert log.tau.tolist()[:2] == [4, 6]
