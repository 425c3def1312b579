"""The linear process beside IC-Q: exact moments at every K, and the certificate of theorem B.

IC-Q with the greedy options of its solution held fixed is linear. Started with the learner and fed the same data it
stays below it, and its first and second moments, jointly with the state of the chain, obey exact linear recursions: for
any step sizes that are known in advance, transients and mixing included. They give a prediction of the RMSE (the
process itself) and, with a bound on what the maximum adds, a certificate for tabular runs without projection.

All arrays are float64 on the CPU; a step costs about ``2 n^2 p^2`` operations and memory is ``2 n p^2`` numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.segments import segments

ETAS = (0.05, 0.15, 0.4, 1.0)  # how the square of a sum is split in the certificate; the best one is reported
MEMORY = 2 * 2**30  # bytes up to which the recursions are run


class Moments(NamedTuple):
    """The process at chosen numbers of handoffs; ``[k]`` arrays, roots of mean squares in ``||.||_d``.

    Attributes:
      samples: ``[k]`` int, handoffs K.
      prediction: ``(E ||y_avg||_d^2)^(1/2)`` of the average over the iterates ``since .. K - 1``.
      bias: ``||E y_avg||_d``.
      certificate: right side of theorem B; NaN where it does not apply.
      eta: which of ``ETAS`` gave it; NaN where it does not apply.
    """

    samples: np.ndarray
    prediction: np.ndarray
    bias: np.ndarray
    certificate: np.ndarray
    eta: np.ndarray


class _Process(NamedTuple):
    """Constant arrays of the recursions; G groups of states that share their rows, padded to h members each.

    Attributes:
      chain: ``[n, n]`` transition matrix.
      law: ``[n]`` stationary law.
      group: ``[n]`` group of each state.
      members: ``[G, h]`` states of each group; padding repeats state 0 with weight 0.
      ends, carried, carried_square, error, error_carried, error_square: ``[G, h, O, n]``, times the behaviour policy.
      entry: ``[G, O]`` int, the parameter of each pair, 0 where there is none; None unless parameters are a table.
      read: ``[G, O, p]`` how a pair's value is read off the parameters; None for a table.
      push: ``[G, O, p]`` how a step at a pair moves the parameters; None for a table.
      greedy: ``[G]`` int, greedy option.
      weight: ``[G, O]`` ``d(z, o)``.
      start: ``[p]`` ``y_0``.
      rival: ``[G, O]`` bool, available options other than the greedy one.
      lead: ``[G, O]`` how far the greedy option leads; 0 where there is no rival.
    """

    chain: Any
    law: Any
    group: Any
    members: Any
    ends: Any
    carried: Any
    carried_square: Any
    error: Any
    error_carried: Any
    error_square: Any
    entry: Any
    read: Any
    push: Any
    greedy: Any
    weight: Any
    start: Any
    rival: Any
    lead: Any


def forecast_bytes(states: int, options: int, parameters: int) -> int:
    """Bytes that the recursions take: two ``[S, p, p]`` moments with their successors, six ``[S, O, S]`` arrays."""
    return 8 * (6 * states * parameters**2 + 12 * states**2 * options + 4 * states**2 * parameters)


def linear_process(
    interface: InterfaceModel,
    q: np.ndarray,
    read: np.ndarray | None = None,
    push: np.ndarray | None = None,
    start: np.ndarray | None = None,
) -> _Process:
    """The process around a solution, for tables, linear features or nets near their start (theorem B).

    Args:
      interface: the interface model; for aggregated tables that of the coarser map.
      q: ``[Z, O]`` the solution that IC-Q of this class converges to.
      read: ``[Z, O, p]`` features of the pairs; indicators of the pairs if None, which is the tabular class.
      push: ``[Z, O, p]`` direction of a step at a pair, ``read`` if None. A net near its start has indicators to read
        and the kernel of its start to push.
      start: ``[p]`` parameters of ``Q_0`` less those of ``q``; ``-q`` if None, for tables that start from 0.

    Raises:
      ValueError: if the arrays would take more than ``MEMORY``, or features come without a start.
    """
    chain, mask = interface.chain, interface.mask
    live = np.flatnonzero(mask.any(axis=1))
    options = mask.shape[1]
    available = mask[live]
    table = np.where(available, q[live], 0.0)
    entry = read_live = push_live = None
    if read is None:
        entry = np.where(available, np.cumsum(available.reshape(-1)).reshape(available.shape) - 1, 0)
        first = -table[available]
    elif start is None:
        raise ValueError("start: missing, expected [p] beside features")
    else:
        read_live, first = np.where(available[:, :, None], read[live], 0.0), np.asarray(start, np.float64)
        push_live = read_live if push is None else np.where(available[:, :, None], push[live], 0.0)
    needed = forecast_bytes(len(chain.states), options, len(first))
    if needed > MEMORY:
        raise ValueError(
            f"model: {len(chain.states)} states and {len(first)} parameters need {needed} bytes for the moments of the "
            f"linear process, expected at most {MEMORY}"
        )
    moved = segments(interface, q)
    place = np.full(interface.model.num_interfaces, -1)
    place[live] = np.arange(len(live))
    group = place[moved.interface]
    sizes = np.bincount(group, minlength=len(live))
    order = np.argsort(group, kind="stable")
    slot = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    members = np.zeros((len(live), sizes.max()), int)
    real = np.zeros(members.shape, bool)
    members[group[order], slot], real[group[order], slot] = order, True

    def gathered(array: np.ndarray) -> np.ndarray:
        return (moved.behaviour[:, :, None] * array)[members] * real[:, :, None, None]

    greedy = np.where(available, table, -np.inf).argmax(axis=1)
    rows = np.arange(len(live))
    best = table[rows, greedy][:, None]
    rival = available & (np.arange(options) != greedy[:, None])
    return _Process(
        chain=np.einsum("so,sot->st", moved.behaviour, moved.ends),
        law=moved.law,
        group=group,
        members=members,
        ends=gathered(moved.ends),
        carried=gathered(moved.carried),
        carried_square=gathered(moved.carried_square),
        error=gathered(moved.error),
        error_carried=gathered(moved.error_carried),
        error_square=gathered(moved.error_square),
        entry=entry,
        read=read_live,
        push=push_live,
        greedy=greedy,
        weight=interface.pair_weight[live] * available,
        start=first,
        rival=rival,
        lead=np.where(rival, best - table, 0.0),
    )


def comparison(process: _Process, steps: Sequence[float] | np.ndarray, samples: Sequence[int], since: int = 0,
               certify: bool = True) -> Moments:  # fmt: skip
    """Runs the recursions and reads them off at chosen numbers of handoffs (theorem B).

    Args:
      process: what ``linear_process`` returned; the certificate is claimed for tables only.
      steps: ``[K]`` step sizes ``alpha_0, alpha_1, ...`` of the shared clock, at most 1, as many as the largest sample.
      samples: increasing numbers of handoffs.
      since: first iterate of the averages.
      certify: whether to run the recursion of the certificate beside the moments.

    Returns:
      The moments, float64.

    Raises:
      ValueError: for steps outside (0, 1], for too few of them, or for samples that do not increase beyond ``since``.
    """
    alphas, counts = np.asarray(steps, np.float64), [int(k) for k in samples]
    bad = ~((alphas > 0) & (alphas <= 1))
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        raise ValueError(f"steps[{k}] = {alphas[k]:.9g}: expected a number above 0 and at most 1")
    if not counts or sorted(set(counts)) != counts or counts[0] <= since or counts[-1] > len(alphas):
        raise ValueError(f"samples = {counts}: expected increasing numbers above {since} and at most {len(alphas)}")
    with jax.enable_x64(True):
        device = jax.devices("cpu")[0]
        arrays = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), device), process)
        found = _run(arrays, jax.device_put(alphas[: counts[-1]], device), since, certify)
        square, mean, roots = (np.asarray(leaf) for leaf in found)
    at = np.array(counts) - 1
    length = np.array(counts) - since
    prediction = np.sqrt(np.maximum(square[at], 0.0)) / length
    bias = np.sqrt(np.maximum(mean[at], 0.0)) / length
    certificate, eta = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    if certify:
        several = prediction[:, None] + roots[at] / length[:, None]
        certificate, eta = several.min(axis=1), np.array(ETAS)[several.argmin(axis=1)]
    return Moments(np.array(counts), prediction, bias, certificate, eta)


@partial(jax.jit, static_argnums=3)
def _run(process: _Process, alphas: jax.Array, since: int | jax.Array, certify: bool) -> Any:
    """``E ||sum y||_d^2``, ``||E sum y||_d^2`` ``[K]`` and the certificate's sums ``[K, etas]`` after each handoff."""
    n, p = process.law.shape[0], process.start.shape[0]
    groups, options = process.weight.shape
    mean = process.law[:, None] * process.start
    second = process.law[:, None, None] * (process.start[:, None] * process.start)
    excess = jnp.zeros((len(ETAS), groups, options, n)) if certify else jnp.zeros(())
    total = (jnp.zeros(()), jnp.zeros(len(ETAS)))

    def body(carry: Any, ahead: Any) -> tuple[Any, Any]:
        mean, second, summed, cross, excess, (square, sums) = carry
        alpha, counted = ahead
        square = square + counted * _norm_square(process, (2 * cross + second).sum(axis=0))
        so_far = summed + counted * mean
        mixed = cross + counted * second
        if certify:
            now = jnp.einsum("go,egon->e", process.weight, excess)
            sums = sums + counted * jnp.sqrt(jnp.maximum(now, 0.0))
            excess = _excess_step(process, alpha, mean, second, excess)
        cross = _step(process, alpha, mixed, so_far)
        second = _second_step(process, alpha, mean, second)
        mean = _step(process, alpha, mean[:, :, None], process.law[:, None])[:, :, 0]
        summed = process.chain.T @ so_far
        whole = _read(process, summed.sum(axis=0)[None])[0]
        outcome = (square, jnp.sum(process.weight * whole**2), sums)
        return (mean, second, summed, cross, excess, (square, sums)), outcome

    counted = (jnp.arange(alphas.shape[0]) >= since).astype(alphas.dtype)
    carry = (mean, second, jnp.zeros((n, p)), jnp.zeros((n, p, p)), excess, total)
    return jax.lax.scan(body, carry, (alphas, counted))[1]


