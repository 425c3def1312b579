"""Planted models: known Q_phi, known C, one knob per error source (D11, P3, T1.4, T2.1)."""

import numpy as np
import pytest
from scipy import stats

from icsmdp_jax.envs.planted.model import PlantedConfig, PlantedModel, planted_model, sharp_family
from icsmdp_jax.exact import analyse, kappa_certificate, mixing_time
from icsmdp_jax.exact.fixed_point import projection, whiten
from icsmdp_jax.exact.interface import (
    ais_constants,
    interface_gap,
    interface_model,
    solve_interface,
)
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.exact.solve import optimal_q
from icsmdp_jax.models import durations

ETAS = (0.02, 0.04, 0.08, 0.16, 0.32)
UNEVEN = PlantedConfig(  # views of different sizes, fields that are not binary, an agent that sees everything
    num_agents=4,
    fields=(("topic", 3), ("stage", 2), ("risk", 4)),
    views=(("topic",), ("stage", "risk"), ("topic", "stage", "risk"), ()),
    private_states=3,
    num_options=3,
    successors=4,
    planted_atoms=512,
    interface_dim=5,
    duration_mean=14.0,  # three options need longer ones for A6
)


def gap_of(planted: PlantedModel) -> float:
    solution = solve_interface(planted.interface)
    return interface_gap(planted.interface, solution, optimal_q(planted.interface.moments)).gap


def next_interface(planted: PlantedModel) -> np.ndarray:
    """``[S, O, Z]`` law of the next interface."""
    rows = as_dense(planted.interface.moments.probability @ planted.interface.membership)
    return rows.reshape(planted.model.num_states, planted.model.num_options, -1)


