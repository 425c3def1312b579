"""What an operator should know about a model: its bottleneck, what to show to whom, what to hide, how many handoffs."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from icsmdp_jax.core.words import html_table
from icsmdp_jax.exact import words
from icsmdp_jax.exact.breakdown import gains, name_of
from icsmdp_jax.exact.chain import structure_warnings
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.showing import ALL, SAME, Candidate, Showing, Shown
from icsmdp_jax.models.tabular import TabularModel

COPIES = 4  # of the discounted kernel at once while a refined model is made and solved
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Advice:
    """What to show to whom, by exact solutions of the refined models (E); names are those of the JSON.

    Attributes:
      sentence: which interface is the bottleneck.
      policy_loss: largest loss of the greedy policy over recurrent states, as things are (T1.3).
      interface_gap: sup norm (T1).
      by_agent: a row for each agent with the whole state shown to it, by gain: ``agent``, ``name``, ``shown``,
        ``policy_loss``, ``interface_gap``, ``gain``. Where there are no names, numbers stand for them.
      by_field: a row for each field that an agent does not see: ``agent``, ``name``, ``field``, ..., ``gain``,
        ``interfaces_added``; empty without fields.
      order: what to show next, greedily; each row assumes those before it; ``gain`` is over the previous row.
      hideable: ``agent``, ``name`` and ``field`` of visible fields that can be hidden together at no loss.
      warnings: sentences about transient and absorbing states.
      error: target for the RMSE of a learned table against the oracle, if one was given.
      handoffs_expected: handoffs that are predicted to reach it; None if there is no such number.
      expected_by: ``theorem B`` or ``central limit``.
      handoffs_certified: handoffs that are proven to.
      limiting_term: ``interface`` or ``residual``: what has to shrink for a missing number.
    """

    sentence: str
    policy_loss: float
    interface_gap: float
    by_agent: list[Row]
    by_field: list[Row]
    order: list[Row]
    hideable: list[Row]
    warnings: list[str]
    error: float | None = None
    handoffs_expected: int | None = None
    expected_by: str | None = None
    handoffs_certified: int | None = None
    limiting_term: str | None = None

    def table(self) -> dict[str, Any]:
        """Plain numbers in the form that ``icsmdp advise --json`` prints; handoffs only with a target."""
        found = dataclasses.asdict(self)
        if self.error is None:
            for name in ("error", "handoffs_expected", "expected_by", "handoffs_certified", "limiting_term"):
                del found[name]
        return found

    def __repr__(self) -> str:
        return (
            f"Advice({len(self.by_agent)} agents, {len(self.by_field)} fields to show, {len(self.hideable)} to hide; "
            f"policy loss {self.policy_loss:.6g})"
        )

    def __str__(self) -> str:
        lines = [self.sentence]
        for title, rows in self._parts():
            lines += ["", f"{title}:", *words.aligned(words.columns_of(rows))]
        return "\n".join([*lines, "", *self._remarks(), *(f"warning: {line}" for line in self.warnings)])

    def _repr_html_(self) -> str:
        tables = [(title, words.columns_of(rows)) for title, rows in self._parts()]
        parts = "".join(f"<p>{title}</p>{html_table(cells[1:], cells[0])}" for title, cells in tables)
        said = "".join(f"<p>{html.escape(line)}</p>" for line in self._remarks())
        warnings = "".join(f"<p>Warning: {html.escape(line)}</p>" for line in self.warnings)
        return f"<p>{html.escape(self.sentence)}</p>{parts}{said}{warnings}"

    def _parts(self) -> list[tuple[str, list[Row]]]:
        found = [
            ("If one agent sees the whole state", self.by_agent),
            ("If one agent sees one more field", self.by_field),
            ("What to show next, each in addition to those above it", self.order),
        ]
        return [(title, rows) for title, rows in found if rows]

    def _remarks(self) -> list[str]:
        lines = ["Losses and gains are in units of reward; showing more can do harm, since other agents do not change."]
        if self.policy_loss and not self.order:
            lines.append("Nothing that could be shown next lowers the policy loss by itself.")
        if self.hideable:
            fields = ", ".join(f"{row['field']} from {words.agent_name(row)}" for row in self.hideable)
            lines.append(f"Can be hidden together at no loss: {fields}.")
        if self.error is not None:
            lines.append(self._handoffs())
        return lines

    def _handoffs(self) -> str:
        said = [
            f"{what} after {number} handoffs{by}" if number is not None else f"never {what}"
            for what, number, by in (
                ("expected", self.handoffs_expected, f" ({self.expected_by})"),
                ("certified", self.handoffs_certified, ""),
            )
        ]
        why = {
            None: "",
            "interface": "; what interfaces hide stands in the way",
            "residual": "; no bound on learning, or on mixing, is small enough",
        }
        return f"An error of {self.error:.6g} is {', '.join(said)}{why[self.limiting_term]}."


def advise(model: TabularModel, error: float | None = None, behaviour: np.ndarray | None = None) -> Advice:
    """Whose interface is the bottleneck, what one more field is worth to whom, and what can be hidden at no loss (E).

    Args:
      model: the IC-SMDP; ``fields`` and ``visible`` say what could be shown besides the whole state.
      error: target for the RMSE of a learned table against ``Q*`` in ``||.||_d``, units of reward: how many handoffs
        does it take?
      behaviour: ``[Z, O]`` behaviour policy, which weighs what interfaces hide; uniform if None.

    Returns:
      An ``Advice``; ``table()`` is its JSON.

    Raises:
      ValueError: as for ``analyse``, for a target that is not a positive number, and if refined models would not fit
        into memory.

    Example:
      >>> import icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> advice = ic.advise(env.exact_model(params))
      >>> advice
      Advice(10 agents, 0 fields to show, 0 to hide; policy loss 0.0353072)
    """
    if error is not None and not 0 < error < math.inf:
        raise ValueError(f"error = {error}: expected a positive number")
    if isinstance(model, TabularModel):
        _check_memory(model)
    return advice_on(analyse(model, behaviour), error)


def advice_on(known: Analysis, error: float | None = None) -> Advice:
    """The same for a model that has already been analysed."""
    model, showing = known.interface.model, known.showing
    now = gains(showing, showing.now, showing.now.policy_loss)
    shown = [_row(showing, showing.show(one)) for one in map(Candidate, range(model.num_agents))]
    fields = [_row(showing, showing.show(one)) for one in showing.fields()]
    order = showing.order()
    by_gain = _by_gain(showing.scale)
    handoffs: dict[str, Any] = {}
    if error is not None:
        from icsmdp_jax.exact.handoffs import handoffs_for  # JAX, which nothing else here needs

        found = handoffs_for(known, error)
        handoffs = {
            "error": float(error), "handoffs_expected": found.expected, "expected_by": found.expected_by,
            "handoffs_certified": found.certified, "limiting_term": found.limiting_term,
        }  # fmt: skip
    return Advice(
        sentence=words.bottleneck(shown, now["policy_loss"], showing.scale),
        policy_loss=now["policy_loss"],
        interface_gap=now["interface_gap"],
        by_agent=sorted(shown, key=by_gain),
        by_field=sorted(fields, key=by_gain),
        order=[_row(showing, *pair) for pair in zip(order, [None, *order], strict=False)],
        hideable=[_named(model, one) for one in showing.hideable()],
        warnings=structure_warnings(model, known.interface.chain),
        **handoffs,
    )


def _named(model: TabularModel, one: Candidate) -> Row:
    what = {"shown": "all"} if one.field == ALL else {"field": name_of(model.field_name, one.field)}
    return {"agent": one.agent, "name": name_of(model.agent_name, one.agent), **what}


def _row(showing: Showing, found: Shown, before: Shown | None = None) -> Row:
    """The last candidate that is shown, and what it brings."""
    one = found.shown[-1]
    added = {} if one.field == ALL else {"interfaces_added": found.interfaces_added}
    loss = (before or showing.now).policy_loss
    return {**_named(showing.model, one), **gains(showing, found, loss), **added}


def _by_gain(scale: float) -> Callable[[Row], Any]:
    """Largest gain first; gains that differ by rounding only are equal, and ordered by the names of agent and field."""
    return lambda row: (-round(row["gain"] / (SAME * scale)), row["name"], row.get("field", ALL))


def _check_memory(model: TabularModel) -> None:
    """Refuses what would not fit before anything is computed: the kernel is held several times."""
    from icsmdp_jax.devices.placement import host_memory

    rows = model.reward_rate.size
    width = 8 * model.num_states if model.successor is None else 12 * model.successor.shape[2]
    wanted, most = COPIES * rows * width, host_memory()
    if wanted > most:
        found, limit = (f"{size / 2**30:,.1f} GiB" for size in (wanted, most))
        raise ValueError(f"model: the forecast for its refinements is {found}, expected at most {limit}")
