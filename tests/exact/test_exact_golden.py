"""The exact analysis against the golden files: seven models in every form, answers of an independent program."""

from __future__ import annotations

import numpy as np
import pytest

from icsmdp_jax.exact import kernel_moments, optimal_q
from icsmdp_jax.exact.interface import interface_model, solve_interface
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import (
    EXPECTED,
    GOLDEN,
    GOLDEN_NAMES,
    golden,
    golden_analysis,
    q_interface_file,
    q_star_file,
)

TOLERANCE = 1e-6


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    """Within the tolerance relative to the larger of 1 and the size of the answer, NaN in the same places."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    scale = max(1.0, float(np.nanmax(np.abs(wanted))))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * scale, equal_nan=True)


def solution(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.solution.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_every_constant_meets_the_golden_file(name: str) -> None:
    table = golden_analysis(name).table()
    assert len(EXPECTED[name]) >= 17
    for key, wanted in EXPECTED[name].items():
        if key == "by_agent":  # tests/exact/test_advice.py
            continue
        assert table[key] == pytest.approx(wanted, rel=TOLERANCE, abs=TOLERANCE), key


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_solutions_meet_the_golden_file(name: str) -> None:
    analysis, wanted = golden_analysis(name), solution(name)
    close(q_star_file(analysis), wanted["q_star"])
    close(q_interface_file(analysis), wanted["q_interface"])
    close(analysis.interface.chain.stationary, wanted["stationary"])
    close(analysis.interface.weights, wanted["weights"])


def test_golden_files_cover_masks_terminals_and_interfaces_that_never_decide() -> None:
    """Else the NaN placement above would be an empty promise."""
    wanted = solution("episodic_masks")
    model = golden("episodic_masks")
    assert model.is_terminal.any() and not model.option_mask.all()
    assert np.isnan(wanted["q_star"]).any() and np.isnan(wanted["q_interface"]).any()
    assert (wanted["q_star"][model.is_terminal] == 0).all()
    assert (wanted["stationary"][model.is_terminal] == 0).all()


def test_an_interface_that_never_decides_has_no_value() -> None:
    """A terminal state behind an interface of its own: NaN for the whole row, and nothing else changes."""
    model = golden("episodic_masks")
    extra = model.num_interfaces
    state = int(np.flatnonzero(model.is_terminal)[0])
    interface = model.interface.copy()
    interface[state] = extra
    assert model.available is not None
    available = np.vstack([model.available, np.ones(model.num_options, bool)])
    changed = model.replace(interface=interface, available=available)
    q = solve_interface(interface_model(changed)).q
    assert np.isneginf(q[extra]).all()
    before = golden_analysis("episodic_masks").q_phi.q
    np.testing.assert_allclose(q[:extra], before, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_every_form_of_the_transition_law_gives_the_same_moments(name: str) -> None:
    """Dense and list models rewritten as a joint kernel, dense ones as lists: the same Q* and moments."""
    model = golden(name)
    if model.kernel is not None:
        kernel = model.kernel
    else:
        assert model.duration is not None
        probability = kernel_moments(model).probability
        dense = np.asarray(probability.todense() if hasattr(probability, "todense") else probability)
        moves = dense.reshape(model.num_states, model.num_options, model.num_states)
        kernel = model.duration[:, :, :, None] * moves[:, :, None, :]
    absent = {"transition": None, "successor": None, "probability": None, "duration": None}
    joint = model.replace(kernel=kernel, **absent)
    forms: list[TabularModel] = [joint]
    if model.transition is not None:
        listed = np.broadcast_to(np.arange(model.num_states), model.transition.shape)
        lists = {"successor": listed, "probability": model.transition, "duration": model.duration}
        forms.append(model.replace(transition=None, **lists))
    wanted, moments = optimal_q(kernel_moments(model)), kernel_moments(model)
    for form in forms:
        found = kernel_moments(form)
        np.testing.assert_allclose(optimal_q(found).value, wanted.value, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.reward_square, moments.reward_square, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.modulus, moments.modulus, rtol=1e-12, atol=1e-14)
