"""Model files as people and disks spoil them: whatever a command does with one, it ends in a way that can be told.

Arrays of valid models are given other types, shapes, values and names, or the bytes of the file are damaged.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.models.files import FIELDS
from tests.fuzz.damage import changed
from tests.fuzz.judge import judged, many
from tests.reference.models import random_model

Arrays = dict[str, Any]

NUMBERS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 2.0, math.nan, math.inf, -math.inf, 1e-320, 5e-324, 1e-300, 1e-12, -1e-9, -1e-17, 1e-7,
    1 - 1e-16, 1 - 1e-10, 0.999999, 1e6, 1e16, 1e38, 1e150, 1e300, 1.7e308, -1e300,
)  # fmt: skip
LABELS = (-1, 0, 1, 2, 3, 7, 100, 2**15, 2**31 - 1, 2**31, -(2**31), 10**9, 2**62)
DTYPES = ("f2", "f4", ">f8", "f8", "g", "i1", "u1", "i2", "i4", ">i4", "i8", "u8", "?", "c16", "U", "S", "O", "M8[s]")
DAMAGES = ("dtype", "value", "entry", "row", "scale", "shape", "drop", "rename", "extra", "swap", "order", "text")


@st.composite
def models(draw: st.DrawFn) -> Arrays:
    """A valid model of at most a dozen states in any form of the format, often with what only describes it."""
    form = draw(st.sampled_from(("transition", "kernel", "lists")))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    model: Arrays = random_model(
        rng, num_agents=draw(st.integers(1, 2)), interfaces_per_agent=draw(st.integers(1, 2)),
        hidden=draw(st.integers(2 if form == "lists" else 1, 2)), options=draw(st.integers(1, 2)),
        longest=draw(st.integers(1, 3)),
        joint_kernel=form == "kernel", successor_lists=form == "lists", masks=draw(st.booleans()),
        terminals=draw(st.booleans()), gap=draw(st.sampled_from((0.0, 1.0))),
        gamma=draw(st.sampled_from((0.0, 0.5, 0.9, 0.999, 1 - 1e-9))), lumps=draw(st.booleans()),
    )  # fmt: skip
    states, options = model["reward_rate"].shape
    agents, interfaces = int(model["agent"].max()) + 1, int(model["interface"].max()) + 1
    if draw(st.booleans()):
        model["features"] = rng.normal(size=(interfaces, draw(st.integers(1, 3))))
    if draw(st.booleans()):
        model["agent_name"] = np.array([f"agent {i}" for i in range(agents)])
        model["option_name"] = np.array([f"o{i}" for i in range(options)])
        model["interface_name"] = np.array([f"z{i}" for i in range(interfaces)])
        model["state_name"] = np.array([f"s{i}" for i in range(states)])
    if draw(st.booleans()):
        model["fields"] = np.column_stack([model["interface"], rng.integers(5, size=states)])
        model["field_name"] = np.array(["seen", "hidden"])
        model["visible"] = np.tile([True, False], (agents, 1))
    return model


@st.composite
def spoiled(draw: st.DrawFn) -> Arrays:
    """A model with up to three arrays that are not as they were."""
    model = draw(models())
    for _ in range(draw(st.integers(0, 3))):
        _spoil(draw, model)
    return model


def _spoil(draw: st.DrawFn, model: Arrays) -> None:
    name = draw(st.sampled_from(sorted(model)))
    damage = draw(st.sampled_from(DAMAGES))
    array = np.array(model[name])
    if damage == "drop":
        del model[name]
    elif damage == "rename":
        model[draw(st.sampled_from((name + "s", name.upper(), f" {name}", "reward", "P", "file", "arr_0", "é\n")))] = (
            model.pop(name)
        )
    elif damage == "extra":
        other = draw(st.sampled_from((*FIELDS, "comment", "discount", "transitions", "\x1b[31m")))
        model[other] = draw(st.sampled_from((array, np.zeros(3), np.array("text"), np.zeros((0, 2)))))
    elif damage == "swap":
        other = draw(st.sampled_from(sorted(model)))
        model[name], model[other] = model[other], model[name]
    elif damage == "dtype":
        kind = draw(st.sampled_from(DTYPES))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model[name] = array.astype(kind)
        except (ValueError, TypeError, OverflowError):
            model[name] = np.zeros(array.shape, kind)
    elif damage == "order":
        model[name] = np.asfortranarray(array) if draw(st.booleans()) else np.flip(array)
    elif damage == "text":
        model[name] = draw(st.sampled_from((np.array("0.9"), np.array(["a", "a"]), np.array(None), np.array(b"x"))))
    elif damage == "shape":
        model[name] = draw(st.sampled_from((
            array.T, array[None], array[..., None], array.reshape(-1), array.reshape(-1)[:0], array.reshape(-1)[:1],
            np.array(0.5), array[:-1] if array.ndim else array,
            array[:, :-1] if array.ndim > 1 else array, np.concatenate([array, array]) if array.ndim else array,
            array[..., :0] if array.ndim else array, np.zeros((1,) * 9),
        )))  # fmt: skip
    else:
        model[name] = _with_values(draw, array, damage)


def _with_values(draw: st.DrawFn, array: np.ndarray, damage: str) -> np.ndarray:
    if array.dtype.kind not in "fiu" or not array.size:
        return np.invert(array) if array.dtype.kind == "b" else array[..., None]
    value = draw(st.sampled_from(LABELS if array.dtype.kind in "iu" else NUMBERS))
    if array.dtype.kind in "iu":
        array = array.astype(np.int64)
    flat = array.reshape(-1)
    with np.errstate(all="ignore"):
        if damage == "value":
            return np.full_like(array, value)
        if damage == "scale":
            return array * value
        if damage == "row" and array.ndim > 1:
            array[draw(st.integers(0, len(array) - 1))] = value
            return array
    flat[draw(st.integers(0, len(flat) - 1))] = value
    return flat.reshape(array.shape)


def written(arrays: Arrays, place: Path, compressed: bool) -> None:
    """An ``.npz`` with any arrays, objects and odd names included."""
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=True)
            archive.writestr(f"{name}.npy", buffer.getvalue())


COMMANDS = (
    ("analyse", "MODEL", "--json"),
    ("analyse", "MODEL"),
    ("advise", "MODEL", "--json"),
    ("advise", "MODEL", "--error", "0.5"),
    ("solve", "MODEL", "--out", "OUT", "--json"),
    ("solve", "MODEL", "--out", "OUT", "--full"),
    ("bound", "MODEL", "--samples", "1", "20", "--json"),
    ("bound", "MODEL", "--samples", "20", "--schedule", "harmonic"),
)


def case(arrays: Arrays | bytes, command: tuple[str, ...], folder: Path, compressed: bool = False) -> None:
    """Writes the file, runs the command, and looks at what it has written."""
    place, out = folder / "model.npz", folder / "out.npz"
    out.write_bytes(b"mine")
    if isinstance(arrays, bytes):
        place.write_bytes(arrays)
    else:
        written(arrays, place, compressed)
    names = {"MODEL": place, "OUT": out}
    outcome = judged(folder, *(names.get(word, word) for word in command))
    if outcome.code == 2:
        assert str(place) in outcome.err or "schedule" in outcome.err
    elif "OUT" in command:
        look_at_solution(out)


def look_at_solution(place: Path) -> None:
    """NaN stands where an option is unavailable, or an interface never decides, and nowhere else."""
    with np.load(place) as solution:
        star, phi, law = solution["q_star"], solution["q_interface"], solution["stationary"]
        assert not np.isinf(star).any() and not np.isinf(phi).any()
        assert np.isfinite(star).any(axis=1).all() and np.isfinite(phi).any()
        assert np.isfinite(law).all() and abs(law.sum() - 1) < 1e-9
        assert np.isfinite(solution["weights"]).all()


def npy(shape: str, descr: str = "<f8") -> bytes:
    """The beginning of an ``.npy`` member of any shape."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