def _read(process: _Process, vectors: jax.Array) -> jax.Array:
    """``[n, G, O, ...]`` values of the pairs from ``[n, p, ...]``; of a table, anything at pairs that are masked."""
    if process.entry is not None:
        return vectors[:, process.entry]
    return jnp.einsum("np...,gop->ngo...", vectors, process.read)


def _push(process: _Process, moved: jax.Array) -> jax.Array:
    """``[n, p, ...]`` from ``[G, O, n, ...]``: every pair moves the parameters in its direction."""
    if process.entry is not None:
        flat = moved.reshape(-1, *moved.shape[2:])
        out = jnp.zeros((process.start.shape[0], *flat.shape[1:])).at[process.entry.reshape(-1)].add(flat)
        return jnp.moveaxis(out, 0, 1)
    return jnp.einsum("gon...,gop->np...", moved, process.push)


def _norm_square(process: _Process, second: jax.Array) -> jax.Array:
    """``E ||y||_d^2`` from ``E[y y^T]``, ``[p, p]``."""
    half = _read(process, second[None])[0]  # [G, O, p]
    if process.entry is not None:
        square = jnp.take_along_axis(half, process.entry[:, :, None], axis=2)[:, :, 0]
    else:
        square = jnp.einsum("gop,gop->go", half, process.read)
    return jnp.sum(process.weight * square)


