"""The one table: verdicts, ratios, and Parquet and JSON in and out."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bound_validation.results import (
    COLUMNS,
    ROUNDING,
    Row,
    by_replica,
    checked,
    read_table,
    to_plain,
    write_json,
    write_replicas,
    write_table,
)
from bound_validation.tasks import TaskResult

NAN = float("nan")


def row(**values: object) -> Row:
    defaults = {"axis": "gap", "cell": "gap/0", "series": "gap", "x_name": "eta", "x": 0.1, "measured": 1.0}
    return Row(**{**defaults, **values})  # type: ignore[arg-type]


def columns_of(kind: type[Row]) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(kind) if field.name in COLUMNS]


def full_row() -> Row:
    """A row in which no field has its default."""
    texts = iter("abcdefghijk")
    values: dict[str, object] = {}
    for number, field in enumerate(columns_of(Row), 1):
        values[field.name] = {
            "str": lambda: f"text {next(texts)} äβ",
            "float": lambda number=number: number / 3,
            "int": lambda number=number: 2**40 + number,
            "bool": lambda: False,
        }[str(field.type)]()
    return Row(**values)  # type: ignore[arg-type]


def same(first: Row, second: Row) -> bool:
    """Equality of all fields, of floats bit for bit, NaN with NaN."""
    one, other = dataclasses.asdict(first), dataclasses.asdict(second)
    return all(repr(one[name]) == repr(other[name]) for name in COLUMNS)


# Verdicts


def test_a_row_without_a_bound_is_not_judged():
    judged = checked(row(measured=5.0))
    assert judged.holds == -1 and math.isnan(judged.ratio)
    assert (judged.ci_low, judged.ci_high) == (5.0, 5.0)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e16])
def test_rounding_is_relative_to_the_models_values(scale):
    """What is lost in sums of values of this size is forgiven, and a hundred-millionth of them is not."""
    noise, excess = (
        row(measured=4e-10 * scale, bound=0.0, q_norm=scale),
        row(measured=1e-8 * scale, bound=0.0, q_norm=scale),
    )
    assert checked(noise).holds == 1 and checked(excess).holds == 0
    assert math.isnan(row(bound=1e-10 * scale, q_norm=scale).ratio)
    assert row(measured=scale, bound=1e-6 * scale, q_norm=scale).ratio == pytest.approx(1e6)


@pytest.mark.parametrize("bound", [NAN, math.inf])
def test_a_bound_that_says_nothing_is_not_judged(bound):
    assert checked(row(measured=5.0, bound=bound)).holds == -1


@pytest.mark.parametrize(("measured", "holds"), [(0.0, 1), (1.9, 1), (2.0, 1), (2.0 + 1e-6, 0), (40.0, 0)])
def test_a_bound_holds_up_to_equality(measured, holds):
    assert checked(row(measured=measured, bound=2.0)).holds == holds


def test_the_slack_is_rounding_relative_to_the_values():
    for bound in (1e-3, 1.0, 1e6):
        allowed = ROUNDING * (1 + 2 * bound)
        assert checked(row(measured=bound + 0.9 * allowed, bound=bound)).holds == 1
        assert checked(row(measured=bound + 1.2 * allowed, bound=bound)).holds == 0
    assert ROUNDING <= 1e-8  # noise of float64, not a tolerance


def test_rounding_noise_beside_a_bound_of_zero_is_no_violation():
    noise = checked(row(measured=3e-16, bound=0.0))
    assert noise.holds == 1 and math.isnan(noise.ratio)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_verdicts_do_not_depend_on_the_unit_of_the_rewards(unit):
    """A bound exceeded by a millionth is violated, noise beside 0 is none, and constants that are noise are 0."""
    known = {"value_norm": 10 * unit, "epsilon": 1e-15 * unit, "action_gap": 1e-3 * unit, "omega": 0.1}
    assert checked(row(measured=2.00001 * unit, bound=2 * unit, **known)).holds == 0
    assert checked(row(measured=2 * unit * (1 + 1e-15), bound=2 * unit, **known)).holds == 1
    noise = checked(row(measured=3e-15 * unit, bound=0.0, **known))
    assert noise.holds == 1 and math.isnan(noise.ratio)
    assert row(measured=unit, bound=4 * unit, **known).ratio == pytest.approx(0.25, rel=1e-14)
    found = noise.constants
    assert found["epsilon"] == 0.0 and found["action_gap"] == known["action_gap"] and found["omega"] == 0.1


@pytest.mark.parametrize("measured", [NAN, math.inf])
def test_a_run_that_diverged_violates_its_bound(measured):
    assert checked(row(measured=measured, bound=2.0)).holds == 0


def test_the_verdict_ignores_what_the_row_claimed_before():
    assert checked(row(measured=3.0, bound=2.0, holds=1)).holds == 0


def test_intervals_are_kept_where_they_are_given():
    judged = checked(row(measured=1.0, ci_low=0.5, bound=2.0))
    assert (judged.ci_low, judged.ci_high) == (0.5, 1.0)


def test_ratio_is_measured_over_bound():
    assert row(measured=1.0, bound=4.0).ratio == 0.25
    assert math.isnan(row(measured=1.0, bound=ROUNDING).ratio)


# Informative or vacuous


@pytest.mark.parametrize(
    ("bound", "trivial", "informative"),
    [(0.5, 1.0, 1), (1.0, 1.0, 0), (2.0, 1.0, 0), (0.0, 0.0, 0), (0.0, 1.0, 1), (0.5, NAN, -1), (NAN, 1.0, -1),
     (math.inf, 1.0, -1), (5.0, math.inf, 1)],
)  # fmt: skip
def test_a_bound_is_informative_if_it_is_below_the_trivial_value(bound, trivial, informative):
    judged = checked(row(measured=0.0, bound=bound, trivial=trivial, informative=1 - informative))
    assert judged.informative == informative


def test_only_an_informative_check_that_held_is_evidence():
    assert checked(row(measured=0.4, bound=0.5, trivial=1.0)).evidence
    for other in (dict(measured=0.6), dict(bound=1.0), dict(trivial=NAN), dict(bound=NAN)):
        assert not checked(row(**{"measured": 0.4, "bound": 0.5, "trivial": 1.0, **other})).evidence


def test_bound_over_trivial():
    assert row(bound=3.0, trivial=4.0).over_trivial == 0.75
    for values in (dict(bound=3.0), dict(trivial=4.0), dict(bound=0.0, trivial=0.0), dict(bound=math.inf, trivial=1.0)):
        assert math.isnan(row(**values).over_trivial)


# Parquet


def test_parquet_round_trip_keeps_every_bit(tmp_path):
    awkward = row(
        measured=0.1 + 0.2, bound=NAN, prediction=5e-324, x=1e308, note='"quoted", with ; and\nnewline', group=""
    )
    rows = [full_row(), awkward, checked(row(bound=2.0)), row(measured=NAN)]
    write_table(tmp_path / "results.parquet", rows, {"icsmdp_jax": "{}"})
    back = read_table(tmp_path / "results.parquet")
    assert len(back) == len(rows)
    assert all(same(one, other) for one, other in zip(rows, back, strict=True))
    types = {name: type(value) for name, value in dataclasses.asdict(back[0]).items()}
    assert types == {name: type(value) for name, value in dataclasses.asdict(rows[0]).items()}


def test_columns_are_those_of_row_and_the_ratio(tmp_path):
    rows = [checked(row(bound=4.0)), row()]
    write_table(tmp_path / "r.parquet", rows, {"icsmdp_jax": '{"preset": "testing"}'})
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.column_names == [*COLUMNS, "ratio"]
    kinds = {"str": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}
    for field in columns_of(Row):
        assert table.schema.field(field.name).type == kinds[str(field.type)]
    ratios = table.column("ratio").to_pylist()
    assert ratios[0] == 0.25 and math.isnan(ratios[1])
    assert json.loads(table.schema.metadata[b"icsmdp_jax"]) == {"preset": "testing"}


@pytest.mark.parametrize("statistic", ["mean", "rms", "spread"])
def test_replicas_give_the_measured_value(tmp_path, statistic):
    values = np.array([0.5, 1.5, 4.0])
    measured = {"mean": values.mean(), "rms": np.sqrt((values**2).mean()), "spread": np.sqrt((values**2).sum() / 2)}
    kept = row(cell="gap/7", samples=30, measured=measured[statistic], replicas=3, **by_replica(statistic, values))
    result = TaskResult([kept, row()])
    write_replicas(tmp_path / "replicas.parquet", TaskResult.from_plain(json.loads(json.dumps(result.plain()))).rows)
    lines = pq.read_table(tmp_path / "replicas.parquet").to_pylist()
    assert [(line["cell"], line["samples"], line["replica"], line["value"]) for line in lines] == [
        ("gap/7", 30, i, value) for i, value in enumerate(values)
    ]
    assert {line["statistic"] for line in lines} == {statistic}
    bare = result.without_values()
    assert bare.rows == result.rows and not any(line.values for line in bare.rows)
    assert "values" not in bare.plain()["rows"][0]


def test_an_empty_table_round_trips(tmp_path):
    write_table(tmp_path / "r.parquet", [])
    assert read_table(tmp_path / "r.parquet") == []


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = [full_row(), row()]
    for name in ("a", "b"):
        write_table(tmp_path / name, rows, {"k": "v"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


NO_PANDAS = """
import sys

