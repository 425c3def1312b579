"""The neural axis: projected neural IC-Q against theorem N, its parts, and the linearisation error on the path."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats

from bound_validation import theorem
from bound_validation.axes.neural.certificate import NetCertificate, certificate
from bound_validation.axes.neural.spec import NetRun, NeuralSpec
from bound_validation.axis import Settings
from bound_validation.bounds import oracle_norm
from bound_validation.cell import AnalysedCell, analysed, oracle_squares
from bound_validation.intervals import Slope, root_interval
from bound_validation.results import Row, by_replica
from bound_validation.tasks import Claim, Progress, Task, TaskResult, about, in_range
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.returns import mean_interval
from icsmdp_jax.learner.experiment import measure_errors, model_inputs, stationary_env
from icsmdp_jax.learner.icq import Learner
from icsmdp_jax.learner.near_start import as_units, near_start, net_data
from icsmdp_jax.learner.schedules import constant
from icsmdp_jax.learner.train import train

X_NAME = "units per agent and option"
LOOKS = 12  # times at which the linearisation error on the path is looked at
PROMISED = (1024, 100_000)  # width and handoffs from which the bound is claimed to say something
SLOPE_FROM = 64  # units from which the floor is claimed to fall with slope -1/2
ROUGH = 1e-3  # slack of the targets of starts of which only the floor is asked
WORK = 100_000  # progress units (about one handoff each) that the certificate of a start is worth


def tasks(spec: NeuralSpec, settings: Settings) -> list[Task]:
    """The certificates, exact in float64, and one task for each run."""
    count = len(spec.widths) * (spec.starts + 1)
    out = [
        Task("neural/certificates", partial(certificates, spec), WORK * count, count, joint=False, seconds=0.09 * count)
    ]
    for one in spec.runs:
        name = f"neural/{group_of(one.gap)[4:]}/m{one.width}/K{one.samples}"
        handoffs = one.samples * one.replicas
        seconds = about(0.4 * handoffs * one.width)
        out.append(Task(name, partial(run, spec, one, settings), handoffs, 1, seconds=seconds))
    return out


def group_of(gap: float) -> str:
    """Name of the rows of one model."""
    return "gap open" if gap > 0 else "gap closed"


def known_of(spec: NeuralSpec, gap: float) -> Analysis:
    """The model with this gap."""
    return analysed(spec.model.replace(gap=gap))


def cell_of(net: NetCertificate, gap: float, samples: int | None = None) -> AnalysedCell:
    """The cell of one width, or of a number of handoffs at that width."""
    width = net.start.width
    name = f"neural/{group_of(gap)[4:]}/m{width}" + (f"/K{samples}" if samples else "")
    place = {"axis": "neural", "cell": name, "group": group_of(gap), "x_name": X_NAME, "x": width}
    return AnalysedCell(net.known, {**place, "width": width, "gap": gap, "function_class": "neural"})


# Certificates


def certificates(spec: NeuralSpec, progress: Progress) -> TaskResult:
    """Approximation and parts of the bound at every width, and the floor over independent starts."""
    result = TaskResult()
    floors = np.empty((2, len(spec.widths), spec.starts))
    for index, width in enumerate(spec.widths):
        for gap in (0.0, spec.open_gap):
            net = certificate(known_of(spec, gap), width, spec.reach, spec.seed, 0)
            result.rows += exact_rows(net, gap, spec.samples)
            if gap == 0.0:
                floors[:, index, 0] = floors_of(net)
            progress(WORK)
        for start in range(1, spec.starts):
            net = certificate(known_of(spec, 0.0), width, spec.reach, spec.seed, start, ROUGH)
            floors[:, index, start] = floors_of(net)
            progress(WORK)
        cell = cell_of(net, 0.0)
        for series, values in zip(("floor", "frobenius_floor"), floors[:, index], strict=True):
            mean, low, high = mean_interval(values)[:3]
            result.rows.append(cell.row(series, (mean, max(low, 0.0), high), replicas=spec.starts, radius=net.radius))
    keep = np.array(spec.widths) >= SLOPE_FROM
    if keep.sum() > 1:
        widths = np.array(spec.widths, float)[keep]
        admitted = {"target": -0.5, "target_low": -0.6, "target_high": -0.4}
        slope = slope_of(widths, floors[0, keep], **admitted)
        result.slopes = {"neural_floor": slope, "neural_frobenius_floor": slope_of(widths, floors[1, keep])}
        result.claims.append(
            in_range("neural_floor_slope", f"The floor of theorem N falls like m^(-1/2) from {SLOPE_FROM} units on "
                     "(fitted slope over independent starts).", slope.slope, -0.6, -0.4, slope.ci_low, slope.ci_high)
        )  # fmt: skip
    return result


def floors_of(net: NetCertificate) -> tuple[float, float]:
    """What no number of samples removes with the gap closed: balls around units, and around whole nets."""
    e, h, _ = net.floors
    return float(theorem.neural_bound(e, h, 0.0, 0.0, net.known.kappa)), net.frobenius_floor()


def exact_rows(net: NetCertificate, gap: float, samples: Sequence[int]) -> list[Row]:
    """Approximation against N3, and the parts of the bound at every number of handoffs."""
    error, bound = net.approximation
    trivial = net.known.interface.norm(net.known.q_phi_table)
    columns: dict[str, Any] = {"term": "approximation", "bound": bound, "trivial": trivial, "radius": net.radius}
    rows = [cell_of(net, gap).row("approximation", error, **columns)]
    for k in samples:
        cell = cell_of(net, gap, k)
        rows += [cell.row(f"part_{name}", part, samples=k, radius=net.radius) for name, part in net.parts(k).items()]
    return rows


def slope_of(widths: np.ndarray, floors: np.ndarray, **target: float) -> Slope:
    """Mean over starts of the slopes of ``log floor``, with their t-interval; ``floors`` is ``[widths, starts]``."""
    fits = [stats.linregress(np.log10(widths), np.log10(column)) for column in floors.T]
    slope, low, high = (float(end) for end in mean_interval(np.array([fit.slope for fit in fits]))[:3])
    return Slope(slope, low, high, float(np.mean([fit.intercept for fit in fits])), **target)


# Runs


class Path(NamedTuple):
    """What one run gave.

    Attributes:
      tables: ``[replicas, Z, O]`` float64 nets at the average of the parameters.
      error: largest ``|Q_delta - Q^0_delta|`` at all looks, replicas, interfaces and options.
      compile_s: seconds of compilation.
      handoffs: handoffs simulated.
    """

    tables: np.ndarray
    error: float
    compile_s: float
    handoffs: int


def learned(net: NetCertificate, samples: int, replicas: int, seed: int, chunk: int, progress: Progress) -> Path:
    """Projected neural IC-Q from a certified start with the step of N+, float32.

    Args:
      net: the start with its certificate.
      samples: handoffs, a multiple of the chunk.
      replicas: independent runs of one start.
      seed: of the runs.
      chunk: handoffs per compiled chunk.
      progress: counts handoffs.
    """
    known, start = net.known, net.start
    model = known.interface.model
    env, env_params = stationary_env(known)
    values = near_start(model.num_agents, model.num_options, start.width)
    learner = Learner(env, values, clock="epoch", project=True)
    data = net_data(start.x, start.hidden, model.interface_agent)
    radius = float(np.nextafter(np.float32(net.radius), np.float32(0)))  # never beyond the certified one
    inputs = model_inputs(known, env_params, data, constant(net.step(samples)), radius)
    looks = np.unique(np.maximum(np.geomspace(chunk, samples, LOOKS) // chunk, 1).astype(int)) * chunk
    key = jax.random.key(seed)
    done = train(learner, [inputs], key, replicas, looks.tolist(), chunk, progress, values=known.interface.mask.size)
    average = as_units(done.average()[0])
    iterates = [delta for look in done.snapshots for delta in as_units(look.last[0])]
    error = max(float(np.abs(start.net(delta) - start.linear(delta)).max()) for delta in (*iterates, *average))
    return Path(np.stack([start.net(delta) for delta in average]), error, done.compile_s, done.handoffs)


def run(spec: NeuralSpec, one: NetRun, settings: Settings, progress: Progress) -> TaskResult:
    """One run against its bound, the sum of the terms, and its linearisation error against the certificate."""
    known, k = known_of(spec, one.gap), one.samples
    net = certificate(known, one.width, spec.reach, spec.seed, 0)
    path = learned(net, k, one.replicas, spec.seed + one.width, settings.chunk, progress)
    cell, bound = cell_of(net, one.gap, k), net.bound(k)
    errors = measure_errors(known.interface, path.tables, net.target.table)
    total = theorem.total_bound(bound, net.approximation[1], known.gap.bound)
    shared: dict[str, Any] = {"samples": k, "tail_samples": k, "replicas": one.replicas, "radius": net.radius,
                              "step_rule": "constant"}  # fmt: skip
    squares = oracle_squares(known, path.tables)
    rows = [
        cell.row("projected_net", root_interval(errors.squares), term="residual", bound=bound, trivial=net.trivial,
                 **shared, **by_replica("rms", np.sqrt(errors.squares))),
        cell.row("total", root_interval(squares), term="total", bound=total,
                 trivial=oracle_norm(known), **shared, **by_replica("rms", np.sqrt(squares))),
        cell.row("linearisation_seen", path.error, bound=net.largest_linearisation_error, **shared),
    ]  # fmt: skip
    return TaskResult(rows, {}, [], path.compile_s, path.handoffs)


def claims(rows: list[Row]) -> list[Claim]:
    """That the bound says something wherever that was promised: wide nets, many handoffs, the gap closed."""
    width, samples = PROMISED
    ratios = [
        row.over_trivial
        for row in rows
        if row.series == "projected_net" and row.gap == 0 and row.width >= width and row.samples >= samples
    ]
    if not ratios:
        return []
    text = (
        f"Gap closed, {width} units and {samples} handoffs or more: bound over the error of the start, at the largest."
    )
    return [in_range("neural_informative", text, max(ratios), 0.0, 1.0)]
