"""Semantic caching against its twin: laws, rewards, the net; and the reference against direct solves and searches."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.core.checks import check_environment
from icsmdp_jax.envs.semantic_cache import reference, semantic_cache, world
from icsmdp_jax.envs.semantic_cache.net import DynamicNet, cells_of
from icsmdp_jax.exact.interface import ais_constants
from icsmdp_jax.exact.returns import Returns
from tests.reference import semantic_cache as twin

OTHER = dict(radius=4.0, drift=0.2, switch=0.5, block_cost=0.07, gamma=0.8)


@cache
def made(points: int = 5, **changes: float):  # type: ignore[no-untyped-def]
    env, params = semantic_cache(points=points, **changes)  # type: ignore[arg-type]
    where, mass = world.fine_net(points)
    numbers = {name: value for name, value in changes.items() if name != "radius"}
    return env, params, twin.Cache([tuple(p) for p in where.tolist()], mass.tolist(), **numbers)


def desks(points: int) -> list[twin.Desk]:
    """The environment's states, in its order, as the twin names them."""
    return [twin.Desk(*fields) for fields in product(twin.AGENTS, range(2), range(points), range(points))]


@pytest.mark.parametrize("changes", [{}, OTHER], ids=["default", "other"])
def test_all_tables_agree_with_the_twin(changes: dict[str, float]) -> None:
    env, _, office = made(**changes)
    model, names = env.model, desks(5)
    where, mass = world.fine_net(5)
    cell = cells_of(where, mass.mean(axis=0), changes.get("radius", 1.2))
    assert len(names) == model.num_states
    for s, desk in enumerate(names):
        assert model.agent_name[model.agent[s]] == desk.holder
        assert model.option_mask[model.interface[s]].tolist() == office.options(desk)
        for o in np.flatnonzero(office.options(desk)):
            law: dict[twin.Desk, float] = {}
            for to, p in zip(model.successor[s, o], model.probability[s, o], strict=True):
                law[names[to]] = law.get(names[to], 0.0) + p
            expected = office.outcomes(desk, int(o))
            assert all(math.isclose(p, expected.get(to, 0.0), abs_tol=1e-12) for to, p in law.items())
            assert math.isclose(sum(law.values()), 1, abs_tol=1e-9)
            for tau, share in enumerate(model.duration[s, o], 1):
                assert math.isclose(share, office.durations(desk).get(tau, 0.0), abs_tol=1e-9)
                annuity = sum(model.gamma**k for k in range(tau))
                paid = model.reward_rate[s, o] * annuity + model.gamma ** (tau - 1) * model.lump_reward[s, o]
                assert share == 0 or math.isclose(paid, office.reward(desk, int(o), tau), abs_tol=1e-12)
    seen = {}
    for s, desk in enumerate(names):
        mine = (desk.holder, desk.phase, cell[desk.query], cell[desk.kept])
        assert seen.setdefault(mine, model.interface[s]) == model.interface[s]
    assert len(set(seen.values())) == len(seen) and (len(seen) < model.num_states) == bool(changes)


def test_steps_are_those_of_the_twin() -> None:
    env, params, office = made()
    names, rng, step = desks(5), np.random.default_rng(1), jax.jit(env.step)
    handoff, state = env.reset(jax.random.key(0), params)
    seen = set()
    for turn in range(120):
        desk = names[int(state.index)]
        assert twin.AGENTS[int(handoff.agent)] == desk.holder
        option = int(rng.choice(np.flatnonzero(handoff.mask)))
        handoff, state = step(jax.random.key(turn), state, jnp.int32(option), params)
        tau = int(handoff.duration)
        assert office.outcomes(desk, option)[names[int(state.index)]] > 0 and office.durations(desk)[tau] > 0
        assert math.isclose(handoff.reward, office.reward(desk, option, tau), abs_tol=1e-5)
        assert math.isclose(handoff.discount, 0.9**tau, rel_tol=1e-5) and not handoff.terminated
        seen.add((desk.holder, option))
    assert len(seen) == 10


@pytest.mark.slow
def test_the_contract() -> None:
    env, params, _ = made(14)
    assert check_environment(env, params, jax.random.key(1)).agents == 4


def test_a_coarser_net_hides_more_and_the_oracle_does_not_care() -> None:
    fine, coarse = (Returns(made(6, radius=radius)[0].model) for radius in (0.0, 4.0))
    closed, gap = (ais_constants(returns.interface) for returns in (fine, coarse))
    assert closed.epsilon < 1e-12 and closed.delta < 1e-12 and gap.epsilon > 0.1
    assert math.isclose(fine.interface_optimum, fine.oracle, abs_tol=1e-9)
    assert math.isclose(fine.oracle, coarse.oracle, abs_tol=1e-9) and coarse.interface_optimum < coarse.oracle - 0.01


