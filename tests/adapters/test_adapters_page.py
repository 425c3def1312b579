"""docs/adapters.md and docs/training.md: their examples run and print what they say, and what they name exists."""

from __future__ import annotations

import re

import pytest

import icsmdp_jax as ic
from tests.pages import DOCS, examples_print_what_they_say, section_of, with_code

LIBRARIES = {"PettingZoo": "pettingzoo", "Gymnasium": "gymnasium", "gymnax": "gymnax", "JaxMARL": "jaxmarl"}
TRAINING = ["Callbacks", "Checkpoints"]


@pytest.mark.parametrize("page", ["adapters.md", "training.md"])
def test_every_public_name_on_the_page_exists(page: str) -> None:
    named = set(re.findall(r"\bic\.(\w+)", (DOCS / page).read_text(encoding="utf-8")))
    assert len(named) > 5 and named <= set(ic.__all__)


def test_no_example_escapes() -> None:
    assert with_code(DOCS / "adapters.md") == set(LIBRARIES) and with_code(DOCS / "training.md") == set(TRAINING)


def test_a_package_is_published_as_the_page_says() -> None:
    section = section_of(DOCS / "adapters.md", "Publishing an environment")
    (lines,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    assert lines in (DOCS.parent / "examples" / "ferry" / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("section", LIBRARIES)
def test_the_page_on_other_libraries_runs(section: str) -> None:
    pytest.importorskip(LIBRARIES[section])
    examples_print_what_they_say(DOCS / "adapters.md", section)


@pytest.mark.slow
@pytest.mark.parametrize("section", TRAINING)
def test_the_page_on_long_trainings_runs(section: str) -> None:
    examples_print_what_they_say(DOCS / "training.md", section)
