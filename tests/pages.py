"""What the tests of documentation pages share: examples that print what they say, names that exist."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def section_of(page: Path, title: str) -> str:
    """The text of the section with that title."""
    return page.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


def with_code(page: Path) -> set[str]:
    """Titles of the sections that have Python blocks."""
    titles = re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {title for title in titles if "```python" in section_of(page, title)}


def examples_print_what_they_say(page: Path, section: str | None = None) -> None:
    """Every Python block of the page, or of its section with that title, is followed by a text block, and prints it."""
    text = page.read_text(encoding="utf-8") if section is None else section_of(page, section)
    examples = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", text, re.DOTALL)
    assert len(examples) == text.count("```python") > 0
    for code, printed in examples:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, str(page), "exec"), {})
        assert out.getvalue() == printed


def named_things_exist(page: Path, at_least: int) -> None:
    """Every dotted name of the library on the page is a module or an attribute of one."""
    named = set(re.findall(r"`(icsmdp_jax(?:\.\w+)+)`", page.read_text(encoding="utf-8")))
    assert len(named) >= at_least
    for name in named:
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name
