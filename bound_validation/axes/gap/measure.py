"""The gap axis: the interface gap against eta, exactly and in IC-Q runs, and the sharp family (T1)."""

from __future__ import annotations

from functools import lru_cache

import jax
import numpy as np

from bound_validation import theorem
from bound_validation.measure import Progress, Target, fitted_slope, lane_average, root_interval, theorem_run
from bound_validation.results import Row, checked
from bound_validation.sweeps import Preset
from bound_validation.tasks import Claim, Task, TaskResult, in_range
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model, sharp_family
from icsmdp_jax.exact.chain import mixing_time
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.interface import InterfaceModel, ais_constants, interface_gap, solve_both

WORK_PER_MODEL = 50_000


@lru_cache(maxsize=128)
def analysed(config: PlantedConfig) -> Analysis:
    """Analysis of a planted model under its own behaviour policy; remembered within a run."""
    planted = planted_model(config)
    return analyse(planted.model, planted.behaviour)


def tasks(preset: Preset) -> list[Task]:
    """Exact gaps, the sharp family, and IC-Q runs at every gap."""
    spec = preset.gap
    gaps, flips = len(spec.gaps), len(spec.flips)
    learned = spec.replicas * spec.samples * gaps
    return [
        Task("gap/exact", lambda progress: exact(preset, progress), WORK_PER_MODEL * gaps, gaps, joint=False),
        Task("gap/sharp", lambda progress: sharp(preset, progress), WORK_PER_MODEL * flips, flips, joint=False),
        Task("gap/learned", lambda progress: learned_error(preset, progress), learned, gaps),
    ]


def exact(preset: Preset, progress: Progress) -> TaskResult:
    """The gap and the policy loss at every eta, with all forms of Theorem 1."""
    spec = preset.gap
    rows: list[Row] = []
    for index, eta in enumerate(spec.gaps):
        known = analysed(spec.model.replace(gap=eta))
        gap = known.gap
        for series, measured, bound in (
            ("gap", gap.gap, theorem.interface_bound(known.ais.epsilon, known.ais.delta, gap.value_norm,
                                                     known.interface.gamma_bar)),
            ("gap_value_aware", gap.gap, theorem.interface_bound_value_aware(gap.value_numerator,
                                                                             known.interface.gamma_bar)),
            ("gap_mass_span", gap.gap, gap.bound_mass_span),
            ("policy_loss", gap.policy_loss, theorem.policy_loss_bound(gap.bound)),
        ):  # fmt: skip
            row = Row(
                axis="gap", cell=f"gap/{index}", series=series, term="interface", x_name="eta", x=eta, gap=eta,
                measured=measured, bound=bound, **Target(known).constants(),
            )  # fmt: skip
            rows.append(checked(row))
        progress(WORK_PER_MODEL)
    gaps = [r for r in rows if r.series == "gap"]
    positive = [r for r in gaps if r.x > 0]
    slope = fitted_slope(
        np.array([r.x for r in positive]), np.array([r.measured for r in positive]),
        target=1.0, target_low=0.95, target_high=1.05,
    )  # fmt: skip
    closed = max((r.measured for r in gaps if r.x == 0), default=float("nan"))
    claims = [
        in_range("gap_closed", "The gap is 0 at eta = 0 (largest value found).", closed, 0.0, 1e-9),
        in_range("gap_slope", "The gap grows linearly in eta (slope in log-log coordinates).", slope.slope, 0.95, 1.05,
                 ci_low=slope.ci_low, ci_high=slope.ci_high),
    ]  # fmt: skip
    return TaskResult(rows, {"gap": slope}, claims)


def sharp(preset: Preset, progress: Progress) -> TaskResult:
    """The sharp family: one hidden bit; the gap meets Theorem 1 as the bit flips ever more rarely (T1.4)."""
    spec = preset.gap
    rows: list[Row] = []
    for index, flip in enumerate(spec.flips):
        model = sharp_family(flip_probability=flip, gamma=spec.model.gamma, duration_mean=spec.model.duration_mean)
        interface, q_phi, q_star = solve_both(model)
        ais = ais_constants(interface)
        gap = interface_gap(interface, q_phi, q_star, ais)
        modulus = interface.gamma_bar
        row = Row(
            axis="gap", cell=f"gap/sharp/{index}", series="sharp_family", group="sharp", term="interface",
            x_name="flip probability", x=flip, measured=gap.gap,
            bound=theorem.interface_bound(ais.epsilon, ais.delta, gap.value_norm, modulus),
            prediction=theorem.sharp_gap(ais.epsilon, modulus, flip), gamma=model.gamma, gamma_bar=modulus,
            epsilon=ais.epsilon, delta=ais.delta, value_norm=gap.value_norm, mixing_time=_mixing(interface),
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


def _mixing(interface: InterfaceModel) -> float:
    chain = interface.chain
    return mixing_time(chain.transition, chain.stationary[chain.states])


def learned_error(preset: Preset, progress: Progress) -> TaskResult:
    """Error of tabular IC-Q against ``Q*`` at every gap, one lane per gap, beside T3 + T1 (T4)."""
    spec = preset.gap
    targets = [Target(analysed(spec.model.replace(gap=eta))) for eta in spec.gaps]
    run = theorem_run(
        [(t, spec.samples) for t in targets], jax.random.key(spec.seed), spec.replicas, [spec.samples],
        preset.chunk, progress,
    )  # fmt: skip
    rows: list[Row] = []
    for index, (eta, target) in enumerate(zip(spec.gaps, targets, strict=True)):
        tables = target.tables(lane_average(run, index, 0))
        squares = oracle_squares(target, tables)
        value, low, high = root_interval(squares)
        known = target.known
        residual = target.residual_bound(spec.samples)
        row = Row(
            axis="gap", cell=f"gap/{index}", series="icq_error", term="total", x_name="eta", x=eta, gap=eta,
            measured=value, ci_low=low, ci_high=high, replicas=spec.replicas, samples=spec.samples,
            tail_samples=spec.samples,
            bound=theorem.total_bound(residual, 0.0, known.gap.bound) if known.a6_certified else float("nan"),
            alternative=known.gap.gap, **target.constants(),
        )  # fmt: skip
        rows.append(checked(row))
    return TaskResult(rows, {}, [], run.compile_s, run.handoffs)


def oracle_squares(target: Target, tables: np.ndarray) -> np.ndarray:
    """``[replicas]`` squared ``||Q(phi(s), o) - Q*(s, o)||_d``."""
    interface = target.known.interface
    keep = interface.decision_pairs
    weight = (interface.chain.stationary[:, None] * interface.lift(interface.chain.behaviour))[keep]
    lifted = tables[:, interface.model.interface][:, keep]
    return ((lifted - target.known.q_star.q[keep]) ** 2) @ weight
