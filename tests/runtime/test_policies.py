"""Policy files: what is written is read, what is damaged or does not fit is refused in one line."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from icsmdp_jax.learner.export import table_policy
from icsmdp_jax.runtime.agent import Agent
from icsmdp_jax.runtime.policies import AgentPolicy, Field, Policy, arrays_of, load_policy, save_policy
from tests.bound_validation.runs import ROOT, icsmdp
from tests.command_line import contents, parsed
from tests.helpers import GOLDEN, golden

FIELDS = (Field("kind", ("u", "v", 3)), Field("waited", edges=(0.5, 2.0)))
TABLE = {"q": np.arange(6.0).reshape(3, 2)}
SEEN = np.ones((3, 2), int)
POLICY = Policy(
    ("keep", "pass"),
    (
        AgentPolicy("desk", TABLE, FIELDS, np.array([0, 5, 7]), ("p", "q", "r"), TABLE["q"] != 1, None, SEEN),
        AgentPolicy("clerk", {"q": np.ones((1, 2))}, interfaces=np.array([9])),
    ),
    0.9,
    value_range=(-1.0, 12.5),
)  # fmt: skip


def refused(**changes: object) -> str:
    arguments = {"name": "x", "params": TABLE, "interfaces": np.arange(3)} | changes
    with pytest.raises(ValueError) as caught:
        Policy(("a", "b"), (AgentPolicy(**arguments),), 0.9)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_policy_comes_back(tmp_path: Path) -> None:
    save_policy(tmp_path / "p", POLICY)
    save_policy(tmp_path / "p", POLICY)  # over an old one
    found = load_policy(tmp_path / "p")
    assert (found.options, found.gamma, found.value_range) == (POLICY.options, POLICY.gamma, POLICY.value_range)
    for one, other in zip(found.agents, POLICY.agents, strict=True):
        assert (one.name, one.fields, one.interface_names) == (other.name, other.fields, other.interface_names)
        for (name, array), (wanted, expected) in zip(
            sorted(arrays_of(one).items()), sorted(arrays_of(other).items()), strict=True
        ):
            assert name == wanted and array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)
    assert [one.name for one in found.only("clerk").agents] == ["clerk"]


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    save_policy(tmp_path, POLICY)
    card, arrays = (tmp_path / name for name in ("policy.json", "policy.safetensors"))
    good = card.read_bytes(), arrays.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(300):
        damaged = [bytearray(content) for content in good]
        which = damaged[trial % 2]
        for at in rng.integers(0, len(which), rng.integers(1, 4)):
            which[at] = rng.integers(256)
        if trial % 5 == 0:
            del which[rng.integers(len(which)) :]
        card.write_bytes(damaged[0])
        arrays.write_bytes(damaged[1])
        try:
            load_policy(tmp_path)
        except ValueError as error:
            assert str(error).startswith(str(tmp_path)) and len(str(error)) < 600
        else:
            assert bytes(damaged[1]) == good[1]  # a name or number of the card that may stand there
    card.write_bytes(good[0])
    arrays.write_bytes(pickle.dumps({"q": TABLE["q"]}))
    with pytest.raises(ValueError, match="belongs together"):
        load_policy(tmp_path)
    with pytest.raises(ValueError, match="No such file"):
        load_policy(tmp_path / "none")


def test_what_does_not_fit_is_named() -> None:
    assert "q: shape [3, 3], expected [3, 2]" in refused(params={"q": np.zeros((3, 3))})
    assert "q: not finite at [1, 0]" in refused(params={"q": np.array([[0.0, 0], [np.nan, 0], [0, 0]])})
    assert "interfaces: missing" in refused(interfaces=None)
    assert "interfaces: expected numbers" in refused(interfaces=np.array([1, 1, 2]))
    assert "w: unknown array" in refused(params=TABLE | {"w": np.zeros(2)})
    assert "expected ascending numbers" in refused(fields=(Field("f", edges=(1.0, 1.0)),))
    assert "either values or edges" in refused(fields=(Field("f"),))
    assert "dtype int64" in refused(available=np.ones((3, 2), int))


def test_export_writes_q_phi_and_what_was_learned(tmp_path: Path) -> None:
    found = parsed(icsmdp("export", GOLDEN / "episodic_masks.npz", "--out", tmp_path / "p", "--json"))
    solution, model = contents(GOLDEN / "episodic_masks.solution.npz"), golden("episodic_masks")
    policy = load_policy(tmp_path / "p")
    assert found["value_range"] == list(policy.value_range or ())
    for number, one in enumerate(policy.agents):
        assert one.interfaces is not None and one.available is not None
        np.testing.assert_array_equal(model.interface_agent[one.interfaces], number)
        exact = solution["q_interface"][one.interfaces]
        np.testing.assert_array_equal(one.available, np.isfinite(exact))
        np.testing.assert_allclose(one.params["q"][one.available], exact[one.available], atol=1e-8)
        agent = Agent(policy, one.name)
        assert [agent.act(int(z)).option for z in one.interfaces] == np.nanargmax(exact, axis=1).tolist()
    q = np.where(np.isfinite(solution["q_interface"]), solution["q_interface"], 0.0)
    np.savez(tmp_path / "learned.npz", q_last=q[None], q_average=np.stack([q + 1, q + 2]))
    learned = ("--learned", tmp_path / "learned.npz")
    assert icsmdp("export", GOLDEN / "episodic_masks.npz", *learned, "--out", tmp_path / "p").code == 0
    one, first = load_policy(tmp_path / "p").agents[1], policy.agents[1]
    np.testing.assert_allclose(one.params["q"][one.available], first.params["q"][one.available] + 1.5, atol=1e-6)
    outcome = icsmdp("export", GOLDEN / "plain.npz", *learned, "--out", tmp_path / "p")
    assert outcome.code == 2 and "expected [12, 2]" in outcome.err


def test_fields_of_a_model_are_those_of_its_policy() -> None:
    model = golden("plain")
    seen = np.zeros((model.num_states, 3), np.int32)
    seen[:, 0], seen[:, 1] = model.interface * 10, np.arange(model.num_states)  # two facts: one seen, one hidden
    named = model.replace(
        fields=seen, field_name=np.array(["what", "hidden", "also"]), visible=np.array([[1, 0, 1]] * 3, bool)
    )
    q = np.arange(24.0).reshape(12, 2)
    policy = table_policy(named, q)
    for z in range(12):
        one = Agent(policy, f"agent {model.interface_agent[z]}")
        assert one.values({"what": 10 * z, "also": 0}) == q[z].tolist()


@pytest.mark.slow  # a time, which a machine that is busy may miss
def test_the_runtime_imports_quickly() -> None:
    code = (
        "import sys, time, numpy; begun = time.process_time(); import icsmdp_jax.runtime.audit; "
        "print(time.process_time() - begun, any(name in sys.modules for name in ('jax', 'scipy', 'pyarrow')))"
    )
    command = [sys.executable, "-c", code]
    done = [
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)
    ]
    assert {loaded for _, loaded in done} == {"False"}
    assert min(float(seconds) for seconds, _ in done) < 0.05


def test_the_card_is_for_people(tmp_path: Path) -> None:
    save_policy(tmp_path, POLICY, "me")
    card = json.loads((tmp_path / "policy.json").read_text())
    assert card["agents"][0]["fields"] == [
        {"name": "kind", "values": ["u", "v", 3]},
        {"name": "waited", "edges": [0.5, 2.0]},
    ]
    assert (card["options"], card["gamma"], card["written_by"]) == (["keep", "pass"], 0.9, "me")
