"""Semantic caching: what a coarser net costs IC-Q, compared with T1, and the regret of a reference without handoffs.

The radius of the net behind the interface is an interface gap that can be turned: at each radius Q_phi, its greedy
policy and T1's bound are exact, and IC-Q is trained. The reference (``envs.semantic_cache.reference``) plays a bandit
form of the same world; its growth of regret is fitted to each replica, and the interval is over replicas.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from icsmdp_jax.drawing import style
from icsmdp_jax.envs.semantic_cache import semantic_cache
from icsmdp_jax.envs.semantic_cache.env import AGENTS
from icsmdp_jax.envs.semantic_cache.reference import offline_loss, regret
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.exact.returns import Interval
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import WITHIN, Budget, compare, on_scale, say
from icsmdp_jax.experiments.result import Result, Table, over_replicas
from icsmdp_jax.experiments.training import train_at
from icsmdp_jax.learner.methods import METHODS

RADII = (0.0, 0.9, 1.2, 1.5, 2.0)  # chords
EXPONENT = 0.9  # below which the reference's regret is to grow
NEAR_EVERYWHERE = f"IC-Q is within {WITHIN} of the exact greedy policy of its Q_phi at every radius (normalised return)"
SUBLINEAR = f"the reference's regret grows with an exponent below {EXPONENT}, its interval included"
ICQ = METHODS["ic_q"]


def run(options: Options) -> Result:
    """All methods on semantic caching, IC-Q over the radius of the net, and the reference offline and online."""
    env, params = semantic_cache()
    budget = Budget(
        updates=options.pick(10, 3000, 12000), copies=32, length=8, replicas=options.pick(2, 10, 32),
        explore="behaviour", step_power=0.8,
    )  # fmt: skip
    say(env.name, "radius of the net")
    few = dataclasses.replace(budget, replicas=options.pick(2, 4, 16))
    nets = Nets(few, options.seed)
    say(env.name, "reference")
    reference = Reference(
        options.pick(200, 4000, 16000), options.pick(2, 8, 16), options.pick(100, 1600, 6400), options.seed
    )
    result = compare(
        env,
        params,
        budget,
        seed=options.seed,
        metric="discounted return (a perfect answer is worth 1)",
        tables=[nets.table(), reference.table()],
        figures={"radius": nets.figure, "regret": reference.figure},
        remarks=[*nets.said(), reference.said()],
        agents=AGENTS,
    )
    enough = options.preset != "testing"
    checks = {
        NEAR_EVERYWHERE: bool(max(map(abs, nets.off)) <= WITHIN) if enough else None,
        SUBLINEAR: bool(reference.exponent.ci_high < EXPONENT) if enough else None,
    }
    return dataclasses.replace(result, checks={**result.checks, **checks})


class Nets:
    """IC-Q and what is exact at each radius of the net.

    Attributes:
      known: exact analyses.
      cells: cells of the net.
      learned: normalised returns of IC-Q's greedy policy.
      off: their means less the normalised returns of the exact greedy policy of Q_phi.
    """

    def __init__(self, budget: Budget, seed: int, **sizes: int) -> None:
        made = [semantic_cache(radius=radius, **sizes) for radius in RADII]
        self.known = [analyse(env.exact_model(params)) for env, params in made]
        env, params = made[0]
        tables = train_at("ic_q", env, [one for _, one in made], env.exact_model(params), budget, seed)
        self.cells, self.learned, self.off = [], [], []
        for known, table in zip(self.known, tables, strict=True):
            returns = known.returns
            front = returns.model.interface[returns.model.agent == 0]
            self.cells.append(round(np.sqrt(len(np.unique(front)) / 2)))
            found = on_scale(known, over_replicas(returns.of_greedy(table)))
            self.learned.append(found)
            self.off.append(float(found.mean - returns.normalised(returns.interface_optimum)))

    def table(self) -> Table:
        """Exact quantities and IC-Q over the radius."""
        rows = [
            [
                radius, cells, float(known.returns.normalised(known.returns.interface_optimum)), learned, off,
                known.ais.epsilon, known.ais.delta, known.gap.gap, known.gap.bound, known.gap.policy_loss,
                known.gap.policy_loss_bound,
            ]
            for radius, cells, known, learned, off in zip(
                RADII, self.cells, self.known, self.learned, self.off, strict=True
            )
        ]  # fmt: skip
        columns = (
            "radius (chord)", "cells", "greedy policy of Q_phi (normalised, exact)", "IC-Q (normalised)", "difference",
            "epsilon (reward units)", "delta", "interface gap (reward units)", "its bound (T1)", "policy loss",
            "its bound (T1.3)",
        )  # fmt: skip
        return Table("What a coarser net costs: IC-Q, exact values, and T1", columns, rows, name="radius")

    def figure(self) -> Any:
        """Loss of IC-Q against the radius, between the exact loss of Q_phi and T1's bounds."""
        with style.house_style():
            figure = style.new_figure(style.FULL_WIDTH, 2.6)
            left, right = figure.subplots(1, 2)
            exact = [1 - float(one.returns.normalised(one.returns.interface_optimum)) for one in self.known]
            left.plot(RADII, exact, "s--", color=style.GREY, mfc="white", ms=4, lw=0.9, label=r"exact $Q_\phi$, greedy")
            mean = 1 - np.array([one.mean for one in self.learned])
            away = [[one.ci_high - one.mean, one.mean - one.ci_low] for one in self.learned]
            left.errorbar(
                RADII, mean, yerr=np.transpose(away), fmt=ICQ.marker, color=ICQ.colour, ms=3.6, lw=1.0, capsize=1.5,
                label=f"{ICQ.label}, mean over runs, 95 % interval",
            )  # fmt: skip
            left.set_ylabel("loss to the oracle (share of the scale)")
            for name, text, look in (
                ("bound", r"T1's bound on $|Q_\phi - Q^*|$", "v:"), ("gap", r"largest $|Q_\phi - Q^*|$, exact", "D-"),
                ("policy_loss", "policy loss in the worst state, exact", "o--"),
            ):  # fmt: skip
                values = [getattr(one.gap, name) for one in self.known]
                right.plot(RADII, values, look, color=style.BLACK, mfc="white", ms=4, lw=0.9, label=text)
            right.set_ylabel("reward units")
            for axes in (left, right):
                axes.set_xticks(RADII, [f"{r:g}\n{cells}" for r, cells in zip(RADII, self.cells, strict=True)])
                axes.set_xlabel("radius of the net (chord), number of cells")
                axes.set_ylim(bottom=0)
                axes.legend(fontsize=7)
            return figure

    def said(self) -> list[str]:
        """How far IC-Q is from its exact limit, at worst."""
        worst = int(np.argmax(np.abs(self.off)))
        share = [one.gap.gap / one.gap.bound for one in self.known if one.gap.bound > 1e-9]
        return [
            f"Over {len(RADII)} radii of the net ({', '.join(map(str, self.cells))} cells) IC-Q's normalised return "
            f"differs from that of the exact greedy policy of its Q_phi by at most {abs(self.off[worst]):.4f}, at "
            f"radius {RADII[worst]:g}. Where anything is hidden, the interface gap is {100 * min(share):.0f} to "
            f"{100 * max(share):.0f} % of T1's bound."
        ]


