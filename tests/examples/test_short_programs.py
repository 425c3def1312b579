"""The ten-line and the fifty-line program: as short as they say, and what they print is good."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import icsmdp_jax as ic

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


README = EXAMPLES.parent / "README.md"


def printed(name: str) -> str:
    result = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("name", "lines"), [("ten_lines.py", 10), ("own_environment.py", 39), ("fifty_lines.py", 50)])
def test_program_is_as_short_as_its_name_says(name, lines):
    code = [line for line in (EXAMPLES / name).read_text().splitlines() if line.strip()]
    assert len(code) <= lines


def test_ten_lines_are_those_of_the_readme():
    """Where they are run, and what they print is held against the oracle: tests/test_readme.py."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    lines = sorted((EXAMPLES / "ten_lines.py").read_text().splitlines())
    assert lines in [sorted(block.splitlines()) for block in blocks]


@pytest.mark.slow
def test_fifty_lines_beat_the_random_workflow_by_far():
    # one fixed seed; the intervals are of width 0.02, the difference is 0.2
    numbers = {m[1]: (float(m[2]), float(m[3])) for m in re.finditer(
        r"^(\S+) +tickets solved, discounted: ([\d.]+) \+- ([\d.]+)$", printed("fifty_lines.py"), re.MULTILINE
    )}  # fmt: skip
    assert set(numbers) == {"IC-Q", "random"}
    (learned, error), (random, random_error) = numbers["IC-Q"], numbers["random"]
    assert learned - error > random + random_error + 0.15


def test_every_method_can_be_set_up_in_the_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program as it stands but for the training, which takes minutes."""
    called: dict[str, Any] = {}

    def compare(env: Any, params: Any, methods: Any, **given: Any) -> Any:
        called.update(given, methods=methods)
        for name in methods:
            ready = ic.setup(env, params, name, width=given["width"], depth=given["depth"], copies=2, length=2)
            assert (
                repr(ready) == f"Setup({ready.method.label} in triage: mlp, 2 copies, 2 handoffs each between updates)"
            )
        return mock.MagicMock()

    monkeypatch.setattr(ic, "compare_methods", compare)
    runpy.run_path(str(EXAMPLES / "own_environment.py"))
    assert called["methods"] is ic.METHODS and called["seeds"] == 8


@pytest.mark.slow
def test_the_own_environment_is_learned(tmp_path: Path) -> None:
    """Eight seeds, one fixed key; every method that learns from delayed values is far above the random workflow."""
    program = EXAMPLES / "own_environment.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {
        line[0].strip(): float(line[1]) for line in re.findall(r"^(.*?)  +(-?[\d.]+)  ", done.stdout, re.MULTILINE)
    }
    random = float(re.search(r"^random workflow +([\d.]+)", done.stdout, re.MULTILINE)[1])  # type: ignore[index]
    assert {method.label for method in ic.METHODS.values()} <= set(found)
    assert found["IC-Q"] > random + 0.1 and (tmp_path / "triage.png").stat().st_size > 10_000
