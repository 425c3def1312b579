"""The command ``icsmdp compare``: two validation runs read, compared and reported.

Exit codes: 0 if nothing changed beyond noise and no verdict changed, 1 if something did, 2 for bad input.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bound_validation.compare.comparison import Change, Comparison, Pair
    from bound_validation.results import Row

TIMES = ("run_s", "compile_s", "handoffs", "handoffs_per_second")
SUMMARY_KEYS = ("bound_holds", "slopes", "claims")


def add_command(commands: Any) -> None:
    """Adds ``compare`` to the parser of the command line (an entry point of this package)."""
    command = commands.add_parser("compare", help="compare two validation runs: what changed beyond noise")
    command.add_argument("a", metavar="A", help="run directory, or its results.parquet")
    command.add_argument("b", metavar="B", help="the other run, likewise")
    command.add_argument("--all", action="store_true", help="list every row, not only those that changed")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(handler=_run)


def _run(args: argparse.Namespace) -> int:
    from bound_validation.results import to_plain

    found = compare_runs(read_run(args.a), read_run(args.b))
    if args.json:
        print(json.dumps(to_plain(content(found, args.all)), allow_nan=False))
    else:
        print("\n".join(report(found, args.all)))
    return 1 if found.changed else 0


@dataclasses.dataclass(frozen=True)
class ValidationRun:
    """What was read of one run.

    Attributes:
      place: the path that was given.
      rows: its table.
      manifest: the manifest in the table's metadata, or None.
      summary: content of ``summary.json``, or None if only the table is there.
    """

    place: str
    rows: list[Row]
    manifest: dict[str, Any] | None
    summary: dict[str, Any] | None

    @property
    def device(self) -> dict[str, Any] | None:
        """The device that simulated, if it is known."""
        return None if self.summary is None else self.summary.get("device")

    @property
    def times(self) -> dict[str, float]:
        """Seconds and handoffs of the run, and handoffs per second of run time, compilation included."""
        known = {name: self.summary[name] for name in TIMES if self.summary and self.summary.get(name) is not None}
        if known.get("run_s") and "handoffs" in known:
            known["handoffs_per_second"] = known["handoffs"] / known["run_s"]
        return known


def read_run(place: str) -> ValidationRun:
    """Reads a run directory, or a table alone.

    Args:
      place: a directory with ``results.parquet``, or such a file.

    Returns:
      The run. A summary is looked for only if a directory is given, not next to a table.

    Raises:
      ValueError: in one line, if there is no table, if a file cannot be read, or if the schema is not this version's.
    """
    from bound_validation.results import SCHEMA, read_table

    folder = Path(place)
    table = folder / "results.parquet" if folder.is_dir() else folder
    if not table.is_file():
        raise ValueError(f"{place}: expected a run directory with results.parquet, or such a file")
    manifest = _manifest(table)
    if manifest is not None and manifest.get("schema") != SCHEMA:
        raise ValueError(f"{table}: schema {manifest.get('schema')!r}, expected {SCHEMA}")
    summary = _summary(folder / "summary.json") if folder.is_dir() else None
    return ValidationRun(place, read_table(table), manifest, summary)


def _manifest(table: Path) -> dict[str, Any] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(table).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{table}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
    if b"icsmdp_jax" not in metadata:
        return None
    try:
        manifest = json.loads(metadata[b"icsmdp_jax"])
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise ValueError(f"{table}: metadata icsmdp_jax is not a manifest, expected a JSON object")
    return manifest


def _summary(place: Path) -> dict[str, Any] | None:
    if not place.exists():
        return None
    try:
        summary = json.loads(place.read_text(encoding="utf-8"))
        missing = [name for name in SUMMARY_KEYS if name not in summary]
        if missing or not isinstance(summary, dict):
            raise ValueError(f"{', '.join(missing)} missing" if missing else "not a JSON object")
        _ = [(claim["name"], claim["passed"], claim["undecided"]) for claim in summary["claims"]]
        _ = [(slope["passed"], slope["undecided"]) for slope in summary["slopes"].values()]
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{place}: cannot be read as the summary of a run ({reason})") from None
    return summary


@dataclasses.dataclass(frozen=True)
class Found:
    """Everything that there is to say about two runs.

    Attributes:
      a: the first run.
      b: the second.
      rows: what became of the rows.
      relation: how the runs depend on each other, a key of ``comparison.RELATIONS``.
      verdicts: verdicts that changed; None if a summary is missing.
      configuration: what differs of manifest and device.
    """

    a: ValidationRun
    b: ValidationRun
    rows: Comparison
    relation: str
    verdicts: list[Change] | None
    configuration: list[Change]

    @property
    def listed(self) -> list[Pair]:
        """Pairs to report: those that changed."""
        return [pair for pair in self.rows.pairs if pair.changed]

    @property
    def changed(self) -> bool:
        """Whether anything changed beyond noise, or any verdict."""
        return self.rows.changed or bool(self.verdicts)


def compare_runs(a: ValidationRun, b: ValidationRun) -> Found:
    """Compares two runs; see ``bound_validation.compare.comparison``."""
    from bound_validation.compare import comparison

    verdicts = None
    if a.summary is not None and b.summary is not None:
        verdicts = comparison.changed_verdicts(a.summary, b.summary)
    configuration = comparison.differing(a.manifest or {}, b.manifest or {})
    if a.device is not None and b.device is not None:
        configuration += comparison.differing({"device": a.device}, {"device": b.device})
    related = comparison.relation(a.manifest, b.manifest)
    return Found(a, b, comparison.compare(a.rows, b.rows), related, verdicts, configuration)


# The JSON object


def content(found: Found, every: bool) -> dict[str, Any]:
    """The comparison as one JSON object; with ``every`` all matched rows, otherwise those that changed."""
    from bound_validation.compare.comparison import DISCOVERY_RATE, EXACT, NOISY, RELATIONS, UNKNOWN

    pairs = found.rows.pairs
    return {
        "changed": found.changed,
        "a": {"place": found.a.place, "rows": len(found.a.rows), **found.a.times},
        "b": {"place": found.b.place, "rows": len(found.b.rows), **found.b.times},
        "relation": found.relation,
        "relation_text": RELATIONS[found.relation],
        "false_discovery_rate": DISCOVERY_RATE,
        "matched": len(pairs),
        "matched_exact": found.rows.count(EXACT),
        "matched_noisy": found.rows.count(NOISY),
        "matched_unknown_noise": found.rows.count(UNKNOWN),
        "differ": sum(pair.differs for pair in pairs),
        "bounds_changed": sum(pair.bound_differs for pair in pairs),
        "holds_changed": sum(pair.holds_differs for pair in pairs),
        "constants_changed": sum(bool(pair.constants) for pair in pairs),
        "other_bits": sum(not pair.same_bits for pair in pairs),
        "rows": [_plain_pair(pair) for pair in (pairs if every else found.listed)],
        "only_a": [_plain_key(row) for row in found.rows.only_a],
        "only_b": [_plain_key(row) for row in found.rows.only_b],
        "verdicts": None if found.verdicts is None else [change._asdict() for change in found.verdicts],
        "configuration": [change._asdict() for change in found.configuration],
    }


def _plain_key(row: Row) -> dict[str, Any]:
    from bound_validation.compare.comparison import key_of

    return {**key_of(row)._asdict(), "x": row.x}


def _plain_pair(pair: Pair) -> dict[str, Any]:
    sides = {
        side: {name: getattr(row, name) for name in ("measured", "ci_low", "ci_high", "replicas", "bound", "holds")}
        for side, row in (("a", pair.a), ("b", pair.b))
    }
    names = ("kind", "difference", "noise", "z", "p", "differs", "bound_differs", "holds_differs", "constants")
    flags = {name: getattr(pair, name) for name in names}
    return {**_plain_key(pair.a), **sides, **flags, "same_bits": pair.same_bits}


# The report


def report(found: Found, every: bool) -> list[str]:
    """Lines of the readable report."""
    from bound_validation.compare.comparison import EXACT, NOISY, RELATIONS, UNKNOWN

    rows = found.rows
    lines = [f"A  {found.a.place}", f"B  {found.b.place}", f"   {RELATIONS[found.relation]}"]
    lines += _section("Different configuration", _changes(found.configuration))
    lines += _section("Time", _times(found))
    kinds = f"{rows.count(NOISY)} with noise, {rows.count(EXACT)} exact"
    if rows.count(UNKNOWN):
        kinds += f", {rows.count(UNKNOWN)} of one replica (not judged)"
    lines += ["", f"{len(rows.pairs)} matched rows: {kinds}; {_largest(rows)}"]
    other = sum(not pair.same_bits for pair in rows.pairs)
    if found.relation == "equal" and other:
        lines.append(f"{other} rows have other bits, as on another machine")
    if found.verdicts is None:
        lines.append("No verdicts compared: summary.json of a run is missing or was not given")
    else:
        lines += _section("Changed verdicts", _changes(found.verdicts))
    held = [pair for pair in rows.pairs if pair.holds_differs]
    words = {1: "held", 0: "violated", -1: "none claimed"}
    lines += _section("Changed: whether the bound holds", _table(
        [[str(p.key), _number(p.a.x), words[p.a.holds], "->", words[p.b.holds]] for p in held]))  # fmt: skip
    lines += _section("Changed bounds", _table(
        [[str(p.key), _number(p.a.x), _number(p.a.bound), "->", _number(p.b.bound)]
         for p in rows.pairs if p.bound_differs]))  # fmt: skip
    counted = Counter(name for pair in rows.pairs for name in pair.constants)
    lines += _section("Changed constants", _table([[name, f"in {count} rows"] for name, count in counted.items()]))
    lines += _section("Changed values", _values([pair for pair in rows.pairs if pair.differs]))
    for side, missing in (("A", rows.only_a), ("B", rows.only_b)):
        lines += _section(f"Only in {side}: {len(missing)} rows", _missing(missing, every))
    if every:
        lines += _section("All matched rows", _values(list(rows.pairs)))
    return [*lines, "", "Something changed." if found.changed else "Nothing changed beyond noise."]


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)] if lines else []


def _table(rows: list[list[str]]) -> list[str]:
    """Aligned lines: the first column to the left, the others to the right."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths)))  # noqa: B905
        for row in rows
    ]


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.5g}"


