"""``icsmdp fit``: what it prints and leaves, and how it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.models.files import load_model
from icsmdp_jax.runtime.agent import Agent
from icsmdp_jax.runtime.policies import load_policy
from tests.bound_validation.runs import icsmdp, leftovers, refused
from tests.command_line import parsed
from tests.traces.logs import desk, handoff, write

TOML = """
gamma = 0.9
[agents]
names = ["triage", "expert"]
[fields.topic]
[fields.load]
bins = [0.5]
[fields.angry]
[visible]
triage = ["topic"]
expert = ["topic", "load"]
[reward.outcome]
[fit]
support = 3
resamples = 20
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "fit.toml").write_text(TOML)
    lines = [*desk(60), handoff("<script>", 0, "triage", None, seen={"topic": "<script>alert(1)</script>"})]
    path = write(tmp_path / "log.jsonl", lines)
    path.write_text(path.read_text() + "{\n")
    return path


def test_a_fit_leaves_what_it_says(log: Path, tmp_path: Path) -> None:
    found = parsed(icsmdp("fit", log, "--config", tmp_path / "fit.toml", "--out", tmp_path / "out", "--json"))
    assert found == json.loads((tmp_path / "out" / "fit.json").read_text())
    assert found["log"]["lines"] == found["log"]["good"] + 1 and found["log"]["bad"] == {"malformed": 1}
    names = ["behaviour.npy", "fit.json", "model.npz", "policy.json", "policy.safetensors", "report.html"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1 and "alert(1)</script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=\"(?!#)", page)
    for said in (found["sentence"], found["advise"]["sentence"], "triage: topic billing", "Settings"):
        assert said.replace("<", "&lt;").replace(">", "&gt;") in page
    assert found["sentence"].startswith("The probabilities in the log are not") and 'class="headline fail"' in page
    assert "The discount is 0.9 per\nstep." in page
    # The files say the same: constants of the model under the behaviour, and what the policy does.
    known = analyse(load_model(tmp_path / "out" / "model.npz"), np.load(tmp_path / "out" / "behaviour.npy"))
    assert known.interface_gap == pytest.approx(found["constants"]["interface_gap"]["value"], rel=1e-9)
    triage = Agent(load_policy(tmp_path / "out"), "triage")
    (chosen,) = [r["option"] for r in found["coverage"] if r["chosen"] and r["interface"] == "triage: topic billing"]
    assert triage.act({"topic": "billing"}, ["solve", "pass"]).name == chosen


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no line can be used"),
        ("[1]\n", "no line can be used (1 malformed)"),
        (json.dumps(handoff("a", 0, "triage", "expert")) + "\n", "no segment is known"),
        (json.dumps(handoff("a", 3, "triage", None)) + "\n", "no run is known from its start"),
    ],
)
def test_logs_of_which_nothing_can_be_made_are_refused(log: Path, tmp_path: Path, content: str, message: str) -> None:
    log.write_text(content)
    refused(icsmdp("fit", log, "--config", tmp_path / "fit.toml", "--out", tmp_path / "out"), f"{log}: {message}")
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_written_to_are_refused_before_anything_is_read(log: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    outcome = icsmdp("fit", "missing.jsonl", "--config", tmp_path / "fit.toml", "--out", tmp_path / "out")
    refused(outcome, "report.html: is a directory")
    refused(icsmdp("fit", log, "--config", log, "--out", tmp_path / "new"), "cannot be read as TOML")
    refused(icsmdp("fit", tmp_path, "--config", tmp_path / "fit.toml", "--out", tmp_path / "new"), "not a regular file")
    assert leftovers(tmp_path) == []
