"""The exact analysis against the plain NumPy twin, on random models of every form, to 1e-9 of the scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from icsmdp_jax.exact import (
    FeatureBasis,
    analyse,
    central_limit,
    interface_model,
    kappa_certificate,
    kernel_moments,
    mixing_time,
    optimal_q,
    projected_fixed_point,
    solve_interface,
)
from icsmdp_jax.exact.asymptotics import CentralLimit
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.fixed_point import Projection, bellman, projection, whiten
from icsmdp_jax.exact.interface import InterfaceModel, policy_loss
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.exact.payments import paid_moments
from tests.helpers import as_model, examples, q_interface_file, q_star_file
from tests.reference import twin
from tests.reference.models import (
    Model,
    decision_pairs,
    joint_kernel,
    models,
    num_interfaces,
    random_behaviour,
    random_model,
    terminal_states,
    uniform_behaviour,
)

RELATIVE = 1e-9
seeds = st.integers(0, 2**16)


def close(found: object, wanted: object, scale: float = 1.0) -> None:
    """Equal to 1e-9 relative to the larger of ``scale`` and the largest entry, NaN in the same places."""
    a, b = np.asarray(found, float), np.asarray(wanted, float)
    assert a.shape == b.shape
    finite = np.abs(b[np.isfinite(b)])
    size = max(scale, float(finite.max()) if finite.size else 0.0)
    np.testing.assert_allclose(a, b, rtol=0, atol=RELATIVE * size, equal_nan=True)


def both(model: Model, seed: int) -> tuple[Analysis, np.ndarray]:
    """The package's analysis and the behaviour it was made for."""
    behaviour = random_behaviour(np.random.default_rng(seed), model)
    return analyse(as_model(model), behaviour), behaviour


@examples(20)
@given(models(), seeds)
def test_moments_chain_and_weights(model: Model, seed: int) -> None:
    analysis, behaviour = both(model, seed)
    interface, moments = analysis.interface, analysis.interface.moments
    pairs = decision_pairs(model)
    np.testing.assert_array_equal(moments.used, pairs)
    kernel = joint_kernel(model)
    longest = kernel.shape[2]
    shape = (kernel.shape[0], kernel.shape[1], kernel.shape[3])

    def on_pairs(matrix: object) -> np.ndarray:
        return as_dense(matrix).reshape(shape)[pairs]

    powers = twin.powers(model, longest)
    close(on_pairs(moments.discounted), twin.discounted_kernel(model)[pairs])
    close(on_pairs(moments.probability), kernel.sum(axis=2)[pairs])
    close(on_pairs(moments.discounted_all), np.einsum("t,sotj->soj", powers, kernel)[pairs])
    close(on_pairs(moments.discounted_square_all), np.einsum("t,sotj->soj", powers**2, kernel)[pairs])
    close(moments.reward_mean[pairs], twin.expected_reward(model)[pairs])
    square = (kernel * twin.payments(model, longest) ** 2).sum(axis=(2, 3)) + float(model["reward_noise"]) ** 2 / 3
    close(moments.reward_square[pairs], square[pairs])
    for absolute in (False, True):
        pays = twin.payments(model, longest)
        pays = np.abs(pays) if absolute else pays
        found = paid_moments(as_model(model), absolute)
        close(on_pairs(found.mean), np.einsum("sotj,sotj->soj", pays, kernel)[pairs])
        close(on_pairs(found.discounted), np.einsum("t,sotj,sotj->soj", powers, pays, kernel)[pairs])
        close(on_pairs(found.square), np.einsum("sotj,sotj->soj", pays**2, kernel)[pairs])
    close(moments.modulus[pairs], twin.row_modulus(model)[pairs])
    close(interface.gamma_bar, twin.modulus(model))

    law = twin.stationary_law(model, behaviour)
    live = np.flatnonzero(~terminal_states(model))
    np.testing.assert_array_equal(interface.chain.states, live)
    close(as_dense(interface.chain.transition), twin.behaviour_chain(model, behaviour)[np.ix_(live, live)])
    close(interface.chain.stationary, law)
    close(interface.weights, twin.interface_weights(model, law))
    close(interface.interface_weight, twin.interface_law(model, law))
    seen = twin.interface_model(model, behaviour)
    np.testing.assert_array_equal(interface.mask, seen.mask)
    close(interface.pair_weight, twin.pair_law(model, behaviour) * seen.mask)
    close(interface.reward[seen.mask], seen.reward[seen.mask])
    close(as_dense(interface.discounted).reshape(seen.kernel.shape)[seen.mask], seen.kernel[seen.mask])


