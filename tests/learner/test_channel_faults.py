"""Every fault of a channel by itself, against a NumPy twin or its exact law.

Random faults have fixed keys. Frequencies and means are checked by Hoeffding's inequality: the stated probabilities are
those with which a right channel would fail for another key.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from icsmdp_jax.learner.channel import (
    ATTACKS,
    FINEST,
    HONEST,
    History,
    clean,
    new_history,
)
from tests.helpers import examples, same_bits
from tests.learner.channels import (
    AGENTS,
    BOUNDS,
    LIARS,
    PERFECT,
    ROUNDING,
    agents,
    draws,
    heard,
    one_step,
    rollout,
)

# Loss


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_messages_are_lost_with_their_probability(p: float) -> None:
    """Hoeffding: 40000 draws miss p by 0.02 with probability below 2 exp(-32), about 3e-14."""
    offers = draws(40_000)
    received, delivered = heard(PERFECT.dropping(p), offers)
    assert abs((~delivered).mean() - p) < 0.02
    np.testing.assert_array_equal(received, np.where(delivered, offers, 0))
    again = heard(PERFECT.dropping(p), offers, seed=1)[1]
    assert abs((~delivered & ~again).mean() - p * p) < 0.02  # another key loses others, independently


def test_all_or_nothing() -> None:
    assert not heard(PERFECT.dropping(1.0), draws(1000))[1].any()
    assert heard(PERFECT.dropping(0.0), draws(1000))[1].all()


def test_what_carries_no_message_cannot_fail() -> None:
    """A terminal handoff passes every fault untouched, and leaves nothing behind for later ones."""
    channel = PERFECT.adversarial([True] * AGENTS, "high", 3.0).quantised(1).noisy(1.0).dropping(1.0).clipped()
    offers, senders = draws(100), agents(100)
    sent = np.arange(100) % 2 == 0
    past = History(jnp.full((100, 3), 7.0), jnp.full(100, 2, jnp.int32))
    received, delivered, after = one_step(jax.random.key(0), offers, senders, past, channel, sent)
    np.testing.assert_array_equal(delivered, ~sent)
    assert same_bits(np.asarray(received)[~sent], offers[~sent])
    assert (np.asarray(after.messages)[~sent] == 7).all() and (np.asarray(after.count)[~sent] == 2).all()
    assert (np.asarray(after.messages)[sent, 0] != 7).all() and (np.asarray(after.count)[sent] == 3).all()


# Noise


def test_noise_is_gaussian_in_widths_of_the_range() -> None:
    """Kolmogorov-Smirnov against the exact law, at level 1e-6."""
    offers = draws(20_000, seed=2)
    received, delivered = heard(PERFECT.noisy(0.25), offers)
    error = received.astype(float) - offers
    assert delivered.all()
    assert stats.kstest(error, stats.norm(scale=0.25 * 8).cdf).pvalue > 1e-6
    assert stats.kstest(error, stats.norm(scale=0.25 * 8 * 1.1).cdf).pvalue < 1e-6  # a wrong unit would be seen
    assert abs(np.corrcoef(offers, error)[0, 1]) < 5 / 20_000**0.5  # fails with probability below 1e-6


# Levels


def nearest(offers: np.ndarray, bits: int) -> np.ndarray:
    """Twin: the nearest of all levels, by comparison with each of them, float64."""
    levels = np.linspace(*BOUNDS, 2**bits)
    return levels[np.abs(offers[:, None].astype(float) - levels).argmin(axis=1)]


@pytest.mark.parametrize("bits", [1, 2, 3, 7])
def test_rounding_to_the_nearest_level(bits: int) -> None:
    offers = np.concatenate([draws(2000), draws(200, low=-30, high=30), np.array([*BOUNDS, 1e30, -1e30], np.float32)])
    received, delivered = heard(PERFECT.quantised(bits), offers)
    step = 8 / (2**bits - 1)
    inside = np.clip(offers, *BOUNDS)
    assert delivered.all() and np.unique(received).size == 2**bits
    assert np.abs(received - inside).max() <= step / 2 + ROUNDING
    twin = nearest(inside, bits)
    ties = np.abs(np.abs(inside - twin) - step / 2) < ROUNDING  # which of two equally near levels is nobody's business
    np.testing.assert_allclose(received[~ties], twin[~ties], rtol=0, atol=ROUNDING)
    assert ties.sum() < 10
    assert received.min() == BOUNDS.low and received.max() == BOUNDS.high
    np.testing.assert_allclose(heard(PERFECT.quantised(bits), received)[0], received, rtol=0, atol=ROUNDING)


def test_as_many_levels_as_bits_allow() -> None:
    offers = draws(400_000, seed=3)
    received, _ = heard(PERFECT.quantised(FINEST), offers)
    assert np.abs(received - offers).max() <= 4 / (2**FINEST - 1) + ROUNDING
    found = np.unique(received).size  # 400000 draws leave a level out with probability exp(-6.1) each
    assert 0.98 * 2**FINEST < found <= 2**FINEST


@pytest.mark.parametrize("bits", [1, 3, FINEST])
@pytest.mark.parametrize("offer", [-1.9, 0.123, 5.75])
def test_random_rounding_is_unbiased(bits: int, offer: float) -> None:
    """Two neighbouring levels, with the offer as mean. Hoeffding: 30000 draws are off by 0.03 steps with 2 exp(-54)."""
    received, _ = heard(PERFECT.quantised(bits, unbiased=True), np.full(30_000, offer))
    step, exact = 8 / (2**bits - 1), float(np.float32(offer))
    found = np.unique(received)
    assert found.size == 2 and found[0] < exact < found[1]
    assert found[1] - found[0] == pytest.approx(step, abs=ROUNDING)
    assert abs(received.astype(float).mean() - exact) < 0.03 * step + ROUNDING
    levels = np.linspace(*BOUNDS, 2**bits)
    assert np.abs(levels[:, None] - found).min(axis=0).max() < ROUNDING


def test_a_level_is_a_level_when_rounded_at_random() -> None:
    """At 3 bits: the ends and what rounding gave stay where they are, but for 2^-20 of float32 rounding."""
    levels = np.linspace(*BOUNDS, 8).astype(np.float32)
    received, _ = heard(PERFECT.quantised(3, unbiased=True), np.repeat(levels, 50))
    np.testing.assert_allclose(received, np.repeat(levels, 50), rtol=0, atol=ROUNDING)


# Lateness


@pytest.mark.parametrize("k", [0, 1, 3, 5])
def test_late_messages_are_those_of_earlier_handoffs(k: int) -> None:
    """Against plain queues, one for each environment; handoffs without a message neither advance nor fail."""
    offers, senders = draws(60).reshape(15, 4), agents(60).reshape(15, 4)
    sent = np.random.default_rng(5).random((15, 4)) < 0.7
    received, delivered, after = rollout(jax.random.key(0), offers, senders, new_history(4, 5), PERFECT.late(k), sent)
    for b in range(4):
        queue: list[np.float32] = []
        for t in range(15):
            if not sent[t, b]:
                assert received[t, b] == offers[t, b] and delivered[t, b]
                continue
            queue.append(offers[t, b])
            arrives = len(queue) > k
            assert delivered[t, b] == arrives
            assert received[t, b] == (queue[-1 - k] if arrives else 0)
        assert len(queue) > 5 and after.count[b] == 6
        np.testing.assert_array_equal(after.messages[b], queue[:-7:-1])


def test_a_history_that_is_too_short_delivers_nothing() -> None:
    offers = draws(40).reshape(20, 2)
    received, delivered, _ = rollout(
        jax.random.key(0), offers, np.zeros((20, 2), np.int32), new_history(2, 3), PERFECT.late(4)
    )
    assert not delivered.any() and not received.any()


def test_a_rollout_is_its_steps() -> None:
    """Also across two rollouts, with every fault at work; the history is all that connects them."""
    channel = PERFECT.adversarial(LIARS, "low").quantised(4, True).noisy(0.1).late(2).dropping(0.3).clipped()
    offers, senders = draws(48).reshape(12, 4), agents(48).reshape(12, 4)
    history, keys = new_history(4, 3), jax.random.split(jax.random.key(9), 2)
    for half, key in zip((slice(0, 6), slice(6, 12)), keys, strict=True):
        received, delivered, after = rollout(key, offers[half], senders[half], history, channel)
        for t, key_t in enumerate(jax.random.split(key, 6)):
            one = one_step(key_t, offers[half][t], senders[half][t], history, channel)
            np.testing.assert_allclose(one[0], received[t], rtol=1e-6)
            np.testing.assert_array_equal(one[1], delivered[t])
            history = one[2]
        np.testing.assert_allclose(history.messages, after.messages, rtol=1e-6)
        history = after
    assert (np.asarray(history.count) == 4).all() and delivered.any() and not delivered.all()


# Adversaries


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_touches_the_messages_of_its_agents_only(attack: str) -> None:
    offers, senders = draws(600), agents(600)
    received, delivered = heard(PERFECT.adversarial(LIARS, attack), offers, senders)
    lies = {"high": np.full(600, 6.0), "low": np.full(600, -2.0), "negate": -offers}[attack]
    honest = ~LIARS[senders]
    assert delivered.all() and honest.any() and (~honest).any()
    assert same_bits(received[honest], offers[honest])
    np.testing.assert_array_equal(received[~honest], lies[~honest])
    coded = heard(PERFECT.adversarial(LIARS, jnp.int32(ATTACKS[attack])), offers, senders)[0]
    assert same_bits(coded, received)


def test_clipping_makes_the_largest_lie_one_at_the_end_of_the_range() -> None:
    offers, senders = draws(300), agents(300)
    for attack, end, far in (("high", 6.0, 6.0 + 10 * 8), ("low", -2.0, -2.0 - 10 * 8)):
        loud = PERFECT.adversarial(LIARS, attack, excess=10.0)
        received, _ = heard(loud, offers, senders)
        np.testing.assert_allclose(received[LIARS[senders]], far, rtol=1e-6)
        defended, _ = heard(loud.clipped(), offers, senders)
        assert (defended[LIARS[senders]] == end).all()
        assert same_bits(defended[~LIARS[senders]], offers[~LIARS[senders]])


def test_honest_agents_are_not_adversaries() -> None:
    """Neither an attack without agents nor agents without an attack changes anything."""
    offers = draws(100)
    for channel in (
        PERFECT.adversarial([False] * AGENTS, "high"),
        PERFECT.adversarial([True] * AGENTS, jnp.int32(HONEST)),
    ):
        assert same_bits(heard(channel, offers)[0], offers)


# Clipping

inside = st.floats(*BOUNDS, width=32)


@examples(60)
@given(st.lists(inside, min_size=8, max_size=8))
def test_clipping_changes_no_message_inside_the_range(offers: list[float]) -> None:
    """Bit for bit, whatever the range, also at its ends."""
    for low, high in (BOUNDS, (min(offers), max(offers))):
        received, delivered = heard(PERFECT.clipped(low, high), offers)
        assert same_bits(received, np.float32(offers)) and delivered.all()


normal = {"width": 32, "allow_subnormal": False}  # compiled code takes the others for 0


@examples(60)
@given(st.lists(st.floats(**normal), min_size=8, max_size=8), *(st.floats(*BOUNDS, **normal),) * 2)
def test_clipping_is_the_nearest_point_of_the_range(offers: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    received, delivered = heard(PERFECT.clipped(low, high), offers)
    np.testing.assert_array_equal(delivered, ~np.isnan(offers))
    np.testing.assert_array_equal(received, np.where(delivered, np.clip(np.float32(offers), low, high), 0))


def test_the_range_is_what_is_clipped_to_by_default() -> None:
    channel = PERFECT.clipped()
    assert (float(channel.clip_low), float(channel.clip_high)) == BOUNDS
    half = clean(AGENTS, BOUNDS).clipped(high=1.0)
    assert (float(half.clip_low), float(half.clip_high)) == (BOUNDS.low, 1.0)
    assert float(clean(AGENTS).clipped(0.0, 1.0).clip_high) == 1.0  # a receiver may believe in a range of its own
