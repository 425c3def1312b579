"""The planted model: ten agents whose interfaces hide as much as the gap says, everything about it known."""

from __future__ import annotations

from icsmdp_jax.envs.registry import make
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import ALL_TABULAR, Budget, compare
from icsmdp_jax.experiments.quantities import over_knob
from icsmdp_jax.experiments.result import Result

GAPS = (0.0, 0.1, 0.2, 0.4, 0.8)
COLUMNS = {
    "epsilon": "epsilon (reward units)",
    "delta": "delta",
    "interface_gap": "interface gap (reward units)",
    "interface_distance": "distance (share of the scale)",
}


def run(options: Options) -> Result:
    """All methods on the planted model, and the exact loss of acting on interfaces as the gap grows."""
    title = "Exact quantities as the interfaces hide more: distance from the greedy policy of Q_phi to the oracle"
    return compare(
        *make("planted"),
        Budget(updates=options.pick(20, 2000, 8000), copies=32, length=8, replicas=options.pick(2, 16, 32)),
        methods=ALL_TABULAR,
        seed=options.seed,
        tables=[over_knob("planted", "gap", GAPS, "eta", COLUMNS, title, name="gaps")],
        remarks=[
            "The model is ours. Options are short, successors are few and immediate rewards seldom decide, so that "
            "the values of other agents matter."
        ],
    )
