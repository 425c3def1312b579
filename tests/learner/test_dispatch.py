"""Rows dispatched to their slots: the numbers of a plain loop for every assignment, and nobody else's rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.learner import dispatch, networks
from icsmdp_jax.learner.dispatch import Sizes, by_slot, by_slot_weighed, gathered, plan
from tests.helpers import examples
from tests.learner.courier import gaussian

SEEN, HIDDEN, OPTIONS = 5, 40, 3  # 363 numbers per slot, enough not to be copied for each row
CLOSE = 1e-5  # float32 rounding of sums of a few hundred terms of order 1; a wrong row or slot is off by 0.1 and more
SHAPES = [(1, 9), (5, 3), (7, 64)]  # N, R
PATTERNS = ("uniform", "one", "last", "few", "skewed", "all but one")


def net(params: Any, view: chex.Array) -> chex.Array:
    """One hidden layer, written out."""
    return jax.nn.relu(view @ params["w"] + params["b"]) @ params["v"]


def draw_params(num_slots: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    shapes = {"w": (SEEN, HIDDEN), "b": (HIDDEN,), "v": (HIDDEN, OPTIONS)}
    return {name: rng.normal(size=(num_slots, *shape)).astype(np.float32) / 2 for name, shape in shapes.items()}


def draw_slots(num_slots: int, num_rows: int, pattern: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if pattern == "one":
        slots = np.full(num_rows, rng.integers(num_slots))
    elif pattern == "last":
        slots = np.full(num_rows, num_slots - 1)
    elif pattern == "few":
        slots = rng.choice(rng.integers(num_slots, size=2), size=num_rows)
    elif pattern == "skewed":
        share = 1.0 / np.arange(1, num_slots + 1) ** 2
        slots = rng.choice(rng.permutation(num_slots), size=num_rows, p=share / share.sum())
    elif pattern == "all but one":
        slots = rng.integers(num_slots, size=num_rows)
        slots[slots == num_slots // 2] = 0
    else:
        slots = rng.integers(num_slots, size=num_rows)
    return slots.astype(np.int32)


def draw_rows(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Views ``[R, SEEN]`` and cotangents ``[R, OPTIONS]``."""
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(num_rows, width)).astype(np.float32) for width in (SEEN, OPTIONS))  # type: ignore[return-value]


def loop(params: Any, slots: np.ndarray, views: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, Any]:
    """Values and gradients row by row in float64, the derivative by hand."""
    values = np.zeros(cotangent.shape)
    gradient = {name: np.zeros(leaf.shape) for name, leaf in params.items()}
    for row, slot in enumerate(slots):
        own = {name: leaf[slot].astype(np.float64) for name, leaf in params.items()}
        before = views[row] @ own["w"] + own["b"]
        unit = np.maximum(before, 0.0)
        values[row] = unit @ own["v"]
        back = (own["v"] @ cotangent[row]) * (before > 0)
        gradient["v"][slot] += np.outer(unit, cotangent[row])
        gradient["w"][slot] += np.outer(views[row], back)
        gradient["b"][slot] += back
    return values, gradient


def values_and_gradient(way: Callable[..., Any], params: Any, slots: Any, views: Any, cotangent: Any) -> Any:
    values, pull = jax.vjp(lambda own: way(own, slots, views), params)
    return values, pull(cotangent)[0]


@cache
def dispatched(num_slots: int) -> Callable[..., Any]:
    def way(params: Any, slots: Any, views: Any) -> chex.Array:
        return by_slot(net, params, slots, views, num_slots)

    return jax.jit(lambda *arguments: values_and_gradient(way, *arguments))


@cache
def copied() -> Callable[..., Any]:
    def way(params: Any, slots: Any, views: Any) -> chex.Array:
        return gathered(net, params, slots, views)

    return jax.jit(lambda *arguments: values_and_gradient(way, *arguments))


def close(found: Any, expected: Any) -> None:
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=CLOSE * max(1.0, np.abs(want).max()))


