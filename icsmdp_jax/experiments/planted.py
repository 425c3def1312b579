"""The planted model: ten agents whose interfaces hide as much as the gap says, everything about it known."""

from __future__ import annotations

import sys

from icsmdp_jax.envs.registry import make
from icsmdp_jax.experiments.comparison import Budget, compare
from icsmdp_jax.experiments.knob import over_knob
from icsmdp_jax.experiments.options import Options
from icsmdp_jax.experiments.result import Result, Table

GAPS = (0.0, 0.1, 0.2, 0.4, 0.8)


def run(options: Options) -> Result:
    """All methods on the planted model, and the exact loss of acting on interfaces as the gap grows."""
    env, params = make("planted")
    budget = Budget(updates=options.pick(20, 2000, 8000), copies=32, length=8, replicas=options.pick(2, 16, 32))
    return compare(
        "planted",
        env,
        params,
        env.exact_model(params),
        budget,
        methods=("ic_q", "central_learner", "no_message", "no_message_team", "immediate", "random"),
        seed=options.seed,
        tables=[_gaps()],
        remarks=[
            "The model is ours: short options, few successors and rewards that seldom pay at once make what other "
            "agents are worth decide."
        ],
        progress=lambda method: print(f"planted: {method}", file=sys.stderr),
    )


def _gaps() -> Table:
    """Exact quantities over the gap's knob."""
    columns = {
        "epsilon": "epsilon (reward units)",
        "delta": "delta",
        "interface_gap": "interface gap (reward units)",
        "interface_distance": "distance (share of the scale)",
    }
    title = "Exact quantities as the interfaces hide more: distance from the greedy policy of Q_phi to the oracle"
    return over_knob("planted", "gap", GAPS, "eta", columns, title, name="gaps")
