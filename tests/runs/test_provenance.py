"""What a manifest says of JAX: the settings that change numbers, as they were in force."""

from __future__ import annotations

import jax
import pytest

from icsmdp_jax.runs import provenance
from icsmdp_jax.runs.directory import first_difference

SETTINGS = {
    "jax_threefry_partitionable": jax.threefry_partitionable,
    "jax_enable_x64": jax.enable_x64,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_change_random_numbers_or_dtypes_are_recorded(name):
    """A run that was made under one value is not resumed under the other, and the refusal names the setting."""
    plain = provenance.record()
    value = getattr(jax.config, name)
    assert plain["flags"][name] == str(value)
    with SETTINGS[name](not value):
        other = provenance.record()
    said = first_difference(plain, other)
    assert said == f"flags.{name} was {str(value)!r}, but is {str(not value)!r} now"
    assert other["flags"].pop(name) == str(not value) and plain["flags"].pop(name) == str(value)
    assert other == plain


def test_keys_are_partitionable_by_default():
    """The house relies on JAX's default since 0.5; bits drawn with ``jax.random`` are other ones without it."""
    assert jax.config.jax_threefry_partitionable
    key = jax.random.key(0)
    drawn = jax.random.bits(key, (3,))
    with jax.threefry_partitionable(False):
        assert (jax.random.bits(key, (3,)) != drawn).any()
