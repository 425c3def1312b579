"""The duration axis: gamma_bar, not gamma, sets the error constant and the contraction (L1, T1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from bound_validation import theorem
from bound_validation.axes.gap.measure import analysed
from bound_validation.measure import Progress
from bound_validation.results import Row, checked
from bound_validation.sweeps import Preset
from bound_validation.tasks import Claim, Task, TaskResult
from icsmdp_jax.envs.planted.model import sharp_family
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.interface import InterfaceModel, ais_constants, interface_gap, solve_both
from icsmdp_jax.exact.solve import backup, greedy_value

WORK_PER_MODEL = 100_000
RARE_FLIP = 1e-4  # the sharp family is then within 0.1 % of Theorem 1 at every mean duration of the presets


def tasks(preset: Preset) -> list[Task]:
    """One exact task over laws and means."""
    spec = preset.durations
    cells = len(spec.laws) * len(spec.means)
    return [Task("durations", lambda progress: measure(preset, progress), WORK_PER_MODEL * cells, cells, False)]


def measure(preset: Preset, progress: Progress) -> TaskResult:
    """Error constant of the sharp family and of planted models, and the contraction of one backup."""
    spec = preset.durations
    gamma = spec.model.gamma
    naive = theorem.effective_horizon(gamma)
    rows: list[Row] = []
    for law in spec.laws:
        for index, mean in enumerate(spec.means):
            cell = f"durations/{law}/{index}"
            model = sharp_family(1.0, gamma, RARE_FLIP, mean, law, spec.longest)
            interface, q_phi, q_star = solve_both(model)
            ais = ais_constants(interface)
            gap = interface_gap(interface, q_phi, q_star, ais)
            modulus = interface.gamma_bar
            horizon = theorem.effective_horizon(modulus)
            rows.append(checked(Row(
                axis="durations", cell=cell, series="amplification", group=law, term="interface",
                x_name="mean duration", x=mean, measured=gap.gap / ais.epsilon, bound=horizon, prediction=horizon,
                alternative=naive, gamma=gamma, gamma_bar=modulus, epsilon=ais.epsilon, delta=ais.delta,
            )))  # fmt: skip
            config = spec.model.replace(
                duration_law=law, duration_mean=mean, longest_duration=spec.longest, duration_spread=0.0
            )
            rows += _planted(cell, law, mean, analysed(config), gamma, naive, spec.perturbations, spec.seed)
            progress(WORK_PER_MODEL)
    return TaskResult(rows, {}, _claims(rows))


def _planted(
    cell: str,
    law: str,
    mean: float,
    known: Analysis,
    gamma: float,
    naive: float,
    perturbations: int,
    seed: int,
) -> list[Row]:
    interface, gap = known.interface, known.gap
    modulus = interface.gamma_bar
    shared: dict[str, Any] = {
        "axis": "durations", "cell": cell, "group": law, "x_name": "mean duration", "x": mean, "gamma": gamma,
        "gamma_bar": modulus, "kappa": known.kappa, "certified": known.a6_certified,
    }  # fmt: skip
    ratio = Row(
        series="planted_ratio", term="interface", measured=gap.gap / gap.value_numerator,
        bound=theorem.effective_horizon(modulus), alternative=naive, **shared,
    )  # fmt: skip
    observed = measured_contraction(interface, perturbations, seed)
    contraction = Row(series="contraction", measured=observed, bound=modulus, alternative=gamma, **shared)
    return [checked(ratio), checked(contraction)]


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
