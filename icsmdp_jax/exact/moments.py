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

from icsmdp_jax.models.tabular import TabularModel, annuities

Matrix = Any  # np.ndarray or scipy.sparse.csr_array
ROUNDINGS = 48  # of a power, of a sum of very many numbers as NumPy takes it pairwise, and of a few products
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
    """Moments of ``K(tau, s' | s, o)``, all float64, each a sum of positive numbers: none loses digits as gamma nears
    1.

    Attributes:
      probability: ``[S*O, S]`` sum over tau of K: where the segment ends.
      discounted_all: ``[S*O, S]`` sum over tau of gamma^tau K, terminal states included.
      discounted_square_all: ``[S*O, S]`` sum over tau of gamma^(2 tau) K, terminal states included.
      annuity: ``[S, O]`` ``E[(1 - gamma^tau) / (1 - gamma)]``, so that ``E[R | s, o] = rate * annuity``.
      annuity_square: ``[S, O]`` ``E[((1 - gamma^tau) / (1 - gamma))^2]``.
      killing: ``[S, O]`` ``1 - gbar(s, o) = E[1 - gamma^tau; s' not terminal] + Pr[s' terminal]``; 1 where not defined.
      gamma: discount per primitive step.
      reward_rate: ``[S, O]``.
      reward_noise: half-width of the uniform noise on R.
      used: ``[S, O]`` bool, pairs at which the model is defined (state decides, option available).
      terminal: ``[S]`` bool.
      law: the law K itself.
    """

    probability: Matrix
    discounted_all: Matrix
    discounted_square_all: Matrix
    annuity: np.ndarray
    annuity_square: np.ndarray
    killing: np.ndarray
    gamma: float
    reward_rate: np.ndarray
    reward_noise: float
    used: np.ndarray
    terminal: np.ndarray
    law: SegmentLaw

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
        return np.where(self.used, self.reward_rate * self.annuity, 0.0)

    @cached_property
    def reward_square(self) -> np.ndarray:
        """``[S, O]`` ``E[R^2 | s, o]``, the noise's variance h^2/3 included."""
        return np.where(self.used, self.reward_rate**2 * self.annuity_square + self.reward_noise**2 / 3, 0.0)

    @cached_property
    def annuity_kernel(self) -> Matrix:
        """``[S*O, S]`` sum over tau of ``(1 - gamma^tau) / (1 - gamma)`` K, terminal states included."""
        return self.law.expectation(annuities(self.gamma, self.law.longest))

    @cached_property
    def annuity_discounted(self) -> Matrix:
        """``[S*O, S]`` sum over tau of ``gamma^tau (1 - gamma^tau) / (1 - gamma)`` K, terminal states included."""
        longest = self.law.longest
        return self.law.expectation(annuities(self.gamma, longest) * self.gamma ** np.arange(1, longest + 1))

    @property
    def relative_error(self) -> float:
        """Bound on the relative rounding error of every moment of K: sums of what is not negative."""
        width = ROUNDINGS
        if sparse.issparse(self.probability):
            width += int(np.diff(self.probability.indptr).max())
        elif self.law.joint is not None:
            width += self.law.longest
        return width * float(np.finfo(float).eps)


@dataclasses.dataclass(frozen=True)
class SegmentLaw:
    """``K(tau, s' | s, o)``: joint, or as a product where the two are independent.

    Model files may hold rows that sum to 1 up to rounding only. Here every expectation is divided by the row's sum,
    taken in the same way, so that a weight of 1 has expectation 1.

    Attributes:
      duration: ``[S*O, T]`` pmf of ``tau``; zeros where the model is not defined.
      following: ``[S*O, S]`` law of the next state, dense or compressed; None where the law is joint.
      joint: ``[S*O, T, S]``; None where they are independent.
    """

    duration: np.ndarray
    following: Matrix | None = None
    joint: np.ndarray | None = None

    @property
    def longest(self) -> int:
        """``T`` in primitive steps."""
        return self.duration.shape[1]

    @cached_property
    def _mass(self) -> np.ndarray:
        return _positive(self.duration.sum(axis=1))

    def mean(self, weight: np.ndarray) -> np.ndarray:
        """``[S*O]`` expectation of ``weight(tau)``, given as ``[T]``."""
        return (self.duration * weight).sum(axis=1) / self._mass

    def expectation(self, weight: np.ndarray) -> Matrix:
        """``[S*O, S]`` the same by the next state."""
        if self.joint is not None:
            return compact(np.einsum("t,rts->rs", weight, self.joint) / self._mass[:, None])
        return scale_rows(self.mean(weight), self.following)

    def killing(self, gamma: float, terminal: np.ndarray) -> np.ndarray:
        """``[S*O]`` ``E[1 - gamma^tau; s' not terminal] + Pr[s' terminal]``, a sum of positive numbers."""
        powers, lost = gamma ** np.arange(1, self.longest + 1), (1 - gamma) * annuities(gamma, self.longest)
        if self.joint is not None:
            ends = self.joint[:, :, terminal].sum(axis=(1, 2))
            return (self.joint[:, :, ~terminal].sum(axis=2) @ lost + ends) / self._mass
        return self.mean(lost) + self.mean(powers) * np.asarray(self.following @ terminal.astype(float))


def _positive(mass: np.ndarray) -> np.ndarray:
    return np.where(mass > 0, mass, 1.0)


def segment_law(model: TabularModel) -> SegmentLaw:
    """The law of a model in whichever of the two forms it is given."""
    rows = model.num_states * model.num_options
    if model.kernel is not None:
        joint = model.kernel.reshape(rows, -1, model.num_states)
        return SegmentLaw(joint.sum(axis=2), joint=joint)
    assert model.duration is not None
    following = _next_state(model)
    mass = _positive(np.asarray(following.sum(axis=1)).reshape(-1))
    return SegmentLaw(model.duration.reshape(rows, -1), scale_rows(1 / mass, following))


def kernel_moments(model: TabularModel) -> KernelMoments:
    """Computes the moments of a model's option kernel exactly, from whichever form it is given in (D2)."""
    law, terminal = segment_law(model), model.is_terminal
    used = ~terminal[:, None] & model.option_mask[model.interface]
    powers, annuity = model.gamma ** np.arange(1, law.longest + 1), annuities(model.gamma, law.longest)
    return KernelMoments(
        probability=law.expectation(np.ones(law.longest)),
        discounted_all=law.expectation(powers),
        discounted_square_all=law.expectation(powers**2),
        annuity=law.mean(annuity).reshape(used.shape),
        annuity_square=law.mean(annuity**2).reshape(used.shape),
        killing=np.where(used, law.killing(model.gamma, terminal).reshape(used.shape), 1.0),
        gamma=model.gamma,
        reward_rate=model.reward_rate,
        reward_noise=model.reward_noise,
        used=used,
        terminal=terminal,
        law=law,
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
