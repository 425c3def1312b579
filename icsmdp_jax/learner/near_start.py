"""Two-layer nets with a trained hidden layer that are kept near their start: the function class of theorem N.

One net for each agent and option, ``Q_delta(z, o) = m^(-1/2) sum_r b_r relu((w_r + delta_r) . x(z))``, of which only
``delta`` moves. Units come in pairs of one start and opposite signs ``b``, so that ``Q_0 = 0``. With ``project=True``
the learner keeps every unit within a ball around its start: each agent does so with its own parameters alone.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.learner.networks import ValueClass

INSIDE = 1 - 2.0**-21  # a few roundings, so that a projected unit counts as inside and no bit of it moves again


class NetData(NamedTuple):
    """What the nets read at each interface; float32.

    Attributes:
      x: ``[Z, dim]`` descriptions of length at most 1.
      activation: ``[Z, O, m]`` ``w_r . x(z)`` of the owner's units at the start.
    """

    x: chex.Array
    activation: chex.Array


def net_data(x: np.ndarray, hidden: np.ndarray, interface_agent: np.ndarray) -> NetData:
    """Data of the class from a drawn start; products are formed in float64.

    Args:
      x: ``[Z, dim]`` descriptions.
      hidden: ``[N, O, m, dim]`` weights of the start, such as ``exact.nets.draw_start`` draws.
      interface_agent: ``[Z]`` owners; interfaces that never decide (-1) are evaluated as agent 0's.

    Raises:
      ValueError: unless the second half of the units starts like the first.
    """
    half = hidden.shape[2] // 2
    if hidden.shape[2] % 2 or not np.array_equal(hidden[:, :, :half], hidden[:, :, half:]):
        raise ValueError("hidden: expected an even number of units, the second half like the first")
    owner = np.maximum(interface_agent, 0)
    activation = np.einsum("zord,zd->zor", hidden[owner], np.asarray(x, np.float64), optimize=True)
    return NetData(np.asarray(x, np.float32), activation.astype(np.float32))


@functools.lru_cache(maxsize=256)
def near_start(num_agents: int, num_options: int, width: int) -> ValueClass:
    """The class of theorem N; ``data`` is a ``NetData``, parameters are ``[N, O, dim, m]`` float32, 0 at the start.

    Args:
      num_agents: ``N``.
      num_options: ``O``.
      width: ``m``, even.

    Raises:
      ValueError: for an odd width.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width = {width}: expected an even number of units, 2 or more")
    half = width // 2
    scale = np.float32(1 / np.sqrt(width))

    def init(key: chex.PRNGKey, data: NetData) -> chex.Array:
        return jnp.zeros((num_agents, num_options, data.x.shape[1], width), jnp.float32)

    def view(data: NetData, interface: chex.Array) -> NetData:
        return NetData(jnp.asarray(data.x)[interface], jnp.asarray(data.activation)[interface])

    def apply(params: chex.Array, view: NetData) -> chex.Array:
        moved = _summed([params[:, d] * view.x[d] for d in range(params.shape[1])])
        units = jax.nn.relu(view.activation + moved)  # its derivative at 0 is 0, as in the theorem
        return scale * jnp.sum(units[:, :half] - units[:, half:], axis=1)  # pairs first: exactly 0 at the start

    return ValueClass("near-start", True, init, lambda agent, interface: agent, view, apply, project=project_units)


def project_units(params: chex.Array, radius: chex.Array) -> chex.Array:
    """Projects every unit of one agent onto the ball of that radius around its start (theorem N).

    Args:
      params: ``[O, dim, m]`` float32.
      radius: ``[]`` float32.
    """
    norm = jnp.sqrt(_summed([params[:, d] ** 2 for d in range(params.shape[1])]))[:, None]
    moved = jnp.where(norm > radius, params * (INSIDE * radius / jnp.maximum(norm, 1e-30)), params)
    return jax.lax.optimization_barrier(moved)  # else roots and quotients are computed again for each of its readers


def _summed(terms: list[chex.Array]) -> chex.Array:
    """A sum written out: over a short axis that is several times as fast as a reduction."""
    return functools.reduce(jnp.add, terms)


def as_units(params: np.ndarray) -> np.ndarray:
    """``[..., N, O, m, dim]`` float64, the order of ``exact.nets``, of parameters ``[..., N, O, dim, m]``."""
    return np.swapaxes(np.asarray(params, np.float64), -1, -2)
