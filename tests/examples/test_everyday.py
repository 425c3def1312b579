"""What people do on a first day: each program of examples/ is short, runs, and does what it says."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import icsmdp_jax as ic
from bound_validation.results import write_table
from tests.bound_validation.synthetic_rows import samples_rows

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def printed(name: str, *arguments: Any) -> str:
    done = subprocess.run([sys.executable, EXAMPLES / name, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "lines"), [("gymnax_cartpole.py", 7), ("paper_figure.py", 20)])
def test_programs_are_as_short_as_they_say(name: str, lines: int) -> None:
    code = (EXAMPLES / name).read_text().split('"""', 2)[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= lines


@pytest.mark.slow
def test_a_gymnax_environment_is_learned() -> None:
    """One fixed key. The best possible return is near 100 = 1 / (1 - gamma), a random policy's near 17."""
    pytest.importorskip("gymnax")
    found = re.fullmatch(r"return ([\d.]+) \[([\d.]+), .*\], random workflow ([\d.]+)\n", printed("gymnax_cartpole.py"))
    assert found and float(found[2]) > 60 and 12 < float(found[3]) < 22


@pytest.mark.slow
def test_ours_runs_under_pettingzoo() -> None:
    pytest.importorskip("pettingzoo")
    out = printed("run_in_pettingzoo.py")
    assert re.fullmatch(r"eval-opt: -?[\d.]+ earned in [1-9]\d* primitive steps, nobody left: True\n", out)


@pytest.mark.slow
def test_an_interrupted_training_is_resumed(tmp_path: Path) -> None:
    assert printed("resume_training.py", tmp_path) == "resumed after 40 updates\nthe same bits: True\n"
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [line["updates"] for line in lines] == list(range(2, 101, 2))  # none twice, none missing


@pytest.mark.slow
def test_curves_have_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["learning_curves.py", str(tmp_path / "curves.png")])
    made = runpy.run_path(str(EXAMPLES / "learning_curves.py"))
    axes = made["figure"].axes[0]
    assert len(axes.collections) == 2 and (tmp_path / "curves.png").stat().st_size > 10_000
    for curves, band in zip(made["curves"].values(), axes.collections, strict=True):
        mean = np.asarray(curves.returns, np.float64).mean(axis=0)
        edges = band.get_paths()[0].vertices[:, 1]
        assert edges.min() < mean.min() and edges.max() > mean.max()


def test_a_paper_figure_from_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = samples_rows(np.random.default_rng(0))
    write_table(tmp_path / "results.parquet", rows)
    monkeypatch.setattr(sys, "argv", ["paper_figure.py", *(str(tmp_path / n) for n in ("results.parquet", "f.pdf"))])
    axes = runpy.run_path(str(EXAMPLES / "paper_figure.py"))["axes"]
    some = [row for row in rows if row.series == "constant_step"]
    groups = sorted({row.group for row in some})
    assert len(axes.lines) == 2 * len(groups) > 0 and (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
    for group, measured, bound in zip(groups, axes.lines[::2], axes.lines[1::2], strict=True):
        own = sorted((row.x, row.measured, row.bound) for row in some if row.group == group)
        np.testing.assert_array_equal(measured.get_xydata(), [row[:2] for row in own])
        np.testing.assert_array_equal(bound.get_ydata(), [row[2] for row in own])
    plt.close("all")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """examples/ferry as pip would install it: its module, and its entry points from its pyproject.toml."""
    project = tomllib.loads((EXAMPLES / "ferry" / "pyproject.toml").read_text())["project"]
    shutil.copy(EXAMPLES / "ferry" / "ferry.py", tmp_path)
    about = tmp_path / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )  # fmt: skip
    (about / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in entries.items())
                for group, entries in project["entry-points"].items())
    )  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ferry", raising=False)
    return tmp_path


def test_another_package_publishes_an_environment(installed: Path) -> None:
    assert ic.environments()[-1] == "ferry" and "ferry" not in sys.modules
    env, params = ic.make("ferry", seats=3)
    assert Path(sys.modules.pop("ferry").__file__ or "").parent == installed
    assert env.spec.name == "ferry" and float(params["seats"]) == 3
    with pytest.raises(ValueError, match="^ferry: argument 'seat', expected one of seats, gamma$"):
        ic.make("ferry", seat=3)


@pytest.mark.slow
def test_the_published_environment_keeps_the_contract(installed: Path) -> None:
    env, params = ic.make("ferry")
    seen = ic.check_environment(env, params, jax.random.key(0))
    assert (seen.agents, seen.longest, seen.terminated) == (2, 4, 0)
