"""Do the parts of a learner fit together? Checked when it is built or traced; one line names what does not fit.

Sizes and types are known then and cost nothing; numbers are checked where they are not traced.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import optax

from icsmdp_jax.core.arguments import each, listed, of_type, shown, whole, within
from icsmdp_jax.core.checks import check_types, same_types
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.learner.exploration import Ramp
from icsmdp_jax.learner.networks import ValueClass, num_slots
from icsmdp_jax.learner.parallel_state import Hyper
from icsmdp_jax.learner.schedules import StepSize


def check_parts(env: Any, values: Any) -> None:
    """Refuses what is not an environment or a function class, and tables for interfaces that are not numbers.

    Raises:
      ValueError: in one line.
    """
    if not isinstance(env, Environment):
        raise ValueError(f"env = {shown(env)}: expected an Environment")
    if not isinstance(values, ValueClass):
        raise ValueError(f"values = {shown(values)}: expected a ValueClass, such as networks.tabular(...)")
    if values.name == "tabular" and not env.spec.num_interfaces:
        raise ValueError(f"values: a table, expected linear, mlp or two-layer, since {env.spec.name} shows vectors")


def check_params(env: Environment, params: Any) -> None:
    """Refuses parameters with which an environment does not run, and handoffs of other types than its ``spec`` says.

    Nothing is computed but shapes.

    Raises:
      ValueError: in one line; what the environment raised is its cause.
    """
    spec = env.spec
    of_type(EnvSpec, "an EnvSpec", spec=spec)
    whole(1, num_agents=spec.num_agents, num_options=spec.num_options)
    whole(0, num_interfaces=spec.num_interfaces, longest_duration=spec.longest_duration)
    shape = listed("interface_shape", spec.interface_shape, "a tuple of lengths")
    whole(1, **each("interface_shape", shape))
    if spec.num_interfaces and shape:
        raise ValueError(f"interface_shape = {shape}: expected () for numbered interfaces (num_interfaces > 0)")
    key, option = jax.random.key(0), jax.ShapeDtypeStruct((), jax.numpy.int32)
    state = _traced(env, "reset", (key, params), params)
    entered = _traced(env, "step", (key, state, option, params), params)
    if not same_types(state, entered):
        raise ValueError(f"env: step of {spec.name} returns a state of another structure, shape or dtype than reset")


def _traced(env: Environment, name: str, arguments: tuple[Any, ...], params: Any) -> Any:
    """Shapes of the state that a method returns, once those of the handoff have been looked at."""
    try:
        made = jax.eval_shape(getattr(env, name), *arguments)
    except Exception as error:  # of the environment's own code
        reason = f"{' '.join(str(error).split()):.150}"
        raise ValueError(
            f"params = {shown(params)}: {name} of {env.spec.name} fails with it ({type(error).__name__}: {reason})"
        ) from error
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], Handoff)):
        raise ValueError(f"env: {name} of {env.spec.name} returned {shown(made)}, expected (handoff, state)")
    check_types(env, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), made[0]), name)
    return made[1]


def leading_axes(values: ValueClass, data: Any, params: Any, sizes: bool = True) -> int:
    """How many axes, of seeds for instance, parameters have besides those of a function class.

    Without ``sizes`` the function class says how many axes there are, not how long they are.

    Raises:
      ValueError: in one line, for parameters of another class.
    """
    expected = jax.eval_shape(lambda: values.init(jax.random.key(0), data))
    if str(jax.tree.structure(expected)) != str(jax.tree.structure(params)):
        raise ValueError("state: parameters of another structure than those of the setup's network")
    wanted, found = ([np.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (expected, params))
    extra = len(found[0]) - len(wanted[0])
    if extra < 0 or sizes and [shape[extra:] for shape in found] != wanted:
        raise ValueError(f"state: parameters of other shapes than those of the setup's network, {wanted[0]} and so on")
    return extra


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by where they are: ``.params['q']``."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def state_shapes(learner: Any, hyper: Hyper, seeds: int | None) -> Any:
    """The state of a ``ParallelLearner`` as shapes and dtypes, with a leading axis of seeds if there are any."""
    made = jax.eval_shape(lambda: learner.init(jax.random.key(0), hyper))
    lead = () if seeds is None else (seeds,)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype), made)


def check_leaves(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    """Refuses leaves of other names, shapes or dtypes than are wanted.

    Raises:
      ValueError: in one line that names the first one.
    """
    for name in sorted(wanted.keys() ^ found.keys()):
        what = "missing" if name in wanted else "unknown"
        raise ValueError(f"state{name}: is {what}, expected the state of this setup")
    for name, one in wanted.items():
        shape, dtype = np.shape(one), jax.numpy.result_type(one)
        has, kind = np.shape(found[name]), jax.numpy.result_type(found[name])
        if (shape, dtype) != (has, kind):
            raise ValueError(f"state{name}: {kind} of shape {list(has)}, expected {dtype} of shape {list(shape)}")


def check_factory(optimiser: Any) -> None:
    """Refuses what does not make an optimiser; the learning rate is the schedule's.

    Raises:
      ValueError: in one line.
    """
    if optimiser is not None and (isinstance(optimiser, tuple) or not callable(optimiser)):
        raise ValueError(
            f"optimiser = {type(optimiser).__name__}: expected a function of a learning rate, such as optax.adam"
        )


def check_transformation(optimiser: Any) -> None:
    """Refuses what is not an optimiser.

    Raises:
      ValueError: in one line.
    """
    if optimiser is not None and not isinstance(optimiser, optax.GradientTransformation):
        raise ValueError(
            f"optimiser = {shown(optimiser)}: expected a GradientTransformation, such as optax.adam(1e-3), or None"
        )


def check_step_size(step_size: Any) -> None:
    """Refuses what is not a schedule.

    Raises:
      ValueError: in one line.
    """
    if not isinstance(step_size, StepSize):
        raise ValueError(f"step_size = {shown(step_size)}: expected a StepSize, such as schedules.constant(0.1)")
    for name, value in step_size._asdict().items():
        within(0, math.inf, **{f"step_size.{name}": value})


def check_hyper(hyper: Any, explore: str) -> None:
    """Refuses what is not traced inputs, and inputs out of range where they are known.

    Raises:
      ValueError: in one line.
    """
    if not isinstance(hyper, Hyper):
        raise ValueError(f"hyper = {type(hyper).__name__}: expected a Hyper")
    check_step_size(hyper.step_size)
    if explore != "behaviour" and not isinstance(hyper.exploration, Ramp):
        raise ValueError(f"hyper.exploration = {shown(hyper.exploration)}: expected a ramp for explore = {explore!r}")
    if isinstance(hyper.exploration, Ramp):
        high = 1.0 if explore == "epsilon-greedy" else math.inf
        for name in ("begin", "end"):
            within(0, high, **{f"hyper.exploration.{name}": getattr(hyper.exploration, name)})
    within(0, 1, **{"hyper.lambda_": hyper.lambda_, "hyper.target_rate": hyper.target_rate})
    within(1, math.inf, **{"hyper.handoffs": hyper.handoffs})


def check_single(hyper: Hyper) -> None:
    """Refuses schedules of several numbers where one run is asked for; under ``vmap`` each run has one.

    Raises:
      ValueError: in one line.
    """
    for name in ("step_size", "exploration"):
        for field, value in (getattr(hyper, name) or StepSize(0, 0, 0, 0))._asdict().items():
            if np.shape(value):
                raise ValueError(
                    f"hyper.{name}.{field}: shape {list(np.shape(value))}, expected one number; map over several"
                )


def check_values(env: Environment, values: ValueClass, data: Any) -> None:
    """Refuses a function class of other sizes than the environment's; shapes alone are computed.

    Raises:
      ValueError: in one line.
    """
    spec = env.spec
    params = jax.eval_shape(lambda: values.init(jax.random.key(0), data))
    slots = num_slots(params)
    if values.name == "tabular":
        if slots != spec.num_interfaces:
            raise ValueError(
                f"values: a table of {slots} interfaces, expected {spec.num_interfaces} as {spec.name} has"
            )
    elif slots not in (spec.num_agents, 1):
        raise ValueError(f"values: parameters of {slots} agents, expected {spec.num_agents} as {spec.name} has")

    def first() -> Any:
        seen = jax.numpy.zeros(spec.interface_shape, spec.interface_dtype)
        own = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape[1:], leaf.dtype), params)
        return values.apply(own, values.view(data, seen))

    try:
        shape = jax.eval_shape(first).shape
    except Exception as error:  # of whichever library the network is made with
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"values: {values.name} does not read interfaces of shape {list(spec.interface_shape)} of {spec.name}: "
            f"{reason:.200}"
        ) from None
    if shape != (spec.num_options,):
        raise ValueError(
            f"values: {list(shape)} values for each interface, expected [{spec.num_options}], one for each option of "
            f"{spec.name}"
        )
