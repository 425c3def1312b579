"""Stationary laws, and what hangs on them, against exact fractions: the digits of every entry, however rare."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from icsmdp_jax.exact import large_chain
from icsmdp_jax.exact.chain import MixingClock, stationary_law
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.elimination import Elimination, Law, dense_law
from icsmdp_jax.exact.large_chain import Restarted, sparse_law
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import examples

seeds = st.integers(0, 2**32 - 1)
Rows = list[list[Fraction]]


def birth_death(count: int, up: float, down: float) -> tuple[np.ndarray, np.ndarray]:
    """A walk between two reflecting ends, and its law: weights in ratio up/down, as exact fractions of the floats."""
    rows = np.zeros((count, count))
    level = np.arange(count)
    rows[level[:-1], level[1:]] = up
    rows[level[1:], level[:-1]] = down
    rows[level, level] = 1 - rows.sum(axis=1)
    ratio = Fraction(up) / Fraction(down)
    weights = [ratio.numerator**k * ratio.denominator ** (count - 1 - k) for k in range(count)]
    total = sum(weights)
    return rows, np.array([float(Fraction(w, total)) for w in weights])


def fractions_of(rows: np.ndarray) -> Rows:
    """The chain that the floats off the diagonal stand for: the diagonal is what they leave."""
    exact = [[Fraction(float(x)) for x in row] for row in rows]
    for i, row in enumerate(exact):
        row[i] = 1 - sum(x for j, x in enumerate(row) if j != i)
    return exact


def solved(system: Rows, right: list[Fraction]) -> list[Fraction]:
    """Gauss and Jordan with fractions."""
    rows = [[*row, b] for row, b in zip(system, right, strict=True)]
    for k in range(len(rows)):
        pivot = next(i for i in range(k, len(rows)) if rows[i][k] != 0)
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i in range(len(rows)):
            if i != k and rows[i][k] != 0:
                factor = rows[i][k]
                rows[i] = [x - factor * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows]


def exact_law(rows: Rows) -> list[Fraction]:
    """``d = d P`` and ``sum d = 1``, the last equation in the place of a redundant one."""
    count = len(rows)
    system = [[rows[j][i] - (i == j) for j in range(count)] for i in range(count)]
    system[0] = [Fraction(1)] * count
    return solved(system, [Fraction(int(i == 0)) for i in range(count)])


def agrees(found: Law, exact: np.ndarray, within: float = 1e-12) -> None:
    """Every weight to so many digits, and the certificate is true."""
    error = np.abs(found.law / exact - 1).max()
    assert error <= within
    assert error <= found.relative_error <= 1e-6


def by_iteration(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Law:
    with monkeypatch.context() as patch:
        patch.setattr(large_chain, "DIRECT_WORK", -1.0)
        patch.setattr(large_chain, "LAST_RESORT", -1.0)
        return sparse_law(sparse.csr_array(rows))


@examples(60)
@given(
    st.integers(2, 150),
    st.sampled_from([(0.15, 0.85), (0.85, 0.15), (0.1, 0.9), (0.3, 0.7), (0.02, 0.03), (0.5, 0.5), (1e-3, 0.5)]),
    st.sampled_from([1.0, 1e-9, 1e-17, 1e-100]),
    seeds,
)
def test_birth_and_death_in_any_numbering(count: int, steps: tuple[float, float], slow: float, seed: int) -> None:
    up, down = (s * slow for s in steps)
    if (count - 1) * abs(math.log10(down / up)) > 290:
        return
    rows, exact = birth_death(count, up, down)
    order = np.random.default_rng(seed).permutation(count)
    shuffled = rows[np.ix_(order, order)]
    agrees(dense_law(shuffled), exact[order])
    agrees(sparse_law(sparse.csr_array(shuffled)), exact[order])
    np.testing.assert_array_equal(stationary_law(shuffled), dense_law(shuffled).law)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["common first", "rare first"])
def test_forty_four_levels(order: slice) -> None:
    """The rarest of 44 levels has a weight of 1e-33 beside rounding of 1e-16: no sum of the two, no difference."""
    rows, exact = birth_death(44, 0.15, 0.85)
    agrees(dense_law(rows[order, order]), exact[order], 1e-14)


@pytest.mark.parametrize("a", [1e-3, 1e-12, 1e-15, 1e-16, 1e-18, 1e-100, 1e-300])
@pytest.mark.parametrize("turned", [False, True])
def test_two_states_that_hardly_ever_change(a: float, turned: bool) -> None:
    """The law of [[1-a, a], [a/2, 1-a/2]] is (1/3, 2/3) for every a, also where 1 - a is 1; and it mixes in 0.65/a."""
    rows = np.array([[1 - a, a], [a / 2, 1 - a / 2]])[:: -1 if turned else 1, :: -1 if turned else 1]
    exact = np.array([1 / 3, 2 / 3])[:: -1 if turned else 1]
    agrees(dense_law(rows), exact, 4e-16)
    agrees(sparse_law(sparse.csr_array(rows)), exact, 4e-16)
    # From the rarer state the distance is (2/3) (1 - 3a/2)^t.
    wanted = math.log(3 / 8) / math.log1p(-1.5 * a)
    assert MixingClock(rows, exact)(0.25) == pytest.approx(math.ceil(wanted), rel=1e-13)


@examples(60)
@given(st.integers(2, 7), st.integers(0, 80), seeds)
def test_random_chains_of_very_unequal_probabilities(count: int, spread: int, seed: int) -> None:
    """Off the diagonal anything from 1 to 10^-spread, zeros too: law and Poisson solutions against exact ones."""
    rng = np.random.default_rng(seed)
    rows = np.roll(np.eye(count), 1, axis=1) + rng.random((count, count)) * (rng.random((count, count)) < 0.6)
    rows *= 10.0 ** -rng.uniform(0, spread, size=(count, count))
    np.fill_diagonal(rows, 0.0)
    rows /= 2 * max(1.0, rows.sum(axis=1).max())
    np.fill_diagonal(rows, 1 - rows.sum(axis=1))
    chain = fractions_of(rows)
    law = exact_law(chain)
    if min(law) < Fraction(1, 10**290):
        return
    found = dense_law(rows)
    agrees(found, np.array([float(x) for x in law]), 1e-13)
    agrees(sparse_law(sparse.csr_array(rows)), np.array([float(x) for x in law]), 1e-13)

    assert found.elimination is not None
    reference = found.elimination.reference
    right = [Fraction(float(x)) for x in rng.normal(size=count)]
    kept = [i for i in range(count) if i != reference]
    system = [[(i == j) - chain[i][j] for j in kept] for i in kept]
    wanted = solved(system, [right[i] for i in kept])
    scale = solved(system, [abs(right[i]) for i in kept])
    answer = found.elimination.solve(np.array([float(x) for x in right]))
    assert answer[reference] == 0
    for i, value, size in zip(kept, wanted, scale, strict=True):
        assert abs(Fraction(answer[i]) - value) <= size * Fraction(1, 10**13)


@examples(25)
@given(st.integers(1, 7), seeds, st.sampled_from([1e-1, 1e-9, 1e-16, 1e-30]))
def test_killed_chains(count: int, seed: int, least: float) -> None:
    """``(I - P)^-1`` from ``1 - sum P`` as it is given, where that is far below what a sum of P can tell."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(count, 0.5), size=count)
    killing = least * rng.uniform(0.5, 1.0, size=count)
    exact = [[Fraction(float(x)) for x in row] for row in rows]
    for i, row in enumerate(exact):
        row[i] = 1 - Fraction(float(killing[i])) - sum(x for j, x in enumerate(row) if j != i)
    inverse = Elimination.killed(rows, killing).solve(np.eye(count + 1))[1:, 1:]
    for j in range(count):
        system = [[(i == k) - exact[i][k] for k in range(count)] for i in range(count)]
        column = solved(system, [Fraction(int(i == j)) for i in range(count)])
        np.testing.assert_allclose(inverse[:, j], [float(x) for x in column], rtol=1e-13)


