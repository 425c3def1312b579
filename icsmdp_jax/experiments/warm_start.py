"""A new agent joins a planted workflow and starts from the parameters of the existing ones: handoffs saved.

Planted backwards, so that the hull has a meaning: all agents have linear values on common features, and the new agent's
solution is a convex combination of the experts' parameters (inside), that with a component of its own (near), or that
component alone (outside). Rewards are whatever makes this the fixed point. Where rewards are combined instead, the
maximum over options is not linear in them and the solution leaves the hull, by as much as the table says.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.envs.planted.model import PlantedConfig, PlantedModel, planted_coefficients, planted_model
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact.returns import Returns, greedy, mean_interval
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import say
from icsmdp_jax.experiments.cooperation import cooperation_tables
from icsmdp_jax.experiments.course import course_handoffs
from icsmdp_jax.experiments.result import Result, Table, over_replicas
from icsmdp_jax.learner.exploration import uniform_option
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.mixing import Loss, combine, mix
from icsmdp_jax.learner.networks import linear
from icsmdp_jax.learner.schedules import polynomial
from icsmdp_jax.learner.train import init_run, replica_keys, run_chunk
from icsmdp_jax.models.tabular import TabularModel

SEEN = (("topic", "stage"), ("topic",), ("stage",), ("topic", "stage"), ("topic", "stage"))  # the last is the new one
CONFIG = PlantedConfig.far_sighted(
    num_agents=len(SEEN), fields=(("topic", 4), ("stage", 2), ("risk", 2)), views=SEEN, planted_atoms=8
)  # fmt: skip
NEW = len(SEEN) - 1
WEIGHTS = np.array([0.1, 0.2, 0.65, 0.05])  # of the experts, where the task is inside the hull
OWN = {"inside": 0.0, "near": 0.2, "outside": 1.0}  # share of a component of its own in the new agent's parameters
FAMILIES = (*OWN, "rewards")
METHODS = {
    "cold_start": "cold start",
    "uniform_mixing": "uniform mixing",
    "data_size_mixing": "mixing by data size",
    "gradient_free_mixing": "gradient-free mixing",
    "full_gradient_mixing": "full-gradient mixing",
}
SEARCHED = ("gradient_free_mixing", "full_gradient_mixing")  # what they watch counts as handoffs spent
COOPERATES = "the workflow after gradient-free mixing inside the hull"
GOAL, WITHIN = 0.95, 0.02
CHUNK, STEPS = 100, 400
EXPERIENCE, WARM = 2_000_000, 1000  # own updates that step sizes begin from, of experts and of a warm start
NEAR_FULL = f"Gradient-free mixing is within {WITHIN} of full-gradient mixing inside the hull, in return and in values"
SAVES = "Gradient-free mixing saves handoffs inside the hull, what it watched included"


class Task(NamedTuple):
    """A member of the family: same structure, another solution of the new agent.

    Attributes:
      model: the IC-SMDP; ``features [Z, M]`` are common to all tasks.
      planted: ``[N, O, M]`` parameters of all agents; those of the solution, unless rewards were combined.
      returns: exact returns.
      floor: return where the new agent picks at random and the others greedily in ``Q_phi``: 0 of the scale.
    """

    model: TabularModel
    planted: np.ndarray
    returns: Returns
    floor: float

    def scaled(self, tables: np.ndarray) -> np.ndarray:
        """Exact returns of greedy policies, 0 for a random new agent, 1 for the oracle; ``[..., Z, O] -> [...]``."""
        return (self.returns.of_greedy(tables) - self.floor) / (self.returns.oracle - self.floor)


def tasks(config: PlantedConfig = CONFIG, weights: np.ndarray = WEIGHTS) -> dict[str, Task]:
    """The tasks ``inside``, ``near``, ``outside`` and ``rewards``, with features that are white over all interfaces."""
    drawn, new = planted_coefficients(config), config.num_agents - 1

    def planted(own: np.ndarray) -> PlantedModel:
        return planted_model(config, np.concatenate([drawn[:new], own[None]]))

    mixed = np.tensordot(weights, drawn[:new], axes=1)
    made = {name: planted((1 - share) * mixed + share * drawn[new]) for name, share in OWN.items()}
    raw = made["inside"].features_of(np.tile(np.arange(config.planted_atoms), (config.num_agents, 1)))
    factor = np.linalg.cholesky(raw.T @ raw / len(raw)) * np.sqrt(config.planted_atoms)  # mean square length 1
    found = {
        name: _task(one.model.replace(features=np.linalg.solve(factor, raw.T).T), one.coefficients, factor)
        for name, one in made.items()
    }
    rate = np.tensordot(weights, [planted(drawn[k]).model.reward_rate for k in range(new)], axes=1)
    inside = found["inside"]
    found["rewards"] = _task(inside.model.replace(reward_rate=rate), made["inside"].coefficients, factor)
    return found


def _task(model: TabularModel, coefficients: np.ndarray, factor: np.ndarray) -> Task:
    returns, new = Returns(model), coefficients.shape[0] - 1
    policy = np.eye(model.num_options)[greedy(returns.q_phi.q, model.option_mask)]
    policy[model.interface_agent == new] = 1 / model.num_options
    parameters = np.swapaxes(coefficients, 1, 2) @ factor / coefficients.shape[1]
    return Task(model, parameters, returns, returns.of(policy, by_state=False))


def distance(task: Task, weights: np.ndarray | None = None) -> float:
    """``||Q_phi - Q_alpha||_d / ||Q_phi||_d`` over the new agent's interfaces; of the nearest combination if None."""
    new = task.planted.shape[0] - 1
    own, features = task.model.interface_agent == new, task.model.features
    assert features is not None
    root = np.sqrt(task.returns.interface.pair_weight[own])
    target = (root * task.returns.q_phi.q[own]).reshape(-1)
    values = np.stack([(root * (features[own] @ theta.T)).reshape(-1) for theta in task.planted[:new]], axis=1)
    if weights is None:
        heavy = 1e6 * np.linalg.norm(target)  # holds the sum at 1
        weights = nnls(np.vstack([values, np.full(new, heavy)]), np.append(target, heavy))[0]
    return float(np.linalg.norm(target - values @ weights) / np.linalg.norm(target))


