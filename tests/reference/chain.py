"""Twin of the moments, the oracle's solution and the behaviour chain: (D2), (D3), (D4), (D8).

Dense arrays and plain loops in float64; see `twin.py` for the conventions.
"""

from __future__ import annotations

import numpy as np

from tests.reference.models import (
    Array,
    Model,
    decision_pairs,
    joint_kernel,
    lump,
    num_interfaces,
    terminal_states,
)


def powers(model: Model, longest: int) -> Array:
    """Return gamma^tau for tau = 1..T, by repeated multiplication, `[T]`."""
    gamma, out = float(model["gamma"]), []
    value = 1.0
    for _ in range(longest):
        value *= gamma
        out.append(value)
    return np.array(out)


def annuity(model: Model, longest: int) -> Array:
    """Return 1 + gamma + ... + gamma^(tau - 1) for tau = 1..T, summed term by term, `[T]`."""
    return np.cumsum(np.concatenate([[1.0], powers(model, longest)[:-1]]))


def discounted_kernel(model: Model) -> Array:
    """Return P^g(s' | s, o), `[S, O, S]` (D2): no mass into terminal states and none out of them."""
    kernel, terminal = joint_kernel(model), terminal_states(model)
    out = np.zeros((kernel.shape[0], kernel.shape[1], kernel.shape[3]))
    for index, power in enumerate(powers(model, kernel.shape[2])):
        out += power * kernel[:, :, index, :]
    out[:, :, terminal] = 0.0
    out[terminal] = 0.0
    return out


def payments(model: Model, longest: int) -> Array:
    """Return what a segment pays but for its noise, by (s, o, tau, s'), `[S, O, T, S]` (D2)."""
    before, total = np.concatenate([[1.0], powers(model, longest)[:-1]]), annuity(model, longest)
    num_states, num_options = model["reward_rate"].shape
    out = np.zeros((num_states, num_options, longest, num_states))
    for s in range(num_states):
        for o in range(num_options):
            for successor in range(num_states):
                out[s, o, :, successor] = model["reward_rate"][s, o] * total + before * lump(model, s, o, successor)
    return out


def expected_reward(model: Model) -> Array:
    """Return E[R | s, o], `[S, O]` (D2): the mean of the payments, 0 at terminal states."""
    kernel = joint_kernel(model)
    out = (kernel * payments(model, kernel.shape[2])).sum(axis=(2, 3))
    out[terminal_states(model)] = 0.0
    return out


def row_modulus(model: Model) -> Array:
    """Return gbar(s, o), `[S, O]` (D2)."""
    return discounted_kernel(model).sum(axis=2)


def modulus(model: Model) -> float:
    """Return gbar, the largest row modulus over decision pairs (D2)."""
    return float(row_modulus(model)[decision_pairs(model)].max())


def greedy_value(values: Array, mask: Array) -> Array:
    """Return the maximum over available options, 0 where a row has none; `[..., O]` to `[...]`."""
    best = np.where(mask, values, -np.inf).max(axis=-1)
    return np.where(mask.any(axis=-1), best, 0.0)


def bellman(reward: Array, kernel: Array, mask: Array, values: Array) -> Array:
    """Apply the Bellman operator of (D3), or of (D5) with r_phi and P^g_phi; `[X, O]` to `[X, O]`."""
    return reward + kernel @ greedy_value(values, mask)


def value_iteration(reward: Array, kernel: Array, mask: Array, tolerance: float = 1e-13) -> Array:
    """Iterate the Bellman operator from 0 until the change is below tolerance relative to 1 + max |Q|.

    Raises:
        ArithmeticError: if 100 000 sweeps are not enough.
    """
    values = np.zeros_like(reward)
    for _ in range(100_000):
        update = bellman(reward, kernel, mask, values)
        change = np.abs(update - values).max()
        values = update
        if change <= tolerance * (1.0 + np.abs(values).max()):
            return values
    raise ArithmeticError("value iteration did not settle")


def optimal_q(model: Model) -> Array:
    """Return Q*, `[S, O]` (D3): 0 at terminal states, NaN where an option is unavailable elsewhere."""
    pairs = decision_pairs(model)
    values = value_iteration(expected_reward(model), discounted_kernel(model), pairs)
    out = np.where(pairs, values, np.nan)
    out[terminal_states(model)] = 0.0
    return out


def policy_value(model: Model, option: Array) -> Array:
    """Return V^pi of the policy that takes option[z] at interface z, by a linear solve; `[S]` (D3)."""
    states = np.arange(model["interface"].shape[0])
    chosen = option[model["interface"]]
    kernel = discounted_kernel(model)[states, chosen]
    return np.linalg.solve(np.eye(states.size) - kernel, expected_reward(model)[states, chosen])


def behaviour_chain(model: Model, behaviour: Array) -> Array:
    """Return P_mu, `[S, S]` (D4): an entry into a terminal state is redrawn from the start law.

    Rows and columns of terminal states are 0: the chain never stands there.
    """
    moves, terminal = joint_kernel(model).sum(axis=2), terminal_states(model)
    num_states = terminal.size
    out = np.zeros((num_states, num_states))
    for s in range(num_states):
        if terminal[s]:
            continue
        for o in range(moves.shape[1]):
            weight = behaviour[model["interface"][s], o]
            out[s] += weight * np.where(terminal, 0.0, moves[s, o])
            if terminal.any():
                out[s] += weight * moves[s, o][terminal].sum() * model["start"]
    return out


def stationary_law(model: Model, behaviour: Array) -> Array:
    """Return d(s), `[S]` (D4): left null vector of I - P_mu with total 1; 0 at terminal states."""
    live = np.flatnonzero(~terminal_states(model))
    chain = behaviour_chain(model, behaviour)[np.ix_(live, live)]
    system = np.vstack([(np.eye(live.size) - chain).T, np.ones((1, live.size))])
    right = np.zeros(live.size + 1)
    right[-1] = 1.0
    out = np.zeros(terminal_states(model).size)
    out[live] = np.linalg.lstsq(system, right, rcond=None)[0]
    return out


def interface_law(model: Model, law: Array) -> Array:
    """Return d(z), `[Z]` (D4)."""
    return np.bincount(model["interface"], weights=law, minlength=num_interfaces(model))


def interface_weights(model: Model, law: Array) -> Array:
    """Return w(s | z(s)), `[S]` (D4); 0 at terminal states."""
    total = interface_law(model, law)[model["interface"]]
    return np.divide(law, total, out=np.zeros_like(law), where=law > 0)


def pair_law(model: Model, behaviour: Array) -> Array:
    """Return d(z, o), `[Z, O]` (D4)."""
    return interface_law(model, stationary_law(model, behaviour))[:, None] * behaviour


def mixing_time(model: Model, behaviour: Array, level: float = 0.25, limit: int = 100_000) -> int:
    """Return the smallest t >= 0 whose worst total variation to d is at most `level`, step by step (D8).

    Raises:
        ArithmeticError: if `limit` steps do not reach the level.
    """
    live = np.flatnonzero(~terminal_states(model))
    chain = behaviour_chain(model, behaviour)[np.ix_(live, live)]
    law = stationary_law(model, behaviour)[live]
    power = np.eye(live.size)
    for step in range(limit + 1):
        if 0.5 * np.abs(power - law).sum(axis=1).max() <= level:
            return step
        power = power @ chain
    raise ArithmeticError(f"the chain is not within {level} of its law after {limit} steps")
