"""What is known of a message before anything is learned: the range of values, and what an error costs (L6, T1.5).

Plain NumPy and Python numbers; ``channel.py`` takes the range as its unit of noise, levels and attacks, and as what a
receiver may clip to.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from icsmdp_jax.exact.moments import KernelMoments, kernel_moments
from icsmdp_jax.exact.payments import lump_range
from icsmdp_jax.models.tabular import TabularModel


class ValueRange(NamedTuple):
    """An interval that contains every value, ``low <= Q*(s, o) <= high``.

    Attributes:
      low: lower end.
      high: upper end.
    """

    low: float
    high: float


def value_range(reward_low: float, reward_high: float, gamma_bar: float, least_modulus: float = 0.0) -> ValueRange:
    """The a-priori range of all values, from bounds on rewards and moduli alone (L6).

    With ``m`` between the least and the largest modulus, the ends solve ``low = reward_low + min_m m low`` and
    ``high = reward_high + max_m m high``. So a negative ``low`` or a positive ``high`` is a reward over
    ``1 - gamma_bar``, and a positive ``low`` or a negative ``high`` is one over ``1 - least_modulus`` only, since an
    episode may end at once.

    Proof. Let ``low <= Q <= high``; then ``V`` lies in the range too, and as the row ``P^g(. | s, o)`` has a mass ``m``
    between the two moduli, ``(TQ)(s, o) >= reward_low + m low >= low``, and likewise above. The range is closed, not
    empty and mapped into itself by the contraction ``T``, hence contains ``Q*``. Averages over hidden states obey the
    same bounds, so it contains ``Q_phi`` (D5) as well; ``Q_m`` (D7) need not lie inside. In particular
    ``|Q*| <= max |E[R | s, o]| / (1 - gamma_bar)``.

    Clipping messages to such a range moves neither fixed point: ``Q -> r + P^g clip(max Q)`` is a contraction as well,
    and ``Q*`` or ``Q_phi`` solves it.

    Args:
      reward_low: lower bound of the expected segment rewards ``E[R | s, o]``.
      reward_high: upper bound of them.
      gamma_bar: upper bound of the moduli ``E[gamma^tau; s' not terminal]``, below 1.
      least_modulus: lower bound of them; 0 unless no segment can end an episode.

    Returns:
      The range.

    Raises:
      ValueError: if the bounds of the rewards are not finite or in the wrong order, or the moduli not in ``[0, 1)``.
    """
    if not (np.isfinite(reward_low) and np.isfinite(reward_high) and reward_low <= reward_high):
        raise ValueError(f"rewards between {reward_low} and {reward_high}: expected two finite bounds in order")
    if not 0 <= least_modulus <= gamma_bar < 1:
        raise ValueError(f"moduli between {least_modulus} and {gamma_bar}: expected 0 <= least <= gamma_bar < 1")
    return _range(reward_low, reward_high, 1 - gamma_bar, 1 - least_modulus)


def _range(reward_low: float, reward_high: float, least: float, most: float) -> ValueRange:
    """The same from the least and the largest ``1 - E[gamma^tau; s' not terminal]``."""
    low = reward_low / (least if reward_low < 0 else most)
    high = reward_high / (least if reward_high > 0 else most)
    return ValueRange(float(low), float(high))


def model_value_range(model: TabularModel, moments: KernelMoments | None = None) -> ValueRange:
    """The a-priori range of a finite model: what two applications of ``value_range`` have in common (L6).

    One is to the segments themselves. The other replaces the option by the primitive step, since
    ``Q*(s, o)`` is the expected sum over primitive steps of ``gamma^t`` times what the step pays: a rate and, with the
    last step of a segment, a lump. There every modulus is gamma, or 0 at the last step of an episode. The second
    is the narrower one where durations vary, the first where many segments end an episode. The noise of segment
    rewards has mean 0 and does not enter ``Q*``; estimates that were made of noisy segments may leave the range.

    Args:
      model: the model; rows of unavailable options and of terminal states are ignored.
      moments: those of its segments, if they are known already.

    Returns:
      The range.
    """
    moments = kernel_moments(model) if moments is None else moments
    reward, killing = moments.reward_mean[moments.used], moments.killing[moments.used]
    by_segment = _range(reward.min(), reward.max(), killing.min(), killing.max())
    rate = model.reward_rate[moments.used]
    least, most = (rate + lump[moments.used] for lump in lump_range(model))
    if model.longest_duration > 1:  # some steps may not be the last
        least, most = np.minimum(rate, least), np.maximum(rate, most)
    by_step = value_range(least.min(), most.max(), model.gamma, 0.0 if model.is_terminal.any() else model.gamma)
    return ValueRange(max(by_segment.low, by_step.low), min(by_segment.high, by_step.high))


def message_error_bound(error: float, gamma_bar: float, killing: float | None = None) -> float:
    """How far the fixed point of tabular IC-Q moves if every scalar is off by at most ``error``: sup norm (T1.5).

    ``gamma_bar error / (1 - gamma_bar)``. Proof. With an error ``e(z, o, z')`` on the scalar that ``z'`` returns for
    the segment from ``(z, o)``, the operator is ``(T_e Q)(z, o) = r_phi(z, o) + sum_z' P^g_phi(z' | z, o) (max Q(z', .)
    + e(z, o, z'))``, a contraction with modulus ``gamma_bar``. Subtracting the equations of the two fixed points gives
    ``||Q_e - Q_phi|| <= gamma_bar (||Q_e - Q_phi|| + error)``. Equality holds if every row has modulus ``gamma_bar``
    and every error is ``+error``, or every one ``-error``.

    Only the mean of the error given ``(z, o, z')`` counts, since targets are averaged: noise of mean 0 and unbiased
    rounding move nothing. Where the error depends on the scalar itself, as with rounding to a grid, a fixed point need
    not exist; every limit point of ``Q_{k+1} = T_e Q_k`` then obeys the bound, because
    ``||Q_{k+1} - Q_phi|| <= gamma_bar (||Q_k - Q_phi|| + error)``. Messages that are clipped to a range with ``V_phi``
    inside do less harm, whatever their cause: what arrives and the true value are both in the range, so the fixed point
    moves by at most ``gamma_bar`` times its width.

    Args:
      error: largest absolute mean error of a scalar, not negative.
      gamma_bar: contraction modulus, in ``[0, 1)``.
      killing: ``1 - gamma_bar`` without cancellation, where it is known.

    Returns:
      The bound.

    Raises:
      ValueError: if an argument is out of its range.
    """
    if not error >= 0:
        raise ValueError(f"error = {error}: expected a bound that is not negative")
    if not 0 <= gamma_bar < 1:
        raise ValueError(f"gamma_bar = {gamma_bar}: expected a modulus in [0, 1)")
    if killing is not None and not killing > 0:
        raise ValueError(f"killing = {killing}: expected 1 - gamma_bar, more than 0")
    return gamma_bar * error / (1 - gamma_bar if killing is None else killing)
