"""The table of methods: one added from outside is known to setup, to experiments and to figures; names are unique."""

from __future__ import annotations

import numpy as np
import pytest

from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.experiments.comparison import Budget, compare
from icsmdp_jax.experiments.figure import looks
from icsmdp_jax.experiments.result import in_order, label
from icsmdp_jax.learner import methods
from icsmdp_jax.learner.methods import METHODS, Method
from icsmdp_jax.learner.setups import setup
from icsmdp_jax.models.random import random_model

MYOPIC = Method(
    "myopic", "myopic twin", "own interface; nothing crosses", "#123456", "h", json_id="myopic_twin",
    bootstrap="nothing", crosses=0.0,
)  # fmt: skip


@pytest.fixture
def registered():
    yield methods.register(MYOPIC)
    METHODS.pop(MYOPIC.id)


def test_a_registered_method_is_learned_compared_and_drawn(registered):
    """The same flow of information as ``immediate``: the same returns, run by run, and its own words and looks."""
    model = random_model(0, num_interfaces=5, num_agents=3)
    assert setup(model, None, "myopic", copies=2, length=2).scalars_per_handoff() == 0
    names = ("ic_q", "myopic_twin", "immediate")
    result = compare(*tabular_env(model), Budget(updates=4, copies=4, length=4, replicas=3), methods=names)
    assert result.methods["myopic_twin"] == result.methods["immediate"]
    assert label("myopic_twin") == "myopic twin" and label("myopic_twin_neural") == "myopic twin, neural"
    assert looks("myopic_twin") == ("h", "#123456") and looks("home_made") != looks("myopic_twin")
    assert in_order(["random", "myopic_twin", "immediate", "ic_q"]) == ["ic_q", "immediate", "myopic_twin", "random"]


def test_names_words_and_looks_tell_methods_apart():
    table = list(METHODS.values())
    for field in ("id", "name", "label", "wording", "colour", "marker"):
        assert len({getattr(method, field) for method in table}) == len(table), field
    assert METHODS["central"].name == "central_learner" and methods.named("central_learner") is METHODS["central"]
    assert all(METHODS[name].needs_networks for name in ("full_information", "shared", "federated"))
    assert np.sum([method.needs_networks for method in table]) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "ic_q"}, "method 'ic_q': there is one of this name"),
        ({"json_id": "central_learner"}, "method 'central_learner': there is one of this name"),
        ({"view": "everything"}, "view = 'everything', expected one of interface, owner, state"),
        ({"crosses": "a lot"}, "crosses = 'a lot', expected a number or one of"),
    ],
)
def test_what_cannot_be_registered(changes, words):
    before = dict(METHODS)
    with pytest.raises(ValueError, match=words):
        methods.register(MYOPIC._replace(**changes))
    assert before == METHODS
    with pytest.raises(ValueError, match="found 'central', expected names among ic_q, central_learner"):
        methods.named("central")
