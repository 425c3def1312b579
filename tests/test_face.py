"""``import icsmdp_jax as ic``: what it costs, what it offers, and that methods are the same learners as inside."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bound_validation as bv
import icsmdp_jax as ic
from icsmdp_jax.envs import registry
from icsmdp_jax.exact import words
from icsmdp_jax.learner.curves import horizon_of
from icsmdp_jax.learner.methods import METHODS
from tests.helpers import SPOKEN, golden

SMALL: dict[str, Any] = {"copies": 8, "length": 4}
MODEL = "episodic_masks"


def test_importing_loads_nothing_and_names_are_listed() -> None:
    program = (
        "import sys; before = set(sys.modules); import icsmdp_jax as ic; new = set(sys.modules) - before\n"
        "assert not {'jax', 'numpy', 'scipy', 'matplotlib'} & new, new\n"
        "assert dir(ic) == sorted(ic.__all__), dir(ic)\n"
        "print(len(new))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10


@pytest.mark.parametrize("name", [name for name in ic.__all__ if name != "__version__"])
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(ic, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        assert value.__module__.startswith("icsmdp_jax.")


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'analyze'"):
        ic.analyze  # noqa: B018


RESULTS = {
    "Advice",
    "Analysis",
    "Checkpoint",
    "Curves",
    "Evaluation",
    "METHODS",
    "MethodComparison",
    "Row",
    "Setup",
    "Solved",
    "__version__",
}
LONG = {  # they compile, or import much
    "Checked", "SaveCheckpoint", "check_environment", "compare_methods", "evaluate", "from_gymnax", "plot_curves",
    "read_table", "run", "save_checkpoint", "to_gymnasium", "to_gymnax", "to_jaxmarl", "to_pettingzoo", "verdict",
}  # fmt: skip
NEEDS = {  # what is installed with an extra only
    "TensorBoard": "tensorboardX", "WandB": "wandb", "from_gymnax": "gymnax", "to_gymnasium": "gymnasium",
    "to_gymnax": "gymnax", "to_jaxmarl": "jaxmarl", "to_pettingzoo": "pettingzoo",
}  # fmt: skip
EXAMPLES = [(package, name) for package in (ic, bv) for name in package.__all__ if name not in RESULTS]


@pytest.mark.parametrize(
    ("package", "name"),
    [pytest.param(*one, marks=pytest.mark.slow if one[1] in LONG else ()) for one in EXAMPLES],
    ids=[f"{package.__name__}.{name}" for package, name in EXAMPLES],
)
def test_every_name_that_is_called_has_an_example_that_runs(package: Any, name: str) -> None:
    """What only a call returns is shown in the example of the function that returns it."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    registered = dict(registry.ENVIRONMENTS)
    found = doctest.DocTestFinder(recurse=False).find(getattr(package, name), name, globs={})
    assert sum(len(one.examples) for one in found) >= 2
    try:
        for one in found:
            assert doctest.DocTestRunner(verbose=False).run(one).failed == 0
    finally:
        registry.ENVIRONMENTS.clear()
        registry.ENVIRONMENTS.update(registered)


FIRST_SESSION = """
env, params = ic.make("planted", gap=0.2)
model = env.exact_model(params)
known = ic.analyse(model)
known.interface_gap
print(known)
icq = ic.setup(env, params, method="ic_q", network="mlp", width=32)
state, metrics = ic.train(icq, key, updates=1500)
ic.evaluate(icq, state, key)
summary = bv.run(bv.Sweep("gap", family="planted", axes={"gap": (0, 0.1, 0.4)}), "results/gap")
ic.compare_methods(env, params, ["ic_q", "central", "no_message"], key)
"""
SHORTER = {
    "updates=1500": "updates=20",
    "(0, 0.1, 0.4)}": "(0, 0.1, 0.4)}, samples=(200, 400), replicas=2",
    '"no_message"], key': '"no_message"], key, updates=20, seeds=2, points=2, episodes=16, copies=8',
}


