"""The one place that measures a cell: runs of IC-Q, and rows that set what they give beside every term of the bound.

A cell is a model with a function class. Its rows come in the theorem's order: the interface (exact), the spread, bias
and RMSE of tail averages (P2), the residual of average iterates (T3, T3.1), the approximation (exact, T2), and the
total error (T4).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import jax
import numpy as np

from bound_validation import theorem
from bound_validation.intervals import root_interval
from bound_validation.results import NAN, Row, checked
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.fixed_point import projected_fixed_point, projection, whiten
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.learner import experiment, networks
from icsmdp_jax.learner.experiment import (
    default_linear_step,
    default_tabular_step,
    measure_errors,
    model_inputs,
    stationary_env,
    tables_of,
)
from icsmdp_jax.learner.icq import Learner
from icsmdp_jax.learner.message_bounds import model_value_range
from icsmdp_jax.learner.schedules import StepSize, constant, theorem_decaying
from icsmdp_jax.learner.train import Run, train
from icsmdp_jax.runs.tasks import Progress

RADIUS_MARGIN = 1.25  # the balls' radius over the largest block of theta*; any value of 1 or more is admissible
TIE = 1e-9  # lead of the best option up to which two options count as equally good; P2 is not claimed there
ASYMPTOTIC_FROM = 100_000  # handoffs from which the central-limit line and the slope -1/2 are claimed
FORMS = ("gap", "gap_value_aware", "gap_mass_span", "policy_loss")
LIMIT = ("spread", "bias", "rmse")


@lru_cache(maxsize=128)
def analysed(config: PlantedConfig) -> Analysis:
    """Analysis of a planted model under its own behaviour policy; remembered within a run."""
    planted = planted_model(config)
    return analyse(planted.model, planted.behaviour)


@dataclasses.dataclass(frozen=True, eq=False)
class AnalysedCell:
    """A cell of the table.

    Attributes:
      known: its model with its function class.
      place: columns that say where its rows stand: axis, cell, x_name, x, group, gap, width, note.
    """

    known: Analysis
    place: Mapping[str, Any]

    @cached_property
    def columns(self) -> dict[str, Any]:
        """Columns that all its rows share."""
        return {**self.place, **constants(self.known)}

    def row(self, series: str, measured: float | tuple[float, float, float], **columns: Any) -> Row:
        """One row.

        Args:
          series: what was measured.
          measured: ``(value, ci_low, ci_high)``, or an exact value.
          **columns: further columns, which take the place of shared ones.
        """
        value, low, high = measured if isinstance(measured, tuple) else (measured,) * 3
        shared = {**self.columns, **columns}
        return checked(Row(series=series, measured=value, ci_low=low, ci_high=high, **shared))


# What the theorems need to know


def radius(known: Analysis) -> float:
    """Radius of the ball on which each (agent, option) block is projected in runs of T3."""
    if known.basis is None:
        norms = np.abs(known.q_phi_table)
    else:
        blocks = known.basis.unpack(known.fixed.theta, known.interface.mask)
        norms = np.sqrt((blocks**2).sum(axis=-1))
    return RADIUS_MARGIN * float(norms.max())


def constants(known: Analysis) -> dict[str, Any]:
    """Constants of a model with its function class, by column."""
    return {
        "certified": known.a6_certified,
        "gamma": known.interface.moments.gamma,
        "gamma_bar": known.interface.gamma_bar,
        "kappa": known.kappa,
        "epsilon": known.ais.epsilon,
        "delta": known.ais.delta,
        "value_norm": known.gap.value_norm,
        "omega": known.operator.omega,
        "mixing_time": known.clock(0.25),
        "clt_coefficient": known.limit.coefficient,
        "clt_coefficient_iid": known.limit.coefficient_iid,
        "reward_max": known.reward_max,
        "radius": radius(known),
        "action_gap": known.limit.action_gap,
        "q_norm": known.interface.norm(known.q_phi_table),
    }


def residual_bound(known: Analysis, samples: int, decaying: bool = False) -> float:
    """Root of T3 (constant step) or T3.1 (decaying) for a stationary start from 0; NaN if A6 is not certified."""
    if not known.a6_certified:
        return NAN
    kappa, omega = known.kappa, known.operator.omega
    gradient = theorem.gradient_bound(known.reward_max, radius(known))
    if gradient == 0:  # no reward at all: every iterate is 0, and so is the residual
        return 0.0
    if decaying:
        mixing = known.clock(theorem.decaying_step(samples, omega, kappa))
        square = theorem.residual_bound_decaying_step(gradient, mixing, kappa, omega, samples)
    else:
        mixing = known.clock(theorem.constant_step(samples))
        distance = float(np.linalg.norm(known.fixed.theta))
        square = theorem.residual_bound_constant_step(distance, gradient, mixing, kappa, samples)
    return float(theorem.residual_rms(square))


def approximation(known: Analysis) -> tuple[float, float]:
    """``||Q_m - Q_phi||_d`` and its bound, NaN if A6 is not certified (T2); both are 0 for tables."""
    if known.basis is None:
        return 0.0, 0.0
    interface, q = known.interface, known.q_phi_table
    projected = interface.norm(known.operator(q) - q)
    bound = theorem.approximation_bound(projected, known.kappa) if known.a6_certified else NAN
    return interface.norm(known.fixed.q - q), bound


def feature_errors(
    interface: InterfaceModel, raw: np.ndarray, q_phi: np.ndarray, max_iterations: int = 20_000
) -> tuple[float, float]:
    """Squared ``||Pi Q_phi - Q_phi||_d`` and ``||Q_m - Q_phi||_d`` with features of one draw (T2).

    Args:
      interface: the interface model.
      raw: ``[Z, m]`` features before whitening.
      q_phi: ``[Z, O]`` ``Q_phi``, 0 outside the mask.
      max_iterations: after which ``Q_m`` counts as not found; the second error is NaN then.
    """
    operator = projection(interface, whiten(raw, interface))
    fixed = projected_fixed_point(interface, operator, q_phi, 1e-10, max_iterations)
    projected = interface.norm(operator(q_phi) - q_phi) ** 2
    return projected, interface.norm(fixed.q - q_phi) ** 2 if fixed.converged else NAN


def value_width(known: Analysis) -> float:
    """``h - l``, the width of the a-priori range of values (L6): no interface gap and no loss of a policy exceeds it.

    Both value functions that a gap compares lie in the range; so does the value of every policy, since the expected
    rewards that make it up do.
    """
    low, high = model_value_range(known.interface.model, known.interface.moments)
    return high - low


def total_bound(known: Analysis, samples: int) -> float:
    """Sum of the three terms under the constant step; NaN if A6 is not certified (T4)."""
    if not known.a6_certified:
        return NAN
    return theorem.total_bound(residual_bound(known, samples), approximation(known)[1], known.gap.bound)


# Rows


def interface_rows(cell: AnalysedCell, forms: Sequence[str] = FORMS) -> list[Row]:
    """Interface gap and policy loss, exact, beside forms of Theorem 1 (T1, T1.1, T1.2, T1.3)."""
    ais, gap, modulus = cell.known.ais, cell.known.gap, cell.known.interface.gamma_bar
    every = {
        "gap": (gap.gap, theorem.interface_bound(ais.epsilon, ais.delta, gap.value_norm, modulus)),
        "gap_value_aware": (gap.gap, theorem.interface_bound_value_aware(gap.value_numerator, modulus)),
        "gap_mass_span": (gap.gap, gap.bound_mass_span),
        "policy_loss": (gap.policy_loss, theorem.policy_loss_bound(gap.bound)),
    }
    shared = {"term": "interface", "trivial": value_width(cell.known)}
    return [cell.row(form, every[form][0], bound=every[form][1], **shared) for form in forms]


def limit_rows(cell: AnalysedCell, tables: np.ndarray, samples: int, series: Sequence[str] = LIMIT) -> list[Row]:
    """Spread (beside the central limit), bias and RMSE of the tail average around ``Q_m`` (D10, P2).

    Args:
      cell: the cell.
      tables: ``[replicas, Z, O]`` averages over the last half of the handoffs.
      samples: handoffs of each replica.
      series: which of the three.
    """
    tail, replicas, law = samples - samples // 2, len(tables), cell.known.limit
    errors = measure_errors(cell.known.interface, tables, cell.known.fixed.q)
    noise = errors.spread / math.sqrt(replicas)  # what is left of the spread in the replicas' mean
    lines = {
        "prediction": theorem.central_limit_spread(law.coefficient, tail),
        "alternative": theorem.central_limit_spread(law.coefficient_iid, tail),
    }
    every = {
        "spread": root_interval(errors.deviations, degrees_lost=1),
        "bias": (errors.bias, max(errors.raw_bias - 2 * noise, 0.0), errors.raw_bias + 2 * noise),
        "rmse": root_interval(errors.squares),
    }
    shared = {"samples": samples, "tail_samples": tail, "replicas": replicas}
    return [cell.row(name, every[name], **shared, **(lines if name == "spread" else {})) for name in series]


def residual_row(
    cell: AnalysedCell, tables: np.ndarray, samples: int, series: str = "residual", decaying: bool = False
) -> Row:
    """RMSE of ``[replicas, Z, O]`` average iterates to ``Q_m`` beside the root of T3 or, decaying, of T3.1."""
    errors = measure_errors(cell.known.interface, tables, cell.known.fixed.q)
    return cell.row(
        series, root_interval(errors.squares), term="residual", bound=residual_bound(cell.known, samples, decaying),
        trivial=cell.known.interface.norm(cell.known.fixed.q), samples=samples, tail_samples=samples,
        replicas=len(tables),
    )  # fmt: skip


def approximation_row(cell: AnalysedCell) -> Row:
    """Distance of ``Q_m`` from ``Q_phi``, exact, beside T2."""
    error, bound = approximation(cell.known)
    trivial = cell.known.interface.norm(cell.known.q_phi_table)
    return cell.row("approximation", error, term="approximation", bound=bound, trivial=trivial)


def total_row(cell: AnalysedCell, tables: np.ndarray, samples: int, series: str = "total", **columns: Any) -> Row:
    """RMSE of ``[replicas, Z, O]`` average iterates to ``Q*``, constant step, beside the sum of the terms (T4)."""
    return cell.row(
        series, root_interval(oracle_squares(cell.known, tables)), term="total", bound=total_bound(cell.known, samples),
        trivial=oracle_norm(cell.known), samples=samples, tail_samples=samples, replicas=len(tables), **columns,
    )  # fmt: skip


def oracle_norm(known: Analysis) -> float:
    """``||Q*||_d``, weighted over states: the error of a table of zeros against the oracle (D12)."""
    return float(np.sqrt(oracle_squares(known, np.zeros((1, *known.interface.mask.shape)))[0]))


def oracle_squares(known: Analysis, tables: np.ndarray) -> np.ndarray:
    """``[replicas]`` squared ``||Q(phi(s), o) - Q*(s, o)||_d``."""
    return experiment.oracle_squares(known.interface, tables, known.q_star.q)


# Runs


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """IC-Q on several lanes, looked at after some numbers of handoffs.

    Attributes:
      lanes: model and function class of each lane.
      checkpoints: numbers of handoffs, increasing.
      run: the run.
      tail: whether averages are over the last half of the handoffs, else over all.
    """

    lanes: Sequence[Analysis]
    checkpoints: Sequence[int]
    run: Run
    tail: bool

    @property
    def compile_s(self) -> float:
        """Seconds of compilation."""
        return self.run.compile_s

    @property
    def handoffs(self) -> int:
        """Handoffs simulated, over all lanes and replicas."""
        return self.run.handoffs

    def tables(self, lane: int, samples: int) -> np.ndarray:
        """``[replicas, Z, O]`` average of one lane after so many handoffs."""
        average = self.run.average(self.checkpoints.index(samples), samples // 2 if self.tail else 0)
        params, known = jax.tree.map(lambda leaf: leaf[lane], average), self.lanes[lane]
        return tables_of(function_class(known), params, features(known), known.interface)


def function_class(known: Analysis) -> networks.ValueClass:
    """The learner's function class."""
    model = known.interface.model
    if known.basis is None:
        return networks.tabular(model.num_interfaces, model.num_options)
    return networks.linear(model.num_agents, model.num_options)


