"""The registry: every name makes an environment that keeps the contract; wrong names and arguments are refused."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from icsmdp_jax.core.checks import check_environment
from icsmdp_jax.envs import registry
from icsmdp_jax.experiments import catalogue

SMALL = {"cpu-sort3": {"length_limit": 5}}  # what makes the listing short
REQUIRED = {
    "routing-6x6", "routing", "expert-routing", "math-pipeline", "semantic-cache", "federated-routing",
    "cpu-sort2", "cpu-sort3", "cpu-sort4", "eval-opt", "voting", "orch-workers", "workshop", "planted",
}  # fmt: skip


def refused(call, *fragments: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


def test_names_are_those_of_the_documentation():
    assert set(registry.environments()) == REQUIRED
    assert set(catalogue.names()) - set(catalogue.STUDIES) == REQUIRED - {"routing"}


QUICK = ("planted",)  # the others take seconds each to compile; their own tests check them, and make test-slow


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in registry.environments()]
)
def test_every_name_keeps_the_contract(name):
    env, params = registry.make(name, **SMALL.get(name, {}))
    seen = check_environment(env, params, jax.random.key(3), copies=4, handoffs=24)
    assert seen.handoffs == 96 and seen.agents > 1


@pytest.mark.parametrize("name", registry.environments())
def test_every_name_makes_what_its_specification_says(name):
    """Clauses 1 and 9 without running anything: shapes and dtypes of what is traced."""
    env, params = registry.make(name, **SMALL.get(name, {}))
    spec, key = env.spec, jax.random.key(0)
    first, state = jax.eval_shape(env.reset, key, params)
    after, entered = jax.eval_shape(env.step, key, state, jax.ShapeDtypeStruct((), np.int32), params)
    for handoff in (first, after):
        assert handoff.interface.shape == tuple(spec.interface_shape)
        assert handoff.interface.dtype == spec.interface_dtype
        assert handoff.mask.shape == (spec.num_options,) and handoff.agent.dtype == np.int32
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), (first, state), (after, entered))
    assert all(jax.tree.leaves(same))
    assert spec.exact_oracle == env.has_exact_model
    assert spec.num_agents > 1
    if name == "workshop":
        assert spec.longest_duration > 22
    if name in ("cpu-sort2", "cpu-sort4"):  # what is said of it, for the price of making it
        found = registry.describe(name)
        assert json.loads(json.dumps(found._asdict())) == found._asdict()
        assert (found.agents, found.interface_shape, found.longest_duration) == (4, [], 2)
        assert (found.options, found.exact_oracle) == ((6, True) if name == "cpu-sort2" else (20, False))


def test_make_as_in_the_readme():
    env, params = registry.make("cpu-sort2")
    handoff, state = env.reset(jax.random.key(0), params)
    handoff, state = env.step(jax.random.key(1), state, np.int32(0), params)
    assert int(handoff.duration) == 1 and env.spec.name == "cpu-sort2"


def test_overrides_replace_the_name_s_own_arguments():
    env, _ = registry.make("cpu-sort2", num_values=3, length_limit=5)
    assert (env.num_values, env.length_limit) == (3, 5)
    env, params = registry.make("planted", gap=0.0)
    assert env.exact_model(params).num_agents == 10


def test_unknown_names_and_arguments_are_refused_in_one_line():
    refused(lambda: registry.make("cpu-sort5"), "cpu-sort5", *registry.environments())
    refused(lambda: registry.describe(""), "''", "planted")
    refused(lambda: registry.make("cpu-sort2", lenght_limit=3), "cpu-sort2", "lenght_limit", "length_limit")
    refused(lambda: registry.make("planted", gaps=0.1), "gaps", "gap")
    large, params = registry.make("cpu-sort4")
    assert not large.has_exact_model
    refused(lambda: large.exact_model(params), "num_values", "4")


def test_planted_model_is_refused_for_other_parameters():
    env, params = registry.make("planted")
    assert env.exact_model(params).num_interfaces == env.spec.num_interfaces
    other = params._replace(reward_rate=params.reward_rate + 1)
    refused(lambda: env.exact_model(other), "reward_rate")


def test_the_registry_imports_nothing_heavy():
    code = "import sys, icsmdp_jax.envs.registry, icsmdp_jax.experiments.catalogue; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Entry points of a package that is installed for one test."""

    def add(**entries: str) -> None:
        about = tmp_path / "elsewhere-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
        lines = [f"{name} = {place}" for name, place in entries.items()]
        (about / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]))
        monkeypatch.syspath_prepend(tmp_path)

    return add


def test_installed_packages_publish_environments(publish):
    publish(three="icsmdp_jax.envs.cpu_sort:cpu_sort", planted="nowhere:planted", lost="nowhere:lost", bare="json:lost")
    assert registry.environments() == (*registry.ENVIRONMENTS, "three", "lost", "bare")
    assert registry.entry("three").text == "published by elsewhere"
    assert registry.make("three", num_values=2)[0].spec.name == "cpu-sort2"
    assert registry.make("planted", gap=0.0)[0].spec.num_agents == 10  # a taken name stays what it is
    refused(lambda: registry.make("lost"), "'lost': nowhere:lost cannot be loaded (No module named 'nowhere')")
    refused(lambda: registry.make("bare"), "'bare': json:lost cannot be loaded", "expected a function")
    refused(lambda: registry.make("four"), "'four'", "planted", "three, lost, bare")
