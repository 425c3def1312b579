"""Callbacks of ``train``: they see what the curves say, change nothing, are closed, and stop where they say so."""

from __future__ import annotations

import json
import math
import struct
import sys
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import icsmdp_jax as ic
from icsmdp_jax.learner.curves import Curves
from tests.helpers import same_bits

KEY = jax.random.key(2)


@pytest.fixture(scope="module")
def table() -> ic.Setup:
    env, params = ic.make("planted", gap=0.2)
    return ic.setup(env, params, network="linear", copies=4, length=4)


@pytest.fixture(scope="module")
def told(table: ic.Setup) -> tuple[list[ic.Point], Any, Any]:
    """All points of a run with returns, and what it returned."""
    points: list[ic.Point] = []
    state, curves = ic.train(
        table, KEY, 8, seeds=2, at=[2, 5, 8], episodes=2, horizon=8, callbacks=[points.append]
    )  # fmt: skip
    return points, state, curves


def test_points_are_those_of_the_curves(table: ic.Setup, told: Any) -> None:
    points, state, curves = told
    assert [point.updates for point in points] == [2, 5, 8] and {point.total for point in points} == {8}
    assert [point.handoffs for point in points] == [32, 80, 128]
    for index, point in enumerate(points):
        for name in Curves._fields:
            assert same_bits(getattr(point.curves, name), getattr(curves, name)[:, index])
        metrics = point.metrics
        assert metrics["reward"] == np.float64(curves.reward[:, index]).mean()
        assert metrics["returns"] == np.float64(curves.returns[:, index]).mean()
        square = (np.float64(curves.td_error[:, index]) ** 2 * curves.visits[:, index]).sum(axis=1)
        np.testing.assert_allclose(metrics["td_error"], np.sqrt(square / [32, 48, 48][index]).mean(), rtol=1e-6)
        assert int(point.state.updates[0]) == point.updates
    assert all(map(same_bits, jax.tree.leaves(points[-1].state), jax.tree.leaves(state)))


@pytest.mark.slow
def test_who_listens_changes_nothing(table: ic.Setup, told: Any) -> None:
    state, curves = ic.train(table, KEY, 8, seeds=2, at=[2, 5, 8], episodes=2, horizon=8)
    assert all(map(same_bits, jax.tree.leaves(state), jax.tree.leaves(told[1])))
    for one, two in zip(jax.tree.leaves(curves), jax.tree.leaves(told[2]), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)


def point_of(metrics: dict[str, float], updates: int = 1, total: int = 10) -> ic.Point:
    """A point of one agent with these metrics."""
    returns = None if "returns" not in metrics else np.float32(metrics["returns"])
    reward, error = np.float32(metrics.get("reward", 0)), np.float32([metrics.get("td_error", 0)])
    return ic.Point(updates, total, 16 * updates, Curves(updates, reward, error, np.int32([5]), returns), None, KEY)  # type: ignore[arg-type]


def test_lines_of_json(told: Any, tmp_path: Path) -> None:
    lines = ic.JSONLines(tmp_path / "run.jsonl")
    for point in told[0]:
        lines(point)
    lines(point_of({"reward": math.nan}))
    found = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert found[:3] == [{"updates": p.updates, "handoffs": p.handoffs, **p.metrics} for p in told[0]]
    assert found[3]["reward"] is None and "returns" not in found[3]
    with pytest.raises(ValueError, match="does not exist"):
        ic.JSONLines(tmp_path / "no" / "run.jsonl")


@pytest.mark.parametrize(
    ("metric", "values", "least", "stops"),
    [
        ("returns", [1, 2, 2, 2], 0.0, 3),
        ("returns", [1, 2, 2.05, 3, 2, 2], 0.1, 5),
        ("td_error", [3, 2, 2.5, 1, 1, 1], 0.0, 5),
        ("reward", [1, 2, 3, 4], 0.0, None),
    ],
)
def test_early_stop(metric: str, values: list[float], least: float, stops: int | None) -> None:
    stop = ic.EarlyStop(metric, patience=2, least=least)
    answers = [stop(point_of({metric: value})) for value in values]
    assert (answers.index(True) if True in answers else None) == stops


