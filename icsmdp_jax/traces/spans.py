"""Spans of agents as rows of a log: OTLP JSON of OpenTelemetry, and exports of the OpenAI Agents SDK (docs/logs.md).

A span of an agent is one handoff: the agent holds the artifact from the start of its span to the start of the next one
of the same run. What the conventions do not record is taken from attributes of ours where they are, and named in a
note where they are not.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from icsmdp_jax.traces.lines import MALFORMED, Chunk, Row

FINISH = "finish"  # the option of the last agent of a run
OURS = "icsmdp"  # attributes icsmdp.seen.X, icsmdp.hidden.X, icsmdp.reward.X, icsmdp.options, .option, .probability
HEAD = 2**16  # bytes in which a format shows
NANO = 1e-9
DIRECT = ("options", "option", "probability")
TABLES = ("seen", "hidden", "reward")


class Spans(NamedTuple):
    """What a file of spans says about handoffs; ``other`` counts the spans that are not."""

    chunk: Chunk
    notes: list[str]
    other: int


@dataclasses.dataclass
class Visit:
    """One agent's hold of the artifact; times in seconds, ``end`` None where the span was never closed."""

    run: str
    agent: str
    start: float
    end: float | None
    number: int
    details: Row


def format_of(path: Path) -> str:
    """The format of a log by its name and its first bytes."""
    if path.suffix in (".csv", ".parquet"):
        return "handoffs"
    with open(path, "rb") as stream:
        head = stream.read(HEAD)
    if b'"resourceSpans"' in head or b'"resource_spans"' in head:
        return "otlp"
    return "agents-sdk" if b'"span_data"' in head or b'"trace.span"' in head else "handoffs"


def read_spans(path: Path, kind: str, wanted: Sequence[str] = ()) -> Spans:
    """The handoffs of a file of spans, numbered by their spans.

    Args:
      path: a regular file: one JSON value, or one a line.
      kind: ``"otlp"`` or ``"agents-sdk"``.
      wanted: attributes that count as fields the log saw.
    """
    values = _values(path)
    reader = _otlp if kind == "otlp" else _agents_sdk
    missing: Counter[str] = Counter()
    visits, faults, other = reader(values, frozenset(wanted), missing)
    rows = [*_rows(visits, missing), *((number, MALFORMED) for number in faults)]
    notes = [f"{what} on {count} spans" for what, count in missing.items()]
    return Spans(Chunk([number for number, _ in rows], [row for _, row in rows]), notes, other)


def _values(path: Path) -> list[Any]:
    """The JSON values of a file; a line that is none stands as None."""
    data = path.read_bytes()
    try:
        value = json.loads(data.decode("utf-8"))
        return value if isinstance(value, list) else [value]
    except (ValueError, RecursionError):
        pass
    values = []
    for line in data.splitlines():
        if line.strip():
            try:
                values.append(json.loads(line.decode("utf-8")))
            except (ValueError, RecursionError):
                values.append(None)
    return values


def _rows(visits: list[Visit], missing: Counter[str]) -> Iterator[tuple[int, Row | str]]:
    visits = sorted(visits, key=lambda visit: (visit.run, visit.start, visit.number))
    step = 0
    for visit, later in zip_longest(visits, visits[1:]):
        follower = later if later is not None and later.run == visit.run else None
        row: Row = {"run": visit.run, "step": step, "agent": visit.agent, **visit.details}
        if visit.end is not None and visit.end < visit.start:
            row |= {"duration": visit.end - visit.start, "next": None}
        elif follower is not None:
            row |= {"duration": follower.start - visit.start, "next": follower.agent}
        elif visit.end is not None:
            row |= {"duration": visit.end - visit.start, "next": None}
            missing["whether a run was finished is not recorded, and taken to be so"] += 1
        else:  # open at the end of the log: what follows is unknown
            row |= {"duration": 0.0, "next": visit.agent}
        if "option" not in row:
            row["option"] = FINISH if row["next"] is None else row["next"]
            missing["the option taken is missing, and the next agent, or finish, stands in"] += 1
        if not row["seen"] and not row["hidden"]:
            missing["fields are missing"] += 1
        yield visit.number, row
        step = step + 1 if follower is not None else 0


def _otlp(values: list[Any], wanted: frozenset[str], missing: Counter[str]) -> tuple[list[Visit], list[int], int]:
    visits, faults, other, number = list[Visit](), list[int](), 0, 0
    above: dict[str, str] = {}  # of every span, the span around it
    agents: dict[str, None] = {}
    nameless: dict[str, int] = {}
    for span in _all_spans(values):
        number += 1
        try:
            attributes = {entry["key"]: _value(entry["value"]) for entry in span.get("attributes", [])}
            name, operation = span.get("name", ""), attributes.get("gen_ai.operation.name")
            identifier = str(span.get("spanId", f"span {number}"))
            if operation is None and str(name).startswith("invoke_agent"):
                missing["gen_ai.operation.name is missing, and the name of the span stands in"] += 1
                operation = "invoke_agent"
            if operation != "invoke_agent":
                other += 1
            elif "gen_ai.agent.name" not in attributes and "gen_ai.agent.id" not in attributes:
                if identifier in nameless:
                    raise ValueError("two spans with one identifier")
                nameless[identifier] = number
            else:
                visits.append(_otlp_visit(span, attributes, number, wanted, missing))
                agents[identifier] = None
            above[identifier] = str(span.get("parentSpanId") or "")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            faults.append(number)
    around = [_around(one, above) for one in agents]
    nested = sum(not agents.keys().isdisjoint(spans) for spans in around)
    if nested:
        missing["the return to the agent whose span is around is not recorded, and not counted,"] += nested
    # Instrumentations also put one such span, without an agent, around a whole run.
    workflows = nameless.keys() & set().union(*around)
    if workflows:
        missing["no agent is named and agents are inside, so that the span is the whole workflow's,"] += len(workflows)
    faults += [number for one, number in nameless.items() if one not in workflows]
    return visits, faults, other + len(workflows)


