"""The axis of returns: exact losses against brute force, lanes against single runs, one program, claims can fail."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bound_validation.axes.returns import measure as axis
from bound_validation.axes.returns.spec import (
    FAR_SIGHTED,
    HALF_SIZE,
    HALF_SIZE_RANDOM,
    PRESETS,
    RANDOM,
    WITH_TABLES,
    LearnerSpec,
    ReturnsSpec,
    StepSetting,
)
from bound_validation.axis import SETTINGS
from bound_validation.results import Row
from bound_validation.tasks import TaskResult
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.learner import grid, setups
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.grid import Trained, ensemble
from icsmdp_jax.learner.methods import METHODS
from icsmdp_jax.learner.schedules import polynomial
from icsmdp_jax.models.random import random_model
from icsmdp_jax.models.tabular import TabularModel

STEP = StepSetting(1.0, 0.8, 0.5)
LEARNER = LearnerSpec("tabular", ("ic_q", "no_message"), updates=8, copies=4, length=4, steps=(STEP,))
SPEC = ReturnsSpec(
    (LEARNER,), replicas=4, baseline_replicas=3, random=HALF_SIZE_RANDOM[:2], gaps=(0.0, 0.6), gap_updates=4,
    gap_replicas=3, model=HALF_SIZE,
)  # fmt: skip
SILENT = lambda done: None  # noqa: E731


# Exact values


def brute_kernel(model: TabularModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards ``[S, O]``, discounted and undiscounted kernels ``[S, O, S]`` from the model's arrays, by loops."""
    assert model.successor is not None and model.probability is not None and model.duration is not None
    states, options = model.reward_rate.shape
    powers = model.gamma ** np.arange(1, model.longest_duration + 1)
    law = np.zeros((states, options, states))
    for s, o, w in np.ndindex(model.successor.shape):
        law[s, o, model.successor[s, o, w]] += model.probability[s, o, w]
    modulus = model.duration @ powers
    reward = model.reward_rate * (1 - modulus) / (1 - model.gamma)
    return reward, modulus[..., None] * law, law


def brute_return(model: TabularModel, policy: np.ndarray) -> float:
    """Mean value of a policy ``[S, O]`` over the stationary law of the uniform behaviour, by iteration."""
    reward, discounted, law = brute_kernel(model)
    value = np.zeros(model.num_states)
    for _ in range(600):
        value = (policy * (reward + discounted @ value)).sum(axis=1)
    chain, start = law.mean(axis=1), np.full(model.num_states, 1 / model.num_states)
    for _ in range(2000):
        start = 0.5 * start + 0.5 * start @ chain  # lazy, in case the chain is periodic
    return float(start @ value)


@cache
def opened() -> Analysis:
    return axis.planted_known(HALF_SIZE.replace(gap=0.6))


def exact_loss(known: Analysis) -> float:
    return known.returns.oracle - known.returns.interface_optimum


def test_exact_loss_agrees_with_brute_force() -> None:
    place = opened()
    model = place.returns.model
    reward, discounted, law = brute_kernel(model)
    q = np.zeros(reward.shape)
    for _ in range(600):
        q = reward + discounted @ q.max(axis=1)
    oracle = brute_return(model, np.eye(model.num_options)[q.argmax(axis=1)])
    # Q_phi: averages over the hidden part with the weights of the stationary law, then value iteration.
    chain, d = law.mean(axis=1), np.full(model.num_states, 1 / model.num_states)
    for _ in range(2000):
        d = 0.5 * d + 0.5 * d @ chain
    seen = np.eye(model.num_interfaces)[model.interface]
    weight = (seen * d[:, None]) / (seen * d[:, None]).sum(axis=0)
    table = np.zeros((model.num_interfaces, model.num_options))
    for _ in range(600):
        table = np.einsum("sz,so->zo", weight, reward + discounted @ (seen @ table.max(axis=1)))
    greedy = np.eye(model.num_options)[table.argmax(axis=1)][model.interface]
    loss = oracle - brute_return(model, greedy)
    assert exact_loss(place) == pytest.approx(loss, abs=1e-6) and loss > 0.1
    assert place.returns.oracle == pytest.approx(oracle, abs=1e-6)
    random = np.full(reward.shape, 1 / model.num_options)
    assert place.returns.random == pytest.approx(brute_return(model, random), abs=1e-6)


