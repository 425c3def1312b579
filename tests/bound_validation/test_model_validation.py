"""``icsmdp validate --model``: which axes apply to somebody's own model, what is claimed for it and what is not."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from bound_validation import theorem
from bound_validation.axes.model.measure import greedy_claim, tasks, widths_for
from bound_validation.axis import Settings
from bound_validation.bounds import residual_bound
from bound_validation.results import Row, read_table
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.models.files import load_model, save_model
from icsmdp_jax.models.tabular import TabularModel
from tests.bound_validation.runs import (
    GOLDEN,
    MODELS,
    Outcome,
    documented_series,
    icsmdp,
    leftovers,
    preset,
    refused,
    with_blank_figures,
    without_figures,
)
from tests.helpers import EXPECTED, golden_analysis

SPEC = preset("testing").model
INTERFACE = {"gap", "gap_value_aware", "gap_mass_span", "policy_loss"}
LIMIT = {"spread", "bias", "rmse"}
THEOREM = {"constant_step", "decaying_step"}


class Finished(NamedTuple):
    """A run on a model: its directory, how the command ended, the table and the summary."""

    place: Path
    outcome: Outcome
    rows: list[Row]
    summary: dict

    def of(self, series: str) -> list[Row]:
        found = [row for row in self.rows if row.series == series]
        assert found, series
        return found

    def claim(self, name: str) -> dict:
        (found,) = [claim for claim in self.summary["claims"] if claim["name"] == name]
        return found

    @property
    def page(self) -> str:
        return (self.place / "report.html").read_text()


def finished(place: Path, model: Path, size: str = "testing") -> Finished:
    outcome = icsmdp("validate", "--preset", size, "--model", model, "--out", place)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1] == str(place / "report.html")
    assert leftovers(place) == []
    summary = json.loads((place / "summary.json").read_text())
    return Finished(place, outcome, read_table(place / "results.parquet"), summary)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Finished:
    """A6 is not certified. The only run here that makes its figures."""
    with with_blank_figures():
        return finished(tmp_path_factory.mktemp("plain"), GOLDEN / "plain.npz")


@pytest.fixture(scope="module")
def ten_agents(tmp_path_factory) -> Finished:
    """A6 is certified, no features."""
    with without_figures():
        return finished(tmp_path_factory.mktemp("ten_agents"), GOLDEN / "ten_agents.npz")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Finished:
    """A6 is certified, and the model has features, masks and terminal states."""
    with without_figures():
        return finished(tmp_path_factory.mktemp("pipeline"), MODELS / "pipeline.npz")


def test_series_are_those_that_apply(plain, ten_agents, pipeline):
    assert {row.series for row in plain.rows} == INTERFACE | LIMIT
    assert {row.series for row in ten_agents.rows} == INTERFACE | LIMIT | THEOREM
    assert {row.series for row in pipeline.rows} == INTERFACE | LIMIT | THEOREM | {"projection", "fixed_point"}
    for run in (plain, ten_agents, pipeline):
        assert {row.axis for row in run.rows} == {"model"}
        assert all(row.cell.startswith("model/") for row in run.rows)
    assert {("model", row.series) for row in pipeline.rows} == {
        pair for pair in documented_series() if pair[0] == "model"
    }


@pytest.mark.parametrize("name", ["plain", "ten_agents"])
def test_exact_rows_agree_with_another_program(name, request):
    run, wanted = request.getfixturevalue(name), EXPECTED[name]
    (gap,) = run.of("gap")
    assert gap.measured == pytest.approx(wanted["interface_gap"], abs=1e-6)
    assert gap.bound == pytest.approx(wanted["interface_bound"], abs=1e-6)
    (aware,) = run.of("gap_value_aware")
    assert aware.bound == pytest.approx(wanted["interface_bound_value_aware"], abs=1e-6)
    (loss,) = run.of("policy_loss")
    assert loss.measured == pytest.approx(wanted["policy_loss"], abs=1e-6)
    assert loss.bound == pytest.approx(2 * wanted["interface_bound"], abs=1e-6)
    for row in run.rows:
        assert row.kappa == pytest.approx(wanted["kappa"], abs=1e-6)
        assert row.gamma_bar == pytest.approx(wanted["gamma_bar"], abs=1e-6)
        assert row.certified == (wanted["kappa"] < 1)
    for row in run.of("spread"):
        assert row.prediction == pytest.approx(wanted["clt_coefficient"] / row.tail_samples**0.5, abs=1e-6)
        assert row.alternative == pytest.approx(wanted["clt_coefficient_iid"] / row.tail_samples**0.5, abs=1e-6)


def test_without_a6_no_theorem_2_or_3_is_claimed(plain):
    assert {row.series for row in plain.rows if row.holds >= 0} == INTERFACE
    assert {row.term for row in plain.rows} == {"interface", ""}
    claim = plain.claim("model_a6")
    assert claim["passed"] is None and "no Theorem 2 or 3 is claimed" in claim["text"]
    assert claim["value"] == pytest.approx(EXPECTED["plain"]["kappa"], abs=1e-6)
    assert set(plain.summary["worst_ratio"]) == {"interface"}
    assert set(plain.summary["a6_uncertified_cells"]) == {row.cell for row in plain.rows}
    assert "not certified" in plain.page and "no Theorem 2 or 3" in plain.page
    assert all("A6 not certified" in row.note for row in plain.rows)


def test_figures_are_drawn_without_a6(plain):
    names = {path.name for path in (plain.place / "figures").iterdir()}
    assert {f"{name}.{kind}" for name in ("samples", "overview", "handoffs") for kind in ("png", "pdf")} <= names
    assert "Who hands to whom under the behaviour policy" in plain.page
    assert not names & {"width.png", "mixing.png", "durations.png", "total.png"}


def test_with_a6_theorem_3_is_claimed_and_holds(ten_agents):
    known = golden_analysis("ten_agents")
    for series in sorted(THEOREM):
        rows = ten_agents.of(series)
        assert [row.samples for row in rows] == list(SPEC.theorem_samples)
        for row in rows:
            assert row.term == "residual" and row.holds == 1 and row.replicas == SPEC.theorem_replicas
            assert row.bound == pytest.approx(residual_bound(known, row.samples, series == "decaying_step"))
    assert ten_agents.claim("model_a6")["passed"] is True
    assert ten_agents.summary["a6_uncertified_cells"] == []
    assert all(row.note == "" for row in ten_agents.rows)


@pytest.mark.parametrize("name", ["plain", "ten_agents", "pipeline"])
def test_learning_heads_for_the_interface_solution(name, request):
    run = request.getfixturevalue(name)
    spreads, biases, rmses = (run.of(series) for series in ("spread", "bias", "rmse"))
    assert [row.samples for row in spreads] == list(SPEC.limit_samples)
    for rows in (spreads, rmses):
        assert rows[-1].measured < 0.75 * rows[0].measured  # four times as many handoffs: about a half
    # Eight replicas know a spread to some 10 %, and the limit is not reached yet: a factor of 2 is far beyond both.
    assert 0.5 < spreads[-1].measured / spreads[-1].prediction < 2.0
    assert biases[-1].measured < 2 * spreads[-1].measured
    slope = run.summary["slopes"]["model_spread_tabular"]
    assert slope["target"] == -0.5 and slope["ci_low"] <= slope["slope"] <= slope["ci_high"]
    assert slope["passed"] is None  # the testing preset is too short for this claim
    reported = run.claim("model_greedy")
    assert reported["passed"] is None and 0 <= reported["value"] <= SPEC.replicas


def test_width_axis_of_a_model_with_features(pipeline):
    known = analyse(load_model(MODELS / "pipeline.npz"))
    projected, fixed = pipeline.of("projection"), pipeline.of("fixed_point")
    assert [row.width for row in projected] == [row.width for row in fixed] == widths_for(known)
    for near, far in zip(projected, fixed, strict=True):
        assert far.bound == pytest.approx(theorem.approximation_bound(near.measured, known.kappa))
        assert far.term == "approximation" and far.holds == 1 and near.holds == -1
        assert near.measured <= far.measured + 1e-9 and near.replicas == SPEC.draws
    assert projected[-1].measured < projected[0].measured


def test_features_of_one_agents_interfaces_decide_the_widths(pipeline):
    known = analyse(load_model(MODELS / "pipeline.npz"))
    owners = known.interface.model.interface_agent
    largest = max(int((owners == agent).sum()) for agent in range(known.interface.model.num_agents))
    widths = widths_for(known)
    assert widths == [2**i for i in range(1, len(widths) + 1)]
    assert widths[-1] >= largest > widths[-1] / 2


@pytest.mark.parametrize("name", ["plain", "ten_agents", "pipeline"])
def test_summary_and_manifest_name_the_model(name, request):
    run = request.getfixturevalue(name)
    file = (MODELS if name == "pipeline" else GOLDEN) / f"{name}.npz"
    manifest = json.loads((run.place / "manifest.json").read_text())
    assert manifest["model_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert run.summary["model"] == manifest["model"] == f"{name}.npz" and manifest["behaviour"] == "uniform"
    assert f"{name}.npz" in run.page
    assert run.summary["bound_holds"] is True and run.summary["violations"] == 0
    assert run.summary["checks"] == sum(row.holds >= 0 for row in run.rows)
    assert len({(row.cell, row.series) for row in run.rows}) == len(run.rows)


def test_another_model_or_behaviour_is_not_resumed(plain, tmp_path):
    before = {path: path.read_bytes() for path in plain.place.rglob("*") if path.is_file()}
    manifest = str(plain.place / "manifest.json")
    command = ("validate", "--preset", "testing", "--out", plain.place, "--resume")
    renamed = tmp_path / "plain.npz"
    renamed.write_bytes((GOLDEN / "slow_mixing.npz").read_bytes())
    refused(icsmdp(*command, "--model", renamed), manifest, "model_sha256")
    refused(icsmdp(*command), manifest)
    law = np.full((12, 2), 0.5)
    law[3] = 0.4, 0.6
    np.save(tmp_path / "law.npy", law)
    refused(icsmdp(*command, "--model", GOLDEN / "plain.npz", "--behaviour", tmp_path / "law.npy"), "behaviour")
    assert {path: path.read_bytes() for path in plain.place.rglob("*") if path.is_file()} == before


def test_a_finished_model_run_is_resumed(plain, tmp_path):
    place = tmp_path / "run"
    shutil.copytree(plain.place, place)
    (place / "results.parquet").unlink()
    with without_figures():
        outcome = icsmdp("validate", "--preset", "testing", "--model", GOLDEN / "plain.npz", "--out", place, "--resume")
    assert outcome.code == 0, outcome.err
    assert (place / "results.parquet").read_bytes() == (plain.place / "results.parquet").read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", ["model/interface", "model/limit"]),
        ("episodic_masks", ["model/interface", "model/limit"]),
        ("ten_agents", ["model/interface", "model/limit", "model/theorem"]),
    ],
)
def test_tasks_follow_from_the_model(name, expected):
    assert [task.name for task in tasks(SPEC, Settings(known=golden_analysis(name)))] == expected


def test_behaviour_decides_the_certificate(tmp_path):
    """``plain`` under another policy: the constants are those of that policy."""
    law = np.random.default_rng(0).dirichlet((8.0, 8.0), size=12)
    np.save(tmp_path / "law.npy", law)
    place = tmp_path / "run"
    with without_figures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("bound_validation.axes.model.measure.tasks", lambda spec, settings: tasks(spec, settings)[:1])
        outcome = icsmdp(
            "validate", "--preset", "testing", "--model", GOLDEN / "plain.npz", "--out", place,
            "--behaviour", tmp_path / "law.npy",
        )  # fmt: skip
    assert outcome.code == 0, outcome.err
    (row,) = [row for row in read_table(place / "results.parquet") if row.series == "gap"]
    known = analyse(load_model(GOLDEN / "plain.npz"), law)
    assert row.kappa == pytest.approx(known.kappa, rel=1e-12)
    assert row.kappa != pytest.approx(EXPECTED["plain"]["kappa"], abs=1e-3)


def test_greedy_claim_counts_replicas():
    known = golden_analysis("episodic_masks")
    q, mask = known.q_phi_table, known.interface.mask
    assert not mask.all()
    worst = np.where(mask, -q, 1e9)  # an unavailable option never counts
    claim = greedy_claim(known, np.stack([q, q + 1.0, worst]), 1000)
    assert claim.value == 2.0 and "in this many of 3 replicas (1000 handoffs each)" in claim.text
    assert claim.passed is None
    tied = analyse(tie_model())
    tables = np.stack([np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])])
    assert greedy_claim(tied, tables, 1).value == 2.0  # both options are best


# Models at the edge


def tie_model(reward: float = 1.0, noise: float = 0.1) -> TabularModel:
    """Two agents, two options that are the same."""
    return TabularModel(
        transition=np.full((2, 2, 2), 0.5), duration=np.tile([0.5, 0.5], (2, 2, 1)),
        reward_rate=np.full((2, 2), reward), reward_noise=noise, agent=[0, 1], interface=[0, 1], gamma=0.9,
    )  # fmt: skip


def sure_model(reward: float) -> TabularModel:
    """Nothing is random but who is next, and that does not matter: the limit law has no spread."""
    return TabularModel(
        transition=np.full((2, 1, 2), 0.5), duration=np.tile([0.0, 1.0], (2, 1, 1)),
        reward_rate=np.full((2, 1), reward), agent=[0, 1], interface=[0, 1], gamma=0.9,
    )  # fmt: skip


@pytest.mark.parametrize("model", [sure_model(1.0), sure_model(0.0)], ids=["constant reward", "no reward"])
def test_a_model_without_noise_is_no_crash(model, tmp_path):
    """Its spread and its central-limit line are 0; nothing can be divided by them."""
    save_model(tmp_path / "sure.npz", model)
    with without_figures():
        outcome = icsmdp("validate", "--preset", "testing", "--model", tmp_path / "sure.npz", "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["bound_holds"] is True


def test_a_tie_leaves_the_central_limit_unclaimed(tmp_path):
    save_model(tmp_path / "tie.npz", tie_model())
    with without_figures():
        run = finished(tmp_path / "run", tmp_path / "tie.npz")
    claim = run.claim("model_limit_tabular")
    assert claim["passed"] is None and "tie" in claim["text"]
    assert all(math.isfinite(row.measured) for row in run.rows)


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_a_model_that_cannot_be_read_makes_no_folder(tmp_path, damage):
    model, place = tmp_path / "model.npz", tmp_path / "run"
    if damage != "missing":
        content = (GOLDEN / "plain.npz").read_bytes()
        model.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    refused(icsmdp("validate", "--preset", "testing", "--model", model, "--out", place), str(model))
    assert not place.exists()


@pytest.mark.slow
def test_routing_under_the_quick_preset(tmp_path):
    run = finished(tmp_path / "run", MODELS / "routing_6x6_plain.npz", "quick")
    assert run.summary["bound_holds"] is True and run.summary["checks"] > 0
    assert [claim for claim in run.summary["claims"] if claim["passed"] is False] == []
    assert (run.place / "figures" / "samples.png").exists()
