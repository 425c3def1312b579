"""The comparison that ``compare_methods`` returns, from outcomes made by hand: its rows, its table and its curves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from icsmdp_jax.exact.returns import Interval
from icsmdp_jax.experiments.methods import MethodComparison
from icsmdp_jax.learner.curves import Evaluation
from icsmdp_jax.learner.methods import METHODS


def outcome(method: str, mean: float, scalars: float, exact: bool) -> Any:
    """Two seeds, a curve of two points that ends at ``mean``; random is worth 1, the oracle 3."""
    value = Interval(mean, mean - 0.25, mean + 0.25, 2)
    scaled = Interval(*((part - 1) / 2 for part in value[:3]), 2) if exact else None
    return SimpleNamespace(
        setup=SimpleNamespace(method=METHODS[method], scalars_per_handoff=lambda: scalars),
        evaluation=Evaluation(value, scaled, 1.0, 3.0 if exact else None, 0.0),
        curves=SimpleNamespace(returns=np.array([[1.0, mean - 0.1], [1.0, mean + 0.1]])),
    )


def compared(exact: bool) -> MethodComparison:
    outcomes = {"ic_q": outcome("ic_q", 2.5, 1.0, exact), "central": outcome("central", 2.75, np.nan, exact)}
    return MethodComparison("here", outcomes, np.array([40, 80]))


def test_rows_and_table() -> None:
    found = compared(True)
    first, second = found.rows()
    assert first == {
        "method": "ic_q", "return": 2.5, "ci_low": 2.25, "ci_high": 2.75, "normalised": 0.75,
        "scalars_per_handoff": 1.0, "seeds": 2,
    }  # fmt: skip
    assert second["normalised"] == 0.875 and second["scalars_per_handoff"] == "whole state"
    assert repr(found) == "MethodComparison(here: ic_q 2.5, central 2.75)"
    title, *table = str(found).splitlines()
    assert title == "here: 80 handoffs for each of 2 seeds"
    assert table[1].split() == ["IC-Q", "2.5", "[2.25,", "2.75]", "0.750", "1", "scalar"]
    assert table[3].split() == ["random", "workflow", "1", "0"]
    assert table[4].split() == ["oracle", "(full", "state)", "3", "1"]
    assert found._repr_html_().count("<tr>") == 5


def test_without_an_exact_model_nothing_is_on_the_scale() -> None:
    found = compared(False)
    assert [row["normalised"] for row in found.rows()] == [None, None]
    assert str(found).splitlines()[-1].split() == ["random", "workflow", "1"]


@pytest.mark.parametrize("exact", [True, False])
def test_curves(exact: bool) -> None:
    axes = compared(exact).figure(y_label="reward").axes[0]
    curves = [line.get_xydata() for line in axes.lines if line.get_xydata()[:, 0].tolist() == [40, 80]]
    ends = {round(float(points[-1, 1]), 6) for points in curves}
    assert {2.5, 2.75} <= ends and axes.get_ylabel() == "reward"
    assert ("oracle" in {text.get_text() for text in axes.texts}) is exact
