"""The mathematics pipeline: what roles do for accuracy, dollars and latency, and what noisy reading costs. Simulated.

Accuracy, dollars and blocks of a policy are exact expectations over one problem (``totals``), for learned policies too;
intervals are over replicas of the learner.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from icsmdp_jax.drawing import style
from icsmdp_jax.envs.listed import ListedParams
from icsmdp_jax.envs.math_pipeline import ROLES, MathPipeline, math_pipeline, states
from icsmdp_jax.envs.math_pipeline.pipeline import (
    FINALIZER,
    MENUS,
    PLANNER,
    RIGHT,
    SOLVER_A,
    SOLVER_B,
    SOLVERS,
    SUBMIT,
    VERIFIER,
    WRONG,
)
from icsmdp_jax.exact.returns import Returns
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import Budget, compare, say
from icsmdp_jax.experiments.result import Result, Table, over_replicas
from icsmdp_jax.experiments.totals import (
    LEARNED,
    ORACLE,
    RANDOM,
    Row,
    Totals,
    exact_row,
    of_policies,
    policy_table,
)
from icsmdp_jax.experiments.training import train_at
from icsmdp_jax.learner.methods import METHODS
from icsmdp_jax.models.tabular import TabularModel

NOISES = (0.0, 0.15, 0.3, 0.6, 1.0)
ICQ = METHODS["ic_q"]
DEFAULT = 2  # which of them is the environment's own
METRICS = {  # what is counted, its heading in tables, and what it is multiplied by
    "right": ("accuracy (%)", 100), "submitted": ("submitted (%)", 100),
    "dollars": ("dollars per 1000 problems", 1000), "blocks": ("latency (blocks)", 1),
    **{name: (name, 1) for name in ("plans", "drafts", "checks", "repairs", "harms")},
}  # fmt: skip
WORKFLOWS: dict[str, tuple[int, ...]] = {  # who works, in this order; whoever is in between passes on
    "plan, solver A, verify": (PLANNER, SOLVER_A, VERIFIER, FINALIZER),
    "plan, solver B, verify": (PLANNER, SOLVER_B, VERIFIER, FINALIZER),
    "plan, solver A": (PLANNER, SOLVER_A, FINALIZER),
    "plan, solver B": (PLANNER, SOLVER_B, FINALIZER),
    "solver A": (SOLVER_A, FINALIZER),
    "solver B": (SOLVER_B, FINALIZER),
}


def run(options: Options) -> Result:
    """All methods on the pipeline, what becomes of a problem, and IC-Q at growing noise of reading."""
    env, params = math_pipeline()
    budget = Budget(
        updates=options.pick(10, 5000, 20000), copies=16, length=8, replicas=options.pick(2, 12, 32),
        explore="behaviour", step_power=0.9,
    )  # fmt: skip
    say(env.name, "growing noise")
    few = dataclasses.replace(budget, replicas=options.pick(2, 5, 16))
    noisy = Noisy(env, few, options.seed)
    return compare(
        env,
        params,
        budget,
        seed=options.seed,
        metric="discounted return per problem (a right answer is worth 1, a dollar costs 1)",
        tables=[noisy.metrics(), noisy.references(), noisy.table()],
        figures={"noise": noisy.figure},
        remarks=_remarks(noisy),
        agents=ROLES,
    )


def totals(env: MathPipeline, params: ListedParams, model: TabularModel) -> Totals:
    """What is counted on the way of a problem."""
    rows, size, width = states(env), env.num_deciding, env.num_options
    does = np.array([[works for works, _ in menu] for menu in MENUS])[rows.agent]
    probability, successor = np.asarray(params.probability, np.float64), np.asarray(params.successor)

    def entering(desk: int) -> np.ndarray:
        """``[S, O]`` probability that this lies on the desk at the next decision."""
        after = np.append(rows.desk, [-1, -1])[successor]
        return (probability * (after == desk)).sum(axis=2)

    checks = does & (rows.agent == VERIFIER)[:, None]
    counted = {
        "right": (probability * (successor == size)).sum(axis=2),
        "submitted": (rows.agent == FINALIZER)[:, None] & (np.arange(width) == SUBMIT),
        "dollars": np.asarray(params.dollars, np.float64),
        "blocks": np.asarray(params.shortest) + np.asarray(params.longer, np.float64),
        "plans": does & (rows.agent == PLANNER)[:, None],
        "drafts": does & np.isin(rows.agent, SOLVERS)[:, None],
        "checks": checks,
        "repairs": checks * (rows.desk == WRONG)[:, None] * entering(RIGHT),
        "harms": checks * (rows.desk == RIGHT)[:, None] * entering(WRONG),
    }
    return Totals(model, {name: np.pad(table.astype(float), ((0, 2), (0, 0))) for name, table in counted.items()})


def workflow(env: MathPipeline, order: tuple[int, ...]) -> np.ndarray:
    """``[S + 2]`` options of the fixed workflow in which these roles work in this order, blind to everything."""
    choice = np.zeros(len(MENUS), int)
    if order[0] != PLANNER:
        choice[PLANNER] = MENUS[PLANNER].index((False, order[0]))
    for agent, then in zip(order, order[1:], strict=False):
        choice[agent] = MENUS[agent].index((True, then))
    return np.append(choice[states(env).agent], [0, 0])


class Noisy:
    """The noise of reading from none to all: exact policies and IC-Q; at the environment's own noise, their metrics.

    Attributes:
      returns: exact returns at each noise.
      learned: return of IC-Q's greedy policy at each noise.
      rows: metrics of policies at the environment's own noise, by name.
      fixed: metrics of fixed workflows by name; their returns under ``fixed_return``.
    """

    def __init__(self, env: MathPipeline, budget: Budget, seed: int) -> None:
        settings = [math_pipeline(noise=noise)[1] for noise in NOISES]
        models = [env.exact_model(setting) for setting in settings]
        tables = train_at("ic_q", env, settings, models[DEFAULT], budget, seed)
        self.returns = [Returns(model) for model in models]
        self.learned = [over_replicas(r.of_greedy(t)) for r, t in zip(self.returns, tables, strict=True)]
        own, count = self.returns[DEFAULT], totals(env, settings[DEFAULT], models[DEFAULT])
        self.rows = of_policies(count, own, tables[DEFAULT])
        laws = {name: workflow(env, order) for name, order in WORKFLOWS.items()}
        self.fixed = {name: exact_row(count, count.by_choice(law)) for name, law in laws.items()}
        self.fixed_return = {name: own.of(law, by_state=True) for name, law in laws.items()}

    def metrics(self) -> Table:
        """What each policy does with a problem."""
        return policy_table("metrics", "What becomes of a problem under each policy", "policy", self.rows, METRICS)

    def references(self) -> Table:
        """Fixed workflows."""
        title = "Fixed workflows, exact: the same roles work in the same order on every problem"
        earned = ("return (reward units)", self.fixed_return)
        return policy_table("references", title, "workflow", self.fixed, METRICS, earned)

    def table(self) -> Table:
        """Returns over the noise."""
        rows = [
            [noise, exact.oracle, exact.interface_optimum, learned, exact.random]
            for noise, exact, learned in zip(NOISES, self.returns, self.learned, strict=True)
        ]
        columns = ("noise (probability)", "exact oracle", "exact Q_phi, greedy", "IC-Q", "random workflow")
        return Table("Return (reward units) as readings become noisier", columns, rows, name="noise")

    def figure(self) -> Any:
        """Return against noise."""
        with style.house_style():
            figure = style.new_figure(style.COLUMN_WIDTH, 2.9)
            axes = figure.add_subplot()
            for name, look, text in (
                ("oracle", dict(marker="D", ls="-", color=style.BLACK), "exact oracle"),
                ("interface_optimum", dict(marker="s", ls="--", color=style.GREY), r"exact $Q_\phi$, greedy"),
                ("random", dict(marker="^", ls=":", color=style.GREY), "random workflow, exact"),
            ):
                values = [getattr(one, name) for one in self.returns]
                axes.plot(NOISES, values, mfc="white", ms=4, lw=0.9, label=text, **look)  # type: ignore[arg-type]
            best = max(self.fixed_return, key=lambda name: self.fixed_return[name])
            label = f"best fixed workflow: {best}"
            axes.axhline(self.fixed_return[best], color=style.VERMILLION, lw=0.9, ls="-.", label=label)
            mean = np.array([one.mean for one in self.learned])
            ends = np.array([[one.mean - one.ci_low, one.ci_high - one.mean] for one in self.learned]).T
            axes.errorbar(
                NOISES, mean, yerr=ends, fmt=ICQ.marker, color=ICQ.colour, ms=3.6, lw=1.0, capsize=1.5,
                label=f"{ICQ.label}, mean over runs, 95 % interval", zorder=3,
            )  # fmt: skip
            axes.set_xlabel("noise of reading (probability)")
            axes.set_ylabel("return per problem (reward units)")
            axes.set_ylim(bottom=0)
            figure.legend(fontsize=6.6, loc="outside lower center", ncols=2, columnspacing=1.2)
            return figure


def _remarks(noisy: Noisy) -> list[str]:
    def percent(row: Row) -> str:
        return f"{100 * float(row['right'].mean):.1f} %"

    best = max(noisy.fixed_return, key=lambda name: noisy.fixed_return[name])
    learned, fixed = noisy.learned[DEFAULT], noisy.fixed_return[best]
    better = learned.ci_low > fixed
    return [
        "No language model is run: accuracies, prices and tokens are those of the LLMRouterBench tables, roles follow "
        "arXiv 2510.07614; the sizes of repair, harm and of what a plan does are ours (docs/environments.md).",
        f"IC-Q answers {percent(noisy.rows[LEARNED])} of the problems right, the exact oracle "
        f"{percent(noisy.rows[ORACLE])}, the random workflow {percent(noisy.rows[RANDOM])}. The "
        f"best fixed workflow ({best}) answers {percent(noisy.fixed[best])} right and returns {fixed:.4f}; IC-Q "
        f"returns {float(learned.mean):.4f} and is {'better' if better else 'not better'} outside its interval.",
    ]
