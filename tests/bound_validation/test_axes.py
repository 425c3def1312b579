"""The axes: every row of a real testing run against the theory it stands beside."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bound_validation import theorem
from bound_validation.axes.audit import measure as audit
from bound_validation.axes.durations import measure as durations
from bound_validation.axes.durations.spec import LAWS
from bound_validation.axes.samples import measure as samples
from bound_validation.axes.samples.spec import SCHEDULES
from bound_validation.axes.total import measure as total
from bound_validation.bounds import classic_bound, poisson_bound
from bound_validation.cell import analysed
from bound_validation.certificates import forecast
from bound_validation.results import Row, read_table
from icsmdp_jax.envs.planted.model import planted_model, sharp_family
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.poisson import linear_bounds, poisson_constants
from tests.bound_validation.runs import preset, shared_run

TESTING = preset("testing")
TERM_OF = {
    ("width", "approximant"): "", ("width", "projection"): "approximation", ("width", "fixed_point"): "approximation",
    ("width", "trained"): "", ("width", "trained_bias"): "", ("width", "trained_spread"): "",
    ("gap", "gap"): "interface", ("gap", "gap_value_aware"): "interface", ("gap", "gap_mass_span"): "interface",
    ("gap", "policy_loss"): "interface", ("gap", "icq_error"): "total", ("gap", "sharp_family"): "interface",
    ("samples", "spread"): "", ("samples", "bias"): "", ("samples", "rmse"): "",
    ("samples", "constant_step"): "residual", ("samples", "decaying_step"): "residual",
    ("samples", "constant_plain"): "residual", ("samples", "polynomial_plain"): "residual",
    ("samples", "harmonic_plain"): "residual",
    ("mixing", "spread"): "", ("mixing", "constant_step"): "residual",
    ("durations", "amplification"): "interface", ("durations", "contraction"): "",
    ("durations", "planted_ratio"): "interface",
    ("agents", "gap"): "interface", ("agents", "policy_loss"): "interface", ("agents", "spread"): "",
    ("agents", "constant_step"): "residual",
    ("audit", "error"): "residual", ("audit", "certificate_over_error"): "", ("audit", "largest_missed"): "",
    ("audit", "miss_batch_means"): "", ("audit", "miss_random_scaling"): "",
    ("total", "total"): "total", ("total", "residual"): "residual", ("total", "approximation"): "approximation",
    ("total", "interface"): "interface",
    ("returns", "reference"): "", ("returns", "return"): "", ("returns", "crossing"): "", ("returns", "gap_loss"): "",
    ("returns", "gap_loss_exact"): "interface",
    ("messages", "return"): "", ("messages", "shift"): "", ("messages", "clean_error"): "",
    ("neural", "projected_net"): "residual", ("neural", "total"): "total", ("neural", "approximation"): "approximation",
    ("neural", "linearisation_seen"): "", ("neural", "part_linearisation"): "", ("neural", "part_hidden"): "",
    ("neural", "part_sampling"): "", ("neural", "floor"): "", ("neural", "frobenius_floor"): "",
}  # fmt: skip
UNBOUNDED = {("width", "approximant"), ("width", "trained"), ("width", "trained_bias"), ("width", "trained_spread"),
             ("samples", "spread"), ("samples", "bias"), ("samples", "rmse"),
             ("mixing", "spread"), ("agents", "spread"), ("audit", "certificate_over_error"),
             ("audit", "largest_missed"), ("audit", "miss_batch_means"), ("audit", "miss_random_scaling"),
             ("returns", "reference"), ("returns", "return"), ("returns", "crossing"), ("returns", "gap_loss"),
             ("messages", "return"), ("messages", "clean_error"),
             ("messages", "shift"),
             ("neural", "part_linearisation"), ("neural", "part_hidden"), ("neural", "part_sampling"),
             ("neural", "floor"), ("neural", "frobenius_floor")}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[Row]:
    """The table of a run of the testing preset."""
    place, _ = shared_run(Path(tmp_path_factory.getbasetemp()))
    return read_table(place / "results.parquet")


def of(rows: list[Row], axis: str, series: str, **values: object) -> list[Row]:
    found = [r for r in rows if (r.axis, r.series) == (axis, series)]
    found = [r for r in found if all(getattr(r, name) == value for name, value in values.items())]
    assert found, (axis, series, values)
    return found


# The testing preset, row by row


def test_every_series_is_there_with_its_term(rows):
    assert {(r.axis, r.series): r.term for r in rows if not predicted_only(r)} == TERM_OF
    assert {r.term for r in rows if predicted_only(r)} == {""}


def predicted_only(row: Row) -> bool:
    """Plain runs of a linear class have a prediction and no bound."""
    return row.series.endswith("_plain") and row.width > 0


def test_every_bound_holds_and_none_is_missing(rows):
    assert [(r.cell, r.series) for r in rows if r.holds == 0] == []
    unjudged = {(r.axis, r.series) for r in rows if r.holds == -1 and not predicted_only(r)}
    assert unjudged == UNBOUNDED  # A6 is certified throughout the preset
    assert all(math.isfinite(r.bound) and r.measured <= r.bound + 1e-6 for r in rows if r.holds == 1)


def test_cells_and_series_name_a_row(rows):
    names = [(r.cell, r.series) for r in rows]
    assert len(set(names)) == len(names)


def test_every_row_is_a_number_with_an_interval(rows):
    for r in rows:
        assert math.isfinite(r.measured) and math.isfinite(r.x)
        assert r.ci_high >= r.measured - 1e-12, r
        if r.axis not in ("returns", "messages"):  # a return may be below that of the random workflow
            assert r.measured >= 0 and r.ci_low >= 0, r
        assert r.ci_low <= r.measured + 1e-12, r
        if r.replicas == 0:
            assert r.ci_low == r.measured == r.ci_high
        assert 0 <= r.tail_samples <= r.samples


def test_certificates_are_those_of_the_models(rows):
    for r in rows:
        if math.isfinite(r.kappa):
            assert r.certified == (r.kappa < 1)


def test_width_axis(rows):
    spec = TESTING.width
    planted = planted_model(spec.model)
    for index, m in enumerate(spec.widths):
        rate = planted.width_constant / m**0.5
        (near,) = of(rows, "width", "projection", cell=f"width/{index}")
        (fixed,) = of(rows, "width", "fixed_point", cell=f"width/{index}")
        (drawn,) = of(rows, "width", "approximant", cell=f"width/{index}")
        assert {near.x, fixed.x, drawn.x} == {m} and near.width == m and near.replicas == spec.draws
        assert drawn.prediction == pytest.approx(rate) and near.bound == pytest.approx(rate)
        contraction = (1 - near.kappa**2) ** 0.5
        assert fixed.bound == pytest.approx(near.measured / contraction)
        assert fixed.alternative == pytest.approx(rate / contraction)
        assert near.measured < drawn.measured  # a projection is the best of its class
        assert near.measured <= fixed.measured + 1e-12


def test_gap_axis_repeats_the_exact_analysis(rows):
    for index, eta in enumerate(TESTING.gap.gaps):
        planted = planted_model(TESTING.gap.model.replace(gap=eta))
        table = analyse(planted.model, planted.behaviour).table()
        for series, measured, bound in (
            ("gap", "interface_gap", "interface_bound"),
            ("gap_value_aware", "interface_gap", "interface_bound_value_aware"),
            ("gap_mass_span", "interface_gap", "interface_bound_mass_span"),
            ("policy_loss", "policy_loss", "policy_loss_bound"),
        ):
            (row,) = of(rows, "gap", series, cell=f"gap/{index}")
            assert row.x == row.gap == eta
            assert row.measured == pytest.approx(table[measured], abs=1e-9)
            assert row.bound == pytest.approx(table[bound], rel=1e-9, abs=1e-9)
            for name in ("gamma_bar", "epsilon", "delta", "kappa", "omega", "clt_coefficient"):
                assert getattr(row, name) == pytest.approx(table[name], rel=1e-9, abs=1e-9), name
        if eta > 0:  # at 0 all three are rounding noise
            three = [of(rows, "gap", s, x=eta)[0].bound for s in ("gap_value_aware", "gap_mass_span", "gap")]
            assert three == sorted(three)


def test_learned_error_keeps_the_gap_as_its_floor(rows):
    spec = TESTING.gap
    for index, eta in enumerate(spec.gaps):
        (row,) = of(rows, "gap", "icq_error", cell=f"gap/learned/{index}")
        known = analysed(spec.finite_model.replace(gap=eta))
        assert row.x == eta and row.alternative == pytest.approx(known.gap.gap, abs=1e-12)
        residual = row.bound - known.gap.bound_value_aware
        assert residual == pytest.approx(poisson(row, row.samples, known), rel=1e-9)
        assert row.samples == row.tail_samples == spec.samples and row.replicas == spec.replicas
        weight = known.interface.chain.stationary[:, None] / known.interface.model.num_options
        assert row.trivial == pytest.approx(float((weight * known.q_star.q**2).sum()) ** 0.5, rel=1e-12)


def classic(row: Row, samples: int, known: Analysis) -> float:
    """Root of T3 from a row's own constants; for tables ``theta*`` is ``Q_phi`` on available pairs."""
    distance = np.linalg.norm(np.where(known.interface.mask, known.q_phi.q, 0.0))
    gradient = row.reward_max + 2 * row.radius
    square = theorem.residual_bound_constant_step(distance, gradient, known.clock(samples**-0.5), row.kappa, samples)
    return theorem.residual_rms(square)


