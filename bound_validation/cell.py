"""The one place that measures a cell: runs of IC-Q, and rows that compare their results with every term of the bound.

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
from bound_validation.bounds import (
    approximation,
    classic_bound,
    oracle_norm,
    radius,
    residual_bound,
    total_bound,
    value_width,
)
from bound_validation.intervals import root_interval, spread_interval
from bound_validation.results import NAN, Row, by_replica, checked
from icsmdp_jax.envs.planted.model import PlantedConfig, PlantedModel, planted_model
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
from icsmdp_jax.learner.schedules import StepSize, constant, theorem_decaying
from icsmdp_jax.learner.train import Run, train
from icsmdp_jax.runs.tasks import Progress

TIE = 1e-9  # lead of the best option up to which two options count as equally good; P2 is not claimed there
ASYMPTOTIC_FROM = 100_000  # handoffs from which the central-limit line and the slope -1/2 are claimed
FORMS = ("gap", "gap_value_aware", "gap_mass_span", "policy_loss")
LIMIT = ("spread", "bias", "rmse")


@lru_cache(maxsize=16)
def planted_of(config: PlantedConfig) -> PlantedModel:
    """A planted model; remembered within a run."""
    return planted_model(config)


@lru_cache(maxsize=128)
def analysed(config: PlantedConfig) -> Analysis:
    """Analysis of a planted model under its own behaviour policy; remembered within a run."""
    planted = planted_of(config)
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
        kind = "tabular" if self.known.basis is None else "linear"
        return {"function_class": kind, **self.place, **constants(self.known)}

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


# Rows


def interface_rows(cell: AnalysedCell, forms: Sequence[str] = FORMS) -> list[Row]:
    """Interface gap and policy loss, exact, against forms of Theorem 1 (T1, T1.1, T1.2, T1.3)."""
    ais, gap, interface = cell.known.ais, cell.known.gap, cell.known.interface
    modulus, killing = interface.gamma_bar, interface.least_killing
    every = {
        "gap": (gap.gap, theorem.interface_bound(ais.epsilon, ais.delta, gap.value_norm, modulus, killing)),
        "gap_value_aware": (gap.gap, theorem.interface_bound_value_aware(gap.value_numerator, modulus, killing)),
        "gap_mass_span": (gap.gap, gap.bound_mass_span),
        "policy_loss": (gap.policy_loss, theorem.policy_loss_bound(gap.bound)),
    }
    shared = {"term": "interface", "trivial": value_width(cell.known)}
    nothing: dict[str, Any] = {"function_class": "", "step_rule": ""}  # a property of the model alone
    return [cell.row(form, every[form][0], bound=every[form][1], **shared, **nothing) for form in forms]


def limit_rows(cell: AnalysedCell, tables: np.ndarray, samples: int, series: Sequence[str] = LIMIT) -> list[Row]:
    """Spread (against the central limit), bias and RMSE of the tail average around ``Q_m`` (D10, P2).

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
        "spread": spread_interval(errors.deviations, _scaled(cell.known.interface, tables - tables.mean(axis=0))),
        "bias": (errors.bias, max(errors.raw_bias - 2 * noise, 0.0), errors.raw_bias + 2 * noise),
        "rmse": root_interval(errors.squares),
    }
    shared = {"samples": samples, "tail_samples": tail, "replicas": replicas, "step_rule": "polynomial"}
    further = {
        "spread": {**lines, **by_replica("spread", np.sqrt(errors.deviations))},
        "rmse": by_replica("rms", np.sqrt(errors.squares)),
    }
    return [cell.row(name, every[name], **shared, **further.get(name, {})) for name in series]


def _scaled(interface: InterfaceModel, tables: np.ndarray) -> np.ndarray:
    """``[replicas, Z O]`` tables scaled so that squares add up to that of ``||.||_d``."""
    weight = np.where(interface.mask, interface.pair_weight, 0.0)
    return (np.where(interface.mask, tables, 0.0) * np.sqrt(weight)).reshape(len(tables), -1)


def residual_row(
    cell: AnalysedCell, tables: np.ndarray, samples: int, series: str = "residual", decaying: bool = False
) -> Row:
    """RMSE of ``[replicas, Z, O]`` average iterates to ``Q_m``, projected, against the best of T3+ and T3 (or T3.1).

    The column ``alternative`` has the root of T3 or T3.1, which is not checked.
    """
    return _residual(
        cell, tables, samples, series, bound=residual_bound(cell.known, samples, decaying),
        alternative=classic_bound(cell.known, samples, decaying), step_rule="decaying" if decaying else "constant",
    )  # fmt: skip


def plain_row(
    cell: AnalysedCell, tables: np.ndarray, samples: int, series: str, prediction: float, certificate: float
) -> Row:
    """The same of a plain run, against prediction and certificate of theorem B; a linear class has no certificate."""
    unclaimed = {} if cell.known.basis is None else {"term": "", "trivial": NAN}
    rule = {"step_rule": series.removesuffix("_plain")}
    return _residual(cell, tables, samples, series, prediction=prediction, bound=certificate, **unclaimed, **rule)


def _residual(cell: AnalysedCell, tables: np.ndarray, samples: int, series: str, **columns: Any) -> Row:
    interface, q = cell.known.interface, cell.known.fixed.q
    shared = {"term": "residual", "trivial": interface.norm(q), "samples": samples, "tail_samples": samples}
    squares = measure_errors(interface, tables, q).squares
    kept = by_replica("rms", np.sqrt(squares))
    return cell.row(series, root_interval(squares), **{**shared, "replicas": len(tables), **kept, **columns})


def approximation_row(cell: AnalysedCell) -> Row:
    """Distance of ``Q_m`` from ``Q_phi``, exact, against T2."""
    error, bound = approximation(cell.known)
    trivial = cell.known.interface.norm(cell.known.q_phi_table)
    return cell.row("approximation", error, term="approximation", bound=bound, trivial=trivial)


def total_row(cell: AnalysedCell, tables: np.ndarray, samples: int, series: str = "total", **columns: Any) -> Row:
    """RMSE of ``[replicas, Z, O]`` average iterates to ``Q*``, constant step, against the sum of the terms (T4)."""
    squares = oracle_squares(cell.known, tables)
    return cell.row(
        series, root_interval(squares), term="total", bound=total_bound(cell.known, samples),
        trivial=oracle_norm(cell.known), samples=samples, tail_samples=samples, replicas=len(tables),
        step_rule="constant", **by_replica("rms", np.sqrt(squares)), **columns,
    )  # fmt: skip


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
        """``[replicas, Z, O]`` average of one lane after that many handoffs."""
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


def plain_run(
    lanes: Sequence[tuple[Analysis, StepSize]], samples: Sequence[int], key: jax.Array, replicas: int, chunk: int,
    progress: Progress,
) -> Learned:  # fmt: skip
    """IC-Q as theorem B asks: no projection, steps on the shared clock.

    Every lane is looked at after each of ``samples``. Other arguments as for ``limit_run``.
    """
    run = _run(lanes, "epoch", False, key, replicas, sorted(samples), chunk, progress)
    return Learned([known for known, _ in lanes], sorted(samples), run, tail=False)


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
