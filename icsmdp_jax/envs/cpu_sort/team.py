"""Who writes what: the agents of the sorting-kernel IC-SMDP, their options, and what each of them sees (D1).

Four agents own one instruction class each and write a program together. An option is a short run of the agent's own
instructions, and the agent that continues:

* ``mov`` saves a register: ``mov s r_i``, then hands to ``cmp``. ``n`` options.
* ``cmp`` compares: ``cmp a b`` with any ``a < b``, then hands to ``cmovl`` or to ``cmovg``. ``n (n+1)`` options.
* ``cmovl`` and ``cmovg`` follow up on the last comparison, of ``a`` and ``b``, with two conditional moves in a
  chain, ``x <- y`` and ``y <- z``, where ``x, y`` are ``a, b`` in one of the two orders and ``z`` is any other
  register; then they hand to ``mov`` or to ``cmp``. ``4 (n-1)`` options.

Two chained moves with the saved register as ``z`` exchange two registers, and programs of the shortest length can be
written in this way (a test follows the oracle to them). A run stops early if the program is correct, or has lost a
value, after its first instruction. What an agent sees is what its own instructions read or write:

* the *relation* of every pair of registers: which of ``<``, ``=`` and ``>`` occur at all, over the runs in which its
  instructions act (all of them for ``mov`` and ``cmp``, those with its flag for the other two). This is the partial
  order that the program has established so far, as far as pairs of registers show it;
* which of the registers that it may overwrite are *spare*, that is, hold nothing that is not held elsewhere;
* for ``cmovl`` and ``cmovg``, which pair was compared last;
* the *score* of the program as it stands, which is public: in how many (run, ``i < j``) it has ``r_i < r_j``.

No agent sees which runs are which, so how the relations of different pairs go together stays hidden. An option is
available if, as far as the agent sees, it loses nothing and can change something: a save needs a spare scratch that
does not already hold the register, a comparison needs both outcomes to occur, a chain needs its first target to be
spare. An agent with no such option has to take one of the others: the mistake was made by the agent that handed over.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.envs.cpu_sort import machine as kernel
from icsmdp_jax.envs.cpu_sort.machine import Machine
from icsmdp_jax.envs.cpu_sort.words import given, once, spread, union

AGENTS = kernel.NAMES
MOV, CMP, CMOVL, CMOVG = range(4)
LONGEST_RUN = 2  # instructions
NOTHING = -1  # no instruction, in a run that is shorter
NO_REGISTER = 7  # a register that does not exist


class Situation(NamedTuple):
    """What decides all that can still happen.

    Attributes:
      machine: joint register file and flags.
      agent: ``[]`` int32, the active agent.
      pair: ``[]`` int32, the pair compared last, an index into ``machine.register_pairs`` (0 before there is one).
    """

    machine: Machine
    agent: chex.Array
    pair: chex.Array


class View(NamedTuple):
    """What the active agent sees.

    Attributes:
      relation: ``[]`` uint32, see ``machine.relations``.
      spare: ``[]`` uint32, see ``machine.spare``; no bit for registers that the agent cannot overwrite.
      pair: ``[]`` int32, the pair compared last; 0 for agents that do not use it.
      score: ``[]`` int32, see ``machine.score``.
    """

    relation: chex.Array
    spare: chex.Array
    pair: chex.Array
    score: chex.Array


class OptionTables(NamedTuple):
    """The options of one team, as host arrays.

    Attributes:
      counts: ``[4]`` number of options of each agent.
      program: ``[4, P, O, 2]`` int32 indices into ``instruction``, ``NOTHING`` where a run has one instruction only;
        an option beyond the agent's count stands for the option modulo that count.
      receiver: ``[4, O]`` int32 agent that gets the program next.
      instruction: ``[I, 3]`` int32, see ``machine.instructions``.
      compared: ``[O]`` int32 pair that an option of ``cmp`` compares.
    """

    counts: np.ndarray
    program: np.ndarray
    receiver: np.ndarray
    instruction: np.ndarray
    compared: np.ndarray


@lru_cache(maxsize=8)
def option_tables(num_values: int) -> OptionTables:
    """The options of the team that sorts ``num_values`` values."""
    kernel.check_size(num_values)
    n, pairs, rows = num_values, kernel.register_pairs(num_values), kernel.instructions(num_values)
    index = {tuple(row): i for i, row in enumerate(rows.tolist())}
    counts = np.array([n, 2 * len(pairs), 4 * (n - 1), 4 * (n - 1)], np.int32)
    width = int(counts.max())
    program = np.full((4, len(pairs), width, LONGEST_RUN), NOTHING, np.int32)
    receiver = np.zeros((4, width), np.int32)
    compared = np.zeros(width, np.int32)
    for column in range(width):
        save = column % counts[MOV]
        program[MOV, :, column, 0] = index[kernel.MOV, n, save]
        receiver[MOV, column] = CMP
        compared[column], flag = divmod(column % counts[CMP], 2)
        program[CMP, :, column, 0] = index[(kernel.CMP, *pairs[compared[column]])]
        receiver[CMP, column] = (CMOVL, CMOVG)[flag]
        for agent, op in ((CMOVL, kernel.CMOVL), (CMOVG, kernel.CMOVG)):
            chain, back = divmod(column % counts[agent], 2)
            swapped, other = divmod(chain, n - 1)
            receiver[agent, column] = (MOV, CMP)[back]
            for p, (a, b) in enumerate(pairs):
                x, y = (b, a) if swapped else (a, b)
                z = [k for k in range(n + 1) if k not in (a, b)][other]
                program[agent, p, column] = index[op, x, y], index[op, y, z]
    return OptionTables(counts, program, receiver, rows, compared)


def begin(num_values: int) -> Situation:
    """The empty program, in the hands of ``mov``, since chains need something saved: host arrays."""
    return Situation(kernel.start(num_values), np.int32(MOV), np.int32(0))


class Run(NamedTuple):
    """What an option does: moves ``x <- y`` and perhaps ``y <- z``, or a comparison of ``x`` and ``y``.

    Attributes:
      op: ``[]`` uint32, the operation, also the number of the agent that owns it.
      x, y, z: ``[]`` uint32 registers; ``z`` is ``NO_REGISTER`` if there is only one instruction.
      receiver: ``[]`` uint32, the agent that gets the program next.
      pair: ``[]`` uint32, the pair compared last after the run.
      first, second: ``[]`` uint32, the instructions as indices into ``machine.instructions``.
    """

    op: chex.Array
    x: chex.Array
    y: chex.Array
    z: chex.Array
    receiver: chex.Array
    pair: chex.Array
    first: chex.Array
    second: chex.Array


WIDTHS = Run(2, 3, 3, 3, 2, 4, 7, 7)  # bits of each field in the table of runs


@lru_cache(maxsize=8)
def _runs(num_values: int) -> np.ndarray:
    """``[4 P O]`` uint32: every agent's options after every last comparison, so that a step reads one word."""
    tables = option_tables(num_values)
    first, second = tables.program[..., 0], tables.program[..., 1]
    op, x, y = np.moveaxis(tables.instruction[first], -1, 0)
    z = np.where(second == NOTHING, NO_REGISTER, tables.instruction[second, 2])
    receiver = np.broadcast_to(tables.receiver[:, None, :], op.shape)
    last = np.arange(op.shape[1])[:, None]
    pair = np.where(np.arange(len(AGENTS))[:, None, None] == CMP, tables.compared, last)
    fields = Run(op, x, y, z, receiver, pair, first, np.maximum(second, 0))
    code, at = np.zeros(op.shape, np.uint32), 0
    for field, width in zip(fields, WIDTHS, strict=True):
        code |= field.astype(np.uint32) << np.uint32(at)
        at += width
    return code.reshape(-1)


