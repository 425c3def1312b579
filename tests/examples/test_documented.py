"""docs/models.md: its examples print what it says, its table of shipped models is what the analysis gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.models.files import FIELDS, load_model
from tests.examples.shipped import MODELS
from tests.pages import examples_print_what_they_say, named_things_exist

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


@pytest.mark.parametrize("section", ["Names and fields", "Models from other libraries"])
def test_examples_run(section):
    examples_print_what_they_say(PAGE, section)


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
