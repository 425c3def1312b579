"""Segment descriptors on planted models: as a further part of the interface, and to find out whose values fit.

Planted models have durations but no primitive states, so these are added: inside a segment a point in the plane turns,
``x' = A x + noise``, and what turns it is the local dynamics. Sensing: the hidden field decides which way, and what the
receiver reads from the descriptor joins its interface, in an exact listing. Transfer: every interface has dynamics of
its own, shared by a source and a target that names its interfaces differently and has other handoffs and rewards.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from icsmdp_jax.core.descriptors import descriptors, local_dynamics, misfit
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact.returns import Interval, Returns, mean_interval
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import say
from icsmdp_jax.experiments.cooperation import cooperation_tables
from icsmdp_jax.experiments.course import course_handoffs
from icsmdp_jax.experiments.result import Result, Table, exactly, over_replicas
from icsmdp_jax.experiments.training import Budget, prepared, train
from icsmdp_jax.models.tabular import TabularModel

HIDDEN = PlantedConfig.far_sighted(
    num_agents=4, fields=(("topic", 2), ("risk", 2)), views=(("topic",),) * 4, num_options=3, duration_mean=4.0,
    longest_duration=12, hidden_flip=0.1, gap=0.8, kernel_gap=0.5,
)  # fmt: skip
SHARED = PlantedConfig.far_sighted(
    num_agents=4, fields=(("topic", 4), ("risk", 2)), views=(("topic",),) * 4, duration_mean=4.0, longest_duration=12
)  # fmt: skip
TARGET_GAP = 0.4  # of the target: other kernels and rewards than the source's, and the same planted values
SHRINK, TURN, NOISE = 0.9, 0.35, 0.5  # of the dynamics; the hidden field turns by +TURN or -TURN
WATCHED = (1, 2, 4, 8, 16, 32)  # segments composed for each interface
VIEWS = {
    "no_descriptor": "interface only",
    "segment_descriptor": "with what the descriptor says",
    "full_state": "with the whole state",
}
NUMBERS = 15  # different entries of a descriptor of the plane, symmetric [5, 5]
GAINS = "IC-Q earns more with what descriptors say than without, outside the intervals"
COMPOSED = f"Values transferred by {WATCHED[-1]} composed segments earn more than those by one, outside the intervals"


def rotation(angle: np.ndarray, shrink: float = SHRINK) -> np.ndarray:
    """``[..., 2, 3]`` dynamics ``(0, A)`` with ``A`` a rotation by ``angle`` (radians) times ``shrink``."""
    cos, sin = shrink * np.cos(angle), shrink * np.sin(angle)
    zero = np.zeros_like(cos)
    return np.stack([np.stack([zero, cos, -sin], -1), np.stack([zero, sin, cos], -1)], -2)


def paths(dynamics: np.ndarray, steps: int, rng: np.random.Generator, noise: float = NOISE) -> np.ndarray:
    """``[..., steps + 1, 2]`` primitive states under ``(b, A) [..., 2, 3]``, from a standard normal start."""
    now = rng.standard_normal((*dynamics.shape[:-2], 2))
    seen = [now]
    for _ in range(steps):
        mean = dynamics[..., 0] + np.einsum("...ij,...j->...i", dynamics[..., 1:], now)
        now = mean + noise * rng.standard_normal(now.shape)
        seen.append(now)
    return np.stack(seen, axis=-2)


def readings(longest: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """``[2, T, 2]`` probability that a segment of 1, ..., T steps under hidden value h is read as 0 or 1.

    The likelier of the two dynamics, which the descriptor decides alone; measured on ``count`` simulated segments.
    """
    ways = rotation(np.array([-TURN, TURN]))
    found = descriptors(paths(np.broadcast_to(ways[:, None], (2, count, 2, 3)), longest, rng))
    turned = misfit(found, ways[1]) < misfit(found, ways[0])  # [2, count, T]
    share = turned.mean(axis=1)
    return np.stack([1 - share, share], axis=-1)


def with_readings(model: TabularModel, hidden: np.ndarray, read: np.ndarray) -> TabularModel:
    """The listing whose states also hold what was read from the segment before: ``2 s + reading``.

    Args:
      model: durations independent of the next state; ``successor`` lists.
      hidden: ``[S]`` int, 0 or 1, value of the hidden field.
      read: ``[2, T, 2]``, see ``readings``.

    Returns:
      The model with interfaces ``z``; ``2 z + reading`` is the finer one.
    """
    states, options = model.num_states, model.num_options
    assert model.successor is not None and model.probability is not None and model.duration is not None
    law = np.zeros((states, options, states))
    rows = np.indices(model.successor.shape)
    np.add.at(law, (rows[0], rows[1], model.successor), model.probability)
    kernel = np.einsum("sot,son,str->sotnr", model.duration, law, read[hidden])
    kernel = np.repeat(kernel.reshape(states, options, -1, 2 * states), 2, axis=0)
    return TabularModel(
        reward_rate=np.repeat(model.reward_rate, 2, axis=0), agent=np.repeat(model.agent, 2),
        interface=np.repeat(model.interface, 2), gamma=model.gamma, reward_noise=model.reward_noise,
        kernel=kernel / kernel.sum(axis=(2, 3), keepdims=True),
    )  # fmt: skip


def views(model: TabularModel) -> dict[str, TabularModel]:
    """The listing of ``with_readings`` as seen without descriptors, with what they say, and whole."""
    state = np.arange(model.num_states)
    return {
        "no_descriptor": model,
        "segment_descriptor": model.replace(interface=2 * model.interface + state % 2),
        "full_state": model.replace(interface=state),
    }


class Transfer(NamedTuple):
    """Values carried over, by number of segments composed: ``[replicas, len(WATCHED)]``.

    Attributes:
      right: share of interfaces matched to the right one.
      error: ``||Q - Q_phi||_d / ||Q_phi||_d``.
      worth: return of the greedy policy, 0 random, 1 oracle.
      known: the return with the true correspondence.
    """

    right: np.ndarray
    error: np.ndarray
    worth: np.ndarray
    known: float


def transfer(replicas: int, seed: int) -> Transfer:
    """Matches interfaces of a target to those of a source by their dynamics, and carries the source's values over."""
    rng = np.random.default_rng([seed, 1])
    source = planted_model(SHARED)
    renamed = planted_model(SHARED.replace(gap=TARGET_GAP))
    owner = source.layout.interface_agent
    place = np.arange(len(owner)) - source.layout.first_interface[owner]
    angles = np.linspace(-np.pi / 2, np.pi / 2, int(np.bincount(owner).max()))[place]
    dynamics = rotation(angles)
    name = np.arange(len(owner))  # the target's name of each of the source's interfaces, within its agent
    for agent in range(SHARED.num_agents):
        name[owner == agent] = rng.permutation(name[owner == agent])
    target = renamed.model.replace(interface=name[renamed.model.interface], features=None)
    returns, origin = Returns(target), np.argsort(name)
    norm = returns.interface.norm(returns.q_phi.q)
    known = local_dynamics(_composed(dynamics, source, 256, rng)[-1])
    right, error, worth = np.empty((3, replicas, len(WATCHED)))
    for replica in range(replicas):
        sums = _composed(dynamics[origin], source, WATCHED[-1], rng)
        for column, count in enumerate(WATCHED):
            found = local_dynamics(sums[count - 1], ridge=0.1)
            off = np.sum((found[:, None] - known[None]) ** 2, axis=(-1, -2))
            match = np.where(owner[:, None] == owner[None], off, np.inf).argmin(axis=1)
            table = source.q_planted[match]
            right[replica, column] = np.mean(match == origin)
            error[replica, column] = returns.interface.norm(table - returns.q_phi.q) / norm
            worth[replica, column] = returns.normalised(returns.of_greedy(table))
    return Transfer(right, error, worth, float(returns.normalised(returns.of_greedy(source.q_planted[origin]))))


