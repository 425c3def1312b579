"""The exhaustive search: lengths and numbers of programs, against brute force and plain Python."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.envs.cpu_sort import machine, search
from tests.helpers import examples
from tests.reference import cpu_sort as twin


def as_twin(program: np.ndarray) -> list[twin.Instruction]:
    return [(machine.NAMES[op], a, b) for op, a, b in np.asarray(program).tolist()]


def every_correct_program(n: int, length: int, both_orders: bool) -> set[tuple[twin.Instruction, ...]]:
    """All of them, tried one by one without pruning."""
    listed = as_twin(machine.instructions(n, both_orders))
    found = set()

    def extend(runs: list[twin.Run], program: tuple[twin.Instruction, ...]) -> None:
        if len(program) == length:
            if twin.is_sorted(runs):
                found.add(program)
            return
        for instruction in listed:
            extend(twin.execute(runs, [instruction]), (*program, instruction))

    extend(twin.start(n), ())
    return found


@pytest.mark.parametrize("both_orders", [False, True])
def test_two_values_against_every_program(both_orders: bool) -> None:
    found = search.shortest_programs(2, both_orders)
    assert found.length == 4
    for length in range(4):
        assert not every_correct_program(2, length, both_orders)
    assert found.programs == len(every_correct_program(2, 4, both_orders)) == (16 if both_orders else 8)


def test_three_values_take_eleven_instructions() -> None:
    """The length and the number are what the search finds; that they are the published ones is the check."""
    found = search.shortest_programs(3)
    assert found.length == search.PUBLISHED_LENGTH[3] == 11
    assert found.programs == 5602
    assert len(found.layer_sizes) == 11


@pytest.mark.slow
def test_weaker_pruning_gives_the_same_answer() -> None:
    """The bound of single runs keeps hundreds of thousands of joint states that the bound of pairs drops."""
    weak, strong = search.shortest_programs(3, pattern_runs=1), search.shortest_programs(3)
    assert (weak.length, weak.programs) == (strong.length, strong.programs)
    assert sum(weak.layer_sizes) > 10 * sum(strong.layer_sizes)


@examples(100)
@given(st.integers(2, 4), st.lists(st.integers(0, 69), max_size=12))
def test_the_table_of_one_run_is_the_machine(n: int, chosen: list[int]) -> None:
    run = search.single_run(n)
    joint, runs = run.start, twin.start(n)
    for index in chosen:
        index %= len(run.instruction)
        joint = run.successor[index, joint]
        runs = twin.execute(runs, as_twin(run.instruction[index : index + 1]))
        for p, one in enumerate(runs):
            if set(range(1, n + 1)) <= set(one.registers):
                assert run.registers[joint[p]].tolist() == one.registers
                assert run.flag[joint[p]] == (machine.LESS * one.less + machine.GREATER * one.greater)
            else:
                assert joint[p] == run.lost
    assert run.goal[joint].all() == twin.is_sorted(runs)


def test_joint_states_do_not_depend_on_the_order_of_runs() -> None:
    run = search.single_run(3)
    codes = {int(search.pack(run, np.array(order))) for order in itertools.permutations(run.start)}
    assert len(codes) == 1
    np.testing.assert_array_equal(search.unpack(run, np.array(codes.pop())), np.sort(run.start))


def test_what_is_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="num_values = 4: exhaustive search is feasible for 2 and 3"):
        search.shortest_programs(4)
