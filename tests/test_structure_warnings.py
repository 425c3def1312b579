"""Transient and absorbing states are said to be so: on stderr, in JSON, and in the message that refuses a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bound_validation import running
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.models.tabular import TabularModel
from tests.bound_validation.runs import icsmdp
from tests.command_line import contents, parsed
from tests.helpers import GOLDEN_NAMES, golden

WARNING = "2 of 3 states are transient; an absorbing state is declared with `terminal`"


def saved(place: Path, successor: list[list[int]], **more: object) -> Path:
    """A chain that moves to each listed successor of a state with the same probability."""
    count, width = len(successor), max(len(row) for row in successor)
    probability = np.array([[[1.0 / len(row)] * len(row) + [0.0] * (width - len(row))] for row in successor])
    np.savez(
        place,
        successor=np.array([[row + [0] * (width - len(row))] for row in successor]),
        probability=probability,
        duration=np.ones((count, 1, 1)),
        reward_rate=np.arange(1.0, count + 1)[:, None],
        agent=np.zeros(count, int),
        interface=np.arange(count),
        gamma=0.9,
        **more,
    )
    return place


@pytest.fixture
def absorbing(tmp_path: Path) -> Path:
    """A queue that closes, written as people write it: 0 -> 1 -> 2, and 2 for ever."""
    return saved(tmp_path / "closes.npz", [[1], [2], [2]])


def test_commands_say_how_many_states_are_transient(absorbing: Path, tmp_path: Path) -> None:
    for arguments in (
        ("analyse", absorbing, "--json"),
        ("solve", absorbing, "--out", tmp_path / "s.npz", "--json"),
        ("learn", absorbing, "--samples", 60, "--replicas", 2, "--out", tmp_path / "l.npz", "--json"),
        ("bound", absorbing, "--samples", 60, "--json"),
    ):
        outcome = icsmdp(*map(str, arguments))
        assert outcome.code == 0
        assert f"icsmdp: warning: {WARNING}" in outcome.err
        (line,) = json.loads(outcome.out)["warnings"]
        assert line.startswith(WARNING)
    readable = icsmdp("analyse", str(absorbing))
    assert readable.code == 0 and WARNING in readable.err and WARNING not in readable.out
    # The oracle needs no chain: all its values are there; what has no weight has no value at interfaces.
    found = contents(tmp_path / "s.npz")
    np.testing.assert_allclose(found["q_star"][:, 0], [1 + 0.9 * 2 + 0.81 * 30, 2 + 0.9 * 30, 30.0], rtol=1e-12)
    assert np.isnan(found["q_interface"][:2]).all() and found["stationary"].tolist() == [0.0, 0.0, 1.0]


def test_validate_says_it_in_the_summary(
    absorbing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "execute", lambda *rest: dict(rest[5].summary))
    found = running.validate(tmp_path / "run", "testing", str(absorbing))
    assert found is not None
    (line,) = found["warnings"]
    assert line.startswith(WARNING) and f"icsmdp: warning: {WARNING}" in capsys.readouterr().err
    assert running.validate(tmp_path / "run", "testing") == {"warnings": []}


def test_declared_as_terminal_the_queue_is_an_episode(tmp_path: Path) -> None:
    place = saved(
        tmp_path / "ends.npz", [[1], [2], [2]], terminal=np.array([False, False, True]), start=np.array([1.0, 0.0, 0.0])
    )
    outcome = icsmdp("analyse", str(place), "--json")
    assert outcome.err == "" and parsed(outcome)["warnings"] == []


def test_a_way_in_that_is_never_taken_again(tmp_path: Path) -> None:
    """Three states lead into a cycle of two: nothing is absorbing, and the hint would mislead."""
    outcome = icsmdp("analyse", str(saved(tmp_path / "way.npz", [[1], [2], [3], [4], [3]])), "--json")
    (line,) = parsed(outcome)["warnings"]
    assert line.startswith("3 of 5 states are transient; ") and "terminal" not in line
    outcome = icsmdp(
        "analyse",
        str(
            saved(
                tmp_path / "unused.npz",
                [[2], [2], [2]],
                terminal=np.array([False, False, True]),
                start=np.array([1.0, 0.0, 0.0]),
            )
        ),
        "--json",
    )
    (line,) = parsed(outcome)["warnings"]
    assert line.startswith("1 of 3 states are transient; ") and "absorbing" not in line


@pytest.mark.parametrize("sparse", [False, True])
def test_several_recurrent_classes_are_named(sparse: bool) -> None:
    successor = np.array([[1, 0], [1, 4], [3, 3], [2, 2], [4, 4], [5, 5], [6, 7], [7, 6]])
    model = TabularModel(
        reward_rate=np.ones((8, 1)),
        agent=np.zeros(8, int),
        interface=np.arange(8),
        gamma=0.9,
        successor=successor[:, None, :],
        probability=np.full((8, 1, 2), 0.5),
        duration=np.ones((8, 1, 1)),
    )
    with pytest.raises(
        ValueError, match=r"4 recurrent classes \(states 2, 3; state 4; state 5; states 6, 7\)"
    ) as caught:
        analyse(model, sparse=sparse)
    assert "\n" not in str(caught.value) and "terminal" not in str(caught.value)
    two_ends = model.replace(successor=np.array([[1, 4]] * 4 + [[4, 4], [5, 5], [5, 4], [4, 4]])[:, None, :])
    with pytest.raises(ValueError, match=r"2 recurrent classes \(state 4; state 5\), expected 1 \(an absorbing state"):
        analyse(two_ends, sparse=sparse)


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_models_without_transient_states_have_no_warnings(name: str) -> None:
    assert analyse(golden(name)).table()["warnings"] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reward_rate": 1e-36}, "rewards are up to 1e-36; float32"),
        ({"reward_rate": 1e-29}, ""),
        ({"gamma": 1 - 1e-7}, "1 - gamma_bar = 1e-07 is not resolved by float32 discounts"),
        ({"gamma": 1 - 1e-5}, ""),
    ],
)
def test_learn_says_what_float32_cannot_hold(change: dict[str, float], words: str, tmp_path: Path) -> None:
    """Rewards that underflow are learned as 0, a discount that rounds to 1 is none: exit 0, but not silent."""
    arrays = {
        "transition": np.full((2, 1, 2), 0.5), "duration": np.ones((2, 1, 1)), "agent": np.array([0, 1]),
        "interface": np.array([0, 1]), "reward_rate": np.full((2, 1), change.get("reward_rate", 1.0)),
        "gamma": change.get("gamma", 0.9),
    }  # fmt: skip
    np.savez(tmp_path / "m.npz", **arrays)
    out = tmp_path / "l.npz"
    outcome = icsmdp("learn", str(tmp_path / "m.npz"), *f"--samples 60 --replicas 2 --out {out} --json".split())
    assert outcome.code == 0
    found = parsed(outcome)["warnings"]
    if words:
        (line,) = found
        assert line.startswith(words) and f"icsmdp: warning: {line}" in outcome.err
    else:
        assert found == []
