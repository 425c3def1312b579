"""The central limit as gamma nears 1 (P2), against exact fractions, for tables and for features."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from icsmdp_jax.exact import relative
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.fixed_point import whiten
from icsmdp_jax.models.tabular import TabularModel
from tests.exact.test_elimination import exact_law, solved
from tests.exact.test_long_horizons import Exact, random_model

NEAR = [0.9, 1 - 2.0**-20, 1 - 2.0**-40, 1 - 2.0**-50]
HOLDS_ONE = np.array([[1.0, 0.5], [1.0, -0.25], [1.0, 2.0]])
LACKS_ONE = np.array([[1.0], [0.5], [0.25]])


class Limit:
    """The coefficients in fractions, in the given coordinates of the class, under the uniform behaviour."""

    def __init__(self, model: TabularModel, features: np.ndarray) -> None:
        """Takes ``[Z, p]`` features, which every option has weights of its own for."""
        self.exact = exact = Exact(model)
        self.model, self.options = model, len(exact.options)
        inside = [s for s in exact.states if exact.lives[s]]
        start = [Fraction(0)] * len(exact.states)
        if model.start is not None:
            start = [Fraction(float(x)) * live for x, live in zip(model.start, exact.lives, strict=True)]
            start = [x / sum(start) for x in start]
        self.goes = [start if not exact.lives[t] else [Fraction(int(t == u)) for u in exact.states]
                     for t in exact.states]  # fmt: skip
        chain = [[sum(exact.ends[s][o][t] * self.goes[t][u] for o, t in product(exact.options, exact.states))
                  / self.options for u in inside] for s in inside]  # fmt: skip
        law = exact_law(chain)
        psi = {
            (z, o): [Fraction(float(x)) * (o == option) for option in exact.options for x in features[z]]
            for z, o in product(range(len(features)), exact.options)
        }
        count = range(len(next(iter(psi.values()))))
        pairs = [(law[i] / self.options, s, o, psi[model.interface[s], o])
                 for i, s in enumerate(inside) for o in exact.options]  # fmt: skip
        greedy, self.q = [0] * len(features), {}
        for _ in range(20):
            a = [[Fraction(0)] * len(count) for _ in count]
            right = [Fraction(0)] * len(count)
            for w, s, o, x in pairs:
                ahead = [sum(p * psi[model.interface[t], greedy[model.interface[t]]][j]
                             for t, p in enumerate(exact.kernel[s][o]) if p) for j in count]  # fmt: skip
                for i in count:
                    right[i] += w * x[i] * exact.reward[s][o]
                    for j in count:
                        a[i][j] += w * x[i] * (x[j] - ahead[j])
            theta = solved(a, right)
            self.q = {pair: sum(t * x for t, x in zip(theta, row, strict=True)) for pair, row in psi.items()}
            better = [max(exact.options, key=lambda o, z=z: self.q[z, o]) for z in range(len(features))]
            if better == greedy:
                break
            greedy = better
        else:
            raise AssertionError("policies go round in circles: no fixed point to compare with")
        error = {}
        for _, s, o, _x in pairs:
            for tau, t, chance in exact.segments(s, o):
                if chance:
                    z = model.interface[t]
                    carried = Fraction(model.gamma) ** tau * self.q[z, greedy[z]] * exact.lives[t]
                    found = exact.paid(s, o, tau, t) + carried - self.q[model.interface[s], o]
                    error.setdefault((s, o), []).append((t, chance, found))
        # Columns of A^{-T}: one martingale for each coordinate of theta, weighted by the second moment of features.
        noise = Fraction(model.reward_noise) ** 2 / 3
        second = [[sum(w * x[i] * x[j] for w, _, _, x in pairs) for j in count] for i in count]
        transposed = [[a[j][i] for j in count] for i in count]
        rows = [solved(transposed, [Fraction(int(i == j)) for i in count]) for j in count]
        scale = {(s, o): [sum(r * v for r, v in zip(row, x, strict=True)) for row in rows] for _, s, o, x in pairs}
        mean = {pair: sum(c * e for _, c, e in found) / self.options for pair, found in error.items()}
        drift = [[sum(mean[s, o] * scale[s, o][k] for o in exact.options) for s in inside] for k in count]
        fundamental = [[Fraction(int(i == j)) - chain[i][j] + law[j] for j in range(len(inside))]
                       for i in range(len(inside))]  # fmt: skip
        nu = [dict(zip(inside, solved(fundamental, b), strict=True)) for b in drift]
        onward = [[sum(self.goes[t][u] * nu[k][u] for u in inside) for t in exact.states] for k in count]
        full = iid = Fraction(0)
        for i, j in product(count, count):
            if not second[i][j]:
                continue
            for w, s, o, _x in pairs:
                u, v = scale[s, o][i], scale[s, o][j]
                iid += second[i][j] * w * u * v * (sum(c * e * e for _, c, e in error[s, o]) + noise)
                full += second[i][j] * w * sum(c * e * (u * onward[j][t] + v * onward[i][t]) for t, c, e in error[s, o])
        self.full, self.iid = float(full + iid) ** 0.5, float(iid) ** 0.5
        leads = [sorted(self.q[z, o] for o in exact.options) for z in range(len(features))
                 if any(model.interface[s] == z for s in inside)]  # fmt: skip
        self.lead = float(min(row[-1] - row[-2] for row in leads))


def check(known: Analysis, wanted: Limit) -> None:
    limit = known.limit
    assert limit.coefficient == pytest.approx(wanted.full, rel=1e-9)
    assert limit.coefficient_iid == pytest.approx(wanted.iid, rel=1e-9)
    assert limit.action_gap == pytest.approx(wanted.lead, rel=1e-9)
    assert limit.warnings == []
    for z, o in np.argwhere(known.interface.mask):
        assert known.fixed.q[z, o] == pytest.approx(float(wanted.q[z, o]), rel=1e-10)


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("gamma", NEAR)
def test_tables(gamma: float, ends: bool) -> None:
    model = random_model(3, gamma, True, ends, lumps=True).replace(reward_noise=0.5)
    wanted = Limit(model, np.eye(3)[:, : 2 if ends else 3])
    for sparse in (False, True):
        check(analyse(model, sparse=sparse), wanted)


@pytest.mark.parametrize("features", [HOLDS_ONE, LACKS_ONE], ids=["constants", "none"])
@pytest.mark.parametrize("gamma", [NEAR[0], *(pytest.param(g, marks=pytest.mark.slow) for g in NEAR[1:-1]), NEAR[-1]])
def test_features(gamma: float, features: np.ndarray) -> None:
    model = random_model(5, gamma, False, False)
    wanted = Limit(model, features)
    for sparse in (False, True):
        known = analyse(model, sparse=sparse)
        check(known.with_features(whiten(features, known.interface)), wanted)


def test_episodes_of_a_million_million_segments() -> None:
    """What makes values large is a small chance that the episode ends, with what is lost then."""
    step = np.array([[[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]], [[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]], [[1.0, 0, 0]] * 2])
    step[:2, :, :2] *= 1 - 2.0**-40
    step[:2, :, 2] = 2.0**-40
    model = TabularModel(
        reward_rate=np.array([[1.0, 1.25], [2.0, 3.5], [0.0, 0.0]]),
        agent=np.zeros(3, int),
        interface=np.arange(3),
        gamma=1 - 2.0**-45,
        transition=step,
        duration=np.full((3, 2, 2), 0.5),
        terminal=np.arange(3) == 2,
        start=np.array([0.5, 0.5, 0.0]),
    )
    check(analyse(model), Limit(model, np.eye(3)[:, :2]))


@pytest.mark.parametrize("features", [None, HOLDS_ONE, LACKS_ONE], ids=["tables", "constants", "none"])
@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_nothing_depends_on_the_unit_of_reward(unit: float, features: np.ndarray | None) -> None:
    model = random_model(5, 1 - 2.0**-40, False, False)
    found = []
    for known in (analyse(model), analyse(model.replace(reward_rate=unit * model.reward_rate))):
        known = known if features is None else known.with_features(whiten(features, known.interface))
        found.append(known.limit)
    for name in ("coefficient", "coefficient_iid", "action_gap"):
        assert getattr(found[1], name) / unit == pytest.approx(getattr(found[0], name), rel=1e-9), name
    assert found[1].relative_error == pytest.approx(found[0].relative_error, rel=1e-2)


@pytest.mark.parametrize("bits", [20, 30, 40])
def test_iterative_solvers_say_what_they_lose(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models too large to invert lose digits; the estimate covers it, and there is a warning before they are missed."""
    monkeypatch.setattr(relative, "PARAMETERS", 0)
    model = random_model(3, 1 - 2.0**-bits, False, False)
    known, wanted = analyse(model, sparse=True), Limit(model, np.eye(3))
    error = abs(known.limit.coefficient / wanted.full - 1)
    assert error <= known.limit.relative_error
    assert len(known.limit.warnings) == (known.limit.relative_error > 1e-6) == (bits > 20)
    assert known.table()["warnings"] == known.limit.warnings


def test_a_class_that_almost_holds_the_constants_is_warned_of() -> None:
    """There is no fixed point: policy iteration goes round in circles."""
    almost = HOLDS_ONE + np.array([[0.0, 0.0], [3e-8, 0.0], [0.0, 0.0]])
    model = random_model(5, 1 - 2.0**-40, False, False)
    with pytest.raises(AssertionError, match="circles"):
        Limit(model, almost)
    known = analyse(model)
    limit = known.with_features(whiten(almost, known.interface)).limit
    assert limit.relative_error > 1e-6 and limit.warnings[0].startswith("central limit: rounding leaves a relative")
