"""The three reports in a real browser: they can be explored, fit a phone, and pass the accessibility checker axe."""

from __future__ import annotations

from pathlib import Path

import pytest

from bound_validation.report.figures import draw_all
from bound_validation.report.page import write_report
from icsmdp_jax.experiments import files
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.report import write_report as write_experiments
from tests.bound_validation.runs import icsmdp
from tests.bound_validation.synthetic_rows import full_rows, make_summary, uncertified
from tests.browser import BROWSER, axe_source, found
from tests.experiments.test_files import made
from tests.traces.logs import desk, write
from tests.traces.test_command import TOML

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here"),
]


@pytest.fixture(scope="module")
def validation(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("validation")
    rows = uncertified(full_rows(), "width")
    summary = make_summary(rows)
    return write_report(rows, summary, draw_all(rows, summary, out, columns=False), out)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("experiments")
    results = [made("planted"), made("workshop", passed=False)]
    contents = [files.write(one, Options(one.environment, "testing"), out / one.environment, 1.0) for one in results]
    return write_experiments(contents, out)


@pytest.fixture(scope="module")
def fit(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fit")
    (out / "fit.toml").write_text(TOML)
    log = write(out / "log.jsonl", desk(60))
    assert icsmdp("fit", log, "--config", out / "fit.toml", "--out", out / "fitted").code == 0
    return out / "fitted" / "report.html"


@pytest.fixture(params=["validation", "experiments", "fit"])
def page(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(page, dark):
    axe = axe_source()
    if axe is None:
        pytest.skip("axe-core is not installed")
    script = """
      document.querySelectorAll("main details").forEach((one, index) => { one.open = index < 3; });
      await wait(3000);
      const result = await axe.run();
      return [matchMedia("(prefers-color-scheme: dark)").matches, result.passes.length,
        result.violations.filter((one) => ["serious", "critical"].includes(one.impact))
        .map((one) => [one.id, one.nodes.length, one.nodes[0].html])];"""
    is_dark, passed, serious = found(page, script, before=axe, dark=dark)
    assert is_dark == dark and passed > 15 and serious == []


def test_nothing_is_wider_than_a_phone(page):
    script = "await wait(2000); return [innerWidth, document.documentElement.scrollWidth];"
    inner, whole = found(page, script, width=420)
    assert whole <= inner <= 500  # some windows of Chromium are no narrower


def test_the_contents_list_leads_to_every_section(validation):
    script = """return [[...document.querySelectorAll(".contents a")].map((a) => a.getAttribute("href").slice(1)),
      [...document.querySelectorAll("main section[id] > h2")].map((h) => h.parentElement.id)];"""
    listed, sections = found(validation, script)
    assert listed == sections and len(sections) > 12


def test_figures_are_drawn_and_answer(validation):
    script = """
      await wait(3000);
      const panel = document.querySelector(".panel"), plot = panel.querySelector(".plot");
      const types = () => [plot.layout.xaxis.type, plot.layout.yaxis.type];
      const first = types(), texts = plot.data.map((trace) => trace.text?.[0]).filter(Boolean);
      const series = panel.querySelector(".legend button"), name = series.textContent;
      series.click(); await wait(500);
      const hidden = plot.data.filter((trace) => trace.visible === false).length;
      const log = document.querySelector(".panels .tools button"); log.click(); await wait(500);
      const second = types();
      return { first, second, texts, hidden, pressed: [series.ariaPressed, log.ariaPressed],
        picture: document.querySelector(".picture").hidden, svg: plot.querySelectorAll("svg").length };"""
    answer = found(validation, script)
    assert answer["first"] == ["log", "log"] and answer["second"] == ["linear", "log"]
    assert answer["hidden"] >= 1 and answer["pressed"] == ["false", "false"]
    assert answer["picture"] and answer["svg"] > 0
    assert any("[" in text for text in answer["texts"]), "no interval"


def test_tables_sort_and_filter(validation):
    script = """
      const table = [...document.querySelectorAll("table")].find(
        (one) => one.caption.textContent.startsWith("Rows") && one.tBodies[0].rows.length > 20);
      const heads = [...table.tHead.rows[0].cells], column = heads.findIndex((one) => one.textContent === "measured");
      const cells = () => [...table.tBodies[0].rows].map((row) => row.cells[column].textContent);
      heads[column].querySelector("button").click();
      const up = cells(), sorted = heads[column].ariaSort;
      heads[column].querySelector("button").click();
      const down = cells(), input = table.parentElement.previousElementSibling.querySelector("input");
      input.value = table.tBodies[0].rows[0].cells[0].textContent; input.dispatchEvent(new Event("input"));
      const rows = [...table.tBodies[0].rows];
      const shown = rows.filter((row) => !row.hidden).map((row) => row.textContent);
      return { up, down, sorted, last: heads[column].ariaSort, shown, wanted: input.value,
        count: table.parentElement.previousElementSibling.querySelector("[role=status]").textContent };"""
    answer = found(validation, script)

    def number(text: str) -> float:
        head = text.split(" [")[0].replace("\u202f", "").replace("\N{MINUS SIGN}", "-").replace("\u00d710", "e")
        return float(head) if head != "\N{EN DASH}" else float("inf")

    values = [number(text) for text in answer["up"]]
    assert values == sorted(values) and answer["sorted"] == "ascending" and answer["last"] == "descending"
    finite = [value for value in map(number, answer["down"]) if value < float("inf")]
    assert finite == sorted(finite, reverse=True)
    assert answer["shown"] and all(answer["wanted"] in text for text in answer["shown"])
    assert answer["count"].startswith(f"{len(answer['shown'])} of ")


def test_without_scripts_the_pictures_are_there(validation):
    text = validation.read_text(encoding="utf-8")
    assert text.count('<div class="picture scroll" tabindex="0"') == text.count('src="data:image/png') > 5
    assert text.count('<div class="panels" hidden') > 5
