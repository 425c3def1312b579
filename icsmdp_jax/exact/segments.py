"""Joint moments of one segment and of the chain's next state, dense, for the theory that looks one handoff ahead (D4).

A segment from a recurrent state ends in ``s'``; the chain goes on in ``s+``, which is ``s'`` or, after a terminal
handoff, a restart. Whatever is carried across a terminal handoff counts as 0. With ``Q`` a table and ``V`` its greedy
values, ``epsilon = R + gamma^tau V(z') - Q(z, o)`` is affine in ``gamma^tau`` given ``s'``, so that all moments follow
from those of ``gamma^tau``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from icsmdp_jax.exact.chain import with_restart
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.moments import Matrix, as_dense

LARGEST = 2**27  # entries of one array [S, O, S] up to which it is formed


class Segments(NamedTuple):
    """Moments over the recurrent states, ``[n, O, n]`` unless another shape is given; 0 at masked options.

    Attributes:
      states: ``[n]`` int, indices in the model.
      interface: ``[n]`` int, the interface of each.
      law: ``[n]`` stationary law ``d``.
      behaviour: ``[n, O]`` ``mu(o | phi(s))``.
      ends: ``P(s+ | s, o)``, restarts included.
      carried: ``E[gamma^tau; s+]`` without terminal handoffs.
      carried_square: ``E[gamma^(2 tau); s+]`` without terminal handoffs.
      error: ``E[epsilon; s+]``.
      error_carried: ``E[epsilon gamma^tau; s+]`` without terminal handoffs.
      error_square: ``E[epsilon^2; s+]``, the noise included.
    """

    states: np.ndarray
    interface: np.ndarray
    law: np.ndarray
    behaviour: np.ndarray
    ends: np.ndarray
    carried: np.ndarray
    carried_square: np.ndarray
    error: np.ndarray
    error_carried: np.ndarray
    error_square: np.ndarray


def moments_ahead(interface: InterfaceModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``[n, O, S]`` probability, ``E[gamma^tau]`` and ``E[gamma^(2 tau)]`` by where the segment really ends.

    Raises:
      ValueError: if the arrays would be too large to form.
    """
    m, states = interface.moments, interface.chain.states
    options, count = interface.mask.shape[1], interface.model.num_states
    entries = len(states) * options * count
    if entries > LARGEST:
        raise ValueError(f"model: {entries} entries of [S, O, S], expected at most {LARGEST} for moments of segments")
    rows = (states[:, None] * options + np.arange(options)).reshape(-1)
    used = m.used[states][:, :, None]

    def dense(matrix: Matrix) -> np.ndarray:
        return as_dense(matrix[rows]).reshape(len(states), options, count) * used

    return dense(m.probability), dense(m.discounted_all), dense(m.discounted_square_all)


def arrive(interface: InterfaceModel, ahead: np.ndarray) -> np.ndarray:
    """``[n, O, S]`` by where the segment ends as ``[n, O, n]`` by where the chain goes on, restarts included."""
    chain = interface.chain
    flat = with_restart(ahead.reshape(-1, ahead.shape[-1]), interface.moments.terminal, chain.start)
    return flat[:, chain.states].reshape(*ahead.shape[:2], len(chain.states))


def segments(interface: InterfaceModel, q: np.ndarray) -> Segments:
    """Moments of the segments of a chain, with the temporal differences of a table (D2, D4).

    Args:
      interface: the interface model.
      q: ``[Z, O]`` the table whose temporal differences are meant; entries outside the mask do not matter.

    Raises:
      ValueError: if the arrays would be too large to form.
    """
    m, chain, model = interface.moments, interface.chain, interface.model
    states = chain.states
    behaviour = interface.lift(chain.behaviour)[states] * m.used[states]
    p0, p1, p2 = moments_ahead(interface)
    greedy = np.where(interface.mask, q, -np.inf).max(axis=1, initial=-np.inf)
    value = np.where(m.terminal | ~np.isfinite(greedy[model.interface]), 0.0, greedy[model.interface])
    level = (m.reward_rate / (1 - m.gamma))[states]  # R = level (1 - gamma^tau) + noise
    still = (level - interface.lift(np.where(interface.mask, q, 0.0))[states])[:, :, None]
    moving = np.where(m.terminal, 0.0, value)[None, None, :] - level[:, :, None]
    goes_on = ~m.terminal
    noise = m.reward_noise**2 / 3
    return Segments(
        states=states,
        interface=model.interface[states],
        law=chain.stationary[states],
        behaviour=behaviour,
        ends=arrive(interface, p0),
        carried=arrive(interface, p1 * goes_on),
        carried_square=arrive(interface, p2 * goes_on),
        error=arrive(interface, still * p0 + moving * p1),
        error_carried=arrive(interface, (still * p1 + moving * p2) * goes_on),
        error_square=arrive(interface, (still**2 + noise) * p0 + 2 * still * moving * p1 + moving**2 * p2),
    )
