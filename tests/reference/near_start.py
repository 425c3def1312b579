"""Twin of projected neural IC-Q: one net per agent and option, every unit kept near its start, plain loops (theorem N).

Nothing here imports the package under test.
"""

from __future__ import annotations

import numpy as np

from tests.reference.simulate import Trajectory, message, target

Array = np.ndarray


def values(hidden: Array, delta: Array, agent: int, x: Array) -> Array:
    """Return ``[O]`` ``m^(-1/2) sum_r b_r max((w_r + delta_r) . x, 0)`` of one agent, units in the order of the sum."""
    _, options, units, _ = hidden.shape
    out = np.zeros(options)
    for o in range(options):
        for r in range(units):
            sign = 1.0 if r < units // 2 else -1.0
            out[o] += sign * max(float((hidden[agent, o, r] + delta[agent, o, r]) @ x), 0.0) / np.sqrt(units)
    return out


def projected_icq(
    path: Trajectory, hidden: Array, x: Array, owner: Array, step: float, radius: float, gamma: float
) -> Array:
    """Return ``[K, N, O, m, dim]`` deviations from the start after each handoff.

    Args:
        path: K segments.
        hidden: ``[N, O, m, dim]`` start.
        x: ``[Z, dim]`` descriptions of the interfaces.
        owner: ``[Z]`` agents.
        step: alpha.
        radius: of the ball around each unit.
        gamma: discount per primitive step.
    """
    units = hidden.shape[2]
    delta = np.zeros(hidden.shape)
    out = []
    for k in range(len(path.option)):
        i, o, seen = path.agent[k], path.option[k], x[path.interface[k]]
        z_next = path.next_interface[k]
        offered = values(hidden, delta, owner[z_next], x[z_next])
        scalar = message(offered, path.next_mask[k], path.terminal[k])
        wanted = target(path.reward[k], path.duration[k], gamma, scalar)
        error = wanted - values(hidden, delta, i, seen)[o]
        for r in range(units):
            sign = 1.0 if r < units // 2 else -1.0
            if float((hidden[i, o, r] + delta[i, o, r]) @ seen) > 0:
                delta[i, o, r] += step * error * sign * seen / np.sqrt(units)
            length = float(np.sqrt(delta[i, o, r] @ delta[i, o, r]))
            if length > radius:
                delta[i, o, r] *= radius / length
        out.append(delta.copy())
    return np.array(out)
