"""The ten-line and the fifty-line program: as short as they say, and what they print is good."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


README = EXAMPLES.parent / "README.md"


def printed(name: str) -> str:
    result = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("name", "lines"), [("ten_lines.py", 10), ("fifty_lines.py", 50)])
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
