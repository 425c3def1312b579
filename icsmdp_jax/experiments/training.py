"""One budget for all methods, and the training that spends it: replicas side by side, one compilation for each method.

Methods that see interfaces are trained in the native environment. The central learner is trained in the exact listing
of the same environment, numbered by its states and equal to it in law, unless a native form that shows everything is
at hand. Values are judged by ``icsmdp_jax.exact.returns``: exactly, without any simulation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import expect, whole
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.drawing.training import AgentRecord
from icsmdp_jax.experiments.result import NEURAL
from icsmdp_jax.learner.curves import Curves
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.grid import GridTrainer, replica_keys
from icsmdp_jax.learner.methods import Method, named
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner
from icsmdp_jax.learner.schedules import StepSize, polynomial
from icsmdp_jax.learner.setups import Setup, setup
from icsmdp_jax.models.tabular import TabularModel

EXPLORE = ("epsilon-greedy", "behaviour")
POINTS = 10  # of learning curves


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every method of a comparison may spend, and how it learns.

    Attributes:
      updates: number of updates.
      copies: environments side by side.
      length: handoffs of each environment between two updates.
      replicas: independent runs of each method.
      step_scale, step_rescale, step_power: step size of tables, ``min(1, scale (1 + rescale c)^-power)``, where ``c``
        counts the entry's own rows.
      learning_rate: of Adam, for networks; it decays as ``(1 + k / 50)^-1/2``.
      explore: ``"epsilon-greedy"``, or ``"behaviour"`` for options that are always uniformly random, under which
        ``Q_phi`` is the one of the theory.
      epsilon_begin, epsilon_end: epsilon at the first update and after the ramp.
      ramp_share: share of the updates that the ramp lasts.
      width, depth: of networks.
    """

    updates: int
    copies: int = 32
    length: int = 8
    replicas: int = 16
    step_scale: float = 1.0
    step_rescale: float = 1.0
    step_power: float = 0.7
    learning_rate: float = 3e-3
    explore: str = "epsilon-greedy"
    epsilon_begin: float = 1.0
    epsilon_end: float = 0.1
    ramp_share: float = 0.5
    width: int = 64
    depth: int = 2

    def __post_init__(self) -> None:
        whole(1, updates=self.updates, copies=self.copies, length=self.length, replicas=self.replicas)
        if self.explore not in EXPLORE:
            raise ValueError(f"explore = {self.explore!r}: expected one of {', '.join(EXPLORE)}")
        shares = {name: getattr(self, name) for name in ("epsilon_begin", "epsilon_end", "ramp_share")}
        expect("a number from 0 to 1", **shares)

    @property
    def handoffs(self) -> int:
        """Handoffs that each replica of each method learns from."""
        return self.updates * self.copies * self.length

    def handoffs_at(self, updates: np.ndarray) -> np.ndarray:
        """Handoffs of each replica up to these updates."""
        return np.asarray(updates, np.int64) * self.copies * self.length

    def step_size(self, function_class: str) -> StepSize:
        """The schedule for tables or for networks."""
        if function_class == "tabular":
            return polynomial(self.step_power, self.step_rescale, self.step_scale)
        return polynomial(0.5, rescale=0.02, scale=self.learning_rate)

    def settings(self) -> dict[str, Any]:
        """Everything as plain values, for ``Result.settings``."""
        return {"handoffs": self.handoffs, **dataclasses.asdict(self)}


class MethodRun(NamedTuple):
    """What the replicas of one method learned, and how.

    Attributes:
      course: ``[replicas, P, Z, O]`` float64 values (over states for the central learner) at ``P`` points of training.
      handoffs: ``[P]`` handoffs of each replica up to there.
      agents: what each agent learned from between two points.
      by_state: whether rows are states.
      scalars: numbers that cross between agents at each handoff; NaN where the whole state does.
      compile_s: seconds of compilation.
      run_s: seconds of training.
    """

    course: np.ndarray
    handoffs: np.ndarray
    agents: AgentRecord
    by_state: bool
    scalars: float
    compile_s: float
    run_s: float

    @property
    def tables(self) -> np.ndarray:
        """``[replicas, Z, O]`` values at the last update."""
        return self.course[:, -1]


def parts_of(name: str, function_class: str = "tabular") -> tuple[Method, str]:
    """``(method, function class)`` of a name in results.

    Raises:
      ValueError: for an unknown name.
    """
    return named(name.removesuffix(NEURAL)), "mlp" if name.endswith(NEURAL) else function_class


