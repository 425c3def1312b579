"""Constants from the Poisson equation against plain loops, and their inequality under attack (T3+)."""

from __future__ import annotations

import numpy as np
import pytest

from icsmdp_jax.exact import analyse
from icsmdp_jax.exact.fixed_point import FeatureBasis
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.exact.poisson import fundamental_matrix, linear_bounds, poisson_constants
from tests.exact.test_comparison import tiny
from tests.helpers import as_model, golden, golden_analysis
from tests.reference import poisson as twin


@pytest.mark.parametrize(("seed", "terminal"), [(0, False), (1, True), (3, True), (4, False)])
def test_constants_against_plain_loops(seed: int, terminal: bool) -> None:
    model = tiny(seed, terminal)
    interface = analyse(as_model(model)).interface
    found = poisson_constants(interface, linear_bounds(interface, 1.7))
    np.testing.assert_allclose(found, twin.constants(model, interface.chain.behaviour, 1.7), rtol=1e-10)


def test_fundamental_matrix_solves_poissons_equation() -> None:
    chain = golden_analysis("episodic_masks").interface.chain
    transition, law = as_dense(chain.transition), chain.stationary[chain.states]
    drift = np.random.default_rng(0).normal(size=len(law))
    drift -= law @ drift
    solution = fundamental_matrix(chain) @ drift
    np.testing.assert_allclose(solution - transition @ solution, drift, atol=1e-10)
    assert abs(law @ solution) < 1e-10


def test_unit_features_are_tables() -> None:
    """One agent and option for each pair: features of length 1 that no two interfaces of an agent share."""
    interface = analyse(golden("plain")).interface
    z = interface.model.num_interfaces
    owner = interface.model.interface_agent
    table = np.zeros((z, z))
    for agent in range(interface.model.num_agents):
        rows = np.flatnonzero(owner == agent)
        table[rows, np.arange(len(rows))] = 1.0
    rank = np.bincount(owner, minlength=interface.model.num_agents)
    coarse = poisson_constants(interface, linear_bounds(interface, 2.0, FeatureBasis(table, owner, rank)))
    fine = poisson_constants(interface, linear_bounds(interface, 2.0))
    assert coarse.gradient_square == pytest.approx(fine.gradient_square, rel=1e-12)
    assert coarse.boundary == pytest.approx(fine.boundary, rel=1e-12)
    assert coarse.drift >= fine.drift  # a block per agent and option moves more than an entry
