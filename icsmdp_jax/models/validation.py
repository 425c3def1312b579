"""The rules of a model file as one function of its arrays: every fault is one line that names the array at fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icsmdp_jax.models.arrays import (
    LARGEST,
    Array,
    booleans,
    check_shape,
    finite,
    first,
    integers,
    pmf,
    real,
    scalar,
)
from icsmdp_jax.models.description import description

LARGEST_TABLE = 10**8  # entries of a table [Z, O] beyond which a label is taken for a mistake
BY_INTERFACE = ("features", "available", "interface_name")  # their rows say how many interfaces there are
BY_STATE_AND_OPTION = (
    "reward_rate", "transition", "kernel", "duration", "successor", "probability", "lump_reward", "lump_reward_next",
)  # fmt: skip
BY_STATE = ("agent", "interface", *BY_STATE_AND_OPTION, "start", "terminal", "state_name", "fields")


def validated(given: Mapping[str, Any]) -> dict[str, Any]:
    """All arrays of a model checked and in canonical dtypes (float64, int32, bool, unicode).

    Args:
      given: the arrays of ``TabularModel`` by name; absent ones are None.

    Returns:
      The same without the absent ones.

    Raises:
      ValueError: on the first fault, in one line.
    """
    rate = real("reward_rate", given["reward_rate"], (None, None))
    num_states, num_options = _sizes(given)
    check_shape("reward_rate", rate, (num_states, num_options))
    out: dict[str, Any] = _scalars(given)
    agent = integers("agent", given["agent"], (num_states,))
    interface = integers("interface", given["interface"], (num_states,))
    decides = np.ones(num_states, bool)
    if given["terminal"] is not None:
        out["terminal"] = booleans("terminal", given["terminal"], (num_states,))
        decides = ~out["terminal"]
        if not decides.all() and given["start"] is None:
            raise ValueError(f"start: missing, expected [{num_states}] because the model has terminal states")
        if not decides.any():
            raise ValueError("terminal: every state is terminal, expected at least one that decides")
    if given["features"] is not None:
        out["features"] = real("features", given["features"], (None, None))
        finite("features", out["features"])
    if given["available"] is not None:
        out["available"] = booleans("available", given["available"], (None, num_options))
    if given["agent_name"] is None and given["visible"] is None:
        _no_agent_missing(agent)
    _single_owner(agent, interface, decides)
    out.update(description(given, agent, interface, decides, num_options))
    _check_interfaces(out, interface, num_options)
    used = np.repeat(decides[:, None], num_options, axis=1)
    if "available" in out:
        nothing = decides & ~out["available"].any(axis=1)[interface]
        if nothing.any():
            z = int(interface[first(nothing)])
            raise ValueError(f"available[{z}] is False for every option: expected at least one available option")
        used &= out["available"][interface]
    if given["start"] is not None:
        start = pmf("start", real("start", given["start"], (num_states,))[None], np.ones(1, bool), (1,))[0]
        if start[decides].sum() <= 0:
            raise ValueError("start: all its mass is on terminal states, expected some on states that decide")
        out["start"] = start
    finite("reward_rate", rate, used)
    out["reward_rate"] = np.where(used, rate, 0.0)
    out.update(agent=agent, interface=interface, **_law(given, num_states, num_options, used))
    out.update(_lumps(given, out, used))
    return out


def _sizes(given: Mapping[str, Any]) -> tuple[int, int]:
    """``S`` and ``O`` as most arrays have them, so that the error names the array that disagrees with the others."""
    shapes = {name: np.shape(given[name]) for name in (*BY_STATE, "available") if given[name] is not None}
    num_states = _most([shapes[name][0] for name in BY_STATE if len(shapes.get(name, ())) > 0])
    rows = [shapes[name] for name in BY_STATE_AND_OPTION if len(shapes.get(name, ())) > 1]
    options = [shape[1] for shape in rows if shape[0] == num_states]
    if len(shapes.get("available", ())) > 1:
        options.append(shapes["available"][1])
    return num_states, _most(options or [rows[0][1]])


def _most(values: Sequence[int]) -> int:
    """The most frequent value, the first of them in a tie."""
    return Counter(values).most_common(1)[0][0]


def _scalars(given: Mapping[str, Any]) -> dict[str, float]:
    gamma = scalar("gamma", given["gamma"])
    if not 0.0 <= gamma < 1.0:  # also catches NaN
        raise ValueError(f"gamma = {gamma}: expected a number in [0, 1)")
    noise = scalar("reward_noise", given["reward_noise"])
    if not 0.0 <= noise <= LARGEST:
        raise ValueError(f"reward_noise = {noise}: expected a number from 0 to {LARGEST:g}")
    return {"gamma": gamma, "reward_noise": noise}


def _no_agent_missing(agent: Array) -> None:
    """Refuses gaps among the labels: an agent without any state is declared by ``agent_name`` or ``visible``."""
    present = np.unique(agent)
    missing = np.flatnonzero(present != np.arange(len(present)))
    if len(missing):
        s = int(np.flatnonzero(agent == present[missing[0]])[0])
        raise ValueError(
            f"agent[{s}] = {agent[s]}: expected labels that number the agents from 0 without gaps, but no state has "
            f"agent {missing[0]}"
        )


def _single_owner(agent: Array, interface: Array, decides: Array) -> None:
    states = np.flatnonzero(decides)
    labels, leader = np.unique(interface[states], return_index=True)
    owner = agent[states[leader]][np.searchsorted(labels, interface[states])]
    wrong = np.flatnonzero(owner != agent[states])
    if len(wrong):
        state = int(states[wrong[0]])
        raise ValueError(
            f"interface[{state}] = {interface[state]}: belongs to agent {owner[wrong[0]]} already, "
            f"but agent[{state}] = {agent[state]}; expected each interface to belong to one agent"
        )


def _check_interfaces(arrays: Mapping[str, Array], interface: Array, num_options: int) -> None:
    """Compares the labels with the tables that have a row for each interface."""
    count = int(interface.max()) + 1
    tables = [name for name in BY_INTERFACE if name in arrays]
    for name in tables:
        found = list(arrays[name].shape)
        if found[0] < count:
            raise ValueError(f"{name}: expected {count} rows or more, as interface refers to, found {found}")
    for name in tables[:-1]:
        rows = len(arrays[tables[-1]])
        if len(arrays[name]) != rows:
            raise ValueError(f"{name}: expected {rows} rows like {tables[-1]}, found {len(arrays[name])}")
    if not tables and count * num_options > LARGEST_TABLE:
        s = int(interface.argmax())
        raise ValueError(f"interface[{s}] = {interface[s]}: expected labels that number the interfaces from 0")


def _law(given: Mapping[str, Any], num_states: int, num_options: int, used: Array) -> dict[str, Array]:
    """The transition law in whichever of the three forms it was given."""
    forms = [name for name in ("transition", "kernel", "successor") if given[name] is not None]
    if len(forms) != 1:
        found = " and ".join(forms) or "none of them"
        raise ValueError(f"transition, kernel, successor: expected exactly one of them, found {found}")
    s, o = num_states, num_options
    if forms == ["kernel"]:
        for name in ("duration", "probability"):
            if given[name] is not None:
                raise ValueError(f"{name}: expected to be absent, because kernel already gives the joint law")
        return {"kernel": pmf("kernel", real("kernel", given["kernel"], (s, o, None, s)), used, (2, 3))}
    if given["duration"] is None:
        raise ValueError(f"duration: missing, expected [{s}, {o}, T] with {forms[0]}")
    out = {"duration": pmf("duration", real("duration", given["duration"], (s, o, None)), used, (2,))}
    if forms == ["transition"]:
        if given["probability"] is not None:
            raise ValueError("probability: expected to be absent with transition (it belongs to successor)")
        out["transition"] = pmf("transition", real("transition", given["transition"], (s, o, s)), used, (2,))
        return out
    if given["probability"] is None:
        raise ValueError(f"probability: missing, expected [{s}, {o}, W] with successor")
    raw = np.asarray(given["successor"])
    check_shape("successor", raw, (s, o, None))
    if raw.dtype.kind in "iu":  # ignored rows may hold anything
        raw = np.where(used[..., None], raw, 0)
    out["successor"] = integers("successor", raw, (s, o, None), s)
    listed = real("probability", given["probability"], raw.shape)
    out["probability"] = pmf("probability", listed, used, (2,))
    return out


def _lumps(given: Mapping[str, Any], law: Mapping[str, Array], used: Array) -> dict[str, Array]:
    """Payments at the end of a segment; those of ends that cannot happen are ignored, like unused rows."""
    out: dict[str, Array] = {}
    if given["lump_reward"] is not None:
        lump = real("lump_reward", given["lump_reward"], used.shape)
        finite("lump_reward", lump, used)
        out["lump_reward"] = np.where(used, lump, 0.0)
    if given["lump_reward_next"] is not None:
        if "kernel" in law:
            possible = (law["kernel"] > 0).any(axis=2)
        else:
            possible = law["transition" if "transition" in law else "probability"] > 0
        lump = real("lump_reward_next", given["lump_reward_next"], possible.shape)
        finite("lump_reward_next", lump, np.asarray(possible))
        out["lump_reward_next"] = np.where(possible, lump, 0.0)
    return out
