"""The cells of one part: analysed one by one, they learn side by side as lanes of one program."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from bound_validation import theorem
from bound_validation.cell import (
    AnalysedCell,
    approximation_row,
    interface_rows,
    limit_rows,
    limit_run,
    residual_row,
    theorem_run,
    total_row,
)
from bound_validation.results import NAN, Row
from bound_validation.sweep.definition import Cell, Sweep
from bound_validation.sweep.parts import Part, Shape, build, check_shape
from bound_validation.tasks import Progress, TaskResult
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact.chain import MixingClock, uniform_behaviour
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.fixed_point import FeatureBasis, whiten
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.experiment import check_width, random_relu
from icsmdp_jax.learner.exploration import behaviour_table
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.schedules import constant
from icsmdp_jax.learner.train import check_memory as fits_into_memory

WORK_PER_CELL = 10_000  # progress units (about one handoff each) that the exact analysis of a cell is worth
UNSETTLED = "the iteration to Q_m did not converge in this cell, so that nothing is measured against it"
UNCERTIFIED = "A6 is not certified in some cells (kappa up to 1 or more): no Theorem 2 or 3 is claimed there"


def work_of(sweep: Sweep, part: Part) -> int:
    """Progress units of a part."""
    handoffs = 0
    if "limit" in sweep.measure:
        handoffs += max(sweep.samples)
    if "theorem" in sweep.measure:
        handoffs += sum(sweep.samples)
    return WORK_PER_CELL * len(part.cells) + part.lanes * sweep.replicas * handoffs


def check_memory(sweep: Sweep, listed: Sequence[Part]) -> None:
    """Refuses a sweep whose largest part would not fit into memory, before anything is computed or written.

    Raises:
      ValueError: in one line with the forecast and what would fit.
    """
    if not sweep.learns:
        return
    check_width(max(part.shape.interfaces for part in listed), max(part.shape.width for part in listed))
    part = max(listed, key=lambda part: part.lanes * _parameters(part.shape))
    model, shape = build(sweep, part.cells[0]).model, part.shape
    env, params = tabular_env(model, first=np.full(shape.states, 1 / shape.states))
    if shape.width:
        values = networks.linear(shape.agents, shape.options)
        data = np.zeros((shape.interfaces, min(shape.width, shape.interfaces)), np.float32)
    else:
        values, data = networks.tabular(shape.interfaces, shape.options), None
    inputs = Inputs(
        params, data, behaviour_table(uniform_behaviour(model)), constant(0.1), np.float32(1.0), np.float32(1.0)
    )
    checkpoints = len(sweep.checkpoints) if "limit" in sweep.measure else 1
    pairs = shape.interfaces * shape.options
    fits_into_memory(
        Learner(env, values), inputs, part.lanes, sweep.replicas, checkpoints, sweep.chunk_length, pairs
    )  # fmt: skip


def _parameters(shape: Shape) -> int:
    """Parameters of one replica."""
    return shape.options * (shape.agents * min(shape.width, shape.interfaces) if shape.width else shape.interfaces)


def run_part(sweep: Sweep, part: Part, progress: Progress) -> TaskResult:
    """Builds, analyses and measures the cells of a part."""
    result = TaskResult()
    lanes: list[AnalysedCell] = []
    for cell in part.cells:
        found, settled = analysed_cell(sweep, part, cell)
        if "interface" in sweep.measure:
            result.rows += interface_rows(found)
        if settled:
            lanes.append(found)
        else:
            result.rows += _rows_without_measurement(sweep, found)
        progress(WORK_PER_CELL)
    if sweep.learns and lanes:
        # Idle lanes repeat the last cell: a group compiles once, whatever is left for its last part.
        models = [cell.known for cell in lanes] + [lanes[-1].known] * (part.lanes - len(lanes))
        if "limit" in sweep.measure:
            _add_limit(sweep, lanes, models, progress, result)
        if "theorem" in sweep.measure:
            _add_theorem(sweep, lanes, models, progress, result)
    order = {cell.id: place for place, cell in enumerate(part.cells)}
    result.rows.sort(key=lambda row: order[row.cell])
    return result


def analysed_cell(sweep: Sweep, part: Part, cell: Cell) -> tuple[AnalysedCell, bool]:
    """The cell with everything that is computed before anything is simulated, and whether its ``Q_m`` was found.

    Without A6 it may not exist. The constants are then those of tables. Abscissa and group are given to the rows when
    the table is put together.

    Raises:
      ValueError: in one line that names the cell.
    """
    built = build(sweep, cell)
    check_shape(part, cell, built.model)
    gap = {**sweep.source.defaults, **cell.arguments}.get("gap", NAN)
    place = {
        "axis": "sweep", "cell": cell.id, "x_name": "", "x": NAN, "width": cell.width,
        "gap": float(gap) if isinstance(gap, int | float) else NAN,
    }  # fmt: skip
    try:
        tables = known = analyse(built.model, built.behaviour)
        if cell.width:
            known = tables.with_features(_features(tables, cell.width, sweep.seed))
        settled = known.fixed.converged and bool(np.isfinite(known.fixed.theta).all())
        note = UNSETTLED if not settled else "" if known.a6_certified else UNCERTIFIED
        found = AnalysedCell(known if settled else tables, {**place, "note": note})
        _ = found.columns  # computed here, where an error can name the cell
        for samples in sweep.samples:
            known.clock(theorem.constant_step(samples))
    except ValueError as error:
        raise ValueError(f"cell {cell.id}: {' '.join(str(error).split())}") from error
    if isinstance(known.clock, MixingClock):
        known.clock.forget()  # with many cells the powers of their chains would fill the memory
    return found, settled


def _features(known: Analysis, width: int, seed: int) -> FeatureBasis:
    """Whitened random ReLU features of the model's descriptions, or of random unit vectors where it has none."""
    model, rng = known.interface.model, np.random.default_rng([seed, width])
    return whiten(random_relu(networks.features_of(model, rng), model.interface_agent, width, rng), known.interface)


