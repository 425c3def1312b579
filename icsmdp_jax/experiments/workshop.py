"""The workshop with fixed local policies: benches hand a workpiece to each other, and their tools are private."""

from __future__ import annotations

import sys

from icsmdp_jax.envs.registry import make
from icsmdp_jax.experiments.comparison import Budget, compare
from icsmdp_jax.experiments.knob import over_knob
from icsmdp_jax.experiments.options import Options
from icsmdp_jax.experiments.result import Result, Table

KEPT = (0.0, 0.4, 0.8, 1.0)


def run(options: Options) -> Result:
    """All methods on the workshop, and the exact loss of acting on interfaces as the benches keep their tools."""
    env, params = make("workshop", ticks=True)
    budget = Budget(updates=options.pick(10, 500, 6000), copies=16, length=8, replicas=options.pick(2, 10, 32))
    return compare(
        "workshop",
        env,
        params,
        env.exact_model(params),
        budget,
        methods=("ic_q", "central_learner", "no_message", "no_message_team", "immediate", "random"),
        seed=options.seed,
        tables=[_kept()],
        remarks=[
            "The workshop and its local policies are ours. An option lasts until its part is done, spoiled or laid "
            "aside; what the other benches have clamped is their private state, and no interface shows it."
        ],
        progress=lambda method: print(f"workshop: {method}", file=sys.stderr),
    )


def _kept() -> Table:
    """Exact quantities over the probability that a bench keeps its tool."""
    columns = {
        "epsilon": "epsilon (reward units)",
        "delta": "delta",
        "oracle": "oracle (reward units)",
        "interface_optimum": "greedy in Q_phi (reward units)",
        "interface_distance": "distance (share of the scale)",
    }
    title = "Exact quantities as benches keep their tools for longer, so that what is hidden matters more"
    return over_knob("workshop", "kept", KEPT, "kept (probability)", columns, title, name="kept")
