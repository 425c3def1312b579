"""The grid of width, gap and samples: the whole bound, its three terms, and who dominates where (T4)."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import numpy as np

from bound_validation.axes.total.spec import TotalSpec
from bound_validation.axis import Settings
from bound_validation.cell import (
    AnalysedCell,
    analysed,
    approximation_row,
    interface_rows,
    residual_row,
    theorem_run,
    total_row,
)
from bound_validation.results import Row
from bound_validation.tasks import Claim, Progress, Task, TaskResult, dominance
from icsmdp_jax.envs.planted.model import planted_model
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.fixed_point import whiten


def tasks(spec: TotalSpec, settings: Settings) -> list[Task]:
    """One task per width, because each width is one compilation."""
    lanes = len(spec.gaps) * len(spec.samples)
    work = lanes * spec.replicas * max(spec.samples)
    return [Task(f"total/m{width}", partial(measure, spec, settings, width), work, lanes) for width in spec.widths]


def measure(spec: TotalSpec, settings: Settings, width: int, progress: Progress) -> TaskResult:
    """All cells of one width: lanes are (gap, samples), each with the constant step of its own K."""
    lanes: list[tuple[float, Analysis, int]] = []
    for eta in spec.gaps:
        config = spec.model.replace(gap=eta)
        known = analysed(config)
        raw, _ = planted_model(config).draw_features(np.random.default_rng([spec.seed, width]), width)
        known = known.with_features(whiten(raw, known.interface))
        lanes += [(eta, known, k) for k in spec.samples]
    key = jax.random.key(spec.seed)
    learned = theorem_run([(known, k) for _, known, k in lanes], key, spec.replicas, settings.chunk, progress)
    rows: list[Row] = []
    for lane, (eta, known, k) in enumerate(lanes):
        place = {
            "axis": "total", "cell": f"total/m{width}/eta{eta:g}/K{k}", "group": f"m = {width}, eta = {eta:g}",
            "x_name": "handoffs", "x": k, "width": width, "gap": eta, "samples": k, "tail_samples": k,
        }  # fmt: skip
        rows += _rows(AnalysedCell(known, place), learned.tables(lane, k), k)
    return TaskResult(rows, {}, [], learned.compile_s, learned.handoffs)


def _rows(cell: AnalysedCell, tables: np.ndarray, samples: int) -> list[Row]:
    """The three terms and their sum."""
    (gap,) = interface_rows(cell, ("gap",))
    return [
        residual_row(cell, tables, samples),
        approximation_row(cell),
        dataclasses.replace(gap, series="interface"),
        total_row(cell, tables, samples),
    ]


def claims(rows: list[Row]) -> list[Claim]:
    """Which measured term is the largest in how many cells of the grid."""
    return dominance("total_dominance", "over the {} cells of the grid", rows)
