"""The store under kills, several workers, and scalars that come late, again or never. POSIX systems."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from icsmdp_jax.runtime.agent import Agent, Segment
from icsmdp_jax.runtime.policies import AgentPolicy, Policy
from tests.bound_validation.runs import ROOT
from tests.runtime.forks import POLICY, agent, segment


@pytest.mark.parametrize(
    ("what", "count"),
    [("kills", 5), pytest.param("kills", 1000, marks=pytest.mark.slow), ("workers", 3), ("carried", 1)],
)
def test_nothing_is_lost_between_processes(what: str, count: int, tmp_path: Path) -> None:
    """A kill -9 loses at most the segment in flight; workers overwrite nothing; no agent is used across a fork."""
    command = [sys.executable, "-m", "tests.runtime.forks", what, str(tmp_path), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_scalars_come_late_again_or_never() -> None:
    one, twin = agent(":memory:"), agent(":memory:")
    for number in range(4):
        one.wait(str(number), segment(number)[0])
    one.wait("0", segment(0)[0])  # a client that asks again waits once
    assert one.counts() == {"waiting": 4, "lost": 0}
    assert one.give_up(3600.0) == 0 and one.give_up(-1.0) == 4
    assert one.deliver("IC-Segment: 2", repr(segment(2)[1]).encode()) == "absorbed"
    assert [one.receive(id, 1.0) for id in ("2", "7")] == ["repeated", "unknown"]
    one.wait("2", segment(2)[0])
    assert one.receive("0", float("nan")) == "invalid" and one.deliver("IC-Segment: 0", b"true") == "invalid"
    one.wait("end", Segment(1, 0, 2.0, 0.0))
    assert one.receive("end", 5.0) == "repeated"
    twin.absorb(*segment(2))
    twin.absorb(Segment(1, 0, 2.0, 0.0), 0.0)
    assert [one.values(z) for z in range(3)] == [twin.values(z) for z in range(3)]
    assert one.counts() == {
        "absorbed": 2, "invalid": 2, "late": 1, "lost": 3, "repeated": 3, "terminal": 1, "unknown": 1, "waiting": 0,
    }  # fmt: skip


def test_a_store_belongs_to_one_agent_of_one_policy(tmp_path: Path) -> None:
    agent(tmp_path / "x.db").close()
    other = Policy(("a", "b"), (AgentPolicy("y", {"q": np.zeros((3, 2))}, interfaces=np.arange(3)),), 0.9)
    with pytest.raises(ValueError, match=r"is about agent 'x', expected 'y'"):
        Agent(other, "y", store=tmp_path / "x.db")
    with pytest.raises(ValueError, match="is about policy and rule"):
        Agent(POLICY, "x", store=tmp_path / "x.db")
    (tmp_path / "text").write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match="expected the state of an agent"):
        agent(tmp_path / "text")
