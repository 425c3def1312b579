"""The axis of messages: IC-Q through channels that lose, delay, round, disturb or forge its one scalar (D9, L1)."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bound_validation.axes.messages.spec import MessagesSpec
from bound_validation.axes.returns.measure import ENOUGH, JUDGED_FROM, constants, keys_of, planted_known
from bound_validation.axis import Settings
from bound_validation.results import NAN, Row, by_replica, checked
from bound_validation.tasks import Claim, Progress, Task, TaskResult, about, in_range
from icsmdp_jax.exact.returns import half_width, mean_interval
from icsmdp_jax.learner.channel import ATTACKS, Channel, clean
from icsmdp_jax.learner.grid import GridTrainer
from icsmdp_jax.learner.message_bounds import ValueRange, message_error_bound, model_value_range
from icsmdp_jax.learner.schedules import polynomial
from icsmdp_jax.learner.setups import setup
from icsmdp_jax.models.tabular import TabularModel

STRENGTHS = {
    "loss": "loss probability", "late": "lateness", "nearest": "bits", "random": "bits", "noise": "noise",
    "high": "adversaries", "low": "adversaries", "negate": "adversaries",
}  # fmt: skip
UNBIASED = ("random", "noise")  # the mean of what is heard is what was offered
HALF = 0.5


class Lane(NamedTuple):
    """One channel of the sweep.

    Attributes:
      kind: a key of ``STRENGTHS``, or ``clean``.
      number: place of the strength in the spec.
      strength: see ``MessagesSpec``.
      clips: whether the receiver clips to the a-priori value range.
    """

    kind: str
    number: int
    strength: float
    clips: bool

    @property
    def cell(self) -> str:
        """Id of its cell."""
        if self.kind == "clean":
            return "messages/clean"
        return f"messages/{self.kind}/{self.number}" + "/clipped" * self.clips

    @property
    def group(self) -> str:
        """Readable name without the strength."""
        return self.kind + ", clipped" * self.clips


def lanes_of(spec: MessagesSpec) -> list[Lane]:
    """The clean channel, then every fault at every strength, without clipping and with it."""
    faults = [
        Lane(kind, number, float(strength), clips)
        for kind, strengths in spec.faults
        for clips in (False, True)
        for number, strength in enumerate(strengths)
    ]
    return [Lane("clean", 0, 0.0, False), *faults]


def channel_of(lane: Lane, spec: MessagesSpec, agents: int, bounds: ValueRange) -> Channel:
    """The channel of a lane.

    Raises:
      ValueError: for an unknown kind.
    """
    perfect = clean(agents, bounds)
    if lane.kind == "clean":
        out = perfect
    elif lane.kind == "loss":
        out = perfect.dropping(lane.strength)
    elif lane.kind == "late":
        out = perfect.late(lane.strength)
    elif lane.kind in ("nearest", "random"):
        out = perfect.quantised(lane.strength, unbiased=lane.kind == "random")
    elif lane.kind == "noise":
        out = perfect.noisy(lane.strength)
    elif lane.kind in ATTACKS:
        liars = jnp.arange(agents, dtype=jnp.int32) < round(lane.strength * agents)
        out = perfect.adversarial(liars, lane.kind, spec.excess)
    else:
        raise ValueError(f"faults: kind {lane.kind!r}, expected one of {', '.join(STRENGTHS)}")
    return out.clipped() if lane.clips else out


def tasks(spec: MessagesSpec, settings: Settings) -> list[Task]:
    """One task: all channels in one program."""
    lanes = len(lanes_of(spec))
    work = lanes * spec.replicas * spec.samples
    return [Task("messages", partial(measure, spec), work, lanes, seconds=about(work))]


def simulate(spec: MessagesSpec, model: TabularModel, lanes: list[Lane]) -> tuple[np.ndarray, float]:
    """Runs tabular IC-Q through every channel; replica r meets the same handoffs in all of them.

    It behaves uniformly at random, so that messages change only values.

    Returns:
      ``[channels, replicas, parts, Z, O]`` float64 tables after each part of the run, and seconds of compilation.

    Raises:
      ValueError: if the parts do not divide the updates.
    """
    bounds = model_value_range(model)
    channels = [channel_of(lane, spec, model.num_agents, bounds) for lane in lanes]
    latest = int(max(int(channel.lateness) for channel in channels))
    step = polynomial(spec.step.power, spec.step.rescale, spec.step.scale)
    one = setup(model, copies=spec.copies, length=spec.length, step_size=step, explore="behaviour")
    learner = dataclasses.replace(one.learner, latest=latest)
    trainer = GridTrainer(learner, one.hyper, {"channel": jax.tree.map(lambda *leaves: np.stack(leaves), *channels)})
    run = trainer.train(keys_of(spec.seed, 0, spec.replicas), spec.updates, parts=spec.parts)
    return np.asarray(run.params, np.float64), run.compile_s


def measure(spec: MessagesSpec, progress: Progress) -> TaskResult:
    """Normalised return and shift of the values for every channel.

    The shift is the sup norm of the mean over replicas of ``Q`` through this channel minus ``Q`` through the clean one,
    from the same handoffs: how far the fault moves what is learned, with the noise that both share taken out.
    """
    exact, lanes = planted_known(spec.model), lanes_of(spec)
    tables, seconds = simulate(spec, exact.returns.model, lanes)
    handoffs = len(lanes) * spec.replicas * spec.samples
    progress(handoffs)
    known, bounds = exact.returns, model_value_range(exact.returns.model)
    early = known.normalised(known.of_greedy(tables[0])).mean(axis=0)  # [parts]
    rows: list[Row] = []
    for lane, table in zip(lanes, tables, strict=True):
        shared: dict[str, Any] = {
            "axis": "messages", "cell": lane.cell, "group": lane.group, "x": lane.strength,
            "x_name": STRENGTHS.get(lane.kind, "messages"), "replicas": spec.replicas, "samples": spec.samples,
            "function_class": "tabular", "step_rule": "polynomial",
            **constants(exact),
        }  # fmt: skip
        each = known.normalised(known.of_greedy(table[:, -1]))
        value = mean_interval(each)
        prediction = NAN
        if lane.kind == "loss":  # a lost message is an update less: as good as a shorter run without faults
            prediction = early[round((1 - lane.strength) * spec.parts) - 1]
        rows.append(checked(Row(
            series="return", measured=value.mean, ci_low=value.ci_low, ci_high=value.ci_high, prediction=prediction,
            **shared, **by_replica("mean", each),
        )))  # fmt: skip
        target = known.q_phi.q if lane.kind == "clean" else tables[0][:, -1]
        series = "clean_error" if lane.kind == "clean" else "shift"
        moved, low, high = largest_mean(table[:, -1] - target)
        bound, systematic = bound_of(lane, bounds, known.interface.gamma_bar, known.interface.least_killing)
        rows.append(checked(Row(
            series=series, measured=moved, ci_low=low, ci_high=high, bound=bound,
            trivial=bounds.high - bounds.low if bound == bound else NAN, alternative=systematic, **shared,
        )))  # fmt: skip
    return TaskResult(rows, {}, claims_of(spec, rows), seconds, handoffs)


def largest_mean(errors: np.ndarray) -> tuple[float, float, float]:
    """Sup norm of the mean of ``[replicas, Z, O]`` errors, and the 95 % interval of the entry where it is attained.

    The interval is NaN for a single replica.
    """
    mean = np.abs(errors.mean(axis=0))
    z, o = np.unravel_index(int(mean.argmax()), mean.shape)
    value, half = float(mean[z, o]), float(half_width(errors[:, z, o]))
    return value, float(np.maximum(value - half, 0.0)), value + half


def bound_of(lane: Lane, bounds: ValueRange, gamma_bar: float, killing: float | None = None) -> tuple[float, float]:
    """What the fault can move the fixed point by, and what an error of its size could if it were systematic.

    Whatever arrives from inside the value range moves it by at most ``gamma_bar`` times the width of the range;
    rounding to the nearest level by at most ``message_error_bound`` of half a step.

    Returns:
      ``(bound, systematic)``; NaN where there is none.
    """
    width = bounds.high - bounds.low
    whole = gamma_bar * width if lane.clips else NAN
    if lane.kind in ("nearest", "random"):
        half = message_error_bound(HALF * width / (2**lane.strength - 1), gamma_bar, killing)
        whole = gamma_bar * width  # levels lie inside the range
        return (min(half, whole), NAN) if lane.kind == "nearest" else (whole, half)
    if lane.kind == "noise":
        return whole, message_error_bound(lane.strength * width, gamma_bar, killing)
    return whole, NAN


def claims_of(spec: MessagesSpec, rows: list[Row]) -> list[Claim]:
    """What each fault should and should not do."""
    returns = {row.cell: row for row in rows if row.series == "return"}
    shifts = {row.cell: row for row in rows if row.series == "shift"}
    perfect = returns["messages/clean"]
    claims = [
        Claim("messages_clean", "Through a clean channel the learner of this axis reaches the oracle (normalised "
              "return).", perfect.measured, f"at least {ENOUGH}", bool(perfect.measured >= ENOUGH), perfect.ci_low,
              perfect.ci_high),
    ]  # fmt: skip
    lost = [row for row in returns.values() if row.group == "loss"]
    if lost:
        off = max(abs(row.measured - row.prediction) for row in lost)
        text = (
            "A lost message costs an update and no more: the return is that of a clean run that is shorter by the share"
        )
        claims.append(in_range("messages_loss", f"{text} lost (largest difference).", off, 0.0, 0.03))
    mild = [row for row in shifts.values() if row.group in UNBIASED and row.alternative > 0]
    if mild:
        share = max(row.measured / row.alternative for row in mild)
        text = (
            "Errors of mean 0 move no fixed point: noise and random rounding shift the values by less than a tenth of "
            "what systematic errors of that size can (largest share)."
        )
        claims.append(in_range("messages_unbiased", text, share, 0.0, 0.1))
    forged = [row for row in shifts.values() if row.group in ("high", "low")]
    if forged:
        left = max(shifts[f"{row.cell}/clipped"].measured / row.measured for row in forged)
        text = (
            "Clipping to the a-priori value range takes at least half of what lies from outside it do to the values "
            "(largest share left)."
        )
        claims.append(in_range("messages_clipping", text, left, 0.0, 0.5))
    if spec.samples < JUDGED_FROM:
        short = "Too few handoffs in this preset to claim it."
        claims = [
            dataclasses.replace(c, text=f"{c.text} {short}", target="not claimed", passed=None, undecided=False)
            for c in claims
        ]
    return claims + enough_bits(returns)


def enough_bits(returns: dict[str, Row]) -> list[Claim]:
    """How many bits the scalar needs, for both ways of rounding; reported."""
    out = []
    for kind in ("nearest", "random"):
        here = sorted((row for row in returns.values() if row.group == kind), key=lambda row: row.x)
        if not here:
            continue
        fails = [row.x for row in here if row.measured < ENOUGH]
        needed = next((row.x for row in here if row.x > max(fails, default=0.0)), NAN)
        name = "to the nearest level" if kind == "nearest" else "at random to one of two levels"
        text = f"Bits from which on a scalar that is rounded {name} gives a normalised return of {ENOUGH}."
        out.append(Claim(f"messages_bits_{kind}", text, needed, "reported", None))
    return out
