"""What is guaranteed and what is predicted for IC-Q on one model, for a step rule known in advance.

Projected runs have T3, T3.1 and T3+; plain runs on the shared clock have the prediction of theorem B and, with tables,
its certificate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from bound_validation import theorem
from bound_validation.bounds import classic_bound, interface_bound, poisson_bound
from icsmdp_jax.devices.cores import usable_cores
from icsmdp_jax.devices.placement import host_memory
from icsmdp_jax.exact.comparison import comparison, linear_process
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.learner.memory import in_units
from icsmdp_jax.learner.schedules import StepSize, polynomial, shared_clock

WORDS = 16  # float64 for each handoff: steps on host and device, and what the recursions leave after it


class Certificate(NamedTuple):
    """Roots of mean squares in ``||.||_d``, units of reward; NaN where a statement does not apply.

    Attributes:
      samples: handoffs K.
      prediction: RMSE of the linear process that the run is compared with (theorem B).
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


def step_size(schedule: str, samples: int, known: Analysis) -> StepSize:
    """The schedule as the learner takes it, in float32; arguments as in ``steps``, ``samples`` is K."""
    scale, rescale, power = shared_clock(schedule, samples, known.omega, known.kappa)
    return polynomial(power, rescale, scale)


def forecast(known: Analysis, samples: Sequence[int], schedule: str) -> tuple[list[float], list[float]]:
    """Prediction of the RMSE to ``Q_m`` of the uniform average, and its certificate, for plain runs from 0 (theorem B).

    Args:
      known: the analysed model; of a linear class there is a prediction only, and the certificates are NaN.
      samples: increasing numbers of handoffs; under the constant schedule each is a run with a step of its own.
      schedule: as in ``steps``.

    Returns:
      Two lists, one number for each K.

    Raises:
      ValueError: as in ``steps``, and if the moments of the model, or this many handoffs, do not fit into memory.
    """
    _check_memory(max(samples))
    interface, tabular = known.interface, known.basis is None
    if tabular:
        process = linear_process(interface, known.q_phi_table)
    else:
        assert known.basis is not None
        read = known.basis.psi(interface.mask).toarray().reshape(*interface.mask.shape, -1)
        process = linear_process(interface, known.fixed.q, read, start=-known.fixed.theta)
    runs = [(k,) for k in samples] if schedule == "constant" else [tuple(samples)]
    found = [
        comparison(process, steps(schedule, counts[-1], known.omega, known.kappa), counts, certify=tabular)
        for counts in runs
    ]
    prediction = np.concatenate([moments.prediction for moments in found])
    return prediction.tolist(), np.concatenate([moments.certificate for moments in found]).tolist()


def forecasts(jobs: Sequence[tuple[Analysis, Sequence[int], str]]) -> list[tuple[list[float], list[float]]]:
    """``forecast`` for several models or schedules of one shape, side by side on the cores of this host."""
    if not jobs:
        return []
    known, _, schedule = jobs[0]
    forecast(known, [1], schedule)  # compiles what all of them share
    with ThreadPoolExecutor(min(len(jobs), usable_cores())) as pool:
        return list(pool.map(lambda job: forecast(*job), jobs))


def tabular_certificates(known: Analysis, samples: Sequence[int], schedule: str = "constant") -> list[Certificate]:
    """Prediction and certificates of the uniform average, from a table of zeros and a stationary start.

    Arguments and errors as for ``forecast``, with tables.
    """
    predictions, certificates = forecast(known, samples, schedule)
    trivial, aware = known.interface.norm(known.q_phi_table), interface_bound(known)
    projected = schedule == "constant"
    out = []
    for k, prediction, certificate in zip(samples, predictions, certificates, strict=True):
        poisson = poisson_bound(known, k) if projected else math.nan
        classic = classic_bound(known, k) if projected else math.nan
        best = float(np.nanmin([certificate, poisson, classic]))
        out.append(Certificate(
            k, prediction, certificate, poisson, classic, best, trivial, bool(theorem.informative(best, trivial)),
            best + aware, aware,
        ))  # fmt: skip
    return out


def _check_memory(samples: int) -> None:
    """Refuses more handoffs than the recursions have memory for."""
    wanted, most = 8 * WORDS * samples, host_memory()
    if wanted > most:
        raise ValueError(
            f"samples = {samples}: the forecast is {in_units(wanted)}, expected at most {in_units(most)}; "
            f"{most // (8 * WORDS)} would fit"
        )
