"""From a log to its report: model, constants with intervals, new policy, its value, what is open."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from icsmdp_jax.exact.advice import advice_on
from icsmdp_jax.exact.breakdown import AFFORDED
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.showing import ALL, Candidate
from icsmdp_jax.models.tabular import TabularModel
from icsmdp_jax.traces import changes as changing
from icsmdp_jax.traces import patterns
from icsmdp_jax.traces.cooperation import logged
from icsmdp_jax.traces.empirical import Empirical, empirical
from icsmdp_jax.traces.evaluation import Estimate, Value, evaluate
from icsmdp_jax.traces.log import Log
from icsmdp_jax.traces.offline import Offline, offline_icq
from icsmdp_jax.traces.resampling import Resampler, affordable, drawn_weights, half_width

CONSTANTS = {  # and the least and largest value that each can have
    "gamma_bar": (0.0, 1.0),
    "epsilon": (0.0, np.inf),
    "delta": (0.0, 2.0),
    "interface_gap": (0.0, np.inf),
    "mixing_time": (1.0, np.inf),
}


class Fit(NamedTuple):
    """What is known from a log.

    Attributes:
      found: its counts.
      model: the empirical IC-SMDP.
      known: its exact analysis under the behaviour of the log.
      offline: the new policy.
      value: its value.
      content: everything that is told, ready for JSON.
    """

    found: Empirical
    model: TabularModel
    known: Analysis
    offline: Offline
    value: Value
    content: dict[str, Any]

    @property
    def policy(self) -> np.ndarray:
        """``[Z, O]`` the new policy, one 1 in each row."""
        return np.eye(self.found.taken.shape[1])[self.offline.choice]


def fit(log: Log) -> Fit:
    """Fits a log (docs/logs.md).

    Raises:
      ValueError: in one line, if no model can be made of the log.
    """
    found = empirical(log)
    model = found.model()
    known = analyse(model, found.behaviour())
    z = found.num_interfaces
    q = np.where(known.interface.mask, known.q_phi.q, -np.inf)[:z]
    offline = offline_icq(found, known.interface, known.q_phi)
    weights = drawn_weights(found.num_units, affordable(found), np.random.default_rng(log.config.seed))
    resampler = Resampler(found)
    parts = [s.interface_values(offline.choice) for s in resampler.solvers(weights)]
    draws = np.concatenate([part.q_phi for part in parts])
    value = evaluate(found, resampler, offline.choice, weights)
    weight = known.interface.interface_weight[:z]
    questions = changing.open_questions(found, offline, q, draws, weight)
    content = {
        "log": log.counted() | {"runs": log.num_runs, "runs_from_start": value.runs, "notes": list(log.notes)},
        "sizes": {
            "states": found.num_states, "interfaces": z, "agents": len(log.agent_name), "options": len(log.option_name),
            "borrowed_laws": int(found.borrowed.sum()), "laws": len(found.borrowed), "resamples": len(weights),
            "joint_durations": model.kernel is not None,
        },
        "settings": _settings(log),
        "constants": constants(found, known, weights),
        "coverage": _coverage(found, offline, q, draws, weight),
        "value": _value(value),
        "changes": changing.changes(found, resampler, offline, weights),
        "open": questions,
        "untried": changing.untried(found, offline),
        "more_runs": changing.to_settle(found, value, questions),
        "showing": showing(known),
        "cooperation": patterns.told(logged(log, found, q, offline.choice)),
        "advise": advice_on(known).table(),
        "warnings": known.warnings,
    }  # fmt: skip
    return Fit(found, model, known, offline, value, {"sentence": sentence(content), **content})


def showing(known: Analysis) -> list[dict[str, Any]]:
    """What one more field, or the whole state, shown to one agent gains in the value of a run (E), most first.

    Losses in the worst state, which ``advise`` tells, come from rare states in an empirical model; this mean does not.
    Empty for models so large that it would take long.
    """
    model, now = known.interface.model, known.showing.now
    assert model.agent_name is not None
    every = [Candidate(i) for i in range(model.num_agents) if (model.agent[known.interface.chain.states] == i).any()]
    rows: list[dict[str, Any]] = []
    if (len(every) + len(known.showing.fields())) * model.num_states > AFFORDED:
        return rows
    for one in [*every, *known.showing.fields()]:
        shown = known.showing.show(one)
        field = "all of the state" if one.field == ALL else str(np.asarray(model.field_name)[one.field])
        rows.append({
            "agent": str(model.agent_name[one.agent]), "field": field, "gain": now.start_loss - shown.start_loss,
            "interfaces_added": shown.interfaces_added,
        })  # fmt: skip
    return sorted(rows, key=lambda row: -row["gain"])


def _settings(log: Log) -> dict[str, Any]:
    config = log.config
    return {
        "gamma": config.gamma, "unit": config.unit, "step": config.step, "longest": config.longest,
        "caution": config.caution, "support": config.support, "confidence": config.confidence, "seed": config.seed,
        "fields": {
            name: [log.agent_name[i] for i in np.flatnonzero(log.visible[:, f])]
            for f, name in enumerate(log.field_name)
        },
        "reward": {name: part._asdict() for name, part in config.reward.items()},
    }  # fmt: skip


def constants(found: Empirical, known: Analysis, weights: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Constants of the model with intervals from resampled models.

    Most are largest values over many entries, which sampling errors push up. The basic bootstrap interval, mirrored at
    the estimate, takes that back; it is cut to what the constant can be.
    """
    count = min(len(weights), 100 if found.num_states <= 60 else 40 if found.num_states <= 300 else 20)
    rows = []
    for some in weights[:count]:
        again = analyse(found.model(some), found.behaviour(some))
        rows.append([getattr(again, name) for name in CONSTANTS])
    table = np.array(rows, float)  # None, an infinite mixing time, becomes NaN
    tail = (1 - found.log.config.confidence) / 2
    out: dict[str, dict[str, float | None]] = {}
    for (name, (least, most)), column in zip(CONSTANTS.items(), table.T, strict=True):
        value = getattr(known, name)
        low, high = np.quantile(column, [tail, 1 - tail])
        if value is None or not np.isfinite([low, high]).all():
            out[name] = {"value": value, "low": None, "high": None}
            continue
        ends = np.clip([2 * value - high, 2 * value - low], least, most)
        out[name] = {"value": float(value), "low": float(min(ends[0], value)), "high": float(max(ends[1], value))}
    return out


