"""Certified errors are true as gamma nears 1, against exact fractions, and nothing depends on the unit of reward."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.exact.moments import kernel_moments
from icsmdp_jax.exact.returns import Returns, has_scale
from icsmdp_jax.exact.segments import segments
from icsmdp_jax.exact.solve import evaluate_policy, modified_policy_iteration, optimal_q
from icsmdp_jax.models.durations import DurationLaw
from icsmdp_jax.models.tabular import TabularModel, annuities
from tests.exact.test_elimination import exact_law, solved
from tests.helpers import constants, examples

GAMMAS = [0.0, 0.3, 0.9, 1 - 1e-6, 1 - 1e-12, 1 - 2.0**-53]
seeds = st.integers(0, 2**32 - 1)


def issue_model(gamma: float) -> TabularModel:
    """Four states and an end; tau is uniform on 1..4, and every segment ends the episode with probability 1/2."""
    rng = np.random.default_rng(0)
    step = np.zeros((5, 2, 5))
    step[:4, :, :4] = 0.5 * rng.dirichlet(np.ones(4), size=(4, 2))
    step[:, :, 4] = 1 - step.sum(axis=2)
    return TabularModel(
        reward_rate=rng.normal(size=(5, 2)),
        agent=np.zeros(5, int),
        interface=np.array([0, 0, 1, 1, 2]),
        gamma=gamma,
        transition=step,
        duration=np.full((5, 2, 4), 0.25),
        terminal=np.arange(5) == 4,
        start=np.array([0.25, 0.25, 0.25, 0.25, 0.0]),
    )


def random_model(seed: int, gamma: float, joint: bool, ends: bool, lumps: bool = False) -> TabularModel:
    rng = np.random.default_rng(seed)
    count, options, longest = 4, 2, int(rng.integers(1, 5))
    terminal = np.arange(count) == (count - 1 if ends else count)
    law = {
        "kernel": rng.dirichlet(np.full(longest * count, 0.4), size=(count, options)).reshape(
            count, options, longest, count
        )
    }
    if not joint:
        law = {
            "transition": rng.dirichlet(np.full(count, 0.5), size=(count, options)),
            "duration": rng.dirichlet(np.ones(longest), size=(count, options)),
        }
    return TabularModel(
        reward_rate=rng.normal(size=(count, options)) + rng.choice([0.0, 5.0]),
        lump_reward_next=rng.normal(size=(count, options, count)) if lumps else None,
        agent=np.zeros(count, int),
        interface=np.array([0, 0, 1, 2]),
        gamma=gamma,
        terminal=terminal if ends else None,
        start=np.append(rng.dirichlet(np.ones(count - 1)), 0.0) if ends else None,
        **law,
    )


class Exact:
    """A model with fractions: rows divided by their sums, ``gamma`` the float that it is."""

    def __init__(self, model: TabularModel) -> None:
        gamma, self.states = Fraction(model.gamma), range(model.num_states)
        self.options, self.model = range(model.num_options), model
        self.lives = [not t for t in model.is_terminal]
        self.reward = [[Fraction(0)] * len(self.options) for _ in self.states]
        self.kernel = [[[Fraction(0)] * len(self.states) for _ in self.options] for _ in self.states]
        self.ends = [[[Fraction(0)] * len(self.states) for _ in self.options] for _ in self.states]
        for s, o in product([s for s in self.states if self.lives[s]], self.options):
            for tau, t, chance in self.segments(s, o):
                self.reward[s][o] += chance * self.paid(s, o, tau, t)
                self.kernel[s][o][t] += chance * gamma**tau * self.lives[t]
                self.ends[s][o][t] += chance

    def paid(self, s: int, o: int, tau: int, t: int) -> Fraction:
        """What a segment pays, noise apart."""
        model, gamma = self.model, Fraction(self.model.gamma)
        lump = Fraction(0) if model.lump_reward_next is None else Fraction(float(model.lump_reward_next[s, o, t]))
        return Fraction(float(model.reward_rate[s, o])) * sum(gamma**k for k in range(tau)) + gamma ** (tau - 1) * lump

    def segments(self, s: int, o: int) -> list[tuple[int, int, Fraction]]:
        """``(tau, next state, probability)``, all of them."""
        model = self.model
        if model.kernel is not None:
            law = [[Fraction(float(x)) for x in row] for row in model.kernel[s, o]]
            total = sum(sum(row) for row in law)
            return [(i + 1, t, x / total) for i, row in enumerate(law) for t, x in enumerate(row)]
        assert model.transition is not None and model.duration is not None
        step, last = ([Fraction(float(x)) for x in law[s, o]] for law in (model.transition, model.duration))
        return [(i + 1, t, p * q / (sum(step) * sum(last))) for i, p in enumerate(last) for t, q in enumerate(step)]

    def optimum(self, reward: list, kernel: list, lives: list[bool]) -> list[list[Fraction]]:
        """``Q = r + P max Q`` by policy iteration with exact solves."""
        count = range(len(lives))
        choice = [0 for _ in count]
        while True:
            system = [[(s == t) - kernel[s][choice[s]][t] * lives[s] for t in count] for s in count]
            value = solved(system, [reward[s][choice[s]] * lives[s] for s in count])
            q = [[r + sum(p * v for p, v in zip(row, value, strict=True)) for r, row in zip(rs, rows, strict=True)]
                 for rs, rows in zip(reward, kernel, strict=True)]  # fmt: skip
            better = [max(self.options, key=lambda o, s=s: (q[s][o], o == choice[s])) for s in count]
            if better == choice:
                return q
            choice = better

    def star(self) -> list[list[Fraction]]:
        return self.optimum(self.reward, self.kernel, self.lives)

    def phi(self) -> list[list[Fraction]]:
        """``Q_phi`` under the uniform behaviour; 0 at interfaces that never decide."""
        model, options = self.model, len(self.options)
        start = [Fraction(0)] * len(self.states)
        if model.start is not None:
            start = [Fraction(float(x)) * live for x, live in zip(model.start, self.lives, strict=True)]
            start = [x / sum(start) for x in start]
        chain = [[Fraction(0)] * len(self.states) for _ in self.states]
        for s, o, t in product(self.states, self.options, self.states):  # rows of terminal states are empty
            for target, share in enumerate(start) if not self.lives[t] else ((t, Fraction(1)),):
                chain[s][target] += self.ends[s][o][t] * share / options
        inside = [s for s in self.states if self.lives[s]]
        law = dict(zip(inside, exact_law([[chain[s][t] for t in inside] for s in inside]), strict=True))
        seen = range(model.num_interfaces)
        mass = [sum(law.get(s, 0) for s in self.states if model.interface[s] == z) for z in seen]
        reward = [[Fraction(0)] * options for _ in seen]
        kernel = [[[Fraction(0)] * len(seen) for _ in self.options] for _ in seen]
        for s, o in product(inside, self.options):
            z = model.interface[s]
            weight = law[s] / mass[z]
            reward[z][o] += weight * self.reward[s][o]
            for t in self.states:
                kernel[z][o][model.interface[t]] += weight * self.kernel[s][o][t]
        return self.optimum(reward, kernel, [m > 0 for m in mass])


def holds(found, exact: list[list[Fraction]], used: np.ndarray, within: float) -> None:
    """The error is what is certified or less, and what is certified is not idle."""
    scale = max(1.0, max(abs(float(x)) for row in exact for x in row))
    error = max(abs(Fraction(float(found.q[s, o])) - exact[s][o]) for s, o in np.argwhere(used))
    assert error <= Fraction(found.error_bound)
    assert found.error_bound <= within * scale


@pytest.mark.parametrize("gamma", GAMMAS)
def test_half_of_all_segments_end_the_episode(gamma: float) -> None:
    model = issue_model(gamma)
    exact, known = Exact(model), analyse(model)
    holds(known.q_star, exact.star(), known.interface.moments.used, 1e-12)
    holds(known.q_phi, exact.phi(), known.interface.mask, 1e-10)


@examples(40)
@given(seeds, st.sampled_from(GAMMAS), st.booleans(), st.booleans(), st.booleans())
def test_certified_errors_are_true(seed: int, gamma: float, joint: bool, ends: bool, lumps: bool) -> None:
    """Continuing models included, where values are of the order of 1/(1 - gamma): up to 2^53."""
    model = random_model(seed, gamma, joint, ends, lumps)
    exact, moments = Exact(model), kernel_moments(model)
    for s, o in np.argwhere(moments.used):
        size = moments.reward_size[s, o]  # |E[R]| but for lumps, which may cancel
        assert abs(Fraction(float(moments.reward_mean[s, o])) - exact.reward[s][o]) <= 1e-13 * size
        assert lumps or size == abs(moments.reward_mean[s, o])
        assert moments.killing[s, o] == pytest.approx(float(1 - sum(exact.kernel[s][o])), rel=1e-13)
    star = exact.star()
    holds(optimal_q(moments), star, moments.used, 1e-9)
    early = modified_policy_iteration(
        moments.reward_mean, moments.discounted, moments.used, max_rounds=2, sweeps=1, killing=moments.killing
    )
    error = max(abs(Fraction(float(early.q[s, o])) - star[s][o]) for s, o in np.argwhere(moments.used))
    assert error <= Fraction(early.error_bound)


@examples(15)
@given(seeds, st.sampled_from(GAMMAS), st.booleans(), st.booleans())
def test_certified_errors_of_interface_values_are_true(seed: int, gamma: float, ends: bool, lumps: bool) -> None:
    """The error of the stationary law, which makes the interface model, is part of what is certified."""
    model = random_model(seed, gamma, False, ends, lumps)
    known = analyse(model)
    holds(known.q_phi, Exact(model).phi(), known.interface.mask, 1e-7)


@examples(20)
@given(seeds, st.sampled_from(GAMMAS), st.booleans(), st.booleans())
def test_temporal_differences_of_long_horizons(seed: int, gamma: float, joint: bool, lumps: bool) -> None:
    """Values of 1/(1 - gamma) do not cancel in the moments of ``R + gamma^tau V(z') - Q(z, o)``."""
    model = random_model(seed, gamma, joint, False, lumps)
    known, exact = analyse(model), Exact(model)
    q, found = known.q_phi_table, segments(known.interface, known.q_phi_table)
    value = [Fraction(float(v)) for v in q.max(axis=1)[model.interface]]
    assert len(found.states) == model.num_states
    wanted = np.zeros((3, *found.error.shape))
    size = 0.0
    for s, o in product(exact.states, exact.options):
        sums = [[Fraction(0)] * len(exact.states) for _ in wanted]
        for tau, t, chance in exact.segments(s, o):
            discount = Fraction(gamma) ** tau
            error = exact.paid(s, o, tau, t) + discount * value[t] - Fraction(float(q[model.interface[s], o]))
            size = max(size, abs(float(error)))
            for total, worth in zip(sums, (error, error * discount, error**2), strict=True):
                total[t] += chance * worth
        wanted[:, s, o] = np.array(sums, float)
    size = max(size, float(np.ptp(q)), float(np.abs(model.reward_rate).max()))
    for name, moment, scale in zip(
        ("error", "error_carried", "error_square"), wanted, (size, size, size**2), strict=True
    ):
        np.testing.assert_allclose(getattr(found, name), moment, rtol=0, atol=1e-12 * scale, err_msg=name)


def test_a_modulus_is_below_one_whatever_rows_sum_to() -> None:
    """Rows of 50 next states sum to 1 up to rounding, times the largest gamma below 1."""
    for seed in range(20):
        law = np.random.default_rng(seed).dirichlet(np.ones(50), size=(50, 1))
        model = TabularModel(
            reward_rate=np.ones((50, 1)),
            agent=np.zeros(50, int),
            interface=np.arange(50),
            gamma=1 - 2.0**-53,
            transition=law,
            duration=np.ones((50, 1, 1)),
        )
        known = analyse(model)
        assert known.interface.gamma_bar < 1 and known.interface.moments.gamma_bar < 1
        assert known.interface.least_killing == 2.0**-53
        np.testing.assert_allclose(known.q_star.q, 2.0**53, rtol=1e-12)


@examples(30)
@given(seeds, st.sampled_from(GAMMAS), st.booleans())
def test_values_of_policies_have_all_digits(seed: int, gamma: float, ends: bool) -> None:
    model = random_model(seed, gamma, False, ends)
    moments, exact = kernel_moments(model), Exact(model)
    policy = np.random.default_rng(seed).integers(2, size=4)
    system = [[(s == t) - exact.kernel[s][policy[s]][t] * exact.lives[s] for t in exact.states] for s in exact.states]
    wanted = solved(system, [exact.reward[s][policy[s]] * exact.lives[s] for s in exact.states])
    size = max(abs(float(v)) for v in wanted)
    largest = float(np.abs(moments.reward_mean).max() / moments.killing.min())
    for iterative in (False, True) if gamma < 1 - 1e-7 else (False,):
        value = evaluate_policy(
            moments.reward_mean, moments.discounted, policy, ~model.is_terminal, iterative, moments.killing
        )
        np.testing.assert_allclose(value, [float(v) for v in wanted], rtol=0, atol=1e-14 * (size + largest))


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.5, 0.97, 1 - 1e-6, 1 - 1e-12, 1 - 2.0**-53])
def test_annuities_have_all_digits(gamma: float) -> None:
    found, exact, power = annuities(gamma, 300), Fraction(0), Fraction(1)
    for value in found:
        exact += power
        power *= Fraction(gamma)
        assert abs(Fraction(float(value)) - exact) <= exact * Fraction(1, 2**49)
    law = DurationLaw("even", np.full(300, 1 / 300))
    assert law.annuity(gamma) == pytest.approx(float(found.mean()), rel=1e-14)
    assert law.horizon(gamma) == pytest.approx(1 / (float(Fraction(1) - Fraction(gamma)) * found.mean()), rel=1e-13)


