"""The workshop with given and with learned tools: exact ends, and what is made of two regimes."""

from __future__ import annotations

import numpy as np
import pytest

from icsmdp_jax.drawing import style
from icsmdp_jax.envs.workshop.lifted import lifted_workshop
from icsmdp_jax.exact.returns import Returns
from icsmdp_jax.experiments import workshop
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.regimes import POINTS, Regimes, regimes
from icsmdp_jax.experiments.result import Result


def test_both_regimes_in_one_figure_and_one_table():
    returns = np.stack([np.full((3, 4), 1.0), np.linspace(0.5, 1.6, 4) + 0.01 * np.arange(3)[:, None]])
    handoffs = np.broadcast_to([10, 20, 30, 40], (2, 3, 4))
    both = Regimes(returns, handoffs, np.full((2, 3), 40), (1.3, 1.8))
    given, learned = both.table().rows
    assert given[:2] == ["preconfigured", "as given"] and given[2].mean == 1.0 and given[3:] == [1.3, 40.0, 1.0]
    assert learned[:2] == ["adaptable", "learned"] and learned[2].mean == pytest.approx(1.61) and learned[3] == 1.8
    assert both.check() and not both._replace(oracles=(1.61, 1.8)).check()  # inside the interval
    with style.house_style():
        figure = both.figure()
    levels = [line.get_ydata()[0] for line in figure.axes[0].lines if len(set(line.get_xdata())) == 2]
    assert {1.3, 1.8} <= set(levels) and figure.get_figwidth() == style.COLUMN_WIDTH
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["IC-Q, preconfigured", "IC-Q, adaptable"]


def test_tools_that_are_kept_are_hidden_and_learned_ones_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiment without its training."""
    flat = np.ones((2, 2, 4))
    both = Regimes(flat * [[[1]], [[2]]], flat.astype(int), flat[:, :, 0].astype(int), (1.3, 1.8))
    monkeypatch.setattr(workshop, "regimes", lambda *given: both)
    monkeypatch.setattr(
        workshop, "compare", lambda env, params, budget, **more: Result("", "", {}, tables=more["tables"])
    )
    monkeypatch.setattr(workshop, "KEPT", (1.0,))
    result = workshop.run(Options("workshop", "quick"))
    given, kept = result.tables
    always = dict(zip(kept.columns, *kept.rows, strict=True))
    assert always[workshop.COLUMNS["epsilon"]] > 0 and [row[2].mean for row in given.rows] == [1, 2]
    assert result.exact["oracle_learned_tools"] == 1.8 and result.checks == {workshop.CHECK: True}


@pytest.mark.slow
def test_given_tools_stay_and_are_judged_as_the_listing_judges_them():
    env, params = lifted_workshop()
    found = regimes(env, params, Options("workshop", "testing"))
    known = Returns(env.exact_model(params))
    assert found.oracles[0] == pytest.approx(known.oracle, rel=1e-6) and found.oracles[1] > 1.1 * known.oracle
    assert found.returns.shape == found.handoffs.shape == (2, 2, POINTS)
    assert (found.returns[0] < known.oracle + 1e-6).all() and not np.array_equal(*found.returns)
    np.testing.assert_array_equal(found.scalars, found.handoffs[:, :, -1])
