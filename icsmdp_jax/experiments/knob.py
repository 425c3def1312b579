"""Exact quantities of a named environment as one of its numbers is turned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from icsmdp_jax.envs.registry import make
from icsmdp_jax.experiments.known import Known
from icsmdp_jax.experiments.result import Table


def over_knob(
    environment: str, knob: str, values: Sequence[float], label: str, columns: Mapping[str, str], title: str, name: str
) -> Table:
    """A table with one row for each value of a knob.

    Args:
      environment: name in the registry.
      knob: name of the number that is turned, an override of ``make``.
      values: what it is set to.
      label: head of its column.
      columns: quantities of ``Known.table`` and the heads of their columns.
      title: of the table.
      name: of the table's file.

    Returns:
      The table.
    """
    rows = []
    for value in values:
        env, params = make(environment, **{knob: value})
        known = Known(env.exact_model(params)).table()
        rows.append([value, *(known[quantity] for quantity in columns)])
    return Table(title, (label, *columns.values()), rows, name=name)
