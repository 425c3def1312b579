"""Exploration: what its random words choose, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.learner import exploration


def test_exploration_words_and_masks() -> None:
    """epsilon = 0 is greedy among available options, epsilon = 1 is the fixed policy, whatever the words."""
    table = jax.tree.map(jnp.asarray, exploration.behaviour_table(np.array([[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]])))
    values, mask = jnp.array([1.0, 9.0, 2.0]), jnp.array([True, False, True])
    words = np.random.default_rng(0).integers(2**32, size=(500, 2), dtype=np.uint32)
    words[0], words[1] = 2**32 - 1, 0

    @jax.jit
    def greedy(words: jax.Array, epsilon: jax.Array) -> jax.Array:
        one = lambda row: exploration.epsilon_greedy(row, jnp.int32(0), values, mask, epsilon, table)  # noqa: E731
        return jax.vmap(one)(words)

    def choose(epsilon: float) -> np.ndarray:
        return np.asarray(greedy(words, np.float32(epsilon)))

    assert (choose(0.0) == 2).all()
    fixed = jax.jit(jax.vmap(lambda row: exploration.fixed_behaviour(row[0], jnp.int32(0), table)))(words)
    np.testing.assert_array_equal(choose(1.0), fixed)
    assert set(np.asarray(fixed).tolist()) == {0, 2}
