"""``icsmdp learn`` with a schedule, an audit, or an environment in the place of a model: what it prints and refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bound_validation.certificates import tabular_certificates
from icsmdp_jax.core.arrival import Ended, arrive, no_segment
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec
from icsmdp_jax.envs import registry
from icsmdp_jax.exact.fixed_point import bellman
from tests.bound_validation.runs import icsmdp, refused
from tests.command_line import LEARN_KEYS, PLAIN, contents, parsed
from tests.helpers import golden_analysis

AUDIT_KEYS = {"handoffs", "largest_residual", "upper_limit", "error_bound", "method"}


@dataclasses.dataclass(frozen=True)
class Race(Environment):
    """Two runners and no model: option 0 takes four steps, option 1 one step and ends every second race."""

    spec = EnvSpec("race", 2, 2, 3, (), jnp.int32, 4, False)

    def reset(self, key, params):
        return arrive(jnp.int32(0), jnp.int32(0), jnp.ones(2, bool), no_segment()), jnp.int32(0)

    def step_env(self, key, state, option, params):

        over = (option == 1) & jax.random.bernoulli(key, 0.5)
        discount = jnp.where(over, 0.0, jnp.where(option == 1, 0.9, 0.9**4)).astype(jnp.float32)
        ended = Ended(jnp.float32(1) + state, jnp.where(option == 1, 1, 4), discount, over, jnp.zeros((), bool))
        return arrive(1 - state, 1 - state, jnp.ones(2, bool), ended), 1 - state


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch) -> None:
    """The race under a name, which is made at once; routing-6x6 has no model either and takes a second."""
    monkeypatch.setitem(registry.ENVIRONMENTS, "race", registry.Entry(lambda: (Race(), None), "two runners"))


def race_values() -> np.ndarray:
    """``Q*`` of the race, by hand: after a segment of runner i, runner 1 - i decides."""
    q = np.zeros((2, 2))
    for _ in range(500):
        best = q.max(axis=1)[::-1]
        q = np.stack([np.array([1, 2]) + 0.9**4 * best, np.array([1, 2]) + 0.45 * best], axis=1)
    return q


def learn(*arguments: object, out: Path):
    return icsmdp("learn", *map(str, arguments), "--replicas", "3", "--out", str(out), "--json")


def test_a_schedule_comes_with_its_prediction_and_certificate(tmp_path: Path) -> None:
    """The same numbers as ``icsmdp bound``; and the audit of the tables that were written."""
    out = tmp_path / "o.npz"
    found = parsed(learn(PLAIN, "--samples", 300, "--schedule", "polynomial", "--audit", 6400, out=out))
    assert LEARN_KEYS <= set(found) and found["schedule"] == "polynomial" and found["tail_samples"] == 300
    known = golden_analysis("plain")
    (expected,) = tabular_certificates(known, [300], "polynomial")
    assert found["prediction"] == pytest.approx(expected.prediction, rel=1e-9)
    assert found["certificate"] == pytest.approx(expected.comparison, rel=1e-9)
    assert 0.5 < found["rmse_to_interface_solution"] / found["prediction"] < 1.5
    audit, tables = found["audit"], contents(out)["q_average"]
    assert AUDIT_KEYS <= set(audit) and audit["handoffs"] == 6400 and audit["method"] == "batch-means"
    mask = known.interface.mask
    residual = max(np.abs((bellman(known.interface, q) - q)[mask]).max() for q in tables)
    error = max(np.abs((q - known.q_phi_table)[mask]).max() for q in tables)
    assert audit["not_covered"] == [] and audit["pairs"] == audit["covered"] == mask.sum()
    assert audit["largest_residual"] == pytest.approx(residual, rel=0.3)
    assert residual <= audit["upper_limit"] <= 3 * residual
    assert error <= audit["entrywise_bound"] <= audit["error_bound"]
    assert audit["norm_bound"] is None  # A6 is not certified
    assert audit["error_bound"] == pytest.approx(audit["upper_limit"] / (1 - audit["modulus_limit"]), rel=0.1)


def test_without_a_schedule_steps_count_visits_and_nothing_is_predicted(tmp_path: Path) -> None:
    found = parsed(learn(PLAIN, "--samples", 100, out=tmp_path / "o.npz"))
    assert found["schedule"] is None and found["prediction"] is None and found["certificate"] is None
    assert "audit" not in found


def test_an_environment_without_a_model_is_audited(tmp_path: Path, race: None) -> None:
    """One interface is never met: it is neither in the pairs nor in the claim, and its values stay 0."""
    out = tmp_path / "o.npz"
    found = parsed(learn("--env", "race", "--samples", 6400, out=out))
    tables = contents(out)["q_average"]
    assert tables.shape == (3, 3, 2) and (tables[:, 2] == 0).all()
    audit = found["audit"]
    assert audit["pairs"] == audit["covered"] == 4
    error = np.abs(tables[:, :2] - race_values()).max()
    assert 0 < error <= audit["error_bound"] <= 2
    assert audit["modulus_limit"] == pytest.approx(0.9**4, abs=1e-3)  # option 0 always lasts four steps
    assert "rmse_to_interface_solution" not in found and found["prediction"] is None
    again = icsmdp("learn", "--env", "race", "--samples", "6400", "--replicas", "3", "--out", str(out))
    lines = dict(line.split(maxsplit=1) for line in again.out.splitlines())
    assert lines["audit.handoffs"] == str(audit["handoffs"]) == "6400"  # as many as were learned from


def test_an_environment_with_a_model_is_measured_too(tmp_path: Path) -> None:
    """Rare pairs are not met in so few handoffs: they are listed, said to be rare, and nothing is claimed."""
    outcome = learn("--env", "voting", "--samples", 400, "--audit", 640, out=tmp_path / "o.npz")
    found = parsed(outcome)
    assert LEARN_KEYS <= set(found) and found["rmse_to_interface_solution"] < 5
    audit = found["audit"]
    assert len(audit["not_covered"]) == audit["pairs"] - audit["covered"] > 0
    assert audit["upper_limit"] is audit["error_bound"] is audit["entrywise_bound"] is None
    assert f"{len(audit['not_covered'])} of {audit['pairs']} pairs were met in less than half" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ((), "learn: expected either a model file or --env NAME"),
        ((PLAIN, "--env", "voting"), "learn: expected either a model file or --env NAME"),
        (("--env", "nowhere"), "environment 'nowhere': expected one of routing-6x6"),
        ((PLAIN, "--audit", "63"), "--audit 63: expected at least 64 handoffs"),
        ((PLAIN, "--audit", "0"), "expected a number from 1"),
        ((PLAIN, "--schedule", "harmonic"), "A6 is not certified"),
        ((PLAIN, "--schedule", "other"), "invalid choice: 'other'"),
        ((PLAIN, "--schedule", "constant", "--function-class", "mlp"), "expected function class tabular or linear"),
        (("--env", "race", "--schedule", "constant"), "--schedule constant: expected none"),
        (("--env", "race", "--function-class", "mlp"), "--function-class mlp: expected tabular"),
        (("--env", "race", "--behaviour", "law.npy"), "--behaviour law.npy: expected uniform"),
    ],
)
def test_what_is_refused(arguments: tuple[object, ...], fragment: str, tmp_path: Path, race: None) -> None:
    out = tmp_path / "o.npz"
    refused(learn(*arguments, "--samples", 50, out=out), fragment)
    assert not out.exists()
