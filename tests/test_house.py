"""House rules that no single module can check: versions, entry points, imports, tracked files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
PIN = re.compile(rf'({NAME})==([0-9][0-9A-Za-z.+!]*)(?: ; (python_version (?:<|>=) "3\.\d+"))?')


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))


def project_files() -> list[Path]:
    """Files that are tracked or would be: what git ignores is left out."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    paths = (ROOT / os.fsdecode(name) for name in listing.stdout.split(b"\0") if name)
    return [path for path in paths if path.is_file()]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> list[tuple[str, str, str]]:
    """``(name, version, marker)`` of every line of constraints.txt."""
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    matches = [(line, PIN.fullmatch(line)) for line in lines]
    wrong = [line for line, match in matches if match is None]
    assert not wrong, f"expected name==version with at most a python_version marker: {wrong}"
    return [(canonical(match[1]), match[2], match[3] or "") for _, match in matches if match]


def test_constraints_pin_each_name_once_per_python():
    seen: dict[str, list[str]] = {}
    for name, _, marker in pins():
        seen.setdefault(name, []).append(marker)
    for name, markers in seen.items():
        both = ['python_version < "3.12"', 'python_version >= "3.12"']
        assert markers in ([""], both), f"{name}: {markers}"


def test_constraints_cover_what_the_project_requires():
    required = list(project()["project"]["dependencies"])
    for extra in ("dev", "docs"):
        required += project()["project"]["optional-dependencies"][extra]
    names = {canonical(re.match(NAME, requirement)[0]) for requirement in required}
    assert names <= {name for name, _, _ in pins()}


def test_every_version_of_the_project_agrees():
    version = project()["project"]["version"]
    assert f"\nversion: {version}\n" in read("CITATION.cff")
    latest = re.search(r"^## \[(.+?)\] - (\d{4}-\d\d-\d\d)$", read("CHANGELOG.md"), re.MULTILINE)
    assert latest and latest[1] == version
    assert f"\ndate-released: {latest[2]}\n" in read("CITATION.cff")


def test_changelog_states_numerical_behaviour_of_the_current_version():
    version = re.escape(project()["project"]["version"])
    section = re.search(rf"^## \[{version}\].*?(?=^## |\Z)", read("CHANGELOG.md"), re.MULTILINE | re.DOTALL)
    assert section
    part = re.search(r"^### Numerical behaviour\n+(.*?)(?=^### |\Z)", section[0], re.MULTILINE | re.DOTALL)
    assert part and part[1].lstrip().startswith("- ")


def test_ci_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert lines[0].startswith("#!") and "set -euo pipefail" in lines and "make test" in lines


TARGETS = ("help", "install", "validate", "test", "test-slow", "coverage", "lint", "bench", "docs", "clean")


@pytest.mark.parametrize("target", TARGETS)
def test_makefile_has_target(target):
    dry = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr
    assert re.search(rf"^{target}:.*## ", read("Makefile"), re.MULTILINE), "make help would not list it"


def test_makefile_passes_the_extra_on():
    dry = subprocess.run(
        ["make", "-n", "-W", "pyproject.toml", "install", "JAX=cuda13"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '-e ".[dev,cuda13]" -c constraints.txt' in dry.stdout


def test_no_file_names_a_package_source():
    # In pieces, or this file would be the finding.
    forbidden = [b"index" + b"-url", b"/simple" + b"/", b"#sha" + b"256="]
    files = project_files()
    assert len(files) > 20
    found = [
        (str(path.relative_to(ROOT)), word)
        for path in files
        if path.suffix in {"", ".py", ".toml", ".txt", ".md", ".cff", ".cfg", ".yml", ".yaml", ".json", ".in"}
        for word in forbidden
        if word in path.read_bytes()
    ]
    assert not found


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        # Importing the library must not pay for figures, tables and networks: they load where they are used.
        ("icsmdp_jax", ["matplotlib", "pyarrow", "flax", "optax", "jinja2", "bound_validation"]),
        # The theorem takes constants, never a model or a key.
        ("bound_validation.theorem", ["jax", "icsmdp_jax"]),
        ("icsmdp_jax.runtime.agent", ["jax", "scipy", "matplotlib", "pyarrow"]),
        ("icsmdp_jax.exact", ["matplotlib", "pyarrow", "flax", "optax", "jinja2", "bound_validation"]),
    ],
)
def test_import_stays_light(module, heavy):
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_x64_is_left_alone():
    code = "import icsmdp_jax, icsmdp_jax.exact, jax; print(jax.config.jax_enable_x64)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=without("JAX_ENABLE_X64"),
    )
    assert result.stdout.strip() == "False"


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != name}


@pytest.mark.parametrize("package", ["icsmdp_jax", "bound_validation"])
def test_package_is_typed_and_keeps_to_its_side(package):
    assert (ROOT / package / "py.typed").is_file()
    if package == "icsmdp_jax":  # the command line is the one place where the two packages meet, when it is called
        for path in (ROOT / package).rglob("*.py"):
            imports = re.findall(r"^(?:from|import) +bound_validation", path.read_text(), re.MULTILINE)
            assert not imports, f"{path.relative_to(ROOT)} imports bound_validation"


def test_licence_is_apache_2():
    text = read("LICENSE")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
    assert project()["project"]["license"] == "Apache-2.0"