def test_training_ends_where_one_says_so_and_all_are_told_and_closed(table: ic.Setup) -> None:
    class Second:
        told = closed = 0

        def __call__(self, point: ic.Point) -> None:
            self.told += 1

        def close(self) -> None:
            self.closed += 1

    second = Second()
    arguments: dict[str, Any] = {"seeds": 2, "at": [2, 5, 8], "episodes": 2, "horizon": 8}
    state, curves = ic.train(table, KEY, 8, callbacks=[lambda point: point.updates == 5, second], **arguments)
    assert state.updates.tolist() == [5, 5] and curves.updates.tolist() == [[2, 5]] * 2
    assert (second.told, second.closed) == (2, 1)

    def fails(point: ic.Point) -> None:
        raise RuntimeError("full disk")

    with pytest.raises(RuntimeError, match="full disk"):
        ic.train(table, KEY, 8, callbacks=[fails, second], **arguments)
    assert (second.told, second.closed) == (2, 2)


def test_not_inside_jit_and_not_without_what_they_need(table: ic.Setup) -> None:
    with pytest.raises(ValueError, match="^train: is traced, expected neither callbacks nor start inside jit or vmap"):
        jax.jit(lambda key: ic.train(table, key, 2, callbacks=[print])[0].updates)(KEY)
    with pytest.raises(ValueError, match="^callbacks = 3: expected a list of functions of a Point$"):
        ic.train(table, KEY, 2, callbacks=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^metric = 'returns': not recorded, expected episodes > 0 in train$"):
        ic.EarlyStop()(point_of({"reward": 1}))


def test_progress_on_a_pipe_and_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    bar = ic.ProgressBar("net")
    for updates in (5, 10):
        bar(point_of({}, updates))
    assert bar._meter.report().work_done == bar._meter.report().work == 160 and bar._meter.report().task == "net"
    bar.close()
    bar.close()
    assert capsys.readouterr().err == ""  # less than ten seconds
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("tqdm.std.tqdm.__init__", _at_once(__import__("tqdm").tqdm.__init__))
    bar(point_of({}, 10))
    bar.close()
    shown = capsys.readouterr().err
    assert "net" in shown and "160/160" in shown and "cells" not in shown


def _at_once(made: Any) -> Any:
    return lambda self, *args, **settings: made(self, *args, **{**settings, "delay": 0, "mininterval": 0})


def test_weights_and_biases(monkeypatch: pytest.MonkeyPatch, told: Any) -> None:
    """A stand-in with the three calls of the real package that are used."""
    calls: list[Any] = []
    run = types.SimpleNamespace(
        log=lambda row, step: calls.append((step, row)), finish=lambda: calls.append("finished")
    )
    stub = types.SimpleNamespace(init=lambda **settings: calls.append(settings) or run)
    monkeypatch.setitem(sys.modules, "wandb", stub)
    watch = ic.WandB(project="p", mode="offline")
    for point in told[0]:
        watch(point)
    watch.close()
    watch.close()
    rows = [(point.handoffs, {**point.metrics, "updates": point.updates}) for point in told[0]]
    assert calls == [{"project": "p", "mode": "offline"}, *rows, "finished"]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match=r"^wandb: cannot be .* pip install 'icsmdp-jax\[tracking\]'$"):
        ic.WandB()


@pytest.mark.slow
def test_weights_and_biases_themselves(told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, into the file that ``wandb sync`` would send; its records hold the metrics as JSON."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    watch = ic.WandB(project="handoffs", mode="offline", dir=str(tmp_path))
    for point in told[0]:
        watch(point)
    watch.close()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    for point in told[0]:
        for value in (*point.metrics.values(), point.handoffs):
            assert repr(value).encode() in content


def test_tensorboard(told: Any, tmp_path: Path) -> None:
    """The file read back record by record, as TensorBoard reads it."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    board = ic.TensorBoard(tmp_path)
    for point in told[0]:
        board(point)
    board.close()
    (file,) = tmp_path.iterdir()
    content, found = file.read_bytes(), {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        found.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
        content = content[16 + length :]
    assert found == {(n, p.handoffs): np.float32(v) for p in told[0] for n, v in p.metrics.items()}
