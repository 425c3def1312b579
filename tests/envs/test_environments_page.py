"""docs/environments.md: examples print what they say, names and pictures exist, commands are commands."""

from __future__ import annotations

import re
import shlex

from icsmdp_jax.cli import build_parser
from icsmdp_jax.drawing.envs import PICTURES, draw_all
from icsmdp_jax.envs.registry import environments
from icsmdp_jax.experiments.catalogue import EXPERIMENTS, STUDIES
from tests.pages import DOCS, examples_print_what_they_say, named_things_exist

PAGE = DOCS / "environments.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_examples() -> None:
    examples_print_what_they_say(PAGE)


def test_names() -> None:
    named_things_exist(PAGE, 3)
    headings = " ".join(re.findall(r"^## (.*)$", TEXT, re.MULTILINE))
    for name in environments():
        assert f"`{name}`" in TEXT
        assert name in headings or name == "planted"  # which docs/theory.md describes
    assert set(EXPERIMENTS) - set(STUDIES) <= set(environments())


def test_pictures(tmp_path) -> None:  # type: ignore[no-untyped-def]
    shown = set(re.findall(r"\]\(figures/([\w-]+)\.png\)", TEXT))
    assert shown == set(PICTURES)
    for path in draw_all(tmp_path):
        assert path.stat().st_size > 10_000 and (DOCS / "figures" / path.name).is_file()


def test_commands_are_known() -> None:
    """They are parsed here; tests/test_cli_experiment.py runs them in the smallest preset."""
    lines = [
        line.split("#")[0] for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()
    ]
    commands = [shlex.split(line) for line in lines if line.startswith("icsmdp ")]
    assert len(commands) >= 3
    for command in commands:
        build_parser().parse_args(command[1:])
    makefile = (DOCS.parent / "Makefile").read_text(encoding="utf-8")
    targets = [shlex.split(line)[1] for line in lines if line.startswith("make ")]
    assert targets and all(f"\n{target}:" in makefile for target in targets)
