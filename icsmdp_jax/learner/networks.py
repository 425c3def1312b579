"""Function classes: how an agent turns its interface into values of its options (D7, D9).

All classes share one interface. Parameters are stacked over *slots*; a slot is the smallest part of an agent's
parameters that one decision touches: the agent itself, or, for tables, one row of the agent's own table.
The same arguments give the same object, so that a class can be part of a compilation's cache key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import one_of, whole
from icsmdp_jax.core.dtypes import float32_products

if TYPE_CHECKING:
    from icsmdp_jax.models.tabular import TabularModel

Params = Any
Data = Any


class ValueClass(NamedTuple):
    """A function class, as functions.

    Attributes:
      name: ``tabular``, ``linear``, ``mlp``, ``two-layer`` or what ``flax_class`` was given.
      per_option: whether the first axis of a slot's parameters is the option.
      init: ``(key, data) -> params`` stacked over slots.
      slot: ``(agent, interface) -> []`` int32, the slot that a decision touches.
      view: ``(data, interface) ->`` what the network of the active agent reads: a row of ``data``, or the interface
        itself where ``data`` is None (environments whose interfaces are vectors).
      apply: ``(params of one slot, view) -> [O]`` float32 values.
      fixed: names of parameters that are drawn at the start and never move, whatever the optimiser would do to them.
      project: ``(params of one slot, radius) -> params``, onto the set of a projected learner; None for a ball around 0
        for the vector of each option.
    """

    name: str
    per_option: bool
    init: Callable[[chex.PRNGKey, Data], Params]
    slot: Callable[[chex.Array, chex.Array], chex.Array]
    view: Callable[[Data, chex.Array], chex.Array]
    apply: Callable[[Params, chex.Array], chex.Array]
    fixed: tuple[str, ...] = ()
    project: Callable[[Params, chex.Array], Params] | None = None


STAND_IN_DIM = 8  # dimension of the random unit vectors that stand in for features
FUNCTION_CLASSES = ("tabular", "linear", "mlp", "two-layer")


def features_of(model: TabularModel, rng: np.random.Generator) -> np.ndarray:
    """``[Z, dim]`` float64 features of a model, or random unit vectors where it has none."""
    if model.features is not None:
        return model.features
    vectors = rng.standard_normal((model.num_interfaces, STAND_IN_DIM))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _remembered(make: Callable[..., ValueClass]) -> Callable[..., ValueClass]:
    """One class for the same sizes, so that compiled programs are found again; what cannot be a class is refused."""
    remembered = lru_cache(maxsize=256)(make)

    @wraps(make)
    def found(*sizes: Any, **more: Any) -> ValueClass:
        try:
            return remembered(*sizes, **more)
        except TypeError:  # a list, for example, which cannot be looked up
            return make(*sizes, **more)

    return found


def named(name: str, num_agents: int, num_options: int, width: int, depth: int = 2) -> ValueClass:
    """The class of this name with parameters for each agent: all of ``FUNCTION_CLASSES`` but tables."""
    if name == "linear":
        return linear(num_agents, num_options)
    return mlp(num_agents, num_options, width, depth) if name == "mlp" else two_layer(num_agents, num_options, width)


def _agent_slot(agent: chex.Array, interface: chex.Array) -> chex.Array:
    return agent


def _feature_row(data: Data, interface: chex.Array) -> chex.Array:
    return interface if data is None else jnp.asarray(data)[interface]


def _length(data: Data, dim: int) -> int:
    """How many numbers a network reads."""
    if data is None:
        whole(1, dim=dim)
        return dim
    if np.ndim(data) != 2:
        raise ValueError(f"data: shape {list(np.shape(data))}, expected features [Z, p]")
    return int(np.shape(data)[1])


@_remembered
def tabular(num_interfaces: int, num_options: int) -> ValueClass:
    """One number per interface and option; ``data`` is unused (pass None)."""
    whole(1, num_interfaces=num_interfaces, num_options=num_options)

    def init(key: chex.PRNGKey, data: Data) -> Params:
        return jnp.zeros((num_interfaces, num_options), jnp.float32)

    return ValueClass(
        name="tabular",
        per_option=True,
        init=init,
        slot=lambda agent, interface: interface,
        view=lambda data, interface: interface,
        apply=lambda params, view: params,
    )


@_remembered
def linear(num_agents: int, num_options: int, dim: int = 0) -> ValueClass:
    """``Q_i(z, o) = theta_{i,o} . psi(z)``; ``data`` is the feature table ``[Z, p]`` float32 (D7).

    Where interfaces are vectors themselves, ``data`` is None and ``dim`` their length.
    """
    whole(1, num_agents=num_agents, num_options=num_options)
    whole(0, dim=dim)

    def init(key: chex.PRNGKey, data: Data) -> Params:
        return jnp.zeros((num_agents, num_options, _length(data, dim)), jnp.float32)

    def apply(params: Params, view: chex.Array) -> chex.Array:
        return jnp.sum(params * view[None, :], axis=1)

    return ValueClass("linear", True, init, _agent_slot, _feature_row, apply)


def flax_class(name: str, module: Any, num_agents: int, dim: int = 0) -> ValueClass:
    """A flax module per agent, parameters stacked over agents.

    Args:
      name: name of the class.
      module: a ``flax.linen`` module that maps ``[dim]`` to ``[O]``.
      num_agents: ``N``.
      dim: length of the interface vectors where ``data`` is None; else ``data`` is ``[Z, dim]`` float32.
    """

    def init(key: chex.PRNGKey, data: Data) -> Params:
        example = jnp.zeros((_length(data, dim),), jnp.float32)
        keys = jax.random.split(key, num_agents)
        return jax.vmap(lambda k: module.init(k, example))(keys)

    def apply(params: Params, view: chex.Array) -> chex.Array:
        with float32_products():
            return module.apply(params, view)

    return ValueClass(name, False, init, _agent_slot, _feature_row, apply)


@_remembered
def mlp(num_agents: int, num_options: int, width: int, depth: int = 2, dim: int = 0) -> ValueClass:
    """A ReLU multilayer perceptron per agent with ``depth`` hidden layers of ``width`` units (0: affine)."""
    from flax import linen as nn

    whole(1, num_agents=num_agents, num_options=num_options, width=width)
    whole(0, depth=depth, dim=dim)

    class MLP(nn.Module):
        """Hidden ReLU layers and a linear head."""

        @nn.compact
        def __call__(self, x: chex.Array) -> chex.Array:
            for _ in range(depth):
                x = nn.relu(nn.Dense(width)(x))
            return nn.Dense(num_options)(x)

    return flax_class("mlp", MLP(), num_agents, dim)


@_remembered
def two_layer(num_agents: int, num_options: int, width: int, hidden: str = "trained", dim: int = 0) -> ValueClass:
    """The net of the analysis, ``m^{-1/2} sum_r b_r relu(w_r . x)``, one for each agent and option.

    Args:
      num_agents: ``N``.
      num_options: ``O``.
      width: ``m``.
      hidden: ``"trained"``: ``w`` is trained and the signs ``b`` stay as they are, alternating, which makes the start
        half positive and half negative. ``"frozen"``: ``w`` stays at its random start and ``b`` is trained, so that the
        class is linear in its parameters and T2.1 applies to it.
      dim: length of the interface vectors where there is no feature table.

    Raises:
      ValueError: for another ``hidden``.
    """
    from flax import linen as nn

    whole(1, num_agents=num_agents, num_options=num_options, width=width)
    whole(0, dim=dim)
    one_of(("trained", "frozen"), hidden=hidden)
    signs = np.where(np.arange(width) % 2 == 0, 1.0, -1.0).astype(np.float32)

    class TwoLayer(nn.Module):
        """Either the hidden weights are parameters that move, or the output weights are."""

        @nn.compact
        def __call__(self, x: chex.Array) -> chex.Array:
            weights = self.param("w", nn.initializers.normal(1.0), (num_options, width, x.shape[-1]), jnp.float32)
            if hidden == "trained":
                units = nn.relu(weights @ x)
                return jnp.sum(signs * units, axis=-1) / jnp.sqrt(jnp.float32(width))
            output = self.param("b", nn.initializers.zeros, (num_options, width), jnp.float32)
            units = nn.relu(jax.lax.stop_gradient(weights) @ x)
            return jnp.sum(output * units, axis=-1) / jnp.sqrt(jnp.float32(width))

    made = flax_class("two-layer", TwoLayer(), num_agents, dim)
    return made._replace(fixed=("w",)) if hidden == "frozen" else made


@_remembered
def shared(values: ValueClass) -> ValueClass:
    """One set of parameters for all agents instead of one each: a baseline, not IC-Q.

    Args:
      values: a class whose slots are agents. A table is returned as it is: its rows belong to interfaces, and every
        interface has one owner already.

    Returns:
      The class with one slot, started as the first agent of ``values`` would be.
    """
    if values.name == "tabular":
        return values

    def init(key: chex.PRNGKey, data: Data) -> Params:
        return jax.tree.map(lambda leaf: leaf[:1], values.init(key, data))

    return values._replace(init=init, slot=lambda agent, interface: jnp.zeros_like(agent))


def keep_fixed(values: ValueClass, new: Params, old: Params) -> Params:
    """``new`` with the parameters that never move as they were: weight decay and averaging must not move them."""
    if not values.fixed:
        return new

    def pick(path: Any, moved: chex.Array, start: chex.Array) -> chex.Array:
        return start if getattr(path[-1], "key", None) in values.fixed else moved

    return jax.tree_util.tree_map_with_path(pick, new, old)


def num_slots(params: Params) -> int:
    """Number of slots of stacked parameters."""
    return jax.tree.leaves(params)[0].shape[0]


def value_table(values: ValueClass, params: Params, data: Data, interface_agent: chex.Array) -> chex.Array:
    """``[Z, O]`` values at every interface, each from its owner's parameters.

    Args:
      values: the function class.
      params: parameters stacked over slots.
      data: its data.
      interface_agent: ``[Z]`` int32 owners; interfaces that never decide (-1) are evaluated as agent 0's.
    """
    count = interface_agent.shape[0]
    if values.name == "tabular":
        return params
    data = jax.tree.map(jnp.asarray, data)

    def at(interface: chex.Array, agent: chex.Array) -> chex.Array:
        slot = values.slot(agent, interface)
        return values.apply(jax.tree.map(lambda p: p[slot], params), values.view(data, interface))

    owner = jnp.maximum(jnp.asarray(interface_agent, jnp.int32), 0)
    return jax.vmap(at)(jnp.arange(count, dtype=jnp.int32), owner)
