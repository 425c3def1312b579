"""The exact analysis, written a second time from the definitions: dense arrays, plain loops, float64.

Speed and style of the package play no part here. Models are dicts (see `models.py`); `behaviour` is the
law mu(o | z), `[Z, O]`. "Decision pair" means (s, o) with s not terminal and o available behind s; every
maximum, constant and norm runs over decision pairs only. Symbols follow docs/theory.md.
"""

from __future__ import annotations

import numpy as np

from tests.reference.chain import (
    annuity,
    behaviour_chain,
    bellman,
    discounted_kernel,
    expected_reward,
    greedy_value,
    interface_law,
    interface_weights,
    mixing_time,
    modulus,
    optimal_q,
    pair_law,
    payments,
    policy_value,
    powers,
    row_modulus,
    stationary_law,
    value_iteration,
)
from tests.reference.interface import (
    AisConstants,
    InterfaceModel,
    ais_constants,
    greedy_options,
    interface_bound,
    interface_bound_mass_span,
    interface_bound_value_aware,
    interface_gap,
    interface_model,
    interface_q,
    interface_value,
    kappa_certificate,
    omega_tabular,
    policy_loss,
)
from tests.reference.linear import (
    CentralLimit,
    central_limit,
    enumerate_fixed_points,
    omega_features,
    project,
    projected_fixed_point,
    projection_error,
    tabular_features,
    weighted_norm,
)
from tests.reference.models import Array, Model, num_interfaces, terminal_states

__all__ = [
    "AisConstants",
    "CentralLimit",
    "InterfaceModel",
    "ais_constants",
    "analyse",
    "annuity",
    "behaviour_chain",
    "bellman",
    "central_limit",
    "discounted_kernel",
    "enumerate_fixed_points",
    "expected_reward",
    "greedy_options",
    "greedy_value",
    "interface_bound",
    "interface_bound_mass_span",
    "interface_bound_value_aware",
    "interface_gap",
    "interface_law",
    "interface_model",
    "interface_q",
    "interface_value",
    "interface_weights",
    "kappa_certificate",
    "mixing_time",
    "modulus",
    "omega_features",
    "omega_tabular",
    "optimal_q",
    "pair_law",
    "payments",
    "policy_loss",
    "policy_value",
    "powers",
    "project",
    "projected_fixed_point",
    "projection_error",
    "row_modulus",
    "stationary_law",
    "tabular_features",
    "value_iteration",
    "weighted_norm",
]


def analyse(model: Model, behaviour: Array) -> dict[str, float]:
    """Return every scalar that the `analyse` command reports, under the same names."""
    constants, limit = ais_constants(model, behaviour), central_limit(model, behaviour)
    kappa, loss_bound = kappa_certificate(model, behaviour), 2.0 * interface_bound(model, behaviour)
    return {
        "gamma_bar": modulus(model),
        "epsilon": constants.epsilon,
        "delta": constants.delta,
        "interface_gap": interface_gap(model, behaviour),
        "interface_bound": interface_bound(model, behaviour),
        "interface_bound_value_aware": interface_bound_value_aware(model, behaviour),
        "policy_loss": policy_loss(model, behaviour),
        "policy_loss_bound": loss_bound,
        "kappa": kappa,
        "a6_certified": kappa < 1.0,
        "mixing_time": mixing_time(model, behaviour),
        "omega": omega_tabular(model, behaviour),
        "clt_coefficient": limit.coefficient,
        "clt_coefficient_iid": limit.coefficient_iid,
        "stationary_min": float(stationary_law(model, behaviour)[~terminal_states(model)].min()),
        "num_states": model["interface"].shape[0],
        "num_interfaces": num_interfaces(model),
        "num_agents": int(np.unique(model["agent"]).size),
        "num_options": model["reward_rate"].shape[1],
    }
