"""Validation runs: what they leave, how they judge, what they refuse; docs/validation.md lists it all."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bound_validation import theorem
from bound_validation.axes.gap import measure as gap
from bound_validation.axes.width import measure as width
from bound_validation.axis import PRESETS, SETTINGS
from bound_validation.report.figures import NAMES, draw_all
from bound_validation.results import COLUMNS, NAN, Row, read_table
from bound_validation.running import summarise, verdict
from bound_validation.tasks import Claim, Task, TaskResult, in_range
from icsmdp_jax.runs.provenance import versions
from tests.bound_validation.runs import (
    Outcome,
    cheap_row,
    cheap_tasks,
    declared,
    documented_series,
    first_cells,
    icsmdp,
    leftovers,
    parts,
    preset,
    refused,
    running,
    section,
    shared_run,
)


@pytest.fixture(scope="module")
def testing(tmp_path_factory) -> tuple[Path, Outcome]:
    """The directory of a run of the testing preset, and how the command ended."""
    return shared_run(Path(tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="module")
def summary(testing) -> dict:
    return json.loads((testing[0] / "summary.json").read_text())


# The testing preset


def test_testing_preset_ends_well_and_names_the_report_last(testing):
    place, outcome = testing
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1] == str(place / "report.html")
    assert any(line.startswith("The bound held in") for line in outcome.err.splitlines())


def test_testing_preset_leaves_what_the_contract_names(testing):
    place, _ = testing
    for name in ("results.parquet", "summary.json", "report.html", "manifest.json"):
        assert (place / name).stat().st_size > 100, name
    stems = {suffix: {p.stem for p in (place / "figures").glob(f"*.{suffix}")} for suffix in ("png", "pdf")}
    assert stems["png"] == stems["pdf"] == set(NAMES)  # those for a column are left out of this preset
    for path in (place / "figures").iterdir():
        assert path.read_bytes()[:4] in (b"\x89PNG", b"%PDF", b'{"co'), path
    assert leftovers(place) == []


@pytest.mark.slow
def test_figures_of_the_testing_preset(testing, summary, tmp_path):
    """Laid out and saved; the run itself left blank pictures. Rows that are made up: test_figures.py."""
    drawn = draw_all(read_table(testing[0] / "results.parquet"), summary, tmp_path)
    assert tuple(drawn) == NAMES and min(path.stat().st_size for path in drawn.values()) > 10_000


def test_report_stands_alone(testing):
    page = (testing[0] / "report.html").read_text()
    for name in NAMES:
        assert f'href="figures/{name}.png"' in page, name
        assert json.loads((testing[0] / "figures" / f"{name}.json").read_text())["panels"], name
    assert all(target.startswith("data:") for target in re.findall(r'src="([^"]*)"', page))
    linked = [target for target in re.findall(r'href="([^"]*)"', page) if not target.startswith("#")]
    assert all((testing[0] / target).is_file() for target in linked), linked
    assert len(page) < 6_000_000


def test_summary_has_what_the_contract_names(testing, summary):
    rows = read_table(testing[0] / "results.parquet")
    assert summary["preset"] == "testing" and summary["model"] is None
    assert summary["bound_holds"] is True and summary["violations"] == 0
    assert summary["cells"] == len({row.cell for row in rows}) > 40
    assert summary["checks"] == sum(row.holds >= 0 for row in rows)
    assert set(summary["worst_ratio"]) == {"approximation", "interface", "residual", "total"}
    for term, worst in summary["worst_ratio"].items():
        ratios = [row.ratio for row in rows if row.term == term and row.holds >= 0]
        assert worst == max(ratio for ratio in ratios if ratio == ratio) <= 1
        assert summary["checks_per_term"][term] == {
            "held": len(ratios),
            "checked": len(ratios),
            "informative": sum(row.bound < row.trivial for row in rows if row.term == term),
        }
    assert summary["informative"] == sum(row.bound < row.trivial for row in rows)
    for name, slope in summary["slopes"].items():
        assert {"slope", "ci_low", "ci_high", "target", "passed"} <= set(slope), name
    assert set(summary["slopes"]) == {
        "width_approximant", "width_projection", "width_fixed_point", "width_trained", "gap",
        "samples_spread_tabular", "samples_spread_linear",
    }  # fmt: skip
    for name in ("width_approximant", "samples_spread_tabular", "samples_spread_linear"):
        slope = summary["slopes"][name]
        assert slope["ci_low"] < slope["slope"] < slope["ci_high"] and slope["target"] == -0.5
    assert summary["versions"] == json.loads(json.dumps(versions())) and "jax" in summary["versions"]
    assert summary["device"]["platform"] in ("cpu", "gpu", "tpu") and summary["device"]["count"] >= 1
    assert summary["handoffs"] > 10**6 and summary["compile_s"] > 0 and summary["run_s"] > 0
    assert summary["report"] == str(testing[0] / "report.html")


def test_exact_claims_of_the_testing_preset_pass(summary):
    claims = {claim["name"]: claim for claim in summary["claims"]}
    exact = ("gap_closed", "gap_slope", "sharp_family", "sharp_closed_form", "mixing_closed", "durations_horizon",
             "durations_gamma", "durations_contraction", "width_constant")  # fmt: skip
    assert {name: claims[name]["passed"] for name in exact} == dict.fromkeys(exact, True)
    # Too short a run for the central-limit line: it is shown, not claimed.
    short = ("samples_limit_tabular", "samples_limit_linear", "mixing_limit")
    assert {name: claims[name]["passed"] for name in short} == dict.fromkeys(short)


def test_manifest_says_what_was_run(testing):
    manifest = json.loads((testing[0] / "manifest.json").read_text())
    assert manifest["preset"] == "testing" and manifest["model"] is None
    assert [name.replace("/", "-") + ".jsonl" for name in manifest["tasks"]] != []
    assert sorted(name.replace("/", "-") + ".jsonl" for name in manifest["tasks"]) == parts(testing[0])
    assert {"schema", "preset", "config", "code", "versions", "device", "flags"} <= set(manifest)
    assert manifest["config"]["gap"]["seed"] == preset("testing").gap.seed
    metadata = pq.read_schema(testing[0] / "results.parquet").metadata
    assert json.loads(metadata[b"icsmdp_jax"]) == manifest


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_presets_ask_for_whole_chunks(name):
    specs = preset(name)
    counts = [specs.gap.samples, specs.mixing.theorem_samples]
    for spec in (*specs.samples.limits, *specs.samples.projected, specs.model):
        counts += [*spec.theorem_samples, *spec.limit_samples, *(k // 2 for k in spec.limit_samples)]
    counts += [specs.mixing.samples, specs.mixing.samples // 2]
    assert {count % SETTINGS[name].chunk for count in counts} == {0}
    for spec in (*specs.samples.plain, specs.total):
        assert {count % spec.chunk for count in spec.samples} == {0}


def test_presets_grow():
    sizes = []
    for name in PRESETS:
        specs = preset(name)
        sizes.append((len(specs.gap.gaps), specs.gap.samples, specs.width.draws, len(specs.width.widths)))
        assert 0.0 in specs.gap.gaps and 0.0 in specs.total.gaps
    assert sizes == sorted(sizes)


# Verdicts


def violated_task() -> Task:
    rows = [cheap_row(0), cheap_row(1, measured=1.5), dataclasses.replace(cheap_row(2), bound=NAN, holds=-1)]
    return Task("violated", lambda progress: TaskResult(rows), 1)


def test_a_violated_bound_is_a_finding(tmp_path):
    with running([violated_task()]):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path)
    assert outcome.code == 1
    assert outcome.out.splitlines()[-1] == str(tmp_path / "report.html")
    assert "The bound held in 1 of 2 checks over 3 cells, 0 of these checks informative" in outcome.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["bound_holds"] is False and (summary["violations"], summary["checks"]) == (1, 2)
    assert summary["worst_ratio"]["approximation"] == pytest.approx(1.5)
    assert summary["checks_per_term"]["approximation"] == {"held": 1, "checked": 2, "informative": 0}
    page = (tmp_path / "report.html").read_text().lower()
    assert "violated" in page and "width/1" in page


def test_a_theorem_that_promises_too_much_is_found_out(tmp_path, monkeypatch):
    """The real task of the sharp family, whose gap all but meets Theorem 1, against half of Theorem 1."""
    right = theorem.interface_bound
    monkeypatch.setattr(theorem, "interface_bound", lambda *constants: right(*constants) / 2)
    tasks = gap.tasks(preset("testing").gap, SETTINGS["testing"])
    sharp = next(task for task in tasks if task.name == "gap/sharp")
    with running([sharp]):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path, "--json")
    assert outcome.code == 1
    summary = json.loads(outcome.out)
    assert summary["bound_holds"] is False and summary["violations"] >= 1
    assert 1.9 < summary["worst_ratio"]["interface"] < 2.0
    assert "violated" in (tmp_path / "report.html").read_text().lower()


def test_json_prints_the_summary_alone(tmp_path):
    with running(cheap_tasks(2, [])):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path, "--json")
    assert outcome.code == 0 and outcome.out.count("\n") == 1
    assert json.loads(outcome.out) == json.loads((tmp_path / "summary.json").read_text())


def test_a_failed_claim_is_named_but_no_violation(tmp_path):
    failed = in_range("slope_of_something", "A slope.", -0.3, -0.55, -0.45)
    reported = Claim("reported", "A number.", 1.0, "reported", None)
    result = TaskResult([cheap_row(0)], {}, [failed, reported])
    with running([Task("one", lambda progress: result, 1)]):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path)
    assert outcome.code == 0
    assert "0 of 1" in outcome.err and "(failed: slope_of_something)" in outcome.err
    claims = json.loads((tmp_path / "summary.json").read_text())["claims"]
    assert [claim["passed"] for claim in claims] == [False, None]
    line = verdict({"checks": 3, "violations": 1, "cells": 2, "informative": 1, "claims": []})
    assert line.startswith("The bound held in 2 of 3 checks over 2 cells, 1 of these checks informative")
    assert "\n" not in line


def test_an_undecided_claim_is_reported_and_ends_well(tmp_path):
    claims = [
        in_range("clear", "A slope.", -0.5, -0.55, -0.45, -0.52, -0.48),
        in_range("open", "A slope.", -0.5, -0.55, -0.45, -0.6, -0.48),
    ]
    with running([Task("one", lambda progress: TaskResult([cheap_row(0)], {}, claims), 1)]):
        outcome = icsmdp("validate", "--preset", "testing", "--out", tmp_path)
    assert outcome.code == 0
    assert "1 of 2 judged claims passed (undecided: open)" in outcome.err
    found = json.loads((tmp_path / "summary.json").read_text())["claims"]
    assert [(claim["passed"], claim["undecided"]) for claim in found] == [(True, False), (None, True)]
    assert "undecided" in (tmp_path / "report.html").read_text()


def test_ratios_of_the_summary():
    rows = [cheap_row(i, measured) for i, measured in enumerate((0.2, 0.4, 0.9))]
    rows.append(dataclasses.replace(cheap_row(3), term="interface", bound=0.0, measured=0.0, holds=1))
    rows.append(dataclasses.replace(cheap_row(4), bound=NAN, holds=-1, certified=False))
    manifest = {"preset": "testing", "model": None, "versions": {}}
    found = summarise(TaskResult(rows), manifest, 1.0)
    assert found["worst_ratio"] == {"approximation": pytest.approx(0.9), "interface": None}
    assert found["median_ratio"] == {"approximation": pytest.approx(0.4), "interface": None}
    assert found["a6_uncertified_cells"] == ["width/4"]
    assert (found["checks"], found["cells"]) == (4, 5)


# Bad input


def test_out_that_is_a_file_is_refused(tmp_path):
    place = tmp_path / "file"
    place.write_text("mine")
    with running(cheap_tasks(1, [])):
        refused(icsmdp("validate", "--preset", "testing", "--out", place), str(place), "directory")
        refused(icsmdp("validate", "--preset", "testing", "--out", place / "below"), str(place))
    assert place.read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--preset", "huge", "--out", "there"],
        ["--preset", "testing"],
        ["--preset", "testing", "--out", "there", "--model", "missing.npz"],
        ["--preset", "testing", "--out", "there", "--behaviour", "missing.npy"],
        ["--preset", "testing", "--out", "there", "--unknown"],
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    with running(cheap_tasks(1, [])):
        refused(icsmdp("validate", *arguments))
    assert list(tmp_path.iterdir()) == []


def test_pyproject_declares_the_command():
    (entry,) = [found for found in declared("icsmdp_jax.commands") if found.name == "validate"]
    parser = argparse.ArgumentParser()
    entry.load()(parser.add_subparsers())
    args = parser.parse_args(["validate", "--out", "there"])
    assert (args.preset, args.model, args.behaviour, args.resume, args.json) == ("quick", None, "uniform", False, False)


# The documentation


def test_document_describes_every_column():
    names = first_cells(section("The table"))
    assert sorted(names) == sorted([*COLUMNS, "ratio"])


def test_document_lists_every_series_of_a_run(testing):
    found = {(row.axis, row.series) for row in read_table(testing[0] / "results.parquet")}
    documented = {pair for pair in documented_series() if pair[0] != "model"}
    assert found == documented


def test_document_lists_every_claim_of_a_run(summary):
    names = first_cells(section("Claims"))
    stand = {"CLASS": "(tabular|linear)", "MODEL": "(gap_closed|gap_open|slow_mixing)"}
    patterns = [re.sub("|".join(stand), lambda found: stand[found[0]], re.escape(name)) for name in names]
    for claim in summary["claims"]:
        assert any(re.fullmatch(pattern, claim["name"]) for pattern in patterns), claim["name"]


def test_document_lists_every_key_of_the_summary(summary):
    assert set(summary) == set(first_cells(section("The summary")))


def test_document_shows_how_to_load_the_table(testing, tmp_path):
    code = re.search(r"```python\n(.*?)```", section("The table"), re.DOTALL)[1]
    shutil.copytree(testing[0], tmp_path / "results" / "quick", ignore=shutil.ignore_patterns("figures", "parts"))
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr


# The acceptance of the quick preset


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> tuple[Path, Outcome]:
    place = tmp_path_factory.mktemp("quick")
    return place, icsmdp("validate", "--preset", "quick", "--out", place)


@pytest.mark.slow
def test_quick_preset_bears_out_every_claim(quick):
    place, outcome = quick
    assert outcome.code == 0, outcome.err
    summary = json.loads((place / "summary.json").read_text())
    assert summary["bound_holds"] is True and summary["violations"] == 0
    assert {name: s["passed"] for name, s in summary["slopes"].items() if s["passed"] is False} == {}
    assert [claim for claim in summary["claims"] if claim["passed"] is False] == []
    judged = {claim["name"] for claim in summary["claims"] if claim["passed"]}
    assert {"samples_slope_tabular", "samples_limit_tabular", "samples_slope_linear", "samples_limit_linear",
            "mixing_poisson", "width_approximant_slope", "gap_slope", "total_dominance",
            "total_fall"} <= judged  # fmt: skip
    undecided = {claim["name"] for claim in summary["claims"] if claim["undecided"]}
    assert undecided <= {"mixing_limit"}  # 64 replicas of a slow chain: the interval is as wide as the admitted range
    for name in ("width_approximant", "gap", "samples_spread_tabular", "samples_spread_linear"):
        assert summary["slopes"][name]["passed"] is True, name


@pytest.mark.slow
def test_quick_preset_has_informative_certificates(quick):
    """At least 60 % of all residual and total checks, and every one at the largest K of tables and of the grid."""
    rows = [row for row in read_table(quick[0] / "results.parquet") if row.term in ("residual", "total")]
    checks = [row for row in rows if row.holds >= 0]
    assert sum(row.evidence for row in checks) >= 0.6 * len(checks)
    tables = [row for row in checks if row.axis == "samples" and row.width == 0]
    for group in {row.group for row in tables}:
        here = [row for row in tables if row.group == group]
        assert all(row.evidence for row in here if row.samples == max(r.samples for r in here)), group
    grid = [row for row in checks if row.axis == "total"]
    assert all(row.evidence for row in grid if row.samples == max(r.samples for r in grid))
    assert all(row.evidence for row in grid if row.term == "residual")
    (long,) = [row for row in tables if row.series == "constant_step" and row.samples == 100_000]
    assert long.bound <= 2 * long.measured
    most = {"constant": 1.5, "polynomial": 8.0, "harmonic": 30.0}
    for row in tables:
        if row.series.endswith("_plain") and row.samples in (1000, 10_000):
            assert row.bound <= most[row.series.removesuffix("_plain")] * row.measured, row


@pytest.mark.slow
def test_quick_preset_keeps_its_cells(quick):
    """Ids of cells are frozen: published numbers are looked up by them."""
    rows: list[Row] = read_table(quick[0] / "results.parquet")
    cells = {row.cell for row in rows}
    assert {f"width/{i}" for i in range(len(preset("quick").width.widths))} <= cells
    assert {"gap/0", "gap/6", "gap/sharp/5", "gap/learned/6", "mixing/open/4", "mixing/closed/0",
            "mixing/projected/open/4", "samples/tabular/4000", "samples/linear/projected/1000",
            "samples/tabular/plain/10000", "durations/geometric/2", "total/groups4/eta0.1/K4000"} <= cells  # fmt: skip
    assert width.tasks(preset("quick").width, SETTINGS["quick"])[0].name == "width"
