"""Experiments whose learner is replaced by the exact solution: tables and figures then show what is exact.

IC-Q that has found ``Q_phi`` earns what the exact greedy policy of ``Q_phi`` does, so every column and line about the
learner has to repeat an exact one. Nothing is trained; the experiments themselves are run by slow tests.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from icsmdp_jax.drawing import style
from icsmdp_jax.drawing.training import AgentRecord
from icsmdp_jax.envs.cpu_sort import cpu_sort, machine
from icsmdp_jax.exact.returns import Interval, Returns
from icsmdp_jax.experiments import (
    caching,
    communication,
    descriptors,
    experts,
    federated,
    mathematics,
    sorting,
)
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.communication import WORDS
from icsmdp_jax.experiments.result import Result, Table, exactly
from icsmdp_jax.experiments.sorting_runs import Team, Written
from icsmdp_jax.experiments.totals import GREEDY, LEARNED, ORACLE
from icsmdp_jax.experiments.training import Budget

REPLICAS = 2


def exact_tables(name: str, env: Any, settings: Any, model: Any, budget: Budget, seed: int = 0) -> np.ndarray:
    """Instead of ``train_at``: ``Q_phi`` of every setting, the same in all replicas."""
    found = [Returns(env.exact_model(setting)).q_phi.q for setting in settings]
    return np.repeat(np.stack(found)[:, None], REPLICAS, axis=1)


def handed_on(env: Any, params: Any, budget: Budget, **given: Any) -> Result:
    """Instead of ``compare``: what an experiment adds to it, and nothing else."""
    kept = {name: given[name] for name in ("metric", "tables", "figures", "remarks") if name in given}
    return Result("stand-in", **{"metric": "", "methods": {"ic_q": exactly(1.0, budget.replicas)}, **kept})


@pytest.fixture(autouse=True)
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (caching, experts, federated, mathematics):
        monkeypatch.setattr(module, "compare", handed_on)
    for module in (experts, federated, mathematics):
        monkeypatch.setattr(module, "train_at", exact_tables)


def table(result: Result, name: str) -> Table:
    (found,) = [one for one in result.tables if one.name == name]
    return found


def column(found: Table, heading: str) -> list[Any]:
    (at,) = [index for index, text in enumerate(found.columns) if text == heading]
    cells = [row[at] for row in found.rows]
    return [cell.mean if isinstance(cell, Interval) else cell for cell in cells]


def lines(axes: Any) -> dict[str, np.ndarray]:
    """``[n, 2]`` points of every labelled line, those with error bars included."""
    found = {line.get_label(): line.get_xydata() for line in axes.lines}
    return found | {bars.get_label(): bars.lines[0].get_xydata() for bars in axes.containers}


def test_semantic_caching(monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(caching.semantic_cache, points=8)
    exact_q = [Returns(env.exact_model(params)).q_phi.q for env, params in (small(radius=r) for r in caching.RADII)]
    monkeypatch.setattr(caching, "semantic_cache", small)
    monkeypatch.setattr(caching, "train_at", lambda *given: np.stack([[q] * REPLICAS for q in exact_q]))
    result = caching.run(Options("semantic-cache", "testing"))
    radius, reference = table(result, "radius"), table(result, "reference")
    assert column(radius, "difference") == pytest.approx([0] * 5, abs=1e-9)
    exact = column(radius, "greedy policy of Q_phi (normalised, exact)")
    assert column(radius, "IC-Q (normalised)") == pytest.approx(exact)
    gap, bound = column(radius, "interface gap (reward units)"), column(radius, "its bound (T1)")
    assert exact[0] == pytest.approx(1) and gap[0] < 1e-9 < max(gap) and np.less_equal(gap, np.add(bound, 1e-9)).all()
    assert column(radius, "cells") == [8, 8, 8, 7, 6]
    left, right = result.figures["radius"]().axes
    np.testing.assert_allclose(lines(left)[r"exact $Q_\phi$, greedy"][:, 1], 1 - np.array(exact))
    np.testing.assert_allclose(lines(left)["IC-Q, mean over runs, 95 % interval"][:, 1], 1 - np.array(exact), atol=1e-9)
    np.testing.assert_allclose(lines(right)[r"T1's bound on $|Q_\phi - Q^*|$"][:, 1], bound)
    online = [row for row in reference.rows if row[0].startswith("online")]
    assert online[-1][1] == 200 and [row[2].mean for row in online] == sorted(row[2].mean for row in online)
    drawn = lines(result.figures["regret"]().axes[0])
    (mean,) = [points for label, points in drawn.items() if label.startswith("mean")]
    np.testing.assert_allclose(mean, [[row[1], row[2].mean] for row in online])
    assert "by at most 0.0000" in result.remarks[0] and {*result.checks.values()} == {None}


def test_expert_routing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "WEIGHTS", (0.1, 30.0, 3.0))
    result = experts.run(Options("expert-routing", "testing"))
    frontier, metrics = table(result, "frontier"), table(result, "metrics")
    for unit in ("accuracy (%)", "dollars per 1000"):
        assert column(frontier, f"IC-Q: {unit}") == pytest.approx(column(frontier, f"Q_phi greedy: {unit}"))
    spent = column(frontier, "oracle: dollars per 1000")
    assert spent[0] > spent[2] > spent[1]
    by_policy = {row[0]: row[1:] for row in metrics.rows}
    assert by_policy[LEARNED] == pytest.approx(by_policy[GREEDY]) and by_policy[ORACLE] != by_policy[GREEDY]
    axes = result.figures["frontier"]().axes[0]
    np.testing.assert_allclose(lines(axes)["IC-Q"], lines(axes)[r"exact $Q_\phi$, greedy"])
    shares = [[text.get_text() for text in panel.texts] for panel in result.figures["who_answers"]().axes]
    assert shares[0] != shares[1] and len(shares[0]) == 30 and sum(text.endswith("*") for text in shares[0]) == 6
    assert len(result.remarks) == len([line for line in result.remarks if line]) > 1


def test_federated_routing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COVERAGES": (2, 5), "WEIGHTS": (1.0, 10.0), "SIZES": (50,), "STEPS": 3}.items():
        monkeypatch.setattr(federated, name, value)
    result = federated.run(Options("federated-routing", "testing"))
    coverage, frontier = table(result, "coverage"), table(result, "frontier")
    oracle = column(coverage, "exact oracle within coverage")
    assert column(coverage, "IC-Q") == pytest.approx(oracle, abs=1e-6) and oracle[0] < oracle[1]
    for family, text in federated.FAMILIES.items():
        names = [federated.NAMES[f"{family}_{way}"] for way in ("federated", "local")]
        gain = np.subtract(*(column(coverage, name) for name in names))
        assert column(coverage, f"{text}: federated less local") == pytest.approx(gain)
    dollars = dict(zip([row[1] for row in frontier.rows], column(frontier, "dollars per 1000 queries"), strict=False))
    assert dollars["IC-Q"] == pytest.approx(dollars["exact oracle"], rel=1e-6)
    left, right = result.figures["coverage"]().axes
    np.testing.assert_allclose(lines(left)["exact oracle within coverage"][:, 1], oracle)
    assert [len(panel.lines) for panel in result.figures["frontier"]().axes] == [5, 5]
    assert result.normalised["best_router"].mean > max(
        value.mean for name, value in result.normalised.items() if name != "best_router"
    )
    assert column(table(result, "sizes"), "evaluations") == [50]


def test_mathematics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics, "NOISES", (0.0, 0.3))
    monkeypatch.setattr(mathematics, "DEFAULT", 1)
    result = mathematics.run(Options("math-pipeline", "testing"))
    noise = table(result, "noise")
    assert column(noise, "IC-Q") == pytest.approx(column(noise, "exact Q_phi, greedy"))
    oracle = column(noise, "exact oracle")
    assert np.less_equal(column(noise, "IC-Q"), np.add(oracle, 1e-9)).all()
    by_policy = {row[0]: row[1:] for row in table(result, "metrics").rows}
    assert by_policy[LEARNED] == pytest.approx(by_policy[GREEDY])
    axes = result.figures["noise"]().axes[0]
    np.testing.assert_allclose(lines(axes)["exact oracle"][:, 1], oracle)
    best = max(column(table(result, "references"), "return (reward units)"))
    assert f"and returns {best:.4f}" in result.remarks[1] and "is better outside" in result.remarks[1]


def test_segment_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "prepared", lambda name, env, params, model, budget: Returns(model).q_phi.q)
    monkeypatch.setattr(
        descriptors, "train", lambda q, budget, seed: SimpleNamespace(tables=np.stack([q] * budget.replicas))
    )
    result = descriptors.run(Options("segment-descriptors", "testing"))
    sensing = table(result, "sensing")
    exact = column(sensing, "the same, greedy policy of Q_phi")
    assert column(sensing, "normalised return") == pytest.approx(exact) and exact[-1] == pytest.approx(1)
    assert result.methods["exact_oracle"].mean > result.methods["random"].mean
    moved = table(result, "transfer")
    watched = [row for row in moved.rows if isinstance(row[0], int)]
    panels = result.figures["transfer"]().axes
    for axes, at in zip(panels, (3, 1), strict=True):
        np.testing.assert_allclose(lines(axes)["composed descriptors"], [[row[0], row[at].mean] for row in watched])
    assert moved.rows[0][3] == 0 and {*result.checks.values()} == {None}


def rows_of(**values: float) -> Any:
    known = {what: Interval(x, x - 0.1, x + 0.1, 4) for what, x in {**dict.fromkeys(WORDS, 0.5), **values}.items()}
    twice = {what: Interval(*(2 * part for part in one[:3]), 4) for what, one in known.items()}
    return communication.Row(twice, known, {what: index for index, what in enumerate(WORDS)})


def test_communication(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter([rows_of(no_message=0.1), rows_of(no_message=0.3)])
    monkeypatch.setattr(communication, "FEW", ("planted", "eval-opt"))
    monkeypatch.setattr(communication, "measured", lambda model, budget, seed: next(made))
    result = communication.run(Options("communication", "testing"))
    assert result.methods["no_message"].mean == pytest.approx(0.2) and list(result.methods) == list(WORDS)
    for name, times in (("normalised", 1), ("return", 2)):
        found = table(result, name)
        assert column(found, "environment") == ["planted", "eval-opt"]
        assert column(found, WORDS["no_message"]) == pytest.approx([0.1 * times, 0.3 * times])
    assert [row[1:-1] for row in table(result, "bits").rows] == [list(range(len(WORDS)))] * 2
    with style.house_style():
        figure = result.figures["bits"]()
    drawn = [axes.containers[0].lines[0].get_ydata() for axes in figure.axes]
    assert [points[list(WORDS).index("no_message")] for points in drawn] == pytest.approx([0.1, 0.3])


def test_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run has found ``Q_phi`` and writes the same shortest program; random ones write none."""
    program = np.full((REPLICAS, 9), -1)
    program[:, :4] = 4, 6, 15, 18
    written = Written(np.ones(REPLICAS, bool), np.full(REPLICAS, 4), np.ones(REPLICAS), program)
    agents = AgentRecord(np.ones((REPLICAS, 3, 4)), np.ones((REPLICAS, 3, 4)))

    def trained(method: str, num_values: int, budget: Budget, seed: int) -> Team:
        q = Returns(sorting.unshaped(*cpu_sort(num_values, sees_all=method == sorting.CENTRAL))).q_phi.q
        return Team(np.stack([q] * REPLICAS), written, 1.0, np.ones((REPLICAS, 3), bool), np.arange(3), agents)

    monkeypatch.setattr(sorting, "trained", trained)
    monkeypatch.setattr(sorting, "random_workflow", lambda n, count, seed: written._replace(correct=~written.correct))
    result = sorting.run(Options("cpu-sort2", "quick"))
    assert (result.exact["optimal_length"], result.exact["optimal_programs"]) == (4, 8)
    assert (result.methods["ic_q"].mean, result.methods["random"].mean) == (1, 0)
    assert result.normalised["ic_q"].mean == result.normalised["central_learner"].mean == pytest.approx(1)
    assert next(value for name, value in result.checks.items() if "optimal length" in name)
    text = ["mov s r1", "cmp r1 r2", "cmovg r1 r2", "cmovg r2 s"]
    assert column(table(result, "program"), "instruction") == text
    assert [row[1:4] for row in table(result, "lengths").rows][-1][1].mean == 0
    drawn = [line.get_xydata().tolist() for line in result.figures["training"]().axes[0].lines]
    assert drawn.count([[0, 1], [1, 1], [2, 1]]) >= len(sorting.METHODS)
    assert {*machine.NAMES} <= {one.get_text() for one in result.figures["handoffs"]().axes[0].texts}
    assert [one.get_text() for one in result.figures["agents"]().axes[0].get_yticklabels()] == list(machine.NAMES)
