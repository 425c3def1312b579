"""docs/scaling.md and docs/validation.md: the code runs, the commands are ones that exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from bound_validation.results import write_table
from icsmdp_jax import cli
from tests.bound_validation.runs import ROOT, declared
from tests.bound_validation.synthetic_rows import gap_rows

PAGES = ("docs/scaling.md", "docs/validation.md")


def fenced(page: str, *languages: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        body for name, body in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if name in languages
    ]


def test_the_table_of_a_run_is_read(capsys, tmp_path, monkeypatch):
    rows = gap_rows(np.random.default_rng(0))
    (tmp_path / "results" / "quick").mkdir(parents=True)
    write_table(tmp_path / "results" / "quick" / "results.parquet", rows)
    monkeypatch.chdir(tmp_path)
    (code,) = fenced("docs/validation.md", "python")
    exec(compile(code, "docs/validation.md", "exec"), {})
    assert [row["cell"] for row in ast.literal_eval(capsys.readouterr().out)] == [row.cell for row in rows[:5]]


def test_the_forecast_is_printed(capsys):
    (code,) = fenced("docs/scaling.md", "python")
    exec(compile(code, "docs/scaling.md", "exec"), {})
    seconds, transfer, memory = re.fullmatch(
        r"(\d+) s, (\d+) s of transfer, ([\d.]+) GB on each device\n", capsys.readouterr().out
    ).groups()
    assert int(seconds) == 25  # 6.4e12 handoffs on 256 devices of 1e9 a second
    assert int(transfer) > 0 and 0 < float(memory) < 80


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_that_exists(page):
    with mock.patch.object(cli, "entry_points", declared):
        parser = cli.build_parser()
    lines = [line for block in fenced(page, "sh", "text") for line in block.splitlines() if "icsmdp " in line]
    assert lines
    for line in lines:
        words = shlex.split(re.sub(r"[\[\]]", "", line))
        begin = words.index("icsmdp") + 1
        assert all("=" in word for word in words[: begin - 1])  # variables of the environment
        parser.parse_args(words[begin:])


def test_the_page_names_what_exists():
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([\w.]+\.md)", text):
        assert (Path(ROOT) / "docs" / link).exists(), link
    from icsmdp_jax.devices import placement

    assert placement.MEMORY_VARIABLE in text and f"{placement.USABLE:.0%}".replace("%", " %") in text
