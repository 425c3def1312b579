"""The terms of the bound against values worked out by hand, their limits, their order; and docs/theory.md."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bound_validation import theorem

THEORY = Path(__file__).resolve().parents[2] / "docs" / "theory.md"
LABELS = (
    *("D1", "D2", "D3", "D4", "D5", "D6", "D7", "D8", "D9", "D10", "D11", "D12"),
    *("L1", "L2", "L3", "L4", "L5", "L6", "A6", "P1", "P2", "P2.1", "P3"),
    *("T1", "T1.1", "T1.2", "T1.3", "T1.4", "T1.5", "T2", "T2.1", "T3", "T3.1", "T3+", "T4", "T5"),
    *("B", "E", "N", "N1", "N2", "N3", "N4", "N+"),
)

size = st.floats(0, 1e3)
modulus = st.floats(0, 0.999)


@pytest.mark.parametrize(
    ("value", "by_hand"),
    [
        (theorem.interface_bound(0.5, 0.2, 10.0, 0.75), 10.0),
        (theorem.interface_bound_value_aware(0.3, 0.9), 3.0),
        (theorem.interface_bound_mass_span(0.5, 0.2, 4.0, -3.0, 0.1, 0.5), 2.4),
        (theorem.policy_loss_bound(1.25), 2.5),
        (theorem.sharp_gap(1.0, 0.5, 0.25), 4 / 3),
        (theorem.effective_horizon(0.9), 10.0),
        (theorem.approximation_bound(3.0, 0.8), 5.0),
        (theorem.width_rate(6.0, 9), 2.0),
        (theorem.approximation_guarantee(6.0, 9, 0.6), 2.5),
        (theorem.gradient_bound(1.0, 2.5), 6.0),
        (theorem.constant_step(400), 0.05),
        (theorem.decaying_step(3, 0.5, 0.5), 1.0),
        # (3^2 + 2^2 (9 + 12 * 3)) / (2 * 0.5 * 10) = 189 / 10
        (theorem.residual_bound_constant_step(3.0, 2.0, 3, 0.5, 100), 18.9),
        # ... + 2 * 2^2 * 3 / (0.5 * 100)
        (theorem.residual_bound_constant_step(3.0, 2.0, 3, 0.5, 100, stationary_start=False), 19.38),
        # only the 4 handoffs that there are can be out of stationarity: 2 * 1 * 4 / (0.5 * 4)
        (theorem.residual_bound_constant_step(0.0, 1.0, 7, 0.5, 4, stationary_start=False), 46.5 + 4.0),
        # 2^2 (9 + 24 * 2)(1 + 0) / (1 * 0.25 * 0.5)
        (theorem.residual_bound_decaying_step(2.0, 2, 0.5, 0.5, 1), 1824.0),
        (theorem.residual_bound_decaying_step(2.0, 2, 0.5, 0.5, 1, stationary_start=False), 1856.0),
        (theorem.tail_average_bound(1.5, 0.5), 3.0),
        (theorem.residual_rms(6.25), 2.5),
        (theorem.central_limit_spread(3.0, 10_000), 0.03),
        (theorem.total_bound(0.5, 0.25, 2.0), 2.75),
    ],
)
def test_hand_computed_values(value: float, by_hand: float) -> None:
    assert isinstance(value, float)
    assert value == pytest.approx(by_hand, rel=1e-14)


def test_logarithm_of_the_decaying_step() -> None:
    samples = math.e**3
    value = theorem.residual_bound_decaying_step(1.0, 0, 0.0, 1.0, samples)
    assert value == pytest.approx(9 * 4 / samples, rel=1e-14)


@given(
    epsilon=size,
    delta=size,
    low=st.floats(-1e3, 1e3),
    high=st.floats(-1e3, 1e3),
    share=st.floats(0, 1),
    g=modulus,
)
def test_mass_span_form_never_exceeds_theorem_1(
    epsilon: float, delta: float, low: float, high: float, share: float, g: float
) -> None:
    low, high = min(low, high), max(low, high)
    refined = theorem.interface_bound_mass_span(epsilon, delta, high - low, (high + low) / 2, share * delta, g)
    plain = theorem.interface_bound(epsilon, delta, max(abs(low), abs(high)), g)
    assert refined <= plain * (1 + 1e-12)


@given(epsilon=size, g=modulus, p=st.floats(0, 1))
def test_sharp_family_obeys_theorem_1_and_meets_it_without_flips(epsilon: float, g: float, p: float) -> None:
    bound = theorem.interface_bound(epsilon, 0.0, 1.0, g)
    assert theorem.sharp_gap(epsilon, g, p) <= bound * (1 + 1e-12)
    assert theorem.sharp_gap(epsilon, g, 0.0) == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize("g", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("p", [0.01, 0.25, 0.5, 0.9])
def test_sharp_gap_is_the_fixed_point_of_its_two_state_model(g: float, p: float) -> None:
    reward = np.array([1.7, -1.7])
    kernel = g * np.array([[1 - p, p], [p, 1 - p]])
    q_star = np.linalg.solve(np.eye(2) - kernel, reward)
    q_phi = reward.mean() / (1 - g)
    assert theorem.sharp_gap(1.7, g, p) == pytest.approx(np.abs(q_star - q_phi).max(), rel=1e-12)


@pytest.mark.parametrize("power", range(1, 16, 2))
def test_the_killing_keeps_all_digits_near_a_modulus_of_1(power: int) -> None:
    """Rewards of 3 and a killing of ``7 * 10^-power``, against fractions; the subtraction alone loses digits."""
    exact = Fraction(7, 10**power) / 10
    killing, gamma_bar = float(exact), float(1 - exact)
    wanted = float(3 / exact)
    for found in (
        theorem.interface_bound(1.0, 2.0, 1.0, gamma_bar, killing),
        theorem.interface_bound_value_aware(3.0, gamma_bar, killing),
        theorem.interface_bound_mass_span(1.0, 2.0, 1.0, -1.0, 1.0, gamma_bar, killing),
        3 * theorem.effective_horizon(gamma_bar, killing),
        theorem.sharp_gap(3.0, gamma_bar, 0.0, killing),
    ):
        assert found == pytest.approx(wanted, rel=1e-15)
    if power > 12:
        assert theorem.effective_horizon(gamma_bar) != pytest.approx(wanted / 3, rel=1e-4)


def test_a_killing_of_another_modulus_is_refused() -> None:
    with pytest.raises(ValueError, match="killing: off by 0.25, expected 1 - gamma_bar"):
        theorem.interface_bound(1.0, 0.0, 1.0, 0.5, 0.25)
    with pytest.raises(ValueError, match="killing = 0: expected a number in"):
        theorem.effective_horizon(0.5, 0.0)


def test_span_alone_would_be_violated_where_masses_differ() -> None:
    """The counterexample of T1.2: two hidden states with moduli 0.9 and 0.1, redrawn evenly, reward 1."""
    moduli = np.array([0.9, 0.1])
    q_star = np.linalg.solve(np.eye(2) - moduli[:, None] * 0.5, np.ones(2))
    v_phi = 1 / (1 - moduli.mean())
    gap = np.abs(q_star - v_phi).max()
    delta = np.abs(moduli - moduli.mean()).max()
    assert gap == pytest.approx(0.8)
    assert theorem.interface_bound_mass_span(0.0, delta, 0.0, v_phi, 0.0, 0.9) < gap
    assert theorem.interface_bound_mass_span(0.0, delta, 0.0, v_phi, delta, 0.9) >= gap


GROWING: dict[str, tuple[Callable[..., Any], dict[str, float], tuple[str, ...], tuple[str, ...]]] = {
    "interface_bound": (
        theorem.interface_bound,
        {"epsilon": 0.2, "delta": 0.1, "value_norm": 3.0, "gamma_bar": 0.5},
        ("epsilon", "delta", "value_norm", "gamma_bar"),
        (),
    ),
    "sharp_gap": (
        theorem.sharp_gap,
        {"epsilon": 0.2, "gamma_bar": 0.5, "flip_probability": 0.1},
        ("epsilon", "gamma_bar"),
        ("flip_probability",),
    ),
    "approximation_guarantee": (
        theorem.approximation_guarantee,
        {"c": 2.0, "width": 16, "kappa": 0.4},
        ("c", "kappa"),
        ("width",),
    ),
    "residual_bound_constant_step": (
        theorem.residual_bound_constant_step,
        {"initial_distance": 1.0, "gradient_bound": 2.0, "mixing_time": 3, "kappa": 0.4, "samples": 100},
        ("initial_distance", "gradient_bound", "mixing_time", "kappa"),
        ("samples",),
    ),
    "residual_bound_decaying_step": (
        theorem.residual_bound_decaying_step,
        {"gradient_bound": 2.0, "mixing_time": 3, "kappa": 0.4, "omega": 0.1, "samples": 100},
        ("gradient_bound", "mixing_time", "kappa"),
        ("omega", "samples"),
    ),
    "decaying_step": (
        theorem.decaying_step,
        {"k": 3, "omega": 0.1, "kappa": 0.4},
        ("kappa",),
        ("k", "omega"),
    ),
    "central_limit_spread": (
        theorem.central_limit_spread,
        {"coefficient": 2.0, "tail_samples": 50},
        ("coefficient",),
        ("tail_samples",),
    ),
}


@pytest.mark.parametrize("name", GROWING)
def test_every_constant_moves_its_term_the_right_way(name: str) -> None:
    function, constants, up, down = GROWING[name]
    assert set(up) | set(down) == set(constants)
    base = function(**constants)
    for argument in constants:
        moved = function(**{**constants, argument: constants[argument] * 1.25})
        assert (moved > base) if argument in up else (moved < base), argument


def test_rates_in_samples_and_width() -> None:
    """Slopes: -1/2 for width, spread and T3's mean square; -1 up to the logarithm for T3.1's."""
    four = np.array([100.0, 400.0])
    assert np.divide(*theorem.width_rate(3.0, four)) == pytest.approx(2)
    assert np.divide(*theorem.central_limit_spread(3.0, four)) == pytest.approx(2)
    assert np.divide(*theorem.residual_bound_constant_step(1.0, 2.0, 5, 0.3, four)) == pytest.approx(2)
    decaying = theorem.residual_bound_decaying_step(2.0, 5, 0.3, 0.1, four) / (1 + np.log(four))
    assert np.divide(*decaying) == pytest.approx(4)


def test_limits() -> None:
    assert theorem.interface_bound(0.0, 0.0, 5.0, 0.9) == 0.0
    assert theorem.approximation_bound(1.5, 0.0) == 1.5
    assert theorem.approximation_bound(1.0, 1 - 1e-12) > 1e5
    assert theorem.residual_bound_constant_step(1.0, 2.0, math.inf, 0.3, 100) == math.inf
    assert theorem.residual_bound_decaying_step(2.0, math.inf, 0.3, 0.1, 100, stationary_start=False) == math.inf
    assert theorem.total_bound(theorem.residual_rms(math.inf), 1.0, 1.0) == math.inf
    started = theorem.residual_bound_constant_step(1.0, 2.0, 5, 0.3, 10**12)
    anywhere = theorem.residual_bound_constant_step(1.0, 2.0, 5, 0.3, 10**12, stationary_start=False)
    assert started < anywhere < started * (1 + 1e-6)


def test_arrays_broadcast_and_numpy_scalars_become_floats() -> None:
    table = theorem.total_bound(np.ones((3, 1)), np.float32(0.5), np.arange(2))
    np.testing.assert_array_equal(table, [[1.5, 2.5]] * 3)
    assert table.dtype == np.float64
    assert isinstance(theorem.width_rate(np.float32(2.0), np.int64(4)), float)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda: theorem.approximation_bound(1.0, 1.2),
            "A6 is not certified: kappa = 1.2, expected less than 1",
        ),
        (
            lambda: theorem.approximation_guarantee(1.0, 4, 1.0),
            "A6 is not certified: kappa = 1, expected less than 1",
        ),
        (lambda: theorem.decaying_step(0, 0.1, math.inf), "A6 is not certified: kappa = inf"),
        (
            lambda: theorem.residual_bound_constant_step(1, 1, 1, [0.5, 2], 9),
            "A6 is not certified: kappa = 2",
        ),
        (lambda: theorem.residual_bound_decaying_step(1, 1, 1.5, 0.1, 9), "A6 is not certified: kappa = 1.5"),
        (
            lambda: theorem.interface_bound(-0.1, 0, 0, 0.5),
            "epsilon = -0.1: expected a finite number of at least 0",
        ),
        (lambda: theorem.interface_bound(0.1, math.nan, 0, 0.5), "delta = nan: expected a finite number"),
        (
            lambda: theorem.interface_bound(0.1, 0, math.inf, 0.5),
            "value_norm = inf: expected a finite number",
        ),
        (lambda: theorem.interface_bound(0.1, 0, 0, 1.0), "gamma_bar = 1: expected a modulus in [0, 1)"),
        (lambda: theorem.interface_bound_mass_span(0, 0, -1, 0, 0, 0.5), "value_span = -1: expected"),
        (lambda: theorem.interface_bound_mass_span(0, 0, 1, math.inf, 0, 0.5), "value_mid = inf: expected"),
        (lambda: theorem.sharp_gap(1, 0.5, 1.1), "flip_probability = 1.1: expected a probability in [0, 1]"),
        (lambda: theorem.width_rate(1.0, [4, 0]), "width[1] = 0: expected a finite number of at least 1"),
        (
            lambda: theorem.width_rate("wide", 4),
            "c: expected a finite number of at least 0, found str 'wide'",
        ),
        (lambda: theorem.approximation_bound(1.0, -0.1), "kappa = -0.1: expected"),
        (lambda: theorem.decaying_step(-1, 0.1, 0.5), "k = -1: expected"),
        (lambda: theorem.decaying_step(0, 0.0, 0.5), "omega = 0: expected a finite number above 0"),
        (lambda: theorem.residual_bound_constant_step(1, 1, math.nan, 0.5, 9), "mixing_time = nan: expected"),
        (lambda: theorem.residual_bound_constant_step(1, 0, 1, 0.5, 9), "gradient_bound = 0: expected"),
        (lambda: theorem.residual_bound_constant_step(1, 1, 1, 0.5, 0), "samples = 0: expected"),
        (lambda: theorem.tail_average_bound(1.0, 0.0), "tail_fraction = 0: expected a share in (0, 1]"),
        (lambda: theorem.residual_rms(-1.0), "mean_square = -1: expected"),
        (lambda: theorem.central_limit_spread(1.0, 0), "tail_samples = 0: expected"),
        (lambda: theorem.total_bound(1.0, -1.0, 0.0), "approximation = -1: expected"),
    ],
)
def test_one_line_names_what_is_out_of_range(call: Callable[[], Any], line: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(line)
    assert "\n" not in message


def _entries() -> dict[str, str]:
    """Text of each entry of docs/theory.md, by its label."""
    pieces = re.split(r"^### ([DLTAPN]\d+(?:\.\d+)?\+?|[BEN]\+?)\. .*$", THEORY.read_text(encoding="utf-8"), flags=re.M)
    labels = pieces[1::2]
    assert len(labels) == len(set(labels)), "a label heads two entries"
    return dict(zip(labels, pieces[2::2], strict=True))


def _computed_by(text: str) -> list[str]:
    lines = re.findall(r"^Computed by: (.+)$", text, flags=re.M)
    return [name for line in lines for name in re.findall(r"`([A-Za-z_][\w.]*)`", line)]


def _resolve(name: str) -> Any:
    """The module of that dotted name or, failing that, the attribute of the module before the last dot."""
    parent, _, last = name.rpartition(".")
    module = importlib.import_module(parent)
    return getattr(module, last) if hasattr(module, last) else importlib.import_module(name)


def test_theory_has_every_label_once_and_no_other() -> None:
    assert sorted(_entries()) == sorted(LABELS)


@pytest.mark.parametrize("label", LABELS)
def test_each_entry_says_who_computes_it_and_where_it_comes_from(label: str) -> None:
    text = _entries()[label]
    assert _computed_by(text), "no line 'Computed by: `module.name`'"
    tags = re.findall(r"^Provenance: (paper \(abstract\)|ours|classic \()", text, flags=re.M)
    assert len(tags) == 1


@pytest.mark.parametrize("label", [label for label in LABELS if label[0] in "LTPBEN" and label != "N"])
def test_each_claim_has_a_finished_proof(label: str) -> None:
    text = _entries()[label]
    assert "*Statement.*" in text and "*Proof.*" in text
    assert text.count(r"\square") == 1


@pytest.mark.parametrize("name", sorted({name for text in _entries().values() for name in _computed_by(text)}))
def test_names_in_the_theory_can_be_imported(name: str) -> None:
    assert _resolve(name) is not None


def test_every_term_of_the_module_is_named_in_the_theory() -> None:
    """A public function that no entry cites would be a formula without a proof."""
    cited = {name.rpartition(".")[2] for text in _entries().values() for name in _computed_by(text)}
    public = {
        name
        for name, value in vars(theorem).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", "").startswith(theorem.__name__)
    }
    assert public <= cited, sorted(public - cited)


def test_math_of_the_theory_is_balanced() -> None:
    """Unbalanced fences or dollar signs would swallow the text that follows on the rendered page."""
    outside: list[str] = []
    inside = False
    for line in THEORY.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            outside.append(line)
    assert not inside
    odd = [line for line in outside if line.count("$") % 2]
    assert odd == []
    # Markdown takes a backslash before punctuation for an escape, so such commands work in fenced math only.
    assert [line for line in outside if re.search(r"\\[^A-Za-z]", line)] == []