def poisson(row: Row, samples: int, known: Analysis) -> float:
    """Root of T3+ from a row's own constants."""
    distance = np.linalg.norm(np.where(known.interface.mask, known.q_phi.q, 0.0))
    found = poisson_constants(known.interface, linear_bounds(known.interface, row.radius))
    square = distance**2 * samples**-0.5 / 2 + (found.gradient_square / 2 + found.drift) * samples**-0.5
    return float(((square + found.boundary / samples) / (1 - row.kappa)) ** 0.5)


def test_sharp_family_meets_its_closed_form(rows):
    spec = TESTING.gap
    for row, flip in zip(of(rows, "gap", "sharp_family"), spec.flips, strict=True):
        assert row.x == flip and row.group == "sharp"
        model = sharp_family(flip_probability=flip, gamma=spec.model.gamma, duration_mean=spec.model.duration_mean)
        modulus = float((np.asarray(model.duration)[0, 0] * model.gamma ** np.arange(1, 65)).sum())
        assert row.prediction == pytest.approx(1 / (1 - modulus * (1 - 2 * flip)), rel=1e-9)
        assert row.measured == pytest.approx(row.prediction, rel=1e-9)
        assert row.bound == pytest.approx(1 / (1 - modulus), rel=1e-9)
        # One bit that is copied with probability 1 - p: the distance to uniform halves with (1 - 2p)^t.
        assert row.mixing_time == max(1, math.ceil(math.log(0.5) / math.log(1 - 2 * flip)))


