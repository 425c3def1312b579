"""The documentation site: links lead somewhere, labels and names exist, every block of code is run by some test."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import dropwhile
from pathlib import Path
from unittest import mock

import pytest

from icsmdp_jax import cli
from tests.bound_validation.runs import declared
from tests.pages import DOCS

ROOT = DOCS.parent
sys.path.append(str(DOCS / "_ext"))
import notebooks  # noqa: E402 - stands beside the configuration of the site
import statements  # noqa: E402

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("rfc/*.md"))]
NOTEBOOKS = sorted(notebooks.NOTEBOOKS.glob("*.py"))
# Which test runs the code of a page; pages of other tests are named there in the same way.
RUN_BY = {
    "README.md": "test_readme.py",
    "start.md": "test_readme.py",
    "tutorial.md": "test_readme.py",
    "practice.md": "test_readme.py",
    "communication.md": "test_readme.py",
    "warm_start.md": "test_readme.py",
    "reproducibility.md": "test_readme.py",
    "runtime.md": "test_readme.py",
    "adapters.md": "adapters/test_adapters_page.py",
    "training.md": "adapters/test_adapters_page.py",
    "adaptable.md": "learner/test_adaptable_learning.py",
    "advise.md": "exact/test_advice.py",
    "environments.md": "envs/test_environments_page.py",
    "extending.md": "test_extending_page.py",
    "large_models.md": "exact/test_large_models.py",
    "learner.md": "learner/test_learner_page.py",
    "models.md": "examples/test_documented.py",
    "scaling.md": "runs/test_scaling_page.py",
    "sweeps.md": "bound_validation/sweep/test_page.py",
    "table.md": "bound_validation/test_table_page.py",
    "validation.md": "runs/test_scaling_page.py",
}


def slugs(page: Path) -> set[str]:
    """Anchors of a page, as GitHub and the site make them."""
    if page.suffix != ".md":
        return set()
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()).replace(" ", "-")
        found.add(next(s for s in (slug, *(f"{slug}-{n}" for n in range(1, 99))) if s not in found))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_anchors_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        if anchor and ":" not in name and anchor not in slugs((page.parent / name) if name else page):
            lost.append(target)
    assert not lost


def test_a_lost_anchor_would_be_found() -> None:
    assert "t1-interface-gap" in slugs(DOCS / "theory.md") and "t1" not in slugs(DOCS / "theory.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_with_code_is_run(page: Path) -> None:
    if re.search(r"^```python", page.read_text(encoding="utf-8"), re.MULTILINE):
        test = ROOT / "tests" / RUN_BY[page.name]
        assert page.name in test.read_text(encoding="utf-8")


def commands(page: Path) -> list[list[str]]:
    """Words of every line of the shell blocks, without comments and assignments; optional arguments are given."""
    lines = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    found = [shlex.split(re.sub(r"\[|\]", "", line), comments=True) for block in lines for line in block.splitlines()]
    return [list(dropwhile(lambda word: "=" in word, words)) for words in found if words]


NOT_RUN = [page for page in PAGES if not re.search("readme|sweep", RUN_BY.get(page.name, "")) and commands(page)]


@pytest.mark.parametrize("page", NOT_RUN, ids=lambda page: page.stem)
def test_every_command_is_one_that_exists(page: Path) -> None:
    """On pages whose shell blocks no test runs as they stand; those of the command line run the same with less."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    with mock.patch.object(cli, "entry_points", declared):
        parser = cli.build_parser()
    for program, *words in commands(page):
        if program == "icsmdp":
            parser.parse_args(words)
        elif program == "make":
            assert all(f"\n{word}:" in makefile or re.match("[A-Z_]+=", word) for word in words), words
        elif Path(program).name == "python":
            file = words[1].replace(".", "/") if words[0] == "-m" else words[0].removesuffix(".py")
            assert any((ROOT / file).with_suffix(end).exists() for end in (".py", "")), words
        else:
            raise AssertionError(f"{program} is not known here")


def test_names_behind_statements_exist() -> None:
    named = {name for statement in statements.statements().values() for name in statement.computed_by}
    assert len(named) > 60
    assert not [name for name in named if statements.resolve(name) is None]


