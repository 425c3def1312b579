"""IC-Q and other methods in one environment of any kind, on the same number of handoffs: ``compare_methods``."""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import chex
import jax
import numpy as np

from icsmdp_jax.core.arguments import listed, one_key, whole
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.words import html_table
from icsmdp_jax.learner.curves import Curves, Evaluation, evaluate, horizon_of, train
from icsmdp_jax.learner.methods import WHOLE_STATE
from icsmdp_jax.learner.setups import Setup, setup
from icsmdp_jax.models.tabular import TabularModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = ("method", "return", "95 % interval", "normalised", "crosses per handoff")
STARTED = ("ic_q", "central", "no_message")


class Outcome(NamedTuple):
    """What became of one method.

    Attributes:
      setup: the method.
      state: its state after training, leading axis of seeds.
      curves: its curves, leading axis of seeds.
      evaluation: the return of its greedy policy, with its interval over seeds.
    """

    setup: Setup
    state: Any
    curves: Curves
    evaluation: Evaluation


class MethodComparison(NamedTuple):
    """Methods side by side; printing it gives a table.

    Attributes:
      environment: its name.
      outcomes: by method.
      handoffs: ``[P]`` handoffs behind each point of the curves.
    """

    environment: str
    outcomes: Mapping[str, Outcome]
    handoffs: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each method, plain values: return, interval, normalised return, scalars per handoff."""
        return [
            {
                "method": name,
                "return": one.evaluation.value.mean,
                "ci_low": one.evaluation.value.ci_low,
                "ci_high": one.evaluation.value.ci_high,
                "normalised": None if one.evaluation.normalised is None else one.evaluation.normalised.mean,
                "scalars_per_handoff": _crosses(one.setup),
                "seeds": one.evaluation.value.replicas,
            }
            for name, one in self.outcomes.items()
        ]

    def __repr__(self) -> str:
        found = ", ".join(f"{row['method']} {row['return']:.4g}" for row in self.rows())
        return f"MethodComparison({self.environment}: {found})"

    def __str__(self) -> str:
        lines = [HEAD, *self._lines()]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
        shown = ("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join([self._title(), *(line.rstrip() for line in shown)])

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._title())}</p>{html_table(self._lines(), HEAD)}"

    def _title(self) -> str:
        first = next(iter(self.outcomes.values())).evaluation
        seeds = f"{first.value.replicas} seed{'' if first.value.replicas == 1 else 's'}"
        return f"{self.environment}: {int(self.handoffs[-1])} handoffs for each of {seeds}"

    def _lines(self) -> list[tuple[str, ...]]:
        first = next(iter(self.outcomes.values())).evaluation
        lines: list[tuple[str, ...]] = []
        for row, one in zip(self.rows(), self.outcomes.values(), strict=True):
            scaled, crosses = row["normalised"], row["scalars_per_handoff"]
            lines.append((
                one.setup.method.label, f"{row['return']:.4g}", f"[{row['ci_low']:.4g}, {row['ci_high']:.4g}]",
                "" if scaled is None else f"{scaled:.3f}",
                crosses if isinstance(crosses, str) else f"{crosses:.3g} scalar{'' if crosses == 1 else 's'}",
            ))  # fmt: skip
        lines.append(("random workflow", f"{first.random:.4g}", "", "0" if first.normalised else "", ""))
        if first.oracle is not None:
            lines.append(("oracle (full state)", f"{first.oracle:.4g}", "", "1" if first.normalised else "", ""))
        return lines

    def figure(self, **changes: Any) -> Figure:
        """Learning curves with 95 % bands over seeds; keyword arguments are those of ``return_figure``."""
        from icsmdp_jax.drawing.style import house_style
        from icsmdp_jax.drawing.training import Curve, return_figure

        curves, first = [], next(iter(self.outcomes.values())).evaluation
        for one in self.outcomes.values():
            assert one.curves.returns is not None
            curves.append(Curve.over_runs(one.setup.method.label, self.handoffs, one.curves.returns))
        with house_style():
            return return_figure(curves, first.oracle, first.random, **changes)


def compare_methods(
    env: Environment | TabularModel,
    params: Any = None,
    methods: Sequence[str] = STARTED,
    key: chex.PRNGKey | None = None,
    *,
    updates: int = 500,
    seeds: int = 8,
    points: int = 10,
    episodes: int = 256,
    **settings: Any,
) -> MethodComparison:
    """Trains several methods on the same number of handoffs and evaluates their greedy policies.

    Args:
      env: any environment, or a model.
      params: its parameters; None for a model.
      methods: names of ``METHODS``.
      key: source of randomness, the same for all methods; ``jax.random.key(0)`` if None.
      updates: updates of each run.
      seeds: independent runs of each method.
      points: points of each curve.
      episodes: simulated episodes behind each point and seed.
      **settings: further arguments of ``setup``, the same for all methods (``network``, ``width``, ...).

    Returns:
      The comparison: ``print`` it for a table, ``figure()`` draws the curves, ``outcomes`` has everything.

    Raises:
      ValueError: in one line, for a method that cannot be trained in this environment, before any is.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> found = ic.compare_methods(env, params, ["ic_q", "no_message"], updates=20, seeds=2, points=2, episodes=16)
      >>> [row["method"] for row in found.rows()]
      ['ic_q', 'no_message']
    """
    whole(1, updates=updates, seeds=seeds, points=points)
    whole(2, episodes=episodes)
    expected = "a list with one name or more, all different"
    several = isinstance(methods, Iterable) and not isinstance(methods, str)
    methods = listed("methods", tuple(methods) if several else methods, expected, str)
    if len(set(methods)) < max(len(methods), 1):
        raise ValueError(f"methods = {methods!r}: expected {expected}")
    made = {name: setup(env, params, name, **settings) for name in methods}
    key = jax.random.key(0) if key is None else one_key(key)
    count = min(points, updates)
    at = [updates * (i + 1) // count for i in range(count)]
    outcomes, first = {}, next(iter(made.values()))
    horizon, known = horizon_of(first), first.returns
    for name, one in made.items():
        vars(one)["returns"] = known  # where cached_property looks first: one model, solved once
        print(f"{first.learner.env.spec.name}: {one.method.label}", file=sys.stderr)
        state, curves = train(one, key, updates, seeds=seeds, at=at, episodes=episodes, horizon=horizon)
        found = evaluate(one, state, jax.random.fold_in(key, 2), episodes=episodes, horizon=horizon)
        outcomes[name] = Outcome(one, state, jax.device_get(curves), found)
    handoffs = np.asarray(at) * first.learner.copies * first.learner.length
    return MethodComparison(first.learner.env.spec.name, outcomes, handoffs)


def _crosses(one: Setup) -> float | str:
    scalars = one.scalars_per_handoff()
    return WHOLE_STATE if math.isnan(scalars) else scalars
