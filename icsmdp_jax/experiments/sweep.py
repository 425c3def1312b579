"""One method at several settings of an environment, all of them and all replicas in one compiled program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.devices.placement import CELLS, EVERYWHERE, REPLICAS, compiled, device_grid
from icsmdp_jax.experiments.training import Budget, compiler_options, prepared
from icsmdp_jax.models.tabular import TabularModel


def train_sweep(
    method: str, env: Environment, settings: Sequence[Any], model: TabularModel, budget: Budget, seed: int = 0
) -> np.ndarray:
    """Trains a tabular method that sees interfaces, at each setting.

    Args:
      method: its name, see ``training.parts_of``.
      env: the environment; all settings have its sizes.
      settings: parameters of the environment.
      model: the exact listing at one of the settings.
      budget: handoffs and replicas at each setting.
      seed: replica ``r`` has the key ``fold_in(key(seed), r)`` at every setting, as in ``training.train``.

    Returns:
      ``[settings, replicas, Z, O]`` values at the last update.

    Raises:
      ValueError: where parameters differ in shape.
    """
    shapes = [jax.tree.map(jnp.shape, setting) for setting in settings]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(f"settings[{index}]: arrays of other shapes than those of settings[0], expected the same")
    one = prepared(method, env, settings[0], model, budget)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *settings)
    hyper = jax.tree.map(jnp.asarray, one.hyper)

    def replica(params: Any, key: jax.Array, shared: Any) -> Any:
        return one.learner.train(key, shared._replace(env_params=params), budget.updates)[0].params

    keys = jax.vmap(lambda r: jax.random.fold_in(jax.random.key(seed), r))(jnp.arange(budget.replicas))
    arguments, specs = (stacked, keys, hyper), (CELLS, REPLICAS, EVERYWHERE)
    program = compiled(replica, device_grid(len(settings), budget.replicas), specs, arguments, compiler_options())
    outcome = _Learned(program(*arguments), np.zeros((len(settings), budget.replicas)))
    return np.asarray(one.tables(outcome))  # type: ignore[arg-type]


class _Learned(NamedTuple):
    """As much of a learner's state as ``Setup.tables`` reads."""

    params: Any
    updates: np.ndarray
