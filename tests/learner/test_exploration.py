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
    words = jax.random.bits(jax.random.key(0), (500, 2), jnp.uint32)
    words = words.at[0].set(jnp.uint32(2**32 - 1)).at[1].set(jnp.uint32(0))

    def choose(epsilon: float) -> np.ndarray:
        function = jax.vmap(
            lambda row: exploration.epsilon_greedy(row, jnp.int32(0), values, mask, jnp.float32(epsilon), table)
        )
        return np.asarray(function(words))

    assert (choose(0.0) == 2).all()
    fixed = jax.vmap(lambda row: exploration.fixed_behaviour(row[0], jnp.int32(0), table))(words)
    np.testing.assert_array_equal(choose(1.0), fixed)
    assert set(np.asarray(fixed).tolist()) == {0, 2}
