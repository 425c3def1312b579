"""The linear process that IC-Q is compared with: exact moments at every K, and the certificate of theorem B.

IC-Q with the greedy options of its solution held fixed is linear. Started with the learner and fed the same data it
stays below it, and its first and second moments, jointly with the state of the chain, obey exact linear recursions: for
any step sizes that are known in advance, transients and mixing included. They give a prediction of the RMSE (the
process itself) and, with a bound on what the maximum adds, a certificate for tabular runs without projection.

All arrays are float64 on the CPU; a step costs about ``4 n^2 p^2`` operations, nearly all of them in one matrix product
that carries both second moments through the chain, and memory is a few times ``2 n p^2`` numbers.
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
LONGEST = 2**14  # handoffs up to which all runs of one shape share one compiled program
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
    """Constant arrays of the recursions.

    States are sorted by group (interface), G groups of at most h members; the options of each group are sorted so that
    the greedy one is option 0, and parameters of a table so that the greedy pairs of the groups come first.

    Attributes:
      chain: ``[n, n]`` transition matrix, transposed: row s+, column s.
      law: ``[n]`` stationary law.
      group: ``[n]`` group of each state; None if every group has h members.
      members: ``[G, h]`` states of each group, padded with state 0 at weight 0.
      ends, carried, carried_square, error, error_carried, error_square: ``[G, h, O, n]``, times the behaviour policy.
      entry: ``[G, O]`` int, the parameter of each pair, 0 where there is none; None unless parameters are a table.
      pairs: ``[p]`` int, the pair of each parameter among ``[G O]``; None unless parameters are a table.
      read: ``[G, O, p]`` how a pair's value is read off the parameters; None for a table.
      push: ``[G, O, p]`` how a step at a pair moves the parameters; None for a table.
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
    pairs: Any
    read: Any
    push: Any
    weight: Any
    start: Any
    rival: Any
    lead: Any


def forecast_bytes(states: int, options: int, parameters: int) -> int:
    """Bytes that the recursions take: ``[S, p, 2 p]`` moments with their successors, twelve ``[S, O, S]`` arrays."""
    return 8 * (8 * states * parameters**2 + 12 * states**2 * options + 4 * states * options * parameters)


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
    rows = np.arange(len(live))[:, None]
    favourite = np.where(mask[live], q[live], -np.inf).argmax(axis=1)[:, None]
    options = np.argsort(np.arange(mask.shape[1]) != favourite, axis=1, kind="stable")  # the greedy option first
    available = mask[live][rows, options]
    table = np.where(available, q[live][rows, options], 0.0)
    entry = pairs = read_live = push_live = None
    if read is None:
        by_option = available.T  # all greedy pairs, then all second ones, ...
        entry = np.where(by_option, np.cumsum(by_option).reshape(by_option.shape) - 1, 0).T
        pairs = np.flatnonzero(by_option)
        pairs = pairs % len(live) * available.shape[1] + pairs // len(live)
        first = -table.reshape(-1)[pairs]
    elif start is None:
        raise ValueError("start: missing, expected [p] with features")
    else:
        read_live = np.where(available[:, :, None], read[live][rows, options], 0.0)
        push_live = read_live if push is None else np.where(available[:, :, None], push[live][rows, options], 0.0)
        first = np.asarray(start, np.float64)
    needed = forecast_bytes(len(chain.states), mask.shape[1], len(first))
    if needed > MEMORY:
        raise ValueError(
            f"model: {len(chain.states)} states and {len(first)} parameters need {needed} bytes for the moments of the "
            f"linear process, expected at most {MEMORY}"
        )
    moved = segments(interface, q)
    place = np.full(interface.model.num_interfaces, -1)
    place[live] = np.arange(len(live))
    order = np.argsort(place[moved.interface], kind="stable")
    group = place[moved.interface][order]
    sizes = np.bincount(group, minlength=len(live))
    slot = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    members, real = np.zeros((len(live), sizes.max()), int), np.zeros((len(live), sizes.max()), bool)
    members[group, slot], real[group, slot] = np.arange(len(group)), True
    behaviour = moved.behaviour[order]

    def gathered(array: np.ndarray) -> np.ndarray:
        sorted_ = (moved.behaviour[:, :, None] * array)[np.ix_(order, np.arange(mask.shape[1]), order)]
        own = np.take_along_axis(sorted_, options[group][:, :, None], axis=1)
        return own[members] * real[:, :, None, None]

    rival = available & (np.arange(mask.shape[1]) > 0)
    return _Process(
        chain=np.einsum("so,sot->ts", behaviour, moved.ends[np.ix_(order, np.arange(mask.shape[1]), order)]),
        law=moved.law[order],
        group=None if real.all() else group,
        members=members,
        ends=gathered(moved.ends),
        carried=gathered(moved.carried),
        carried_square=gathered(moved.carried_square),
        error=gathered(moved.error),
        error_carried=gathered(moved.error_carried),
        error_square=gathered(moved.error_square),
        entry=entry,
        pairs=pairs,
        read=read_live,
        push=push_live,
        weight=interface.pair_weight[live][rows, options] * available,
        start=first,
        rival=rival,
        lead=np.where(rival, table[:, :1] - table, 0.0),
    )


