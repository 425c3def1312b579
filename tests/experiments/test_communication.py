"""What is communicated: a model in which only values that cross lead to the best return, and the table's own words."""

from __future__ import annotations

import pytest

from icsmdp_jax.exact.returns import Interval
from icsmdp_jax.experiments.communication import (
    BITS,
    INTERFACE,
    NOTHING,
    REWARD,
    SCALAR,
    STATE,
    TWO,
    WORDS,
    Row,
    bits_table,
    fewest,
    measured,
    remarks,
)
from icsmdp_jax.experiments.training import Budget
from tests.experiments.test_comparison import GAMMA, courier


def row(**values: float) -> Row:
    known = {what: Interval(x, x - 0.1, x + 0.1, 4) for what, x in dict.fromkeys(WORDS, 0.5).items()}
    known |= {what: Interval(x, x - 0.1, x + 0.1, 4) for what, x in values.items()}
    return Row(known, known, dict.fromkeys(WORDS, 7))


def test_the_words_are_counted() -> None:
    enough = row(bits_1=0.0, bits_2=0.25, bits_4=0.35)
    assert fewest(enough) == 4 and fewest(row()) == 1 and fewest(row(bits_8=0.2)) == "-"
    assert fewest(row(bits_4=0.2)) == 8  # 1 and 2 bits do by accident, but 4 do not
    found = remarks({"a": row(no_message=0.2), "b": row(two_scalars=0.8), "c": row(central_learner=0.1)}, True)
    assert "nothing, outside the intervals, in a." in found[4]
    assert "more than one scalar in b, less in no environment" in found[6]
    assert "more than one scalar in no environment, less in c" in found[7]
    assert bits_table({"a": enough}).rows == [["a", *[7] * len(WORDS), 4]]


@pytest.mark.slow
def test_values_must_cross_where_the_reward_is_another_agents() -> None:
    found = measured(courier(), Budget(updates=60, copies=8, length=4, replicas=2))
    best = GAMMA * 10
    means = {what: found.returns[what].mean for what in WORDS}
    assert means[NOTHING] == pytest.approx(1.0)  # its own segment pays 1 at once, and nothing is heard of the 10
    for what in (REWARD, SCALAR, TWO, INTERFACE, STATE, f"bits_{BITS[-1]}"):
        assert means[what] == pytest.approx(best), what
    assert found.bits == {
        NOTHING: 0, REWARD: 32, "bits_1": 1, "bits_2": 2, "bits_4": 4, "bits_8": 8, SCALAR: 32, TWO: 64,
        INTERFACE: 2 + 1 + 32 + 0, STATE: 2 + 1 + 32 + 0,
    }  # fmt: skip
