"""Twin of the linear process's moments and of its certificate (theorem B), transition by transition.

Every atom moves all entries by ``y' = A y + b``; first and second moments follow by plain matrix products. Nothing is
shared with the package, and nothing is grouped or batched.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.reference.chain import pair_law, stationary_law
from tests.reference.histories import atoms
from tests.reference.interface import interface_q
from tests.reference.models import Array, Model, available_options


class Outcome(NamedTuple):
    """Roots of mean squares of the uniform average, and the certificate with its best eta."""

    prediction: float
    bias: float
    certificate: float


def run(model: Model, behaviour: Array, steps: Array, etas: tuple[float, ...] = (0.05, 0.15, 0.4, 1.0)) -> Outcome:
    """The whole recursion, from a table of zeros and a stationary start."""
    q = interface_q(model, behaviour)
    mask = available_options(model) & np.isfinite(q)
    number = np.where(mask, np.cumsum(mask.reshape(-1)).reshape(mask.shape) - 1, -1)
    table = np.where(mask, q, -np.inf)
    solution, best = table[mask], table.argmax(axis=1)
    weight = pair_law(model, behaviour)[mask]
    law = stationary_law(model, behaviour)
    live = np.flatnonzero(law > 0)
    ahead = atoms(model, behaviour, number)
    p, s_count = len(solution), len(law)
    first = law[:, None] * -solution
    second = law[:, None, None] * np.outer(solution, solution)
    summed, cross = np.zeros((s_count, p)), np.zeros((s_count, p, p))
    excess = np.zeros((len(etas), p, s_count))
    square, roots = 0.0, np.zeros(len(etas))
    for alpha in steps:
        square += weight @ np.diagonal(2 * cross + second, axis1=1, axis2=2).sum(axis=0)
        roots += np.sqrt(np.einsum("i,eis->e", weight, excess))
        so_far, mixed = summed + first, cross + second
        new = [np.zeros_like(array) for array in (first, second, summed, cross, excess)]
        for s in live:
            for atom in ahead[s]:
                a, b = np.eye(p), np.zeros(p)
                a[atom.entry, atom.entry] -= alpha
                error = atom.reward - solution[atom.entry]
                if atom.lands >= 0:
                    error += atom.discount * table[atom.lands].max()
                    a[atom.entry, number[atom.lands, best[atom.lands]]] += alpha * atom.discount
                b[atom.entry] = alpha * error
                w, to = atom.probability, atom.goes_on
                moved = a @ first[s]
                new[0][to] += w * (moved + b * law[s])
                new[1][to] += w * (
                    a @ second[s] @ a.T + np.outer(moved, b) + np.outer(b, moved) + np.outer(b, b) * law[s]
                )
                new[2][to] += w * so_far[s]
                new[3][to] += w * (mixed[s] @ a.T + np.outer(so_far[s], b))
                for e, eta in enumerate(etas):
                    column = excess[e, :, s].copy()
                    column[atom.entry] *= 1 - alpha
                    if atom.lands >= 0:
                        now = (excess[e, :, s], first[s], second[s], law[s])
                        gained = _brought(*now, table, number, best, atom.lands, eta)
                        column[atom.entry] += alpha * atom.discount**2 * gained
                    new[4][e, :, to] += w * column
        first, second, summed, cross, excess = new
    count = len(steps)
    mean = summed.sum(axis=0) / count
    prediction = np.sqrt(square) / count
    return Outcome(prediction, np.sqrt(weight @ mean**2), float((prediction + roots / count).min()))


def _brought(
    excess: Array, first: Array, second: Array, law: float, table: Array, number: Array, best: Array, z: int, eta: float
) -> float:
    favourite = number[z, best[z]]
    total = excess[favourite]
    for o in range(table.shape[1]):
        other = number[z, o]
        if other < 0 or other == favourite:
            continue
        mean = (first[other] - first[favourite]) / law
        square = (second[other, other] - 2 * second[other, favourite] + second[favourite, favourite]) / law
        late = max(mean - (table[z, best[z]] - table[z, o]), 0.0)
        total += (1 + eta) * excess[other] + (1 + 1 / eta) * law * (max(square - mean**2, 0.0) + late**2)
    return total