def comparison(process: _Process, steps: Sequence[float] | np.ndarray, samples: Sequence[int], since: int = 0,
               certify: bool = True, device: jax.Device | None = None) -> Moments:  # fmt: skip
    """Runs the recursions and reads them off at chosen numbers of handoffs (theorem B).

    Args:
      process: what ``linear_process`` returned; the certificate is claimed for tables only.
      steps: ``[K]`` step sizes ``alpha_0, alpha_1, ...`` of the shared clock, at most 1, as many as the largest sample.
      samples: increasing numbers of handoffs.
      since: first iterate of the averages.
      certify: whether to run the recursion of the certificate as well as the moments.
      device: where to run; a CPU unless given. Accelerators without float64 arithmetic give other digits.

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
        device = device or jax.local_devices(backend="cpu")[0]
        arrays = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), device), process)
        padded = np.zeros(max(LONGEST, 1 << (counts[-1] - 1).bit_length()))  # one program for all runs up to it
        padded[: counts[-1]] = alphas[: counts[-1]]
        found = _run(arrays, jax.device_put(padded, device), counts[-1], since, certify)
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


@partial(jax.jit, static_argnums=4)
def _run(process: _Process, alphas: jax.Array, count: int | jax.Array, since: int | jax.Array, certify: bool) -> Any:
    """``E ||sum y||_d^2``, ``||E sum y||_d^2`` ``[K]`` and the certificate's sums ``[K, etas]`` after each handoff.

    There are ``count`` of them; what lies beyond is 0.
    """
    n, p = process.law.shape[0], process.start.shape[0]
    mean = process.law[:, None] * process.start
    second = mean[:, :, None] * process.start
    moments = jnp.concatenate([second, jnp.zeros((n, p, p)), mean[:, :, None]], axis=2)
    excess = jnp.zeros((n, len(ETAS), *process.weight.shape)) if certify else jnp.zeros(())
    carry = (moments, jnp.zeros((n, p)), excess, jnp.zeros(()), jnp.zeros(len(ETAS)))

    def body(k: jax.Array, carry: Any) -> Any:
        (moments, summed, excess, square, sums), seen = carry
        alpha, counted = alphas[k], (k >= since).astype(alphas.dtype)
        square = square + counted * _norm_square(process, moments)
        mean, second = moments[:, :, -1], moments[:, :, :p]
        so_far = summed + counted * mean
        moments = jnp.concatenate([second, moments[:, :, p:-1] + counted * second, mean[:, :, None]], axis=2)
        level, squares, cross = _pairs(process, moments)
        if certify:
            now = jnp.einsum("go,nego->e", process.weight, excess)
            sums = sums + counted * jnp.sqrt(jnp.maximum(now, 0.0))
            excess = _excess_step(process, alpha, level, squares, cross, excess)
        first = jnp.concatenate([mean, so_far, process.law[:, None]], axis=1)
        moments = _step(process, alpha, moments, first, level, squares)
        summed = process.chain @ so_far
        whole = _pairs_of(process, summed.sum(axis=0)[None, :, None])[0, ..., 0]
        now_seen = (square, jnp.sum(process.weight * whole**2), sums)
        seen = jax.tree.map(lambda all_of_them, one: all_of_them.at[k].set(one), seen, now_seen)
        return (moments, summed, excess, square, sums), seen

    empty = (jnp.zeros_like(alphas), jnp.zeros_like(alphas), jnp.zeros((len(alphas), len(ETAS))))
    return jax.lax.fori_loop(0, count, body, (carry, empty))[1]


def _pairs_of(process: _Process, vectors: jax.Array) -> jax.Array:
    """``[n, G, O, c]`` values of the pairs from ``[n, p, c]``; of a table, anything at pairs that are masked."""
    if process.read is None:
        return vectors[:, process.entry]
    return jnp.einsum("npc,gop->ngoc", vectors, process.read)


def _best(process: _Process, vectors: jax.Array) -> jax.Array:
    """``[n, G, c]`` values of the greedy pairs, from ``[n, p, c]``."""
    if process.read is None:
        return vectors[:, : process.weight.shape[0]]
    return jnp.einsum("npc,gp->ngc", vectors, process.read[:, 0])


def _own(process: _Process, vectors: jax.Array) -> jax.Array:
    """``[G, h, O, c]`` values that the states of each group have at its own pairs, from ``[n, p, c]``."""
    if process.read is None:
        return vectors[process.members[:, :, None], process.entry[:, None]]
    return jnp.einsum("ghpc,gop->ghoc", vectors[process.members], process.read)


def _ahead(process: _Process, values: jax.Array) -> jax.Array:
    """``[..., n]`` what belongs to the group that each state arrives at, from ``[..., G]``."""
    if process.group is None:
        return jnp.repeat(values, process.members.shape[1], axis=-1)
    return values[..., process.group]


def _push(process: _Process, moved: jax.Array) -> jax.Array:
    """``[n, p, c]`` from ``[G, O, n, c]``: every pair moves the parameters in its direction."""
    if process.push is None:
        return jnp.moveaxis(moved.reshape(-1, *moved.shape[2:])[process.pairs], 0, 1)
    return jnp.einsum("gonc,gop->npc", moved, process.push)


def _pairs(process: _Process, moments: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``E[y(pair); s]``, ``E[y(pair)^2; s]`` and ``E[y(pair) y(its best); s]``, each ``[n, G, O]``."""
    n, p, width = moments.shape
    if process.read is None:
        square = moments.reshape(n, p * width)[:, :: width + 1][:, process.entry]
        groups = jnp.arange(len(process.members))[:, None]
        return moments[:, process.entry, -1], square, moments[:, process.entry, groups]
    values = _pairs_of(process, moments)
    square = jnp.einsum("ngop,gop->ngo", values[..., :p], process.read)
    return values[..., -1], square, jnp.einsum("ngop,gp->ngo", values[..., :p], process.read[:, 0])


