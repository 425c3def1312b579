"""docs/models.md: its examples print what it says, its table of shipped models is what the analysis gives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from icsmdp_jax import solve
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.models.files import FIELDS, load_model
from tests.examples.shipped import MODELS
from tests.pages import examples_print_what_they_say, named_things_exist, section_of, with_code

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
PRINTED = ["Names and fields", "Models from other libraries"]
COMMENTED = {"Shipped models": "(6092, 1260)", "Random models": "0.22"}  # as a comment in the block says


@pytest.mark.parametrize("section", PRINTED)
def test_examples_run(section):
    examples_print_what_they_say(PAGE, section)


@pytest.mark.slow
@pytest.mark.parametrize("section", COMMENTED)
def test_what_comments_say_is_printed(section, tmp_path, monkeypatch, capsys):
    if section == "Shipped models":  # the exact solution instead of a learned one
        q = solve(load_model(MODELS / "routing_6x6_plain.npz")).q_interface
        np.savez(tmp_path / "learned.npz", q_average=q[None])
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", section_of(PAGE, section), re.DOTALL)
    exec(compile(code, f"{PAGE}: {section}", "exec"), {})
    assert capsys.readouterr().out.strip() == COMMENTED[section] and f"# {COMMENTED[section]}" in code


def test_no_example_escapes():
    assert with_code(PAGE) == {*PRINTED, *COMMENTED}


def test_the_page_names_what_exists():
    named_things_exist(PAGE, 1)


def test_every_array_of_the_format_has_a_row():
    text = PAGE.read_text().split("## Names and fields")[0]
    missing = [name for name in FIELDS if f"`{name}" not in text]
    assert not missing


@pytest.mark.parametrize(
    "name",
    [
        "pipeline",
        pytest.param("routing_6x6_plain", marks=pytest.mark.slow),
        pytest.param("routing_6x6_hidden", marks=pytest.mark.slow),
    ],
)
def test_documented_constants(name):
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{name}.npz` |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    table = analyse(load_model(MODELS / f"{name}.npz")).table()
    counts = [table[f"num_{noun}"] for noun in ("agents", "states", "interfaces", "options")]
    assert [int(cell) for cell in cells[:4]] == counts
    assert cells[6] == ("yes" if table["a6_certified"] else "no")
    for cell, key in zip((*cells[4:6], cells[7]), ("gamma_bar", "kappa", "interface_gap"), strict=True):
        decimals = len(cell.partition(".")[2])
        assert abs(float(cell) - table[key]) <= 0.5 * 10.0**-decimals if decimals else table[key] < 1e-9