class Reference:
    """Regret of the online algorithm and loss of the offline one.

    Attributes:
      rounds: ``[P]`` rounds at which regret is looked at, evenly in their logarithm over a factor of 16.
      regret: ``[replicas, P]``.
      exponent: slope of log regret against log rounds.
      offline: ``(logged queries, loss per query)``.
    """

    def __init__(self, rounds: int, replicas: int, logged: int, seed: int) -> None:
        self.rounds = np.unique(np.geomspace(rounds / 16, rounds, 9).astype(int))
        seeds = range(replicas * seed, replicas * (seed + 1))
        self.regret = np.stack([regret(rounds, one)[self.rounds - 1] for one in seeds])
        self.exponent = over_replicas(np.array([growth(self.rounds, one) for one in self.regret]))
        sizes = [max(logged // by, 10) for by in (64, 16, 4, 1)]
        self.offline = [(n, over_replicas(np.array([offline_loss(n, one) for one in seeds]))) for n in sizes]

    def table(self) -> Table:
        """Regret by rounds, and loss by logged queries."""
        rows: list[list[Any]] = [
            ["online, regret so far", int(at), over_replicas(values)]
            for at, values in zip(self.rounds, self.regret.T, strict=True)
        ]
        rows += [["offline, loss per query", n, loss] for n, loss in self.offline]
        columns = ("algorithm", "queries", "reward units, 95 % interval")
        title = "The reference against an oracle on a fine net"
        return Table(title, columns, [*rows, ["growth exponent of regret", "", self.exponent]], name="reference")

    def figure(self) -> Any:
        """Regret over rounds in log-log coordinates, every replica; offline loss beside it."""
        with style.house_style():
            figure = style.new_figure(style.FULL_WIDTH, 2.5)
            left, right = figure.subplots(1, 2)
            left.plot(self.rounds, self.regret.T, color=style.SKY, lw=0.7)
            mean = self.regret.mean(axis=0)
            left.plot(self.rounds, mean, "o-", color=style.BLUE, ms=3, label=f"mean; exponent {_text(self.exponent)}")
            left.plot(self.rounds, mean[0] * self.rounds / self.rounds[0], ":", color=style.GREY, label="linear growth")
            left.set(xscale="log", yscale="log", xlabel="queries", ylabel="regret (reward units)")
            left.set_xticks(self.rounds[::2], [str(at) for at in self.rounds[::2]])
            left.set_xticks([], minor=True)
            sizes, losses = zip(*self.offline, strict=True)
            ends = [[one.mean - one.ci_low, one.ci_high - one.mean] for one in losses]
            right.errorbar(
                sizes, [one.mean for one in losses], yerr=np.transpose(ends), fmt="o-", color=style.GREEN, ms=3.5,
                capsize=1.5, label="offline, 95 % interval",
            )  # fmt: skip
            right.set(xscale="log", xlabel="logged queries", ylabel="loss per query (reward units)")
            right.set_xticks(sizes, [str(n) for n in sizes])
            right.set_xticks([], minor=True)
            right.axhline(0, color=style.GREY, lw=0.5)
            for axes in (left, right):
                axes.legend(fontsize=7)
            return figure

    def said(self) -> str:
        """The growth exponent in words."""
        return (
            f"The reference's regret against the fine-net oracle grows with exponent {_text(self.exponent)} from "
            f"{self.rounds[0]} to {self.rounds[-1]} queries ({self.exponent.replicas} replicas). It follows the "
            "abstract of arXiv 2604.20021 only; the choices within are ours, and no theorem of that paper is claimed."
        )


def growth(rounds: np.ndarray, found: np.ndarray) -> float:
    """Slope of log regret against log rounds; regret below 1, which means nothing in a logarithm, counts as 1."""
    return float(np.polyfit(np.log(rounds), np.log(np.maximum(found, 1.0)), 1)[0])


def _text(value: Interval) -> str:
    return f"{value.mean:.2f} [{value.ci_low:.2f}, {value.ci_high:.2f}]"
