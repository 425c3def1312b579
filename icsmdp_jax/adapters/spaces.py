"""What an agent may see and do, as spaces of any library that has ``Discrete`` and ``Box``."""

from __future__ import annotations

from typing import Any

import numpy as np

from icsmdp_jax.core.handoff import EnvSpec


def interface_space(spec: EnvSpec, spaces: Any) -> Any:
    """The space of one interface: ``Discrete(Z)`` where interfaces are numbered, else an unbounded ``Box``.

    Args:
      spec: of the environment.
      spaces: a module of spaces: ``gymnasium.spaces``, ``gymnax.environments.spaces``, ``jaxmarl.environments.spaces``.
    """
    if spec.num_interfaces:
        return spaces.Discrete(spec.num_interfaces)
    return spaces.Box(-np.inf, np.inf, tuple(spec.interface_shape), np.dtype(spec.interface_dtype))


def option_space(spec: EnvSpec, spaces: Any) -> Any:
    """The space of options, ``Discrete(O)``; masks say which of them are available."""
    return spaces.Discrete(spec.num_options)


def on_host(interface: np.ndarray) -> Any:
    """An interface as Gymnasium's spaces have it: a NumPy array, a number as ``int64``."""
    return np.int64(interface) if interface.ndim == 0 else np.array(interface)
