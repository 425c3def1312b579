"""Learning to hand off: interface-constrained semi-Markov decision processes in JAX.

    import jax
    import icsmdp_jax as ic

    env, params = ic.make("planted", gap=0.2)            # any environment of ic.environments()
    print(ic.analyse(env.exact_model(params)))            # what is known without sampling
    icq = ic.setup(env, params, method="ic_q")            # any method of ic.METHODS
    state, curves = ic.train(icq, jax.random.key(0), updates=1500)
    print(ic.evaluate(icq, state, jax.random.key(1)))

Environments: make, environments, register, tabular_env; to write one: Environment, EnvSpec, Handoff, Ended, arrive,
no_segment; to test one: check_environment, Checked.
Models and exact results: TabularModel, load_model, save_model, from_gym, from_quantecon, from_mdptoolbox; analyse
(Analysis), solve (Solved), advise (Advice), Returns.
Learning: METHODS, setup (Setup), train (Curves), evaluate (Evaluation), compare_methods (MethodComparison); constant,
polynomial and ramp for step sizes and exploration.

Names are loaded when they are first used: importing the package imports neither jax nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from icsmdp_jax.adapters.from_gymnax import from_gymnax as from_gymnax
    from icsmdp_jax.adapters.ways import to_gymnasium as to_gymnasium
    from icsmdp_jax.adapters.ways import to_gymnax as to_gymnax
    from icsmdp_jax.adapters.ways import to_jaxmarl as to_jaxmarl
    from icsmdp_jax.adapters.ways import to_pettingzoo as to_pettingzoo
    from icsmdp_jax.core.arrival import Ended as Ended
    from icsmdp_jax.core.arrival import arrive as arrive
    from icsmdp_jax.core.arrival import no_segment as no_segment
    from icsmdp_jax.core.checks import check_environment as check_environment
    from icsmdp_jax.core.environment import Environment as Environment
    from icsmdp_jax.core.handoff import EnvSpec as EnvSpec
    from icsmdp_jax.core.handoff import Handoff as Handoff
    from icsmdp_jax.core.wrappers import Checked as Checked
    from icsmdp_jax.drawing.curves import plot_curves as plot_curves
    from icsmdp_jax.envs.registry import environments as environments
    from icsmdp_jax.envs.registry import make as make
    from icsmdp_jax.envs.registry import register as register
    from icsmdp_jax.envs.tabular import tabular_env as tabular_env
    from icsmdp_jax.exact.advice import Advice as Advice
    from icsmdp_jax.exact.advice import advise as advise
    from icsmdp_jax.exact.constants import Analysis as Analysis
    from icsmdp_jax.exact.constants import analyse as analyse
    from icsmdp_jax.exact.returns import Returns as Returns
    from icsmdp_jax.exact.solved import Solved as Solved
    from icsmdp_jax.exact.solved import solve as solve
    from icsmdp_jax.experiments.methods import MethodComparison as MethodComparison
    from icsmdp_jax.experiments.methods import compare_methods as compare_methods
    from icsmdp_jax.learner.callbacks import EarlyStop as EarlyStop
    from icsmdp_jax.learner.callbacks import JSONLines as JSONLines
    from icsmdp_jax.learner.callbacks import Point as Point
    from icsmdp_jax.learner.callbacks import ProgressBar as ProgressBar
    from icsmdp_jax.learner.callbacks import TensorBoard as TensorBoard
    from icsmdp_jax.learner.callbacks import WandB as WandB
    from icsmdp_jax.learner.checkpoint import Checkpoint as Checkpoint
    from icsmdp_jax.learner.checkpoint import SaveCheckpoint as SaveCheckpoint
    from icsmdp_jax.learner.checkpoint import load_checkpoint as load_checkpoint
    from icsmdp_jax.learner.checkpoint import save_checkpoint as save_checkpoint
    from icsmdp_jax.learner.curves import Curves as Curves
    from icsmdp_jax.learner.curves import Evaluation as Evaluation
    from icsmdp_jax.learner.curves import evaluate as evaluate
    from icsmdp_jax.learner.curves import train as train
    from icsmdp_jax.learner.exploration import ramp as ramp
    from icsmdp_jax.learner.methods import METHODS as METHODS
    from icsmdp_jax.learner.schedules import constant as constant
    from icsmdp_jax.learner.schedules import polynomial as polynomial
    from icsmdp_jax.learner.setups import Setup as Setup
    from icsmdp_jax.learner.setups import setup as setup
    from icsmdp_jax.models.files import load_model as load_model
    from icsmdp_jax.models.files import save_model as save_model
    from icsmdp_jax.models.importers import from_gym as from_gym
    from icsmdp_jax.models.importers import from_mdptoolbox as from_mdptoolbox
    from icsmdp_jax.models.importers import from_quantecon as from_quantecon
    from icsmdp_jax.models.tabular import TabularModel as TabularModel

_WHERE = {
    "adapters.from_gymnax": ("from_gymnax",),
    "adapters.ways": ("to_gymnasium", "to_gymnax", "to_jaxmarl", "to_pettingzoo"),
    "core.arrival": ("Ended", "arrive", "no_segment"),
    "core.checks": ("check_environment",),
    "core.environment": ("Environment",),
    "core.handoff": ("EnvSpec", "Handoff"),
    "core.wrappers": ("Checked",),
    "drawing.curves": ("plot_curves",),
    "envs.registry": ("make", "register", "environments"),
    "envs.tabular": ("tabular_env",),
    "exact.advice": ("Advice", "advise"),
    "exact.constants": ("Analysis", "analyse"),
    "exact.returns": ("Returns",),
    "exact.solved": ("Solved", "solve"),
    "experiments.methods": ("MethodComparison", "compare_methods"),
    "learner.callbacks": ("EarlyStop", "JSONLines", "Point", "ProgressBar", "TensorBoard", "WandB"),
    "learner.checkpoint": ("Checkpoint", "SaveCheckpoint", "load_checkpoint", "save_checkpoint"),
    "learner.curves": ("Curves", "Evaluation", "evaluate", "train"),
    "learner.exploration": ("ramp",),
    "learner.methods": ("METHODS",),
    "learner.schedules": ("constant", "polynomial"),
    "learner.setups": ("Setup", "setup"),
    "models.files": ("load_model", "save_model"),
    "models.importers": ("from_gym", "from_mdptoolbox", "from_quantecon"),
    "models.tabular": ("TabularModel",),
}
_PLACES = {name: module for module, names in _WHERE.items() for name in names}

__all__ = ["__version__", *sorted(_PLACES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
