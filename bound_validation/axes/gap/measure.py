"""The gap axis: the interface gap against eta, exactly and in IC-Q runs, and the sharp family (T1)."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from bound_validation import theorem
from bound_validation.axes.gap.spec import GapSpec
from bound_validation.axis import Settings
from bound_validation.bounds import value_width
from bound_validation.cell import AnalysedCell, analysed, interface_rows, theorem_run, total_row
from bound_validation.intervals import fitted_slope
from bound_validation.results import NAN, Row, checked
from bound_validation.tasks import Claim, Progress, Task, TaskResult, about, in_range
from icsmdp_jax.envs.planted.model import sharp_family
from icsmdp_jax.exact.constants import analyse

WORK_PER_MODEL = 50_000


def tasks(spec: GapSpec, settings: Settings) -> list[Task]:
    """Exact gaps, the sharp family, and IC-Q runs at every gap."""
    gaps, flips = len(spec.gaps), len(spec.flips)
    work = spec.replicas * spec.samples * gaps
    return [
        Task("gap/exact", partial(exact, spec), WORK_PER_MODEL * gaps, gaps, joint=False, seconds=0.03 * gaps),
        Task("gap/sharp", partial(sharp, spec), WORK_PER_MODEL * flips, flips, joint=False, seconds=0.005 * flips),
        Task("gap/learned", partial(learned_error, spec, settings), work, gaps, seconds=about(work)),
    ]


def cells(spec: GapSpec, learned: bool = False) -> list[AnalysedCell]:
    """The planted model at every eta."""
    model, below = (spec.finite_model, "learned/") if learned else (spec.model, "")
    return [
        AnalysedCell(
            analysed(model.replace(gap=eta)),
            {"axis": "gap", "cell": f"gap/{below}{index}", "x_name": "eta", "x": eta, "gap": eta},
        )
        for index, eta in enumerate(spec.gaps)
    ]


def exact(spec: GapSpec, progress: Progress) -> TaskResult:
    """The gap and the policy loss at every eta, with all forms of Theorem 1."""
    rows: list[Row] = []
    for cell in cells(spec):
        rows += interface_rows(cell)
        progress(WORK_PER_MODEL)
    gaps = [r for r in rows if r.series == "gap"]
    positive = [r for r in gaps if r.x > 0]
    slope = fitted_slope(
        np.array([r.x for r in positive]), np.array([r.measured for r in positive]),
        target=1.0, target_low=0.95, target_high=1.05,
    )  # fmt: skip
    closed = max((r.measured for r in gaps if r.x == 0), default=NAN)
    claims = [
        in_range("gap_closed", "The gap is 0 at eta = 0 (largest value found).", closed, 0.0, 1e-9),
        in_range("gap_slope", "The gap grows linearly in eta (slope in log-log coordinates).", slope.slope, 0.95, 1.05,
                 ci_low=slope.ci_low, ci_high=slope.ci_high),
    ]  # fmt: skip
    return TaskResult(rows, {"gap": slope}, claims)


def sharp(spec: GapSpec, progress: Progress) -> TaskResult:
    """The sharp family: one hidden bit; the gap meets Theorem 1 as the bit flips ever more rarely (T1.4)."""
    rows: list[Row] = []
    for index, flip in enumerate(spec.flips):
        model = sharp_family(flip_probability=flip, gamma=spec.model.gamma, duration_mean=spec.model.duration_mean)
        known = analyse(model)
        ais, gap, modulus = known.ais, known.gap, known.interface.gamma_bar
        killing = known.interface.least_killing
        row = Row(
            axis="gap", cell=f"gap/sharp/{index}", series="sharp_family", group="sharp", term="interface",
            x_name="flip probability", x=flip, measured=gap.gap,
            bound=theorem.interface_bound(ais.epsilon, ais.delta, gap.value_norm, modulus, killing),
            trivial=value_width(known), prediction=theorem.sharp_gap(ais.epsilon, modulus, flip, killing),
            gamma=model.gamma, gamma_bar=modulus,
            epsilon=ais.epsilon, delta=ais.delta, value_norm=gap.value_norm, mixing_time=known.clock(0.25),
        )  # fmt: skip
        rows.append(checked(row))
        progress(WORK_PER_MODEL)
    best = max(r.ratio for r in rows)
    off = max(abs(r.measured / r.prediction - 1) for r in rows)
    claims = [
        Claim("sharp_family", "The sharp family reaches at least 0.95 of Theorem 1.", best, "at least 0.95",
              best >= 0.95),
        in_range("sharp_closed_form", "Its gap is the closed form epsilon / (1 - gbar (1 - 2p)) (largest relative "
                 "deviation).", off, 0.0, 1e-8),
    ]  # fmt: skip
    return TaskResult(rows, {}, claims)


def learned_error(spec: GapSpec, settings: Settings, progress: Progress) -> TaskResult:
    """Error of tabular IC-Q against ``Q*`` at every gap, one lane per gap, against T3+ and T1.1 together (T4)."""
    lanes, k = cells(spec, learned=True), spec.samples
    key = jax.random.key(spec.seed)
    learned = theorem_run([(cell.known, k) for cell in lanes], key, spec.replicas, settings.chunk, progress)
    rows = [
        total_row(cell, learned.tables(lane, k), k, "icq_error", alternative=cell.known.gap.gap)
        for lane, cell in enumerate(lanes)
    ]
    return TaskResult(rows, {}, [], learned.compile_s, learned.handoffs)
