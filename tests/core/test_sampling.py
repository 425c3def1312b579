"""Alias tables and words: probabilities reconstructed from the tables, uint32 arithmetic against big integers."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from icsmdp_jax.core.sampling import (
    AliasTable,
    alias_table,
    draw,
    draw_at,
    random_words,
    split_word,
    uniform_symmetric,
)
from tests.helpers import GOLDEN_NAMES, examples, golden, same_bits

WORD = 2**32
many = examples(100)


@st.composite
def laws(draw: st.DrawFn) -> np.ndarray:
    """Laws ``[n]`` with zeros, ties, near-certain and very rare outcomes."""
    count = draw(st.integers(1, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["flat", "dirichlet", "skewed", "certain", "ties", "rare"]))
    if kind == "flat":
        law = np.ones(count)
    elif kind == "dirichlet":
        law = rng.dirichlet(np.ones(count))
    elif kind == "skewed":
        law = np.exp(-6.0 * rng.exponential(size=count))
    elif kind == "certain":
        law = np.eye(count)[rng.integers(count)]
    elif kind == "ties":
        law = rng.integers(0, 4, size=count).astype(float)
        law[rng.integers(count)] = 4.0
    else:
        law = np.full(count, 1e-12)
        law[rng.integers(count)] = 1.0
    if draw(st.booleans()):
        keep = rng.random(count) < 0.5
        keep[law.argmax()] = True
        law = law * keep
    return law / law.sum()


def cell_probabilities(table: AliasTable) -> dict[int, Fraction]:
    """Outcome probabilities of one table read as Walker's method means it: equal cells, each cut at its threshold."""
    count = len(table.threshold)
    out: dict[int, Fraction] = defaultdict(Fraction)
    columns = (table.threshold, table.lower, table.upper)
    for cut, lower, upper in zip(*(np.asarray(column).tolist() for column in columns), strict=True):
        # A cell that belongs to one outcome has both codes equal: the cut is then of no consequence.
        out[lower] += Fraction(cut, WORD * count)
        out[upper] += Fraction(WORD - cut, WORD * count)
    return out


