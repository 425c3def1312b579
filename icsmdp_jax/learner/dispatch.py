"""Rows sent to the parameters of their own slot, at a cost that hardly depends on the number of slots (D9).

A batch of handoffs belongs to many agents, each with its own network. Giving every row its own copy of its
agent's weights moves far more memory than the arithmetic needs; evaluating all agents on all rows multiplies the
arithmetic by their number. ``by_slot`` does neither: rows are sorted by slot, every slot gets a table of
``capacity`` places that one batched product serves, and rows that find no place are processed in blocks of one
slot each, by a loop that is only as long as necessary. Where slots have many rows there is no table: blocks follow
uneven turns more closely, and their activations stay in the cache, since the backward pass computes them again
instead of keeping them. No row is dropped, however unevenly the slots are hit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

Params = Any
Views = Any
Apply = Callable[[Params, Any], chex.Array]
Weigh = Callable[[chex.Array, Any], chex.Array]

# Found by measuring, on a CPU. Up to SMALL numbers per slot, a copy of them for each row is the cheapest; capacities
# in steps of LANES fill vector units; SLACK standard deviations of an even spread are cheaper as places left over than
# as one more pass of the loop, except on a CPU, which is best with no more places than rows, and two blocks a pass; a
# pass over 128 rows costs less for each of them than one over 32, if slots have enough.
SMALL = 256
LANES = 8
SLACK = 1.5
LARGEST_BLOCK = 128
# From MANY rows per slot on, a CPU does without the table, and a pass of its loop takes PASS rows in blocks of WIDE,
# which are large enough for its threads to share one product.
MANY = 256
WIDE = 512
PASS = 2048
LARGEST_KEY = 2**31


class Places(NamedTuple):
    """Places for rows, ``C`` of them for each of ``M`` groups of rows of one slot.

    Attributes:
      row: ``[M, C]`` int32, the row whose values a place holds; R, which is not a row, on places that are left over.
      source: ``[M, C]`` int32, the row that a place reads. Places left over read the last row of the same slot, so
        that no network is fed what its agent has never seen; R, which reads zeros, if there is none.
    """

    row: chex.Array
    source: chex.Array


class Blocks(NamedTuple):
    """The rows that find no place in the table.

    Attributes:
      slot: ``[M]`` int32, slot of each block.
      places: their rows.
      count: ``[]`` int32, blocks that there are; ``M`` is what the worst case takes.
    """

    slot: chex.Array
    places: Places
    count: chex.Array


class Sizes(NamedTuple):
    """Static sizes of a dispatch.

    Attributes:
      capacity: places of each slot in the table; 0 for no table.
      block: rows of each block of the remaining rows.
      together: blocks that one pass of the loop over them serves.
    """

    capacity: int
    block: int
    together: int = 1


def sizes(num_rows: int, num_slots: int) -> Sizes:
    """Sizes that suit rows spread evenly, and lose little on rows that are not.

    Args:
      num_rows: ``R``.
      num_slots: ``N``.
    """
    mean = num_rows / num_slots
    alone = jax.default_backend() == "cpu" and mean >= LANES
    if alone and mean >= MANY and num_rows >= PASS:
        return Sizes(0, WIDE, PASS // WIDE)
    roomy = mean + (0 if alone else SLACK * math.sqrt(mean))
    capacity = LANES * round(roomy / LANES) if mean >= LANES else math.ceil(1.5 * mean)
    block = min(LARGEST_BLOCK, LANES * max(1 + (mean >= LANES), round(mean / 20)))
    return Sizes(min(capacity, num_rows), min(block, num_rows), 1 + alone)


def gathered(apply: Apply, params: Params, slots: chex.Array, views: Views) -> chex.Array:
    """Each row with its own copy of its slot's parameters: what ``by_slot`` has to equal, cheap for small slots.

    Args:
      apply: ``(params of one slot, view) -> [O]``.
      params: parameters with leading axis N.
      slots: ``[R]`` int32.
      views: pytree with leading axis R.

    Returns:
      ``[R, O]``.
    """
    return jax.vmap(lambda slot, view: apply(_at(params, slot), view))(slots, views)


def by_slot(apply: Apply, params: Params, slots: chex.Array, views: Views, num_slots: int) -> chex.Array:
    """Values of every row from the parameters of its own slot.

    The same numbers as ``gathered`` up to the order of float32 additions. Reverse-mode derivatives reach
    ``params``; ``views`` are constants. A slot without rows gets a gradient of exactly zero. To be mapped over
    replicas and compiled as it is.

    Args:
      apply: ``(params of one slot, view) -> [O]``, unbatched and pure; it must not close over traced values.
      params: pytree of floats with leading axis ``num_slots``.
      slots: ``[R]`` int32; what lies outside ``[0, num_slots)`` is moved to its nearest end.
      views: pytree with leading axis R.
      num_slots: ``N``.

    Returns:
      ``[R, O]``.

    Raises:
      AssertionError: for leading axes that do not fit together.
    """
    slots, views = _checked(params, slots, views, num_slots)
    if num_slots == 1:
        return jax.vmap(apply, (None, 0))(_at(params, 0), views)
    if _copies(params, slots, num_slots):
        return gathered(apply, params, slots, views)
    return _dispatched(apply, sizes(slots.shape[0], num_slots), params, slots, views)


def by_slot_weighed(
    apply: Apply, params: Params, slots: chex.Array, views: Views, num_slots: int, weigh: Weigh, rows: Any
) -> tuple[chex.Array, Params]:
    """Values as from ``by_slot``, and the gradient of their sum with weights that depend on each row's own values.

    Where there is no table, each block is evaluated once for both, not once for each.

    Args:
      apply, params, slots, views, num_slots: those of ``by_slot``.
      weigh: ``(values [O], row) -> weights [O]``, pure, and 0 for a row of zeros; it must not close over traced values.
      rows: what it reads, a pytree with leading axis R.

    Returns:
      Values ``[R, O]`` and the gradient, like ``params``.
    """
    slots, views = _checked(params, slots, views, num_slots)
    size = sizes(slots.shape[0], num_slots)
    if num_slots == 1 or size.capacity or _copies(params, slots, num_slots):
        values, pullback = jax.vjp(lambda p: by_slot(apply, p, slots, views, num_slots), params)
        return values, pullback(jax.vmap(weigh)(values, rows))[0]
    _, blocks = plan(slots, num_slots, size)
    one = jax.eval_shape(apply, _at(params, 0), _at(views, 0))
    values, gradient = jnp.zeros((*slots.shape, *one.shape), one.dtype), jax.tree.map(jnp.zeros_like, params)
    assert blocks is not None  # there is no table
    run = _block_gradient(apply, size.together, weigh)
    return run(params, blocks.slot, blocks, views, (values, rows), gradient)


def _checked(params: Params, slots: chex.Array, views: Views, num_slots: int) -> tuple[chex.Array, Views]:
    chex.assert_rank(slots, 1)
    chex.assert_tree_shape_prefix(params, (num_slots,))
    chex.assert_tree_shape_prefix(views, slots.shape)
    views = jax.lax.stop_gradient(jax.tree.map(jnp.asarray, views))
    return jnp.clip(slots, 0, num_slots - 1).astype(jnp.int32), views


def _copies(params: Params, slots: chex.Array, num_slots: int) -> bool:
    """Whether a copy of the weights for each row is the cheapest."""
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params)) // num_slots
    return numbers <= SMALL or slots.shape[0] <= num_slots


def plan(slots: chex.Array, num_slots: int, size: Sizes) -> tuple[Places, Blocks | None]:
    """Gives every row its place.

    Args:
      slots: ``[R]`` int32 in ``[0, num_slots)``.
      num_slots: ``N``.
      size: sizes of the table and of the blocks.

    Returns:
      The table's places, and the blocks of the remaining rows; None if the table has a place for every row.
    """
    num_rows = slots.shape[0]
    if num_rows * num_slots < LARGEST_KEY:
        # Slot and row in one integer: sorting plain numbers is several times as fast as sorting pairs.
        order = jnp.sort(slots * num_rows + jnp.arange(num_rows, dtype=jnp.int32)) % num_rows
    else:
        order = jnp.argsort(slots, stable=True).astype(jnp.int32)
    counts = jnp.zeros(num_slots, jnp.int32).at[slots].add(1)
    starts = jnp.cumsum(counts, dtype=jnp.int32) - counts

    def places(slot: chex.Array, begin: chex.Array, length: int) -> Places:
        rank = begin[:, None] + jnp.arange(length, dtype=jnp.int32)
        start, count = starts[slot][:, None], counts[slot][:, None]
        source = _at(order, jnp.clip(start + jnp.minimum(rank, count - 1), 0, num_rows - 1))
        source = jnp.where(count > 0, source, num_rows)
        return Places(jnp.where(rank < count, source, num_rows), source)

    each = jnp.arange(num_slots, dtype=jnp.int32)
    table = places(each, jnp.zeros_like(each), size.capacity)
    if size.capacity >= num_rows:
        return table, None
    needed = (jnp.maximum(counts - size.capacity, 0) + size.block - 1) // size.block
    ends = jnp.cumsum(needed, dtype=jnp.int32)
    # Each slot with a block has more rows than the table holds, and at most one of its blocks is not full.
    most = (num_rows - size.capacity) // size.block + min(num_slots, num_rows // (size.capacity + 1))
    most = -(-most // size.together) * size.together
    index = jnp.arange(most, dtype=jnp.int32)
    slot = jnp.minimum(jnp.sum(ends <= index[:, None], axis=1, dtype=jnp.int32), num_slots - 1)
    begin = size.capacity + (index - (ends - needed)[slot]) * size.block
    return table, Blocks(slot, places(slot, begin, size.block), ends[-1])


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _dispatched(apply: Apply, size: Sizes, params: Params, slots: chex.Array, views: Views) -> chex.Array:
    return _forward(apply, size, params, slots, views, with_pullback=False)[0]


def _dispatched_forward(apply: Apply, size: Sizes, params: Params, slots: chex.Array, views: Views) -> Any:
    return _forward(apply, size, params, slots, views, with_pullback=True)


def _forward(
    apply: Apply, size: Sizes, params: Params, slots: chex.Array, views: Views, with_pullback: bool
) -> tuple[chex.Array, Any]:
    """Values ``[R, O]``, and what the backward pass needs: the table's activations are kept, the blocks' are not."""
    table, blocks = plan(slots, jax.tree.leaves(params)[0].shape[0], size)
    one = jax.eval_shape(apply, _at(params, 0), _at(views, 0))
    values, pullback = jnp.zeros((*slots.shape, *one.shape), one.dtype), None
    if size.capacity:
        every = partial(_grouped(apply), views=_taken(views, table.source))
        found, pullback = jax.vjp(every, params) if with_pullback else (every(params), None)
        values = _put(values, table.row, found)
    if blocks is not None:
        values = _block_values(apply, size.together)(params, blocks.slot, blocks, views, values)
    return values, (params, table.row, blocks, views, pullback)


def _dispatched_backward(apply: Apply, size: Sizes, kept: Any, cotangent: chex.Array) -> tuple[Params, None, None]:
    params, row, blocks, views, pullback = kept
    if size.capacity:
        (gradient,) = pullback(_taken(cotangent, row))
    else:
        gradient = jax.tree.map(jnp.zeros_like, params)
    if blocks is not None:
        of_rows = jnp.zeros_like(cotangent), cotangent
        run = _block_gradient(apply, size.together, lambda values, weights: weights)
        _, gradient = run(params, blocks.slot, blocks, views, of_rows, gradient)
    return gradient, None, None


_dispatched.defvjp(_dispatched_forward, _dispatched_backward)


def _grouped(apply: Apply) -> Callable[..., chex.Array]:
    """``(params, views) -> values`` with leading axes ``[M]`` and ``[M, C]``: ``C`` rows for each of ``M`` slots."""

    def every(params: Params, views: Views) -> chex.Array:
        return jax.vmap(jax.vmap(apply, (None, 0)))(params, views)

    return every


def _passes(owner: chex.Array, blocks: Blocks, together: int) -> tuple[Any, chex.Array]:
    """``(owner, slot, row, source)`` of the blocks of each pass, and the number of passes."""
    parts = (owner, blocks.slot, *blocks.places)
    return jax.tree.map(lambda x: x.reshape(-1, together, *x.shape[1:]), parts), -(-blocks.count // together)


def _block_values(apply: Apply, together: int) -> Callable[..., chex.Array]:
    """``(params, owner, blocks, views, values) -> values`` with the blocks' rows filled in.

    ``owner`` ``[M]`` says where in ``params`` each block's parameters are.
    """

    @custom_vmap
    def run(params: Params, owner: chex.Array, blocks: Blocks, views: Views, values: chex.Array) -> chex.Array:
        each, count = _passes(owner, blocks, together)

        def body(index: chex.Array, values: chex.Array) -> chex.Array:
            own, _, row, source = _at(each, index)
            return _put(values, row, _grouped(apply)(_at(params, own), _at(views, source)))

        return jax.lax.fori_loop(0, count, body, values)

    @run.def_vmap
    def replicas(size: int, batched: Any, *arguments: Any) -> tuple[chex.Array, bool]:
        return _split(size, run(*_merged(size, batched, *arguments))), True

    return run


def _block_gradient(apply: Apply, together: int, weigh: Weigh) -> Callable[..., tuple[chex.Array, Params]]:
    """``(params, owner, blocks, views, (values, rows), gradient) -> (values, gradient)``, with the blocks' share."""

    @custom_vmap
    def run(
        params: Params, owner: chex.Array, blocks: Blocks, views: Views, of_rows: Any, gradient: Params
    ) -> tuple[chex.Array, Params]:
        each, count = _passes(owner, blocks, together)
        values, rows = of_rows

        def body(index: chex.Array, both: tuple[chex.Array, Params]) -> tuple[chex.Array, Params]:
            own, slot, row, source = _at(each, index)
            every = partial(_grouped(apply), views=_at(views, source))
            found, pullback = jax.vjp(every, _at(params, own))
            (share,) = pullback(jax.vmap(jax.vmap(weigh))(found, _taken(rows, row)))
            return _put(both[0], row, found), jax.tree.map(lambda total, more: total.at[slot].add(more), both[1], share)

        return jax.lax.fori_loop(0, count, body, (values, gradient))

    @run.def_vmap
    def replicas(size: int, batched: Any, *arguments: Any) -> tuple[Any, Any]:
        found = _split(size, run(*_merged(size, batched, *arguments)))
        return found, jax.tree.map(lambda leaf: True, found)

    return run


