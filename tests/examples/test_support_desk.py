"""The support desk: its model is what it simulates, both real clients run it offline, online IC-Q learns it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from examples.support_desk.__main__ import CLIENTS, learned
from examples.support_desk.desk import AGENTS, OWN, Desk, by_hand
from examples.support_desk.office import ByHand, ByPolicy, Office, Online, empty_policy
from icsmdp_jax.runtime.agent import Agent
from icsmdp_jax.runtime.policies import load_policy

ROOT = Path(__file__).resolve().parents[2]
DESK = Desk()
NEEDS = {"langgraph": "langgraph", "agents-sdk": "agents"}
HAND, ORACLE = DESK.value(DESK.table(by_hand)), DESK.value(None)


def client(name: str):
    """A client's module, if its package is installed."""
    pytest.importorskip(NEEDS[name])
    return import_module(CLIENTS[name])


def plain_run(office: Office, tickets: int) -> None:
    """No client: the turns alone."""
    for _ in range(tickets):
        ticket = office.open()
        while office.turn(ticket):
            pass


def test_exact_values_are_those_of_the_simulation() -> None:
    office = Office(DESK, ByHand(0.0), None, seed=3)
    plain_run(office, 1500)
    mean, half = office.interval()
    assert abs(mean - HAND) < 1.7 * half  # 3.3 standard errors


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_hands_over_as_the_desk_says_and_logs_every_handoff(name: str, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)  # nothing leaves this machine
    module, log, twin_log = client(name), io.StringIO(), io.StringIO()
    office, twin = (Office(DESK, ByHand(0.3, 1), stream, seed=2) for stream in (log, twin_log))
    spans = module.run(office, 12)
    plain_run(twin, 12)
    assert log.getvalue() == twin_log.getvalue()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    for line, after in zip(lines, [*lines[1:], None], strict=True):
        assert line["option"] in line["options"] and 0 < line["probability"] <= 1
        usual = by_hand(line["agent"], line["seen"]) == line["option"]
        assert line["probability"] == pytest.approx(0.3 / len(line["options"]) + 0.7 * usual)
        if line["next"] is not None:
            assert after is not None and (after["run"], after["step"]) == (line["run"], line["step"] + 1)
            assert after["agent"] == line["next"]
    assert sum(line["next"] is None for line in lines) == 12
    if spans is not None:  # what the SDK itself traced
        handed = Counter((line["agent"], line["next"]) for line in lines if line["next"] is not None)
        assert Counter(spans.handoffs) == handed


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIENTS)
def test_the_fitted_policy_beats_the_routing_in_the_same_client(name: str, tmp_path: Path) -> None:
    """Logs of the client, ``icsmdp fit``, and its policy in the same client: better by more than both intervals."""
    module = client(name)
    with open(tmp_path / "log.jsonl", "w") as log:
        module.run(Office(DESK, ByHand(0.3, 1), log, seed=2), 1500)
    config = ROOT / "examples" / "support_desk" / "fit.toml"
    fit = ["-m", "icsmdp_jax.cli", "fit", "log.jsonl", "--config", config, "--out", "fitted", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([fitting(), *fit], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["log"]
    assert found["lines"] == found["good"] > 1500 and found["runs"] == 1500
    fitted = ByPolicy(load_policy(tmp_path / "fitted"))
    gain = DESK.gain(lambda agent, facts: fitted.choose(agent, facts, OWN[AGENTS.index(agent)])[0])
    intervals = []
    for routing in (ByHand(0.0), fitted):
        office = Office(DESK, routing, seed=11)
        module.run(office, 1000)
        intervals.append(office.interval())
    (hand, around_hand), (new, around_new) = intervals
    assert new - around_new > hand + around_hand, intervals
    assert gain > 0.9 > DESK.gain(by_hand), gain


def fitting() -> str:
    """A Python that can fit: this one, or, where the clients are installed without JAX, that of the checkout."""
    if find_spec("jax"):
        return sys.executable
    other = ROOT / ".venv" / "bin" / "python"
    if not other.exists():
        pytest.skip("jax is neither installed here nor in .venv")
    return str(other)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIENTS)
def test_online_learning_from_scratch_in_a_process_each(name: str, tmp_path: Path) -> None:
    module = client(name)
    online = Online(tmp_path, epsilon=0.2)
    office = Office(DESK, online)
    module.run(office, 600)
    said = online.close()
    assert DESK.gain(learned(said)) >= 0.95 > DESK.gain(by_hand)
    closed = len(office.tickets)
    assert online.handoffs == sum(office.steps.values()) - closed
    assert sum(one["sent"] for one in said.values()) == sum(one["heard"] for one in said.values()) == online.handoffs
    for one in said.values():
        counts = one["counts"]
        assert counts["absorbed"] - counts.get("terminal", 0) == one["heard"]
        assert set(counts) <= {"absorbed", "terminal", "waiting", "lost", "clipped"} and counts["waiting"] == 0
        assert not one["jax"]


def test_a_few_tickets_with_a_process_each(tmp_path: Path) -> None:
    """The processes learn what agents in one process learn from the same segments and scalars."""
    online = Online(tmp_path, epsilon=0.3, seed=5)
    heard = []
    told, online.ended = online.ended, lambda ended: (heard.append(ended), told(ended))  # type: ignore[method-assign]
    plain_run(Office(DESK, online, None, seed=4), 25)
    said = online.close()
    policy = empty_policy()
    twins = {name: Agent(policy, name) for name in AGENTS}
    from icsmdp_jax.runtime.agent import Segment

    for one in heard:
        scalar = 0.0 if one.to is None else twins[one.to].offer(one.then)
        segment = Segment(one.facts, policy.options.index(one.option), one.reward, one.discount)
        twins[one.agent].absorb(segment, scalar, one.segment)
    for name, twin in twins.items():
        values = [twin.values(number) for number in range(len(policy.agent(name).params["q"]))]
        np.testing.assert_array_equal(said[name]["values"], values)
    assert sum(one["heard"] for one in said.values()) == online.handoffs == sum(one.to is not None for one in heard)


def test_the_exported_policy_beats_the_routing_in_place(tmp_path: Path) -> None:
    """Q_phi of the desk's model, through ``icsmdp export`` and the policy's files, in the same office."""
    pytest.importorskip("jax")
    from icsmdp_jax.models.files import save_model
    from icsmdp_jax.models.tabular import TabularModel
    from tests.bound_validation.runs import icsmdp

    model = TabularModel(**DESK.arrays())
    save_model(tmp_path / "desk.npz", model)
    assert icsmdp("export", tmp_path / "desk.npz", "--out", tmp_path / "policy").code == 0
    policy = load_policy(tmp_path / "policy")
    number = {str(name): z for z, name in enumerate(model.interface_name)}
    agents = {name: Agent(policy, name) for name in AGENTS}

    def choose(agent: str, facts: dict[str, str]) -> str:
        return agents[agent].act(number[f"{agent}: {', '.join(facts.values())}"], OWN[AGENTS.index(agent)]).name

    assert DESK.gain(choose) > 0.95
    office = Office(DESK, ByHand(0.0), None, seed=7)
    plain_run(office, 800)
    mean, half = office.interval()
    assert DESK.value(DESK.table(choose)) > mean + half
    assert "jax" in sys.modules  # the rest of this file needs none: it runs where only the runtime is installed


def test_a_policy_is_followed() -> None:
    """Values that prefer the usual options give the usual routing, facts to interface to option."""
    policy = empty_policy()
    for one, own in zip(policy.agents, OWN, strict=True):
        for row in range(len(one.params["q"])):
            codes = np.unravel_index(row, [field.size for field in one.fields])
            if all(code < field.size - 1 for code, field in zip(codes, one.fields, strict=True)):
                facts = {field.name: field.values[code] for field, code in zip(one.fields, codes, strict=True)}
                one.params["q"][row, policy.options.index(by_hand(one.name, facts))] = 1.0
                assert one.number_of(facts) == row
        assert set(own) >= {by_hand(one.name, facts)}
    routing = ByPolicy(policy)
    gain = DESK.gain(lambda agent, facts: routing.choose(agent, facts, OWN[AGENTS.index(agent)])[0])
    assert gain == pytest.approx(DESK.gain(by_hand))