class Watched(NamedTuple):
    """Segments of a workflow at random options, ``[B]`` each; who decided, what was seen, and what came of it."""

    agent: jax.Array
    interface: jax.Array
    option: jax.Array
    reward: jax.Array
    discount: jax.Array
    receiver: jax.Array
    received: jax.Array


def watch(env: Environment, params: Any, key: jax.Array, count: int) -> Watched:
    """``count`` handoffs with uniformly random options."""

    def turn(carry: Any, words: jax.Array) -> tuple[Any, Watched]:
        now, state = carry
        option = uniform_option(words[-1], now.mask)
        after, state = env.step_from_words(words[:-1], state, option, params)
        row = Watched(now.agent, now.interface, option, after.reward, after.discount, after.final_agent,
                      after.final_interface)  # fmt: skip
        return (after, state), row

    first, then = jax.random.split(key)
    words = random_words(then, count, env.words_per_step + 1)
    return jax.lax.scan(turn, env.reset(first, params), words)[1]


def mixing_loss(planted: jax.Array, features: jax.Array, seen: Watched) -> Loss:
    """Mean square temporal difference of the new agent's segments, as a function of its coefficients.

    What receivers offer is one scalar each: others from parameters of their own, the new agent from the combination
    ``held``. The agent evaluates its own parameters only.
    """
    experts, new = planted[:-1], planted.shape[0] - 1
    own = (seen.agent == new).astype(jnp.float32)
    view, ahead = features[seen.interface], features[seen.received]
    offered = jnp.max(jnp.einsum("bom,bm->bo", planted[seen.receiver], ahead), axis=1)

    def loss(alpha: jax.Array, held: jax.Array) -> jax.Array:
        mine = jnp.max(ahead @ combine(experts, held).T, axis=1)
        target = seen.reward + seen.discount * jnp.where(seen.receiver == new, mine, offered)
        value = jnp.sum(view * combine(experts, alpha)[seen.option], axis=1)
        return jnp.sum(own * (value - target) ** 2) / jnp.maximum(own.sum(), 1)

    return loss


def coefficients(planted: jax.Array, features: jax.Array, seen: Watched, key: jax.Array) -> dict[str, jax.Array]:
    """``[K]`` coefficients of every method of mixing, from what was watched."""
    count = planted.shape[0] - 1
    loss = mixing_loss(planted, features, seen)
    values = jnp.einsum("bm,kbm->bk", features[seen.interface], planted[:-1][:, seen.option])
    own = (seen.agent == count).astype(jnp.float32)[:, None]
    spread = jnp.sum(own * (values - values.mean(axis=1, keepdims=True)) ** 2) / jnp.maximum(own.sum(), 1)
    size = 0.5 / spread  # the curvature along the simplex is at most twice the spread: forward passes are enough
    visits = jnp.bincount(seen.agent, length=count + 1)[:-1].astype(jnp.float32)
    return {
        "uniform_mixing": jnp.full((count,), 1 / count, jnp.float32),
        "data_size_mixing": visits / visits.sum(),
        "gradient_free_mixing": mix(loss, count, STEPS, size / (count - 1), key),
        "full_gradient_mixing": mix(loss, count, STEPS, size),
    }


