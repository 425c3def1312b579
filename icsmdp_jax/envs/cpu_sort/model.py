"""Writing sorting programs as a finite IC-SMDP, from the list of what the team can reach (D1)."""

from __future__ import annotations

import numpy as np

from icsmdp_jax.envs.cpu_sort import machine, team
from icsmdp_jax.envs.cpu_sort.reach import CORRECT, LOST, Reachable
from icsmdp_jax.models.tabular import TabularModel, annuities


def sorting_model(
    num_values: int, reach: Reachable, interface: np.ndarray, listed: int, gamma: float, shaping: float
) -> TabularModel:
    """The exact model.

    States are those of ``reach``, then one for a correct program and one for a lost value. Situations at the length
    limit are terminal here and keep their interface: the model is exact for whatever can be finished below the limit.

    Args:
      num_values: 2 or 3.
      reach: the situations.
      interface: ``[S]`` numbers of their interfaces.
      listed: how many interfaces there are; the next number is that of a terminal handoff.
      gamma: discount of one instruction.
      shaping: weight of the potential.

    Returns:
      The model; the start law is the point mass on state 0.
    """
    count = len(reach.depth)
    phi = shaping * (2 * reach.score / machine.best_score(num_values) - 1)
    phi = np.append(phi, [0.0, 0.0])  # terminal handoffs have potential 0
    successor = np.where(reach.successor == CORRECT, count, reach.successor)
    successor = np.where(reach.successor == LOST, count + 1, successor)
    tau = reach.duration
    paid = (successor == count) * gamma ** (tau - 1.0)
    reward = paid + gamma**tau * phi[successor] - phi[:count, None]
    rate = reward / annuities(gamma, int(tau.max()))[tau - 1]

    width = reach.mask.shape[1]
    terminal = np.append(reach.cut, [True, True])
    number = np.append(interface, [listed, listed])
    available = np.ones((listed + 1, width), bool)
    available[number[:count]] = reach.mask
    padding = np.zeros((2, width))
    return TabularModel(
        reward_rate=np.concatenate([rate, padding]),
        agent=np.append(reach.situation.agent, [0, 0]),
        interface=number,
        gamma=gamma,
        successor=np.concatenate([successor, padding.astype(int)])[:, :, None],
        probability=np.ones((count + 2, width, 1)),
        duration=np.concatenate([tau, padding.astype(int) + 1])[:, :, None] == np.arange(1, team.LONGEST_RUN + 1),
        available=available,
        start=np.eye(1, count + 2)[0],
        terminal=terminal,
    )
