"""Who writes what: the agents of the sorting-kernel IC-SMDP, their options, and what each of them sees (D1).

Four agents own one instruction class each and write a program together. An option is a short run of the agent's own
instructions, and the agent that goes on:

* ``mov`` saves a register: ``mov s r_i``, then hands to ``cmp``. ``n`` options.
* ``cmp`` compares: ``cmp a b`` with any ``a < b``, then hands to ``cmovl`` or to ``cmovg``. ``n (n+1)`` options.
* ``cmovl`` and ``cmovg`` go on where the last comparison, of ``a`` and ``b``, left off, with two conditional moves in a
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

Nobody sees which runs are which, so how the relations of different pairs go together stays hidden. An option is
available if, as far as the agent sees, it loses nothing and can change something: a save needs a spare scratch that
does not already hold the register, a comparison needs both outcomes to occur, a chain needs its first target to be
spare. An agent with no such option has to take one of the others: whoever handed over has made the mistake.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.envs.cpu_sort import machine as kernel
from icsmdp_jax.envs.cpu_sort.machine import Machine

AGENTS = kernel.NAMES
MOV, CMP, CMOVL, CMOVG = range(4)
LONGEST_RUN = 2  # instructions
NOTHING = -1  # no instruction, in a run that is shorter


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
      relation: ``[P]`` int32, see ``machine.relations``.
      spare: ``[n+1]`` bool; False for registers that the agent cannot overwrite.
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
      registers: ``[P, 2]`` int32 the two registers of each pair.
    """

    counts: np.ndarray
    program: np.ndarray
    receiver: np.ndarray
    instruction: np.ndarray
    compared: np.ndarray
    registers: np.ndarray


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
    return OptionTables(counts, program, receiver, rows, compared, np.array(pairs, np.int32))


def begin(num_values: int) -> Situation:
    """The empty program, in the hands of ``mov``, since chains need something saved: host arrays."""
    return Situation(kernel.start(num_values), np.int32(MOV), np.int32(0))


def advance(
    situation: Situation, option: chex.Array
) -> tuple[Situation, chex.Array, chex.Array, chex.Array, chex.Array]:
    """Runs one option.

    Args:
      situation: where the program stands.
      option: ``[]`` int32.

    Returns:
      The situation entered, ``tau`` ``[]`` int32 (instructions appended), the instructions ``[2]`` int32 (``NOTHING``
      after the last), and two ``[]`` bool: whether the program is now correct, and whether it has lost a value.
    """
    tables = option_tables(situation.machine.holds.shape[1])
    chosen = jnp.asarray(tables.program)[situation.agent, situation.pair, option]
    rows = jnp.asarray(tables.instruction)
    first = kernel.execute(situation.machine, rows[chosen[0]])
    second = kernel.execute(first, rows[chosen[1]])
    ended = kernel.is_sorted(first) | kernel.has_lost(first) | (chosen[1] == NOTHING)
    entered = Machine(*(jnp.where(ended, one, two) for one, two in zip(first, second, strict=True)))
    receiver = jnp.asarray(tables.receiver)[situation.agent, option]
    pair = jnp.where(situation.agent == CMP, jnp.asarray(tables.compared)[option], situation.pair)
    tau = jnp.where(ended, 1, 2).astype(jnp.int32)
    chosen = chosen.at[1].set(jnp.where(ended, NOTHING, chosen[1]))
    return Situation(entered, receiver, pair), tau, chosen, kernel.is_sorted(entered), kernel.has_lost(entered)


def look(situation: Situation) -> View:
    """What the active agent sees."""
    n = situation.machine.holds.shape[1]
    agent = situation.agent
    everything = jnp.uint32(kernel.all_runs(n))
    flagged = jnp.where(agent == CMOVL, situation.machine.less, situation.machine.greater)
    runs = jnp.where(agent < CMOVL, everything, flagged)
    pair = jnp.where(agent < CMOVL, 0, situation.pair)
    register = jnp.arange(n + 1)
    compared = jnp.any(register[:, None] == jnp.asarray(option_tables(n).registers)[pair], axis=1)
    writable = jnp.where(agent == MOV, register == n, (agent != CMP) & compared)
    return View(
        relation=kernel.relations(situation.machine, runs),
        spare=kernel.spare(situation.machine, runs) & writable,
        pair=pair,
        score=kernel.score(situation.machine),
    )


