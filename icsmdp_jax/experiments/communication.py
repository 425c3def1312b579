"""What is communicated: one table over environments, from nothing to the whole state, with bits per handoff.

Everything is trained in the exact listing of each environment, with tables and the same handoffs, and judged by the
exact return of its greedy policy on the scale 0 random workflow, 1 oracle with the whole state. Numbers are float32.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.drawing.style import BLACK, FULL_WIDTH, GREY, letter, new_figure
from icsmdp_jax.envs.registry import make
from icsmdp_jax.exact.returns import Interval, Returns
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import say
from icsmdp_jax.experiments.result import Result, Table, over_replicas
from icsmdp_jax.experiments.training import Budget
from icsmdp_jax.learner.channel import clean
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.grid import GridTrainer, replica_keys
from icsmdp_jax.learner.message_bounds import model_value_range
from icsmdp_jax.learner.setups import Setup, setup
from icsmdp_jax.learner.two_scalars import TwoScalars
from icsmdp_jax.models.tabular import TabularModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENVIRONMENTS = (
    "expert-routing", "math-pipeline", "semantic-cache", "federated-routing", "cpu-sort2", "cpu-sort3", "eval-opt",
    "voting", "orch-workers", "workshop", "planted",
)  # fmt: skip
FEW = ("eval-opt", "planted")  # in the preset for tests
LARGE = 10_000  # states above which a tenth of the updates has to do: an update touches the whole table
BITS = (1, 2, 4, 8)
FLOAT = 32
NOTHING, REWARD, SCALAR, TWO = "no_message", "no_message_team", "ic_q", "two_scalars"  # names in results
INTERFACE, STATE = "full_information", "central_learner"
WORDS = {
    NOTHING: "nothing", REWARD: "reward only", **{f"bits_{k}": f"{k} bit{'s' * (k > 1)}" for k in BITS},
    SCALAR: "one scalar", TWO: "value and variance", INTERFACE: "full interface", STATE: "whole state",
}  # fmt: skip


class Row(NamedTuple):
    """One environment.

    Attributes:
      returns: exact return of what was learned, by what crosses, over replicas.
      scaled: the same on the scale 0 random, 1 oracle.
      bits: bits per handoff.
    """

    returns: Mapping[str, Interval]
    scaled: Mapping[str, Interval]
    bits: Mapping[str, int]


def run(options: Options) -> Result:
    """The table over all environments that can be listed."""
    names = FEW if options.preset == "testing" else ENVIRONMENTS
    budget = Budget(options.pick(10, 600, 4000), 32, 8, options.pick(2, 8, 32))
    rows = {}
    for name in names:
        say("communication", name)
        env, params = make(name)
        model = env.exact_model(params)
        share = 10 if model.num_states > LARGE else 1
        rows[name] = measured(model, dataclasses.replace(budget, updates=budget.updates // share), options.seed)
    mean = {
        what: over_replicas(np.array([row.scaled[what].mean for row in rows.values()])) for what in WORDS
    }  # its interval is over environments
    return Result(
        environment="communication",
        metric="normalised return, mean over environments",
        methods=mean,
        names=WORDS,
        settings={"seed": options.seed, "environments": list(names), **budget.settings()},
        tables=[table(rows, "normalised"), table(rows, "return"), bits_table(rows)],
        figures={"bits": lambda: bits_figure(rows)},
        remarks=remarks(rows, options.preset != "testing"),
    )


def measured(model: TabularModel, budget: Budget, seed: int = 0) -> Row:
    """Trains everything on one model.

    Args:
      model: the IC-SMDP.
      budget: the same for everything.
      seed: replica ``r`` has the key ``fold_in(key(seed), r)`` whatever crosses.
    """
    known, keys = Returns(model), replica_keys(jax.random.key(seed), budget.replicas)

    def made(method: str) -> Setup:
        return setup(
            model, None, method, "tabular", copies=budget.copies, length=budget.length,
            step_size=budget.step_size("tabular"), explore=budget.explore,
            exploration=ramp(budget.epsilon_begin, budget.epsilon_end, budget.ramp_share * budget.updates),
        )  # fmt: skip

    def learned(one: Setup) -> np.ndarray:
        params = GridTrainer(one.learner, one.hyper).train(keys, budget.updates).params[0]
        return known.of_greedy(one.tables(params), one.by_state)

    icq = made("ic_q")
    perfect = clean(model.num_agents, model_value_range(model))
    channels = [perfect, *(perfect.quantised(k, unbiased=True) for k in BITS)]
    cells = {"channel": jax.tree.map(lambda *leaves: jnp.stack(leaves), *channels)}
    # hyper has a channel, too: whether there is one is decided before anything is mapped.
    trainer = GridTrainer(icq.learner, icq.hyper._replace(channel=perfect), cells)
    tables = icq.tables(trainer.train(keys, budget.updates).params)
    scalar, *rounded = known.of_greedy(tables)
    two = dataclasses.replace(icq, learner=TwoScalars(**vars(icq.learner)))
    found = {
        NOTHING: learned(made("no_message")),
        REWARD: learned(made("no_message_team")),
        **{f"bits_{k}": values for k, values in zip(BITS, rounded, strict=True)},
        SCALAR: scalar,
        TWO: learned(two),
        INTERFACE: scalar,  # tables: a row has one owner, and its maximum is all that a target uses
        STATE: learned(made("central")),
    }
    bits = {NOTHING: 0, REWARD: FLOAT, **{f"bits_{k}": k for k in BITS}, SCALAR: FLOAT, TWO: 2 * FLOAT}
    segment = _bits(model.num_options) + FLOAT + _bits(model.longest_duration)
    bits |= {INTERFACE: _bits(model.num_interfaces) + segment, STATE: _bits(model.num_states) + segment}
    returns = {what: over_replicas(values) for what, values in found.items()}
    scaled = {what: over_replicas(known.normalised(values)) for what, values in found.items()}
    return Row(returns, scaled, bits)


def table(rows: Mapping[str, Row], kind: str) -> Table:
    """Environments by what crosses: normalised returns, or returns in reward units."""
    cells = [[name, *(getattr(row, _FIELD[kind])[what] for what in WORDS)] for name, row in rows.items()]
    unit = "0 random workflow, 1 oracle" if kind == "normalised" else "reward units"
    return Table(
        f"What crosses at a handoff, and the return of what is learned ({unit}), 95 % intervals over replicas",
        ("environment", *WORDS.values()), cells, kind,
    )  # fmt: skip


def bits_figure(rows: Mapping[str, Row]) -> Figure:
    """Normalised return by what crosses, from nothing to the whole state; a panel for each environment."""
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    figure = new_figure(FULL_WIDTH, 1.35 * lines + 0.9)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    lowest = min(one.ci_low for row in rows.values() for one in row.scaled.values())
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    for index, (axes, (name, row)) in enumerate(zip(grid.flat, rows.items(), strict=False)):
        letter(axes, index, name)
        found = [row.scaled[what] for what in WORDS]
        middle = np.array([one.mean for one in found])
        ends = np.array([[one.mean - one.ci_low, one.ci_high - one.mean] for one in found]).T
        axes.axhline(row.scaled[SCALAR].mean, color=GREY, linewidth=0.6, linestyle="--")
        axes.errorbar(np.arange(len(WORDS)), middle, ends, fmt="o", color=BLACK, markersize=3, linewidth=0.8)
        axes.set_ylim(min(lowest, 0.0) - 0.05, 1.1)
        axes.set_xticks(np.arange(len(WORDS)), list(WORDS.values()), rotation=90)
        if index % columns == 0:
            axes.set_ylabel("normalised return")
    return figure


def bits_table(rows: Mapping[str, Row]) -> Table:
    """Bits per handoff."""
    cells = [[name, *(row.bits[what] for what in WORDS), fewest(row)] for name, row in rows.items()]
    return Table("Bits per handoff", ("environment", *WORDS.values(), "fewest that do"), cells, "bits")


def fewest(row: Row) -> int | str:
    """Fewest bits of a rounded scalar from which on the interval reaches that of the exact one; a dash for none."""
    enough: int | str = "-"
    for k in reversed(BITS):
        if row.scaled[f"bits_{k}"].ci_high < row.scaled[SCALAR].ci_low:
            break
        enough = k
    return enough


def remarks(rows: Mapping[str, Row], judged: bool) -> list[str]:
    """What the table says, with where more bits do not help."""
    lines = [
        "With tables, an agent that is told a receiver's whole interface and segments can compute its offer and no "
        "more, so the full interface earns what one scalar does; it is not trained again.",
        "The variance goes with the value, and the sender takes an inverse-variance share of its step "
        "(icsmdp_jax/learner/two_scalars.py); that rule is ours. Rounded scalars use levels evenly spaced over the "
        "a-priori value range (L6), one of the two next to the value at random, with the value as the mean.",
        "Not here: routing-6x6 and cpu-sort4, whose states are too many to list.",
        "There is no workflow of this table's own: how agents cooperate is in the section of each environment.",
    ]
    if not judged:
        return [*lines, "This preset trains too little to compare anything."]
    above = [n for n, row in rows.items() if row.scaled[SCALAR].ci_low > row.scaled[NOTHING].ci_high]
    lines.append(f"One scalar earns more than nothing, outside the intervals, in {_listed(above)}.")
    for what in (REWARD, TWO, STATE):
        more = [n for n, row in rows.items() if row.scaled[what].ci_low > row.scaled[SCALAR].ci_high]
        less = [n for n, row in rows.items() if row.scaled[what].ci_high < row.scaled[SCALAR].ci_low]
        lines.append(
            f"{WORDS[what].capitalize()} earns more than one scalar in {_listed(more)}, less in {_listed(less)}; "
            "elsewhere intervals overlap, and its bits buy nothing that these replicas could show."
        )
    return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no environment"


def _bits(count: int) -> int:
    """Bits that name one of ``count`` things."""
    return math.ceil(math.log2(max(count, 1)))


_FIELD = {"normalised": "scaled", "return": "returns"}
