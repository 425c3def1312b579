"""Comparison of two tables: matching, noise, discoveries, exact rows, verdicts."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bound_validation.compare.comparison import (
    ABSOLUTE,
    CONSTANTS,
    EXACT,
    NOISY,
    RELATIVE,
    UNKNOWN,
    changed_verdicts,
    compare,
    differing,
    discoveries,
    relation,
)
from bound_validation.intervals import root_interval
from bound_validation.results import COLUMNS, Row, checked
from tests.bound_validation.synthetic_rows import full_rows

NAN, INF = float("nan"), math.inf


def row(**values: object) -> Row:
    defaults = {"axis": "gap", "cell": "gap/0", "series": "gap", "x_name": "eta", "x": 0.1, "measured": 1.0}
    return checked(Row(**{**defaults, **values}))  # type: ignore[arg-type]


def mean_row(draws: np.ndarray, **values: object) -> Row:
    """A row whose value is a mean with its t-interval."""
    mean, count = float(draws.mean()), len(draws)
    half = float(stats.t.ppf(0.975, count - 1) * draws.std(ddof=1) / np.sqrt(count))
    return row(measured=mean, ci_low=mean - half, ci_high=mean + half, replicas=count, series="return", **values)


def root_row(squares: np.ndarray, **values: object) -> Row:
    """A row whose value is a root mean square, as a validation run writes it."""
    value, low, high = root_interval(squares)
    return row(measured=value, ci_low=low, ci_high=high, replicas=len(squares), series="rmse", **values)


def only(a: Row, b: Row):
    """The pair of two tables of one row each."""
    (pair,) = compare([a], [b]).pairs
    return pair


# Noise


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [(2, 2), (4, 4), (8, 3), (64, 128)])
def test_means_are_compared_by_the_test_of_welch(seed, counts):
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(5.0, scale, count) for scale, count in zip((1.0, 2.0), counts, strict=True))
    expected = stats.ttest_ind(b, a, equal_var=False)
    pair = only(mean_row(a), mean_row(b))
    assert pair.kind == NOISY
    assert pair.z == pytest.approx(expected.statistic, rel=1e-9)
    assert pair.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert pair.difference / pair.noise == pytest.approx(pair.z) and pair.difference == b.mean() - a.mean()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("counts", [(2, 2), (8, 8), (16, 64)])
def test_roots_are_compared_by_the_test_of_welch_on_their_squares(seed, counts):
    rng = np.random.default_rng(seed)
    a, b = (scale * rng.chisquare(3, count) for scale, count in zip((1.0, 1.3), counts, strict=True))
    expected = stats.ttest_ind(b, a, equal_var=False)
    rows = root_row(a), root_row(b)
    pair = only(*rows)
    assert pair.z == pytest.approx(expected.statistic, rel=1e-9)
    assert pair.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert counts != (2, 2) or seed or min(one.ci_low for one in rows) == 0  # intervals cut off at 0 are among them


def test_a_mean_whose_interval_was_cut_off_at_zero_is_judged_more_strictly_never_less():
    whole = [row(measured=value, ci_low=value - 1.0, ci_high=value + 1.0, replicas=20) for value in (0.4, 4.0)]
    cut = [dataclasses.replace(one, ci_low=max(one.ci_low, 0.0)) for one in whole]
    assert abs(only(*cut).z) <= abs(only(*whole).z)


def test_an_asymmetric_interval_gives_the_side_that_faces_the_other_value():
    a = row(measured=-1.0, ci_low=-5.0, ci_high=0.0)
    b = row(measured=1.0, ci_low=0.0, ci_high=9.0)
    assert only(a, b).noise == pytest.approx(math.sqrt(2) / 1.959964, rel=1e-6)
    assert only(b, a).noise == only(a, b).noise and only(b, a).z == -only(a, b).z


def independent_runs(rng: np.random.Generator, rows: int) -> tuple[list[Row], list[Row]]:
    """Two runs of which nothing changed: means and roots, few replicas and many."""
    runs: tuple[list[Row], list[Row]] = ([], [])
    for index in range(rows):
        count, scale = int(rng.choice([4, 8, 32])), 10.0 ** float(rng.uniform(-2, 2))
        for run in runs:
            if index % 2:
                run.append(mean_row(scale * rng.normal(1.0, 0.3, count), cell=f"cell/{index}"))
            else:
                run.append(root_row(scale * rng.chisquare(40, count), cell=f"cell/{index}"))
    return runs


def test_of_runs_in_which_nothing_changed_at_most_one_in_twenty_reports_anything():
    rng, trials = np.random.default_rng(1), 100
    false = sum(compare(*independent_runs(rng, 20)).changed for _ in range(trials))
    # Fails by chance with probability 1e-6, if the rate is exactly 5 %.
    assert false <= stats.binom.isf(1e-6, trials, 0.05)


@pytest.mark.parametrize("shift", [1.0, 2.0, 3.5])
def test_a_shift_of_some_standard_errors_is_found_as_often_as_a_t_test_finds_it(shift):
    rng, trials, count = np.random.default_rng(2), 600, 40
    se = math.sqrt(2 / count)
    found = 0
    for _ in range(trials):
        a, b = rng.normal(0.0, 1.0, count), rng.normal(shift * se, 1.0, count)
        found += only(mean_row(a), mean_row(b)).differs
    freedom = 2 * count - 2
    critical = stats.t.ppf(0.975, freedom)
    power = stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift)
    # Four and a half standard errors of a proportion: fails by chance with probability 1e-5.
    assert abs(found / trials - power) <= 4.5 * math.sqrt(power * (1 - power) / trials) + 0.002


def test_shifts_among_many_rows_are_found_with_few_false_ones():
    rng = np.random.default_rng(3)
    false = reported = 0
    for _ in range(40):
        a, b = independent_runs(rng, 30)
        shifted = {one.cell for one in a[1::6]}  # five means
        b = [one if one.cell not in shifted else moved(one, 12) for one in b]
        cells = {pair.key.cell for pair in compare(a, b).pairs if pair.differs}
        reported, false = reported + len(cells), false + len(cells - shifted)
    assert reported - false >= 0.6 * 40 * 5  # with 4 replicas even 12 standard errors are not always enough
    assert false <= 0.12 * reported


def moved(one: Row, errors: float) -> Row:
    """A row with a symmetric interval, moved up by some of its standard errors."""
    by = errors * (one.ci_high - one.measured) / float(stats.t.ppf(0.975, one.replicas - 1))
    return dataclasses.replace(one, measured=one.measured + by, ci_low=one.ci_low + by, ci_high=one.ci_high + by)


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.001, 0.5))
@settings(deadline=None)
def test_discoveries_are_those_of_benjamini_and_hochberg(p_values, rate):
    found = discoveries(p_values, rate)
    count = len(p_values)
    admitted = [k for k in range(1, count + 1) if sorted(p_values)[k - 1] <= rate * k / count]
    limit = sorted(p_values)[max(admitted) - 1] if admitted else -1.0
    assert all(p <= limit for p, yes in zip(p_values, found, strict=True) if yes)
    assert found.sum() == max(admitted, default=0)


def test_discoveries_of_the_original_example():
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
         0.7590, 1.0000]  # fmt: skip
    assert discoveries(p, 0.05).tolist() == [True] * 4 + [False] * 11  # Benjamini, Hochberg 1995, section 4.1
    assert discoveries([], 0.05).tolist() == []


# Rows without noise


@pytest.mark.parametrize("value", [1e-3, 1.0, 1e4])
def test_an_exact_row_differs_beyond_rounding_only(value):
    a = row(measured=value)
    assert only(a, row(measured=value * (1 + 1e-6))).differs
    assert only(a, row(measured=value * (1 + 3 * RELATIVE) + ABSOLUTE)).differs
    assert not only(a, row(measured=value * (1 + RELATIVE / 3))).differs
    assert only(a, a).kind == EXACT and math.isnan(only(a, a).p)


def test_what_rounding_leaves_of_a_closed_gap_is_no_difference():
    assert not only(row(measured=5e-16), row(measured=7e-13)).differs
    assert only(row(measured=5e-16), row(measured=1e-8)).differs


def test_exact_rows_do_not_count_among_the_tests():
    noisy = [row(cell="n/0", measured=value, ci_low=value - 1, ci_high=value + 1) for value in (0.0, 1.9)]
    exact = [row(cell=f"e/{index}") for index in range(200)]
    pair = compare([noisy[0], *exact], [noisy[1], *exact]).pairs[0]
    assert 0.001 < pair.p < 0.05 and pair.differs


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_value_that_is_finite_in_one_run_only_differs(bad):
    good = row(measured=1.0, ci_low=0.9, ci_high=1.1, replicas=8)
    diverged = row(measured=bad, ci_low=NAN, ci_high=NAN, replicas=8)
    assert only(good, diverged).differs and only(diverged, good).differs
    assert not only(diverged, diverged).differs


def test_a_single_replica_is_shown_and_not_judged():
    pair = only(row(measured=1.0, replicas=1), row(measured=2.0, replicas=1))
    assert pair.kind == UNKNOWN and pair.difference == 1.0 and not pair.changed
    assert math.isnan(pair.noise) and math.isnan(pair.z)


def test_replicas_that_all_agree_are_exact():
    assert only(row(measured=1.0, replicas=4), row(measured=1.5, replicas=4)).differs
    noisy = row(measured=1.5, ci_low=1.0, ci_high=2.0, replicas=4)
    pair = only(row(measured=1.0, replicas=4), noisy)
    assert pair.kind == NOISY
    assert pair.noise == pytest.approx(0.5 / stats.t.ppf(0.975, 3)) and pair.p == pytest.approx(0.05)


# What else may change


def test_a_run_against_itself_changes_nothing():
    rows = [dataclasses.replace(one, cell=f"{one.axis}/{index}") for index, one in enumerate(full_rows())]
    found = compare(rows, rows)
    assert len(found.pairs) == len(rows) and not found.changed
    assert all(pair.same_bits for pair in found.pairs)
    assert {pair.kind for pair in found.pairs} == {EXACT, NOISY}


def test_rows_are_matched_by_cell_series_term_and_abscissa_whatever_their_order():
    rows = [row(cell=c, series=s, term=t, x=x, measured=i) for i, (c, s, t, x) in enumerate(
        [("a", "s", "", 1.0), ("b", "s", "", 1.0), ("a", "t", "", 1.0), ("a", "s", "total", 1.0), ("a", "s", "", 2.0)]
    )]  # fmt: skip
    found = compare(rows, rows[::-1])
    assert not found.changed and len(found.pairs) == 5
    missing = compare(rows, rows[1:])
    assert missing.only_a == (rows[0],) and missing.only_b == () and missing.changed
    assert compare(rows[1:], rows).only_b == (rows[0],)


def test_rows_without_an_abscissa_are_matched():
    rows = [row(cell=cell, x_name="", x=float("nan")) for cell in "ab"]
    found = compare(rows, [row(cell=cell, x_name="", x=-float("nan")) for cell in "ab"])
    assert len(found.pairs) == 2 and not found.changed


def test_two_rows_of_one_key_are_refused():
    with pytest.raises(ValueError, match=r"^B: two rows are gap/0 gap at x = 0.1, expected one$"):
        compare([row()], [row(), row(measured=3.0)])


def test_a_verdict_that_changed_is_reported_however_small_the_difference():
    a, b = (row(measured=1.0, ci_low=0.5, ci_high=1.5, bound=bound, replicas=9) for bound in (1.001, 0.999))
    pair = only(a, b)
    assert (a.holds, b.holds) == (1, 0)
    assert pair.holds_differs and pair.bound_differs and not pair.differs and pair.changed


def test_a_bound_that_appears_is_a_change():
    pair = only(row(bound=NAN), row(bound=3.0))
    assert pair.bound_differs and pair.holds_differs
    assert not only(row(bound=NAN), row(bound=NAN)).changed


def test_bounds_put_to_measured_values_are_judged_by_their_factor():
    a = row(series="fixed_point", bound=2.0, kappa=0.7)
    assert not only(a, row(series="fixed_point", bound=2.1, kappa=0.7)).changed
    assert only(a, row(series="fixed_point", bound=2.1, kappa=0.71)).constants == ("kappa",)
    assert only(a, row(series="fixed_point", kappa=0.7)).bound_differs
    assert only(row(series="projection", bound=2.0), row(series="projection", bound=2.1)).bound_differs


def test_constants_are_all_columns_that_belong_to_the_model():
    assert set(CONSTANTS) - {"certified"} == set(COLUMNS[COLUMNS.index("gamma") : COLUMNS.index("function_class")])
    for name in CONSTANTS:
        changed = row(**{name: False if name == "certified" else 0.5})
        assert only(row(), changed).constants == (name,)


def summary(**values: object) -> dict:
    claims = [verdict_of("gap_closed", True), verdict_of("reported", None)]
    return {"bound_holds": True, "slopes": {"gap": verdict_of("gap", True)}, "claims": claims, **values}


def verdict_of(name: str, passed: bool | None, undecided: bool = False) -> dict[str, object]:
    return {"name": name, "passed": passed, "undecided": undecided}


def test_verdicts_that_changed_are_listed_once_each():
    assert changed_verdicts(summary(), summary()) == []
    other = summary(
        bound_holds=False,
        slopes={"gap": verdict_of("gap", False)},
        claims=[verdict_of("reported", None, undecided=True)],
    )
    assert changed_verdicts(summary(), other) == [
        ("all bounds", "held", "violated"),
        ("slope gap", "passed", "failed"),
        ("claim gap_closed", "passed", None),
        ("claim reported", "not judged", "undecided"),
    ]


def test_differing_names_nested_entries():
    a = {"preset": "quick", "versions": {"jax": "1", "numpy": "2"}, "tasks": ["a"]}
    b = {"preset": "quick", "versions": {"jax": "1.1", "numpy": "2"}, "code": "x"}
    assert differing(a, b) == [("versions.jax", "1", "1.1"), ("tasks", ["a"], None), ("code", None, "x")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "equal"),
        ({"code": "other"}, "same seeds"),
        ({"device": {"platform": "gpu"}}, "same seeds"),
        ({"config": {"gap": {"replicas": 9, "seed": 12}, "many": [{"seed": 3}]}}, "same seeds"),
        ({"config": {"gap": {"replicas": 8, "seed": 12}, "many": [{"seed": 4}]}}, "independent"),
        ({"model_sha256": "1"}, "independent"),
        ({"config": {}}, "independent"),
    ],
)
def test_runs_with_the_same_seeds_are_not_taken_as_independent(changes, expected):
    config = {"gap": {"replicas": 8, "seed": 12}, "many": [{"seed": 3}]}
    manifest = {"schema": 2, "preset": "quick", "model": None, "code": "x", "config": config}
    assert relation(manifest, {**manifest, **changes}) == expected
    assert relation(manifest, None) == "independent"