def chosen_run(situation: Situation, option: chex.Array) -> Run:
    """What an option does now: the run that ``option_tables`` lists for it."""
    num_values = situation.machine.num_values
    _, pairs, options, _ = option_tables(num_values).program.shape
    code = once(jnp.asarray(_runs(num_values))[(situation.agent * pairs + situation.pair) * options + option])
    fields, at = [], 0
    for width in WIDTHS:
        fields.append((code >> at) & jnp.uint32((1 << width) - 1))
        at += width
    return Run(*fields)


def advance(
    situation: Situation, option: chex.Array
) -> tuple[Situation, chex.Array, tuple[chex.Array, chex.Array], chex.Array, chex.Array]:
    """Runs one option.

    Args:
      situation: where the program stands.
      option: ``[]`` int32.

    Returns:
      The situation entered, ``tau`` ``[]`` int32 (instructions appended), the two instructions ``[]`` int32 (the second
      is ``NOTHING`` if it is not appended), and two ``[]`` bool: whether the program is now correct, and whether it has
      lost a value.
    """
    before, run = situation.machine, chosen_run(situation, option)
    runs = kernel.moving(before, run.op)  # both moves of a chain have the same condition, and the flags stay
    source = tuple(once(word) for word in kernel.read(before, run.y))
    second_source = tuple(once(word) for word in kernel.read(before, run.z))  # z is not x: the first move leaves it
    first = kernel.write(before, run.x, source, runs)
    ended = once(kernel.is_sorted(first) | kernel.has_lost(first) | (run.z == NO_REGISTER))
    moved = kernel.write(first, jnp.where(ended, NO_REGISTER, run.y), second_source, runs)
    entered = kernel.compare(moved, run.op, kernel.read(before, run.x), source)
    after = Situation(entered, run.receiver.astype(jnp.int32), run.pair.astype(jnp.int32))
    appended = run.first.astype(jnp.int32), jnp.where(ended, NOTHING, run.second.astype(jnp.int32))
    tau = jnp.where(ended, 1, 2).astype(jnp.int32)
    return after, tau, appended, kernel.is_sorted(entered), kernel.has_lost(entered)


