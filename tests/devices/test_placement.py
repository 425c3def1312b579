"""Cells and replicas on devices: the best grid, the same numbers in batches and with padding, memory as told."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.devices import placement
from icsmdp_jax.devices.placement import CELLS, EVERYWHERE, PAIRS, REPLICAS, Grid, compiled, device_grid, over_pairs

COUNTS = st.integers(1, 40)


@given(COUNTS, COUNTS, st.integers(1, 24))
def test_no_other_grid_leaves_fewer_places_empty(cells, replicas, devices):
    found = device_grid(cells, replicas, devices)
    assert found.rows * found.columns == devices
    rows, columns = found.block
    assert (
        rows * found.rows == found.padded_cells >= cells
        and columns * found.columns == found.padded_replicas >= replicas
    )
    others = [(a, b) for a, b in itertools.product(range(1, devices + 1), repeat=2) if a * b == devices]
    places = [-(-cells // a) * a * (-(-replicas // b) * b) for a, b in others]
    assert found.padded_cells * found.padded_replicas == min(places)


def test_replicas_come_first_and_one_cell_is_never_divided():
    grid = device_grid(8, 64, 8)
    assert (grid.rows, grid.columns) == (1, 8)
    assert all(device_grid(1, replicas, 8).rows == 1 for replicas in range(1, 20))
    assert (device_grid(8, 1, 8).rows, device_grid(4, 2, 8).rows) == (8, 4)


@pytest.mark.parametrize("wrong", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-3, 1, 1)])
def test_counts_are_checked(wrong):
    with pytest.raises(ValueError, match=r"(cells|replicas|devices) = -?\d+: expected 1 or more"):
        device_grid(*wrong)


def pair(key, cell, both, shared):
    """Something that depends on every argument, in operations that are rounded once."""
    return {"noise": cell["scale"] * jax.random.uniform(key, (3,)), "sum": both + shared + cell["scale"]}


def arguments(cells: int, replicas: int):
    keys = jax.random.split(jax.random.key(0), replicas)
    cell = {"scale": np.arange(1.0, cells + 1, dtype=np.float32)}
    both = np.arange(cells * replicas, dtype=np.float32).reshape(cells, replicas)
    return keys, cell, both, np.float32(0.5)


one_pair = jax.jit(pair)
SPECS = (REPLICAS, CELLS, PAIRS, EVERYWHERE)


def looped(cells: int, replicas: int):
    """The same pair by pair."""
    keys, cell, both, shared = arguments(cells, replicas)
    at = [keys[r] for r in range(replicas)]
    rows = [
        [one_pair(at[r], {"scale": cell["scale"][c]}, both[c, r], shared) for r in range(replicas)]
        for c in range(cells)
    ]
    return {name: np.array([[np.asarray(at[name]) for at in row] for row in rows]) for name in ("noise", "sum")}


@pytest.mark.parametrize(("cells", "replicas"), [(1, 4), (3, 2)])
def test_a_program_is_the_loop_over_pairs(cells, replicas):
    given_arguments = arguments(cells, replicas)
    program = compiled(pair, device_grid(cells, replicas), SPECS, given_arguments)
    found, wanted = program(*given_arguments), looped(cells, replicas)
    assert program.batch == replicas
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.parametrize("share", [0.0, 0.45, 1.0])
def test_batches_change_no_bit(share):
    given_arguments = arguments(2, 12)
    whole = compiled(pair, device_grid(2, 12), SPECS, given_arguments)
    memory = max(1, int(share * placement._bytes(whole.call)))
    program = compiled(pair, device_grid(2, 12), SPECS, given_arguments, memory=memory)
    assert program.batch == {0.0: 1, 0.45: 4, 1.0: 12}[share]
    found, wanted = program(*given_arguments), looped(2, 12)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


@given(st.integers(1, 300), st.integers(-5, 400))
def test_the_largest_divisor_is_found(count, limit):
    found = placement.largest_divisor(count, limit)
    assert count % found == 0 and found <= max(limit, 1)
    assert all(count % other for other in range(found + 1, min(limit, count) + 1))


def test_smaller_batches_take_less_memory():
    def wide(key, cell):
        words = jax.random.normal(key, (50_000,))
        return jnp.sort(words)[:: 50_000 // 4] * cell

    keys, cell = jax.random.split(jax.random.key(1), 32), np.ones(1, np.float32)
    taken = []
    for memory in (10**10, 4_000_000):
        program = compiled(wide, device_grid(1, 32), (REPLICAS, CELLS), (keys, cell), memory=memory)
        taken.append(program.call.memory_analysis().temp_size_in_bytes)
    assert taken[1] < taken[0] / 4


def test_without_cells_there_is_one():
    keys = jax.random.split(jax.random.key(2), 5)
    program = compiled(
        lambda key, shift: jax.random.uniform(key) + shift,
        device_grid(1, 5),
        (REPLICAS, EVERYWHERE),
        (keys, np.ones(())),
    )
    found = program(keys, np.ones(()))
    np.testing.assert_array_equal(found, np.asarray(jax.vmap(jax.random.uniform)(keys) + 1.0)[None])
    with pytest.raises(ValueError, match="expected an argument with an axis of replicas"):
        over_pairs(lambda cell: cell, (CELLS,))


def test_padding_repeats_the_last_and_is_dropped():
    grid = Grid(3, 5, 2, 4)
    assert (grid.padded_cells, grid.padded_replicas, grid.block) == (4, 8, (2, 2))
    keys = jax.random.split(jax.random.key(3), 5)
    padded = placement._padded(keys, 0, 8)
    same = jax.random.key_data(padded) == jax.random.key_data(keys)[np.minimum(np.arange(8), 4)]
    assert bool(same.all())
    whole = np.arange(32.0).reshape(4, 8)
    np.testing.assert_array_equal(grid.fetch({"a": whole})["a"], whole[:3, :5])


def test_memory_is_what_the_environment_says(monkeypatch):
    monkeypatch.setenv(placement.MEMORY_VARIABLE, "12345")
    assert placement.device_memory() == 12345
    for wrong in ("", "0", "1e9", "-5", "much"):
        monkeypatch.setenv(placement.MEMORY_VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"{placement.MEMORY_VARIABLE}={wrong}: expected a whole number"):
            placement.device_memory()
    monkeypatch.delenv(placement.MEMORY_VARIABLE)
    assert 10**7 < placement.device_memory() < 10**14
