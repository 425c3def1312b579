"""Expert routing: who should answer, what it costs, and the frontier of accuracy against dollars. Simulated.

Accuracy, dollars, latency and routing accuracy of a policy are exact expectations over one query (``totals``), for
learned policies too; intervals are over replicas of the learner.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from icsmdp_jax.drawing import style
from icsmdp_jax.envs.expert_routing import (
    PUBLISHED_ROUTERS,
    TEAM,
    ExpertRouting,
    best_agents,
    expert_routing,
    states,
)
from icsmdp_jax.envs.expert_routing.queries import ANSWER, CHECKED, DIFFICULTIES, HAND, KINDS
from icsmdp_jax.envs.listed import ListedParams
from icsmdp_jax.exact.returns import Interval, Returns
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import Budget, compare, say
from icsmdp_jax.experiments.result import Result, Table
from icsmdp_jax.experiments.totals import (
    GREEDY,
    LEARNED,
    ORACLE,
    Row,
    Totals,
    exact_row,
    of_policies,
    policy_table,
    scaled,
)
from icsmdp_jax.experiments.training import train_at
from icsmdp_jax.learner.methods import METHODS
from icsmdp_jax.models.tabular import TabularModel

WEIGHTS = (0.1, 1.0, 3.0, 10.0, 30.0)  # prices of a dollar along the frontier
ICQ = METHODS["ic_q"]
DEFAULT = 2  # which of them is the environment's own
METRICS = {  # what is counted, its heading in tables, and what it is multiplied by
    "right": ("accuracy (%)", 100), "routed": ("routing accuracy (%)", 100),
    "dollars": ("dollars per 1000 queries", 1000), "blocks": ("latency (blocks)", 1), "handed on": ("handed on", 1),
    "checks": ("checks", 1),
}  # fmt: skip


def run(options: Options) -> Result:
    """All methods on expert routing, the frontier, and who answers what."""
    env, params = expert_routing()
    budget = Budget(
        updates=options.pick(10, 3000, 12000), copies=16, length=8, replicas=options.pick(2, 10, 32),
        explore="behaviour", step_power=0.9,
    )  # fmt: skip
    say(env.name, "frontier")
    few = dataclasses.replace(budget, replicas=options.pick(2, 4, 16))
    frontier = Frontier(env, params, few, options.seed)
    return compare(
        env,
        params,
        budget,
        seed=options.seed,
        metric="discounted return per query (a right answer is worth 1, a dollar costs 3)",
        tables=[frontier.metrics(), frontier.references(), frontier.table()],
        figures={"frontier": frontier.figure, "who_answers": frontier.answers_figure},
        remarks=_remarks(frontier),
        agents=TEAM,
    )


def totals(env: ExpertRouting, params: ListedParams, model: TabularModel) -> Totals:
    """What is counted on the way of a query; ``agent i`` is the share of queries that agent ``i`` tries first."""
    rows, size, width = states(env), env.num_deciding, env.num_options
    right = np.zeros((size + 2, width))
    probability, successor = np.asarray(params.probability, np.float64), np.asarray(params.successor)
    right[:size] = (probability * (successor == size)).sum(axis=2)
    blocks, dollars = np.zeros_like(right), np.zeros_like(right)
    blocks[:size] = np.asarray(params.shortest) + np.asarray(params.longer, np.float64)
    dollars[:size] = np.asarray(params.dollars)
    best = np.append(best_agents(env, params)[rows.kind, rows.difficulty] == rows.agent, [False, False])
    option = np.arange(width)
    first = np.append(rows.failed == 0, [False, False])[:, None] * (option < HAND)
    counted = {
        "right": right,
        "routed": first * best[:, None],
        "dollars": dollars,
        "blocks": blocks,
        "handed on": np.broadcast_to((option >= HAND).astype(float), right.shape),
        "checks": np.broadcast_to((option == CHECKED).astype(float), right.shape),
    }
    agent = np.append(rows.agent, [-1, -1])
    counted |= {f"agent {i}": first * (agent == i)[:, None] for i in range(env.num_agents)}
    return Totals(model, counted)


def single(env: ExpertRouting, agent: int | np.ndarray) -> np.ndarray:
    """``[S + 2]`` options of the fixed workflow in which the front hands every query to an agent, which answers.

    Args:
      env: the environment.
      agent: one for all, or ``[S]``, one for each state.
    """
    rows = states(env)
    to = np.broadcast_to(agent, rows.agent.shape)
    begin = (rows.agent == 0) & (rows.hops == env.hops) & (to != 0)
    return np.append(np.where(begin, HAND + to, ANSWER), [ANSWER, ANSWER])


class Frontier:
    """The price of a dollar from little to much: exact policies, IC-Q, and fixed workflows for reference.

    Attributes:
      weights: prices of a dollar.
      oracle: rows of metrics of the exact oracle, one for each weight.
      interface: the same of the policy greedy in the exact ``Q_phi``.
      learned: the same of IC-Q, with intervals over replicas.
      rows: metrics of policies at the environment's own price, by name.
      fixed: metrics of fixed workflows by name.
      some_right: probability that at least one of the agents would answer right.
    """

    def __init__(self, env: ExpertRouting, params: ListedParams, budget: Budget, seed: int) -> None:
        self.env, self.weights = env, WEIGHTS
        settings = [params._replace(dollar_weight=jnp.float32(weight)) for weight in WEIGHTS]
        models = [env.exact_model(setting) for setting in settings]
        tables = train_at("ic_q", env, settings, models[DEFAULT], budget, seed)
        along = []
        for weight, (setting, model) in enumerate(zip(settings, models, strict=True)):
            count, returns = totals(env, setting, model), Returns(model)
            along.append(of_policies(count, returns, tables[weight]))
            if weight == DEFAULT:
                best = count.by_choice(returns.q_star.q.argmax(axis=1))
                learned = [count.visits(count.by_interface(table)) for table in tables[weight]]
                self.shares = self._shares(count.visits(best)), np.mean([self._shares(v) for v in learned], axis=0)
                self.best = best_agents(env, setting)
                self._fix(count)
        self.rows = along[DEFAULT]
        self.oracle, self.interface, self.learned = (
            [rows[name] for rows in along] for name in (ORACLE, GREEDY, LEARNED)
        )

    def _fix(self, count: Totals) -> None:
        """Workflows without any learning, at the environment's own price."""
        rows, agents = states(self.env), self.env.num_agents
        laws = {name: count.by_choice(single(self.env, i)) for i, name in enumerate(TEAM)}
        fixed = {"random router": np.mean(list(laws.values()), axis=0)}
        fixed["oracle router"] = count.by_choice(single(self.env, self.best[rows.kind, rows.difficulty]))
        self.fixed = {name: exact_row(count, law) for name, law in (laws | fixed).items()}
        chance = count.counted["right"][:-2, ANSWER]
        table = np.zeros((len(KINDS), len(DIFFICULTIES), agents))
        table[rows.kind, rows.difficulty, rows.agent] = chance
        share = np.zeros(table.shape[:2])
        assert count.model.start is not None
        np.add.at(share, (rows.kind, rows.difficulty), count.model.start[:-2])
        self.some_right = float((share * (1 - np.prod(1 - table, axis=2))).sum())

    def _shares(self, visits: np.ndarray) -> np.ndarray:
        """``[kinds * difficulties, N]`` who is the first to try, among the queries of one class."""
        rows = states(self.env)
        tries = visits[:-2, :HAND].sum(axis=1) * (rows.failed == 0)
        found = np.zeros((len(KINDS) * len(DIFFICULTIES), self.env.num_agents))
        np.add.at(found, (rows.kind * len(DIFFICULTIES) + rows.difficulty, rows.agent), tries)
        return found / found.sum(axis=1, keepdims=True)

    def metrics(self) -> Table:
        """What each policy does with a query, at the environment's own price of a dollar."""
        return policy_table("metrics", "What becomes of a query under each policy", "policy", self.rows, METRICS)

    def references(self) -> Table:
        """Fixed workflows in this environment."""
        title = "Fixed workflows, exact: the front hands every query to one agent, to any of them, or to the best one"
        return policy_table("references", title, "workflow", self.fixed, METRICS)

    def table(self) -> Table:
        """Accuracy and dollars along the frontier."""
        rows = []
        for index, weight in enumerate(self.weights):
            line: list[Any] = [weight]
            for row in (self.oracle[index], self.interface[index], self.learned[index]):
                line += [scaled(row["right"], 100), scaled(row["dollars"], 1000)]
            rows.append(line)
        policies = ("oracle", "Q_phi greedy", "IC-Q")
        units = ("accuracy (%)", "dollars per 1000")
        columns = ["price of a dollar", *(f"{policy}: {unit}" for policy in policies for unit in units)]
        return Table("The frontier: accuracy and dollars as dollars count for more", columns, rows, name="frontier")

    def figure(self) -> Any:
        """Accuracy against dollars."""
        with style.house_style():
            figure = style.new_figure(style.COLUMN_WIDTH * 1.3, 3.1)
            axes = figure.add_subplot()
            for rows, look, text in (
                (self.oracle, dict(marker="D", ls="-", color=style.BLACK, mfc="white"), "exact oracle"),
                (self.interface, dict(marker="s", ls="--", color=style.GREY, mfc="white"), r"exact $Q_\phi$, greedy"),
            ):
                x, y = ([_mean(row[name]) * by for row in rows] for name, by in (("dollars", 1000), ("right", 100)))
                axes.plot(x, y, ms=4, lw=0.9, label=text, **look)  # type: ignore[arg-type]
            (dollars, off), (right, away) = (
                _intervals(self.learned, name, by) for name, by in (("dollars", 1000), ("right", 100))
            )
            axes.errorbar(
                dollars, right, yerr=away, xerr=off, color=ICQ.colour, fmt=ICQ.marker, ms=3.6, lw=1.0, label=ICQ.label
            )
            for index, (name, row) in enumerate(self.fixed.items()):
                at = (_mean(row["dollars"]) * 1000, _mean(row["right"]) * 100)
                marker, colour = ("x", style.VERMILLION) if index < len(TEAM) else ("*", style.GREEN)
                label = {0: "all to one model", len(TEAM): "random, oracle router"}.get(index)
                axes.plot(*at, marker, color=colour, ms=5 if marker == "x" else 7, label=label)
                dx, dy = BESIDE.get(name, (0, 5))
                axes.annotate(
                    name, at, xytext=(dx, dy), textcoords="offset points", fontsize=6.6, color=colour,
                    ha="left" if dx > 0 else "right" if dx < 0 else "center", va="bottom" if dy > 0 else "top",
                )  # fmt: skip
            for name, level in PUBLISHED_ROUTERS.items():
                if name == "best routers":
                    continue  # hardly to be told apart from the best single model
                axes.axhline(level, color=style.GREY, lw=0.5, ls=":")
                axes.annotate(
                    f"published: {name}", (0.01, level), xycoords=axes.get_yaxis_transform(), fontsize=6.2,
                    ha="left", va="bottom", color=style.GREY,
                )  # fmt: skip
            axes.set_xscale("log")
            ticks = (2, 5, 10, 20, 50)
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.set_xlim(1.3, 80)
            axes.set_xlabel("dollars per 1000 queries")
            axes.set_ylabel("right answers (%)")
            axes.set_ylim(top=97)
            axes.legend(loc="lower right", fontsize=6.8)
            axes.set_title(
                "filled circles: mean over runs, 95 % intervals; everything else is exact", fontsize=7, loc="left"
            )
            return figure

    def answers_figure(self) -> Any:
        """Who is the first to try which queries, under the oracle and under IC-Q."""
        with style.house_style():
            figure = style.new_figure(style.FULL_WIDTH, 2.3)
            classes = [f"{kind}, {level}" for kind in KINDS for level in DIFFICULTIES]
            panels = figure.subplots(1, 2, sharey=True)
            for axes, share, title in zip(panels, self.shares, ("exact oracle", "IC-Q, mean over runs"), strict=True):
                axes.imshow(share, cmap="Greys", vmin=0, vmax=1, aspect="auto")
                for row, column in np.ndindex(share.shape):
                    percent = 100 * share[row, column]
                    dark = share[row, column] > 0.55
                    star = "*" if self.best.reshape(-1)[row] == column else ""
                    axes.text(
                        column, row, f"{percent:.0f}{star}", ha="center", va="center", fontsize=7,
                        color="white" if dark else style.BLACK,
                    )  # fmt: skip
                axes.set_xticks(range(len(TEAM)), ["\n".join(name.rsplit("-", 1)) for name in TEAM])
                axes.tick_params(axis="x", labelsize=6.6)
                axes.set_yticks(range(len(classes)), classes)
                axes.set_title(f"{title}: first tried by (%); * best", fontsize=7.6)
                axes.spines[:].set_visible(False)
            return figure