@pytest.mark.parametrize("gamma", [0.9, 1 - 1e-6, 1 - 1e-12])
def test_central_limit_of_one_state(gamma: float) -> None:
    """The temporal difference is the noise alone, whatever the duration: the coefficient is h 3^{-1/2} / (1 - gbar)."""
    model = TabularModel(
        reward_rate=np.array([[7.0]]),
        agent=np.zeros(1, int),
        interface=np.zeros(1, int),
        gamma=gamma,
        reward_noise=2.0,
        transition=np.ones((1, 1, 1)),
        duration=np.array([[[0.25, 0.25, 0.5]]]),
    )
    known = analyse(model)
    left = float(1 - sum(Fraction(gamma) ** t * Fraction(p) for t, p in ((1, 0.25), (2, 0.25), (3, 0.5))))
    assert known.interface.least_killing == pytest.approx(left, rel=1e-14)
    assert known.limit.coefficient == pytest.approx(2 / math.sqrt(3) / left, rel=1e-6)
    assert known.limit.coefficient_iid == pytest.approx(2 / math.sqrt(3) / left, rel=1e-6)
    assert known.reward_max == pytest.approx(7 * float(sum(Fraction(gamma) ** k for k in range(3))) + 2, rel=1e-14)


SCALED = ("epsilon", "interface_gap", "interface_bound", "interface_bound_value_aware", "interface_bound_mass_span")
SCALED += ("policy_loss", "policy_loss_bound", "clt_coefficient", "clt_coefficient_iid", "action_gap")


