"""What is guaranteed and what is predicted of tabular IC-Q on one model, for a step rule known in advance.

Projected runs have T3, T3.1 and T3+; plain runs on the shared clock have the prediction and the certificate of
theorem B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bound_validation import theorem
from bound_validation.cell import radius, residual_bound
from icsmdp_jax.exact.comparison import comparison, linear_process
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.poisson import linear_bounds, poisson_constants
from icsmdp_jax.learner.schedules import shared_clock


class Certificate(NamedTuple):
    """Roots of mean squares in ``||.||_d``, units of reward; NaN where a statement does not apply.

    Attributes:
      samples: handoffs K.
      prediction: RMSE of the linear process beside the run (theorem B).
      comparison: certificate of theorem B, for plain runs.
      poisson: T3+, for projected runs with a step that it covers.
      classic: T3, likewise.
      best: the smallest certificate.
      trivial: ``||Q_phi||_d``, the error of the table that a run starts from (D12).
      informative: whether ``best < trivial``.
      total: ``best`` and the interface bound together (T4).
      interface_bound_value_aware: T1.1.
    """

    samples: int
    prediction: float
    comparison: float
    poisson: float
    classic: float
    best: float
    trivial: float
    informative: bool
    total: float
    interface_bound_value_aware: float

    def plain(self) -> dict[str, Any]:
        """The fields by name, with None for what does not apply."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in self._asdict().items()}


def steps(schedule: str, count: int, omega: float, kappa: float) -> np.ndarray:
    """``[count]`` float64 step sizes of a schedule on the shared clock, all at most 1; as in ``shared_clock``."""
    scale, rescale, power = shared_clock(schedule, count, omega, kappa)
    return np.minimum(1.0, scale * (1.0 + rescale * np.arange(count)) ** -power)


def tabular_certificates(known: Analysis, samples: Sequence[int], schedule: str = "constant") -> list[Certificate]:
    """Prediction and certificates of the uniform average, from a table of zeros and a stationary start.

    Args:
      known: the analysed model.
      samples: increasing numbers of handoffs; under the constant schedule each is a run with a step of its own.
      schedule: as in ``steps``.

    Raises:
      ValueError: as in ``steps``, and if the moments of the model do not fit into memory.
    """
    interface = known.interface
    process = linear_process(interface, known.q_phi_table)
    if schedule == "constant":
        runs = [comparison(process, steps(schedule, k, known.omega, known.kappa), [k]) for k in samples]
        prediction = [float(run.prediction[0]) for run in runs]
        certificate = [float(run.certificate[0]) for run in runs]
    else:
        run = comparison(process, steps(schedule, max(samples), known.omega, known.kappa), samples)
        prediction, certificate = run.prediction.tolist(), run.certificate.tolist()
    trivial = interface.norm(known.q_phi_table)
    aware = float(theorem.interface_bound_value_aware(known.gap.value_numerator, interface.gamma_bar))
    projected = schedule == "constant" and known.a6_certified
    poissons = poisson_residuals(known, samples) if projected else [math.nan] * len(samples)
    out = []
    for index, (k, poisson) in enumerate(zip(samples, poissons, strict=True)):
        classic = residual_bound(known, k) if projected else math.nan
        best = float(np.nanmin([certificate[index], poisson, classic]))
        out.append(Certificate(
            k, prediction[index], certificate[index], poisson, classic, best, trivial,
            bool(theorem.informative(best, trivial)), best + aware, aware,
        ))  # fmt: skip
    return out


def poisson_residuals(known: Analysis, samples: Sequence[int]) -> list[float]:
    """Roots of T3+ with the step ``K^(-1/2)`` for each K, tables, a start from 0; needs A6."""
    constants = poisson_constants(known.interface, linear_bounds(known.interface, radius(known)))
    distance = float(np.linalg.norm(known.fixed.theta))
    squares = [
        theorem.poisson_bound_constant_step(distance, *constants, known.kappa, theorem.constant_step(k), k)
        for k in samples
    ]
    return [float(theorem.residual_rms(square)) for square in squares]