class NoPandas:
    def find_spec(self, name, *_):
        if name == "pandas":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoPandas())
"""


def test_pyarrow_alone_reads_it_in_one_line(tmp_path):
    write_table(tmp_path / "results.parquet", [row(bound=4.0)])
    line = "import pyarrow.parquet as pq; print(pq.read_table('results.parquet')['measured'].to_pylist())"
    found = subprocess.run(
        [sys.executable, "-c", NO_PANDAS + line], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout == "[1.0]\n"


def test_a_missing_column_is_named(tmp_path):
    write_table(tmp_path / "r.parquet", [row()])
    table = pq.read_table(tmp_path / "r.parquet").drop_columns(["kappa"])
    pq.write_table(table, tmp_path / "r.parquet")
    with pytest.raises(ValueError, match=r"r\.parquet: column kappa is missing") as error:
        read_table(tmp_path / "r.parquet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"not a table"])
def test_a_damaged_table_is_refused_in_one_line(tmp_path, damage):
    place = tmp_path / "r.parquet"
    write_table(place, [row()])
    place.write_bytes(damage(place.read_bytes()))
    with pytest.raises(ValueError, match="cannot be read as Parquet") as error:
        read_table(place)
    assert str(place) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.parquet"):
        read_table(tmp_path / "nowhere.parquet")


# JSON


def test_to_plain_leaves_only_what_strict_json_knows():
    value = {
        1: np.float64(0.1), "f32": np.float32(np.nan), "inf": -math.inf, "bool": np.bool_(True), "int": np.int32(7),
        "nested": [(1, NAN), {"deep": np.array(2.5)[()]}], "text": "nan", "none": None,
    }  # fmt: skip
    plain = to_plain(value)
    assert plain == {
        "1": 0.1, "f32": None, "inf": None, "bool": True, "int": 7, "nested": [[1, None], {"deep": 2.5}],
        "text": "nan", "none": None,
    }  # fmt: skip
    assert type(plain["bool"]) is bool and type(plain["int"]) is int and type(plain["1"]) is float
    json.dumps(plain, allow_nan=False)


def test_json_keeps_floats_and_turns_nan_into_null(tmp_path):
    content = {"a": 0.1 + 0.2, "b": NAN, "c": 5e-324, "d": np.nextafter(1, 2)}
    write_json(tmp_path / "s.json", content)
    text = (tmp_path / "s.json").read_text()
    assert text.endswith("\n") and "NaN" not in text
    assert json.loads(text) == {"a": 0.1 + 0.2, "b": None, "c": 5e-324, "d": float(np.nextafter(1, 2))}


# Atomic writes


class Unwritable:
    """Neither JSON nor a row: writing it fails on the way."""


@pytest.mark.parametrize("write", ["json", "table"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, write, monkeypatch):
    place = tmp_path / "file"
    place.write_text("what was there before")
    if write == "json":
        with pytest.raises(TypeError):
            write_json(place, {"fine": 1, "bad": Unwritable()})
    else:

        def broken(table: pa.Table, stream: object) -> None:
            stream.write(b"half a table")  # type: ignore[attr-defined]
            raise OSError("disk full")

        monkeypatch.setattr(pq, "write_table", broken)
        with pytest.raises(OSError, match="disk full"):
            write_table(place, [row()])
    assert place.read_text() == "what was there before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_replaces_the_file_as_a_whole(tmp_path):
    place = tmp_path / "s.json"
    write_json(place, {"long": list(range(1000))})
    write_json(place, {"a": 1})
    assert json.loads(place.read_text()) == {"a": 1}
    assert [path.name for path in Path(tmp_path).iterdir()] == ["s.json"]