@examples(25)
@given(seeds, st.sampled_from([1e-12, 1e-3, 1e12]), st.booleans(), st.booleans(), st.booleans())
def test_nothing_depends_on_the_unit_of_reward(seed: int, unit: float, joint: bool, ends: bool, sparse: bool) -> None:
    model = random_model(seed, 0.97, joint, ends)
    one, other = (analyse(m, sparse=sparse) for m in (model, model.replace(reward_rate=unit * model.reward_rate)))
    first, second = constants(one), constants(other)
    size = float(np.abs(one.q_star.value).max())
    for name in first:
        if name in SCALED and first[name] is not None:
            assert second[name] / unit == pytest.approx(first[name], rel=1e-9, abs=1e-9 * size), name
        else:
            assert second[name] == first[name], name
    assert other.q_star.error_bound / unit == pytest.approx(one.q_star.error_bound, rel=1e-2)
    mask = one.interface.moments.used
    np.testing.assert_allclose(other.q_star.q[mask] / unit, one.q_star.q[mask], rtol=0, atol=1e-9 * size)
    returns, scaled = Returns(one.interface.model), Returns(other.interface.model)
    if has_scale(returns.random, returns.oracle, returns.size):
        middle = (returns.random + returns.oracle) / 2
        assert scaled.normalised(unit * middle) == pytest.approx(0.5, abs=1e-6)


def test_an_oracle_that_is_no_better_than_chance_has_no_scale() -> None:
    """Rounding of rewards of any size is no lead."""
    assert not has_scale(0.0, 1e-17, 1.0) and not has_scale(5e12, 5e12 + 1e-3) and not has_scale(0.0, 0.0)
    assert has_scale(0.0, 1e-17, 1e-17) and has_scale(-1e-12, 1e-12) and has_scale(1e12, 2e12)
