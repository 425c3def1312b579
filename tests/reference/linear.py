"""Twin of the linear analysis: projection, projected fixed point and central limit, (D7), (T2), (P2).

Dense arrays and plain loops in float64; see `twin.py` for the conventions.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from tests.reference.chain import (
    behaviour_chain,
    bellman,
    greedy_value,
    pair_law,
    payments,
    powers,
    stationary_law,
)
from tests.reference.interface import greedy_options, interface_model, interface_q
from tests.reference.models import Array, Model, joint_kernel, terminal_states


def tabular_features(model: Model, behaviour: Array) -> Array:
    """Return the indicator features of the deciding pairs, `[Z, O, p]`."""
    mask = interface_model(model, behaviour).mask
    out = np.zeros((*mask.shape, int(mask.sum())))
    for column, (z, o) in enumerate(np.argwhere(mask)):
        out[z, o, column] = 1.0
    return out


def weighted_norm(model: Model, behaviour: Array, values: Array) -> float:
    """Return ||values||_d over deciding pairs, `[Z, O]` to a number (D4)."""
    mask, law = interface_model(model, behaviour).mask, pair_law(model, behaviour)
    return float(np.sqrt(np.sum(law[mask] * values[mask] ** 2)))


def project(model: Model, behaviour: Array, features: Array, values: Array) -> Array:
    """Return Pi values, the d-weighted least-squares fit by the features, `[Z, O]` (D7)."""
    mask, law = interface_model(model, behaviour).mask, pair_law(model, behaviour)
    root = np.sqrt(law[mask])
    theta = np.linalg.lstsq(root[:, None] * features[mask], root * values[mask], rcond=1e-12)[0]
    return np.where(mask, features @ theta, 0.0)


def _span_basis(model: Model, behaviour: Array, features: Array) -> Array:
    """Return features with the same span on deciding pairs and E_d[psi psi^T] = I, `[Z, O, rank]`."""
    mask, law = interface_model(model, behaviour).mask, pair_law(model, behaviour)
    root = np.sqrt(law[mask])
    left, scale, _ = np.linalg.svd(root[:, None] * features[mask], full_matrices=False)
    keep = scale > 1e-12 * scale[0]
    out = np.zeros((*mask.shape, int(keep.sum())))
    out[mask] = left[:, keep] / root[:, None]
    return out


def omega_features(model: Model, behaviour: Array, features: Array, floor: float = 1e-12) -> float:
    """Return the smallest eigenvalue of E_d[psi psi^T] above floor times the largest one (T3)."""
    mask, law = interface_model(model, behaviour).mask, pair_law(model, behaviour)
    second = np.einsum("n,np,nq->pq", law[mask], features[mask], features[mask])
    eigenvalues = np.linalg.eigvalsh(second)
    return float(eigenvalues[eigenvalues > floor * eigenvalues[-1]].min())


def _linear_fixed_point(model: Model, behaviour: Array, basis: Array, option: Array) -> Array:
    """Solve Q = Pi (r_phi + P^g_phi Q(., option)) in the span of an orthonormal basis, `[Z, O]`."""
    seen, law = interface_model(model, behaviour), pair_law(model, behaviour)
    chosen = basis[np.arange(option.size), option]
    matrix, right = np.eye(basis.shape[2]), np.zeros(basis.shape[2])
    for z, o in np.argwhere(seen.mask):
        matrix -= law[z, o] * np.outer(basis[z, o], seen.kernel[z, o] @ chosen)
        right += law[z, o] * basis[z, o] * seen.reward[z, o]
    return basis @ np.linalg.solve(matrix, right)


def projected_fixed_point(model: Model, behaviour: Array, features: Array, sweeps: int = 5000) -> Array:
    """Return Q_m, the fixed point of Pi T_phi, `[Z, O]` (D7), by projected value iteration.

    Where that does not settle (A6 may fail), every greedy policy is tried, if they are at most 4096.

    Raises:
        ArithmeticError: if neither way finds a fixed point.
    """
    seen = interface_model(model, behaviour)
    values = np.zeros(seen.mask.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(sweeps):
            update = project(model, behaviour, features, bellman(*seen, values))
            change = np.abs(update - values).max()
            values = update
            if change <= 1e-13 * (1.0 + np.abs(values).max()):
                return values
            if not np.isfinite(change) or change > 1e12:
                break
    found = enumerate_fixed_points(model, behaviour, features)
    if not found:
        raise ArithmeticError("no greedy policy gives a fixed point of the projected operator")
    return found[0]


def enumerate_fixed_points(model: Model, behaviour: Array, features: Array) -> list[Array]:
    """Return all fixed points of Pi T_phi, one linear solve per deterministic policy (D7).

    Raises:
        ArithmeticError: if there are more than 4096 policies.
    """
    mask = interface_model(model, behaviour).mask
    choices = [np.flatnonzero(row) if row.any() else np.array([0]) for row in mask]
    if np.prod([len(c) for c in choices], dtype=float) > 4096:
        raise ArithmeticError("too many greedy policies to try them all")
    basis = _span_basis(model, behaviour, features)
    found: list[Array] = []
    for option in product(*choices):
        values = _linear_fixed_point(model, behaviour, basis, np.array(option))
        best = greedy_value(values, mask)
        taken = np.where(mask.any(axis=1), values[np.arange(mask.shape[0]), option], 0.0)
        if np.abs(best - taken).max() <= 1e-10 * (1.0 + np.abs(best).max()):
            if not any(np.abs(values - other)[mask].max() <= 1e-8 for other in found):
                found.append(np.where(mask, values, 0.0))
    return found


def projection_error(model: Model, behaviour: Array, features: Array) -> float:
    """Return ||Pi Q_phi - Q_phi||_d (T2)."""
    q = np.nan_to_num(interface_q(model, behaviour))
    return weighted_norm(model, behaviour, project(model, behaviour, features, q) - q)


class CentralLimit(NamedTuple):
    """Coefficients of (P2): K_tail^(1/2) times the spread, with and without the Poisson terms.

    `conditional_bias` is b(s) = E[e | s] in the orthonormal basis, `[S, rank]`; its largest entry tells
    whether mixing enters at all (P2.1).
    """

    coefficient: float
    coefficient_iid: float
    conditional_bias: Array


def central_limit(model: Model, behaviour: Array, features: Array | None = None) -> CentralLimit:
    """Return the central-limit coefficients by explicit sums over (s, o, tau, s') of the joint kernel (P2).

    The spread does not depend on the basis of the span, so an orthonormal one is used: Sigma_psi = I.
    """
    if features is None:
        features = tabular_features(model, behaviour)
    seen, law = interface_model(model, behaviour), stationary_law(model, behaviour)
    basis = _span_basis(model, behaviour, features)
    q = projected_fixed_point(model, behaviour, features)
    v, option = greedy_value(q, seen.mask), greedy_options(q, seen.mask)
    kernel, labels, terminal = joint_kernel(model), model["interface"], terminal_states(model)
    num_states, num_options, longest, _ = kernel.shape
    rank = basis.shape[2]
    power, paid = powers(model, longest), payments(model, longest)
    noise_variance = float(model["reward_noise"]) ** 2 / 3.0

    # First pass: b(s), E[e e^T] and A. The scalar part of e is the temporal difference.
    bias = np.zeros((num_states, rank))
    squares, a_matrix = np.zeros((rank, rank)), np.zeros((rank, rank))
    for s in np.flatnonzero(~terminal):
        for o in np.flatnonzero(seen.mask[labels[s]]):
            psi, mu = basis[labels[s], o], behaviour[labels[s], o]
            first = second = 0.0
            look_ahead = np.zeros(rank)
            for t in range(longest):
                for successor in np.flatnonzero(kernel[s, o, t]):
                    probability, reward = kernel[s, o, t, successor], paid[s, o, t, successor]
                    z_next = labels[successor]
                    ongoing = 0.0 if terminal[successor] else power[t]
                    error = reward + ongoing * v[z_next] - q[labels[s], o]
                    first += probability * error
                    second += probability * (error**2 + noise_variance)
                    look_ahead += probability * ongoing * basis[z_next, option[z_next]]
            bias[s] += mu * first * psi
            squares += law[s] * mu * second * np.outer(psi, psi)
            a_matrix += law[s] * mu * np.outer(psi, psi - look_ahead)

    # The Poisson equation on the states where the chain lives.
    live = np.flatnonzero(~terminal)
    chain = behaviour_chain(model, behaviour)[np.ix_(live, live)]
    centred = bias[live] - law[live] @ bias[live]
    nu = np.zeros((num_states, rank))
    nu[live] = np.linalg.solve(np.eye(live.size) - chain + np.outer(np.ones(live.size), law[live]), centred)
    restart = model["start"] @ nu if terminal.any() else np.zeros(rank)

    # Second pass: E[e nu(s')^T], where s' is the state the chain goes on from.
    cross = np.zeros((rank, rank))
    for s in live:
        for o in np.flatnonzero(seen.mask[labels[s]]):
            psi, mu = basis[labels[s], o], behaviour[labels[s], o]
            carried = np.zeros(rank)
            for t in range(longest):
                for successor in np.flatnonzero(kernel[s, o, t]):
                    ongoing = 0.0 if terminal[successor] else power[t]
                    error = paid[s, o, t, successor] + ongoing * v[labels[successor]] - q[labels[s], o]
                    following = restart if terminal[successor] else nu[successor]
                    carried += kernel[s, o, t, successor] * error * following
            cross += law[s] * mu * np.outer(psi, carried)

    inverse = np.linalg.inv(a_matrix)
    spread = np.trace(inverse @ (squares + cross + cross.T) @ inverse.T)
    spread_iid = np.trace(inverse @ squares @ inverse.T)
    return CentralLimit(float(np.sqrt(spread)), float(np.sqrt(spread_iid)), bias)
