"""What the tests of channels share: a small channel with a range, offers to send, and a way to send them once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.learner.channel import Channel, clean, new_history, transmit, transmit_rollout
from icsmdp_jax.learner.message_bounds import ValueRange

AGENTS = 3
BOUNDS = ValueRange(-2.0, 6.0)
ROUNDING = 4e-6  # a few units in the last place of numbers up to 16: no wrong level or end is that near

PERFECT = clean(AGENTS, BOUNDS)
LIARS = np.array([True, False, True])
one_step = jax.jit(transmit)
rollout = jax.jit(transmit_rollout)


def draws(count: int, seed: int = 0, low: float = BOUNDS.low, high: float = BOUNDS.high) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, size=count).astype(np.float32)


def agents(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(AGENTS, size=count).astype(np.int32)


def heard(channel: Channel, offers: Any, senders: Any = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``received`` and ``delivered`` of one step without a past."""
    offers = jnp.asarray(offers, jnp.float32)
    senders = agents(offers.size).reshape(offers.shape) if senders is None else senders
    received, delivered, _ = one_step(
        jax.random.key(seed), offers, jnp.asarray(senders), new_history(offers.shape), channel
    )
    return np.asarray(received), np.asarray(delivered)
