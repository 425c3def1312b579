"""Model files: every kind of bad file is refused in one clear line, good ones come back bit for bit."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from icsmdp_jax.models import files as tabular_io
from icsmdp_jax.models.files import load_model, save_model
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import GOLDEN, GOLDEN_NAMES, as_model, dense_arrays, refused, same_bits
from tests.reference.models import Model, models, random_model

Arrays = dict[str, np.ndarray]


def joint() -> Arrays:
    arrays = dense_arrays()
    duration, transition = arrays.pop("duration"), arrays.pop("transition")
    return {**arrays, "kernel": duration[:, :, :, None] * transition[:, :, None, :]}


def lists() -> Arrays:
    arrays = dense_arrays()
    transition = arrays.pop("transition")
    return {
        **arrays,
        "successor": np.broadcast_to(np.arange(6, dtype=np.int32), (6, 2, 6)).copy(),
        "probability": transition,
    }


def put(name: str, index: tuple[int, ...], value: object) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        array = np.array(arrays[name])
        if isinstance(value, float) and array.dtype.kind != "f":
            array = array.astype(float)
        array[index] = value
        arrays[name] = array

    return change


def replace(name: str, value: object) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: np.asarray(value)})


def drop(*names: str) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        for name in names:
            del arrays[name]

    return change


def cut(name: str, *slices: slice) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: arrays[name][slices]})


def cast(name: str, dtype: object) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: arrays[name].astype(dtype)})


def both_forms(arrays: Arrays) -> None:
    arrays["kernel"] = joint()["kernel"]


# (form, fault, pieces that the one line must contain)
FAULTS: list[tuple[Callable[[], Arrays], Callable[[Arrays], None], list[str]]] = [
    # laws
    (dense_arrays, put("transition", (2, 0, 3), 0.9), ["transition[2, 0] sums to", "expected 1"]),
    (dense_arrays, put("transition", (1, 1, 2), np.nan), ["transition[1, 1, 2] = nan", "finite"]),
    (dense_arrays, put("transition", (1, 1, 2), np.inf), ["transition[1, 1, 2] = inf", "finite"]),
    (dense_arrays, put("transition", (0, 1, 5), -0.25), ["transition[0, 1, 5] = -0.25", "0 or more"]),
    (dense_arrays, put("duration", (3, 0, 1), 7.0), ["duration[3, 0] sums to", "expected 1"]),
    (dense_arrays, put("duration", (0, 0, 0), -np.inf), ["duration[0, 0, 0] = -inf", "finite"]),
    (dense_arrays, put("duration", (0, 0, 0), -0.5), ["duration[0, 0, 0] = -0.5"]),
    (joint, put("kernel", (3, 0, 1, 2), 0.75), ["kernel[3, 0] sums to"]),
    (joint, put("kernel", (3, 0, 1, 2), np.nan), ["kernel[3, 0, 1, 2] = nan"]),
    (joint, put("kernel", (3, 0, 1, 2), -1.0), ["kernel[3, 0, 1, 2] = -1.0"]),
    (lists, put("probability", (2, 0, 4), 1.5), ["probability[2, 0] sums to"]),
    (lists, put("probability", (2, 0, 4), np.nan), ["probability[2, 0, 4] = nan"]),
    (lists, put("probability", (2, 0, 4), -0.1), ["probability[2, 0, 4] = -0.1"]),
    (lists, put("successor", (2, 0, 4), 6), ["successor[2, 0, 4] = 6", "less than 6"]),
    (lists, put("successor", (2, 0, 4), -1), ["successor[2, 0, 4] = -1", "0 or more"]),
    (dense_arrays, put("start", (0,), 0.4), ["start", "sums to 0.9", "expected 1"]),
    (dense_arrays, put("start", (1,), np.nan), ["start", "1] = nan"]),
    (dense_arrays, put("start", (1,), -0.5), ["start", "1] = -0.5"]),
    # shapes
    (dense_arrays, cut("transition", slice(5)), ["transition", "[6, 2, 6]", "[5, 2, 6]"]),
    (dense_arrays, cut("transition", slice(None), slice(None), slice(5)), ["transition", "[6, 2, 5]"]),
    (dense_arrays, cut("duration", slice(None), slice(1)), ["duration", "[6, 2, any]", "[6, 1, 3]"]),
    (dense_arrays, replace("duration", np.ones(3) / 3), ["duration", "[3]"]),
    (dense_arrays, cut("agent", slice(4)), ["agent", "[6]", "[4]"]),
    (dense_arrays, cut("interface", slice(4)), ["interface", "[6]", "[4]"]),
    (dense_arrays, cut("start", slice(4)), ["start", "[6]", "[4]"]),
    (dense_arrays, cut("terminal", slice(4)), ["terminal", "[6]", "[4]"]),
    (dense_arrays, cut("available", slice(None), slice(1)), ["available", "[any, 2]", "[3, 1]"]),
    (dense_arrays, cut("available", slice(2)), ["available", "3 rows or more", "[2, 2]"]),
    (dense_arrays, cut("features", slice(2)), ["features", "3 rows", "[2, 4]"]),
    (dense_arrays, replace("features", np.ones((4, 2))), ["features", "3 rows", "4"]),
    (dense_arrays, replace("reward_rate", np.ones(6)), ["reward_rate", "[any, any]", "[6]"]),
    (joint, cut("kernel", slice(None), slice(1)), ["kernel", "[6, 2, any, 6]"]),
    (lists, cut("successor", slice(None), slice(None), slice(3)), ["probability", "[6, 2, 3]"]),
    (lists, cut("probability", slice(None), slice(None), slice(3)), ["probability", "[6, 2, 6]", "[6, 2, 3]"]),
    (dense_arrays, replace("gamma", [0.9, 0.8]), ["gamma", "one real number", "[2]"]),
    # sizes of zero
    (dense_arrays, replace("reward_rate", np.ones((0, 2))), ["reward_rate", "at least one"]),
    (dense_arrays, replace("reward_rate", np.ones((6, 0))), ["reward_rate", "at least one"]),
    (dense_arrays, replace("duration", np.ones((6, 2, 0))), ["duration", "at least one"]),
    (lists, replace("successor", np.ones((6, 2, 0), np.int32)), ["successor", "at least one"]),
    (joint, replace("kernel", np.ones((6, 2, 0, 6))), ["kernel", "at least one"]),
    (dense_arrays, replace("features", np.ones((3, 0))), ["features", "at least one"]),
    (dense_arrays, replace("gamma", np.ones(0)), ["gamma", "one real number"]),
    # dtypes
    (dense_arrays, cast("transition", "U8"), ["transition", "real numbers", "<U8"]),
    (dense_arrays, cast("transition", complex), ["transition", "real numbers", "complex128"]),
    (dense_arrays, cast("reward_rate", complex), ["reward_rate", "complex128"]),
    (dense_arrays, replace("gamma", "0.9"), ["gamma", "real number", "<U3"]),
    (dense_arrays, replace("gamma", 0.9 + 0j), ["gamma", "complex128"]),
    (dense_arrays, replace("gamma", True), ["gamma", "bool"]),
    (dense_arrays, cast("agent", float), ["agent", "integers", "float64"]),
    (dense_arrays, cast("interface", "S3"), ["interface", "integers", "|S3"]),
    (lists, cast("successor", float), ["successor", "integers", "float64"]),
    (dense_arrays, cast("available", "U5"), ["available", "booleans", "<U5"]),
    (dense_arrays, replace("terminal", [0.0, 0, 0, 0, 1, 1]), ["terminal", "booleans", "float64"]),
    (dense_arrays, replace("terminal", [0, 0, 0, 0, 1, 2]), ["terminal", "booleans", "int64"]),
    (dense_arrays, cast("start", "datetime64[s]"), ["start", "real numbers"]),
    # integers that are out of range
    (dense_arrays, put("agent", (3,), -2), ["agent[3] = -2", "0 or more"]),
    (dense_arrays, replace("agent", np.full(6, 2**40)), [f"agent[0] = {2**40}", "int32"]),
    (dense_arrays, replace("interface", np.full(6, 2**31 - 1)), [f"interface[0] = {2**31 - 1}", "int32"]),
    (dense_arrays, replace("agent", np.full(6, 2**64 - 1, np.uint64)), [f"agent[0] = {2**64 - 1}"]),
    (lists, put("successor", (0, 0, 0), 2**31 - 1), [f"successor[0, 0, 0] = {2**31 - 1}", "less than 6"]),
    # scalars
    (dense_arrays, replace("gamma", 1.0), ["gamma = 1.0", "[0, 1)"]),
    (dense_arrays, replace("gamma", 1.5), ["gamma = 1.5"]),
    (dense_arrays, replace("gamma", -0.1), ["gamma = -0.1"]),
    (dense_arrays, replace("gamma", np.nan), ["gamma = nan"]),
    (dense_arrays, replace("gamma", -np.inf), ["gamma = -inf"]),
    (dense_arrays, replace("gamma", 1), ["gamma = 1"]),
    (dense_arrays, replace("reward_noise", -0.5), ["reward_noise = -0.5"]),
    (dense_arrays, replace("reward_noise", np.nan), ["reward_noise = nan"]),
    (dense_arrays, replace("reward_noise", np.inf), ["reward_noise = inf"]),
    (dense_arrays, put("reward_rate", (1, 0), np.nan), ["reward_rate[1, 0] = nan"]),
    (dense_arrays, put("reward_rate", (1, 1), -np.inf), ["reward_rate[1, 1] = -inf"]),
    (dense_arrays, put("features", (2, 3), np.nan), ["features[2, 3] = nan"]),
    (dense_arrays, put("features", (0, 0), np.inf), ["features[0, 0] = inf"]),
    # structure
    (dense_arrays, put("agent", (1,), 1), ["interface[1] = 0", "agent 0", "agent[1] = 1"]),
    (dense_arrays, put("interface", (3,), 0), ["interface[3] = 0", "agent[3] = 1"]),
    (dense_arrays, put("available", (1, 0), False), ["available[1]", "every option"]),
    (dense_arrays, drop("start"), ["start: missing", "terminal"]),
    (dense_arrays, replace("start", [0, 0, 0, 0, 0.5, 0.5]), ["start", "terminal states"]),
    (dense_arrays, replace("terminal", np.ones(6, bool)), ["terminal", "every state"]),
    # forms
    (dense_arrays, both_forms, ["transition, kernel, successor", "exactly one", "transition and kernel"]),
    (dense_arrays, drop("transition"), ["transition, kernel, successor", "none"]),
    (dense_arrays, drop("duration"), ["duration: missing"]),
    (joint, lambda a: a.update(duration=dense_arrays()["duration"]), ["duration", "absent", "kernel"]),
    (joint, lambda a: a.update(probability=lists()["probability"]), ["probability", "absent", "kernel"]),
    (dense_arrays, lambda a: a.update(probability=lists()["probability"]), ["probability", "absent", "transition"]),
    (lists, drop("probability"), ["probability: missing"]),
    (lists, drop("duration"), ["duration: missing"]),
    (dense_arrays, drop("reward_rate"), ["reward_rate: missing"]),
    (dense_arrays, drop("agent"), ["agent: missing"]),
    (dense_arrays, drop("interface"), ["interface: missing"]),
    (dense_arrays, drop("gamma"), ["gamma: missing"]),
]


@pytest.mark.parametrize("form", [dense_arrays, joint, lists])
def test_good_files_are_good(form: Callable[[], Arrays], tmp_path: Path) -> None:
    """Else the faults below might be refused for another reason."""
    np.savez(tmp_path / "m.npz", **form())
    model = load_model(tmp_path / "m.npz")
    assert (model.num_states, model.num_options, model.num_interfaces, model.num_agents) == (6, 2, 3, 2)
    assert model.longest_duration == 3 and model.interface_agent.tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("form", "fault", "pieces"), FAULTS, ids=[f"{k}-{' '.join(f[2])[:40]}" for k, f in enumerate(FAULTS)]
)
def test_faults_are_named(
    form: Callable[[], Arrays], fault: Callable[[Arrays], None], pieces: list[str], tmp_path: Path
) -> None:
    arrays = form()
    fault(arrays)
    np.savez(tmp_path / "m.npz", **arrays)
    message = refused(tmp_path / "m.npz")
    assert all(piece in message for piece in pieces), message


def test_arrays_in_memory_are_held_to_the_same_rules() -> None:
    for form, fault, pieces in FAULTS:
        arrays = form()
        fault(arrays)
        if any(": missing" in piece and piece.split(":")[0] in tabular_io.REQUIRED for piece in pieces):
            continue
        with pytest.raises(ValueError) as caught:
            TabularModel(**arrays)  # type: ignore[arg-type]
        assert all(piece in str(caught.value) for piece in pieces)


def test_rows_that_are_never_used_may_hold_anything() -> None:
    """Terminal rows and unavailable options are ignored, NaN and all; they come back as zeros."""
    arrays = lists()
    ignored = arrays["terminal"][:, None] | ~arrays["available"][arrays["interface"]]
    for name, junk in (("probability", np.nan), ("duration", -3.0), ("reward_rate", np.inf)):
        arrays[name][ignored] = junk
    arrays["successor"][ignored] = 10**6
    model = as_model(arrays)
    for name in ("probability", "duration", "reward_rate", "successor"):
        array = getattr(model, name)
        assert not array[ignored].any() and array[~ignored].any()


@pytest.mark.parametrize("negative", [-1e-17, -1e-9, -5e-7])
@pytest.mark.parametrize("form", [dense_arrays, joint, lists])
def test_negative_probabilities_within_rounding_are_zero(form: Callable[[], Arrays], negative: float) -> None:
    """What solvers and spreadsheets leave of a zero, in every array that holds a law."""
    arrays = form()
    for name in {"transition", "duration", "kernel", "probability", "start"} & set(arrays):
        law = np.array(arrays[name], float)
        row = law.reshape(-1, law.shape[-1])[0]
        least = np.argmin(row)
        row[np.argmax(row)] += row[least]
        row[least] = negative
        found = np.asarray(getattr(TabularModel(**{**arrays, name: law}), name))
        assert found.min() == 0.0, name
        sums = found.sum(axis=(-2, -1) if name == "kernel" else -1)
        np.testing.assert_allclose(sums[sums > 0], 1.0, rtol=0, atol=1e-12)
    worse = np.array(arrays["duration" if "duration" in arrays else "kernel"], float)
    worse.reshape(-1)[0] = -2e-6
    with pytest.raises(ValueError, match=r"= -2e-06: expected a probability, 0 or more"):
        TabularModel(**{**arrays, ("duration" if "duration" in arrays else "kernel"): worse})


@pytest.mark.parametrize("slack", [1e-7, -1e-7, 5e-7])
def test_rows_within_rounding_of_one_are_renormalised(slack: float) -> None:
    arrays = dense_arrays()
    arrays["transition"] = arrays["transition"] * (1 + slack)
    model = as_model(arrays)
    assert model.transition is not None
    used = model.transition.sum(axis=2) > 0
    np.testing.assert_allclose(model.transition.sum(axis=2)[used], 1.0, rtol=0, atol=1e-15)


def test_unknown_arrays_are_ignored_with_a_warning(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **dense_arrays(), comment=np.array("hello"), zeta=np.ones(2))
    with pytest.warns(UserWarning, match="ignoring unknown arrays comment, zeta"):
        model = load_model(tmp_path / "m.npz")
    assert model.num_states == 6


def assert_same_model(first: TabularModel, second: TabularModel) -> None:
    a, b = first.arrays(), second.arrays()
    assert set(a) == set(b)
    for name in a:
        assert same_bits(a[name], b[name]), name


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(arrays=models())
def test_models_come_back_bit_for_bit(arrays: Model, tmp_path: Path) -> None:
    """Writing what was read, and reading it again, changes no bit of any array in any form."""
    model = as_model(arrays)
    save_model(tmp_path / "m.npz", model)
    again = load_model(tmp_path / "m.npz")
    assert_same_model(model, again)
    np.savez(tmp_path / "raw.npz", **arrays)
    assert_same_model(model, load_model(tmp_path / "raw.npz"))


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_golden_models_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = load_model(GOLDEN / f"{name}.npz")
    save_model(tmp_path / "m.npz", model)
    assert_same_model(model, load_model(tmp_path / "m.npz"))


def test_files_with_other_dtypes_are_read(tmp_path: Path) -> None:
    """float32 laws, unsigned and small integers, 0/1 masks: what other programs write."""
    arrays = dense_arrays()
    for name in ("transition", "duration", "start", "reward_rate"):
        arrays[name] = arrays[name].astype(np.float32)
    arrays["agent"] = arrays["agent"].astype(np.uint8)
    arrays["interface"] = arrays["interface"].astype(np.int16)
    arrays["terminal"], arrays["available"] = arrays["terminal"].astype(int), arrays["available"].astype(np.uint8)
    arrays["gamma"] = np.array([0.5], np.float32)
    np.savez(tmp_path / "m.npz", **arrays)
    model, wanted = load_model(tmp_path / "m.npz"), as_model(dense_arrays())
    assert model.gamma == 0.5 and model.agent.dtype == np.int32 and model.is_terminal.dtype == bool
    assert model.transition is not None and wanted.transition is not None
    np.testing.assert_allclose(model.transition, wanted.transition, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(model.option_mask, wanted.option_mask)


def left_over(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir() if entry.name != "m.npz")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failed_write_leaves_the_old_file(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.npz"
    save_model(path, as_model(dense_arrays()))
    before = path.read_bytes()

    def breaks(stream: io.BufferedWriter, **arrays: np.ndarray) -> None:
        stream.write(b"half of it")
        stream.flush()
        assert left_over(tmp_path), "the write goes to a file beside the old one"
        raise error("no space left")

    monkeypatch.setattr(tabular_io.np, "savez_compressed", breaks)
    with pytest.raises(error, match="no space left"):
        save_model(path, as_model(joint()))
    assert path.read_bytes() == before and left_over(tmp_path) == []
    with pytest.raises(error):
        save_model(tmp_path / "new.npz", as_model(joint()))
    assert left_over(tmp_path) == []


def test_a_failed_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.npz"
    save_model(path, as_model(dense_arrays()))
    before = path.read_bytes()

    def breaks(source: str, target: str) -> None:
        raise OSError("busy")

    monkeypatch.setattr(tabular_io.os, "replace", breaks)
    with pytest.raises(OSError, match="busy"):
        save_model(path, as_model(joint()))
    assert path.read_bytes() == before and left_over(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_new_file_has_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    save_model(path, as_model(dense_arrays()))
    (tmp_path / "other").write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    save_model(path, as_model(joint()))
    assert load_model(path).kernel is not None


def test_saving_into_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder .*nowhere does not exist"):
        save_model(tmp_path / "nowhere" / "m.npz", as_model(random_model(np.random.default_rng(0))))
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(("off", "refused"), [(5e-7, False), (2e-6, True), (-2e-6, True)])
def test_rows_may_be_off_by_rounding_and_no_more(off: float, refused: bool) -> None:
    arrays = dense_arrays()
    arrays["transition"][0, 0] *= 1 + off
    if refused:
        with pytest.raises(ValueError, match=r"transition\[0, 0\] sums to .*: expected 1"):
            as_model(arrays)
    else:
        np.testing.assert_allclose(as_model(arrays).transition[0, 0].sum(), 1.0, rtol=1e-14)
