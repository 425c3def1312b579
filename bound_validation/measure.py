"""What all axes share: targets of learning, IC-Q runs under the theorems' schedules, and intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np
from scipy import stats

from bound_validation import theorem
from bound_validation.results import NAN
from icsmdp_jax.exact.asymptotics import CentralLimit, central_limit
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.fixed_point import (
    FeatureBasis,
    ProjectedSolution,
    Projection,
    projected_fixed_point,
    projection,
)
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.experiment import (
    default_linear_step,
    default_tabular_step,
    model_inputs,
    stationary_env,
    tables_of,
)
from icsmdp_jax.learner.icq import Learner
from icsmdp_jax.learner.schedules import StepSize, constant, theorem_decaying
from icsmdp_jax.learner.train import Run, train

Progress = Callable[[int], None]
RADIUS_MARGIN = 1.25  # the balls' radius over the largest block of theta*; any value of 1 or more is admissible


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """A model with a function class: where IC-Q converges, and every constant of its convergence.

    Attributes:
      known: the analysed model.
      basis: whitened features, or None for the tabular class.
    """

    known: Analysis
    basis: FeatureBasis | None = None

    @cached_property
    def operator(self) -> Projection:
        """The projection on the class."""
        return projection(self.known.interface, self.basis)

    @cached_property
    def q_phi(self) -> np.ndarray:
        """``[Z, O]`` ``Q_phi``, 0 outside the mask."""
        return np.where(self.known.interface.mask, self.known.q_phi.q, 0.0)

    @cached_property
    def fixed(self) -> ProjectedSolution:
        """``Q_m`` and its coefficients; for tables it is ``Q_phi``."""
        if self.basis is None:
            theta = self.q_phi[self.known.interface.mask]
            return ProjectedSolution(self.q_phi, theta, 0.0, True, 0)
        return projected_fixed_point(self.known.interface, self.operator, self.q_phi)

    @cached_property
    def limit(self) -> CentralLimit:
        """The central limit of the tail average (P2)."""
        if self.basis is None:
            return self.known.limit
        return central_limit(self.known.interface, self.operator, self.fixed.q)

    @cached_property
    def radius(self) -> float:
        """Radius of the ball on which each (agent, option) block is projected."""
        if self.basis is None:
            norms = np.abs(self.q_phi)
        else:
            blocks = self.basis.unpack(self.fixed.theta, self.known.interface.mask)
            norms = np.sqrt((blocks**2).sum(axis=-1))
        return RADIUS_MARGIN * float(norms.max())

    @cached_property
    def values(self) -> networks.ValueClass:
        """The function class of the learner."""
        model = self.known.interface.model
        if self.basis is None:
            return networks.tabular(model.num_interfaces, model.num_options)
        return networks.linear(model.num_agents, model.num_options)

    @cached_property
    def data(self) -> np.ndarray | None:
        """``[Z, p]`` float32 feature table, or None."""
        return None if self.basis is None else self.basis.table.astype(np.float32)

    def residual_bound(self, samples: int, decaying: bool = False) -> float:
        """Root of T3 (constant step) or T3.1 (decaying) for a stationary start from 0; NaN if A6 is not certified."""
        if not self.known.a6_certified:
            return float("nan")
        kappa, omega, clock = self.known.kappa, self.operator.omega, self.known.clock
        gradient = theorem.gradient_bound(self.known.reward_max, self.radius)
        if gradient == 0:  # no reward at all: every iterate is 0, and so is the residual
            return 0.0
        if decaying:
            mixing = clock(theorem.decaying_step(samples, omega, kappa))
            square = theorem.residual_bound_decaying_step(gradient, mixing, kappa, omega, samples)
        else:
            mixing = clock(theorem.constant_step(samples))
            distance = float(np.linalg.norm(self.fixed.theta))
            square = theorem.residual_bound_constant_step(distance, gradient, mixing, kappa, samples)
        return float(theorem.residual_rms(square))

    def constants(self) -> dict[str, Any]:
        """Constants of this target for the table."""
        known = self.known
        return {
            "certified": known.a6_certified,
            "gamma": known.interface.moments.gamma,
            "gamma_bar": known.interface.gamma_bar,
            "kappa": known.kappa,
            "epsilon": known.ais.epsilon,
            "delta": known.ais.delta,
            "value_norm": known.gap.value_norm,
            "omega": self.operator.omega,
            "mixing_time": known.clock(0.25),
            "clt_coefficient": self.limit.coefficient,
            "clt_coefficient_iid": self.limit.coefficient_iid,
            "reward_max": known.reward_max,
            "radius": self.radius,
            "action_gap": self.limit.action_gap,
            "q_norm": known.interface.norm(self.q_phi),
        }

    def tables(self, params: Any) -> np.ndarray:
        """``[replicas, Z, O]`` value tables of one lane's parameters."""
        return tables_of(self.values, params, self.data, self.known.interface)


