"""The agents axis: the bound's terms as the pipeline grows, at the same number of handoffs for each agent (T1, T3, P2).

Every agent brings interfaces of its own and is activated more rarely, so the samples grow with the number of agents.
The largest models are analysed only: 10^5 handoff states and more, where mixing times are bounded instead of known.
"""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from bound_validation.axes.agents.spec import AgentsSpec
from bound_validation.axis import Settings
from bound_validation.cell import (
    ASYMPTOTIC_FROM,
    AnalysedCell,
    analysed,
    interface_rows,
    limit_rows,
    limit_run,
    residual_row,
    theorem_run,
)
from bound_validation.results import Row
from bound_validation.tasks import HANDOFF, Claim, Progress, Task, TaskResult, about_replicas, line_ratio

WORK_PER_STATE = 100  # progress units that the exact analysis of one handoff state is worth
EXACT = ("gap", "policy_loss")


def tasks(spec: AgentsSpec, settings: Settings) -> list[Task]:
    """For each number of agents the exact terms and the runs, since each is a compilation of its own."""
    out: list[Task] = []
    for count in spec.counts:
        config = spec.model.replace(num_agents=count)
        size = config.num_agents * config.private_states * int(np.prod([size for _, size in config.fields]))
        work = spec.replicas * spec.samples(count)
        out += [
            Task(
                f"agents/{count}/exact",
                partial(exact, spec, count),
                WORK_PER_STATE * size,
                joint=False,
                seconds=0.0002 * size,
            ),
            Task(f"agents/{count}/limit", partial(limit, spec, settings, count), work, seconds=about_replicas(work)),
            Task(f"agents/{count}/theorem", partial(bounds, spec, settings, count), work, seconds=about_replicas(work)),
        ]
    for index, config in enumerate(spec.large):
        work = WORK_PER_STATE * config.num_agents * 100
        out.append(
            Task(f"agents/large/{index}", partial(large, spec, index), work, joint=False, seconds=HANDOFF * work)
        )
    return out


def cell_of(spec: AgentsSpec, count: int) -> AnalysedCell:
    """The planted model with this number of agents."""
    place = {
        "axis": "agents", "cell": f"agents/{count}", "group": "simulated", "x_name": "agents", "x": count,
        "gap": spec.model.gap,
    }  # fmt: skip
    return AnalysedCell(analysed(spec.model.replace(num_agents=count)), place)


def exact(spec: AgentsSpec, count: int, progress: Progress) -> TaskResult:
    """Gap and policy loss with Theorem 1."""
    cell = cell_of(spec, count)
    progress(WORK_PER_STATE * cell.known.interface.model.num_states)
    return TaskResult(interface_rows(cell, EXACT))


def large(spec: AgentsSpec, index: int, progress: Progress) -> TaskResult:
    """The same on a model that is analysed only."""
    config = spec.large[index]
    known = analysed(config)
    model = known.interface.model
    low, high = known.clock.bounds(0.25)
    place = {
        "axis": "agents", "cell": f"agents/large/{index}", "group": "analysed only", "x_name": "agents",
        "x": config.num_agents, "gap": config.gap,
        "note": f"Analysed only: {config.num_agents} agents, {model.num_states} handoff states behind "
        f"{model.num_interfaces} interfaces; its mixing time t_mix(1/4) lies between {low:g} and {high:g} handoffs.",
    }  # fmt: skip
    progress(WORK_PER_STATE * config.num_agents * 100)
    return TaskResult(interface_rows(AnalysedCell(known, place), EXACT))


def limit(spec: AgentsSpec, settings: Settings, count: int, progress: Progress) -> TaskResult:
    """Spread of the tail average against the central-limit line."""
    cell, k = cell_of(spec, count), spec.samples(count)
    learned = limit_run([cell.known], jax.random.key(spec.seed), spec.replicas, [k], settings.chunk, progress)
    (row,) = limit_rows(cell, learned.tables(0, k), k, ("spread",))
    return TaskResult([row], {}, limit_claims(spec, count, row), learned.compile_s, learned.handoffs)


def limit_claims(spec: AgentsSpec, count: int, row: Row) -> list[Claim]:
    """The central-limit line at the largest number of agents, where there are handoffs enough."""
    if count != max(spec.counts):
        return []
    text = f"{count} agents, {row.samples} handoffs: the spread over the central-limit line."
    if spec.per_agent < ASYMPTOTIC_FROM / 10:  # the samples axis claims it from 10^5 handoffs of ten agents
        ratio = row.measured / row.prediction
        return [Claim("agents_limit", f"{text} Too few in this preset to claim it.", ratio, "not claimed", None)]
    return [line_ratio("agents_limit", text, row, 0.85, 1.15)]


def bounds(spec: AgentsSpec, settings: Settings, count: int, progress: Progress) -> TaskResult:
    """RMSE under the constant step against Theorem 3, with the upper end where the mixing time is only bounded."""
    cell, k = cell_of(spec, count), spec.samples(count)
    key = jax.random.key(spec.seed + 1)
    learned = theorem_run([(cell.known, k)], key, spec.replicas, settings.chunk, progress)
    row = residual_row(cell, learned.tables(0, k), k, "constant_step")
    return TaskResult([row], {}, [], learned.compile_s, learned.handoffs)
