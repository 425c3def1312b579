"""Words of bits, and the numbers that are given to hashes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.envs.cpu_sort import numbering, team, words
from tests.helpers import examples

WORD = st.integers(0, 2**32 - 1)


@examples(50)
@given(st.lists(WORD, min_size=1, max_size=4), st.integers(1, 32))
def test_words_in_plain_integers(listed: list[int], count: int) -> None:
    arrays = [jnp.uint32(word) for word in listed]
    together = 0
    for word in listed:
        together |= word
    assert int(words.union(arrays)) == together
    assert words.spread(arrays[0], count).tolist() == [bool(listed[0] >> i & 1) for i in range(count)]
    for condition in (False, True):
        kept = words.given(jnp.asarray(condition), listed[0])
        assert kept.dtype == jnp.uint32 and int(kept) == (listed[0] if condition else 0)


def test_once_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    many = jnp.asarray(np.append(rng.integers(0, 2**32, 200, np.uint32), np.uint32([0, 1, 0xFFFF, 0x10000, 2**32 - 1])))
    for batch in (many, many % 2 == 1):
        out = jax.jit(jax.vmap(words.once))(batch)
        assert out.dtype == batch.dtype
        np.testing.assert_array_equal(out, batch)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_table_of_runs_spells_the_options(n: int) -> None:
    """Every agent, last comparison and option, those beyond an agent's last one among them."""
    tables = team.option_tables(n)
    agents, pairs, options, _ = tables.program.shape
    at = np.indices((agents, pairs, options)).reshape(3, -1)

    def decode(agent: jax.Array, pair: jax.Array, option: jax.Array) -> team.Run:
        return team.chosen_run(team.begin(n)._replace(agent=agent, pair=pair), option)

    run = jax.tree.map(lambda leaf: np.asarray(leaf).astype(int), jax.jit(jax.vmap(decode))(*map(jnp.asarray, at)))
    for i, (agent, pair, option) in enumerate(at.T):
        first, second = tables.program[agent, pair, option]
        assert (run.op[i], run.x[i], run.y[i]) == tuple(tables.instruction[first]) and run.first[i] == first
        if second == team.NOTHING:
            assert run.z[i] > n
        else:
            assert (run.op[i], run.y[i], run.z[i]) == tuple(tables.instruction[second]) and run.second[i] == second
            assert run.z[i] not in (run.x[i], run.y[i]), "both moves may read what was there before the first"
        assert run.receiver[i] == tables.receiver[agent, option]
        assert run.pair[i] == (tables.compared[option] if agent == team.CMP else pair)


def place(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    first, fullest = numbering.buckets(keys)
    one = jax.vmap(lambda key: numbering.place_of(key, jnp.asarray(keys), jnp.asarray(first), fullest))
    return np.asarray(jax.jit(one)(jnp.asarray(wanted)))


@pytest.mark.parametrize("case", ["even", "crowded", "edges", "one"])
def test_places_are_those_of_a_binary_search(case: str) -> None:
    rng = np.random.default_rng(1)
    keys = {
        "even": rng.integers(0, 2**32, 3000, np.uint32),
        "crowded": np.append(rng.integers(0, 2**32, 50, np.uint32), 7 + 3 * np.arange(9, dtype=np.uint32)),
        "edges": np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.uint32),
        "one": np.array([5], np.uint32),
    }[case]
    keys = np.unique(keys)
    near = np.concatenate([keys, keys + np.uint32(1), keys - np.uint32(1), np.array([0, 2**32 - 1], np.uint32)])
    places = {key: index for index, key in enumerate(keys.tolist())}
    expected = [places.get(key, len(keys)) for key in near.tolist()]
    np.testing.assert_array_equal(place(keys, near), expected)
