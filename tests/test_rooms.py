"""The rooms of both packages stand in order: imports point one way, and no files import each other in a circle.

Imports inside functions count, since they are arrows as well; those under ``TYPE_CHECKING`` do not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
Imports = dict[str, set[str]]  # a module's dotted name: those that it imports

# Rooms on one line may not import each other; a room may import itself and whatever stands on an earlier line.
HANDOFF = {"icsmdp_jax.core.handoff"}
ORDER: dict[str, list[set[str]]] = {
    "icsmdp_jax": [
        {"io", "core", "devices", "endings"},
        {"models", "runs", "runtime", "pages"},
        {"exact"},
        {"envs"},
        {"adapters", "learner"},
        {"traces"},
        {"drawing"},
        {"experiments"},
        {"commands"},
        {"cli"},
    ],
    "bound_validation": [
        {"theorem", "words"},
        {"results", "axis"},
        {"intervals"},
        {"tasks"},
        {"views", "bounds"},
        {"cell"},
        {"certificates"},
        {"drawing"},
        {"axes"},
        {"sweep"},
        {"report", "compare"},
        {"running"},
        {"command", "bound_command"},
        {"__main__"},
    ],
}
# The command of a custom sweep and what runs it stand above the one way to finish a run.
ABOVE_RUN = {"bound_validation.sweep.run": "running", "bound_validation.sweep.command": "command"}


def modules(package: Path) -> dict[str, Path]:
    """Dotted names of all modules of a package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str, known: Mapping[str, object]) -> set[str]:
    """The known modules that a source imports, wherever the import stands."""
    found: set[str] = set()
    for node in _at_run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found.add(inside if inside in known else node.module)
    return {name for name in found if name in known}


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield from _at_run_time(other)
        else:
            yield from _at_run_time(child)


def upward(imports: Imports) -> list[str]:
    """Imports that do not point to an earlier line of ``ORDER``."""

    def place(name: str) -> tuple[str, str, int]:
        package, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        if name in ABOVE_RUN:
            return package, ABOVE_RUN[name], _line(package, ABOVE_RUN[name])
        return package, room, _line(package, room)

    wrong = []
    for name, targets in imports.items():
        package, room, line = place(name)
        for target in targets:
            its_package, its_room, its_line = place(target)
            if not its_room:  # the package itself: its version, its lazy face
                continue
            if package != its_package:
                allowed = package == "bound_validation"
            else:
                allowed = room == its_room or its_line < line
            if not allowed:
                wrong.append(f"{name} -> {target}")
    return sorted(wrong)


def _line(package: str, room: str) -> int:
    if not room:
        return -1
    lines = [index for index, rooms in enumerate(ORDER[package]) if room in rooms]
    assert lines, f"{package}.{room}: a room that has no place in the order"
    return lines[0]


def circles(imports: Imports) -> list[list[str]]:
    """One circle for each file at which a walk along the imports comes back to itself."""
    done: set[str] = set()
    found: list[list[str]] = []

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            found.append(path[path.index(name) :])
        elif name not in done:
            for target in sorted(imports.get(name, ())):
                walk(target, [*path, name])
            done.add(name)

    for name in sorted(imports):
        walk(name, [])
    return found


@cache
def all_imports() -> Imports:
    known = modules(ROOT / "icsmdp_jax") | modules(ROOT / "bound_validation")
    return {name: imported(path.read_text(encoding="utf-8"), known) - {name} for name, path in known.items()}


def test_imports_point_one_way() -> None:
    assert upward(all_imports()) == []


def test_the_runtime_imports_nothing_but_io() -> None:
    imports = all_imports()
    found = {target for name, targets in imports.items() if name.startswith("icsmdp_jax.runtime") for target in targets}
    assert {name for name in found if not name.startswith("icsmdp_jax.runtime")} == {"icsmdp_jax.io"}
    assert not imports["icsmdp_jax.io"]


def test_no_files_import_each_other_in_a_circle() -> None:
    # A package's own file collects names from below it; what lies below may name its package without a circle.
    imports = all_imports()
    packages = {name for name in imports if any(other.startswith(f"{name}.") for other in imports)}
    files = {name: targets - packages for name, targets in imports.items() if name not in packages}
    assert circles(files) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from icsmdp_jax.core import handoff", {"icsmdp_jax.core.handoff"}),
        ("def f():\n    from icsmdp_jax.io import atomic_write", {"icsmdp_jax.io"}),
        ("if TYPE_CHECKING:\n import icsmdp_jax.io\nelse:\n import icsmdp_jax.core.handoff", HANDOFF),
    ],
)  # fmt: skip
def test_imports_are_found_wherever_they_stand(source: str, expected: set[str]) -> None:
    assert imported(source, {"icsmdp_jax.io": 0, "icsmdp_jax.core": 0, "icsmdp_jax.core.handoff": 0}) == expected


@pytest.mark.parametrize(
    ("name", "target", "allowed"),
    [
        ("icsmdp_jax.exact.chain", "icsmdp_jax.models.tabular", True),
        ("icsmdp_jax.models.tabular", "icsmdp_jax.exact.chain", False),
        ("icsmdp_jax.models.files", "icsmdp_jax.runs.engine", False),
        ("icsmdp_jax.cli", "bound_validation.running", False),
        ("bound_validation.cell", "icsmdp_jax.learner.train", True),
        ("bound_validation.sweep.cells", "bound_validation.running", False),
        ("bound_validation.sweep.run", "bound_validation.running", True),
    ],
)
def test_a_planted_import_is_judged(name: str, target: str, allowed: bool) -> None:
    assert (upward({name: {target}}) == []) is allowed


def test_a_planted_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
