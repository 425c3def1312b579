"""Sweeps as TOML files: what they mean, and one line for whatever they cannot mean."""

from __future__ import annotations

import pytest

from bound_validation.sweep.definition import Figure, Sweep
from bound_validation.sweep.toml import read_sweep
from tests.bound_validation.runs import icsmdp, refused
from tests.bound_validation.sweep.small import EXAMPLE, written

BASE = """
[sweep]
name = "t"
[model]
family = "planted"
[axes]
gap = [0.0, 0.1]
"""


def test_a_file_and_its_twin_in_python(tmp_path):
    place = tmp_path / "full.toml"
    place.write_text("""
[sweep]
name = "full"
measure = ["theorem", "interface"]
cells_per_part = 5
[model]
family = "planted"
sizes = ["num_agents"]
fixed = { num_agents = 3 }
[axes]
gap = { from = 0.0, to = 0.4, count = 5 }
hidden_flip = { from = 0.01, to = 1, count = 3, spacing = "log" }
learner.width = [0, 4]
[learner]
samples = [100, 400]
replicas = 8
chunk = 50
seed = 3
[figure]
x = "learner.samples"
group = "learner.width"
[figure.at]
gap = 0.3
[figure.labels]
"learner.width" = "$m$"
""")
    twin = Sweep(
        "full", "planted",
        {"gap": (0.0, 0.1, 0.2, 0.3, 0.4), "hidden_flip": (0.01, 0.1, 1.0), "learner.width": (0, 4)},
        fixed={"num_agents": 3}, measure=("interface", "theorem"), samples=(100, 400), replicas=8, chunk=50, seed=3,
        cells_per_part=5, sizes=("num_agents",),
        figure=Figure("learner.samples", "learner.width", {"gap": 0.3}, {"learner.width": "$m$"}),
    )  # fmt: skip
    found = read_sweep(place)
    assert found.manifest() == twin.manifest() and found.figure == twin.figure
    assert found.source.sizes == twin.source.sizes
    assert [cell.id for cell in found.cells()] == [cell.id for cell in twin.cells()]


def test_a_quoted_axis_is_the_same_as_a_dotted_one(tmp_path):
    ids = []
    for line in ("learner.width = [0, 2]", '"learner.width" = [0, 2]'):
        place = tmp_path / "one.toml"
        place.write_text(BASE + line)
        ids.append([cell.id for cell in read_sweep(place).cells()])
    assert ids[0] == ids[1] and len(ids[0]) == 4


def test_the_example_is_read():
    sweep = read_sweep(EXAMPLE)
    assert sweep.num_cells == 12 and (sweep.figure.x, sweep.figure.group) == ("gap", "duration_mean")


