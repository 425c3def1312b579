"""The store under kills, several workers, and scalars that come late, again or never. POSIX systems."""

from __future__ import annotations

import math
import os
import random
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from icsmdp_jax.runtime.agent import Agent, Segment
from icsmdp_jax.runtime.functions import Steps
from icsmdp_jax.runtime.policies import AgentPolicy, Policy

POLICY = Policy(("a", "b"), (AgentPolicy("x", {"q": np.zeros((3, 2))}, interfaces=np.arange(3)),), 0.9)


def agent(path: Path | str) -> Agent:
    return Agent(POLICY, "x", store=path, rule=Steps(0.5, 0.1, 0.6, 1.0))


def segment(number: int) -> tuple[Segment, float]:
    """A segment of its own for each number."""
    return Segment(number % 3, number // 3 % 2, math.sin(number), 0.9 ** (1 + number % 4)), math.cos(number)


def forked(work: Callable[[], None]) -> int:
    """Runs a function in a child process; the exit code is 0 if it returns."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def killed(path: Path, first: int, wait: float) -> int:
    """Absorbs segments from ``first`` on in a child until it is killed; how many it acknowledged."""
    reading, writing = os.pipe()

    def work() -> None:
        one = agent(path)
        for number in range(first, first + 10_000):
            one.absorb(*segment(number), str(number))
            os.write(writing, struct.pack("<i", number))

    child = forked(work)
    os.close(writing)
    got = os.read(reading, 4)  # it has begun
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while part := os.read(reading, 65536):
        got += part
    os.close(reading)
    acknowledged = struct.unpack(f"<{len(got) // 4}i", got)
    assert list(acknowledged) == list(range(first, first + len(acknowledged)))
    return len(acknowledged)


@pytest.mark.parametrize("kills", [5, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_kill_loses_at_most_the_segment_in_flight(tmp_path: Path, kills: int) -> None:
    path, dice, twin, done = tmp_path / "x.db", random.Random(1), agent(":memory:"), 0
    for _ in range(kills):
        acknowledged = killed(path, done, dice.uniform(0.0, 0.02))
        after = agent(path)
        found = after.counts()["absorbed"] - done
        assert acknowledged <= found <= acknowledged + 1
        for number in range(done, done + found):
            twin.absorb(*segment(number), str(number))
        assert [after.values(z) for z in range(3)] == [twin.values(z) for z in range(3)]  # to the last bit
        done += found
        assert after.absorb(*segment(done - 1), str(done - 1)) is None
        after.close()
    assert done >= kills


def test_workers_share_one_agent(tmp_path: Path) -> None:
    """Steps 1/n give means, which do not depend on the order in which workers came: nothing was overwritten."""
    path, workers, each = tmp_path / "x.db", 3, 60

    def mean_agent() -> Agent:
        return Agent(POLICY, "x", store=path, rule=Steps(1.0, 1.0, 1.0, 1.0))

    here = mean_agent()
    assert here.values(0) == [0.0, 0.0]

    def work(worker: int) -> None:
        one = mean_agent()
        for number in range(each):
            one.absorb(Segment(0, 1, float(worker * each + number), 0.0), 0.0, f"{number}")  # each id is absorbed once
            one.absorb(Segment(0, 0, float(worker * each + number), 0.0), 0.0, f"{worker}/{number}")

    children = [forked(lambda worker=worker: work(worker)) for worker in range(workers)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * workers
    counts = here.counts()
    assert counts["absorbed"] == (workers + 1) * each and counts["repeated"] == (workers - 1) * each
    assert here.values(0)[0] == pytest.approx((workers * each - 1) / 2, rel=1e-12)


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


def test_an_agent_is_not_carried_through_a_fork(tmp_path: Path) -> None:
    one = agent(tmp_path / "x.db")

    def work() -> None:
        with pytest.raises(ValueError, match="before a fork"):
            one.absorb(*segment(0))

    assert os.waitpid(forked(work), 0)[1] == 0
