"""cpu-sort2, cpu-sort3, cpu-sort4: in how many runs do agents of instruction classes write a correct program?

For two and three values everything is known exactly: the shortest length by exhaustive search, the oracle and
``Q_phi`` from the listing. Four values are too many to list; there interfaces (for the central learner: states) are
hashed into tables of fixed size, and the shortest length is the published one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from icsmdp_jax.drawing.handoffs import handoff_figure
from icsmdp_jax.drawing.training import Curve, agent_figure, return_figure
from icsmdp_jax.envs.cpu_sort import PUBLISHED_LENGTH, cpu_sort, machine, shortest_programs
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.returns import Interval, Returns
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import beside_exact, judged, say
from icsmdp_jax.experiments.cooperation import cooperation_tables, played
from icsmdp_jax.experiments.course import course_handoffs
from icsmdp_jax.experiments.quantities import exact_quantities, own_interface_optimum
from icsmdp_jax.experiments.result import Result, Table, exactly, label
from icsmdp_jax.experiments.sorting_runs import (
    CENTRAL,
    GAMMA,
    Team,
    Written,
    handoffs_in,
    random_workflow,
    share,
    trained,
    unshaped,
)
from icsmdp_jax.experiments.training import Budget

METHODS = ("ic_q", CENTRAL, "no_message", "immediate")
EPISODES = 4096  # of the random workflow
OPTIMAL_WANTED = 0.95  # share of runs with an optimal program, two values
NEAR_CENTRAL, SUCCESS_WANTED = 0.05, 0.8  # three values
OWN_BEHAVIOUR_RUNS = 2  # runs whose own behaviour is solved exactly, of three values (a second each)


def budget_of(num_values: int, options: Options) -> Budget:
    """What every method may spend."""
    if num_values == 2:
        return Budget(options.pick(4, 200, 400), copies=16, length=8, replicas=options.pick(2, 64, 128))
    if num_values == 3:
        return Budget(options.pick(2, 60, 80), copies=32, length=16, replicas=options.pick(2, 16, 64))
    return Budget(
        options.pick(2, 1200, 4000), copies=64, length=16, replicas=options.pick(2, 3, 8), step_power=0.5,
        epsilon_begin=0.3, epsilon_end=0.05,
    )  # fmt: skip


def run(options: Options) -> Result:
    """All methods on ``cpu-sort<n>``."""
    num_values = int(options.name.removeprefix("cpu-sort"))
    budget, listed = budget_of(num_values, options), num_values < 4
    teams: dict[str, Team] = {}
    for method in METHODS:
        say(options.name, label(method))
        teams[method] = trained(method, num_values, budget, options.seed)
    written = {method: team.written for method, team in teams.items()}
    written["random"] = random_workflow(num_values, options.pick(64, EPISODES, EPISODES), options.seed)
    best, how = _shortest(num_values)
    values = {"exact_oracle": exactly(1.0)} if how == "search" else {}
    values |= {method: share(one.correct) for method, one in written.items()}
    optimal = {method: share(one.correct & (one.length == best)) for method, one in written.items()}
    exact: dict[str, float] = {"optimal_length": float(best)} if how == "search" else {}
    scaled: dict[str, Interval] = {}
    enough = options.preset != "testing"
    checks, remarks = _achieved(num_values, values, optimal, enough)
    if listed:
        known, scaled, quantities = _exactly(num_values, teams, budget)
        learned = np.asarray(teams["ic_q"].tables[:1], np.float64)
        seen = course_handoffs(known.returns.model, learned, machine.NAMES, options.seed)
        exact |= quantities
        more, lines = judged(known, scaled, enough)
        checks, remarks = checks | more, [*remarks, *lines, *_about_returns(known)]
    else:
        env, params = cpu_sort(num_values, gamma=GAMMA[num_values])
        unpaid = params._replace(shaping=np.float32(0))  # 1 for a correct program and 0 for any other
        seen = [played(env, unpaid, teams["ic_q"].tables[0], machine.NAMES, env.length_limit, seed=options.seed)]
    return Result(
        environment=options.name,
        metric="runs whose greedy policy writes a correct program (share)",
        methods=values,
        message_scalars_per_handoff=teams["ic_q"].scalars,
        exact=exact,
        normalised=scaled,
        checks=checks,
        remarks=[*remarks, _about_random(options)],
        settings={"seed": options.seed, "gamma": GAMMA[num_values], "function_class": "tabular", **budget.settings()},
        tables=[
            _lengths(written, optimal, best, how),
            *_program(teams["ic_q"].written, num_values),
            *cooperation_tables(seen),
        ],
        figures={
            "training": partial(_training_figure, teams),
            "agents": partial(agent_figure, teams["ic_q"].agents, machine.NAMES),
            "handoffs": lambda: handoff_figure(handoffs_in(teams["ic_q"].written, num_values), machine.NAMES),
        },
    )


def _shortest(num_values: int) -> tuple[int, str]:
    """Length of a shortest correct program, and where it is known from."""
    if num_values == 4:
        return PUBLISHED_LENGTH[4], "published"
    return shortest_programs(num_values).length, "search"


def _exactly(
    num_values: int, teams: Mapping[str, Team], budget: Budget
) -> tuple[Analysis, dict[str, Interval], dict[str, float]]:
    """The exact solution, exact returns of all greedy policies on the scale from random to oracle, exact quantities."""
    known = analyse(unshaped(*cpu_sort(num_values)))
    all_seeing = Returns(unshaped(*cpu_sort(num_values, sees_all=True)))
    judges = {method: all_seeing if method == CENTRAL else known.returns for method in METHODS}
    earned = {method: np.atleast_1d(judge.of_greedy(teams[method].tables)) for method, judge in judges.items()}
    most = 8 if num_values == 2 else OWN_BEHAVIOUR_RUNS
    own = own_interface_optimum(known, teams["ic_q"].tables, budget.epsilon_end, most)
    exact = {**exact_quantities(known), "own_interface_optimum": float(own.mean())}
    exact["optimal_programs"] = float(shortest_programs(num_values).programs)
    return known, beside_exact(known, earned, own)[1], exact


def _achieved(
    num_values: int, values: Mapping[str, Interval], optimal: Mapping[str, Interval], enough: bool
) -> tuple[dict[str, bool | None], list[str]]:
    """What was asked of IC-Q on this environment."""
    mine, central = values["ic_q"], values[CENTRAL]
    line = (
        f"IC-Q writes a correct program in {mine.mean:.1%} of {mine.replicas} runs and one of optimal length in "
        f"{optimal['ic_q'].mean:.1%}; the central learner, which is shown every register in every run, in "
        f"{central.mean:.1%} and {optimal[CENTRAL].mean:.1%} with the same handoffs."
    )
    checks: dict[str, bool | None] = {}
    if num_values == 2:
        text = f"IC-Q writes a correct program of optimal length in more than {OPTIMAL_WANTED:.0%} of runs"
        checks[text] = optimal["ic_q"].mean > OPTIMAL_WANTED
    elif num_values == 3:
        text = "IC-Q's success rate is within 5 points of the central learner's at the same budget"
        checks[text] = mine.mean >= central.mean - NEAR_CENTRAL
        checks[f"IC-Q writes a correct program in {SUCCESS_WANTED:.0%} of runs or more"] = mine.mean >= SUCCESS_WANTED
    else:
        line += (
            " Nothing is claimed for four values: the runs are few, the optimal length is the published one, which no "
            "search here confirms, and both learners have hashed tables of the same size, far fewer rows "
            "than there are states for the central learner to tell apart."
        )
    return {name: value if enough else None for name, value in checks.items()}, [line]


def _about_returns(known: Analysis) -> list[str]:
    return [
        "Normalised returns are exact returns of the greedy policies without the shaping reward: gamma^(L-1) for a "
        "correct program of L instructions, 0 for any other. The potential of the shaping is in every interface, so "
        "that it shifts Q_phi by a number of the interface and leaves its greedy policy as it is. The length limit is "
        "not part of the exact model: a longer correct program counts there, but not in the share of runs."
    ]


def _about_random(options: Options) -> str:
    episodes = options.pick(64, EPISODES, EPISODES)
    return f"The random workflow's share is that of {episodes} simulated episodes."


def _training_figure(teams: Mapping[str, Team]) -> Any:
    """Share of runs whose greedy policy writes a correct program, over training."""
    curves = []
    for method, team in teams.items():
        points = np.array([share(hits)[:3] for hits in team.correct.T])
        curves.append(Curve(label(method), team.handoffs, *points.T))
    return return_figure(curves, y_label="runs with a correct program (share)")


def _lengths(written: Mapping[str, Written], optimal: Mapping[str, Interval], best: int, how: str) -> Table:
    rows: list[list[Any]] = []
    for method, one in written.items():
        length = one.length[one.correct]
        known = [int(length.min()), float(np.median(length)), int(length.max())] if len(length) else [None] * 3
        rows.append([label(method), share(one.correct), optimal[method], *known, float(one.sorted_share.mean())])
    source = "found by exhaustive search" if how == "search" else "published, not searched here"
    return Table(
        f"Correct programs and their lengths in instructions; the optimal length is {best} ({source})",
        (
            "method", "correct (share of runs)", "of optimal length (share)", "shortest", "median", "longest",
            "permutations sorted (mean share)",
        ),
        rows,
        name="lengths",
    )  # fmt: skip


def _program(found: Written, num_values: int) -> list[Table]:
    """The shortest correct program of IC-Q's runs, instruction by instruction."""
    if not found.correct.any():
        return []
    which = int(np.where(found.correct, found.length, 10**6).argmin())
    rows = machine.instructions(num_values)[found.program[which][: found.length[which]]]
    lines = machine.text(rows, num_values).split("; ")
    body = [[place + 1, line, line.split()[0]] for place, line in enumerate(lines)]
    return [Table("The shortest program that IC-Q wrote", ("step", "instruction", "written by"), body, name="program")]
