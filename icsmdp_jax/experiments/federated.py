"""Federated routing: routers trained alone, together or centrally, against IC-Q, which sends one number per handoff.

Routers are trained on logs of evaluations of the covered models and may then ask any model that they know something
of, whether their client covers it or not. IC-Q acts within coverage: its clients ask covered models, which may hand on.
Everything is judged exactly, on the mix of each client; intervals are over logs and runs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from icsmdp_jax.drawing import style
from icsmdp_jax.envs.expert_routing.env import TEAM
from icsmdp_jax.envs.federated_routing import covered, federated_routing
from icsmdp_jax.envs.federated_routing.env import AGENTS, ANSWER, CLIENTS, HAND, mixes, states
from icsmdp_jax.envs.federated_routing.routers import answers, by_cells, by_perceptron, chosen, evaluations
from icsmdp_jax.exact.returns import Interval, Returns
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import Budget, compare, say
from icsmdp_jax.experiments.result import Result, Table, exactly, over_replicas
from icsmdp_jax.experiments.totals import Totals
from icsmdp_jax.experiments.training import train_at
from icsmdp_jax.learner.methods import METHODS

COVERAGES = (1, 2, 3, 5)  # models that a client covers
COVERAGE, PRICE, LOGGED, FOCUS = 2, 3.0, 150, 0.8  # of the environment; evaluations of each client
WEIGHTS = (0.3, 1.0, 3.0, 10.0, 30.0)  # prices of a dollar along the frontier
SIZES = (50, 150, 1500)  # of logs
STEPS = 300  # of gradient descent
FAMILIES = {"kmeans": "K-means", "mlp": "MLP"}
WAYS = {"local": (style.ORANGE, "v"), "federated": (style.GREEN, "^"), "central": (style.PURPLE, "D")}
ICQ = METHODS["ic_q"]
Routed = dict[str, np.ndarray]  # "kmeans_local" and so on: [replicas, clients, prompts] models


def run(options: Options) -> Result:
    """All methods on federated routing, the routers, the frontier, and the gain by coverage."""
    env, params = federated_routing()
    budget = Budget(
        updates=options.pick(10, 4000, 12000), copies=32, length=8, replicas=options.pick(2, 8, 32),
        explore="behaviour", step_power=0.8,
    )  # fmt: skip
    say(env.name, "routers")
    few = dataclasses.replace(budget, replicas=options.pick(2, 4, 16))
    study = Study(few, options.pick(2, 16, 64), options.seed)
    result = compare(
        env,
        params,
        budget,
        seed=options.seed,
        metric="discounted return per query (a right answer is worth 1, a dollar costs 3)",
        tables=[study.by_coverage(), study.frontier(), study.by_size()],
        figures={"frontier": study.frontier_figure, "coverage": study.coverage_figure},
        agents=AGENTS,
    )
    routers = {name: over_replicas(study.earned[COVERAGE][name]) for name in NAMES}
    routers["best_router"] = exactly(study.best)
    own = Returns(env.exact_model(params))
    analysed = {name: _scaled(own, value) for name, value in routers.items()}
    checks, said = study.order(options.preset != "testing")
    return dataclasses.replace(
        result,
        methods={**result.methods, **routers},
        normalised={**result.normalised, **analysed},
        names={**NAMES, "best_router": "best single model for each prompt"},
        checks={**result.checks, **checks},
        remarks=[*result.remarks, *said],
    )


NAMES = {f"{family}_{way}": f"{text} router, {way}" for family, text in FAMILIES.items() for way in WAYS}


def routed(coverage: int, logged: int, replicas: int, seed: int, price: float = PRICE) -> list[Routed]:
    """Choices of all routers, one dictionary for each price in ``WEIGHTS`` if ``price`` is 0, else for that price."""
    reach, prices = covered(coverage), WEIGHTS if price == 0 else (price,)
    found: list[dict[str, list[np.ndarray]]] = [{name: [] for name in NAMES} for _ in prices]
    for replica in range(replicas):
        log = evaluations(np.random.default_rng([seed, replica]), mixes(FOCUS), reach, logged)
        made = {"kmeans": by_cells(log), "mlp": by_perceptron(log, reach, replica, STEPS)}
        for at, one in zip(prices, found, strict=True):
            for family, ways in made.items():
                for way, estimates in ways.items():
                    one[f"{family}_{way}"].append(chosen(estimates, at))
    return [{name: np.stack(choices) for name, choices in one.items()} for one in found]


class Study:
    """Routers and IC-Q over coverage, prices of a dollar, and sizes of logs.

    Attributes:
      earned: returns ``[replicas]`` at each coverage by router, and ``ic_q``.
      oracles: return of the exact oracle at each coverage.
      best: return of the best single model for each prompt, all of them covered.
      along: accuracy and dollars ``[replicas, 2]`` at each price by router, ``ic_q`` and ``exact_oracle``.
      sizes: returns by size of the logs, by router.
    """

    def __init__(self, budget: Budget, replicas: int, seed: int) -> None:
        env, params = federated_routing(coverage=len(TEAM))
        self.open = Returns(env.exact_model(params))
        chance, dollars = answers()
        best = np.broadcast_to((chance - PRICE * dollars).argmax(axis=1), (CLIENTS, len(chance)))
        self.best = self.open.of(workflow(best), by_state=True)

        settings = [federated_routing(coverage=coverage)[1] for coverage in COVERAGES]
        own = settings[COVERAGES.index(COVERAGE)]
        prices = [own._replace(dollar_weight=jnp.float32(weight)) for weight in WEIGHTS]
        models = [env.exact_model(setting) for setting in (*settings, *prices)]
        tables = train_at("ic_q", env, [*settings, *prices], models[-1], budget, seed)
        solved = [Returns(model) for model in models]
        self.oracles = {coverage: one.oracle for coverage, one in zip(COVERAGES, solved, strict=False)}
        self.earned = {}
        for coverage, one, table in zip(COVERAGES, solved, tables, strict=False):
            choices = routed(coverage, LOGGED, replicas, seed)[0]
            self.earned[coverage] = {name: self.returns(each) for name, each in choices.items()}
            self.earned[coverage]["ic_q"] = one.of_greedy(table)

        self.along = []
        choices_along = routed(COVERAGE, LOGGED, replicas, seed, price=0)
        for one, table, choices in zip(
            solved[len(COVERAGES) :], tables[len(COVERAGES) :], choices_along, strict=True
        ):  # fmt: skip
            count = totals(one)
            met = {name: np.array([spent(choice) for choice in each]) for name, each in choices.items()}
            learned = count.of_tables(table)
            met["ic_q"] = np.stack([learned["right"], learned["dollars"]], axis=1)
            oracle = count.of(count.by_choice(one.q_star.q.argmax(axis=1)))
            met["exact_oracle"] = np.array([[oracle["right"], oracle["dollars"]]])
            self.along.append(met)
        self.sizes = {}
        for size in SIZES:
            choices = routed(COVERAGE, size, replicas, seed)[0]
            self.sizes[size] = {name: self.returns(each) for name, each in choices.items()}

    def returns(self, choices: np.ndarray) -> np.ndarray:
        """``[replicas]`` exact returns of ``[replicas, clients, prompts]`` models, which answer themselves."""
        return np.array([self.open.of(workflow(choice), by_state=True) for choice in choices])

    def by_coverage(self) -> Table:
        """Returns over coverage."""
        rows: list[list[Any]] = []
        for coverage, found in self.earned.items():
            gain = [over_replicas(found[f"{f}_federated"] - found[f"{f}_local"]) for f in FAMILIES]
            rows.append([coverage, *(over_replicas(each) for each in found.values()), *gain, self.oracles[coverage]])
        columns = ["models covered", *map(_name, self.earned[COVERAGE])]
        columns += [f"{text}: federated less local" for text in FAMILIES.values()]
        title = "Return (reward units) by coverage: routers on 150 evaluations of each client, IC-Q within coverage"
        return Table(title, [*columns, "exact oracle within coverage"], rows, name="coverage")

    def frontier(self) -> Table:
        """Accuracy and dollars over the price of a dollar."""
        rows: list[list[Any]] = []
        for weight, met in zip(WEIGHTS, self.along, strict=True):
            for name, pairs in met.items():
                accuracy, dollars = (over_replicas(each) if len(each) > 1 else float(each[0]) for each in
                                     (100 * pairs[:, 0], 1000 * pairs[:, 1]))  # fmt: skip
                rows.append([weight, _name(name), accuracy, dollars])
        columns = ("price of a dollar", "method", "accuracy (%)", "dollars per 1000 queries")
        return Table(f"The frontier, {COVERAGE} models covered", columns, rows, name="frontier")

    def by_size(self) -> Table:
        """Returns over the size of the logs."""
        rows = [[size, *(over_replicas(each) for each in found.values())] for size, found in self.sizes.items()]
        title = f"Return (reward units) by evaluations of each client, {COVERAGE} models covered"
        return Table(title, ("evaluations", *map(_name, self.sizes[SIZES[0]])), rows, name="sizes")

    def order(self, enough: bool) -> tuple[dict[str, bool | None], list[str]]:
        """Whether federated routers are above local ones, paired by log, at the environment's own coverage."""
        checks: dict[str, bool | None] = {}
        lines = []
        for family, text in FAMILIES.items():
            words = []
            for coverage, found in self.earned.items():
                gain = over_replicas(found[f"{family}_federated"] - found[f"{family}_local"])
                words.append(f"{_text(gain)} with {coverage}")
                if coverage == COVERAGE:
                    name = f"the federated {text} router is above the client-local one, paired by log"
                    checks[name] = bool(gain.ci_low > 0) if enough else None
            lines.append(f"{text}: federated less local return is {', '.join(words)} models covered.")
        lines.append(
            f"Routers learn from {LOGGED} evaluations of each client and may ask models that their client does not "
            "cover; IC-Q learns from many more handoffs, stays within coverage, and its models may hand on. So the two "
            "are not compared at equal cost. The parts follow the abstract of arXiv 2601.22318 only; no theorem or "
            "figure of that paper is claimed."
        )
        return checks, lines

    def frontier_figure(self) -> Any:
        """Accuracy against dollars, one panel for each family of routers."""
        with style.house_style():
            figure = style.new_figure(style.FULL_WIDTH, 2.7)
            for axes, (family, text) in zip(figure.subplots(1, 2, sharey=True), FAMILIES.items(), strict=True):
                for name, (colour, marker) in WAYS.items():
                    self._line(axes, f"{family}_{name}", f"{text}, {name}", color=colour, marker=marker)
                self._line(axes, "ic_q", ICQ.label, color=ICQ.colour, marker=ICQ.marker)
                self._line(axes, "exact_oracle", "exact oracle", color=style.BLACK, marker="D", mfc="white", ls="--")
                axes.set(xscale="log", xlabel="dollars per 1000 queries", title=text)
                axes.set_xticks((2, 5, 10, 20, 50), ("2", "5", "10", "20", "50"))
                axes.set_xticks([], minor=True)
                axes.legend(fontsize=7, loc="lower right")
            figure.axes[0].set_ylabel("right answers (%), mean")
            return figure

    def _line(self, axes: Any, name: str, label: str, **look: Any) -> None:
        mean = np.array([met[name].mean(axis=0) for met in self.along])
        axes.plot(1000 * mean[:, 1], 100 * mean[:, 0], ms=3.5, lw=0.9, label=label, **look)

    def coverage_figure(self) -> Any:
        """Returns over coverage."""
        with style.house_style():
            figure = style.new_figure(style.FULL_WIDTH, 2.7)
            for axes, (family, text) in zip(figure.subplots(1, 2, sharey=True), FAMILIES.items(), strict=True):
                drawn = {f"{family}_{way}": (f"{text}, {way}", *look) for way, look in WAYS.items()}
                drawn["ic_q"] = (ICQ.label, ICQ.colour, ICQ.marker)
                for shift, (name, (label, colour, marker)) in enumerate(drawn.items()):
                    found = [over_replicas(each[name]) for each in self.earned.values()]
                    ends = [[one.mean - one.ci_low, one.ci_high - one.mean] for one in found]
                    axes.errorbar(
                        np.array(COVERAGES) + 0.05 * (shift - 1.5), [one.mean for one in found], label=label,
                        yerr=np.transpose(ends), fmt=marker + "-", color=colour, ms=3.5, lw=0.9, capsize=1.5,
                    )  # fmt: skip
                axes.plot(COVERAGES, list(self.oracles.values()), "D--", color=style.BLACK, mfc="white", ms=3.5, lw=0.9,
                          label="exact oracle within coverage")  # fmt: skip
                axes.set(xticks=COVERAGES, xlabel="models that a client covers", title=text)
                axes.legend(fontsize=7, loc="lower right")
            figure.axes[0].set_ylabel("return (reward units)")
            return figure


