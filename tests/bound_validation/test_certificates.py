"""Certificates of one model against plain loops (T3, T3+, theorem B)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from bound_validation.bound_command import add_command
from bound_validation.certificates import steps, tabular_certificates
from icsmdp_jax.cli import main
from icsmdp_jax.exact import analyse, constants
from icsmdp_jax.exact import comparison as exact_comparison
from icsmdp_jax.exact.comparison import forecast_bytes
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.models.files import load_model
from tests.exact.test_comparison import tiny
from tests.helpers import GOLDEN, GOLDEN_NAMES, as_model, golden_analysis
from tests.reference import moments as twin
from tests.reference import poisson as poisson_twin


def slow(model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same with a discount so small that A6 is certified."""
    return {**model, "gamma": np.array(0.35)}


@pytest.mark.parametrize(("seed", "terminal"), [(0, False), (3, True)])
@pytest.mark.parametrize("schedule", ["constant", "harmonic", "polynomial"])
def test_against_plain_loops(seed: int, terminal: bool, schedule: str) -> None:
    model = slow(tiny(seed, terminal))
    known = analyse(as_model(model))
    assert known.a6_certified
    behaviour = known.interface.chain.behaviour
    (found,) = tabular_certificates(known, [40], schedule)
    expected = twin.run(model, behaviour, steps(schedule, 40, known.omega, known.kappa))
    assert found.prediction == pytest.approx(expected.prediction, rel=1e-8)
    assert found.comparison == pytest.approx(expected.certificate, rel=1e-8)
    assert found.total == pytest.approx(found.best + found.interface_bound_value_aware, rel=1e-12)
    if schedule != "constant":
        assert np.isnan(found.poisson) and np.isnan(found.classic)
        return
    q = known.q_phi.q[known.interface.mask]
    second, drift, boundary = poisson_twin.constants(model, behaviour, 1.25 * np.abs(q).max())
    alpha = 40**-0.5
    square = (q @ q / (2 * alpha * 40) + alpha * (second / 2 + drift) + boundary / 40) / (1 - known.kappa)
    assert found.poisson == pytest.approx(np.sqrt(square), rel=1e-8)
    assert found.best == min(found.comparison, found.poisson, found.classic)
    assert found.informative == (found.best < found.trivial)


SCHEDULES = ("constant", "harmonic", "polynomial")
LONG = {"ten_agents": 3, "episodic_masks": 3, "plain": 4, "slow_mixing": 4}  # handoffs, of models with many transitions


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "ten_agents" else name for name in GOLDEN_NAMES]
)
def test_golden_models_against_plain_loops(name: str) -> None:
    """Successor lists, joint kernels, masks, episodes, many agents; T3+ where A6 is certified."""
    known, count = golden_analysis(name), LONG.get(name, 20)
    model = dict(np.load(GOLDEN / f"{name}.npz"))
    (found,) = tabular_certificates(known, [count])
    expected = twin.run_grouped(model, known.interface.chain.behaviour, np.full(count, count**-0.5))
    assert found.prediction == pytest.approx(expected.prediction, rel=1e-8)
    assert found.comparison == pytest.approx(expected.certificate, rel=1e-8)
    assert np.isfinite(found.poisson) == known.a6_certified == (name == "ten_agents")
    if known.a6_certified:
        assert found.poisson == pytest.approx(poisson_by_loops(known, model, count), rel=1e-8)


def poisson_by_loops(known: Analysis, model: dict[str, np.ndarray], count: int) -> float:
    """Root of T3+ from the twin's constants."""
    q = known.q_phi.q[known.interface.mask]
    behaviour = known.interface.chain.behaviour
    second, drift, boundary = poisson_twin.constants(model, behaviour, 1.25 * np.abs(q).max())
    alpha = count**-0.5
    square = (q @ q / (2 * alpha * count) + alpha * (second / 2 + drift) + boundary / count) / (1 - known.kappa)
    return float(np.sqrt(square))


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        *(("dependent_duration", schedule) for schedule in SCHEDULES),
        pytest.param("episodic_masks", "constant", marks=pytest.mark.slow),
        pytest.param("episodic_masks", "harmonic", marks=pytest.mark.slow),
        pytest.param("episodic_masks", "polynomial", marks=pytest.mark.slow),
    ],
)
def test_certified_forms_of_the_golden_models(name: str, schedule: str) -> None:
    """Episodes, masks and dependent durations with a discount so small that A6 holds: everything applies."""
    model = dict(np.load(GOLDEN / f"{name}.npz")) | {"gamma": np.array(0.35)}
    known = analyse(as_model(model))
    assert known.a6_certified
    count = 3 if name == "episodic_masks" else 20
    (found,) = tabular_certificates(known, [count], schedule)
    behaviour = known.interface.chain.behaviour
    expected = twin.run_grouped(model, behaviour, steps(schedule, count, known.omega, known.kappa))
    assert found.prediction == pytest.approx(expected.prediction, rel=1e-8)
    assert found.comparison == pytest.approx(expected.certificate, rel=1e-8)
    if schedule == "constant":
        assert found.poisson == pytest.approx(poisson_by_loops(known, model, count), rel=1e-8)


