"""One learner on several models at once: what the axes of returns and messages train in a single compiled program.

Models of the same shapes differ in traced arrays only. So models, step sizes and replicas are lanes of one program, and
an axis compiles once for each method.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from icsmdp_jax.devices import placement
from icsmdp_jax.devices.placement import CELLS, PAIRS, REPLICAS, Program, device_grid
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.baselines import Setup, setup
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner
from icsmdp_jax.learner.schedules import StepSize
from icsmdp_jax.models.tabular import TabularModel


class Trained(NamedTuple):
    """What the lanes of an ensemble learned.

    Attributes:
      tables: for each model ``[lanes, Z, O]`` float64 values (over states where the method sees them).
      compile_s: seconds of compilation; 0 where the program was there already.
      handoffs: handoffs simulated.
    """

    tables: list[np.ndarray]
    compile_s: float
    handoffs: int


def compiled(
    function: Callable[..., Any], cells: int, replicas: int, specs: Sequence[PartitionSpec], arguments: Sequence[Any]
) -> tuple[Program, float]:
    """A function of one lane compiled for all cells and replicas on all devices, and the seconds that it took."""
    started = time.perf_counter()
    # On a CPU the backend's higher levels take twice as long and make small programs such as these no faster.
    options: dict[str, Any] | None = {"xla_backend_optimization_level": 1}
    if jax.default_backend() != "cpu":
        options = None
    program = placement.compiled(function, device_grid(cells, replicas), specs, arguments, options)
    return program, time.perf_counter() - started


def replica_keys(seed: int, purpose: int, count: int) -> jax.Array:
    """``[count]`` keys; the first ones are the same whatever the count."""
    key = jax.random.fold_in(jax.random.key(seed), purpose)
    return jax.vmap(lambda replica: jax.random.fold_in(key, replica))(jnp.arange(count))


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """A method on several models of the same shapes.

    Attributes:
      setups: the method on each model.
      learner: the learner of all lanes.
      hyper: its traced inputs, leading axis models.
      programs: what was compiled so far, by number of lanes and updates.
    """

    setups: tuple[Setup, ...]
    learner: ParallelLearner
    hyper: Hyper
    programs: dict[tuple[int, int], Program] = dataclasses.field(default_factory=dict)

    def train(self, keys: jax.Array, steps: StepSize, updates: int) -> Trained:
        """Trains every lane on every model; lanes with one key see one stream of random numbers.

        Args:
          keys: ``[lanes]``.
          steps: leaves ``[models, lanes]``.
          updates: number of updates.

        Returns:
          What was learned, at the last update.
        """

        def lane(key: jax.Array, step: StepSize, hyper: Hyper) -> Any:
            return self.learner.train(key, hyper._replace(step_size=step), updates)[0].params

        shape, seconds = (len(keys), updates), 0.0
        if shape not in self.programs:
            self.programs[shape], seconds = compiled(
                lane, len(self.setups), len(keys), (REPLICAS, PAIRS, CELLS), (keys, steps, self.hyper)
            )
        params = self.programs[shape](keys, steps, self.hyper)
        handoffs = len(self.setups) * len(keys) * updates * self.learner.copies * self.learner.length
        return Trained([self._tables(params, i) for i in range(len(self.setups))], seconds, handoffs)

    def _tables(self, params: Any, index: int) -> np.ndarray:
        data = None if self.hyper.data is None else self.hyper.data[index]
        owner = self.setups[index].model.interface_agent

        def table(own: Any) -> jax.Array:
            return networks.value_table(self.learner.values, own, data, owner)

        mine = jax.tree.map(lambda leaf: leaf[index], params)
        return np.asarray(jax.jit(jax.vmap(table))(mine), np.float64)


def ensemble(models: Sequence[TabularModel], method: str, function_class: str, **settings: Any) -> Ensemble:
    """A method on several models; short descriptions of interfaces are padded with zeros to the longest.

    Args:
      models: models that differ in numbers, agents and descriptions only.
      method: a key of ``baselines.METHODS``.
      function_class: as in ``baselines.setup``.
      **settings: further arguments of ``baselines.setup``.

    Raises:
      ValueError: if the models do not fit into one program.
    """
    setups = tuple(setup(model, method, function_class, **settings) for model in models)
    largest = max(setups, key=lambda one: one.learner.env.spec.num_agents)

    def bare(one: Setup) -> Any:
        return dataclasses.replace(one.learner.env, num_agents=0)  # type: ignore[type-var]

    hypers = [one.hyper for one in setups]
    if function_class != "tabular":
        widest = max(hyper.data.shape[1] for hyper in hypers)
        hypers = [
            hyper._replace(data=np.pad(hyper.data, ((0, 0), (0, widest - hyper.data.shape[1])))) for hyper in hypers
        ]
    shapes = [jax.tree.map(np.shape, hyper) for hyper in hypers]
    if any(bare(one) != bare(largest) for one in setups) or any(shape != shapes[0] for shape in shapes):
        raise ValueError("models: expected the same numbers of states, interfaces, options, successors and durations")
    return Ensemble(setups, largest.learner, jax.tree.map(lambda *leaves: jnp.stack(leaves), *hypers))
