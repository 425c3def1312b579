"""The axis of returns: does one scalar per handoff suffice, and what does acting on the interface cost (T1.3)?"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bound_validation import theorem
from bound_validation.axes.returns.spec import TABLE_STEP, LearnerSpec, ReturnsSpec, StepSetting
from bound_validation.axis import Settings
from bound_validation.bounds import value_width
from bound_validation.results import Row, by_replica, checked
from bound_validation.tasks import PROGRAM, Claim, Progress, Task, TaskResult, about, in_range
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.returns import mean_interval
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.grid import Ensemble, Trained, ensemble, replica_keys
from icsmdp_jax.learner.methods import METHODS
from icsmdp_jax.learner.schedules import StepSize, polynomial
from icsmdp_jax.models.random import random_model

FEATURES = 8  # dimension of the random models' interface vectors
JUDGED_FROM = 100_000  # handoffs of each replica from which a learner is held to the oracle
ENOUGH = 0.99  # normalised return that counts as the oracle's
CLAIMED = ("ic_q", "no_message")
REFERENCES = ("oracle", "greedy_immediate", "random")
TUNING, FINAL, GAP = range(3)  # purposes of random numbers
GAP_COPIES, GAP_LENGTH = 32, 8


class Place(NamedTuple):
    """A model of this axis.

    Attributes:
      name: readable name.
      known: what is known of it without learning, under uniform behaviour.
    """

    name: str
    known: Analysis

    @property
    def slug(self) -> str:
        """The name as a part of a cell's id."""
        return self.name.replace(" ", "")


def constants(known: Analysis) -> dict[str, Any]:
    """Constants of a model for the table."""
    return {
        "gamma": known.interface.moments.gamma,
        "gamma_bar": known.interface.gamma_bar,
        "epsilon": known.ais.epsilon,
        "delta": known.ais.delta,
        "value_norm": known.gap.value_norm,
    }


@lru_cache(maxsize=64)
def planted_known(config: PlantedConfig) -> Analysis:
    """The planted model under uniform behaviour; remembered within a run."""
    return analyse(planted_model(config).model)


@lru_cache(maxsize=16)
def places(config: PlantedConfig, random: tuple[tuple[int, int], ...]) -> tuple[Place, ...]:
    """The planted model and the random ones ``(seed, agents)``, all of the same shapes."""
    planted = planted_known(config).returns.model
    assert planted.successor is not None
    behind = planted.num_states // planted.num_interfaces
    drawn = [
        random_model(
            seed, num_agents=count, num_interfaces=planted.num_interfaces, hidden=behind,
            num_options=planted.num_options, successors=planted.successor.shape[2] // behind, gamma=planted.gamma,
            longest_duration=planted.longest_duration, features=FEATURES,
        )
        for seed, count in random
    ]  # fmt: skip
    named = [Place(f"random {seed}", analyse(model)) for (seed, _), model in zip(random, drawn, strict=True)]
    return (Place("planted", planted_known(config)), *named)


def tasks(spec: ReturnsSpec, settings: Settings) -> list[Task]:
    """The exact references, one task for each method of each function class, and the sweep over the gap."""
    models = 1 + len(spec.random)
    out = [Task("returns/reference", partial(reference, spec), 1, models * len(REFERENCES), False, seconds=0.2)]
    for learner in spec.learners:
        for method in learner.methods:
            runs = models * replicas_of(spec, method) * (1 + (len(learner.steps) > 1))
            out.append(Task(
                f"returns/{learner.label}/{method}",
                partial(measure, spec, learner, method),
                runs * learner.samples,
                models,
                seconds=about(2 * runs * learner.samples, PROGRAM * (learner.width > 0)),
            ))  # fmt: skip
    handoffs = len(spec.gaps) * spec.gap_replicas * spec.gap_updates * GAP_COPIES * GAP_LENGTH
    out.append(
        Task(
            "returns/gap",
            partial(gap_sweep, spec),
            handoffs,
            len(spec.gaps),
            seconds=about(2 * handoffs),
        )
    )
    return out


def replicas_of(spec: ReturnsSpec, method: str) -> int:
    """Replicas of a method: more for IC-Q, which is held to the oracle."""
    return spec.replicas if method == "ic_q" else spec.baseline_replicas


