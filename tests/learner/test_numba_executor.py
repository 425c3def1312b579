"""Two executors, one definition of a handoff: what Numba gives is what XLA gives, bit for bit for tables."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icsmdp_jax.learner import numba_executor, schedules
from icsmdp_jax.learner.icq import Inputs, Learner
from icsmdp_jax.learner.train import Run, train
from tests.helpers import as_model, golden
from tests.learner.executors import KINDS, drawn, prepared, same
from tests.reference.models import random_model

pytest.importorskip("numba")
CHUNK = 70  # more than a block of the loops, and no multiple of it
REPLICAS = 11  # likewise of the replicas side by side


def both(learner: Learner, lanes: list[Inputs], seed: int = 0, **more: Any) -> tuple[Run, Run]:
    key, counts = jax.random.key(seed), [CHUNK, 4 * CHUNK]
    runs = [
        train(learner, lanes, key, REPLICAS, counts, CHUNK, executor=name, largest_call=REPLICAS * CHUNK, **more)
        for name in ("xla", "numba")
    ]
    return runs[0], runs[1]


FAST = ("episodic", "joint lumps")  # what the others add is one branch each


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_tables_have_the_same_bits(kind):
    one, other = both(*(lambda made: (made[0], [made[1]]))(prepared(drawn(kind, 3), schedules.polynomial())))
    assert (one.executor, other.executor) == ("xla", "numba")
    same(one, other)


SIZES = st.builds(
    schedules.polynomial, st.floats(0, 1, width=32), st.floats(0, 2, width=32), st.floats(0.0625, 2, width=32)
)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(SIZES, st.integers(0, 2**32 - 1), st.floats(0.25, 0.9375, width=32), st.floats(-100, 100, width=32))
def test_tables_have_the_same_bits_whatever_the_numbers(size, seed, gamma, scale):
    """Other numbers of the same shapes, so that XLA compiles once; two lanes of different steps at once."""
    arrays = random_model(np.random.default_rng(seed % 2**10), **KINDS["episodic"], gamma=float(gamma))
    arrays["reward_rate"] = arrays["reward_rate"] * float(scale if abs(scale) > 1e-3 else 1)
    model = as_model(arrays)
    learner, inputs = prepared(model, size)
    same(*both(learner, [inputs, inputs._replace(step_size=schedules.polynomial())], seed))


@pytest.mark.parametrize(
    ("clock", "radius"),
    [("epoch", 0.5), *(pytest.param(*case, marks=pytest.mark.slow) for case in [("visits", 0.5), ("epoch", 1e6)])],
)
def test_projected_tables_have_the_same_bits(clock, radius):
    """A ball that is hit again and again, and one that never is."""
    learner, inputs = prepared(drawn("episodic", 1), schedules.polynomial(rescale=0.1), clock, radius)
    one, other = both(learner, [inputs])
    assert (np.abs(one.snapshots[-1].last).max() > 0.49) and (radius > 1 or np.abs(one.snapshots[-1].last).max() < 0.51)
    same(one, other)


@pytest.mark.parametrize("radius", [None, pytest.param(0.5, marks=pytest.mark.slow)])
def test_linear_features_agree_to_rounding(radius):
    model = golden("episodic_masks")
    data = np.random.default_rng(0).uniform(-0.5, 0.5, (model.num_interfaces, 5)).astype(np.float32)
    learner, inputs = prepared(model, schedules.polynomial(), radius=radius, data=data)
    one, other = both(learner, [inputs])
    for first, second in zip(one.snapshots, other.snapshots, strict=True):
        for a, b in ((first.last, second.last), (first.total, second.total)):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(a).max())


def test_xla_takes_over_where_values_are_not_finite():
    """Steps of 30 make values grow without bound; what is not finite then is the same, too."""
    learner, inputs = prepared(drawn("plain", 0), schedules.constant(30.0))
    one, other = both(learner, [inputs])
    assert other.executor == "xla"
    assert np.isfinite(other.snapshots[0].last).any() and not np.isfinite(other.snapshots[-1].last).all()
    for first, second in zip(one.snapshots, other.snapshots, strict=True):
        np.testing.assert_array_equal(first.last, second.last)
        np.testing.assert_array_equal(first.total, second.total)


def test_bits_do_not_depend_on_who_runs_beside():
    learner, inputs = prepared(drawn("plain", 0), schedules.polynomial())

    def few(replicas: int) -> Any:
        run = train(learner, [inputs], jax.random.key(1), replicas, [2 * CHUNK], CHUNK, executor="numba")
        return run.snapshots[-1].last[0, :3]

    np.testing.assert_array_equal(few(3), few(40))


def test_the_choice(monkeypatch):
    learner, inputs = prepared(drawn("plain", 0), schedules.polynomial())

    def choice(executor: str | None = None, handoffs: int = 10**9, who: Learner = learner, samples: int = 1000) -> str:
        return numba_executor.chosen(executor, who, [inputs], handoffs, samples)

    greedy = Learner(learner.env, learner.values, greedy=True)
    assert choice() == choice("auto") == "numba" and choice("xla") == "xla"
    assert choice(handoffs=1000) == choice(who=greedy) == choice(samples=2**25) == "xla"
    assert choice("numba", handoffs=1000) == "numba"
    monkeypatch.setenv("ICSMDP_EXECUTOR", "xla")
    assert choice() == "xla" and choice("numba") == "numba"
    with pytest.raises(ValueError, match="executor = 'numba': expected fixed behaviour"):
        choice("numba", who=greedy)
    with pytest.raises(ValueError, match="executor = 'cuda': expected one of auto, xla, numba, pallas"):
        choice("cuda")
    monkeypatch.setattr(numba_executor.importlib.util, "find_spec", lambda name: None)
    assert choice("auto") == "xla"
    with pytest.raises(ValueError, match="numba is not installed"):
        choice("numba")