def features(known: Analysis) -> np.ndarray | None:
    """``[Z, p]`` float32 feature table; None for tables."""
    return None if known.basis is None else known.basis.table.astype(np.float32)


def limit_run(
    lanes: Sequence[Analysis], key: jax.Array, replicas: int, samples: Sequence[int], chunk: int, progress: Progress
) -> Learned:
    """IC-Q with the default decaying steps, looked at after each number of samples by its tail average (P2).

    Args:
      lanes: models of one shape, with function classes of one kind.
      key: of all randomness.
      replicas: independent runs on each lane.
      samples: numbers of handoffs; they and their halves are multiples of the chunk.
      chunk: handoffs per compiled chunk.
      progress: counts handoffs.
    """

    def step(known: Analysis) -> StepSize:
        gamma_bar = known.interface.gamma_bar
        if known.basis is None:
            return default_tabular_step(gamma_bar)
        return default_linear_step(known.basis, known.interface, gamma_bar)

    checkpoints = sorted({*samples, *(k // 2 for k in samples)})
    run = _run([(known, step(known)) for known in lanes], "visits", False, key, replicas, checkpoints, chunk, progress)
    return Learned(lanes, checkpoints, run, tail=True)


def theorem_run(
    lanes: Sequence[tuple[Analysis, int | None]], key: jax.Array, replicas: int, chunk: int, progress: Progress
) -> Learned:
    """IC-Q as T3 (a lane with its number K of samples) or T3.1 (None) asks: projected, steps on the shared clock.

    Every lane is looked at after the K of each. Other arguments as for ``limit_run``.
    """
    settings = []
    for known, samples in lanes:
        if samples is None:
            step = theorem_decaying(known.operator.omega, known.kappa)
        else:
            step = constant(theorem.constant_step(samples))
        settings.append((known, step))
    checkpoints = sorted({samples for _, samples in lanes if samples is not None})
    run = _run(settings, "epoch", True, key, replicas, checkpoints, chunk, progress)
    return Learned([known for known, _ in lanes], checkpoints, run, tail=False)


def _run(
    lanes: Sequence[tuple[Analysis, StepSize]],
    clock: str,
    project: bool,
    key: jax.Array,
    replicas: int,
    checkpoints: Sequence[int],
    chunk: int,
    progress: Progress,
) -> Run:
    environments = {known: stationary_env(known) for known in dict.fromkeys(known for known, _ in lanes)}
    inputs = [
        model_inputs(known, environments[known][1], features(known), step, radius(known)) for known, step in lanes
    ]
    first = lanes[0][0]
    learner = Learner(environments[first][0], function_class(first), clock=clock, project=project)
    pairs = first.interface.mask.size
    return train(learner, inputs, key, replicas, checkpoints, chunk, progress, values=pairs)
