"""The bit-sliced machine against one run at a time."""

from __future__ import annotations

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.envs.cpu_sort import machine
from tests.helpers import examples
from tests.reference import cpu_sort as twin

LONGEST = 24  # one compiled length; shorter programs are padded with what changes nothing


@st.composite
def programs(draw: st.DrawFn) -> tuple[int, list[twin.Instruction]]:
    n = draw(st.integers(2, 4))
    registers = list(itertools.permutations(range(n + 1), 2))
    instruction = st.tuples(st.sampled_from(twin.AGENTS), st.sampled_from(registers)).map(lambda x: (x[0], *x[1]))
    return n, draw(st.lists(instruction, max_size=LONGEST))


def rows(program: list[twin.Instruction]) -> np.ndarray:
    return np.array([(machine.NAMES.index(name), a, b) for name, a, b in program], np.int32).reshape(-1, 3)


def execute(m: machine.Machine, instruction: jax.Array) -> machine.Machine:
    """One instruction ``(operation, a, b)`` in all runs, put together as ``team.py`` does."""
    op, a, b = instruction[0], instruction[1], instruction[2]
    first, second = machine.read(m, a), machine.read(m, b)
    return machine.compare(machine.write(m, a, second, machine.moving(m, op)), op, first, second)


def run(m: machine.Machine, program: jax.Array) -> machine.Machine:
    return jax.lax.scan(lambda m, row: (execute(m, row), None), jax.tree.map(jnp.asarray, m), program)[0]


def flags(m: machine.Machine) -> jax.Array:
    """The flag of every run."""
    bits = jnp.arange(len(machine.permutations(m.num_values)), dtype=jnp.uint32)
    return (m.less >> bits & 1) * machine.LESS + (m.greater >> bits & 1) * machine.GREATER


@cache
def compiled(n: int):  # type: ignore[no-untyped-def]
    def look(program: jax.Array, length: jax.Array, runs: jax.Array) -> dict[str, jax.Array]:
        def body(at: jax.Array, m: machine.Machine) -> machine.Machine:
            return execute(m, program[at])

        m = jax.lax.fori_loop(0, length, body, jax.tree.map(jnp.asarray, machine.start(n)))
        return {
            "contents": machine.contents(m),
            "flags": flags(m),
            "sorted": machine.is_sorted(m),
            "lost": machine.has_lost(m),
            "relations": machine.relations(m, runs),
            "spare": machine.spare(m, runs),
            "score": machine.score(m),
            "words": jnp.concatenate([m.holds.reshape(-1), m.less[None], m.greater[None]]),
        }

    return jax.jit(look)


@examples(150)
@given(programs(), st.integers(0, 2**24 - 1))
def test_every_program_runs_as_in_plain_python(case: tuple[int, list[twin.Instruction]], chosen: int) -> None:
    n, program = case
    padded = np.zeros((LONGEST, 3), np.int32)
    padded[: len(program)] = rows(program)
    chosen &= machine.all_runs(n)
    seen = {k: np.asarray(v) for k, v in compiled(n)(padded, len(program), np.uint32(chosen)).items()}
    runs = twin.execute(twin.start(n), program)
    some = [run for p, run in enumerate(runs) if chosen >> p & 1]

    np.testing.assert_array_equal(seen["contents"], [run.registers for run in runs])
    flags = [machine.LESS if run.less else machine.GREATER if run.greater else machine.NO_FLAG for run in runs]
    np.testing.assert_array_equal(seen["flags"], flags)
    assert bool(seen["sorted"]) == twin.is_sorted(runs)
    assert bool(seen["lost"]) == twin.has_lost(runs)
    codes = {"<": machine.BELOW, "=": machine.EQUAL, ">": machine.ABOVE}
    expected = [sum(codes[sign] for sign in twin.relation(some, a, b)) for a, b in machine.register_pairs(n)]
    assert int(seen["relations"]) == sum(code << 3 * p for p, code in enumerate(expected))
    assert int(seen["spare"]) == sum(1 << k for k in range(n + 1) if twin.is_spare(some, k))
    assert int(seen["score"]) == twin.score(runs)
    assert not (seen["words"] >> np.uint32(len(runs)) if len(runs) < 32 else 0).any(), "bits of runs that do not exist"


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_start(n: int) -> None:
    nothing = np.zeros((LONGEST, 3), np.int32)
    first = {k: np.asarray(v) for k, v in compiled(n)(nothing, 0, np.uint32(machine.all_runs(n))).items()}
    assert first["contents"].shape == (len(machine.permutations(n)), n + 1)
    assert sorted(map(tuple, first["contents"][:, :n])) == list(itertools.permutations(range(1, n + 1)))
    assert not first["contents"][:, n].any() and not first["flags"].any()
    assert not first["sorted"] and not first["lost"]
    assert 2 * int(first["score"]) == machine.best_score(n)


@pytest.mark.parametrize(("n", "one_order", "both"), [(2, 21, 24), (3, 42, 48), (4, 70, 80)])
def test_instructions_are_listed_once(n: int, one_order: int, both: int) -> None:
    for both_orders, count in ((False, one_order), (True, both)):
        listed = machine.instructions(n, both_orders).tolist()
        assert len(listed) == count == len(set(map(tuple, listed)))
        assert all(a != b and 0 <= a <= n and 0 <= b <= n for _, a, b in listed)
    assert all(a < b for op, a, b in machine.instructions(n).tolist() if op == machine.CMP)


def test_a_whole_program_in_assembly() -> None:
    """The exchange of two registers in four instructions, by hand."""
    program = rows([("mov", 2, 0), ("cmp", 0, 1), ("cmovg", 0, 1), ("cmovg", 1, 2)])
    assert machine.text(program, 2) == "mov s r1; cmp r1 r2; cmovg r1 r2; cmovg r2 s"
    after = run(machine.start(2), program)
    assert bool(machine.is_sorted(after)) and int(machine.score(after)) == machine.best_score(2)
    np.testing.assert_array_equal(machine.contents(after), [[1, 2, 1], [1, 2, 2]])
    np.testing.assert_array_equal(flags(after), [machine.LESS, machine.GREATER])
    assert not machine.is_sorted(run(machine.start(2), program[:3]))


def test_many_machines_at_once() -> None:
    rng = np.random.default_rng(0)
    listed = machine.instructions(3)
    programs_ = listed[rng.integers(len(listed), size=(16, 7))]
    first = machine.start(3)
    together = jax.jit(jax.vmap(lambda p: machine.contents(run(first, p))))(programs_)
    alone = [machine.contents(run(first, p)) for p in programs_[:3]]
    np.testing.assert_array_equal(together[:3], alone)


@pytest.mark.parametrize("n", [1, 5])
def test_other_sizes_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"num_values = {n}: expected 2, 3 or 4"):
        machine.check_size(n)
