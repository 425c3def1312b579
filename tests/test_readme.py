"""The documentation is run: every shell and Python block of README.md and of the pages named here, in order.

Each document gets an empty directory with a copy of ``examples/`` and runs there as a reader would run it,
except that ``make`` only shows what it would do and that sample counts and presets are small. A ``text``
block right after a Python block is what that block prints. A block in a language that this file does not
know is an error, so that none escapes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from icsmdp_jax import cli
from tests.bound_validation.runs import declared

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    "README.md", "docs/start.md", "docs/tutorial.md", "docs/practice.md", "docs/reproducibility.md",
    "docs/communication.md", "docs/warm_start.md", "docs/runtime.md",
]  # fmt: skip
NEEDS = {"docs/runtime.md": ("langgraph", "agents")}
RUN = {"bash", "sh", "python"}
SHOWN = {"text", "bibtex"}  # not run
SMALLER = [
    (r"--samples \d+", "--samples 2000"),
    (r"--replicas \d+", "--replicas 2"),
    (r"--runs \d+", "--runs 400"),
    (r"--preset (quick|full)", "--preset testing"),
    (r"--tickets \d+", "--tickets 300"),
    (r"(?m)^(icsmdp experiment (?!.*--oracle-only)[^#\n]*)", r"\1 --preset testing "),
]
TIMEOUT = 300  # seconds and block: stops a block that hangs, and measures nothing


class Block(NamedTuple):
    line: int
    language: str
    text: str


def blocks(document: str) -> list[Block]:
    """Fenced blocks of a Markdown file; ``line`` is that of the opening fence."""
    found, start, language, body = [], 0, "", list[str]()
    for number, line in enumerate((ROOT / document).read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"\s*```(.*)$", line)
        if fence and not start:
            start, language, body = number, fence[1].strip(), []
        elif fence:
            found.append(Block(start, language, "\n".join(body) + "\n"))
            start = 0
        elif start:
            body.append(line)
    assert not start, f"{document}:{start}: fence never closed"
    return found


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


BLANK = """
import sys

from icsmdp_jax.cli import main
from tests.bound_validation.runs import with_blank_figures

with with_blank_figures():
    sys.exit(main())
"""


@pytest.fixture
def blank(request: pytest.FixtureRequest) -> bool:
    """Whether the figures of a document's runs are blank: not under ``make test-slow``."""
    return not request.config.getoption("-m").startswith("slow")


@pytest.fixture
def desk(tmp_path: Path, blank: bool) -> tuple[Path, dict[str, str]]:
    """A directory like a fresh checkout, and an environment in which ``icsmdp`` and ``make`` are found."""
    tools = tmp_path / "tools"
    tools.mkdir()
    # Not the installed script: this is what pyproject.toml declares, for the code that is being tested.
    program = f"{sys.executable} -c 'import sys; from icsmdp_jax.cli import main; sys.exit(main())'"
    if blank:  # laying out and saving the figures of a report takes longer than all else that README.md does
        (tools / "blank.py").write_text(BLANK)
        program = f"{sys.executable} {tools / 'blank.py'}"
    executable(tools / "icsmdp", f'#!/bin/sh\nexec {program} "$@"\n')
    executable(tools / "make", f'#!/bin/sh\nexec {shutil.which("make")} -n -C "{ROOT}" "$@"\n')
    executable(tools / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    work = tmp_path / "checkout"
    shutil.copytree(ROOT / "examples", work / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (work / ".venv" / "bin").mkdir(parents=True)
    (work / ".venv" / "bin" / "activate").touch()
    environment = dict(os.environ)
    environment["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    environment["PYTHONPATH"] = str(ROOT)
    environment["MPLBACKEND"] = "Agg"
    environment.pop("MAKEFLAGS", None)
    return work, environment


SLOW = [pytest.param(page, marks=pytest.mark.slow) for page in DOCUMENTS[1:]]


@pytest.mark.parametrize("document", ["README.md", *SLOW])
def test_document_runs(document, desk):
    for package in NEEDS.get(document, ()):
        pytest.importorskip(package)
    work, environment = desk
    everything = blocks(document)
    assert any(block.language in RUN for block in everything)
    for block, following in zip(everything, [*everything[1:], None], strict=True):
        if block.language not in RUN:
            continue
        if block.language == "python":
            command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", block.text]
        else:
            text = block.text
            for pattern, smaller in SMALLER:
                text = re.sub(pattern, smaller, text)
            command = ["bash", "-euo", "pipefail", "-c", text]
        result = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert result.returncode == 0, (
            f"{document}:{block.line} exits with {result.returncode}\n{block.text}\n"
            f"{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        )
        if "ic.evaluate" in block.text:  # examples/ten_lines.py; one fixed seed: no error probability
            assert float(re.search(r": (-?[\d.]+) \[.*on the scale from 0", result.stdout)[1]) >= 0.9
        end = block.line + block.text.count("\n") + 1
        if block.language == "python" and following and following.language == "text" and following.line <= end + 2:
            assert result.stdout == following.text, f"{document}:{following.line}: the block above prints otherwise"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_block_escapes(document):
    unknown = [(b.line, b.language) for b in blocks(document) if b.language not in RUN | SHOWN]
    assert not unknown, f"{document}: name one of {sorted(RUN | SHOWN)} after the opening fence"


def pages() -> list[str]:
    return [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")),
    ]


@pytest.mark.parametrize("document", pages())
def test_links_lead_somewhere(document):
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<(?:img|a)[^>]*(?:src|href)="([^"]+)"', text)
    here = (ROOT / document).parent
    missing = [
        target
        for target in targets
        if not re.match(r"[a-z]+:", target) and target.split("#")[0] and not (here / target.split("#")[0]).exists()
    ]
    assert not missing, f"{document}: {missing}"


def test_readme_names_every_command():
    """The table of commands and the program agree."""
    with mock.patch.object(cli, "entry_points", declared):
        offered = re.search(r"\{([a-z,-]+)\}", cli.build_parser().format_help())
    assert offered
    listed = re.findall(r"^\| `icsmdp ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(offered[1].split(","))
