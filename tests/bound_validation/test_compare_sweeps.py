"""``icsmdp compare`` on custom sweeps: rows that only the number of samples tells apart."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from bound_validation.compare.comparison import compare, key_of
from bound_validation.results import Row, read_table, write_table
from bound_validation.sweep.definition import Figure
from bound_validation.sweep.run import run_sweep
from tests.bound_validation.runs import icsmdp, refused
from tests.bound_validation.sweep.small import EXAMPLE, small, without_figures
from tests.command_line import parsed

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two sample counts, as in examples/own_sweep.toml, on the family of the tests."""
    place = tmp_path_factory.mktemp("sweep")
    assert "samples = [2000, 8000]" in EXAMPLE.read_text(encoding="utf-8")
    with without_figures():
        run_sweep(small(axes={"stakes": (0.0, 1.0)}, cells_per_part=4), place / "a")
    return place


def test_a_sweep_compared_with_itself(folder):
    rows = read_table(folder / "a" / "results.parquet")
    cell, series = rows[0].cell, "spread"
    assert sorted(row.samples for row in rows if (row.cell, row.series) == (cell, series)) == [400, 800]
    found = parsed(icsmdp("compare", folder / "a", folder / "a", "--json", "--all"))
    assert not found["changed"] and found["matched"] == len(rows) == len(found["rows"])
    listed = [(row["samples"], row["x"]) for row in found["rows"] if (row["cell"], row["series"]) == (cell, series)]
    assert sorted(listed) == [(400, 0.0), (800, 0.0)]
    text = icsmdp("compare", folder / "a", folder / "a", "--all").out
    assert f"{cell} spread K = 400" in text and f"{cell} spread K = 800" in text


def test_a_change_at_one_sample_count_is_found_there_and_nowhere_else(folder, tmp_path):
    rows = read_table(folder / "a" / "results.parquet")
    index = next(i for i, row in enumerate(rows) if row.series == "residual" and row.samples == 800)
    rows[index] = dataclasses.replace(rows[index], bound=2 * rows[index].bound)
    missing = rows.pop(next(i for i, row in enumerate(rows) if row.series == "spread" and row.samples == 400))
    write_table(tmp_path / "b.parquet", rows)
    outcome = icsmdp("compare", folder / "a" / "results.parquet", tmp_path / "b.parquet", "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 1 and found["bounds_changed"] == 1
    assert [(row["series"], row["samples"]) for row in found["rows"]] == [("residual", 800)]
    assert [(row["cell"], row["series"], row["samples"]) for row in found["only_a"]] == [(missing.cell, "spread", 400)]


def test_another_look_at_the_same_cells_is_the_same_table(folder):
    """Figure settings decide about the abscissa; they change no number, and so they are no part of the key."""
    axes = {"stakes": (0.0, 1.0)}
    with without_figures():
        look = small(axes=axes, cells_per_part=4, figure=Figure(x="learner.samples"))
        run_sweep(look, folder / "a", resume=True)
        other = read_table(folder / "a" / "results.parquet")
        run_sweep(small(axes=axes, cells_per_part=4), folder / "a", resume=True)
    rows = read_table(folder / "a" / "results.parquet")
    assert {row.x for row in rows} != {row.x for row in other}
    assert not compare(rows, other).changed


def test_rows_that_nothing_tells_apart_are_refused(folder, tmp_path):
    rows = read_table(folder / "a" / "results.parquet")
    write_table(tmp_path / "twice.parquet", [*rows, rows[0]])
    refused(icsmdp("compare", tmp_path / "twice.parquet", folder / "a"), "A: two rows are", rows[0].cell)


def test_outside_of_sweeps_the_abscissa_counts():
    row = Row("samples", "samples/1", "spread", "K", 100.0, 1.0, samples=100)
    assert (
        len({key_of(row), key_of(dataclasses.replace(row, x=200.0)), key_of(dataclasses.replace(row, samples=200))})
        == 3
    )


def test_both_pages_say_the_same_of_the_key():
    table, sweeps = ((DOCS / name).read_text(encoding="utf-8") for name in ("table.md", "sweeps.md"))
    for name in ("cell", "series", "term", "samples", "x"):
        assert f"`{name}`" in table.split("## Which row is which", 1)[1].split("## ", 1)[0]
    sentence = "`cell`, `series`, `term` and `samples`"
    assert sentence in " ".join(sweeps.split()) and sentence in " ".join(table.split())
