"""Children that are killed, and workers that share a store, in a process without JAX, which forks badly.

``python -m tests.runtime.forks kills|workers|carried FOLDER COUNT``; the exit code is 0 if all was as it should be.
"""

from __future__ import annotations

import math
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

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


def kills(folder: Path, count: int) -> None:
    path, dice, twin, done = folder / "x.db", random.Random(1), agent(":memory:"), 0
    for _ in range(count):
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
    assert done >= count


def workers(folder: Path, count: int) -> None:
    """Steps 1/n give means, which do not depend on the order in which workers came: nothing was overwritten."""
    path, each = folder / "x.db", 60

    def mean_agent() -> Agent:
        return Agent(POLICY, "x", store=path, rule=Steps(1.0, 1.0, 1.0, 1.0))

    here = mean_agent()
    assert here.values(0) == [0.0, 0.0]

    def work(worker: int) -> None:
        one = mean_agent()
        for number in range(each):
            one.absorb(Segment(0, 1, float(worker * each + number), 0.0), 0.0, f"{number}")  # each id is absorbed once
            one.absorb(Segment(0, 0, float(worker * each + number), 0.0), 0.0, f"{worker}/{number}")

    children = [forked(lambda worker=worker: work(worker)) for worker in range(count)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * count
    counts = here.counts()
    assert counts["absorbed"] == (count + 1) * each and counts["repeated"] == (count - 1) * each
    assert abs(here.values(0)[0] - (count * each - 1) / 2) < 1e-9


def carried(folder: Path, count: int) -> None:
    one = agent(folder / "x.db")

    def work() -> None:
        try:
            one.absorb(*segment(0))
        except ValueError as error:
            assert "before a fork" in str(error)
        else:
            raise AssertionError("absorbed")

    assert os.waitpid(forked(work), 0)[1] == 0


if __name__ == "__main__":
    {"kills": kills, "workers": workers, "carried": carried}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
