"""One's own model: every constant and term, the samples axis, and the width axis where features are given."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from bound_validation import theorem
from bound_validation.axes.samples.measure import measure_bounds, measure_limit
from bound_validation.measure import Progress, Target, fitted_slope, resampled_roots, root_interval
from bound_validation.results import NAN, Row, checked
from bound_validation.sweeps import SamplesSpec
from bound_validation.tasks import Claim, Task, TaskResult
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.fixed_point import projected_fixed_point, projection, whiten
from icsmdp_jax.learner.experiment import random_relu

TIE = 1e-9  # relative lead under which two options of Q_phi count as equally good


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What is run on a model of one's own.

    Attributes:
      limit_samples: handoff counts of the tail-averaged run; halves must be multiples of the chunk.
      replicas: replicas of that run.
      theorem_samples: handoff counts under Theorem 3's schedules.
      theorem_replicas: replicas of those.
      draws: feature draws per width.
      chunk: handoffs per compiled chunk.
      resamples: bootstrap resamples.
      seed: seed of everything.
    """

    limit_samples: tuple[int, ...]
    replicas: int
    theorem_samples: tuple[int, ...]
    theorem_replicas: int
    draws: int
    chunk: int
    resamples: int
    seed: int = 17

    def samples_spec(self) -> SamplesSpec:
        """The same as a spec of the samples axis."""
        return SamplesSpec(
            "tabular", "tabular", self.limit_samples, self.replicas, self.theorem_samples, self.theorem_replicas,
            seed=self.seed,
        )  # fmt: skip


SPECS = {
    "testing": ModelSpec((4000, 8000, 16_000), 8, (1000, 4000), 8, 8, 500, 200),
    "quick": ModelSpec(tuple(8000 * 2**i for i in range(9)), 32, (1000, 10_000, 100_000), 16, 64, 1000, 1000),
    "full": ModelSpec(
        tuple(8000 * 2**i for i in range(12)), 64, (1000, 10_000, 100_000, 1_000_000), 32, 200, 1000, 1000
    ),
}  # fmt: skip


def tasks(known: Analysis, spec: ModelSpec) -> list[Task]:
    """The tasks that apply to a model: Theorem 1 always, samples always, Theorem 3 under A6, width with features."""
    target = Target(known)
    samples = spec.samples_spec()
    out = [
        Task("model/interface", lambda p: interface_terms(target, p), 10_000, joint=False),
        Task(
            "model/limit",
            lambda p: limit(target, spec, samples, p),
            spec.replicas * max(spec.limit_samples),
            len(spec.limit_samples),
        ),
    ]
    if known.a6_certified:
        work = spec.theorem_replicas * max(spec.theorem_samples) * (len(spec.theorem_samples) + 1)
        out.append(Task("model/theorem", lambda p: bounds(target, spec, samples, p), work, len(spec.theorem_samples)))
    if known.interface.model.features is not None:
        count = len(widths_for(known))
        work = 10_000 * spec.draws * count
        out.append(Task("model/width", lambda p: width(target, spec, p), work, count, joint=False))
    return out


def interface_terms(target: Target, progress: Progress) -> TaskResult:
    """The interface gap with all forms of Theorem 1, and whether A6 is certified (T1, P1)."""
    known = target.known
    gap, modulus = known.gap, known.interface.gamma_bar
    rows = []
    for series, measured, bound in (
        ("gap", gap.gap, theorem.interface_bound(known.ais.epsilon, known.ais.delta, gap.value_norm, modulus)),
        ("gap_value_aware", gap.gap, theorem.interface_bound_value_aware(gap.value_numerator, modulus)),
        ("gap_mass_span", gap.gap, gap.bound_mass_span),
        ("policy_loss", gap.policy_loss, theorem.policy_loss_bound(gap.bound)),
    ):
        row = Row(
            axis="model", cell="model/interface", series=series, term="interface", x_name="model", x=0.0,
            measured=measured, bound=bound, gap=NAN, note=_uncertified(target), **target.constants(),
        )  # fmt: skip
        rows.append(checked(row))
    progress(10_000)
    if known.a6_certified:
        text = "A6 is certified for this model under this behaviour policy, so Theorems 2 and 3 apply (kappa)."
    else:
        text = "A6 is not certified for this model (kappa is not below 1): no Theorem 2 or 3 is claimed."
    return TaskResult(rows, {}, [Claim("model_a6", text, known.kappa, "below 1", True if known.a6_certified else None)])


def _uncertified(target: Target) -> str:
    if target.known.a6_certified:
        return ""
    return f"A6 not certified (kappa = {target.known.kappa:.4g}): no Theorem 2 or 3 claimed"


