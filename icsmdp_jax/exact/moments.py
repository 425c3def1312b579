"""Moments of the option kernel under the random discount gamma^tau (D2).

Rows are pairs ``(s, o)`` flattened to ``s * O + o``. Matrices are dense or ``scipy.sparse.csr_array``; both
support ``@``, and nothing else is asked of them outside this file.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from icsmdp_jax.models.tabular import TabularModel

Matrix = Any  # np.ndarray or scipy.sparse.csr_array
SPARSE_BELOW = 0.2  # share of non-zeros under which compressed rows win on a CPU


def compact(matrix: Matrix) -> Matrix:
    """``matrix`` in compressed rows if it is mostly zeros and large enough to matter, else dense."""
    rows, columns = matrix.shape
    filled = matrix.nnz if sparse.issparse(matrix) else np.count_nonzero(matrix)
    if rows * columns > 50_000 and filled < SPARSE_BELOW * rows * columns:
        return sparse.csr_array(matrix)
    return matrix.toarray() if sparse.issparse(matrix) else matrix


def as_dense(matrix: Matrix) -> np.ndarray:
    """``matrix`` as a dense array, whatever its form."""
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


def scale_rows(factor: np.ndarray, matrix: Matrix) -> Matrix:
    """``diag(factor) @ matrix`` in the matrix's own form."""
    if sparse.issparse(matrix):
        return sparse.csr_array(sparse.diags_array(factor) @ matrix)
    return factor[:, None] * matrix


def keep_columns(matrix: Matrix, keep: np.ndarray) -> Matrix:
    """``matrix`` with the columns where ``keep`` is False set to zero."""
    if sparse.issparse(matrix):
        return sparse.csr_array(matrix @ sparse.diags_array(keep.astype(float)))
    return matrix * keep


@dataclasses.dataclass(frozen=True)
class LumpMoments:
    """Moments of the lump ``G = gamma^(tau-1) (lump_reward + lump_reward_next)`` by the state entered, float64 (D2).

    Attributes:
      mean: ``[S*O, S]`` ``E[G; s']``.
      discounted: ``[S*O, S]`` ``E[gamma^tau G; s']``, terminal states included.
      with_annuity: ``[S*O, S]`` ``E[(1 - gamma^tau) / (1 - gamma) G; s']``.
      square: ``[S*O, S]`` ``E[G^2; s']``.
      size: ``[S*O, S]`` ``E[|G|; s']``: lumps may cancel, the rounding errors of their mean do not.
    """

    mean: Matrix
    discounted: Matrix
    with_annuity: Matrix
    square: Matrix
    size: Matrix


@dataclasses.dataclass(frozen=True)
class KernelMoments:
    """Moments of ``K(tau, s' | s, o)``, all float64.

    Attributes:
      probability: ``[S*O, S]`` sum over tau of K: where the segment ends.
      discounted_all: ``[S*O, S]`` sum over tau of gamma^tau K, terminal states included.
      discounted_square_all: ``[S*O, S]`` sum over tau of gamma^(2 tau) K, terminal states included.
      gamma: discount per primitive step.
      reward_rate: ``[S, O]``.
      reward_noise: half-width of the uniform noise on R.
      used: ``[S, O]`` bool, pairs at which the model is defined (state decides, option available).
      terminal: ``[S]`` bool.
      lumps: moments of what is paid with the last step; None if nothing is.
    """

    probability: Matrix
    discounted_all: Matrix
    discounted_square_all: Matrix
    gamma: float
    reward_rate: np.ndarray
    reward_noise: float
    used: np.ndarray
    terminal: np.ndarray
    lumps: LumpMoments | None = None

    @cached_property
    def discounted(self) -> Matrix:
        """``[S*O, S]`` discounted kernel ``P^g``: no mass into terminal handoffs."""
        return keep_columns(self.discounted_all, ~self.terminal) if self.terminal.any() else self.discounted_all

    @cached_property
    def modulus(self) -> np.ndarray:
        """``[S, O]`` ``gbar(s, o) = E[gamma^tau; s' not terminal]``; 0 where the model is not defined."""
        return np.asarray(self.discounted.sum(axis=1)).reshape(self.used.shape)

    @property
    def gamma_bar(self) -> float:
        """Contraction modulus of the Bellman operator: the largest ``gbar(s, o)`` (L1)."""
        return float(self.modulus[self.used].max())

    @cached_property
    def expected_discount(self) -> np.ndarray:
        """``[S, O]`` ``E[gamma^tau | s, o]``, terminal handoffs included."""
        return np.asarray(self.discounted_all.sum(axis=1)).reshape(self.used.shape)

    @cached_property
    def reward_mean(self) -> np.ndarray:
        """``[S, O]`` ``E[R | s, o] = rate (1 - E[gamma^tau]) / (1 - gamma) + E[G]``; 0 where not defined."""
        mean = self.reward_rate * (1 - self.expected_discount) / (1 - self.gamma)
        if self.lumps is not None:
            mean = mean + self._per_pair(self.lumps.mean)
        return np.where(self.used, mean, 0.0)

    @property
    def reward_size(self) -> np.ndarray:
        """``[S, O]`` ``|rate| (1 - E[gamma^tau]) / (1 - gamma) + E|G|``, to which rounding errors are relative."""
        size = np.abs(self.reward_rate) * (1 - self.expected_discount) / (1 - self.gamma)
        if self.lumps is not None:
            size = size + self._per_pair(self.lumps.size)
        return np.where(self.used, size, 0.0)

    @cached_property
    def reward_square(self) -> np.ndarray:
        """``[S, O]`` ``E[R^2 | s, o]``, the noise's variance h^2/3 included."""
        second = np.asarray(self.discounted_square_all.sum(axis=1)).reshape(self.used.shape)
        factor = (1 - 2 * self.expected_discount + second) / (1 - self.gamma) ** 2
        square = self.reward_rate**2 * factor + self.reward_noise**2 / 3
        if self.lumps is not None:
            square = square + 2 * self.reward_rate * self._per_pair(self.lumps.with_annuity)
            square = square + self._per_pair(self.lumps.square)
        return np.where(self.used, square, 0.0)

    def _per_pair(self, matrix: Matrix) -> np.ndarray:
        """``[S, O]`` row sums."""
        return np.asarray(matrix.sum(axis=1)).reshape(self.used.shape)


