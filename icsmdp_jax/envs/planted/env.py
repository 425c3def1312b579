"""The planted model as an environment: ten agents, built backwards from its solution (D11), some of it hidden (T1).

Everything in it is ours; ``icsmdp_jax.envs.planted.model`` says how it is made and what is known of it in closed form.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.envs.tabular import TabularEnv, TabularParams, tabular_env

GAP = 0.4  # how much the hidden part matters, unless the caller says otherwise


def planted(**knobs: Any) -> tuple[TabularEnv, TabularParams]:
    """The far-sighted planted model, simulated.

    Args:
      **knobs: fields of ``PlantedConfig`` that replace those of ``PlantedConfig.far_sighted``; ``gap`` is 0.4 by
        default.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for knobs that the model does not have or that are out of range.
    """
    fields = [field.name for field in dataclasses.fields(PlantedConfig)]
    for name in knobs:
        if name not in fields:
            raise ValueError(f"planted: argument {name!r}, expected one of {', '.join(fields)}")
    model = planted_model(PlantedConfig.far_sighted(**{"gap": GAP, **knobs})).model
    return tabular_env(model, name="planted")