def _norm_square(process: _Process, moments: jax.Array) -> jax.Array:
    """``E ||sum y||_d^2`` with the present ``y`` less that without it, from ``[n, p, 2 p + 1]``."""
    n, p, width = moments.shape
    if process.read is None:
        flat = moments.reshape(n, p * width)
        added = (flat[:, :: width + 1][:, :p] + 2 * flat[:, p :: width + 1][:, :p]).sum(axis=0)
        return jnp.sum(process.weight * added[process.entry])
    added = (moments[:, :, :p] + 2 * moments[:, :, p:-1]).sum(axis=0)
    return jnp.einsum("go,gop,pq,goq->", process.weight, process.read, added, process.read)


def _step(
    process: _Process, alpha: jax.Array, moments: jax.Array, first: jax.Array, level: jax.Array, squares: jax.Array
) -> jax.Array:
    """``E[y x; s]`` of the next handoff, ``[n, p, c]``, with ``E[x; s]`` in ``first [n, c]``; x is y in the first p."""
    n, p, width = moments.shape
    kept = (process.chain @ moments.reshape(n, p * width)).reshape(n, p, width)
    own, best = _own(process, moments), _best(process, moments)
    change = alpha * _push(process, _change(process, own, best, first))
    square = alpha**2 * _square_error(process, own[..., :p], level, squares)
    turned = jnp.swapaxes(change[:, :, :p], 1, 2)
    if process.push is None:
        turned = turned + jnp.eye(p) * _push(process, square[..., None])
    else:
        turned = turned + jnp.einsum("gon,gop,goq->npq", square, process.push, process.push)
    return (kept + change).at[:, :, :p].add(turned)


