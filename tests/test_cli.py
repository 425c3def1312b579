"""The command line, clause by clause: what each command prints, writes, returns and refuses."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from icsmdp_jax import __version__, cli
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.learner import experiment
from icsmdp_jax.learner.experiment import Outcome as Learned
from icsmdp_jax.tabular_io import load_model
from tests.bound_validation.runs import GOLDEN, MODELS, ROOT, Outcome, icsmdp, leftovers, refused
from tests.helpers import EXPECTED, GOLDEN_NAMES, golden, golden_analysis
from tests.reference.simulate import spread_and_bias

PLAIN = GOLDEN / "plain.npz"
ANALYSE_KEYS = {
    "gamma_bar", "epsilon", "delta", "interface_gap", "interface_bound", "interface_bound_value_aware", "policy_loss",
    "policy_loss_bound", "kappa", "a6_certified", "mixing_time", "omega", "clt_coefficient", "clt_coefficient_iid",
    "stationary_min", "num_states", "num_interfaces", "num_agents", "num_options",
}  # fmt: skip
LEARN_KEYS = {
    "rmse_to_interface_solution", "spread", "bias", "rmse_to_oracle", "tail_samples", "handoffs_per_second",
    "compile_s", "run_s",
}  # fmt: skip
CLASSES = ("tabular", "linear", "mlp", "two-layer")


def parsed(outcome: Outcome) -> dict:
    """The one JSON object on stdout, without NaN and Infinity, which JSON does not have."""
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("\n") == 1 and outcome.out.endswith("\n")

    def strict(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(outcome.out, parse_constant=strict)
    assert isinstance(found, dict)
    return found


def contents(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def subprocess_run(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """``icsmdp`` in a process of its own."""
    command = [sys.executable, "-m", "icsmdp_jax.cli", *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


# analyse


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_analyse_agrees_with_another_program(name):
    outcome = icsmdp("analyse", GOLDEN / f"{name}.npz", "--json")
    found = parsed(outcome)
    assert outcome.err == ""
    assert ANALYSE_KEYS <= set(found)
    for key, wanted in EXPECTED[name].items():
        assert found[key] == pytest.approx(wanted, rel=1e-6, abs=1e-6), key
    assert found["a6_certified"] is (EXPECTED[name]["kappa"] < 1)
    assert found["policy_loss_bound"] == pytest.approx(2 * EXPECTED[name]["interface_bound"], rel=1e-6)
    for key in ("num_states", "num_interfaces", "num_agents", "num_options"):
        assert type(found[key]) is int, key


def test_analyse_prints_a_table_for_people():
    outcome = icsmdp("analyse", PLAIN)
    assert outcome.code == 0 and outcome.err == ""
    lines = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
    assert ANALYSE_KEYS <= set(lines)
    assert float(lines["kappa"]) == pytest.approx(EXPECTED["plain"]["kappa"], rel=1e-6)
    assert lines["a6_certified"] == "False"


def test_analyse_in_a_process_of_its_own():
    """Exit code, one line on stdout, nothing on stderr; no network is loaded for it."""
    done = subprocess_run("analyse", PLAIN, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["kappa"] == pytest.approx(EXPECTED["plain"]["kappa"], rel=1e-6)


def test_behaviour_uniform_is_the_default():
    assert icsmdp("analyse", PLAIN, "--json") == icsmdp("analyse", PLAIN, "--behaviour", "uniform", "--json")


def test_behaviour_comes_from_a_file(tmp_path):
    model = golden("episodic_masks")
    rng = np.random.default_rng(0)
    law = np.where(model.option_mask, rng.uniform(0.5, 1.0, model.option_mask.shape), 0.0)
    law /= np.maximum(law.sum(axis=1, keepdims=True), 1e-300)
    np.save(tmp_path / "law.npy", law)
    arguments = (GOLDEN / "episodic_masks.npz", "--behaviour", tmp_path / "law.npy")
    found = parsed(icsmdp("analyse", *arguments, "--json"))
    assert found == analyse(model, law).table()
    assert found["kappa"] != pytest.approx(EXPECTED["episodic_masks"]["kappa"], abs=1e-4)
    assert icsmdp("solve", *arguments, "--out", tmp_path / "s.npz").code == 0
    interface = analyse(model, law).interface
    np.testing.assert_allclose(contents(tmp_path / "s.npz")["stationary"], interface.chain.stationary, atol=1e-12)


def test_a_periodic_chain_mixes_never_and_json_says_null(tmp_path):
    cycle = {
        "transition": np.array([[[0.0, 1.0]], [[1.0, 0.0]]]), "duration": np.full((2, 1, 2), 0.5),
        "reward_rate": np.array([[1.0], [2.0]]), "reward_noise": 0.1, "agent": [0, 1], "interface": [0, 1],
        "gamma": 0.9,
    }  # fmt: skip
    np.savez(tmp_path / "cycle.npz", **cycle)
    found = parsed(icsmdp("analyse", tmp_path / "cycle.npz", "--json"))
    assert found["mixing_time"] is None and found["num_options"] == 1


def test_unknown_arrays_are_a_warning(tmp_path):
    np.savez(tmp_path / "more.npz", **contents(PLAIN), comment=np.zeros(1))
    outcome = icsmdp("analyse", tmp_path / "more.npz", "--json")
    assert parsed(outcome)["num_states"] == 36
    assert outcome.err.count("\n") == 1 and "comment" in outcome.err and outcome.err.startswith("icsmdp: warning: ")


# solve


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_solve_agrees_with_another_program(name, tmp_path):
    place = tmp_path / "solution.npz"
    outcome = icsmdp("solve", GOLDEN / f"{name}.npz", "--out", place)
    assert outcome.code == 0 and outcome.err == ""
    found, wanted = contents(place), contents(GOLDEN / f"{name}.solution.npz")
    assert set(found) == {"q_star", "q_interface", "stationary", "weights"} <= set(wanted)
    for key, array in found.items():
        assert array.dtype == np.float64
        np.testing.assert_allclose(array, wanted[key], rtol=1e-6, atol=1e-6, err_msg=key)  # NaN where it has NaN
    assert [path.name for path in tmp_path.iterdir()] == ["solution.npz"]


def test_solve_marks_what_nobody_may_do(tmp_path):
    """NaN where an option is unavailable or an interface never decides, 0 at terminal states."""
    model = golden("episodic_masks")
    icsmdp("solve", GOLDEN / "episodic_masks.npz", "--out", tmp_path / "s.npz")
    found = contents(tmp_path / "s.npz")
    terminal, mask = model.is_terminal, model.option_mask
    assert terminal.any() and not mask.all()
    assert (found["q_star"][terminal] == 0).all()
    assert (found["stationary"][terminal] == 0).all() and (found["weights"][terminal] == 0).all()
    np.testing.assert_array_equal(np.isnan(found["q_star"][~terminal]), ~mask[model.interface][~terminal])
    decides = np.isin(np.arange(model.num_interfaces), model.interface[~terminal])
    np.testing.assert_array_equal(np.isnan(found["q_interface"]), ~(mask & decides[:, None]))
    assert found["stationary"].sum() == pytest.approx(1)
    behind = np.bincount(model.interface, found["weights"], model.num_interfaces)
    np.testing.assert_allclose(behind[decides], 1.0)


@pytest.mark.parametrize("name", ["plain", "dependent_duration", "episodic_masks", "successor_lists"])
def test_solve_full_adds_the_discounted_kernel(name, tmp_path):
    """Its row sums are E[gamma^tau | s, o], and with it Q* satisfies the Bellman equation."""
    model = golden(name)
    assert icsmdp("solve", GOLDEN / f"{name}.npz", "--out", tmp_path / "s.npz", "--full").code == 0
    found = contents(tmp_path / "s.npz")
    s, o = model.num_states, model.num_options
    kernel = found["discounted"]
    assert kernel.shape == (s, o, s) and (kernel >= 0).all()
    usable = model.option_mask[model.interface] & ~model.is_terminal[:, None]
    value = np.where(model.is_terminal, 0.0, np.nanmax(found["q_star"], axis=1))
    entering = kernel * ~model.is_terminal
    law = model.duration if model.kernel is None else model.kernel.sum(axis=3)
    discount = law @ model.gamma ** np.arange(1, law.shape[2] + 1)
    reward = model.reward_rate * (1 - discount) / (1 - model.gamma)
    np.testing.assert_allclose((reward + entering @ value)[usable], found["q_star"][usable], atol=1e-6)
    mass = kernel.sum(axis=2)[usable]
    ends = model.is_terminal.any()  # mass of what ends may be left out
    assert (mass <= discount[usable] + 1e-12).all() if ends else np.allclose(mass, discount[usable])


def test_solve_prints_json(tmp_path):
    found = parsed(icsmdp("solve", PLAIN, "--out", tmp_path / "s.npz", "--json"))
    assert found["out"] == str(tmp_path / "s.npz") and found["num_states"] == 36
    star = contents(tmp_path / "s.npz")["q_star"]
    assert found["largest_q_star"] == pytest.approx(np.abs(star).max(), rel=1e-12)


def test_solve_replaces_its_file(tmp_path):
    place = tmp_path / "s.npz"
    place.write_text("old")
    assert icsmdp("solve", PLAIN, "--out", place).code == 0
    assert set(contents(place)) == {"q_star", "q_interface", "stationary", "weights"}
    assert leftovers(tmp_path) == []


# learn


def learn(model: Path, out: Path, *more: object, samples: int = 601, replicas: int = 3) -> Outcome:
    arguments = [model, "--samples", samples, "--replicas", replicas, "--width", 4, "--out", out, "--json", *more]
    return icsmdp("learn", *map(str, arguments))


@pytest.fixture(scope="module", params=CLASSES)
def learned(request, tmp_path_factory) -> tuple[str, dict, dict[str, np.ndarray], Path]:
    """One small run of each function class on the pipeline (masks, terminal states, features): odd sample count."""
    place = tmp_path_factory.mktemp("learn") / "learned.npz"
    summary = parsed(learn(MODELS / "pipeline.npz", place, "--function-class", request.param, "--seed", 5))
    return request.param, summary, contents(place), place


def test_learn_has_the_keys_of_the_contract(learned):
    name, summary, _, place = learned
    assert LEARN_KEYS <= set(summary)
    assert summary["function_class"] == name and summary["out"] == str(place)
    assert (summary["samples"], summary["replicas"]) == (601, 3)
    assert summary["tail_samples"] == 301  # the last half, the odd one included
    for key in LEARN_KEYS - {"compile_s"}:
        assert math.isfinite(summary[key]) and summary[key] > 0, key
    assert summary["compile_s"] >= 0


def test_learn_writes_tables_of_all_replicas(learned):
    _, _, tables, place = learned
    model = load_model(MODELS / "pipeline.npz")
    assert set(tables) == {"q_last", "q_average"}
    for table in tables.values():
        assert table.shape == (3, model.num_interfaces, model.num_options)
        assert np.isfinite(table).all()
        assert not np.array_equal(table[0], table[1])  # replicas are independent
    assert not np.allclose(tables["q_last"], tables["q_average"])
    assert leftovers(place.parent) == []


def test_learn_measures_what_it_wrote(learned):
    """RMSE, spread and bias recomputed from the file by the plain program of tests/reference."""
    _, summary, tables, _ = learned
    known = analyse(load_model(MODELS / "pipeline.npz"))
    interface = known.interface
    weight = np.where(interface.mask, interface.pair_weight, 0.0)
    assert weight.sum() == pytest.approx(1)
    q_phi = np.where(interface.mask, known.q_phi.q, 0.0)
    average = tables["q_average"]
    spread, bias = spread_and_bias(average, q_phi, weight)
    assert summary["spread"] == pytest.approx(spread, rel=1e-6)
    assert summary["bias"] == pytest.approx(bias, rel=1e-6)
    squares = [(weight * (table - q_phi) ** 2).sum() for table in average]
    assert summary["rmse_to_interface_solution"] == pytest.approx(np.mean(squares) ** 0.5, rel=1e-6)
    model, squares = interface.model, []
    for table in average:
        square = 0.0
        for s in np.flatnonzero(interface.chain.stationary):
            z = model.interface[s]
            for o in np.flatnonzero(model.option_mask[z]):
                share = interface.chain.stationary[s] * interface.chain.behaviour[z, o]
                square += share * (table[z, o] - known.q_star.q[s, o]) ** 2
        squares.append(square)
    assert summary["rmse_to_oracle"] == pytest.approx(np.mean(squares) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("learned", ["tabular", "linear", "two-layer"], indirect=True)
def test_learn_repeats_itself_bit_for_bit(learned, tmp_path):
    name, summary, tables, _ = learned
    again = parsed(learn(MODELS / "pipeline.npz", tmp_path / "a.npz", "--function-class", name, "--seed", 5))
    second = contents(tmp_path / "a.npz")
    for key, table in tables.items():
        assert table.tobytes() == second[key].tobytes(), key
    timing = {"handoffs_per_second", "compile_s", "run_s", "out"}
    assert {k: v for k, v in again.items() if k not in timing} == {k: v for k, v in summary.items() if k not in timing}


def test_learn_averages_over_the_tail_it_is_asked_for(tmp_path):
    """The averages of nested windows of one run, whose chunks are the same: 500 handoffs, and the last 100 of them."""
    tables = {}
    for tail in (100, 500):
        outcome = learn(PLAIN, tmp_path / f"{tail}.npz", "--tail", tail, samples=600)
        assert parsed(outcome)["tail_samples"] == tail
        tables[tail] = contents(tmp_path / f"{tail}.npz")
    last = tables[100]["q_last"]
    np.testing.assert_array_equal(tables[500]["q_last"], last)
    # The table moves from 0 to its solution, so the shorter window lies nearer to where the run ended.
    near, far = (np.abs(tables[tail]["q_average"] - last).mean() for tail in (100, 500))
    assert 0 < near < far


def test_learn_averages_iterates_before_their_update(tmp_path):
    """D10: a tail of one handoff is the table before the last update, which changed one entry."""
    parsed(learn(PLAIN, tmp_path / "l.npz", "--tail", 1, samples=60))
    tables = contents(tmp_path / "l.npz")
    differs = (tables["q_average"].astype(np.float32) != tables["q_last"]).reshape(3, -1).sum(axis=1)
    assert (differs == 1).all()


def test_learn_seeds_and_replicas(tmp_path):
    """Another seed gives other numbers; a replica does not depend on how many run beside it."""
    learn(PLAIN, tmp_path / "three.npz", "--seed", 1, samples=600)
    learn(PLAIN, tmp_path / "other.npz", "--seed", 2, samples=600)
    single = parsed(learn(PLAIN, tmp_path / "one.npz", "--seed", 1, samples=600, replicas=1))
    three, other, one = (contents(tmp_path / f"{name}.npz") for name in ("three", "other", "one"))
    assert not np.array_equal(three["q_last"], other["q_last"])
    assert one["q_last"].shape == (1, 12, 2)
    np.testing.assert_array_equal(one["q_last"], three["q_last"][:1])
    assert single["spread"] == 0.0 and single["bias"] == pytest.approx(single["rmse_to_interface_solution"])


@pytest.mark.parametrize(("samples", "tail"), [(1, 1), (2, 1), (3, 2), (1001, 501)])
def test_learn_takes_any_number_of_samples(samples, tail, tmp_path):
    found = parsed(learn(PLAIN, tmp_path / "l.npz", samples=samples, replicas=2))
    assert (found["samples"], found["tail_samples"]) == (samples, tail)


def test_learn_takes_numbers_as_people_write_them(tmp_path):
    outcome = icsmdp("learn", PLAIN, "--samples", "1e3", "--replicas", "2", "--out", tmp_path / "l.npz", "--json")
    assert parsed(outcome)["samples"] == 1000


def test_learn_prints_lines_for_people(tmp_path):
    outcome = icsmdp("learn", PLAIN, "--samples", "600", "--replicas", "3", "--out", tmp_path / "l.npz")
    assert outcome.code == 0
    assert LEARN_KEYS <= {line.split()[0] for line in outcome.out.splitlines()}


def test_learn_says_when_features_are_made_up(tmp_path):
    outcome = learn(PLAIN, tmp_path / "l.npz", "--function-class", "linear", samples=600)
    assert "stand in" in outcome.err and parsed(outcome)["function_class"] == "linear"


CACHED = """
import sys
from icsmdp_jax import cli
code = cli.main(sys.argv[1:])
import jax
print(jax.config.jax_compilation_cache_dir, file=sys.stderr)
sys.exit(code)
"""


def test_learn_in_a_process_of_its_own(tmp_path):
    """Nothing but the result reaches stdout, and jax keeps what it compiles where the command line says."""
    command = ["learn", PLAIN, "--samples", "600", "--replicas", "2", "--out", tmp_path / "l.npz", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", CACHED, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and json.loads(done.stdout)["samples"] == 600
    assert done.stderr.splitlines()[-1] == str(tmp_path / "cache" / "icsmdp_jax" / "jax")


def test_spread_is_that_of_the_central_limit(tmp_path):
    """4e5 handoffs, 64 replicas: a spread is known to about 2 % (24 pairs), the limit to a few; 15 % is promised."""
    arguments = ("--samples", "400000", "--replicas", "64", "--seed", "1", "--out", tmp_path / "l.npz", "--json")
    found = parsed(icsmdp("learn", PLAIN, *arguments))
    assert found["tail_samples"] == 200_000
    predicted = EXPECTED["plain"]["clt_coefficient"] / 200_000**0.5
    assert found["spread"] == pytest.approx(predicted, rel=0.15)
    assert found["spread_predicted"] == pytest.approx(predicted, rel=1e-6)
    assert found["bias"] < found["spread"] and found["handoffs_per_second"] > 1000


# Bad input: exit code 2, one line, nothing left behind


def commands(model: object, out: Path) -> dict[str, list[str]]:
    return {
        "analyse": ["analyse", str(model)],
        "solve": ["solve", str(model), "--out", str(out)],
        "learn": ["learn", str(model), "--samples", "10", "--replicas", "2", "--out", str(out)],
    }


COMMANDS = pytest.mark.parametrize("command", ["analyse", "solve", "learn"])


@COMMANDS
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "text", "folder", "single array", "pickle"])
def test_a_model_file_that_cannot_be_read(command, damage, tmp_path):
    model, out = tmp_path / "model.npz", tmp_path / "out.npz"
    content = PLAIN.read_bytes()
    if damage == "truncated":
        model.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        model.write_bytes(b"")
    elif damage == "text":
        model.write_text("not a model\n" * 50)
    elif damage == "folder":
        model.mkdir()
    elif damage == "single array":
        with open(model, "wb") as stream:
            np.save(stream, np.zeros(3))
    elif damage == "pickle":
        np.savez(model, **{**contents(PLAIN), "agent": np.array([{"a": 1}], dtype=object)})
    before = sorted(tmp_path.rglob("*"))
    refused(icsmdp(*commands(model, out)[command]), str(model))
    assert sorted(tmp_path.rglob("*")) == before


@COMMANDS
def test_a_model_with_a_wrong_row_is_named_by_array_index_and_value(command, tmp_path):
    arrays = contents(PLAIN)
    arrays["transition"][3, 1] *= 0.5
    np.savez(tmp_path / "model.npz", **arrays)
    out = tmp_path / "out.npz"
    refused(icsmdp(*commands(tmp_path / "model.npz", out)[command]), "transition[3, 1]", "0.5", "expected")
    assert not out.exists()


@COMMANDS
def test_a_missing_array_is_named(command, tmp_path):
    arrays = contents(PLAIN)
    del arrays["gamma"]
    np.savez(tmp_path / "model.npz", **arrays)
    refused(icsmdp(*commands(tmp_path / "model.npz", tmp_path / "out.npz")[command]), "gamma", "missing")


def laws() -> dict[str, tuple[np.ndarray, str]]:
    """Behaviour policies for ``episodic_masks`` that are none, and what the message must name."""
    mask = golden("episodic_masks").option_mask
    fine = golden_analysis("episodic_masks").interface.chain.behaviour
    z, o = (int(i) for i in np.argwhere(mask & (fine > 0))[0])
    blocked = tuple(int(i) for i in np.argwhere(~mask & (fine.sum(axis=1, keepdims=True) > 0))[0])

    def changed(place: tuple[int, ...], value: float) -> np.ndarray:
        law = fine.copy()
        law[place] = value
        return law

    return {
        "wrong shape": (fine[:, :-1], "shape"),
        "transposed": (fine.T.copy(), "shape"),
        "one number": (np.array(0.5), "shape"),
        "zero on an available option": (changed((z, o), 0.0), f"behaviour[{z}, {o}] = 0"),
        "negative": (changed((z, o), -0.25), f"behaviour[{z}, {o}] = -0.25"),
        "not a number": (changed((z, o), math.nan), f"behaviour[{z}, {o}] = nan"),
        "weight on an unavailable option": (changed(blocked, 0.1), f"behaviour[{blocked[0]}, {blocked[1]}] = 0.1"),
        "does not sum to 1": (2 * fine, "sums to 2"),
        "complex": (fine + 0j, "complex"),
        "text": (fine.astype(str), "behaviour"),
    }


@pytest.mark.parametrize("name", laws())
def test_a_behaviour_policy_that_is_none(name, tmp_path):
    law, fragment = laws()[name]
    np.save(tmp_path / "law.npy", law)
    out = tmp_path / "out.npz"
    for command in ("analyse", "solve", "learn"):
        arguments = commands(GOLDEN / "episodic_masks.npz", out)[command]
        refused(icsmdp(*arguments, "--behaviour", tmp_path / "law.npy"), fragment)
    assert [path.name for path in tmp_path.iterdir()] == ["law.npy"]


class Trap:
    """An object whose unpickling leaves a trace."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "pickle", "npz", "broken zip", "folder"])
