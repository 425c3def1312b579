"""Every history of a tiny model with its probability: IC-Q and its linear companion run along each of them (theorem B).

Nothing is averaged before the end, so expectations over histories are what the definitions say. Noise is replaced by
two values of the same mean and variance, which leaves first and second moments of linear processes as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.reference.chain import payments, powers, stationary_law
from tests.reference.interface import interface_q
from tests.reference.models import Array, Model, available_options, decision_pairs, joint_kernel, terminal_states


class Histories(NamedTuple):
    """All histories after K handoffs; ``[h]`` leading axis, ``p`` pairs in the order of the mask.

    Attributes:
      probability: ``[h]``.
      state: ``[h]`` int, the chain's present state.
      linear: ``[h, p]`` the linear process.
      learned: ``[h, p]`` IC-Q less its solution.
      linear_sum, learned_sum: ``[h, p]`` sums of the iterates before the present one.
    """

    probability: Array
    state: Array
    linear: Array
    learned: Array
    linear_sum: Array
    learned_sum: Array


class Atom(NamedTuple):
    """One way in which a segment from a state can go."""

    probability: float
    entry: int
    reward: float
    discount: float  # 0 at a terminal handoff
    lands: int  # interface of arrival, -1 at a terminal handoff
    goes_on: int


def atoms(model: Model, behaviour: Array, number: Array) -> list[list[Atom]]:
    """Everything that can happen next, for each state."""
    kernel, terminal, labels = joint_kernel(model), terminal_states(model), model["interface"]
    noise = float(model.get("reward_noise", 0.0))
    discount, pays = powers(model, kernel.shape[2]), payments(model, kernel.shape[2])
    start = np.where(terminal, 0.0, model.get("start", np.zeros(len(labels))))
    shocks = (0.0,) if noise == 0 else (noise / np.sqrt(3), -noise / np.sqrt(3))
    out: list[list[Atom]] = []
    for s in range(len(labels)):
        here: list[Atom] = []
        for o in np.flatnonzero(decision_pairs(model)[s]):
            for t, ends in np.argwhere(kernel[s, o] > 0):
                weight = behaviour[labels[s], o] * kernel[s, o, t, ends] / len(shocks)
                for shock in shocks:
                    paid = pays[s, o, t, ends] + shock
                    if not terminal[ends]:
                        here.append(Atom(weight, number[labels[s], o], paid, discount[t], labels[ends], ends))
                        continue
                    for fresh in np.flatnonzero(start > 0):
                        share = weight * start[fresh] / start.sum()
                        here.append(Atom(share, number[labels[s], o], paid, 0.0, -1, fresh))
        out.append(here)
    return out


def run(model: Model, behaviour: Array, steps: list[float], radius: float = np.inf) -> Histories:
    """All histories of so many steps, from the stationary law and zeros; entries of IC-Q stay within the radius."""
    mask = available_options(model) & np.isfinite(interface_q(model, behaviour))
    number = np.where(mask, np.cumsum(mask.reshape(-1)).reshape(mask.shape) - 1, -1)
    table = np.where(mask, interface_q(model, behaviour), -np.inf)
    solution, best = table[mask], table.argmax(axis=1)
    law = stationary_law(model, behaviour)
    ahead = atoms(model, behaviour, number)
    live = np.flatnonzero(law > 0)
    begin = np.tile(-solution, (len(live), 1))
    now = Histories(law[live], live, begin, begin, np.zeros_like(begin), np.zeros_like(begin))
    for alpha in steps:
        parts = []
        for s in live:
            at = now.state == s
            if not at.any():
                continue
            for atom in ahead[s]:
                linear, learned = now.linear[at].copy(), now.learned[at].copy()
                error = atom.reward - solution[atom.entry]
                carried, greedy = 0.0, 0.0
                if atom.lands >= 0:
                    error += atom.discount * table[atom.lands].max()
                    carried = linear[:, number[atom.lands, best[atom.lands]]]
                    options = number[atom.lands][mask[atom.lands]]
                    greedy = (solution[options] + learned[:, options]).max(axis=1)
                linear[:, atom.entry] += alpha * (error + atom.discount * carried - linear[:, atom.entry])
                target = atom.reward + atom.discount * greedy - solution[atom.entry]
                learned[:, atom.entry] += alpha * (target - learned[:, atom.entry])
                value = np.clip(solution[atom.entry] + learned[:, atom.entry], -radius, radius)
                if np.isfinite(radius):
                    learned[:, atom.entry] = value - solution[atom.entry]
                parts.append(Histories(
                    now.probability[at] * atom.probability, np.full(at.sum(), atom.goes_on), linear, learned,
                    now.linear_sum[at] + now.linear[at], now.learned_sum[at] + now.learned[at],
                ))  # fmt: skip
        now = Histories(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))
    return now