def test_samples_axis_draws_the_central_limit(rows):
    for spec in TESTING.samples.limits:
        known = samples.known_of(spec)
        for k in spec.limit_samples:
            (row,) = of(rows, "samples", "spread", group=spec.label, x=k)
            assert row.samples == k and row.tail_samples == k - k // 2
            assert row.clt_coefficient == pytest.approx(known.limit.coefficient, rel=1e-9)
            assert row.prediction == pytest.approx(row.clt_coefficient / row.tail_samples**0.5, rel=1e-12)
            assert row.alternative == pytest.approx(row.clt_coefficient_iid / row.tail_samples**0.5, rel=1e-12)
            (bias,) = of(rows, "samples", "bias", group=spec.label, x=k)
            (rmse,) = of(rows, "samples", "rmse", group=spec.label, x=k)
            # rmse^2 is over B replicas, spread^2 over B - 1, and the debiased bias^2 gives back spread^2 / B.
            if bias.measured > 0:
                assert rmse.measured**2 == pytest.approx(row.measured**2 + bias.measured**2, rel=1e-9)


def test_projected_runs_are_checked_against_the_better_bound(rows):
    for spec in TESTING.samples.projected:
        known = samples.known_of(spec)
        trivial = known.interface.norm(known.fixed.q)
        for k in spec.theorem_samples:
            for series in ("constant_step", "decaying_step"):
                (row,) = of(rows, "samples", series, group=spec.label, x=k)
                old, new = (f(known, k, series == "decaying_step") for f in (classic_bound, poisson_bound))
                assert row.bound == pytest.approx(min(old, new), rel=1e-9) and row.alternative == pytest.approx(old)
                assert row.samples == row.tail_samples == k and row.trivial == pytest.approx(trivial, rel=1e-12)
                if spec.width == 0 and series == "constant_step":
                    assert (old, new) == pytest.approx((classic(row, k, known), poisson(row, k, known)), rel=1e-9)
                    assert new < old / 4


