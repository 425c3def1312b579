"""How many handoffs: the smallest numbers at which the certificates themselves are small enough (E)."""

from __future__ import annotations

import numpy as np
import pytest

from bound_validation import theorem
from bound_validation.certificates import tabular_certificates
from icsmdp_jax.exact import analyse
from icsmdp_jax.exact.handoffs import SEARCHED, bias_in_the_mean, handoffs_for
from icsmdp_jax.exact.moments import as_dense
from tests.exact.test_comparison import tiny
from tests.exact.test_showing import post_office
from tests.helpers import as_model
from tests.reference import poisson as poisson_twin


def closed(seed: int) -> dict[str, np.ndarray]:
    """A tiny model whose interfaces hide nothing: one for each state; A6 is certified."""
    model = tiny(seed, False)
    model.pop("available", None)
    return {**model, "interface": np.arange(3), "gamma": np.array(0.35)}


def test_expected_and_certified_numbers_are_the_smallest_ones() -> None:
    """What ``bound`` prints at these numbers is small enough, and one handoff earlier it is not; T3+ is a twin's."""
    model = closed(0)
    known = analyse(as_model(model))
    assert known.a6_certified and known.gap.gap < 1e-9
    (start,) = tabular_certificates(known, [1])
    error = start.comparison / 3
    found = handoffs_for(known, error)
    assert found.limiting_term is None and found.expected_by == "theorem B"
    assert found.expected is not None and found.certified is not None and 1 < found.expected < found.certified
    reached, before = tabular_certificates(known, [found.certified, found.certified - 1])
    assert reached.best <= reached.total <= error < before.best
    likely, unlikely = tabular_certificates(known, [found.expected, found.expected - 1])
    assert likely.prediction <= error < unlikely.prediction
    near = handoffs_for(known, error / 30)  # beyond what theorem B is run for: T3+ alone
    q = known.q_phi.q[known.interface.mask]
    second, drift, boundary = poisson_twin.constants(model, known.interface.chain.behaviour, 1.25 * np.abs(q).max())
    assert near.certified is not None and near.certified > SEARCHED
    counts = np.array([near.certified - 1.0, near.certified])
    square = (((q**2).sum() + second) / 2 + drift) / np.sqrt(counts) + boundary / counts
    assert list(np.sqrt(square / (1 - known.kappa)) <= error / 30) == [False, True]
    assert near.expected_by == "central limit" and near.expected is not None and near.expected < near.certified


def test_the_limit_goes_on_where_the_prediction_of_theorem_b_ends() -> None:
    known = analyse(as_model(closed(1)))
    k = SEARCHED
    (found,) = tabular_certificates(known, [k])
    spread = known.limit.coefficient * k**-0.5
    assert np.hypot(spread, bias_in_the_mean(known)(k)) == pytest.approx(found.prediction, rel=0.02)
    assert handoffs_for(known, found.prediction / 1.05).expected_by == "central limit"
    (exact,) = tabular_certificates(known, [handoffs_for(known, found.prediction / 1.5).expected])  # type: ignore[list-item]
    assert exact.prediction == pytest.approx(found.prediction / 1.5, rel=0.03)


def test_the_bias_tends_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of the mean process, multiplied out by plain loops, and its closed form for many handoffs."""
    known = analyse(as_model(closed(2)))
    interface, q = known.interface, known.q_phi_table
    best = q.argmax(axis=1)
    ahead = as_dense(interface.discounted).reshape(3, -1, 3)
    y, total, k = q.copy(), np.zeros_like(q), 50
    for _ in range(k):
        total += y
        y = y + k**-0.5 * interface.pair_weight * (ahead @ y[np.arange(3), best] - y)
    followed = bias_in_the_mean(known)
    assert followed(k) == pytest.approx(interface.norm(total / k), rel=1e-12)
    monkeypatch.setattr("icsmdp_jax.exact.handoffs.PAIRS", 0)
    assert bias_in_the_mean(known)(10**10) == pytest.approx(followed(10**10), rel=1e-6)


def test_what_no_number_of_handoffs_reaches_has_a_term_that_must_shrink() -> None:
    known = analyse(post_office())
    interface = known.interface
    gap = interface.state_norm(interface.lift(known.q_phi_table) - known.q_star.q)
    aware = float(theorem.interface_bound_value_aware(known.gap.value_numerator, interface.gamma_bar))
    assert gap < aware
    assert handoffs_for(known, gap * 0.99) == (None, None, None, "interface")
    between = handoffs_for(known, (gap + aware) / 2)
    assert between.expected is not None and between.certified is None and between.limiting_term == "interface"
    without = analyse(as_model({**closed(0), "gamma": np.array(0.97)}))
    assert not without.a6_certified
    assert handoffs_for(without, 1e-6)[2:] == (None, "residual")
    with pytest.raises(ValueError, match="error = 0: expected a positive number"):
        handoffs_for(known, 0)
