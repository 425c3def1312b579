"""Running a sweep: idle lanes, one compilation for each schedule, resuming, and what a finished run holds."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bound_validation.results import COLUMNS, Row, read_table
from bound_validation.sweep.cells import UNSETTLED, run_part, work_of
from bound_validation.sweep.definition import Figure
from bound_validation.sweep.parts import Part, parts
from bound_validation.sweep.run import run_sweep, tasks
from examples.own_sweep import drafts
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.learner.train import Traces
from tests.bound_validation.runs import with_blank_figures
from tests.bound_validation.sweep.small import exact, small, without_figures

SERIES = {"gap", "gap_value_aware", "gap_mass_span", "policy_loss", "spread", "bias", "rmse", "residual", "total"}


class Finished(NamedTuple):
    place: Path
    summary: dict[str, Any]
    rows: list[Row]
    traces: int


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    """One run with everything in it: three cells in two parts, both schedules, two numbers of handoffs."""
    place = tmp_path_factory.mktemp("sweep")
    before = sum(Traces.values())
    with with_blank_figures("bound_validation.sweep.figure.save"):
        summary = run_sweep(small(), place)
    assert summary is not None
    return Finished(place, summary, read_table(place / "results.parquet"), sum(Traces.values()) - before)


def copied(finished: Finished, target: Path) -> Path:
    shutil.copytree(finished.place, target)
    for name in ("results.parquet", "summary.json"):
        (target / name).unlink()
    return target


def test_one_compilation_for_each_schedule_however_many_parts(finished):
    assert len(list((finished.place / "parts").glob("*.jsonl"))) == 2
    assert finished.traces == 2


def test_every_cell_has_every_series_at_every_count(finished):
    found = {(row.cell, row.series, row.samples) for row in finished.rows}
    assert len(found) == len(finished.rows)
    exact_series = {name for name in SERIES if name.startswith(("gap", "policy"))}
    cells = [f"small/stakes={value}" for value in (0, 1, 2)]
    wanted = {(cell, name, 0) for cell in cells for name in exact_series}
    wanted |= {(cell, name, k) for cell in cells for name in SERIES - exact_series for k in (400, 800)}
    assert found == wanted
    assert list(dict.fromkeys(row.cell for row in finished.rows)) == cells
    assert {row.axis for row in finished.rows} == {"sweep"} and {row.x_name for row in finished.rows} == {"stakes"}
    assert {(row.cell, row.x) for row in finished.rows} == {(f"small/stakes={v}", float(v)) for v in (0, 1, 2)}


def test_exact_rows_are_the_analysis(finished):
    for value in (0.0, 1.0, 2.0):
        known = analyse(drafts(value))
        rows = {row.series: row for row in finished.rows if row.x == value}
        assert rows["gap"].measured == known.gap.gap and rows["gap"].bound == pytest.approx(known.gap.bound)
        assert rows["policy_loss"].measured == known.gap.policy_loss
        assert rows["spread"].mixing_time == known.clock(0.25) and rows["total"].kappa == known.kappa
    # Without stakes nothing that is hidden matters; with them the hidden reward is proportional to the stakes.
    gaps = {row.x: row.measured for row in finished.rows if row.series == "gap"}
    assert gaps[0.0] < 1e-9 < gaps[1.0] < gaps[2.0]


def test_the_summary_has_the_keys_of_a_validation_run_and_two_more(finished):
    from tests.bound_validation.runs import first_cells, section

    documented = set(first_cells(section("The summary")))
    assert set(finished.summary) == documented | {"sweep", "axes"}
    assert json.loads((finished.place / "summary.json").read_text())["cells"] == finished.summary["cells"] == 3
    assert finished.summary["bound_holds"] and finished.summary["checks"] == 3 * (4 + 2 * 2)
    assert [line["model"] for line in finished.summary["constants"]] == [f"small/stakes={v}" for v in (0, 1, 2)]
    assert {claim["name"] for claim in finished.summary["claims"]} == {"sweep_a6", "sweep_limit", "sweep_dominance"}
    assert finished.summary["handoffs"] == 2 * 2 * 4 * (800 + 400 + 800)  # parts, lanes, replicas


def test_figures_and_report(finished):
    names = {path.name for path in (finished.place / "figures").iterdir()}
    drawn = ("interface", "spread", "residual", "total", "checks")
    assert names == {f"{name}{kind}" for name in drawn for kind in (".png", ".pdf", ".json", "-column.pdf")}
    page = (finished.place / "report.html").read_text()
    assert "Sweep <code>small</code> over <code>drafts</code>" in page and "The sweep" in page
    assert page.count("data:image/png;base64,") == len(drawn)
    assert "<dt>axis stakes</dt><dd>0.0, 1.0, 2.0</dd>" in page


def numbers(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [tuple(repr(getattr(row, name)) for name in COLUMNS) for row in rows]


def test_an_idle_lane_changes_no_bit(finished):
    """The last cell shares its part with a copy of itself; beside another cell it gives the same rows."""
    sweep = small()
    first, last = parts(sweep)
    assert (len(last.cells), last.lanes) == (1, 2)
    full = dataclasses.replace(last, cells=(first.cells[1], last.cells[0]))
    before = sum(Traces.values())
    padded, unpadded = run_part(sweep, last, lambda _: None), run_part(sweep, full, lambda _: None)
    assert sum(Traces.values()) == before, "the group is compiled once"
    mine = [row for row in unpadded.rows if row.cell == last.cells[0].id]
    assert numbers(padded.rows) == numbers(mine) and len(mine) == 14
    assert {row.cell for row in padded.rows} == {last.cells[0].id}


@pytest.mark.slow
def test_a_cell_on_its_own_gives_the_same_bits(finished):
    sweep = small(cells_per_part=1)
    rows = [row for part in parts(sweep) for row in run_part(sweep, part, lambda _: None).rows]
    keep = [dataclasses.replace(row, x_name="", x=np.nan, group="") for row in finished.rows]
    assert numbers(rows) == numbers(keep)


@pytest.mark.slow
def test_a_cell_is_measured_as_by_a_validation_run(finished):
    """Against the samples axis: the same model, seed and counts give the same numbers, bit for bit."""
    from bound_validation.axes.samples.measure import measure_bounds, measure_limit
    from bound_validation.axes.samples.spec import SamplesSpec
    from bound_validation.axis import Settings

    spec = SamplesSpec("tabular", "tabular", (400, 800), 4, (400, 800), 4, seed=0)
    run = (spec, analyse(drafts(1.0)), {"axis": "model"}, Settings(small().chunk_length, 10), lambda _: None)
    theirs = measure_limit(*run)[0].rows + measure_bounds(*run).rows
    names = {"constant_step": "residual"}
    expected = {(names.get(row.series, row.series), row.samples): row for row in theirs}
    mine = [row for row in finished.rows if row.x == 1.0 and (row.series, row.samples) in expected]
    assert len(mine) == 8
    for row in mine:
        other = expected[row.series, row.samples]
        for name in ("measured", "ci_low", "ci_high", "bound", "prediction", "alternative"):
            assert repr(getattr(row, name)) == repr(float(getattr(other, name))), (row.series, row.samples, name)


def test_work_is_what_is_reported():
    sweep = exact(cells_per_part=2)
    for part in parts(sweep):
        done: list[int] = []
        run_part(sweep, part, done.append)
        assert sum(done) == work_of(sweep, part)
    (limit, *_) = parts(small())
    assert work_of(small(), limit) == 2 * 10_000 + 2 * 4 * (800 + 400 + 800)


def test_tasks_say_how_many_cells_they_hold_and_whether_they_simulate():
    assert [(task.name, task.cells, task.joint) for task in tasks(small())] == [
        ("small/00000", 2, True),
        ("small/00001", 1, True),
    ]
    assert not any(task.joint for task in tasks(exact()))


def test_resuming_after_a_part_is_lost(finished, tmp_path):
    place = copied(finished, tmp_path / "again")
    lost = place / "parts" / "small-00001.jsonl"
    before = lost.read_bytes()
    kept = place / "parts" / "small-00000.jsonl"
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    with without_figures():
        run_sweep(small(), place, resume=True)
    assert (place / "results.parquet").read_bytes() == (finished.place / "results.parquet").read_bytes()
    assert kept.stat().st_mtime_ns == stamp

    def timeless(part: bytes) -> str:
        content = json.loads(part.splitlines()[1])
        return json.dumps({**content, "compile_s": 0})

    assert timeless(lost.read_bytes()) == timeless(before)


def test_twice_gives_the_same_table(finished, tmp_path):
    with without_figures():
        run_sweep(small(), tmp_path / "twice")
    assert (tmp_path / "twice" / "results.parquet").read_bytes() == (finished.place / "results.parquet").read_bytes()


def test_figure_settings_may_change_without_computing_again(finished, tmp_path, monkeypatch):
    place = copied(finished, tmp_path / "other")
    monkeypatch.setattr("bound_validation.sweep.run.run_part", lambda *_: pytest.fail("computed again"))
    sweep = small(figure=Figure(x="learner.samples", group="stakes"))
    with without_figures():
        run_sweep(sweep, place, resume=True)
    rows = read_table(place / "results.parquet")
    assert {(row.x_name, row.x) for row in rows if row.samples} == {("handoffs", 400.0), ("handoffs", 800.0)}
    assert {row.group for row in rows} == {f"stakes = {value}" for value in (0, 1, 2)}
    for ours, theirs in zip(rows, finished.rows, strict=True):
        assert (ours.cell, ours.series, ours.samples, ours.measured) == (
            theirs.cell, theirs.series, theirs.samples, theirs.measured,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"replicas": 5}, "replicas"), ({"fixed": {"effort": 5.0}}, "fixed"), ({"seed": 1}, "seed"),
     ({"axes": {"stakes": (0.0, 1.0, 3.0)}}, "axes"), ({"measure": ("interface", "limit")}, "measure")],
)  # fmt: skip
def test_another_sweep_is_not_resumed(finished, tmp_path, changes, named):
    place = copied(finished, tmp_path / "changed")
    with pytest.raises(ValueError, match=named):
        run_sweep(small(**changes), place, resume=True)
    assert not (place / "results.parquet").exists()


def test_a_cell_without_a_fixed_point_is_kept_and_said(monkeypatch):
    """Where Q_m is not found nothing is simulated, and the rows say why."""
    from icsmdp_jax.exact import constants

    found = constants.projected_fixed_point
    monkeypatch.setattr(constants, "projected_fixed_point", lambda *a, **k: found(*a, **k)._replace(converged=False))
    sweep = small(width=1, axes={"stakes": (1.0,)})
    (part,) = parts(sweep)
    result = run_part(sweep, part, lambda _: None)
    assert result.handoffs == 0
    learned = [row for row in result.rows if row.samples]
    assert {row.series for row in learned} == {"spread", "bias", "rmse", "residual", "total"}
    assert all(np.isnan(row.measured) and row.holds == -1 and row.note == UNSETTLED for row in learned)
    assert {row.series for row in result.rows if row.holds == 1} == {s for s in SERIES if s.startswith(("gap", "pol"))}


@pytest.mark.slow
def test_linear_features_and_models_without_descriptions(tmp_path):
    """Width as an axis: random features of stand-in descriptions, their approximation error, and the sum."""
    sweep = small(axes={"stakes": (1.0, 2.0), "learner.width": (0, 1)}, fixed={"effort": 8.0, "gamma": 0.8})
    assert [part.shape.width for part in parts(sweep)] == [0, 1]
    summary = run_sweep(sweep, tmp_path)
    rows = read_table(tmp_path / "results.parquet")
    assert summary is not None and summary["bound_holds"]
    approximation = [row for row in rows if row.series == "approximation"]
    assert [row.width for row in approximation] == [1, 1] and all(row.measured > 1e-6 for row in approximation)
    assert all(row.bound >= row.measured for row in approximation)
    assert (tmp_path / "figures" / "approximation.png").exists()


def test_a_part_is_plain_data():
    """Parts travel through files, so that nothing in a row may be an array."""
    (part, *_) = parts(exact())
    assert isinstance(part, Part)
    json.dumps(run_part(exact(), part, lambda _: None).plain(), allow_nan=False)