def _values(pairs: list[Pair]) -> list[str]:
    if not pairs:
        return []
    head = ["row", "x", "A", "[95 %]", "B", "[95 %]", "difference", "noise", "z", "p", ""]
    body = []
    for p in pairs:
        ends = [f"[{_number(r.ci_low)}, {_number(r.ci_high)}]" if r.ci_low != r.ci_high else "" for r in (p.a, p.b)]
        body.append(
            [str(p.key), _number(p.a.x), _number(p.a.measured), ends[0], _number(p.b.measured), ends[1],
             f"{p.difference:+.3g}", _number(p.noise), f"{p.z:+.2f}" if p.z == p.z else "-",
             f"{p.p:.2g}" if p.p == p.p else "-", "changed" if p.changed else ""]
        )  # fmt: skip
    return [line.rstrip() for line in _table([head, *body])]


def _largest(rows: Comparison) -> str:
    judged = [pair for pair in rows.pairs if pair.z == pair.z]
    if not judged:
        return "none to test"
    most = max(judged, key=lambda pair: abs(pair.z))
    return f"largest |z| {abs(most.z):.2f} ({most.key}), smallest p {min(pair.p for pair in judged):.2g}"


def _changes(changes: list[Change]) -> list[str]:
    def text(value: Any) -> str:
        plain = "-" if value is None else value if isinstance(value, str) else json.dumps(value)
        return plain if len(plain) <= 40 else f"{plain[:37]}..."

    return _table([[change.name, text(change.a), "->", text(change.b)] for change in changes])


def _times(found: Found) -> list[str]:
    lines = [
        [name, *(f"{times[name]:,.0f}" if name in times else "-" for times in (found.a.times, found.b.times))]
        for name in TIMES
        if name in found.a.times or name in found.b.times
    ]
    return _table([["", "A", "B"], *lines]) if lines else []


def _missing(rows: tuple[Row, ...], every: bool) -> list[str]:
    from bound_validation.compare.comparison import key_of

    shown = rows if every else rows[:5]
    lines = _table([[str(key_of(row)), _number(row.x)] for row in shown])
    return lines if len(shown) == len(rows) else [*lines, f"... and {len(rows) - len(shown)} more (--all)"]
