"""Aggregated tables: agents that tell groups of interfaces apart, not single ones, with an entry for each (B)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.interface import InterfaceModel


def grouped(known: Analysis, groups: int) -> tuple[Analysis, np.ndarray]:
    """The model with each agent's interfaces joined into groups of similar values.

    Its ``Q_phi`` is ``Q_m`` of tables with an entry for each group and option, since the weights within a group are
    those of the stationary law (D5, D7).

    Args:
      known: the model with tables; options and behaviour do not depend on the interface.
      groups: largest number of groups of each agent.

    Returns:
      ``(model, group)``: the analysed coarse model, and ``[Z]`` int, its interface for each interface of ``known``.

    Raises:
      ValueError: if options or behaviour differ between interfaces.
    """
    interface = known.interface
    model, behaviour = interface.model, interface.chain.behaviour
    if model.available is not None or not np.allclose(behaviour, behaviour[0]):
        raise ValueError("interfaces: options or behaviour differ between them, expected those of a group to be alike")
    value, group, count = known.q_phi_table.max(axis=1), np.zeros(model.num_interfaces, int), 0
    for agent in range(model.num_agents):
        mine = np.flatnonzero(model.interface_agent == agent)
        for members in np.array_split(mine[np.argsort(value[mine], kind="stable")], min(groups, len(mine))):
            group[members] = count
            count += 1
    unseen: dict[str, Any] = dict.fromkeys(("features", "interface_name", "fields", "field_name", "visible"))
    coarse = dataclasses.replace(model, interface=group[model.interface], **unseen)
    return analyse(coarse, np.broadcast_to(behaviour[0], (count, model.num_options))), group


def group_means(interface: InterfaceModel, table: np.ndarray, group: np.ndarray) -> np.ndarray:
    """``[Z, O]`` the projection of a table on those that are constant on groups: ``d``-weighted means (D7)."""
    total, weight = np.zeros((2, int(group.max()) + 1, table.shape[1]))
    np.add.at(total, group, interface.pair_weight * table)
    np.add.at(weight, group, interface.pair_weight)
    return (total / weight)[group]
