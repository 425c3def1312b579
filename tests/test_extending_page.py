"""docs/extending.md: a toy axis, a toy environment and a toy method, each added from outside in one line."""

from __future__ import annotations

from unittest import mock

import pytest

from icsmdp_jax.envs import registry
from icsmdp_jax.learner import methods
from tests.pages import DOCS, examples_print_what_they_say


def test_the_page_on_extending_runs() -> None:
    with mock.patch.dict(registry.ENVIRONMENTS), mock.patch.dict(methods.METHODS):
        examples_print_what_they_say(DOCS / "extending.md")
        assert "relay" in registry.environments() and registry.describe("relay").exact_oracle is False
        assert "often_federated" in methods.METHODS
        with pytest.raises(ValueError, match="environment 'relay': is registered already"):
            registry.register("relay", registry.make, "again")
    assert "relay" not in registry.environments()
