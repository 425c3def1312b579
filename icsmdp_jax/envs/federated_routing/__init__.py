"""Expert routing for several clients, each with its own queries and access to some of the models.

``env.py`` is the IC-SMDP, ``routers.py`` has routers that are trained on logged evaluations, alone or together.
"""

from icsmdp_jax.envs.federated_routing.env import FederatedRouting, covered, federated_routing

__all__ = ["FederatedRouting", "covered", "federated_routing"]
