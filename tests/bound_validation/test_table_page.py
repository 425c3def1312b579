"""docs/table.md against the code: columns, types, series, code blocks."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bound_validation.compare.comparison import ABSOLUTE, DISCOVERY_RATE, RELATIVE, key_of
from bound_validation.results import COLUMNS, ROUNDING, Row, by_replica, read_table, write_replicas
from tests.bound_validation.runs import Outcome, documented_series, icsmdp, shared_run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "table.md"
TEXT = PAGE.read_text(encoding="utf-8")
TYPES = {"str": "string", "float": "float64", "int": "int64", "bool": "bool"}
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
OWN = ("model", "sweep")  # axes of runs on models of the user's own
OTHERS = ("pandas", "polars", "duckdb")


@pytest.fixture(scope="module")
def testing(tmp_path_factory) -> tuple[Path, Outcome]:
    return shared_run(Path(tmp_path_factory.getbasetemp()))


def section(title: str) -> str:
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def documented_columns() -> list[tuple[str, str]]:
    return re.findall(r"^\| `(\w+)` \| (\w+) \|", section("Columns"), re.MULTILINE)


def page_series() -> set[tuple[str, str]]:
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", section("Series"), re.MULTILINE)
    return {(axis, name) for axis, names in lines for name in re.findall(r"`(\w+)`", names)}


def test_the_page_names_exactly_the_columns_with_their_types():
    assert documented_columns() == [
        *((f.name, TYPES[str(f.type)]) for f in dataclasses.fields(Row) if f.name in COLUMNS),
        ("ratio", "float64"),
    ]


def test_the_page_and_a_run_agree_on_columns_and_types(testing):
    schema = pq.read_schema(testing[0] / "results.parquet")
    assert documented_columns() == [
        (name, str(schema.field(name).type).replace("double", "float64")) for name in schema.names
    ]


def test_series_are_those_of_a_run_and_of_the_page_on_validation(testing):
    found = {(row.axis, row.series) for row in read_table(testing[0] / "results.parquet")}
    assert page_series() == found
    assert page_series() == {pair for pair in documented_series() if pair[0] not in OWN}


def test_absent_values_are_as_the_page_says(testing):
    table = pq.read_table(testing[0] / "results.parquet")
    assert all(column.null_count == 0 for column in table.columns)
    rows = read_table(testing[0] / "results.parquet")
    never = re.findall(r"^\| `(\w+)` .*\| never \|$", section("Columns"), re.MULTILINE)
    for row in rows:
        values = {name: getattr(row, name) for name in never}
        assert all(value == value and value != "" for value in values.values()), values
        assert (row.ci_low == row.ci_high == row.measured) or row.replicas > 0
        assert row.bound == row.bound or row.holds == -1


def test_four_columns_identify_a_row(testing):
    rows = read_table(testing[0] / "results.parquet")
    assert len({key_of(row) for row in rows}) == len(rows)
    assert len({(row.cell, row.series) for row in rows}) == len(rows)
    for name in ("group", "x_name"):
        assert len({(row.cell, row.series, getattr(row, name)) for row in rows}) == len(rows)
    assert "`cell`, `series`, `term` and `samples` together identify a row" in section("Which row is which")


def test_function_class_and_step_rule_say_what_series_and_group_say(testing):
    for row in read_table(testing[0] / "results.parquet"):
        assert row.function_class in ("", "tabular", "aggregated", "linear", "neural")
        assert row.step_rule in ("", "constant", "polynomial", "harmonic", "decaying", "adam")
        assert (row.step_rule != "") <= (row.function_class != "")
        assert (row.step_rule != "") <= (row.samples > 0)
        if row.axis == "samples":
            assert row.group.startswith(row.function_class) and row.width == 0 or row.function_class == "linear"
            ending = row.series.removesuffix("_plain").removesuffix("_step")
            assert row.step_rule == (ending if ending != row.series else "polynomial")
        if row.term == "interface":
            assert row.function_class == ""


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(testing, monkeypatch, tmp_path, number):
    missing = [name for name in OTHERS if f"import {name}" in BLOCKS[number] and not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    place = tmp_path / "results" / "quick"
    place.mkdir(parents=True)
    (place / "results.parquet").symlink_to(testing[0] / "results.parquet")
    squares = by_replica("rms", [1.0, 2.0, 3.0])
    write_replicas(place / "replicas.parquet", [Row("gap", "gap/0", "rmse", "eta", 0.0, math.sqrt(14 / 3), **squares)])
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(textwrap.dedent(BLOCKS[number]), f"{PAGE}:{number}", "exec"), names)
    rows = read_table(place / "results.parquet")
    if "rows" in names:
        assert len(names["rows"]) == len(rows)
        first = names["rows"][0]
        assert (first["cell"] if isinstance(first, dict) else first.cell) == rows[0].cell
    if "table" in names:
        every = [
            row for row in rows if "curves" not in names or (row.axis, row.function_class) == ("samples", "tabular")
        ]
        assert len(names["table"]) == (len(every) if "duckdb" not in names else 0)  # no bound is violated
    if "boot" in names:
        assert 1 <= names["boot"].iloc[0][0] < math.sqrt(14 / 3) < names["boot"].iloc[0][1] <= 3
    if "counts" in names:
        found = dict(names["counts"].fetchall())
        assert found["total"] == sum(row.evidence for row in rows if row.term == "total")
    if "worst" in names:
        assert names["worst"].ratio == max(row.ratio for row in rows if row.bound > ROUNDING)


def test_every_library_has_a_block():
    for name in ("pyarrow", "pandas", "polars", "duckdb", "bound_validation"):
        assert any(re.search(rf"^(import|from) {name}", block, re.MULTILINE) for block in BLOCKS), name


def test_numbers_of_the_comparison_are_those_of_the_code():
    text = " ".join(section("Comparing two runs").split())
    assert f"discovery rate is {100 * DISCOVERY_RATE:g} %" in text
    assert f"beyond {RELATIVE:g} relative".replace("1e-09", "1e-9") in text
    assert f"with {ABSOLUTE:g} added" in text
    help_text = icsmdp("compare", "--help").out
    for option in ("--all", "--json"):
        assert option in help_text and option in text
