"""What was solved or learned, as a policy that the runtime follows (D5, D9)."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from icsmdp_jax.learner.message_bounds import model_value_range
from icsmdp_jax.learner.networks import ValueClass
from icsmdp_jax.models.tabular import TabularModel
from icsmdp_jax.runtime.policies import AgentPolicy, Field, Policy


def table_policy(model: TabularModel, q: np.ndarray, visits: np.ndarray | None = None) -> Policy:
    """A table of values as a policy, with the model's names, fields and a-priori range of values (L6).

    Args:
      model: the model.
      q: ``[Z, O]`` values, such as ``Q_phi``; entries of unavailable options and of interfaces that never decide are
        not read.
      visits: ``[Z, O]`` updates that each value was made of, if it was learned.

    Raises:
      ValueError: for a table of another shape or with values that are not finite.
    """
    if q.shape != model.option_mask.shape:
        raise ValueError(
            f"q: shape {list(q.shape)}, expected {list(model.option_mask.shape)} as the model's interfaces"
        )
    filled = np.where(model.option_mask, q, 0.0)

    def params(rows: np.ndarray, agent: int) -> dict[str, np.ndarray]:
        return {"q": filled[rows]}

    return _policy(model, "tabular", params, None, visits)


def network_policy(model: TabularModel, values: ValueClass, params: Any, data: np.ndarray) -> Policy:
    """Parameters of a linear class, of two-layer nets or of an mlp as a policy.

    Args:
      model: the model.
      values: ``linear``, ``two-layer`` or ``mlp``.
      params: stacked over agents, as the learners have them.
      data: ``[Z, p]`` what the networks read at each interface.

    Raises:
      ValueError: for another function class.
    """
    leaves = params["params"] if isinstance(params, dict) else params
    host = jax.tree.map(np.asarray, leaves)

    def arrays(rows: np.ndarray, agent: int) -> dict[str, np.ndarray]:
        if values.name == "linear":
            return {"theta": host[agent]}
        if values.name == "two-layer":
            return {name: leaf[agent] for name, leaf in host.items()}
        layers = enumerate(sorted(host, key=lambda name: int(name.removeprefix("Dense_"))))
        return {f"{kind}{at}": host[name][kind][agent] for at, name in layers for kind in ("kernel", "bias")}

    return _policy(model, values.name, arrays, np.asarray(data), None)


def _policy(model: TabularModel, kind: str, params: Any, data: np.ndarray | None, visits: np.ndarray | None) -> Policy:
    agents = []
    for agent in range(model.num_agents):
        rows = np.flatnonzero(model.interface_agent == agent)
        name = f"agent {agent}" if model.agent_name is None else str(model.agent_name[agent])
        fields: tuple[Field, ...] = ()
        numbers = rows
        if model.fields is not None and model.visible is not None:
            assert model.field_name is not None
            seen = np.flatnonzero(model.visible[agent])
            fields = tuple(Field(str(model.field_name[f]), tuple(np.unique(model.fields[:, f]).tolist())) for f in seen)
            one = AgentPolicy(name, {}, fields)
            decides = {int(model.interface[s]): int(s) for s in np.flatnonzero(~model.is_terminal)}
            facts = [
                {field.name: int(model.fields[decides[z], f]) for field, f in zip(fields, seen.tolist(), strict=True)}
                for z in rows.tolist()
            ]
            numbers = np.array([one.number_of(known) for known in facts])
        agents.append(
            AgentPolicy(
                name,
                params(rows, agent),
                fields,
                numbers.astype(np.int64),
                () if model.interface_name is None else tuple(map(str, model.interface_name[rows])),
                model.option_mask[rows],
                None if data is None else data[rows],
                None if visits is None else visits[rows].astype(np.int64),
            )
        )
    names = model.option_name if model.option_name is not None else [f"option {o}" for o in range(model.num_options)]
    least, most = model_value_range(model)
    return Policy(tuple(map(str, names)), tuple(agents), model.gamma, kind, (least, most))