def test_a_behaviour_file_that_cannot_be_read(damage, tmp_path):
    place = tmp_path / "law.npy"
    if damage == "empty":
        place.write_bytes(b"")
    elif damage == "truncated":
        np.save(place, np.full((12, 2), 0.5))
        place.write_bytes(place.read_bytes()[:-40])
    elif damage == "pickle":
        np.save(place, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    elif damage == "npz":
        with open(place, "wb") as stream:
            np.savez(stream, law=np.full((12, 2), 0.5))
    elif damage == "broken zip":
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("law.npy", b"x" * 100)
        place.write_bytes(place.read_bytes()[:80])
    elif damage == "folder":
        place.mkdir()
    refused(icsmdp("analyse", PLAIN, "--behaviour", place), str(place))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("command", ["solve", "learn"])
def test_out_that_cannot_be_written(command, tmp_path):
    nowhere = tmp_path / "missing" / "out.npz"
    refused(icsmdp(*commands(PLAIN, nowhere)[command]), str(nowhere), "does not exist")
    refused(icsmdp(*commands(PLAIN, tmp_path)[command]), str(tmp_path), "directory")
    file = tmp_path / "file"
    file.write_text("mine")
    refused(icsmdp(*commands(PLAIN, file / "out.npz")[command]), str(file))
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and file.read_text() == "mine"


@pytest.mark.parametrize("option", ["--samples", "--replicas", "--width", "--tail"])
@pytest.mark.parametrize("value", ["0", "-1", "abc", "1.5", "", "nan", "inf", "1e400"])
def test_counts_are_whole_and_positive(option, value, tmp_path):
    arguments = ["learn", PLAIN, "--samples", "10", "--replicas", "2", "--out", tmp_path / "l.npz", f"{option}={value}"]
    refused(icsmdp(*arguments), option)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", ["abc", "1.5", "99999999999999999999999", "-99999999999999999999999"])
@pytest.mark.parametrize("function_class", ["tabular", "linear"])
def test_a_seed_that_is_none(seed, function_class, tmp_path):
    more = ("--function-class", function_class, f"--seed={seed}")
    refused(icsmdp(*commands(PLAIN, tmp_path / "l.npz")["learn"], *more), "seed")
    assert list(tmp_path.iterdir()) == []


def test_a_tail_longer_than_the_run(tmp_path):
    refused(icsmdp(*commands(PLAIN, tmp_path / "l.npz")["learn"], "--tail", "11"), "tail", "11", "10")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["analyse"],
        ["analyse", str(PLAIN), "--unknown"],
        ["analyse", str(PLAIN), "too", "many"],
        ["solve", str(PLAIN)],
        ["learn", str(PLAIN), "--out", "l.npz"],
        ["learn", str(PLAIN), "--samples", "10", "--out", "l.npz", "--function-class", "quadratic"],
    ],
)
def test_arguments_that_argparse_refuses(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(icsmdp(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_bad_input_in_a_process_of_its_own(tmp_path):
    """What a shell script sees: the code, one line, and no file."""
    done = subprocess_run("solve", tmp_path / "missing.npz", "--out", tmp_path / "out.npz")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("icsmdp: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_is_no_number_leaves_no_file(tmp_path):
    """Rewards beyond float32 make values that are no numbers: this must not look like a success."""
    arrays = contents(PLAIN)
    arrays["reward_rate"] = 1e38 * arrays["reward_rate"]
    np.savez(tmp_path / "huge.npz", **arrays)
    out = tmp_path / "l.npz"
    outcome = icsmdp(*commands(tmp_path / "huge.npz", out)["learn"], "--json")
    assert outcome.code == 2 and outcome.out == ""
    assert not out.exists() and leftovers(tmp_path) == []


@pytest.mark.parametrize("command", ["solve", "learn"])
def test_a_write_that_fails_leaves_nothing(command, tmp_path, monkeypatch):
    out = tmp_path / "out.npz"
    out.write_text("what was there before")

    def full(stream: object, **arrays: np.ndarray) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    tables = np.zeros((2, 12, 2))
    monkeypatch.setattr(experiment, "learn", lambda *arguments: Learned(tables, tables, {}, []))
    refused(icsmdp(*commands(PLAIN, out)[command]), "No space left")
    assert out.read_text() == "what was there before" and leftovers(tmp_path) == []


# The rest of the program


def test_interrupting_ends_with_130(monkeypatch):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("icsmdp_jax.commands.analyse_file", stop)
    assert icsmdp("analyse", PLAIN) == Outcome(130, "", "icsmdp: interrupted\n")


def test_a_bug_is_not_taken_for_bad_input(monkeypatch):
    def broken(*arguments: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("icsmdp_jax.commands.analyse_file", broken)
    with pytest.raises(AssertionError, match="a bug"):
        icsmdp("analyse", PLAIN)


def test_a_traceback_can_be_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("ICSMDP_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no such file"):
        icsmdp("analyse", tmp_path / "missing.npz")


def test_version():
    assert icsmdp("--version") == Outcome(0, f"icsmdp {__version__}\n", "")


def test_help_lists_the_commands():
    outcome = icsmdp("--help")
    assert outcome.code == 0 and outcome.err == ""
    for command in ("analyse", "solve", "learn", "validate"):
        assert command in outcome.out


def test_the_program_is_what_pyproject_declares():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'icsmdp = "icsmdp_jax.cli:main"' in project and callable(cli.main)


def test_the_compilation_cache_of_the_user_is_respected(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    cli.set_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cli.set_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "cache" / "icsmdp_jax" / "jax")


def test_help_and_refusals_do_not_load_jax():
    """With every command that pyproject.toml declares, ``validate`` included."""
    code = """
        import sys, tomllib
        from importlib.metadata import EntryPoint
        from icsmdp_jax import cli
        project = tomllib.load(open("pyproject.toml", "rb"))["project"]
        entries = project["entry-points"][cli.COMMAND_GROUP]
        cli.entry_points = lambda group: [EntryPoint(name, value, group) for name, value in entries.items()]
        assert "validate" in cli.build_parser().format_help()
        print([name for name in ("jax", "scipy", "matplotlib", "pyarrow") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