def test_models_have_the_shapes_of_the_planted_one() -> None:
    places = axis.places(SPEC.model, SPEC.random)
    assert [place.name for place in places] == ["planted", "random 2", "random 5"]
    assert [place.known.returns.model.num_agents for place in places] == [10, 3, 4]
    assert len({place.known.returns.model.reward_rate.shape for place in places}) == 1
    for place in places:
        known = place.known
        assert known.ais.epsilon < 1e-12 and known.ais.delta < 1e-12 and abs(exact_loss(known)) < 1e-9
        assert known.returns.normalised(known.returns.greedy_immediate) < 0.5


@pytest.mark.parametrize(("model", "random"), [(FAR_SIGHTED, RANDOM), (HALF_SIZE, HALF_SIZE_RANDOM)])
def test_models_of_the_presets_punish_short_sight_and_hide_nothing(model: Any, random: Any) -> None:
    for place in axis.places(model, random):
        known = place.known
        assert known.returns.normalised(known.returns.greedy_immediate) < 0.5, place.name
        assert known.ais.epsilon < 1e-12 and abs(exact_loss(known)) < 1e-9
    assert [count for _, count in random] == [3, 4, 5]


def test_reference_rows_span_the_scale() -> None:
    rows = axis.reference(SPEC, lambda done: None).rows
    assert len(rows) == 3 * 3 and all(row.replicas == 0 for row in rows)
    by_cell = {row.cell: row.measured for row in rows}
    for slug in ("planted", "random2", "random5"):
        assert by_cell[f"returns/{slug}/oracle"] == pytest.approx(1.0)
        assert by_cell[f"returns/{slug}/random"] == pytest.approx(0.0)
        assert 0 < by_cell[f"returns/{slug}/greedy_immediate"] < 0.5
    notes = [row.note for row in rows if row.note]
    assert len(notes) == 3 and "oracle" in notes[0]


# Ensembles


@pytest.mark.parametrize("function_class", ["tabular", pytest.param("mlp", marks=pytest.mark.slow)])
def test_a_lane_is_the_single_run_on_its_model(function_class: str) -> None:
    """Agents that a model does not have, and zeros after its descriptions, change nothing that is learned."""
    models = [random_model(seed, num_agents=agents, num_interfaces=10, features=4) for seed, agents in ((1, 3), (2, 5))]
    settings: dict[str, Any] = dict(copies=4, length=4, width=6, depth=1, exploration=ramp(0.5, 0.1, 4))
    lanes = ensemble(models, "ic_q", function_class, **settings)
    keys = axis.keys_of(3, 0, 2)
    tables, trained = lanes.train(keys, axis.stacked([[STEP, STEP]] * 2), 6)
    assert trained.handoffs == 2 * 2 * 6 * 16 and trained.compile_s > 0
    sizes = polynomial(STEP.power, STEP.rescale, STEP.scale, jnp.inf)
    single = setups.setup(models[1], None, "ic_q", function_class, step_size=sizes, **settings)
    alone_on = jax.jit(lambda key: single.learner.train(key, single.hyper, 6))
    for lane in range(2):
        alone = single.tables(alone_on(keys[lane])[0].params)
        np.testing.assert_allclose(tables[1][lane], alone, rtol=2e-5, atol=2e-6)
        assert np.abs(alone).max() > 0.01
    assert not np.allclose(tables[1][0], tables[1][1])
    assert lanes.train(keys, axis.stacked([[STEP, STEP]] * 2), 6)[1].compile_s == 0.0


def test_short_descriptions_are_padded_with_zeros() -> None:
    models = [random_model(seed, num_agents=3, num_interfaces=10, features=width) for seed, width in ((1, 4), (2, 7))]
    data = ensemble(models, "ic_q", "mlp", copies=2, length=2, width=4, depth=1).trainer.cells["data"]
    assert data.shape == (2, 10, 7)
    np.testing.assert_allclose(data[0, :, :4], models[0].features, rtol=1e-6)
    assert not np.asarray(data[0, :, 4:]).any()


def test_models_that_do_not_fit_are_refused() -> None:
    models = [random_model(1, num_agents=3, num_interfaces=count) for count in (10, 12)]
    with pytest.raises(ValueError, match="expected the same numbers of states"):
        ensemble(models, "ic_q", "tabular", copies=2, length=2)