@examples(20)
@given(models(), seeds)
def test_solutions_constants_and_bounds(model: Model, seed: int) -> None:
    analysis, behaviour = both(model, seed)
    q_star, q_phi = twin.optimal_q(model), twin.interface_q(model, behaviour)
    close(q_star_file(analysis), q_star)
    close(q_interface_file(analysis), q_phi)
    scale = 1.0 + float(np.nanmax(np.abs(q_star)))
    epsilon, delta, delta_mass = twin.ais_constants(model, behaviour)
    close(analysis.ais.epsilon, epsilon, scale)
    close(analysis.ais.delta, delta)
    close(analysis.ais.delta_mass, delta_mass)
    gap = analysis.gap
    # Every bound is a numerator over 1 - gbar, so its own size is the scale.
    scale /= 1 - twin.modulus(model)
    close(gap.gap, twin.interface_gap(model, behaviour), scale)
    close(gap.bound, twin.interface_bound(model, behaviour), scale)
    close(gap.bound_value_aware, twin.interface_bound_value_aware(model, behaviour), scale)
    close(gap.bound_mass_span, twin.interface_bound_mass_span(model, behaviour), scale)
    close(gap.policy_loss, twin.policy_loss(model, behaviour), scale)
    close(gap.policy_loss_bound, 2 * twin.interface_bound(model, behaviour), scale)
    close(analysis.kappa, twin.kappa_certificate(model, behaviour))
    assert analysis.a6_certified == (analysis.kappa < 1)
    close(analysis.omega, twin.omega_tabular(model, behaviour))
    # And the order that the theorems promise.
    slack = RELATIVE * scale
    assert gap.gap <= gap.bound_value_aware + slack
    assert gap.bound_value_aware <= gap.bound_mass_span + slack
    assert gap.bound_mass_span <= gap.bound + slack
    assert gap.policy_loss <= 2 * gap.bound_value_aware + slack


@examples(20)
@given(models(), seeds)
def test_mixing_time_at_several_levels(model: Model, seed: int) -> None:
    analysis, behaviour = both(model, seed)
    chain = analysis.interface.chain
    law = chain.stationary[chain.states]
    # No level is 1 - 1/n: on a chain with a uniform law, rounding alone would decide such a tie.
    for level in (0.87, 0.45, 0.25, 0.1, 1e-2, 1e-4, 1e-7):
        wanted = twin.mixing_time(model, behaviour, level)
        assert analysis.clock(level) == wanted, level
        assert mixing_time(chain.transition, law, level) == wanted, level


def test_mixing_time_of_chains_by_hand() -> None:
    flip = np.array([[0.0, 1.0], [1.0, 0.0]])
    half = np.array([0.5, 0.5])
    assert mixing_time(flip, half, 0.25) == math.inf  # periodic
    assert mixing_time(flip, half, 0.5) == 0
    assert mixing_time(np.ones((1, 1)), np.ones(1), 0.25) == 0
    assert mixing_time(np.full((2, 2), 0.5), half, 1e-9) == 1
    # A bit that flips with probability p: TV to uniform after t steps is |1 - 2 p|^t / 2.
    for p in (0.3, 1e-3, 1e-6):
        sticky = np.array([[1 - p, p], [p, 1 - p]])
        for level in (0.25, 0.01):
            wanted = math.ceil(math.log(2 * level) / math.log(1 - 2 * p) - 1e-6)
            assert mixing_time(sticky, half, level) == wanted


