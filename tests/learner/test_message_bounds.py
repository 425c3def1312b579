"""What is known of messages a priori, against exact solutions: the value range, and the cost of bounded errors."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.exact.interface import interface_model, solve_both
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.learner.channel import Channel, clean, new_history, transmit
from icsmdp_jax.learner.message_bounds import message_error_bound, model_value_range, value_range
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import GOLDEN_NAMES, as_model, examples, golden, golden_analysis
from tests.reference.models import Model, models, random_model, uniform_behaviour

EXACT = 1e-9  # solutions are certified to 1e-11 and iterated to float64 accuracy below

# The range of values


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((-1.0, 2.0, 0.75), (-4.0, 8.0)),
        ((1.0, 2.0, 0.75), (1.0, 8.0)),
        ((1.0, 2.0, 0.75, 0.5), (2.0, 8.0)),
        ((-2.0, -1.0, 0.75), (-8.0, -1.0)),
        ((-2.0, -1.0, 0.75, 0.5), (-8.0, -2.0)),
        ((0.0, 0.0, 0.9), (0.0, 0.0)),
        ((-3.0, 5.0, 0.0), (-3.0, 5.0)),
    ],
)
def test_value_range_by_hand(arguments: tuple, expected: tuple) -> None:
    assert value_range(*arguments) == expected


def q_range(q: np.ndarray) -> tuple[float, float]:
    known = q[np.isfinite(q)]
    return float(known.min()), float(known.max())


def check_range(model: TabularModel, behaviour: np.ndarray) -> None:
    interface, q_phi, q_star = solve_both(model, behaviour)
    moments = interface.moments
    reward, modulus = moments.reward_mean[moments.used], moments.modulus[moments.used]
    by_segment = value_range(reward.min(), reward.max(), modulus.max(), modulus.min())
    bounds = model_value_range(model)
    rounding = EXACT * max(map(abs, by_segment))
    assert by_segment.low - rounding <= bounds.low <= bounds.high <= by_segment.high + rounding
    star = np.where(moments.used, q_star.q, np.nan)
    phi = np.where(interface.mask, q_phi.q, np.nan)
    for low, high in (q_range(star), q_range(phi)):
        assert bounds.low - EXACT <= low and high <= bounds.high + EXACT


@examples(60)
@given(models(), st.sampled_from([0.0, 3.0, -3.0]))
def test_values_of_random_models_lie_in_their_range(arrays: Model, shift: float) -> None:
    """With rewards of both signs, all positive and all negative."""
    shifted = {**arrays, "reward_rate": np.clip(arrays["reward_rate"], -2.5, 2.5) + shift}
    check_range(as_model(shifted), uniform_behaviour(shifted))


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_values_of_golden_models_lie_in_their_range(name: str) -> None:
    check_range(golden(name), golden_analysis(name).interface.chain.behaviour)


@pytest.mark.parametrize(("rate", "ends"), [(2.0, False), (-2.0, False), (2.0, True), (-2.0, True)])
def test_the_range_is_met(rate: float, ends: bool) -> None:
    """One agent, one state, one step: for ever at the same rate, or with an end after the second option."""
    arrays = {
        "transition": np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]) if ends else np.ones((1, 1, 1)),
        "duration": np.ones((2, 2, 1)) if ends else np.ones((1, 1, 1)),
        "reward_rate": np.full((2, 2) if ends else (1, 1), rate),
        "agent": np.array([0, 0] if ends else [0]),
        "interface": np.array([0, 1] if ends else [0]),
        "gamma": np.array(0.75),
    }
    if ends:
        arrays |= {"terminal": np.array([False, True]), "start": np.array([1.0, 0.0])}
    found = model_value_range(as_model(arrays))
    for_ever = rate / 0.25
    assert found == ((for_ever, for_ever) if not ends else (min(rate, for_ever), max(rate, for_ever)))
    check_range(as_model(arrays), uniform_behaviour(arrays))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: value_range(1.0, 0.0, 0.5), "two finite bounds in order"),
        (lambda: value_range(-np.inf, 0.0, 0.5), "two finite bounds in order"),
        (lambda: value_range(0.0, np.nan, 0.5), "two finite bounds in order"),
        (lambda: value_range(0.0, 1.0, 1.0), "0 <= least <= gamma_bar < 1"),
        (lambda: value_range(0.0, 1.0, 0.5, 0.6), "0 <= least <= gamma_bar < 1"),
        (lambda: message_error_bound(-0.1, 0.5), "not negative"),
        (lambda: message_error_bound(np.nan, 0.5), "not negative"),
        (lambda: message_error_bound(0.1, 1.0), r"a modulus in \[0, 1\)"),
        (lambda: message_error_bound(0.1, 0.5, 0.0), "killing = 0.0: expected 1 - gamma_bar, more than 0"),
    ],
)
def test_bounds_of_nothing_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# Errors of messages and the fixed point


def interface_arrays(arrays: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``r_phi [Z, O]``, ``P^g_phi [Z, O, Z]`` and the mask of a model under the uniform behaviour."""
    interface = interface_model(as_model(arrays), uniform_behaviour(arrays))
    z, o = interface.reward.shape
    return interface.reward, as_dense(interface.discounted).reshape(z, o, z), interface.mask