def test_the_net_is_the_twin_s() -> None:
    rng = np.random.default_rng(0)
    points = world.draw(rng, 400, rng.integers(2, size=400))
    net, plain = DynamicNet(0.8), twin.Net(0.8)
    for point in points:
        assert net.add(point) == plain.add(tuple(point.tolist()))
    assert net.visits.tolist() == [visits for _, visits in plain.balls] and net.visits.sum() == 400
    assert net.cells(points).tolist() == [plain.nearest(tuple(point.tolist())) for point in points]
    again = DynamicNet(0.8)
    thinned = [again.add(point) for point in points[:20]]  # too few visits to refine anything
    assert len(again.centres) < len(net.centres) and max(thinned) < 20
    assert (np.linalg.norm(points[:20] - again.centres[thinned], axis=1) <= 0.8).all()
    assert len(set(cells_of(points[:30], np.full(30, 1 / 30), 0.0))) == 30


def test_ridge_regression_is_a_direct_solve_over_single_observations() -> None:
    """Counts and sums at centres give what one row for each observation gives."""
    rng = np.random.default_rng(2)
    centres, at = world.draw(rng, 6, 0), rng.integers(5, size=40)  # the last centre has none
    worth = rng.normal(size=40)
    counts, sums = np.bincount(at, minlength=6), np.bincount(at, weights=worth, minlength=6)
    asked = world.draw(rng, 7, 1)
    mean, deviation = reference.Ridge.fit(centres, counts, sums).at(asked)
    rows = centres[at]

    def gauss(one, other):  # type: ignore[no-untyped-def]
        return np.exp(-((one[:, None] - other) ** 2).sum(axis=2) / (2 * reference.SCALE**2))

    gram, across = gauss(rows, rows) + reference.RIDGE * np.eye(40), gauss(asked, rows)
    np.testing.assert_allclose(mean, reference.PRIOR + across @ np.linalg.solve(gram, worth - reference.PRIOR))
    variance = 1 - (across * np.linalg.solve(gram, across.T).T).sum(axis=1)
    np.testing.assert_allclose(deviation, reference.DEVIATION * np.sqrt(variance), rtol=1e-9)


def test_contents_are_the_best_pair() -> None:
    """Every pair of contents, phase by phase, in plain Python."""
    rng = np.random.default_rng(3)
    points, mass, best = world.draw(rng, 7, 0), rng.dirichlet(np.ones(7), size=2), rng.random(7) * 0.4
    for switch in (0.0, 0.3, 50.0):
        prices = reference.Prices(switch=switch)

        def gain(phase: int, kept: int) -> float:
            total = 0.0
            for share, point, model in zip(mass[phase], points, best, strict=True):
                total += share * max(math.exp(-((math.dist(point, points[kept]) / 0.6) ** 2)) - 0.03, model)
            return total

        def long_run(pair: tuple[int, int], cost: float = switch) -> float:
            return (gain(0, pair[0]) + gain(1, pair[1])) / 2 - (0.05 * cost if pair[0] != pair[1] else 0.0)

        found = tuple(reference.contents(points, mass, best, prices).tolist())
        assert found == max(product(range(7), repeat=2), key=long_run)
        assert switch < 50 or found[0] == found[1]


def test_the_reference_learns() -> None:
    """Regret grows slower than the queries do, and a longer log costs less; all of it the same when run again."""
    lost = np.mean([reference.regret(600, seed) for seed in range(4)], axis=0)
    assert 0 < lost[599] - lost[300] < lost[300]
    np.testing.assert_array_equal(reference.regret(100, 1), reference.regret(100, 1))
    short, long = (np.mean([reference.offline_loss(n, seed, tests=300) for seed in range(3)]) for n in (20, 400))
    assert 0 < long < short / 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(points=1), "points = 1: expected a whole number of at least 2"),
        (dict(points=101), "points = 101: expected at most 100"),
        (dict(radius=-1.0), "radius = -1.0: expected 0 or more"),
        (dict(drift=1.0), "drift = 1.0: expected a number between 0 and 1"),
        (dict(switch=math.nan), "switch = nan: expected 0 or more"),
    ],
)
def test_bad_numbers_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        semantic_cache(**changes)  # type: ignore[arg-type]
