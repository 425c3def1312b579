"""A writer of logs: runs of a tabular model under a behaviour policy, as JSON lines (docs/logs.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from icsmdp_jax.exact.chain import checked_behaviour
from icsmdp_jax.io import atomic_write
from icsmdp_jax.models.tabular import TabularModel, annuities
from icsmdp_jax.traces.config import FitConfig, Part


def record(
    path: str | os.PathLike[str],
    model: TabularModel,
    runs: int,
    behaviour: np.ndarray | None = None,
    first: np.ndarray | None = None,
    longest: int = 200,
    seed: int = 0,
) -> int:
    """Simulates runs of a model and logs every handoff; returns the number of lines.

    Args:
      path: the file, written atomically.
      model: the IC-SMDP.
      runs: how many, numbered from 0.
      behaviour: ``[Z, O]``, uniform over available options if None; logged as probabilities.
      first: ``[S]`` law of the first state; the model's start law, or uniform, if None.
      longest: handoffs after which a run is cut off.
      seed: of the simulation.
    """
    lines = list(_lines(model, runs, checked_behaviour(model, behaviour), first, longest, np.random.default_rng(seed)))
    lines.sort(key=lambda line: (line["run"], line["step"]))
    with atomic_write(path, "w") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    return len(lines)


def recorded_config(model: TabularModel, **settings: Any) -> FitConfig:
    """How a recorded log of a model is read: one primitive step is one unit, rewards are those of segments."""
    return FitConfig(
        gamma=model.gamma, reward={"reward": Part(1.0, "start")}, longest=model.longest_duration,
        agents=tuple(_names(model)[0]), **settings,
    )  # fmt: skip


def _names(model: TabularModel) -> tuple[list[str], list[str]]:
    agents = [f"agent {i}" for i in range(model.num_agents)] if model.agent_name is None else model.agent_name.tolist()
    options = model.option_name
    return agents, [f"option {o}" for o in range(model.num_options)] if options is None else options.tolist()


def _views(model: TabularModel) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What the active agent sees of each state, and what only the log sees."""
    if model.fields is None or model.visible is None:
        return [({"interface": int(z)}, {"state": s}) for s, z in enumerate(model.interface)]
    count = model.fields.shape[1]
    names = [f"field {f}" for f in range(count)] if model.field_name is None else model.field_name.tolist()
    out = []
    for s in range(model.num_states):
        values = dict(zip(names, map(int, model.fields[s]), strict=True))
        shown = model.visible[model.agent[s]]
        seen = {name: values[name] for name, yes in zip(names, shown, strict=True) if yes}
        out.append((seen, {"state": s} | {name: value for name, value in values.items() if name not in seen}))
    return out


def _lines(
    model: TabularModel,
    runs: int,
    behaviour: np.ndarray,
    first: np.ndarray | None,
    longest: int,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    agents, options = _names(model)
    offered = [[options[o] for o in np.flatnonzero(mask)] for mask in model.option_mask]
    views, end = _views(model), model.is_terminal
    start = np.where(end, 0.0, 1.0) if model.start is None else np.where(end, 0.0, model.start)
    start = start / start.sum() if first is None else first
    state, active = rng.choice(model.num_states, runs, p=start), np.arange(runs)
    annuity = annuities(model.gamma, model.longest_duration)
    for step in range(longest):
        s, z = state[active], model.interface[state[active]]
        option = drawn(behaviour[z], rng)
        tau, entered, place = segments(model, s, option, rng)
        reward = model.reward_rate[s, option] * annuity[tau - 1] + model.reward_noise * rng.uniform(-1, 1, len(s))
        if model.lump is not None:
            lump = model.lump[s, option]
            paid = lump[:, 0] if lump.shape[1] == 1 else lump[np.arange(len(s)), place]
            reward = reward + model.gamma ** (tau - 1.0) * paid
        for row, run in enumerate(active):
            seen, hidden = views[s[row]]
            yield {
                "run": int(run), "step": step, "agent": agents[model.agent[s[row]]], "seen": seen, "hidden": hidden,
                "options": offered[z[row]], "option": options[option[row]],
                "probability": float(behaviour[z[row], option[row]]), "reward": float(reward[row]),
                "duration": int(tau[row]), "next": None if end[entered[row]] else agents[model.agent[entered[row]]],
            }  # fmt: skip
        state[active] = entered
        active = active[~end[entered]]
        if not len(active):
            return


def segments(
    model: TabularModel, s: np.ndarray, option: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Durations, next states, and the place of the next state among those of the law."""
    if model.kernel is not None:
        code = drawn(model.kernel[s, option].reshape(len(s), -1), rng)
        tau, entered = code // model.num_states + 1, code % model.num_states
        return tau, entered, entered
    assert model.duration is not None
    tau = 1 + drawn(model.duration[s, option], rng)
    if model.transition is not None:
        entered = drawn(model.transition[s, option], rng)
        return tau, entered, entered
    assert model.probability is not None and model.successor is not None
    place = drawn(model.probability[s, option], rng)
    return tau, model.successor[s, option, place], place


def drawn(law: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``[n]`` one draw from each row of ``law [n, k]``."""
    total = np.cumsum(law, axis=1)
    return np.minimum((rng.random(len(law))[:, None] * total[:, -1:] >= total).sum(axis=1), law.shape[1] - 1)