def test_names_are_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    for family in ("own.py:drafts", "own:drafts"):
        assert read_sweep(written(tmp_path, family=family)).source.names == {"stakes", "accuracy", "effort", "gamma"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[axes]", "[axis]", "[axis]: unknown table, did you mean axes?"),
        ('name = "t"', 'nme = "t"', "[sweep] nme: unknown key, did you mean name?"),
        ('name = "t"', "", "[sweep] name: missing"),
        ('family = "planted"', "", "[model] family: missing"),
        ('name = "t"', "name = 3", "[sweep] name = 3: expected letters"),
        (
            'name = "t"',
            'name = "t"\nmeasure = ["limit", "teorem"]',
            "[sweep] measure = 'teorem': did you mean theorem?",
        ),
        ('name = "t"', 'name = "t"\nmeasure = "limit"', "[sweep] measure = 'limit': expected a list"),
        ('"planted"', '"plant"', "[model] family = 'plant': did you mean planted?"),
        ('"planted"', "7", "[model] family = 7: expected a text"),
        ('"planted"', '"planted"\nfixed = 3', "[model] fixed = 3: expected a table"),
        (
            '"planted"',
            '"planted"\nfixed = { gapp = 1 }',
            "[model.fixed] gapp: unknown coordinate of planted, did you",
        ),
        ("gap = [0.0, 0.1]", "gap = 0.1", "[axes] gap = 0.1: expected a list or {from, to, count, spacing}"),
        ("gap = [0.0, 0.1]", 'gap = ["a"]', "[axes] gap = 'a': expected a number"),
        ("gap = [0.0, 0.1]", "gpa = [0.1]", "[axes] gpa: unknown coordinate of planted, did you mean gap?"),
        ("gap = [0.0, 0.1]", "gap = {from = 0, to = 1}", "[axes] gap.count: missing, expected a number"),
        ("gap = [0.0, 0.1]", "gap = {from = 0, to = 1, coun = 2}", "[axes] gap.coun: unknown key, did you mean count?"),
        ("gap = [0.0, 0.1]", "gap = {from = 0, to = 1, count = 1}", "[axes] gap.count = 1: expected a whole number"),
        ("gap = [0.0, 0.1]", 'gap = {from = 0, to = 1, count = 2, spacing = "log"}', "expected ends above 0"),
        ("gap = [0.0, 0.1]", 'gap = {from = 1, to = 2, count = 2, spacing = "lg"}', "gap.spacing = 'lg': expected"),
        ("gap = [0.0, 0.1]", "", "[axes] = {}: expected one axis or more"),
        ("gap = [0.0, 0.1]", "gap = [-1.0]", "cell t/gap=-1: gap = -1.0: expected 0 or more"),
        ("[axes]", "[learner]\nsamples = 400\n[axes]", "[learner] samples = 400: expected a list"),
        ("[axes]", "[learner]\nsamples = [401]\n[axes]", "[learner] samples = [401]: expected increasing even"),
        ("[axes]", "[learner]\nreplica = 4\n[axes]", "[learner] replica: unknown key, did you mean replicas?"),
        ("[axes]", '[learner]\nreplicas = "4"\n[axes]', "[learner] replicas = '4': expected a whole number of 2"),
        ("[axes]", '[figure]\nx = "gpa"\n[axes]', "[figure] x = 'gpa': did you mean gap?"),
        ("[axes]", "[figure]\nx = 1\n[axes]", "[figure] x = 1: expected a text"),
        ("[axes]", '[figure.labels]\ngap = "$x"\n[axes]', "[figure] labels['gap'] = '$x': expected a text"),
        ("[axes]", '[figure.labels]\ngap = "$\\\\nothing$"\n[axes]', "labels['gap']"),
        ("[axes]", "[figure]\nat = { num_agents = 3 }\n[axes]", "[figure] at['num_agents']: expected"),
        ("[sweep]", "sweep", "cannot be read as TOML"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, old, new, message):
    place = tmp_path / "bad.toml"
    place.write_text(BASE.replace(old, new, 1))
    outcome = icsmdp("sweep", place, "--out", tmp_path / "out")
    refused(outcome, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a = " + "[" * 5000, "cannot be read as TOML"),
        ("a = " + "9" * 5000, "cannot be read as TOML"),
        (
            BASE.replace("[axes]", "[model.fixed]\nplanted_scale = 1e300\n[axes]", 1),
            "[model.fixed] planted_scale = 1e+300: expected a finite",
        ),
        (
            BASE.replace("[axes]", f"[axes]\ngamma = {{ from = 0, to = {10**400}, count = 2 }}", 1),
            "[axes] gamma.to = 1000",
        ),
        ("# long\n" * 3_000_000, "has more than 16777216 bytes"),
    ],
)
def test_files_that_no_parser_should_see(tmp_path, content, message):
    """Brackets without end would exhaust the stack; a device without end, the memory."""
    place = tmp_path / "bad.toml"
    place.write_text(content)
    refused(icsmdp("sweep", place, "--out", tmp_path / "out"), message)


def test_a_missing_file_is_named(tmp_path):
    refused(icsmdp("sweep", tmp_path / "none.toml", "--out", tmp_path / "out"), "none.toml: no such file")
