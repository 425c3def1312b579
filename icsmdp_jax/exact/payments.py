"""What segments pay: bounds on it, and its moments by the state in which a segment ends (D2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from icsmdp_jax.exact.moments import Matrix, compact, next_state, segment_law
from icsmdp_jax.models.tabular import TabularModel


class PaidMoments(NamedTuple):
    """Moments of the segment reward ``R`` without its noise, or of ``|R|``, by the state entered, float64.

    Attributes:
      mean: ``[S*O, S]`` ``E[R; s']``.
      discounted: ``[S*O, S]`` ``E[gamma^tau R; s']``, terminal states included.
      square: ``[S*O, S]`` ``E[R^2; s']``.
    """

    mean: Matrix
    discounted: Matrix
    square: Matrix


def paid_moments(model: TabularModel, absolute: bool = False, rate: np.ndarray | None = None) -> PaidMoments:
    """Moments of what segments pay, rate and lumps together, from whichever form the model is given in (D2).

    Args:
      model: the IC-SMDP.
      absolute: whether the moments are those of ``|R|``.
      rate: ``[S, O]``, used instead of the model's reward rate.
    """
    rate = model.reward_rate if rate is None else rate
    lump = np.zeros((1, 1, 1)) if model.lump is None else model.lump
    law = model.transition if model.transition is not None else model.probability
    width = model.num_states if law is None else law.shape[2]
    sums = [np.zeros((model.num_states, model.num_options, width)) for _ in PaidMoments._fields]
    last, annuity = 1.0, 0.0
    for t in range(model.longest_duration):
        annuity += last
        paid = rate[:, :, None] * annuity + last * lump
        if absolute:
            paid = np.abs(paid)
        if model.kernel is not None:
            weight = model.kernel[:, :, t]
        else:
            assert model.duration is not None
            weight = model.duration[:, :, t, None]
        last *= model.gamma  # now gamma^tau
        for total, worth in zip(sums, (paid, last * paid, paid**2), strict=True):
            total += weight * worth
    rows = model.num_states * model.num_options
    for total in sums:
        total /= segment_law(model).mass.reshape(model.num_states, -1, 1)
    if model.kernel is not None:
        return PaidMoments(*(compact(total.reshape(rows, width)) for total in sums))
    return PaidMoments(*(next_state(model, total) for total in sums))


def lump_range(model: TabularModel) -> tuple[np.ndarray, np.ndarray]:
    """``[S, O]`` least and largest lump over the ends of a segment that can happen, before discounting.

    0 where the model is not defined, and everywhere if it pays no lumps.
    """
    shape = (model.num_states, model.num_options)
    if model.lump is None:
        return np.zeros(shape), np.zeros(shape)
    if model.kernel is not None:
        possible = np.any(model.kernel > 0, axis=2)
    else:
        possible = np.asarray(model.transition if model.transition is not None else model.probability) > 0
    some = possible.any(axis=2)
    low = np.where(possible, model.lump, np.inf).min(axis=2)
    high = np.where(possible, model.lump, -np.inf).max(axis=2)
    return np.where(some, low, 0.0), np.where(some, high, 0.0)


def largest_reward(model: TabularModel, used: np.ndarray) -> float:
    """Bound ``R_max`` on the absolute segment reward over the pairs ``used [S, O]``, noise included (T3).

    The rate counts for the longest duration of the model, whether or not the pair can last that long. With lumps, the
    bound is the largest ``|rate (1 - gamma^tau) / (1 - gamma) + gamma^(tau-1) lump|`` over the durations that can
    happen, with the least and the largest lump of the pair.
    """
    last = model.gamma ** np.arange(model.longest_duration)
    annuity = np.cumsum(last)
    if model.lump is None:
        return float(np.abs(model.reward_rate[used]).max() * annuity[-1] + model.reward_noise)
    lumps = lump_range(model)
    largest = 0.0
    for t in range(model.longest_duration):
        lasts = model.kernel[:, :, t].any(axis=-1) if model.kernel is not None else np.asarray(model.duration)[:, :, t]
        pairs = used & (lasts > 0)
        for lump in lumps:
            paid = model.reward_rate[pairs] * annuity[t] + last[t] * lump[pairs]
            largest = max(largest, float(np.abs(paid).max(initial=0.0)))
    return largest + model.reward_noise
