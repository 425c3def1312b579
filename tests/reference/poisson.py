"""Twin of the constants from the Poisson equation (T3+): tables, plain loops over everything that can happen."""

from __future__ import annotations

import numpy as np

from tests.reference.chain import behaviour_chain, stationary_law
from tests.reference.histories import Atom, atoms
from tests.reference.interface import interface_q
from tests.reference.models import Array, Model, available_options


def constants(model: Model, behaviour: Array, radius: float) -> tuple[float, float, float]:
    """``(G_2^2, C_Z, M)``; the noise enters the size of a reward by its half-width."""
    mask = available_options(model) & np.isfinite(interface_q(model, behaviour))
    number = np.where(mask, np.cumsum(mask.reshape(-1)).reshape(mask.shape) - 1, -1)
    quiet = {**model, "reward_noise": np.array(0.0)}
    noise = float(model.get("reward_noise", 0.0))
    law = stationary_law(model, behaviour)
    live = np.flatnonzero(law > 0)
    chain = behaviour_chain(model, behaviour)[np.ix_(live, live)]
    ones = np.outer(np.ones(len(live)), law[live])
    memory = np.zeros((len(law), len(law)))
    memory[np.ix_(live, live)] = np.linalg.solve(np.eye(len(live)) - chain + ones, np.eye(len(live))) - ones
    ahead = atoms(quiet, behaviour, number)
    pairs = int(mask.sum())

    def size(atom: Atom) -> float:
        return abs(atom.reward) + noise + (1 + atom.discount) * radius

    lipschitz = np.zeros((pairs, len(law)))
    for s in live:
        for atom in ahead[s]:
            lipschitz[atom.entry, s] += atom.probability * (size(atom) + 2 * radius)
            if atom.lands >= 0:
                for entry in number[atom.lands][mask[atom.lands]]:
                    lipschitz[entry, s] += atom.probability * atom.discount * 2 * radius
    square = drift = 0.0
    bound = np.zeros(len(law))
    for s in live:
        for atom in ahead[s]:
            square += law[s] * atom.probability * size(atom) ** 2
            met = np.abs(memory[atom.goes_on]) @ lipschitz[atom.entry]
            drift += law[s] * atom.probability * size(atom) * met
            bound[s] += atom.probability * 2 * radius * size(atom)
    return square, drift, float(law @ np.abs(memory) @ bound)
