"""Semantic caching: answer from the cache, hand on to a model agent, or have the cache keep the answer.

``world.py`` has queries, models and prices, ``net.py`` the net whose cells are the interface, ``env.py`` the IC-SMDP,
``reference.py`` a reference algorithm that knows nothing of handoffs.
"""

from icsmdp_jax.envs.semantic_cache.env import semantic_cache

__all__ = ["semantic_cache"]
