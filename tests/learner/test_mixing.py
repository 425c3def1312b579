"""Convex combinations of parameters, searched without gradients: plain NumPy twins and closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.learner.mixing import combine, direction, mix, onto_simplex, two_point

K = 3


def nearest_by_search(point: np.ndarray) -> np.ndarray:
    """The nearest point of the simplex among those of every face: brute force over which entries are 0."""
    best, least = None, np.inf
    for mask in range(1, 2 ** len(point)):
        kept = np.array([mask >> k & 1 for k in range(len(point))], bool)
        found = np.where(kept, point - (point[kept].sum() - 1) / kept.sum(), 0.0)
        off = np.sum((found - point) ** 2)
        if found.min() >= 0 and off < least:
            best, least = found, off
    assert best is not None
    return best


def test_projection_is_the_nearest_point_of_all_faces():
    points = np.random.default_rng(0).normal(0, 1.5, (60, 4)).astype(np.float32)
    found = np.asarray(jax.jit(jax.vmap(onto_simplex))(points))
    np.testing.assert_allclose(found, [nearest_by_search(p.astype(float)) for p in points], atol=2e-6)
    assert (found == 0).any() and (found > 0).all(axis=1).any()  # inside as well as on faces


def test_parameters_are_combined_leaf_by_leaf():
    rng = np.random.default_rng(1)
    experts = {"w": rng.normal(size=(K, 2, 3)).astype(np.float32), "b": rng.normal(size=(K, 2)).astype(np.float32)}
    weights = np.array([0.2, 0.5, 0.3], np.float32)
    found = combine(experts, weights)
    for name, leaf in experts.items():
        wanted = sum(float(weights[k]) * leaf[k].astype(float) for k in range(K))
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-6)


def test_two_forward_passes_have_the_gradient_of_a_quadratic_as_their_mean():
    """Over an orthonormal basis of the directions that keep the sum, the estimates add up exactly; the law is even."""
    rng = np.random.default_rng(2)
    root, offset = rng.normal(size=(K, K)), rng.normal(size=K)
    at = np.array([0.6, 0.3, 0.1], np.float32)
    seen = []

    def loss(alpha: jax.Array) -> jax.Array:
        seen.append(alpha)
        return jnp.sum((jnp.asarray(root, jnp.float32) @ alpha - offset.astype(np.float32)) ** 2)

    basis = np.linalg.svd(np.eye(K) - 1 / K)[0][:, : K - 1].T.astype(np.float32)
    mean = np.mean([np.asarray(two_point(loss, at, u, 0.25)) for u in basis], axis=0)
    assert len(seen) == 2 * (K - 1)
    gradient = 2 * root.T @ (root @ at - offset)
    np.testing.assert_allclose(mean, gradient - gradient.mean(), rtol=1e-4, atol=1e-4)
    drawn = np.asarray(jax.vmap(lambda key: direction(key, K))(jax.random.split(jax.random.key(0), 4000)))
    np.testing.assert_allclose(np.sum(drawn**2, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(drawn.sum(axis=1), 0, atol=1e-5)
    second = drawn.T @ drawn / len(drawn)  # entries have a standard deviation below 0.008: 6 of them
    np.testing.assert_allclose(second, (np.eye(K) - 1 / K) / (K - 1), atol=0.05)


SCALES = np.array([1.0, 1.4, 0.8], np.float32)


def quadratic(target: tuple[float, ...]):
    """``|scales (alpha - target)|^2``, whose curvature lies between 2 * 0.8^2 and 2 * 1.4^2."""
    return lambda alpha, held: jnp.sum((SCALES * (alpha - jnp.asarray(target, jnp.float32))) ** 2)


SIZE = 1 / ((K - 1) * 2 * 1.4**2)


def test_search_without_gradients_ends_where_gradients_end():
    """The mean square distance shrinks by 1 - SIZE mu (2 - SIZE (K - 1) L) = 0.84 or less with each step.

    Here mu = 1.28 and L = 3.92, and projections bring points no farther apart. After 300 steps the mean is below 1e-22
    of the first, so by Markov's inequality a miss of 1e-3 has a probability below 1e-15; rounding is all that is left.
    """
    wanted = (0.2, 0.5, 0.3)
    full = np.asarray(mix(quadratic(wanted), K, 300, SIZE))
    free = np.asarray(mix(quadratic(wanted), K, 300, SIZE, jax.random.key(4)))
    np.testing.assert_allclose(full, wanted, atol=1e-5)
    np.testing.assert_allclose(free, wanted, atol=1e-5)


def test_on_the_boundary_noise_stays_but_the_loss_is_within_two_percent():
    """The best combination leaves an expert out, so that the gradient does not vanish there."""
    loss = quadratic((0.9, 0.4, -0.3))
    full = np.asarray(mix(loss, K, 300, SIZE))
    assert full[2] == 0 and full.sum() == pytest.approx(1, abs=1e-6)
    keys = jax.random.split(jax.random.key(5), 16)
    free = np.asarray(jax.jit(jax.vmap(lambda key: mix(loss, K, 300, SIZE / 20, key)))(keys))
    assert (free >= 0).all() and np.mean([loss(alpha, alpha) for alpha in free]) <= 1.02 * loss(full, full)


def test_one_expert_is_no_mixture():
    with pytest.raises(ValueError, match="experts = 1"):
        mix(quadratic((1.0,)), 1, 1, SIZE)