def workflow(choice: np.ndarray) -> np.ndarray:
    """``[S + 2]`` options: a client hands a prompt to model ``choice [clients, prompts]``, which answers."""
    holder, prompt, _, _ = states()
    to = HAND + choice[np.minimum(holder, CLIENTS - 1), prompt]
    return np.append(np.where(holder < CLIENTS, to, ANSWER), [ANSWER, ANSWER])


def spent(choice: np.ndarray) -> tuple[float, float]:
    """Accuracy and dollars of one query under ``workflow(choice)``, over all clients."""
    weight = mixes(FOCUS) / CLIENTS
    return tuple(float((weight * each[np.arange(each.shape[0]), choice]).sum()) for each in answers())  # type: ignore[return-value]


def totals(returns: Returns) -> Totals:
    """Accuracy and dollars over an episode."""
    holder, prompt, _, _ = states()
    counted = {}
    for name, table in zip(("right", "dollars"), answers(), strict=True):
        full = np.zeros((returns.model.num_states, returns.model.num_options))
        answered = table[prompt, np.maximum(holder - CLIENTS, 0)]
        full[:-2, ANSWER] = np.where(holder >= CLIENTS, answered, 0.0)
        counted[name] = full
    return Totals(returns.model, counted)


def _scaled(own: Returns, value: Interval) -> Interval:
    mean, low, high = (float(own.normalised(end)) for end in value[:3])
    return Interval(mean, low, high, value.replicas)


def _name(name: str) -> str:
    return {**NAMES, "ic_q": ICQ.label, "exact_oracle": "exact oracle"}[name]


def _text(value: Interval) -> str:
    return f"{value.mean:+.3f} [{value.ci_low:+.3f}, {value.ci_high:+.3f}]"
