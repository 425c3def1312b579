"""Accelerators round the factors of matrix products unless told otherwise; nets tell them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from icsmdp_jax.learner import networks
from tests.test_default_dtypes import equations

HIGHEST = jax.lax.Precision.HIGHEST


@pytest.mark.parametrize("made", [networks.mlp(2, 3, 4, dim=5), networks.two_layer(2, 3, 4, dim=5)], ids=["mlp", "two"])
@pytest.mark.parametrize(("chosen", "expected"), [(None, HIGHEST), ("default", jax.lax.Precision.DEFAULT)])
def test_products_of_nets_are_float32_unless_somebody_has_chosen(made, chosen, expected):
    """Forwards and backwards."""
    own = jax.tree.map(lambda leaf: leaf[0], made.init(jax.random.key(0), None))

    def loss(params: object, seen: jax.Array) -> jax.Array:
        return jnp.sum(made.apply(params, seen) ** 2)

    with jax.default_matmul_precision(chosen):
        traced = jax.make_jaxpr(jax.grad(loss))(own, jnp.ones(5, jnp.float32))
    found = [
        equation.params["precision"] for equation in equations(traced.jaxpr) if equation.primitive.name == "dot_general"
    ]
    assert len(found) >= 2 and all(one in (expected, (expected, expected)) for one in found)
