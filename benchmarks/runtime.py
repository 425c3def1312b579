"""How long does an agent of the runtime take to decide, and to absorb a segment?

Without JAX: tables and networks in NumPy, a store in memory or a SQLite file. One call is a thousand decisions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Record, Size, Timing, many, race, record
from icsmdp_jax.runtime.agent import Agent, Segment
from icsmdp_jax.runtime.policies import AgentPolicy, Policy

NAME = "runtime"
CALLS, INTERFACES, OPTIONS, DIM, WIDTH = 1000, 40, 4, 16, 64
TABLE, DISK, LINEAR, MLP, ABSORB = (
    "act, table",
    "act, table on disk",
    "act, linear",
    "act, mlp",
    "absorb, table on disk",
)


def agents(folder: Path) -> dict[str, tuple[Agent, Any]]:
    """An agent of every kind, and an interface of its own."""
    rng = np.random.default_rng(0)
    draw = rng.standard_normal
    names = tuple(f"option {o}" for o in range(OPTIONS))
    vector = draw(DIM)

    def made(kind: str, store: str = ":memory:", **arrays: Any) -> Agent:
        listed = np.arange(INTERFACES) if kind == "tabular" else None
        return Agent(Policy(names, (AgentPolicy("x", arrays, (), listed),), 0.95, kind), "x", store=store, epsilon=0.1)

    table = draw((INTERFACES, OPTIONS))
    layers = (DIM, WIDTH, WIDTH, OPTIONS)
    net = {f"kernel{i}": draw(layers[i : i + 2]) for i in range(3)} | {
        f"bias{i}": draw(layers[i + 1]) for i in range(3)
    }
    return {
        TABLE: (made("tabular", q=table), 3),
        DISK: (made("tabular", str(folder / "x.db"), q=table), 3),
        LINEAR: (made("linear", theta=draw((OPTIONS, DIM))), vector),
        MLP: (made("mlp", **net), vector),
    }


def measure(size: Size) -> Iterator[Record]:
    """Seconds for a thousand decisions, and for a thousand segments."""
    calls = size.pick(10, CALLS, CALLS)
    with tempfile.TemporaryDirectory() as folder:
        made = agents(Path(folder))
        variants: dict[str, Callable[[], Any]] = {
            name: partial(many, partial(one.act, interface), calls) for name, (one, interface) in made.items()
        }
        segment = Segment(3, 1, 0.5, 0.9)
        variants[ABSORB] = partial(many, partial(made[DISK][0].absorb, segment, 1.0), calls)
        times = race(variants, size.pick(2, 5, 15))
        for name, timing in times.items():
            each, table = (Timing(one.wall / calls, one.cpu / calls) for one in (timing, times[TABLE]))
            against = None if name == TABLE else (TABLE, table, 1.0)
            yield record(NAME, {"options": OPTIONS, "width": WIDTH if name == MLP else 0}, name, each, against)
        for one, _ in made.values():
            one.close()


if __name__ == "__main__":
    common.main(measure, __doc__)
