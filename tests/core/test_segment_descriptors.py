"""Segment descriptors: sums by hand, additivity, and least squares from the descriptor alone."""

from __future__ import annotations

import numpy as np
import pytest

from icsmdp_jax.core.descriptors import descriptor, descriptors, features, length, local_dynamics, misfit

P, STEPS = 2, 9


def by_hand(path: list[list[float]]) -> list[list[float]]:
    """Sums of outer squares of ``(1, x, x')`` in plain Python."""
    size = 2 * len(path[0]) + 1
    total = [[0.0] * size for _ in range(size)]
    for before, after in zip(path[:-1], path[1:], strict=True):
        step = [1.0, *before, *after]
        for i in range(size):
            for j in range(size):
                total[i][j] += step[i] * step[j]
    return total


def test_sums_of_outer_squares():
    path = np.random.default_rng(0).normal(size=(3, STEPS + 1, P))
    wanted = np.array([by_hand(one.tolist()) for one in path])
    np.testing.assert_allclose(descriptor(path), wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(descriptors(path)[:, -1], wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(descriptors(path)[:, 3], descriptor(path[:, :5]), rtol=1e-12, atol=1e-12)
    assert length(wanted).tolist() == [STEPS] * 3
    assert not descriptor(path[:, :1]).any()


def test_additive_under_composition_and_positive_semidefinite():
    """Segments in a row share the state between them; with whole numbers there is no rounding at all."""
    rng = np.random.default_rng(1)
    for path in (rng.integers(-50, 50, (20, STEPS + 1, P)), rng.normal(size=(20, STEPS + 1, P))):
        whole = descriptor(path)
        for cut in range(STEPS + 1):
            parts = descriptor(path[:, : cut + 1]) + descriptor(path[:, cut:])
            if path.dtype.kind == "i":
                assert np.array_equal(parts, whole)
            np.testing.assert_allclose(parts, whole, rtol=1e-12, atol=1e-12)
        assert np.linalg.eigvalsh(whole).min() > -1e-12 * np.abs(whole).max()
        assert np.array_equal(whole, np.swapaxes(whole, 1, 2))


def test_dynamics_and_misfit_need_the_descriptor_only():
    rng = np.random.default_rng(2)
    path = rng.normal(size=(30, P))
    before = np.column_stack([np.ones(len(path) - 1), path[:-1]])
    wanted = np.linalg.lstsq(before, path[1:], rcond=None)[0].T
    found = descriptor(path)
    np.testing.assert_allclose(local_dynamics(found), wanted, rtol=1e-6, atol=1e-8)
    other = rng.normal(size=(4, P, P + 1))
    errors = [np.sum((path[1:] - before @ one.T) ** 2) for one in other]
    np.testing.assert_allclose(misfit(found, other), errors, rtol=1e-10)
    assert misfit(found, wanted) <= min(errors)


def test_features_are_each_entry_once_per_step():
    path = np.array([[1.0], [2.0], [4.0]])  # steps (1, 1, 2) and (1, 2, 4)
    assert features(descriptor(path)).tolist() == [1.0, 1.5, 3.0, 2.5, 5.0, 10.0]
    assert not features(descriptor(path[:1])).any()
    with pytest.raises(ValueError, match=r"path: shape \[3\]"):
        descriptor(np.zeros(3))
