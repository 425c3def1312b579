"""The sorting-kernel machine, on all permutations at once.

A program has ``n`` registers ``r1..rn``, which start with a permutation of ``1..n``, one scratch register ``s``, which
starts with 0, and two flags, ``lt`` and ``gt``. Its instructions have two different registers ``a`` and ``b``:

* ``mov a b``: ``a`` becomes ``b``;
* ``cmp a b``: ``lt`` is set to ``a < b`` and ``gt`` to ``a > b``;
* ``cmovl a b`` and ``cmovg a b``: ``a`` becomes ``b`` if ``lt``, or ``gt``, is set.

A program is correct if ``r_k = k`` for every ``k`` at its end, whatever the permutation. There are no branches, so
that all ``n!`` runs go through the same instructions and one word per register and value holds them side by side: bit
``p`` of ``holds[k, v]`` says whether register ``k`` holds ``v + 1`` in the run that started with permutation ``p``.
An instruction is then a few bitwise operations. ``n! <= 24`` runs fit into a ``uint32``, hence ``n <= 4``.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

MOV, CMP, CMOVL, CMOVG = range(4)
NAMES = ("mov", "cmp", "cmovl", "cmovg")
NO_FLAG, LESS, GREATER = range(3)
BELOW, EQUAL, ABOVE = 1, 2, 4  # bits of a relation


class Machine(NamedTuple):
    """Joint register file and flags.

    Attributes:
      holds: ``[n+1, n]`` uint32; bit ``p`` of ``holds[k, v]``: register ``k`` (the last is the scratch) holds ``v + 1``
        in run ``p``. A register that holds 0 has no bit.
      less: ``[]`` uint32, runs in which ``lt`` is set.
      greater: ``[]`` uint32, runs in which ``gt`` is set.
    """

    holds: chex.Array
    less: chex.Array
    greater: chex.Array


def check_size(num_values: int) -> None:
    """Refuses sizes that the machine does not support.

    Raises:
      ValueError: unless ``2 <= num_values <= 4``.
    """
    if num_values not in (2, 3, 4):
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
    return Machine(holds, np.uint32(0), np.uint32(0))


def order(first: chex.Array, second: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Runs in which one register is below, or above, another.

    Args:
      first: ``[..., n]`` uint32 words of the one register.
      second: ``[..., n]`` uint32 words of the other.

    Returns:
      ``(below, above)``, ``[...]`` uint32 each; bits beyond the last run are 0.
    """
    one, other = _words(first), _words(second)
    return _below(one, other), _below(other, one)


def _words(register: chex.Array) -> list[chex.Array]:
    """The words of a register one by one: XLA then works on whole batches of each, instead of rows of a few."""
    return [register[..., v] for v in range(register.shape[-1])]


def _below(low: list[chex.Array], high: list[chex.Array]) -> chex.Array:
    """Runs in which the register with the words ``low`` holds less than that with the words ``high``."""
    value = jnp.zeros_like(low[0])
    at_least = jnp.zeros_like(value)  # runs in which ``low`` holds this value or a larger one
    for own, others in zip(reversed(low), reversed(high), strict=True):
        at_least = at_least | own
        value = value | (others & ~at_least)
    return value


def execute(machine: Machine, instruction: chex.Array) -> Machine:
    """One instruction, in all runs.

    Args:
      machine: the machine before.
      instruction: ``[3]`` int32 ``(operation, a, b)`` with ``a != b``.

    Returns:
      The machine after it.
    """
    op, a, b = instruction[0], instruction[1], instruction[2]
    first, second = machine.holds[a], machine.holds[b]
    below, above = order(first, second)
    everywhere = jnp.uint32(0xFFFFFFFF)
    conditional = jnp.where(op == CMOVL, machine.less, jnp.where(op == CMOVG, machine.greater, jnp.uint32(0)))
    runs = jnp.where(op == MOV, everywhere, conditional)
    written = (first & ~runs) | (second & runs)
    here = jnp.arange(machine.holds.shape[0]) == a
    return Machine(
        holds=jnp.where(here[:, None], written, machine.holds),
        less=jnp.where(op == CMP, below, machine.less),
        greater=jnp.where(op == CMP, above, machine.greater),
    )


