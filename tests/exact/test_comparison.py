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


@pytest.mark.parametrize("terminal", [False, True])
def test_linear_features_against_all_transitions(terminal: bool) -> None:
    """``y + alpha psi(i) (eps + gamma^tau psi(j) y - psi(i) y)``, moment by moment, for features of any angles.

    Tail averages too; and with a rotation for features the values are those of tables.
    """
    model = tiny(3, terminal)
    known = analyse(as_model(model))
    interface, behaviour = known.interface, known.interface.chain.behaviour
    mask, rng = interface.mask, np.random.default_rng(4)
    read, start = rng.normal(size=(*mask.shape, 2)) * 0.6, rng.normal(size=2)
    q = np.where(mask, rng.normal(size=mask.shape), 0.0)  # any solution: the process needs its errors only
    steps = np.array([0.7, 0.4, 0.5, 0.3])
    found = comparison(linear_process(interface, q, read, start=start), steps, [2, 4], since=1, certify=False)
    number = np.where(mask, np.arange(mask.size).reshape(mask.shape), -1)
    ahead, law = histories.atoms(model, behaviour, number), interface.chain.stationary
    best = np.where(mask, q, -np.inf).argmax(axis=1)
    flat, values = read.reshape(-1, 2), q.reshape(-1)
    moments = {s: (law[s], law[s] * start, law[s] * np.outer(start, start)) for s in np.flatnonzero(law)}
    zero = np.zeros(2), np.zeros((2, 2))
    sums = {s: zero for s in moments}  # E[sum; s] and E[sum y^T; s] of the iterates from 1 on
    total, expected = np.zeros((2, 2)), {}
    for k, alpha in enumerate(steps):
        if k >= 1:
            total = total + sum(sums[s][1] + sums[s][1].T + moments[s][2] for s in moments)
            sums = {s: (sums[s][0] + moments[s][1], sums[s][1] + moments[s][2]) for s in moments}
        expected[k + 1] = total
        new = {s: [0.0, np.zeros(2), np.zeros((2, 2)), np.zeros(2), np.zeros((2, 2))] for s in moments}
        for s in moments:
            for atom in ahead[s]:
                i, g = atom.entry, atom.discount if atom.lands >= 0 else 0.0
                j = number[atom.lands, best[atom.lands]] if atom.lands >= 0 else i
                a = np.eye(2) + alpha * np.outer(flat[i], g * flat[j] - flat[i])
                b = alpha * flat[i] * (atom.reward + g * values[j] - values[i])
                w, (one, y, yy), (x, xy), into = atom.probability, moments[s], sums[s], new[atom.goes_on]
                into[0] += w * one
                into[1] += w * (a @ y + b * one)
                into[2] += w * (a @ yy @ a.T + np.outer(a @ y, b) + np.outer(b, a @ y) + np.outer(b, b) * one)
                into[3] += w * x
                into[4] += w * (xy @ a.T + np.outer(x, b))
        moments = {s: tuple(into[:3]) for s, into in new.items()}
        sums = {s: tuple(into[3:]) for s, into in new.items()}
    weight = interface.pair_weight.reshape(-1)
    for at, count in enumerate((2, 4)):
        square = np.einsum("i,ip,pq,iq->", weight, flat, expected[count], flat)
        assert found.prediction[at] == pytest.approx(np.sqrt(square) / (count - 1), rel=1e-9)
    turn = np.linalg.qr(rng.normal(size=(mask.sum(), mask.sum())))[0]
    rotated = np.zeros((*mask.shape, mask.sum()))
    rotated[mask] = turn
    process = linear_process(interface, known.q_phi.q, rotated, start=turn.T @ -known.q_phi.q[mask])
    table = comparison(linear_process(interface, known.q_phi.q), steps, [4])
    np.testing.assert_allclose(comparison(process, steps, [4], certify=False)[:3], table[:3], rtol=1e-9)


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
