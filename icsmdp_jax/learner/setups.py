"""Any method on any environment or model: IC-Q and its rivals on an equal footing (D9).

Every method of ``METHODS`` is a ``ParallelLearner`` with the same budget, networks and optimiser; what differs is what
the active agent sees, whose parameters it uses, and what its target is made of. What crosses at each handoff is stated
and counted. IC-Q and everything that sees interfaces is trained in the environment itself; the central learner in the
environment's exact listing where it has one, and otherwise on the environment's ``global_view`` instead of interfaces.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import one_of, shown, whole
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec
from icsmdp_jax.core.wrappers import Central, WithOwner
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact.returns import Returns, central_model
from icsmdp_jax.learner import fits, networks
from icsmdp_jax.learner.exploration import Ramp, ramp
from icsmdp_jax.learner.methods import METHODS, PARAMETERS, SEGMENTS, Method
from icsmdp_jax.learner.networks import FUNCTION_CLASSES, ValueClass
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner
from icsmdp_jax.learner.schedules import StepSize, polynomial
from icsmdp_jax.learner.updates import Optimiser
from icsmdp_jax.models.tabular import TabularModel

LARGEST_LISTING = 20_000  # interfaces up to which random vectors stand in for features of listed interfaces
BY_METHOD = ("env", "values", "optimiser", "bootstrap", "federated_every")  # decided here, not by the caller


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

        # In an ensemble networks have slots for the agents of the largest model, so sizes are not compared.
        for _ in range(fits.leading_axes(self.learner.values, self.hyper.data, params, sizes=False)):
            table = jax.vmap(table)
        return np.asarray(jax.jit(table)(params), np.float64)

    def scalars_per_handoff(self) -> float:
        """Numbers that cross between agents at each handoff, averaged over a run; parameters count if they travel.

        NaN where the whole state crosses: that is not a message of a fixed number of scalars.
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


class Seen(NamedTuple):
    """What a method is trained in.

    Attributes:
      env: the environment as the method sees it.
      env_params: its parameters.
      values: its function class.
      data: data of that class, for interfaces with features.
      model: the model as the method sees it; None where there is none, or it is not needed.
    """

    env: Environment
    env_params: Any
    values: ValueClass
    data: np.ndarray | None = None
    model: TabularModel | None = None


def setup(
    env: Environment | TabularModel,
    params: Any = None,
    method: str = "ic_q",
    network: str | ValueClass | None = None,
    *,
    width: int = 64,
    depth: int = 2,
    copies: int = 64,
    length: int = 8,
    optimiser: Optimiser | None = None,
    step_size: StepSize | None = None,
    exploration: Ramp | None = None,
    seed: int = 0,
    **static: Any,
) -> Setup:
    """A method ready to be trained in an environment, or on a tabular model.

    Args:
      env: an environment, or a model.
      params: parameters of the environment; None for a model.
      method: a key of ``METHODS``.
      network: ``"tabular"``, ``"linear"``, ``"mlp"``, ``"two-layer"`` or a ``ValueClass`` with parameters for each
        agent; by default tables where interfaces are numbers and ``"mlp"`` where they are vectors.
      width: units per hidden layer.
      depth: hidden layers of the MLP.
      copies: environments side by side.
      length: handoffs of each environment between two updates.
      optimiser: maker of an optax optimiser, such as ``optax.adam``; Adam unless given, plain steps for tables.
      step_size: a schedule of ``learner.schedules``; for networks ``3e-3 (1 + k / 50)^(-1/2)``, ``polynomial(0.7)``
        for tables unless given.
      exploration: epsilon by update; from 1 to 0.1 over 500 updates unless given.
      seed: of the random unit vectors that stand in for features where interfaces are numbers without any.
      **static: further fields of ``ParallelLearner`` (``target``, ``target_network``, ...).

    Returns:
      The setup: ``learner``, its traced inputs ``hyper``, and what ``train``, ``evaluate`` and ``tables`` need.

    Raises:
      ValueError: in one line, for an argument that does not fit; the line names it.

    Example:
      >>> import icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> ic.setup(env, params, method="ic_q", network="mlp", width=32)
      Setup(IC-Q in planted: mlp, 64 copies, 8 handoffs each between updates)
    """
    one_of(METHODS, method=method)
    whole(1, width=width, copies=copies, length=length)
    whole(0, depth=depth, seed=seed)
    fields = [field.name for field in dataclasses.fields(ParallelLearner) if field.name not in BY_METHOD]
    for name in static:
        if name not in fields:
            raise ValueError(f"setup: argument {name!r}, expected one of {', '.join(fields)}")
    fits.check_factory(optimiser)
    if step_size is not None:
        fits.check_step_size(step_size)
    if exploration is not None and not isinstance(exploration, Ramp):
        raise ValueError(f"exploration = {shown(exploration)}: expected a Ramp, such as ramp(1.0, 0.1, 500)")
    chosen, sizes = METHODS[method], (width, depth, seed)
    if isinstance(env, TabularModel):
        if params is not None:
            raise ValueError(f"params = {type(params).__name__}: expected None with a TabularModel")
        if isinstance(network, ValueClass):
            raise ValueError(f"network = {network.name} functions: expected a name of {', '.join(FUNCTION_CLASSES)}")
        seen = _of_model(env, chosen, _kind("tabular" if network is None else network, vectors=False), *sizes)
    elif isinstance(env, Environment):
        fits.check_params(env, params)
        seen = _of_environment(env, params, chosen, network, *sizes)
    else:
        hint = "; load_model reads a model file, make finds an environment by name" if isinstance(env, str) else ""
        raise ValueError(f"env = {shown(env)}: expected an Environment or a TabularModel{hint}")
    tabular = seen.values.name == "tabular"
    if optimiser is None and not tabular:
        import optax

        optimiser = optax.adam
    federated = 0 if tabular else chosen.federated_every
    learner = ParallelLearner(
        seen.env, seen.values, optimiser, copies, length, bootstrap=chosen.bootstrap, federated_every=federated,
        **static,
    )  # fmt: skip
    owner = None
    if seen.model is not None and seen.data is not None:
        owner = np.maximum(seen.model.interface_agent, 0).astype(np.int32)
    hyper = Hyper(
        seen.env_params, seen.data, step_size or default_step(tabular), exploration=exploration or ramp(1.0, 0.1, 500),
        owner=owner,
    )  # fmt: skip
    fits.check_hyper(hyper, learner.explore)
    fits.check_values(seen.env, seen.values, seen.data)
    return Setup(chosen, seen.model, learner, hyper, None if isinstance(env, TabularModel) else (env, params))