@examples(50)
@given(st.sampled_from(SHAPES), st.sampled_from(PATTERNS), st.integers(0, 2**31))
def test_as_a_plain_loop(shape, pattern, seed):
    """Values, and the gradients of all slots; what no row has touched is exactly zero."""
    num_slots, num_rows = shape
    params, slots = draw_params(num_slots, seed), draw_slots(num_slots, num_rows, pattern, seed)
    views, cotangent = draw_rows(num_rows, seed)
    values, gradient = dispatched(num_slots)(params, slots, views, cotangent)
    close((values, gradient), loop(params, slots, views, cotangent))
    close((values, gradient), copied()(params, slots, views, cotangent))
    idle = ~np.isin(np.arange(num_slots), slots)
    for leaf in jax.tree.leaves(gradient):
        assert not np.any(np.asarray(leaf)[idle])
        assert np.all(np.any(np.asarray(leaf).reshape(num_slots, -1)[~idle], axis=1))


@examples(50)
@given(
    st.sampled_from([(1, 1), (2, 3), (4, 8), (2, 3, 4), (0, 4, 3)]), st.sampled_from(PATTERNS), st.integers(0, 2**31)
)
def test_every_row_has_one_place_in_its_own_slot(size, pattern, seed):
    """For sizes so small that the blocks are many, and up to the largest number of them."""
    num_slots, num_rows = 6, 41
    slots = draw_slots(num_slots, num_rows, pattern, seed)
    table, blocks = small_plan(Sizes(*size))(slots)
    assert blocks is not None and blocks.count <= blocks.slot.shape[0]
    row = np.concatenate([table.row, blocks.places.row[: blocks.count].reshape(-1)], axis=None)
    source = np.concatenate([table.source, blocks.places.source[: blocks.count].reshape(-1)], axis=None)
    owner = np.concatenate([np.repeat(np.arange(num_slots), size[0]), np.repeat(blocks.slot[: blocks.count], size[1])])
    there = row < num_rows
    assert sorted(row[there]) == list(range(num_rows))
    assert np.array_equal(source[there], row[there])
    assert np.array_equal(slots[row[there]], owner[there])
    idle = ~np.isin(owner, slots)
    assert np.array_equal(slots[source[~idle]], owner[~idle])
    assert np.all(source[idle] == num_rows) and not np.any(idle & there)


@cache
def small_plan(size: Sizes) -> Callable[[np.ndarray], Any]:
    compiled = jax.jit(lambda slots: plan(slots, 6, size))
    return lambda slots: jax.device_get(compiled(slots))


def test_the_worst_case_of_blocks_is_reached():
    """Slots that overflow by one row each take a block each: the bound on their number has nothing to spare."""
    slots = np.repeat(np.arange(6), 3).astype(np.int32)
    _, blocks = jax.jit(lambda rows: plan(rows, 6, Sizes(2, 17)))(slots)
    assert blocks is not None and int(blocks.count) == blocks.slot.shape[0] == 6


def test_keys_too_large_for_an_integer(monkeypatch):
    slots = draw_slots(6, 41, "uniform", 0)
    usual = small_plan(Sizes(2, 3))(slots)
    monkeypatch.setattr(dispatch, "LARGEST_KEY", 0)
    chex.assert_trees_all_equal(usual, jax.device_get(jax.jit(lambda rows: plan(rows, 6, Sizes(2, 3)))(slots)))


@pytest.mark.parametrize("pattern", ["uniform", "one"])
def test_nobody_elses_rows(pattern):
    """Not-a-number in one agent's interfaces and weights leaves every bit of the others as it was."""
    num_slots, num_rows, broken = 7, 64, 3
    params, slots = draw_params(num_slots, 1), draw_slots(num_slots, num_rows, pattern, 1)
    slots[:3] = broken
    views, cotangent = draw_rows(num_rows, 1)
    others = np.arange(num_slots) != broken
    healthy = dispatched(num_slots)(params, slots, views, cotangent)
    views = np.where((slots == broken)[:, None], np.float32(np.nan), views)
    params = {name: leaf.copy() for name, leaf in params.items()}
    params["w"][broken] = np.nan
    values, gradient = dispatched(num_slots)(params, slots, views, cotangent)
    assert np.array_equal(values[slots != broken], healthy[0][slots != broken])
    assert np.all(np.isnan(values[slots == broken]))
    for leaf, before in zip(jax.tree.leaves(gradient), jax.tree.leaves(healthy[1]), strict=True):
        assert np.array_equal(leaf[others], before[others])


