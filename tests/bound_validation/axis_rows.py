"""Rows of one axis at a time, with realistic scales, from formulas and a fixed key."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bound_validation.results import Row, checked

GAMMA, GAMMA_BAR, KAPPA, WIDTH_CONSTANT, Q_NORM, CLT = 0.95, 0.53, 0.745, 2.62, 1.18, 3.9
CONSTANTS: dict[str, Any] = dict(
    gamma=GAMMA,
    gamma_bar=GAMMA_BAR,
    kappa=KAPPA,
    width_constant=WIDTH_CONSTANT,
    q_norm=Q_NORM,
    clt_coefficient=CLT,
    clt_coefficient_iid=3.7,
    mixing_time=3.0,
    omega=0.009,
    reward_max=2.9,
    radius=6.3,
    action_gap=0.35,
    value_norm=2.4,
)
SAMPLES = [int(k) for k in np.geomspace(1e3, 1e6, 7)]
GAPS = [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8]
WIDTHS = [2, 4, 8, 16, 32, 64, 128]
LAWS = {
    "deterministic": 0.0,
    "uniform": 0.02,
    "geometric": 0.06,
    "negative_binomial": 0.05,
    "truncated_power_law": 0.12,
    "phase_type": 0.09,
}


def residual_bound(samples: float, mixing: float = 10.0) -> float:
    """T3 with the constants above."""
    scale = 15.5**2
    return math.sqrt((40 + scale * (9 + 12 * mixing)) / (2 * (1 - KAPPA) * math.sqrt(samples)))


def _noisy(rng: np.random.Generator, value: float, spread: float = 0.04) -> dict[str, float]:
    measured = value * float(np.exp(spread * rng.standard_normal()))
    return dict(measured=measured, ci_low=measured * (1 - 1.96 * spread), ci_high=measured * (1 + 1.96 * spread))


TRIVIAL = {"residual": Q_NORM, "approximation": Q_NORM, "total": 1.3, "interface": 9.5}  # by term


def a_row(axis: str, series: str, x_name: str, x: float, **values: Any) -> Row:
    values = {"trivial": TRIVIAL.get(values.get("term", ""), math.nan), **values}
    return checked(Row(**{**CONSTANTS, **dict(axis=axis, cell="", series=series, x_name=x_name, x=x), **values}))


def width_rows(rng: np.random.Generator) -> list[Row]:
    rows = []
    certificate = 1 / math.sqrt(1 - KAPPA**2)
    for m in WIDTHS:
        line = WIDTH_CONSTANT / math.sqrt(m)
        projection = min(0.95 * Q_NORM, 0.75 * line * (m / 2) ** -0.25)
        common = dict(axis="width", x_name="features per agent", x=m, width=m, replicas=64)
        rows.append(a_row(series="approximant", **common, **_noisy(rng, line, 0.02), prediction=line))
        rows.append(
            a_row(series="projection", **common, **_noisy(rng, projection, 0.03), bound=line, term="approximation")
        )
        rows.append(
            a_row(
                series="fixed_point",
                **common,
                **_noisy(rng, projection * 1.07, 0.03),
                bound=projection * certificate,
                alternative=line * certificate,
                term="approximation",
            )
        )
    return rows


def gap_rows(rng: np.random.Generator) -> list[Row]:
    rows = []
    bounds = dict(gap=5.4, gap_mass_span=3.4, gap_value_aware=2.55)
    for eta in GAPS:
        gap = 1.27 * eta if eta else 5e-16
        common = dict(axis="gap", x_name="eta", x=eta, gap=eta, epsilon=2.0 * eta, delta=0.21 * eta)
        for series, slope in bounds.items():
            bound = max(slope * eta, 2e-15)
            rows.append(a_row(series=series, measured=gap, bound=bound, term="interface", **common))
        loss = 0.0 if eta < 0.1 else 0.9 * (eta - 0.05)
        rows.append(
            a_row(series="policy_loss", measured=loss, bound=2 * 2.55 * eta + 2e-15, term="interface", **common)
        )
        rows.append(
            a_row(
                series="icq_error",
                **common,
                **_noisy(rng, math.hypot(0.05, 0.8 * eta), 0.02),
                bound=residual_bound(1e5) + 5.4 * eta,
                term="total",
                replicas=64,
                samples=100_000,
            )
        )
    for flip in np.geomspace(0.001, 0.5, 9):
        exact = 1 / (1 - GAMMA_BAR * (1 - 2 * flip))
        mixing = 1.0 if flip == 0.5 else math.ceil(math.log(2) / -math.log(abs(1 - 2 * flip)))
        rows.append(
            a_row(
                "gap",
                "sharp_family",
                "flip probability",
                float(flip),
                group="sharp",
                measured=exact,
                prediction=exact,
                bound=1 / (1 - GAMMA_BAR),
                term="interface",
                epsilon=1.0,
                delta=0.0,
                mixing_time=mixing,
            )
        )
    return rows


def samples_rows(rng: np.random.Generator, axis: str = "samples", linear: bool = True) -> list[Row]:
    rows = []
    for group, factor in [("tabular", 1.0), ("linear, m = 16", 1.4)][: 1 + linear]:
        for samples in SAMPLES:
            tail = samples // 2
            spread, bias = factor * CLT / math.sqrt(tail), factor * 90 / samples
            common = dict(
                axis=axis,
                x_name="handoffs",
                x=samples,
                group=group,
                replicas=64,
                samples=samples,
                tail_samples=tail,
                width=0 if group == "tabular" else 16,
            )
            line = dict(prediction=spread, alternative=0.8 * spread)
            rows.append(a_row(series="spread", **common, **_noisy(rng, spread * (1 + 20 / samples)), **line))
            drawn = _noisy(rng, bias, 0.15)
            if samples == SAMPLES[-1]:
                drawn = dict(measured=0.0, ci_low=0.0, ci_high=1.5 * bias)
            rows.append(a_row(series="bias", **common, **drawn))
            rows.append(a_row(series="rmse", **common, **_noisy(rng, math.hypot(spread, bias))))
            if axis == "model":
                rows += projected_rows(rng, common, factor)
        if axis == "model":
            continue
        few = "tabular, 3 agents" if group == "tabular" else "linear, m = 2, 3 agents"
        width = 0 if group == "tabular" else 2
        for samples in (100, 1000, 10_000):
            common = dict(axis=axis, x_name="handoffs", x=samples, group=few, replicas=64, samples=samples,
                          tail_samples=samples, width=width)  # fmt: skip
            for schedule, level, power in (
                ("constant", 1.0, -0.2),
                ("polynomial", 0.6, -0.7),
                ("harmonic", 0.58, -0.68),
            ):
                value = factor * level * (samples / 100) ** power
                bound = dict(bound=1.1 * value**0.6, term="residual") if width == 0 else {}
                rows.append(
                    a_row(series=f"{schedule}_plain", **common, **_noisy(rng, value), prediction=value, **bound)
                )
        for samples in (1000, 10_000, 100_000):
            common = dict(axis=axis, x_name="handoffs", x=samples, group=few.replace("3", "8"), replicas=24,
                          samples=samples, tail_samples=samples, width=width)  # fmt: skip
            rows += projected_rows(rng, common, factor)
    return rows


def projected_rows(rng: np.random.Generator, common: dict[str, Any], factor: float) -> list[Row]:
    """Both step rules of Theorem 3 at one K, beside T3+ and T3."""
    samples = common["samples"]
    constant, decaying = (factor * level * (samples / 1e3) ** power for level, power in ((0.9, -0.22), (0.3, -0.6)))
    lines = dict(bound=2 * constant, alternative=factor * residual_bound(samples))
    steep = dict(bound=8 * factor * (samples / 1e3) ** -0.45, alternative=9 * factor * residual_bound(samples))
    return [
        a_row(series="constant_step", **common, **_noisy(rng, constant), **lines, term="residual"),
        a_row(series="decaying_step", **common, **_noisy(rng, decaying), **steep, term="residual"),
    ]


def mixing_rows(rng: np.random.Generator) -> list[Row]:
    rows = []
    for group in ("gap open", "gap closed"):
        for mixing in (2, 4, 8, 16, 33, 69, 140):
            iid = 0.0121 if group == "gap closed" else 0.0133
            sharp = iid if group == "gap closed" else iid * math.sqrt(1 + 0.05 * mixing)
            common = dict(
                axis="mixing",
                x_name="mixing time",
                x=mixing,
                group=group,
                replicas=64,
                samples=200_000,
                mixing_time=float(mixing),
            )
            rows.append(a_row(series="spread", **common, **_noisy(rng, sharp), prediction=sharp, alternative=iid))
            rows.append(
                a_row(
                    series="constant_step",
                    **common,
                    **_noisy(rng, 6 * sharp),
                    bound=0.4 * mixing**0.3,
                    alternative=residual_bound(2e5, 5.0 * mixing),
                    term="residual",
                )
            )
    return rows


def agents_rows(rng: np.random.Generator) -> list[Row]:
    rows = []
    for count in (2, 5, 20, 100):
        common: dict[str, Any] = dict(axis="agents", x_name="agents", x=count, group="simulated", gap=0.2)
        rows.append(a_row(series="gap", **common, measured=0.4, bound=1.9, term="interface"))
        rows.append(a_row(series="policy_loss", **common, measured=0.1, bound=3.8, term="interface"))
        runs: dict[str, Any] = dict(replicas=32, samples=20_000 * count)
        rows.append(a_row(series="spread", **common, **runs, **_noisy(rng, 0.02), prediction=0.02, alternative=0.018))
        rows.append(
            a_row(
                series="constant_step",
                **common,
                **runs,
                **_noisy(rng, 0.1),
                bound=0.7,
                alternative=30.0 / count,
                term="residual",
            )  # fmt: skip
        )
    only: dict[str, Any] = dict(axis="agents", x_name="agents", x=1000, group="analysed only", gap=0.2)
    rows.append(a_row(series="gap", **only, measured=0.5, bound=2.2, term="interface", note="Analysed only."))
    return rows


def audit_rows(rng: np.random.Generator) -> list[Row]:
    rows = []
    for group, size in (("gap closed", 1.0), ("gap open", 1.3), ("slow mixing", 2.0)):
        for k in (2000, 8000, 32_000):
            common: dict[str, Any] = dict(axis="audit", x_name="handoffs", x=k, group=group, replicas=48, samples=k)
            error = size * 5 / k**0.5
            bound, alternative = 2 * error + 0.1, 1.6 * error + 0.08
            rows.append(a_row(series="error", **common, **_noisy(rng, error), bound=bound, alternative=alternative,
                             trivial=2.0, term="residual"))  # fmt: skip
            rows.append(a_row(series="miss_batch_means", **common, **_noisy(rng, 0.05), prediction=0.05))
    return rows


def durations_rows(rng: np.random.Generator) -> list[Row]:
    rows = []
    for law, curvature in LAWS.items():
        for mean in (1, 2, 3, 5, 8, 12):
            if (law == "deterministic") != (mean == 1) and mean == 1:
                continue
            modulus = GAMMA**mean + 3 * curvature * (GAMMA - GAMMA**mean)
            horizon = 1 / (1 - modulus)
            common: dict[str, Any] = dict(axis="durations", x_name="mean duration", x=mean, group=law)
            common |= dict(gamma_bar=modulus)
            wrong = 1 / (1 - GAMMA)
            rows.append(
                a_row(
                    series="amplification",
                    **common,
                    measured=0.97 * horizon,
                    bound=horizon,
                    prediction=horizon,
                    alternative=wrong,
                    term="interface",
                )
            )
            rows.append(a_row(series="contraction", **common, measured=modulus, bound=modulus, alternative=GAMMA))
            ratio = horizon * float(rng.uniform(0.35, 0.6))
            rows.append(
                a_row(
                    series="planted_ratio",
                    **common,
                    measured=ratio,
                    bound=horizon,
                    alternative=wrong,
                    term="interface",
                )
            )
    return rows


def total_rows(rng: np.random.Generator) -> list[Row]:
    rows = []
    for m in (1, 2, 4):
        for eta in (0.0, 0.1, 0.4):
            for samples in (1_000, 10_000, 100_000, 1_000_000):
                group = f"{m} groups, eta = {eta:g}"
                common = dict(axis="total", x_name="handoffs", x=samples, group=group, replicas=32)
                common |= dict(width=m, gap=eta, samples=samples)
                approximation, interface = 0.55 * (4 - m) / 3 + 1e-16, 0.75 * eta if eta else 4e-16
                residual = 0.4 * (samples / 1e3) ** -0.42
                parts = [2 * residual, 1.15 * approximation, 2.4 * interface]
                names = ("residual", "approximation", "interface")
                for name, measured, bound in zip(names, (residual, approximation, interface), parts, strict=True):
                    drawn = dict(measured=measured) if name != "residual" else _noisy(rng, measured)
                    rows.append(a_row(series=name, **common, **drawn, bound=bound, term=name))
                total = math.hypot(residual, math.hypot(approximation, 0.6 * interface))
                rows.append(a_row(series="total", **common, **_noisy(rng, total, 0.02), bound=sum(parts), term="total"))
    return rows


def returns_rows(rng: np.random.Generator) -> list[Row]:
    rows = []
    lost = {
        "ic_q": 0.003,
        "central": 0.01,
        "shared": 0.02,
        "no_message_team": 0.04,
        "no_message": 0.5,
        "immediate": 1.1,
    }
    for model in ("planted", "random 2", "random 5", "random 21"):
        for kind in ("tabular", "mlp"):
            for index, (method, share) in enumerate(lost.items()):
                common = dict(
                    axis="returns", x_name="returns", x=index, group=f"{model}, {kind}, {method}", replicas=32
                )
                half = 0.2 * share
                value = 1.0 if (model, method) == ("planted", "ic_q") else 1 - share * float(rng.uniform(0.7, 1.4))
                ends = dict(ci_low=value - half, ci_high=value + half) if value < 1 else {}
                rows.append(a_row(series="return", measured=value, **ends, **common))
                rows.append(a_row(series="crossing", measured=float(index), **common))
        rows.append(a_row("returns", "reference", "returns", 8, measured=1.0, group=f"{model}, exact, oracle"))
    for eta in GAPS:
        common = dict(axis="returns", x_name="eta", x=eta, gap=eta, group="gap, tabular, ic_q")
        loss = max(0.0, 0.9 * (eta - 0.1))
        learned = dict(measured=loss + 0.01, ci_low=loss - 0.005, ci_high=loss + 0.025)
        rows.append(a_row(series="gap_loss", **common, **learned, prediction=loss, replicas=8))
        rows.append(a_row(series="gap_loss_exact", **common, measured=loss, bound=50 * eta + 1e-15, term="interface"))
    return rows


def messages_rows(rng: np.random.Generator) -> list[Row]:
    rows = []
    faults: dict[str, tuple[str, tuple[float, ...]]] = {
        "loss": ("loss probability", (0.1, 0.5, 0.9)), "late": ("lateness", (1, 2, 4, 16)),
        "nearest": ("bits", (1, 2, 4, 8)), "random": ("bits", (1, 2, 4, 8)), "noise": ("noise", (0.001, 0.01, 0.1)),
        "high": ("adversaries", (0.1, 0.3, 0.5)), "low": ("adversaries", (0.1, 0.3, 0.5)),
        "negate": ("adversaries", (0.1, 0.3, 0.5)),
    }  # fmt: skip
    clean = dict(axis="messages", x_name="messages", x=0.0, group="clean", replicas=8)
    rows.append(a_row(series="return", **clean, measured=0.998, ci_low=0.993, ci_high=1.003))
    rows.append(a_row(series="clean_error", **clean, **_noisy(rng, 0.1)))
    for kind, (name, strengths) in faults.items():
        for clips in (False, True):
            for index, strength in enumerate(strengths):
                harm = index / len(strengths) if kind not in ("nearest", "random") else 0.5**strength
                common = dict(axis="messages", x_name=name, x=strength, group=kind + ", clipped" * clips, replicas=8)
                value = 1 - 1.3 * harm
                line = dict(prediction=value) if kind == "loss" else {}
                rows.append(a_row(series="return", **common, measured=value, ci_low=value - 0.05, ci_high=value + 0.05,
                                 **line))  # fmt: skip
                bound = 67.0 if clips or kind == "random" else 130 / 2**strength if kind == "nearest" else math.nan
                rows.append(a_row(series="shift", **common, **_noisy(rng, 0.01 + 20 * harm), bound=bound))
    return rows


def neural_rows(rng: np.random.Generator) -> list[Row]:
    rows = []
    for group, eta in (("gap closed", 0.0), ("gap open", 0.5)):
        for m in (16, 64, 256, 1024):
            common = dict(axis="neural", x_name="units per agent and option", x=m, width=m, group=group, gap=eta)
            floor, hidden, near = 13.0 * m**-0.5, 0.1 * (eta > 0), 1.2 * m**-0.5 * (m < 256)
            rows.append(a_row(series="approximation", **common, measured=0.9 * near, bound=near, term="approximation"))
            for k in (10_000, 100_000):
                left, trivial = 12.0 * k**-0.5 + 0.02, 0.95 * Q_NORM
                parts = {"linearisation": floor, "hidden": hidden, "sampling": left}
                rows += [a_row(series=f"part_{name}", **common, measured=v, samples=k) for name, v in parts.items()]
                if k == 10_000 or (m, eta) == (1024, 0.0):
                    shared = dict(**common, samples=k, replicas=4)
                    bound = floor + hidden + left
                    rows.append(a_row(series="projected_net", **shared, **_noisy(rng, 10 * k**-0.5), bound=bound,
                                     term="residual", trivial=trivial))  # fmt: skip
                if k == 10_000:
                    rows.append(a_row(series="linearisation_seen", **shared, measured=0.1 * m**-0.5, bound=m**-0.5))
            if eta == 0:
                rows.append(a_row(series="floor", **common, replicas=8, **_noisy(rng, floor)))
                rows.append(a_row(series="frobenius_floor", **common, replicas=8, **_noisy(rng, 20 * m ** (-1 / 6))))
    return rows
