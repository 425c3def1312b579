"""The constants of ``analyse`` once more, as a straight program for planted models: what exact_analysis is measured by.

Only for models given by successor lists and laws of duration, without terminal states, masks or lumps: each line takes
what is fastest there, and nothing is checked. Nothing of ``icsmdp_jax.exact`` is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import lu_factor, lu_solve

from icsmdp_jax.models.tabular import TabularModel

CLOSE = 1e-15  # change of a value, relative to the largest, at which it is iterated no further


def constants(model: TabularModel, behaviour: np.ndarray, shown: bool) -> dict[str, Any]:
    """Constants by the names of ``Analysis.table``, and what each agent would gain by seeing all if ``shown``."""
    assert model.successor is not None and model.probability is not None and model.duration is not None
    (s, o), z, gamma = model.reward_rate.shape, model.num_interfaces, model.gamma
    phi, successor, rate = model.interface, model.successor, model.reward_rate
    power = gamma ** np.arange(1, model.duration.shape[2] + 1)
    annuity = (1 - power) / (1 - gamma)
    worth = np.stack([power, power**2, annuity, annuity**2, annuity * power], axis=1)
    duration = model.duration / model.duration.sum(axis=2, keepdims=True)
    g, g_square, a, a_square, a_g = np.moveaxis(duration @ worth, 2, 0)
    p = model.probability / model.probability.sum(axis=2, keepdims=True)
    reward, ahead, mu = rate * a, g[:, :, None] * p, behaviour[phi]

    # The chain, its stationary law and its mixing time.
    source = np.broadcast_to(np.arange(s)[:, None, None], p.shape).ravel()
    chain = np.bincount(source * s + successor.ravel(), (mu[:, :, None] * p).ravel(), s * s).reshape(s, s)
    factors = lu_factor(np.eye(s) - chain + 1 / s)
    law = lu_solve(factors, np.full(s, 1 / s), trans=1)
    steps, step, reached = 1, sparse.csr_array(chain), chain
    while max(np.abs(reached[i : i + 16] - law).sum(axis=1).max() for i in range(0, s, 16)) > 0.5:
        steps, reached = steps + 1, step @ reached

    # The interface model.
    weight = np.bincount(phi, law, z)
    order = np.argsort(phi, kind="stable")
    first = np.searchsorted(phi[order], np.arange(z))
    inside = (law / weight[phi])[order]
    pair = (source * o + np.broadcast_to(np.arange(o)[:, None], p.shape).ravel()) * z + phi[successor].ravel()
    lifted = np.bincount(pair, ahead.ravel(), s * o * z).reshape(s, o, z)
    kernel = np.add.reduceat(inside[:, None, None] * lifted[order], first)
    paid = np.add.reduceat(inside[:, None] * reward[order], first)
    q_phi, value_phi = by_policy_iteration(paid, kernel)
    q_star, value_star = by_value_iteration(reward, ahead, successor)
    loss = value_star - value_of(q_phi[phi].argmax(axis=1), reward, ahead, successor)

    # What interfaces hide.
    hidden = lifted - kernel[phi]
    epsilon, delta, mass = np.abs(reward - paid[phi]), np.abs(hidden).sum(axis=2), np.abs(hidden.sum(axis=2))
    gap, modulus, norm = np.abs(q_phi[phi] - q_star), g.max(), np.abs(value_phi).max()
    span, middle = np.ptp(value_phi), abs(value_phi.max() + value_phi.min()) / 2
    bound = (epsilon.max() + delta.max() * norm) / (1 - modulus)
    aware = np.abs(reward + lifted @ value_phi - q_phi[phi]).max() / (1 - modulus)
    spanned = (epsilon.max() + delta.max() * span / 2 + middle * mass.max()) / (1 - modulus)
    pairs = weight[:, None] * behaviour
    scaled = np.sqrt(pairs)[:, :, None] * kernel / np.sqrt(weight * behaviour.min(axis=1))
    scaled = scaled.reshape(-1, z)

    # The central limit: the covariance of averages in coordinates whose second moment is the identity.
    greedy = np.arange(z) * o + q_phi.argmax(axis=1)
    root, flat = np.sqrt(pairs).ravel(), kernel.reshape(-1, z)
    inverse = np.eye(z * o)
    inverse[:, greedy] += root[:, None] * np.linalg.solve((np.eye(z) - flat[greedy]).T, flat.T).T / root[greedy]
    outcome = value_phi[phi][successor]
    mean = reward + (ahead * outcome).sum(axis=2) - q_phi[phi]
    square = rate**2 * a_square + model.reward_noise**2 / 3 + 2 * rate * a_g * (p * outcome).sum(axis=2)
    square += g_square * (p * outcome**2).sum(axis=2) - 2 * q_phi[phi] * mean - q_phi[phi] ** 2
    column = phi[:, None] * o + np.arange(o)
    per_pair = np.bincount(column.ravel(), (law[:, None] * mu * square).ravel(), z * o) / root**2
    drift = np.zeros((s, z * o))
    np.put_along_axis(drift, column, mu * mean / root[column], axis=1)
    memory = lu_solve(factors, drift - law @ drift)
    carried = law[:, None, None] * mu[:, :, None] * p / root[column][:, :, None]
    carried *= (rate * a - q_phi[phi])[:, :, None] + g[:, :, None] * outcome
    where = (np.broadcast_to(column[:, :, None], p.shape).ravel(), successor.ravel())
    cross = sparse.csr_array((carried.ravel(), where), shape=(z * o, s)) @ memory
    iid = (inverse**2).sum(axis=0) @ per_pair
    full = iid + 2 * ((inverse.T @ inverse) * cross).sum()

    found = {
        "gamma_bar": modulus, "epsilon": epsilon.max(), "delta": delta.max(), "interface_gap": gap.max(),
        "interface_bound": bound, "interface_bound_value_aware": aware, "interface_bound_mass_span": spanned,
        "policy_loss": max(0.0, loss.max()), "policy_loss_bound": 2 * bound,
        "kappa": np.sqrt(np.linalg.eigvalsh(scaled.T @ scaled)[-1]), "mixing_time": steps, "omega": pairs.min(),
        "clt_coefficient": np.sqrt(full), "clt_coefficient_iid": np.sqrt(iid), "stationary_min": law.min(),
        "action_gap": np.diff(np.sort(q_phi, axis=1)[:, -2:]).min(),
    }  # fmt: skip
    worst = np.column_stack([epsilon.max(axis=1), delta.max(axis=1), gap.max(axis=1), loss])
    for name, label, count in (("by_agent", model.agent, model.num_agents), ("by_interface", phi, z)):
        largest = np.zeros((count, 4))
        np.maximum.at(largest, label, worst)
        found[name] = np.column_stack([np.bincount(label, minlength=count), np.bincount(label, law, count), largest])
    if shown:
        found["shown"] = np.array([seeing_all(i, model, law, reward, ahead, q_star) for i in range(model.num_agents)])
    return found


def seeing_all(
    agent: int, model: TabularModel, law: np.ndarray, reward: np.ndarray, ahead: np.ndarray, q_star: np.ndarray
) -> tuple[float, float]:
    """Policy loss and interface gap where one agent sees the whole state."""
    o, seen = reward.shape[1], model.interface.astype(np.int64)
    mine = np.flatnonzero(model.agent == agent)
    seen[mine] = model.num_interfaces + np.arange(len(mine))
    phi = np.unique(seen, return_inverse=True)[1]
    z = int(phi.max()) + 1
    inside = law / np.bincount(phi, law)[phi]
    pair = phi[:, None] * o + np.arange(o)
    paid = np.bincount(pair.ravel(), (inside[:, None] * reward).ravel(), z * o).reshape(z, o)
    where = pair[:, :, None] * z + phi[model.successor]
    kernel = np.bincount(where.ravel(), (inside[:, None, None] * ahead).ravel(), z * o * z).reshape(z, o, z)
    q_phi, _ = by_policy_iteration(paid, kernel)
    value = value_of(q_phi[phi].argmax(axis=1), reward, ahead, model.successor)
    return max(0.0, (q_star.max(axis=1) - value).max()), np.abs(q_phi[phi] - q_star).max()


def by_policy_iteration(reward: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``Q [n, O]`` and its greedy values, ``kernel [n, O, n]`` dense."""
    every, policy = np.arange(len(reward)), reward.argmax(axis=1)
    while True:
        value = np.linalg.solve(np.eye(len(reward)) - kernel[every, policy], reward[every, policy])
        q = reward + kernel @ value
        if (q[every, policy] >= q.max(axis=1) - 1e-12).all():
            return q, q.max(axis=1)
        policy = q.argmax(axis=1)


def by_value_iteration(reward: np.ndarray, ahead: np.ndarray, successor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``Q [S, O]`` and its greedy values from lists ``[S, O, W]``."""
    value, change = reward.max(axis=1), np.inf
    while change > CLOSE * np.abs(value).max():
        q = reward + np.einsum("sow,sow->so", ahead, value[successor])
        new = q.max(axis=1)
        value, change = new, np.abs(new - value).max()
    return q, value


def value_of(policy: np.ndarray, reward: np.ndarray, ahead: np.ndarray, successor: np.ndarray) -> np.ndarray:
    """``[S]`` values of a policy from the same lists."""
    every = np.arange(len(policy))[:, None]
    policy = policy[:, None]
    return by_value_iteration(reward[every, policy], ahead[every, policy], successor[every, policy])[1]
