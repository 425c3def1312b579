"""Files that are no model at all, cut short, damaged or made to harm: one line, nothing unpickled, nothing misread."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from icsmdp_jax.models.files import load_model
from tests.helpers import GOLDEN, as_model, dense_arrays, refused


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent.npz")
    assert "directory" in refused(tmp_path)
    for name, content in (
        ("empty", b""),
        ("text", b"gamma: 0.9\n"),
        ("magic", b"\x93NUMPY"),
        ("zip", b"PK\x03\x04"),
        ("noise", bytes(range(256)) * 8),
    ):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        assert refused(path)
    np.save(tmp_path / "single.npy", np.ones(3))
    assert "single array" in refused(tmp_path / "single.npy")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, **dense_arrays())
    path.chmod(0)
    assert "cannot be read" in refused(path)


def written(tmp_path: Path, compressed: bool) -> bytes:
    path = tmp_path / "whole.npz"
    (np.savez_compressed if compressed else np.savez)(path, **dense_arrays())
    return path.read_bytes()


@pytest.mark.parametrize("compressed", [True, False])
def test_truncated_files_are_refused_wherever_they_end(compressed: bool, tmp_path: Path) -> None:
    whole, path = written(tmp_path, compressed), tmp_path / "m.npz"
    lengths = {*range(0, len(whole), 41), *range(64), *range(len(whole) - 80, len(whole))}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        refused(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_flipped_bits_never_change_a_model(compressed: bool, tmp_path: Path) -> None:
    """Any single flipped bit is either refused in one line or has no effect (time stamps and the like)."""
    whole, path = written(tmp_path, compressed), tmp_path / "m.npz"
    original = as_model(dense_arrays()).arrays()
    rng = np.random.default_rng(5)
    central = whole.index(b"PK\x01\x02")  # the zip directory: small, and full of flags, sizes and versions
    positions = np.concatenate([rng.integers(8 * len(whole), size=400), rng.integers(8 * central, 8 * len(whole), 300)])
    refusals = 0
    for position in positions:
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << (position % 8)
        path.write_bytes(bytes(damaged))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                arrays = load_model(path).arrays()
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            refusals += 1
        else:
            assert set(arrays) == set(original)
            assert all(np.array_equal(arrays[name], original[name]) for name in original)
    assert refusals > 200


def member(header: bytes, data: bytes = b"", version: int = 1) -> bytes:
    """An ``.npy`` file with a header of our making."""
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + data


def shape_header(shape: str, descr: str = "'<f8'") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"


CRAFTED = {
    "huge shape": member(shape_header(f"({10**30},)")),
    "large shape": member(shape_header(f"({2**62},)")),
    "more than the memory": member(shape_header(f"({2**45},)")),
    "negative shape": member(shape_header("(-1,)")),
    "fractional shape": member(shape_header("(2.5,)")),
    "nested shape": member(shape_header("((1,),)")),
    "shape without its data": member(shape_header("(100,)"), b"\0" * 80),
    "unknown dtype": member(shape_header("(2,)", "'<f99'"), b"\0" * 16),
    "no dtype": member(shape_header("(2,)", "'garbage'"), b"\0" * 16),
    "objects": member(shape_header("(2,)", "'|O'"), b"\0" * 16),
    "record of objects": member(shape_header("(2,)", "[('a', '|O')]"), b"\0" * 32),
    "open bracket": member(b"("),
    "open brace": member(b"{"),
    "open string": member(b"'''"),
    "bad indentation": member(b"   x\n  y"),
    "wrong keys": member(b"{'a': 1}"),
    "no header": member(b""),
    "bytes that are no text": member(b"\xff\xfe", version=3),
    "huge header": member(b"[" * 60_000),
    "unknown version": member(shape_header("(1,)"), b"\0" * 8, version=9),
    "not an array": b"rate = 1",
    "nothing": b"",
}


@pytest.mark.parametrize("label", sorted(CRAFTED))
def test_crafted_members_are_refused(label: str, tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, **{name: array for name, array in dense_arrays().items() if name != "reward_rate"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("reward_rate.npy", CRAFTED[label])
    assert "reward_rate" in refused(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compressed_members_are_refused(method: int, tmp_path: Path) -> None:
    """Every compression that Python's zip files know has an error class of its own."""
    buffer = io.BytesIO()
    np.save(buffer, np.arange(500.0))
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("reward_rate.npy", buffer.getvalue())
    whole = path.read_bytes()
    begin = whole.index(b"reward_rate.npy") + len(b"reward_rate.npy")
    for offset in range(20, 300, 20):
        damaged = bytearray(whole)
        damaged[begin + offset] ^= 0x5A
        path.write_bytes(bytes(damaged))
        assert refused(path)


