"""Mistakes end where they are made: each wrong call gives one sentence that names argument, value and expectation."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import functools
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import checkify

import bound_validation as bv
import icsmdp_jax as ic
from icsmdp_jax.core.arguments import whole, within
from icsmdp_jax.envs.planted.model import PlantedConfig
from icsmdp_jax.learner import exploration, networks, schedules
from icsmdp_jax.learner.icq import Learner
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner
from tests.helpers import golden

KEY = jax.random.key(0)
STEP, RAMP = schedules.constant(0.1), exploration.ramp(1.0, 0.1, 10)


class Vectors(ic.Environment):
    """Three agents, two options, vectors of four numbers; nothing is ever run."""

    spec = ic.EnvSpec("vectors", 3, 2, 0, (4,), jnp.float32, 5, False)

    def reset(self, key: Any, params: Any) -> Any:
        return ic.arrive(jnp.int32(0), jnp.zeros(4), jnp.ones(2, bool), ic.no_segment()), jnp.int32(0)

    def step_env(self, key: Any, state: Any, option: Any, params: Any) -> Any:
        ended = ic.no_segment()._replace(duration=jnp.int32(1))
        return ic.arrive(state, jnp.zeros(4), jnp.ones(2, bool), ended), (state + 1) % params


ENV = Vectors()
MLP = networks.mlp(3, 2, 4, 1, dim=4)


@cache
def listed() -> tuple[Any, Any]:
    return ic.tabular_env(golden("episodic_masks"))


def learner(values: Any = MLP, optimiser: Any = optax.adam, **static: Any) -> ParallelLearner:
    return ParallelLearner(ENV, values, optimiser, **{"copies": 2, "length": 2, **static})


def started(values: Any = MLP, static: dict[str, Any] | None = None, **hyper: Any) -> Any:
    given = Hyper(jnp.int32(3), None, STEP, exploration=RAMP)._replace(**hyper)
    one = learner(values, **(static or {}))
    return jax.eval_shape(lambda: one.init(KEY, given))


def step(option: Any) -> Any:
    return ENV.step(KEY, jnp.int32(0), option, jnp.int32(3))


def setup(**arguments: Any) -> Any:
    return ic.setup(ENV, jnp.int32(3), **arguments)


def tabular_setup(**arguments: Any) -> Any:
    return ic.setup(*listed(), **arguments)


def model(**changes: Any) -> Any:
    return golden("plain").replace(**changes)


def varied(method: str = "ic_q", **changes: Any) -> Any:
    return ic.setup(type("Varied", (Vectors,), changes)(), jnp.int32(3), method)


def sweep(**changes: Any) -> Any:
    return bv.Sweep(**{"name": "gap", "family": "planted", "axes": {"gap": (0, 0.1)}, **changes})


WRONG: list[tuple[Callable[[], Any], str]] = [
    # networks
    (lambda: started(networks.mlp(2, 2, 4, dim=4)), "values: parameters of 2 agents, expected 3"),
    (lambda: started(networks.mlp(3, 5, 4, dim=4)), "values: [5] values for each interface, expected [2]"),
    (lambda: started(networks.mlp(3, 2, 4)), "dim = 0: expected a whole number of at least 1"),
    (lambda: started(networks.mlp(3, 2, 4, dim=7)), "values: mlp does not read interfaces of shape [4]"),
    (lambda: started(networks.linear(4, 2, dim=4)), "values: parameters of 4 agents, expected 3"),
    (lambda: started(networks.two_layer(3, 3, 4, dim=4)), "values: [3] values for each interface, expected [2]"),
    (lambda: started(networks.linear(3, 2, dim=3)), "values: linear does not read interfaces of shape [4]"),
    (lambda: networks.mlp(0, 2, 4), "num_agents = 0: expected a whole number of at least 1"),
    (lambda: networks.mlp(3, 2, 0), "width = 0: expected a whole number of at least 1"),
    (lambda: networks.mlp(3, 2, 4, -1), "depth = -1: expected a whole number of at least 0"),
    (lambda: networks.mlp(3, 2, 4.5), "width = 4.5: expected a whole number of at least 1"),
    (lambda: networks.linear(3, 0), "num_options = 0: expected a whole number of at least 1"),
    (lambda: networks.linear(3, 2, dim=-1), "dim = -1: expected a whole number of at least 0"),
    (lambda: networks.two_layer(3, 2, 0), "width = 0: expected a whole number of at least 1"),
    (lambda: networks.two_layer(3, 2, 4, "moving"), "hidden = 'moving': expected one of trained, frozen"),
    (lambda: networks.tabular(0, 2), "num_interfaces = 0: expected a whole number of at least 1"),
    (lambda: networks.tabular(4, True), "num_options = True: expected a whole number of at least 1"),
    # learners
    (lambda: learner(networks.tabular(4, 2)), "values: a table, expected linear, mlp or two-layer"),
    (lambda: learner("mlp"), "values = 'mlp': expected a ValueClass"),
    (lambda: ParallelLearner("planted", MLP, optax.adam), "env = 'planted': expected an Environment"),
    (lambda: learner(copies=0), "copies = 0: expected a whole number of at least 1"),
    (lambda: learner(length=0), "length = 0: expected a whole number of at least 1"),
    (lambda: learner(copies=2.5), "copies = 2.5: expected a whole number of at least 1"),
    (lambda: learner(federated_every=-1), "federated_every = -1: expected a whole number of at least 0"),
    (lambda: learner(latest=-1), "latest = -1: expected a whole number of at least 0"),
    (lambda: learner(optimiser=optax.adam(1e-3)), "optimiser = GradientTransformationExtraArgs: expected a function"),
    (lambda: learner(optimiser=1e-3), "optimiser = float: expected a function of a learning rate"),
    (lambda: learner(optimiser=None), "optimiser = None: expected an optax optimiser for mlp values"),
    (lambda: learner(explore="greedy"), "explore = 'greedy': expected one of"),
    (lambda: learner(target="td"), "target = 'td': expected one of"),
    (lambda: learner(bootstrap="all"), "bootstrap = 'all': expected one of"),
    (lambda: learner(double=True), "double = True: expected target_network = True"),
    (lambda: Learner(ENV, MLP, "visits", optimiser=optax.adam), "optimiser = <function adam"),
    (lambda: Learner(ENV, MLP, "clock"), "clock = 'clock': expected 'epoch' or 'visits'"),
    (lambda: Learner(ENV, networks.tabular(4, 2)), "values: a table, expected linear, mlp or two-layer"),
    # traced inputs
    (lambda: started(step_size=1e-3), "step_size = 0.001: expected a StepSize"),
    (lambda: started(step_size=None), "step_size = None: expected a StepSize"),
    (lambda: started(step_size=STEP._replace(scale=np.float32(-1))), "step_size.scale = -1: expected 0 or more"),
    (lambda: started(exploration=0.1), "hyper.exploration = 0.1: expected a ramp for explore = 'epsilon-greedy'"),
    (lambda: started(exploration=None), "hyper.exploration = None: expected a ramp for explore = 'epsilon-greedy'"),
    (lambda: started(exploration=exploration.ramp(1.5, 0.1, 10)), "hyper.exploration.begin = 1.5: expected a number"),
    (lambda: started(lambda_=1.5), "hyper.lambda_ = 1.5: expected a number from 0 to 1"),
    (lambda: started(target_rate=float("nan")), "hyper.target_rate = nan: expected a number from 0 to 1"),
    (lambda: started(handoffs=0), "hyper.handoffs = 0: expected 1 or more"),
    (lambda: learner().init(KEY, jnp.int32(3)), "hyper = ArrayImpl: expected a Hyper"),
    # schedules
    (lambda: schedules.constant(-1e-3), "step = -0.001: expected 0 or more"),
    (lambda: schedules.constant(float("nan")), "step = nan: expected 0 or more"),
    (lambda: schedules.constant("fast"), "step = 'fast': expected 0 or more"),
    (lambda: schedules.polynomial(-0.7), "power = -0.7: expected 0 or more"),
    (lambda: exploration.ramp(-0.1, 0.1, 10), "begin = -0.1: expected 0 or more"),
    (lambda: exploration.ramp(1.0, 0.1, -5), "updates = -5: expected 0 or more"),
    # options
    (lambda: step(jnp.zeros(1, jnp.int32)), "option: int32 of shape [1], expected one whole number"),
    (lambda: step(0.0), "option: float32 of shape [], expected one whole number"),
    (lambda: step(jnp.array(True)), "option: bool of shape [], expected one whole number"),
    (lambda: step(99), "option = 99: expected 0 to 1 for vectors"),
    (lambda: step(-1), "option = -1: expected 0 to 1 for vectors"),
    (lambda: jax.jit(step)(jnp.zeros((2, 1), jnp.int32)), "option: int32 of shape [2, 1], expected one whole number"),
    # the public face
    (lambda: ic.analyse("file.npz"), "model = 'file.npz': expected a TabularModel; load_model reads a model file"),
    (lambda: ic.solve(None), "model = None: expected a TabularModel"),
    (lambda: ic.make("planed"), "environment 'planed': expected one of"),
    (lambda: ic.make("planted", gapp=0.2), "planted: argument 'gapp', expected one of"),
    (lambda: setup(width=0), "width = 0: expected a whole number of at least 1"),
    (lambda: setup(network=5), "network = 5: expected one of linear, mlp, two-layer"),
    (lambda: setup(optimiser=optax.sgd(0.1)), "optimiser = GradientTransformationExtraArgs: expected a function"),
    (lambda: setup(method="dqn"), "method = 'dqn': expected one of ic_q"),
    (lambda: setup(step_size=1e-3), "step_size = 0.001: expected a StepSize"),
    (lambda: tabular_setup(step_size=1e-3), "step_size = 0.001: expected a StepSize"),
    (lambda: tabular_setup(exploration=0.1), "exploration = 0.1: expected a Ramp"),
    (lambda: tabular_setup(network=networks.mlp(3, 9, 4)), "values: [9] values for each interface"),
    (lambda: ic.setup(golden("plain"), 3), "params = int: expected None with a TabularModel"),
    (lambda: ic.train(ENV, KEY, 3), "one = Vectors: expected what setup returned"),
    (lambda: ic.train(tabular_setup(), KEY, 0), "updates = 0: expected a whole number of at least 1"),
    (lambda: ic.train(tabular_setup(), KEY, 4, seeds=0), "seeds = 0: expected a whole number of at least 1"),
    (lambda: ic.evaluate(tabular_setup(), jnp.zeros(3), KEY), "state: parameters of other shapes"),
    (lambda: ic.compare_methods(*listed(), methods="ic_q"), "methods = 'ic_q': expected a list with one name or more"),
    (lambda: ic.compare_methods(*listed(), ["ic_q", "dqn"]), "method = 'dqn': expected one of ic_q"),
    (lambda: setup(width=True), "width = True: expected a whole number of at least 1"),
    (lambda: setup(width=[64, 64]), "width = [64, 64]: expected a whole number of at least 1"),
    (lambda: setup(seed=-1), "seed = -1: expected a whole number of at least 0"),
    (lambda: setup(copys=8), "setup: argument 'copys', expected one of copies, length, explore, target"),
    (lambda: setup(bootstrap="nothing"), "setup: argument 'bootstrap', expected one of"),
    (lambda: setup(target_network="yes"), "target_network = 'yes': expected True or False"),
    (lambda: setup(target=["td"]), "target = ['td']: expected one of one-handoff"),
    (lambda: setup(method=["ic_q"]), "method = ['ic_q']: expected one of ic_q"),
    (lambda: setup(network={}), "network = {}: expected one of linear"),
    (lambda: ic.setup(ENV), "params = None: step of vectors fails with it (TypeError: unsupported operand"),
    (lambda: ic.setup(Vectors, 3), "env = <class 'tests.test_wrong_calls.Vectors'>: expected an Environment"),
    (lambda: ic.setup("planted"), "env = 'planted': expected an Environment or a TabularModel; load_model"),
    (lambda: ic.setup(listed()), "env = (TabularEnv("),
    (lambda: varied(spec=ENV.spec._replace(num_agents=0)), "num_agents = 0: expected a whole number"),
    (lambda: varied(spec=ENV.spec._replace(interface_shape=4)), "interface_shape = 4: expected a tuple of lengths"),
    (lambda: varied(spec=ENV.spec._replace(num_interfaces=9)), "interface_shape = (4,): expected () for numbered"),
    (lambda: varied(spec=ENV.spec._replace(interface_shape=(3,))), "clause 1: reset: interface has shape (4,)"),
    (lambda: varied(spec={"name": "mine"}), "spec = {'name': 'mine'}: expected an EnvSpec"),
    (
        lambda: varied(reset=lambda self, key, params: {}),
        "env: reset of vectors returned {}, expected (handoff",
    ),
    (lambda: varied("central", global_view=lambda self, s, p: s), "vectors: global_view is int32 of shape []"),
    (
        lambda: started(step_size=schedules.constant([0.1, 0.2])),
        "hyper.step_size.scale: shape [2], expected one",
    ),
    (lambda: ic.train(tabular_setup(), 0, 4), "key = 0: expected one key, such as jax.random.key(0)"),
    (lambda: ic.train(tabular_setup(), jax.random.split(KEY), 4), "key = key<fry> of shape [2]: expected one key"),
    (lambda: ic.train(KEY, tabular_setup(), 4), "one = Array("),
    (lambda: ic.train(tabular_setup(), KEY, 1e3), "updates = 1000.0: expected a whole number"),
    (lambda: ic.train(tabular_setup(), KEY, 2**40), "updates = 1.09951e+12: expected a number from 1 to"),
    (lambda: ic.train(tabular_setup(), KEY, 4, at=4), "at = 4: expected increasing numbers of updates"),
    (lambda: ic.train(tabular_setup(), KEY, 4, at=[2.5, 4]), "at = [2.5, 4]: expected increasing numbers"),
    (lambda: ic.train(tabular_setup(), KEY, 4, horizon=0), "horizon = 0: expected a whole number"),
    (lambda: ic.evaluate(None, None, KEY), "one = None: expected what setup returned"),
    (lambda: ic.evaluate(tabular_setup(), None, KEY), "state: parameters of another structure"),
    (
        lambda: ic.evaluate(tabular_setup(), None, KEY, episodes=1),
        "episodes = 1: expected a whole number",
    ),
    (lambda: tabular_setup().tables(np.zeros(3)), "state: parameters of other shapes"),
    (lambda: ic.compare_methods(*listed(), ["ic_q", "ic_q"]), "methods = ('ic_q', 'ic_q'): expected a list"),
    (lambda: ic.compare_methods(*listed(), points=0.5), "points = 0.5: expected a whole number"),
    (lambda: ic.Checked(None), "env = None: expected an Environment"),
    (lambda: ic.Returns("file.npz"), "model = 'file.npz': expected a TabularModel"),
    (lambda: ic.tabular_env(None), "model = None: expected a TabularModel"),
    (lambda: ic.tabular_env(golden("plain"), first=np.ones(3)), "first: expected shape [36], found [3]"),
    (lambda: ic.check_environment(None, None, KEY), "env = None: expected an Environment"),
    (lambda: ic.check_environment(ENV, 3, KEY, copies=0), "copies = 0: expected a whole number"),
    (lambda: ENV.step(0, 0, 0, 3), "key = 0: expected one key"),
    (lambda: ic.load_model(None), "path = None: expected the name of an .npz model file"),
    (lambda: ic.save_model("m.npz", "m"), "model = 'm': expected a TabularModel"),
    (lambda: ic.register("mine", 5, ""), "maker = 5: expected a function, or 'module:function'"),
    (lambda: ic.register(5, ic.make, ""), "name = 5: expected a text"),
    (lambda: ic.constant("0.1"), "step = '0.1': expected 0 or more"),
    (lambda: ic.ramp(True, 0.1, 5), "begin = True: expected 0 or more"),
    (lambda: networks.mlp(3, 2, [64, 64]), "width = [64, 64]: expected a whole number"),
    # sweeps and axes
    (lambda: sweep(axes=[0, 0.1]), "axes = [0, 0.1]: expected a dictionary of lists"),
    (lambda: sweep(fixed="gap"), "fixed = 'gap': expected a dictionary"),
    (lambda: sweep(samples=4000), "samples = 4000: expected increasing even whole numbers"),
    (lambda: sweep(measure=3), "measure = 3: expected one or more of interface"),
    (lambda: sweep(sizes="gap"), "sizes = 'gap': expected a tuple of names"),
    (lambda: sweep(figure="gap"), "figure = 'gap': expected a Figure"),
    (lambda: sweep(figure=bv.Figure(x=["gap"])), "figure['x'] = ['gap']: expected the name of an axis"),
    (lambda: sweep(figure=bv.Figure(labels="gap")), "figure['labels'] = 'gap': expected a dictionary"),
    (lambda: bv.Family("mine", "planted"), "function = 'planted': expected a function"),
    (lambda: bv.Family("mine", golden, names=["gap"]), "names = ['gap']: expected a set of names"),
    (lambda: bv.run("gap", "out"), "sweep = 'gap': expected a Sweep"),
    (lambda: bv.run(sweep(), None), "out = None: expected the name of a folder"),
    (lambda: bv.validate("out", "fast"), "preset = 'fast': expected one of testing, quick, full"),
    (lambda: bv.validate(None, "quick"), "out = None: expected the name of a folder"),
    (lambda: bv.validate("out", "quick", behaviour="b.npy"), "behaviour: only with a model"),
    (lambda: bv.verdict({}), "summary = {}: expected what validate or run returned"),
    (lambda: bv.register("gap"), "axis = 'gap': expected an Axis"),
    (lambda: bv.read_table(None), "path = None: expected the name of a Parquet file"),
    # models
    (lambda: model(gamma="0.9"), "gamma: expected one real number"),
    (lambda: ic.from_gym(5), "P = 5: expected a dictionary or a list"),
    (lambda: ic.from_gym({0: {0: 5}}), "P[0][0] = 5: expected a list of outcomes"),
    (lambda: ic.from_gym({0: {0: [(1.0, 0)]}}), "P[0][0][0] = (1.0, 0): expected (probability, next state, reward"),
    (lambda: ic.from_quantecon([[1.0]], [[[1.0]]], "0.9"), "beta = '0.9': expected a number in [0, 1)"),
    (lambda: ic.from_mdptoolbox(5, [1.0], 0.9), "P = 5: expected a matrix for each action"),
    (lambda: ic.from_mdptoolbox([[[1.0]]], 5, 0.9), "R = 5: expected rewards [S], [S, A] or [A, S, S]"),
    (lambda: model(gamma=1.0), "gamma"),
    (lambda: model(interface=golden("plain").interface + 0.5), "interface"),
    (lambda: PlantedConfig(num_agents=0), "num_agents"),
]


MADE: list[tuple[Any, dict[str, Any], str]] = [
    (["planted"], {}, "environment ['planted']: expected one of"),
    ("planted", {"num_agents": 2.5}, "num_agents = 2.5: expected a whole number of at least 2"),
    ("planted", {"num_agents": "ten"}, "num_agents = 'ten': expected a whole number"),
    ("planted", {"gap": None}, "gap = None: expected 0 or more"),
    ("planted", {"gap": [0, 0.1]}, "gap = [0, 0.1]: expected 0 or more"),
    ("planted", {"gamma": 1}, "gamma = 1: expected a number in [0, 1)"),
    ("planted", {"reward_gap": float("nan")}, "reward_gap = nan: expected a finite number"),
    ("planted", {"duration_mean": "long"}, "duration_mean = 'long': expected 1 or more"),
    ("planted", {"duration_law": ["uniform"]}, "duration_law = ['uniform']: expected one of"),
    ("planted", {"fields": 3}, "fields = 3: expected distinct names with sizes"),
    ("planted", {"fields": (("a", 0),)}, "fields['a'] = 0: expected a whole number"),
    ("planted", {"views": ("topic",)}, "views: expected 10, one per agent, found 1"),
    ("planted", {"seed": 0.5}, "seed = 0.5: expected a whole number"),
    ("workshop", {"kept": "0.5"}, "kept = '0.5': expected a number from 0 to 1"),
    ("workshop", {"num_tools": 4}, "num_tools = 4: expected 2 or 3"),
    ("workshop", {"ticks": 1}, "ticks = 1: expected True or False"),
    ("cpu-sort2", {"length_limit": 7.5}, "length_limit = 7.5: expected a whole number"),
    ("cpu-sort2", {"num_values": np.zeros(2)}, "num_values = [0. 0.]: expected 2, 3 or 4"),
    ("cpu-sort2", {"shaping": float("inf")}, "shaping = inf: expected a finite number"),
    ("routing", {"load": [1, 2]}, "load = [1, 2]: expected a positive number"),
    ("routing", {"cap": 1.5}, "cap = 1.5: expected a whole number"),
    ("routing", {"units": None}, "units = None: expected a whole number"),
    ("routing", {"seed": "x"}, "seed = 'x': expected a whole number"),
    ("routing", {"as_vector": "yes"}, "as_vector = 'yes': expected True or False"),
    ("routing", {"name": 3}, "name = 3: expected a text"),
    ("expert-routing", {"hops": True}, "hops = True: expected a whole number"),
    ("expert-routing", {"models": "Kimi-K2"}, "models = 'Kimi-K2': expected names of two models or more"),
    ("expert-routing", {"blur": 0.5}, "blur = 0.5: expected 5 numbers"),
    ("expert-routing", {"value": [1, 2]}, "value = [1, 2]: expected 0 or more"),
    ("math-pipeline", {"budget": 4.5}, "budget = 4.5: expected a whole number of at least 3"),
    ("math-pipeline", {"mix": "half"}, "mix = 'half': expected a number from 0 to 1"),
    ("voting", {"parallel": "no"}, "parallel = 'no': expected True or False"),
    ("eval-opt", {"costs": 1}, "eval-opt: argument 'costs', expected one of gamma, cost"),
    ("orch-workers", {"reward": "team"}, "reward = 'team': expected one of outcome, role"),
]
WRONG += [(functools.partial(ic.make, name, **given), line) for name, given, line in MADE]


@pytest.mark.parametrize("index", range(len(WRONG)))
def test_a_wrong_call_gives_one_sentence(index: int) -> None:
    call, line = WRONG[index]
    with pytest.raises(ValueError, match=".") as caught:
        call()
    found = str(caught.value)
    assert found.startswith(line) and "\n" not in found and len(found) < 400


def test_there_are_enough_of_them() -> None:
    assert len(WRONG) >= 180


def test_numbers_that_are_traced_pass_and_right_ones_too() -> None:
    jax.jit(lambda x: within(0, 1, x=x))(5.0)
    within(0, 1, x=0.0, y=[0.5, 1.0])
    whole(0, x=0, y=np.int64(3))
    with pytest.raises(ValueError, match=r"y\[1\] = 2: expected a number from 0 to 1"):
        within(0, 1, y=[0.5, 2.0])


@pytest.mark.parametrize(
    ("option", "agents", "line"),
    [(1, 3, None), (5, 3, "option = 5: expected 0 to 1"), (-1, 3, "option = -1: expected 0 to 1"),
     (0, 9, "agent = 3: expected 0 to 2")],
)  # fmt: skip
def test_illegal_options_and_agents_are_reported_at_run_time(option: int, agents: int, line: str | None) -> None:
    env = ic.Checked(ENV)

    def run(option: Any) -> Any:
        _, state = env.reset(KEY, jnp.int32(agents))
        for _ in range(4):
            handoff, state = env.step_env(KEY, state, option, jnp.int32(agents))
        return handoff.agent

    error, _ = checkify.checkify(jax.jit(run))(jnp.int32(option))
    found = error.get()
    assert found is None if line is None else line in found


def test_masked_options_are_reported_at_run_time() -> None:
    inner, params = listed()
    env = ic.Checked(inner)

    def run(key: Any, legal: Any) -> Any:
        def step(carry: Any, step_key: Any) -> tuple[Any, None]:
            now, state = carry
            option = jnp.where(legal, jnp.argmax(now.mask), jnp.argmin(now.mask)).astype(jnp.int32)
            return env.step(step_key, state, option, params), None

        return jax.lax.scan(step, env.reset(key, params), jax.random.split(key, 12))[0][0].agent

    checked = checkify.checkify(jax.jit(jax.vmap(run, in_axes=(0, None))))
    keys = jax.random.split(KEY, 8)
    assert checked(keys, True)[0].get() is None
    assert "not available at this interface" in checked(keys, False)[0].get()