def test_keys_do_not_depend_on_their_number() -> None:
    few, many = (jax.random.key_data(axis.keys_of(5, 1, count)) for count in (2, 6))
    np.testing.assert_array_equal(few, many[:2])
    assert len(np.unique(many, axis=0)) == 6
    assert not np.array_equal(few, jax.random.key_data(axis.keys_of(5, 0, 2)))


# Runs


@cache
def measured() -> tuple[TaskResult, int, list[int]]:
    """A tuned run of a handful of updates: its result, how often something was compiled, and its progress."""
    learner = dataclasses.replace(LEARNER, steps=(STEP, StepSetting(1e-9, 0.0, 0.0)))
    count, steps = [0], []

    def counted(*arguments: Any) -> Any:
        count[0] += 1
        return original(*arguments)

    original = grid.compiled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "compiled", counted)
        result = axis.measure(SPEC, learner, "ic_q", steps.append)
    return result, count[0], steps


def test_tuning_and_the_final_run_share_one_program() -> None:
    result, compilations, steps = measured()
    assert compilations == 1
    assert steps == [3 * 4 * LEARNER.samples] * 2 and result.handoffs == sum(steps) and result.compile_s > 0


def test_rows_name_model_class_and_method() -> None:
    rows = measured()[0].rows
    assert [row.cell for row in rows[::2]] == [f"returns/{m}/tabular/ic_q" for m in ("planted", "random2", "random5")]
    assert [row.group for row in rows[::2]] == [f"{m}, tabular, ic_q" for m in ("planted", "random 2", "random 5")]
    for row in rows:
        assert row.axis == row.x_name == "returns" and row.x == 0 and row.samples == LEARNER.samples
        assert 0 < row.gamma_bar < row.gamma and row.epsilon < 1e-12 and row.holds == -1 and row.term == ""
    for row in rows[::2]:
        assert row.series == "return" and row.replicas == 4 and row.ci_low < row.measured < row.ci_high < 2
    for row in rows[1::2]:
        assert row.series == "crossing" and row.measured == 1.0 and row.replicas == 0
    back = TaskResult.from_plain(measured()[0].plain())
    assert [row.measured for row in back.rows] == [row.measured for row in rows]


@dataclasses.dataclass
class FakeLanes:
    """Learns the oracle's table with one of the settings, and nothing with the others."""

    places: tuple[axis.Place, ...]
    good: tuple[StepSetting, ...]
    setups: tuple[Any, ...]

    def train(self, keys: Any, steps: Any, updates: int) -> tuple[list[np.ndarray], Trained]:
        tables = []
        for index, (place, good) in enumerate(zip(self.places, self.good, strict=True)):
            right = np.isclose(steps.scale[index], good.scale)[:, None, None]
            tables.append(np.where(right, place.known.q_phi.q, -place.known.q_phi.q))
        return tables, Trained(None, 7, 0.5, 0.0)


def test_tuning_finds_the_best_step_size_of_each_model() -> None:
    settings = tuple(StepSetting(scale, 0.8, 0.5) for scale in (0.1, 0.2, 0.4))
    places = axis.places(SPEC.model, SPEC.random)[:2]
    several = tuple(setups.setup(place.known.returns.model) for place in places)
    lanes: Any = FakeLanes(places, (settings[2], settings[1]), several)
    learner = dataclasses.replace(LEARNER, steps=settings)
    chosen, run = axis.tuned_steps(lanes, places, learner, seed=0, count=7)
    assert chosen == [settings[2], settings[1]] and (run.compile_s, run.handoffs) == (0.5, 7)
    single, nothing = axis.tuned_steps(lanes, places, LEARNER, seed=0, count=7)
    assert single == [STEP, STEP] and nothing.handoffs == 0


def test_a_short_run_learns_something() -> None:
    """300 updates of 16 handoffs: far from the oracle, far above chance (4 replicas; the lowest of 3 means)."""
    learner = dataclasses.replace(LEARNER, updates=300)
    rows = [row for row in axis.measure(SPEC, learner, "ic_q", SILENT).rows if row.series == "return"]
    assert min(row.measured for row in rows) > 0.2


# Gap


@cache
def swept() -> TaskResult:
    return axis.gap_sweep(SPEC, SILENT)


