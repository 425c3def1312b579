"""What a sweep is: its cells and their ids, its parts, and what is refused before anything is computed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bound_validation.sweep.definition import Figure, Sweep, value_text
from bound_validation.sweep.families import resolve
from bound_validation.sweep.parts import check_shape, parts, shape_of
from bound_validation.sweep.refusal import Refusal
from examples.own_sweep import drafts
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.learner.experiment import model_inputs, stationary_env
from icsmdp_jax.learner.schedules import constant
from icsmdp_jax.models.files import save_model
from tests.bound_validation.sweep.small import exact, small
from tests.helpers import GOLDEN_NAMES, golden, golden_analysis

PLANTED = {"num_agents": 2, "longest_duration": 24, "duration_mean": 4.0}


def test_cells_are_the_product_and_their_ids_are_frozen():
    sweep = small(axes={"stakes": (0.0, 0.1), "accuracy": (0.25, 0.9), "learner.width": (0, 2)}, fixed={"effort": 5.0})
    assert [cell.id for cell in sweep.cells()] == [
        "small/stakes=0,accuracy=0.25,learner.width=0",
        "small/stakes=0,accuracy=0.25,learner.width=2",
        "small/stakes=0,accuracy=0.9,learner.width=0",
        "small/stakes=0,accuracy=0.9,learner.width=2",
        "small/stakes=0.1,accuracy=0.25,learner.width=0",
        "small/stakes=0.1,accuracy=0.25,learner.width=2",
        "small/stakes=0.1,accuracy=0.9,learner.width=0",
        "small/stakes=0.1,accuracy=0.9,learner.width=2",
    ]
    last = list(sweep.cells())[-1]
    assert last.arguments == {"stakes": 0.1, "accuracy": 0.9, "effort": 5.0} and last.width == 2
    assert sweep.num_cells == 8


def test_samples_are_no_coordinate_of_a_cell():
    sweep = small(axes={"stakes": (1.0,), "learner.samples": (200, 1000)})
    assert sweep.samples == (200, 1000) and [cell.id for cell in sweep.cells()] == ["small/stakes=1"]
    assert sweep.checkpoints == [100, 200, 500, 1000] and sweep.chunk_length == 100
    assert small(axes={"learner.samples": (200,)}, fixed={"stakes": 1.0}).num_cells == 1


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**12), 10**12)))
def test_a_number_can_be_read_back_from_its_id(value):
    assert float(value_text(value)) == value


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20))
def test_a_group_is_cut_into_few_parts_of_one_size(count, most):
    sweep = exact(axes={"stakes": tuple(float(i) for i in range(count))}, cells_per_part=most)
    found = parts(sweep)
    assert [cell for part in found for cell in part.cells] == list(sweep.cells())
    assert [part.index for part in found] == list(range(-(-count // most)))
    lanes = {part.lanes for part in found}
    assert len(lanes) == 1 and max(lanes) <= most and max(len(part.cells) for part in found) == max(lanes)
    assert all(part.lanes - len(part.cells) <= 1 for part in found)


def test_groups_are_cells_of_one_shape():
    sweep = Sweep(
        "groups", "planted", {"num_options": (2, 3), "gap": (0.0, 0.1, 0.2), "learner.width": (0, 2)}, fixed=PLANTED,
        cells_per_part=2,
    )  # fmt: skip
    found = parts(sweep)
    groups = {shape: list(members) for shape, members in itertools.groupby(found, key=lambda part: part.shape)}
    assert {(shape.options, shape.width) for shape in groups} == {(2, 0), (2, 2), (3, 0), (3, 2)}
    for shape, members in groups.items():
        assert [len(part.cells) for part in members] == [2, 1] and {part.lanes for part in members} == {2}
        for cell in (cell for part in members for cell in part.cells):
            assert shape_of(sweep.source.build(cell.arguments).model, cell.width) == shape
    assert sorted(cell.id for part in found for cell in part.cells) == sorted(cell.id for cell in sweep.cells())


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_the_shape_is_that_of_what_is_compiled(name):
    """Against the arrays that a run really traces: their number of outcomes is what ``outcomes`` says."""
    shape, known = shape_of(golden(name), 0), golden_analysis(name)
    env, params = stationary_env(known)
    inputs = model_inputs(known, params, None, constant(0.1))
    assert inputs.env_params.successor.threshold.shape[-1] == shape.outcomes
    assert (env.num_agents, env.num_interfaces, env.num_options, env.longest_duration) == (
        shape.agents, shape.interfaces, shape.options, shape.durations,
    )  # fmt: skip
    assert (env.joint, env.has_terminal, params.agent.shape[0]) == (shape.joint, shape.terminal, shape.states)


def test_known_sizes_save_models():
    built = []

    def family(stakes: float, effort: float):
        built.append((stakes, effort))
        return drafts(stakes, effort=effort)

    axes = {"stakes": (0.0, 1.0, 2.0), "effort": (4.0, 6.0)}
    parts(small(family=family, axes=axes, sizes=None))
    assert len(built) == 6
    built.clear()
    parts(small(family=family, axes=axes, sizes=("effort",)))
    assert built == [(0.0, 4.0), (0.0, 6.0)]
    built.clear()
    parts(small(family=family, axes=axes, sizes=()))
    assert len(built) == 1


def test_planted_sizes_are_all_that_change_shapes():
    """Every knob of the planted family that is not said to change shapes leaves them alone."""
    family, other = resolve("planted"), {
        "gamma": 0.8, "duration_law": "uniform", "duration_mean": 5.0, "duration_spread": 0.1, "hidden_duration": 0.1,
        "gap": 0.3, "kernel_gap": 0.5, "reward_gap": 2.0, "hidden_flip": 0.1, "reward_noise": 0.0, "interface_dim": 4,
        "planted_atoms": 64, "planted_scale": 2.0, "option_margin": 0.1, "odd_weight": 0.1, "even_weight": 0.1,
        "behaviour": "random", "seed": 5,
    }  # fmt: skip
    assert set(other) == family.names - family.sizes
    shape = shape_of(family.build(PLANTED).model, 0)
    for name, value in other.items():
        assert shape_of(family.build(PLANTED | {name: value}).model, 0) == shape, name


def test_random_sizes_are_all_that_change_shapes():
    family, fixed = resolve("random"), {"seed": 1, "num_interfaces": 6, "num_agents": 3}
    other = {
        "gamma": 0.8, "duration_mean": 4.0, "reward_scale": 1.0, "option_share": 1.0, "reward_noise": 0.0, "features": 3
    }  # fmt: skip
    assert set(other) == family.names - family.sizes
    shape = shape_of(family.build(fixed).model, 0)
    for name, value in other.items():
        assert shape_of(family.build(fixed | {name: value}).model, 0) == shape, name


def test_a_shape_that_sizes_did_not_announce_is_refused_by_name():
    sweep = Sweep("wrong", "planted", {"num_options": (2, 3)}, fixed=PLANTED, sizes=())
    (part,) = parts(sweep)
    first, second = part.cells
    check_shape(part, first, sweep.source.build(first.arguments).model)
    with pytest.raises(ValueError, match=r"cell wrong/num_options=3: options = 3, expected 2 .* sizes$"):
        check_shape(part, second, sweep.source.build(second.arguments).model)


def test_families_from_every_source(tmp_path, monkeypatch):
    config = PlantedConfig(gap=0.2, num_agents=2, longest_duration=24, duration_mean=4.0)
    built = resolve("planted").build(PLANTED | {"gap": 0.2})
    np.testing.assert_array_equal(built.model.reward_rate, planted_model(config).model.reward_rate)
    assert built.behaviour is not None
    listed = resolve("planted").build({**PLANTED, "fields": [["a", 2], ["b", 2]], "views": [["a"], ["a", "b"]]})
    assert listed.model.num_interfaces == 12
    save_model(tmp_path / "model.npz", drafts(1.0))
    own = resolve("model.npz", tmp_path)
    assert own.build({"gamma": 0.5}).model.gamma == 0.5 and own.build({}).behaviour is None and len(own.digest) == 64
    (tmp_path / "mine.py").write_text("def family(a, *, b=2):\n    return a * b\n")
    for source in ("mine.py:family", "mine:family"):
        found = resolve(source, tmp_path)
        assert (found.names, found.required, found.defaults) == ({"a", "b"}, {"a"}, {"b": 2})
        with pytest.raises(ValueError, match="returned int, expected a TabularModel"):
            found.build({"a": 1})
    assert resolve("bound_validation.sweep.families:resolve").function is resolve
    assert resolve(drafts).name == "drafts" and resolve(resolve(drafts)) == resolve(drafts)
    assert resolve(lambda **anything: None).names is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "name = 'a/b': expected letters, digits, dots, dashes and underscores"),
        ({"family": "plantd"}, "family = 'plantd': did you mean planted?"),
        ({"family": 3}, "family = 3: expected a function or a name"),
        ({"family": "none.py:f"}, "family = 'none.py:f': no such file"),
        ({"family": "no_module_here:f"}, "family = 'no_module_here:f': no module no_module_here"),
        ({"family": "examples.own_sweep:drfts"}, "no function drfts, did you mean drafts?"),
        ({"family": "none.npz"}, "family = 'none.npz': "),
        ({"axes": {}}, "axes = {}: expected one axis or more"),
        ({"axes": {"stakes": ()}}, "axes['stakes'] = (): expected a list of one value or more"),
        ({"axes": {"stakes": (1.0, 1)}}, "axes['stakes'] = [1.0, 1]: expected distinct values, but 1 is there twice"),
        ({"axes": {"stakes": (float("nan"),)}}, "axes['stakes'] = [nan]: expected finite numbers"),
        ({"axes": {"stake": (1.0,)}}, "axes['stake']: unknown coordinate of drafts, did you mean stakes?"),
        ({"axes": {"learner.widths": (1,)}}, "unknown axis, did you mean learner.width?"),
        ({"axes": {"stakes": (1.0,), "learner.width": (1.5,)}}, "axes['learner.width'] = [1.5]: expected whole"),
        ({"fixed": {"acuracy": 0.5}}, "fixed['acuracy']: unknown coordinate of drafts, did you mean accuracy?"),
        ({"fixed": {"stakes": 0.5}}, "fixed['stakes'] = 0.5: expected nothing, because it is an axis"),
        ({"axes": {"accuracy": (0.5, 0.6)}}, "fixed['stakes']: missing, expected a value"),
        ({"measure": ("limits",)}, "measure = 'limits': did you mean limit?"),
        ({"measure": ()}, "measure = []: expected one or more of interface, limit, theorem"),
        ({"samples": (400, 401)}, "samples = [400, 401]: expected increasing even whole numbers"),
        ({"samples": (800, 400)}, "samples = [800, 400]: expected increasing even whole numbers"),
        ({"samples": (10_002,)}, "samples = [10002]: expected multiples of 100"),
        ({"chunk": 300}, "chunk = 300: expected at most 4096, and a divisor"),
        ({"replicas": 1}, "replicas = 1: expected a whole number of 2 or more"),
        ({"width": True}, "width = True: expected a whole number of 0 or more"),
        ({"seed": -1}, "seed = -1: expected a whole number of 0 or more"),
        ({"cells_per_part": 0}, "cells_per_part = 0: expected a whole number of 1 or more"),
        ({"sizes": ("stake",)}, "sizes['stake']: unknown coordinate of drafts, did you mean stakes?"),
        ({"figure": Figure(x="stake")}, "figure['x'] = 'stake': did you mean stakes?"),
        ({"figure": Figure(group="learner.samples")}, "figure['group'] = 'learner.samples': expected another axis"),
        ({"figure": Figure(at={"stakes": 1.0})}, "figure['at']['stakes']: expected"),
        ({"figure": Figure(at={"learner.samples": 5})}, "figure['at']['learner.samples'] = 5: expected one of"),
        ({"figure": Figure(labels={"stakes": "$x"})}, "figure['labels']['stakes'] = '$x': expected a text, with"),
    ],
)
def test_bad_fields_are_refused_in_one_line(changes, message):
    with pytest.raises(Refusal) as caught:
        exact(**changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_planted_coordinates_have_types():
    for name, value, words in (("gap", "much", "a number"), ("num_agents", 2.5, "a whole number"), ("seed", True, ""),
                               ("interface_dim", 10**20, "a whole number of 64 bits")):  # fmt: skip
        with pytest.raises(Refusal, match=rf"axes\['{name}'\] = .*: expected {words}"):
            Sweep("typed", "planted", {name: (value,)}, fixed={})


def test_x_has_to_be_a_scale():
    axes = {"duration_law": ("uniform", "geometric"), "gap": (0.0, 0.1)}
    sweep = Sweep("laws", "planted", axes)
    assert (sweep.figure.x, sweep.figure.group) == ("gap", "duration_law")
    with pytest.raises(Refusal, match="expected an axis of numbers of 0 or more"):
        Sweep("laws", "planted", axes, figure=Figure(x="duration_law"))
    assert Sweep("seeds", "random", {"seed": (1,)}).figure.x == "learner.samples"
