"""Checkpoints: what comes back is what was saved, resuming changes no bit, and files of other setups are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load, save

import icsmdp_jax as ic
from tests.helpers import same_bits

KEY = jax.random.key(5)
SMALL: dict[str, Any] = {"copies": 4, "length": 4}
AS_ALWAYS: dict[str, Any] = {"episodes": 2, "horizon": 8}  # as in test_callbacks.py, whose program is compiled already


@pytest.fixture(scope="module")
def net() -> ic.Setup:
    env, params = ic.make("planted", gap=0.2)
    return ic.setup(env, params, network="linear", **SMALL)


@pytest.fixture(scope="module")
def saved(net: ic.Setup, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A file after 6 of 12 updates of two seeds, and where the run went that was not interrupted."""
    path = tmp_path_factory.mktemp("checkpoint") / "run.safetensors"
    whole, curves = ic.train(net, KEY, 12, seeds=2, at=[6, 12], callbacks=[lambda _: None], **AS_ALWAYS)
    keep = ic.SaveCheckpoint(path, note="half")
    half, _ = ic.train(net, KEY, 6, seeds=2, at=[2, 6], callbacks=[keep], **AS_ALWAYS)
    assert int(half.updates[0]) == 6
    return path, whole, curves


def all_same(one: Any, two: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(same_bits(jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a,
                         jax.random.key_data(b) if jnp.issubdtype(b.dtype, jax.dtypes.prng_key) else b)
               for a, b in pairs)  # fmt: skip


def test_a_resumed_training_has_the_bits_of_one_that_was_not_interrupted(net: ic.Setup, saved: Any) -> None:
    path, whole, curves = saved
    found = ic.load_checkpoint(path, net)
    assert found.about == {"updates": 6, "note": "half"}
    assert same_bits(jax.random.key_data(found.key), jax.random.key_data(KEY))
    state, rest = ic.train(net, found.key, 12, start=found.state, **AS_ALWAYS)
    assert all_same(state, whole)
    assert rest.updates.shape == (2, 6) and rest.updates[0].tolist() == [7, 8, 9, 10, 11, 12]
    np.testing.assert_allclose(rest.reward.mean(axis=1), curves.reward[:, 1], rtol=1e-5)
    assert same_bits(rest.returns[:, -1], curves.returns[:, -1])
    again, _ = ic.train(net, jax.random.key(6), 12, start=found.state, **AS_ALWAYS)
    assert not all_same(again.params, whole.params)  # another key is another run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("ic_q", {"network": "tabular"}),
        ("ic_q", {"network": "linear", "width": 4}),
        ("ic_q", {"network": "mlp", "width": 4, "target_network": True, "target": "n-handoff"}),
        ("federated", {"network": "mlp", "width": 4}),
        ("no_message", {"network": "mlp", "width": 4}),
        ("central", {}),
    ],
)
def test_every_kind_of_state_is_resumed_bit_by_bit(method: str, changes: dict[str, Any], tmp_path: Path) -> None:
    env, params = ic.make("planted", gap=0.2)
    one = ic.setup(env, params, method, **changes, **SMALL)
    whole, _ = ic.train(one, KEY, 20)
    half, _ = ic.train(one, KEY, 9)
    ic.save_checkpoint(tmp_path / "a", half, KEY)
    found = ic.load_checkpoint(tmp_path / "a", one)
    assert all_same(found.state, half)
    assert all_same(ic.train(one, found.key, 20, start=found.state)[0], whole)


def test_any_tree_comes_back_with_keys_and_types(tmp_path: Path) -> None:
    tree = {
        "streams": jax.random.split(jax.random.key(1, impl="rbg"), 3),
        "sums": (np.float64(0.1), np.arange(6, dtype=np.int8).reshape(2, 3), jnp.bool_(True)),
        "nothing": None,
    }
    with jax.enable_x64(True):
        ic.save_checkpoint(tmp_path / "tree", tree, KEY, commit="abc", rate=0.5)
        found = ic.load_checkpoint(tmp_path / "tree", tree)
        assert found.about == {"commit": "abc", "rate": 0.5} and found.state["nothing"] is None
        assert all_same(tree, found.state)
        drawn = [jax.random.uniform(one["streams"][2]) for one in (tree, found.state)]
    assert same_bits(*drawn)


def test_a_failed_write_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    ic.save_checkpoint(path, {"a": np.zeros(2)}, KEY)
    before = path.read_bytes()
    for state, about, said in (
        ({"a": np.array(["x"])}, {}, "state['a']: <U1, expected numbers, booleans or keys"),
        ({"a": np.ones(2)}, {"note": {1, 2}}, "about: Object of type set is not JSON serializable, expected plain"),
    ):
        with pytest.raises(ValueError) as caught:
            ic.save_checkpoint(path, state, KEY, **about)
        assert str(caught.value).startswith(said)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def refused(path: Path, like: Any) -> str:
    with pytest.raises(ValueError) as caught:
        ic.load_checkpoint(path, like)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_other_setups_are_refused_in_one_line(net: ic.Setup, saved: Any, tmp_path: Path) -> None:
    env, params = ic.make("planted", gap=0.2)
    wider = ic.setup(env, params, network="linear", copies=5, length=4)
    deeper = ic.setup(env, params, network="mlp", width=4, depth=1, **SMALL)
    said = "state.env_state.index: int32 of shape [2, 4], expected int32 of shape [2, 5]"
    assert refused(saved[0], wider) == said
    assert refused(saved[0], deeper).endswith(", expected the state of this setup")
    found = ic.load_checkpoint(saved[0], net)
    for arguments, told in (
        ({"updates": 6}, "updates = 6: start has 6 already, expected more than that"),
        ({"updates": 9, "seeds": 3}, "seeds = 3: start has 2, expected the same"),
    ):
        with pytest.raises(ValueError) as caught:
            ic.train(net, KEY, start=found.state, **arguments)  # type: ignore[arg-type]
        assert str(caught.value) == told
    with pytest.raises(ValueError) as caught:
        ic.train(wider, KEY, 9, start=found.state)
    assert str(caught.value) == said


def test_damaged_files_are_refused_in_one_line(net: ic.Setup, saved: Any, tmp_path: Path) -> None:
    content = saved[0].read_bytes()
    other = tmp_path / "other"
    assert refused(other, net) == "No such file or directory, expected a checkpoint"
    other.write_bytes(content[:-1])
    assert refused(other, net).startswith("damaged (")
    flipped = bytearray(content)
    flipped[-1] ^= 1
    other.write_bytes(flipped)
    assert refused(other, net) == "arrays have another digest than the card says, expected an undamaged file"
    other.write_bytes(save(load(content)))
    assert refused(other, net) == "is no checkpoint, expected format 'icsmdp-checkpoint', version 1"
    card = {"format": "icsmdp-checkpoint", "version": 2}
    other.write_bytes(save(load(content), metadata={"card": json.dumps(card)}))
    assert refused(other, net).startswith("is no checkpoint")
