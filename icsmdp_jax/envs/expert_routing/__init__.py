"""Expert routing, simulated with published accuracies and prices: which language model should answer a query.

``table.py`` holds the published numbers, ``queries.py`` lists what can happen to a query, ``env.py`` is the IC-SMDP.
"""

from icsmdp_jax.envs.expert_routing.env import (
    TEAM,
    ExpertRouting,
    backlogs,
    best_agents,
    expert_routing,
    states,
)
from icsmdp_jax.envs.expert_routing.table import MODELS, PUBLISHED_ROUTERS

__all__ = [
    "MODELS",
    "PUBLISHED_ROUTERS",
    "TEAM",
    "ExpertRouting",
    "backlogs",
    "best_agents",
    "expert_routing",
    "states",
]
