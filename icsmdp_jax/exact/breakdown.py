"""Where the constants of a model come from: the same, agent by agent and interface by interface (D6, T1, E)."""

from __future__ import annotations

from typing import Any

import numpy as np

from icsmdp_jax.exact.interface import AISDeviations, InterfaceModel
from icsmdp_jax.exact.showing import SAME, Candidate, Showing, Shown
from icsmdp_jax.exact.solve import Solution

OWN = ("epsilon", "delta", "largest_gap", "largest_loss")
AFFORDED = 20_000  # agents times states up to which an analysis also asks what it is worth to show all to one agent


def state_maxima(
    interface: InterfaceModel, ais: AISDeviations, q_phi: Solution, q_star: Solution, losses: np.ndarray
) -> np.ndarray:
    """``[S, 4]`` the largest deviations of ``OWN`` over the options of each recurrent state; 0 elsewhere.

    The last are those of ``policy_losses``.
    """
    keep = interface.decision_pairs
    gap = np.zeros(keep.shape)
    gap[keep] = np.abs(interface.lift(q_phi.q)[keep] - q_star.q[keep])
    return np.column_stack([*(x.max(axis=1) for x in (ais.reward, ais.kernel, gap)), np.maximum(losses, 0.0)])


def name_of(names: np.ndarray | None, index: int) -> str | int:
    """The name of an agent, interface or field; its number where the model has no names."""
    return index if names is None else str(names[index])


def by_interface(interface: InterfaceModel, worst: np.ndarray) -> list[dict[str, Any]]:
    """One row for each interface of recurrent states: whose, how often, and the maxima over its states."""
    model = interface.model
    return [
        {"interface": z, "name": name_of(model.interface_name, z), "agent": int(model.interface_agent[z]), **row}
        for z, row in enumerate(_rows(interface, worst, model.interface, model.num_interfaces))
        if row["num_states"]
    ]


def by_agent(interface: InterfaceModel, worst: np.ndarray, showing: Showing | None) -> list[dict[str, Any]]:
    """One row for each agent, also with what the model would be if it saw the whole state; None without ``showing``."""
    model = interface.model
    states = interface.chain.states
    owner = model.agent[states][np.unique(model.interface[states], return_index=True)[1]]
    counts = np.bincount(owner, minlength=model.num_agents)
    unknown = dict.fromkeys(("policy_loss", "interface_gap", "gain"))
    return [
        {
            "agent": i, "name": name_of(model.agent_name, i), "num_interfaces": int(counts[i]), **row, "shown": "all",
            **(unknown if showing is None else gains(showing, showing.show(Candidate(i)), showing.now.policy_loss)),
        }
        for i, row in enumerate(_rows(interface, worst, model.agent, model.num_agents))
    ]  # fmt: skip


def gains(showing: Showing, found: Shown, before: float) -> dict[str, float]:
    """Loss and gap with something shown, and what is gained over a loss before; 0 where rounding is all (``SAME``)."""
    numbers = {
        "policy_loss": found.policy_loss,
        "interface_gap": found.interface_gap,
        "gain": before - found.policy_loss,
    }
    return {name: value if abs(value) > SAME * showing.scale else 0.0 for name, value in numbers.items()}


def _rows(interface: InterfaceModel, worst: np.ndarray, label: np.ndarray, count: int) -> list[dict[str, Any]]:
    states = interface.chain.states
    law = interface.chain.stationary[states]
    weight, sizes = np.bincount(label[states], law, count), np.bincount(label[states], minlength=count)
    largest = np.zeros((count, len(OWN)))
    np.maximum.at(largest, label[states], worst[states])
    return [
        {"num_states": int(size), "weight": float(share), **dict(zip(OWN, map(float, row), strict=True))}
        for size, share, row in zip(sizes, weight, largest, strict=True)
    ]