def _around(identifier: str, above: dict[str, str]) -> set[str]:
    """The spans around a span, itself only if they form a circle."""
    found: set[str] = set()
    while (identifier := above.get(identifier, "")) and identifier not in found:
        found.add(identifier)
    return found


def _otlp_visit(span: Row, attributes: Row, number: int, wanted: frozenset[str], missing: Counter[str]) -> Visit:
    start, end = int(span["startTimeUnixNano"]) * NANO, int(span.get("endTimeUnixNano") or 0) * NANO or None
    agent = attributes.get("gen_ai.agent.name")
    if agent is None:
        agent = attributes["gen_ai.agent.id"]
        missing["gen_ai.agent.name is missing, and gen_ai.agent.id stands in"] += 1
    run = attributes.get("gen_ai.conversation.id")
    if run is None:
        run = span["traceId"]
        missing["gen_ai.conversation.id is missing, and the trace stands in"] += 1
    if not isinstance(agent, str) or not isinstance(run, str):
        raise TypeError("names are texts")
    details: Row = {table: {} for table in TABLES}
    details["hidden"] = {name: attributes[name] for name in wanted if name in attributes}
    for key, value in attributes.items():
        first, _, rest = key.partition(".")
        table, _, name = rest.partition(".")
        if first == OURS and table in TABLES and name:
            details[table][name] = value
        elif first == OURS and rest in DIRECT:
            details[rest] = value
    _costs(details["reward"], attributes.get("gen_ai.usage.input_tokens"), attributes.get("gen_ai.usage.output_tokens"))
    details["reward"].setdefault("latency", 0.0 if end is None else end - start)
    status = span.get("status") or {}
    details["reward"].setdefault("error", int(status.get("code") in (2, "STATUS_CODE_ERROR")))
    return Visit(run, agent, start, end, number, details)


def _costs(reward: Row, inward: Any, outward: Any) -> None:
    for name, value in (("input_tokens", inward), ("output_tokens", outward)):
        if value is not None:
            reward[name] = reward.get(name, 0) + value


def _all_spans(values: list[Any]) -> Iterator[Any]:
    """Every span of the nested lists; whatever stands where a list or an object should be is one that is malformed."""
    for value in values:
        for resource in _members(value, "resourceSpans", "resource_spans"):
            for scope in _members(resource, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
                yield from _members(scope, "spans")


def _members(value: Any, *names: str) -> Iterable[Any]:
    if isinstance(value, dict):
        for name in names:
            if isinstance(value.get(name), list):
                return value[name]
    return [None] if names != ("spans",) or not isinstance(value, dict) else []


def _value(value: Any) -> Any:
    """An attribute's value without its type."""
    (kind, content), *_ = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "arrayValue":
        return [_value(entry) for entry in content.get("values", [])]
    if kind in ("stringValue", "doubleValue", "boolValue"):
        return content
    return None


def _agents_sdk(values: list[Any], wanted: frozenset[str], missing: Counter[str]) -> tuple[list[Visit], list[int], int]:
    by_span: dict[str, Visit] = {}
    inner, faults, other = list[tuple[str, Row]](), list[int](), 0
    for number, span in enumerate(values, 1):
        try:
            if span.get("object") == "trace":
                other += 1
                continue
            data = span["span_data"]
            if data["type"] == "agent":
                by_span[span["id"]] = _sdk_visit(span, data, number)
                continue
            other += 1
            inner.append((str(span.get("parent_id")), data))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            faults.append(number)
    for parent, data in inner:
        if parent in by_span:
            _inside(by_span[parent].details, data)
    for visit in by_span.values():
        if "options" not in visit.details:
            missing["the handoffs that were possible are missing"] += 1
    return list(by_span.values()), faults, other


def _sdk_visit(span: Row, data: Row, number: int) -> Visit:
    start = datetime.fromisoformat(span["started_at"]).timestamp()
    end = None if span.get("ended_at") is None else datetime.fromisoformat(span["ended_at"]).timestamp()
    if not isinstance(data["name"], str) or not isinstance(span["trace_id"], str) or not isinstance(span["id"], str):
        raise TypeError("names are texts")
    details: Row = {table: {} for table in TABLES}
    details["reward"] = {"latency": 0.0 if end is None else end - start, "error": int(span.get("error") is not None)}
    if isinstance(data.get("handoffs"), list):
        details["options"] = [*data["handoffs"], FINISH]
    return Visit(span["trace_id"], data["name"], start, end, number, details)


def _inside(details: Row, data: Row) -> None:
    """Adds what a span inside an agent's span says: the handoff, what a call cost, or what ours adds."""
    usage, own = data.get("usage"), data.get("data")
    if data.get("type") == "handoff" and isinstance(data.get("to_agent"), str):
        details.setdefault("option", data["to_agent"])
    elif isinstance(usage, dict) and data.get("type") in ("generation", "response"):
        numbers = [usage.get(name) for name in ("input_tokens", "output_tokens")]
        _costs(details["reward"], *[value if type(value) is int else None for value in numbers])
    elif data.get("type") == "custom" and data.get("name") == OURS and isinstance(own, dict):
        for name in DIRECT:
            if name in own:
                details[name] = own[name]
        for table in TABLES:
            if isinstance(own.get(table), dict):
                details[table] = {**details[table], **own[table]}
