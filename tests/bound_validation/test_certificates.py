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
from icsmdp_jax.models.files import load_model
from tests.exact.test_comparison import tiny
from tests.helpers import GOLDEN, as_model
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
