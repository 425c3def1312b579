"""Roots of mean squares with their intervals, and slopes in log-log coordinates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from bound_validation.results import NAN


def root_interval(squares: np.ndarray) -> tuple[float, float, float]:
    """Root mean square with a 95 % t-interval for the mean square; NaN ends for one replica.

    Args:
      squares: ``[replicas]`` squared errors.

    Returns:
      ``(value, low, high)``.
    """
    count = len(squares)
    if count == 1:
        return float(np.sqrt(squares[0])), NAN, NAN
    mean = float(np.mean(squares))
    half = float(stats.t.ppf(0.975, count - 1)) * float(np.std(squares, ddof=1)) / np.sqrt(count)
    return float(np.sqrt(mean)), float(np.sqrt(max(mean - half, 0.0))), float(np.sqrt(mean + half))


def spread_interval(squares: np.ndarray, deviations: np.ndarray) -> tuple[float, float, float]:
    """Root of the total variance over replicas with its 95 % interval by Satterthwaite's chi-square.

    The total variance of Gaussian vectors is a weighted sum of chi-squares with n = replicas - 1 degrees of freedom
    each. One chi-square with the same mean and variance has ``n (tr S)^2 / tr S^2`` degrees; ``tr S^2`` is estimated
    without bias from the inner products of all pairs of replicas. In a chain that mixes slowly one direction dominates,
    and a t-interval of the squared deviations covers too little.

    Args:
      squares: ``[replicas]`` squared distances from the replicas' mean.
      deviations: ``[replicas, n]`` the deviations behind them, scaled so that their squares add up to ``squares``.

    Returns:
      ``(value, low, high)``, all NaN for a single replica.
    """
    count, coordinates = deviations.shape
    if count == 1:
        return NAN, NAN, NAN
    free = count - 1
    products = deviations @ deviations.T
    total = float(np.mean(squares)) * (count / free)
    if total == 0:
        return 0.0, 0.0, 0.0
    raw = float((products**2).sum()) / free**2 - total**2 / free
    second = raw * free**2 / ((free - 1) * (free + 2)) if free > 1 else total**2
    degrees = free * float(np.clip(total**2 / second, 1.0, coordinates)) if second > 0 else free * coordinates
    low, high = (total * degrees / float(stats.chi2.ppf(level, degrees)) for level in (0.975, 0.025))
    return float(np.sqrt(total)), float(np.sqrt(low)), float(np.sqrt(high))


def judged(value: float, ci_low: float, ci_high: float, low: float, high: float) -> bool | None:
    """Whether a value lies in ``[low, high]``: True if its whole interval does, False if none of it, None if part.

    Args:
      value: the value, by which it is judged if an end of the interval is not known.
      ci_low: lower end of its interval.
      ci_high: upper end.
      low: lower end of the admitted range.
      high: upper end.
    """
    if math.isnan(value):
        return False
    first, last = (ci_low, ci_high) if math.isfinite(ci_low) and math.isfinite(ci_high) else (value, value)
    if low <= first and last <= high:
        return True
    return False if last < low or first > high else None


@dataclasses.dataclass(frozen=True)
class Slope:
    """A fitted slope in log-log coordinates.

    Attributes:
      slope: least-squares slope.
      ci_low: lower end of the 95 % interval.
      ci_high: upper end.
      intercept: log10 of the fit at abscissa 1.
      target: slope that the theory names, or None.
      target_low: lower end of the admitted range, or None.
      target_high: upper end, or None.
    """

    slope: float
    ci_low: float
    ci_high: float
    intercept: float
    target: float | None = None
    target_low: float | None = None
    target_high: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the slope is in the admitted range, by its interval; None without a range or if that cannot tell."""
        if self.target_low is None or self.target_high is None:
            return None
        return judged(self.slope, self.ci_low, self.ci_high, self.target_low, self.target_high)

    @property
    def undecided(self) -> bool:
        """Whether there is an admitted range and the interval lies partly inside it."""
        return self.target_low is not None and self.target_high is not None and self.passed is None


def fitted_slope(x: np.ndarray, y: np.ndarray, draws: np.ndarray | None = None, **target: float) -> Slope:
    """Slope of ``log y`` against ``log x``.

    Args:
      x: ``[n]`` abscissae.
      y: ``[n]`` values.
      draws: ``[resamples, n]`` values recomputed on resampled replicas, whose slopes give a percentile interval;
        without them the interval is that of least squares.
      **target: ``target``, ``target_low`` and ``target_high`` of ``Slope``.

    Returns:
      The fit.
    """
    if not (np.asarray(y) > 0).all():
        return Slope(NAN, NAN, NAN, NAN, **target)
    fit = stats.linregress(np.log10(x), np.log10(y))
    if draws is None:
        half = float(stats.t.ppf(0.975, len(x) - 2)) * float(fit.stderr) if len(x) > 2 else float("nan")
        low, high = fit.slope - half, fit.slope + half
    else:
        centred = np.log10(x) - np.log10(x).mean()
        slopes = (np.log10(np.maximum(draws, np.finfo(float).tiny)) @ centred) / (centred @ centred)
        low, high = np.percentile(slopes, [2.5, 97.5])
    return Slope(float(fit.slope), float(low), float(high), float(fit.intercept), **target)


def resampled_spreads(tables: Sequence[np.ndarray], weight: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Spreads recomputed on resampled replicas, the same resample at every checkpoint of one run.

    Args:
      tables: for each checkpoint ``[replicas, Z, O]``.
      weight: ``[Z, O]`` weights of the norm.
      resamples: number of bootstrap resamples.
      seed: seed of the resampling.

    Returns:
      ``[resamples, checkpoints]``.
    """
    count = len(tables[0])
    picks = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    out = np.empty((resamples, len(tables)))
    for column, table in enumerate(tables):
        flat = (np.asarray(table) * np.sqrt(weight)).reshape(count, -1)
        gram = (flat - flat.mean(axis=0)) @ (flat - flat.mean(axis=0)).T
        total = picks @ np.diag(gram)
        mean = np.einsum("rb,bc,rc->r", picks, gram, picks) / count
        out[:, column] = np.sqrt(np.maximum(total - mean, 0.0) / (count - 1))
    return out


def resampled_roots(squares: Sequence[np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """Root mean squares recomputed on resampled draws: ``[resamples, n]`` from n arrays of squared errors.

    NaN where there is one draw only: every resample would repeat it, and an interval from them would claim no noise.
    """
    if any(len(s) == 1 for s in squares):
        return np.full((resamples, len(squares)), NAN)
    rng = np.random.default_rng(seed)
    columns = [np.sqrt(rng.choice(s, size=(resamples, len(s))).mean(axis=1)) for s in map(np.asarray, squares)]
    return np.stack(columns, axis=1)