OTHER_FILES = (
    b"", b"PK", b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18, b"gamma = 0.9\n", b"\x93NUMPY", npy("(3,)") + b"\0" * 24,
    npy("()"),
    b"\x1f\x8b\x08\x00", b"\x89HDF\r\n", b"\x80\x04N.", b"\xff\xfeg\0", b"\xef\xbb\xbfgamma",
    b"MATLAB 5.0 MAT-file" + b" " * 200,
    packed({}), packed({"readme.txt": b"hello"}), packed({"../gamma.npy": npy("()") + b"\0" * 8}),
    packed({"a/": b""}),
    packed({"gamma.npy": npy("(1000000000000,)")}), packed({"gamma.npy": npy("(-1,)")}),
    packed({"gamma.npy": npy("()", "|O")}),
    packed({"gamma.npy": b"0.9"}), packed({"gamma": npy("()") + b"\0" * 8}),
    packed({"gamma.npy": npy("(4194304,)") + bytes(2**25)}),
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The bytes of a model file, of which some are lost, changed or too many."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(OTHER_FILES))
    members = {}
    for name, array in draw(models()).items():
        stream = io.BytesIO()
        np.lib.format.write_array(stream, array)
        members[f"{name}.npy"] = stream.getvalue()
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(members)))
        members[name] = changed(draw, members[name])
    method = draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    return changed(draw, packed(members, method))


FAST, SLOW = 12, 2500


@pytest.mark.parametrize("count", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_arrays_that_are_not_what_they_should_be(count, tmp_path):
    @many(count)
    @given(spoiled(), st.sampled_from(COMMANDS), st.booleans())
    def check(arrays: Arrays, command: tuple[str, ...], compressed: bool) -> None:
        case(arrays, command, tmp_path, compressed)

    check()


@pytest.mark.parametrize("count", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_bytes_that_are_not_what_they_should_be(count, tmp_path):
    @many(count)
    @given(damaged(), st.sampled_from(COMMANDS))
    def check(content: bytes, command: tuple[str, ...]) -> None:
        case(content, command, tmp_path)

    check()
