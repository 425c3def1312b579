"""A slow simulator of the handoff chain and unoptimised IC-Q loops on a given trajectory.

The learners take a trajectory as data and draw nothing, so a compiled learner fed the same handoffs and
the same steps must give the same numbers. One line of arithmetic per line of (D9).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.reference.models import Array, Model, available_options, joint_kernel, lump, terminal_states


class Trajectory(NamedTuple):
    """K consecutive segments; row k is what agent `agent[k]` lived through between two handoffs.

    Attributes:
        agent: who chose and learns, int `[K]`.
        state: handoff state the segment began in, int `[K]` (no learner reads it).
        interface: z, int `[K]`.
        option: o, int `[K]`.
        reward: discounted segment reward R, float `[K]`.
        duration: tau >= 1 in primitive steps, int `[K]`.
        next_state: state the segment ended in, before any restart, int `[K]`.
        next_interface: z' of that state, int `[K]`.
        terminal: whether that state is terminal, bool `[K]`; then row k + 1 starts from the start law.
        next_mask: options available at z', bool `[K, O]`.
    """

    agent: Array
    state: Array
    interface: Array
    option: Array
    reward: Array
    duration: Array
    next_state: Array
    next_interface: Array
    terminal: Array
    next_mask: Array


def draw_segment(
    rng: np.random.Generator, model: Model, kernel: Array, state: int, option: int
) -> tuple[float, int, int]:
    """Draw (R, tau, s') from the joint kernel `[S, O, T, S]`: primitive steps summed one by one (D2)."""
    cumulative = np.cumsum(kernel[state, option])
    cell = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    index, successor = divmod(cell, kernel.shape[3])
    reward, discount = 0.0, 1.0
    for step in range(index + 1):
        reward += discount * float(model["reward_rate"][state, option])
        if step == index:
            reward += discount * lump(model, state, option, successor)
        discount *= float(model["gamma"])
    half_width = float(model["reward_noise"])
    return reward + rng.uniform(-half_width, half_width), index + 1, successor


def simulate(
    rng: np.random.Generator, model: Model, behaviour: Array, handoffs: int, state: int | None = None
) -> Trajectory:
    """Follow the chain of (D4) for `handoffs` segments, `behaviour` `[Z, O]`.

    The first state is `state`, else a draw from `start` if the model has one, else a uniform draw over
    the non-terminal states.
    """
    kernel, terminal, mask = joint_kernel(model), terminal_states(model), available_options(model)
    live = ~terminal
    start = np.asarray(model["start"], float) if "start" in model else live / live.sum()
    if state is None:
        state = int(rng.choice(start.size, p=start))
    rows = []
    for _ in range(handoffs):
        z = int(model["interface"][state])
        option = int(rng.choice(behaviour.shape[1], p=behaviour[z]))
        reward, duration, successor = draw_segment(rng, model, kernel, state, option)
        z_next, ended = int(model["interface"][successor]), bool(terminal[successor])
        rows.append(
            (
                model["agent"][state],
                state,
                z,
                option,
                reward,
                duration,
                successor,
                z_next,
                ended,
                mask[z_next],
            )
        )
        state = int(rng.choice(start.size, p=start)) if ended else successor
    return Trajectory(*(np.array(column) for column in zip(*rows, strict=True)))


def visit_counts(trajectory: Trajectory, num_interfaces: int, num_options: int) -> Array:
    """Count, per segment, the earlier segments with the same (z, o), int `[K]`: for per-pair steps."""
    seen = np.zeros((num_interfaces, num_options), int)
    out = np.zeros(trajectory.option.size, int)
    for k, (z, o) in enumerate(zip(trajectory.interface, trajectory.option, strict=True)):
        out[k] = seen[z, o]
        seen[z, o] += 1
    return out


def message(values: Array, mask: Array, terminal: bool) -> float:
    """Return the one scalar v that the next agent sends: `values`, `mask` are `[O]`; 0 at the end (D9)."""
    if terminal:
        return 0.0
    return max(float(value) for value, allowed in zip(values, mask, strict=True) if allowed)


def target(reward: float, duration: int, gamma: float, scalar: float) -> float:
    """Return y = R + gamma^tau v, with gamma^tau multiplied up step by step (D9)."""
    discount = 1.0
    for _ in range(int(duration)):
        discount *= gamma
    return reward + discount * scalar


def tabular_icq(trajectory: Trajectory, step_sizes: Array, gamma: float, initial: Array) -> Array:
    """Run tabular IC-Q: Q(z, o) moves to y by step_sizes[k], nothing else moves (D9).

    Args:
        trajectory: K segments.
        step_sizes: step of segment k, `[K]`.
        gamma: discount per primitive step.
        initial: first table, `[Z, O]`.

    Returns:
        The table after each segment, float64 `[K, Z, O]`.
    """
    table = np.array(initial, float)
    iterates = np.zeros((trajectory.option.size, *table.shape))
    for k in range(trajectory.option.size):
        z, o = trajectory.interface[k], trajectory.option[k]
        scalar = message(table[trajectory.next_interface[k]], trajectory.next_mask[k], trajectory.terminal[k])
        error = target(trajectory.reward[k], trajectory.duration[k], gamma, scalar) - table[z, o]
        table[z, o] += step_sizes[k] * error
        iterates[k] = table
    return iterates


def linear_icq(
    trajectory: Trajectory,
    features: Array,
    step_sizes: Array,
    gamma: float,
    initial: Array,
    radius: float | None = None,
) -> Array:
    """Run IC-Q linear in fixed features: theta moves by step * (y - Q(z, o)) * psi(z, o) (D9).

    Args:
        trajectory: K segments.
        features: psi, `[Z, O, p]`; with one block per agent, other agents' coordinates get no change.
        step_sizes: step of segment k, `[K]`.
        gamma: discount per primitive step.
        initial: first theta, `[p]`.
        radius: where given, theta is scaled back to the ball of this radius around 0 after each update.

    Returns:
        theta after each segment, float64 `[K, p]`.
    """
    theta = np.array(initial, float)
    iterates = np.zeros((trajectory.option.size, theta.size))
    for k in range(trajectory.option.size):
        psi = features[trajectory.interface[k], trajectory.option[k]]
        following = features[trajectory.next_interface[k]] @ theta
        scalar = message(following, trajectory.next_mask[k], trajectory.terminal[k])
        error = target(trajectory.reward[k], trajectory.duration[k], gamma, scalar) - psi @ theta
        theta = theta + step_sizes[k] * error * psi
        if radius is not None:
            length = float(np.sqrt(theta @ theta))
            if length > radius:
                theta = theta * (radius / length)
        iterates[k] = theta
    return iterates


def tail_average(iterates: Array, tail: int | None = None) -> Array:
    """Average the last `tail` iterates, by default the last half; `[K, ...]` to `[...]` (D10).

    Raises:
        ValueError: if `tail` is not between 1 and K.
    """
    count = len(iterates)
    tail = count - count // 2 if tail is None else tail
    if not 1 <= tail <= count:
        raise ValueError(f"tail must be between 1 and {count}, got {tail}")
    total = np.zeros(iterates.shape[1:])
    for k in range(count - tail, count):
        total += iterates[k]
    return total / tail


def spread_and_bias(averages: Array, solution: Array, weights: Array) -> tuple[float, float]:
    """Return spread and bias in ||.||_d over B replicas: `averages` `[B, Z, O]` (D10).

    `weights` is d(z, o); entries of weight 0 are left out. The spread divides by B - 1, so that its
    square is unbiased.
    """
    keep = weights > 0
    centre = averages.mean(axis=0)
    scatter = sum(float(np.sum(weights[keep] * (q - centre)[keep] ** 2)) for q in averages)
    offset = float(np.sum(weights[keep] * (centre - solution)[keep] ** 2))
    return float(np.sqrt(scatter / (len(averages) - 1))), float(np.sqrt(offset))
