"""Mathematics by planner, solvers, verifier and finalizer, simulated with published accuracies and prices.

``pipeline.py`` lists what can happen to a problem, ``env.py`` is the IC-SMDP.
"""

from icsmdp_jax.envs.math_pipeline.env import (
    TEAM,
    MathPipeline,
    math_pipeline,
    states,
)
from icsmdp_jax.envs.math_pipeline.pipeline import ROLES

__all__ = ["ROLES", "TEAM", "MathPipeline", "math_pipeline", "states"]
