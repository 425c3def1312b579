"""Files of handoffs as chunks of rows, one dict for each line: JSON lines, CSV and Parquet (docs/logs.md).

A line that cannot be read at all is its kind of fault instead, a text. Blank lines do not count.
"""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

CHUNK = 20_000  # lines that are held as Python objects at a time
MALFORMED, CUT_OFF = "malformed", "cut_off"
SEPARATOR = "|"  # between options in one cell of a CSV file
NESTED = ("seen", "hidden", "reward")
COLUMNS = ("run", "step", "agent", "options", "option", "probability", "reward", "duration", "next")
NUMBERS = ("step", "probability", "reward", "duration")

Row = dict[str, Any]


class Chunk(NamedTuple):
    """Some lines of a file.

    Attributes:
      numbers: of the lines, from 1 on.
      rows: what each says, or the kind of fault of a line that cannot be read.
    """

    numbers: list[int]
    rows: list[Row | str]


def check_file(path: Path) -> None:
    """Refuses what is not a regular file.

    Raises:
      ValueError: in one line.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file, expected a log of handoffs") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path}: not a regular file, expected a log of handoffs")


def read_lines(path: Path, binned: Sequence[str] = ()) -> Iterator[Chunk]:
    """The rows of a file, in whichever of the three forms its name says: .csv, .parquet, else JSON lines.

    Args:
      path: a regular file.
      binned: fields that are numbers, which a CSV file does not tell from labels.

    Raises:
      ValueError: in one line, for a file of which no line can be read.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    with open(path, "rb") as stream:
        yield from _csv(stream, path, frozenset(binned)) if path.suffix == ".csv" else json_lines(stream)


def json_lines(stream: IO[bytes]) -> Iterator[Chunk]:
    """JSON objects, one a line; NaN and Infinity are numbers here, and checked later."""

    def parse(line: bytes) -> Row | str:
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            return MALFORMED
        return row if isinstance(row, dict) else MALFORMED

    return _chunks(enumerate(stream, 1), parse)


def _chunks(lines: Iterator[tuple[int, bytes]], parse: Callable[[bytes], Row | str]) -> Iterator[Chunk]:
    while some := list(islice(lines, CHUNK)):
        kept = [(number, line) for number, line in some if not line.isspace()]
        rows = [parse(line) for _, line in kept]
        if kept and rows[-1] == MALFORMED and not kept[-1][1].endswith(b"\n"):
            rows[-1] = CUT_OFF  # the end of the file, in the middle of a line
        if kept:
            yield Chunk([number for number, _ in kept], rows)


def _csv(stream: IO[bytes], path: Path, binned: frozenset[str]) -> Iterator[Chunk]:
    lines = enumerate(stream, 1)
    first = next(lines, (1, b""))[1]
    try:
        header = _cells(first.removeprefix(b"\xef\xbb\xbf"))
    except (csv.Error, ValueError):
        header = []
    places = _places(header, path)

    def parse(line: bytes) -> Row | str:
        try:
            cells = _cells(line)
        except (csv.Error, ValueError):
            return MALFORMED
        if len(cells) != len(header):
            return MALFORMED
        row: Row = {"next": None}
        for cell, place in zip(cells, places, strict=True):
            if cell and place is not None:
                table, name = place
                number = table == "reward" or (not table and name in NUMBERS) or (bool(table) and name in binned)
                _put(row, place, _number(cell) if number else cell)
        return row

    return _chunks(lines, parse)


def _cells(line: bytes) -> list[str]:
    """One line on its own, so that a stray quote does not swallow those that follow."""
    return next(csv.reader([line.decode("utf-8").rstrip("\r\n")], strict=True))


def _number(cell: str) -> int | float | str:
    """A cell as a number; what is not a number stays a text, which is refused where a number is expected."""
    for kind in (int, float):
        try:
            return kind(cell)  # type: ignore[no-any-return]
        except ValueError:
            continue
    return cell


def _places(header: Sequence[str], path: Path) -> list[tuple[str, str] | None]:
    """``("", "agent")`` or ``("seen", "topic")`` for every column; None for columns that mean nothing here."""
    places: list[tuple[str, str] | None] = []
    for name in header:
        table, dot, field = name.partition(".")
        nested = bool(dot) and table in NESTED and bool(field)
        places.append((table, field) if nested else ("", name) if name in (*COLUMNS, *NESTED) else None)
    for name in ("run", "step", "agent", "option", "duration", "next"):
        if ("", name) not in places:
            raise ValueError(f"{path}: column {name}: missing, expected it in every log of handoffs")
    if len(set(header)) < len(header):
        raise ValueError(f"{path}: a column has the name of another one, expected different names")
    return places


def _parquet(path: Path) -> Iterator[Chunk]:
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
        places = _places(file.schema_arrow.names, path)
        batches = file.iter_batches(batch_size=CHUNK)
        done = 0
        for batch in batches:
            rows: list[Row | str] = [_nested(row, places) for row in batch.to_pylist()]
            yield Chunk(list(range(done + 1, done + 1 + len(rows))), rows)
            done += len(rows)
    except Exception as error:  # a damaged file makes pyarrow raise much more than ArrowInvalid
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        raise ValueError(f"{path}: cannot be read as Parquet ({type(error).__name__})") from None


def _nested(row: Mapping[str, Any], places: Sequence[tuple[str, str] | None]) -> Row:
    out: Row = {"next": None}
    for value, place in zip(row.values(), places, strict=True):
        if place is not None and value is not None:
            _put(out, place, value)
    return out


def _put(row: Row, place: tuple[str, str], value: Any) -> None:
    """Puts the value of a column where a JSON line would have it."""
    table, name = place
    if table:
        row.setdefault(table, {})[name] = value
    elif name == "options" and isinstance(value, str):
        row[name] = value.split(SEPARATOR)
    elif name not in NESTED:
        row[name] = value
    elif isinstance(value, dict):
        row.setdefault(name, {}).update({key: entry for key, entry in value.items() if entry is not None})
    elif name == "reward":
        row.setdefault(name, {})[name] = value
    else:
        row["run"] = None  # "seen" and "hidden" have to be structures: the row is malformed