def available(agent: chex.Array, view: View) -> chex.Array:
    """``[O]`` bool: options of the active agent, as far as it sees; see the module docstring.

    Each option is available for one reason among a few: a product of the reasons that hold with a matrix of zeros and
    ones says which. (Picking the reason of each option by its number would let XLA compute the view once per option.)
    """
    n = view.spare.shape[0] - 1
    both = kernel.BELOW | kernel.ABOVE
    scratch = [kernel.register_pairs(n).index((k, n)) for k in range(n)]
    moves = (agent == MOV) & view.spare[n]
    saves = [moves & (view.relation[p] != kernel.EQUAL) for p in scratch]
    comparisons = [(agent == CMP) & ((view.relation[p] & both) == both) for p in range(view.relation.shape[0])]
    at_pair = jnp.asarray(_registers_of_pairs(n))[view.pair]  # [2, n+1]: targets of chains in either order
    chains = (agent >= CMOVL) & jnp.any(at_pair & view.spare, axis=1)
    wise = jnp.stack([*saves, *comparisons, chains[0], chains[1]])
    nothing_wise = ~jnp.any(wise) & (jnp.arange(len(AGENTS)) == agent)
    reasons = jnp.concatenate([wise, nothing_wise]).astype(jnp.float32)
    return reasons @ jnp.asarray(_options_by_reason(n)) > 0


@lru_cache(maxsize=8)
def _registers_of_pairs(num_values: int) -> np.ndarray:
    """``[P, 2, n+1]`` bool, one-hot codes of the two registers of each pair."""
    return option_tables(num_values).registers[:, :, None] == np.arange(num_values + 1)


@lru_cache(maxsize=8)
def _options_by_reason(num_values: int) -> np.ndarray:
    """``[n + P + 2 + 4, O]`` float32: options that a reason makes available; the last four: all of one agent's."""
    n, tables = num_values, option_tables(num_values)
    pairs, width = len(tables.registers), len(tables.compared)
    out = np.zeros((n + pairs + 2 + len(AGENTS), width), np.float32)
    out[np.arange(n), np.arange(n)] = 1
    for option in range(2 * pairs):
        out[n + option // 2, option] = 1
    for option in range(4 * (n - 1)):
        out[n + pairs + option // (2 * (n - 1)), option] = 1
    out[n + pairs + 2 :] = np.arange(width) < tables.counts[:, None]
    return out


def view_words(agent: chex.Array, view: View) -> chex.Array:
    """``[2]`` uint32, one-to-one with what the agent sees: relations; then agent, pair, spare registers and score."""
    relation, spare = jnp.uint32(0), jnp.uint32(0)
    for p in range(view.relation.shape[0]):
        relation = relation | (view.relation[p].astype(jnp.uint32) << 3 * p)
    for k in range(view.spare.shape[0]):
        spare = spare | (view.spare[k].astype(jnp.uint32) << k)
    own = agent.astype(jnp.uint32) | (view.pair.astype(jnp.uint32) << 2) | (spare << 6)
    return jnp.stack([relation, own | (view.score.astype(jnp.uint32) << 11)])


def view_bits(agent: chex.Array, view: View) -> chex.Array:
    """``[4 P + n + 2]`` float32: relations, pair and spare registers as zeros and ones, then the share of the score."""
    n = view.spare.shape[0] - 1
    relation = (view.relation[:, None] & jnp.array([kernel.BELOW, kernel.EQUAL, kernel.ABOVE])) != 0
    pair = (jnp.arange(view.relation.shape[0]) == view.pair) & (agent >= CMOVL)
    share = view.score.astype(jnp.float32) / jnp.float32(kernel.best_score(n))
    return jnp.concatenate([relation.reshape(-1), pair, view.spare, share[None]]).astype(jnp.float32)


def all_words(situation: Situation) -> chex.Array:
    """``[n (n+1) + 3]`` uint32, one-to-one with all that matters: registers; flags and pair only where they are used.

    ``mov`` and ``cmp`` do not read the flags, and nothing that follows can before ``cmp`` has set them anew.
    """
    used = situation.agent >= CMOVL
    less = jnp.where(used, situation.machine.less, jnp.uint32(0))
    greater = jnp.where(used, situation.machine.greater, jnp.uint32(0))
    own = situation.agent.astype(jnp.uint32) | (jnp.where(used, situation.pair, 0).astype(jnp.uint32) << 2)
    return jnp.concatenate([situation.machine.holds.reshape(-1), jnp.stack([less, greater, own])])


def all_bits(situation: Situation) -> chex.Array:
    """``[n! (n (n+1) + 2) + 4 + P]`` float32 of zeros and ones: every register and flag in every run, agent, pair."""
    n = situation.machine.holds.shape[1]
    words = jnp.concatenate(
        [situation.machine.holds.reshape(-1), jnp.stack([situation.machine.less, situation.machine.greater])]
    )
    bits = (words[:, None] >> jnp.arange(len(kernel.permutations(n)), dtype=jnp.uint32)) & jnp.uint32(1)
    agent = jnp.arange(4) == situation.agent
    pair = jnp.arange(len(kernel.register_pairs(n))) == situation.pair
    return jnp.concatenate([bits.reshape(-1), agent, pair]).astype(jnp.float32)