def test_plain_runs_stand_beside_theorem_b(rows):
    for spec in TESTING.samples.plain:
        known = samples.known_of(spec)
        for schedule in SCHEDULES:
            found = of(rows, "samples", f"{schedule}_plain", group=spec.label)
            assert [row.x for row in found] == list(spec.samples)
            predictions, certificates = forecast(known, spec.samples, schedule)
            for row, prediction, certificate in zip(found, predictions, certificates, strict=True):
                assert row.prediction == pytest.approx(prediction, rel=1e-9)
                assert math.isnan(row.bound) if spec.width else row.bound == pytest.approx(certificate, rel=1e-9)
                assert row.informative == (-1 if spec.width else 1)


def test_spread_is_near_the_central_limit_even_in_the_testing_preset(rows):
    """32 replicas know a spread to some 5 %; in 32000 handoffs the limit is near but not reached."""
    last = of(rows, "samples", "spread", group="tabular", x=max(TESTING.samples.limits[0].limit_samples))[0]
    assert 0.8 < last.measured / last.prediction < 1.25


def test_mixing_axis(rows):
    spec = TESTING.mixing
    for label, eta in (("gap open", spec.open_gap), ("gap closed", 0.0)):
        for index, flip in enumerate(spec.flips):
            known = analysed(spec.model.replace(hidden_flip=flip, gap=eta))
            cell = f"mixing/{label.split()[1]}/{index}"
            (row,) = of(rows, "mixing", "spread", cell=cell)
            assert row.x == row.mixing_time == known.clock(0.25) and row.group == label and row.gap == eta
            assert row.prediction == pytest.approx(known.limit.coefficient / row.tail_samples**0.5, rel=1e-9)
            assert row.alternative == pytest.approx(known.limit.coefficient_iid / row.tail_samples**0.5, rel=1e-9)
            known = analysed(spec.finite_model.replace(hidden_flip=flip, gap=eta))
            (bounded,) = of(rows, "mixing", "constant_step", cell=cell.replace("mixing/", "mixing/projected/"))
            assert bounded.x == bounded.mixing_time == known.clock(0.25)
            assert bounded.bound == pytest.approx(poisson(bounded, spec.theorem_samples, known), rel=1e-9)
            assert bounded.alternative == pytest.approx(classic(bounded, spec.theorem_samples, known), rel=1e-9)
        times = [r.x for r in of(rows, "mixing", "spread", group=label)]
        assert times == sorted(times) and times[0] < times[-1]
        guaranteed = [r.bound for r in of(rows, "mixing", "constant_step", group=label)]
        assert guaranteed == sorted(guaranteed)  # slower mixing, weaker guarantee
    for row in of(rows, "mixing", "spread", group="gap closed"):
        assert row.prediction == pytest.approx(row.alternative, rel=1e-6)  # P2.1


def test_agents_axis(rows):
    spec = TESTING.agents
    for count in spec.counts:
        known = analysed(spec.model.replace(num_agents=count))
        assert known.interface.model.num_agents == count
        gap_row, loss, spread, steps = (
            of(rows, "agents", name, cell=f"agents/{count}")[0]
            for name in ("gap", "policy_loss", "spread", "constant_step")
        )
        assert {row.x for row in (gap_row, loss, spread, steps)} == {count}
        assert (gap_row.measured, gap_row.bound) == (known.gap.gap, pytest.approx(known.gap.bound, rel=1e-9))
        assert loss.measured == known.gap.policy_loss and loss.bound == pytest.approx(2 * known.gap.bound, rel=1e-9)
        assert spread.samples == steps.samples == count * spec.per_agent and spread.tail_samples == spread.samples // 2
        assert spread.prediction == pytest.approx(known.limit.coefficient / spread.tail_samples**0.5, rel=1e-9)
        assert steps.bound == pytest.approx(poisson(steps, steps.samples, known), rel=1e-9)
        assert steps.alternative == pytest.approx(classic(steps, steps.samples, known), rel=1e-9)


def test_durations_axis(rows):
    spec = TESTING.durations
    assert {r.group for r in rows if r.axis == "durations"} == set(LAWS)
    for law in LAWS:
        for index, mean in enumerate(spec.means):
            cell = f"durations/{law}/{index}"
            (sharp,) = of(rows, "durations", "amplification", cell=cell)
            model = sharp_family(1.0, spec.model.gamma, durations.RARE_FLIP, mean, law, spec.longest)
            pmf = np.asarray(model.duration)[0, 0]
            assert pmf @ np.arange(1, len(pmf) + 1) == pytest.approx(mean, rel=1e-6)
            horizon = 1 / (1 - pmf @ model.gamma ** np.arange(1, len(pmf) + 1))
            assert sharp.bound == sharp.prediction == pytest.approx(horizon, rel=1e-9)
            assert sharp.measured == pytest.approx(horizon, rel=0.02)
            assert sharp.alternative == pytest.approx(1 / (1 - spec.model.gamma)) and sharp.x == mean
            (backup,) = of(rows, "durations", "contraction", cell=cell)
            assert backup.bound == backup.gamma_bar and backup.alternative == spec.model.gamma
            assert backup.measured == pytest.approx(backup.gamma_bar, rel=1e-9)
            (ratio,) = of(rows, "durations", "planted_ratio", cell=cell)
            assert ratio.bound == pytest.approx(1 / (1 - ratio.gamma_bar), rel=1e-12)


