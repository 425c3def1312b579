"""What is read from descriptors, the listing that holds it, and values that are carried over."""

from __future__ import annotations

import numpy as np
import pytest

from icsmdp_jax.envs.planted.model import planted_model
from icsmdp_jax.exact.returns import Returns
from icsmdp_jax.experiments.descriptors import HIDDEN, readings, rotation, transfer, views, with_readings


@pytest.fixture(scope="module")
def planted():
    return planted_model(HIDDEN)


@pytest.fixture(scope="module")
def hidden(planted):
    return planted.layout.artifacts[planted.layout.states[:, 2], -1]


def test_rotations_turn_and_shrink():
    turned = rotation(np.array([np.pi / 2]), 0.5)[0]
    np.testing.assert_allclose(turned, [[0, 0, -0.5], [0, 0.5, 0]], atol=1e-15)


def test_longer_segments_are_read_better():
    read = readings(6, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(read.sum(axis=2), 1)
    right = np.array([read[0, :, 0], read[1, :, 1]])
    assert (np.diff(right[:, [0, 2, 5]]) > 0.02).all() and (right > 0.7).all()
    np.testing.assert_allclose(right[0], right[1], atol=0.04)  # mirror images: 5 standard deviations


def test_listing_multiplies_what_it_is_made_of(planted, hidden):
    model, rng = planted.model, np.random.default_rng(1)
    read = rng.dirichlet(np.ones(2), (2, HIDDEN.longest_duration))
    listed = with_readings(model, hidden, read)
    for _ in range(40):
        s, o, t, place = (int(rng.integers(n)) for n in (*model.duration.shape, model.successor.shape[2]))
        now, after = (int(b) for b in rng.integers(2, size=2))
        entered = model.successor[s, o, place]
        law = model.probability[s, o, model.successor[s, o] == entered].sum()
        wanted = model.duration[s, o, t] * law * read[hidden[s], t, after]
        assert listed.kernel[2 * s + now, o, t, 2 * entered + after] == pytest.approx(wanted, abs=1e-12)


def test_readings_that_say_nothing_change_nothing_and_better_ones_help(planted, hidden):
    plain, nothing = Returns(planted.model), np.full((2, HIDDEN.longest_duration, 2), 0.5)
    seen = {name: Returns(model) for name, model in views(with_readings(planted.model, hidden, nothing)).items()}
    for found in seen.values():
        assert found.random == pytest.approx(plain.random, abs=1e-9)
        assert found.oracle == pytest.approx(plain.oracle, abs=1e-9)
    for name in ("no_descriptor", "segment_descriptor"):
        assert seen[name].interface_optimum == pytest.approx(plain.interface_optimum, abs=1e-9)
    perfect = np.broadcast_to(np.eye(2)[:, None], (2, HIDDEN.longest_duration, 2))
    better = views(with_readings(planted.model, hidden, perfect))["segment_descriptor"]
    assert plain.interface_optimum + 0.02 < Returns(better).interface_optimum < plain.oracle


def test_right_matches_carry_the_planted_values_over():
    moved = transfer(3, 0)
    assert moved.known > 0.9 and (moved.right[:, -1] == 1).all() and (moved.right[:, 0] < 0.9).all()
    np.testing.assert_allclose(moved.error[moved.right == 1], 0, atol=1e-9)
    np.testing.assert_allclose(moved.worth[moved.right == 1], moved.known)
    assert (moved.error[moved.right < 1] > 0.01).all()
