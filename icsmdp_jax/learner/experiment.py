"""One IC-Q experiment on an analysed model: sensible default steps, errors against the exact solutions (D9, D10)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from icsmdp_jax.devices.placement import host_memory
from icsmdp_jax.envs.tabular import TabularEnv, TabularParams, tabular_env
from icsmdp_jax.exact.comparison import comparison, linear_process
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.fixed_point import (
    FeatureBasis,
    ProjectedSolution,
    entrywise_bound,
    projected_fixed_point,
    projection,
    whiten,
)
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.learner import networks, schedules
from icsmdp_jax.learner.audit import LEVEL, audit, check_memory, remarks_of
from icsmdp_jax.learner.cautions import unsettled
from icsmdp_jax.learner.exploration import behaviour_table
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.memory import in_units, largest
from icsmdp_jax.learner.schedules import StepSize
from icsmdp_jax.learner.train import CHUNK, train

LIFTED = 2**22  # values of states that are compared with the oracle at a time
FEATURE_COPIES = 4  # of the features at once while they are whitened: raw ones, their products and factors


class Errors(NamedTuple):
    """Errors of replicated estimates in ``||.||_d`` (D10).

    Attributes:
      rmse: root mean square distance to the reference.
      spread: root mean square distance to the replicas' mean, unbiased (divided by replicas - 1); NaN for one replica,
        about whose spread nothing is known.
      bias: distance of the replicas' mean from the reference, with the share that the spread explains taken off; NaN
        for one replica.
      raw_bias: the same without that correction.
      squares: ``[replicas]`` squared distances to the reference.
      deviations: ``[replicas]`` squared distances to the mean.
    """

    rmse: float
    spread: float
    bias: float
    raw_bias: float
    squares: np.ndarray
    deviations: np.ndarray


def measure_errors(interface: InterfaceModel, tables: np.ndarray, reference: np.ndarray) -> Errors:
    """Spread, bias and RMSE of ``[replicas, Z, O]`` tables around a ``[Z, O]`` reference (D10)."""
    weight = np.where(interface.mask, interface.pair_weight, 0.0)
    tables = np.where(interface.mask, np.asarray(tables, np.float64), 0.0)
    reference = np.where(interface.mask, reference, 0.0)
    mean = tables.mean(axis=0)
    squares = np.sum(weight * (tables - reference) ** 2, axis=(1, 2))
    deviations = np.sum(weight * (tables - mean) ** 2, axis=(1, 2))
    count = len(tables)
    variance = float(deviations.sum() / (count - 1)) if count > 1 else math.nan
    raw = float(np.sum(weight * (mean - reference) ** 2))
    return Errors(
        rmse=float(np.sqrt(squares.mean())),
        spread=math.sqrt(variance),
        bias=math.sqrt(max(raw - variance / count, 0.0)) if count > 1 else math.nan,
        raw_bias=math.sqrt(raw),
        squares=squares,
        deviations=deviations,
    )


def rmse_to_oracle(interface: InterfaceModel, tables: np.ndarray, q_star: np.ndarray) -> float:
    """RMSE in ``||.||_d`` of ``[replicas, Z, O]`` tables against ``Q*`` on states."""
    return float(np.sqrt(np.mean(oracle_squares(interface, tables, q_star))))


def oracle_squares(interface: InterfaceModel, tables: np.ndarray, q_star: np.ndarray) -> np.ndarray:
    """``[replicas]`` squared distances in ``||.||_d`` of ``[replicas, Z, O]`` tables from ``Q*`` on states.

    Some replicas at a time, since there may be many more states than interfaces.
    """
    keep = interface.decision_pairs
    weight = (interface.chain.stationary[:, None] * interface.lift(interface.chain.behaviour))[keep]
    some = max(1, LIFTED // len(weight))
    squares = np.empty(len(tables))
    for first in range(0, len(tables), some):
        lifted = np.asarray(tables[first : first + some], np.float64)[:, interface.model.interface][:, keep]
        squares[first : first + some] = ((lifted - q_star[keep]) ** 2) @ weight
    return squares


def default_tabular_step(gamma_bar: float) -> StepSize:
    """``(1 + (1 - gbar) n)^-0.7`` in the visits n of a pair: forgets the start in time even for long horizons."""
    return schedules.polynomial(schedules.POWER, 1.0 - gamma_bar)


def default_linear_step(basis: FeatureBasis, interface: InterfaceModel, gamma_bar: float) -> StepSize:
    """The same in whitened features: scaled by the inverse of their second moment, at most 1 (norms are at most 1)."""
    scale = 1.0 / _least_moment(basis, interface)
    return schedules.polynomial(schedules.POWER, 1.0 - gamma_bar, scale=scale)


def _least_moment(basis: FeatureBasis, interface: InterfaceModel) -> float:
    """Smallest mean of one whitened coordinate's square, given the agent."""
    least = 1.0
    for agent in range(len(basis.rank)):
        rows = (basis.agent == agent) & (interface.interface_weight > 0)
        if basis.rank[agent] and rows.any():
            weight = interface.interface_weight[rows] / interface.interface_weight[rows].sum()
            least = min(least, float(weight @ (basis.table[rows] ** 2).sum(axis=1)) / int(basis.rank[agent]))
    return least


