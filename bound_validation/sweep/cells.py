"""What is measured in the cells of one part: they are analysed one by one and learn side by side as lanes.

Everything is measured as on the axes of a validation run; only the bookkeeping differs.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from bound_validation import theorem
from bound_validation.axes.gap.measure import oracle_squares
from bound_validation.measure import Progress, Target, lane_average, limit_run, root_interval, theorem_run
from bound_validation.results import NAN, Row, checked
from bound_validation.sweep.definition import Cell, Sweep
from bound_validation.sweep.parts import Part, build, check_shape
from bound_validation.tasks import TaskResult
from icsmdp_jax.exact.chain import MixingClock
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.fixed_point import FeatureBasis, whiten
from icsmdp_jax.learner.experiment import STAND_IN_DIM, measure_errors, random_relu

WORK_PER_CELL = 10_000  # progress units (about one handoff each) that the exact analysis of a cell is worth
UNCERTIFIED = "A6 not certified: no Theorem 2 or 3 claimed"
UNSETTLED = "the iteration to Q_m did not converge in this cell, so that nothing is measured against it"


@dataclasses.dataclass(frozen=True)
class Known:
    """A cell with everything that is computed before anything is simulated.

    Attributes:
      cell: the cell.
      target: its model with its function class.
      constants: columns that all its rows share.
      residual: bound on the residual at each K, NaN without A6 (T3).
      settled: whether ``Q_m`` was found; it may not exist where A6 is not certified.
    """

    cell: Cell
    target: Target
    constants: dict[str, Any]
    residual: dict[int, float]
    settled: bool


def work_of(sweep: Sweep, part: Part) -> int:
    """Progress units of a part."""
    handoffs = 0
    if "limit" in sweep.measure:
        handoffs += max(sweep.samples)
    if "theorem" in sweep.measure:
        handoffs += sum(sweep.samples)
    return WORK_PER_CELL * len(part.cells) + part.lanes * sweep.replicas * handoffs


def run_part(sweep: Sweep, part: Part, progress: Progress) -> TaskResult:
    """Builds, analyses and measures the cells of a part."""
    known = []
    for cell in part.cells:
        known.append(_known(sweep, part, cell))
        progress(WORK_PER_CELL)
    result = TaskResult()
    if "interface" in sweep.measure:
        for one in known:
            result.rows += interface_rows(one)
    lanes = [one for one in known if one.settled]
    if sweep.learns and lanes:
        # Idle lanes repeat the last cell: a group compiles once, whatever is left for its last part.
        targets = [one.target for one in lanes] + [lanes[-1].target] * (part.lanes - len(lanes))
        if "limit" in sweep.measure:
            _add_limit(sweep, lanes, targets, progress, result)
        if "theorem" in sweep.measure:
            _add_theorem(sweep, lanes, targets, progress, result)
    result.rows += [row for one in known if not one.settled for row in _unsettled_rows(sweep, one)]
    order = {cell.id: place for place, cell in enumerate(part.cells)}
    result.rows.sort(key=lambda row: order[row.cell])
    return result


def _known(sweep: Sweep, part: Part, cell: Cell) -> Known:
    built = build(sweep, cell)
    check_shape(part, cell, built.model)
    try:
        known = analyse(built.model, built.behaviour)
    except ValueError as error:
        raise ValueError(f"cell {cell.id}: {' '.join(str(error).split())}") from error
    known = _lighter(known, [0.25, *(float(theorem.constant_step(k)) for k in sweep.samples)])
    basis = _features(known, cell.width, sweep.seed)
    target = Target(known, basis)
    settled = target.fixed.converged and bool(np.isfinite(target.fixed.theta).all())
    described = target if settled else Target(known)
    gap = {**sweep.source.defaults, **cell.arguments}.get("gap", NAN)
    constants = described.constants() | {
        "gap": float(gap) if isinstance(gap, int | float) else NAN,
        "width": cell.width,
    }
    residual = {k: target.residual_bound(k) if settled else NAN for k in sweep.samples}
    return Known(cell, target, constants, residual, settled)


def _lighter(known: Analysis, accuracies: list[float]) -> Analysis:
    """The analysis with these mixing times known: the powers of the chain are too much for many cells."""
    for accuracy in accuracies:
        known.clock(accuracy)
    if isinstance(known.clock, MixingClock):
        known.clock.forget()
    return known


def _features(known: Analysis, width: int, seed: int) -> FeatureBasis | None:
    """Whitened random ReLU features of the model's descriptions, or of random unit vectors where it has none."""
    if width == 0:
        return None
    model, rng = known.interface.model, np.random.default_rng([seed, width])
    x = model.features
    if x is None:
        x = rng.standard_normal((model.num_interfaces, STAND_IN_DIM))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    return whiten(random_relu(x, model.interface_agent, width, rng), known.interface)


def _row(one: Known, series: str, measured: tuple[float, float, float], **columns: Any) -> Row:
    """A row without its place in the figures, which is given to it when the table is put together."""
    value, low, high = measured
    note = "" if one.settled else UNSETTLED
    if one.settled and not one.target.known.a6_certified:
        note = "A6 is not certified in some cells (kappa up to 1 or more): no Theorem 2 or 3 is claimed there"
    return checked(
        Row(
            axis="sweep", cell=one.cell.id, series=series, x_name="", x=NAN, measured=value, ci_low=low, ci_high=high,
            note=note, **one.constants, **columns,
        )
    )  # fmt: skip