def kernel_moments(model: TabularModel) -> KernelMoments:
    """Computes the moments of a model's option kernel exactly, from whichever form it is given in (D2)."""
    s, o, t = model.num_states, model.num_options, model.longest_duration
    terminal = model.is_terminal
    used = ~terminal[:, None] & model.option_mask[model.interface]
    powers = model.gamma ** np.arange(1, t + 1)
    if model.kernel is not None:
        law = model.kernel.reshape(s * o, t, s)
        probability, first, second = (
            compact(np.einsum("t,rts->rs", weight, law)) for weight in (np.ones(t), powers, powers**2)
        )
    else:
        assert model.duration is not None
        duration = model.duration.reshape(s * o, t)
        probability = next_state(model)
        first = scale_rows(duration @ powers, probability)
        second = scale_rows(duration @ powers**2, probability)
    return KernelMoments(
        probability=probability,
        discounted_all=first,
        discounted_square_all=second,
        gamma=model.gamma,
        reward_rate=model.reward_rate,
        reward_noise=model.reward_noise,
        used=used,
        terminal=terminal,
        lumps=_lump_moments(model),
    )


def _lump_moments(model: TabularModel) -> LumpMoments | None:
    """Each moment is an expectation of a function of ``tau`` times one of the lump, by the state entered."""
    if model.lump is None:
        return None
    s, o, t = model.num_states, model.num_options, model.longest_duration
    last = model.gamma ** np.arange(t)  # gamma^(tau-1); its partial sums are the annuities
    weights = {
        "mean": (last, model.lump),
        "discounted": (last**2 * model.gamma, model.lump),
        "with_annuity": (last * np.cumsum(last), model.lump),
        "square": (last**2, model.lump**2),
        "size": (last, np.abs(model.lump)),
    }
    if model.kernel is not None:
        law = model.kernel.reshape(s * o, t, s)
        return LumpMoments(
            **{
                name: compact(np.einsum("t,rts->rs", weight, law) * worth.reshape(s * o, -1))
                for name, (weight, worth) in weights.items()
            }
        )
    assert model.duration is not None
    duration = model.duration.reshape(s * o, t)
    return LumpMoments(
        **{name: scale_rows(duration @ weight, next_state(model, worth)) for name, (weight, worth) in weights.items()}
    )


def next_state(model: TabularModel, worth: np.ndarray | None = None) -> Matrix:
    """``[S*O, S]`` probability of each next state, times what entering it is worth (``[S, O, 1 or S or W]``)."""
    rows = model.num_states * model.num_options
    law = model.transition if model.transition is not None else model.probability
    assert law is not None
    if worth is not None:
        law = law * worth
    if model.transition is not None:
        return compact(law.reshape(rows, model.num_states))
    assert model.successor is not None
    width = model.successor.shape[2]
    coordinates = (np.repeat(np.arange(rows), width), model.successor.reshape(-1))
    listed = sparse.coo_array((law.reshape(-1), coordinates), shape=(rows, model.num_states))
    listed.sum_duplicates()
    matrix = sparse.csr_array(listed)
    matrix.eliminate_zeros()
    return compact(matrix)
