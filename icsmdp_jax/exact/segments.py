"""Joint moments of one segment and of the chain's next state, dense, for the theory that looks one handoff ahead (D4).

A segment from a recurrent state ends in ``s'``; the chain continues in ``s+``, which is ``s'`` or, after a terminal
handoff, a restart. Whatever is carried across a terminal handoff counts as 0. With ``Q`` a table and ``V`` its greedy
values, ``epsilon = R + gamma^tau V(z') - Q(z, o)``: given ``s'`` all its moments follow from those of ``gamma^tau``, of
``R`` and of their product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from icsmdp_jax.exact.chain import with_restart
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.large_limit import Target
from icsmdp_jax.exact.moments import Matrix, as_dense
from icsmdp_jax.exact.payments import paid_moments

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


class Ahead(NamedTuple):
    """Moments by where a segment really ends, ``[n, O, S]``; 0 at masked options.

    Attributes:
      ends: ``P(s' | s, o)``.
      discount: ``E[gamma^tau; s']``.
      discount_square: ``E[gamma^(2 tau); s']``.
      paid: ``E[R; s']`` without the noise, or ``E[|R|; s']``.
      paid_discount: ``E[gamma^tau R; s']``, likewise.
      paid_square: ``E[R^2; s']``.
    """

    ends: np.ndarray
    discount: np.ndarray
    discount_square: np.ndarray
    paid: np.ndarray
    paid_discount: np.ndarray
    paid_square: np.ndarray


def moments_ahead(interface: InterfaceModel, absolute: bool = False, rate: np.ndarray | None = None) -> Ahead:
    """Moments from the recurrent states (D2); ``absolute`` and ``rate`` as in ``paid_moments``.

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

    law = (m.probability, m.discounted_all, m.discounted_square_all)
    return Ahead(*(dense(matrix) for matrix in (*law, *paid_moments(interface.model, absolute, rate))))


def arrive(interface: InterfaceModel, ahead: np.ndarray) -> np.ndarray:
    """``[n, O, S]`` by where the segment ends as ``[n, O, n]`` by where the chain continues, restarts included."""
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
    target = Target.of(interface, q)
    ahead = moments_ahead(interface, rate=target.moments.reward_rate)
    value, own = target.state_value, target.q_state[states][:, :, None]
    goes_on = ~m.terminal
    error = ahead.paid - own * ahead.ends + value * ahead.discount
    carried = ahead.paid_discount - own * ahead.discount + value * ahead.discount_square
    square = ahead.paid_square - 2 * own * ahead.paid + 2 * value * ahead.paid_discount
    square += (own**2 + m.reward_noise**2 / 3) * ahead.ends - 2 * own * value * ahead.discount
    square += value**2 * ahead.discount_square
    return Segments(
        states=states,
        interface=model.interface[states],
        law=chain.stationary[states],
        behaviour=behaviour,
        ends=arrive(interface, ahead.ends),
        carried=arrive(interface, ahead.discount * goes_on),
        carried_square=arrive(interface, ahead.discount_square * goes_on),
        error=arrive(interface, error),
        error_carried=arrive(interface, carried * goes_on),
        error_square=arrive(interface, square),
    )