def train(
    learner: Learner, inputs: Inputs, start: jax.Array, clock: jax.Array, key: jax.Array, points: int, chunks: int
) -> jax.Array:
    """``[points, N, O, M]`` parameters of one run of IC-Q from ``start``, every ``chunks * CHUNK`` handoffs.

    The clocks of the experts' step sizes show ``EXPERIENCE``, as they have learned before; the new agent's shows
    ``clock``: at 0 the first steps would wipe out what it starts from.
    """
    state = init_run(learner, key, inputs)
    own = state.learner
    clocks = jax.tree.map(lambda count: count.at[:-1].set(EXPERIENCE).at[-1].set(clock), own.opt_state)
    state = state._replace(learner=own._replace(params=start, opt_state=clocks))

    def part(state: Any, _: None) -> tuple[Any, jax.Array]:
        state = jax.lax.fori_loop(0, chunks, lambda _, now: run_chunk(learner, now, inputs, CHUNK), state)
        return state, state.learner.params

    return jax.lax.scan(part, state, None, points)[1]


class Found(NamedTuple):
    """What a task gave: by method ``[replicas, K]`` coefficients and ``[replicas, points + 1]`` scaled returns."""

    weights: dict[str, np.ndarray]
    course: dict[str, np.ndarray]


def until(course: np.ndarray, every: int, before: int = 0) -> np.ndarray:
    """``[replicas]`` handoffs until a curve first reaches ``GOAL``; the length of the run where it does not.

    Args:
      course: ``[replicas, points + 1]`` scaled returns, the first at the start.
      every: handoffs between two points.
      before: handoffs spent before the start.
    """
    there = course >= GOAL
    first = np.where(there.any(axis=1), there.argmax(axis=1), course.shape[1] - 1)
    return before + every * first


def run(options: Options) -> Result:
    """Handoffs until 95 % of the oracle by way of starting, inside, near and outside the experts' hull."""
    replicas, points = options.pick(2, 12, 32), options.pick(3, 60, 100)
    chunks, watched = 5, options.pick(200, 1000, 1000)
    every, made = chunks * CHUNK, tasks()
    env = tabular_env(made["inside"].model, name=options.name)[0]
    learner = Learner(env, linear(CONFIG.num_agents, CONFIG.num_options))
    keys = replica_keys(jax.random.key(options.seed), replicas)
    step = polynomial(0.8, 0.05, 0.5)

    def one(params: Any, features: jax.Array, planted: jax.Array, key: jax.Array) -> tuple[Any, Any]:
        look, search, go = jax.random.split(key, 3)
        found = coefficients(planted, features, watch(env, params, look, watched), search)
        own = {"cold_start": jnp.zeros_like(planted[0]), **{m: combine(planted[:-1], w) for m, w in found.items()}}
        starts = jnp.stack([planted.at[-1].set(own[method]) for method in METHODS])
        inputs = Inputs(params, features, None, step, jnp.float32(0), jnp.float32(1))
        run = jax.vmap(partial(train, learner, inputs, points=points, chunks=chunks), (0, 0, None))
        clocks = jnp.array([0 if method == "cold_start" else WARM for method in METHODS], jnp.int32)
        return found, jnp.concatenate([starts[:, None], run(starts, clocks, go)], axis=1)

    program = jax.jit(jax.vmap(one, (None, None, None, 0)))
    results = {}
    for name, task in made.items():
        say(options.name, name)
        features = np.asarray(task.model.features, np.float32)
        weights, params = program(
            tabular_env(task.model, name=options.name)[1], features, task.planted.astype(np.float32), keys
        )
        rows = np.asarray(params, np.float64)[
            :, :, :, task.model.interface_agent
        ]  # [replicas, methods, points, Z, O, M]
        tables = np.einsum("rmpzof,zf->rmpzo", rows, features)
        course = task.scaled(tables)
        if name == "inside":
            seen = course_handoffs(task.model, tables[0, list(METHODS).index(SEARCHED[0]), 1:], seed=options.seed)
        results[name] = Found(
            {method: np.asarray(found, np.float64) for method, found in weights.items()},
            {method: course[:, i] for i, method in enumerate(METHODS)},
        )
    result = _result(options, made, results, every, watched)
    return dataclasses.replace(result, tables=[*result.tables, *cooperation_tables(seen, COOPERATES)])


