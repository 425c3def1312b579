"""What a fit leaves in its folder: ``report.html``, model and behaviour, the policy; ``fit.json`` comes last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from icsmdp_jax.io import atomic_write, check_folder, file_target, write_json
from icsmdp_jax.models.files import save_model
from icsmdp_jax.pages.page import render
from icsmdp_jax.runtime.policies import ARRAYS, CARD, AgentPolicy, Field, Policy, save_policy
from icsmdp_jax.traces.encode import KINDS
from icsmdp_jax.traces.fit import Fit

REPORT, MODEL, BEHAVIOUR, CONTENT = "report.html", "model.npz", "behaviour.npy", "fit.json"
WAYS = {
    "current": "as it is",
    "model": "new policy, by the model",
    "sampled": "new policy, by importance sampling",
    "robust": "new policy, doubly robust",
}
SYMBOLS = {
    "gamma_bar": "modulus of the Bellman operator over options (L1)",
    "epsilon": "reward that interfaces hide (D6)",
    "delta": "transitions that interfaces hide (D6)",
    "interface_gap": "interface gap (T1)",
    "mixing_time": "mixing time, in handoffs (D8)",
}


def check(out: str) -> None:
    """Refuses a folder that could not be written to, before anything is computed.

    Raises:
      ValueError: in one line.
    """
    check_folder(out)
    if Path(out).is_dir():
        for name in (REPORT, MODEL, BEHAVIOUR, CARD, ARRAYS, CONTENT):
            file_target(Path(out) / name, "--out")


def write(fit: Fit, out: str, source: str) -> None:
    """Writes all files, each of them whole or not at all."""
    folder = Path(out)
    page = report(fit.content, source)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / MODEL, fit.model)
    with atomic_write(folder / BEHAVIOUR) as stream:
        np.save(stream, fit.found.behaviour())
    save_policy(folder, policy(fit), written_by="icsmdp fit")
    with atomic_write(folder / REPORT) as stream:
        stream.write(page.encode("utf-8"))
    write_json(folder / CONTENT, fit.content)


def policy(fit: Fit) -> Policy:
    """The new policy for the runtime: lower confidence values of the supported options, by what each agent sees."""
    found, log, offline = fit.found, fit.found.log, fit.offline
    first = found.leader[np.searchsorted(found.interface, np.arange(found.num_interfaces))]
    may = np.isfinite(offline.lower)
    may[np.arange(len(may)), offline.choice] = True
    q = np.where(np.isfinite(offline.lower), offline.lower, 0.0)
    agents = []
    for agent, name in enumerate(log.agent_name):
        rows = np.flatnonzero(log.agent[first] == agent)
        if not len(rows):
            continue
        seen = np.flatnonzero(log.visible[agent])
        fields = tuple(_field(fit, int(f)) for f in seen)
        numbers = []
        for row in rows:
            number = 0
            for field, code in zip(fields, log.fields[first[row], seen], strict=True):
                number = (
                    number * field.size + (int(code) - 1) % field.size
                )  # 0, a missing value, is the last code there
            numbers.append(number)
        agents.append(
            AgentPolicy(
                name=name, params={"q": q[rows]}, fields=fields, interfaces=np.array(numbers, np.int64),
                interface_names=tuple(found.interface_names[row] for row in rows), available=may[rows],
                visits=offline.support.segments[rows].astype(np.int64),
            )
        )  # fmt: skip
    most = fit.known.reward_max / fit.known.interface.least_killing
    return Policy(log.option_name, tuple(agents), found.gamma, "tabular", (-most, most))


def _field(fit: Fit, f: int) -> Field:
    log = fit.found.log
    values = log.values[f]
    return Field(log.field_name[f], edges=log.bins(f)) if values is None else Field(log.field_name[f], values=values)


def report(content: Mapping[str, Any], source: str) -> str:
    """The page: one file, nothing loaded from elsewhere."""
    given = {"source": Path(source).name, "kinds": KINDS, "symbols": SYMBOLS, "bars": _bars(content["value"])}
    return render(__package__, "fit.html.j2", {"number": number, "ends": ends}, **content, **given)


def number(value: Any) -> str:
    """A number with four digits; a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, int) or float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def ends(estimate: Mapping[str, Any]) -> str:
    """The interval of an estimate."""
    return "" if estimate["low"] is None else f"{number(estimate['low'])} to {number(estimate['high'])}"


def _bars(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Estimates of values with their places on a common scale, in percent."""
    rows = [{"label": label, **value[name]} for name, label in WAYS.items()]
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    scale = (high - low) or 1.0
    return [row | {f"at_{end}": 2 + 96 * (row[end] - low) / scale for end in ("value", "low", "high")} for row in rows]


def readable(content: Mapping[str, Any], out: str) -> str:
    """The fit for people: what it says first, the lines, the values, the changes, and where the report is."""
    log, value = content["log"], content["value"]
    bad = ", ".join(f"{count} {kind}" for kind, count in log["bad"].items())
    rows = [("value of a run", "estimate", f"{100 * content['settings']['confidence']:g} % interval")]
    rows += [(label, number(value[name]["value"]), ends(value[name])) for name, label in WAYS.items()]
    rows += [("", "", ""), ("change", "gain", "")]
    rows += [
        (f"{row['interface']} -> {row['then']}", number(row["gain"]["value"]), ends(row["gain"]))
        for row in content["changes"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = [f"{log['lines']} lines in {log['runs']} runs: {log['good']} good" + (f", {bad}" if bad else "")]
    return "\n".join([content["sentence"], *head, "", *lines, "", f"report: {Path(out) / REPORT}"])
