"""How a comparison came about, as figures: returns over training, what agents learned from, who hands to whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from icsmdp_jax.drawing.handoffs import handoff_figure
from icsmdp_jax.drawing.training import Curve, agent_figure, return_figure
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.experiments.cooperation import EXPLORED
from icsmdp_jax.experiments.quantities import own_behaviours
from icsmdp_jax.experiments.result import label
from icsmdp_jax.experiments.training import MethodRun
from icsmdp_jax.learner.diagnostics import exact_handoff_graph
from icsmdp_jax.models.tabular import TabularModel
from icsmdp_jax.traces.cooperation import simulated
from icsmdp_jax.traces.patterns import Handoffs


def course_figures(
    known: Analysis,
    trained: Mapping[str, MethodRun],
    returns: Mapping[str, np.ndarray],
    agents: Sequence[str] | None = None,
) -> dict[str, Callable[[], Any]]:
    """The figures by name; each draws itself when called.

    Args:
      known: the exact solution.
      trained: what each method learned; IC-Q is among them.
      returns: ``[replicas, P]`` exact returns of its greedy policy over training.
      agents: readable names of the agents where the model has none; their numbers if None.
    """
    model, own = known.returns.model, trained["ic_q"]
    names = agents if model.agent_name is None else list(map(str, model.agent_name))

    def training() -> Any:
        curves = [Curve.over_runs(label(name), trained[name].handoffs, values) for name, values in returns.items()]
        ends = known.returns.oracle, known.returns.random
        return return_figure(curves, *ends, y_label="return of the greedy policy (reward units)")

    def handoffs() -> Any:
        behaviours, which = own_behaviours(model, own.tables, EXPLORED)
        return handoff_figure(exact_handoff_graph(model, behaviours[which], known.returns.moments), names)

    return {"training": training, "agents": lambda: agent_figure(own.agents, names), "handoffs": handoffs}


def course_handoffs(
    model: TabularModel, course: np.ndarray, agents: Sequence[str] | None = None, seed: int = 0
) -> list[Handoffs]:
    """Simulated handoffs under the values ``course [P, Z, O]`` at up to four evenly spaced points of training.

    A share ``EXPLORED`` of the options is random, as in the figure of handoffs.
    """
    tables = course[np.unique(np.ceil(np.arange(1, 5) * len(course) / 4).astype(int) - 1)]
    behaviours, which = own_behaviours(model, tables, EXPLORED)
    return [
        simulated(model, table, behaviours[one], seed=seed, names=agents if model.agent_name is None else None)
        for table, one in zip(tables, which, strict=True)
    ]