def word_counts(table: AliasTable) -> dict[int, int]:
    """How many of the 2^32 words lead to each outcome, by exact counting of ``word * n`` in each stretch."""
    count = len(table.threshold)
    out: dict[int, int] = defaultdict(int)

    def below(limit: int) -> int:
        return -(-limit // count)  # number of words w >= 0 with w * count < limit

    for cell, (cut, lower, upper) in enumerate(
        zip(*(np.asarray(x).tolist() for x in (table.threshold, table.lower, table.upper)), strict=True)
    ):
        start = cell * WORD
        out[lower] += below(start + cut) - below(start)
        out[upper] += below(start + WORD) - below(start + cut)
    return out


@many
@given(laws())
def test_tables_reproduce_the_law(law: np.ndarray) -> None:
    count = len(law)
    table = alias_table(law)
    assert table.threshold.dtype == np.uint32 and table.lower.dtype == table.upper.dtype == np.int32
    cells, words = cell_probabilities(table), word_counts(table)
    assert sum(cells.values()) == 1 and sum(words.values()) == WORD
    for outcome in range(count):
        wanted = Fraction(float(law[outcome]))
        assert abs(cells[outcome] - wanted) <= Fraction(1, 2**30)
        assert abs(Fraction(words[outcome], WORD) - wanted) <= Fraction(count, WORD) + Fraction(1, 2**30)
        if law[outcome] == 0:
            assert words[outcome] == 0, "an impossible outcome can be drawn"


drawn = jax.jit(jax.vmap(draw, in_axes=(0, None)))
drawn_at = jax.jit(jax.vmap(draw_at, in_axes=(0, None, None)))


@pytest.mark.parametrize("count", [1, 7, 120])
def test_every_word_is_read_as_the_table_says(count: int) -> None:
    """``draw`` against big-integer arithmetic, over random words and the edges of cells and thresholds."""
    rng = np.random.default_rng(count)
    law = rng.dirichlet(np.full(count, 0.3))
    codes = rng.permutation(count).astype(np.int32) + 5
    table = alias_table(law, codes)
    edges = [(cell * WORD + delta) // count for cell in range(count + 1) for delta in (-1, 0, 1)]
    cuts = [(c * WORD + int(t) + d) // count for c, t in enumerate(table.threshold) for d in (-1, 0, 1)]
    words = [w for w in edges + cuts if 0 <= w < WORD] + rng.integers(WORD, size=50).tolist() + [0, WORD - 1]
    wanted = []
    for word in words:
        cell, position = divmod(word * count, WORD)
        row = table.lower if position < int(table.threshold[cell]) else table.upper
        wanted.append(int(row[cell]))
    found = drawn(np.array(words, np.uint32), table)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == jnp.int32


def test_batched_tables_are_the_tables_of_their_rows() -> None:
    rng = np.random.default_rng(3)
    law = rng.dirichlet(np.full(9, 0.3), size=(4, 5))
    outcome = rng.integers(100, size=law.shape)
    table = alias_table(law, outcome)
    words = rng.integers(WORD, size=64).astype(np.uint32)
    for s, o in np.ndindex(4, 5):
        alone = alias_table(law[s, o], outcome[s, o])
        assert all(same_bits(leaf[s, o], one) for leaf, one in zip(table, alone, strict=True))
        rows = (np.int32(s), np.int32(o))
        np.testing.assert_array_equal(drawn_at(words, table, rows), drawn(words, alone))


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_tables_of_golden_models(name: str) -> None:
    model = golden(name)
    for law in (model.duration, model.transition, model.probability):
        if law is None:
            continue
        table = alias_table(law)
        for row in np.ndindex(law.shape[:2]):
            cells = cell_probabilities(AliasTable(*(leaf[row] for leaf in table)))
            if law[row].sum() == 0:
                continue
            found = np.array([float(cells[x]) for x in range(law.shape[2])])
            np.testing.assert_allclose(found, law[row], rtol=0, atol=2.0**-30)


@pytest.mark.parametrize("kind", ["skewed", "flat", "few"])
def test_laws_of_very_many_outcomes(kind: str) -> None:
    """300 000 outcomes, which would take hours if every pair of a cell and a donor were searched for."""
    rng = np.random.default_rng(0)
    count = 300_000
    law = {"skewed": np.exp(3 * rng.normal(size=count)), "flat": np.ones(count), "few": rng.random(count) < 1e-3}[kind]
    law = law / law.sum()
    table = alias_table(law)
    lower, upper = np.asarray(table.lower), np.asarray(table.upper)
    share = np.asarray(table.threshold) / WORD
    found = np.bincount(lower, share, count) + np.bincount(upper, 1 - share, count)
    np.testing.assert_allclose(found / count, law, rtol=2.0**-31, atol=2.0**-40)
    assert (law[lower[share > 0]] > 0).all() and (law[upper] > 0).all()


def test_rows_of_zeros_are_tolerated_and_codes_are_limited() -> None:
    table = alias_table(np.array([[0.0, 0.0, 0.0], [0.2, 0.3, 0.5]]))
    cells = cell_probabilities(AliasTable(*(leaf[1] for leaf in table)))
    np.testing.assert_allclose([float(cells[x]) for x in range(3)], [0.2, 0.3, 0.5], atol=2.0**-30)
    with pytest.raises(ValueError, match="an outcome has code 2147483648, expected 2147483647 or less"):
        alias_table(np.ones((1, 1)), np.array([[2**31]]))
    wide = alias_table(np.eye(1, 4000, 7)[0])
    assert word_counts(wide)[7] == WORD


@examples(50)
@given(
    st.integers(1, 2**16 - 1) | st.integers(2**16, 2**31 - 1),
    st.lists(st.integers(0, WORD - 1), min_size=1, max_size=8),
)
def test_split_word_is_big_integer_arithmetic(count: int, words: list[int]) -> None:
    words = [*words, 0, 1, 2**16 - 1, 2**16, 2**31, WORD - 1, *(-(-c * WORD // count) % WORD for c in (1, count - 1))]
    words += [0] * (16 - len(words))  # one shape, one compilation
    cell, position = split_word(jnp.asarray(words, jnp.uint32), count)
    assert cell.dtype == jnp.int32 and position.dtype == jnp.uint32
    wanted = [divmod(word * count, WORD) for word in words]
    assert list(zip(cell.tolist(), position.tolist(), strict=True)) == wanted


LEVELS = 2**23  # as many midpoints of (-1, 1) as float32 holds exactly


def midpoints(words: np.ndarray) -> np.ndarray:
    return 2 * ((words * LEVELS // WORD).astype(np.float64) + 0.5) / LEVELS - 1.0


def test_symmetric_uniform_stays_inside_the_open_interval() -> None:
    edges = jnp.asarray([0, 511, 512, 2**31 - 1, 2**31, WORD - 513, WORD - 512, WORD - 1], jnp.uint32)
    values = np.asarray(uniform_symmetric(edges))
    assert values.dtype == np.float32
    assert (np.abs(values) < 1).all()


def test_symmetric_uniform_takes_the_midpoints() -> None:
    """The high bits choose one of the midpoints, each of them a float32: every value is exact."""
    rng = np.random.default_rng(0)
    words = np.concatenate([rng.integers(WORD, size=4096), [0, 511, 512, 2**31 - 1, 2**31, 2**31 + 512, WORD - 1]])
    for function in (uniform_symmetric, jax.jit(uniform_symmetric)):
        values = np.asarray(function(jnp.asarray(words, jnp.uint32)), np.float64)
        np.testing.assert_array_equal(values, midpoints(words))


def test_symmetric_uniform_has_mean_zero_and_variance_one_third() -> None:
    """Over every value that it takes, summed in float64: no sampling, hence no error probability."""
    total, square, parts = 0.0, 0.0, 64
    function = jax.jit(uniform_symmetric)
    spacing = WORD // LEVELS
    for part in range(parts):
        cells = np.arange(part * LEVELS // parts, (part + 1) * LEVELS // parts, dtype=np.uint64)
        values = np.asarray(function(jnp.asarray((cells * spacing).astype(np.uint32))), np.float64)
        total += values.sum()
        square += (values**2).sum()
    assert abs(total / LEVELS) < 1e-12
    assert square / LEVELS == pytest.approx(1 / 3, rel=1e-7)


def test_random_words_are_the_threefry_blocks_and_differ_from_row_to_row() -> None:
    """Words are uniform (two chi-square tests at 1e-6 each), and the first rows do not depend on how many are drawn."""
    key = jax.random.key(5)
    words = np.asarray(random_words(key, 4000, 3))
    assert words.shape == (4000, 3) and words.dtype == np.uint32
    assert len(np.unique(words)) > words.size - 10
    counts = np.bincount((words >> 24).reshape(-1), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-6
    pairs = np.bincount(((words[:, 0] >> 28) * 16 + (words[:, 1] >> 28)), minlength=256)
    assert stats.chisquare(pairs).pvalue > 1e-6
    assert np.array_equal(words[:100], np.asarray(random_words(key, 100, 3)))
    other = random_words(jax.random.key(5, impl="rbg"), 10, 3)
    assert np.array_equal(other, jax.random.bits(jax.random.key(5, impl="rbg"), (10, 3), np.uint32))