def _own(process: _Process, values: jax.Array) -> jax.Array:
    """``[G, h, O, ...]`` what the states of each group hold of its own pairs, from ``[n, G, O, ...]``."""
    return values[process.members, jnp.arange(len(process.greedy))[:, None]]


def _best(process: _Process, values: jax.Array) -> jax.Array:
    """``[n, G, ...]`` what every state holds of every group's greedy pair, from ``[n, G, O, ...]``."""
    return values[:, jnp.arange(len(process.greedy)), process.greedy]


def _step(process: _Process, alpha: jax.Array, vectors: jax.Array, first: jax.Array) -> jax.Array:
    """``E[y_(k+1) x; s_(k+1)]``, ``[n, p, c]``, from ``E[y_k x; s_k]`` and ``E[x; s_k]`` ``[n, c]``."""
    n, p, c = vectors.shape
    kept = (process.chain.T @ vectors.reshape(n, p * c)).reshape(n, p, c)
    return kept + alpha * _push(process, _error_with(process, vectors, first))


def _error_with(process: _Process, vectors: jax.Array, first: jax.Array) -> jax.Array:
    """``[G, O, n, c]`` ``E[(epsilon + gamma^tau y(best) - y(pair)) x; s+]``, summed over the states of each group."""
    values = _read(process, vectors)
    here = _own(process, values)[:, :, :, None]  # [G, h, O, 1, c]
    there = _best(process, values)[process.members][:, :, process.group][:, :, None]  # [G, h, 1, n, c]
    fresh = first[process.members][:, :, None, None]  # [G, h, 1, 1, c]
    change = process.error[..., None] * fresh + process.carried[..., None] * there - process.ends[..., None] * here
    return change.sum(axis=1)


