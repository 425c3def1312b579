"""The workshop with fixed local policies: benches hand a workpiece to each other, and their tools are private."""

from __future__ import annotations

from icsmdp_jax.envs.registry import make
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import ALL_TABULAR, Budget, compare
from icsmdp_jax.experiments.quantities import over_knob
from icsmdp_jax.experiments.result import Result

KEPT = (0.0, 0.4, 0.8, 1.0)
COLUMNS = {
    "epsilon": "epsilon (reward units)",
    "delta": "delta",
    "oracle": "oracle (reward units)",
    "interface_optimum": "greedy in Q_phi (reward units)",
    "interface_distance": "distance (share of the scale)",
}


def run(options: Options) -> Result:
    """All methods on the workshop, and the exact loss of acting on interfaces as the benches keep their tools."""
    title = "Exact quantities as benches keep their tools for longer, so that what is hidden matters more"
    return compare(
        *make("workshop", ticks=True),
        Budget(updates=options.pick(10, 500, 6000), copies=16, length=8, replicas=options.pick(2, 10, 32)),
        methods=ALL_TABULAR,
        seed=options.seed,
        tables=[over_knob("workshop", "kept", KEPT, "kept (probability)", COLUMNS, title, name="kept")],
        remarks=[
            "The workshop and its local policies are ours. An option lasts until its part is done, spoiled or laid "
            "aside; what the other benches have clamped is their private state, and no interface shows it."
        ],
    )
