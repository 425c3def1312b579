"""Packet routing on the irregular 6x6 grid: delivery times of all routing rules, with the published ones.

Many packets are under way at once, so there is no exact oracle; the scale is set by the shortest paths of an empty
network and by Q-routing, the undiscounted ancestor of IC-Q. Nothing here is read from a table but ``PUBLISHED``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats

from icsmdp_jax.envs.routing.background import shortest_delay
from icsmdp_jax.envs.routing.graph import Graph, critical_load, irregular_grid, random_critical_load
from icsmdp_jax.envs.routing.measure import Delivery, delivery_times
from icsmdp_jax.envs.routing.neural import ICQ_NEURAL
from icsmdp_jax.envs.routing.policies import POLICIES, Policy
from icsmdp_jax.exact.returns import Interval
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import say
from icsmdp_jax.experiments.cooperation import cooperation_tables
from icsmdp_jax.experiments.packets import packets, watched
from icsmdp_jax.experiments.result import Result, Table, over_replicas

METRIC = "mean delivery time, median over runs (time units)"
LOAD = 2.0  # packets per time unit, unless the user asks for another load
LIMIT = 16.0  # time units: what the figure shows
DODGE = 0.045  # packets per time unit, by which the rules stand apart in the figure

RULES: dict[str, Policy] = {
    "shortest_path": POLICIES["shortest-path"],
    "q_routing": POLICIES["q-routing"],
    "full_echo": POLICIES["full-echo"],
    "ic_q": POLICIES["icq-queue"],
    "ic_q_plain": POLICIES["icq"],
    "ic_q_neural": ICQ_NEURAL,
    "random": POLICIES["random"],
}
NAMES = {
    "shortest_path": "shortest path",
    "q_routing": "Q-routing",
    "full_echo": "full echo",
    "ic_q": "IC-Q",
    "ic_q_plain": "IC-Q, queue not in view",
    "ic_q_neural": "IC-Q, neural",
    "random": "random",
}

LETTERS = {"shortest_path": "S", "q_routing": "Q", "full_echo": "F"}  # next to the published medians in the figure

# Boyan and Littman's own simulator, steady state: median over 19 runs with learning rate 0.5, times 10 000 to 20 000.
PUBLISHED: dict[str, dict[float, float]] = {
    "shortest_path": {1.0: 5.05, 2.0: 7.18},
    "q_routing": {1.0: 6.13, 2.0: 6.32, 3.0: 8.69},
    "full_echo": {1.0: 5.16, 2.0: 6.20, 3.0: 10.1},
}


class Size(NamedTuple):
    """How much is run.

    Attributes:
      warm_up: time units before the window.
      window: time units in which deliveries count.
      replicas: runs of each rule at the load of the result, at least.
      runs: replicas times load, at most: at low loads there is less to do, and Q-routing scatters more.
      networks: runs of the networks, which take longer.
      curve: runs of each rule at the other loads.
      loads: the loads of the figure.
      steps: events behind the table of cooperation.
    """

    warm_up: int
    window: int
    replicas: int
    runs: int
    networks: int
    curve: int
    loads: tuple[float, ...]
    steps: int = 8192

    def replicas_at(self, load: float) -> int:
        """Runs of each rule at the load of the result."""
        return min(max(self.replicas, int(self.runs / load)), 3 * self.replicas)


SIZES = {
    "testing": Size(150, 150, 2, 2, 2, 2, (1.0, 2.0), 1024),
    "quick": Size(10_000, 3_000, 16, 32, 6, 6, (1.0, 2.0, 2.5, 3.0)),
    "full": Size(10_000, 10_000, 96, 192, 32, 32, (0.5, 1.0, 1.5, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 3.75)),
}


def run(options: Options) -> Result:
    """All rules at one load; without a load of the user's also over loads."""
    graph, size = irregular_grid(), SIZES[options.preset]
    load = LOAD if options.load is None else options.load
    found = measure_rules(graph, load, size.replicas_at(load), size, options.seed)
    key = jax.random.fold_in(jax.random.key(options.seed), len(RULES))
    seen = packets(graph, watched(graph, load, size.warm_up, size.steps, key))
    cooperation = cooperation_tables([seen], f"packets under IC-Q with its queue in view, at load {load:g}")
    tables, figures = [delivery_table(load, found)], {}
    if options.load is None:
        others = {
            other: found if other == load else measure_rules(graph, other, size.curve, size, options.seed + 1)
            for other in size.loads
        }
        tables.append(load_table(others))
        figures["load"] = partial(load_figure, others, critical_load(graph))
    return Result(
        environment="routing-6x6",
        metric=METRIC,
        methods={name: centre(seen.delay) for name, seen in found.items() if np.isfinite(seen.delay).all()},
        higher_is_better=False,
        centre="median",
        message_scalars_per_handoff=1.0,
        exact={
            "shortest_delay": shortest_delay(graph),
            "shortest_path_critical_load": critical_load(graph),
            "random_critical_load": random_critical_load(graph),
        },
        remarks=remarks(graph, load, found, size),
        settings={
            "load": load,
            "warm_up": size.warm_up,
            "window": size.window,
            "replicas": size.replicas_at(load),
            "replicas_at_other_loads": size.curve,
            "seed": options.seed,
            "mean_over_runs": {name: float(np.mean(seen.delay)) for name, seen in found.items()},
            "rates": {name: list(map(float, rule.rates)) for name, rule in RULES.items()},
        },
        tables=[*tables, *cooperation],
        figures=figures,
        names={name: text + (" (saturated)" if is_saturated(found.get(name)) else "") for name, text in NAMES.items()},
    )