def _composed(dynamics: np.ndarray, planted: Any, count: int, rng: np.random.Generator) -> np.ndarray:
    """``[count, Z, q, q]`` sums of the descriptors of the first 1, ..., ``count`` segments at each interface."""
    pmf = planted.model.duration.mean(axis=(0, 1))
    longest = len(pmf)
    prefix = descriptors(paths(np.broadcast_to(dynamics, (count, *dynamics.shape)), longest, rng))
    last = rng.choice(longest, size=prefix.shape[:2], p=pmf / pmf.sum())
    each = np.take_along_axis(prefix, last[:, :, None, None, None], axis=2)[:, :, 0]
    return np.cumsum(each, axis=0)


def run(options: Options) -> Result:
    """Sensing and transfer, each between knowing nothing and knowing the whole state."""
    replicas, rng = options.pick(2, 12, 32), np.random.default_rng([options.seed, 0])
    planted = planted_model(HIDDEN)
    risk = planted.layout.artifacts[planted.layout.states[:, 2], -1]
    read = readings(HIDDEN.longest_duration, options.pick(500, 20_000, 100_000), rng)
    seen = views(with_readings(planted.model, risk, read))
    budget = Budget(updates=options.pick(10, 1500, 6000), replicas=replicas, explore="behaviour")
    returns = Returns(seen["full_state"])
    methods = {"exact_oracle": exactly(returns.oracle)}
    rows = []
    for name, model in seen.items():
        say(options.name, VIEWS[name])
        judge = Returns(model)
        one = prepared("ic_q", *tabular_env(model, name=options.name), model, budget)
        run = train(one, budget, options.seed)
        learned = judge.of_greedy(run.tables)
        if name == "segment_descriptor":
            seen_by = course_handoffs(model, run.tables[:1], seed=options.seed)
        methods[name] = over_replicas(learned)
        numbers = {"no_descriptor": 1, "segment_descriptor": 1 + NUMBERS}.get(name, "whole state")
        rows.append([VIEWS[name], model.num_interfaces, numbers, methods[name], over_replicas(
            np.asarray(judge.normalised(learned))), float(judge.normalised(judge.interface_optimum))])  # fmt: skip
    methods["random"] = exactly(returns.random)
    say(options.name, "transfer")
    moved = transfer(replicas, options.seed)
    judged = options.preset != "testing"
    gains = methods["segment_descriptor"].ci_low > methods["no_descriptor"].ci_high
    composed = over_replicas(moved.worth[:, -1]).ci_low > over_replicas(moved.worth[:, 0]).ci_high
    return Result(
        environment=options.name,
        metric="discounted return (reward units)",
        methods=methods,
        message_scalars_per_handoff=float(1 + NUMBERS),
        names={name: f"IC-Q, {text}" for name, text in VIEWS.items()},
        exact={
            "oracle": returns.oracle, "random": returns.random, "transfer_known_correspondence": moved.known,
            **{f"read_right_after_{t}_steps": float((read[0, t - 1, 0] + read[1, t - 1, 1]) / 2) for t in (1, 4, 12)},
        },
        normalised={name: _scaled(returns, value) for name, value in methods.items()},
        checks={GAINS: bool(gains) if judged else None, COMPOSED: bool(composed) if judged else None},
        settings={"seed": options.seed, **budget.settings()},
        tables=[
            Table("IC-Q by what agents see besides their interface; the last column is exact",
                  ("agents see", "interfaces", "numbers per handoff", "return (reward units)", "normalised return",
                   "the same, greedy policy of Q_phi"), rows, name="sensing"),
            Table("Values carried over to a model that shares local dynamics, matched by composed descriptors",
                  ("segments composed", "interfaces matched rightly (share)", "error of the values (relative)",
                   "normalised return"), [
                ["none: no values", "-", 1.0, 0.0],
                *([count, *(over_replicas(part[:, i]) for part in moved[:3])] for i, count in enumerate(WATCHED)),
                ["full state: known", 1.0, 0.0, moved.known],
            ], name="transfer"),
            *cooperation_tables(seen_by, "the workflow learned with descriptors"),
        ],
        figures={"transfer": partial(_figure, moved)},
        remarks=[
            f"A descriptor of the plane has {NUMBERS} different numbers, which cross in addition to the one scalar. "
            "The "
            "receiver reads one bit from them, the likelier of two known dynamics; how often it is right, by duration, "
            "is measured on simulated segments, and returns are exact given that.",
            "What is hidden may change at the handoff, after the segment that was described: a reading is not a state.",
            "Source and target have the same values by construction (planted), though kernels and rewards differ; "
            "what is measured is whether descriptors find out which interface is which.",
        ],
    )  # fmt: skip