def test_the_two_programs_agree_with_each_other() -> None:
    model = slow(tiny(3, True))
    behaviour = analyse(as_model(model)).interface.chain.behaviour
    one, other = (program(model, behaviour, np.full(15, 0.3)) for program in (twin.run, twin.run_grouped))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_models_that_do_not_fit_are_refused_with_the_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    known = golden_analysis("plain")
    needed = forecast_bytes(36, 2, 24)
    monkeypatch.setattr(exact_comparison, "MEMORY", needed - 1)
    with pytest.raises(ValueError, match=f"36 states and 24 parameters need {needed} bytes .* expected at most"):
        tabular_certificates(known, [10])
    monkeypatch.setattr(exact_comparison, "MEMORY", needed)
    assert tabular_certificates(known, [1])[0].prediction > 0


def test_without_a6_only_plain_runs_are_covered() -> None:
    known = analyse(as_model({**tiny(0, False), "gamma": np.array(0.95)}))
    assert not known.a6_certified
    (found,) = tabular_certificates(known, [10])
    assert found.plain()["poisson"] is None and found.plain()["classic"] is None
    assert found.best == found.comparison
    with pytest.raises(ValueError, match="A6 is not certified"):
        tabular_certificates(known, [10], "harmonic")


def test_steps_are_on_the_shared_clock_and_at_most_one() -> None:
    np.testing.assert_allclose(steps("constant", 100, 0.1, 0.5), 0.1)
    np.testing.assert_allclose(steps("harmonic", 3, 0.1, 0.5), [1, 1 / 1.05, 1 / 1.1])
    np.testing.assert_allclose(steps("polynomial", 3, 0.5, 0.5), [1, 1.5**-0.7, 2**-0.7])
    with pytest.raises(ValueError, match="schedule = 'other': expected one of"):
        steps("other", 3, 0.1, 0.5)


def test_the_command_prints_what_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    path = str(GOLDEN / "plain.npz")
    asked = parser.parse_args(["bound", path, "--samples", "200", "50", "--json"])
    assert asked.handler(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schedule"] == "constant"
    expected = [one.plain() for one in tabular_certificates(analyse(load_model(path)), [50, 200])]
    assert found["samples"] == expected and expected[0]["comparison"] > expected[0]["prediction"] > 0
    asked = parser.parse_args(["bound", path, "--samples", "50"])
    assert asked.handler(asked) == 0
    head, line = capsys.readouterr().out.splitlines()[:2]
    assert head.split()[:2] == ["handoffs", "predicted"]
    assert line.split()[:2] == ["50", f"{expected[0]['prediction']:.4g}"]
    assert found["warnings"] == []
    with pytest.raises(SystemExit):
        parser.parse_args(["bound", path, "--samples", "0"])
    assert "expected a number from 1" in capsys.readouterr().err
    wrong = parser.parse_args(["bound", path, "--samples", "50", str(10**18)])
    with pytest.raises(ValueError, match=r"samples = 10{18}: the forecast is .* TiB, expected at most .* would fit"):
        wrong.handler(wrong)


@pytest.mark.parametrize("kappa", [0.5, 1.25])
def test_learn_and_bound_say_that_a6_is_not_certified(
    kappa: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In the words of ``validate``, on stderr, whatever goes to stdout; and nothing where it is certified."""
    monkeypatch.setattr(constants, "kappa_certificate", lambda interface: kappa)
    path = str(GOLDEN / "plain.npz")
    for arguments in (
        ["bound", path, "--samples", "50", "--json"],
        ["learn", path, "--samples", "50", "--replicas", "2", "--out", str(tmp_path / "l.npz"), "--json"],
    ):
        assert main(arguments) == 0
        said = capsys.readouterr().err
        line = f"icsmdp: A6 is not certified (kappa = {kappa:.4g}, 1 or more): Theorems 2 and 3 are not claimed"
        assert (line in said) == (kappa >= 1)
