"""docs/learner.md: its example runs and prints what it says, and all that it names exists."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from icsmdp_jax.learner import targets

LEARNER = Path(__file__).resolve().parents[2] / "docs" / "learner.md"


def test_the_page_on_the_learner_runs_and_names_what_exists() -> None:
    text = LEARNER.read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", text, re.DOTALL)
    assert len(examples) == text.count("```python") > 0
    for code, printed in examples:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, str(LEARNER), "exec"), {})
        assert out.getvalue() == printed
    named = set(re.findall(r"`(icsmdp_jax(?:\.\w+)+)`", text))
    assert len(named) >= 10
    for name in named:
        module, _, attribute = name.rpartition(".")
        try:
            __import__(name)
        except ModuleNotFoundError:
            assert hasattr(__import__(module, fromlist=[attribute]), attribute), name
    public = {
        n
        for n in vars(targets)
        if not n.startswith("_") and getattr(vars(targets)[n], "__module__", "") == targets.__name__
    }
    assert {name for name in public if f"`{name}`" not in text} == set()