def _second_step(process: _Process, alpha: jax.Array, mean: jax.Array, second: jax.Array) -> jax.Array:
    n, p = mean.shape
    kept = (process.chain.T @ second.reshape(n, p * p)).reshape(n, p, p)
    change = _push(process, _error_with(process, second, mean))
    both = kept + alpha * (change + change.transpose(0, 2, 1))
    square = alpha**2 * _square_error(process, mean, second)
    if process.entry is not None:
        at = jnp.arange(p)
        return both.at[:, at, at].add(_push(process, square))
    return both + jnp.einsum("gon,gop,goq->npq", square, process.push, process.push)


def _pairs(process: _Process, second: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``E[y(pair)^2; s]``, ``E[y(pair) y(its best); s]`` ``[n, G, O]`` and ``E[y y(best)^T; s]`` ``[n, p, G]``."""
    groups = jnp.arange(len(process.greedy))
    half = _read(process, second)  # [n, G, O, p]
    if process.entry is not None:
        square = jnp.take_along_axis(half, process.entry[None, :, :, None], axis=3)[..., 0]
        favourite = process.entry[groups, process.greedy]
        cross = jnp.take_along_axis(half, favourite[None, :, None, None], axis=3)[..., 0]
    else:
        square = jnp.einsum("ngop,gop->ngo", half, process.read)
        cross = jnp.einsum("ngop,gp->ngo", half, process.read[groups, process.greedy])
    return square, cross, jnp.moveaxis(_best(process, half), 1, 2)


def _square_error(process: _Process, mean: jax.Array, second: jax.Array) -> jax.Array:
    """``[G, O, n]`` ``E[(epsilon + gamma^tau y(best) - y(pair))^2; s+]``, summed over the states of each group."""
    at = process.members
    level, (square, _, half) = _read(process, mean), _pairs(process, second)
    best_mean = _best(process, level)[at][:, :, None, process.group]  # [G, h, 1, n]
    best_square = _best(process, square)[at][:, :, None, process.group]
    both = _own(process, _read(process, half))[..., process.group]  # [G, h, O, n]
    summands = (
        process.error_square * process.law[at][:, :, None, None]
        + 2 * process.error_carried * best_mean
        - 2 * process.error * _own(process, level)[..., None]
        + process.carried_square * best_square
        - 2 * process.carried * both
        + process.ends * _own(process, square)[..., None]
    )
    return summands.sum(axis=1)


def _excess_step(
    process: _Process, alpha: jax.Array, mean: jax.Array, second: jax.Array, excess: jax.Array
) -> jax.Array:
    """One step of the bound on ``E[w_k(z, o)^2; s_k = s]``, ``[etas, G, O, n]`` (theorem B, 2)."""
    law, etas = process.law[:, None, None], jnp.asarray(ETAS)[:, None, None]
    level, (square, cross, _) = _read(process, mean), _pairs(process, second)
    centre = (level - _best(process, level)[..., None]) / law
    spread = jnp.maximum((square - 2 * cross + _best(process, square)[..., None]) / law - centre**2, 0.0)
    overtaken = law * (spread + jnp.maximum(centre - process.lead, 0.0) ** 2)  # E[n^2; s], [n, G, O]
    surplus = jnp.where(process.rival, overtaken, 0.0).sum(axis=2)
    rivals = jnp.where(process.rival[:, :, None], excess, 0.0).sum(axis=2)  # [etas, G, n]
    brought = excess.sum(axis=2) + etas * rivals + (1 + 1 / etas) * surplus.T
    arriving = jnp.moveaxis(brought, 1, 2)[:, process.members][..., None, process.group]  # [etas, G, h, 1, n]
    gained = (process.carried_square * arriving).sum(axis=2)
    own = jnp.take_along_axis(excess, process.members[None, :, None, :], axis=3)  # [etas, G, O, h]
    lost = (process.ends * jnp.swapaxes(own, 2, 3)[..., None]).sum(axis=2)
    return excess @ process.chain + alpha * (gained - lost)
