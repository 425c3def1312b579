"""Ticks of axes, and curves, fits and shares made of rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bound_validation.drawing.curves import fitted, line, same_line
from bound_validation.drawing.panels import dress, thinned, tick_at, tick_texts, ticks_of
from bound_validation.results import Row
from bound_validation.views import PARTS, Fit, fit_of, normalised, shares
from icsmdp_jax.drawing import style
from tests.bound_validation.synthetic_rows import full_rows, uncertified

ROWS = full_rows()


@settings(deadline=None, max_examples=200)
@given(st.floats(-8, 8), st.floats(0.05, 9))
def test_ticks_are_few_round_and_inside(power, decades):
    low, high = 10.0**power, 10.0 ** (power + decades)
    major, minor = ticks_of(low, high)
    assert 2 <= len(major) <= 9 and major == sorted(major)
    assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in major + minor)
    assert all(float(f"{tick:.4g}") == pytest.approx(tick) for tick in major), "a tick that is not round"


def test_ticks_at_points_keep_zero_and_the_largest_and_never_touch():
    with style.house_style():
        axes = style.new_figure(2.3, 2).subplots()
        values = np.append(0.0, np.geomspace(0.01, 1.0, 21).round(3))
        dress(axes, "x", values)
        tick_at(axes, values)
        axes.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.get_xticklabels()]
    assert {0.0, 1.0} <= set(axes.get_xticks()) <= set(values) and 4 <= len(boxes) < 21
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert tick_texts([0.0, 1.0, 1e4]) == ["0", "1", "$10^{4}$"] and tick_texts([0.05, 0.1]) == ["0.05", "0.1"]


def test_thinned_keeps_the_largest():
    assert len(thinned(np.arange(20.0), 7)) <= 7 and thinned(np.arange(20.0), 7)[-1] == 19.0
    assert thinned([3.0, 1.0, 3.0], 5) == [1.0, 3.0]


def test_fit_goes_through_the_data_with_its_slope():
    rows = [Row("width", "", "projection", "m", m, 3.0 * m**-0.7) for m in (2.0, 8.0, 32.0)]
    (curve,) = fitted(rows, Fit(-0.7, -0.75, -0.65))
    np.testing.assert_allclose(curve.y, 3.0 * curve.x**-0.7)
    assert curve.label == "slope \N{MINUS SIGN}0.70 [\N{MINUS SIGN}0.75, \N{MINUS SIGN}0.65]"
    assert fitted(rows[:1], Fit(-0.7, -0.75, -0.65)) == [] and fitted(rows, None) == []
    assert fit_of({"slopes": {"gap": {"slope": None}}}, "gap") is None
    assert math.isnan(fit_of({"slopes": {"gap": {"slope": 1.0, "ci_low": None, "ci_high": None}}}, "gap").low)


def test_same_line_needs_agreement_everywhere():
    first = line([Row("w", "", "s", "m", x, 1.0, bound=2.0 / x) for x in (1.0, 2.0)], "bound")
    second = line([Row("w", "", "s", "m", x, 1.0, prediction=2.0 / x) for x in (1.0, 2.0)], "prediction")
    longer = line([Row("w", "", "s", "m", x, 1.0, prediction=2.0 / x) for x in (1.0, 2.0, 3.0)], "prediction")
    assert same_line(first, second) and not same_line(first, longer) and not same_line(first, [])


def test_shares_sum_to_one_and_name_the_largest():
    cells = shares(full_rows())
    assert len(cells) == 36
    for cell in cells:
        assert sum(normalised(cell.measured)) == pytest.approx(1.0)
        assert cell.measured[PARTS.index(cell.dominant)] == max(cell.measured)
    assert all(cell.measured[2] == 0 for cell in cells if cell.gap == 0), "rounding noise owns no share"
    assert {cell.dominant_bound for cell in shares(uncertified(ROWS, "total"))} == {None}
    assert all(math.isnan(share) for share in normalised((0.0, 0.0, 0.0)))
