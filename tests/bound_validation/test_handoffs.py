"""How many handoffs: the smallest numbers at which the certificates themselves are small enough (E)."""

from __future__ import annotations

import numpy as np
import pytest

from bound_validation import theorem
from bound_validation.certificates import tabular_certificates
from bound_validation.handoffs import handoffs_for
from icsmdp_jax.exact import analyse
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
    model = closed(0)
    known = analyse(as_model(model))
    assert known.a6_certified and known.gap.gap < 1e-9
    (start,) = tabular_certificates(known, [1])
    error = start.comparison / 3
    found = handoffs_for(known, error)
    assert found.limiting_term is None and found.expected is not None and found.certified is not None
    spread = known.limit.coefficient
    assert spread * found.expected**-0.5 <= error < spread * max(found.expected - 1, 1e-9) ** -0.5
    powers = [2**i for i in range(13)]
    by_comparison = next(k for k in powers if tabular_certificates(known, [k])[0].comparison <= error)
    q = known.q_phi.q[known.interface.mask]
    second, drift, boundary = poisson_twin.constants(model, known.interface.chain.behaviour, 1.25 * np.abs(q).max())
    counts = np.arange(1.0, 1e6)
    square = (np.linalg.norm(q) * np.sqrt((second + 2 * drift) / counts) + boundary / counts) / (1 - known.kappa)
    by_poisson = int(counts[np.flatnonzero(square <= error**2)[0]])
    assert found.certified == min(by_comparison, by_poisson)
    near = handoffs_for(known, error / 30)  # beyond what theorem B is run for: T3+ alone
    counts = np.unique(np.concatenate([[near.certified - 1.0, near.certified]]))  # type: ignore[operator]
    square = (np.linalg.norm(q) * np.sqrt((second + 2 * drift) / counts) + boundary / counts) / (1 - known.kappa)
    assert near.certified is not None and near.certified > 4096
    assert list(np.sqrt(square) <= error / 30) == [False, True]


def test_what_no_number_of_handoffs_reaches_has_a_term_that_must_shrink() -> None:
    known = analyse(post_office())
    interface = known.interface
    gap = interface.state_norm(interface.lift(known.q_phi_table) - known.q_star.q)
    aware = float(theorem.interface_bound_value_aware(known.gap.value_numerator, interface.gamma_bar))
    assert gap < aware
    assert handoffs_for(known, gap * 0.99) == (None, None, "interface")
    between = handoffs_for(known, (gap + aware) / 2)
    assert between.expected is not None and between.certified is None and between.limiting_term == "interface"
    without = analyse(as_model({**closed(0), "gamma": np.array(0.97)}))
    assert not without.a6_certified
    assert handoffs_for(without, 1e-6)[1:] == (None, "residual")
    with pytest.raises(ValueError, match="error = 0: expected a positive number"):
        handoffs_for(known, 0)
