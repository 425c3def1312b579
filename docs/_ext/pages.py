"""Pages that are written when the site is built: notebooks, one page a figure, the API, the table of statements."""

from __future__ import annotations

import base64
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import notebooks
from sphinx.application import Sphinx
from statements import DOCS, PACKAGES, ROOT, cited, documented, faces, public_name, resolve, statements

OUT = DOCS / "generated"
PACKAGE_WORDS = {
    "icsmdp_jax": "Environments, models, exact analysis and learning: `import icsmdp_jax as ic`.",
    "bound_validation": "The bound, term by term, against measurement: `import bound_validation as bv`.",
}
FIRST_FIGURES = {"overview": "Overview: each source of error with its bound"}


WRITTEN: set[Path] = set()


def write(name: str, text: str) -> None:
    """Writes a page, unless it says the same already: Sphinx then need not read it again."""
    path = OUT / name
    WRITTEN.add(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def toctree(names: list[str], *options: str) -> str:
    return "\n".join(["```{toctree}", *options, "", *names, "```"]) + "\n"


# -- notebooks ---------------------------------------------------------------------------------------------------


def write_notebooks() -> None:
    """Runs each notebook and writes it as a page and as a file for Jupyter; one that has not changed is kept."""
    for path in sorted(notebooks.NOTEBOOKS.glob("*.py")):
        target, stamp = OUT / "notebooks" / path.stem, _stamp(path)
        kept = target.with_suffix(".stamp")
        if kept.exists() and kept.read_text() == stamp:
            WRITTEN.add(target.with_suffix(".md"))
            continue
        executed = notebooks.run(path)
        write(f"notebooks/{path.stem}.ipynb", json.dumps(notebooks.jupyter(executed), indent=1))
        write(f"notebooks/{path.stem}.md", _notebook_page(path.stem, executed))
        kept.write_text(stamp)


def _stamp(path: Path) -> str:
    """Changes with the notebook and with any line of the packages."""
    digest = hashlib.sha256(path.read_bytes() + Path(notebooks.__file__).read_bytes() + Path(__file__).read_bytes())
    for package in PACKAGES:
        for source in sorted((ROOT / package).rglob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()


def _notebook_page(name: str, executed: list[notebooks.Cell]) -> str:
    parts: list[str] = []
    for number, cell in enumerate(executed):
        if cell["cell_type"] == "markdown":
            parts.append(cell["source"])
            continue
        parts.append(f"```python\n{cell['source']}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                picture = f"{name}-{number}.png"
                (OUT / "notebooks" / picture).write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![What the cell above draws]({picture})")
            elif "text/html" in data:
                parts.append(f'<div class="output">\n{data["text/html"]}\n</div>')
            else:
                parts.append(f"```{{code-block}} text\n:class: output\n\n{data['text/plain'].rstrip()}\n```")
    get = f"Run it yourself: {{download}}`notebook for Jupyter <{name}.ipynb>`, "
    parts.insert(1, f"{get}{{download}}`Python file <../../notebooks/{name}.py>`.")
    return "\n\n".join(parts) + "\n"


# -- figures -----------------------------------------------------------------------------------------------------


def write_figures() -> None:
    """One page for each figure of a validation run, from the words of its axis and the tables of validation.md."""
    from bound_validation import words
    from bound_validation.axes import AXES
    from bound_validation.axis import resolved
    from bound_validation.report import text

    names = ["overview"]
    overview = _how_to_read("overview", text.OVERVIEW if isinstance(text.OVERVIEW, str) else "")
    write("figures/overview.md", f"# {FIRST_FIGURES['overview']}\n\n{overview}")
    for name, axis in AXES.items():
        if axis.figure is None or axis.words is None:
            continue
        section = resolved(axis.words)
        parts = [f"# {section.title}", _how_to_read(name, " ".join(section.captions.values()))]
        parts += ["## What is varied, and what should be seen", *section.paragraphs, *_tables(name)]
        write(f"figures/{name}.md", "\n\n".join(parts) + "\n")
        names.append(name)
    write(
        "figures/index.md",
        f"# Reading the figures\n\n{words.READING}\n\n{text.INFORMATIVE}\n\n{toctree(names, ':maxdepth: 1')}\n"
        "The figures of an experiment have [a page of their own](../../experiment_figures.md).\n",
    )


def _how_to_read(name: str, caption: str) -> str:
    picture = DOCS / "figures" / "validation" / f"{name}.png"
    if name == "overview":
        picture = DOCS / "figures" / "overview.png"
    shown = f"![{name}](../../{picture.relative_to(DOCS)})\n\n" if picture.exists() else ""
    first, *panels = re.split(r"\s*\(([a-z])\)\s+", caption)
    items = [f"- **({letter})** {what}" for letter, what in zip(panels[::2], panels[1::2], strict=True)]
    return shown + "\n".join([first, "", *items]) + "\n"


def _tables(axis: str) -> Iterator[str]:
    """What validation.md says about the rows of an axis and the claims that are judged on it."""
    page = (DOCS / "validation.md").read_text(encoding="utf-8")
    match = re.search(rf"^### (`{axis}`.*)$", page, re.MULTILINE)
    if match:
        yield f"The series and their columns: [validation runs](../../validation.md#{slug(match[1])})."
    claims = page.split("\n## Claims\n")[1].split("\n## ")[0]
    rows = [re.sub(r"\]\((?=\w+\.md)", "](../../", row) for row in re.findall(rf"^\| `{axis}_.*$", claims, re.M)]
    if rows:
        yield "\n".join(["## What is judged on it", "", "| claim | number |", "|---|---|", *rows])


def slug(heading: str) -> str:
    """The anchor that GitHub and MyST give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# -- API ---------------------------------------------------------------------------------------------------------


def write_api() -> None:
    """A page for every public name, one for every module whose functions the pages name, and their lists."""
    top = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        lines = [f"# {package}", PACKAGE_WORDS[package], "| name | what |\n|---|---|"]
        rows = []
        for name in sorted(module.__all__, key=str.lower):
            dotted, value = f"{package}.{name}", getattr(module, name)
            write(f"api/{dotted}.md", _public_page(package, name, value))
            rows.append(f"| [`{name}`]({dotted}.md) | {_summary(name, value)} |")
        pages = [f"{package}.{name}" for name in sorted(module.__all__, key=str.lower)]
        text = "\n\n".join(lines) + "\n" + "\n".join(rows) + "\n\n" + toctree(pages, ":hidden:")
        write(f"api/{package}.md", f"```{{py:module}} {package}\n```\n\n{text}")
        top.append(package)
    modules = []
    for module_name, members in documented().items():
        if module_name not in PACKAGES:
            write(f"api/modules/{module_name}.md", _module_page(module_name, members))
            modules.append(f"modules/{module_name}")
    write(
        "api/modules.md",
        "# Behind the public names\n\nModules, functions and classes that these pages and the theory refer to. They "
        f"may change between versions; the [public names](icsmdp_jax.md) do so only with an entry in the changelog.\n\n"
        f"{toctree(modules, ':maxdepth: 1')}",
    )


def _public_page(package: str, name: str, value: Any) -> str:
    dotted = f"{package}.{name}"
    parts = ["# " + name.replace("_", r"\_")]
    if inspect.isclass(value):
        parts.append(_autodoc("autoclass", dotted, "   :members:\n"))
    elif callable(value):
        parts.append(_autodoc("autofunction", dotted))
    elif name == "METHODS":
        rows = [f"| `{key}` | {one.label} | {one.wording} |" for key, one in value.items()]
        about = "The methods that `setup` knows, by name: a dictionary of `icsmdp_jax.learner.methods.Method`."
        parts.append(f"```{{py:data}} {dotted}\n```\n\n{about}")
        parts.append("\n".join(["| name | label | what it sees and what crosses |", "|---|---|---|", *rows]))
    else:
        parts.append(f"```{{py:data}} {dotted}\n```\n\n{_summary(name, value)}.")
    used = [f"[{title}](../../{page})" for page, title in _used().get(dotted, {}).items()]
    if used:
        parts.append(f"Used in: {', '.join(used)}.")
    return "\n\n".join(parts) + "\n"


def _module_page(module: str, members: list[str]) -> str:
    about = inspect.getdoc(importlib.import_module(module)) or ""
    first = about.split("\n\n")[0].replace("\n", " ")
    parts = [f"# {module}", f"```{{py:module}} {module}\n```", re.sub(r"``", "`", first)]
    for member in members:
        is_class = inspect.isclass(resolve(f"{module}.{member}"))
        options = "   :members:\n" if is_class else ""
        parts.append(_autodoc("autoclass" if is_class else "autofunction", f"{module}.{member}", options))
    return "\n\n".join(parts) + "\n"


def _autodoc(directive: str, dotted: str, options: str = "") -> str:
    return f"```{{eval-rst}}\n.. {directive}:: {dotted}\n{options}```"


def _summary(name: str, value: Any) -> str:
    if name == "__version__":
        return "The version of the package"
    if name == "METHODS":
        return "All methods by name"
    return re.sub(r"``", "`", (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|"))


@cache
def _used() -> dict[str, dict[str, str]]:
    """Pages whose code uses a public name, by its dotted name."""
    found: dict[str, dict[str, str]] = {}
    for page in sorted([*DOCS.glob("*.md"), *DOCS.glob("notebooks/*.py")]):
        text = page.read_text(encoding="utf-8")
        title = re.search(r"^(?:# %% \[markdown\]\n# )?# (.*)$", text, re.MULTILINE)
        code = text if page.suffix == ".py" else "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))
        target = f"generated/notebooks/{page.stem}.md" if page.suffix == ".py" else page.name
        for short, name in re.findall(r"\b(ic|bv)\.(\w+)", code):
            found.setdefault(public_name(f"{short}.{name}"), {})[target] = title[1] if title else page.stem
        for module, names in re.findall(r"^from ([\w.]+) import ([\w, ]+)$", code, re.MULTILINE):
            for name in names.replace(" ", "").split(","):
                dotted = faces().get(f"{module}.{name}")
                if dotted:
                    found.setdefault(dotted, {})[target] = title[1] if title else page.stem
    return found


def add_statements(_: Sphinx, __: str, name: str, ___: Any, ____: Any, lines: list[str]) -> None:
    """Under a docstring, the statements of the theory that name this function or class."""
    found = [s.title for s in statements().values() if public_name(name) in map(public_name, s.computed_by)]
    if found:
        lines += ["", f"Statements: {'; '.join(found)}.", ""]


# -- statements --------------------------------------------------------------------------------------------------


def write_statements() -> None:
    """Which functions implement which statement, from the theory and from the docstrings."""
    text = [
        "# Statements and their code",
        "Every definition, lemma and theorem of the [theory](../theory.md), the functions that compute it, and the "
        "other functions and classes whose documentation cites it. Each function's page names its statements in turn.",
        "| statement | computed by | cited by |\n|---|---|---|",
    ]
    rows = []
    for label, statement in statements().items():
        computed = [public_name(name) for name in statement.computed_by]
        others = [public_name(name) for name in cited()[label] if public_name(name) not in computed]
        title = statement.title.partition(". ")[2]
        rows.append(f"| {label} {title} | {_names(computed)} | {_names(others)} |")
    write("statements.md", "\n\n".join(text) + "\n" + "\n".join(rows) + "\n")


def _names(dotted: list[str]) -> str:
    by_last = sorted(dotted, key=lambda name: name.rpartition(".")[2].lower())
    return ", ".join(f"{{py:obj}}`~{name}`" for name in by_last)


def write_all(_: Sphinx) -> None:
    steps: tuple[Callable[[], None], ...] = (write_figures, write_api, write_statements, write_notebooks)
    WRITTEN.clear()
    for step in steps:
        step()
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):  # GitHub shows these next to the README, the site among its pages
        text = re.sub(r"\]\(docs/", "](../", (ROOT / name).read_text(encoding="utf-8"))
        write(name.lower(), re.sub(r"\]\((CHANGELOG|CONTRIBUTING)", lambda match: f"]({match[1].lower()}", text))
    for page in set(OUT.rglob("*.md")) - WRITTEN:  # of names that are gone
        page.unlink()


def to_generated(_: Sphinx, docname: str, source: list[str]) -> None:
    """Pages link to what GitHub shows; on the site changelog, notebooks and figures have pages that are generated."""
    if "/" not in docname:
        source[0] = source[0].replace("](validation.md#the-figures)", "](generated/figures/index.md)")
        source[0] = source[0].replace("the site lists its statements", "[statements](generated/statements.md)")
        source[0] = source[0].replace("](../CHANGELOG.md", "](generated/changelog.md")
        source[0] = re.sub(r"\]\(notebooks/(\w+)\.py\)", r"](generated/notebooks/\1.md)", source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_all)
    app.connect("source-read", to_generated)
    app.connect("autodoc-process-docstring", add_statements, priority=700)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
