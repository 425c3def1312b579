"""Training with learning curves, and what a learner is worth: ``train`` and ``evaluate`` for any ``Setup``.

Both map over seeds. ``train`` is pure: it may be jitted and mapped over keys, and what it records is summed inside the
compiled program, so that a run of any length leaves as many numbers as it has points. With callbacks, or a state to
resume from, the parts of training are called one by one from the host: one program, whatever their lengths, so that
where a run was interrupted changes no bit.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import is_traced, listed, of_type, one_key, whole, within
from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.core.words import html_table, in_short
from icsmdp_jax.exact.returns import Interval, mean_interval
from icsmdp_jax.learner import fits
from icsmdp_jax.learner.callbacks import Callback, Point
from icsmdp_jax.learner.parallel import ParallelLearner
from icsmdp_jax.learner.parallel_state import Hyper, State
from icsmdp_jax.learner.setups import Setup
from icsmdp_jax.learner.simulated_returns import discounted_returns, random_option

POINTS = 50  # of a curve unless asked otherwise
REMAINING = 1e-3  # discount that may be left where a simulated return stops
PILOT = 64  # handoffs from which the horizon is judged
LONGEST = 8192  # handoffs of a simulated return


class Curves(NamedTuple):
    """What training records about itself, at some numbers of updates; with seeds every field has a leading axis.

    Attributes:
      updates: ``[P]`` int32, updates so far.
      reward: ``[P]`` float32, mean segment reward since the point before.
      td_error: ``[P, N]`` float32, root mean square of each agent's temporal differences since then.
      visits: ``[P, N]`` int32, decisions of each agent since then.
      returns: ``[P]`` float32, mean return of the greedy policy over simulated episodes; None unless asked for.

    That is all that a run records: ``4 P (2 N + 3)`` bytes for each seed, 400 KB for 1000 agents, however many
    updates there are. For single updates, and who hands to whom, see ``ParallelLearner.run`` and its field ``graph``.
    """

    updates: chex.Array
    reward: chex.Array
    td_error: chex.Array
    visits: chex.Array
    returns: chex.Array | None

    def __repr__(self) -> str:
        return in_short(self)


class Evaluation(NamedTuple):
    """The discounted return of a learner's greedy policy, simulated.

    Attributes:
      value: mean with its 95 % interval: over seeds if there are several, else over simulated episodes.
      normalised: the same on the scale 0 random workflow, 1 oracle with full state; None without an exact model.
      random: return of the random workflow, exact with a model, else simulated.
      oracle: return of the oracle; None without an exact model.
      remaining: mean discount that was left where the simulation stopped.
    """

    value: Interval
    normalised: Interval | None
    random: float
    oracle: float | None
    remaining: float

    def __repr__(self) -> str:
        return f"Evaluation({self})"

    def _repr_html_(self) -> str:
        rows = [("return", _text(self.value)), ("random workflow", f"{self.random:.4g}")]
        if self.oracle is not None:
            rows.append(("oracle (full state)", f"{self.oracle:.4g}"))
        if self.normalised is not None:
            rows.append(("from 0 (random) to 1 (oracle)", _text(self.normalised)))
        return html_table(rows)

    def __str__(self) -> str:
        text = f"return {_text(self.value)}, random workflow {self.random:.4g}"
        if self.normalised is None:
            return text
        return f"{text}, oracle {self.oracle:.4g}: {_text(self.normalised)} on the scale from 0 (random) to 1 (oracle)"


def _text(value: Interval) -> str:
    return f"{value.mean:.4g} [{value.ci_low:.4g}, {value.ci_high:.4g}]"


def train(
    one: Setup,
    key: chex.PRNGKey,
    updates: int,
    *,
    seeds: int | None = None,
    at: Sequence[int] | None = None,
    episodes: int = 0,
    horizon: int | None = None,
    start: State | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[State, Curves]:
    """Trains a method from new parameters, or resumes.

    The parameters are those of ``one.learner.train(key, one.hyper, updates)``, whatever is recorded: the key is split,
    one half for ``one.learner.init`` and one for ``run``.

    Args:
      one: what ``setup`` returned.
      key: source of randomness.
      updates: number of updates; each is made of ``copies * length`` handoffs.
      seeds: independent runs side by side, from ``jax.random.split(key, seeds)``; None for one run without that axis.
      at: increasing numbers of updates at which to record, the last one ``updates``; about 50 evenly spaced ones
        unless given.
      episodes: simulated episodes behind each return on the curve; 0 for a curve without returns.
      horizon: handoffs of each episode; as many as leave 0.1 % of the discount unless given.
      start: a state to resume from, as ``train`` returned it or ``load_checkpoint`` read it; with the key of its run
        the bits are those of a run without interruption. ``updates`` includes its own; the curves begin after those.
      callbacks: called on the host at each point of the curve, between compiled programs, with a ``Point``; training
        stops after a point at which one returns True. Not inside ``jit``.

    Returns:
      The state and the curves.

    Raises:
      ValueError: in one line, for numbers out of range, or a state of another setup.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> icq = ic.setup(env, params, copies=8, length=4)
      >>> state, curves = ic.train(icq, jax.random.key(0), updates=20, seeds=2)
      >>> curves.reward.shape
      (2, 20)
    """
    of_type(Setup, "what setup returned", one=one)
    whole(1, updates=updates)
    within(1, 2**31 - 1, updates=updates)
    whole(0, episodes=episodes)
    if seeds is not None:
        whole(1, seeds=seeds)
    if horizon is not None:
        whole(1, horizon=horizon)
    key = one_key(key)
    points = _points(updates, at)
    if episodes and horizon is None:
        horizon = horizon_of(one)

    callbacks = listed("callbacks", callbacks, "a list of functions of a Point", Callable)  # type: ignore[arg-type]
    if start is not None or callbacks:
        return _in_parts(one, key, points, seeds, episodes, horizon or 1, start, callbacks)
    run = partial(_train, one.learner, points, episodes, horizon or 1)
    if seeds is None:
        return run(key, one.hyper)
    return jax.vmap(run, in_axes=(0, None))(jax.random.split(key, seeds), one.hyper)


def _points(updates: int, at: Sequence[int] | None) -> tuple[int, ...]:
    if at is None:
        count = min(POINTS, updates)
        return tuple(updates * (i + 1) // count for i in range(count))
    expected = f"increasing numbers of updates from 1 to {updates}, the last one it"
    points = listed("at", at, expected, numbers.Integral)
    steps = np.diff((0, *points))
    if not points or (steps < 1).any() or points[-1] != updates:
        raise ValueError(f"at = {points}: expected {expected}")
    return tuple(int(point) for point in points)


@partial(jax.jit, static_argnames=("learner", "points", "episodes", "horizon"))
def _train(
    learner: ParallelLearner, points: tuple[int, ...], episodes: int, horizon: int, key: chex.PRNGKey, hyper: Hyper
) -> tuple[State, Curves]:
    return recorded(learner, np.diff((0, *points)), key, hyper, _worth(learner, episodes, horizon, key, hyper))


def _worth(
    learner: ParallelLearner, episodes: int, horizon: int, key: chex.PRNGKey, hyper: Hyper
) -> Callable[[State], chex.Array | None]:
    """The mean simulated return of a state's greedy policy; nothing without episodes."""

    def worth(state: State) -> chex.Array | None:
        if not episodes:
            return None
        keys = jax.random.fold_in(jax.random.fold_in(key, 1), state.updates)
        return jnp.mean(_rollouts(learner, episodes, horizon, keys, state.params, hyper)[0])

    return worth


