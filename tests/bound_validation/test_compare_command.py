"""``icsmdp compare``: reading runs, the report, the JSON object, exit codes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bound_validation.results import SCHEMA, Row, checked, read_table, write_table
from tests.bound_validation.runs import Outcome, icsmdp, refused, shared_run

CONFIG = {"width": {"seed": 11, "draws": 8}}
MANIFEST = {"schema": SCHEMA, "preset": "testing", "tasks": ["width"], "model": None, "config": CONFIG, "code": "c1",
            "versions": {"jax": "0.10.2", "numpy": "2.4"}}  # fmt: skip
SUMMARY = {
    "bound_holds": True, "slopes": {"width": {"passed": True, "undecided": False}},
    "claims": [{"name": "gap_closed", "passed": True, "undecided": False}],
    "run_s": 20.0, "compile_s": 5.0, "handoffs": 10_000, "device": {"platform": "cpu", "cores": 2},
}  # fmt: skip


def rows() -> list[Row]:
    noisy = [
        checked(Row("width", f"width/{i}", "approximant", "features per agent", 2.0**i, 1.0, replicas=16, ci_low=0.9,
                    ci_high=1.1, bound=2.0, gamma=0.9, kappa=0.7))
        for i in range(4)
    ]  # fmt: skip
    exact = [checked(Row("gap", f"gap/{i}", "gap", "eta", i / 10, 0.5 + i, bound=9.0, term="interface"))
             for i in range(3)]  # fmt: skip
    return noisy + exact


def moved(row: Row, by: float) -> Row:
    """A row with value and interval moved."""
    return checked(
        dataclasses.replace(row, measured=row.measured + by, ci_low=row.ci_low + by, ci_high=row.ci_high + by)
    )


def written(place: Path, table: list[Row] | None = None, manifest: dict | None = None, **summary: object) -> Path:
    """A run directory, as far as the command reads it."""
    place.mkdir()
    metadata = {"icsmdp_jax": json.dumps(manifest or MANIFEST)}
    write_table(place / "results.parquet", rows() if table is None else table, metadata)
    (place / "summary.json").write_text(json.dumps({**SUMMARY, **summary}))
    return place


def compared(*arguments: object) -> dict:
    """The JSON object, and that the exit code agrees with it."""
    outcome = icsmdp("compare", *map(str, arguments), "--json")
    content = json.loads(outcome.out)
    assert outcome.code == int(content["changed"]) and outcome.err == "", outcome
    return content


@pytest.fixture(scope="module")
def testing(tmp_path_factory) -> tuple[Path, Outcome]:
    return shared_run(Path(tmp_path_factory.getbasetemp()))


def test_a_real_run_against_itself_changes_nothing(testing):
    place, _ = testing
    outcome = icsmdp("compare", place, place)
    assert outcome.code == 0 and outcome.err == "", outcome
    assert outcome.out.splitlines()[-1] == "Nothing changed beyond noise."
    assert len(outcome.out.splitlines()) < 15 and "equal bit for bit" in outcome.out
    content = compared(place, place)
    assert content["relation"] == "equal" and content["other_bits"] == 0
    assert content["matched"] == len(read_table(place / "results.parquet")) > 150
    assert content["matched_exact"] > 50 and content["matched_noisy"] > 50
    assert content["matched_exact"] + content["matched_noisy"] == content["matched"]
    assert content["rows"] == content["only_a"] == content["verdicts"] == content["configuration"] == []


def test_a_real_run_in_which_one_exact_value_moved(testing, tmp_path):
    table = read_table(testing[0] / "results.parquet")
    index = next(i for i, row in enumerate(table) if row.cell == "gap/2" and row.series == "gap")
    metadata = {key.decode(): text.decode() for key, text in
                pq.read_schema(testing[0] / "results.parquet").metadata.items()}  # fmt: skip
    table[index] = moved(table[index], 1e-6)
    write_table(tmp_path / "b.parquet", table, metadata)
    content = compared(testing[0], tmp_path / "b.parquet")
    assert [row["cell"] for row in content["rows"]] == ["gap/2"] and content["verdicts"] is None
    assert content["rows"][0]["difference"] == pytest.approx(1e-6) and content["rows"][0]["p"] is None


# What the object says


def test_keys_of_the_object(tmp_path):
    a, b = written(tmp_path / "a"), written(tmp_path / "b")
    content = compared(a, b)
    assert set(content) == {
        "changed", "a", "b", "relation", "relation_text", "false_discovery_rate", "matched", "matched_exact",
        "matched_noisy", "matched_unknown_noise", "differ", "bounds_changed", "holds_changed", "constants_changed",
        "other_bits", "rows", "only_a", "only_b", "verdicts", "configuration",
    }  # fmt: skip
    assert content["a"] == {
        "place": str(a), "rows": 7, "run_s": 20.0, "compile_s": 5.0, "handoffs": 10_000, "handoffs_per_second": 500.0,
    }  # fmt: skip
    assert content["matched"] == 7 and content["rows"] == []
    every = compared(a, b, "--all")["rows"]
    assert len(every) == 7
    assert set(every[0]) == {
        "cell", "series", "term", "samples", "x", "a", "b", "kind", "difference", "noise", "z", "p", "differs",
        "bound_differs", "holds_differs", "constants", "same_bits",
    }  # fmt: skip
    assert set(every[0]["a"]) == {"measured", "ci_low", "ci_high", "replicas", "bound", "holds"}


def test_a_planted_shift_is_found_and_noise_is_not(tmp_path):
    table = rows()
    table[1] = moved(table[1], 0.02)  # 0.3 standard errors
    table[2] = moved(table[2], 0.6)  # 9 of them
    a, b = written(tmp_path / "a"), written(tmp_path / "b", table, {**MANIFEST, "config": {"width": {"seed": 12}}})
    content = compared(a, b)
    assert content["relation"] == "independent" and content["differ"] == 1
    (found,) = content["rows"]
    assert found["cell"] == "width/2" and found["z"] == pytest.approx(0.6 / found["noise"]) and found["p"] < 1e-6
    text = icsmdp("compare", a, b)
    assert text.code == 1 and "width/2 approximant" in text.out and "width/1" not in text.out
    assert "config.width.seed" in text.out and text.out.splitlines()[-1] == "Something changed."
    assert "width/1" in icsmdp("compare", a, b, "--all").out


def test_the_same_seeds_are_pointed_out(tmp_path):
    a, b = written(tmp_path / "a"), written(tmp_path / "b", manifest={**MANIFEST, "code": "c2"})
    assert compared(a, b)["relation"] == "same seeds"
    outcome = icsmdp("compare", a, b)
    assert outcome.code == 0 and "the noise is an upper guide" in outcome.out and "code" in outcome.out


def test_other_bits_of_equal_runs_are_counted(tmp_path):
    table = rows()
    table[0] = moved(table[0], 1e-15)
    a, b = written(tmp_path / "a"), written(tmp_path / "b", table)
    assert compared(a, b)["other_bits"] == 1
    assert "1 rows have other bits" in icsmdp("compare", a, b).out


def test_missing_rows_are_listed(tmp_path):
    a, b = written(tmp_path / "a"), written(tmp_path / "b", rows()[1:-1])
    content = compared(a, b)
    assert [row["cell"] for row in content["only_a"]] == ["width/0", "gap/2"] and content["only_b"] == []
    outcome = icsmdp("compare", b, a)
    assert outcome.code == 1 and "Only in B: 2 rows" in outcome.out and "gap/2 gap (interface)" in outcome.out


def test_verdicts_that_changed_are_a_finding(tmp_path):
    a = written(tmp_path / "a")
    slopes = {"width": {"passed": False, "undecided": False}}
    b = written(tmp_path / "b", slopes=slopes, device={"platform": "gpu", "cores": 2})
    content = compared(a, b)
    assert content["verdicts"] == [{"name": "slope width", "a": "passed", "b": "failed"}] and content["rows"] == []
    assert content["configuration"] == [{"name": "device.platform", "a": "cpu", "b": "gpu"}]
    outcome = icsmdp("compare", a, b)
    assert outcome.code == 1 and "Changed verdicts" in outcome.out and "device.platform" in outcome.out


def test_a_bound_that_is_violated_now_is_a_finding(tmp_path):
    table = rows()
    table[0] = checked(dataclasses.replace(table[0], bound=0.99))
    outcome = icsmdp("compare", written(tmp_path / "a"), written(tmp_path / "b", table, bound_holds=False))
    assert outcome.code == 1
    for words in ("whether the bound holds", "violated", "Changed bounds", "all bounds"):
        assert words in outcome.out, words


def test_a_constant_that_changed_is_a_finding(tmp_path):
    table = [dataclasses.replace(row, kappa=0.71) if row.axis == "width" else row for row in rows()]
    a, b = written(tmp_path / "a"), written(tmp_path / "b", table)
    assert compared(a, b)["constants_changed"] == 4
    assert "kappa  in 4 rows" in icsmdp("compare", a, b).out


def test_tables_alone_are_compared_without_verdicts(tmp_path):
    a, b = written(tmp_path / "a"), written(tmp_path / "b", bound_holds=False)
    assert compared(a, b)["changed"]
    content = compared(a / "results.parquet", b / "results.parquet")
    assert not content["changed"] and content["verdicts"] is None and "run_s" not in content["a"]
    assert "No verdicts compared" in icsmdp("compare", a / "results.parquet", b).out


def test_a_table_without_a_manifest_is_compared(tmp_path):
    write_table(tmp_path / "a.parquet", rows())
    content = compared(tmp_path / "a.parquet", tmp_path / "a.parquet")
    assert content["relation"] == "independent" and not content["changed"]


# Bad input


def test_places_without_a_table_are_refused(tmp_path):
    a = written(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "empty"):
        refused(icsmdp("compare", a, tmp_path / place), str(tmp_path / place), "expected a run directory")
    refused(icsmdp("compare", a), "B")


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:200] + b[220:]])
def test_a_damaged_table_is_refused(tmp_path, damage):
    a, b = written(tmp_path / "a"), written(tmp_path / "b")
    table = b / "results.parquet"
    table.write_bytes(damage(table.read_bytes()))
    refused(icsmdp("compare", a, b), str(table), "cannot be read as Parquet")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", ""), ("[1]", ""), ("{}", "missing"), ('{"bound_holds": true, "slopes": [], "claims": [1]}', "")],
)
def test_a_damaged_summary_is_refused(tmp_path, text, reason):
    a, b = written(tmp_path / "a"), written(tmp_path / "b")
    (b / "summary.json").write_text(text)
    refused(icsmdp("compare", a, b), str(b / "summary.json"), "cannot be read as the summary", reason)


def test_another_schema_is_refused(tmp_path):
    a = written(tmp_path / "a")
    b = written(tmp_path / "b", manifest={**MANIFEST, "schema": SCHEMA + 1})
    refused(icsmdp("compare", a, b), f"schema {SCHEMA + 1}, expected {SCHEMA}")
    table = pq.read_table(a / "results.parquet")
    pq.write_table(table.drop_columns(["kappa"]), a / "results.parquet")
    refused(icsmdp("compare", a, a), "column kappa is missing")


@pytest.mark.parametrize("metadata", ["", "[]", "{"])
def test_metadata_that_are_no_manifest_are_refused(tmp_path, metadata):
    write_table(tmp_path / "a.parquet", rows(), {"icsmdp_jax": metadata})
    refused(icsmdp("compare", tmp_path / "a.parquet", tmp_path / "a.parquet"), "is not a manifest")


def test_two_rows_of_one_key_are_refused(tmp_path):
    refused(icsmdp("compare", written(tmp_path / "a"), written(tmp_path / "b", [*rows(), rows()[0]])), "two rows")
