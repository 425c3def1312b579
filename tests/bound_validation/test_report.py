"""The report: self-contained, well formed, and honest about what failed."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import math
import re
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from bound_validation.axes import AXES
from bound_validation.axis import resolved
from bound_validation.report.figures import NAMES
from bound_validation.report.page import interval, number, percent, verdict, write_report
from bound_validation.results import to_plain
from tests.bound_validation.synthetic_rows import full_rows, make_summary, model_rows, uncertified, violated

VOID = {"meta", "img", "br", "link", "hr", "input"}
SCALES = {"xaxis": {"title": "K", "type": "log"}, "yaxis": {"title": "error", "type": "log"}, "title": ""}
DATA = {"complete": True, "panels": [{"data": [{"name": "</script><b>", "x": [1], "y": [2]}], "layout": SCALES}]}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.scripts: list[str] = []
        self.feed(source)
        self.close()
        assert not self.stack, f"never closed: {self.stack}"
        self.text = re.sub(r"\s+", " ", "".join(self.pieces))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, f"</{tag}> out of order"

    def handle_data(self, data):
        if "script" in self.stack:
            self.scripts.append(data)
        elif "style" not in self.stack:
            self.pieces.append(data)


@pytest.fixture
def report(tmp_path):
    def build(rows, summary, names=NAMES):
        figures = {}
        for name in names:
            figures[name] = tmp_path / "run" / "figures" / f"{name}.png"
            figures[name].parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (690, 10)).save(figures[name])
            figures[name].with_suffix(".pdf").write_bytes(b"")
            if name == "width":
                figures[name].with_suffix(".json").write_text(json.dumps(DATA))
        path = write_report(rows, summary, figures, tmp_path / "run")
        return path.read_text(encoding="utf-8")

    return build


def test_page_is_self_contained(report, tmp_path):
    rows = full_rows()
    source = report(rows, make_summary(rows))
    page = Page(source)
    tags = [tag for tag, _ in page.tags]
    assert not {"link", "iframe", "object", "embed", "base"} & set(tags)
    assert tags.count("img") == len(NAMES)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "http" not in policy
    assert len(source) < 6_000_000
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), f"{tag} has a handler"
        for name in ("src", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:"), f"{tag} loads {attributes[name]}"
        if tag == "a":
            assert re.fullmatch(r"#[\w-]+|[\w./-]+", attributes["href"] or ""), attributes
        if tag == "img":
            assert attributes["alt"]
    assert "@import" not in source and "url(" not in source
    assert not re.search(r"https?://", source)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"figures", "report.html"}


def test_links_lead_to_sections_and_files(report, tmp_path):
    rows = full_rows()
    page = Page(report(rows, make_summary(rows)))
    targets = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {target[1:] for target in targets if target.startswith("#")} <= ids
    files = {target for target in targets if not target.startswith("#")}
    made = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run" / "figures").iterdir()}
    assert files == made | {"results.parquet", "summary.json", "manifest.json"}


@pytest.mark.skipif(not find_spec("plotly"), reason="plotly is not installed")
def test_data_of_figures_stays_data(report):
    rows = full_rows()
    page = Page(report(rows, make_summary(rows)))
    (data,) = (json.loads(text) for text in page.scripts if text.startswith("[{"))
    assert data == DATA["panels"]
    (packed,) = (text for text in page.scripts if text.startswith("H4sI"))
    assert b"plotly.js v" in gzip.decompress(base64.b64decode(packed))[:200]


def test_tables_can_be_read_aloud(report):
    rows = full_rows()
    source = report(rows, make_summary(rows))
    tables = re.findall(r"<table>.*?</table>", source, re.DOTALL)
    assert len(tables) > 15
    for table in tables:
        assert re.match(r"<table>\s*<caption>[^<]+</caption>\s*<thead>", table)
        assert "<th>" not in table and table.count('<th scope="row"') == table.count("<tr") - 1


def test_what_is_vacuous_and_what_a6_leaves_open_is_said_where_it_matters(report):
    rows = uncertified(full_rows(), "width")
    page = Page(report(rows, make_summary(rows)))
    vacuous = [row for row in rows if row.holds >= 0 and not row.bound < row.trivial and row.trivial == row.trivial]
    assert f"Vacuous: {len(vacuous)} of these checks" in page.text
    for axis in {row.axis for row in rows}:
        here = sum(row.axis == axis for row in vacuous)
        section = page.text[page.text.index(f'axis = "{axis}"') - 600 :][:700] if here else ""
        assert not here or f"Vacuous here: {here} of " in section
    assert "A6 is not certified in" in page.text


def test_page_fits_a_phone(report):
    rows = full_rows()
    source = report(rows, make_summary(rows))
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in Page(source).tags
    assert source.count("<table>") == len(re.findall(r'<div class="scroll" tabindex="0" [^>]*><table>', source)), (
        "a table that cannot scroll"
    )
    assert "@media print" in source


def test_order_and_contents(report):
    rows = full_rows()
    summary = make_summary(rows)
    source = report(rows, summary)
    page = Page(source)
    order = ['class="headline', "data:image/png",
             'id="verdict"', 'id="shares"', 'id="constants"', 'id="claims"', 'id="slopes"',
             'id="central-limit"', 'id="axis-width"', 'id="axis-gap"', 'id="axis-samples"', 'id="axis-mixing"',
             'id="axis-durations"', 'id="axis-total"', 'id="axis-returns"', 'id="axis-messages"', 'id="a6"',
             'id="run"']  # fmt: skip
    places = [source.index(mark) for mark in order]
    assert places == sorted(places)
    checks = summary["checks"]
    informative = sum(row.bound < row.trivial for row in rows)
    assert 0 < informative < checks
    said = f"PASSED Measured ≤ bound in {checks} of {checks} checks, {informative} of them informative"
    assert said in page.text and "vacuous" in page.text and "D12" in page.text
    for claim in summary["claims"]:
        assert claim["text"] in page.text and claim["target"] in page.text
    assert page.text.count("not claimed") >= 3  # one claim and two slopes
    assert "FAILED" not in page.text and "VIOLATED" not in page.text
    for label in ("T1", "T1.1", "T1.2", "T1.3", "T1.4", "T2", "T2.1", "T3", "T3.1", "T4", "P1", "P2", "P2.1", "L1"):
        assert re.search(rf"\b{re.escape(label)}\b", page.text), f"{label} is not cited"
    assert "docs/theory.md" in page.text
    assert summary["versions"]["jax"] in page.text and "device platform" in page.text
    for row in rows:
        assert row.cell in page.text


def test_provenance_is_stated(report):
    text = Page(report(full_rows(), make_summary(full_rows()))).text
    assert "arXiv 2605.19140" in text and "only that abstract is claimed as the paper’s" in text
    assert "this project’s own statements" in text


def test_every_figure_and_every_slope_is_put_into_words(report):
    rows = full_rows()
    summary = make_summary(rows)
    page = Page(report(rows, summary))
    captions = {name for axis in AXES.values() for name in resolved(axis.words).captions}
    assert set(NAMES) - captions == {"overview"}, "a figure without a caption"
    assert page.text.count("Files: PDF") == len(NAMES)
    names = {key: text for axis in AXES.values() if not axis.given for key, text in resolved(axis.words).slopes.items()}
    assert set(summary["slopes"]) <= set(names)
    for name, text in names.items():
        assert (text in page.text) == (name in summary["slopes"]), name


def test_an_axis_without_words_has_a_plain_heading(report):
    rows = [dataclasses.replace(row, axis="unheard-of") for row in full_rows() if row.axis == "mixing"]
    page = Page(report(rows, {}, ()))
    assert "Axis unheard-of" in page.text and f"{len(rows)} rows of the table" in page.text


def test_violations_are_said_in_words(report):
    rows = violated(full_rows(), "gap", "projection", "contraction")
    page = Page(report(rows, make_summary(rows)))
    assert "FAILED" in page.text and "3 violated" in page.text and "PASSED" not in page.text
    start = page.text.index("Violated bounds")
    for row in rows:
        if row.holds == 0:
            assert row.cell in page.text[start : start + 1500]
    assert page.text.count("VIOLATED") == 3  # in the tables of the axes
    assert "1 of 4 claims" in page.text


def test_a_failed_claim_alone_is_shown(report):
    rows = full_rows()
    summary = make_summary(rows)
    summary["claims"][1]["passed"] = False
    text = Page(report(rows, summary)).text
    assert "PASSED Measured" in text and "FAILED 1 of 4 claims" in text


def test_rows_overrule_a_summary_that_claims_too_much(report):
    rows = violated(full_rows(), "gap")
    summary = {**make_summary(full_rows()), "bound_holds": True, "violations": 0}
    assert "PASSED Measured" not in Page(report(rows, summary)).text


def test_uncertified_cells_are_listed(report):
    rows = uncertified(full_rows(), "width")
    text = Page(report(rows, make_summary(rows))).text
    section = text[text.index("Where A6 is not certified") :]
    assert "no Theorem 2 or 3 claimed there" in section
    for cell in {row.cell for row in rows if not row.certified}:
        assert cell in section
    clean = Page(report(full_rows(), make_summary(full_rows()))).text
    assert "no Theorem 2 or 3 claimed there" not in clean and "Nowhere: P1 gives" in clean


def test_nothing_from_outside_becomes_markup(report):
    rows = model_rows()
    summary = make_summary(rows, model="<script>alert(1)</script>.npz")
    summary["claims"][0]["text"] = "a < b & <img src=x>"
    summary["device"] = {"kind": "<b>cpu</b>"}
    page = Page(report(rows, summary, ("overview", "samples")))
    assert "a < b & <img src=x>" in page.text and "<b>cpu</b>" in page.text
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1 and "b" not in tags and tags.count("img") == 2


def test_given_model_has_its_own_section(report):
    rows = model_rows()
    source = report(rows, make_summary(rows, model="mine.npz"), ("overview", "samples"))
    page = Page(source)
    assert "mine.npz" in page.text and "The given model" in page.text
    assert 'id="axis-samples"' not in source and 'id="shares"' not in source
    assert "model = 0" not in page.text, "a gap that is no sweep has no abscissa"


def test_summary_read_back_from_json_gives_the_same_page(report):
    rows = full_rows()
    summary = make_summary(rows)
    summary["slopes"]["gap"]["ci_low"] = math.nan
    again = json.loads(json.dumps(to_plain(summary)))
    assert report(rows, summary) == report(rows, again)


def test_nothing_checked_is_no_success(report):
    source = report([], make_summary([]), ())
    text = Page(source).text
    assert "NOT CHECKED" in text and "PASSED" not in text
    assert Page(report([], {}, ())).text, "an empty summary is no reason to crash"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.728123, "0.728"),
        (-0.5, "&minus;0.500"),
        (3, "3"),
        (3.0, "3"),
        (1_234_567, "1\u202f234\u202f567"),
        (1.5e7, "1.50&times;10<sup>7</sup>"),
        (2.345e-9, "2.35&times;10<sup>&minus;9</sup>"),
        (123.4, "123"),
        (0.0, "0"),
        (None, "&ndash;"),
        (math.nan, "&ndash;"),
        (math.inf, "&infin;"),
        (True, "yes"),
        ("<i>", "&lt;i&gt;"),
    ],
)
def test_numbers(value, shown):
    assert str(number(value)) == shown


def test_small_parts_of_speech():
    assert str(percent(0.931)) == "93&#8239;%" and str(percent(math.nan)) == "&ndash;"
    assert str(interval(0.1, 0.2)) == "[0.100, 0.200]"
    assert interval(None, 0.2) == interval(0.1, math.nan) == interval(0.3, 0.3) == ""
    assert "FAILED" in verdict(False) and "passed" in verdict(True) and "not claimed" in verdict(None)
    assert "undecided" in verdict(None, undecided=True)


def test_template_is_package_data():
    template = resources.files("bound_validation.report") / "templates" / "report.html.j2"
    assert template.is_file()
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = [pattern for group in settings["package-data"].values() for pattern in group]
    assert any(fnmatch(template.name, Path(pattern).name) for pattern in patterns)