def limit(target: Target, spec: ModelSpec, samples: SamplesSpec, progress: Progress) -> TaskResult:
    """Spread, bias and RMSE of tail-averaged tabular IC-Q, and whether its greedy options are best ones."""
    result, tables = measure_limit(samples, target, "model", spec.chunk, spec.resamples, progress)
    result.claims.append(greedy_claim(target, tables, spec.limit_samples[-1]))
    return _as_model(result, target)


def bounds(target: Target, spec: ModelSpec, samples: SamplesSpec, progress: Progress) -> TaskResult:
    """RMSE of the uniform average under Theorem 3's schedules."""
    return _as_model(measure_bounds(samples, target, "model", spec.chunk, progress), target)


def _as_model(result: TaskResult, target: Target) -> TaskResult:
    note = _uncertified(target)
    result.rows = [dataclasses.replace(row, note=note, gap=NAN) for row in result.rows]
    return result


def greedy_claim(target: Target, tables: np.ndarray, samples: int) -> Claim:
    """In how many replicas IC-Q's greedy option is one of the best options of ``Q_phi`` at every interface.

    Args:
      target: the model.
      tables: ``[replicas, Z, O]`` learned values.
      samples: handoffs behind them.
    """
    mask = target.known.interface.mask
    decides = mask.any(axis=1)
    q = np.where(mask, target.q_phi, -np.inf)[decides]
    best = q.max(axis=1)
    chosen = np.where(mask, tables, -np.inf)[:, decides].argmax(axis=2)
    value = np.take_along_axis(np.broadcast_to(q, (len(chosen), *q.shape)), chosen[:, :, None], axis=2)[:, :, 0]
    right = value >= best - TIE * (1 + np.abs(best))
    text = (
        f"IC-Q's greedy option is a best option of Q_phi at {100 * right.mean():.4g} % of interfaces on average; "
        f"at every interface in this many of {len(tables)} replicas ({samples} handoffs each)."
    )
    return Claim("model_greedy", text, float(right.all(axis=1).sum()), "reported", None)


def widths_for(known: Analysis) -> list[int]:
    """Feature counts 2, 4, ... below the largest number of interfaces of one agent, at least one width."""
    owners = known.interface.model.interface_agent
    largest = int(np.bincount(owners[owners >= 0]).max())
    return [2**i for i in range(1, max(1, math.ceil(math.log2(max(largest, 2)))) + 1)]


def width(target: Target, spec: ModelSpec, progress: Progress) -> TaskResult:
    """Projection error and ``||Q_m - Q_phi||_d`` of random ReLU features of the model's own features (T2)."""
    known, interface = target.known, target.known.interface
    x = interface.model.features
    assert x is not None
    rows: list[Row] = []
    widths = widths_for(known)
    squares: list[np.ndarray] = []
    for index, m in enumerate(widths):
        projected, fixed = [], []
        for draw in range(spec.draws):
            rng = np.random.default_rng([spec.seed, index, draw])
            raw = random_relu(x, interface.model.interface_agent, m, rng)
            operator = projection(interface, whiten(raw, interface))
            solution = projected_fixed_point(interface, operator, target.q_phi, 1e-10, max_iterations=3000)
            projected.append(interface.norm(operator(target.q_phi) - target.q_phi) ** 2)
            fixed.append(interface.norm(solution.q - target.q_phi) ** 2 if solution.converged else np.nan)
            progress(10_000)
        squares.append(np.array(projected))
        near = root_interval(np.array(projected))
        settled = np.array(fixed)[np.isfinite(fixed)]
        shared = {
            "axis": "model", "cell": f"model/width/{index}", "x_name": "features per agent", "x": m, "width": m,
            "replicas": spec.draws, "certified": known.a6_certified, "kappa": known.kappa,
            "gamma_bar": interface.gamma_bar, "note": _uncertified(target), "gap": NAN,
        }  # fmt: skip
        rows.append(checked(Row(series="projection", measured=near[0], ci_low=near[1], ci_high=near[2], **shared)))  # type: ignore[arg-type]
        if len(settled) == spec.draws:
            value, low, high = root_interval(settled)
            bound = theorem.approximation_bound(near[0], known.kappa) if known.a6_certified else NAN
            rows.append(checked(Row(
                series="fixed_point", measured=value, ci_low=low, ci_high=high, bound=bound,
                term="approximation" if known.a6_certified else "", **shared,  # type: ignore[arg-type]
            )))  # fmt: skip
    slopes = {}
    values = np.array([r.measured for r in rows if r.series == "projection"])
    positive = values > 1e-9
    if positive.sum() >= 2:
        draws = resampled_roots(
            [s for s, keep in zip(squares, positive, strict=True) if keep], spec.resamples, spec.seed
        )
        slopes["model_width_projection"] = fitted_slope(
            np.array(widths, float)[positive], values[positive], np.maximum(draws, 1e-12)
        )  # fmt: skip
    return TaskResult(rows, slopes, [])
