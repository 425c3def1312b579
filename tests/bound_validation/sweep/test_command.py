"""``icsmdp sweep``: exit codes, output, and the run directory, on sweeps that compute and do not simulate."""

from __future__ import annotations

import json
import shutil

import pytest

from bound_validation import theorem
from bound_validation.results import read_table
from tests.bound_validation.runs import GOLDEN, icsmdp, refused
from tests.bound_validation.sweep.small import TOML, without_figures, written


@pytest.fixture
def out(tmp_path):
    """A run directory; figures are left out, see ``test_running``."""
    with without_figures():
        yield tmp_path / "out"


def test_a_sweep_from_a_file(tmp_path, out):
    outcome = icsmdp("sweep", written(tmp_path), "--out", out)
    assert outcome.code == 0 and outcome.out == f"{out / 'report.html'}\n", outcome.err
    assert "The bound held in 12 of 12 checks over 3 cells, 10 of these checks informative" in outcome.err
    rows = read_table(out / "results.parquet")
    assert [row.cell for row in rows if row.series == "gap"] == [f"toml/stakes={value}" for value in (0, 1, 2)]
    assert sorted(path.name for path in (out / "parts").iterdir()) == ["toml-00000.jsonl", "toml-00001.jsonl"]


def test_json_is_the_summary(tmp_path, out):
    outcome = icsmdp("sweep", written(tmp_path), "--out", out, "--json")
    assert outcome.code == 0 and outcome.out.count("\n") == 1
    assert json.loads(outcome.out) == json.loads((out / "summary.json").read_text())


def test_a_violated_bound_is_exit_code_1(tmp_path, out, monkeypatch):
    """With a tenth of Theorem 1 in its place the gap is above the bound wherever something is hidden."""
    whole = theorem.interface_bound
    monkeypatch.setattr(theorem, "interface_bound", lambda *constants: 0.1 * whole(*constants))
    outcome = icsmdp("sweep", written(tmp_path), "--out", out, "--json")
    summary = json.loads(outcome.out)
    assert outcome.code == 1 and not summary["bound_holds"] and summary["violations"] == 2
    violated = {(row.cell, row.series) for row in read_table(out / "results.parquet") if row.holds == 0}
    assert violated == {("toml/stakes=1", "gap"), ("toml/stakes=2", "gap")}
    page = (out / "report.html").read_text()
    assert "FAILED" in page and "2 violated" in page and "VIOLATED" in page


def test_a_run_is_not_lost_by_accident(tmp_path, out):
    place = written(tmp_path)
    assert icsmdp("sweep", place, "--out", out).code == 0
    table = (out / "results.parquet").read_bytes()
    place.write_text(TOML.format(family="own.py:drafts").replace("2.0]", "3.0]"))
    refused(icsmdp("sweep", place, "--out", out), str(out))
    refused(icsmdp("sweep", place, "--out", out, "--resume"), "axes")
    assert (out / "results.parquet").read_bytes() == table
    assert icsmdp("sweep", place, "--out", out, "--overwrite").code == 0
    assert (out / "results.parquet").read_bytes() != table


def test_the_file_of_the_family_belongs_to_the_run(tmp_path, out):
    place = written(tmp_path)
    assert icsmdp("sweep", place, "--out", out).code == 0
    (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text() + "\n# changed\n")
    refused(icsmdp("sweep", place, "--out", out, "--resume"), "family_sha256")


def test_a_family_that_refuses_a_cell_is_quoted_in_one_line(tmp_path, out):
    place = written(tmp_path, TOML.format(family="own.py:drafts") + "\n[model.fixed]\naccuracy = 1.0\n")
    refused(icsmdp("sweep", place, "--out", out), "cell toml/stakes=0: accuracy = 1.0: expected a number above 0")


def test_a_model_file_is_a_family(tmp_path, out):
    from examples.own_sweep import drafts
    from icsmdp_jax.models.files import save_model

    save_model(tmp_path / "mine.npz", drafts(1.0))
    text = TOML.format(family="mine.npz").replace("stakes = [0.0, 1.0, 2.0]", "gamma = [0.5, 0.9]")
    assert icsmdp("sweep", written(tmp_path, text), "--out", out).code == 0
    moduli = [row.gamma_bar for row in read_table(out / "results.parquet") if row.series == "gap"]
    assert moduli[0] < moduli[1]


@pytest.mark.parametrize(
    ("family", "axis", "values", "problem"),
    [
        ("model.npz", "gamma", "[0.5, 1.0]", "gamma = 1.0: expected a number in [0, 1)"),
        ("planted", "gap", "[0.1, -0.1]", "gap = -0.1: expected"),
        ("random", "duration_mean", "[6.0, 1.0]", "duration_mean = 1.0: expected 3 or more"),
    ],
)
def test_a_value_out_of_range_in_a_later_cell_is_known_before_the_run(tmp_path, out, family, axis, values, problem):
    shutil.copy(GOLDEN / "plain.npz", tmp_path / "model.npz")
    seed = "[model.fixed]\nseed = 1\n" if family == "random" else ""
    text = f'[sweep]\nname = "late"\nmeasure = ["interface"]\n[model]\nfamily = "{family}"\n{seed}'
    refused(icsmdp("sweep", written(tmp_path, f"{text}[axes]\n{axis} = {values}\n"), "--out", out), problem)
    assert not out.exists()
