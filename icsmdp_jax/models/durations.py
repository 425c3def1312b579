"""Laws of the duration of an option: bounded pmfs on ``1..T`` with exact discounts ``E[gamma^tau]`` (D2).

Every law is a finite pmf, so that its moments are sums and its discount under any ``gamma`` is exact. Laws
with unbounded support are cut at ``longest`` and renormalised; ``tail_mass`` is the probability that was cut off.
Durations are counted in primitive steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from icsmdp_jax.models.tabular import annuities

PASCAL_SHAPE = 2.0  # successes of the negative binomial family of ``with_mean``
DRAFT_REVIEW = np.array([[0.0, 0.5], [0.25, 0.0]])  # routing of its phase-type family, one move per visit
SLOWEST = 1e-9  # smallest success probability or speed that ``with_mean`` considers


@dataclasses.dataclass(frozen=True, eq=False)
class DurationLaw:
    """Law of ``tau`` on ``1..T`` (D2).

    Attributes:
      name: readable name of the family.
      pmf: ``[T]`` float64; entry ``t`` is the probability of ``tau = t + 1``. Renormalised, read-only.
      tail_mass: probability that the law before truncation put beyond ``T``; 0 for laws of bounded support.

    Raises:
      ValueError: if the pmf is not a one-dimensional array of probabilities that sums to 1 within 1e-6.
    """

    name: str
    pmf: np.ndarray
    tail_mass: float = 0.0

    def __post_init__(self) -> None:
        pmf = np.array(self.pmf, np.float64)
        if pmf.ndim != 1 or pmf.size == 0:
            raise ValueError(f"duration law {self.name}: expected a pmf of shape [T], found shape {list(pmf.shape)}")
        wrong = ~(np.isfinite(pmf) & (pmf >= 0))
        if wrong.any():
            t = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"duration law {self.name}: pmf[{t}] = {pmf[t]}, expected a probability")
        if abs(pmf.sum() - 1) > 1e-6:
            raise ValueError(f"duration law {self.name}: the pmf sums to {pmf.sum():.9g}, expected 1")
        pmf /= pmf.sum()
        pmf.flags.writeable = False
        object.__setattr__(self, "pmf", pmf)

    @property
    def longest(self) -> int:
        """``T``, the largest duration that the pmf describes, in primitive steps."""
        return len(self.pmf)

    def mean(self) -> float:
        """``E[tau]`` in primitive steps."""
        return float(self.pmf @ np.arange(1, self.longest + 1))

    def variance(self) -> float:
        """``Var[tau]`` in squared primitive steps."""
        return float(self.pmf @ (np.arange(1, self.longest + 1) - self.mean()) ** 2)

    def discount(self, gamma: float) -> float:
        """``E[gamma^tau]``: the modulus of an option with this law that never ends the episode (D2, L1)."""
        return float(self.pmf @ gamma ** np.arange(1, self.longest + 1))

    def annuity(self, gamma: float) -> float:
        """``(1 - E[gamma^tau]) / (1 - gamma)``: discounted steps, so that ``E[R] = rate * annuity`` (D2)."""
        return float(self.pmf @ annuities(gamma, self.longest))

    def horizon(self, gamma: float) -> float:
        """``1 / (1 - E[gamma^tau])``: effective number of options that a value looks ahead (L1)."""
        return 1 / ((1 - gamma) * self.annuity(gamma))

    def padded(self, longest: int) -> DurationLaw:
        """The same law with a pmf of length ``longest``.

        Raises:
          ValueError: if that would cut off mass.
        """
        needed = int(np.flatnonzero(self.pmf)[-1]) + 1
        if longest < needed:
            raise ValueError(f"duration law {self.name}: longest = {longest}, expected {needed} or more")
        pmf = np.zeros(longest)
        pmf[: min(longest, self.longest)] = self.pmf[:longest]
        return DurationLaw(self.name, pmf, self.tail_mass)


def _normalised(name: str, weight: np.ndarray, tail_mass: float) -> DurationLaw:
    return DurationLaw(name, weight / weight.sum(), float(tail_mass))


def _steps(name: str, value: int, least: int = 1) -> int:
    if int(value) != value or value < least:
        raise ValueError(f"{name} = {value}: expected a whole number of primitive steps, {least} or more")
    return int(value)


def _success(p: float) -> float:
    if not 0 < p <= 1:
        raise ValueError(f"success probability = {p}: expected a number in (0, 1]")
    return float(p)


def deterministic(tau: int, longest: int | None = None) -> DurationLaw:
    """Always ``tau`` steps; ``E[gamma^tau] = gamma^tau``. The pmf is padded to ``longest`` if it is given."""
    tau = _steps("tau", tau)
    law = DurationLaw("deterministic", np.eye(tau)[-1])
    return law if longest is None else law.padded(longest)


def uniform(low: int, high: int, longest: int | None = None) -> DurationLaw:
    """Equally likely on ``low..high``, both included."""
    low = _steps("low", low)
    high = _steps("high", high, low)
    steps = np.arange(1, high + 1)
    law = _normalised("uniform", (steps >= low).astype(float), 0.0)
    return law if longest is None else law.padded(longest)


def geometric(success: float, longest: int) -> DurationLaw:
    """Number of trials up to the first success, cut at ``longest``.

    Before truncation ``E[gamma^tau] = p gamma / (1 - (1 - p) gamma)`` with ``p = success``.
    """
    p, longest = _success(success), _steps("longest", longest)
    return _normalised("geometric", p * (1 - p) ** np.arange(longest), (1 - p) ** longest)


def negative_binomial(successes: float, success: float, longest: int) -> DurationLaw:
    """One step plus the failures before success number ``successes`` (any positive real), cut at ``longest``.

    Before truncation ``E[gamma^tau] = gamma (p / (1 - (1 - p) gamma))^r``; ``r = 1`` is the geometric law.
    """
    p, longest = _success(success), _steps("longest", longest)
    if not successes > 0:
        raise ValueError(f"successes = {successes}: expected a positive number")
    failures = np.arange(longest)
    choose = special.gammaln(failures + successes) - special.gammaln(failures + 1) - special.gammaln(successes)
    weight = np.exp(choose + successes * math.log(p) + special.xlog1py(failures, -p))
    return _normalised("negative_binomial", weight, special.betainc(longest, successes, 1 - p) if p < 1 else 0.0)


def truncated_power_law(exponent: float, longest: int) -> DurationLaw:
    """Probability proportional to ``tau^-exponent`` on ``1..longest``: a heavy tail, cut.

    For an exponent of at most 1 no law on all of ``1, 2, ...`` exists, and ``tail_mass`` is 1.
    """
    longest = _steps("longest", longest)
    if not (exponent >= 0 and math.isfinite(exponent)):
        raise ValueError(f"exponent = {exponent}: expected a finite number, 0 or more")
    weight = np.arange(1, longest + 1) ** -float(exponent)
    tail = special.zeta(exponent, longest + 1) / special.zeta(exponent, 1) if exponent > 1 else 1.0
    return _normalised("truncated_power_law", weight, tail)


def phase_type(initial: Sequence[float] | np.ndarray, moves: np.ndarray, longest: int) -> DurationLaw:
    """Steps until a Markov chain on transient phases is absorbed, cut at ``longest``.

    Before truncation ``E[gamma^tau] = alpha gamma (I - gamma T)^-1 t`` with ``t = (I - T) 1``.

    Args:
      initial: ``[n]`` law ``alpha`` of the first phase.
      moves: ``[n, n]`` sub-stochastic transition matrix ``T`` among the phases.
      longest: largest duration kept.

    Raises:
      ValueError: if ``initial`` is not a law, or ``moves`` is not sub-stochastic with a way out of every phase.
    """
    longest = _steps("longest", longest)
    law, matrix = np.asarray(initial, np.float64), np.asarray(moves, np.float64)
    if law.ndim != 1 or matrix.shape != (law.size, law.size):
        raise ValueError(f"moves: expected shape {[law.size] * 2}, found {list(matrix.shape)}")
    if (law < 0).any() or abs(law.sum() - 1) > 1e-9:
        raise ValueError(f"initial: expected probabilities that sum to 1, found a sum of {law.sum():.9g}")
    leaves = 1 - matrix.sum(axis=1)
    if (matrix < 0).any() or (leaves < -1e-9).any() or np.abs(np.linalg.eigvals(matrix)).max() >= 1:
        raise ValueError("moves: expected a sub-stochastic matrix with a way out of every phase")
    pmf = np.empty(longest)
    for t in range(longest):
        pmf[t] = law @ leaves
        law = law @ matrix
    return _normalised("phase_type", np.maximum(pmf, 0.0), law.sum())


def _with_root(build: Callable[[float], DurationLaw], short: float, long: float, mean: float) -> DurationLaw:
    """The member of mean ``mean`` of a family whose mean is monotone between ``short`` and ``long``."""
    least, most = build(short), build(long)
    if abs(mean - least.mean()) <= 1e-12 * mean:
        return least
    if not least.mean() < mean < most.mean():
        raise ValueError(
            f"duration mean = {mean:g}: expected between {least.mean():.6g} and {most.mean():.6g} "
            f"for the {least.name} law with longest = {least.longest}"
        )
    root = optimize.brentq(lambda x: build(x).mean() - mean, *sorted((short, long)), xtol=1e-300, rtol=1e-15)
    return build(root)


def _two_members(build: Callable[[int], DurationLaw], least: int, share: float, longest: int) -> DurationLaw:
    """``1 - share`` of member ``least`` and ``share`` of the next one, as a law on ``1..longest``."""
    lower = build(least)
    pmf = (1 - share) * lower.padded(longest).pmf
    if share > 0:
        pmf = pmf + share * build(least + 1).padded(longest).pmf
    return DurationLaw(lower.name, pmf)


def _deterministic_family(mean: float, longest: int) -> DurationLaw:
    """All mass on ``mean``, or on the two neighbouring whole numbers if it is not whole."""
    return _two_members(deterministic, math.floor(mean), mean - math.floor(mean), longest)


def _uniform_family(mean: float, longest: int) -> DurationLaw:
    """Uniform on ``1..2 mean - 1``, or a mixture of two neighbours if that is not whole."""
    high = math.floor(2 * mean - 1)
    return _two_members(lambda n: uniform(1, n), high, 2 * mean - 1 - high, longest)


def _geometric_family(mean: float, longest: int) -> DurationLaw:
    return _with_root(lambda p: geometric(p, longest), 1.0, SLOWEST, mean)


def _negative_binomial_family(mean: float, longest: int) -> DurationLaw:
    return _with_root(lambda p: negative_binomial(PASCAL_SHAPE, p, longest), 1.0, SLOWEST, mean)


def _power_law_family(mean: float, longest: int) -> DurationLaw:
    return _with_root(lambda exponent: truncated_power_law(exponent, longest), 200.0, 0.0, mean)


def _phase_type_family(mean: float, longest: int) -> DurationLaw:
    """Two phases, work and review, which may send each other back; their common speed sets the mean."""

    def at(speed: float) -> DurationLaw:
        return phase_type([1.0, 0.0], (1 - speed) * np.eye(2) + speed * DRAFT_REVIEW, longest)

    return _with_root(at, 1.0, SLOWEST, mean)


LAWS: dict[str, Callable[[float, int], DurationLaw]] = {
    "deterministic": _deterministic_family,
    "uniform": _uniform_family,
    "geometric": _geometric_family,
    "negative_binomial": _negative_binomial_family,
    "truncated_power_law": _power_law_family,
    "phase_type": _phase_type_family,
}


@lru_cache(maxsize=4096)
def with_mean(name: str, mean: float, longest: int) -> DurationLaw:
    """The member of a family whose mean, after truncation at ``longest``, is exactly ``mean``.

    Args:
      name: a key of ``LAWS``.
      mean: mean duration in primitive steps, 1 or more.
      longest: length ``T`` of the pmf.

    Returns:
      A ``DurationLaw`` with ``T = longest`` and the mean to about 1e-12.

    Raises:
      ValueError: if the name is unknown or no member of the family has that mean.
    """
    if name not in LAWS:
        raise ValueError(f"duration law {name!r}: expected one of {', '.join(sorted(LAWS))}")
    longest = _steps("longest", longest)
    if not 1 <= mean <= longest:
        raise ValueError(f"duration mean = {mean:g}: expected between 1 and longest = {longest}")
    return LAWS[name](float(mean), longest)