def test_gap_sweep_sets_the_learned_loss_beside_the_exact_one() -> None:
    rows = swept().rows
    assert [(row.series, row.x) for row in rows] == [
        ("gap_loss", 0.0), ("gap_loss_exact", 0.0), ("gap_loss", 0.6), ("gap_loss_exact", 0.6)
    ]  # fmt: skip
    closed, exact_closed, learned, exact = rows
    assert exact_closed.measured == pytest.approx(0.0, abs=1e-9) and exact_closed.holds == 1
    assert exact.measured == learned.prediction == exact_loss(opened())
    assert exact.bound == pytest.approx(2 * opened().gap.bound_value_aware) and exact.holds == 1
    assert exact.term == "interface" and learned.holds == -1 and math.isnan(learned.bound)
    assert learned.replicas == 3 and learned.samples == 4 * 256 and exact.replicas == 0
    (claim,) = swept().claims
    assert claim.passed is None and claim.name == "returns_gap"


def test_learned_losses_approach_the_exact_ones() -> None:
    """400 updates, 3 replicas with fixed keys; the claim admits 0.01 of the scale, less than one wrong option costs."""
    spec = dataclasses.replace(SPEC, gap_updates=400)
    (claim,) = axis.gap_sweep(spec, SILENT).claims
    assert claim.passed is True and claim.value < 0.01


# Claims


def row(model: str, measured: float, half: float, method: str = "ic_q") -> Row:
    return Row("returns", "", "return", "returns", 0.0, measured, group=f"{model}, tabular, {method}",
               ci_low=measured - half, ci_high=measured + half)  # fmt: skip


LONG = dataclasses.replace(LEARNER, updates=10_000)


def test_the_oracle_has_to_be_reached_on_every_model() -> None:
    good, bad = row("planted", 0.999, 0.002), row("random 2", 0.995, 0.006)
    (claim,) = axis.claims_of(LONG, "ic_q", 32, [good, row("random 2", 0.999, 0.001)])
    assert claim.passed is True and claim.value == pytest.approx(0.997) and claim.name == "returns_reached_tabular"
    (claim,) = axis.claims_of(LONG, "ic_q", 32, [good, bad])
    assert claim.passed is False and claim.value == pytest.approx(0.989) and "random 2" in claim.text
    (claim,) = axis.claims_of(LEARNER, "ic_q", 32, [good, bad])
    assert claim.passed is None and claim.target == "not claimed" and "Too few" in claim.text


def test_without_messages_the_oracle_must_not_be_reached_on_any_model() -> None:
    rows = [row("planted", 0.4, 0.1, "no_message"), row("random 2", 0.985, 0.003, "no_message")]
    (claim,) = axis.claims_of(LONG, "no_message", 8, rows)
    assert claim.passed is True and claim.value == pytest.approx(0.988) and claim.name == "returns_no_message_tabular"
    rows.append(row("random 5", 0.989, 0.002, "no_message"))
    (claim,) = axis.claims_of(LONG, "no_message", 8, rows)
    assert claim.passed is False and "random 5" in claim.text
    assert axis.claims_of(LONG, "central", 8, rows) == []


# Presets


def test_presets_run_every_method_and_claim_what_they_can() -> None:
    assert set(METHODS) - set(WITH_TABLES) == {"full_information", "shared", "federated"}
    for name, spec in PRESETS.items():
        tasks = axis.tasks(spec, SETTINGS[name])
        names = [task.name for task in tasks]
        assert len(set(names)) == len(names) and {"returns/reference", "returns/gap", "returns/tabular/ic_q"} <= set(
            names
        )
        assert all(task.work > 0 for task in tasks)
        judged = name != "testing"
        assert all((learner.samples >= axis.JUDGED_FROM) == judged for learner in spec.learners)
        assert spec.replicas >= 32 or not judged
    tables, networks = PRESETS["full"].learners
    assert set(tables.methods) == set(WITH_TABLES) and set(networks.methods) == set(METHODS)
    assert len(tables.steps) == len(networks.steps) == 4


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].needs_networks])
def test_with_tables_some_methods_are_ic_q(method: str) -> None:
    """The same learner with the same inputs; that is why they are not run again. With networks it is another one."""
    model = random_model(1, num_interfaces=10, num_agents=3)
    one, other = (setups.setup(model, None, name, copies=4, length=4) for name in ("ic_q", method))
    assert one.learner == other.learner
    jax.tree.map(np.testing.assert_array_equal, one.hyper, other.hyper)
    one, other = (setups.setup(model, None, name, "mlp", copies=4, length=4) for name in ("ic_q", method))
    assert one.learner != other.learner