def recorded(
    learner: ParallelLearner, lengths: np.ndarray, key: chex.PRNGKey, hyper: Hyper, look: Callable[[State], Any]
) -> tuple[State, Curves]:
    """Trains from new parameters as ``learner.train`` does, and records sums over ``P`` consecutive parts of training.

    Nothing is kept of single updates, so the size of the record depends on its ``P`` points alone.

    Args:
      learner: the learner.
      lengths: ``[P]`` updates of each part.
      key: source of randomness.
      hyper: traced inputs.
      look: what is recorded of the state at the end of each part.

    Returns:
      The state and the curves, with what ``look`` found instead of returns.
    """
    key_init, key_run = jax.random.split(key)

    def next_part(state: State, count: chex.Array) -> tuple[State, Curves]:
        return part(learner, key_run, hyper, look, state, count)

    return jax.lax.scan(next_part, learner.init(key_init, hyper), jnp.asarray(lengths, jnp.int32))


def part(
    learner: ParallelLearner, key: chex.PRNGKey, hyper: Hyper, look: Callable[[State], Any], state: State,
    count: chex.Array,
) -> tuple[State, Curves]:  # fmt: skip
    """``count`` updates, and one point of the curves; ``key`` is the second half of the run's."""
    agents = learner.env.spec.num_agents
    none = (jnp.float32(0.0), jnp.zeros((agents,), jnp.float32), jnp.zeros((agents,), jnp.int32))

    def update(_: chex.Array, carry: tuple[State, Any]) -> tuple[State, Any]:
        state, (reward, square, visits) = carry
        state, told = learner.run(key, state, hyper, 1)
        seen = jax.tree.map(lambda leaf: leaf[0], told)
        return state, (reward + seen.reward, square + seen.td_square, visits + seen.visits)

    state, (reward, square, visits) = jax.lax.fori_loop(0, count, update, (state, none))
    error = jnp.sqrt(square / jnp.maximum(visits, 1).astype(jnp.float32))
    return state, Curves(state.updates, reward / count.astype(jnp.float32), error, visits, look(state))


