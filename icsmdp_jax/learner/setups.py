"""Any method on any environment: tables or networks, interfaces that are numbers or vectors (D9).

What a method sees decides which environment it is trained in. IC-Q and everything that sees interfaces is trained in
the environment itself. The central learner is trained in the environment's exact listing, where it has one, and else
in the environment with its own ``global_view`` in the place of interfaces.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import expect
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec
from icsmdp_jax.core.wrappers import Central, WithOwner
from icsmdp_jax.learner import baselines, fits, networks
from icsmdp_jax.learner.baselines import Setup
from icsmdp_jax.learner.exploration import Ramp, ramp
from icsmdp_jax.learner.methods import METHODS, Method
from icsmdp_jax.learner.networks import FUNCTION_CLASSES, ValueClass
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner
from icsmdp_jax.learner.schedules import StepSize
from icsmdp_jax.learner.updates import Optimiser
from icsmdp_jax.models.tabular import TabularModel

LARGEST_LISTING = 20_000  # interfaces up to which random vectors stand in for features of listed interfaces


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
    chosen = _method(method)
    expect("1 or more", width=width, copies=copies, length=length)
    expect("0 or more", depth=depth)
    fits.check_factory(optimiser)
    if step_size is not None:
        fits.check_step_size(step_size)
    if exploration is not None and not isinstance(exploration, Ramp):
        raise ValueError(f"exploration = {exploration!r:.60}: expected a Ramp, such as ramp(1.0, 0.1, 500)")
    sizes: dict[str, Any] = {"width": width, "depth": depth}
    common: dict[str, Any] = {"optimiser": optimiser, "step_size": step_size, "exploration": exploration}
    fields = {"copies": copies, "length": length, **static}
    if isinstance(env, TabularModel):
        if params is not None:
            raise ValueError(f"params = {type(params).__name__}: expected None beside a TabularModel")
        if isinstance(network, ValueClass):
            raise ValueError(f"network = {network.name} functions: expected a name of {', '.join(FUNCTION_CLASSES)}")
        named = _kind(network or "tabular", vectors=False)
        return baselines.setup(env, method, named, **sizes, **common, seed=seed, **fields)
    if not isinstance(env, Environment):
        hint = "; load_model reads a model file, make finds an environment by name" if isinstance(env, str) else ""
        raise ValueError(f"env = {env!r:.60}: expected an Environment or a TabularModel{hint}")
    vectors = env.spec.num_interfaces == 0
    kind: str | ValueClass = network or ("mlp" if vectors else "tabular")
    if not isinstance(kind, ValueClass):
        kind = _kind(kind, vectors)
    name = kind if isinstance(kind, str) else kind.name
    if chosen.view == "state" and not isinstance(kind, str):
        raise ValueError(f"network = {name} functions: expected a name, as method {method!r} sees something else")
    listed = chosen.view == "state" or kind != "tabular"  # a table of interfaces needs no listing of the states
    if not vectors and isinstance(kind, str) and env.has_exact_model and listed:
        model = env.exact_model(params)
        one = baselines.setup(model, method, kind, **sizes, **common, seed=seed, **fields)
        if one.by_state:
            return dataclasses.replace(one, origin=(env, params))
        learner = dataclasses.replace(one.learner, env=env)
        return dataclasses.replace(
            one, learner=learner, hyper=one.hyper._replace(env_params=params), origin=(env, params)
        )
    seen, values, data = _seen(env, params, chosen, kind, width, depth, seed)
    tabular = values.name == "tabular"
    if optimiser is None and not tabular:
        import optax

        common["optimiser"] = optax.adam
    federated = 0 if tabular else chosen.federated_every
    learner = ParallelLearner(
        seen, values, common["optimiser"], bootstrap=chosen.bootstrap, federated_every=federated, **fields
    )
    hyper = Hyper(params, data, step_size or baselines.default_step(tabular), None, exploration or ramp(1.0, 0.1, 500))
    fits.check_hyper(hyper, learner.explore)
    fits.check_values(seen, values, data)
    return Setup(chosen, None, learner, hyper, (env, params))


def _method(method: Any) -> Method:
    if method not in METHODS:
        raise ValueError(f"method = {method!r}: expected one of {', '.join(METHODS)}")
    return METHODS[method]


def _kind(network: Any, vectors: bool) -> str:
    allowed = [name for name in FUNCTION_CLASSES if not (vectors and name == "tabular")]
    if network not in allowed:
        why = ", since interfaces are vectors" if network == "tabular" else ""
        raise ValueError(f"network = {network!r}: expected one of {', '.join(allowed)}{why}")
    return str(network)


def _seen(
    env: Environment, params: Any, method: Method, kind: str | ValueClass, width: int, depth: int, seed: int
) -> tuple[Environment, ValueClass, np.ndarray | None]:
    """The environment as the method sees it, its function class, and the data of that."""
    spec = env.spec
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
        return seen, _made(kind, seen.spec, width, depth), None
    if spec.num_interfaces:
        if kind == "tabular":
            return env, networks.tabular(spec.num_interfaces, spec.num_options), None
        if spec.num_interfaces > LARGEST_LISTING:
            raise ValueError(
                f"network = {kind!r}: {spec.num_interfaces} interfaces without features, expected at most "
                f"{LARGEST_LISTING}, or an environment whose interfaces are vectors"
            )
        vectors = np.random.default_rng(seed).standard_normal((spec.num_interfaces, networks.STAND_IN_DIM))
        data = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        values = (
            networks.named(kind, spec.num_agents, spec.num_options, width, depth) if isinstance(kind, str) else kind
        )
        return env, networks.shared(values) if method.shared else values, data
    if len(spec.interface_shape) != 1:
        raise ValueError(f"env: interfaces of shape {spec.interface_shape}, expected vectors (one axis)")
    seen = WithOwner(env) if method.view == "owner" else env
    values = _made(kind, seen.spec, width, depth) if isinstance(kind, str) else kind
    return seen, networks.shared(values) if method.shared else values, None


def _made(kind: str, spec: EnvSpec, width: int, depth: int) -> ValueClass:
    dim = math.prod(spec.interface_shape)
    if not jnp.issubdtype(spec.interface_dtype, jnp.floating):
        raise ValueError(f"env: interfaces of dtype {jnp.dtype(spec.interface_dtype)}, expected float32 vectors")
    sizes = (spec.num_agents, spec.num_options)
    if kind == "linear":
        return networks.linear(*sizes, dim=dim)
    return networks.mlp(*sizes, width, depth, dim=dim) if kind == "mlp" else networks.two_layer(*sizes, width, dim=dim)