def offers_of(q: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask.any(axis=1), np.where(mask, q, -np.inf).max(axis=1), 0.0)


def fixed_point(reward: np.ndarray, discounted: np.ndarray, mask: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Twin: the operator with ``error`` (``[Z, O, Z]``) on every scalar, iterated until nothing moves."""
    q = np.zeros_like(reward)
    for _ in range(20_000):
        heard = offers_of(q, mask) + error
        new = np.where(mask, reward + (discounted * heard).sum(axis=2), 0.0)
        if np.abs(new - q).max() < 1e-13:
            return new
        q = new
    raise AssertionError("no fixed point")


@examples(40)
@given(models(), st.floats(0.0, 5.0), st.integers(0, 2**31), st.sampled_from(["table", "offer", "signs"]))
def test_bounded_errors_move_the_fixed_point_by_no_more_than_the_bound(
    arrays: Model, size: float, seed: int, kind: str
) -> None:
    """Errors that depend on the whole segment, on the one who offers alone, and of largest size everywhere."""
    reward, discounted, mask = interface_arrays(arrays)
    rng = np.random.default_rng(seed)
    shape = discounted.shape if kind != "offer" else (1, 1, discounted.shape[2])
    error = size * (np.sign(rng.normal(size=shape)) if kind == "signs" else rng.uniform(-1, 1, size=shape))
    gamma_bar = discounted.sum(axis=2)[mask].max()
    moved = fixed_point(reward, discounted, mask, error) - fixed_point(reward, discounted, mask, 0 * error)
    assert np.abs(moved).max() <= message_error_bound(np.abs(error).max(), gamma_bar) + EXACT


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_bound_is_met_where_all_rows_have_one_modulus(sign: float) -> None:
    """Two steps always, no ends, the same error everywhere: every value moves by exactly the bound."""
    arrays = random_model(np.random.default_rng(1), longest=2, gamma=0.9)
    arrays["duration"] = np.zeros_like(arrays["duration"])
    arrays["duration"][..., 1] = 1.0
    reward, discounted, mask = interface_arrays(arrays)
    np.testing.assert_allclose(discounted.sum(axis=2), 0.81, rtol=1e-12)
    clear = fixed_point(reward, discounted, mask, np.zeros(1))
    moved = fixed_point(reward, discounted, mask, np.full(1, sign * 0.3)) - clear
    np.testing.assert_allclose(moved, sign * message_error_bound(0.3, 0.81), rtol=1e-9)
    assert message_error_bound(0.3, 0.81) == pytest.approx(0.81 * 0.3 / 0.19)


def test_long_horizons_lose_no_digits() -> None:
    """One state, three steps of reward 1: the only value there is, and what a systematic error of 1 moves it by."""
    gamma = 1 - 2.0**-50
    left = 1 - Fraction(gamma) ** 3
    model = TabularModel(
        reward_rate=np.ones((1, 1)),
        agent=np.zeros(1, int),
        interface=np.zeros(1, int),
        gamma=gamma,
        transition=np.ones((1, 1, 1)),
        duration=np.array([[[0.0, 0.0, 1.0]]]),
    )
    np.testing.assert_allclose(model_value_range(model), 2.0**50, rtol=1e-14)
    interface = interface_model(model)
    found = message_error_bound(1.0, interface.gamma_bar, interface.least_killing)
    assert found == pytest.approx(float((1 - left) / left), rel=1e-14)


# The same through the channel itself


def channel_orbit(arrays: Model, channel: Channel, rounds: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The last 50 iterates of the operator whose scalars go through a channel, ``Q_phi``, and the modulus."""
    reward, discounted, mask = interface_arrays(arrays)
    owner = jnp.asarray(as_model(arrays).interface_agent)
    send = jax.jit(lambda offers: transmit(jax.random.key(0), offers, owner, new_history(owner.shape), channel)[0])
    q, kept = np.zeros_like(reward), []
    for _ in range(rounds):
        heard = np.asarray(send(jnp.asarray(offers_of(q, mask), jnp.float32)), float)
        q = np.where(mask, reward + discounted @ heard, 0.0)
        kept.append(q)
    return np.stack(kept[-50:]), fixed_point(reward, discounted, mask, np.zeros(1)), discounted.sum(axis=2)[mask].max()


def shifted_model(seed: int) -> Model:
    """Rewards around 1, so that values are far from 0 and an attack hurts."""
    arrays = random_model(np.random.default_rng(seed), gamma=0.9, longest=3)
    return {**arrays, "reward_rate": arrays["reward_rate"] + 1.0}


FLOAT32 = 1e-4  # offers are float32 numbers of size 10, and an error of 1e-6 is multiplied by at most 10


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_levels_move_values_by_no_more_than_half_a_step(bits: int) -> None:
    arrays = shifted_model(2)
    bounds = model_value_range(as_model(arrays))
    orbit, q_phi, gamma_bar = channel_orbit(arrays, clean(2, bounds).quantised(bits), 400)
    half = (bounds.high - bounds.low) / (2**bits - 1) / 2
    found = np.abs(orbit - q_phi).max()
    assert found <= message_error_bound(half, gamma_bar) + FLOAT32
    assert found > half / 20  # the levels do matter, or nothing was tested


@pytest.mark.parametrize("attack", ["high", "low", "negate"])
def test_clipping_limits_what_an_attack_can_do(attack: str) -> None:
    """Everybody lies, far outside: clipped, values move by at most gamma_bar times the width; unclipped, by more."""
    arrays = shifted_model(3)
    bounds = model_value_range(as_model(arrays))
    loud = clean(2, bounds).adversarial([True, True], attack, excess=20.0)
    orbit, q_phi, gamma_bar = channel_orbit(arrays, loud.clipped(), 400)
    limit = gamma_bar * (bounds.high - bounds.low)
    assert 0.05 * limit < np.abs(orbit - q_phi).max() <= limit + FLOAT32
    if attack != "negate":
        assert np.abs(channel_orbit(arrays, loud, 400)[0] - q_phi).max() > 2 * limit


def test_clipping_to_the_range_moves_nothing() -> None:
    """Iteration from 0 through a clipping channel ends at ``Q_phi``."""
    arrays = shifted_model(4)
    orbit, q_phi, _ = channel_orbit(arrays, clean(2, model_value_range(as_model(arrays))).clipped(), 400)
    assert np.abs(orbit - q_phi).max() < FLOAT32
    narrow = clean(2).clipped(0.0, float(q_phi.max()) / 2)
    assert np.abs(channel_orbit(arrays, narrow, 400)[0] - q_phi).max() > 0.1