def test_sizes_of_the_presets() -> None:
    small = planted_model(PlantedConfig.small())
    assert (small.model.num_states, small.model.num_interfaces, small.model.num_agents) == (160, 40, 10)
    assert small.model.successor is not None and small.model.successor.shape == (160, 2, 24)
    assert small.model.features is not None
    np.testing.assert_allclose(np.linalg.norm(small.model.features, axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(small.model.interface_agent, np.repeat(np.arange(10), 4))
    assert "agent 0: sees stage; hidden: topic, risk" in small.describe()
    assert "agent 1: sees topic; hidden: stage, risk" in small.describe()


@pytest.mark.parametrize("seed", range(4))
def test_interface_solution_is_planted_for_every_gap(seed: int) -> None:
    for eta in (0.0, *ETAS, 1.0, 2.5):
        planted = planted_model(PlantedConfig.small(seed=seed, gap=eta))
        solution = solve_interface(interface_model(planted.model, planted.behaviour))
        np.testing.assert_allclose(solution.q, planted.q_planted, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        *({"duration_law": name} for name in sorted(durations.LAWS)),
        {"hidden_duration": 0.3},
        {"behaviour": "random"},
        {"hidden_flip": 0.01},
        {"kernel_gap": 0.0},
        {"reward_gap": 0.0},
        {"gamma": 0.0},
        {"num_options": 1},
        {"private_states": 1},
        {"planted_scale": 10.0},
    ],
    ids=str,
)
def test_interface_solution_is_planted_for_every_knob(changes: dict) -> None:
    planted = planted_model(PlantedConfig.small(gap=0.4, **changes))
    interface = interface_model(planted.model, planted.behaviour)
    np.testing.assert_allclose(solve_interface(interface).q, planted.q_planted, rtol=0, atol=1e-9)
    # the interface model that comes with it is the one computed from the model alone
    np.testing.assert_allclose(planted.interface.reward, interface.reward, rtol=0, atol=1e-12)
    ours, afresh = as_dense(planted.interface.discounted), as_dense(interface.discounted)
    np.testing.assert_allclose(ours, afresh, rtol=0, atol=1e-14)
    np.testing.assert_allclose(planted.interface.weights, interface.weights, rtol=0, atol=1e-13)


def test_uneven_views_are_planted_and_lumpable() -> None:
    for eta in (0.0, 0.5):
        planted = planted_model(UNEVEN.replace(gap=eta))
        found = solve_interface(interface_model(planted.model, planted.behaviour)).q
        np.testing.assert_allclose(found, planted.q_planted, rtol=0, atol=1e-9)
        law = next_interface(planted)
        first = planted.layout.members[planted.model.interface, 0]
        apart = np.abs(law - law[first]).max()
        assert apart < 1e-15 if eta == 0 else apart > 0.1
    seen_by_all = planted.model.agent == 2
    assert np.abs(planted.layout.hidden_pattern[seen_by_all]).max() == 0
    assert planted.layout.num_interfaces == (3 + 8 + 24 + 1) * 3


@pytest.mark.parametrize("seed", range(4))
def test_gap_is_closed_at_zero_and_linear_in_eta(seed: int) -> None:
    closed = planted_model(PlantedConfig.small(seed=seed))
    constants = ais_constants(closed.interface)
    assert max(constants.epsilon, constants.delta) < 1e-12
    assert gap_of(closed) < 1e-9
    gaps = [gap_of(planted_model(PlantedConfig.small(seed=seed, gap=eta))) for eta in ETAS]
    assert stats.linregress(np.log(ETAS), np.log(gaps)).slope == pytest.approx(1.0, abs=0.05)
    assert gaps[-1] > 0.3


@pytest.mark.parametrize("open_knob", ["kernel_gap", "reward_gap"])
def test_each_part_of_the_gap_has_its_knob(open_knob: str) -> None:
    closed_knob = {"kernel_gap": "reward_gap", "reward_gap": "kernel_gap"}[open_knob]
    planted = planted_model(PlantedConfig.small(gap=0.3, **{open_knob: 1.0, closed_knob: 0.0}))
    constants = ais_constants(planted.interface)
    assert (constants.delta > 0.05) == (open_knob == "kernel_gap")
    assert gap_of(planted) > 0.01
    off = planted_model(PlantedConfig.small(gap=0.3, kernel_gap=0.0, reward_gap=0.0))
    assert gap_of(off) < 1e-9


def test_hidden_durations_open_the_gap_by_themselves() -> None:
    planted = planted_model(PlantedConfig.small(hidden_duration=0.3))
    assert gap_of(planted) > 0.01
    assert ais_constants(planted.interface).delta_mass > 0.01


@pytest.mark.parametrize("seed", range(3))
def test_contraction_is_certified_for_every_gap(seed: int) -> None:
    for eta in (0.0, 0.25, 0.5, 1.0):
        planted = planted_model(PlantedConfig.small(seed=seed, gap=eta))
        kappa = kappa_certificate(planted.interface)
        assert 0.6 < kappa < 0.9
        # uniform over two options, duration a function of (z, o): the certificate is at most sqrt(2) gbar
        assert kappa <= np.sqrt(2) * planted.interface.gamma_bar + 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_width_constant_is_small_and_options_do_not_tie(seed: int) -> None:
    for config in (PlantedConfig.small(seed=seed), PlantedConfig.small(seed=seed, gap=1.0)):
        planted = planted_model(config)
        assert 1 < planted.width_constant / planted.q_norm < 6
        assert planted.action_gap > 0.2
        best = planted.q_planted.argmax(axis=1).reshape(10, 4)
        assert (best.min(axis=1) != best.max(axis=1)).all()  # every agent has to look at its interface


def test_margin_sets_the_action_gap() -> None:
    for margin in (0.2, 0.8):  # the average over 4096 atoms is within a few percent of the expectation
        planted = planted_model(PlantedConfig.small(option_margin=margin, even_weight=0.0))
        assert planted.action_gap == pytest.approx(margin, rel=0.1)
    three = planted_model(UNEVEN.replace(even_weight=0.0, odd_weight=0.0, planted_atoms=4096))
    assert three.action_gap == pytest.approx(UNEVEN.option_margin, rel=0.1)


@pytest.mark.parametrize("config", [PlantedConfig.small(planted_atoms=64, gap=0.3), UNEVEN.replace(planted_atoms=48)])
def test_sampled_approximant_attains_the_constant_exactly(config: PlantedConfig) -> None:
    """Width 1 takes each atom with probability 1/M: averaged over all, Q_0 and a square error of C^2."""
    planted = planted_model(config)
    tables, errors = [], []
    for j in range(config.planted_atoms):
        tables.append(planted.sampled_approximant(np.full((config.num_agents, 1), j)))
        errors.append(planted.interface.norm(tables[-1] - planted.q_planted) ** 2)
    np.testing.assert_allclose(np.mean(tables, axis=0), planted.q_planted, rtol=0, atol=1e-12)
    assert np.mean(errors) == pytest.approx(planted.width_constant**2, rel=1e-10)


def test_sampled_approximant_has_variance_over_width() -> None:
    """Means of 400 squared errors, within 5 standard errors: fails for fewer than one key in 10^5."""
    planted = planted_model(PlantedConfig.small(gap=0.3))
    rng = np.random.default_rng(0)
    for width in (4, 32):
        squares = []
        for _ in range(400):
            raw, indices = planted.draw_features(rng, width)
            squares.append(planted.interface.norm(planted.sampled_approximant(indices) - planted.q_planted) ** 2)
        error = np.std(squares) / np.sqrt(len(squares))
        assert abs(np.mean(squares) - planted.width_constant**2 / width) < 5 * error
    agent = 3
    rows = planted.model.interface_agent == agent
    assert planted.model.features is not None
    by_hand = np.maximum(planted.model.features[rows] @ planted.atoms[indices[agent]].T, 0)
    np.testing.assert_allclose(raw[rows], by_hand)
    combined = by_hand @ planted.coefficients[agent, indices[agent]] / width
    np.testing.assert_allclose(planted.sampled_approximant(indices)[rows], combined)


def test_wide_models_keep_the_projection_below_the_guarantee() -> None:
    planted = planted_model(PlantedConfig.wide())
    assert (planted.model.num_states, planted.model.num_interfaces) == (2560, 1280)
    solution = solve_interface(planted.interface)
    np.testing.assert_allclose(solution.q, planted.q_planted, rtol=0, atol=1e-9)
    assert kappa_certificate(planted.interface) < 0.9
    assert planted.width_constant < 6 * planted.q_norm
    assert planted.action_gap > 0.1
    rng = np.random.default_rng(1)
    for width in (4, 16):
        square = []
        for _ in range(4):
            raw, _ = planted.draw_features(rng, width)
            fitted = projection(planted.interface, whiten(raw, planted.interface))(planted.q_planted)
            square.append(planted.interface.norm(fitted - planted.q_planted) ** 2)
        # the guarantee is one for the mean square; a projection is well below it, and not exact
        assert 1e-4 < np.mean(square) < planted.width_constant**2 / width / 2


def test_a_family_shares_shapes_successors_and_structure() -> None:
    base = planted_model(PlantedConfig.small())
    for changes in ({"gap": 0.7}, {"hidden_flip": 0.02}, {"duration_law": "uniform"}, {"duration_mean": 4.0}):
        other = planted_model(PlantedConfig.small(**changes))
        assert base.model.successor is not None and other.model.successor is not None
        np.testing.assert_array_equal(base.model.successor, other.model.successor)
        np.testing.assert_array_equal(base.q_planted, other.q_planted)
        np.testing.assert_array_equal(base.coefficients, other.coefficients)
        np.testing.assert_array_equal(base.model.features, other.model.features)
        assert {k: v.shape for k, v in base.model.arrays().items()} == {
            k: v.shape for k, v in other.model.arrays().items()
        }
    different = planted_model(PlantedConfig.small(seed=1))
    assert not np.array_equal(base.model.successor, different.model.successor)


@pytest.mark.parametrize("flip", [0.03, 0.4, 1.0])
def test_hidden_fields_persist_and_are_redrawn(flip: float) -> None:
    planted = planted_model(PlantedConfig.small(hidden_flip=flip, gap=0.2))
    model, layout = planted.model, planted.layout
    assert model.successor is not None and model.probability is not None
    risk = layout.artifacts[layout.states[:, 2], -1]  # nobody sees it, two values
    kept = (model.probability * (risk[model.successor] == risk[:, None, None])).sum(axis=2)
    np.testing.assert_allclose(kept, 1 - flip / 2, rtol=1e-12)
    np.testing.assert_allclose(model.probability.sum(axis=2), 1, rtol=1e-12)


def test_slow_hidden_part_slows_mixing_and_needs_the_poisson_terms() -> None:
    previous = 0.0
    for flip in (0.5, 0.05, 0.01):
        planted = planted_model(PlantedConfig.small(gap=0.5, hidden_flip=flip))
        analysis = analyse(planted.model, planted.behaviour)
        time = analysis.clock(0.25)
        assert time > 2 * previous
        previous = time
        ratio = analysis.limit.coefficient / analysis.limit.coefficient_iid
        assert ratio > 1.2 if flip < 0.1 else ratio < 1.1
    closed = planted_model(PlantedConfig.small(hidden_flip=0.01))
    limit = analyse(closed.model, closed.behaviour).limit
    assert limit.coefficient == pytest.approx(limit.coefficient_iid, rel=1e-9)  # P2.1: mixing drops out


@pytest.mark.parametrize("seed", range(20))
def test_the_smallest_models_are_irreducible_and_aperiodic(seed: int) -> None:
    config = PlantedConfig(num_agents=2, fields=(("risk", 2),), private_states=1, successors=2, seed=seed)
    planted = planted_model(config)
    chain = planted.interface.chain
    assert len(chain.states) == planted.model.num_states == 4
    assert np.isfinite(mixing_time(chain.transition, chain.stationary[chain.states], 0.25))
    found = solve_interface(planted.interface).q
    np.testing.assert_allclose(found, planted.q_planted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", sorted(durations.LAWS))
def test_duration_knobs_set_the_modulus(name: str) -> None:
    config = PlantedConfig.small(duration_law=name, duration_spread=0.0, duration_mean=6.5)
    law = durations.with_mean(name, 6.5, config.longest_duration)
    planted = planted_model(config)
    np.testing.assert_allclose(planted.interface.moments.modulus, law.discount(0.9), rtol=1e-12)
    spread = planted_model(config.replace(duration_spread=0.3)).model
    assert spread.duration is not None
    means = spread.duration @ np.arange(1, config.longest_duration + 1)
    assert means.min() == pytest.approx(0.7 * 6.5, rel=1e-9)
    assert means.max() == pytest.approx(1.3 * 6.5, rel=1e-9)


@pytest.mark.parametrize("flip", [0.001, 0.05, 0.5, 0.9])
@pytest.mark.parametrize(("law", "agents"), [("geometric", 2), ("deterministic", 5)])
def test_sharp_family_has_its_closed_form(flip: float, law: str, agents: int) -> None:
    epsilon = 0.7
    model = sharp_family(epsilon, gamma=0.95, flip_probability=flip, law=law, num_agents=agents)
    modulus = durations.with_mean(law, 8.0, 64).discount(0.95)
    analysis = analyse(model)
    assert analysis.gap.gap == pytest.approx(epsilon / (1 - modulus * (1 - 2 * flip)), rel=1e-9)
    assert analysis.gap.bound == pytest.approx(epsilon / (1 - modulus), rel=1e-9)
    assert analysis.ais.epsilon == pytest.approx(epsilon, rel=1e-12)
    assert analysis.ais.delta < 1e-12
    assert analysis.gap.gap <= analysis.gap.bound * (1 + 1e-12)
    # the next agent is drawn afresh and the bit forgets at rate |1 - 2p|: TV = |1 - 2p|^t / 2
    steps = 1.0 if flip == 0.5 else np.ceil(np.log(0.5) / np.log(abs(1 - 2 * flip)))
    assert analysis.clock(0.25) == steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_agents": 1}, "num_agents = 1"),
        ({"successors": 1}, "successors = 1"),
        ({"interface_dim": 2}, "interface_dim = 2"),
        ({"duration_spread": 1.0}, "duration_spread = 1.0"),
        ({"gap": -0.1}, "gap = -0.1"),
        ({"hidden_flip": 0.0}, "hidden_flip = 0.0"),
        ({"duration_law": "poisson"}, "'poisson'"),
        ({"behaviour": "greedy"}, "'greedy'"),
        ({"fields": (("risk", 2), ("risk", 3))}, "distinct names"),
        ({"views": (("topic",),)}, "one per agent, found 1"),
        ({"views": (("colour",),) * 10}, r"views\[0\]"),
    ],
)
def test_wrong_knobs_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlantedConfig.small(**changes)


def test_wrong_sharp_families_are_named() -> None:
    with pytest.raises(ValueError, match="flip_probability = 1.0"):
        sharp_family(flip_probability=1.0)
    with pytest.raises(ValueError, match="num_agents = 1"):
        sharp_family(num_agents=1)
