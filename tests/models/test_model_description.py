"""Names, fields and what agents see of them; arrays at fault are the ones named; files that are no model files."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from icsmdp_jax.commands import read_behaviour
from icsmdp_jax.exact.returns import central_model
from icsmdp_jax.models.files import load_model, save_model
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import as_model, dense_arrays, refused, same_bits

Arrays = dict[str, np.ndarray]
STATES, OPTIONS = 6, 2


def desk() -> Arrays:
    """Two agents: the first sees the colour, the second colour and size; nobody sees the last field."""
    rng = np.random.default_rng(1)
    return {
        "transition": rng.dirichlet(np.ones(STATES), size=(STATES, OPTIONS)),
        "duration": rng.dirichlet(np.ones(4), size=(STATES, OPTIONS)),
        "reward_rate": rng.normal(size=(STATES, OPTIONS)),
        "lump_reward": rng.normal(size=(STATES, OPTIONS)),
        "lump_reward_next": rng.normal(size=(STATES, OPTIONS, STATES)),
        "agent": np.array([0, 0, 0, 1, 1, 1]),
        "interface": np.array([0, 0, 1, 2, 3, 3]),
        "gamma": np.array(0.9),
        "agent_name": np.array(["Bälle", "箱"]),
        "option_name": np.array(["pass on", "keep"]),
        "interface_name": np.array(["red", "blue", "red, small", "red, large"]),
        "state_name": np.array(["a", "b", "c", "", "e", "e"]),
        "fields": np.array([[-3, 1, 0], [-3, 2, 1], [4, 1, 0], [-3, 1, 0], [-3, 2, 0], [-3, 2, 7]]),
        "field_name": np.array(["colour", "size", "hidden"]),
        "visible": np.array([[True, False, False], [True, True, False]]),
    }


def test_a_described_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    np.savez(tmp_path / "raw.npz", **desk())
    with np.load(tmp_path / "raw.npz", allow_pickle=False) as raw:
        assert all(raw[name].dtype.kind != "O" for name in raw.files)
    model = load_model(tmp_path / "raw.npz")
    save_model(tmp_path / "m.npz", model)
    again = load_model(tmp_path / "m.npz").arrays()
    assert set(again) == set(desk()) | {"reward_noise"}
    for name, array in desk().items():
        assert same_bits(again[name], model.arrays()[name]), name
        np.testing.assert_array_equal(again[name], array)
    assert (
        again["fields"].dtype == np.int32 and again["visible"].dtype == bool and again["state_name"].dtype.kind == "U"
    )
    assert model.agent_name is not None and model.agent_name.tolist() == ["Bälle", "箱"]


def test_names_say_how_many_there_are() -> None:
    """An agent or an interface that no state refers to is there if it has a name."""
    arrays = desk() | {
        "agent_name": np.array(["one", "two", "idle"]),
        "visible": np.ones((3, 3), bool),
        "interface": np.arange(6),
        "interface_name": np.array(list("abcdefgh")),
    }
    model = as_model(arrays)
    assert (model.num_agents, model.num_interfaces) == (3, 8)
    assert model.option_mask.shape == (8, 2) and model.interface_agent.tolist() == [0, 0, 0, 1, 1, 1, -1, -1]


def test_strings_in_any_container_become_unicode() -> None:
    listed = as_model(desk() | {"state_name": list("abcdef"), "option_name": np.array(["x", "yes"], object)})
    for name in ("state_name", "option_name"):
        assert getattr(listed, name).dtype.kind == "U"


def test_the_central_view_calls_interfaces_what_states_are_called() -> None:
    central = central_model(as_model(desk()))
    assert central.interface_name is not None and central.interface_name.tolist() == desk()["state_name"].tolist()
    assert central.agent_name is None and central.visible is None and central.fields is not None


def test_terminal_states_may_show_anything() -> None:
    arrays = desk()
    arrays["terminal"] = np.array([False] * 5 + [True])
    arrays["start"] = np.eye(6)[0]
    arrays["fields"][5] = [99, 99, 99]  # of the interface of state 4
    assert as_model(arrays).num_interfaces == 4


def change(base: Callable[[], Arrays] = desk, **arrays: object) -> Callable[[], Arrays]:
    return lambda: base() | {name: np.asarray(value) for name, value in arrays.items()}


def without(*names: str, base: Callable[[], Arrays] = desk) -> Callable[[], Arrays]:
    return lambda: {name: array for name, array in base().items() if name not in names}


def turned(name: str, *axes: int, base: Callable[[], Arrays] = desk) -> Callable[[], Arrays]:
    return lambda: base() | {name: np.transpose(base()[name], axes)}


def joint() -> Arrays:
    arrays = desk()
    duration, transition = arrays.pop("duration"), arrays.pop("transition")
    return arrays | {"kernel": duration[:, :, :, None] * transition[:, :, None, :]}


def lists() -> Arrays:
    arrays = desk()
    transition = arrays.pop("transition")
    return arrays | {"successor": np.broadcast_to(np.arange(6), (6, 2, 6)).copy(), "probability": transition}


def put(name: str, index: tuple[int, ...], value: object, base: Callable[[], Arrays] = desk) -> Callable[[], Arrays]:
    def build() -> Arrays:
        array = np.array(base()[name])
        array[index] = value
        return base() | {name: array}

    return build


ANOTHER_ORDER = "in another order"
FAULTS: list[tuple[Callable[[], Arrays], list[str]]] = [
    # what is visible and what the interface says
    (put("interface", (1,), 1), ["interface[2] = 1", "state 1", "agent 0", "field colour = 4", "-3 in state 1"]),
    (put("interface", (5,), 2), ["interface[5] = 2", "state 3", "agent 1", "field size = 2", "1 in state 3"]),
    (put("interface", (1,), 4), ["interface[1] = 4", "state 0 has interface 0", "agent 0", "same fields"]),
    (put("fields", (5, 0), 0), ["interface[5] = 3", "state 4", "field colour = 0"]),
    (put("visible", (1, 2), True), ["interface[5] = 3", "state 4", "field hidden = 7"]),
    (put("visible", (1, 1), False), ["interface[4] = 3", "state 3 has interface 2", "agent 1", "same fields"]),
    (without("field_name", base=put("fields", (5, 0), 0)), ["sees field 0 = 0 in state 5"]),
    (without("fields"), ["fields: missing, expected [6, F]"]),
    (without("fields", "field_name"), ["fields: missing", "visible"]),
    # shapes, dtypes, repetitions
    (change(agent_name=["only"]), ["visible: expected 1 rows like agent_name, found 2"]),
    (without("visible", base=change(agent_name=["only"])), ["agent_name: expected 2 rows", "found 1"]),
    (without("visible", base=change(interface_name=["a"])), ["interface_name: expected 4 rows", "found [1]"]),
    (change(interface_name=list("abc")), ["interface_name: expected 4 rows", "found [3]"]),
    (change(visible=np.ones((1, 3), bool)), ["visible: expected 2 rows like agent_name, found 1"]),
    (change(visible=np.ones((2, 2), bool)), ["visible: expected shape [any, 3], found [2, 2]"]),
    (change(option_name=["a", "b", "c"]), ["option_name: expected shape [2], found [3]"]),
    (change(state_name=["a"]), ["state_name: expected shape [6], found [1]"]),
    (change(field_name=["a"]), ["field_name: expected shape [3], found [1]"]),
    (change(agent_name=[b"a", b"b"]), ["agent_name: expected unicode text", "|S1"]),
    (change(state_name=np.arange(6)), ["state_name: expected unicode text", "int64"]),
    (change(fields=np.ones((6, 3))), ["fields: expected integers", "float64"]),
    (change(fields=np.full((6, 3), 2**31)), [f"fields[0, 0] = {2**31}", "int32"]),
    (change(visible=np.full((2, 3), 2)), ["visible: expected booleans"]),
    (change(agent_name=["twin", "twin"]), ["agent_name[1] = 'twin'", "agent_name[0]"]),
    (change(option_name=["x", "x"]), ["option_name[1] = 'x'"]),
    (change(field_name=["x", "y", "x"]), ["field_name[2] = 'x'", "field_name[0]"]),
    # lumps
    (put("lump_reward", (2, 1), np.nan), ["lump_reward[2, 1] = nan"]),
    (put("lump_reward_next", (2, 1, 3), np.inf), ["lump_reward_next[2, 1, 3] = inf"]),
    (put("lump_reward_next", (2, 1, 3), np.nan, joint), ["lump_reward_next[2, 1, 3] = nan"]),
    (put("lump_reward_next", (2, 1, 3), np.nan, lists), ["lump_reward_next[2, 1, 3] = nan"]),
    (change(lump_reward=np.ones(6)), ["lump_reward: expected shape [6, 2], found [6]"]),
    (change(lump_reward_next=np.ones((6, 2))), ["lump_reward_next: expected shape [6, 2, 6], found [6, 2]"]),
    (change(lists, lump_reward_next=np.ones((6, 2, 4))), ["lump_reward_next", "[6, 2, 6]"]),
] + [
    # a transposed array is named itself
    (turned(name, *axes, base=base), [f"{name}: expected shape", ANOTHER_ORDER])
    for name, axes, base in (
        ("reward_rate", (1, 0), desk),
        ("reward_rate", (1, 0), joint),
        ("reward_rate", (1, 0), lists),
        ("transition", (1, 0, 2), desk),
        ("transition", (0, 2, 1), desk),
        ("duration", (0, 2, 1), desk),
        ("duration", (1, 0, 2), desk),
        ("duration", (2, 1, 0), lists),
        ("kernel", (1, 0, 2, 3), joint),
        ("kernel", (0, 1, 3, 2), joint),
        ("successor", (0, 2, 1), lists),
        ("probability", (1, 0, 2), lists),
        ("lump_reward", (1, 0), desk),
        ("lump_reward_next", (0, 2, 1), desk),
        ("lump_reward_next", (1, 0, 2), joint),
        ("fields", (1, 0), desk),
        ("visible", (1, 0), desk),
    )
]


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{k}-{' '.join(pieces)[:40]}" for k, (_, pieces) in enumerate(FAULTS)])
def test_faults_are_named(fault: tuple[Callable[[], Arrays], list[str]], tmp_path: Path) -> None:
    build, pieces = fault
    np.savez(tmp_path / "m.npz", **build())
    message = refused(tmp_path / "m.npz")
    assert all(piece in message for piece in pieces), message


def test_the_array_at_odds_with_the_others_is_the_one_named(tmp_path: Path) -> None:
    """Even the one that sizes are usually read from; masks too."""
    arrays, path = dense_arrays(), tmp_path / "m.npz"
    for changes, line in (
        ({"available": arrays["available"].T}, "available: expected shape [any, 2], found [2, 3] (its axes"),
        ({"reward_rate": arrays["reward_rate"].T}, "reward_rate: expected shape [6, 2], found [2, 6] (its axes"),
        ({"agent": arrays["agent"][:4], "start": arrays["start"][:4]}, "agent: expected shape [6], found [4]"),
    ):
        np.savez(path, **arrays | changes)
        assert refused(path).startswith(line)


@pytest.mark.parametrize(
    ("labels", "found", "missing"),
    [
        ([0, 10**9], "agent[1] = 1000000000", "agent 1"),
        ([0, 2], "agent[1] = 2", "agent 1"),
        ([1, 2], "agent[0] = 1", "agent 0"),
    ],
)
def test_gaps_among_agents_are_refused(labels: list[int], found: str, missing: str) -> None:
    model = {
        "transition": np.full((2, 1, 2), 0.5), "duration": np.ones((2, 1, 1)), "reward_rate": np.ones((2, 1)),
        "agent": np.array(labels), "interface": np.array([0, 1]), "gamma": np.array(0.5),
    }  # fmt: skip
    with pytest.raises(ValueError, match="without gaps") as caught:
        TabularModel(**model)  # type: ignore[arg-type]
    assert found in str(caught.value) and str(caught.value).endswith(f"but no state has {missing}")
    if max(labels) < 10:
        named = TabularModel(**model, agent_name=list("abc"))  # type: ignore[arg-type]
        assert named.num_agents == 3


# Files that are something else


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"gamma: 0.9\nagent: [0, 1]\n", "is a text file"),
        ("gamma;0,9\nÄpfel;1\n".encode("latin-1"), "is a text file"),
        ("gamma\t0.9\n".encode("utf-16"), "is a text file"),
        (b"", "is empty"),
        (gzip.compress(b"gamma", mtime=0), "is a gzip file"),
        (pickle.dumps({"gamma": 0.9}), "is a pickle, which is never loaded"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file"),
        (bytes(range(256)), "is a file of another kind"),
    ],
)
def test_other_files_are_called_what_they_are(content: bytes, kind: str, tmp_path: Path) -> None:
    for name, read in (("m.npz", load_model), ("behaviour.npy", lambda path: read_behaviour(str(path)))):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: {kind}, expected a") and "\n" not in str(caught.value)
        assert "pickled" not in str(caught.value)
