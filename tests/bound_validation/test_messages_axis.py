"""The axis of messages: one program, the same handoffs for all channels, bounds of L1, claims that can fail."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from bound_validation.axes.messages import measure as axis
from bound_validation.axes.messages.measure import Lane
from bound_validation.axes.messages.spec import PRESETS, MessagesSpec
from bound_validation.axes.returns.measure import keys_of, planted_known
from bound_validation.axes.returns.spec import HALF_SIZE
from bound_validation.axis import SETTINGS
from bound_validation.results import Row
from bound_validation.tasks import Claim, TaskResult
from icsmdp_jax.devices.placement import compiler_options
from icsmdp_jax.learner import grid, setups
from icsmdp_jax.learner.channel import HIGH, LOW, NEGATE
from icsmdp_jax.learner.message_bounds import ValueRange, message_error_bound, model_value_range
from icsmdp_jax.learner.schedules import polynomial

SPEC = MessagesSpec(
    (("loss", (0.5,)), ("late", (2,)), ("nearest", (3, 12)), ("random", (3, 12)), ("noise", (0.001, 0.1)),
     ("high", (0.2,)), ("low", (0.2,)), ("negate", (0.3,))),
    updates=40, replicas=4, parts=4, copies=8, length=4, model=HALF_SIZE,
)  # fmt: skip
RANGE = ValueRange(-10.0, 30.0)


@cache
def run() -> tuple[dict[str, np.ndarray], int]:
    """Tables ``[replicas, parts, Z, O]`` by cell, and how often something was compiled."""
    lanes, count = axis.lanes_of(SPEC), [0]
    original = grid.compiled

    def counted(*arguments: Any) -> Any:
        count[0] += 1
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "compiled", counted)
        tables, _ = axis.simulate(SPEC, planted_known(SPEC.model).returns.model, lanes)
    return {lane.cell: table for lane, table in zip(lanes, tables, strict=True)}, count[0]


@cache
def result() -> TaskResult:
    done: list[int] = []
    found = axis.measure(SPEC, done.append)
    assert done == [found.handoffs] == [len(axis.lanes_of(SPEC)) * SPEC.replicas * SPEC.samples]
    return found


# Channels


def test_every_fault_comes_with_and_without_clipping() -> None:
    lanes = axis.lanes_of(SPEC)
    assert len(lanes) == 1 + 2 * 11 and len({lane.cell for lane in lanes}) == len(lanes)
    assert lanes[0].cell == "messages/clean" and lanes[0].group == "clean"
    assert {"messages/nearest/1", "messages/nearest/1/clipped", "messages/negate/0"} <= {lane.cell for lane in lanes}
    assert Lane("noise", 1, 0.1, True).group == "noise, clipped"


def test_channels_are_what_their_names_say() -> None:
    def channel(kind: str, strength: float, clips: bool = False) -> Any:
        return axis.channel_of(Lane(kind, 0, strength, clips), SPEC, 10, RANGE)

    assert float(channel("loss", 0.25).loss) == 0.25 and int(channel("late", 3).lateness) == 3
    assert float(channel("nearest", 4).levels) == 16 and not bool(channel("nearest", 4).random_rounding)
    assert bool(channel("random", 4).random_rounding) and float(channel("noise", 0.02).noise) == pytest.approx(0.02)
    for kind, code in (("high", HIGH), ("low", LOW), ("negate", NEGATE)):
        lies = channel(kind, 0.3)
        assert int(lies.attack) == code and np.asarray(lies.adversary).sum() == 3 and float(lies.excess) == SPEC.excess
    clipped = channel("loss", 0.25, clips=True)
    assert (float(clipped.clip_low), float(clipped.clip_high)) == RANGE
    assert math.isinf(float(channel("clean", 0.0).clip_high))
    with pytest.raises(ValueError, match="kind 'lost', expected one of loss"):
        channel("lost", 0.1)


def test_all_channels_are_one_program() -> None:
    assert run()[1] == 1


def test_the_clean_channel_is_no_channel() -> None:
    """The same tables as the learner without any channel on the same keys, bit for bit."""
    model = planted_known(SPEC.model).returns.model
    step = polynomial(SPEC.step.power, SPEC.step.rescale, SPEC.step.scale)
    one = setups.setup(model, None, "ic_q", "tabular", copies=SPEC.copies, length=SPEC.length, step_size=step)
    learner = dataclasses.replace(one.learner, explore="behaviour")
    keys = keys_of(SPEC.seed, 0, SPEC.replicas)
    lowered = jax.jit(lambda key: learner.train(key, one.hyper, SPEC.updates)[0]).lower(keys[1])
    # As the axis compiles its programs: other levels of optimisation may round differently.
    alone = one.tables(lowered.compile(compiler_options=compiler_options())(keys[1]).params)
    np.testing.assert_array_equal(run()[0]["messages/clean"][1, -1], alone)
    assert np.abs(alone).max() > 0.1


def test_all_channels_meet_the_same_handoffs() -> None:
    """Fine levels and faint noise stay near the clean run, replica by replica, which chance alone would not do."""
    tables = run()[0]
    clean = tables["messages/clean"]
    for cell, near in (("messages/nearest/1", 0.1), ("messages/random/1", 0.1), ("messages/noise/0", 0.5)):
        assert 0 < np.abs(tables[cell] - clean).max() < near, cell
    for cell in ("messages/late/0", "messages/high/0", "messages/low/0", "messages/nearest/0"):
        assert np.abs(tables[cell] - clean).max() > 1, cell


def test_clipping_changes_nothing_inside_the_range() -> None:
    tables = run()[0]
    for cell in ("loss/0", "late/0", "nearest/0", "random/0", "noise/0", "negate/0"):
        np.testing.assert_array_equal(tables[f"messages/{cell}"], tables[f"messages/{cell}/clipped"])
    for cell in ("high/0", "low/0"):
        assert np.abs(tables[f"messages/{cell}"]).max() > 1.5 * np.abs(tables[f"messages/{cell}/clipped"]).max()


def test_liars_are_believed_no_further_than_the_range() -> None:
    bounds = model_value_range(planted_known(SPEC.model).returns.model)
    noise = 1.0  # a segment's reward and its noise, on top of what is heard
    for name, table in run()[0].items():
        if name.endswith("clipped"):
            assert bounds.low - noise < table.min() and table.max() < bounds.high + noise, name


def test_parts_have_to_divide_the_run() -> None:
    spec = dataclasses.replace(SPEC, updates=41)
    with pytest.raises(ValueError, match="updates = 41: expected a multiple of parts = 4"):
        axis.simulate(spec, planted_known(spec.model).returns.model, axis.lanes_of(spec))


# Rows


def of(cell: str, series: str) -> Row:
    (found,) = [row for row in result().rows if (row.cell, row.series) == (cell, series)]
    return found


def test_rows_hold_return_and_shift_of_every_channel() -> None:
    rows, lanes = result().rows, axis.lanes_of(SPEC)
    assert len(rows) == 2 * len(lanes)
    assert {row.series for row in rows if row.group == "clean"} == {"return", "clean_error"}
    assert {row.series for row in rows if row.group != "clean"} == {"return", "shift"}
    for row in rows:
        assert row.axis == "messages" and row.replicas == SPEC.replicas and row.samples == SPEC.samples == 40 * 32
        assert row.term == "" and row.ci_low <= row.measured <= row.ci_high
    assert of("messages/nearest/1", "return").x == 12 and of("messages/nearest/1", "return").x_name == "bits"
    back = TaskResult.from_plain(result().plain())
    assert [row.holds for row in back.rows] == [row.holds for row in rows]


def test_returns_and_shifts_are_those_of_the_tables() -> None:
    known, tables = planted_known(SPEC.model).returns, run()[0]
    clean = tables["messages/clean"][:, -1]
    for cell in ("messages/noise/1", "messages/high/0/clipped"):
        last = tables[cell][:, -1]
        returns = [known.normalised(known.of(table.argmax(axis=1), by_state=False)) for table in last]
        assert of(cell, "return").measured == pytest.approx(np.mean(returns), rel=1e-9)
        assert of(cell, "shift").measured == pytest.approx(np.abs((last - clean).mean(axis=0)).max(), rel=1e-12)
    error = np.abs((clean - known.q_phi.q).mean(axis=0)).max()
    assert of("messages/clean", "clean_error").measured == pytest.approx(error, rel=1e-12)


def test_a_lost_message_is_compared_with_a_shorter_clean_run() -> None:
    known = planted_known(SPEC.model).returns
    half_way = run()[0]["messages/clean"][:, 1]  # after 2 of 4 parts
    wanted = np.mean([known.normalised(known.of(t.argmax(axis=1), by_state=False)) for t in half_way])
    assert of("messages/loss/0", "return").prediction == pytest.approx(wanted, rel=1e-9)
    assert math.isnan(of("messages/noise/0", "return").prediction)


def test_bounds_are_those_of_l1() -> None:
    width, modulus = 40.0, 0.9
    assert axis.bound_of(Lane("nearest", 0, 6, False), RANGE, modulus)[0] == pytest.approx(
        message_error_bound(0.5 * width / 63, modulus)
    )
    assert axis.bound_of(Lane("nearest", 0, 1, False), RANGE, modulus)[0] == 36.0  # half a step would allow 180
    for kind in ("random", "noise", "high", "late", "loss"):
        assert axis.bound_of(Lane(kind, 0, 0.5, True), RANGE, modulus)[0] == 36.0
    for kind in ("noise", "high", "low", "negate", "late", "loss", "clean"):
        assert math.isnan(axis.bound_of(Lane(kind, 0, 0.5, False), RANGE, modulus)[0])
    assert axis.bound_of(Lane("noise", 0, 0.1, False), RANGE, modulus)[1] == pytest.approx(36.0)
    assert axis.bound_of(Lane("random", 0, 1, False), RANGE, modulus)[1] == pytest.approx(180.0)


def test_bounds_hold_and_only_where_one_is_claimed() -> None:
    for row in result().rows:
        bounded = row.series == "shift" and (row.group.endswith("clipped") or row.group in ("nearest", "random"))
        assert row.holds == (1 if bounded else -1), row.cell
    # Lies from beyond the range do exceed what clipping guarantees: the bound says something.
    bound = of("messages/high/0/clipped", "shift").bound
    assert of("messages/high/0", "shift").measured > 0.5 * bound > 0


def test_largest_mean_by_hand() -> None:
    errors = np.zeros((4, 2, 2))
    errors[:, 1, 0] = [-1.0, -3.0, -2.0, -2.0]
    errors[:, 0, 1] = [4.0, -4.0, 4.0, -4.0]
    value, low, high = axis.largest_mean(errors)
    half = 3.182446 * np.std([1, 3, 2, 2], ddof=1) / 2
    assert value == 2.0 and high - value == pytest.approx(half, rel=1e-6) and low == pytest.approx(2 - half, rel=1e-6)
    value, low, high = axis.largest_mean(errors[:1])  # one replica: no spread, so no interval
    assert value == 4.0 and np.isnan(low) and np.isnan(high)
    assert axis.largest_mean(errors[:2])[1] == 0.0


# Claims


def made(kind: str, index: int, x: float, measured: float, clips: bool = False, **more: Any) -> Row:
    lane = Lane(kind, index, x, clips)
    series = {"alternative": "shift", "shift": "shift"}.get(next(iter(more), ""), "return")
    more.pop("shift", None)
    return Row("messages", lane.cell, series, "", x, measured, group=lane.group, **more)


def rows(**changes: float) -> list[Row]:
    value = {"clean": 0.995, "lost": 0.95, "noise": 0.5, "clipped": 30.0, **changes}
    return [
        made("clean", 0, 0.0, value["clean"]),
        made("loss", 0, 0.5, value["lost"], prediction=0.96),
        made("noise", 0, 0.1, value["noise"], alternative=10.0),
        made("high", 0, 0.1, 100.0, shift=1),
        made("high", 0, 0.1, value["clipped"], clips=True, shift=1),
        made("nearest", 0, 2, 0.4), made("nearest", 1, 6, 0.992), made("nearest", 2, 8, 0.985),
        made("nearest", 3, 10, 0.999), made("random", 0, 2, 0.5), made("random", 1, 4, 0.98),
    ]  # fmt: skip


def claims(long: bool = True, **changes: float) -> dict[str, Claim]:
    spec = dataclasses.replace(SPEC, updates=10_000) if long else SPEC
    return {claim.name: claim for claim in axis.claims_of(spec, rows(**changes))}


def test_claims_pass_on_what_the_theory_says() -> None:
    found = claims()
    judged = {name: claim.passed for name, claim in found.items() if claim.target != "reported"}
    names = ("messages_clean", "messages_loss", "messages_unbiased", "messages_clipping")
    assert judged == dict.fromkeys(names, True)
    assert found["messages_loss"].value == pytest.approx(0.01)
    assert found["messages_unbiased"].value == pytest.approx(0.05)
    assert found["messages_clipping"].value == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("messages_clean", {"clean": 0.98}),
        ("messages_loss", {"lost": 0.9}),
        ("messages_unbiased", {"noise": 1.5}),
        ("messages_clipping", {"clipped": 60.0}),
    ],
)
def test_claims_can_fail(name: str, change: dict[str, float]) -> None:
    found = claims(**change)
    assert found[name].passed is False
    assert [claim.name for claim in found.values() if claim.passed is False] == [name]
    assert claims(long=False, **change)[name].passed is None


def test_bits_are_counted_from_the_last_failure_on() -> None:
    found = claims()
    assert found["messages_bits_nearest"].value == 10 and found["messages_bits_nearest"].passed is None
    assert math.isnan(found["messages_bits_random"].value)


def test_claims_of_a_run_are_not_judged_when_it_is_short() -> None:
    assert {claim.passed for claim in result().claims} == {None}


# Presets


def test_presets_sweep_every_fault() -> None:
    for name, spec in PRESETS.items():
        assert {kind for kind, _ in spec.faults} == set(axis.STRENGTHS)
        (task,) = axis.tasks(spec, SETTINGS[name])
        assert task.work == len(axis.lanes_of(spec)) * spec.replicas * spec.samples
        assert spec.updates % spec.parts == 0 and (spec.samples >= axis.JUDGED_FROM) == (name != "testing")
        for strength in dict(spec.faults)["loss"]:
            assert strength * spec.parts == pytest.approx(round(strength * spec.parts)) and strength < 1