def _add_limit(
    sweep: Sweep, lanes: list[AnalysedCell], models: list[Analysis], progress: Progress, result: TaskResult
) -> None:
    """Spread, bias and RMSE of the tail average at every K (P2)."""
    key = jax.random.key(sweep.seed)
    learned = limit_run(models, key, sweep.replicas, sweep.samples, sweep.chunk_length, progress)
    for lane, cell in enumerate(lanes):
        for k in sweep.samples:
            result.rows += limit_rows(cell, learned.tables(lane, k), k)
    result.compile_s += learned.compile_s
    result.handoffs += learned.handoffs


def _add_theorem(
    sweep: Sweep, lanes: list[AnalysedCell], models: list[Analysis], progress: Progress, result: TaskResult
) -> None:
    """RMSE of the average iterate to ``Q_m`` and to ``Q*`` under the constant step of every K (T3, T4)."""
    key = jax.random.key(sweep.seed + 1)
    for k in sweep.samples:  # each K has a step of its own; the program is the same
        learned = theorem_run([(known, k) for known in models], key, sweep.replicas, sweep.chunk_length, progress)
        for lane, cell in enumerate(lanes):
            tables = learned.tables(lane, k)
            result.rows += [residual_row(cell, tables, k), total_row(cell, tables, k)]
        result.compile_s += learned.compile_s
        result.handoffs += learned.handoffs
    result.rows += [approximation_row(cell) for cell in lanes if cell.known.basis is not None]


def _rows_without_measurement(sweep: Sweep, cell: AnalysedCell) -> list[Row]:
    """So that a cell that could not be measured does not go missing silently."""
    series = {"limit": ("spread", "bias", "rmse"), "theorem": ("residual", "total")}
    names = [name for part in sweep.measure for name in series.get(part, ())]
    terms = {"residual": "residual", "total": "total"}
    return [cell.row(name, NAN, term=terms.get(name, ""), samples=k) for k in sweep.samples for name in names]