def test_zip_features_that_python_lacks_are_refused(tmp_path: Path) -> None:
    """A higher zip version, encryption, an unknown method: all found while opening or reading."""
    whole = written(tmp_path, True)
    entry = whole.index(b"PK\x01\x02")
    for label, offset, value in (("version", 6, 0xFF), ("encrypted", 8, 0x01), ("method", 10, 99)):
        damaged = bytearray(whole)
        damaged[entry + offset] = value
        path = tmp_path / f"{label}.npz"
        path.write_bytes(bytes(damaged))
        assert refused(path)


def test_arrays_that_do_not_fit_into_memory_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred bytes that stand for 300 MiB, on a host that has less to spare."""
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive, archive.open("reward_rate.npy", "w") as stream:
        for _ in range(300):
            stream.write(bytes(2**20))
    monkeypatch.setattr("icsmdp_jax.devices.placement.host_memory", lambda: 2**28)
    assert refused(path) == "its arrays would take 0.3 GiB, expected at most 0.2 GiB"


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("reward_rate", 1e150, "reward_rate[2, 1] = 1e+150: expected a number between -1e+100 and 1e+100"),
        ("reward_rate", -np.inf, "reward_rate[2, 1] = -inf: expected a finite number"),
        ("lump_reward", -1e101, "lump_reward[2, 1] = -1e+101: expected a number between -1e+100 and 1e+100"),
        ("lump_reward_next", 1e300, "lump_reward_next[2, 1, 0] = 1e+300: expected a number between -1e+100 and 1e+100"),
        ("features", 1e200, "features[2, 1] = 1e+200: expected a number between -1e+100 and 1e+100"),
        ("transition", 1e308, "transition[2, 1, 0] = 1e+308: expected a number between -1e+100 and 1e+100"),
        ("reward_noise", 1e101, "reward_noise = 1e+101: expected a number from 0 to 1e+100"),
        ("reward_rate", np.longdouble("1e4000"), "reward_rate[2, 1] = inf: expected a finite number"),
    ],
)
def test_numbers_whose_squares_would_overflow(name: str, value: float, wanted: str, tmp_path: Path) -> None:
    """Second moments are squares: no such number may turn into infinity, or a warning, on the way."""
    arrays = dense_arrays()
    arrays |= {
        "lump_reward": np.ones((6, 2)),
        "lump_reward_next": np.ones((6, 2, 6)),
        "available": np.ones((3, 2), bool),
    }
    changed = arrays[name].astype(np.longdouble)
    changed[(2, 1, 0)[: changed.ndim]] = value
    np.savez(tmp_path / "m.npz", **{**arrays, name: changed})
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert refused(tmp_path / "m.npz") == wanted


def test_numbers_whose_squares_would_vanish(tmp_path: Path) -> None:
    """With rewards that float64 cannot square every error would be 0, or above its bound by rounding."""
    arrays = dense_arrays()
    arrays["reward_rate"] = np.full((6, 2), 1e-320)
    np.savez(tmp_path / "m.npz", **arrays)
    assert refused(tmp_path / "m.npz") == "reward_rate[0, 0] = 1e-320: expected one of at least 1e-100, or only 0"
    np.savez(tmp_path / "m.npz", **{**arrays, "reward_rate": np.zeros((6, 2))})
    load_model(tmp_path / "m.npz")


class Payload:
    """Unpickling this creates a file: evidence that no test could argue with."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (os.mkdir, (self.target,))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    payload = np.array([Payload(str(evidence))], dtype=object)
    path = tmp_path / "m.npz"
    for name in ("reward_rate", "gamma", "features", "unknown"):
        np.savez(path, **{**dense_arrays(), name: payload})
        assert name in refused(path)
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Payload(str(evidence))))
    refused(tmp_path / "bare.npz")
    np.save(tmp_path / "array.npy", payload, allow_pickle=True)
    refused(tmp_path / "array.npy")
    assert not evidence.exists()
    with np.load(path, allow_pickle=True) as archive:  # the same file would have done it
        archive["unknown"]
    assert evidence.exists()


def test_what_a_library_quotes_of_a_damaged_file_is_cut(tmp_path):
    """The name of a member that differs from the directory's is quoted by zipfile, up to the end of the file."""
    content = bytearray((GOLDEN / "plain.npz").read_bytes())
    first = content.find(b"PK\x03\x04")
    content[first + 26 : first + 28] = (60_000).to_bytes(2, "little")  # length of the member's name
    place = tmp_path / "model.npz"
    place.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="model.npz") as caught:
        load_model(place)
    assert len(str(caught.value)) < 600 + len(str(place)) and "\n" not in str(caught.value)