def test_durations_axis_says_where_a6_is_not_certified(rows):
    """Short options break the certificate; the rows of those models say so, though T1 does not need it."""
    spec = TESTING.durations
    claimed, true = {}, {}
    for law in LAWS:
        for index, mean in enumerate(spec.means):
            config = spec.model.replace(
                duration_law=law, duration_mean=mean, longest_duration=spec.longest, duration_spread=0.0
            )
            cell = f"durations/{law}/{index}"
            true[cell] = analysed(config).a6_certified
            planted = of(rows, "durations", "planted_ratio", cell=cell) + of(
                rows, "durations", "contraction", cell=cell
            )
            claimed[cell] = all(row.certified for row in planted)
    assert not all(true.values()) and any(true.values())
    assert claimed == true


def test_total_is_the_sum_of_its_terms(rows):
    spec = TESTING.total
    grid = of(rows, "total", "total")
    assert len(grid) == len(spec.groups) * len(spec.gaps) * len(spec.samples)
    for row in grid:
        parts = {s: of(rows, "total", s, cell=row.cell)[0] for s in ("residual", "approximation", "interface")}
        assert row.bound == pytest.approx(sum(p.bound for p in parts.values()), rel=1e-12)
        # The triangle inequality holds replica by replica, all in one norm.
        assert row.measured <= sum(p.measured for p in parts.values()) + 1e-9
        assert {(p.width, p.gap, p.samples) for p in parts.values()} == {(row.width, row.gap, row.samples)}
        assert parts["residual"].replicas == row.replicas == spec.replicas
        assert parts["approximation"].replicas == parts["interface"].replicas == 0
        known = analysed(spec.model.replace(gap=row.gap))
        hidden = known.interface.lift(known.q_phi_table) - known.q_star.q
        weight = known.interface.chain.stationary[:, None] / known.interface.model.num_options
        assert parts["interface"].measured == pytest.approx(float((weight * hidden**2).sum()) ** 0.5, abs=1e-12)
        assert parts["interface"].bound == pytest.approx(known.gap.bound_value_aware, rel=1e-12, abs=1e-12)


def test_dominance_counts_cells(rows):
    (claim,) = total.claims([row for row in rows if row.axis == "total"])
    assert claim.passed is None and "8 cells" in claim.text  # too few handoffs to judge it
    made = [
        Row("total", cell, series, "handoffs", 1.0, value)
        for cell, values in {"a": (3, 1, 2), "b": (0, 5, 1), "c": (4, 1, 1)}.items()
        for series, value in zip(("residual", "approximation", "interface"), values, strict=True)
    ]
    (claim,) = total.claims(made)
    assert "residual in 2, approximation in 1, interface in 0" in claim.text and claim.value == 2.0
    assert total.claims([]) == []


def test_audit_axis(rows):
    """The error is that of the tables, the certificate lies above it, and intervals miss as rarely as they should."""
    spec = TESTING.audit
    for lane, (group, config) in enumerate(spec.models):
        known = analysed(config)
        for index, k in enumerate(spec.samples):
            cell = f"audit/{lane}/{index}"
            (error,) = of(rows, "audit", "error", cell=cell)
            assert (error.group, error.x, error.samples, error.replicas) == (group, k, k, spec.replicas)
            assert error.trivial == pytest.approx(np.abs(known.q_phi_table).max())
            assert 0 < error.measured <= error.alternative <= error.bound
            (missed,) = of(rows, "audit", "miss_batch_means", cell=cell)
            assert missed.measured < 0.25 and missed.tail_samples == spec.handoffs
            (largest,) = of(rows, "audit", "largest_missed", cell=cell)
            assert largest.measured <= 0.25
    assert all(claim.passed is None for claim in audit.claims(rows))  # audits of this preset are too short
