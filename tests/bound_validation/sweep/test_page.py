"""docs/sweeps.md is run, and its table of keys is what the program knows; so are the examples."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bound_validation.sweep.definition import MEASURES, Sweep
from bound_validation.sweep.families import FILE_COORDINATES
from bound_validation.sweep.toml import SPACED, TABLES, read_sweep, sweep_of
from examples import own_sweep
from tests.bound_validation.runs import ROOT, declared
from tests.bound_validation.sweep.small import EXAMPLE
from tests.test_readme import RUN, SHOWN, blocks, desk  # noqa: F401 - desk is a fixture

PAGE = "docs/sweeps.md"


def text() -> str:
    return (ROOT / PAGE).read_text(encoding="utf-8")


def test_the_table_of_keys_is_what_the_program_knows():
    listed: dict[str, set[str]] = {}
    table = ""
    for line in re.search(r"^## Every key$(.*?)^## ", text(), re.MULTILINE | re.DOTALL)[1].splitlines():  # type: ignore[index]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or len(cells) < 4:
            continue
        table = re.sub(r"[`\[\]]", "", cells[0]) or table
        listed.setdefault(table, set()).update(re.findall(r"^`([^`]+)`$", cells[1]))
    assert {name: listed[name] for name in TABLES if name != "axes"} == {
        name: set(keys) for name, keys in TABLES.items() if name != "axes"
    }
    assert listed["axes"] == {"learner.width", "learner.samples"}
    for name in (*MEASURES, *SPACED, *FILE_COORDINATES):
        assert re.search(rf"\b{name}\b", text()), name


def test_documented_defaults_are_those_of_the_class():
    fields = {field.name: field.default for field in dataclasses.fields(Sweep)}
    for key, said in re.findall(r"^\| (?:`\[\w+\]`)? ?\| `(\w+)` \| .* \| ([\d, ]+) \|$", text(), re.MULTILINE):
        numbers = tuple(int(number) for number in said.split(","))
        default = fields[key]
        assert numbers == (default if isinstance(default, tuple) else (default,)), key


def test_every_toml_block_is_a_sweep():
    found = [block for block in blocks(PAGE) if block.language == "toml"]
    assert found
    for block in found:
        sweep_of(tomllib.loads(block.text), ROOT)
    first, example = sweep_of(tomllib.loads(found[0].text), ROOT), read_sweep(EXAMPLE)
    assert first.manifest() == example.manifest()
    assert [cell.id for cell in first.cells()][4] == "hidden-and-long/gap=0.1,duration_mean=6"


def test_no_block_escapes():
    assert {block.language for block in blocks(PAGE)} <= RUN | SHOWN | {"toml"}


def test_the_command_is_declared():
    assert "bound_validation.sweep.command:add_command" in [entry.value for entry in declared("icsmdp_jax.commands")]


def test_the_family_of_the_example_is_what_its_text_says():
    from icsmdp_jax.exact.constants import analyse

    closed, opened = analyse(own_sweep.drafts(0.0)), analyse(own_sweep.drafts(1.0))
    assert closed.gap.gap < 1e-9 < opened.gap.gap and opened.a6_certified
    np_accuracy = own_sweep.drafts(1.0, accuracy=0.7).transition[0, own_sweep.CAREFUL]  # type: ignore[index]
    right, seen_right = np_accuracy[3:5].sum(), np_accuracy[4]
    assert seen_right / right == pytest.approx(0.7) and right / np_accuracy[1:].sum() == pytest.approx(0.9)
    with pytest.raises(ValueError, match="accuracy = 1: expected a number above 0 and below 1"):
        own_sweep.drafts(1.0, accuracy=1)


@pytest.mark.slow
def test_page_runs(desk: tuple[Path, dict[str, str]]):  # noqa: F811
    """Every command and Python block, in order, in a folder like a fresh checkout: both examples are among them."""
    work, environment = desk
    everything = blocks(PAGE)
    ran = 0
    for block, following in zip(everything, [*everything[1:], None], strict=True):
        if block.language not in RUN:
            continue
        python = block.language == "python"
        command = [sys.executable, "-c", block.text] if python else ["bash", "-euo", "pipefail", "-c", block.text]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{PAGE}:{block.line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        if python and following and following.language == "text":
            assert done.stdout == following.text
        ran += 1
    assert ran >= 4
    for place in ("own_sweep", "drafts"):
        assert (work / "results" / place / "report.html").exists()
        figures = work / "results" / place / "figures"
        drawn = {kind: {path.stem for path in figures.glob(f"*.{kind}")} for kind in ("png", "pdf", "json")}
        assert drawn["png"] == drawn["json"] == {"interface", "residual", "spread", "total", "checks"}
        assert drawn["pdf"] == drawn["png"] | {f"{name}-column" for name in drawn["png"]}
