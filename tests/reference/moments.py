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


def run_grouped(
    model: Model, behaviour: Array, steps: Array, etas: tuple[float, ...] = (0.05, 0.15, 0.4, 1.0)
) -> Outcome:
    """The same for models with many atoms: those of one state, pair and arrival are added up first, by their moments.

    A transition changes one row and one column, so that each group costs a few vectors; still no array over groups.
    """
    q = interface_q(model, behaviour)
    mask = available_options(model) & np.isfinite(q)
    number = np.where(mask, np.cumsum(mask.reshape(-1)).reshape(mask.shape) - 1, -1)
    table = np.where(mask, q, -np.inf)
    solution, best = table[mask], table.argmax(axis=1)
    weight, law = pair_law(model, behaviour)[mask], stationary_law(model, behaviour)
    p, s_count = len(solution), len(law)
    chain = np.zeros((s_count, s_count))
    groups: dict[tuple[int, int, int, int], Array] = {}
    for s, ahead in enumerate(atoms(model, behaviour, number)):
        if law[s] <= 0:
            continue
        for atom in ahead:
            g = atom.discount if atom.lands >= 0 else 0.0
            e = atom.reward - solution[atom.entry] + (g * table[atom.lands].max() if atom.lands >= 0 else 0.0)
            name = (s, atom.goes_on, atom.entry, atom.lands)
            moments = atom.probability * np.array([1.0, g, g * g, e, e * g, e * e])
            groups[name] = groups.get(name, np.zeros(6)) + moments
            chain[s, atom.goes_on] += atom.probability
    first = law[:, None] * -solution
    second = law[:, None, None] * np.outer(solution, solution)
    summed, cross = np.zeros((s_count, p)), np.zeros((s_count, p, p))
    excess = np.zeros((len(etas), p, s_count))
    square, roots = 0.0, np.zeros(len(etas))
    for alpha in steps:
        square += weight @ np.diagonal(2 * cross + second, axis1=1, axis2=2).sum(axis=0)
        roots += np.sqrt(np.einsum("i,eis->e", weight, excess))
        so_far, mixed = summed + first, cross + second
        new_first, new_summed = chain.T @ first, chain.T @ so_far
        new_second = np.tensordot(chain, second, axes=(0, 0))
        new_cross = np.tensordot(chain, mixed, axes=(0, 0))
        new_excess = excess @ chain
        for (s, to, i, lands), (w, g, gg, e, eg, ee) in groups.items():
            j = number[lands, best[lands]] if lands >= 0 else i  # with g = 0 it does not matter which
            new_first[to, i] += alpha * (g * first[s, j] - w * first[s, i] + e * law[s])
            row = alpha * (g * second[s, j] - w * second[s, i] + e * first[s])
            new_second[to, i] += row
            new_second[to, :, i] += row
            products = gg * second[s, j, j] - 2 * g * second[s, i, j] + w * second[s, i, i]
            new_second[to, i, i] += alpha**2 * (products + 2 * eg * first[s, j] - 2 * e * first[s, i] + ee * law[s])
            new_cross[to, :, i] += alpha * (g * mixed[s, :, j] - w * mixed[s, :, i] + e * so_far[s])
            for n, eta in enumerate(etas):
                new_excess[n, i, to] -= alpha * w * excess[n, i, s]
                if lands >= 0:
                    now = (excess[n, :, s], first[s], second[s], law[s])
                    new_excess[n, i, to] += alpha * gg * _brought(*now, table, number, best, lands, eta)
        first, second, summed, cross, excess = new_first, new_second, new_summed, new_cross, new_excess
    count = len(steps)
    mean = summed.sum(axis=0) / count
    prediction = np.sqrt(square) / count
    return Outcome(prediction, np.sqrt(weight @ mean**2), float((prediction + roots / count).min()))
