"""``compare``: exact values that can be worked out by hand, learners that have to come near them, honest checks."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest

from icsmdp_jax.drawing import style
from icsmdp_jax.envs.cpu_sort import cpu_sort
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.exact.returns import Interval, Returns
from icsmdp_jax.experiments.comparison import Budget, compare, judged
from icsmdp_jax.experiments.quantities import exact_quantities, own_interface_optimum
from icsmdp_jax.experiments.result import Result, exactly
from icsmdp_jax.experiments.training import parts_of, prepared, scalars_per_handoff, train
from icsmdp_jax.models.random import random_model
from icsmdp_jax.models.tabular import TabularModel

GAMMA = 0.9


def courier() -> TabularModel:
    """Agent 0 takes 1 now and ends in a place worth nothing, or 0 now and hands to agent 1, who may take 10.

    States: 0 agent 0; 1 agent 1 with the choice of 10 or 0; 2 agent 1 with 0 either way; 3 the end. One step each.
    """
    transition = np.zeros((4, 2, 4))
    transition[0, 0, 2] = transition[0, 1, 1] = 1
    transition[1:, :, 3] = 1
    rate = np.zeros((4, 2))
    rate[0, 0], rate[1, 0] = 1.0, 10.0
    return TabularModel(
        reward_rate=rate, agent=np.array([0, 1, 1, 1]), interface=np.array([0, 1, 2, 3]), gamma=GAMMA,
        transition=transition, duration=np.ones((4, 2, 1)), start=np.eye(4)[0], terminal=np.eye(4, dtype=bool)[3],
    )  # fmt: skip


@cache
def on_courier() -> Result:
    model = courier()
    env, params = tabular_env(model)
    budget = Budget(updates=60, copies=8, length=4, replicas=4)
    methods = ("ic_q", "central_learner", "no_message", "immediate", "full_information", "random")
    return compare(env, params, budget, methods=methods, judged_from=1000)


def test_exact_values_worked_out_by_hand():
    exact = on_courier().exact
    assert exact["oracle"] == pytest.approx(GAMMA * 10)
    assert exact["random"] == pytest.approx(0.5 * 1 + 0.5 * GAMMA * 5)
    assert exact["greedy_immediate"] == pytest.approx(1)
    assert exact["interface_optimum"] == exact["own_interface_optimum"] == pytest.approx(GAMMA * 10)
    assert exact["epsilon"] == exact["delta"] == exact["interface_distance"] == 0
    assert exact["gamma_bar"] == pytest.approx(GAMMA)
    assert exact["num_states"] == 4


def test_only_methods_that_hear_of_the_ten_find_it():
    result = on_courier()
    scaled = result.normalised
    low = (1 - 2.75) / (9 - 2.75)  # taking 1 at once, on the scale from 0.5 + 2.25 to 9
    for method, wanted in (("ic_q", 1), ("central_learner", 1), ("immediate", low), ("no_message", low), ("random", 0)):
        assert scaled[method].mean == pytest.approx(wanted), method
    assert result.methods["ic_q"].replicas == 4 and result.methods["ic_q"].mean == pytest.approx(9)
    assert result.message_scalars_per_handoff == 1.0
    assert all(result.checks.values()) and len(result.checks) == 3
    assert "full_information" not in result.methods
    crossing = {row[0]: row[2] for row in result.tables[0].rows}
    assert crossing == {
        "IC-Q": 1.0, "central learner": "whole state", "no message": 0.0, "immediate reward only": 0.0
    }  # fmt: skip
    assert any("full information" in remark for remark in result.remarks)
    assert result.settings["handoffs"] == 60 * 8 * 4


def test_figures_tell_how_it_came_about():
    """The curves end at the results; agent 0 hands to agent 1 after one step, after which the episode ends."""
    result = on_courier()
    assert list(result.figures) == ["training", "agents", "handoffs"]
    with style.house_style():
        training, agents, handoffs = (draw() for draw in result.figures.values())
    curves = [line for line in training.axes[0].lines if line.get_linewidth() == 1.2 and len(line.get_xdata()) == 10]
    learned = [name for name in result.methods if name in ("ic_q", "central_learner", "no_message", "immediate")]
    assert [line.get_xdata()[-1] for line in curves] == [60 * 8 * 4] * 4
    ends = sorted(float(line.get_ydata()[-1]) for line in curves)
    assert ends == pytest.approx(sorted(float(result.methods[name].mean) for name in learned)) and len(set(ends)) == 2
    texts = [text.get_text() for text in handoffs.axes[0].texts]
    assert "1.0" in texts and "end of the episode" in texts and "50\N{NO-BREAK SPACE}%" in texts
    assert sum(text.startswith("95 % intervals over runs: at most ") for text in texts) == 1
    assert [label.get_text() for label in agents.axes[0].get_yticklabels()] == ["agent 0", "agent 1"]


@pytest.mark.slow  # a run on a grid is the run by itself, whatever stands beside it: test_grid.py
def test_runs_differ_and_can_be_had_again():
    model = random_model(21, num_agents=3, num_interfaces=8)
    env, params = tabular_env(model)
    budget = Budget(updates=20, copies=4, length=4, replicas=3)
    first = train(prepared("ic_q", env, params, model, budget), budget).tables
    assert first.shape == (3, 8, 4) and not np.array_equal(first[0], first[1])
    fewer = dataclasses.replace(budget, replicas=2)  # the runs that are there stay as they are
    again = train(prepared("ic_q", env, params, model, fewer), fewer).tables
    assert np.array_equal(again, first[:2])


@pytest.mark.slow
def test_random_model_reaches_the_oracle_and_short_sight_does_not():
    model = random_model(21, num_agents=3, num_interfaces=20)
    env, params = tabular_env(model)
    result = compare(env, params, Budget(updates=800, replicas=6))
    assert result.normalised["ic_q"].mean > 0.98
    assert result.normalised["no_message"].ci_high < result.normalised["ic_q"].ci_low
    assert list(result.checks.values()) == [True, True, True]


@pytest.mark.slow
def test_sorting_two_values_with_a_native_central_learner():
    env, params = cpu_sort(2)
    central = cpu_sort(2, sees_all=True)
    result = compare(
        env, params, Budget(updates=200, copies=16, replicas=6),
        methods=("ic_q", "central_learner", "random"), central=central,
    )  # fmt: skip
    assert result.normalised["ic_q"].mean == result.normalised["central_learner"].mean == pytest.approx(1)
    assert result.methods["exact_oracle"].mean == pytest.approx(GAMMA**3)


@pytest.mark.slow
def test_networks_are_asked_for_by_name():
    model = planted_model(PlantedConfig.small()).model
    env, params = tabular_env(model)
    budget = Budget(updates=30, replicas=2, width=8, depth=1)
    result = compare(env, params, budget, methods=("ic_q", "ic_q_neural", "full_information_neural"))
    assert {"ic_q", "ic_q_neural", "full_information_neural"} <= set(result.methods)
    assert result.text_of("ic_q_neural") == "IC-Q, neural"
    assert set(result.checks.values()) == {None}  # too few handoffs to judge


def test_counted_messages_are_those_of_the_program():
    model = courier()
    env, params = tabular_env(model)
    budget = Budget(updates=1, copies=3, length=5, replicas=1)
    counts = {
        method: scalars_per_handoff(prepared(method, env, params, model, budget))
        for method in ("ic_q", "central_learner", "no_message", "no_message_team", "immediate")
    }
    assert math.isnan(counts.pop("central_learner"))  # the whole state is no message
    assert counts == {"ic_q": 1.0, "no_message": 0.0, "no_message_team": 1.0, "immediate": 0.0}


def hidden_choice() -> TabularModel:
    """Agent 0 chooses what is hidden from agent 1, who takes 0.6 for sure, or 1 if agent 0 took its option 0.

    States: 0 agent 0; 1 and 2 agent 1 after option 0 and 1, with the same interface; 3 the end. One step each.
    """
    transition = np.zeros((4, 2, 4))
    transition[0, 0, 1] = transition[0, 1, 2] = 1
    transition[1:, :, 3] = 1
    rate = np.zeros((4, 2))
    rate[1, 0], rate[1:3, 1] = 1.0, 0.6
    return TabularModel(
        reward_rate=rate, agent=np.array([0, 1, 1, 1]), interface=np.array([0, 1, 1, 2]), gamma=GAMMA,
        transition=transition, duration=np.ones((4, 2, 1)), start=np.eye(4)[0], terminal=np.eye(4, dtype=bool)[3],
    )  # fmt: skip


def test_own_behaviour_is_the_one_that_the_learner_ended_with():
    """Agent 1 should trust agent 0 if option 0 has more than 60 % at agent 0: worked out by hand."""
    known = analyse(hidden_choice())
    assert known.returns.interface_optimum == pytest.approx(0.6 * GAMMA)  # under the uniform behaviour: 0.5 < 0.6
    tables = np.array([[[1.0, 0], [0, 0], [0, 0]], [[0, 1.0], [0, 0], [0, 0]]])
    assert own_interface_optimum(known, tables, 0.2) == pytest.approx([GAMMA, 0.6 * GAMMA])
    assert own_interface_optimum(known, tables, 1.0) == pytest.approx([0.6 * GAMMA] * 2)
    assert own_interface_optimum(known, tables, 0.2, most=1) == pytest.approx([GAMMA])


def test_own_behaviour_agrees_with_the_definition():
    model = planted_model(PlantedConfig.far_sighted(gap=0.8, private_states=1)).model
    known, rng = analyse(model), np.random.default_rng(0)
    tables = rng.standard_normal((2, model.num_interfaces, model.num_options))
    for table, value in zip(tables, own_interface_optimum(known, tables, 0.2), strict=True):
        behaviour = 0.2 / 4 + 0.8 * np.eye(4)[table.argmax(axis=1)]
        assert value == pytest.approx(Returns(model, behaviour).interface_optimum, abs=1e-9)


def test_what_interfaces_hide_costs_what_the_table_says():
    known = analyse(planted_model(PlantedConfig.far_sighted(gap=0.8, private_states=1)).model)
    table = exact_quantities(known)
    assert 0 < table["interface_distance"] < 1
    lost = table["oracle"] - table["interface_optimum"]
    assert table["interface_distance"] == pytest.approx(lost / (table["oracle"] - table["random"]))
    assert lost <= table["policy_loss"] + 1e-9 <= table["policy_loss_bound"]


def scaled(ic_q: tuple[float, float, float], **others: tuple[float, float, float]) -> dict[str, Interval]:
    values = {"interface_oracle": exactly(0.9), "greedy_immediate": exactly(0.1), "random": exactly(0.0)}
    return values | {name: Interval(*value, 8) for name, value in ({"ic_q": ic_q} | others).items()}


@pytest.mark.parametrize(
    ("ic_q", "no_message", "wanted"),
    [
        ((0.9, 0.89, 0.91), (0.5, 0.4, 0.6), [True, True, True]),
        ((0.87, 0.86, 0.88), (0.5, 0.4, 0.6), [False, True, True]),
        ((0.93, 0.92, 0.94), (0.5, 0.4, 0.6), [False, True, True]),
        ((0.89, 0.8, 0.98), (0.7, 0.6, 0.81), [True, False, True]),
        ((0.89, -0.1, 1.9), (0.7, 0.6, 0.8), [True, False, False]),
    ],
)
def test_checks_can_fail(ic_q, no_message, wanted):
    known = analyse(courier())
    checks, remarks = judged(known, scaled(ic_q, no_message=no_message), True)
    assert list(checks.values()) == wanted
    assert ("not within" in remarks[0]) is not wanted[0]
    undecided, remarks = judged(known, scaled(ic_q, no_message=no_message), False)
    assert set(undecided.values()) == {None} and "too little" in remarks[0]


def test_own_behaviour_may_be_what_ic_q_agrees_with():
    values = scaled((0.95, 0.94, 0.96)) | {"own_interface_oracle": exactly(0.96)}
    checks, remarks = judged(analyse(courier()), values, True)
    assert next(iter(checks.values())) is True and "0.9600 (difference -0.0100)" in remarks[0]


def test_reason_is_given_where_short_sight_pays():
    values = scaled((0.9, 0.89, 0.91), no_message=(0.9, 0.89, 0.91)) | {"greedy_immediate": exactly(0.9)}
    _, remarks = judged(analyse(courier()), values, True)
    assert "largest immediate reward" in remarks[2]
    little = scaled((0.1, 0.05, 0.15), no_message=(0.1, 0.05, 0.15))  # IC-Q was trained too little, which is no reason
    assert "largest immediate reward" not in judged(analyse(courier()), little, False)[1][2]


def test_bad_requests_are_refused_in_one_line():
    model = courier()
    env, params = tabular_env(model)
    budget = Budget(updates=1, copies=1, length=1, replicas=1)
    other, other_params = tabular_env(random_model(0, num_interfaces=5))
    for call, fragment in (
        (lambda: Budget(updates=0), "updates = 0"),
        (lambda: Budget(updates=1, explore="greedy"), "explore = 'greedy'"),
        (lambda: Budget(updates=1, epsilon_end=1.5), "epsilon_end = 1.5"),
        (lambda: compare(env, params, budget, methods=("random",)), "ic_q"),
        (lambda: compare(env, params, budget, methods=("ic_q", "magic")), "magic"),
        (lambda: compare(env, params, budget, budgets={"ic_q": Budget(updates=2)}), "budgets['ic_q']"),
        (lambda: prepared("ic_q", other, other_params, model, budget), "interfaces"),
        (lambda: parts_of("central"), "central"),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert fragment in str(caught.value) and "\n" not in str(caught.value)
