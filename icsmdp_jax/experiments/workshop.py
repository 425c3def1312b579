"""The workshop: benches hand a workpiece to each other, and their tools are private, given or learned."""

from __future__ import annotations

import dataclasses

from icsmdp_jax.envs.workshop.lifted import lifted_workshop
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import ALL_TABULAR, Budget, compare, say
from icsmdp_jax.experiments.quantities import over_knob
from icsmdp_jax.experiments.regimes import regimes
from icsmdp_jax.experiments.result import Result

KEPT = (0.0, 0.4, 0.8, 1.0)
COLUMNS = {
    "epsilon": "epsilon (reward units)",
    "delta": "delta",
    "oracle": "oracle (reward units)",
    "interface_optimum": "greedy in Q_phi (reward units)",
    "interface_distance": "distance (share of the scale)",
}


CHECK = "IC-Q that learns its tools earns more than the exact oracle does with the given ones"


def run(options: Options) -> Result:
    """All methods on the workshop, both regimes, and the exact loss of acting on interfaces as benches keep tools."""
    title = "Exact quantities as benches keep their tools for longer, so that what is hidden matters more"
    env, params = lifted_workshop()
    say(env.spec.name, "given and learned tools")
    both = regimes(env, params, options)
    result = compare(
        env, params,
        Budget(updates=options.pick(10, 500, 6000), copies=16, length=8, replicas=options.pick(2, 10, 32)),
        methods=ALL_TABULAR,
        seed=options.seed,
        tables=[both.table(), over_knob("workshop", "kept", KEPT, "kept (probability)", COLUMNS, title, name="kept")],
        figures={"regimes": both.figure},
        agents=[f"bench {i}" for i in range(env.spec.num_agents)],
        remarks=[
            "The workshop and its local policies are ours. An option lasts until its part is done, spoiled or laid "
            "aside; what the other benches have clamped is their private state, and no interface shows it.",
            "The methods are compared in the preconfigured regime, where tools are given. In the adaptable regime "
            "benches learn them together with the workflow, from the same one scalar for each handoff "
            "(docs/adaptable.md); no theorem is about it.",
        ],
    )  # fmt: skip
    return dataclasses.replace(
        result,
        exact={**result.exact, "oracle_learned_tools": both.oracles[1]},
        checks={**result.checks, CHECK: both.check() if options.preset != "testing" else None},
    )
