"""Mixing times of chains too large for matrix powers, enclosed between two bounds (D8).

``rho(t)`` is the largest total variation distance between ``P^t(s, .)`` and ``d``, and ``t_mix(a)`` the first ``t``
with ``rho(t) <= a``.

**From below.** The distance of a single start is at most ``rho(t)``: a few starts are pushed forward for as many steps
as the budget allows. Beyond them an approximate eigenpair speaks: let ``P f = l f + r`` with ``max |f| = 1`` and
``max |r| <= e``. Then ``P^t f = l^t f + sum_{k<t} l^{t-1-k} P^k r``, and
``|P^t f(s) - d.f| <= 2 TV(P^t(s, .), d)``, so at the state where ``|f| = 1``

    2 rho(t) >= |l|^t - e sum_{k<t} |l|^k - |d.f| .

No accuracy of the eigensolver is assumed: ``e`` and ``d.f`` are computed from what it returns.

**From above.** With ``<f, g> = sum_s d(s) f(s) g(s)`` let ``s_m`` be the largest singular value of ``P^m`` on functions
of mean 0, that is of ``D^{1/2} (P^m - 1 d^T) D^{-1/2}``; ``s_m^2`` is the second eigenvalue of the multiplicative
reversibilisation of ``P^m``. The density of a start, ``q(s') = nu(s')/d(s')``, moves by the adjoint of ``P``, whose
powers have the same singular values, so ``||q_t - 1|| <= s_{m_1} ... s_{m_j} ||q_h - 1||`` for
``t = h + m_1 + ... + m_j``. By Cauchy and Schwarz ``TV <= ||q_t - 1|| / 2``, hence

    rho(t) <= (1/2) s_{m_1} ... s_{m_j} x_h,    x_h^2 = max_s sum_{s'} P^h(s, s')^2 / d(s') - 1 ,

with ``x_0^2 = 1/d_min - 1``, and ``x_1`` and ``x_2`` computed from the rows themselves.

**What is random.** ``s_m^2`` is the largest eigenvalue ``L`` of a positive semidefinite matrix, of which ``k`` steps of
Lanczos from a random direction ``b`` give an estimate ``X <= L`` (``largest_eigenvalue``). Suppose ``X < (1 - e) L``;
scale ``L = 1``. ``X`` maximises the Rayleigh quotient over ``q(M) b`` with polynomials ``q`` of degree below ``k``, so
for each of them ``sum_i b_i^2 q(l_i)^2 (l_i - 1 + e) < 0``, hence
``b_1^2 q(1)^2 e < max over [0, 1-e] of q(x)^2 (1 - e - x)``. For the Chebyshev polynomial of degree ``k - 1`` of that
interval the right side is at most ``1 - e``, and ``q(1) >= (1/2) ((1 + sqrt e)/(1 - sqrt e))^{k-1}
>= (1/2) exp(2 sqrt(e) (k-1))``. So ``|b_1| < 2 sqrt((1-e)/e) exp(-2 sqrt(e) (k-1))``. For a direction uniform on the
sphere in ``n`` dimensions ``b_1`` has a density of at most ``sqrt(n / (2 pi))``, and

    Pr[X < (1 - e) L] <= sqrt(2 n / pi) 2 sqrt((1-e)/e) exp(-2 sqrt(e) (k-1)) .

A bound of this kind is that of Kuczynski and Wozniakowski (1992). Arithmetic is taken to be exact here; rounding makes
Lanczos behave like exact Lanczos on a matrix with clusters of eigenvalues close to the true ones (Greenbaum 1989).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import eigvalsh_tridiagonal
from scipy.sparse import linalg as sparse_linalg

from icsmdp_jax.exact.large_chain import Restarted, period
from icsmdp_jax.exact.moments import Matrix

EPS = float(np.finfo(float).eps)
FAILURE = 1e-9  # probability with which the upper ends may be wrong, all of one chain together
CHECKS = 16 * 20  # powers and checkpoints of Lanczos among which that probability is shared
PUSHED, FARTHEST, SIFTED = 8, 2, 16  # starts that are pushed forward; how many of them remain after that many steps
SMOOTHED = 30  # steps of the functions that choose them
PUSH_WORK, PUSH_STEPS = 1e9, 1000  # multiplications and steps spent on pushing them
ARPACK = 8  # restarts of the eigensolver
UPPER_WORK = 3e9  # multiplications spent on singular values
PRODUCT = 2e5  # multiplications that a product takes at least, however small the chain
LARGEST_POWER = 2**14
SQUARE_WORK = 2e8  # stored entries of P^2 up to which its rows are looked at
SMALL = 64  # dimensions up to which the eigenvalue is computed densely
NEGLIGIBLE = 1e-4  # squared singular value below which a better one would save no step
WORTHWHILE = 1.2  # by which doubling the power must raise the rate to be tried again
SLACK = 1e-9  # by which a distance must exceed the accuracy before it counts as larger


class Singular(NamedTuple):
    """Upper bound on a singular value: ``||P^steps f|| <= value ||f||`` for ``f`` of mean 0."""

    steps: int
    value: float


def relative_error(steps: int, dimension: int, failure: float) -> float:
    """Smallest ``e`` for which ``k`` Lanczos steps fall short by more than ``e`` with at most that probability."""

    def log_probability(e: float) -> float:
        return (
            0.5 * math.log(2 * dimension / math.pi)
            + math.log(2)
            + 0.5 * math.log((1 - e) / e)
            - 2 * math.sqrt(e) * (steps - 1)
        )

    low, high = 1e-14, 1 - 1e-12
    if log_probability(high) > math.log(failure):
        return 1.0
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if log_probability(middle) <= math.log(failure) else (middle, high)
    return high


def largest_eigenvalue(
    apply: Callable[[np.ndarray], np.ndarray], start: np.ndarray, failure: float, most: int, close: float = 0.1
) -> tuple[float, float, int]:
    """Largest eigenvalue of a positive semidefinite matrix with eigenvalues at most 1, by Lanczos.

    Args:
      apply: the matrix, from ``[n]`` to ``[n]``, which maps the subspace in question to itself.
      start: ``[n]`` random direction, uniform in that subspace.
      failure: probability that the upper end may be too small.
      most: most steps.
      close: steps end when the upper end ``u`` has ``log(u)`` within this share of the estimate's.

    Returns:
      ``(low, high, steps)``: the estimate, never too large, and the upper end, at most 1.
    """
    dimension = len(start)
    if dimension <= SMALL:
        dense = np.stack([apply(column) for column in np.eye(dimension)], axis=1)
        top = min(1.0, max(0.0, float(np.linalg.eigvalsh((dense + dense.T) / 2)[-1])))
        return top, min(1.0, top + 1e-13), dimension
    vector, before = start / np.linalg.norm(start), np.zeros(dimension)
    diagonal: list[float] = []
    below: list[float] = []
    low, high, check = 0.0, 1.0, 8
    for step in range(1, most + 1):
        image = apply(vector)
        diagonal.append(float(vector @ image))
        image -= diagonal[-1] * vector + (below[-1] * before if below else 0.0)
        image -= (vector @ image) * vector
        norm = float(np.linalg.norm(image))
        invariant = norm <= 1e-15  # nothing is left beyond the directions seen: the estimate is the eigenvalue
        if step == check or step == most or invariant:
            low = min(1.0, max(0.0, _tridiagonal_top(diagonal, below)))
            error = 0.0 if invariant else relative_error(step, dimension, failure)
            high = min(1.0, low / (1 - error) + 1e-13) if error < 1 else 1.0
            enough = high < 1 and math.log(high) <= (1 - close) * math.log(max(low, 1e-300))
            if invariant or enough or high <= NEGLIGIBLE:
                break
            check = 2 * check
        below.append(norm)
        before, vector = vector, image / norm
    return low, high, step


def _tridiagonal_top(diagonal: list[float], below: list[float]) -> float:
    """Largest eigenvalue of a symmetric tridiagonal matrix."""
    last = len(diagonal) - 1
    return float(eigvalsh_tridiagonal(diagonal, below[:last], select="i", select_range=(last, last))[0])


class MixingBounds:
    """Both ends of the mixing times of one chain (D8); see the module's docstring for what is proved.

    Attributes:
      exact: False, unlike that of ``MixingClock``: the two ends differ in general.
      period: of the chain; above 1 there is no mixing.
      singular: upper bounds on singular values of powers.
      failure: probability that some upper end is wrong, over the random directions of the eigensolver.
    """

    exact = False
    failure = FAILURE

    def __init__(self, transition: Matrix, stationary: np.ndarray, seed: int = 0) -> None:
        """Takes ``[n, n]`` rows (compressed or ``Restarted``) and the ``[n]`` law. Work starts with a question."""
        self._chain = transition if isinstance(transition, Restarted) else sparse.csr_array(transition)
        self._law = stationary
        self._seed = seed
        self._known: dict[float, tuple[float, float]] = {}

    def __call__(self, accuracy: float) -> float:
        """Upper end of ``t_mix(accuracy)``: what a bound that grows with the mixing time has to use."""
        return self.bounds(accuracy)[1]

    def bounds(self, accuracy: float) -> tuple[float, float]:
        """``(low, high)`` with ``low <= t_mix(accuracy) <= high``; ``inf`` where nothing is known or there is none."""
        if accuracy not in self._known:
            self._known[accuracy] = self._enclose(accuracy)
        return self._known[accuracy]

    @cached_property
    def period(self) -> int:
        """Greatest common divisor of the lengths of cycles."""
        return period(self._chain)

    def _enclose(self, accuracy: float) -> tuple[float, float]:
        if 1.0 - float(self._law.min()) <= accuracy:
            return 0.0, 0.0  # P^0 is the identity
        if accuracy <= 0 or accuracy < 1 - 1 / self.period - SLACK:
            return math.inf, math.inf  # every start stays within one class, of mass 1/period, at each step
        low = max(1.0, self._low_by_pushing(accuracy))
        if low >= len(self._curve):  # the pushed starts are not there yet: a slow chain, whose eigenvalue stands apart
            low = max(low, self._low_by_eigenpair(accuracy))
        return low, (max(low, self._time(self.singular, accuracy)) if self.period == 1 else math.inf)

    # From below.

    @cached_property
    def _eigenpair(self) -> tuple[float, float, float]:
        """``|l|``, ``max |P f - l f|`` and ``|d.f|`` of an approximate eigenpair other than the constants."""
        count, law, chain = len(self._law), self._law, self._chain

        def apply(f: np.ndarray) -> np.ndarray:
            f = f.reshape(-1)
            return chain @ f - law @ f

        if count <= SMALL:
            dense = chain.toarray() - law[None, :]
            values, vectors = np.linalg.eig(dense)
            best = int(np.abs(values).argmax())
            value, f = complex(values[best]), vectors[:, best].astype(complex)
        else:
            operator = sparse_linalg.LinearOperator((count, count), matvec=apply, dtype=np.float64)
            start = np.random.default_rng([self._seed, 1]).standard_normal(count)
            try:
                values, vectors = sparse_linalg.eigs(operator, k=2, which="LM", v0=start, maxiter=ARPACK, tol=1e-10)
            except sparse_linalg.ArpackNoConvergence as error:
                values, vectors = error.eigenvalues, error.eigenvectors
            if not len(values):
                return 0.0, 0.0, 1.0
            best = int(np.abs(values).argmax())
            value, f = complex(values[best]), vectors[:, best].astype(complex)
        f /= np.abs(f).max()
        image = chain @ f.real + 1j * (chain @ f.imag)
        return abs(value), float(np.abs(image - value * f).max()), float(abs(law @ f))

    def _low_by_eigenpair(self, accuracy: float) -> float:
        modulus, error, mean = self._eigenpair
        longest = np.diff((self._chain.kept if isinstance(self._chain, Restarted) else self._chain).indptr).max()
        error += (int(longest) + 8) * EPS  # of the product behind it, and of the chain's own numbers

        def above(t: int) -> bool:
            grown = error * (t if modulus >= 1 else min(t, 1 / (1 - modulus)))
            return modulus**t - grown - mean > 2 * accuracy + SLACK

        if not above(1):
            return 0.0
        below, beyond = 1, 2
        while above(beyond):
            below, beyond = beyond, 2 * beyond
            if beyond > 2**50:
                return float(below)
        while beyond - below > 1:
            middle = (below + beyond) // 2
            below, beyond = (middle, beyond) if above(middle) else (below, middle)
        return float(below + 1)

    @cached_property
    def _curve(self) -> list[float]:
        """Largest distance among the pushed starts after 0, 1, 2, ... steps."""
        law, chain = self._law, self._chain
        f = np.random.default_rng([self._seed, 1]).standard_normal((len(law), 2))
        for _ in range(SMOOTHED):  # what outlasts smoothing tells the states from which mixing takes longest
            f = chain @ f
            f -= law @ f
            f /= np.maximum(np.abs(f).max(axis=0), 1e-300)
        chosen = [law.argmin(), law.argmax(), *f.argmin(axis=0), *f.argmax(axis=0)]
        spread = np.argsort(law)[:: max(1, len(law) // PUSHED)]
        starts = np.array(list(dict.fromkeys(int(s) for s in [*chosen, *spread]))[:PUSHED])
        state = np.zeros((len(law), len(starts)))
        state[starts, np.arange(len(starts))] = 1.0
        backward = chain.T
        most = min(PUSH_STEPS, 4 + int(PUSH_WORK / (chain.nnz * FARTHEST)))
        curve = [float(1 - law[starts].min())]
        while len(curve) <= most and curve[-1] > 1e-8:
            state = backward @ state
            distance = 0.5 * np.abs(state - law[:, None]).sum(axis=0)
            curve.append(float(distance.max()))
            if len(curve) == SIFTED:
                state = np.ascontiguousarray(state[:, np.argsort(distance)[-FARTHEST:]])
        return curve

    def _low_by_pushing(self, accuracy: float) -> float:
        far = np.flatnonzero(np.array(self._curve) > accuracy + SLACK)
        return float(far[-1] + 1) if len(far) else 0.0

    # From above.

    @cached_property
    def _starts(self) -> list[tuple[int, float]]:
        """``(h, x_h)`` for the numbers of steps whose rows can be looked at."""
        chain, law = self._chain, self._law
        kept, lost, start = (
            (chain.kept, chain.lost, chain.start)
            if isinstance(chain, Restarted)
            else (chain, np.zeros(len(law)), np.zeros(len(law)))
        )
        kept = sparse.csr_array(kept)
        inverse = 1 / law

        def distance(square: np.ndarray) -> float:
            return math.sqrt(max(float(square.max()) - 1, 0.0) * (1 + 1e-9) + 1e-12)

        out = [(0, math.sqrt(float(inverse.max()) - 1))]
        once = kept.power(2) @ inverse + 2 * lost * (kept @ (start * inverse)) + lost**2 * (start**2 @ inverse)
        out.append((1, distance(once)))
        width = np.diff(kept.indptr).astype(float)
        entries = np.bincount(kept.indices, minlength=len(law)) @ width  # of kept^2, at most
        if entries <= SQUARE_WORK:
            # P^2 = kept^2 + first start^T + lost second^T, and only the square of kept has to be formed, by blocks.
            first, second = kept @ lost + lost * (start @ lost), kept.T @ start
            twice = np.empty(len(law))
            block = max(1, int(2e6 * len(law) // max(1, entries)))
            for begin in range(0, len(law), block):
                rows = slice(begin, begin + block)
                twice[rows] = (kept[rows] @ kept).power(2) @ inverse
            for factor, into in ((first, start), (lost, second)):
                twice += 2 * factor * (kept @ (kept @ (into * inverse))) + factor**2 * (into**2 @ inverse)
            twice += 2 * first * lost * ((start * second) @ inverse)
            out.append((2, distance(twice)))
        return out

    @cached_property
    def singular(self) -> list[Singular]:
        """Upper bounds on ``s_m`` for ``m = 1, 2, 4, ...``, as far as they help and the budget lasts."""
        law, chain, backward = self._law, self._chain, self._chain.T
        root = np.sqrt(law)
        budget = int(UPPER_WORK / max(chain.nnz, PRODUCT))
        failure = FAILURE / CHECKS
        out: list[Singular] = []
        power, usual = 1, 0
        while power <= LARGEST_POWER and budget >= 2 * power * max(16, usual // 2):

            def apply(x: np.ndarray, power: int = power) -> np.ndarray:
                f = x / root
                for _ in range(power):
                    f = chain @ f
                f -= law @ f
                f *= law
                for _ in range(power):
                    f = backward @ f
                f = f / root
                return f - (root @ f) * root

            start = np.random.default_rng([self._seed, 2, power]).standard_normal(len(law))
            start -= (root @ start) * root
            _, high, usual = largest_eigenvalue(apply, start, failure, max(16, budget // (2 * power)))
            budget -= 2 * power * usual
            out.append(Singular(power, math.sqrt(high)))
            if high <= NEGLIGIBLE:
                break
            rates = [-math.log(s.value) / s.steps for s in out[-2:]]
            if len(out) > 1 and high < 0.5 and rates[1] <= WORTHWHILE * rates[0]:
                break
            power *= 2
        return out

    def _time(self, singular: list[Singular], accuracy: float) -> float:
        """Smallest ``t = h + j m + i m'`` that the singular values prove to be enough."""
        useful = [(s.steps, -math.log(s.value)) for s in singular if s.value < 1]
        best = math.inf
        for ahead, distance in self._starts:
            needed = math.log(max(distance / (2 * accuracy), 1e-300))
            if needed <= 0:
                best = min(best, float(ahead))
            for steps, gain in useful if needed > 0 else ():
                full = math.ceil(needed / gain)
                best = min(best, ahead + full * steps)
                rest = needed - (full - 1) * gain
                best = min([best, *(ahead + (full - 1) * steps + math.ceil(rest / g) * s for s, g in useful)])
        return float(best)
