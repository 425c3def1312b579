"""The exhaustive search: lengths, numbers of programs and distances, against brute force and plain Python."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsmdp_jax.envs.cpu_sort import machine, search
from tests.reference import cpu_sort as twin

distance_table = cache(search.distance_table)


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
    listed = {tuple(as_twin(program)) for program in search.optimal_programs(2, both_orders)}
    assert listed == every_correct_program(2, 4, both_orders)
    assert found.programs == len(listed) == (16 if both_orders else 8)


def test_three_values_take_eleven_instructions() -> None:
    """The length and the number are what the search finds; that they are the published ones is the check."""
    found = search.shortest_programs(3)
    assert found.length == search.PUBLISHED_LENGTH[3] == 11
    assert found.programs == 5602
    assert len(found.layer_sizes) == 11


def test_all_programs_found_for_three_values_sort() -> None:
    listed = search.optimal_programs(3)
    assert listed.shape == (search.shortest_programs(3).programs, 11, 3)
    assert len({program.tobytes() for program in listed}) == len(listed)
    for program in listed:
        assert twin.is_sorted(twin.execute(twin.start(3), as_twin(program)))


def test_operand_order_doubles_the_programs_per_comparison() -> None:
    """Exchanging the operands of a ``cmp`` and the flags of what reads them: a choice per comparison."""
    listed = search.optimal_programs(3)
    comparisons = (listed[:, :, 0] == machine.CMP).sum(axis=1)
    assert search.shortest_programs(3, both_orders=True).programs == (2**comparisons).sum()


@pytest.mark.slow
def test_weaker_pruning_gives_the_same_answer() -> None:
    """The bound of single runs keeps hundreds of thousands of joint states that the bound of pairs drops."""
    weak, strong = search.shortest_programs(3, pattern_runs=1), search.shortest_programs(3)
    assert (weak.length, weak.programs) == (strong.length, strong.programs)
    assert sum(weak.layer_sizes) > 10 * sum(strong.layer_sizes)


def test_bounds_never_exceed_distances() -> None:
    """On every joint state for two values, where the bound of pairs is the distance itself."""
    table = distance_table(2, None)
    joint = search.unpack(table.run, table.code)
    for runs in (1, 2):
        bound = search.lower_bound(joint, search.pattern_distances(2, False, runs))
        assert (bound <= table.distance).all()
    np.testing.assert_array_equal(bound, table.distance)


@pytest.mark.parametrize(("n", "slack"), [(2, None), (2, 1), (3, 0)])
def test_distances_satisfy_their_own_equation(n: int, slack: int | None) -> None:
    table = distance_table(n, slack)
    joint = search.unpack(table.run, table.code)
    after = table.run.successor[:, joint]
    alive = (after < table.run.lost).all(axis=2)
    entered = np.where(alive, table.lookup(np.where(after < table.run.lost, after, 0)), search.FAR)
    best = entered.min(axis=0)
    goal = table.run.goal[joint].all(axis=1)
    known = (table.distance < search.FAR) & ~goal
    assert (table.distance[goal] == 0).all() and known.sum() > 10
    np.testing.assert_array_equal(table.distance[known], best[known] + 1)
    assert table.lookup(table.run.start) == search.shortest_programs(n).length


def test_a_wider_table_agrees_where_both_know() -> None:
    for n, slack in ((2, None), (3, 1)):
        narrow, wide = distance_table(n, 0), distance_table(n, slack)
        joint = search.unpack(narrow.run, narrow.code)
        known = narrow.distance < search.FAR
        np.testing.assert_array_equal(wide.lookup(joint)[known], narrow.distance[known])
        assert len(wide.code) > len(narrow.code)
        assert (wide.lookup(joint)[~known].astype(int) + narrow.depth[~known] > narrow.limit).all()


@pytest.mark.parametrize("n", [2, 3])
def test_walking_down_the_table_writes_a_shortest_program(n: int) -> None:
    """Any instructions that bring the goal one nearer each make a program of the shortest length, and it sorts."""
    table, rng = distance_table(n, 0), np.random.default_rng(0)
    for _ in range(20):
        joint, program = table.run.start, []
        for left in reversed(range(table.lookup(joint))):
            after = table.run.successor[:, joint]
            alive = (after < table.run.lost).all(axis=1)
            nearer = np.flatnonzero(alive & (table.lookup(np.where(alive[:, None], after, 0)) == left))
            choice = rng.choice(nearer)
            joint = after[choice]
            program.append(table.run.instruction[choice])
        assert len(program) == search.shortest_programs(n).length
        assert twin.is_sorted(twin.execute(twin.start(n), as_twin(np.array(program))))


@settings(max_examples=100, deadline=None, derandomize=True)
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
    with pytest.raises(ValueError, match="slack = None: all joint states of 3 values are too many"):
        search.distance_table(3, None)
