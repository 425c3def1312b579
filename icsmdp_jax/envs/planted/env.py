"""The planted model as an environment: ten agents, built backwards from its solution (D11), some of it hidden (T1).

Everything in it is ours; ``icsmdp_jax.envs.planted.model`` says how it is made and what is known of it in closed form.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import numpy as np

from icsmdp_jax.envs.planted.model import PlantedConfig, PlantedModel, planted_model
from icsmdp_jax.envs.tabular import TabularEnv, TabularParams, tabular_env
from icsmdp_jax.models.tabular import TabularModel

GAP = 0.4  # how much the hidden part matters, unless the caller says otherwise


@dataclasses.dataclass(frozen=True)
class PlantedEnv(TabularEnv):
    """A simulated planted model that remembers its knobs.

    Attributes:
      config: the knobs; also for models made by hand, whose numbers need not be these.
    """

    config: PlantedConfig = PlantedConfig()


def planted(**knobs: Any) -> tuple[PlantedEnv, TabularParams]:
    """The far-sighted planted model, simulated.

    Args:
      **knobs: fields of ``PlantedConfig``, in the place of those of ``PlantedConfig.far_sighted``; ``gap`` is 0.4
        unless given.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for knobs that the model does not have or that are out of range.
    """
    fields = [field.name for field in dataclasses.fields(PlantedConfig)]
    for name in knobs:
        if name not in fields:
            raise ValueError(f"planted: argument {name!r}, expected one of {', '.join(fields)}")
    config = PlantedConfig.far_sighted(**{"gap": GAP, **knobs})
    env, params = tabular_env(solved(config).model, name="planted")
    own = {field.name: getattr(env, field.name) for field in dataclasses.fields(env)}
    return PlantedEnv(**own, config=config), params


@lru_cache(maxsize=16)
def solved(config: PlantedConfig) -> PlantedModel:
    """The planted model of these knobs; remembered."""
    return planted_model(config)


def exact_model(env: PlantedEnv, params: TabularParams) -> TabularModel:
    """The model that is simulated.

    Raises:
      ValueError: if the parameters are no longer those that ``planted`` made.
    """
    model = solved(env.config).model
    rate = np.asarray(params.reward_rate)
    if rate.shape != model.reward_rate.shape or not np.array_equal(rate, model.reward_rate.astype(np.float32)):
        raise ValueError("params: reward_rate is not that of env.config, expected the parameters that planted made")
    return model
