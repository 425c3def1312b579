"""docs/learner.md: its examples run and print what they say, and all that it names exists."""

from __future__ import annotations

from icsmdp_jax.learner import targets
from tests.pages import DOCS, examples_print_what_they_say, named_things_exist

LEARNER = DOCS / "learner.md"


def test_the_page_on_the_learner_runs_and_names_what_exists() -> None:
    examples_print_what_they_say(LEARNER)
    named_things_exist(LEARNER, at_least=10)


def test_the_page_on_the_learner_has_every_target() -> None:
    text = LEARNER.read_text(encoding="utf-8")
    public = {
        n
        for n in vars(targets)
        if not n.startswith("_") and getattr(vars(targets)[n], "__module__", "") == targets.__name__
    }
    assert {name for name in public if f"`{name}`" not in text} == set()
