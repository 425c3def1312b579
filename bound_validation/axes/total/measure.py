"""The grid of all three axes: the whole bound, its three terms, and who dominates where (T4)."""

from __future__ import annotations

import jax
import numpy as np

from bound_validation import theorem
from bound_validation.axes.gap.measure import analysed, oracle_squares
from bound_validation.measure import Progress, Target, lane_average, root_interval, theorem_run
from bound_validation.results import NAN, Row, checked
from bound_validation.sweeps import Preset
from bound_validation.tasks import Claim, Task, TaskResult
from icsmdp_jax.envs.planted.model import planted_model
from icsmdp_jax.exact.fixed_point import whiten
from icsmdp_jax.learner.experiment import measure_errors


def tasks(preset: Preset) -> list[Task]:
    """One task per width, because each width is one compilation."""
    spec = preset.total
    lanes = len(spec.gaps) * len(spec.samples)
    work = lanes * spec.replicas * max(spec.samples)
    return [
        Task(f"total/m{width}", lambda progress, w=width: measure(preset, w, progress), work, lanes)  # type: ignore[misc]
        for width in spec.widths
    ]


def measure(preset: Preset, width: int, progress: Progress) -> TaskResult:
    """All cells of one width: lanes are (gap, samples), each with the constant step of its own K."""
    spec = preset.total
    targets: list[tuple[float, Target]] = []
    for eta in spec.gaps:
        planted = planted_model(spec.model.replace(gap=eta))
        known = analysed(spec.model.replace(gap=eta))
        raw, _ = planted.draw_features(np.random.default_rng([spec.seed, width]), width)
        targets.append((eta, Target(known, whiten(raw, known.interface))))
    lanes = [(eta, k, target) for eta, target in targets for k in spec.samples]
    run = theorem_run(
        [(target, k) for _, k, target in lanes], jax.random.key(spec.seed), spec.replicas, list(spec.samples),
        preset.chunk, progress,
    )  # fmt: skip
    rows: list[Row] = []
    for lane, (eta, k, target) in enumerate(lanes):
        tables = target.tables(lane_average(run, lane, spec.samples.index(k)))
        rows += _cell(spec.replicas, width, eta, k, target, tables)
    return TaskResult(rows, {}, [], run.compile_s, run.handoffs)


def _cell(replicas: int, width: int, eta: float, k: int, target: Target, tables: np.ndarray) -> list[Row]:
    known, interface = target.known, target.known.interface
    certified = known.a6_certified
    projected = interface.norm(target.operator(target.q_phi) - target.q_phi)
    bounds = {
        "residual": target.residual_bound(k),
        "approximation": theorem.approximation_bound(projected, known.kappa) if certified else NAN,
        "interface": known.gap.bound,
    }
    bounds["total"] = theorem.total_bound(*bounds.values()) if certified else NAN
    measured = {
        "residual": root_interval(measure_errors(interface, tables, target.fixed.q).squares),
        "approximation": (interface.norm(target.fixed.q - target.q_phi),) * 3,
        "interface": (known.gap.gap,) * 3,
        "total": root_interval(oracle_squares(target, tables)),
    }
    return [
        checked(Row(
            axis="total", cell=f"total/m{width}/eta{eta:g}/K{k}", series=term, term=term,
            group=f"m = {width}, eta = {eta:g}", x_name="handoffs", x=k, width=width, gap=eta, samples=k,
            tail_samples=k, measured=value, ci_low=low, ci_high=high, bound=bounds[term],
            replicas=replicas if term in ("residual", "total") else 0, **target.constants(),
        ))
        for term, (value, low, high) in measured.items()
    ]  # fmt: skip


def dominance(rows: list[Row]) -> list[Claim]:
    """Which measured term is the largest in how many cells of the grid."""
    cells: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.axis == "total" and row.series != "total":
            cells.setdefault(row.cell, {})[row.series] = row.measured
    if not cells:
        return []
    counts = {term: sum(max(c, key=c.__getitem__) == term for c in cells.values()) for term in
              ("residual", "approximation", "interface")}  # fmt: skip
    text = ", ".join(f"{term} in {count}" for term, count in counts.items())
    ruled = float(sum(count > 0 for count in counts.values()))
    return [
        Claim("total_dominance", f"Largest measured term over the {len(cells)} cells of the grid: {text}.", ruled,
              "reported", None)
    ]  # fmt: skip