def run(machine: Machine, program: chex.Array) -> Machine:
    """A whole program: ``[L, 3]`` int32 rows ``(operation, a, b)``."""
    machine = jax.tree.map(jnp.asarray, machine)
    return jax.lax.scan(lambda m, row: (execute(m, row), None), machine, program)[0]


def is_sorted(machine: Machine) -> chex.Array:
    """``[]`` bool: ``r_k = k`` for every ``k``, in every run."""
    n = machine.holds.shape[1]
    diagonal = jnp.diagonal(machine.holds)
    return jnp.all(diagonal == jnp.uint32(all_runs(n)))


def has_lost(machine: Machine) -> chex.Array:
    """``[]`` bool: in some run a value is in no register any more, so that no program can sort that run."""
    n = machine.holds.shape[1]
    present = _union([machine.holds[k] for k in range(n + 1)])
    return jnp.any(present != jnp.uint32(all_runs(n)))


def relations(machine: Machine, runs: chex.Array) -> chex.Array:
    """What is known of every pair of registers, over some of the runs.

    Args:
      machine: the machine.
      runs: ``[]`` uint32, the runs that count.

    Returns:
      ``[P]`` int32 for the pairs of ``register_pairs``: the sum of ``BELOW``, ``EQUAL`` and ``ABOVE`` for what happens
      in at least one of the runs; 0 if there are no runs.
    """
    known = []
    for a, b in register_pairs(machine.holds.shape[1]):
        below, above = order(machine.holds[a], machine.holds[b])
        bits = [(word & runs) != 0 for word in (below, ~(below | above), above)]
        codes = [jnp.where(bit, code, 0) for bit, code in zip(bits, (BELOW, EQUAL, ABOVE), strict=True)]
        known.append(sum(codes, jnp.int32(0)))
    return jnp.stack(known)


def spare(machine: Machine, runs: chex.Array) -> chex.Array:
    """Registers that may be overwritten without losing a value.

    Args:
      machine: the machine.
      runs: ``[]`` uint32, the runs that count.

    Returns:
      ``[n+1]`` bool: in each of the runs the register holds 0 or a value that another register holds too.
    """
    registers = [machine.holds[k] for k in range(machine.holds.shape[0])]
    needed = []
    for k, own in enumerate(registers):
        others = _union(registers[:k] + registers[k + 1 :])
        alone = own & ~others
        needed.append(_union([alone[v] for v in range(alone.shape[0])]))
    return jnp.stack([(word & runs) == 0 for word in needed])


def score(machine: Machine) -> chex.Array:
    """``[]`` int32 number of (run, ``i < j``) with ``r_i < r_j``: half of ``best_score`` at the start."""
    held = [_words(machine.holds[k]) for k in range(machine.holds.shape[1])]
    counts = [jax.lax.population_count(_below(a, b)) for a, b in itertools.combinations(held, 2)]
    return sum(counts, jnp.uint32(0)).astype(jnp.int32)


def best_score(num_values: int) -> int:
    """Score of a correct program, ``n! n (n-1) / 2``."""
    return len(permutations(num_values)) * num_values * (num_values - 1) // 2


def contents(machine: Machine) -> chex.Array:
    """``[n!, n+1]`` int32: the value in every register of every run."""
    n = machine.holds.shape[1]
    held = (machine.holds[None] >> _bits(n)[:, None, None]) & jnp.uint32(1)
    return jnp.sum(held.astype(jnp.int32) * jnp.arange(1, n + 1), axis=-1)


def flags(machine: Machine) -> chex.Array:
    """``[n!]`` int32: ``NO_FLAG``, ``LESS`` or ``GREATER`` in every run."""
    bits = _bits(machine.holds.shape[1])
    less = ((machine.less >> bits) & jnp.uint32(1)).astype(jnp.int32)
    greater = ((machine.greater >> bits) & jnp.uint32(1)).astype(jnp.int32)
    return less * LESS + greater * GREATER


def _bits(num_values: int) -> chex.Array:
    return jnp.arange(len(permutations(num_values)), dtype=jnp.uint32)


def _union(words: list[chex.Array]) -> chex.Array:
    total = jnp.zeros_like(words[0])
    for word in words:
        total = total | word
    return total