@pytest.fixture
def no_table(monkeypatch):
    """The way of a CPU with many rows, at a size that shows all of it: some passes are full and some are not."""
    for name, value in {"MANY": 8, "WIDE": 4, "PASS": 12}.items():
        monkeypatch.setattr(dispatch, name, value)
    assert dispatch.sizes(64, 7) == Sizes(0, 4, 3)
    return jax.jit(lambda *arguments: values_and_gradient(lambda p, s, v: by_slot(net, p, s, v, 7), *arguments))


def test_without_a_table(no_table):
    """As a plain loop, alone and mapped over replicas; idle slots at zero; not-a-number stays with its slot."""
    params, broken = draw_params(7, 6), 2
    many = [(draw_slots(7, 64, pattern, 6), *draw_rows(64, seed)) for seed, pattern in enumerate(PATTERNS)]
    mapped = jax.jit(jax.vmap(no_table, in_axes=(None, 0, 0, 0)))(
        params, *(np.stack(x) for x in zip(*many, strict=True))
    )
    for i, one in enumerate(many):
        values, gradient = no_table(params, *one)
        close((values, gradient), loop(params, *one))
        close(jax.tree.map(lambda leaf, i=i: leaf[i], mapped), loop(params, *one))
        for leaf in jax.tree.leaves(gradient):
            assert not np.any(np.asarray(leaf)[~np.isin(np.arange(7), one[0])])
        ill = {**params, "w": np.where(np.arange(7)[:, None, None] == broken, np.float32(np.nan), params["w"])}
        others, (found, ascent) = np.arange(7) != broken, no_table(ill, *one)
        assert np.array_equal(np.isnan(found).any(axis=1), one[0] == broken)
        assert np.array_equal(found[one[0] != broken], values[one[0] != broken])
        for leaf, healthy in zip(jax.tree.leaves(ascent), jax.tree.leaves(gradient), strict=True):
            assert np.array_equal(leaf[others], healthy[others])


def towards(values: chex.Array, row: Any) -> chex.Array:
    """Weights of a row ``(aim, there)`` from its own values: the gradient of half the squared distance, uphill."""
    aim, there = row
    return jnp.where(there, aim - values, 0.0)


@pytest.mark.parametrize("way", ["table", "no table", "copies", "one slot"])
def test_weights_from_the_rows_own_values(way, request):
    """As a plain loop with the weights of its own values, alone and mapped; some rows count for nothing."""
    if way == "no table":
        request.getfixturevalue("no_table")
    num_slots = {"copies": 64, "one slot": 1}.get(way, 7)
    params, many = draw_params(num_slots, 8), []
    for seed, pattern in enumerate(PATTERNS):
        there = np.random.default_rng(seed).random(64) < 0.8
        many.append((draw_slots(num_slots, 64, pattern, 8), *draw_rows(64, seed), there))

    def found(params: Any, slots: Any, views: Any, aim: Any, there: Any) -> Any:
        return by_slot_weighed(net, params, slots, views, num_slots, towards, (aim, there))

    rows = [np.stack(part) for part in zip(*many, strict=True)]
    mapped = jax.jit(jax.vmap(found, in_axes=(None, 0, 0, 0, 0)))(params, *rows)
    for i, (slots, views, aim, there) in enumerate(many):
        values, _ = loop(params, slots, views, aim)
        expected = loop(params, slots, views, np.where(there[:, None], aim - values, 0.0))
        close(jax.jit(found)(params, slots, views, aim, there), expected)
        close(jax.tree.map(lambda leaf, i=i: leaf[i], mapped), expected)


AXES = {"all": (0, 0, 0, 0), "rows": (None, 0, 0, 0), "params": (0, None, None, None), "slots": (None, 0, None, None)}


