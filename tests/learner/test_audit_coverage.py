"""Two hundred audits on three models, one of which mixes slowly: intervals cover, and certificates are near (T5)."""

from __future__ import annotations

import pytest

from bound_validation.axes.audit.measure import claims, measure
from bound_validation.axes.audit.spec import MODELS, AuditSpec
from bound_validation.axis import SETTINGS
from bound_validation.cell import analysed

# Batches of 1000 handoffs: 28 mixing times of the slowest model, and every pair is met 30 times in each of them.
SPEC = AuditSpec((4000,), 32_000, 200)


@pytest.mark.slow
def test_intervals_cover_and_certificates_are_near() -> None:
    times = {group: analysed(config).clock(0.25) for group, config in MODELS}
    assert min(times.values()) <= 3 and 30 <= times["slow mixing"] <= SPEC.handoffs / 32 / 20
    rows = measure(SPEC, SETTINGS["quick"], lambda done: None).rows
    found = {claim.name: claim for claim in claims(rows)}
    for group in times:
        slug = group.replace(" ", "_")
        for method in ("batch_means", "random_scaling"):
            assert 0.02 <= found[f"audit_miss_{method}_{slug}"].value <= 0.08, (method, group)
        assert found[f"audit_largest_{slug}"].value <= 0.08
        assert 1 <= found[f"audit_ratio_{slug}"].value <= 6