@pytest.mark.slow
def test_a_first_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line as a user would type it, with smaller numbers; each shows something in one line or a table."""
    monkeypatch.chdir(tmp_path)
    program = FIRST_SESSION
    for long, short in SHORTER.items():
        assert long in program
        program = program.replace(long, short)
    names: dict[str, Any] = {"ic": ic, "bv": bv, "key": jax.random.key(0)}
    shown = []
    for line in program.strip().splitlines():
        try:
            shown.append(repr(eval(line, names)))
        except SyntaxError:
            exec(line, names)
    assert names["known"].interface_gap == float(shown[0]) and "interface_gap" in capsys.readouterr().out
    assert shown[2].startswith("Evaluation(return ") and shown[3].startswith("MethodComparison(planted: ic_q ")
    assert names["summary"]["cells"] == 3 and Path(names["summary"]["report"]).is_file()
    assert repr(names["summary"]).startswith("Summary(The bound held in ")
    assert all("\n" not in repr(value) for name, value in names.items() if name not in ("__builtins__", "key"))


def test_constants_have_the_names_of_the_json() -> None:
    known = ic.analyse(golden(MODEL))
    table = known.table()
    for name, value in table.items():
        assert getattr(known, name) == value
    text, page = str(known), known._repr_html_()
    for name, shown, unit, said in words.rows_of(table):
        assert any(line.split()[:2] == [name, shown] for line in text.splitlines())
        assert f">{name}</td>" in page and f">{shown}</td>" in page and unit in text and said in text
    assert set(table) - set(words.LABELS) == set(SPOKEN)
    assert repr(known).count("\n") == 0 and len(repr(known)) < 100


def test_what_an_analysis_holds_is_shown_in_one_line() -> None:
    known = ic.analyse(golden(MODEL))
    z, o = known.num_interfaces, known.num_options
    assert repr(known.q_phi).startswith(f"Solution(q [{z}, {o}], value [{z}], error_bound ")
    parts = (known, known.q_star, known.interface, known.fixed, known.limit, known.returns, known.gap, known.ais)
    assert all("\n" not in repr(part) and len(repr(part)) < 300 for part in parts)


@pytest.mark.parametrize(
    ("gap", "loss", "certified", "said"),
    [
        (1e-12, 0.0, True, "hide nothing that matters for values; bounds on learning apply."),
        (0.2, 1e-12, True, "hide values of up to 0.2, which costs no return"),
        (0.2, 0.05, False, "costs up to 0.05 of return in the worst state; A6 is not certified"),
    ],
)
def test_the_sentence(gap: float, loss: float, certified: bool, said: str) -> None:
    sizes = {"num_agents": 1, "num_interfaces": 2, "num_states": 3}
    table = {**sizes, "interface_gap": gap, "policy_loss": loss, "a6_certified": certified}
    found = words.sentence(table, 1.0)
    assert said in found and found.startswith("1 agent with 2 interfaces on 3 states: ")


def test_dust_of_rounding_is_shown_as_0() -> None:
    known = ic.analyse(golden("desk"))
    assert any(0 < row["epsilon"] < 1e-15 for row in known.by_agent) and "e-17" not in str(known)


def test_models_are_shown_in_one_line() -> None:
    model = golden(MODEL)
    assert repr(model) == (
        f"TabularModel({model.num_states} states, {model.num_interfaces} interfaces, {model.num_agents} agents, "
        f"{model.num_options} options, {model.longest_duration} primitive steps at most, "
        f"{int(model.is_terminal.sum())} terminal states, gamma {model.gamma:.6g})"
    )
    assert "transition" in model._repr_html_() or "kernel" in model._repr_html_()


def test_solve_agrees_with_the_analysis() -> None:
    model = golden(MODEL)
    found, known = ic.solve(model), ic.analyse(model)
    np.testing.assert_array_equal(found.q_interface[known.interface.mask], known.q_phi_table[known.interface.mask])
    assert np.isnan(found.q_interface[~known.interface.mask]).all() and found.q_star_error_bound < 1e-9


# An environment with vectors


class Corridor(ic.Environment):
    """Two agents in turn; the first sees where the goal is, the second does not, and option 1 is right for goal 1."""

    spec = ic.EnvSpec("corridor", 2, 2, 0, (2,), jnp.float32, 3, False)

    def _at(self, turn: Any, goal: Any, ended: Any) -> Any:
        seen = jnp.stack([jnp.float32(1.0), jnp.where(turn == 0, goal, 0.5).astype(jnp.float32)])
        return ic.arrive(turn, seen, jnp.ones(2, bool), ended), (turn, goal)

    def reset(self, key: Any, params: Any) -> Any:
        return self._at(jnp.int32(0), jax.random.bernoulli(key).astype(jnp.float32), ic.no_segment())

    def step_env(self, key: Any, state: Any, option: Any, params: Any) -> Any:
        turn, goal = state
        tau = jax.random.randint(key, (), 1, 4, jnp.int32)
        reward = jnp.where(turn == 0, (option == goal).astype(jnp.float32), 0.5 * (option == 1).astype(jnp.float32))
        ended = ic.Ended(reward, tau, jnp.where(turn == 1, 0.0, params**tau).astype(jnp.float32), turn == 1, turn < 0)
        return self._at(1 - turn, goal, ended)


class Seen(Corridor):
    """The same with a global view."""

    def global_view(self, state: Any, params: Any) -> Any:
        return jnp.stack([state[0].astype(jnp.float32), state[1]])


GAMMA = jnp.float32(0.9)
BEST = 1.0 + 0.5 * float(np.mean(0.9 ** np.arange(1, 4)))


@cache
def corridor(method: str = "ic_q", network: str = "mlp") -> ic.Setup:
    return ic.setup(Seen(), GAMMA, method, network, width=8, depth=1, **SMALL)


def test_curves_do_not_change_what_is_learned() -> None:
    one, key = corridor(), jax.random.key(3)
    state, metrics = jax.jit(one.learner.train, static_argnums=2)(key, one.hyper, 12)
    recorded, curves = ic.train(one, key, 12, at=[3, 4, 12])
    for found, expected in zip(jax.tree.leaves(recorded), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(
            np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=1e-5, atol=1e-6
        )
    parts = [slice(0, 3), slice(3, 4), slice(4, 12)]
    np.testing.assert_allclose(curves.reward, [metrics.reward[part].mean() for part in parts], rtol=1e-5)
    np.testing.assert_array_equal(curves.visits, [metrics.visits[part].sum(axis=0) for part in parts])
    squares = np.array([metrics.td_square[part].sum(axis=0) for part in parts])
    np.testing.assert_allclose(curves.td_error, np.sqrt(squares / curves.visits), rtol=1e-4)
    assert curves.updates.tolist() == [3, 4, 12] and curves.returns is None


def test_seeds_are_runs_with_keys_of_their_own_and_train_may_be_jitted() -> None:
    one, key = corridor(), jax.random.key(4)
    states, curves = jax.jit(lambda k: ic.train(one, k, 4, seeds=2, at=[2, 4]))(key)
    alone, _ = ic.train(one, jax.random.split(key, 2)[1], 4, at=[2, 4])
    for several, single in zip(jax.tree.leaves(states.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(several[1], single, rtol=1e-5, atol=1e-6)
    assert curves.reward.shape == (2, 2) and curves.td_error.shape == (2, 2, 2)


def test_points_of_a_curve() -> None:
    from icsmdp_jax.learner.curves import _points

    assert (
        _points(7, None) == (1, 2, 3, 4, 5, 6, 7) and len(_points(1499, None)) == 50 and _points(1499, None)[-1] == 1499
    )
    for at in ((), (0, 4), (2, 2, 4), (2, 3), (4, 2)):
        with pytest.raises(ValueError, match="expected increasing numbers of updates from 1 to 4"):
            _points(4, at)


def test_an_evaluation_is_the_exact_return_up_to_its_interval() -> None:
    """4096 copies; a 95 % interval widened to 4.5 standard errors fails with probability below 1e-5."""
    env, params = ic.tabular_env(golden(MODEL))
    one = ic.setup(env, params, **SMALL)
    state, _ = ic.train(one, jax.random.key(0), 40)
    found = ic.evaluate(one, state, jax.random.key(1), episodes=4096)
    exact = float(one.returns.of_greedy(one.tables(state.params)))
    error = (found.value.ci_high - found.value.mean) / 1.96
    assert abs(found.value.mean - exact) < 4.5 * error + 2e-3 * max(1.0, abs(exact))
    scale = one.returns.oracle - one.returns.random
    assert found.normalised.mean == pytest.approx((found.value.mean - found.random) / scale, rel=1e-9)
    assert found.remaining <= 1e-3 and "on the scale from 0 (random) to 1 (oracle)" in str(found)


@pytest.mark.parametrize(("gamma", "handoffs"), [(0.5, 64), (0.92, 128), (0.98, 384), (1 - 1e-9, 8192)])
def test_an_evaluation_is_as_long_as_the_discount_lasts(gamma: float, handoffs: int) -> None:
    """One state, one step: 0.98^384 is the first power at a multiple of 64 that is below 0.1 %."""
    one = np.ones((1, 1, 1))
    model = ic.TabularModel(transition=one, duration=one, reward_rate=one[0], agent=[0], interface=[0], gamma=gamma)
    assert horizon_of(ic.setup(model)) == handoffs


@pytest.mark.slow
def test_methods_side_by_side_where_interfaces_are_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    """IC-Q solves the corridor; what earns most is known in closed form."""
    found = ic.compare_methods(
        Seen(), GAMMA, ["ic_q", "central", "immediate"], jax.random.key(5), updates=400, seeds=2, points=2, episodes=64,
        width=8, depth=1, step_size=ic.constant(0.03), exploration=ic.ramp(1.0, 0.3, 100), **SMALL,
    )  # fmt: skip
    for row in found.rows():
        assert row["return"] == pytest.approx(BEST, abs=0.08) and row["normalised"] is None and row["seeds"] == 2
    assert [row["scalars_per_handoff"] for row in found.rows()] == [1.0, "whole state", 0.0]
    assert found.handoffs.tolist() == [200 * 32, 400 * 32]
    lines = str(found).splitlines()
    assert lines[0] == "corridor: 12800 handoffs for each of 2 seeds" and len(lines) == 6
    figure = found.figure()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        METHODS[name].label for name in found.outcomes
    ]
    assert "corridor: IC-Q" in capsys.readouterr().err


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_can_be_set_up_and_stepped_where_interfaces_are_vectors(method: str) -> None:
    one = ic.setup(Seen(), GAMMA, method, width=4, depth=1, copies=2, length=2)
    shapes = jax.eval_shape(lambda key: one.learner.train(key, one.hyper, 2)[0].params, jax.random.key(0))
    slots = {leaf.shape[0] for leaf in jax.tree.leaves(shapes)}
    assert slots == ({1} if METHODS[method].shared or METHODS[method].view == "state" else {2})


REFUSED = [
    ({"method": "icq"}, "method = 'icq': expected one of ic_q, central"),
    (
        {"network": "tabular"},
        "network = 'tabular': expected one of linear, mlp, two-layer, since interfaces are vectors",
    ),
    ({"network": "cnn"}, "network = 'cnn': expected one of linear, mlp, two-layer"),
    ({"width": 0}, "width = 0: expected a whole number of at least 1"),
    ({"copies": 0}, "copies = 0: expected a whole number of at least 1"),
    ({"length": -1}, "length = -1: expected a whole number of at least 1"),
    ({"depth": -1}, "depth = -1: expected a whole number of at least 0"),
    ({"method": "central"}, "method = 'central': corridor has no exact model and no global_view"),
]


@pytest.mark.parametrize(("arguments", "line"), REFUSED)
def test_what_cannot_be_set_up_is_refused_in_one_line(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=".") as caught:
        ic.setup(Corridor(), GAMMA, **arguments)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [ic.analyse, ic.solve, ic.setup])
def test_a_file_name_is_no_model(call: Any) -> None:
    with pytest.raises(ValueError, match="'file.npz': expected .*TabularModel.*load_model reads a model file"):
        call("file.npz")
