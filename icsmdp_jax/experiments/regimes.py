"""The workshop with given and with learned tools: both regimes with the same learner, keys and primitive steps (D9).

Local policies start as the workshop gives them. In the preconfigured regime their step size is 0, so that they stay; in
the adaptable regime they are learned together with the workflow. All returns are exact: of the local policies as they
are, and of the workflow that is greedy in the option values.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.primitive import LiftedParams
from icsmdp_jax.drawing.style import GREY
from icsmdp_jax.drawing.training import Curve, return_figure
from icsmdp_jax.envs.workshop.exact import workshop_model
from icsmdp_jax.envs.workshop.lifted import LiftedWorkshop
from icsmdp_jax.exact.primitive import PrimitiveModel, greedy_workflow, solve
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.result import Table, over_replicas
from icsmdp_jax.learner.adaptable import AdaptableLearner, AdaptableState, Inputs, inputs_for, tabular_learner
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.grid import replica_keys
from icsmdp_jax.learner.schedules import constant

REGIMES = {"preconfigured": 0.0, "adaptable": 1.0}  # step sizes of the local policies
POINTS, COPIES = 8, 64
TOLERANCE = 1e-6  # of exact returns, relative to the largest value


class Regimes(NamedTuple):
    """What both regimes learned.

    Attributes:
      returns: ``[regimes, replicas, POINTS]`` exact returns over training (reward units).
      handoffs: ``[regimes, replicas, POINTS]`` handoffs up to there.
      scalars: ``[regimes, replicas]`` messages that crossed until the end.
      oracles: exact return of the best workflow with the given local policies, and with the best ones.
    """

    returns: np.ndarray
    handoffs: np.ndarray
    scalars: np.ndarray
    oracles: tuple[float, float]

    def table(self) -> Table:
        """One line for each regime."""
        rows = [
            [
                regime, "as given" if step == 0 else "learned", over_replicas(self.returns[i, :, -1]),
                self.oracles[i], float(self.handoffs[i, :, -1].mean()),
                float(self.scalars[i].sum() / self.handoffs[i, :, -1].sum()),
            ]
            for i, (regime, step) in enumerate(REGIMES.items())
        ]  # fmt: skip
        columns = (
            "regime", "tools", "return of IC-Q (reward units)", "exact oracle with such tools (reward units)",
            "handoffs", "scalars per handoff",
        )  # fmt: skip
        title = "IC-Q with given and with learned tools: the same keys, primitive steps and first local policies"
        return Table(title, columns, rows, name="regimes")

    def check(self) -> bool:
        """Whether learned tools earn more than any workflow could with the given ones, outside the interval."""
        return bool(over_replicas(self.returns[1, :, -1]).ci_low > self.oracles[0])

    def figure(self) -> Any:
        """Returns over handoffs of both regimes, between their oracles."""
        curves = [
            Curve.over_runs(f"IC-Q, {regime}", self.handoffs[i].mean(axis=0), self.returns[i])
            for i, regime in enumerate(REGIMES)
        ]
        figure = return_figure(curves, oracle=self.oracles[1], y_label="return (reward units)")
        axes = figure.axes[0]
        axes.axhline(self.oracles[0], color=GREY, linewidth=0.9, linestyle=(0, (6, 2)), zorder=1)
        axes.annotate(
            "oracle with the given tools", (0.01, self.oracles[0]), (0, 1.5), va="bottom", fontsize=7.6,
            xycoords=("axes fraction", "data"), textcoords="offset points",
        )  # fmt: skip
        return figure


def regimes(env: LiftedWorkshop, params: LiftedParams, options: Options) -> Regimes:
    """Trains both regimes in one compiled program.

    Args:
      env: a workshop with fixed local policies.
      params: its parameters; the local policies are logits ``[N, X, A]``.
      options: preset and seed.
    """
    inner, steps = env.env, options.pick(32, 2400, 16000)
    learner = tabular_learner(inner, COPIES)
    model = workshop_model(inner, params.env)  # type: ignore[arg-type]
    logits = jnp.repeat(jnp.asarray(params.policy).reshape(-1, model.reward.shape[1]), inner.spec.num_options, axis=0)
    lanes = [
        inputs_for(params.env, actor_step=constant(step), explore=ramp(1.0, 0.2, steps // 2))
        for step in REGIMES.values()
    ]
    inputs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    keys = replica_keys(jax.random.key(options.seed), options.pick(2, 5, 16))
    train = jax.jit(jax.vmap(jax.vmap(partial(_trained, learner, logits, steps), (0, None)), (None, 0)))
    values, tables, handoffs, scalars = (np.asarray(part) for part in train(keys, inputs))
    local = tables.astype(np.float64)
    found = [_worth(model, local[at], values[at]) for at in np.ndindex(handoffs.shape)]
    given = np.asarray(jax.nn.softmax(logits), np.float64)
    oracles = (float(model.first @ solve(model, given).value), float(model.first @ solve(model).value))
    return Regimes(np.reshape(found, handoffs.shape), handoffs, scalars[:, :, -1], oracles)


def _worth(model: PrimitiveModel, local: np.ndarray, values: np.ndarray) -> float:
    return float(model.first @ solve(model, local, greedy_workflow(model, values), TOLERANCE).value)


def _trained(
    learner: AdaptableLearner, logits: jax.Array, steps: int, key: jax.Array, given: Inputs
) -> tuple[jax.Array, ...]:
    """Option values, local policies, handoffs and messages of one run at ``POINTS`` points."""
    start = learner.init(key, given)
    start = start._replace(actor=start.actor._replace(params=logits))

    def part(state: AdaptableState, _: None) -> tuple[AdaptableState, Any]:
        state = learner.run(key, state, given, steps // POINTS)
        local = learner.local_table(state.actor.params, given)
        return state, (state.values.params, local, state.handoffs, state.scalars)

    return jax.lax.scan(part, start, None, POINTS)[1]