def _result(options: Options, made: dict[str, Task], results: dict[str, Found], every: int, watched: int) -> Result:
    spent = {
        name: {m: until(curve, every, watched * (m in SEARCHED)) for m, curve in found.course.items()}
        for name, found in results.items()
    }
    rows = []
    for name, found in results.items():
        for method, text in METHODS.items():
            errors = [distance(made[name], w) for w in found.weights.get(method, ())]
            rows.append([
                name, text, over_replicas(np.array(errors)) if errors else "-",
                over_replicas(found.course[method][:, 0]),
                over_replicas(spent[name][method]), over_replicas(spent[name]["cold_start"] - spent[name][method]),
                int((found.course[method].max(axis=1) < GOAL).sum()),
            ])  # fmt: skip
    inside = results["inside"]
    off = {m: np.array([distance(made["inside"], w) for w in inside.weights[m]]) for m in SEARCHED}
    start = {m: inside.course[m][:, 0] for m in SEARCHED}
    free, full = SEARCHED
    near = all(np.abs(found[free] - found[full]).mean() <= WITHIN for found in (start, off))  # run by run
    saves = bool(over_replicas(spent["inside"]["cold_start"] - spent["inside"][free]).ci_low > 0)
    judged = options.preset != "testing"
    experts = made["inside"].planted[:-1].size
    return Result(
        environment=options.name,
        metric=f"handoffs until {GOAL:.0%} of the oracle, inside the hull".replace("%", " %"),
        methods={method: over_replicas(spent["inside"][method]) for method in METHODS},
        higher_is_better=False,
        names=METHODS,
        exact={f"distance_from_hull_{name}": distance(task) for name, task in made.items()},
        checks={NEAR_FULL: near if judged else None, SAVES: saves if judged else None},
        settings={
            "seed": options.seed, "replicas": len(spent["inside"][free]), "watched": watched, "steps": STEPS,
            "handoffs": every * (inside.course[free].shape[1] - 1), "weights": WEIGHTS,
        },  # fmt: skip
        tables=[Table(
            "Ways of starting, by where the new agent's solution lies: errors are relative to its own values in "
            "||.||_d, returns are 0 with a random new agent and 1 for the oracle",
            ("task", "start", "error of the start", "return of the start", f"handoffs until {GOAL}", "handoffs saved",
             "runs that never get there"),
            rows, name="families",
        )],
        figures={"families": partial(_figure, results, every)},
        remarks=[
            f"The experts' parameters cross once, {experts} numbers; afterwards one scalar crosses at each handoff. "
            f"The two searched mixtures watch {watched} handoffs first, which count as spent.",
            "All agents continue to learn, from a uniformly random behaviour; returns are exact, of the workflow that "
            f"is greedy in all their values. Step sizes of a warm start begin as if after {WARM} own updates, those of "
            "a cold start at 0. Handoffs are those until the goal is first reached, even if the noise of learning "
            "takes a run below it again; a run that never gets there counts as its length.",
            "Where rewards are combined instead of values, the solution leaves the hull, since a maximum is not "
            f"linear: by {distance(made['rewards']):.3g} of its norm here; near and outside by "
            f"{distance(made['near']):.3g} and {distance(made['outside']):.3g}.",
            f"Inside the hull the searched mixtures start {start[free].mean():.4f} (gradient-free) and "
            f"{start[full].mean():.4f} (full gradient) of the way to the oracle, with errors of "
            f"{off[free].mean():.4f} and {off[full].mean():.4f} of the values' norm; run by run they differ by "
            f"{np.abs(start[free] - start[full]).mean():.4f} and {np.abs(off[free] - off[full]).mean():.4f}.",
        ],
    )  # fmt: skip


def _figure(results: dict[str, Found], every: int) -> Any:
    """Scaled returns over handoffs, one panel for each task."""
    from icsmdp_jax.drawing import style

    figure = style.new_figure(style.FULL_WIDTH, 3.9)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).reshape(-1)
    words = {"inside": "inside the hull", "near": "near it", "outside": "outside", "rewards": "rewards combined"}
    for place, (axes, (name, found)) in enumerate(zip(panels, results.items(), strict=True)):
        for (method, course), (colour, marker, dashes) in zip(found.course.items(), style.LOOKS, strict=False):
            at = every * np.arange(course.shape[1])
            mean, low, high, _ = mean_interval(course)
            axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(
                at, mean, color=colour, marker=marker, ls=dashes, ms=3.5, lw=1.2, markevery=(2 * place, 12),
                label=METHODS[method],
            )  # fmt: skip
        axes.axhline(GOAL, color=style.GREY, lw=0.8, ls=":")
        style.letter(axes, place, words[name])
    for axes in panels[2:]:
        axes.set_xlabel("handoffs after the start")
    figure.supylabel("return (0: random new agent, 1: oracle)", fontsize=8.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, handlelength=3.2)
    return figure