def look(situation: Situation) -> View:
    """What the active agent sees."""
    agent, machine = situation.agent, situation.machine
    n = machine.num_values
    flagged = jnp.where(agent == CMOVL, machine.less, machine.greater)
    runs = jnp.where(agent < CMOVL, jnp.uint32(kernel.all_runs(n)), flagged)
    pair = jnp.where(agent < CMOVL, 0, situation.pair)
    compared = union([given(pair == p, 1 << a | 1 << b) for p, (a, b) in enumerate(kernel.register_pairs(n))])
    writable = given(agent == MOV, 1 << n) | given(agent >= CMOVL, compared)
    return View(
        relation=once(kernel.relations(machine, runs)),
        spare=once(kernel.spare(machine, runs) & writable),
        pair=pair,
        score=once(kernel.score(machine).astype(jnp.uint32)).astype(jnp.int32),
    )


def available(agent: chex.Array, view: View, num_values: int) -> chex.Array:
    """``[]`` uint32, a bit for each option that the active agent has, as far as it sees; see the module docstring."""
    n, pairs = num_values, kernel.register_pairs(num_values)
    counts = option_tables(n).counts
    known = [(view.relation >> 3 * p) & jnp.uint32(7) for p in range(len(pairs))]
    both = kernel.BELOW | kernel.ABOVE
    saves = union([given(known[pairs.index((k, n))] != kernel.EQUAL, 1 << k) for k in range(n)])
    comparisons = union([given((code & both) == both, 0b11 << 2 * p) for p, code in enumerate(known)])
    chains = (1 << 2 * (n - 1)) - 1  # options that begin by overwriting the first register of the last comparison
    targets = [union([given(view.pair == p, 1 << pair[side]) for p, pair in enumerate(pairs)]) for side in (0, 1)]
    moves = [given((view.spare & target) != 0, chains << 2 * (n - 1) * side) for side, target in enumerate(targets)]
    wise = given((agent == MOV) & ((view.spare >> n) == 1), saves) | given(agent == CMP, comparisons)
    wise = wise | given(agent >= CMOVL, union(moves))
    every = union([given(agent == owner, (1 << int(count)) - 1) for owner, count in enumerate(counts)])
    return once(jnp.where(wise == 0, every, wise))


def view_words(agent: chex.Array, view: View) -> tuple[chex.Array, chex.Array]:
    """Two words, one-to-one with what the agent sees: relations; then agent, pair, spare registers and score."""
    own = agent.astype(jnp.uint32) | (view.pair.astype(jnp.uint32) << 2) | (view.spare << 6)
    return view.relation, own | (view.score.astype(jnp.uint32) << 11)


def view_bits(agent: chex.Array, view: View, num_values: int) -> chex.Array:
    """``[4 P + n + 2]`` float32: relations, pair and spare registers as zeros and ones, then the share of the score."""
    pairs = len(kernel.register_pairs(num_values))
    pair = (jnp.arange(pairs, dtype=jnp.int32) == view.pair) & (agent >= CMOVL)
    share = view.score.astype(jnp.float32) / jnp.float32(kernel.best_score(num_values))
    seen = [spread(view.relation, 3 * pairs), pair, spread(view.spare, num_values + 1), share[None]]
    return jnp.concatenate([part.astype(jnp.float32) for part in seen])


def all_words(situation: Situation) -> tuple[chex.Array, ...]:
    """``n (n+1) + 3`` words, one-to-one with all that matters: registers; flags and pair only where they are used.

    ``mov`` and ``cmp`` do not read the flags, and nothing that follows can before ``cmp`` has set them again.
    """
    used, machine = situation.agent >= CMOVL, situation.machine
    own = situation.agent.astype(jnp.uint32) | (jnp.where(used, situation.pair, 0).astype(jnp.uint32) << 2)
    flags = given(used, machine.less), given(used, machine.greater)
    return *(word for register in machine.registers for word in register), *flags, own


def all_bits(situation: Situation) -> chex.Array:
    """``[n! (n (n+1) + 2) + 4 + P]`` float32 of zeros and ones: every register and flag in every run, agent, pair."""
    machine = situation.machine
    runs = len(kernel.permutations(machine.num_values))
    words = [*(word for register in machine.registers for word in register), machine.less, machine.greater]
    agent = jnp.arange(4, dtype=jnp.int32) == situation.agent
    pair = jnp.arange(len(kernel.register_pairs(machine.num_values)), dtype=jnp.int32) == situation.pair
    return jnp.concatenate([*(spread(word, runs) for word in words), agent, pair]).astype(jnp.float32)
