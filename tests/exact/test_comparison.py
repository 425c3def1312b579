"""The linear process beside IC-Q against every history of tiny models (theorem B)."""

from __future__ import annotations

import numpy as np
import pytest

from icsmdp_jax.exact import analyse
from icsmdp_jax.exact.comparison import comparison, linear_process
from tests.helpers import as_model
from tests.reference import histories
from tests.reference.chain import pair_law

STEPS = [0.9, 0.5, 0.7]


def tiny(seed: int, terminal: bool) -> dict[str, np.ndarray]:
    """Three deciding states behind two interfaces, dependent durations, a mask, noise; perhaps a terminal state."""
    rng = np.random.default_rng(seed)
    states = 3 + terminal
    kernel = rng.dirichlet(np.full(2 * states, 0.4), size=(states, 2)).reshape(states, 2, 2, states)
    model = {
        "kernel": kernel,
        "reward_rate": rng.normal(size=(states, 2)) * 3,
        "reward_noise": np.array(0.4 * (seed % 2)),
        "agent": np.array([0, 0, 1, 0][:states]),
        "interface": np.array([0, 0, 1, 0][:states]),
        "gamma": np.array(0.8),
    }
    if seed % 3 == 0:
        model["available"] = np.array([[True, True], [True, False]])
    if seed % 2:
        model |= {"lump_reward": rng.normal(size=(states, 2)), "lump_reward_next": rng.normal(size=(states, 2, states))}
    if terminal:
        model |= {"terminal": np.array([False] * 3 + [True]), "start": np.array([0.3, 0.7, 0.0, 0.0])}
    return model


@pytest.mark.parametrize(("seed", "terminal"), [(0, False), (1, True), (3, True)])
def test_moments_and_certificate_against_all_histories(seed: int, terminal: bool) -> None:
    model = tiny(seed, terminal)
    known = analyse(as_model(model))
    behaviour = known.interface.chain.behaviour
    mask = known.interface.mask
    weight = known.interface.pair_weight[mask]
    np.testing.assert_allclose(weight, pair_law(model, behaviour)[mask], rtol=1e-10)
    found = comparison(linear_process(known.interface, known.q_phi.q), STEPS, [1, 2, 3])
    later = comparison(linear_process(known.interface, known.q_phi.q), STEPS, [2, 3], since=1)
    first = None
    for k in (1, 2, 3):
        runs = histories.run(model, behaviour, STEPS[:k])
        total = runs.linear_sum
        square = runs.probability @ (total**2 @ weight) / k**2
        mean = runs.probability @ total / k
        np.testing.assert_allclose(runs.probability.sum(), 1.0, rtol=1e-12)
        np.testing.assert_allclose(found.prediction[k - 1], np.sqrt(square), rtol=1e-9)
        np.testing.assert_allclose(found.bias[k - 1], np.sqrt(mean**2 @ weight), rtol=1e-9)
        if k > 1:  # averages that begin later
            tail = total - first
            np.testing.assert_allclose(
                later.prediction[k - 2], np.sqrt(runs.probability @ (tail**2 @ weight)) / (k - 1), rtol=1e-9
            )
        else:
            first = total[0]  # the start, the same in all histories
        # The learner lies above, and the certificate holds with room that is not absurd.
        assert (runs.learned >= runs.linear - 1e-12).all()
        error = np.sqrt(runs.probability @ ((runs.learned_sum / k) ** 2 @ weight))
        assert error <= found.certificate[k - 1] * (1 + 1e-12)
        assert found.certificate[k - 1] <= 3 * error
