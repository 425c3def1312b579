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
    """

    probability: Matrix
    discounted_all: Matrix
    discounted_square_all: Matrix
    gamma: float
    reward_rate: np.ndarray
    reward_noise: float
    used: np.ndarray
    terminal: np.ndarray

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
        """``[S, O]`` ``E[R | s, o] = rate (1 - E[gamma^tau]) / (1 - gamma)``; 0 where not defined."""
        return np.where(self.used, self.reward_rate * (1 - self.expected_discount) / (1 - self.gamma), 0.0)

    @cached_property
    def reward_square(self) -> np.ndarray:
        """``[S, O]`` ``E[R^2 | s, o]``, the noise's variance h^2/3 included."""
        second = np.asarray(self.discounted_square_all.sum(axis=1)).reshape(self.used.shape)
        factor = (1 - 2 * self.expected_discount + second) / (1 - self.gamma) ** 2
        return np.where(self.used, self.reward_rate**2 * factor + self.reward_noise**2 / 3, 0.0)


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
        probability = _next_state(model)
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
    )


def _next_state(model: TabularModel) -> Matrix:
    rows = model.num_states * model.num_options
    if model.transition is not None:
        return compact(model.transition.reshape(rows, model.num_states))
    assert model.successor is not None and model.probability is not None
    width = model.successor.shape[2]
    coordinates = (np.repeat(np.arange(rows), width), model.successor.reshape(-1))
    listed = sparse.coo_array((model.probability.reshape(-1), coordinates), shape=(rows, model.num_states))
    listed.sum_duplicates()
    matrix = sparse.csr_array(listed)
    matrix.eliminate_zeros()
    return compact(matrix)
