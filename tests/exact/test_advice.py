"""Advice: rows against a NumPy twin of every refined model, closed forms, and what it says in ill cases (E)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import icsmdp_jax as ic
from icsmdp_jax.exact.advice import advise
from icsmdp_jax.exact.showing import Candidate, Showing
from tests.bound_validation.runs import icsmdp, refused
from tests.exact.test_showing import post_office, with_fields
from tests.helpers import EXPECTED, GOLDEN, as_model, golden, golden_analysis
from tests.pages import DOCS, examples_print_what_they_say
from tests.reference import interface as twin
from tests.reference.chain import optimal_q

AGENTS, OPTIONS = 3, 2
NAMES = {"agent_name": np.array(["plan", "code", "check"]), "field_name": np.array(["who", "size", "age"])}


def labels(keys: list[tuple]) -> np.ndarray:
    """Numbers of different keys, in the order in which they come."""
    seen: dict[tuple, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys])


def fielded(seed: int, gamma: float = 0.6) -> dict[str, Any]:
    """Nine states of three agents with two facts each; who sees what, masks, laws and rewards are random."""
    rng = np.random.default_rng(seed)
    states = [(agent, size, age) for agent in range(AGENTS) for size, age in ((0, 0), (0, 1), (1, 0))]
    visible = rng.random((AGENTS, 3)) < 0.4
    interface = labels([(s[0], *(s[f] for f in range(3) if visible[s[0], f])) for s in states])
    available = rng.random((interface.max() + 1, OPTIONS)) < 0.8
    available[~available.any(axis=1)] = True
    return {
        "transition": rng.dirichlet(np.full(9, 0.7), size=(9, OPTIONS)),
        "duration": rng.dirichlet(np.ones(3), size=(9, OPTIONS)), "reward_rate": rng.normal(size=(9, OPTIONS)),
        "reward_noise": np.array(0.0), "agent": np.array([s[0] for s in states]), "interface": interface,
        "gamma": np.array(gamma), "available": available, "fields": np.array(states, np.int32), "visible": visible,
    }  # fmt: skip


def refined(model: dict[str, Any], agent: int, fields: list[int]) -> tuple[dict[str, Any], np.ndarray]:
    """The model in which an agent sees further fields, and its uniform behaviour."""
    old, facts = model["interface"], model["fields"]
    keys = [(z, *(facts[s, f] for f in fields)) if model["agent"][s] == agent else (z,) for s, z in enumerate(old)]
    interface = labels(keys)
    parent = np.array([old[np.flatnonzero(interface == z)[0]] for z in range(interface.max() + 1)])
    mask = model["available"][parent]
    new = {name: model[name] for name in model if name not in ("visible", "fields", "agent_name", "field_name")}
    return {**new, "interface": interface, "available": mask}, mask / mask.sum(axis=1, keepdims=True)


def gap(model: dict[str, Any], behaviour: np.ndarray) -> float:
    values = twin.interface_q(model, behaviour)[model["interface"]]
    return float(np.nanmax(np.abs(values - optimal_q(model))))


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6))
def test_every_row_is_what_a_twin_finds_of_the_refined_model(seed: int) -> None:
    model = fielded(seed)
    found = advise(as_model(model))
    now = twin.policy_loss(*refined(model, 0, []))
    assert found.policy_loss == pytest.approx(now, abs=1e-8)
    assert {row["agent"] for row in found.by_agent} == set(range(AGENTS))
    hidden = {(int(i), int(f)) for i, f in np.argwhere(~model["visible"])}
    assert {(row["agent"], row["field"]) for row in found.by_field} == hidden
    for row in found.by_agent + found.by_field:
        other, behaviour = refined(model, row["agent"], [row["field"]] if "field" in row else [0, 1, 2])
        loss = twin.policy_loss(other, behaviour)
        assert row["policy_loss"] == pytest.approx(loss, abs=1e-8) and row["gain"] == pytest.approx(
            now - loss, abs=1e-8
        )
        assert row["interface_gap"] == pytest.approx(gap(other, behaviour), abs=1e-8)
        if "field" in row:
            assert row["interfaces_added"] == other["interface"].max() - model["interface"].max()
    for rows in (found.by_agent, found.by_field):
        assert all(a["gain"] >= b["gain"] - 1e-7 for a, b in zip(rows, rows[1:], strict=False))
    if found.order:
        best = found.by_field[0]
        assert found.order[0]["policy_loss"] == pytest.approx(best["policy_loss"], abs=1e-7)
        assert sum(row["gain"] for row in found.order) == pytest.approx(now - found.order[-1]["policy_loss"], abs=1e-7)
    else:
        assert all(row["gain"] < 1e-7 for row in found.by_field)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_hideable_costs_nothing_and_all_else_something(seed: int) -> None:
    """The twin of the merged model: all hideable fields together, and each other one on top of those before it."""
    model = fielded(seed)
    model["available"] = np.ones_like(model["available"])
    now = twin.policy_loss(*refined(model, 0, []))
    hideable = {(row["agent"], row["field"]) for row in advise(as_model(model)).hideable}
    hidden: set[tuple[int, int]] = set()
    for agent, field in np.argwhere(model["visible"]).tolist():
        less = model["visible"].copy()
        for i, f in [*hidden, (agent, field)]:
            less[i, f] = False
        keys = [(s[0], *(s[f] for f in range(3) if less[s[0], f])) for s in model["fields"].tolist()]
        merged = {**refined(model, 0, [])[0], "interface": labels(keys)}
        merged["available"] = np.ones((merged["interface"].max() + 1, OPTIONS), bool)
        lost = twin.policy_loss(merged, merged["available"] / OPTIONS) - now
        assert ((agent, field) in hideable) is (lost <= 1e-7)
        if lost <= 1e-7:
            hidden.add((agent, field))


def test_names_and_numbers_do_not_matter() -> None:
    """Agents and fields in another order, with their names: the same rows, in the same order where gains differ."""
    model = {**fielded(5), **NAMES}
    agents, fields = np.array([2, 0, 1]), np.array([1, 2, 0])  # new numbers are positions in these
    place = np.argsort(agents)
    turned = {
        **model, "agent": place[model["agent"]], "fields": model["fields"][:, fields],
        "visible": model["visible"][agents][:, fields], "agent_name": NAMES["agent_name"][agents],
        "field_name": NAMES["field_name"][fields],
    }  # fmt: skip
    one, other = advise(as_model(model)), advise(as_model(turned))
    for name in ("by_agent", "by_field"):
        rows, again = getattr(one, name), getattr(other, name)
        assert [(row["name"], row.get("field")) for row in rows] == [(row["name"], row.get("field")) for row in again]
        for a, b in zip(rows, again, strict=True):
            assert agents[b["agent"]] == a["agent"]
            assert [a[key] for key in ("policy_loss", "gain")] == pytest.approx(
                [b[key] for key in ("policy_loss", "gain")], abs=1e-9
            )


@pytest.mark.parametrize("seed", range(3))
def test_without_a_future_more_to_see_never_lowers_the_mean_return(seed: int) -> None:
    """gamma = 0: the mean return is ``sum_z d(z) max_o r_phi(z, o)``, and convexity says the rest (E)."""
    model = fielded(seed, gamma=0.0)
    model["available"] = np.ones_like(model["available"])
    showing = Showing.on(as_model(model))
    law = showing.base.chain.stationary

    def closed_form(interface: np.ndarray) -> float:
        return sum(
            float((law @ (model["reward_rate"] * (interface == z)[:, None])).max()) for z in set(interface.tolist())
        )

    best = float(law @ model["reward_rate"].max(axis=1))
    shown: list[Candidate] = []
    losses = [showing.now.weighted_loss]
    assert losses[0] == pytest.approx(best - closed_form(model["interface"]), abs=1e-12)
    for agent in range(AGENTS):
        for field in (1, 2):
            shown.append(Candidate(agent, field))
            losses.append(showing.show(*shown).weighted_loss)
    assert losses[-1] == pytest.approx(0, abs=1e-12) and (np.diff(losses) <= 1e-12).all()


def test_fields_by_hand() -> None:
    """Closed forms of ``test_showing``: the fact is worth all that is lost, the rest may be hidden."""
    found = advise(with_fields()[0].replace(agent_name=["a", "b"]))
    value = 0.5 + 0.5 * 0.5 * 0.64 / (1 - 0.64)
    (row,) = found.by_field
    assert (row["agent"], row["name"], row["field"], row["interfaces_added"]) == (0, "a", "fact", 2)
    assert row["gain"] == pytest.approx(value, rel=1e-9) and row["policy_loss"] == pytest.approx(0, abs=1e-9)
    assert [(one["field"], one["gain"]) for one in found.order] == [("fact", pytest.approx(value, rel=1e-9))]
    assert [(one["name"], one["field"]) for one in found.hideable] == [
        ("a", "turn"), ("a", "noise"), ("b", "turn"), ("b", "noise")
    ]  # fmt: skip
    assert found.sentence.startswith("The bottleneck is a (agent 0)")
    assert "Can be hidden together at no loss: turn from a (agent 0), " in str(found)


def test_without_visible_a_field_that_splits_no_interface_is_nothing_to_show() -> None:
    found = advise(with_fields()[0].replace(visible=None))
    assert [(row["agent"], row["field"]) for row in found.by_field] == [(0, "fact")] and found.hideable == []


def test_the_desk() -> None:
    found = advise(golden("desk"))
    wanted = {row["agent"]: row for row in EXPECTED["desk"]["by_agent"]}
    assert [row["agent"] for row in found.by_agent] == [3, 0, 1, 2] and found.by_field == []
    for row in found.by_agent:
        for key in ("policy_loss", "interface_gap"):
            assert row[key] == pytest.approx(wanted[row["agent"]][key], rel=1e-9)
    first = str(found).split(". ")[0].split("\n")[0]
    assert "bottleneck is agent 3" in first and "from 1.495 to 0.073; for any other agent alone it is 1.495" in first
    assert golden_analysis("desk").sentence.startswith(found.sentence)
    assert repr(found).count("\n") == 0 and found.sentence in found._repr_html_() and "error" not in found.table()


def test_rows_of_an_analysis_add_up_to_its_constants() -> None:
    known = golden_analysis("episodic_masks")
    for rows in (known.by_agent, known.by_interface):
        assert sum(row["weight"] for row in rows) == pytest.approx(1, rel=1e-12)
        assert sum(row["num_states"] for row in rows) == len(known.interface.chain.states)
        for name, whole in (("epsilon", known.epsilon), ("delta", known.delta), ("largest_gap", known.interface_gap)):
            assert max(row[name] for row in rows) == whole
        assert max(row["largest_loss"] for row in rows) == known.policy_loss
    assert sum(row["num_interfaces"] for row in known.by_agent) == len(known.by_interface)
    interface = known.interface
    for row in known.by_interface:
        states = np.flatnonzero((interface.model.interface == row["interface"]) & (interface.chain.stationary > 0))
        mean = np.abs(interface.moments.reward_mean[states] - interface.reward[row["interface"]])
        assert row["epsilon"] == pytest.approx(mean[interface.moments.used[states]].max(), abs=1e-15)


def test_sentences_where_there_is_no_bottleneck() -> None:
    assert (
        "No single agent is the bottleneck: the policy loss of 2.000 falls for none" in advise(post_office()).sentence
    )
    model = post_office()
    seeing = model.replace(interface=np.arange(5))
    found = advise(seeing)
    assert found.sentence == "No interface is a bottleneck: acting on what the agents see loses nothing."
    assert found.order == [] and [row["gain"] for row in found.by_agent] == [0, 0]
    alone = advise(model.replace(agent=np.zeros(5, int)))
    assert alone.sentence == (
        "The bottleneck is agent 0: if it sees the whole state, the policy loss falls from 2.000 to 0.000."
    )


def test_models_that_cannot_be_advised_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="model = 'file.npz': expected a TabularModel"):
        ic.advise("file.npz")  # type: ignore[arg-type]
    for error in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"error = {error}: expected a positive number"):
            ic.advise(golden("desk"), error)
    two = np.eye(2)[:, None]
    apart = {"reward_rate": np.ones((2, 1)), "agent": [0, 1], "interface": [0, 1], "gamma": 0.5, "transition": two}
    with pytest.raises(ValueError, match="2 recurrent classes"):
        ic.advise(ic.TabularModel(**apart, duration=np.ones((2, 1, 1))))
    monkeypatch.setattr("icsmdp_jax.devices.placement.host_memory", lambda: 2**13)
    with pytest.raises(ValueError, match="the forecast for its refinements is .* GiB, expected at most"):
        ic.advise(golden("desk"))


def test_transient_states_are_a_warning_and_have_no_rows() -> None:
    model = fielded(3)
    model["transition"][..., 0] = 0
    model["transition"] /= model["transition"].sum(axis=2, keepdims=True)
    found = advise(as_model(model))
    assert "1 of 9 states are transient" in found.warnings[0] and found.warnings[0] in str(found)


def test_the_command(tmp_path) -> None:
    desk = GOLDEN / "desk.npz"
    outcome = icsmdp("advise", desk, "--json", "--error", "0.2")
    found = json.loads(outcome.out)
    assert outcome.code == 0 and outcome.err == "" and outcome.out.count("\n") == 1
    assert list(found["by_agent"][0]) == ["agent", "name", "shown", "policy_loss", "interface_gap", "gain"]
    assert (found["handoffs_expected"], found["handoffs_certified"], found["limiting_term"]) == (
        None,
        None,
        "interface",
    )
    said = icsmdp("advise", desk, "--error", "0.2").out.splitlines()
    assert said[0] == found["sentence"] and said[-1].startswith(
        "An error of 0.2 is never expected, never certified; what"
    )
    refused(icsmdp("advise", desk, "--error", "-1"), "error = -1.0: expected a positive number")
    refused(icsmdp("advise", tmp_path / "none.npz"), "none.npz: no such file")


def test_the_page_prints_what_it_says() -> None:
    examples_print_what_they_say(DOCS / "advise.md")
