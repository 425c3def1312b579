"""Files, figures and the report of experiments, on results that are made up: nothing is trained here."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from icsmdp_jax.drawing import style
from icsmdp_jax.exact.returns import Interval
from icsmdp_jax.experiments import catalogue, command, files
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import NEAR
from icsmdp_jax.experiments.figure import is_exact, method_figure, overview_figure
from icsmdp_jax.experiments.report import headline, write_report
from icsmdp_jax.experiments.result import Result, Table, exactly, in_order, interval_json, over_replicas
from tests.bound_validation.runs import leftovers

RUNS = over_replicas(np.array([1.0, 2.0, 3.0]))


def small_figure():
    figure = style.new_figure(2.0, 1.0)
    figure.add_subplot().plot([0, 1], [0, 1])
    return figure


def made(name: str = "planted", passed: bool | None = True, **changes) -> Result:
    values = {"exact_oracle": exactly(4.0), "ic_q": RUNS, "home_made": RUNS, "random": exactly(-1.5)}
    scaled = {
        "exact_oracle": exactly(1.0), "interface_oracle": exactly(0.9), "ic_q": Interval(0.89, 0.88, 0.9, 3),
        "no_message": Interval(0.2, 0.1, 0.3, 3), "immediate": Interval(-3.0, -3.5, -2.5, 3), "random": exactly(0.0),
    }  # fmt: skip
    fields = {
        "environment": name, "metric": "return (units)", "methods": values, "normalised": scaled,
        "exact": {"epsilon": 0.25, "delta": 0.5, "interface_distance": 0.1, "oracle": 4.0},
        "checks": {"holds": passed, NEAR: passed},
        "remarks": ["A <remark> & more."], "settings": {"handoffs": 100}, "names": {"home_made": "made at home"},
        "tables": [Table("Lengths", ("what", "value"), [["x|y", RUNS], ["z", None]], name="lengths")],
        "figures": {"further": small_figure},
    }  # fmt: skip
    return Result(**{**fields, **changes})


def test_interval_in_json_is_what_the_sample_says():
    # three runs 1, 2, 3: mean 2, standard deviation 1, t quantile 4.3027 with two degrees of freedom
    found = interval_json(RUNS)
    half = 4.302652729696142 / np.sqrt(3)
    assert found["mean"] == pytest.approx(2) and found["replicas"] == 3
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((2 - half, 2 + half))
    assert interval_json(over_replicas(np.array([5.0]))) == {
        "mean": 5.0,
        "ci_low": None,
        "ci_high": None,
        "replicas": 1,
    }


def test_everything_is_written_and_can_be_read_again(tmp_path):
    options = Options("planted", "testing", seed=4)
    content = files.write(made(), options, tmp_path / "deep" / "planted", 1.25)
    folder = tmp_path / "deep" / "planted"
    assert files.read(folder) == content == json.loads((folder / "result.json").read_text())
    for name in ("methods", "further"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    (panel,) = json.loads((folder / "figures" / "methods.json").read_text())["panels"]
    assert panel["layout"]["yaxis"]["ticktext"] == ["exact oracle", "IC-Q", "random", "made at home"]
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert [row["method"] for row in rows] == ["exact_oracle", "ic_q", "random", "home_made"]
    assert float(rows[1]["mean"]) == 2.0 and float(rows[1]["normalised"]) == 0.89
    page = (folder / "table.md").read_text()
    assert "| made at home | 2 |" in page and "| x\\|y | 2 [" in page and "passed" in page
    assert content["configuration"]["seed"] == 4 and content["figures"] == ["methods", "further"]
    assert not leftovers(tmp_path)


def test_what_cannot_be_read_counts_as_absent(tmp_path):
    assert files.read(tmp_path) is None
    for text in ("", "{", "[1]", '{"other": 1}'):
        (tmp_path / "result.json").write_text(text)
        assert files.read(tmp_path) is None


def test_figure_tells_exact_from_measured_by_the_marker():
    figure = method_figure(made())
    axes = figure.axes[0]
    open_ones = [line for line in axes.lines if line.get_marker() == "D"]
    assert sorted(float(line.get_xdata()[0]) for line in open_ones) == [-1.5, 4.0]
    assert all(line.get_markerfacecolor() == "white" for line in open_ones)
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None"]
    ends = {tuple(np.round(line.get_xdata(), 6)) for line in bars}
    assert (round(float(RUNS.ci_low), 6), round(float(RUNS.ci_high), 6)) in ends
    assert [label.get_text() for label in axes.get_yticklabels()] == ["exact oracle", "IC-Q", "random", "made at home"]
    assert "return (units)" in axes.get_xlabel()


def test_figure_of_times_says_that_less_is_better_and_spans_decades():
    values = {"ic_q": Interval(10.0, 9.0, 11.0, 5), "random": Interval(2000.0, 1500.0, 2500.0, 5)}
    axes = method_figure(made(methods=values, higher_is_better=False)).axes[0]
    assert axes.get_xscale() == "log" and "lower is better" in axes.get_xlabel()


def test_order_and_exactness():
    assert in_order(["zzz", "random", "ic_q", "exact_oracle"]) == ["exact_oracle", "ic_q", "random", "zzz"]
    assert is_exact(interval_json(exactly(1.0))) and not is_exact(interval_json(RUNS))
    assert not is_exact(interval_json(over_replicas(np.array([5.0]))))  # one run is not exact


def test_overview_has_a_row_for_each_environment_on_the_scale():
    results = [made(name).as_json() for name in ("a", "b")] + [made("c", normalised={}).as_json()]
    axes = overview_figure(results).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    diamonds = [line for line in axes.lines if line.get_marker() == "D"]
    assert [float(line.get_xdata()[0]) for line in diamonds] == [0.9, 0.9]
    assert [text.get_text() for text in axes.texts] == ["\N{MINUS SIGN}3.00"] * 2  # out of sight, so written down
    assert overview_figure([made("c", normalised={}).as_json()]) is None


def written(tmp_path: Path, *results: Result) -> str:
    contents = [
        files.write(one, Options(one.environment, "testing"), tmp_path / one.environment, 1.0) for one in results
    ]
    return write_report(contents, tmp_path).read_text(encoding="utf-8")


def test_report_is_one_page_with_everything_in_it(tmp_path):
    page = written(
        tmp_path, made("planted"), made("workshop", passed=False), made("cpu-sort4", normalised={}, exact={})
    )
    for name in ("planted", "workshop", "cpu-sort4"):
        assert f'<section id="{name}">' in page
    links = re.findall(r'href="(?!#)([^"]*)"', page)
    made_files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.parent.name == "figures"}
    assert set(links) == made_files | {"overview.png", "overview.pdf", "overview.json"}
    assert b"DejaVu" not in (tmp_path / "overview.pdf").read_bytes()  # the typeface of Matplotlib, not of the house
    assert not re.findall(r'src="(?!data:image/png;base64,)', page)
    assert "<remark" not in page and "http:" not in page and "https:" not in page
    assert page.count("data:image/png;base64,") == 1 + 3 * 2
    assert "A &lt;remark&gt; &amp; more." in page
    missed = page.split("What was not met")[1].split("</section>")[0]
    assert "workshop" in missed and "planted" not in missed
    assert page.count("not passed") == 2 and "0.89" in page and "simulators" in page


def test_headline_counts_what_was_judged():
    results = [made("a").as_json(), made("b", passed=None).as_json(), made("c", passed=False).as_json()]
    text = headline(results)
    assert "On 1 of 2 environments" in text and "2 of 4 checks passed; 2 were not judged." in text
    assert "too little" in headline([made("b", passed=None).as_json()])
    assert headline([made("a", checks={"other": True}).as_json()]) == "1 of 1 checks passed."


@pytest.fixture
def two_names(monkeypatch):
    """A catalogue of two experiments that count their runs."""
    runs: list[tuple[str, int]] = []

    def run(options: Options) -> Result:
        runs.append((options.name, options.seed))
        return made(options.name)

    monkeypatch.setattr(catalogue, "EXPERIMENTS", {"planted": "", "workshop": ""})
    monkeypatch.setattr(catalogue, "experiment", lambda name: run)
    monkeypatch.setattr(command, "_forget", lambda: None)
    monkeypatch.setattr(style, "save", empty_picture)  # what is drawn is tested above
    return runs


def empty_picture(figure, folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (1, 1)).save(folder / f"{name}.png")
    return folder / f"{name}.png"


def test_all_runs_what_is_missing_and_nothing_else(tmp_path, two_names, capsys):
    first = command.run_all("testing", 0, tmp_path)
    assert first["ran"] == ["planted", "workshop"] and Path(first["report"]) == tmp_path / "report.html"
    again = command.run_all("testing", 0, tmp_path)
    assert again["ran"] == [] and again["kept"] == ["planted", "workshop"]
    (tmp_path / "workshop" / "result.json").unlink()
    assert command.run_all("testing", 0, tmp_path)["ran"] == ["workshop"]
    part, result = tmp_path / "parts" / "workshop.jsonl", (tmp_path / "workshop" / "result.json").read_bytes()
    (tmp_path / "workshop" / "result.json").unlink()
    for another in (("testing", 1), ("quick", 0)):  # another seed, another preset: nothing is lost unless asked for
        with pytest.raises(ValueError, match="can only be resumed with the settings it was started with"):
            command.run_all(*another, tmp_path)
    assert part.exists()
    (tmp_path / "workshop" / "result.json").write_bytes(result)
    assert command.run_all("testing", 0, tmp_path)["ran"] == []
    assert command.run_all("testing", 1, tmp_path, overwrite=True)["ran"] == ["planted", "workshop"]
    assert command.run_all("testing", 1, tmp_path, overwrite=True)["ran"] == []
    assert command.run_all("testing", 1, tmp_path, force=True)["ran"] == ["planted", "workshop"]
    assert [seed for _, seed in two_names] == [0, 0, 0, 1, 1, 1, 1]
    assert capsys.readouterr().out == "" and not leftovers(tmp_path)
