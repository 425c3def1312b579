"""The documentation is run: every shell and Python block of README.md and four pages, in order.

Each document gets an empty directory with a copy of ``examples/`` and runs there as a reader would run it,
except that ``make`` only shows what it would do and that sample counts and presets are small. A ``text``
block right after a Python block is what that block prints. A block in a language that this file does not
know is an error, so that none escapes.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from icsmdp_jax import cli
from tests.bound_validation.runs import declared, icsmdp, with_blank_figures

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "docs/start.md", "docs/tutorial.md", "docs/practice.md", "docs/reproducibility.md"]
RUN = {"bash", "sh", "python"}
SHOWN = {"text", "bibtex"}  # not run
SMALLER = [
    (r"--samples \d+", "--samples 2000"),
    (r"--replicas \d+", "--replicas 2"),
    (r"--runs \d+", "--runs 400"),
    (r"--preset (quick|full)", "--preset testing"),
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


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether everything is run as a reader would run it: under ``make test-slow``, see ``run_here``."""
    return request.config.getoption("-m").startswith("slow")


def run_here(block: Block, text: str) -> tuple[int, str, str]:
    """Exit code and outputs of a block run in this process, where JAX is loaded and compiled programs are shared.

    Figures are blank: laying out and saving them takes longer than all else that README.md does.
    """
    out, err = io.StringIO(), io.StringIO()
    if block.language == "python":
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
            exec(compile(text, "<block>", "exec"), {"__name__": "__main__"})
        return 0, out.getvalue(), err.getvalue()
    for command in filter(None, text.splitlines()):
        if command.startswith("icsmdp "):
            with with_blank_figures():
                code, *said = icsmdp(*shlex.split(command)[1:])
        else:
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True)
            code, *said = done.returncode, done.stdout, done.stderr
        out.write(said[0])
        err.write(said[1])
        if code:
            return code, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


@pytest.fixture
def desk(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A directory like a fresh checkout, and an environment in which ``icsmdp`` and ``make`` are found."""
    tools = tmp_path / "tools"
    tools.mkdir()
    # Not the installed script: this is what pyproject.toml declares, for the code that is being tested.
    program = f"{sys.executable} -c 'import sys; from icsmdp_jax.cli import main; sys.exit(main())'"
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
def test_document_runs(document, desk, whole, monkeypatch):
    work, environment = desk
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", environment["PATH"])
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    everything = blocks(document)
    assert any(block.language in RUN for block in everything)
    for block, following in zip(everything, [*everything[1:], None], strict=True):
        if block.language not in RUN:
            continue
        text = block.text
        if block.language != "python":
            for pattern, smaller in SMALLER:
                text = re.sub(pattern, smaller, text)
        if whole:
            python = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c"]
            shell = ["bash", "-euo", "pipefail", "-c"]
            command = [*(python if block.language == "python" else shell), text]
            done = subprocess.run(
                command, cwd=work, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        else:
            code, out, err = run_here(block, text)
        assert code == 0, f"{document}:{block.line} exits with {code}\n{text}\n{out[-2000:]}\n{err[-4000:]}"
        if "ic.evaluate" in block.text:  # examples/ten_lines.py; one fixed seed: no error probability
            assert float(re.search(r": (-?[\d.]+) \[.*on the scale from 0", out)[1]) >= 0.9
        end = block.line + block.text.count("\n") + 1
        if block.language == "python" and following and following.language == "text" and following.line <= end + 2:
            assert out == following.text, f"{document}:{following.line}: the block above prints otherwise"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_block_escapes(document):
    unknown = [(b.line, b.language) for b in blocks(document) if b.language not in RUN | SHOWN]
    assert not unknown, f"{document}: name one of {sorted(RUN | SHOWN)} after the opening fence"


def pages() -> list[str]:
    return [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md") if "generated" not in p.parts),
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
