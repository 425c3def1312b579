"""Constants of residual bounds that come from the Poisson equation instead of a mixing time (T3+, N+)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from icsmdp_jax.exact.chain import BehaviourChain
from icsmdp_jax.exact.fixed_point import FeatureBasis
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.exact.segments import arrive, moments_ahead

RADIUS_MARGIN = 1.25  # the balls' radius over the largest block of theta*; any value of 1 or more is admissible


class PoissonConstants(NamedTuple):
    """What takes the place of ``G^2`` and ``t_mix`` in T3 and T3.1 (T3+), and in theorem N (N+).

    Attributes:
      gradient_square: ``G_2^2``, second moment of the bound on one semi-gradient.
      drift: ``C_Z``, what the chain's memory costs for each unit of step.
      boundary: ``M``, what it costs once.
    """

    gradient_square: float
    drift: float
    boundary: float


class ClassBounds(NamedTuple):
    """Bounds that hold at every point of the set on which a function class is projected; ``[Z, O]``, 0 off the mask.

    Attributes:
      value: on ``|Q(z, o)|``.
      gradient: on the length of the gradient at a pair.
      feature: Lipschitz constant of what multiplies the temporal difference in the drift.
      reach: on what multiplies the temporal difference in the drift.
      block: int, number of the block that holds the pair's parameters.
    """

    value: np.ndarray
    gradient: np.ndarray
    feature: np.ndarray
    reach: np.ndarray
    block: np.ndarray


def fundamental_matrix(chain: BehaviourChain) -> np.ndarray:
    """``[n, n]`` ``Z = (I - P + 1 d^T)^-1 - 1 d^T``: ``Z f`` solves the Poisson equation of a centred ``f`` (T3+)."""
    law = chain.stationary[chain.states]
    ones = np.broadcast_to(law, (len(law), len(law)))
    if chain.elimination is not None or len(law) == 1:
        return chain.poisson(np.eye(len(law)) - ones)
    return np.linalg.inv(np.eye(len(law)) - as_dense(chain.transition) + ones) - ones


def linear_bounds(interface: InterfaceModel, radius: float, basis: FeatureBasis | None = None) -> ClassBounds:
    """Bounds of tables or linear features, projected block by block on balls of one radius (T3+).

    Args:
      interface: the interface model.
      radius: ``B``.
      basis: features, one block for each agent and option; None for tables, where every entry is a block.
    """
    mask, options = interface.mask, interface.mask.shape[1]
    length = 1.0 if basis is None else np.linalg.norm(basis.table, axis=1)[:, None]
    size = np.where(mask, length, 0.0)
    if basis is None:
        block = np.where(mask, np.cumsum(mask.reshape(-1)).reshape(mask.shape) - 1, 0)
    else:
        block = np.where(mask, basis.agent[:, None] * options + np.arange(options), 0)
    return ClassBounds(radius * size, size, size, 2 * radius * size, block)


def poisson_constants(interface: InterfaceModel, bounds: ClassBounds) -> PoissonConstants:
    """``G_2^2``, ``C_Z`` and ``M`` of a model under projected IC-Q (T3+, N+).

    A temporal difference is at most ``D = |R| + value(z, o) + gamma^tau max_o' value(z', o')`` in size, the last part 0
    at a terminal handoff.

    Args:
      interface: the interface model.
      bounds: of the function class on its set.

    Raises:
      ValueError: if the arrays would be too large to form.
    """
    m, chain, model = interface.moments, interface.chain, interface.model
    states, law = chain.states, chain.stationary[chain.states]
    behaviour = interface.lift(chain.behaviour)[states] * m.used[states]
    value, gradient, feature, reach = (interface.lift(table)[states] for table in bounds[:4])
    block, count = bounds.block, int(bounds.block.max()) + 1
    ahead = moments_ahead(interface, absolute=True)
    still = (m.reward_noise + value)[:, :, None]  # D = |R| + still + gamma^tau moving
    moving = (interface.lift(bounds.value.max(axis=1)) * ~m.terminal)[None, None, :]
    difference = ahead.paid + still * ahead.ends + moving * ahead.discount  # E[D; s']
    mean = difference.sum(axis=2)
    square = ahead.paid_square + 2 * still * ahead.paid + 2 * moving * ahead.paid_discount + still**2 * ahead.ends
    square = (square + 2 * still * moving * ahead.discount + moving**2 * ahead.discount_square).sum(axis=2)
    weight = law[:, None] * behaviour
    memory = np.abs(fundamental_matrix(chain))

    # Lipschitz constant of the expected drift at each state, in each block alone: [n, blocks].
    lipschitz = np.zeros((len(states), count))
    own = behaviour * (mean * feature + gradient * reach)
    for option in range(behaviour.shape[1]):
        lipschitz[np.arange(len(states)), block[model.interface[states], option]] += own[:, option]
    arrival = np.zeros((model.num_interfaces, count))
    z, o = np.nonzero(interface.mask)
    np.add.at(arrival, (z, block[z, o]), bounds.gradient[z, o])
    arrival = np.where(m.terminal[:, None], 0.0, arrival[model.interface])
    lipschitz += np.einsum("so,sot,tb->sb", behaviour * reach, ahead.discount, arrival, optimize=True)
    met = np.einsum("sot,tb->sob", arrive(interface, difference), memory @ lipschitz, optimize=True)
    felt = np.take_along_axis(met, block[model.interface[states]][:, :, None], axis=2)[:, :, 0]
    return PoissonConstants(
        gradient_square=float((weight * square * gradient**2).sum()),
        drift=float((weight * gradient * felt).sum()),
        boundary=float(law @ memory @ (behaviour * reach * mean).sum(axis=1)),
    )
