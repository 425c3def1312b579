"""The duration axis: gamma_bar, not gamma, sets the error constant and the contraction (L1, T1)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from bound_validation import theorem
from bound_validation.axes.durations.spec import DurationsSpec
from bound_validation.axis import Settings
from bound_validation.bounds import value_width
from bound_validation.cell import analysed
from bound_validation.results import Row, checked
from bound_validation.tasks import Claim, Progress, Task, TaskResult
from icsmdp_jax.envs.planted.model import sharp_family
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.solve import backup, greedy_value

WORK_PER_MODEL = 100_000
NOT_EXPANDING = 1.0  # what holds of every backup, whatever its durations and discount
RARE_FLIP = 1e-4  # the sharp family is then within 0.1 % of Theorem 1 at every mean duration of the presets


def tasks(spec: DurationsSpec, settings: Settings) -> list[Task]:
    """One exact task over laws and means."""
    cells = len(spec.laws) * len(spec.means)
    return [
        Task("durations", partial(measure, spec), WORK_PER_MODEL * cells, cells, joint=False, seconds=0.065 * cells)
    ]


def measure(spec: DurationsSpec, progress: Progress) -> TaskResult:
    """Error constant of the sharp family and of planted models, and the contraction of one backup."""
    rows: list[Row] = []
    for law in spec.laws:
        for index, mean in enumerate(spec.means):
            rows += _cell(spec, law, index, mean)
            progress(WORK_PER_MODEL)
    return TaskResult(rows, {}, _claims(rows))


def _cell(spec: DurationsSpec, law: str, index: int, mean: float) -> list[Row]:
    gamma = spec.model.gamma
    naive = theorem.effective_horizon(gamma)
    shared: dict[str, Any] = {
        "axis": "durations", "cell": f"durations/{law}/{index}", "group": law, "x_name": "mean duration", "x": mean,
        "gamma": gamma,
    }  # fmt: skip
    sharp = analyse(sharp_family(1.0, gamma, RARE_FLIP, mean, law, spec.longest))
    modulus = sharp.interface.gamma_bar
    horizon = theorem.effective_horizon(modulus, sharp.interface.least_killing)
    amplification = Row(
        series="amplification", term="interface", measured=sharp.gap.gap / sharp.ais.epsilon, bound=horizon,
        trivial=value_width(sharp) / sharp.ais.epsilon, prediction=horizon, alternative=naive, gamma_bar=modulus,
        epsilon=sharp.ais.epsilon, delta=sharp.ais.delta, **shared,
    )  # fmt: skip
    config = spec.model.replace(
        duration_law=law, duration_mean=mean, longest_duration=spec.longest, duration_spread=0.0
    )
    known = analysed(config)
    modulus = known.interface.gamma_bar
    shared |= {"gamma_bar": modulus, "kappa": known.kappa, "certified": known.a6_certified}
    ratio = Row(
        series="planted_ratio", term="interface", measured=known.gap.gap / known.gap.value_numerator,
        bound=theorem.effective_horizon(modulus, known.interface.least_killing),
        trivial=value_width(known) / known.gap.value_numerator, alternative=naive, **shared,
    )  # fmt: skip
    observed = measured_contraction(known.interface, spec.perturbations, spec.seed)
    contraction = Row(
        series="contraction", measured=observed, bound=modulus, trivial=NOT_EXPANDING, alternative=gamma, **shared
    )
    return [checked(amplification), checked(ratio), checked(contraction)]


def measured_contraction(interface: InterfaceModel, perturbations: int, seed: int) -> float:
    """Largest observed ``||T Q_1 - T Q_2|| / ||Q_1 - Q_2||`` in the sup norm, over random and constant differences.

    Args:
      interface: gives the Bellman operator on states.
      perturbations: number of random pairs.
      seed: seed of the pairs.
    """
    m = interface.moments
    rng = np.random.default_rng(seed)
    largest = 0.0
    for trial in range(perturbations + 1):
        one = rng.normal(size=m.used.shape)
        other = one + (1.0 if trial == 0 else rng.normal(size=m.used.shape))
        values = [greedy_value(np.where(m.used, q, -np.inf)) for q in (one, other)]
        images = [backup(m.reward_mean, m.discounted, v, m.used) for v in values]
        keep = interface.decision_pairs
        change = np.abs(images[0][keep] - images[1][keep]).max()
        largest = max(largest, float(change / np.abs(one - other)[keep].max()))
    return largest


def _claims(rows: list[Row]) -> list[Claim]:
    sharp = [r for r in rows if r.series == "amplification"]
    right = max(abs(r.measured / r.prediction - 1) for r in sharp)
    wrong = max(r.alternative / r.measured for r in sharp)
    backups = [r for r in rows if r.series == "contraction"]
    exact = max(abs(r.measured / r.bound - 1) for r in backups)
    return [
        Claim("durations_horizon", "1/(1 - gamma_bar) is the error constant at every mean and law (largest relative "
              "deviation of the sharp family).", right, "below 0.02", right < 0.02),
        Claim("durations_gamma", "1/(1 - gamma) is not: it is too large by up to this factor.", wrong, "above 1.5",
              wrong > 1.5),
        Claim("durations_contraction", "One Bellman backup contracts by gamma_bar, attained by constant differences "
              "(largest relative deviation).", exact, "below 1e-9", exact < 1e-9),
    ]  # fmt: skip
