"""CPU programming: agents, each with its own instruction class, together write a branch-free sorting program.

``machine.py`` runs programs on all permutations at once, in the ``words.py`` of bits; ``team.py`` says who the agents
are and what they see, and ``numbering.py`` gives a number to what is seen. ``reach.py`` lists what they can reach,
``model.py`` makes the exact model of it, ``env.py`` is the IC-SMDP, and ``search.py`` finds the shortest programs by
exhaustive search.
"""

from icsmdp_jax.envs.cpu_sort.env import CpuSort, CpuSortParams, CpuSortState, cpu_sort
from icsmdp_jax.envs.cpu_sort.reach import reachable
from icsmdp_jax.envs.cpu_sort.search import PUBLISHED_LENGTH, shortest_programs

__all__ = [
    "PUBLISHED_LENGTH",
    "CpuSort",
    "CpuSortParams",
    "CpuSortState",
    "cpu_sort",
    "reachable",
    "shortest_programs",
]