def reference(spec: ReturnsSpec, progress: Progress) -> TaskResult:
    """Normalised returns of the oracle, of the random and of the greedy-immediate workflow, exact."""
    rows = []
    for place in places(spec.model, spec.random):
        earned = place.known.returns
        for index, name in enumerate(REFERENCES):
            note = ""
            if name == "oracle":
                note = (
                    f"Model {place.name}: {earned.model.num_agents} agents; the oracle's return is "
                    f"{earned.oracle:.3f}, that of the random workflow {earned.random:.3f} (reward units)."
                )
            rows.append(checked(Row(
                axis="returns", cell=f"returns/{place.slug}/{name}", series="reference",
                group=f"{place.name}, exact, {name}", x_name="returns", x=len(METHODS) + index,
                measured=earned.normalised(getattr(earned, name)), note=note, **constants(place.known),
            )))  # fmt: skip
    return TaskResult(rows)


def measure(spec: ReturnsSpec, learner: LearnerSpec, method: str, progress: Progress) -> TaskResult:
    """Normalised return of one method with one function class on every model, with 95 % intervals over replicas."""
    models = places(spec.model, spec.random)
    networks = {} if learner.label == "tabular" else {"width": learner.width, "depth": 1}
    lanes = ensemble(
        [place.known.returns.model for place in models], method, learner.label, copies=learner.copies,
        length=learner.length, exploration=ramp(1.0, 0.1, learner.updates // 2), **networks,
    )  # fmt: skip
    count = replicas_of(spec, method)
    chosen, tuned = tuned_steps(lanes, models, learner, spec.seed, count)
    progress(tuned.handoffs)
    keys = keys_of(spec.seed, FINAL, count)
    tables, done = lanes.train(keys, stacked([[s] * count for s in chosen]), learner.updates)
    progress(done.handoffs)
    rows: list[Row] = []
    shared: dict[str, Any] = {
        "axis": "returns", "x_name": "returns", "x": list(METHODS).index(method), "width": learner.width,
        "samples": learner.samples, "step_rule": "polynomial",
        "function_class": "tabular" if learner.label == "tabular" else "neural",
    }  # fmt: skip
    for place, one, table in zip(models, lanes.setups, tables, strict=True):
        shared |= {
            "cell": f"returns/{place.slug}/{learner.label}/{method}",
            "group": f"{place.name}, {learner.label}, {method}",
            **constants(place.known),
        }
        known = place.known.returns
        each = known.normalised(known.of_greedy(table, one.by_state))
        value = mean_interval(each)
        rows.append(checked(Row(series="return", measured=value.mean, ci_low=value.ci_low, ci_high=value.ci_high,
                                replicas=count, **shared, **by_replica("mean", each))))  # fmt: skip
        crossing = one.scalars_per_handoff()
        note = "" if math.isfinite(crossing) else str(one.method.crosses)
        rows.append(checked(Row(series="crossing", measured=crossing, note=note, **shared)))
    claims = claims_of(learner, method, count, [row for row in rows if row.series == "return"])
    return TaskResult(rows, {}, claims, tuned.compile_s + done.compile_s, tuned.handoffs + done.handoffs)


def keys_of(seed: int, purpose: int, count: int) -> jax.Array:
    """``[count]`` keys of replicas; the first ones are the same whatever the count."""
    return replica_keys(jax.random.fold_in(jax.random.key(seed), purpose), count)


def stacked(settings: list[list[StepSetting]]) -> StepSize:
    """Step sizes with leaves ``[models, lanes]``."""
    sizes = [[polynomial(one.power, one.rescale, one.scale, jnp.inf) for one in row] for row in settings]
    return jax.tree.map(lambda *rows: np.stack(rows), *[jax.tree.map(lambda *x: np.stack(x), *row) for row in sizes])


def tuned_steps(
    lanes: Ensemble, models: tuple[Place, ...], learner: LearnerSpec, seed: int, count: int
) -> tuple[list[StepSetting], Trained]:
    """The best step size for each model: highest mean return over as many runs of each setting as fit into ``count``.

    With one setting there is nothing to run.
    """
    settings = learner.steps
    if len(settings) == 1:
        return [settings[0]] * len(models), Trained(None, 0, 0.0, 0.0)
    tried = [settings[lane % len(settings)] for lane in range(count)]
    keys = keys_of(seed, TUNING, -(-count // len(settings)))
    keys = keys[jnp.arange(count, dtype=jnp.int32) // len(settings)]  # every setting meets the same random numbers
    tables, run = lanes.train(keys, stacked([tried] * len(models)), learner.updates)
    chosen = []
    for place, one, table in zip(models, lanes.setups, tables, strict=True):
        found = place.known.returns.of_greedy(table, one.by_state)
        means = [np.mean([found[i] for i in range(count) if tried[i] == setting]) for setting in settings]
        chosen.append(settings[int(np.argmax(means))])
    return chosen, run


def claims_of(learner: LearnerSpec, method: str, replicas: int, rows: list[Row]) -> list[Claim]:
    """IC-Q reaches the oracle on every model, the learner without messages on none."""
    if method not in CLAIMED:
        return []
    reaches = method == "ic_q"
    name = f"returns_{'reached' if reaches else 'no_message'}_{learner.label}"
    worst = min(rows, key=lambda r: r.ci_low) if reaches else max(rows, key=lambda r: r.ci_high)
    value = worst.ci_low if reaches else worst.ci_high
    target = f"at least {ENOUGH}" if reaches else f"below {ENOUGH}"
    who = "IC-Q reaches the oracle" if reaches else "A learner that hears no message does not reach the oracle"
    end = "lowest lower" if reaches else "highest upper"
    model = worst.group.split(", ")[0]
    text = (
        f"{learner.label}: {who} on {len(rows)} models (normalised return: {end} end of the 95 % intervals over "
        f"{replicas} replicas; {model}, mean {worst.measured:.3f})."
    )
    if learner.samples < JUDGED_FROM:
        return [Claim(name, f"{text} Too few handoffs in this preset to claim it.", value, "not claimed", None)]
    passed = value >= ENOUGH if reaches else value < ENOUGH
    return [Claim(name, text, value, target, bool(passed), worst.ci_low, worst.ci_high)]


def gap_sweep(spec: ReturnsSpec, progress: Progress) -> TaskResult:
    """What tabular IC-Q's greedy policy loses against the oracle at every eta, with the exact loss of ``Q_phi``'s.

    ``Q_phi`` depends on the behaviour policy, so all runs behave as the exact solution assumes: uniformly at random.
    """
    models = [planted_known(spec.model.replace(gap=eta)) for eta in spec.gaps]
    lanes = ensemble(
        [known.returns.model for known in models], "ic_q", "tabular", copies=GAP_COPIES, length=GAP_LENGTH,
        explore="behaviour",
    )  # fmt: skip
    steps = stacked([[TABLE_STEP] * spec.gap_replicas] * len(models))
    tables, run = lanes.train(keys_of(spec.seed, GAP, spec.gap_replicas), steps, spec.gap_updates)
    progress(run.handoffs)
    samples = spec.gap_updates * GAP_COPIES * GAP_LENGTH
    rows: list[Row] = []
    off = []
    for index, (eta, known, table) in enumerate(zip(spec.gaps, models, tables, strict=True)):
        earned = known.returns
        exact = earned.oracle - earned.interface_optimum  # mean over the first state (T1.3)
        each = earned.oracle - earned.of_greedy(table)
        lost = mean_interval(each)
        off.append(abs(lost.mean - exact) / (earned.oracle - earned.random))
        shared: dict[str, Any] = {
            "axis": "returns", "cell": f"returns/gap/{index}", "group": "gap, tabular, ic_q", "x_name": "eta", "x": eta,
            "gap": eta, **constants(known),
        }  # fmt: skip
        rows.append(checked(Row(
            series="gap_loss", measured=lost.mean, ci_low=lost.ci_low, ci_high=lost.ci_high, prediction=exact,
            replicas=spec.gap_replicas, samples=samples, function_class="tabular", step_rule="polynomial", **shared,
            **by_replica("mean", each),
        )))  # fmt: skip
        rows.append(checked(Row(
            series="gap_loss_exact", term="interface", measured=exact,
            bound=theorem.policy_loss_bound(known.gap.bound_value_aware), trivial=value_width(known), **shared,
        )))  # fmt: skip
    text = (
        "At growing gap IC-Q loses what the policy greedy in Q_phi loses (largest difference of the two, on the scale "
        "from the random workflow to the oracle)."
    )
    largest = max(off)
    claim = in_range("returns_gap", text, largest, 0.0, 0.01)
    if samples < JUDGED_FROM:
        text += " Too few handoffs in this preset to claim it."
        claim = Claim("returns_gap", text, largest, "not claimed", None)
    return TaskResult(rows, {}, [claim], run.compile_s, run.handoffs)