def random_relu(x: np.ndarray, agent: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """``[Z, m]`` raw features ``relu(w_j . x(z))`` with Gaussian ``w_j`` of the owner's own."""
    owners = np.unique(agent[agent >= 0])
    out = np.zeros((x.shape[0], width))
    for owner in owners:
        rows = agent == owner
        out[rows] = np.maximum(x[rows] @ rng.standard_normal((x.shape[1], width)), 0.0)
    return out


class Outcome(NamedTuple):
    """Result of ``learn``.

    Attributes:
      q_last: ``[B, Z, O]`` float32 last iterates.
      q_average: ``[B, Z, O]`` float64 tail averages.
      summary: errors and speed, plain numbers.
      remarks: sentences for the user.
    """

    q_last: np.ndarray
    q_average: np.ndarray
    summary: dict[str, Any]
    remarks: list[str]


def chunk_for(samples: int, tail: int) -> int:
    """Largest chunk of at most ``CHUNK`` handoffs that divides both the run and its tail."""
    common = math.gcd(samples, tail)
    return max(c for c in range(1, min(common, CHUNK) + 1) if common % c == 0)


def model_inputs(
    known: Analysis, env_params: TabularParams, data: Any, step: StepSize, radius: float = np.inf
) -> Inputs:
    """Traced inputs for a run under the analysed behaviour policy."""
    return Inputs(
        env_params=env_params,
        data=data,
        behaviour=behaviour_table(known.interface.chain.behaviour),
        step_size=step,
        radius=np.float32(radius),
        epsilon=np.float32(1.0),
    )


def stationary_env(known: Analysis) -> tuple[TabularEnv, TabularParams]:
    """The model as an environment whose first state is stationary, as the theorems ask."""
    return tabular_env(known.interface.model, first=known.interface.chain.stationary)


def learn(
    known: Analysis,
    samples: int,
    replicas: int,
    seed: int,
    function_class: str = "tabular",
    width: int = 32,
    tail: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    schedule: str | None = None,
    audited: int = 0,
    simulated: tuple[Any, Any] | None = None,
) -> Outcome:
    """Runs IC-Q under the analysed behaviour policy and measures its tail average.

    Args:
      known: the analysed model.
      samples: handoffs per replica.
      replicas: independent runs.
      seed: seed of all randomness.
      function_class: ``tabular``, ``linear`` (whitened random ReLU features), ``mlp`` or ``two-layer``.
      width: features or hidden units per agent.
      tail: handoffs in the tail average; by default the last half, or all of them with a schedule.
      progress: called with the handoffs done since its last call and the total of the run.
      schedule: steps on the shared clock, one of ``schedules.SHARED_CLOCK``, with their prediction and certificate
        (theorem B); the default steps, which count visits and have neither, if None. Tables and linear features only.
      audited: handoffs of the audit of what was learned (T5); 0 for none.
      simulated: environment and parameters to run, with the model's interfaces and options; the model itself if None.

    Returns:
      Tables, errors and speed.

    Raises:
      ValueError: for impossible settings, in one line.
    """
    remarks: list[str] = []
    if schedule is not None and function_class not in ("tabular", "linear"):
        raise ValueError(f"schedule {schedule}: expected function class tabular or linear, got {function_class}")
    samples, tail, chunk = rounded(samples, samples if tail is None and schedule is not None else tail, remarks)
    if known.uncertified:
        remarks.append(known.uncertified)
    env, env_params = stationary_env(known) if simulated is None else simulated
    values, data, step, optimiser, fixed, basis = _function_class(known, function_class, width, seed, remarks)
    expected = None
    if schedule is not None:
        omega = known.omega if basis is None else known.with_features(basis).operator.omega
        rule = schedules.shared_clock(schedule, samples, omega, known.kappa)
        step = schedules.polynomial(rule[2], rule[1], rule[0])
        expected = _expected(known, basis, fixed, rule, samples, tail, remarks)
    if audited:
        check_memory(int(known.interface.mask.sum()), replicas)
    learner = Learner(env, values, clock="visits" if schedule is None else "epoch", optimiser=optimiser)
    inputs = model_inputs(known, env_params, data, step)
    checkpoints = sorted({samples - tail, samples} - {0})
    total = samples * replicas
    step_done = None if progress is None else lambda done: progress(done, total)
    # With a listener, calls of about a second each keep a progress bar moving.
    size = 20_000_000 if progress is None else 3_000_000
    pairs = known.interface.mask.size
    run = train(learner, [inputs], jax.random.key(seed), replicas, checkpoints, chunk, step_done, size, pairs)
    interface, since = known.interface, samples - tail
    average = jax.tree.map(lambda leaf: leaf[0], run.average(-1, since))
    last = jax.tree.map(lambda leaf: leaf[0], run.snapshots[-1].last)
    q_average = tables_of(values, average, data, interface)
    q_last = tables_of(values, last, data, interface).astype(np.float32)
    to_phi = measure_errors(interface, q_average, known.q_phi_table)
    summary: dict[str, Any] = {
        "function_class": function_class,
        "samples": samples,
        "replicas": len(q_average),
        "tail_samples": tail,
        "rmse_to_interface_solution": to_phi.rmse,
        "spread": None if math.isnan(to_phi.spread) else to_phi.spread,
        "bias": to_phi.raw_bias,
        "rmse_to_oracle": rmse_to_oracle(interface, q_average, known.q_star.q),
    }
    if function_class == "tabular":
        summary["spread_predicted"] = known.limit.coefficient / math.sqrt(tail)
        remarks += unsettled(known, q_last)
    if fixed is not None and fixed.converged:
        to_fixed = measure_errors(interface, q_average, fixed.q)
        summary["rmse_to_projected_fixed_point"] = to_fixed.rmse
        summary["bias_to_projected_fixed_point"] = to_fixed.raw_bias
    summary |= {
        "schedule": schedule,
        "prediction": None if expected is None else expected[0],
        "certificate": None if expected is None else expected[1],
    }
    if audited:
        summary["audit"] = _audited(known, env, env_params, values, data, average, seed, audited)
        remarks += remarks_of(summary["audit"])
    summary |= {
        "handoffs_per_second": run.handoffs / run.run_s,
        "compile_s": run.compile_s,
        "run_s": run.run_s,
        "executor": run.executor,
    }
    return Outcome(q_last, q_average, summary, remarks)


def rounded(samples: int, tail: int | None, remarks: list[str]) -> tuple[int, int, int]:
    """Handoffs of a run and of its tail (the last half if None), rounded so that chunks are long, and their chunk."""
    tail = samples - samples // 2 if tail is None else tail
    if tail > samples:
        raise ValueError(f"tail = {tail}: expected at most samples = {samples}")
    chunk = chunk_for(samples, tail)
    if chunk < 50 and samples > 4 * CHUNK:
        tail = max(CHUNK, round(tail / CHUNK) * CHUNK)
        samples = max(tail, -(-samples // CHUNK) * CHUNK)
        chunk = chunk_for(samples, tail)
        remarks.append(f"samples and tail rounded to {samples} and {tail}, multiples of the chunk length")
    return samples, tail, chunk


def _expected(
    known: Analysis, basis: FeatureBasis | None, fixed: ProjectedSolution | None, rule: tuple[float, float, float],
    samples: int, tail: int, remarks: list[str],
) -> tuple[float | None, float | None]:  # fmt: skip
    """Prediction and certificate of theorem B for a run of this schedule; None for what does not apply."""
    scale, rescale, power = rule
    steps = np.minimum(1.0, scale * (1.0 + rescale * np.arange(samples)) ** -power)
    interface = known.interface
    try:
        if basis is None:
            process = linear_process(interface, known.q_phi_table)
        elif fixed is None or not fixed.converged:
            return None, None
        else:
            psi = as_dense(basis.psi(interface.mask)).reshape(*interface.mask.shape, -1)
            process = linear_process(interface, fixed.q, psi, start=-fixed.theta)
    except ValueError as error:
        remarks.append(f"no prediction: {error}")
        return None, None
    found = comparison(process, steps, [samples], samples - tail, certify=basis is None)
    return float(found.prediction[0]), float(found.certificate[0]) if basis is None else None


def _audited(
    known: Analysis, env: Any, env_params: Any, values: networks.ValueClass, data: Any, average: Any, seed: int,
    handoffs: int,
) -> dict[str, Any]:  # fmt: skip
    """The audit of all replicas' averages, so that its limits hold for all of them at once, and what a model adds."""
    interface = known.interface
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), average)
    replicas = len(jax.tree.leaves(params)[0])
    found = audit(
        env, env_params, values, data, params, jax.random.fold_in(jax.random.key(seed), 1), handoffs,
        behaviour=behaviour_table(interface.chain.behaviour), pairs=interface.mask, gamma=interface.model.gamma,
        level=LEVEL / replicas,
    )  # fmt: skip
    content = found.plain()
    entrywise = norm = None
    if content["upper_limit"] is not None:
        limits = np.zeros((replicas, *interface.mask.shape))
        limits[:, found.pairs[:, 0], found.pairs[:, 1]] = found.limit
        entrywise = max(float(entrywise_bound(interface, limit).max()) for limit in limits)
        if known.a6_certified:
            norm = max(interface.norm(limit) for limit in limits) / (1 - known.kappa)
    return content | {"entrywise_bound": entrywise, "norm_bound": norm}


def _function_class(
    known: Analysis, name: str, width: int, seed: int, remarks: list[str]
) -> tuple[networks.ValueClass, Any, StepSize, Any, ProjectedSolution | None, FeatureBasis | None]:
    model, interface = known.interface.model, known.interface
    if name == "tabular":
        values = networks.tabular(model.num_interfaces, model.num_options)
        return values, None, default_tabular_step(interface.gamma_bar), None, None, None
    check_width(model.num_interfaces if name == "linear" else model.num_agents, width)
    rng = np.random.default_rng(seed)
    x = networks.features_of(model, rng)
    if model.features is None:
        remarks.append(f"the model has no features; random unit vectors of dimension {x.shape[1]} stand in for them")
    values = networks.named(name, model.num_agents, model.num_options, width)
    if name == "linear":
        basis = whiten(random_relu(x, model.interface_agent, width, rng), interface)
        fixed = projected_fixed_point(interface, projection(interface, basis), known.q_phi_table)
        step = default_linear_step(basis, interface, interface.gamma_bar)
        return values, basis.table.astype(np.float32), step, None, fixed, basis
    import optax

    return values, x.astype(np.float32), schedules.constant(0.0), optax.adam(3e-3), None, None


def check_width(rows: int, width: int) -> None:
    """Refuses ``[rows, width]`` features, or hidden units, that do not fit into memory even once.

    Raises:
      ValueError: in one line with the forecast and what would fit.
    """
    each, limit = FEATURE_COPIES * 8 * rows, host_memory()
    if each * width > limit:
        most = largest(lambda count: each * count <= limit, width)
        raise ValueError(
            f"width = {width}: the forecast is {in_units(each * width)}, expected at most {in_units(limit)}; "
            f"{most} would fit"
        )


def tables_of(values: networks.ValueClass, params: Any, data: Any, interface: InterfaceModel) -> np.ndarray:
    """``[replicas, Z, O]`` value tables of stacked parameters ``[replicas, ...]``; linear ones in float64."""
    owner = interface.model.interface_agent
    if values.name == "tabular":
        return np.asarray(params)
    if values.name == "linear":
        theta = np.asarray(params, np.float64)[:, np.maximum(owner, 0)]
        return np.einsum("bzop,zp->bzo", theta, np.asarray(data, np.float64))
    single = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    table = jax.jit(jax.vmap(lambda p: networks.value_table(values, p, data, owner)))
    return np.asarray(table(single), np.float64)
