"""Teams that learn to write sorting programs: training, and the programs that their greedy policies write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.checks import random_option
from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.drawing.training import AgentRecord
from icsmdp_jax.envs.cpu_sort import CpuSort, CpuSortParams, cpu_sort, machine
from icsmdp_jax.exact.returns import Interval
from icsmdp_jax.experiments.training import POINTS, Budget, agents_of, offers_per_handoff
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.curves import Curves
from icsmdp_jax.learner.diagnostics import HandoffGraph, handoff_graph
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.grid import GridTrainer, replica_keys
from icsmdp_jax.learner.methods import named
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner

CENTRAL = "central_learner"
GAMMA = {2: 0.9, 3: 0.9, 4: 0.97}  # with 0.9 the reward at the end of 20 instructions is lost among other differences


class Written(NamedTuple):
    """Programs, one for each run.

    Attributes:
      correct: ``[R]`` bool, whether the program sorts every permutation.
      length: ``[R]`` int, its instructions.
      sorted_share: ``[R]`` share of the permutations that it sorts.
      program: ``[R, limit + 1]`` int indices into ``machine.instructions``, negative after the end.
    """

    correct: np.ndarray
    length: np.ndarray
    sorted_share: np.ndarray
    program: np.ndarray


class Team(NamedTuple):
    """What the runs of one method learned.

    Attributes:
      tables: ``[R, Z, O]`` float32 values.
      written: the programs of their greedy policies.
      scalars: numbers that the program's offers pass on at each handoff.
      correct: ``[R, P]`` bool, whether the program was correct at ``P`` points of training.
      handoffs: ``[P]`` handoffs of each run up to there.
      agents: what each agent learned from between two points.
    """

    tables: np.ndarray
    written: Written
    scalars: float
    correct: np.ndarray
    handoffs: np.ndarray
    agents: AgentRecord


def trained(method: str, num_values: int, budget: Budget, seed: int) -> Team:
    """Trains the runs of a method side by side and lets them write.

    Args:
      method: ``ic_q``, ``central_learner`` (shown everything), ``no_message`` or ``immediate``.
      num_values: 2 to 4.
      budget: handoffs, runs, steps and exploration.
      seed: of all runs.

    Returns:
      What was learned.
    """
    env, params = cpu_sort(num_values, gamma=GAMMA[num_values], sees_all=method == CENTRAL)
    learner = ParallelLearner(
        env,
        networks.tabular(env.spec.num_interfaces, env.spec.num_options),
        copies=budget.copies,
        length=budget.length,
        explore=budget.explore,
        bootstrap=named(method).bootstrap,
    )
    explore = ramp(budget.epsilon_begin, budget.epsilon_end, budget.ramp_share * budget.updates)
    hyper = Hyper(params, None, budget.step_size("tabular"), None, explore)

    def write(table: jax.Array) -> Written:
        key = jax.random.key(0)  # nothing is random
        return _written(env, params, lambda _, now: learner.greedy(table, now, hyper), key)

    keys = replica_keys(jax.random.key(seed), budget.replicas)
    points = min(POINTS, budget.updates)
    # Compiled in full: at a lower level the machine's integer arithmetic takes ten times as long.
    curves, run = GridTrainer(learner, hyper, options=None).record(keys, budget.updates, points, write)
    found: Curves = jax.tree.map(lambda leaf: leaf[0], curves)
    assert found.returns is not None
    written, handoffs = jax.tree.map(lambda leaf: leaf[:, -1], found.returns), budget.handoffs_at(found.updates[0])
    scalars = offers_per_handoff(learner, jax.tree.map(jnp.asarray, hyper))
    return Team(run.params[0], written, scalars, found.returns.correct, handoffs, agents_of(found))


def _written(
    env: CpuSort, params: CpuSortParams, choose: Callable[[jax.Array, Handoff], jax.Array], key: jax.Array
) -> Written:
    """The program that a policy ``(key, decision) -> option`` writes, from the empty one to its end; traceable."""
    now, state = env.reset(key, params)

    def step(carry: Any, step_key: jax.Array) -> tuple[Any, None]:
        now, state, over = carry
        after = env.step_env(step_key, state, choose(step_key, now), params)
        now, state = jax.tree.map(lambda new, old: jnp.where(over, old, new), after, (now, state))
        return (now, state, over | now.terminated | now.truncated), None

    keys = jax.random.split(key, env.length_limit)
    (_, state, _), _ = jax.lax.scan(step, (now, state, jnp.zeros((), bool)), keys)
    ended = state.situation.machine
    count = ended.holds.shape[1]
    in_place = jnp.all(machine.contents(ended)[:, :count] == jnp.arange(1, count + 1, dtype=jnp.int32), axis=1)
    return Written(machine.is_sorted(ended), state.length, jnp.mean(in_place, dtype=jnp.float32), state.program)  # type: ignore[arg-type]


def random_workflow(num_values: int, episodes: int, seed: int) -> Written:
    """What uniformly random options write, in independent episodes."""
    env, params = cpu_sort(num_values, as_bits=True)

    def episode(key: jax.Array) -> Written:
        return _written(env, params, lambda step_key, now: random_option(step_key, now.mask), key)

    keys = jax.random.split(jax.random.key(seed), episodes)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(episode))(keys))


def share(hits: np.ndarray) -> Interval:
    """The fraction of hits among independent runs, with Wilson's 95 % interval.

    Args:
      hits: ``[R]`` bool.
    """
    from scipy import stats

    count, runs = int(np.sum(hits)), len(hits)
    found = stats.binomtest(count, runs).proportion_ci(0.95, method="wilson")
    return Interval(count / runs, float(found.low), float(found.high), runs)


def unshaped(env: CpuSort, params: CpuSortParams) -> Any:
    """The exact listing without the potential: the return of a correct program of ``L`` instructions is
    ``gamma^(L-1)``, that of any other 0."""
    return env.exact_model(params._replace(shaping=np.float32(0)))


def handoffs_in(written: Written, num_values: int) -> HandoffGraph:
    """Who hands to whom in programs: a segment is a run of instructions of one class, which one agent owns.

    Args:
      written: the programs, counted alike.
      num_values: of the machine.
    """
    kinds, count, runs = machine.instructions(num_values)[:, 0], len(machine.NAMES), len(written.length)
    handoffs, durations = np.zeros((2, runs, count, count))
    ended = np.zeros((runs, count))
    for run, (program, length) in enumerate(zip(written.program, written.length, strict=True)):
        agents = kinds[program[:length]]
        first = np.flatnonzero(np.diff(agents, prepend=-1))
        lasted = np.diff(first, append=length)
        np.add.at(handoffs[run], (agents[first[:-1]], agents[first[1:]]), 1)
        np.add.at(durations[run], (agents[first[:-1]], agents[first[1:]]), lasted[:-1])
        ended[run, agents[-1]] += 1
    return handoff_graph(handoffs, durations, ended)
