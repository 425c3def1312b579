"""What would be published: a wheel and a source archive that pass their checks and work in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("icsmdp_jax", "bound_validation")
TIMEOUT = 1800  # seconds: an empty environment downloads jax and compiles everything itself

pytestmark = pytest.mark.slow


def call(*command: object, cwd: Path) -> str:
    """Runs a command where nothing of the checkout can be imported; returns what it prints."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, f"{command[1:4]}: {done.stderr[-3000:]}"
    return done.stdout


def new_environment(place: Path) -> Path:
    """Python of a new virtual environment."""
    call(sys.executable, "-m", "venv", place, cwd=place.parent)
    return place / "bin" / "python"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both files, made from the tracked files alone, after they passed twine's checks."""
    folder = tmp_path_factory.mktemp("package")
    python, source = new_environment(folder / "tools"), folder / "source"
    pip = [str(python), "-m", "pip", "install", "--quiet", "build", "twine"]
    if subprocess.run(pip, capture_output=True, check=False, timeout=TIMEOUT).returncode:
        pytest.skip("build and twine cannot be installed here")
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    subprocess.run(["tar", "x", "-C", source], input=archive.stdout, check=True)
    call(python, "-m", "build", ".", cwd=source)
    files = sorted((source / "dist").iterdir())
    call(python, "-m", "twine", "check", "--strict", *files, cwd=folder)
    return source / "dist"


def test_both_hold_every_file_of_the_packages(built: Path) -> None:
    listing = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = set(listing.stdout.split())
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert tracked <= names and {f"{package}/py.typed" for package in PACKAGES} <= tracked
    assert not [name for name in names if not name.startswith((*PACKAGES, "icsmdp_jax-"))]
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked | {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "constraints.txt"} <= inside


def test_the_wheel_works_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "empty")
    wheel = next(built.glob("*.whl"))
    call(python, "-m", "pip", "install", "--quiet", wheel, "-c", ROOT / "constraints.txt", cwd=tmp_path)
    page = call(
        tmp_path / "empty/bin/icsmdp", "validate", "--preset", "testing", "--out", tmp_path / "out", cwd=tmp_path
    )
    assert Path(page.splitlines()[-1]).is_file() and Path(page.splitlines()[-1]).parent == tmp_path / "out"
    where = call(python, "-c", "import icsmdp_jax; print(icsmdp_jax.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path / "empty"))