@pytest.mark.parametrize("mapped", AXES)
def test_mapped_over_replicas(mapped):
    """Replicas of very different skew, one of them without any row beyond the table."""
    num_slots, num_rows, replicas = 7, 64, 4
    many = [
        (draw_params(num_slots, seed), draw_slots(num_slots, num_rows, pattern, seed), *draw_rows(num_rows, seed))
        for seed, pattern in enumerate(("uniform", "one", "skewed", "even"))
    ]
    many[3][1][:] = np.arange(num_rows) % num_slots
    assert dispatch.sizes(num_rows, num_slots).capacity < np.bincount(many[2][1]).max()
    axes = AXES[mapped]
    single = [many[i if axis == 0 else 0][k] for i in range(replicas) for k, axis in enumerate(axes)]
    each = [tuple(single[4 * i : 4 * i + 4]) for i in range(replicas)]
    stacked = [
        jax.tree.map(lambda *leaves: np.stack(leaves), *(one[k] for one in each)) if axis == 0 else each[0][k]
        for k, axis in enumerate(axes)
    ]
    found = jax.jit(jax.vmap(dispatched(num_slots), in_axes=axes))(*stacked)
    for i, one in enumerate(each):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], found), loop(*one))


def test_mapped_twice():
    """Parameters over the one axis, slots over the other."""
    num_slots, num_rows = 7, 64
    params = [draw_params(num_slots, seed) for seed in range(2)]
    slots = [draw_slots(num_slots, num_rows, pattern, 5) for pattern in ("uniform", "one", "few")]
    views, cotangent = draw_rows(num_rows, 5)
    inner = jax.vmap(dispatched(num_slots), in_axes=(None, 0, None, None))
    outer = jax.jit(jax.vmap(inner, in_axes=(0, None, None, None)))
    found = outer(jax.tree.map(lambda *leaves: np.stack(leaves), *params), np.stack(slots), views, cotangent)
    for i, j in np.ndindex(2, 3):
        close(jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], found), loop(params[i], slots[j], views, cotangent))


def test_derivative_of_a_mapped_function():
    """The other order: one set of parameters, its gradient summed over replicas."""
    num_slots, num_rows = 7, 64
    params, (views, cotangent) = draw_params(num_slots, 2), draw_rows(num_rows, 2)
    slots = np.stack([draw_slots(num_slots, num_rows, pattern, 2) for pattern in ("skewed", "one", "uniform")])

    @jax.jit
    def gradient(own: Any) -> Any:
        every = jax.vmap(lambda s: by_slot(net, own, s, views, num_slots))
        return jax.vjp(lambda own: jax.vmap(lambda s: by_slot(net, own, s, views, num_slots))(slots), own)[1](
            jnp.broadcast_to(cotangent, every(slots).shape)
        )[0]

    parts = [loop(params, s, views, cotangent)[1] for s in slots]
    close(gradient(params), jax.tree.map(lambda *leaves: sum(leaves), *parts))


def test_views_may_be_any_tree():
    """Indices into a table, and masks, beside vectors; their owner's parameters decide which row of it they read."""
    num_slots, num_rows = 4, 60
    rng = np.random.default_rng(0)
    params = {"table": rng.normal(size=(num_slots, 9, 20, OPTIONS)).astype(np.float32), "scale": np.ones(num_slots)}
    views = {
        "index": rng.integers(9, size=num_rows).astype(np.int32),
        "rest": (rng.normal(size=(num_rows, 20)).astype(np.float32), rng.random((num_rows, OPTIONS)) < 0.7),
    }
    slots = draw_slots(num_slots, num_rows, "skewed", 0)

    def apply(own: Any, view: Any) -> chex.Array:
        weights, mask = view["rest"]
        return own["scale"] * jnp.where(mask, weights @ own["table"][view["index"]], 0.0)

    found = jax.jit(lambda p, s, v: by_slot(apply, p, s, v, num_slots))(params, slots, views)
    weights, mask = views["rest"]
    expected = [
        np.where(mask[r], weights[r] @ params["table"][slots[r], views["index"][r]], 0.0) for r in range(num_rows)
    ]
    np.testing.assert_allclose(found, expected, atol=CLOSE)