def random_basis(rng: np.random.Generator, interface: InterfaceModel, width: int) -> FeatureBasis:
    """Random features, unwhitened: every agent has its own block of every option."""
    model = interface.model
    owner = np.where(interface.mask.any(axis=1), model.interface_agent, -1)
    table = rng.normal(size=(model.num_interfaces, width))
    return FeatureBasis(table, owner, np.full(model.num_agents, width))


def blocks(basis: FeatureBasis, mask: np.ndarray) -> np.ndarray:
    """``psi [Z, O, N * O * p]`` written out from the definition: ``table[z]`` in the block of its owner and option."""
    z_count, o_count = mask.shape
    agents = int(basis.agent.max()) + 1
    out = np.zeros((z_count, o_count, agents, o_count, basis.width))
    for z, o in np.argwhere(mask):
        out[z, o, basis.agent[z], o] = basis.table[z]
    return out.reshape(z_count, o_count, -1)


def contracting(model: Model) -> bool:
    """Whether value iteration of the twin settles soon (it recomputes everything in every sweep)."""
    return twin.modulus(model) < 0.8


@examples(15)
@given(models(max_interfaces_per_agent=4), seeds, st.integers(1, 3))
def test_projection_and_whitening(model: Model, seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    behaviour = random_behaviour(rng, model)
    interface = interface_model(as_model(model), behaviour)
    basis = random_basis(rng, interface, width)
    features, operator = blocks(basis, interface.mask), projection(interface, basis)
    table = rng.normal(size=interface.mask.shape)
    wanted = twin.project(model, behaviour, features, table)
    close(operator(table)[interface.mask], wanted[interface.mask])
    omega = twin.omega_features(model, behaviour, features, floor=1e-14)
    close(operator.omega, omega)
    close(interface.norm(table), twin.weighted_norm(model, behaviour, table))

    white = whiten(basis.table, interface)
    again = projection(interface, white)
    close(again(table)[interface.mask], wanted[interface.mask])
    assert np.sqrt((white.table**2).sum(axis=1)).max() <= 1 + 1e-12
    for agent in range(interface.model.num_agents):
        rows = np.flatnonzero(white.agent == agent)
        assert white.rank[agent] == min(width, len(rows))  # random features have full rank
        rank = white.rank[agent]
        assert not white.table[rows, rank:].any()
        weight = interface.interface_weight[rows]
        second = (white.table[rows, :rank].T * weight) @ white.table[rows, :rank]
        close(second / second[0, 0], np.eye(rank))
        assert np.isclose(np.sqrt((white.table[rows] ** 2).sum(axis=1)).max(), 1.0)


@examples(15)
@given(models(), seeds, st.integers(1, 3))
def test_projected_fixed_point(model: Model, seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    if not contracting(model):
        model = {**model, "gamma": np.array(0.5)}
    behaviour = random_behaviour(rng, model)
    interface = interface_model(as_model(model), behaviour)
    basis = random_basis(rng, interface, width)
    features, operator = blocks(basis, interface.mask), projection(interface, basis)
    found = projected_fixed_point(interface, operator)
    if interface.mask.sum() and kappa_certificate(interface) < 1:
        assert found.converged
    wanted = twin.projected_fixed_point(model, behaviour, features)
    if found.converged:
        close(found.q[interface.mask], wanted[interface.mask])
        close(found.q, (operator.psi @ found.theta).reshape(found.q.shape))
        close(operator(bellman(interface, found.q)), found.q)
        # L5: whitened features have the same span, hence the same fixed point.
        white = projected_fixed_point(interface, projection(interface, whiten(basis.table, interface)))
        close(white.q, found.q)
        # And T2, with Q_phi projected: A6 turns the projection error into an error of Q_m.
        kappa = kappa_certificate(interface)
        if kappa < 1:
            q_phi = np.where(interface.mask, solve_interface(interface).q, 0.0)
            error = interface.norm(found.q - q_phi)
            best = interface.norm(operator(q_phi) - q_phi)
            close(best, twin.projection_error(model, behaviour, features))
            assert error <= best / math.sqrt(1 - kappa**2) + 1e-9
    else:  # an honest refusal: the residual says so
        assert found.residual > 1e-12


def test_feature_blocks_that_are_rank_deficient_lose_only_the_surplus() -> None:
    rng = np.random.default_rng(4)
    model = random_model(rng, interfaces_per_agent=4, options=2)
    interface = interface_model(as_model(model))
    raw = rng.normal(size=(num_interfaces(model), 2)) @ rng.normal(size=(2, 5))
    basis = whiten(raw, interface)
    assert basis.rank.tolist() == [2, 2]
    table = rng.normal(size=interface.mask.shape)
    features = blocks(FeatureBasis(raw, basis.agent, basis.rank), interface.mask)
    wanted = twin.project(model, uniform_behaviour(model), features, table)
    close(projection(interface, basis)(table), wanted)


def close_limits(found: CentralLimit, wanted: twin.CentralLimit, q: np.ndarray) -> None:
    """Variances agree to 1e-9 of the squares that they are sums of; an exact 0 survives no rounding."""
    scale = 1.0 + float(np.abs(q).max()) ** 2
    close(found.coefficient**2, wanted.coefficient**2, scale)
    close(found.coefficient_iid**2, wanted.coefficient_iid**2, scale)


@examples(12)
@given(models(max_interfaces_per_agent=2), seeds)
def test_central_limit_of_tabular_learning(model: Model, seed: int) -> None:
    if not contracting(model):
        model = {**model, "gamma": np.array(0.5)}
    analysis, behaviour = both(model, seed)
    close_limits(analysis.limit, twin.central_limit(model, behaviour), analysis.q_phi.value)


@examples(12)
@given(models(max_interfaces_per_agent=3), seeds, st.integers(1, 2))
def test_central_limit_of_linear_learning(model: Model, seed: int, width: int) -> None:
    if not contracting(model):
        model = {**model, "gamma": np.array(0.5)}
    rng = np.random.default_rng(seed)
    behaviour = random_behaviour(rng, model)
    interface = interface_model(as_model(model), behaviour)
    basis = whiten(rng.normal(size=(num_interfaces(model), width)), interface)
    operator = projection(interface, basis)
    fixed_point = projected_fixed_point(interface, operator)
    if not fixed_point.converged:
        return
    found = central_limit(interface, operator, fixed_point.q)
    wanted = twin.central_limit(model, behaviour, blocks(basis, interface.mask))
    close_limits(found, wanted, fixed_point.q)


@pytest.mark.parametrize("form", ["transition", "joint", "lists"])
def test_closed_gap_closes_every_bound(form: str) -> None:
    """With nothing hidden behind the interface, Q_phi is Q* and mixing leaves the central limit (P2.1)."""
    rng = np.random.default_rng(7)
    shape = {"joint_kernel": form == "joint", "successor_lists": form == "lists"}
    model = random_model(rng, gap=0.0, hidden=3, masks=True, options=3, terminals=True, **shape)
    analysis = analyse(as_model(model), random_behaviour(rng, model))
    assert max(analysis.ais) < 1e-12
    for name in ("gap", "bound", "bound_value_aware", "bound_mass_span", "policy_loss"):
        assert abs(getattr(analysis.gap, name)) < 1e-9, name
    limit = analysis.limit
    assert limit.coefficient == pytest.approx(limit.coefficient_iid, rel=1e-9)
    open_gap = as_model({**model, "reward_rate": rng.normal(size=model["reward_rate"].shape)})
    other = analyse(open_gap)
    assert other.gap.gap > 1e-3 and other.limit.coefficient != pytest.approx(other.limit.coefficient_iid, rel=1e-3)


def fully_seen(model: Model) -> Model:
    """The same model with one agent that sees everything."""
    count = model["interface"].size
    changes = {"interface": np.arange(count), "agent": np.zeros(count, int)}
    if "available" in model:
        changes["available"] = model["available"][model["interface"]]
    return {**model, **changes}


def by_linear_programming(model: Model) -> np.ndarray:
    """``V* [S]``: the least V with ``V(s) >= E[R|s,o] + sum P^g V`` at every decision pair."""
    pairs, count = decision_pairs(model), model["interface"].size
    kernel, reward = twin.discounted_kernel(model), twin.expected_reward(model)
    rows = [kernel[s, o] - np.eye(count)[s] for s, o in np.argwhere(pairs)]
    limits = [-reward[s, o] for s, o in np.argwhere(pairs)]
    ends = terminal_states(model)
    bounds = [(0.0, 0.0) if end else (None, None) for end in ends]
    result = optimize.linprog(np.ones(count), np.array(rows), np.array(limits), bounds=bounds, method="highs")
    assert result.success
    return result.x


@pytest.mark.parametrize("seed", range(6))
def test_optimal_values_solve_the_linear_programme(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(rng, joint_kernel=seed % 2 == 0, masks=True, terminals=seed % 3 == 0, options=3)
    found = optimal_q(kernel_moments(as_model(model))).value
    np.testing.assert_allclose(found, by_linear_programming(model), atol=1e-6 * (1 + np.abs(found).max()))


@pytest.mark.parametrize("seed", range(6))
def test_single_steps_and_full_view_reduce_to_a_markov_decision_process(seed: int) -> None:
    """tau = 1 and one agent that sees the state: plain value iteration with gamma, and no gap at all."""
    rng = np.random.default_rng(seed)
    model = random_model(rng, longest=1, masks=True, terminals=seed % 2 == 0, options=3, gamma=0.8)
    model = fully_seen(model)
    end, mask = terminal_states(model), model["available"]
    value = np.zeros(end.size)
    for _ in range(400):
        q = model["reward_rate"] + 0.8 * model["transition"] @ value
        value = np.where(end, 0.0, np.where(mask, q, -np.inf).max(axis=1))
    analysis = analyse(as_model(model))
    close(analysis.q_star.value, value)
    close(q_star_file(analysis)[~end], np.where(mask, q, np.nan)[~end])
    close(q_interface_file(analysis)[~end], np.where(mask, q, np.nan)[~end])
    assert max(analysis.ais) < 1e-12 and analysis.gap.gap < 1e-9 and analysis.gap.policy_loss < 1e-9
    if seed % 2:  # no terminal states: every step is discounted by gamma
        assert analysis.interface.gamma_bar == pytest.approx(0.8, abs=1e-12)


def test_policy_loss_is_zero_for_the_oracle_and_not_for_the_worst_options() -> None:
    rng = np.random.default_rng(1)
    model = fully_seen(random_model(rng, masks=True, options=3))
    analysis = analyse(as_model(model))
    interface, q = analysis.interface, analysis.q_phi.q
    assert policy_loss(interface, q, analysis.q_star.value) < 1e-9
    worst = np.where(interface.mask, -q, -np.inf)
    option = worst.argmax(axis=1)
    value = twin.policy_value(model, option)
    wanted = float((analysis.q_star.value - value).max())
    assert wanted > 0.1
    assert policy_loss(interface, worst, analysis.q_star.value) == pytest.approx(wanted, rel=1e-9)


def test_tabular_projection_is_the_identity_on_deciding_pairs() -> None:
    rng = np.random.default_rng(2)
    model = random_model(rng, masks=True, terminals=True, options=3)
    interface = interface_model(as_model(model))
    operator: Projection = projection(interface, None)
    table = rng.normal(size=interface.mask.shape)
    close(operator(table), np.where(interface.mask, table, 0.0))
    found = projected_fixed_point(interface, operator)
    close(found.q[interface.mask], solve_interface(interface).q[interface.mask])
