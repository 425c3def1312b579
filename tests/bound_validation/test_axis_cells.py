"""Cells of single axes: what is analysed only, judged over a long grid, grouped, and claimed without A6."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from bound_validation.axes.agents import measure as agents
from bound_validation.axes.agents.spec import AgentsSpec
from bound_validation.axes.gap import measure as gap
from bound_validation.axes.gap.spec import GapSpec
from bound_validation.axes.mixing import measure as mixing
from bound_validation.axes.mixing.spec import MixingSpec
from bound_validation.axes.samples import measure as samples
from bound_validation.axes.samples.spec import COMPACT, SamplesSpec
from bound_validation.axes.total import measure as total
from bound_validation.axes.total.groups import group_means, grouped
from bound_validation.axes.total.spec import TotalSpec
from bound_validation.axes.width import measure as width
from bound_validation.axes.width.spec import WidthSpec
from bound_validation.axis import Settings
from bound_validation.cell import analysed
from bound_validation.results import Row
from bound_validation.tasks import TaskResult
from icsmdp_jax.envs.planted.model import PlantedConfig
from icsmdp_jax.exact.fixed_point import whiten


def test_a_model_that_is_analysed_only_says_so():
    config = PlantedConfig.small(num_agents=3, gap=0.2)
    spec = AgentsSpec((2,), 100, 4, SHORT, large=(config,))
    (found,) = [row for row in agents.large(spec, 0, lambda done: None).rows if row.series == "gap"]
    clock = analysed(config).clock(0.25)
    assert found.x == 3 and found.group == "analysed only" and found.replicas == 0
    assert f"between {clock:g} and {clock:g} handoffs" in found.note and "48 handoff states" in found.note


@pytest.mark.parametrize(("last", "fell"), [(0.03, True), (0.06, False)])
def test_a_long_grid_is_judged_on_sources_and_on_its_fall(last, fell):
    made = [
        Row("total", f"{k}", "total", "handoffs", k, value, ci_low=0.99 * value, ci_high=1.01 * value, samples=k)
        for k, value in ((100, 0.4), (6000, last))
    ]
    made += [Row("total", "6000", series, "handoffs", 6000, 1.0) for series in ("residual", "interface")]
    sources, fall = total.claims(made)
    assert sources.passed is False and sources.value == 1
    assert fall.passed is fell and fall.value == pytest.approx(0.4 / last) and fall.ci_low < fall.value < fall.ci_high


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_grouped_model_solves_the_projected_equation(groups):
    """Its Q_phi is Q_m of features that indicate the groups, and the group means are their projection (D7)."""
    known = analysed(COMPACT.replace(gap=0.2))
    joined, group = grouped(known, groups)
    owner = known.interface.model.interface_agent
    assert len(set(group)) == 3 * groups and all(len(set(owner[group == g])) == 1 for g in set(group))
    raw = np.zeros((len(group), groups))
    raw[np.arange(len(group)), group % groups] = 1.0
    linear = known.with_features(whiten(raw, known.interface))
    np.testing.assert_allclose(joined.q_phi_table[group], linear.fixed.q, atol=1e-9)
    projected = linear.operator(known.q_phi_table)
    np.testing.assert_allclose(group_means(known.interface, known.q_phi_table, group), projected, atol=1e-12)


def test_interfaces_whose_options_differ_are_not_grouped():
    with pytest.raises(ValueError, match="options or behaviour differ"):
        grouped(analysed(COMPACT.replace(behaviour="random")), 2)


def ignore(done: int) -> None:
    """No progress is shown."""


# Without A6

SHORT = PlantedConfig.small(duration_mean=2.0)  # kappa is above 1
ETAS = (0.0, 0.2)
FEW = Settings(chunk=100, resamples=20)
WITHOUT_A6 = {
    "width": lambda: width.measure(WidthSpec((2, 4), 3, SHORT), FEW, ignore),
    "gap/learned": lambda: gap.learned_error(GapSpec(ETAS, (0.1,), 200, 4, SHORT, SHORT), FEW, ignore),
    "samples/theorem": lambda: samples.bounds(
        SamplesSpec("tabular", "tabular", (200, 400), 8, (100, 200), 4, SHORT), FEW, ignore
    ),
    "mixing/limit": lambda: mixing.limit(MixingSpec((0.5,), 0.2, 400, 8, 200, 4, SHORT, SHORT), FEW, ignore),
    "mixing/theorem": lambda: mixing.bounds(MixingSpec((0.5,), 0.2, 400, 8, 200, 4, SHORT, SHORT), FEW, ignore),
    "agents": lambda: agents.bounds(AgentsSpec((2,), 100, 4, SHORT), FEW, 2, ignore),
    "total": lambda: total.measure(TotalSpec((2,), ETAS, (100,), 4, SHORT.replace(num_agents=2)), 2, ignore),
}
NEEDS_A6 = {"fixed_point", "icq_error", "constant_step", "decaying_step", "approximation", "total"}


@cache
def without_a6(name: str) -> TaskResult:
    return WITHOUT_A6[name]()


@pytest.mark.parametrize("name", WITHOUT_A6)
def test_without_a6_nothing_that_needs_it_is_claimed(name):
    result = without_a6(name)
    assert analysed(SHORT).kappa > 1
    assert result.rows
    for row in result.rows:
        assert row.certified is False and row.kappa >= 1, row
        assert math.isfinite(row.measured), row
        if row.series in NEEDS_A6:
            assert math.isnan(row.bound) and row.holds == -1 and math.isnan(row.ratio), row
    back = TaskResult.from_plain(result.plain())
    assert [r.holds for r in back.rows] == [r.holds for r in result.rows]


def test_without_a6_what_does_not_need_it_is_still_claimed():
    total_rows = [r for r in without_a6("total").rows if r.series in ("interface", "residual")]  # T1.1 and B
    projection = [r for r in without_a6("width").rows if r.series == "projection"]
    assert len(total_rows) == 4 and projection
    assert {r.holds for r in total_rows + projection} == {1}
    assert any(claim.name == "width_a6" and claim.passed is None for claim in without_a6("width").claims)


def test_without_a6_no_decaying_step_is_run():
    """Its step is made of 1 - kappa."""
    assert {r.series for r in without_a6("samples/theorem").rows} == {"constant_step"}