def default_step(tabular: bool) -> StepSize:
    """``polynomial(0.7)`` for tables, ``3e-3 (1 + k / 50)^(-1/2)`` for networks."""
    return polynomial(0.7) if tabular else polynomial(0.5, rescale=0.02, scale=3e-3)


def _of_model(model: TabularModel, method: Method, kind: str, width: int, depth: int, seed: int) -> Seen:
    if kind != "tabular" and model.features is None:
        model = model.replace(features=networks.features_of(model, np.random.default_rng(seed)))
    seen = central_model(model) if method.view == "state" else model
    env, env_params = tabular_env(seen)
    agents, options = seen.num_agents, seen.num_options
    if kind == "tabular":
        return Seen(env, env_params, networks.tabular(seen.num_interfaces, options), None, seen)
    assert seen.features is not None
    data = np.asarray(seen.features, np.float32)
    if method.view == "owner":
        owner = np.maximum(seen.interface_agent, 0)
        data = np.concatenate([data, np.eye(agents, dtype=np.float32)[owner]], axis=1)
    values = networks.named(kind, agents, options, width, depth)
    return Seen(env, env_params, networks.shared(values) if method.shared else values, data, seen)


def _of_environment(
    env: Environment, params: Any, method: Method, network: str | ValueClass | None, width: int, depth: int, seed: int
) -> Seen:
    spec = env.spec
    vectors = spec.num_interfaces == 0
    kind: str | ValueClass = ("mlp" if vectors else "tabular") if network is None else network
    if not isinstance(kind, ValueClass):
        kind = _kind(kind, vectors)
    elif method.view == "state":
        raise ValueError(
            f"network = {kind.name} functions: expected a name, as method {method.id!r} sees something else"
        )
    listed = method.view == "state" or kind != "tabular"  # a table of interfaces needs no listing of the states
    if not vectors and isinstance(kind, str) and env.has_exact_model and listed:
        one = _of_model(env.exact_model(params), method, kind, width, depth, seed)
        return one if method.view == "state" else one._replace(env=env, env_params=params)
    if method.view == "state":
        if not env.has_global_view:
            raise ValueError(
                f"method = {method.id!r}: {spec.name} has no exact model and no global_view, expected an environment "
                "that implements one of them"
            )
        if kind == "tabular":
            raise ValueError(
                f"network = 'tabular': expected linear, mlp or two-layer with method = {method.id!r}, since the "
                f"global view of {spec.name} is a vector"
            )
        seen: Environment = Central(env, env.global_view_size(params))
        assert isinstance(kind, str)
        return Seen(seen, params, _made(kind, seen.spec, width, depth))
    if spec.num_interfaces:
        if kind == "tabular":
            return Seen(env, params, networks.tabular(spec.num_interfaces, spec.num_options))
        if spec.num_interfaces > LARGEST_LISTING:
            raise ValueError(
                f"network = {kind!r}: {spec.num_interfaces} interfaces without features, expected at most "
                f"{LARGEST_LISTING}, or an environment whose interfaces are vectors"
            )
        drawn = np.random.default_rng(seed).standard_normal((spec.num_interfaces, networks.STAND_IN_DIM))
        features = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
        values = (
            networks.named(kind, spec.num_agents, spec.num_options, width, depth) if isinstance(kind, str) else kind
        )
        return Seen(env, params, networks.shared(values) if method.shared else values, features)
    if len(spec.interface_shape) != 1:
        raise ValueError(f"env: interfaces of shape {spec.interface_shape}, expected vectors (one axis)")
    seen = WithOwner(env) if method.view == "owner" else env
    values = _made(kind, seen.spec, width, depth) if isinstance(kind, str) else kind
    return Seen(seen, params, networks.shared(values) if method.shared else values)


def _kind(network: Any, vectors: bool) -> str:
    allowed = [name for name in FUNCTION_CLASSES if not (vectors and name == "tabular")]
    if not isinstance(network, str) or network not in allowed:
        why = ", since interfaces are vectors" if isinstance(network, str) and network == "tabular" else ""
        raise ValueError(f"network = {shown(network)}: expected one of {', '.join(allowed)}{why}")
    return str(network)


def _made(kind: str, spec: EnvSpec, width: int, depth: int) -> ValueClass:
    dim = math.prod(spec.interface_shape)
    if not jnp.issubdtype(spec.interface_dtype, jnp.floating):
        raise ValueError(f"env: interfaces of dtype {jnp.dtype(spec.interface_dtype)}, expected float32 vectors")
    sizes = (spec.num_agents, spec.num_options)
    if kind == "linear":
        return networks.linear(*sizes, dim=dim)
    return networks.mlp(*sizes, width, depth, dim=dim) if kind == "mlp" else networks.two_layer(*sizes, width, dim=dim)
