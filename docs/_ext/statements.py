"""What the theory and the code say about each other: labels of statements, and the names that compute them."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
PACKAGES = ("icsmdp_jax", "bound_validation")
# One letter alone is a label only where nothing else can be meant: in brackets, or after the word theorem.
ENTRY = r"(?:[DLTPAN]\d+(?:\.\d+)?\+?|N\+)"
LABEL = re.compile(rf"(?<![\w.\-]){ENTRY}(?![\w+])|(?<=heorem )[BN]\b|(?<=\()[EBN](?=[,);])")
HEADING = re.compile(rf"(?:{ENTRY}|[NBE])(?=\. )")
DOTTED = re.compile(r"`((?:icsmdp_jax|bound_validation)(?:\.\w+)+)`")


class Statement(NamedTuple):
    """An entry of the theory: its title, and the dotted names after "Computed by"."""

    title: str
    computed_by: tuple[str, ...]


def labels(text: str) -> Iterator[tuple[int, int]]:
    """Where labels of statements stand in a text."""
    return (match.span() for match in LABEL.finditer(text))


def label_of_heading(title: str) -> str | None:
    match = HEADING.match(title)
    return match[0] if match else None


def anchor(label: str) -> str:
    return label.lower().replace(".", "-").replace("+", "-plus")


@cache
def statements() -> dict[str, Statement]:
    """All entries of docs/theory.md by label, in its order."""
    found: dict[str, Statement] = {}
    for part in re.split(r"^### ", (DOCS / "theory.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title = part.partition("\n")[0]
        label = label_of_heading(title)
        if label:
            computed = re.findall(r"^Computed by: (.*)$", part, re.MULTILINE)
            found[label] = Statement(title, tuple(DOTTED.findall(" ".join(computed))))
    return found


@cache
def cited() -> dict[str, list[str]]:
    """Dotted names of functions and classes whose docstrings cite a statement, by its label."""
    found: dict[str, list[str]] = {label: [] for label in statements()}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    text = ast.get_docstring(node) or ""
                    for label in dict.fromkeys(text[start:stop] for start, stop in labels(text)):
                        found.get(label, []).append(f"{module}.{node.name}")
    return found


@cache
def faces() -> dict[str, str]:
    """Public names, such as ``icsmdp_jax.make``, by the dotted names of what they stand for."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            home = getattr(value, "__module__", None)
            if inspect.isfunction(value) or inspect.isclass(value):
                found[f"{home}.{value.__name__}"] = f"{package}.{name}"
    return found


def public_name(text: str) -> str:
    """The name under which something has a page, from what a text calls it."""
    name = re.sub(r"\(.*\)$", "", text)
    name = re.sub(r"^(ic|bv)\.", lambda match: {"ic": "icsmdp_jax.", "bv": "bound_validation."}[match[1]], name)
    return faces().get(name, name)


def resolve(dotted: str) -> Any:
    """What a dotted name stands for; None where there is no such thing."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part, None)
        return value
    return None


@cache
def documented() -> dict[str, list[str]]:
    """Modules, and their functions and classes without a page among the public names that the theory or a page of the
    documentation names, or that cite a statement."""
    names = {name for statement in statements().values() for name in statement.computed_by}
    names |= {name for those in cited().values() for name in those}
    for page in DOCS.rglob("*.md"):
        if not {"_build", "generated"} & set(page.parts):
            names |= set(DOTTED.findall(page.read_text(encoding="utf-8")))
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        value = resolve(name)
        module, _, last = name.rpartition(".")
        if isinstance(value, ModuleType):
            found.setdefault(name, [])
        elif (inspect.isfunction(value) or inspect.isclass(value)) and isinstance(resolve(module), ModuleType):
            if name not in faces() and name not in faces().values() and not last.startswith("_"):
                found.setdefault(module, []).append(last)
    return {module: found[module] for module in sorted(found)}