def _in_parts(
    one: Setup, key: chex.PRNGKey, points: tuple[int, ...], seeds: int | None, episodes: int, horizon: int,
    start: State | None, callbacks: Sequence[Callback],
) -> tuple[State, Curves]:  # fmt: skip
    """``_train`` as a loop on the host: one program, whatever the lengths of the parts."""
    if is_traced(key) or any(map(is_traced, jax.tree.leaves((one.hyper, start)))):
        raise ValueError("train: is traced, expected neither callbacks nor start inside jit or vmap")
    done = 0
    if start is not None:
        start, seeds, done = _resumed(one, start, seeds)
    if done >= points[-1]:
        raise ValueError(f"updates = {points[-1]}: start has {done} already, expected more than that")
    ahead = [point for point in points if point > done]
    keys = key if seeds is None else jax.random.split(key, seeds)
    state = _begin(one.learner, seeds, keys, one.hyper) if start is None else start
    rows: list[Curves] = []
    try:
        for count, updates in zip(np.diff((done, *ahead)), ahead, strict=True):
            state, row = _advance(one.learner, seeds, episodes, horizon, keys, one.hyper, state, np.int32(count))
            rows.append(row)
            if callbacks:
                each = updates * one.learner.copies * one.learner.length
                point = Point(updates, points[-1], each, jax.device_get(row), state, key)
                if any([tell(point) for tell in callbacks]):  # all of them are told
                    break
    finally:
        for tell in callbacks:
            getattr(tell, "close", lambda: None)()
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=0 if seeds is None else 1), *rows)


def _resumed(one: Setup, start: State, seeds: int | None) -> tuple[State, int | None, int]:
    """A state to resume from, its number of seeds and of updates; what does not fit the setup is refused."""
    of_type(State, "a state that train returned", start=start)
    shape = np.shape(start.updates)
    many = None if shape == () else int(shape[0])
    if seeds not in (None, many):
        raise ValueError(f"seeds = {seeds}: start has {many or 'no axis of seeds'}, expected the same")
    fits.check_leaves(fits.named_leaves(fits.state_shapes(one.learner, one.hyper, many)), fits.named_leaves(start))
    counts = np.unique(np.asarray(start.updates))
    if len(counts) != 1:
        raise ValueError(f"start: seeds with {counts.tolist()} updates, expected one number")
    return start, many, int(counts[0])


def _over_seeds(seeds: int | None, function: Any, axes: tuple[int | None, ...]) -> Any:
    return function if seeds is None else jax.vmap(function, in_axes=axes)


@partial(jax.jit, static_argnames=("learner", "seeds"))
def _begin(learner: ParallelLearner, seeds: int | None, keys: chex.Array, hyper: Hyper) -> State:
    def begin(key: chex.PRNGKey, hyper: Hyper) -> State:
        return learner.init(jax.random.split(key)[0], hyper)

    return _over_seeds(seeds, begin, (0, None))(keys, hyper)


