"""The Bellman operator in coordinates in which long horizons lose no digits, with bounds on its rounding (D3, L2)."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from icsmdp_jax.exact.elimination import UNIT
from icsmdp_jax.exact.moments import Matrix, keep_columns, scale_rows

TINY = float(np.finfo(float).tiny)
COUNTED = 10**6  # numbers of a dense kernel up to which those of each row that are not 0 are counted


class Backups:
    """The Bellman operator in the coordinates ``V = level + W``, in which long horizons lose no digits (L2).

    ``T(level + W) - level = r - level (1 - gbar) + P W``: the large numbers of a value near ``1 / (1 - gamma)`` meet
    the small ones of ``1 - gbar``, which is known to full relative accuracy, and ``W`` is no larger than values differ.

    Attributes:
      decides: ``[n]`` bool.
      killing: ``[n, O]`` ``1 - gbar(s, o)`` towards states that decide; 1 outside the mask.
      least: lower bound on ``killing`` within the mask, rounding included.
      most: upper bound on it.
      nearly: smallest and largest ``killing`` within the mask as they are, without regard to rounding.
      size: largest reward within the mask.
    """

    def __init__(
        self,
        reward: np.ndarray,
        discounted: Matrix,
        mask: np.ndarray,
        killing: np.ndarray | None,
        relative_error: float,
        reward_size: np.ndarray | None,
    ) -> None:
        """Takes what ``modified_policy_iteration`` does."""
        count, options = reward.shape
        self.decides, self._all = np.asarray(mask.any(axis=1)), bool(mask.all())
        self.reward, self.discounted, self.mask = self._within(reward, mask, 0.0), discounted, mask
        width = _longest_row(discounted) + 4
        error = relative_error + 4 * UNIT
        rounding = 0.0
        if killing is None:
            modulus = np.asarray(discounted.sum(axis=1)).reshape(count, options)
            killing, rounding = 1 - modulus, width * UNIT * float(modulus.max(initial=1.0, where=mask))
        if not self.decides.all():  # steps into states of fixed value 0 take no further part in the recursion
            killing = killing + np.asarray(discounted @ (~self.decides).astype(float)).reshape(count, options)
        self.killing = self._within(killing, mask, 1.0)
        smallest = float(self.killing.min())
        if smallest <= 0:
            raise ValueError(f"discounted kernel: a row sums to {1 - smallest:.9g}, expected less than 1")
        self._surely = self.killing * (1 - error) - rounding
        self.least = max(smallest * (1 - error) - rounding, TINY)
        self.nearly = smallest, float(self._within(killing, mask, 0.0).max())
        self.most = min(self.nearly[1] * (1 + error) + rounding, 1.0)
        size = np.abs(self.reward) if reward_size is None else self._within(reward_size, mask, 0.0)
        self.size = float(size.max())
        self._from_reward = relative_error * size + 4 * UNIT * np.abs(self.reward)
        self._from_level = self._within(error * self.killing + rounding, mask, 0.0)
        self._from_rest = relative_error + width * UNIT
        self._largest_from_reward, self._largest_from_level = (
            float(self._from_reward.max()),
            float(self._from_level.max()),
        )

    def _within(self, numbers: np.ndarray, mask: np.ndarray, outside: float) -> np.ndarray:
        return numbers if self._all else np.where(mask, numbers, outside)

    def __call__(self, level: float, rest: np.ndarray) -> np.ndarray:
        """``[n, O]`` ``T(level + rest) - level`` before the maximum, minus infinity outside the mask."""
        if self._all:
            out = (self.discounted @ rest).reshape(self.reward.shape)
            out += self.reward
            out -= level * self.killing
            return out
        ahead = (self.discounted @ np.where(self.decides, rest, 0.0)).reshape(self.reward.shape)
        return np.where(self.mask, self.reward - level * self.killing + ahead, -np.inf)

    def rounding(self, level: float, rest: np.ndarray) -> np.ndarray:
        """``[n, O]`` bound on the error of ``self(level, rest)``, that of the problem's own numbers included."""
        return self._from_reward + abs(level) * self._from_level + self._from_rest * float(np.abs(rest).max())

    def largest_rounding(self, level: float, rest: np.ndarray) -> float:
        """Bound on all of ``self.rounding(level, rest)``, without forming it."""
        from_level = abs(level) * self._largest_from_level
        return self._largest_from_reward + from_level + self._from_rest * float(np.abs(rest).max())

    def roughly(self, level: float, rest: np.ndarray, more: float) -> float:
        """Bound on ``self.accumulated(self.rounding(level, rest) + more)``, which it may be far above."""
        return (self.largest_rounding(level, rest) + more) / self.least

    def accumulated(self, doubt: np.ndarray) -> float:
        """How far the fixed point moves if backups are off by ``doubt [n, O]``: ``max doubt / (1 - gbar)`` (L2)."""
        return float((doubt / np.maximum(self._surely, TINY))[self.mask].max())

    def of_policy(self, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray, Matrix]:
        """Rewards ``[n]``, ``1 - gbar`` ``[n]`` and rows ``[n, n]`` of a policy; 0, 1 and nothing in other states."""
        states = np.arange(len(policy))
        step = self.discounted[states * self.reward.shape[1] + policy]
        pays, killing = self.reward[states, policy], self.killing[states, policy]
        if self.decides.all():
            return pays, killing, step
        step = scale_rows(self.decides.astype(float), keep_columns(step, self.decides))
        return np.where(self.decides, pays, 0.0), np.where(self.decides, killing, 1.0), step


def _longest_row(matrix: Matrix) -> int:
    if sparse.issparse(matrix):
        return int(np.diff(matrix.indptr).max(initial=0))
    if matrix.size > COUNTED:
        return int(matrix.shape[1])
    return int(np.count_nonzero(matrix, axis=1).max(initial=0))
