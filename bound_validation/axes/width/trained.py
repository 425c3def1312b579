"""Nets with a trained hidden layer on the width axis: measured, with fitted slopes, and without any certificate.

Two-layer nets ``m^(-1/2) sum_r b_r relu(w_r . x)`` with fixed signs learn by IC-Q in many environments side by side,
under the behaviour policy of the axis. Every start is trained twice, on independent data. What the two runs have in
common is systematic (too few units, or too few updates); what they differ in is due to the data.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from bound_validation.axes.width.spec import TrainedSpec
from bound_validation.intervals import Slope, fitted_slope
from bound_validation.results import NAN, Row, checked
from bound_validation.tasks import Claim, Progress, TaskResult, about
from bound_validation.views import MOSTLY
from icsmdp_jax.devices.placement import compiler_options
from icsmdp_jax.envs.planted.model import PlantedModel
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.returns import mean_interval
from icsmdp_jax.learner import networks, schedules
from icsmdp_jax.learner.exploration import behaviour_table
from icsmdp_jax.learner.grid import GridTrainer
from icsmdp_jax.learner.networks import ValueClass
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner
from icsmdp_jax.learner.updates import Optimiser

UPDATES_PER_CALL = 100  # between two reports of progress
BRIEF = 1000  # updates up to which compiling quickly saves more than it costs
PARTS = ("trained", "trained_bias", "trained_spread")


def work(spec: TrainedSpec) -> int:
    """Handoffs of all runs at all widths."""
    return 2 * spec.starts * spec.samples * len(spec.widths)


def seconds(spec: TrainedSpec) -> float:
    """``Task.seconds`` of all runs at all widths."""
    return sum(about(2 * spec.starts * spec.samples * (3.0 + 0.45 * width)) for width in spec.widths)


def measure(planted: PlantedModel, constants: dict[str, Any], spec: TrainedSpec, progress: Progress) -> TaskResult:
    """Error, systematic part and spread of trained nets at each width, with slopes of the error.

    Args:
      planted: the model of the axis.
      constants: columns of the table that all rows of the axis share.
      spec: what to run.
      progress: counts handoffs.
    """
    result = TaskResult()
    model, squares = planted.model, {part: [] for part in PARTS}  # type: ignore[var-annotated]
    for index, width in enumerate(spec.widths):
        values = networks.two_layer(model.num_agents, model.num_options, width)
        rng = np.random.default_rng([spec.seed, index])
        starts = gaussian_starts(planted, values, rng, spec.starts)
        twice = jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=0), starts)
        tables, compile_s = train(
            planted, values, twice, spec, spec.step * width**-0.5, spec.seed + 1000 * index, progress
        )
        result.compile_s += compile_s
        result.handoffs += 2 * spec.starts * spec.samples
        for part, values_of_part in parts(planted.interface, tables - planted.q_planted).items():
            squares[part].append(values_of_part)
            value, low, high = _root(values_of_part)
            row = Row(
                axis="width", cell=f"width/trained/{index}", series=part, x_name="units per agent and option", x=width,
                width=width, measured=value, ci_low=low, ci_high=high, samples=spec.samples, tail_samples=1,
                function_class="neural", step_rule="adam",
                **constants | {"replicas": spec.starts},
            )  # fmt: skip
            result.rows.append(checked(row))
    error, spread = squares["trained"], squares["trained_spread"]
    share = [float(s.mean() / e.mean()) for e, s in zip(error, spread, strict=True)]
    limited = [i for i, value in enumerate(share) if value < MOSTLY]
    widths = np.array(spec.widths, float)
    chosen = {"width_trained": range(len(widths)), "width_trained_limited": limited}
    for name, indices in chosen.items():
        if len(indices) > 1:
            slope = slope_of(widths[list(indices)], [error[i] for i in indices])
            result.slopes[name] = slope
            result.claims.append(_reported(f"{name}_slope", SLOPE_TEXT[name], slope.slope, slope))
    text = SHARE_TEXT.format(spec.widths[0], share[0], spec.widths[-1], share[-1])
    result.claims.append(_reported("width_trained_share", text, share[-1]))
    return result


SLOPE_TEXT = {
    "width_trained": "Slope in m of the error of nets whose hidden layer is trained, over all widths; no bound is "
    "claimed.",
    "width_trained_limited": "The same over the widths at which most of the squared error is common to runs from one "
    "start on different data, so that more data would not remove it.",
}
SHARE_TEXT = (
    "Share of the trained nets' squared error that the data left undecided: {1:.0%} with {0} units, {3:.0%} with {2}. "
    "Near 1 the nets can represent the solution and more units do not help; more data would."
)


def _reported(name: str, text: str, value: float, slope: Slope | None = None) -> Claim:
    ends = (None, None) if slope is None else (slope.ci_low, slope.ci_high)
    return Claim(name, text, value, "reported", None, *ends)


def gaussian_starts(
    planted: PlantedModel, values: ValueClass, rng: np.random.Generator, starts: int, shared_by_options: bool = False
) -> Any:
    """Parameters ``[starts, N, ...]`` float32 as ``values.init`` draws them: Gaussian hidden weights, no output.

    They are drawn on the host, because the same draws inside a compiled program double the time of compilation.

    Args:
      planted: the model, whose interface vectors the nets read.
      values: a two-layer class.
      rng: source of randomness.
      starts: number of independent starts.
      shared_by_options: whether an agent's options have the same hidden weights, as in T2.1.
    """
    shapes = jax.eval_shape(values.init, jax.random.key(0), _data(planted))

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        shape = (starts, *leaf.shape)
        if path[-1].key == "b":
            return np.zeros(shape, np.float32)
        drawn = rng.standard_normal((*shape[:2], 1, *shape[3:]) if shared_by_options else shape)
        return np.broadcast_to(drawn, shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def fading_adam(updates: int) -> Optimiser:
    """Adam whose step falls linearly to 0 over a run of ``updates``, so that the last iterate is no noisier than an
    average of many."""

    def make(schedule: Any) -> optax.GradientTransformation:
        return optax.adam(lambda count: schedule(count) * jnp.maximum(1 - count / updates, 0.0))

    return make


def train(
    planted: PlantedModel, values: ValueClass, starts: Any, spec: TrainedSpec, step: float, seed: int,
    progress: Progress = lambda done: None,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """IC-Q under the planted behaviour policy, one lane for each start, each on data of its own.

    Args:
      planted: the model; environments start from its stationary law.
      values: the function class.
      starts: parameters with a leading axis of lanes.
      spec: environments, handoffs between updates and number of updates.
      step: of Adam at the start.
      seed: seed of the data.
      progress: counts handoffs of all lanes.

    Returns:
      ``[lanes, Z, O]`` float64 values at the end, and seconds of compilation.
    """
    env, env_params = tabular_env(planted.model, first=planted.interface.chain.stationary)
    learner = ParallelLearner(
        env, values, fading_adam(spec.updates), copies=spec.copies, length=spec.length, explore="behaviour"
    )
    behaviour = behaviour_table(planted.behaviour)
    hyper = Hyper(env_params, jnp.asarray(_data(planted)), schedules.constant(step), behaviour)
    lanes = len(jax.tree.leaves(starts)[0])
    keys = jax.random.split(jax.random.key(seed), 2 * lanes).reshape(2, lanes)
    trainer = GridTrainer(learner, hyper, options=compiler_options() if spec.updates <= BRIEF else None)
    count = min(UPDATES_PER_CALL, spec.updates)
    run = trainer.train_from(starts, (keys[0], keys[1]), spec.updates, count, progress)
    return _tables(planted, values, jax.tree.map(lambda leaf: leaf[0], run.params)), run.compile_s


def _data(planted: PlantedModel) -> np.ndarray:
    """``[Z, dim]`` float32 interface vectors."""
    assert planted.model.features is not None
    return planted.model.features.astype(np.float32)


def _tables(planted: PlantedModel, values: ValueClass, params: Any) -> np.ndarray:
    data, owner = _data(planted), planted.model.interface_agent
    table = jax.jit(jax.vmap(lambda p: networks.value_table(values, p, data, owner)))
    return np.asarray(table(params), np.float64)


def parts(interface: InterfaceModel, errors: np.ndarray) -> dict[str, np.ndarray]:
    """Squares ``[starts]`` of the error, of what both runs of a start have in common, and of the spread between them.

    The inner product of the two runs' errors is an unbiased estimate of the squared norm of the mean error given the
    start, and may be slightly negative; the three satisfy ``error = common + spread`` for each start.

    Args:
      interface: gives the norm ``||.||_d``.
      errors: ``[2 * starts, Z, O]``, the two runs of a start side by side.
    """
    weight = np.where(interface.mask, interface.pair_weight, 0.0)
    one, other = errors[::2], errors[1::2]

    def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sum(weight * a * b, axis=(1, 2))

    both = (inner(one, one) + inner(other, other)) / 2
    common = inner(one, other)
    return {"trained": both, "trained_bias": common, "trained_spread": both - common}


def _root(squares: np.ndarray) -> tuple[float, float, float]:
    """Root of the mean over starts with its 95 % interval; 0 where an estimate of a square is negative."""
    interval = mean_interval(squares)
    value, low, high = (float(np.sqrt(max(end, 0.0))) for end in interval[:3])
    return value, low, high


def slope_of(widths: np.ndarray, squares: list[np.ndarray]) -> Slope:
    """Fitted slope of the root mean squares, with a t-interval from the starts.

    The slope is linear in the logarithms of the roots, and these are smooth functions of means over independent
    starts; its standard error follows from theirs. With a handful of starts resampling them would claim too much.

    Args:
      widths: ``[n]``, 2 or more.
      squares: for each width ``[starts]`` squared errors.
    """
    means = np.array([values.mean() for values in squares])
    fit = fitted_slope(widths, np.sqrt(means))
    starts = len(squares[0])
    if starts < 2:
        return dataclasses.replace(fit, ci_low=NAN, ci_high=NAN)
    errors = np.array([values.std(ddof=1) for values in squares]) / (2 * np.log(10) * means * np.sqrt(starts))
    centred = np.log10(widths) - np.log10(widths).mean()
    half = float(stats.t.ppf(0.975, starts - 1) * np.linalg.norm(centred * errors) / (centred @ centred))
    return dataclasses.replace(fit, ci_low=fit.slope - half, ci_high=fit.slope + half)
