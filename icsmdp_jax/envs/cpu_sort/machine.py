"""The sorting-kernel machine, on all permutations at once.

A program has ``n`` registers ``r1..rn``, which start with a permutation of ``1..n``, one scratch register ``s``, which
starts with 0, and two flags, ``lt`` and ``gt``. Its instructions have two different registers ``a`` and ``b``:

* ``mov a b``: ``a`` becomes ``b``;
* ``cmp a b``: ``lt`` is set to ``a < b`` and ``gt`` to ``a > b``;
* ``cmovl a b`` and ``cmovg a b``: ``a`` becomes ``b`` if ``lt``, or ``gt``, is set.

A program is correct if ``r_k = k`` for every ``k`` at its end, whatever the permutation. There are no branches, so
that all ``n!`` runs go through the same instructions and one word per register and value holds them side by side: bit
``p`` of ``registers[k][v]`` says whether register ``k`` holds ``v + 1`` in the run that started with permutation ``p``.
An instruction is then a few bitwise operations. ``n! <= 24`` runs fit into a ``uint32``, hence ``n <= 4``.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.envs.cpu_sort.words import ALL, NONE, given, union

MOV, CMP, CMOVL, CMOVG = range(4)
NAMES = ("mov", "cmp", "cmovl", "cmovg")
NO_FLAG, LESS, GREATER = range(3)
BELOW, EQUAL, ABOVE = 1, 2, 4  # bits of a relation


Register = tuple[chex.Array, ...]  # n words, one for each value


class Machine(NamedTuple):
    """Joint register file and flags.

    Attributes:
      registers: ``n + 1`` registers, the last of which is the scratch, of ``n`` words ``[]`` uint32 each; bit ``p`` of
        ``registers[k][v]``: register ``k`` holds ``v + 1`` in run ``p``. A register that holds 0 has no bit.
      less: ``[]`` uint32, runs in which ``lt`` is set.
      greater: ``[]`` uint32, runs in which ``gt`` is set.
    """

    registers: tuple[Register, ...]
    less: chex.Array
    greater: chex.Array

    @property
    def num_values(self) -> int:
        """``n``."""
        return len(self.registers) - 1

    @property
    def holds(self) -> chex.Array:
        """``[..., n+1, n]`` uint32: all words of the registers in one array."""
        return jnp.stack([jnp.stack(register, axis=-1) for register in self.registers], axis=-2)


def check_size(num_values: int) -> None:
    """Refuses sizes that the machine does not support.

    Raises:
      ValueError: unless ``2 <= num_values <= 4``.
    """
    if not isinstance(num_values, int) or num_values not in (2, 3, 4):
        raise ValueError(f"num_values = {num_values}: expected 2, 3 or 4 (the runs must fit into one 32-bit word)")


def permutations(num_values: int) -> np.ndarray:
    """``[n!, n]`` int: the permutations of ``1..n`` in lexicographic order, run by run."""
    return np.array(list(itertools.permutations(range(1, num_values + 1))))


def register_pairs(num_values: int) -> list[tuple[int, int]]:
    """All ``(a, b)`` with ``a < b`` among the ``n + 1`` registers, in lexicographic order."""
    return list(itertools.combinations(range(num_values + 1), 2))


def all_runs(num_values: int) -> int:
    """The word that has the bit of every run."""
    return (1 << len(permutations(num_values))) - 1


def instructions(num_values: int, both_orders: bool = False) -> np.ndarray:
    """Every instruction of the machine.

    Args:
      num_values: ``n``.
      both_orders: also ``cmp a b`` with ``a > b``. Left out by default: it is ``cmp b a`` with the flags exchanged, so
        the same comparison under another name.

    Returns:
      ``[I, 3]`` int32 rows ``(operation, a, b)``: all ``mov``, then ``cmp``, ``cmovl`` and ``cmovg``.
    """
    ordered = list(itertools.permutations(range(num_values + 1), 2))
    compared = ordered if both_orders else register_pairs(num_values)
    rows = [(op, a, b) for op in (MOV, CMP, CMOVL, CMOVG) for a, b in (compared if op == CMP else ordered)]
    return np.array(rows, np.int32)


def text(program: np.ndarray, num_values: int) -> str:
    """A program in assembly, one instruction per semicolon: ``[L, 3]`` rows as in ``instructions``."""
    names = [f"r{k + 1}" for k in range(num_values)] + ["s"]
    return "; ".join(f"{NAMES[op]} {names[a]} {names[b]}" for op, a, b in np.asarray(program).tolist())


def start(num_values: int) -> Machine:
    """The machine before the first instruction: host arrays."""
    bit = np.uint32(1) << np.arange(len(permutations(num_values)), dtype=np.uint32)
    hit = permutations(num_values)[:, :, None] == np.arange(1, num_values + 1)  # [run, register, value]
    holds = np.zeros((num_values + 1, num_values), np.uint32)
    holds[:num_values] = (hit * bit[:, None, None]).sum(axis=0, dtype=np.uint32)
    return Machine(tuple(tuple(register) for register in holds), NONE, NONE)


def order(first: Register, second: Register) -> tuple[chex.Array, chex.Array]:
    """Runs in which one register is below, or above, another.

    Args:
      first: the one register.
      second: the other.

    Returns:
      ``(below, above)``, ``[]`` uint32 each; bits beyond the last run are 0.
    """
    return _below(first, second), _below(second, first)


def _below(low: Register, high: Register) -> chex.Array:
    """Runs in which the register ``low`` holds less than the register ``high``."""
    value = at_least = NONE  # at_least: runs in which ``low`` holds this value or a larger one
    for own, other in zip(reversed(low), reversed(high), strict=True):
        at_least = at_least | own
        value = value | (other & ~at_least)
    return value


def read(machine: Machine, register: chex.Array) -> Register:
    """The words of the register with number ``register``, ``[]`` int; none is set if there is no such register."""
    values = zip(*machine.registers, strict=True)
    return tuple(union([given(register == k, word) for k, word in enumerate(words)]) for words in values)


def write(machine: Machine, register: chex.Array, words: Register, runs: chex.Array) -> Machine:
    """Writes ``words`` to the register with number ``register``, in ``runs``, ``[]`` uint32."""
    written = []
    for k, own in enumerate(machine.registers):
        here = given(register == k, runs)
        written.append(tuple((old & ~here) | (new & here) for old, new in zip(own, words, strict=True)))
    return machine._replace(registers=tuple(written))


def moving(machine: Machine, op: chex.Array) -> chex.Array:
    """``[]`` uint32: runs in which an instruction of operation ``op`` moves a value; none for ``cmp``."""
    conditional = given(op == CMOVL, machine.less) | given(op == CMOVG, machine.greater)
    return jnp.where(op == MOV, ALL, conditional)


def compare(machine: Machine, op: chex.Array, first: Register, second: Register) -> Machine:
    """Sets the flags by the order of two registers if ``op`` is ``cmp``."""
    below, above = order(first, second)
    less = jnp.where(op == CMP, below, machine.less)
    return machine._replace(less=less, greater=jnp.where(op == CMP, above, machine.greater))


def is_sorted(machine: Machine) -> chex.Array:
    """``[]`` bool: ``r_k = k`` for every ``k``, in every run."""
    everything = jnp.uint32(all_runs(machine.num_values))
    in_place = everything
    for k in range(machine.num_values):
        in_place = in_place & machine.registers[k][k]
    return in_place == everything


def has_lost(machine: Machine) -> chex.Array:
    """``[]`` bool: in some run a value is no longer in any register, so no program can sort that run."""
    everything = jnp.uint32(all_runs(machine.num_values))
    complete = everything
    for words in zip(*machine.registers, strict=True):
        complete = complete & union(words)
    return complete != everything


def relations(machine: Machine, runs: chex.Array) -> chex.Array:
    """What is known of every pair of registers, over some of the runs.

    Args:
      machine: the machine.
      runs: ``[]`` uint32, the runs that count.

    Returns:
      ``[]`` uint32, three bits for each pair of ``register_pairs``, the first pair lowest: ``BELOW``, ``EQUAL`` and
      ``ABOVE`` if it happens in at least one of the runs; 0 if there are no runs.
    """
    known = NONE
    for p, (a, b) in enumerate(register_pairs(machine.num_values)):
        below, above = order(machine.registers[a], machine.registers[b])
        for word, code in ((below, BELOW), (~(below | above), EQUAL), (above, ABOVE)):
            known = known | given((word & runs) != 0, code << 3 * p)
    return known


def spare(machine: Machine, runs: chex.Array) -> chex.Array:
    """Registers that may be overwritten without losing a value.

    Args:
      machine: the machine.
      runs: ``[]`` uint32, the runs that count.

    Returns:
      ``[]`` uint32; bit ``k``: in each of the runs register ``k`` holds 0 or a value that another register holds too.
    """
    needed = [NONE] * len(machine.registers)
    for words in zip(*machine.registers, strict=True):
        for k, own in enumerate(words):
            needed[k] = needed[k] | (own & ~union(words[:k] + words[k + 1 :]))
    return union([given((word & runs) == 0, 1 << k) for k, word in enumerate(needed)])


def score(machine: Machine) -> chex.Array:
    """``[]`` int32 number of (run, ``i < j``) with ``r_i < r_j``: half of ``best_score`` at the start."""
    pairs = itertools.combinations(machine.registers[: machine.num_values], 2)
    counts = [jax.lax.population_count(_below(a, b)) for a, b in pairs]
    return sum(counts, NONE).astype(jnp.int32)


def best_score(num_values: int) -> int:
    """Score of a correct program, ``n! n (n-1) / 2``."""
    return len(permutations(num_values)) * num_values * (num_values - 1) // 2


def contents(machine: Machine) -> chex.Array:
    """``[n!, n+1]`` int32: the value in every register of every run."""
    n = machine.num_values
    held = (machine.holds[None] >> _bits(n)[:, None, None]) & jnp.uint32(1)
    return jnp.sum(held.astype(jnp.int32) * jnp.arange(1, n + 1, dtype=jnp.int32), axis=-1, dtype=jnp.int32)


def _bits(num_values: int) -> chex.Array:
    return jnp.arange(len(permutations(num_values)), dtype=jnp.uint32)