def test_labels_in_docstrings_are_statements() -> None:
    """Every label that a docstring cites is an entry of the theory; A1 to A5 are the paper's."""
    known = set(statements.statements()) | {"A1", "A2", "A3", "A4", "A5"}
    assert {"T1.1", "T3+", "N+", "B", "E"} <= known
    unknown = {}
    for package in statements.PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                    text = re.sub(r"``.*?``", "", ast.get_docstring(node) or "")
                    cited = {text[start:stop] for start, stop in statements.labels(text)}
                    if cited - known:
                        unknown[f"{path.name}:{getattr(node, 'name', '')}"] = cited - known
    assert not unknown


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("T1.1, T3+ and P2.", ["T1.1", "T3+", "P2"]),
        ("(E) of theorem B, not E[X] or B", ["E", "B"]),
        ("GT1, T1x, D12 (N+)", ["D12", "N+"]),
    ],
)
def test_labels_are_told_from_other_words(text: str, found: list[str]) -> None:
    assert [text[start:stop] for start, stop in statements.labels(text)] == found


@pytest.mark.parametrize("package", statements.PACKAGES)
def test_public_names_are_documented(package: str) -> None:
    """One line of its own for each: the page of a public name is made from it."""
    module = importlib.import_module(package)
    without = [
        name
        for name in module.__all__
        if callable(value := getattr(module, name)) and not re.match(r"\S.*[.:]", value.__doc__ or "")
    ]
    assert not without


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_code_and_words(path: Path) -> None:
    """A title first, then cells that parse and that use public names which exist."""
    first, *rest = notebooks.cells(path.read_text(encoding="utf-8"))
    assert first["cell_type"] == "markdown" and first["source"].startswith("# ")
    code = "\n".join(cell["source"] for cell in rest if cell["cell_type"] == "code")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"ic", "bv"}:
            package = {"ic": "icsmdp_jax", "bv": "bound_validation"}[node.value.id]
            assert node.attr in importlib.import_module(package).__all__
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(statements.PACKAGES):
            assert all(hasattr(importlib.import_module(node.module), alias.name) for alias in node.names)


def test_cells_of_a_percent_file() -> None:
    found = notebooks.cells('"""x"""\n# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\na = 1\na\n')
    assert [cell["cell_type"] for cell in found] == ["markdown", "code"]
    assert [cell["source"] for cell in found] == ["# Title\n\nWords.", "a = 1\na"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path) -> None:
    executed = notebooks.run(path)
    assert any(cell["outputs"] for cell in executed if cell["cell_type"] == "code")


def test_extras_are_listed() -> None:
    listed = set(
        re.findall(r"`([\w-]+)`", re.search(r"\n## Extras\n(.*)", _read("start.md"), re.S)[1].split("\n\nAs")[0])
    )  # type: ignore[index]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) <= listed


def _read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_is_built(tmp_path: Path) -> None:
    """Without a warning, with a page for every public name, links both ways, and nothing loaded from elsewhere."""
    for needed in ("sphinx", "myst_parser", "furo", "math_core", "sphinx_copybutton"):
        pytest.importorskip(needed)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    for package in statements.PACKAGES:
        for name in importlib.import_module(package).__all__:
            page = (tmp_path / "generated" / "api" / f"{package}.{name}.html").read_text(encoding="utf-8")
            assert f'id="{package}.{name}"' in page
    theory = (tmp_path / "theory.html").read_text(encoding="utf-8")
    assert all(f'id="{statements.anchor(label)}"' in theory for label in statements.statements())
    assert 'href="generated/api/modules/icsmdp_jax.exact.chain.html#icsmdp_jax.exact.chain.mixing_time"' in theory
    chain = (tmp_path / "generated/api/modules/icsmdp_jax.exact.chain.html").read_text(encoding="utf-8")
    assert 'href="../../../theory.html#d8"' in chain
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]*src="(\w+:[^"]*)"|<link[^>]*href="(\w+:[^"]*)"', page.read_text()
        )
        assert not [address for pair in loaded for address in pair if address.startswith("http")], page