def test_networks_of_the_learner():
    rng = np.random.default_rng(3)
    values = networks.mlp(5, 3, 24, 2)
    data, slots = rng.normal(size=(70, 8)).astype(np.float32), draw_slots(5, 70, "skewed", 3)
    params = gaussian(values, 0, data)
    cotangent = rng.normal(size=(70, 3)).astype(np.float32)
    ways = (lambda p, s, v: by_slot(values.apply, p, s, v, 5), lambda p, s, v: gathered(values.apply, p, s, v))
    found, expected = (
        jax.jit(lambda *a, w=way: values_and_gradient(w, *a))(params, slots, data, cotangent) for way in ways
    )
    close(found, expected)


@pytest.mark.parametrize("num_rows", [64, 5])
def test_slots_outside_are_moved_to_the_ends(num_rows):
    params, rows = draw_params(7, 4), draw_rows(num_rows, 4)
    slots = np.arange(num_rows, dtype=np.int32) * 5 % 11 - 2
    found, inside = (dispatched(7)(params, s, *rows) for s in (slots, np.clip(slots, 0, 6)))
    chex.assert_trees_all_equal(found, inside)


@pytest.mark.parametrize("num_rows", [64, 5])
def test_views_are_constants(num_rows):
    params, (views, _) = draw_params(7, 4), draw_rows(num_rows, 4)
    slots = draw_slots(7, num_rows, "skewed", 4)
    assert not np.any(jax.jit(jax.grad(lambda v: jnp.sum(by_slot(net, params, slots, v, 7))))(views))


def test_rows_are_copied_only_where_that_is_cheap(monkeypatch):
    """Tables and handfuls of rows; a network with many rows is dispatched."""

    def fail(*arguments: Any) -> Any:
        raise RuntimeError("not this way")

    def traced(*arguments: Any) -> Any:
        return jax.eval_shape(lambda: by_slot(*arguments))

    params, (views, _) = draw_params(7, 4), draw_rows(64, 4)
    slots = draw_slots(7, 64, "uniform", 4)
    table, entries = np.zeros((3000, 4), np.float32), np.arange(4000, dtype=np.int32) % 3000
    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "_dispatched", fail)
        traced(net, params, slots[:7], views[:7], 7)
        traced(lambda own, view: own, table, entries, entries, 3000)
        with pytest.raises(RuntimeError, match="not this way"):
            traced(net, params, slots, views, 7)
    monkeypatch.setattr(dispatch, "gathered", fail)
    traced(net, params, slots, views, 7)
    traced(net, draw_params(1, 4), slots, views, 1)
    with pytest.raises(RuntimeError, match="not this way"):
        traced(net, params, slots[:7], views[:7], 7)


def test_one_trace_serves_all_rows():
    traces = 0

    def counted(own: Any, view: chex.Array) -> chex.Array:
        nonlocal traces
        traces += 1
        return net(own, view)

    way = jax.jit(jax.vmap(lambda p, s, v: by_slot(counted, p, s, v, 7), in_axes=(None, 0, None)))
    params, (views, _) = draw_params(7, 4), draw_rows(64, 4)
    slots = [np.stack([draw_slots(7, 64, pattern, seed) for seed in range(3)]) for pattern in PATTERNS]
    way(params, slots[0], views)
    first = traces
    for s in slots[1:]:
        way(params, s, views)
    assert traces == first > 0


def test_shapes_that_do_not_fit_are_refused():
    params, (views, _) = draw_params(7, 4), draw_rows(64, 4)
    slots = draw_slots(7, 64, "uniform", 4)
    with pytest.raises(AssertionError):
        by_slot(net, params, slots, views, 8)
    with pytest.raises(AssertionError):
        by_slot(net, params, slots[1:], views, 7)
    with pytest.raises(AssertionError):
        by_slot(net, params, slots[None], views[None], 7)