def _scaled(returns: Returns, value: Interval) -> Interval:
    mean, low, high = (float(returns.normalised(end)) for end in value[:3])
    return Interval(mean, low, high, value.replicas)


def _figure(moved: Transfer) -> Any:
    """Return and share of right matches by segments composed."""
    from icsmdp_jax.drawing import style

    figure = style.new_figure(style.FULL_WIDTH, 2.4)
    panels = figure.subplots(1, 2)
    for index, (axes, values, label) in enumerate(
        zip(panels, (moved.worth, moved.right), ("normalised return", "interfaces matched rightly"), strict=True)
    ):
        mean, low, high, _ = mean_interval(values)
        axes.fill_between(WATCHED, low, high, color=style.BLUE, alpha=0.18, linewidth=0)
        axes.plot(WATCHED, mean, color=style.BLUE, marker="o", ms=4, lw=1.2, label="composed descriptors")
        axes.axhline(moved.known if index == 0 else 1.0, color=style.BLACK, lw=0.9, label="correspondence known")
        axes.axhline(0.0 if index == 0 else 1 / 8, color=style.GREY, lw=0.9, ls=":", label="none")
        axes.set_xscale("log", base=2)
        axes.set_xticks(WATCHED, [str(count) for count in WATCHED])
        axes.set_xlabel("segments composed for each interface")
        style.letter(axes, index, label)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