@partial(jax.jit, static_argnames=("learner", "seeds", "episodes", "horizon"))
def _advance(
    learner: ParallelLearner, seeds: int | None, episodes: int, horizon: int, keys: chex.Array, hyper: Hyper,
    state: State, count: chex.Array,
) -> tuple[State, Curves]:  # fmt: skip
    def advance(key: chex.PRNGKey, hyper: Hyper, state: State, count: chex.Array) -> tuple[State, Curves]:
        look = _worth(learner, episodes, horizon, key, hyper)
        return part(learner, jax.random.split(key)[1], hyper, look, state, count)

    return _over_seeds(seeds, advance, (0, None, 0, None))(keys, hyper, state, count)


@partial(jax.jit, static_argnames=("learner", "episodes", "horizon"))
def _rollouts(
    learner: ParallelLearner, episodes: int, horizon: int, key: chex.PRNGKey, params: Any, hyper: Hyper
) -> tuple[chex.Array, chex.Array]:
    def policy(given: Any, key: chex.PRNGKey, now: Handoff) -> chex.Array:
        return learner.greedy(given, now, hyper)

    return discounted_returns(learner.env, hyper.env_params, policy, key, episodes, horizon, params)


def horizon_of(one: Setup, episodes: int = 64) -> int:
    """Handoffs after which a random policy has about ``REMAINING`` of the discount left, from what ``PILOT`` leave."""
    env, params = (one.learner.env, one.hyper.env_params) if one.origin is None else one.origin
    left = float(np.mean(discounted_returns(env, params, random_option, jax.random.key(0), episodes, PILOT)[1]))
    if left <= REMAINING:
        return PILOT
    times = math.log(REMAINING) / math.log(left) if left < 1 else math.inf
    return PILOT * math.ceil(min(times, LONGEST / PILOT))


def evaluate(
    one: Setup, state: State | Any, key: chex.PRNGKey, *, episodes: int = 1024, horizon: int | None = None
) -> Evaluation:
    """The discounted return of the greedy policy from ``env.reset``, by simulation of independent episodes (D3).

    Args:
      one: what ``setup`` returned.
      state: what ``train`` returned, or parameters alone; with or without an axis of seeds.
      key: source of randomness.
      episodes: simulated episodes for each seed; where episodes do not end, they are cut.
      horizon: handoffs of each episode; as many as leave 0.1 % of the discount unless given.

    Returns:
      The return with its interval, and where the environment has an exact model also on the scale from the random
      workflow to the oracle, both exact.

    Raises:
      ValueError: in one line, for numbers out of range or parameters of another network.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> icq = ic.setup(env, params, copies=8, length=4)
      >>> state, curves = ic.train(icq, jax.random.key(0), updates=20, seeds=2)
      >>> ic.evaluate(icq, state, jax.random.key(1), episodes=16, horizon=64).value.replicas
      2
    """
    of_type(Setup, "what setup returned", one=one)
    whole(2, episodes=episodes)
    if horizon is not None:
        whole(1, horizon=horizon)
    key = one_key(key)
    params = state.params if isinstance(state, State) else state
    extra = fits.leading_axes(one.learner.values, one.hyper.data, params)
    if extra > 1:
        raise ValueError(f"state: parameters with {extra} leading axes, expected one of seeds, or none")
    steps = horizon_of(one) if horizon is None else horizon
    each = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None] if extra == 0 else jnp.asarray(leaf), params)
    seeds = jax.tree.leaves(each)[0].shape[0]
    run = jax.vmap(partial(_rollouts, one.learner, episodes, steps), in_axes=(0, 0, None))
    worth, left = run(jax.random.split(key, seeds), each, one.hyper)
    sample = np.asarray(worth, np.float64)
    value = mean_interval(sample[0] if seeds == 1 else sample.mean(axis=1))
    if seeds == 1:
        value = value._replace(replicas=1)
    known = one.returns
    if known is None:
        env, env_params = one.origin if one.origin is not None else (one.learner.env, one.hyper.env_params)
        random = discounted_returns(env, env_params, random_option, jax.random.fold_in(key, 1), episodes, steps)[0]
        return Evaluation(value, None, float(np.asarray(random, np.float64).mean()), None, float(np.mean(left)))
    scaled = None
    if known.has_scale:
        mean, low, high = (float(known.normalised(end)) for end in value[:3])
        scaled = Interval(mean, low, high, value.replicas)
    return Evaluation(value, scaled, known.random, known.oracle, float(np.mean(left)))
