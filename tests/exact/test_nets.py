"""Constants of theorem N: worst cases attained, never exceeded, and the fixed point of a convex class (N1 to N3)."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact import nets
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.fixed_point import bellman

WIDTH, RADIUS = 32, 0.9


@cache
def known() -> Analysis:
    planted = planted_model(PlantedConfig(num_agents=2, duration_mean=16, longest_duration=128))
    return analyse(planted.model, planted.behaviour)


@cache
def start(width: int = WIDTH) -> nets.NetStart:
    analysis = known()
    return nets.draw_start(analysis.interface, analysis.interface.model.features, width, np.random.default_rng(1))


def inside(rng: np.random.Generator, radius: float = RADIUS) -> np.ndarray:
    """Parameters within the balls, most of them on their surface."""
    drawn = rng.standard_normal(start().hidden.shape)
    return start().per_unit(drawn * 10 ** rng.uniform(-2, 2), radius)


def gradient_of(delta: np.ndarray, z: int, o: int) -> np.ndarray:
    """Gradient of the net at one pair less that of the linearisation, ``[m, dim]``."""
    one = start()
    moved = one.hidden[one.owner[z], o] + delta[one.owner[z], o]
    flips = (moved @ one.x[z] > 0).astype(float) - (one.activation[z, o] > 0)
    return (flips * one.sign / np.sqrt(WIDTH))[:, None] * one.x[z]


def test_the_start_is_symmetric_and_silent() -> None:
    one = start()
    np.testing.assert_allclose(one.net(np.zeros(one.hidden.shape)), 0.0, atol=1e-15)
    small = 1e-9 * inside(np.random.default_rng(0))
    np.testing.assert_allclose(one.net(small), one.linear(small), atol=1e-15)
    table = np.random.default_rng(3).normal(size=one.interface.mask.shape)
    product = np.sum(np.where(one.interface.mask, table, 0) * one.linear(small))
    assert np.sum(one.gradient(table) * small) == pytest.approx(product, rel=1e-10)


def test_an_agent_without_interfaces_has_parameters_that_nothing_moves() -> None:
    """The same numbers from the definition, entry by entry, with one more agent that owns nothing."""
    one = start()
    idle = one.hidden[:1] * 0.5
    more = nets.NetStart(one.interface, one.x, np.concatenate([one.hidden, idle]), one.sign)
    rng = np.random.default_rng(5)
    table, delta = rng.normal(size=one.interface.mask.shape), rng.normal(size=more.hidden.shape)
    expected, values = np.zeros(more.hidden.shape), np.zeros(table.shape)
    for z, o in zip(*np.nonzero(one.interface.mask), strict=True):
        agent = one.owner[z]
        slope = (one.hidden[agent, o] @ one.x[z] > 0) * one.sign / np.sqrt(WIDTH)
        expected[agent, o] += table[z, o] * slope[:, None] * one.x[z]
        values[z, o] = slope @ (delta[agent, o] @ one.x[z])
    np.testing.assert_allclose(more.gradient(table), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(more.linear(delta), values, rtol=1e-12, atol=1e-14)
    size = np.linalg.norm(more.per_unit(delta, RADIUS), axis=3)
    np.testing.assert_allclose(size, np.minimum(np.linalg.norm(delta, axis=3), RADIUS), rtol=1e-12)


def test_linearisation_error_is_attained_and_never_exceeded() -> None:
    one = start()
    largest = nets.linearisation_error(one, RADIUS)
    for z, o in ((0, 0), (3, 1), (5, 0)):
        found = []
        for s in (1.0, -1.0):
            delta = np.zeros(one.hidden.shape)
            side = np.where(one.activation[z, o] > 0, 1.0, -1.0)
            flipped = (one.sign == s) & (RADIUS * one.length[z] > np.abs(one.activation[z, o]))
            delta[one.owner[z], o] = -(flipped * side * RADIUS)[:, None] * one.x[z] / one.length[z]
            found.append(abs(one.net(delta) - one.linear(delta))[z, o])
        assert max(found) == pytest.approx(largest[z, o], rel=1e-9)
    rng = np.random.default_rng(5)
    for _ in range(200):
        delta = inside(rng)
        assert (np.abs(one.net(delta) - one.linear(delta)) <= largest + 1e-12).all()


def test_gradient_error_is_attained_and_never_exceeded() -> None:
    one, rng = start(), np.random.default_rng(7)
    target = inside(rng)
    largest = nets.gradient_error(one, RADIUS, target)
    for z, o in ((1, 0), (6, 1)):
        side = np.where(one.activation[z, o] > 0, 1.0, -1.0)
        depth, ball = np.abs(one.activation[z, o]), RADIUS * one.length[z]
        pull = side * (target[one.owner[z], o] @ one.x[z])
        found = []
        for s in (1.0, -1.0):
            # Units of one sign go as far as they can; those of the other just over the edge, if that helps.
            go = np.where(one.sign == s, np.where(depth <= ball, ball, 0.0), 0.0)
            edge = np.minimum(depth * (1 + 1e-12) + 1e-13, ball)
            go = np.where((one.sign == -s) & (depth <= ball) & (-depth - pull > 0), edge, go)
            delta = np.zeros(one.hidden.shape)
            delta[one.owner[z], o] = -(side * go)[:, None] * one.x[z] / one.length[z]
            change = gradient_of(delta, z, o)
            found.append(abs(np.sum(change * (delta - target)[one.owner[z], o])))
        assert max(found) == pytest.approx(largest[z, o], rel=1e-9)
    for _ in range(100):
        delta = inside(rng)
        for z, o in ((0, 1), (4, 0), (7, 1)):
            value = np.sum(gradient_of(delta, z, o) * (delta - target)[one.owner[z], o])
            assert abs(value) <= largest[z, o] + 1e-12


def test_frobenius_balls_hold_and_contain_balls_per_unit() -> None:
    one, rng = start(), np.random.default_rng(9)
    radius = np.sqrt(WIDTH) * RADIUS
    target = inside(rng)
    error, gradient = nets.frobenius_errors(one, radius, target)
    assert (error >= nets.linearisation_error(one, RADIUS) - 1e-12).all()
    for _ in range(200):
        delta = rng.standard_normal(one.hidden.shape)
        if rng.random() < 0.5:  # a few units take everything
            delta *= rng.random(one.hidden.shape[:3])[..., None] < 0.1
        delta *= radius / np.maximum(np.linalg.norm(delta, axis=(2, 3), keepdims=True), 1e-12)
        assert (np.abs(one.net(delta) - one.linear(delta)) <= error + 1e-12).all()
        for z, o in ((0, 0), (5, 1)):
            value = np.sum(gradient_of(delta, z, o) * (delta - target)[one.owner[z], o])
            assert abs(value) <= gradient[z, o] + 1e-12


def test_bounds_of_the_class_hold() -> None:
    one, rng = start(), np.random.default_rng(11)
    target = inside(rng)
    bounds = nets.net_bounds(one, RADIUS, target, one.linear(target))
    mask = one.interface.mask
    for _ in range(200):
        delta = inside(rng)
        assert (np.abs(one.net(delta)) <= bounds.value + 1e-12).all()
        reach = np.abs(one.linear(delta) - one.linear(target)) + nets.gradient_error(one, RADIUS, target)
        assert (reach[mask] <= bounds.reach[mask] + 1e-12).all()
        moved = one.activation + np.einsum("zord,zd->zor", delta[one.owner], one.x)
        length = one.length[:, None] * np.sqrt((moved > 0).mean(axis=2))
        assert (length[mask] <= bounds.gradient[mask] + 1e-12).all()


def test_least_radius_meets_the_table_and_its_dual() -> None:
    """A dual vector bounds every radius that suffices from below: weak duality, checked on random vectors."""
    one = start(256)
    table = np.where(one.interface.mask, known().q_phi.q, 0.0)
    radius, delta = nets.least_radius(one, table)
    np.testing.assert_allclose(one.linear(delta), table, atol=1e-8)
    assert np.linalg.norm(delta, axis=3).max() <= radius * (1 + 1e-12)
    rng, best = np.random.default_rng(2), 0.0
    for _ in range(2000):
        dual = rng.normal(size=table.shape)
        pulled = np.linalg.norm(one.gradient(dual), axis=3)
        for agent in range(pulled.shape[0]):
            for option in range(pulled.shape[1]):
                rows = (one.owner == agent) & one.interface.mask[:, option]
                best = max(best, abs(dual[rows, option] @ table[rows, option]) / pulled[agent, option].sum())
    assert best <= radius * (1 + 1e-9)
    assert best >= 0.5 * radius  # random vectors come near enough to show that the search found no absurd radius


@pytest.mark.parametrize("share", [0.7, 0.4])
def test_fixed_point_of_the_ball_obeys_its_inequality(share: float) -> None:
    """``<T_phi Q_C - Q_C, f - Q_C>_d <= 0`` over the class, and ``||Q_C - Q_phi||_d`` obeys N3."""
    one, analysis = start(256), known()
    interface, kappa = analysis.interface, analysis.kappa
    q_phi = np.where(interface.mask, analysis.q_phi.q, 0.0)
    radius, first = nets.least_radius(one, q_phi)
    found = nets.projected_target(one, share * radius, share * first, kappa)
    assert found.slack <= 1e-6
    change = bellman(interface, found.table) - found.table
    weight = np.where(interface.mask, interface.pair_weight, 0.0)
    rng = np.random.default_rng(4)
    for _ in range(200):
        other = one.per_unit(rng.standard_normal(one.hidden.shape) * 10 ** rng.uniform(-3, 2), share * radius)
        assert np.sum(weight * change * (one.linear(other) - found.table)) <= found.slack + 1e-12
    nearest = nets.nearest(one, share * radius, q_phi, share * first)
    left = interface.norm(found.table - q_phi)
    assert left <= interface.norm(nearest - q_phi) / np.sqrt(1 - kappa**2) * (1 + 1e-4)
    assert left >= interface.norm(nearest - q_phi) * (1 - 1e-4)
