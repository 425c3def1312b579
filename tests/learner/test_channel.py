"""Channels as a whole: the perfect one, all faults in their order, one compilation for a sweep, what is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.learner.channel import (
    ATTACKS,
    Channel,
    clean,
    new_history,
    transmit,
    transmit_rollout,
)
from tests.helpers import same_bits
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

# The perfect channel

SPECIAL = [0.0, -0.0, 1e-45, -1e30, 3.4e38, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("channel", [clean(AGENTS), PERFECT, PERFECT.dropping(0.0).noisy(0.0).late(0)])
def test_a_clean_channel_changes_no_bit(channel: Channel) -> None:
    words = np.random.default_rng(0).integers(2**32, size=4096, dtype=np.uint32)  # numbers of all sizes, NaN included
    offers = np.concatenate([np.array(SPECIAL, np.float32), words.view(np.float32)])
    received, delivered = heard(channel, offers)
    assert same_bits(received, offers) and delivered.all()


def test_one_environment_is_a_row_of_many() -> None:
    """The functions take any batch shape; without randomness a batch is its rows."""
    channel = PERFECT.adversarial(LIARS, "negate").quantised(3).late(1).clipped()
    offers, senders = draws(24).reshape(6, 4), agents(24).reshape(6, 4)
    key = jax.random.key(0)
    whole, delivered, _ = rollout(key, offers, senders, new_history(4, 2), channel)
    for b in range(4):
        single = rollout(key, offers[:, b], senders[:, b], new_history((), 2), channel)
        assert same_bits(single[0], whole[:, b]) and same_bits(single[1], delivered[:, b])
    mapped = jax.jit(jax.vmap(transmit, in_axes=(None, 0, 0, 0, None)))
    many = mapped(key, offers[0], senders[0], new_history(4, 2), channel)
    one = one_step(key, offers[0], senders[0], new_history(4, 2), channel)
    for batched, direct in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(batched, direct, rtol=1e-6)


# All together


def test_faults_act_in_the_order_of_a_message_on_its_way() -> None:
    """Each pair whose order matters shows it, and the order in which the methods are called does not."""
    everybody = [True] * AGENTS
    offers = draws(4000, low=-1.0, high=0.5)
    loud = PERFECT.adversarial(everybody, "high", excess=2.0)
    # Levels after attacks: a lie outside the range becomes its end.
    np.testing.assert_array_equal(heard(loud.quantised(2), offers)[0], 6.0)
    # Noise after levels: what arrives is not a level any more.
    assert np.unique(heard(PERFECT.quantised(2).noisy(0.01), offers)[0]).size > 3900
    # Lateness after attacks: the lie is told when it is sent, by the one who sends it, and so is noise.
    path, senders = offers[:40].reshape(10, 4), agents(40).reshape(10, 4)
    late = rollout(jax.random.key(0), path, senders, new_history(4, 2), PERFECT.adversarial(LIARS, "low").late(2))[0]
    np.testing.assert_array_equal(late[2:], np.where(LIARS[senders], np.float32(-2), path)[:-2])
    # Loss after lateness: what is lost is not sent again, and the next one is the next one.
    dropped = rollout(jax.random.key(0), path, senders, new_history(4, 2), PERFECT.late(2).dropping(0.4))
    arrived = np.asarray(dropped[1])[2:]
    assert arrived.any() and not arrived.all()
    np.testing.assert_array_equal(dropped[0][2:], np.where(arrived, path[:-2], 0))
    # Clipping last: noise does not lead out of the range.
    noisy = heard(PERFECT.noisy(1.0).clipped(), offers)[0]
    assert noisy.min() == -2 and noisy.max() == 6
    forth = PERFECT.adversarial(LIARS, "negate").quantised(3, True).noisy(0.2).late(1).dropping(0.2).clipped()
    back = PERFECT.clipped().dropping(0.2).late(1).noisy(0.2).quantised(3, True).adversarial(LIARS, "negate")
    assert all(same_bits(a, b) for a, b in zip(forth, back, strict=True))


def test_faults_are_independent_of_each_other() -> None:
    """What arrives has the mean of what was sent: 10000 errors of variance 20 miss 0.25 with probability 3e-8."""
    channel = PERFECT.quantised(1, unbiased=True).noisy(0.25).dropping(0.5)
    received, delivered = heard(channel, np.full(20_000, 2.0))
    errors = received[delivered].astype(float) - 2.0
    assert abs(errors.mean()) < 0.25 and errors.var() == pytest.approx(4**2 + 2**2, rel=0.1)


def sweep() -> list[Channel]:
    return [
        clean(AGENTS),
        PERFECT,
        PERFECT.dropping(0.5),
        PERFECT.noisy(0.1),
        PERFECT.quantised(2),
        PERFECT.quantised(2, unbiased=True),
        PERFECT.late(3),
        PERFECT.adversarial(LIARS, "high"),
        PERFECT.adversarial(LIARS, "negate"),
        PERFECT.adversarial(LIARS, "low", 4.0).noisy(0.1).quantised(5).late(1).dropping(0.1).clipped(),
    ]


def test_one_compilation_serves_a_sweep_over_all_channels() -> None:
    """Stacked channels, traced once; each lane is what its channel does alone."""
    traces = []

    def run(key: Any, offers: Any, senders: Any, channel: Channel) -> Any:
        traces.append(0)
        return transmit_rollout(key, offers, senders, new_history(4, 3), channel)

    lanes = jax.jit(jax.vmap(run, in_axes=(None, None, None, 0)))
    channels = sweep()
    key, offers, senders = jax.random.key(3), draws(80).reshape(20, 4), agents(80).reshape(20, 4)
    for order in (1, -1):
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *channels[::order])
        received, delivered, after = lanes(key, offers, senders, stacked)
        for lane, channel in enumerate(channels[::order]):
            alone = rollout(key, offers, senders, new_history(4, 3), channel)
            np.testing.assert_allclose(received[lane], alone[0], rtol=0, atol=ROUNDING)
            np.testing.assert_array_equal(delivered[lane], alone[1])
            np.testing.assert_allclose(after.messages[lane], alone[2].messages, rtol=0, atol=ROUNDING)
    assert len(traces) == 1
    assert same_bits(received[-1], offers)  # the lane of the clean channel, in the reversed sweep
    different = {np.asarray(row).tobytes() for row in received}
    assert len(different) == len(channels) - 1  # the two clean ones agree


def test_channels_are_built_of_traced_numbers() -> None:
    """Probabilities, bits, lateness, ranges and attacks may all be traced: the same numbers, one compilation."""

    @jax.jit
    def build(low: Any, high: Any, p: Any, sigma: Any, bits: Any, k: Any, mask: Any, attack: Any) -> Channel:
        made = clean(AGENTS, (low, high)).dropping(p).noisy(sigma).quantised(bits, unbiased=bits > 3)
        return made.late(k).adversarial(mask, attack, excess=sigma).clipped()

    for bits, k in ((2, 1), (5, 3)):
        traced = build(*BOUNDS, 0.25, 0.5, bits, k, LIARS, ATTACKS["low"])
        plain = PERFECT.dropping(0.25).noisy(0.5).quantised(bits, bits > 3).late(k)
        plain = plain.adversarial(LIARS, "low", excess=0.5).clipped()
        assert all(same_bits(a, b) for a, b in zip(traced, plain, strict=True))
        assert float(traced.levels) == 2**bits
    assert build._cache_size() == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PERFECT.dropping(1.5), "p = 1.5: expected a number between 0 and 1"),
        (lambda: PERFECT.noisy(-1.0), "sigma = -1.0"),
        (lambda: PERFECT.noisy(np.nan), "sigma = nan"),
        (lambda: PERFECT.quantised(0), "bits = 0: expected a whole number between 1 and 16"),
        (lambda: PERFECT.quantised(2.5), "bits = 2.5: expected a whole number"),
        (lambda: PERFECT.late(-1), "k = -1"),
        (lambda: PERFECT.adversarial(LIARS, "flatter"), "attack = 'flatter': expected one of high, low, negate"),
        (lambda: PERFECT.adversarial(LIARS, "high", -1.0), "excess = -1.0"),
        (lambda: PERFECT.adversarial([0, 2], "high"), r"agents: int32 \(2,\), expected bool \(3,\)"),
        (lambda: PERFECT.clipped(2.0, 1.0), "expected ends in order"),
        (lambda: clean(AGENTS).noisy(0.1), "no value range"),
        (lambda: clean(AGENTS).quantised(3), "no value range"),
        (lambda: clean(AGENTS).adversarial(LIARS, "low"), "no value range"),
        (lambda: clean(AGENTS).clipped(low=0.0), "no value range"),
        (lambda: clean(AGENTS, (1.0, 1.0)), "the lower one below"),
        (lambda: clean(AGENTS, (0.0, np.inf)), "finite ends"),
    ],
)
def test_what_is_no_channel_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_shapes_and_types_must_fit() -> None:
    key, history = jax.random.key(0), new_history(4)
    with pytest.raises(AssertionError):
        transmit(key, jnp.zeros(4), jnp.zeros(3, jnp.int32), history, PERFECT)
    with pytest.raises(AssertionError):
        transmit(key, jnp.zeros(5), jnp.zeros(5, jnp.int32), history, PERFECT)
    with pytest.raises(AssertionError):
        transmit(key, jnp.zeros(4, jnp.int32), jnp.zeros(4, jnp.int32), history, PERFECT)
    received, delivered, after = jax.eval_shape(transmit, key, jnp.zeros(4), jnp.zeros(4, jnp.int32), history, PERFECT)
    assert (received.dtype, delivered.dtype, after.count.dtype) == (jnp.float32, jnp.bool_, jnp.int32)
