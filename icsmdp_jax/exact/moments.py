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
BELOW_ONE = float(np.nextafter(1.0, 0.0))
SMALL = 100_000  # entries of a matrix up to which calls cost more than arithmetic
SPARSE_BELOW = 0.2  # share of non-zeros under which compressed rows win on a CPU


def compact(matrix: Matrix) -> Matrix:
    """``matrix`` in compressed rows if it is mostly zeros and large enough to matter, else dense."""
    rows, columns = matrix.shape
    filled = matrix.nnz if sparse.issparse(matrix) else np.count_nonzero(matrix)
    if rows * columns > SMALL and filled < SPARSE_BELOW * rows * columns:
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


def scale_columns(matrix: Matrix, factor: np.ndarray) -> Matrix:
    """``matrix @ diag(factor)`` in the matrix's own form."""
    return sparse.csr_array(matrix @ sparse.diags_array(factor)) if sparse.issparse(matrix) else matrix * factor


def keep_columns(matrix: Matrix, keep: np.ndarray) -> Matrix:
    """``matrix`` with the columns where ``keep`` is False set to zero."""
    return scale_columns(matrix, keep.astype(float))


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
      lumps: moments of what is paid with the last step; None if nothing is.
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
        """Contraction modulus of the Bellman operator: the largest ``gbar(s, o)``, below 1 also when rounded (L1)."""
        return min(float(self.modulus[self.used].max()), BELOW_ONE)

    @cached_property
    def reward_mean(self) -> np.ndarray:
        """``[S, O]`` ``E[R | s, o] = rate (1 - E[gamma^tau]) / (1 - gamma) + E[G]``; 0 where not defined."""
        mean = self.reward_rate * self.annuity
        if self.lumps is not None:
            mean = mean + self._per_pair(self.lumps.mean)
        return np.where(self.used, mean, 0.0)

    @property
    def reward_size(self) -> np.ndarray:
        """``[S, O]`` ``|rate| (1 - E[gamma^tau]) / (1 - gamma) + E|G|``, to which rounding errors are relative."""
        size = np.abs(self.reward_rate) * self.annuity
        if self.lumps is not None:
            size = size + self._per_pair(self.lumps.size)
        return np.where(self.used, size, 0.0)

    @cached_property
    def reward_square(self) -> np.ndarray:
        """``[S, O]`` ``E[R^2 | s, o]``, the noise's variance h^2/3 included."""
        square = self.reward_rate**2 * self.annuity_square + self.reward_noise**2 / 3
        if self.lumps is not None:
            square = square + 2 * self.reward_rate * self._per_pair(self.lumps.with_annuity)
            square = square + self._per_pair(self.lumps.square)
        return np.where(self.used, square, 0.0)

    def _per_pair(self, matrix: Matrix) -> np.ndarray:
        """``[S, O]`` row sums."""
        return np.asarray(matrix.sum(axis=1)).reshape(self.used.shape)

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
        """Bound on the relative rounding error of the moments of K and of ``reward_size``, sums of positive numbers."""
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
    def mass(self) -> np.ndarray:
        """``[S*O]`` sums of the given rows, 1 up to rounding; 1 where the model is not defined."""
        return _positive(self.duration.sum(axis=1))

    def mean(self, weight: np.ndarray) -> np.ndarray:
        """``[S*O]`` expectation of ``weight(tau)``, given as ``[T]``."""
        return (self.duration * weight).sum(axis=1) / self.mass

    def expectation(self, weight: np.ndarray) -> Matrix:
        """``[S*O, S]`` the same by the next state."""
        if self.joint is not None:
            return compact(np.einsum("t,rts->rs", weight, self.joint) / self.mass[:, None])
        return scale_rows(self.mean(weight), self.following)

    def killing(self, gamma: float, terminal: np.ndarray) -> np.ndarray:
        """``[S*O]`` ``E[1 - gamma^tau; s' not terminal] + Pr[s' terminal]``, a sum of positive numbers."""
        powers, lost = gamma ** np.arange(1, self.longest + 1), (1 - gamma) * annuities(gamma, self.longest)
        if self.joint is not None:
            ends = self.joint[:, :, terminal].sum(axis=(1, 2))
            return (self.joint[:, :, ~terminal].sum(axis=2) @ lost + ends) / self.mass
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
    return SegmentLaw(model.duration.reshape(rows, -1), next_state(model))


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
        lumps=_lump_moments(model, law),
    )


def _lump_moments(model: TabularModel, law: SegmentLaw) -> LumpMoments | None:
    """Each moment is an expectation of a function of ``tau`` times one of the lump, by the state entered."""
    if model.lump is None:
        return None
    last = model.gamma ** np.arange(law.longest)  # gamma^(tau-1); its partial sums are the annuities
    weights = {
        "mean": (last, model.lump),
        "discounted": (last**2 * model.gamma, model.lump),
        "with_annuity": (last * annuities(model.gamma, law.longest), model.lump),
        "square": (last**2, model.lump**2),
        "size": (last, np.abs(model.lump)),
    }
    if law.joint is not None:
        rows = len(law.duration)
        return LumpMoments(
            **{
                name: compact(as_dense(law.expectation(weight)) * worth.reshape(rows, -1))
                for name, (weight, worth) in weights.items()
            }
        )
    return LumpMoments(
        **{name: scale_rows(law.mean(weight), next_state(model, worth)) for name, (weight, worth) in weights.items()}
    )


def next_state(model: TabularModel, worth: np.ndarray | None = None) -> Matrix:
    """``[S*O, S]`` probability of each next state, times what entering it is worth (``[S, O, 1 or S or W]``).

    Rows are divided by the sum of their probabilities, as those of ``SegmentLaw`` are.
    """
    rows = model.num_states * model.num_options
    law = model.transition if model.transition is not None else model.probability
    assert law is not None
    law = law / _positive(law.sum(axis=2, keepdims=True))
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
