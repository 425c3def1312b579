"""The benchmark of an accelerator, tried on a CPU; and the pages of those that were measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import device, device_page, device_stages

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
RECORDED = [path for path in RESULTS.glob("*.jsonl") if not path.name.startswith("cpu-")]


@pytest.mark.slow
def test_every_stage_but_the_preset_runs_here(tmp_path, monkeypatch):
    """The CPU against itself: everything agrees, bit for bit."""
    stages = [stage.name for stage in device.STAGES if stage.name != "preset"]
    assert device.main(["--tiny", "--out", str(tmp_path), "--budget", "600", *stages]) == 0
    lines = [json.loads(text) for text in (tmp_path / "cpu.jsonl").read_text().splitlines()]
    assert {line["case"]["stage"] for line in lines} == set(stages) - {"unfused_agreement"}  # whose lines say agreement
    agreement = [line for line in lines if line["case"]["stage"] == "agreement"]
    assert all(line["extra"]["same_bits"] for line in agreement)
    assert len([line for line in agreement if line["case"]["what"].endswith(", unfused")]) == 3
    assert all(0 < line["low"] <= line["value"] <= line["high"] < math.inf for line in lines)
    assert (tmp_path / "cpu.png").stat().st_size > 10_000
    text = (tmp_path / "cpu.md").read_text()
    assert "Everything agrees" in text and text.count("|---|") == len(device_page.SECTIONS) - 1  # not the preset's


def test_a_stage_that_fails_costs_only_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(device, "STAGES", (device.Stage("nothing", 60.0),))
    lines, failed = device.measure(tmp_path, "tiny", 60.0, ("nothing",))
    assert lines == [] and len(failed) == 1 and "KeyError" in failed[0]
    assert device.measure(tmp_path, "tiny", 5.0, ("nothing",))[1] == ["nothing: not started, the 5 s are over"]
    with pytest.raises(SystemExit):
        device.main(["something"])
    assert "'something': expected one of nothing" in capsys.readouterr().err


def test_lines_that_are_cut_off_are_left_out(tmp_path):
    (tmp_path / "tabular.jsonl").write_text('{"a": 1}\n{"a": ')
    assert device.whole_lines(tmp_path / "tabular.jsonl") == [{"a": 1}]


def test_differences_by_hand():
    one, other = np.float32([1, 2, -4]), np.float32([1, 2, -4.5])
    assert device_stages.difference(other, one) == 0.125
    assert device_stages.difference(one, one) == 0.0
    assert device_stages.difference(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])) == 0.25
    assert device_stages.difference(np.float32([np.nan]), np.float32([1])) == math.inf
    assert device_stages.difference(one, one[:2]) == math.inf
    assert device.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_page_is_what_its_file_says(path):
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    assert path.stem == device.slug(lines[0]["machine"]["device"])
    assert device_page.page(lines, path.stem) == path.with_suffix(".md").read_text(encoding="utf-8")
    assert path.with_suffix(".png").exists()
