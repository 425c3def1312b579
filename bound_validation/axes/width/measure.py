"""The width axis: approximation error against features per agent (T2, T2.1)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from bound_validation import theorem
from bound_validation.axes.width import trained
from bound_validation.axes.width.spec import WidthSpec
from bound_validation.axis import Settings
from bound_validation.cell import feature_errors, planted_of
from bound_validation.intervals import fitted_slope, resampled_roots, root_interval
from bound_validation.results import ROUNDING, Row, by_replica, checked
from bound_validation.tasks import Claim, Progress, Task, TaskResult, in_range
from icsmdp_jax.envs.planted.model import PlantedModel
from icsmdp_jax.exact.constants import kappa_certificate
from icsmdp_jax.exact.interface import InterfaceModel

DOUBT = 1e-12  # ratio of eigenvalues of a Gram matrix below which its rank is left to a singular value decomposition
PER_DRAW = 0.026  # CPU seconds
WORK_PER_DRAW = 20_000  # progress units (about one handoff each) that one feature draw is worth


def tasks(spec: WidthSpec, settings: Settings) -> list[Task]:
    """All feature draws, everything exact in float64; and, where the preset has them, trained nets."""
    work = WORK_PER_DRAW * spec.draws * len(spec.widths)
    out = [
        Task(
            "width",
            partial(measure, spec, settings),
            work,
            len(spec.widths),
            joint=False,
            seconds=PER_DRAW * spec.draws * len(spec.widths),
        )
    ]
    if spec.trained is not None:
        nets = spec.trained
        seconds = trained.seconds(nets)
        out.append(
            Task("width/trained", partial(measure_trained, spec), trained.work(nets), len(nets.widths), seconds=seconds)
        )
    return out


def measure_trained(spec: WidthSpec, progress: Progress) -> TaskResult:
    """Nets whose hidden layer is trained by IC-Q, on the same planted model."""
    planted = planted_of(spec.model)
    assert spec.trained is not None
    return trained.measure(planted, constants(planted), spec.trained, progress)


def constants(planted: PlantedModel) -> dict[str, Any]:
    """Columns of the table that all rows of this axis share."""
    kappa = kappa_certificate(planted.interface)
    return {
        "certified": kappa < 1,
        "gamma": planted.config.gamma,
        "gamma_bar": planted.interface.gamma_bar,
        "kappa": kappa,
        "width_constant": planted.width_constant,
        "q_norm": planted.q_norm,
        "action_gap": planted.action_gap,
        "gap": planted.config.gap,
    }


def measure(spec: WidthSpec, settings: Settings, progress: Progress) -> TaskResult:
    """Errors of the sampled approximant, the projection and ``Q_m`` over independent feature draws."""
    planted = planted_of(spec.model)
    shared = constants(planted) | {"replicas": spec.draws}
    kappa, c = shared["kappa"], shared["width_constant"]
    rows: list[Row] = []
    squares: dict[str, list[np.ndarray]] = {"approximant": [], "projection": [], "fixed_point": []}
    for index, width in enumerate(spec.widths):
        errors = _draw_errors(planted, width, spec.draws, spec.seed + 1000 * index, progress)
        rate = theorem.width_rate(c, width)
        projected = root_interval(errors["projection"])
        lines: dict[str, dict[str, Any]] = {
            "approximant": {"prediction": rate},
            "projection": {"bound": rate, "trivial": planted.q_norm, "term": "approximation"},
            "fixed_point": {
                "bound": theorem.approximation_bound(projected[0], kappa) if kappa < 1 else np.nan,
                "alternative": theorem.approximation_guarantee(c, width, kappa) if kappa < 1 else np.nan,
                "trivial": planted.q_norm,
                "term": "approximation",
            },
        }
        for series, line in lines.items():
            squares[series].append(errors[series])
            value, low, high = root_interval(errors[series])
            row = Row(
                axis="width", cell=f"width/{index}", series=series, x_name="features per agent", x=width, width=width,
                measured=value, ci_low=low, ci_high=high, **line, **shared,
                function_class="linear", **by_replica("rms", np.sqrt(errors[series])),
            )  # fmt: skip
            rows.append(checked(row))
    widths = np.array(spec.widths, float)
    slopes = {}
    for series, target in (("approximant", {"target": -0.5, "target_low": -0.55, "target_high": -0.45}),
                           ("projection", {}), ("fixed_point", {})):  # fmt: skip
        values = np.array([r.measured for r in rows if r.series == series])
        positive = values > ROUNDING * rows[0].scale  # from some width on the features span everything
        draws = resampled_roots([s for s, keep in zip(squares[series], positive, strict=True) if keep],
                                settings.resamples, spec.seed)  # fmt: skip
        slopes[f"width_{series}"] = fitted_slope(widths[positive], values[positive], draws, **target)
    off = max(abs(r.measured / r.prediction - 1) for r in rows if r.series == "approximant")
    slope = slopes["width_approximant"]
    claims = [
        in_range("width_approximant_rate", "The sampled approximant lies within 10 % of C m^(-1/2) at every width "
                 "(largest relative deviation; T2.1).", off, 0.0, 0.1),
        in_range("width_approximant_slope", "Its fitted slope in m is within 0.05 of -1/2.", slope.slope, -0.55, -0.45,
                 ci_low=slope.ci_low, ci_high=slope.ci_high),
        in_range("width_constant", "The planted constant C is at most six times the norm of Q_phi, so that the "
                 "guarantee says something.", c / planted.q_norm, 0.0, 6.0),
    ]  # fmt: skip
    if kappa >= 1:
        claims.append(
            Claim("width_a6", "A6 is not certified on this axis: no Theorem 2 is claimed.", kappa, "< 1", None)
        )
    return TaskResult(rows, slopes, claims)


def _draw_errors(planted: PlantedModel, width: int, draws: int, seed: int, progress: Progress) -> dict[str, np.ndarray]:
    """Squared errors ``[draws]`` of the three approximations of ``Q_phi``."""
    interface, q = planted.interface, planted.q_planted
    out: dict[str, list[float]] = {"approximant": [], "projection": [], "fixed_point": []}
    for draw in range(draws):
        raw, indices = planted.draw_features(np.random.default_rng([seed, draw]), width)
        out["approximant"].append(interface.norm(planted.sampled_approximant(indices) - q) ** 2)
        if spans_everything(raw, interface):  # the projection is the identity, and Q_m is Q_phi
            out["projection"].append(0.0)
            out["fixed_point"].append(0.0)
        else:
            projected, fixed = feature_errors(interface, raw, q)
            out["projection"].append(projected)
            out["fixed_point"].append(fixed)
        progress(WORK_PER_DRAW)
    return {name: np.array(values) for name, values in out.items()}


def spans_everything(raw: np.ndarray, interface: InterfaceModel) -> bool:
    """Whether every table over an agent's interfaces is a combination of its features, for every agent.

    By the Gram matrices of the agents' rows, which tell singular values apart down to a millionth of the largest one;
    where they leave a doubt the answer is no, and the projection is computed.

    Args:
      raw: ``[Z, m]`` features.
      interface: gives the owner and the weight of each interface.
    """
    owner = np.where(interface.mask.any(axis=1), interface.model.interface_agent, -1)
    for agent in range(interface.model.num_agents):
        rows = raw[owner == agent]
        if len(rows) > raw.shape[1]:
            return False
        if len(rows):
            values = np.linalg.eigvalsh(rows @ rows.T)
            if values[0] < DOUBT * values[-1]:
                return False
    return True
