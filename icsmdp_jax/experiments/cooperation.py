"""How the learned workflow cooperates, as tables of a result: patterns, process metrics, handoffs over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.checks import random_option
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.experiments.result import Table
from icsmdp_jax.traces import patterns
from icsmdp_jax.traces.cooperation import complete, wanted
from icsmdp_jax.traces.patterns import CUT, END, Handoffs

FINDINGS, EDGES = 8, 12  # rows that are shown
EXPLORED = 0.1  # share of random options in the workflow whose handoffs are shown
METRICS = {
    "solved": "share of runs that are solved",
    "handoffs_per_solved": "handoffs per solved run",
    "useful_share": "share of time in solved runs, outside repeated laps",
    "busiest_share": "share of time of the busiest agent",
    "errors": "offers that fall by more than a standard deviation",
    "recovered": "share of these after which offers recover in the same run",
    "handoffs_to_recover": "handoffs until then, mean",
}


def played(
    env: Environment,
    params: Any,
    table: np.ndarray,
    agents: Sequence[str],
    longest: int,
    runs: int = 200,
    seed: int = 0,
) -> Handoffs:
    """Runs of a native environment, for those that cannot be listed: greedy in a table, ``EXPLORED`` of it at random.

    Every option is tried at each decision to see whom it leads to, which is exact where nothing is random.

    Args:
      env: the environment, interfaces numbered.
      params: its parameters.
      table: ``[Z, O]`` values.
      agents: their names.
      longest: handoffs after which a run is cut.
      runs: how many.
      seed: of the simulation.
    """
    values, nobody = jnp.asarray(table), env.spec.num_agents

    def turn(carry: Any, key: jax.Array) -> tuple[Any, tuple[jax.Array, ...]]:
        now, state, over = carry
        chance, blind, go = jax.random.split(key, 3)
        best = jnp.argmax(jnp.where(now.mask, values[now.interface], -jnp.inf)).astype(jnp.int32)
        explores = jax.random.uniform(chance, (), jnp.float32) < EXPLORED
        option = jnp.where(explores, random_option(blind, now.mask), best)
        every = jnp.arange(env.spec.num_options, dtype=jnp.int32)
        tried = jax.vmap(env.step_env, (None, None, 0, None))(go, state, every, params)
        after, entered = jax.tree.map(lambda leaf: leaf[option], tried)
        offered = jnp.max(jnp.where(after.mask, values[after.interface], -jnp.inf))
        row = (
            ~over, now.agent, now.interface, option, after.agent, after.duration, after.reward, offered,
            after.terminated, after.truncated, jnp.where(tried[0].terminated, nobody, tried[0].agent), now.mask, best,
        )  # fmt: skip
        return (after, entered, over | after.terminated | after.truncated), row

    def one(key: jax.Array) -> tuple[jax.Array, ...]:
        first, then = jax.random.split(key)
        start = (*env.reset(first, params), jnp.zeros((), bool))
        return jax.lax.scan(turn, start, jax.random.split(then, longest))[1]

    rows = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), runs))
    live = np.asarray(rows[0])
    (agent, seen, option, follower, duration, reward, offered, ended, cut, reached, mask, best) = (
        np.asarray(row)[live] for row in rows[1:]
    )
    led = np.eye(nobody + 1)[reached][..., :nobody]
    follower = np.where(ended, END, np.where(cut, CUT, follower))
    offered = np.where(follower == END, np.nan, offered)
    columns = (agent, seen, option, follower, duration, reward, offered, *wanted(led, mask, best))
    return complete(agents, np.nonzero(live)[0], *columns)


def cooperation_tables(course: Sequence[Handoffs], who: str = "the learned workflow") -> list[Table]:
    """Tables of handoffs under what was learned at some points of training; patterns are those of the last one.

    Args:
      course: handoffs at each point.
      who: whose runs they are.
    """
    last = course[-1]
    told = {**patterns.process(last), "found": patterns.find(last)}
    rows: list[list[Any]] = [[text, told[name]] for name, text in METRICS.items()]
    rows.append(["idle agents", ", ".join(told["idle"]) or "none"])
    found = [[one.pattern, one.hits, one.trials, one.expected, one.text] for one in told["found"][:FINDINGS]]
    none = [["none", 0, 0, 0.0, "handoffs are as the chain of handoffs predicts"]]
    graphs = [patterns.graph(one, 1) for one in course]
    count = np.concatenate([one["count"] for one in graphs])
    total, names = count.sum(axis=0), (*last.agents, "end")
    top = np.argsort(-total, axis=None, kind="stable")[: min(EDGES, int((total > 0).sum()))]
    edges = []
    for i, j in zip(*np.unravel_index(top, total.shape), strict=True):
        duration, offered = (float(graphs[-1][name][0, i, j]) for name in ("duration", "offered"))
        share = " / ".join(f"{at[i, j] / at.sum():.3f}" for at in count)
        edges.append([last.agents[i], names[j], share, duration, offered])
    runs = f"{len(last.solved)} simulated runs of {who}"
    endless = "" if told["solved"] is not None else ", none of which ends, so that none counts as solved"
    when = "after each quarter of training, duration and offer at its end" if len(course) > 1 else (
        "at the end of training, with duration and offer"
    )  # fmt: skip
    return [
        Table(f"How agents cooperate in {runs}{endless}", ("process", "value"), rows, "process"),
        Table(
            f"Patterns beyond the agents' own chain of handoffs in {runs}; level {patterns.LEVEL} for all together",
            ("pattern", "hits", "of", "predicted", "what was found"), found or none, "patterns",
        ),
        Table(
            f"Who hands to whom: share of all handoffs {when}",
            ("from", "to", "share of handoffs", "mean duration", "mean value offered"), edges, "handoffs",
        ),
    ]  # fmt: skip