def interface_rows(one: Known) -> list[Row]:
    """Interface gap and policy loss, exactly, with all forms of Theorem 1."""
    known = one.target.known
    gap, modulus = known.gap, known.interface.gamma_bar
    plain = theorem.interface_bound(known.ais.epsilon, known.ais.delta, gap.value_norm, modulus)
    return [
        _row(one, series, (measured,) * 3, term="interface", bound=bound)
        for series, measured, bound in (
            ("gap", gap.gap, plain),
            ("gap_value_aware", gap.gap, theorem.interface_bound_value_aware(gap.value_numerator, modulus)),
            ("gap_mass_span", gap.gap, gap.bound_mass_span),
            ("policy_loss", gap.policy_loss, theorem.policy_loss_bound(gap.bound)),
        )
    ]


def _add_limit(sweep: Sweep, lanes: list[Known], targets: list[Target], progress: Progress, result: TaskResult) -> None:
    """Spread, bias and RMSE of the tail average at every K (P2)."""
    counts = sweep.checkpoints
    run = limit_run(targets, jax.random.key(sweep.seed), sweep.replicas, counts, sweep.chunk_length, progress)
    result.compile_s += run.compile_s
    result.handoffs += run.handoffs
    for lane, one in enumerate(lanes):
        target = one.target
        for k in sweep.samples:
            tail = k - k // 2
            tables = target.tables(lane_average(run, lane, counts.index(k), k // 2))
            errors = measure_errors(target.known.interface, tables, target.fixed.q)
            noise = errors.spread / math.sqrt(sweep.replicas)  # what is left of the spread in the replicas' mean
            bias = (errors.bias, max(errors.raw_bias - 2 * noise, 0.0), errors.raw_bias + 2 * noise)
            shared = {"samples": k, "tail_samples": tail, "replicas": sweep.replicas}
            result.rows += [
                _row(
                    one, "spread", root_interval(errors.deviations, degrees_lost=1),
                    prediction=theorem.central_limit_spread(target.limit.coefficient, tail),
                    alternative=theorem.central_limit_spread(target.limit.coefficient_iid, tail), **shared,
                ),
                _row(one, "bias", bias, **shared),
                _row(one, "rmse", root_interval(errors.squares), **shared),
            ]  # fmt: skip


def _add_theorem(
    sweep: Sweep, lanes: list[Known], targets: list[Target], progress: Progress, result: TaskResult
) -> None:
    """RMSE of the average iterate to ``Q_m`` and to ``Q*`` under the constant step of every K (T3, T4)."""
    rows: dict[str, list[Row]] = {one.cell.id: [] for one in lanes}
    for k in sweep.samples:  # each K has a step of its own; the program is the same
        run = theorem_run(
            [(target, k) for target in targets], jax.random.key(sweep.seed + 1), sweep.replicas, [k],
            sweep.chunk_length, progress,
        )  # fmt: skip
        result.compile_s += run.compile_s
        result.handoffs += run.handoffs
        for lane, one in enumerate(lanes):
            tables = one.target.tables(lane_average(run, lane, 0))
            rows[one.cell.id] += _theorem_rows(one, tables, k, sweep.replicas)
    for one in lanes:
        if one.cell.width:
            rows[one.cell.id].append(_approximation_row(one))
        result.rows += rows[one.cell.id]


def _theorem_rows(one: Known, tables: np.ndarray, k: int, replicas: int) -> list[Row]:
    target, known = one.target, one.target.known
    squares = measure_errors(known.interface, tables, target.fixed.q).squares
    bound = theorem.total_bound(one.residual[k], _approximation(one)[1], known.gap.bound) if _claimed(one) else NAN
    shared = {"samples": k, "tail_samples": k, "replicas": replicas}
    return [
        _row(one, "residual", root_interval(squares), term="residual", bound=one.residual[k], **shared),
        _row(one, "total", root_interval(oracle_squares(target, tables)), term="total", bound=bound, **shared),
    ]


def _claimed(one: Known) -> bool:
    return one.target.known.a6_certified


def _approximation(one: Known) -> tuple[float, float]:
    """``||Q_m - Q_phi||_d`` and its bound (T2); both are 0 for tables."""
    if one.cell.width == 0:
        return 0.0, 0.0
    target, interface = one.target, one.target.known.interface
    projected = interface.norm(target.operator(target.q_phi) - target.q_phi)
    bound = theorem.approximation_bound(projected, target.known.kappa) if _claimed(one) else NAN
    return interface.norm(target.fixed.q - target.q_phi), bound


def _approximation_row(one: Known) -> Row:
    measured, bound = _approximation(one)
    return _row(one, "approximation", (measured,) * 3, term="approximation", bound=bound)


def _unsettled_rows(sweep: Sweep, one: Known) -> list[Row]:
    """Rows without a measurement, so that a cell that could not be measured does not go missing silently."""
    series = [name for part, names in (("limit", ("spread", "bias", "rmse")), ("theorem", ("residual", "total")))
              if part in sweep.measure for name in names]  # fmt: skip
    terms = {"residual": "residual", "total": "total"}
    return [_row(one, name, (NAN,) * 3, term=terms.get(name, ""), samples=k) for k in sweep.samples for name in series]
