"""Semantic caching as an experiment: growth of regret, nets beside T1, and the whole of it where there is time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from icsmdp_jax.experiments.caching import RADII, Nets, growth, run
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.training import Budget


def test_growth_of_a_planted_power() -> None:
    rounds = np.array([10, 40, 160, 640])
    assert growth(rounds, 3 * rounds**0.63) == pytest.approx(0.63)
    assert growth(rounds, np.array([-5.0, 0.5, 1.0, 1.0])) == 0


@pytest.mark.slow
def test_nets_are_judged_beside_their_bounds() -> None:
    nets = Nets(Budget(updates=2, copies=2, length=2, replicas=2, explore="behaviour"), 0, points=8)
    assert nets.cells == [8, 8, 8, 7, 6] and len(nets.off) == len(RADII)
    for known, learned, off in zip(nets.known, nets.learned, nets.off, strict=True):
        assert known.gap.gap <= known.gap.bound + 1e-9
        exact = (known.returns.interface_optimum - known.returns.random) / (known.returns.oracle - known.returns.random)
        assert off == pytest.approx(learned.mean - exact)


@pytest.mark.slow
def test_the_experiment_runs() -> None:
    result = run(Options("semantic-cache", preset="testing"))
    assert {table.name for table in result.tables} >= {"radius", "reference"}
    assert result.message_scalars_per_handoff == 1 and set(result.checks.values()) == {None}
    json.dumps(result.as_json(), allow_nan=False)
    for draw in result.figures.values():
        assert draw().axes
