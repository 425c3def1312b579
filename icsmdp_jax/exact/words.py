"""What the constants of a model are called: label, unit and group of each, and one plain sentence that sums them up."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, NamedTuple

from icsmdp_jax.core.words import html_table

REWARD, STEPS = "reward", "handoffs"
ROUNDING = 1e-9


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
HIDDEN = ("exact_mixing", "warnings")  # of the JSON, not of the table: they say how to read other rows


def shown(value: Any) -> str:
    """A constant as text; ``unknown`` for None."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int) else f"{value:.6g}"


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


HEAD = ("constant", "value", "unit", "what it is")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def as_text(table: Mapping[str, Any], scale: float) -> str:
    """The sentence, the table with units, and the warnings."""
    rows = rows_of(table)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {unit:<{widths[2]}}  {said}".rstrip()
        for name, value, unit, said in rows
    ]
    return "\n".join([sentence(table, scale), "", *lines, *(f"warning: {line}" for line in table.get("warnings", ()))])


def as_html(table: Mapping[str, Any], scale: float) -> str:
    """The same for a notebook."""
    warnings = "".join(f"<p>Warning: {html.escape(line)}</p>" for line in table.get("warnings", ()))
    return f"<p>{html.escape(sentence(table, scale))}</p>{html_table(rows_of(table), HEAD)}{warnings}"
