"""One trainer for many settings and replicas of a learner: side by side on all devices, in one compiled program.

A *cell* is a setting of some of the learner's traced inputs: a model, a channel, the parameters of an environment.
Every cell runs all replicas, with the same keys. Models of the same shapes differ in traced arrays only, so an
``Ensemble`` of them is cells of one program too.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from icsmdp_jax.devices.placement import (
    CELLS,
    EVERYWHERE,
    PAIRS,
    REPLICAS,
    Program,
    compiled,
    compiler_options,
    device_grid,
)
from icsmdp_jax.learner.curves import Curves, recorded
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner
from icsmdp_jax.learner.schedules import StepSize
from icsmdp_jax.learner.setups import Setup, setup
from icsmdp_jax.learner.train import replica_keys
from icsmdp_jax.models.tabular import TabularModel

__all__ = ["Ensemble", "GridTrainer", "Trained", "ensemble", "replica_keys"]


class Trained(NamedTuple):
    """What all pairs of a cell and a replica have learned.

    Attributes:
      params: parameters at the last update, ``[cells, replicas, ...]`` host arrays.
      handoffs: handoffs simulated.
      compile_s: seconds of compilation; 0 where the program was there already.
      run_s: seconds of training.
    """

    params: Any
    handoffs: int
    compile_s: float
    run_s: float


def _array(leaf: Any) -> Any:
    """A leaf with a shape; keys and what is on devices stay there."""
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


@dataclasses.dataclass(frozen=True, eq=False)
class GridTrainer:
    """A learner for every pair of a cell and a replica.

    Attributes:
      learner: the learner.
      hyper: its traced inputs, shared by all pairs.
      cells: fields of ``Hyper`` that take the place of shared ones, leaves ``[cells, ...]``; one cell if empty.
      options: compiler options; ``compiler_options()`` unless given.
      programs: what was compiled so far, by shapes.
    """

    learner: ParallelLearner
    hyper: Hyper
    cells: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] | None = dataclasses.field(default_factory=compiler_options)
    programs: dict[Any, Program] = dataclasses.field(default_factory=dict)

    def train(self, keys: jax.Array, updates: int, pairs: Mapping[str, Any] | None = None, parts: int = 1) -> Trained:
        """Trains all pairs from new parameters.

        Args:
          keys: ``[replicas]``; replicas with one key see one stream of random numbers.
          updates: number of updates.
          pairs: fields of ``Hyper`` that differ by cell and replica, leaves ``[cells, replicas, ...]``.
          parts: parts of equal length, after each of which the parameters are recorded.

        Returns:
          What was learned; with more than one part leaves ``[cells, replicas, parts, ...]``.

        Raises:
          ValueError: if the parts do not divide the updates.
        """
        if updates % parts:
            raise ValueError(f"updates = {updates}: expected a multiple of parts = {parts}")

        def pair(key: jax.Array, hyper: Hyper) -> Any:
            if parts == 1:
                return self.learner.train(key, hyper, updates)[0].params
            key_init, key_run = jax.random.split(key)

            def part(state: Any, _: None) -> tuple[Any, Any]:
                after = self.learner.run(key_run, state, hyper, updates // parts)[0]
                return after, after.params

            return jax.lax.scan(part, self.learner.init(key_init, hyper), None, parts)[1]

        program, inputs, compile_s = self._program((updates, parts), pair, [(keys, REPLICAS)], pairs or {})
        begun = time.perf_counter()
        params = program(keys, *inputs)
        return Trained(params, self._handoffs(program, updates), compile_s, time.perf_counter() - begun)

    def record(
        self, keys: jax.Array, updates: int, parts: int, look: Callable[[Any], Any] = lambda params: params
    ) -> tuple[Curves, Trained]:
        """Trains all pairs as ``train`` does and records what each agent learned from in each part of the training.

        Args:
          keys: ``[replicas]``.
          updates: number of updates.
          parts: parts, as equal in length as whole numbers can be.
          look: what to record of the parameters at the end of each part.

        Returns:
          The curves, ``[cells, replicas, parts, ...]`` host arrays, with what ``look`` found instead of returns;
          and the run.
        """
        lengths = np.diff(updates * np.arange(parts + 1) // parts)

        def pair(key: jax.Array, hyper: Hyper) -> tuple[Curves, Any]:
            state, curves = recorded(self.learner, lengths, key, hyper, lambda state: look(state.params))
            return curves, state.params

        program, inputs, compile_s = self._program(("record", updates, parts, look), pair, [(keys, REPLICAS)])
        begun = time.perf_counter()
        curves, params = program(keys, *inputs)
        return curves, Trained(params, self._handoffs(program, updates), compile_s, time.perf_counter() - begun)

    def train_from(
        self,
        starts: Any,
        keys: tuple[jax.Array, jax.Array],
        updates: int,
        per_call: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Trained:
        """Trains all pairs from given parameters, in several calls of one program.

        Args:
          starts: parameters, leaves ``[replicas, ...]``.
          keys: ``[replicas]`` keys of the environments' starts, and of all that follows.
          updates: number of updates, a multiple of ``per_call``.
          per_call: updates between two reports of progress.
          progress: called with the handoffs of all pairs since its last call.

        Raises:
          ValueError: if ``per_call`` does not divide the updates.
        """
        if updates % per_call:
            raise ValueError(f"updates = {updates}: expected a multiple of per_call = {per_call}")

        def begin(key: jax.Array, params: Any, hyper: Hyper) -> Any:
            return self.learner.init(key, hyper)._replace(params=params)

        def advance(key: jax.Array, state: Any, hyper: Hyper) -> Any:
            return self.learner.run(key, state, hyper, per_call)[0]

        first, inputs, begin_s = self._program("begin", begin, [(keys[0], REPLICAS), (starts, REPLICAS)])
        layout = first.grid
        state = first.call(layout.place(keys[0], REPLICAS), layout.place(starts, REPLICAS), *inputs)
        then, inputs, then_s = self._program(per_call, advance, [(keys[1], REPLICAS), (state, PAIRS)])
        begun = time.perf_counter()
        key_run = layout.place(keys[1], REPLICAS)
        for _ in range(updates // per_call):
            state = jax.block_until_ready(then.call(key_run, state, *inputs))
            progress(self._handoffs(then, per_call))
        params = layout.fetch(state.params)
        return Trained(params, self._handoffs(then, updates), begin_s + then_s, time.perf_counter() - begun)

    def _program(
        self,
        name: Any,
        function: Callable[..., Any],
        own: list[tuple[Any, Any]],
        pairs: Mapping[str, Any] | None = None,
    ) -> tuple[Program, list[Any], float]:
        """The program of ``function(*own, hyper)`` of one pair, its arguments after ``own``, seconds of compilation.

        Args:
          name: of the program among those of as many replicas.
          function: of one pair.
          own: first arguments, each with the axes that it has; the first one has those of the replicas.
          pairs: see ``train``.

        Raises:
          ValueError: for inputs of another number of cells or replicas.
        """
        pairs = dict(pairs or {})
        cells = {field: tree for field, tree in self.cells.items() if field not in pairs}
        taken: dict[str, Any] = dict.fromkeys((*cells, *pairs))
        every: list[tuple[Any, Any]] = [(self.hyper._replace(**taken), EVERYWHERE), (cells, CELLS), (pairs, PAIRS)]
        some = [bool(jax.tree.leaves(tree)) for tree, _ in every]  # what has no array cannot be mapped

        def one(*values: Any) -> Any:
            given = iter(values[len(own) :])
            shared, *others = (next(given) if there else tree for there, (tree, _) in zip(some, every, strict=True))
            return function(*values[: len(own)], shared._replace(**others[0], **others[1]))

        replicas = len(own[0][0])
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves((cells, pairs))]
        count = shapes[0][0] if shapes else 1
        for tree, lead in ((cells, (count,)), (pairs, (count, replicas))):
            for leaf in jax.tree.leaves(tree):
                if np.shape(leaf)[: len(lead)] != lead:
                    raise ValueError(f"inputs of shape {np.shape(leaf)}: expected leading axes {lead}")
        layout = device_grid(count, replicas)
        given = [(tree, spec) for there, (tree, spec) in zip(some, every, strict=True) if there]
        inputs = [layout.place(jax.tree.map(_array, tree), spec) for tree, spec in given]
        begun, seconds = time.perf_counter(), 0.0
        key = (replicas, name, *pairs)
        if key not in self.programs:
            specs = [spec for _, spec in (*own, *given)]
            arguments = [*(tree for tree, _ in own), *inputs]
            self.programs[key] = compiled(one, layout, specs, arguments, self.options)
            seconds = time.perf_counter() - begun
        return self.programs[key], inputs, seconds

    def _handoffs(self, program: Program, updates: int) -> int:
        pairs = program.grid.cells * program.grid.replicas
        return pairs * updates * self.learner.copies * self.learner.length


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """A method on several models of the same shapes, in one program.

    Attributes:
      setups: the method on each model.
      trainer: its cells are the models.
    """

    setups: tuple[Setup, ...]
    trainer: GridTrainer

    def train(self, keys: jax.Array, steps: StepSize, updates: int) -> tuple[list[np.ndarray], Trained]:
        """Trains all replicas on every model.

        Args:
          keys: ``[replicas]``.
          steps: step sizes, leaves ``[models, replicas]``.
          updates: number of updates.

        Returns:
          For each model value tables ``[replicas, Z, O]`` (over states where the method sees them), and the run.
        """
        run = self.trainer.train(keys, updates, {"step_size": steps})
        each = [jax.tree.map(lambda leaf, i=i: leaf[i], run.params) for i in range(len(self.setups))]
        return [one.tables(params) for one, params in zip(self.setups, each, strict=True)], run


def ensemble(models: Sequence[TabularModel], method: str, function_class: str, **settings: Any) -> Ensemble:
    """A method on several models; short descriptions of interfaces are padded with zeros to the longest.

    Args:
      models: models that differ in numbers, agents and descriptions only.
      method: a key of ``methods.METHODS``.
      function_class: ``network`` of ``setups.setup``.
      **settings: further arguments of ``setups.setup``.

    Raises:
      ValueError: if the models do not fit into one program.
    """
    setups = [setup(model, None, method, function_class, **settings) for model in models]
    largest = max(setups, key=lambda one: one.learner.env.spec.num_agents)
    hypers = [one.hyper for one in setups]
    if function_class != "tabular":
        widest = max(hyper.data.shape[1] for hyper in hypers)
        hypers = [
            hyper._replace(data=np.pad(hyper.data, ((0, 0), (0, widest - hyper.data.shape[1])))) for hyper in hypers
        ]

    def bare(one: Setup) -> Any:
        return dataclasses.replace(one.learner.env, num_agents=0)  # type: ignore[type-var]

    shapes = [jax.tree.map(np.shape, hyper) for hyper in hypers]
    if any(bare(one) != bare(largest) for one in setups) or any(shape != shapes[0] for shape in shapes):
        raise ValueError("models: expected the same numbers of states, interfaces, options, successors and durations")
    cells = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *hypers)._asdict()
    fitted = [dataclasses.replace(one, hyper=hyper) for one, hyper in zip(setups, hypers, strict=True)]
    return Ensemble(tuple(fitted), GridTrainer(largest.learner, hypers[0], cells))