@examples(20)
@given(st.integers(3, 120), seeds, st.sampled_from([1, 8, 40]))
def test_blocks_hubs_and_restarts_are_one_elimination(count: int, seed: int, wide: int) -> None:
    """Chains with near neighbours, a hub that all lead to and a restart, in blocks of 4: the dense law."""
    rng = np.random.default_rng(seed)
    near = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    rows = rng.exponential(size=(count, count)) * (near <= 2) * 10.0 ** rng.uniform(-4, 0, size=count)
    rows[:, rng.integers(count)] += 0.1
    lost = rng.uniform(0.1, 0.3, size=count) * (rng.random(count) < 0.2)
    start = rng.dirichlet(np.full(count, 0.3))
    rows *= ((1 - lost) / rows.sum(axis=1))[:, None]
    order = rng.permutation(count)
    whole = (rows + lost[:, None] * start)[np.ix_(order, order)]
    parts = Restarted(sparse.csr_array(rows[np.ix_(order, order)]), lost[order], start[order])
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(large_chain, "NARROWEST", 4)
        context.setattr(large_chain, "LONG", wide)
        found = sparse_law(parts)
        plain = sparse_law(sparse.csr_array(whole))
    exact = dense_law(whole).law
    agrees(found, exact, 1e-11)
    agrees(plain, exact, 1e-11)
    assert found.elimination is not None


