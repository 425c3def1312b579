"""Twin of the interface model, the AIS constants and the bounds: (D5), (D6), (T1) to (T1.3), (P1).

Dense arrays and plain loops in float64; see `twin.py` for the conventions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.reference.chain import (
    discounted_kernel,
    expected_reward,
    greedy_value,
    interface_weights,
    modulus,
    optimal_q,
    pair_law,
    policy_value,
    stationary_law,
    value_iteration,
)
from tests.reference.models import (
    Array,
    Model,
    available_options,
    decision_pairs,
    num_interfaces,
    terminal_states,
)


class InterfaceModel(NamedTuple):
    """What tabular IC-Q sees (D5): reward `[Z, O]`, kernel `[Z, O, Z]`, mask of deciding pairs `[Z, O]`."""

    reward: Array
    kernel: Array
    mask: Array


def interface_model(model: Model, behaviour: Array) -> InterfaceModel:
    """Return r_phi, P^g_phi and the pairs (z, o) at which anything is ever decided (D5)."""
    reward, kernel = expected_reward(model), discounted_kernel(model)
    weights = interface_weights(model, stationary_law(model, behaviour))
    labels, count, num_options = model["interface"], num_interfaces(model), reward.shape[1]
    reward_phi = np.zeros((count, num_options))
    kernel_phi = np.zeros((count, num_options, count))
    deciding = np.zeros(count, bool)
    for s in np.flatnonzero(~terminal_states(model)):
        deciding[labels[s]] = True
        for o in range(num_options):
            reward_phi[labels[s], o] += weights[s] * reward[s, o]
            for successor in range(labels.size):
                mass = weights[s] * kernel[s, o, successor]
                kernel_phi[labels[s], o, labels[successor]] += mass
    return InterfaceModel(reward_phi, kernel_phi, available_options(model) & deciding[:, None])


def interface_q(model: Model, behaviour: Array) -> Array:
    """Return Q_phi, `[Z, O]` (D5); NaN where an option is unavailable or an interface never decides."""
    seen = interface_model(model, behaviour)
    return np.where(seen.mask, value_iteration(*seen), np.nan)


def interface_value(model: Model, behaviour: Array) -> Array:
    """Return V_phi, `[Z]` (D5); 0 where an interface never decides."""
    return greedy_value(interface_q(model, behaviour), interface_model(model, behaviour).mask)


def greedy_options(values: Array, mask: Array) -> Array:
    """Return the first best available option per row, `[Z]`; 0 where a row has none."""
    return np.where(mask, values, -np.inf).argmax(axis=1)


class AisConstants(NamedTuple):
    """epsilon, delta of (D6), and the largest mismatch of total mass |gbar(s, o) - gbar_phi(z, o)| (T1.2)."""

    epsilon: float
    delta: float
    delta_mass: float


def ais_constants(model: Model, behaviour: Array) -> AisConstants:
    """Return the AIS constants at the option scale by a loop over decision pairs (D6)."""
    reward, kernel, seen = expected_reward(model), discounted_kernel(model), interface_model(model, behaviour)
    labels, count = model["interface"], num_interfaces(model)
    epsilon = delta = delta_mass = 0.0
    for s, o in np.argwhere(decision_pairs(model)):
        row = np.bincount(labels, weights=kernel[s, o], minlength=count)
        difference = row - seen.kernel[labels[s], o]
        epsilon = max(epsilon, abs(reward[s, o] - seen.reward[labels[s], o]))
        delta = max(delta, float(np.abs(difference).sum()))
        delta_mass = max(delta_mass, abs(float(difference.sum())))
    return AisConstants(float(epsilon), delta, delta_mass)


def interface_bound(model: Model, behaviour: Array) -> float:
    """Return (epsilon + delta max |V_phi|) / (1 - gbar) (T1)."""
    constants = ais_constants(model, behaviour)
    largest = np.abs(interface_value(model, behaviour)).max()
    return float((constants.epsilon + constants.delta * largest) / (1.0 - modulus(model)))


def interface_bound_value_aware(model: Model, behaviour: Array) -> float:
    """Return max |E[R] + P^g V_phi - Q_phi| / (1 - gbar) (T1.1)."""
    reward, kernel = expected_reward(model), discounted_kernel(model)
    q, v = interface_q(model, behaviour), interface_value(model, behaviour)
    worst = 0.0
    for s, o in np.argwhere(decision_pairs(model)):
        look_ahead = reward[s, o] + kernel[s, o] @ v[model["interface"]]
        worst = max(worst, abs(look_ahead - q[model["interface"][s], o]))
    return float(worst / (1.0 - modulus(model)))


def interface_bound_mass_span(model: Model, behaviour: Array) -> float:
    """Return (epsilon + delta span(V_phi) / 2 + delta_mass |mid(V_phi)|) / (1 - gbar) (T1.2).

    Span and midpoint are those of V_phi over the interfaces that decide.
    """
    constants = ais_constants(model, behaviour)
    v = interface_value(model, behaviour)[interface_model(model, behaviour).mask.any(axis=1)]
    span, middle = v.max() - v.min(), (v.max() + v.min()) / 2.0
    numerator = constants.epsilon + constants.delta * span / 2.0 + constants.delta_mass * abs(middle)
    return float(numerator / (1.0 - modulus(model)))


def interface_gap(model: Model, behaviour: Array) -> float:
    """Return max |Q_phi(phi(s), o) - Q*(s, o)| over decision pairs (T1)."""
    difference = interface_q(model, behaviour)[model["interface"]] - optimal_q(model)
    return float(np.abs(difference[decision_pairs(model)]).max())


def policy_loss(model: Model, behaviour: Array) -> float:
    """Return max over decision states of V* - V^pi, pi greedy with respect to Q_phi (T1.3)."""
    mask = interface_model(model, behaviour).mask
    option = greedy_options(interface_q(model, behaviour), mask)
    best = greedy_value(optimal_q(model), decision_pairs(model))
    return float((best - policy_value(model, option))[~terminal_states(model)].max())


def kappa_certificate(model: Model, behaviour: Array) -> float:
    """Return sigma_max(D^(1/2) P^g_phi E^(-1/2)) over the deciding pairs and interfaces (P1)."""
    seen, law = interface_model(model, behaviour), pair_law(model, behaviour)
    rows = [(z, o) for z, o in np.argwhere(seen.mask)]
    columns = np.flatnonzero(seen.mask.any(axis=1))
    matrix = np.zeros((len(rows), columns.size))
    for i, (z, o) in enumerate(rows):
        for j, y in enumerate(columns):
            least = law[y, seen.mask[y]].min()
            matrix[i, j] = np.sqrt(law[z, o] / least) * seen.kernel[z, o, y]
    return float(np.linalg.svd(matrix, compute_uv=False)[0])


def omega_tabular(model: Model, behaviour: Array) -> float:
    """Return the smallest d(z, o) over deciding pairs (T3)."""
    return float(pair_law(model, behaviour)[interface_model(model, behaviour).mask].min())
