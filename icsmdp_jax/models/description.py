"""What a model file says besides its numbers: names, the fields of a state, and which of them each agent sees.

Fields make the interface checkable: two states of one agent look the same to it exactly if the fields that it sees
agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from icsmdp_jax.models.arrays import Array, booleans, codes, text, unique_text

NAMES = ("agent_name", "option_name", "interface_name", "state_name")


def description(
    given: Mapping[str, Any], agent: Array, interface: Array, decides: Array, num_options: int
) -> dict[str, Array]:
    """The describing arrays of a model, checked.

    Args:
      given: arrays by name; absent ones are None or left out.
      agent: ``[S]`` active agent.
      interface: ``[S]`` what it sees.
      decides: ``[S]`` bool, states that are not terminal.
      num_options: ``O``.

    Returns:
      Those of ``agent_name``, ``option_name``, ``interface_name``, ``state_name``, ``fields``, ``field_name`` and
      ``visible`` that are given: unicode, int32 and bool.

    Raises:
      ValueError: on the first fault, in one line.
    """
    out: dict[str, Array] = {}
    if given.get("agent_name") is not None:
        out["agent_name"] = unique_text("agent_name", given["agent_name"], (None,))
    if given.get("option_name") is not None:
        out["option_name"] = unique_text("option_name", given["option_name"], (num_options,))
    if given.get("interface_name") is not None:
        out["interface_name"] = text("interface_name", given["interface_name"], (None,))
    if given.get("state_name") is not None:
        out["state_name"] = text("state_name", given["state_name"], (len(agent),))
    out.update(_fields(given, len(agent)))
    if "visible" in out:
        if "agent_name" in out and len(out["visible"]) != len(out["agent_name"]):
            rows = len(out["agent_name"])
            raise ValueError(f"visible: expected {rows} rows like agent_name, found {len(out['visible'])}")
    for name in ("agent_name", "visible"):
        if name in out and len(out[name]) <= agent.max():
            count = int(agent.max()) + 1
            raise ValueError(f"{name}: expected {count} rows or more, as agent refers to, found {len(out[name])}")
    if "visible" in out:
        _check_views(out, agent, interface, np.flatnonzero(decides))
    return out


def _fields(given: Mapping[str, Any], num_states: int) -> dict[str, Array]:
    if given.get("fields") is None:
        for name in ("field_name", "visible"):
            if given.get(name) is not None:
                raise ValueError(f"fields: missing, expected [{num_states}, F] with {name}")
        return {}
    out = {"fields": codes("fields", given["fields"], (num_states, None))}
    count = out["fields"].shape[1]
    if given.get("field_name") is not None:
        out["field_name"] = unique_text("field_name", given["field_name"], (count,))
    if given.get("visible") is not None:
        out["visible"] = booleans("visible", given["visible"], (None, count))
    return out


def _check_views(arrays: Mapping[str, Array], agent: Array, interface: Array, states: Array) -> None:
    """Refuses an interface that is not what the visible fields say; only states that decide are asked."""
    shown = arrays["visible"][agent[states]]
    seen = np.where(shown, arrays["fields"][states], 0)
    # An interface belongs to one agent, so its states show the same fields.
    _, leader, group = np.unique(interface[states], return_index=True, return_inverse=True)
    differs = seen != seen[leader[group]]
    if differs.any():
        row, column = (int(i) for i in np.argwhere(differs)[0])
        s, other = int(states[row]), int(states[leader[group[row]]])
        name = arrays["field_name"][column] if "field_name" in arrays else column
        values = arrays["fields"][[s, other], column]
        raise ValueError(
            f"interface[{s}] = {interface[s]}: shared with state {other}, but agent {agent[s]} sees field {name} = "
            f"{values[0]} in state {s} and {values[1]} in state {other}; expected two interfaces"
        )
    views = np.column_stack([agent[states], seen])
    _, leader, group = np.unique(views, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    apart = np.flatnonzero(interface[states] != interface[states[leader[group]]])
    if len(apart):
        s, other = int(states[apart[0]]), int(states[leader[group[apart[0]]]])
        raise ValueError(
            f"interface[{s}] = {interface[s]}: state {other} has interface {interface[other]}, but agent {agent[s]} "
            f"sees the same fields in both; expected one interface"
        )