def test_iteration_is_certified_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without elimination: many digits where the chain mixes, one line where it does not, and never wrong ones."""
    rng = np.random.default_rng(0)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rows = rng.random((80, 80)) * (rng.random((80, 80)) < 0.1) + np.roll(np.eye(80), 1, axis=1)
        rows[:, :20] *= 1e-6
        rows /= rows.sum(axis=1, keepdims=True)
        agrees(by_iteration(rows, monkeypatch), dense_law(rows).law, 1e-11)
    agrees(by_iteration(birth_death(44, 0.15, 0.85)[0], monkeypatch), birth_death(44, 0.15, 0.85)[1], 1e-11)
    apart = np.kron(np.eye(2), np.full((30, 30), 1 / 30)) * (1 - 1e-13) + 1e-13 / 60
    for slow in (birth_death(100, 0.1, 0.9)[0], apart):
        with pytest.raises(ValueError, match=r"^stationary law: certified to .* expected 1e-06 or less") as caught:
            by_iteration(slow, monkeypatch)
        assert "\n" not in str(caught.value)


def chain_model(rows: np.ndarray, interface: np.ndarray, reward: np.ndarray, gamma: float) -> TabularModel:
    count = len(rows)
    return TabularModel(
        reward_rate=reward[:, None],
        agent=np.zeros(count, int),
        interface=interface,
        gamma=gamma,
        transition=rows[:, None, :],
        duration=np.ones((count, 1, 1)),
    )


def test_a_recurrent_state_too_rare_for_double_precision_is_named() -> None:
    """Level 420 of this walk has weight 1e-316. States of the graph's class and of positive weight are the same."""
    for sparsely in (False, True):
        with pytest.raises(
            ValueError, match=r"transition: state (399|4\d\d) is recurrent, but its weight .* below 1e-300"
        ):
            analyse(chain_model(birth_death(420, 0.15, 0.85)[0], np.arange(420), np.ones(420), 0.9), sparse=sparsely)
    known = analyse(chain_model(birth_death(390, 0.15, 0.85)[0], np.arange(390), np.ones(390), 0.9))
    assert (known.interface.chain.stationary > 0).all() and known.omega < 1e-290


