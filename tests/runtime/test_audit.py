"""The runtime's audit: its limits are those of the library, and a table that is off by a known amount is found out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from icsmdp_jax.learner.audit_limits import Sums, covered, half_width
from icsmdp_jax.runtime.agent import Agent, Segment
from icsmdp_jax.runtime.audit import audited, error_bound, mean_and_width, t_quantile, t_tail
from icsmdp_jax.runtime.policies import AgentPolicy, Policy


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 15, 30, 31])
def test_student_is_that_of_scipy(degrees: int) -> None:
    for t in (0.0, 0.3, 2.0, 8.0):
        assert t_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-9, abs=1e-15)
    for tail in (0.4, 0.025, 1e-5):
        assert t_quantile(tail, degrees) == pytest.approx(stats.t.isf(tail, degrees), rel=1e-7)


def test_widths_are_those_of_the_library() -> None:
    rng = np.random.default_rng(0)
    visits = rng.poisson(1.5, (32, 5)).astype(float)
    total = rng.normal(size=(32, 5)) * visits
    mean, width, _ = mean_and_width(visits, total, 0.001)
    sums = Sums(visits, total, (total**2).sum(axis=0))
    np.testing.assert_allclose(mean, sums.mean)
    expected = half_width(sums, "batch-means", 0.002)
    fine = covered(sums, "batch-means")
    np.testing.assert_allclose(width[fine], expected[fine], rtol=1e-7)


def test_an_error_of_known_size_is_bounded(tmp_path) -> None:
    """Two interfaces in turn, reward 1, gamma^tau 0.5: the solution is 2 everywhere; the table says 2.3 and 2."""
    q = np.array([[2.3, 0.0], [2.0, 0.0]])
    mask = np.array([[True, False], [True, False]])
    policy = Policy(("a", "b"), (AgentPolicy("x", {"q": q}, interfaces=np.arange(2), available=mask),), 0.5)
    agent, rng = Agent(policy, "x", store=tmp_path / "x.db", learning=False), np.random.default_rng(1)
    errors = np.zeros(640)
    for number in range(640):
        z, reward = number % 2, 1.0 + 0.02 * rng.normal()
        agent.absorb(Segment(z, 0, reward, 0.5), agent.offer(1 - z), str(number))
        errors[number] = reward + 0.5 * q[1 - z, 0] - q[z, 0]
    report = audited(agent, num_agents=1)
    assert agent.values(0) == [2.3, 0.0] and agent.counts()["absorbed"] == 640
    assert (report.segments, report.pairs, report.covered) == (640, 2, 2)
    assert report.residual == pytest.approx(0.3, abs=0.01) and report.modulus == pytest.approx(0.5)
    # By the definition: 32 batches of 10 segments for each pair; an error has two ends, a pair two limits.
    batches = errors.reshape(32, 10, 2).mean(axis=1)
    width = stats.t.isf(0.05 / (2 * 2) / 2, 31) * batches.std(axis=0, ddof=1) / np.sqrt(32)
    assert report.limit == pytest.approx((np.abs(batches.mean(axis=0)) + width).max(), rel=1e-7)
    bound = error_bound([report[:2]])
    assert 0.3 <= bound < 0.65  # e = (-0.3, 0.15): 0.3 / (1 - 0.5), and little more
    assert abs(report.correlation) < 0.5
    with pytest.raises(ValueError, match="expected at least 64"):
        audited(Agent(policy, "x", learning=False), 1)