def limit_run(
    targets: Sequence[Target],
    key: jax.Array,
    replicas: int,
    checkpoints: Sequence[int],
    chunk: int,
    progress: Progress | None,
) -> Run:
    """Runs IC-Q with the default decaying steps on each target, one lane each, for tail averages (P2)."""

    def step(target: Target) -> StepSize:
        gamma_bar = target.known.interface.gamma_bar
        if target.basis is None:
            return default_tabular_step(gamma_bar)
        return default_linear_step(target.basis, target.known.interface, gamma_bar)

    return _run([(t, step(t)) for t in targets], "visits", False, key, replicas, checkpoints, chunk, progress)


def theorem_run(
    lanes: Sequence[tuple[Target, int | None]],
    key: jax.Array,
    replicas: int,
    checkpoints: Sequence[int],
    chunk: int,
    progress: Progress | None,
) -> Run:
    """Runs IC-Q exactly as T3 (a lane with its number K of samples) or T3.1 (None) ask: projected, shared clock."""
    settings = []
    for target, samples in lanes:
        if samples is None:
            step = theorem_decaying(target.operator.omega, target.known.kappa)
        else:
            step = constant(theorem.constant_step(samples))
        settings.append((target, step))
    return _run(settings, "epoch", True, key, replicas, checkpoints, chunk, progress)


def _run(
    lanes: Sequence[tuple[Target, StepSize]],
    clock: str,
    project: bool,
    key: jax.Array,
    replicas: int,
    checkpoints: Sequence[int],
    chunk: int,
    progress: Progress | None,
) -> Run:
    inputs = []
    environments = {}
    for target, step in lanes:
        if id(target) not in environments:
            environments[id(target)] = stationary_env(target.known)
        _, env_params = environments[id(target)]
        inputs.append(model_inputs(target.known, env_params, target.data, step, target.radius))
    first = lanes[0][0]
    env = environments[id(first)][0]
    learner = Learner(env, first.values, clock=clock, project=project)
    return train(learner, inputs, key, replicas, checkpoints, chunk, progress)


def lane_average(run: Run, lane: int, index: int, since: int = 0) -> Any:
    """Averaged parameters of one lane at one checkpoint."""
    return jax.tree.map(lambda leaf: leaf[lane], run.average(index, since))


def root_interval(squares: np.ndarray, degrees_lost: int = 0) -> tuple[float, float, float]:
    """Root mean square with a 95 % t-interval for the mean square.

    Args:
      squares: ``[replicas]`` squared errors (or squared deviations, with ``degrees_lost=1``).
      degrees_lost: 1 to divide by ``replicas - 1``.

    Returns:
      ``(value, low, high)``.
    """
    count = len(squares)
    factor = count / (count - degrees_lost)
    mean = float(np.mean(squares)) * factor
    half = 0.0
    if count > 1:
        half = float(stats.t.ppf(0.975, count - 1)) * float(np.std(squares, ddof=1)) * factor / np.sqrt(count)
    return float(np.sqrt(mean)), float(np.sqrt(max(mean - half, 0.0))), float(np.sqrt(mean + half))


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
        """Whether the fitted slope lies in the admitted range; None if there is none."""
        if self.target_low is None or self.target_high is None:
            return None
        return self.target_low <= self.slope <= self.target_high


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
    """Root mean squares recomputed on resampled draws: ``[resamples, n]`` from n arrays of squared errors."""
    rng = np.random.default_rng(seed)
    columns = [np.sqrt(rng.choice(s, size=(resamples, len(s))).mean(axis=1)) for s in map(np.asarray, squares)]
    return np.stack(columns, axis=1)
