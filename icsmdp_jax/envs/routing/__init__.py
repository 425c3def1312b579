"""The packet network of Boyan and Littman (1993): many packets under many routing rules, or one packet as an IC-SMDP.

``graph.py`` holds graphs, ``network.py`` the simulator, ``conditions.py`` what changes during a run, ``policies.py``
and ``neural.py`` the routing rules, ``simulate.py`` and ``measure.py`` runs and what is counted in them. ``env.py``
follows one packet through traffic that ``background.py`` has recorded.
"""

from icsmdp_jax.envs.routing.conditions import Change, network_params
from icsmdp_jax.envs.routing.env import Routing, RoutingParams, RoutingState, routing, table_option
from icsmdp_jax.envs.routing.graph import (
    Graph,
    critical_load,
    graph_from_links,
    graph_from_networkx,
    irregular_grid,
)
from icsmdp_jax.envs.routing.measure import Delivery, delivery_times, over_time
from icsmdp_jax.envs.routing.neural import ICQ_NEURAL
from icsmdp_jax.envs.routing.policies import POLICIES, Policy, Rates

__all__ = [
    "ICQ_NEURAL",
    "POLICIES",
    "Change",
    "Delivery",
    "Graph",
    "Policy",
    "Rates",
    "Routing",
    "RoutingParams",
    "RoutingState",
    "critical_load",
    "delivery_times",
    "graph_from_links",
    "graph_from_networkx",
    "irregular_grid",
    "network_params",
    "over_time",
    "routing",
    "table_option",
]
