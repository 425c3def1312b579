"""Writing a sorting program as an IC-SMDP: agents that own instruction classes append to it in turn (D1, D2).

The artifact is the program with the joint register file and flags that it leaves; ``team.py`` says who the agents are,
what their options do and what they see. One primitive step is one instruction, and ``tau`` the length of the run.

Reward: 1 for the instruction that makes the program correct, discounted by ``gamma`` per instruction, so that the
return of a correct program of ``L`` instructions is ``gamma^(L-1)`` and a shortest one is best. Added to this is the
difference ``gamma^tau Phi(s') - Phi(s)`` of a potential, ``Phi = shaping (2 x - 1)``, where ``x`` is the program's
score as a share of the best one: the share of (run, ``i < j``) with ``r_i < r_j``. ``Phi`` is 0 at the start, and is
taken as 0 at a terminal handoff, so that it adds 0 to the return of every episode that ends by itself: neither the
values of programs nor their order depend on it.

Terminal handoffs: the program is correct, or it has lost a value and can never become correct (no reward). A program
of ``length_limit`` instructions or more is *truncated*: the limit is not part of the model, so the discount stays.
Nothing is random; a run starts with the empty program in the hands of ``mov``.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import expect, flag, whole
from icsmdp_jax.core.arrival import Ended, arrive, no_segment
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.core.words import in_short
from icsmdp_jax.envs.cpu_sort import machine as kernel
from icsmdp_jax.envs.cpu_sort import team
from icsmdp_jax.envs.cpu_sort.model import sorting_model
from icsmdp_jax.envs.cpu_sort.numbering import buckets, digest, place_of
from icsmdp_jax.envs.cpu_sort.reach import interface_numbers, listing, reachable
from icsmdp_jax.envs.cpu_sort.team import Situation, View
from icsmdp_jax.envs.cpu_sort.words import spread
from icsmdp_jax.models.tabular import TabularModel

LENGTH_LIMIT = {2: 8, 3: 16, 4: 28}  # default limits: room for programs longer than the shortest known ones
BUCKETS = 2**14  # interfaces per agent where they are too many to be listed


class CpuSortState(NamedTuple):
    """State of one copy.

    Attributes:
      situation: registers, flags, active agent and last comparison.
      program: ``[length_limit + 1]`` int8 indices into ``machine.instructions``, ``team.NOTHING`` after the end.
      length: ``[]`` int32, instructions so far.
    """

    situation: Situation
    program: chex.Array
    length: chex.Array

    def __repr__(self) -> str:
        return in_short(self)


class CpuSortParams(NamedTuple):
    """Traced numbers.

    Attributes:
      gamma: ``[]`` float32 discount of one instruction.
      shaping: ``[]`` float32 weight of the potential; 0 switches it off.
      salt: ``[]`` uint32, chooses the hash with which interfaces are numbered.
      keys: ``[V]`` uint32 hashes of all interfaces, ascending; empty where they are not listed.
      first: ``[2^b]`` int32, where to look for a hash in ``keys``, see ``numbering.buckets``.
    """

    gamma: chex.Array
    shaping: chex.Array
    salt: chex.Array
    keys: chex.Array
    first: chex.Array

    def __repr__(self) -> str:
        return in_short(self)


@dataclasses.dataclass(frozen=True)
class CpuSort(Environment[CpuSortState, CpuSortParams]):
    """Sorting ``num_values`` values; make one with ``cpu_sort``.

    Interfaces are numbers. For two and three values they count what the agents can ever see, without gaps or
    collisions; for four, which is too many to list, they are hashes, and two views may share a number. The last number
    is that of a terminal handoff, and of views to which only unavailable options lead.

    Attributes:
      num_values: ``n``.
      length_limit: number of instructions at which a program is cut.
      listed: ``V``, how many interfaces are listed; 0 if they are hashes.
      fullest: largest number of listed hashes with the same leading bits, see ``numbering.buckets``.
      sees_all: whether the active agent is shown the whole state: the central learner.
      as_bits: whether an interface is a vector of zeros and ones, for networks, instead of a number.
    """

    num_values: int
    length_limit: int
    listed: int = 0
    fullest: int = 0
    sees_all: bool = False
    as_bits: bool = False

    @property
    def spec(self) -> EnvSpec:
        """Static facts of this environment."""
        n = self.num_values
        pairs, runs = len(kernel.register_pairs(n)), len(kernel.permutations(n))
        width = runs * (n * (n + 1) + 2) + len(team.AGENTS) + pairs if self.sees_all else 4 * pairs + n + 2
        count = (self.listed or len(team.AGENTS) * BUCKETS) + 1
        return EnvSpec(
            name=f"cpu-sort{n}",
            num_agents=len(team.AGENTS),
            num_options=int(team.option_tables(n).counts.max()),
            num_interfaces=0 if self.as_bits else count,
            interface_shape=(width,) if self.as_bits else (),
            interface_dtype=jnp.float32 if self.as_bits else jnp.int32,
            longest_duration=team.LONGEST_RUN,
            exact_oracle=n < 4 and not self.as_bits,
        )

    def reset(self, key: chex.PRNGKey, params: CpuSortParams) -> tuple[Handoff, CpuSortState]:
        """The empty program; ``key`` is not used."""
        situation = jax.tree.map(jnp.asarray, team.begin(self.num_values))
        program = jnp.full((self.length_limit + 1,), team.NOTHING, jnp.int8)
        handoff = self._handoff(situation, team.look(situation), params, no_segment())
        return handoff, CpuSortState(situation, program, jnp.int32(0))

    def step_env(
        self, key: chex.PRNGKey, state: CpuSortState, option: chex.Array, params: CpuSortParams
    ) -> tuple[Handoff, CpuSortState]:
        """Appends one run of instructions; ``key`` is not used (D2).

        An option beyond the agent's last one (never available) stands for the option modulo the agent's number.
        """
        before = state.situation
        entered, tau, appended, correct, lost = team.advance(before, option)
        length = state.length + tau
        terminated = correct | lost
        truncated = (length >= self.length_limit) & ~terminated
        one, both = params.gamma, params.gamma * params.gamma
        discount = jnp.where(terminated, 0.0, jnp.where(tau == 1, one, both))
        paid = jnp.where(correct, jnp.where(tau == 1, 1.0, one), 0.0)
        view = team.look(entered)
        gained = discount * self._potential(view.score, params)
        reward = paid + gained - self._potential(kernel.score(before.machine), params)
        place = jnp.arange(self.length_limit + 1, dtype=jnp.int32) - state.length
        one, two = (instruction.astype(jnp.int8) for instruction in appended)
        program = jnp.where(place == 0, one, jnp.where(place == 1, two, state.program))
        ended = Ended(reward, tau, discount, terminated, truncated)
        handoff = self._handoff(entered, view, params, ended)
        return handoff, CpuSortState(entered, program, length)

    def global_view(self, state: CpuSortState, params: CpuSortParams) -> chex.Array:
        """``[n! (n (n+1) + 2) + 4 + P]`` float32 of zeros and ones: registers, flags, whose turn, last comparison."""
        return team.all_bits(state.situation)

    def exact_model(self, params: CpuSortParams) -> TabularModel:
        """A finite IC-SMDP, exact for whatever can be finished below the length limit (D1).

        Raises:
          ValueError: for four values, or for interfaces that are vectors.
        """
        if self.as_bits:
            raise ValueError("as_bits = True: expected numbered interfaces")
        reach = reachable(self.num_values, self.length_limit)
        numbers = self._numbers(params)
        return sorting_model(self.num_values, reach, numbers, self.listed, float(params.gamma), float(params.shaping))

    def interface_features(self, params: CpuSortParams) -> np.ndarray:
        """``[Z, width]`` float32: the bits behind every interface number, for networks; zeros for the terminal one."""
        reach = reachable(self.num_values, self.length_limit)
        shown = dataclasses.replace(self, as_bits=True)
        bits = np.asarray(jax.jit(jax.vmap(lambda situation: shown.interface(situation, params)))(reach.situation))
        features = np.zeros((self.spec.num_interfaces, bits.shape[1]), np.float32)
        features[self._numbers(params)] = bits
        return features

    def _numbers(self, params: CpuSortParams) -> np.ndarray:
        reach = reachable(self.num_values, self.length_limit)
        return interface_numbers(reach, self.sees_all, np.uint32(params.salt), np.asarray(params.keys))

    def interface(self, situation: Situation, params: CpuSortParams) -> chex.Array:
        """What the active agent is shown: ``[]`` int32 or ``[width]`` float32."""
        return self._interface(situation, team.look(situation), params)

    def _interface(self, situation: Situation, view: View, params: CpuSortParams) -> chex.Array:
        if self.as_bits:
            own = team.view_bits(situation.agent, view, self.num_values)
            return team.all_bits(situation) if self.sees_all else own
        words = team.all_words(situation) if self.sees_all else team.view_words(situation.agent, view)
        key = digest(words, params.salt)
        if not self.listed:
            return situation.agent * BUCKETS + (key % jnp.uint32(BUCKETS)).astype(jnp.int32)
        return place_of(key, params.keys, params.first, self.fullest)

    def _potential(self, score: chex.Array, params: CpuSortParams) -> chex.Array:
        """``[]`` float32 potential ``Phi`` of a program with this score, 0 at the start."""
        share = score.astype(jnp.float32) / jnp.float32(kernel.best_score(self.num_values))
        return params.shaping * (2 * share - 1)

    def _handoff(self, situation: Situation, view: View, params: CpuSortParams, ended: Ended) -> Handoff:
        interface = self._interface(situation, view, params)
        if not self.as_bits:
            interface = jnp.where(ended.terminated, jnp.int32(self.spec.num_interfaces - 1), interface)
        options = team.available(situation.agent, view, self.num_values)
        mask = spread(options, self.spec.num_options) | ended.terminated
        return arrive(situation.agent, interface, mask, ended)


def cpu_sort(
    num_values: int,
    length_limit: int | None = None,
    gamma: float = 0.9,
    shaping: float = 1.0,
    sees_all: bool = False,
    as_bits: bool = False,
) -> tuple[CpuSort, CpuSortParams]:
    """The environment ``cpu-sort<n>`` and its parameters.

    Args:
      num_values: ``n``, from 2 to 4.
      length_limit: number of instructions at which a program is cut; by default from ``LENGTH_LIMIT``.
      gamma: discount of one instruction, in ``(0, 1)``.
      shaping: weight of the potential.
      sees_all: whether the active agent is shown the whole state: the central learner.
      as_bits: whether interfaces are vectors of zeros and ones.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for another number of values, or a limit or a discount out of range.
    """
    kernel.check_size(num_values)
    limit = LENGTH_LIMIT[num_values] if length_limit is None else length_limit
    whole(1, length_limit=limit)
    expect("a number between 0 and 1", gamma=gamma)
    expect("a finite number", shaping=shaping)
    flag(sees_all=sees_all, as_bits=as_bits)
    salt, keys = np.uint32(0), np.zeros(0, np.uint32)
    if num_values < 4 and not as_bits:
        salt, keys = listing(num_values, limit, sees_all)
    first, fullest = buckets(keys)
    env = CpuSort(num_values, limit, len(keys), fullest, sees_all, as_bits)
    numbers = jnp.float32(gamma), jnp.float32(shaping), jnp.uint32(salt)
    return env, CpuSortParams(*numbers, keys=jnp.asarray(keys), first=jnp.asarray(first))
