"""IC-Q and its baselines on one footing: same budget, networks and optimiser, another flow of information.

Every method of ``methods.METHODS`` is a ``ParallelLearner``; what differs is what the active agent sees, whose
parameters it uses, and what its target is made of. What crosses at each handoff is stated and counted.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any

import jax
import numpy as np

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact.returns import Returns, central_model
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.exploration import Ramp, ramp
from icsmdp_jax.learner.methods import METHODS, PARAMETERS, SEGMENTS, Method
from icsmdp_jax.learner.networks import FUNCTION_CLASSES, ValueClass
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner
from icsmdp_jax.learner.schedules import StepSize, polynomial
from icsmdp_jax.learner.updates import Optimiser
from icsmdp_jax.models.tabular import TabularModel


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Setup:
    """A method ready to be trained.

    Attributes:
      method: what it is.
      model: the model as this method sees it (``central_model`` of the original for the central learner); None where
        the environment has none or shows vectors.
      learner: its learner.
      hyper: its traced inputs; replace any of them before training.
      origin: the environment that was asked for and its parameters, if it was not a model.
    """

    method: Method
    model: TabularModel | None
    learner: ParallelLearner
    hyper: Hyper
    origin: tuple[Environment, Any] | None = None

    def __repr__(self) -> str:
        env = self.learner.env if self.origin is None else self.origin[0]
        learner = self.learner
        return (
            f"Setup({self.method.label} in {env.spec.name}: {learner.values.name}, {learner.copies} copies, "
            f"{learner.length} handoffs each between updates)"
        )

    @property
    def by_state(self) -> bool:
        """Whether its values are over states instead of interfaces."""
        return self.method.view == "state"

    @cached_property
    def returns(self) -> Returns | None:
        """Exact returns on the model behind the environment; None if it has none."""
        if self.origin is None:
            assert self.model is not None
            return Returns(self.model)
        env, params = self.origin
        return Returns(env.exact_model(params)) if env.has_exact_model else None

    def tables(self, params: Any) -> np.ndarray:
        """``[..., Z, O]`` float64 value tables of parameters (``[..., S, O]`` by state), any number of leading axes.

        Raises:
          ValueError: where interfaces cannot be listed with their owners.
        """
        if self.model is None and self.learner.values.name != "tabular":
            raise ValueError(f"{self!r}: no table, expected an environment with numbered interfaces and an exact model")
        owner = np.zeros(0, np.int32) if self.model is None else self.model.interface_agent

        def table(own: Any) -> jax.Array:
            return networks.value_table(self.learner.values, own, self.hyper.data, owner)

        one = jax.eval_shape(lambda: self.learner.values.init(jax.random.key(0), self.hyper.data))
        for _ in range(np.ndim(jax.tree.leaves(params)[0]) - jax.tree.leaves(one)[0].ndim):
            table = jax.vmap(table)
        return np.asarray(jax.jit(table)(params), np.float64)

    def scalars_per_handoff(self) -> float:
        """Numbers that cross between agents at each handoff, averaged over a run; parameters count if they travel.

        NaN where the whole state crosses: that is no message of so many numbers.
        """
        crosses = self.method.crosses
        if crosses == SEGMENTS:
            shape = self.learner.env.spec.interface_shape
            features = math.prod(shape) if self.hyper.data is None else self.hyper.data.shape[-1]
            return float(features + 3)  # option, reward, duration
        if crosses == PARAMETERS:
            if not self.learner.federated_every:
                return 1.0
            params = jax.eval_shape(lambda: self.learner.values.init(jax.random.key(0), self.hyper.data))
            handoffs = self.learner.federated_every * self.learner.length * self.learner.copies
            return 1.0 + 2 * sum(leaf.size for leaf in jax.tree.leaves(params)) / handoffs  # up and down again
        return math.nan if isinstance(crosses, str) else float(crosses)


def setup(
    model: TabularModel,
    method: str = "ic_q",
    function_class: str = "tabular",
    *,
    width: int = 64,
    depth: int = 2,
    optimiser: Optimiser | None = None,
    step_size: StepSize | None = None,
    exploration: Ramp | None = None,
    seed: int = 0,
    **static: Any,
) -> Setup:
    """A method on a tabular model.

    Args:
      model: the IC-SMDP.
      method: a key of ``methods.METHODS``.
      function_class: ``"tabular"``, ``"linear"``, ``"mlp"`` or ``"two-layer"``; all but the first read the model's
        features, or random unit vectors where it has none.
      width: units per hidden layer.
      depth: hidden layers of the MLP.
      optimiser: optax optimiser; Adam unless given, plain steps for tables.
      step_size: its schedule; for networks ``3e-3 (1 + k / 50)^(-1/2)``, ``polynomial(0.7)`` for tables unless given.
      exploration: epsilon by update; from 1 to 0.1 over 500 updates unless given.
      seed: of the random vectors that stand in for features.
      static: further fields of ``ParallelLearner`` (``copies``, ``length``, ``target``, ...).

    Returns:
      The setup.

    Raises:
      ValueError: for an unknown method or function class.
    """
    if method not in METHODS:
        raise ValueError(f"method = {method!r}: expected one of {', '.join(METHODS)}")
    if function_class not in FUNCTION_CLASSES:
        raise ValueError(f"function_class = {function_class!r}: expected one of {', '.join(FUNCTION_CLASSES)}")
    chosen = METHODS[method]
    if function_class != "tabular" and model.features is None:
        model = model.replace(features=networks.features_of(model, np.random.default_rng(seed)))
    seen = central_model(model) if chosen.view == "state" else model
    env, env_params = tabular_env(seen)
    values, data = _values(seen, function_class, width, depth, chosen)
    tabular = function_class == "tabular"
    if optimiser is None and not tabular:
        import optax

        optimiser = optax.adam
    learner = ParallelLearner(
        env,
        values,
        optimiser,
        bootstrap=chosen.bootstrap,
        federated_every=0 if tabular else chosen.federated_every,
        **static,
    )
    hyper = Hyper(
        env_params,
        data,
        step_size or default_step(tabular),
        exploration=exploration or ramp(1.0, 0.1, 500),
        owner=None if data is None else np.maximum(seen.interface_agent, 0).astype(np.int32),
    )
    return Setup(chosen, seen, learner, hyper)


def default_step(tabular: bool) -> StepSize:
    """``polynomial(0.7)`` for tables, ``3e-3 (1 + k / 50)^(-1/2)`` for networks."""
    return polynomial(0.7) if tabular else polynomial(0.5, rescale=0.02, scale=3e-3)


def _values(
    model: TabularModel, function_class: str, width: int, depth: int, method: Method
) -> tuple[ValueClass, np.ndarray | None]:
    agents, options = model.num_agents, model.num_options
    if function_class == "tabular":
        return networks.tabular(model.num_interfaces, options), None
    assert model.features is not None
    data = np.asarray(model.features, np.float32)
    if method.view == "owner":
        owner = np.maximum(model.interface_agent, 0)
        data = np.concatenate([data, np.eye(agents, dtype=np.float32)[owner]], axis=1)
    values = networks.named(function_class, agents, options, width, depth)
    return (networks.shared(values) if method.shared else values), data