def _change(process: _Process, own: jax.Array, best: jax.Array, first: jax.Array) -> jax.Array:
    """``[G, O, n, c]`` ``E[(epsilon + gamma^tau y(best) - y(pair)) x; s+]``, summed over the states of each group."""
    groups, height = process.members.shape
    here = jnp.einsum("ghot,ghc->gotc", process.error, first[process.members])
    here = here - jnp.einsum("ghot,ghoc->gotc", process.ends, own)
    if process.group is None:
        carried = process.carried.reshape(groups, height, -1, groups, height)
        there = jnp.einsum("ghoku,ghkc->gokuc", carried, best.reshape(groups, height, groups, -1))
        return here + there.reshape(here.shape)
    return here + jnp.einsum("ghot,ghtc->gotc", process.carried, best[process.members][:, :, process.group])


def _square_error(process: _Process, own: jax.Array, level: jax.Array, squares: jax.Array) -> jax.Array:
    """``[G, O, n]`` ``E[(epsilon + gamma^tau y(best) - y(pair))^2; s+]``, summed over the states of each group."""
    at, groups = process.members, jnp.arange(len(process.members))[:, None]
    with_best = own[..., : len(at)] if process.read is None else jnp.einsum("ghop,kp->ghok", own, process.read[:, 0])
    summands = (
        process.error_square * process.law[at][:, :, None, None]
        + 2 * process.error_carried * _ahead(process, level[:, :, 0])[at][:, :, None]
        - 2 * process.error * level[at, groups][..., None]
        + process.carried_square * _ahead(process, squares[:, :, 0])[at][:, :, None]
        - 2 * process.carried * _ahead(process, with_best)
        + process.ends * squares[at, groups][..., None]
    )
    return summands.sum(axis=1)


def _excess_step(
    process: _Process, alpha: jax.Array, level: jax.Array, squares: jax.Array, cross: jax.Array, excess: jax.Array
) -> jax.Array:
    """One step of the bound on ``E[w_k(z, o)^2; s_k = s]``, ``[n, etas, G, O]`` (theorem B, 2)."""
    law, etas = process.law[:, None, None], jnp.asarray(ETAS)[:, None]
    at, groups = process.members, jnp.arange(len(process.members))[:, None]
    centre = (level - level[:, :, :1]) / law
    spread = jnp.maximum((squares - 2 * cross + squares[:, :, :1]) / law - centre**2, 0.0)
    overtaken = law * (spread + jnp.maximum(centre - process.lead, 0.0) ** 2)  # E[n^2; s], [n, G, O]
    surplus = jnp.where(process.rival, overtaken, 0.0).sum(axis=2)[:, None]
    rivals = jnp.where(process.rival, excess, 0.0).sum(axis=3)
    brought = excess.sum(axis=3) + etas * rivals + (1 + 1 / etas) * surplus  # [n, etas, G]
    arriving = _ahead(process, brought)[at][:, :, None]  # [G, h, 1, etas, n]
    own = excess[at, :, groups]  # [G, h, etas, O]
    own = jnp.swapaxes(own, 2, 3)[..., None]
    moved = process.carried_square[:, :, :, None] * arriving - process.ends[:, :, :, None] * own
    change = jnp.moveaxis(moved.sum(axis=1), (3, 2), (0, 1))  # [n, etas, G, O]
    return (process.chain @ excess.reshape(len(excess), -1)).reshape(excess.shape) + alpha * change