def _merged(
    size: int, batched: Any, params: Params, owner: chex.Array, blocks: Blocks, views: Views, of_rows: Any, *total: Any
) -> tuple[Any, ...]:
    """Arguments of ``size`` replicas as those of one with more slots and rows, so that one loop runs over all blocks.

    Mapped as it stands, the loop would run for every replica until the last one is done, and on every pass would copy
    all that it carries to keep the others as they are.

    Args:
      size: number of replicas.
      batched: which of the arguments have a leading axis of replicas.
      params, owner, blocks, views: of the loops above.
      of_rows: pytree with leading axis R: values, and what goes into their weights.
      *total: the gradient, if there is one.
    """

    def spread(tree: Any, flags: Any) -> Any:
        return jax.tree.map(lambda x, b: x if b else jnp.broadcast_to(x, (size, *x.shape)), tree, flags)

    def flat(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

    def length(tree: Any) -> int:
        return jax.tree.leaves(tree)[0].shape[1]

    replica = jnp.arange(size, dtype=jnp.int32)[:, None]
    views, of_rows, total = spread((views, of_rows, total), (batched[3], batched[4], tuple(batched[5:])))
    owner, (slot, (row, source), count) = spread(owner, batched[1]), spread(blocks, batched[2])
    if any(jax.tree.leaves(batched[0])):
        params = spread(params, batched[0])
        owner, params = owner + replica * length(params), flat(params)
    if total:
        slot = slot + replica * length(total)
    rows = length(of_rows)
    shift = replica[..., None] * rows
    row = jnp.where(row < rows, row + shift, size * rows)
    # Blocks that there are come first.
    there = jnp.argsort(jnp.arange(slot.shape[1], dtype=jnp.int32) >= count[:, None], axis=None, stable=True)
    owner, slot, row, source = _at(flat((owner, slot, row, source + shift)), there)
    return (
        params,
        owner,
        Blocks(slot, Places(row, source), jnp.sum(count, dtype=jnp.int32)),
        *flat((views, of_rows, *total)),
    )


def _split(size: int, tree: Any) -> Any:
    return jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), tree)


def _at(tree: Any, index: chex.Array | int) -> Any:
    """Entries of the leading axis; the caller knows that they exist."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).at[index].get(mode="promise_in_bounds"), tree)


def _put(values: chex.Array, row: chex.Array, found: chex.Array) -> chex.Array:
    """Writes what was found on each place to the place's row; places without one write nothing."""
    found = found.reshape(-1, *values.shape[1:])
    return values.at[row.reshape(-1)].set(found, mode="drop")


def _taken(tree: Any, row: chex.Array) -> Any:
    """Entries of the leading axis; zeros for places without a row."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).at[row].get(mode="fill", fill_value=0), tree)
