"""The agents axis: the bound's terms as the pipeline grows, at the same number of handoffs for each agent (T1, T3, P2).

Every agent brings interfaces of its own and is activated more rarely, so the samples grow with the number of agents.
The largest models are analysed only: 10^5 handoff states and more, where mixing times are bounded instead of known.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from bound_validation import theorem
from bound_validation.axes.gap.measure import analysed
from bound_validation.axes.samples.measure import ASYMPTOTIC_FROM
from bound_validation.measure import Progress, Target, lane_average, limit_run, root_interval, theorem_run
from bound_validation.results import Row, checked
from bound_validation.sweeps import AgentsSpec, Preset
from bound_validation.tasks import Claim, Task, TaskResult, in_range
from icsmdp_jax.envs.planted.model import PlantedConfig
from icsmdp_jax.learner.experiment import measure_errors

WORK_PER_STATE = 100  # progress units that the exact analysis of one handoff state is worth
X_NAME = "agents"


def tasks(preset: Preset) -> list[Task]:
    """For each number of agents the exact terms and the runs, since each is a compilation of its own."""
    spec = preset.agents
    out: list[Task] = []
    for count in spec.counts:
        config = model_of(spec, count)
        size = config.num_agents * config.private_states * int(np.prod([size for _, size in config.fields]))
        samples = spec.samples(count)
        out += [
            Task(f"agents/{count}/exact", partial(exact, spec, count), WORK_PER_STATE * size, joint=False),
            Task(f"agents/{count}/limit", partial(limit, preset, count), spec.replicas * samples),
            Task(f"agents/{count}/theorem", partial(bounds, preset, count), spec.replicas * samples),
        ]
    for index, config in enumerate(spec.large):
        work = WORK_PER_STATE * config.num_agents * 100
        out.append(Task(f"agents/large/{index}", partial(large, spec, index), work, joint=False))
    return out


def model_of(spec: AgentsSpec, count: int) -> PlantedConfig:
    """The planted model with so many agents."""
    return spec.model.replace(num_agents=count)


def exact(spec: AgentsSpec, count: int, progress: Progress) -> TaskResult:
    """Gap and policy loss with Theorem 1."""
    target = Target(analysed(model_of(spec, count)))
    progress(WORK_PER_STATE * target.known.interface.model.num_states)
    return TaskResult(interface_rows(target, f"agents/{count}", count, spec.model.gap, ""))


def large(spec: AgentsSpec, index: int, progress: Progress) -> TaskResult:
    """The same on a model that is analysed only."""
    config = spec.large[index]
    target = Target(analysed(config))
    known = target.known
    states, interfaces = known.interface.model.num_states, known.interface.model.num_interfaces
    ends = mixing_ends(target)
    note = (
        f"Analysed only: {config.num_agents} agents, {states} handoff states behind {interfaces} interfaces; its "
        f"mixing time t_mix(1/4) lies between {ends[0]:g} and {ends[1]:g} handoffs."
    )
    progress(WORK_PER_STATE * config.num_agents * 100)
    return TaskResult(interface_rows(target, f"agents/large/{index}", config.num_agents, config.gap, note))


def mixing_ends(target: Target) -> tuple[float, float]:
    """What is known of the mixing time: both ends are the same where it is known exactly."""
    table = target.known.table()
    return float(table["mixing_time_low"]), float(table["mixing_time_high"])


def interface_rows(target: Target, cell: str, count: int, eta: float, note: str) -> list[Row]:
    """Rows of the exact terms of one model; ``note`` marks those that are analysed only."""
    gap, modulus = target.known.gap, target.known.interface.gamma_bar
    ais = target.known.ais
    rows = []
    for series, measured, bound in (
        ("gap", gap.gap, theorem.interface_bound(ais.epsilon, ais.delta, gap.value_norm, modulus)),
        ("policy_loss", gap.policy_loss, theorem.policy_loss_bound(gap.bound)),
    ):
        row = Row(
            axis="agents", cell=cell, series=series, term="interface", group="analysed only" if note else "simulated",
            x_name=X_NAME, x=count, gap=eta, measured=measured, bound=bound, note=note if series == "gap" else "",
            **target.constants(),
        )  # fmt: skip
        rows.append(checked(row))
    return rows


def _shared(spec: AgentsSpec, count: int, target: Target) -> dict[str, Any]:
    return {
        "axis": "agents", "cell": f"agents/{count}", "group": "simulated", "x_name": X_NAME, "x": count,
        "gap": spec.model.gap, "replicas": spec.replicas, "samples": spec.samples(count), **target.constants(),
    }  # fmt: skip


def limit(preset: Preset, count: int, progress: Progress) -> TaskResult:
    """Spread of the tail average beside the central-limit line."""
    spec = preset.agents
    target = Target(analysed(model_of(spec, count)))
    k = spec.samples(count)
    tail = k - k // 2
    run = limit_run([target], jax.random.key(spec.seed), spec.replicas, [k // 2, k], preset.chunk, progress)
    table = target.tables(lane_average(run, 0, 1, k // 2))
    errors = measure_errors(target.known.interface, table, target.fixed.q)
    value, low, high = root_interval(errors.deviations, degrees_lost=1)
    row = checked(Row(
        series="spread", measured=value, ci_low=low, ci_high=high, tail_samples=tail,
        prediction=theorem.central_limit_spread(target.limit.coefficient, tail),
        alternative=theorem.central_limit_spread(target.limit.coefficient_iid, tail), **_shared(spec, count, target),
    ))  # fmt: skip
    claims = limit_claims(spec, count, row, target.known.interface.model.num_agents)
    return TaskResult([row], {}, claims, run.compile_s, run.handoffs)


def limit_claims(spec: AgentsSpec, count: int, row: Row, agents: int) -> list[Claim]:
    """The central-limit line at the largest number of agents, where there are handoffs enough."""
    if count != max(spec.counts):
        return []
    ratio = row.measured / row.prediction
    text = f"{agents} agents, {row.samples} handoffs: the spread over the central-limit line."
    if spec.per_agent < ASYMPTOTIC_FROM / 10:  # the samples axis claims it from 10^5 handoffs of ten agents
        return [Claim("agents_limit", f"{text} Too few in this preset to claim it.", ratio, "not claimed", None)]
    interval = {"ci_low": row.ci_low / row.prediction, "ci_high": row.ci_high / row.prediction}
    return [in_range("agents_limit", text, ratio, 0.85, 1.15, **interval)]


def bounds(preset: Preset, count: int, progress: Progress) -> TaskResult:
    """RMSE under the constant step beside Theorem 3, with the upper end where the mixing time is only bounded."""
    spec = preset.agents
    target = Target(analysed(model_of(spec, count)))
    k = spec.samples(count)
    key = jax.random.key(spec.seed + 1)
    run = theorem_run([(target, k)], key, spec.replicas, [k], preset.chunk, progress)
    table = target.tables(lane_average(run, 0, 0))
    value, low, high = root_interval(measure_errors(target.known.interface, table, target.fixed.q).squares)
    row = checked(Row(
        series="constant_step", term="residual", measured=value, ci_low=low, ci_high=high, tail_samples=k,
        bound=target.residual_bound(k), **_shared(spec, count, target),
    ))  # fmt: skip
    return TaskResult([row], {}, [], run.compile_s, run.handoffs)