def prepared(
    name: str, env: Environment, params: Any, model: TabularModel, budget: Budget, function_class: str = "tabular"
) -> Setup:
    """A method ready to be trained; those that see interfaces in the native environment.

    Args:
      name: its name in results, see ``parts_of``.
      env: the native environment, interfaces numbered as in the model.
      params: its parameters.
      model: its exact model.
      budget: what it may spend.
      function_class: ``"tabular"``, ``"linear"``, ``"mlp"`` or ``"two-layer"``.

    Raises:
      ValueError: for an unknown method, or where environment and model do not have the same interfaces and options.
    """
    method, kind = parts_of(name, function_class)
    spec, listed = env.spec, (model.num_interfaces, model.num_options)
    if (spec.num_interfaces, spec.num_options) != listed:
        raise ValueError(
            f"env: {spec.num_interfaces} interfaces and {spec.num_options} options, expected {listed[0]} and "
            f"{listed[1]} as in the model"
        )
    one = setup(
        model,
        None,
        method.id,
        kind,
        width=budget.width,
        depth=budget.depth,
        step_size=budget.step_size(kind),
        exploration=ramp(budget.epsilon_begin, budget.epsilon_end, budget.ramp_share * budget.updates),
        copies=budget.copies,
        length=budget.length,
        explore=budget.explore,
    )
    if one.by_state:
        return one
    learner = dataclasses.replace(one.learner, env=env)
    return dataclasses.replace(one, learner=learner, hyper=one.hyper._replace(env_params=params))


def train(one: Setup, budget: Budget, seed: int = 0) -> MethodRun:
    """Trains all replicas of a method side by side, and looks at them at ``POINTS`` points.

    Args:
      one: what ``prepared`` returned.
      budget: the same one.
      seed: replica ``r`` of every method has the key ``fold_in(key(seed), r)``.
    """
    keys = replica_keys(jax.random.key(seed), budget.replicas)
    curves, run = GridTrainer(one.learner, one.hyper).record(keys, budget.updates, min(POINTS, budget.updates))
    found: Curves = jax.tree.map(lambda leaf: leaf[0], curves)
    return MethodRun(
        one.tables(found.returns), budget.handoffs_at(found.updates[0]), agents_of(found), one.by_state,
        scalars_per_handoff(one), run.compile_s, run.run_s,
    )  # fmt: skip


def agents_of(curves: Curves) -> AgentRecord:
    """What curves ``[replicas, P, N]`` record of each agent."""
    return AgentRecord(np.where(curves.visits > 0, curves.td_error, np.nan), np.asarray(curves.visits))


def train_at(
    name: str, env: Environment, settings: Sequence[Any], model: TabularModel, budget: Budget, seed: int = 0
) -> np.ndarray:
    """Trains a tabular method that sees interfaces at several settings of an environment, in one compiled program.

    Args:
      name: of the method, see ``parts_of``.
      env: the environment; all settings have its sizes.
      settings: parameters of the environment.
      model: the exact model at one of the settings.
      budget: handoffs and replicas at each setting.
      seed: as in ``train``; the same keys at every setting.

    Returns:
      ``[settings, replicas, Z, O]`` values at the last update.

    Raises:
      ValueError: where parameters differ in shape.
    """
    shapes = [jax.tree.map(jnp.shape, setting) for setting in settings]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(f"settings[{index}]: arrays of other shapes than those of settings[0], expected the same")
    one = prepared(name, env, settings[0], model, budget)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *settings)
    trainer = GridTrainer(one.learner, one.hyper, {"env_params": stacked})
    return one.tables(trainer.train(replica_keys(jax.random.key(seed), budget.replicas), budget.updates).params)


def scalars_per_handoff(one: Setup) -> float:
    """Numbers that cross between agents at each handoff: for IC-Q those of the program's offers, which are all.

    For other methods it is what the method's description says (``Setup.scalars_per_handoff``).
    """
    return offers_per_handoff(one.learner, one.hyper) if one.method.id == "ic_q" else one.scalars_per_handoff()


def offers_per_handoff(learner: ParallelLearner, hyper: Hyper) -> float:
    """How many numbers the learner's program offers for each handoff that it simulates, from the traced shapes."""

    def update(key: jax.Array, given: Hyper) -> jax.Array:
        state, rows = learner.collect(key, learner.init(key, given), given)
        return learner.offers(state, rows, given)

    crossed = jax.eval_shape(update, jax.random.key(0), hyper)
    return crossed.size / (learner.length * learner.copies)
