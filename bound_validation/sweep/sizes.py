"""How large a model of a built-in family would be, known before any of its arrays is made."""

from __future__ import annotations

import math

from icsmdp_jax.envs.planted.structure import PlantedConfig
from icsmdp_jax.exact.chain import SPARSE_ABOVE

WORD = 8  # bytes of a float64 or int64
LISTS = 6  # arrays of the size of the successor lists at once, while they are put together
SQUARES = 4  # square arrays over states at once, where the stationary law is found by elimination
TABLES = 3  # arrays of the size of the duration table at once, or of the coefficients


def check_size(size: int) -> None:
    """Refuses a model whose arrays do not fit into memory.

    Raises:
      ValueError: in one line with the forecast.
    """
    from icsmdp_jax.devices.placement import host_memory
    from icsmdp_jax.learner.memory import in_units

    if size > host_memory():
        raise ValueError(
            f"the arrays of the model would take {in_units(size)}, expected at most {in_units(host_memory())}; "
            "choose smaller sizes"
        )


def planted_size(config: PlantedConfig) -> int:
    """Bytes that it takes to build a planted model."""
    sizes = dict(config.fields)
    artifacts = math.prod(sizes.values())
    if config.views is None:
        unseen = list(sizes.values())
        hidden = unseen[-1] * (max(unseen[:-1]) if len(unseen) > 2 else 1)
    else:
        hidden = max(artifacts // math.prod(sizes[name] for name in set(view)) for view in config.views)
    states = config.num_agents * config.private_states * artifacts
    pairs = states * config.num_options
    lists = LISTS * pairs * config.successors * hidden
    tables = TABLES * (pairs * config.longest_duration)
    atoms = TABLES * config.num_agents * config.planted_atoms * (config.num_options + config.interface_dim)
    square = SQUARES * states**2 if states <= SPARSE_ABOVE else 0  # the chain's elimination
    return WORD * (lists + tables + atoms + square + states * (len(sizes) + config.interface_dim))


def random_size(
    interfaces: int, hidden: int, options: int, successors: int, longest_duration: int, features: int
) -> int:
    """Bytes that it takes to build a random model."""
    pairs = interfaces * hidden * options
    return WORD * (pairs * (LISTS * successors * hidden + TABLES * longest_duration) + interfaces * features)