def _coverage(
    found: Empirical, offline: Offline, q: np.ndarray, draws: np.ndarray, weight: np.ndarray
) -> list[dict[str, Any]]:
    """A row for every interface and option that was taken: how often, what it is worth, whether it may be chosen."""
    log, rests = found.log, offline.support
    half = half_width(np.where(found.taken, draws, 0.0), found.num_units, log.config.confidence)
    return [
        {
            "interface": found.interface_names[i], "option": log.option_name[o], "segments": int(rests.segments[i, o]),
            "effective_runs": float(rests.effective[i, o]), "share_of_handoffs": float(weight[i]),
            "q": Estimate(float(q[i, o]), float(q[i, o] - half[i, o]), float(q[i, o] + half[i, o]))._asdict(),
            "lower": float(offline.lower[i, o]) if np.isfinite(offline.lower[i, o]) else None,
            "supported": bool(rests.supported[i, o]), "chosen": bool(offline.choice[i] == o),
        }
        for i, o in np.argwhere(found.taken & np.isfinite(q))
    ]  # fmt: skip


def _value(value: Value) -> dict[str, Any]:
    out = {name: part._asdict() for name, part in value._asdict().items() if isinstance(part, Estimate)}
    return out | {
        "differences": {name: difference._asdict() for name, difference in value.differences.items()},
        "disagree": value.disagree, "probabilities_fit": value.probabilities_fit,
        "beyond_a_cut": value.beyond, "handoffs_weighed": value.handoffs,
    }  # fmt: skip


def sentence(content: dict[str, Any]) -> str:
    """What a fit says first."""
    value = content["value"]
    gain = value["gain_robust"]
    if not content["changes"] and abs(gain["value"]) < 1e-9 * (1 + abs(value["current"]["value"])):
        return "The log shows no handoff that would gain from another option: see what is open, and what was not tried."
    percent = f"{100 * content['settings']['confidence']:g} %"
    span = f"{gain['value']:+.4g} a run ({percent} interval {gain['low']:.4g} to {gain['high']:.4g})"
    if not value["probabilities_fit"]:
        start = (
            "The probabilities in the log are not those with which options were taken, so the estimates that rest on "
            "them say nothing. By the doubly robust estimate, which is one of them,"
        )
    elif value["disagree"]:
        start = (
            f"The model is wrong: {' and '.join(value['disagree'])} differ by more than their interval, so something "
            "that matters is not in the log. By the doubly robust estimate, which does not rest on the model alone,"
        )
    else:
        start = "Model and importance sampling agree within their intervals. By the doubly robust estimate"
    what = f"the new handoff policy is worth {span} over the old one"
    if gain["low"] <= 0 <= gain["high"]:
        more = content["more_runs"]["gain_by_doubly_robust"]
        what += "; that may be nothing" + (f", and about {more} more runs would tell" if more else "")
    return f"{start} {what}."
