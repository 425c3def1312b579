"""What the constants of a model are called: label, unit and group of each, and one plain sentence that sums them up."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from icsmdp_jax.core.words import html_table

REWARD, STEPS = "reward", "handoffs"
ROUNDING = 1e-9
DUST = 1e-12  # share of the largest number of a column below which one is shown as 0


class Label(NamedTuple):
    """How one constant is shown.

    Attributes:
      text: what it is.
      unit: of the number; empty for a pure number.
      equation: label in docs/theory.md; empty for sizes.
    """

    text: str
    unit: str = ""
    equation: str = ""


LABELS: dict[str, Label] = {
    "num_states": Label("states"),
    "num_interfaces": Label("interfaces"),
    "num_agents": Label("agents"),
    "num_options": Label("options"),
    "gamma_bar": Label("modulus of the Bellman operator", "", "L1"),
    "epsilon": Label("reward that interfaces hide", REWARD, "D6"),
    "delta": Label("transitions that interfaces hide", "", "D6"),
    "interface_gap": Label("interface gap", REWARD, "T1"),
    "interface_bound": Label("its bound", REWARD, "T1"),
    "interface_bound_value_aware": Label("its value-aware bound", REWARD, "T1.1"),
    "interface_bound_mass_span": Label("its bound by mass and span", REWARD, "T1.2"),
    "policy_loss": Label("most that hiding the state costs", REWARD, "T1.3"),
    "policy_loss_bound": Label("its bound", REWARD, "T1.3"),
    "kappa": Label("modulus in the norm of the data, upper end", "", "P1"),
    "a6_certified": Label("whether it is certified below 1", "", "A6"),
    "mixing_time": Label("mixing time", STEPS, "D8"),
    "mixing_time_low": Label("mixing time, lower end", STEPS, "D8"),
    "mixing_time_high": Label("mixing time, upper end", STEPS, "D8"),
    "omega": Label("least weight of an interface and option", "", "D7"),
    "clt_coefficient": Label("spread of averages, times the root of handoffs", REWARD, "P2"),
    "clt_coefficient_iid": Label("the same without memory of the chain", REWARD, "P2"),
    "clt_standard_error": Label("standard error of the two", "", "P2"),
    "action_gap": Label("least lead of a best option", REWARD, "P2"),
    "stationary_min": Label("probability of the rarest recurrent state"),
}
SAID = ("num_agents", "num_interfaces", "num_states", "interface_gap", "policy_loss", "a6_certified")  # in the sentence
COLUMNS = {  # of the rows of agents, fields and interfaces
    "agent": "agent", "interface": "interface", "name": "name", "shown": "shown", "field": "field",
    "num_interfaces": "interfaces", "num_states": "states", "weight": "share of handoffs", "epsilon": "epsilon",
    "delta": "delta", "largest_gap": "gap", "largest_loss": "loss", "policy_loss": "policy loss",
    "interface_gap": "interface gap", "gain": "gain", "interfaces_added": "interfaces added",
}  # fmt: skip
MOST_ROWS = 20  # of agents and of interfaces that are printed for people


def shown(value: Any) -> str:
    """A constant as text; ``unknown`` for None."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def rows_of(table: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """``(name, value, unit, what it is)`` of the constants that are there, in the order of ``LABELS``."""
    skip = {"mixing_time_low", "mixing_time_high"} if table.get("mixing_time") is not None else {"mixing_time"}
    skip |= {"clt_standard_error"} if not table.get("clt_standard_error") else set()
    rows = []
    for name, label in LABELS.items():
        if name in table and name not in skip:
            said = f"{label.text} ({label.equation})" if label.equation else label.text
            rows.append((name, shown(table[name]), label.unit, said))
    return rows


def sentence(table: Mapping[str, Any], scale: float) -> str:
    """What the constants say, in one sentence.

    Args:
      table: constants by name, see ``LABELS``.
      scale: size of values; what is below ``ROUNDING`` times it counts as zero.
    """
    loss, gap, nothing = table["policy_loss"], table["interface_gap"], ROUNDING * scale
    if gap <= nothing:
        cost = "their interfaces hide nothing that matters for values"
    elif loss <= nothing:
        cost = f"their interfaces hide values of up to {gap:.3g}, which costs no return"
    else:
        cost = f"what their interfaces hide costs up to {loss:.3g} of return in the worst state"
    proof = "bounds on learning apply" if table["a6_certified"] else "A6 is not certified, so T2 and T3 do not apply"
    agents, interfaces = _count(table["num_agents"], "agent"), _count(table["num_interfaces"], "interface")
    return f"{agents} with {interfaces} on {_count(table['num_states'], 'state')}: {cost}; {proof}."


def bottleneck(rows: Sequence[Mapping[str, Any]], loss: float, scale: float) -> str:
    """Whose interface costs most, in one sentence.

    Args:
      rows: one for each agent: ``agent``, ``name``, and with all of the state shown to it ``policy_loss`` and ``gain``.
      loss: policy loss of the model as it is.
      scale: as in ``sentence``.
    """
    best, *others = sorted(rows, key=lambda row: -row["gain"])
    if loss <= ROUNDING * scale:
        return "No interface is a bottleneck: acting on what the agents see loses nothing."
    places = max(0, 3 - math.floor(math.log10(loss)))

    def said(value: float) -> str:
        return f"{value:.{places}f}" if 1e-4 < loss < 1e6 else f"{value:.3e}"

    if best["gain"] <= 0:
        return (
            f"No single agent is the bottleneck: the policy loss of {said(loss)} falls for none that alone sees the "
            "whole state."
        )
    found = f"The bottleneck is {agent_name(best)}: if it sees the whole state, the policy loss falls from "
    found += f"{said(loss)} to {said(best['policy_loss'])}"
    if others:
        found += f"; for any other agent alone it is {said(min(row['policy_loss'] for row in others))} or more"
    return f"{found}."


def agent_name(row: Mapping[str, Any]) -> str:
    """``agent 3``, or its name with the number."""
    return f"agent {row['agent']}" if row["name"] == row["agent"] else f"{row['name']} (agent {row['agent']})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of agents, fields or interfaces as text below their heads; names that only repeat a number are left out."""
    label = "agent" if "agent" in rows[0] and "interface" not in rows[0] else "interface"
    names = [name for name in COLUMNS if name in rows[0] and any(row[name] is not None for row in rows)]
    if all(row["name"] == row[label] for row in rows):
        names.remove("name")

    def cell(row: Mapping[str, Any], name: str) -> str:
        value = row[name]
        if isinstance(value, float) and abs(value) <= DUST * max(
            (abs(one[name]) for one in rows if one[name]), default=0.0
        ):
            value = 0.0  # what rounding leaves of numbers that are 0
        return f"{shown(value)}"

    return [[COLUMNS[name] for name in names], *([cell(row, name) for name in names] for row in rows)]


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns; numbers to the right."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def parts_of(table: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Title and cells of the tables of agents and of interfaces, those that lose most first."""
    found = []
    for name, what in (("by_agent", "Agents"), ("by_interface", "Interfaces")):
        rows = sorted(table[name], key=lambda row: -row["largest_loss"])
        title = f"{what}, with the largest deviation, gap and loss of their own states"
        if name == "by_agent" and rows[0]["gain"] is not None:
            title += "; policy loss and interface gap of the model if that agent sees the whole state"
        if len(rows) > MOST_ROWS:
            title += f" (the first {MOST_ROWS} of {len(rows)} by loss)"
        found.append((title, columns_of([{k: v for k, v in row.items() if k != "shown"} for row in rows[:MOST_ROWS]])))
    return found


def as_text(table: Mapping[str, Any]) -> str:
    """The sentence, the table with units, the tables of agents and interfaces, and the warnings."""
    rows = rows_of(table)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {unit:<{widths[2]}}  {said}".rstrip()
        for name, value, unit, said in rows
    ]
    for title, cells in parts_of(table):
        lines += ["", f"{title}:", *aligned(cells)]
    return "\n".join([table["sentence"], "", *lines, *(f"warning: {line}" for line in table["warnings"])])


def as_html(table: Mapping[str, Any]) -> str:
    """The same for a notebook."""
    parts = "".join(f"<p>{html.escape(title)}</p>{html_table(cells[1:], cells[0])}" for title, cells in parts_of(table))
    warnings = "".join(f"<p>Warning: {html.escape(line)}</p>" for line in table["warnings"])
    constants = html_table(rows_of(table), ("constant", "value", "unit", "what it is"))
    return f"<p>{html.escape(table['sentence'])}</p>{constants}{parts}{warnings}"