@pytest.mark.parametrize("slow", [pytest.param(1.0, marks=pytest.mark.slow), 1e-14])
@pytest.mark.parametrize("numbering", ["common first", "rare first", "shuffled"])
def test_what_hangs_on_the_law_of_forty_four_levels(slow: float, numbering: str) -> None:
    """Weights, epsilon, delta, the gap and its bounds of a walk whose interface hides the last bit of the level.

    All of it from exact fractions: one option, so that values solve linear equations.
    """
    count, gamma = 44, 0.9
    order = {"common first": np.arange(count), "rare first": np.arange(count)[::-1]}.get(numbering)
    order = np.random.default_rng(3).permutation(count) if order is None else order
    rows, law = birth_death(count, 0.15 * slow, 0.85 * slow)
    reward = np.random.default_rng(1).normal(size=count)
    known = analyse(chain_model(rows[np.ix_(order, order)], (np.arange(count) // 2)[order], reward[order], gamma))
    np.testing.assert_allclose(known.interface.chain.stationary, law[order], rtol=1e-13)
    ratio = Fraction(0.15 * slow) / Fraction(0.85 * slow)
    lower = 1 / (1 + ratio)
    np.testing.assert_allclose(known.interface.weights[np.argsort(order)][::2], float(lower), rtol=1e-13)

    discount, chain = Fraction(gamma), fractions_of(rows)
    pay = [Fraction(float(r)) for r in reward]
    weight = [lower if s % 2 == 0 else 1 - lower for s in range(count)]
    star = solved([[(i == j) - discount * chain[i][j] for j in range(count)] for i in range(count)], pay)
    half = range(count // 2)
    seen = [sum(weight[s] * pay[s] for s in (2 * z, 2 * z + 1)) for z in half]
    into = [[chain[s][2 * z] + chain[s][2 * z + 1] for z in half] for s in range(count)]
    averaged = [[sum(weight[s] * into[s][y] for s in (2 * z, 2 * z + 1)) for y in half] for z in half]
    phi = solved([[(y == z) - discount * averaged[z][y] for y in half] for z in half], seen)
    epsilon = max(abs(pay[s] - seen[s // 2]) for s in range(count))
    delta = discount * max(sum(abs(into[s][y] - averaged[s // 2][y]) for y in half) for s in range(count))
    gap = max(abs(phi[s // 2] - star[s]) for s in range(count))
    bound = (epsilon + delta * max(abs(v) for v in phi)) / (1 - discount)
    for found, exact in (
        (known.ais.epsilon, epsilon),
        (known.ais.delta, delta),
        (known.gap.gap, gap),
        (known.gap.bound, bound),
    ):
        assert found == pytest.approx(float(exact), rel=1e-11, abs=1e-15)
    assert np.abs(known.q_phi.value[::1] - [float(v) for v in phi]).max() <= known.q_phi.error_bound <= 1e-8
    assert known.omega == pytest.approx(float(law[-2:].sum()), rel=1e-12)


def blind(a: float, b: float, reward: np.ndarray) -> Analysis:
    """Two states of one interface, without discount: the error ``r(s) - mean`` is all that the central limit sees."""
    return analyse(chain_model(np.array([[1 - a, a], [b, 1 - b]]), np.zeros(2, int), reward, 0.0))


@pytest.mark.parametrize(
    ("a", "b"), [(0.3, 0.2), (1e-6, 5e-7), (1e-12, 5e-13), (1e-16, 3e-17), (1e-200, 5e-201), (1.0, 1e-9)]
)
def test_central_limit_of_a_slow_switch(a: float, b: float) -> None:
    """The asymptotic variance is d0 d1 (r0 - r1)^2 (2 - a - b)/(a + b): it grows as 1/a for every a."""
    known = blind(a, b, np.array([1.0, -2.0]))
    common, rare = b / (a + b), a / (a + b)
    variance = common * rare * 9.0 * (2 - a - b) / (a + b)
    assert known.limit.coefficient == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert known.limit.coefficient_iid == pytest.approx(3 * math.sqrt(common * rare), rel=1e-12)


def exact_limit(rows: np.ndarray, interface: list[int], pay: list[Fraction], discount: Fraction) -> Fraction:
    """Squared coefficient of P2 of a chain with one option of one step, with fractions throughout.

    ``sum_z d(z) (N D^-1 G D^-1 N^T)(z, z)`` with ``N = (I - P^g_phi)^-1`` and ``G`` the sum of all autocovariances of
    the temporal difference times the indicator of its interface.
    """
    chain = fractions_of(rows)
    law, count, size = exact_law(chain), len(chain), max(interface) + 1
    states, seen = range(count), range(size)
    mass = [sum(law[s] for s in states if interface[s] == z) for z in seen]
    into = [[sum(chain[s][t] for t in states if interface[t] == z) for z in seen] for s in states]

    def averaged(of: list[Fraction]) -> list[Fraction]:
        return [sum(law[s] / mass[z] * of[s] for s in states if interface[s] == z) for z in seen]

    kernel = list(zip(*[averaged([into[s][y] for s in states]) for y in seen], strict=True))
    system = [[(y == z) - discount * kernel[z][y] for y in seen] for z in seen]
    value = solved(system, averaged(pay))
    error = [[pay[s] + discount * value[interface[t]] - value[interface[s]] for t in states] for s in states]
    mean = [sum(chain[s][t] * error[s][t] for t in states) for s in states]
    square = [sum(chain[s][t] * error[s][t] ** 2 for t in states) for s in states]
    poisson = [[(s == t) - chain[s][t] for t in states] for s in states]
    poisson[0] = list(law)
    total = [[Fraction(0)] * size for _ in seen]
    for y in seen:
        drift = [mean[s] * (interface[s] == y) for s in states]
        level = sum(d * x for d, x in zip(law, drift, strict=True))
        ahead = solved(poisson, [Fraction(0)] + [x - level for x in drift[1:]])
        for s in states:
            z = interface[s]
            cross = law[s] * sum(chain[s][t] * error[s][t] * ahead[t] for t in states)
            total[z][y] += cross
            total[y][z] += cross
            total[z][y] += law[s] * square[s] * (z == y)
    out = Fraction(0)
    for z in seen:
        row = solved([list(column) for column in zip(*system, strict=True)], [Fraction(int(z == y)) for y in seen])
        scaled = [x / m for x, m in zip(row, mass, strict=True)]
        out += mass[z] * sum(scaled[x] * total[x][y] * scaled[y] for x in seen for y in seen)
    return out


@pytest.mark.parametrize("slow", [1.0, 1e-13])
@pytest.mark.parametrize("turned", [1, -1], ids=["common first", "rare first"])
def test_central_limit_with_rare_states(slow: float, turned: int) -> None:
    """Features of interfaces of weight 1e-24 are large where they are read, and must not drown the rest."""
    rows = birth_death(10, 1e-3 * slow, 0.5 * slow)[0][::turned, ::turned]
    interface = (np.arange(10) // 2)[::turned].copy()
    reward = np.random.default_rng(5).normal(size=10)
    pay = [Fraction(float(r)) for r in reward]
    exact = exact_limit(rows, interface.tolist(), pay, Fraction(0.5))
    model = chain_model(rows, interface, reward, 0.5)
    for sparsely in (False, True):
        limit = analyse(model, sparse=sparsely).limit
        assert limit.coefficient == pytest.approx(math.sqrt(exact), rel=1e-9)


def test_poisson_equations_by_iteration_count_in_the_norm_of_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random chains with states a million times rarer than others: the coefficient without any elimination."""
    rng = np.random.default_rng(2)
    rows = rng.random((60, 60)) * (rng.random((60, 60)) < 0.2) + np.roll(np.eye(60), 1, axis=1)
    rows[:, :20] *= 1e-12
    rows /= rows.sum(axis=1, keepdims=True)
    model = chain_model(rows, np.arange(60) // 3, rng.normal(size=60), 0.8)
    exact = analyse(model).limit
    monkeypatch.setattr(large_chain, "DIRECT_WORK", -1.0)
    found = analyse(model, sparse=True)
    assert found.interface.chain.elimination is None and found.interface.chain.stationary.min() < 1e-13
    assert found.limit.coefficient == pytest.approx(exact.coefficient, rel=1e-8)
    assert found.limit.coefficient_iid == pytest.approx(exact.coefficient_iid, rel=1e-8)
