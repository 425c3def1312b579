"""``icsmdp envs`` and ``icsmdp experiment``: what they print, write and refuse."""

from __future__ import annotations

import json

import pytest

from icsmdp_jax.envs import registry
from icsmdp_jax.experiments import catalogue, command, planted
from tests.bound_validation.runs import icsmdp, leftovers, refused, with_blank_figures
from tests.command_line import parsed, subprocess_run

FEW = ("ic_q", "no_message", "random")
KEYS = {"environment", "metric", "methods", "message_scalars_per_handoff", "normalised", "exact", "remarks", "checks"}


def test_envs_lists_what_is_registered(monkeypatch):
    few = ("planted", "cpu-sort3", "cpu-sort4")  # some of the others take seconds to make
    monkeypatch.setattr(registry, "environments", lambda: few)
    found = parsed(icsmdp("envs", "--json"))["environments"]
    assert [one["name"] for one in found] == list(few)
    by_name = {one["name"]: one for one in found}
    for one in found:
        assert {"agents", "options", "interface_shape", "longest_duration", "exact_oracle"} <= set(one)
        assert type(one["agents"]) is int and one["agents"] > 1
        assert type(one["exact_oracle"]) is bool and type(one["interface_shape"]) is list
    assert not by_name["cpu-sort4"]["exact_oracle"] and by_name["cpu-sort3"]["exact_oracle"]


def test_envs_for_people_is_a_table(monkeypatch):
    listed = {"environments": [registry.describe(name)._asdict() for name in ("planted", "cpu-sort4")]}
    monkeypatch.setattr(command, "environments", lambda: listed)
    lines = [line.split() for line in icsmdp("envs").out.splitlines()]
    assert [line[0] for line in lines] == ["name", "planted", "cpu-sort4"] and lines[1][1] == "10"


@pytest.mark.parametrize(("name", "length", "programs"), [("cpu-sort2", 4, 8), ("cpu-sort3", 11, 5602)])
def test_oracle_of_sorting_is_found_by_search(name, length, programs):
    """The number of programs for three values is also the one of the published enumeration."""
    found = parsed(icsmdp("experiment", name, "--oracle-only", "--json"))
    assert (found["optimal_length"], found["optimal_programs"]) == (length, programs)
    assert found["environment"] == name and found["joint_states"] > length


def test_oracle_of_other_names_is_the_exact_solution():
    found = parsed(icsmdp("experiment", "planted", "--oracle-only", "--json"))
    assert found["oracle"] >= found["interface_optimum"] > found["random"]
    assert found["epsilon"] > 0 and 0 < found["gamma_bar"] < 1


def test_what_has_no_oracle_is_refused():
    refused(icsmdp("experiment", "cpu-sort4", "--oracle-only"), "cpu-sort4", "20", "cpu-sort3")
    refused(icsmdp("experiment", "routing-6x6", "--oracle-only"), "routing-6x6")
    refused(icsmdp("experiment", "warm-start", "--oracle-only"), "warm-start")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("cpu-sort5",), ("cpu-sort5", *catalogue.names(), "all")),
        (("cpu-sort2", "--load", "1"), ("load", "routing-6x6")),
        (("routing-6x6", "--load", "-1"), ("load = -1",)),
        (("routing-6x6", "--load", "nan"), ("load = nan",)),
        (("all", "--load", "1"), ("all", "--load")),
        (("all", "--oracle-only"), ("all", "--oracle-only")),
        (("cpu-sort2", "--preset", "fast"), ("preset", "quick")),
        (("cpu-sort2", "--seed", "-1"), ("seed",)),
        ((), ("name",)),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, fragments, tmp_path):
    refused(icsmdp("experiment", *arguments, "--out", tmp_path / "out"), *fragments)
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "taken").write_text("")
    refused(icsmdp("experiment", "planted", "--out", tmp_path / "taken", "--preset", "testing"), "taken")


def test_bad_names_are_refused_without_jax():
    done = subprocess_run("experiment", "nothing", PYTHONVERBOSE="1")
    assert done.returncode == 2 and done.stdout == ""
    assert "import 'jax'" not in done.stderr and "import 'matplotlib'" not in done.stderr
    assert done.stderr.splitlines()  # the verbose interpreter did talk


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.names())
def test_every_experiment_runs(name, tmp_path):
    outcome = icsmdp("experiment", name, "--preset", "testing", "--out", tmp_path, "--json")
    found = parsed(outcome)
    assert set(found) >= KEYS and found["environment"] == name
    assert found == json.loads((tmp_path / "result.json").read_text())
    assert "ic_q" in found["methods"] or name in catalogue.STUDIES
    for value in found["methods"].values():
        assert {"mean", "ci_low", "ci_high", "replicas"} <= set(value)
    assert (tmp_path / "figures" / "methods.png").stat().st_size > 1000
    assert (tmp_path / "table.md").stat().st_size and not leftovers(tmp_path)
    assert None in found["checks"].values() or not found["checks"]  # too little training to judge everything


def test_one_experiment_from_the_command_line(tmp_path, monkeypatch):
    """The cheapest one with everything in it, and of its methods some; all of them are marked slow."""
    monkeypatch.setattr(planted, "ALL_TABULAR", FEW)
    with with_blank_figures():
        outcome = icsmdp("experiment", "planted", "--preset", "testing", "--seed", "3", "--out", tmp_path, "--json")
    found = parsed(outcome)
    assert set(found) >= KEYS and found["configuration"]["seed"] == 3
    assert {"exact_oracle", *FEW} <= set(found["methods"])
    assert found["message_scalars_per_handoff"] == 1.0
    assert found == json.loads((tmp_path / "result.json").read_text())
    assert set(found["checks"].values()) == {None}