# Where labels stand relative to their markers, in points; above them by default.
BESIDE = {
    "DeepSeek-v3": (0, -5), "DeepSeek-v3.1": (0, -5), "Qwen3-235b-thinking": (0, -5), "random router": (0, -5),
    "DeepSeek-R1": (2, -5), "GPT-5-medium": (0, -6), "oracle router": (4, -7),
}  # fmt: skip


def _mean(value: Interval) -> float:
    return float(value.mean)


def _intervals(rows: list[Row], name: str, by: float) -> tuple[np.ndarray, np.ndarray]:
    """Means, and distances to the ends of the intervals ``[2, n]``."""
    values = by * np.array([[row[name].mean, row[name].ci_low, row[name].ci_high] for row in rows], np.float64)
    return values[:, 0], np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]])


def _remarks(frontier: Frontier) -> list[str]:
    learned, oracle = frontier.learned[DEFAULT], frontier.oracle[DEFAULT]
    one = max(TEAM, key=lambda name: _mean(frontier.fixed[name]["right"]))
    best = frontier.fixed[one]
    published = ", ".join(f"{name} {value}" for name, value in PUBLISHED_ROUTERS.items())
    return [
        "No language model is run: accuracies, prices and bills are those of the LLMRouterBench tables, everything "
        "else about the queries is ours (docs/environments.md).",
        f"IC-Q answers {100 * _mean(learned['right']):.1f} % right for {1000 * _mean(learned['dollars']):.1f} dollars "
        f"per 1000 queries; the exact oracle {100 * _mean(oracle['right']):.1f} % for "
        f"{1000 * _mean(oracle['dollars']):.1f}; everything to {one} {100 * _mean(best['right']):.1f} % for "
        f"{1000 * _mean(best['dollars']):.1f}. The share of queries that are first tried by "
        "the best agent for them, whose attempt would be worth most to the front if type and difficulty were known, is "
        f"{100 * _mean(learned['routed']):.1f} % for IC-Q and {100 * _mean(oracle['routed']):.1f} % for the oracle, "
        "which also sees backlogs (routing accuracy).",
        f"Published accuracy in per cent, averaged over all data sets of that benchmark and other sets of models, so "
        f"for orientation only: {published}. Of our five, at least one is right on {100 * frontier.some_right:.1f} % "
        "of the queries, if their errors are independent given type and difficulty.",
    ]