def measure_rules(graph: Graph, load: float, replicas: int, size: Size, seed: int) -> dict[str, Delivery]:
    """Delivery times of every rule at one load, one for each run; random walks only where they can carry it."""
    found = {}
    for number, (name, rule) in enumerate(RULES.items()):
        if name == "random" and load >= random_critical_load(graph):
            continue
        say("routing-6x6", f"{NAMES[name]} at load {load:g}")
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), number), round(1000 * load))
        count = min(size.networks, replicas) if name == "ic_q_neural" else replicas
        count = 2 * replicas if name == "q_routing" else count  # it scatters most
        seen = delivery_times(rule, graph, [load], count, key, warm_up=size.warm_up, window=size.window)
        found[name] = Delivery(*(column[0] for column in seen))
    return found


def is_saturated(seen: Delivery | None) -> bool:
    """Whether most runs did not keep up with what came in."""
    return seen is not None and bool(np.mean(seen.saturated) > 0.5)


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median and the ends of its interval between order statistics, whose confidence is at least 95 % from 6 values on.

    With fewer values the ends are the smallest and the largest.
    """
    ordered = np.sort(values)
    below = int(stats.binom.ppf(0.025, len(ordered), 0.5))
    if below > 0 and 2 * stats.binom.cdf(below - 1, len(ordered), 0.5) > 0.05:
        below -= 1
    first = max(below - 1, 0)
    return float(np.median(ordered)), float(ordered[first]), float(ordered[len(ordered) - 1 - first])


def centre(values: np.ndarray) -> Interval:
    """Median over runs with ``median_interval``, as an ``Interval``: single runs that saturate decide any mean."""
    return Interval(*median_interval(values), len(values))


def delivery_table(load: float, found: Mapping[str, Delivery]) -> Table:
    """All that was measured at one load."""
    rows = []
    for name, seen in found.items():
        published = PUBLISHED.get(name, {}).get(load)
        median = float(np.median(seen.delay))
        rows.append(
            [
                NAMES[name],
                over_replicas(seen.delay),
                median,
                "" if published is None else published,
                "" if published is None else 100 * (median / published - 1),
                float(seen.hops.mean()),
                100 * float(seen.carried.mean()),
                f"{int(seen.saturated.sum())} of {len(seen.delay)}",
            ]
        )
    columns = (
        "rule", "mean over runs (time units)", "median (time units)", "published median (time units)",
        "difference (%)", "links per packet", "delivered (% of offered)", "runs that saturate",
    )  # fmt: skip
    return Table(f"Delivery times at load {load:g}.", columns, rows, "delivery")


def load_table(found: Mapping[float, Mapping[str, Delivery]]) -> Table:
    """Medians over loads; saturated ones say so."""
    rows = []
    for load, rules in found.items():
        cells: list[Any] = []
        for name in RULES:
            seen = rules.get(name)
            if seen is None:
                cells.append("saturated")
                continue
            median = float(np.median(seen.delay))
            cells.append(f"saturated ({median:.0f})" if is_saturated(seen) else round(median, 3))
        rows.append([load, *cells])
    return Table(
        "Median delivery times over loads (time units); in brackets, of the packets that a saturated network lets in.",
        ("load (packets per time unit)", *(NAMES[name] for name in RULES)),
        rows,
        "loads",
    )


def remarks(graph: Graph, load: float, found: Mapping[str, Delivery], size: Size = SIZES["full"]) -> list[str]:
    """What a reader should know, shortfalls included."""
    lines = [
        f"Shortest paths saturate at load {critical_load(graph):.4g}, random walks at "
        f"{random_critical_load(graph):.3g} (both exact, from the traffic through the busiest node)."
    ]
    stuck = [NAMES[name] for name, seen in found.items() if is_saturated(seen)]
    if stuck:
        lines.append(
            f"At load {load:g} the network is saturated under {'; '.join(stuck)}: queues fill up to the limit of "
            "1000 packets, and the delivery time says more about that limit than about the rule."
        )
    for name, seen in found.items():
        if seen.saturated.any() and not is_saturated(seen):
            lines.append(
                f"{int(seen.saturated.sum())} of {len(seen.delay)} runs of {NAMES[name]} saturate at load {load:g} "
                f"and dominate the mean, {seen.delay.mean():.3f} time units; the median is {np.median(seen.delay):.3f}."
            )
    if "random" not in found:
        lines.append(f"Random walks are left out: they cannot carry load {load:g}.")
    far = []
    for name, values in PUBLISHED.items():
        if load in values and name in found:
            far.append(f"{NAMES[name]} {100 * (np.median(found[name].delay) / values[load] - 1):+.1f} %")
    if far:
        lines.append(
            f"Medians at times {size.warm_up} to {size.warm_up + size.window} against the published ones, of 10000 to "
            f"20000: {', '.join(far)}."
        )
    learned, ancestor = found["ic_q"].delay, found["q_routing"].delay
    if len(learned) > 1:
        one, two = centre(learned), centre(ancestor)
        word = (
            "is faster than" if one.ci_high < two.ci_low else "is slower than" if one.ci_low > two.ci_high else
            "cannot be told from"
        )  # fmt: skip
        lines.append(f"IC-Q with its queue in view {word} Q-routing at load {load:g} (95 % intervals of the medians).")
    lines.append(
        "The falling step with a floor, the move shared by all ways to a destination, the fading of unused estimates "
        "and the promised wait added to the scalar are ours; so are the networks."
    )
    return lines


def load_figure(found: Mapping[float, Mapping[str, Delivery]], critical: float) -> Any:
    """Median delivery time over load for every rule, with intervals, and the published medians.

    The axis ends at ``LIMIT``: single runs beyond it are counted at the margin and do not flatten the rest.
    """
    from matplotlib.lines import Line2D

    from icsmdp_jax.drawing import style
    from icsmdp_jax.drawing.training import LOOKS

    figure = style.new_figure(style.FULL_WIDTH * 0.8, 3.4)
    axes = figure.add_subplot()
    handles: list[Any] = []
    notes = 0  # on single runs beyond the axis
    names = [name for name in RULES if name != "random"]
    for number, (name, (colour, marker, dashes)) in enumerate(zip(names, LOOKS, strict=False)):
        points = [(load, rules[name]) for load, rules in found.items() if name in rules]
        if not points:
            continue
        x = np.array([load for load, _ in points]) + DODGE * (number - (len(names) - 1) / 2)
        spread = np.array([median_interval(seen.delay) for _, seen in points])
        out = np.array([is_saturated(seen) for _, seen in points]) | (spread[:, 0] > LIMIT)
        shown = np.where(out, np.nan, spread[:, 0])
        axes.plot(x, shown, color=colour, ls=dashes, marker=marker, ms=4, lw=1.1, zorder=3)
        axes.vlines(x[~out], spread[~out, 1], spread[~out, 2], color=colour, lw=1.6, zorder=2)
        axes.plot(
            x[out],
            np.full(out.sum(), LIMIT),
            ls="",
            marker=marker,
            ms=5,
            mfc="white",
            mec=colour,
            clip_on=False,
            zorder=4,
        )
        for at, (load, seen), gone in zip(x, points, out, strict=True):
            far = int((seen.delay > LIMIT).sum())
            if not far or gone:
                continue
            notes += 1
            axes.plot(at, LIMIT, ls="", marker="^", ms=4, color=colour, clip_on=False, zorder=5)
            text = f"{NAMES[name]}: {far} of {len(seen.delay)} runs, to {seen.delay.max():,.0f} "
            side = "left" if load < np.mean(list(found)) else "right"
            axes.text(at, LIMIT - 0.5 * notes, text, fontsize=6, ha=side, va="center")
        handles.append(Line2D([], [], color=colour, ls=dashes, marker=marker, ms=4, lw=1.1, label=NAMES[name]))
        for load, value in PUBLISHED.get(name, {}).items():
            at = (load + DODGE * (number - (len(names) - 1) / 2), value)
            axes.plot(*at, ls="", marker="x", ms=6, mew=1.5, color=colour, zorder=5)
            axes.annotate(
                LETTERS[name], at, (0, 4.5), textcoords="offset points", fontsize=6.4, ha="center", va="bottom"
            )
    axes.axvline(critical, color=style.GREY, lw=0.7, ls=":", zorder=1)
    axes.text(critical, 4.6, " shortest paths\n saturate (exact)", fontsize=6.8, color=style.GREY, va="bottom")
    handles.append(
        Line2D([], [], color=style.BLACK, ls="", marker="x", ms=6, mew=1.5, label="published median (S, Q, F)")
    )
    handles.append(
        Line2D([], [], color=style.BLACK, ls="", marker="o", mfc="white", ms=5, label="saturated, or beyond the axis")
    )
    if notes:
        label = "some runs lie beyond the axis"
        handles.append(Line2D([], [], color=style.BLACK, ls="", marker="^", ms=4, label=label))
    axes.set_xlabel("load (packets per time unit)")
    axes.set_ylabel("median delivery time (time units)")
    axes.set_ylim(4.4, LIMIT)
    figure.legend(handles=handles, loc="outside right center", handlelength=2.6, fontsize=7)
    return figure
