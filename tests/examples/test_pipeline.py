"""The mathematics pipeline, number by number against arithmetic written out here."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from examples import pipeline as p
from icsmdp_jax.models.tabular import TabularModel
from tests.examples.shipped import (
    MODELS,
    assert_file_holds,
    discount_factors,
    expected_rewards,
    oracle_values,
    transition_matrix,
    used,
    value_iteration,
)

BRIEF_DISCOUNT = (0.93**4 + 0.93**5 + 0.93**6 + 0.93**7 + 0.93**8) / 5


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return p.build_pipeline()


class Interfaces:
    """The interface model (D5) under uniform behaviour, in dense NumPy."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        s, o = arrays["reward_rate"].shape
        z = arrays["available"].shape[0]
        mask = arrays["available"]
        mu = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
        step = transition_matrix(arrays).toarray().reshape(s, o, s)
        chain = np.einsum("so,sot->st", np.where(used(arrays), mu[arrays["interface"]], 0), step)
        ends = chain[:, arrays["terminal"]].sum(axis=1)
        chain = chain * ~arrays["terminal"] + np.outer(ends, arrays["start"])
        live = ~arrays["terminal"]
        balance = np.vstack([(chain[np.ix_(live, live)].T - np.eye(live.sum())), np.ones(live.sum())])
        d = np.zeros(s)
        d[live] = np.linalg.lstsq(balance, np.append(np.zeros(live.sum()), 1), rcond=None)[0]
        self.d, self.mask = d, mask & (np.bincount(arrays["interface"], d, z) > 0)[:, None]
        group = np.eye(z)[arrays["interface"]]
        self.weight = d @ group
        share = d / np.where(self.weight > 0, self.weight, 1)[arrays["interface"]]
        average = (group * share[:, None]).T  # [Z, S]
        discounted = (discount_factors(arrays)[:, :, None] * step * ~arrays["terminal"]) @ group
        self.reward = average @ expected_rewards(arrays)
        self.discounted = np.einsum("zs,sof->zof", average, discounted)
        flat = sparse.csr_array(self.discounted.reshape(z * o, z))
        self.q = value_iteration(self.reward, flat, self.mask)
        scale = np.sqrt((self.weight[:, None] * mu).reshape(-1, 1))
        least = np.where(self.weight > 0, self.weight * np.where(mask, mu, 2).min(axis=1), np.inf)
        self.kappa = np.linalg.norm(scale * self.discounted.reshape(z * o, z) / np.sqrt(least), 2)


@pytest.fixture(scope="module")
def interfaces(arrays) -> Interfaces:
    return Interfaces(arrays)


def test_sizes_and_owners(arrays):
    model = TabularModel(**arrays)
    assert (model.num_states, model.num_interfaces, model.num_options, model.num_agents) == (17, 13, 3, 4)
    assert model.interface_agent.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, -1]


def test_only_the_correctness_of_the_draft_is_hidden(arrays):
    shared = [np.flatnonzero(arrays["interface"] == z).tolist() for z in range(13)]
    assert [len(states) for states in shared] == [1] * 8 + [2] * 4 + [1]
    for kind in (p.AIME, p.LIVE):
        for verdict in (p.DOUBT, p.PASS):
            both = [p.verifier_state(kind, verdict, draft) for draft in (p.WRONG, p.RIGHT)]
            assert shared[p.verifier_interface(kind, verdict)] == both


def test_answer_lengths_come_from_published_costs():
    # dollars for the whole set / problems / (dollars per token) / 512
    assert 0.31 / 60 / 0.60e-6 / 512 == pytest.approx(16.82, abs=0.005) and p.solver_blocks("A", p.AIME) == 17
    assert 0.23 / 121 / 0.60e-6 / 512 == pytest.approx(6.19, abs=0.005) and p.solver_blocks("A", p.LIVE) == 6
    assert 1.13 / 60 / 2.90e-6 / 512 == pytest.approx(12.68, abs=0.005) and p.solver_blocks("B", p.AIME) == 13
    assert 1.04 / 121 / 2.90e-6 / 512 == pytest.approx(5.79, abs=0.005) and p.solver_blocks("B", p.LIVE) == 6


def test_start_law_follows_the_size_of_the_two_sets(arrays):
    assert arrays["start"][:2] == pytest.approx([60 / 181, 121 / 181], rel=1e-14)
    assert arrays["start"][2:].sum() == 0


def test_brief_costs_the_tokens_it_takes(arrays):
    """1 dollar per million tokens, 512 tokens: 0.0512 cents a block, four to eight blocks, discount 0.93."""
    blocks = [sum(0.93**t for t in range(tau)) for tau in (4, 5, 6, 7, 8)]
    cost = -0.0512 * sum(blocks) / 5
    for kind in (p.AIME, p.LIVE):
        for option in (p.BARE_TO_A, p.BARE_TO_B):
            assert expected_rewards(arrays)[p.planner_state(kind), option] == pytest.approx(cost, rel=1e-12)
            assert discount_factors(arrays)[p.planner_state(kind), option] == pytest.approx(BRIEF_DISCOUNT)


def test_planned_answer_of_solver_a(arrays):
    """LiveMathBench: 0.7603 right, 0.9 of the errors prevented by the plan; verdict 0.95 against 0.05."""
    row = arrays["transition"][p.solver_a_state(p.LIVE, p.PLANNED), p.ANSWER]
    right = 0.7603 + 0.9 * 0.2397
    assert right == pytest.approx(0.97603)
    law = {
        (p.PASS, p.RIGHT): 0.97603 * 0.95,
        (p.DOUBT, p.RIGHT): 0.97603 * 0.05,
        (p.PASS, p.WRONG): 0.02397 * 0.05,
        (p.DOUBT, p.WRONG): 0.02397 * 0.95,
    }
    for (verdict, draft), probability in law.items():
        assert row[p.verifier_state(p.LIVE, verdict, draft)] == pytest.approx(probability, rel=1e-12)
    assert row.sum() == pytest.approx(1, rel=1e-14)


def test_own_check_of_solver_b(arrays):
    """LiveMathBench: 0.5289 right before the check, 0.95 * 0.5289 + 0.70 * 0.4711 = 0.832225 after it."""
    state = p.solver_b_state(p.LIVE)
    row = arrays["transition"][state, p.ANSWER_AND_CHECK]
    right = row[[p.verifier_state(p.LIVE, verdict, p.RIGHT) for verdict in (p.DOUBT, p.PASS)]].sum()
    assert right == pytest.approx(0.832225, rel=1e-12)
    assert np.flatnonzero(arrays["duration"][state, p.ANSWER_AND_CHECK]).tolist() == [
        5,
        6,
        7,
        8,
        9,
    ]  # 6 to 10
    rate = arrays["reward_rate"][state, p.ANSWER_AND_CHECK]
    assert rate == pytest.approx(-2.90 / 1e6 * 512 * 100, rel=1e-12)


def test_mending_a_wrong_aime_draft(arrays):
    """0.10 repaired: the draft passes with 0.10 * 0.95 + 0.90 * 0.05 = 0.14."""
    row = arrays["transition"][p.verifier_state(p.AIME, p.DOUBT, p.WRONG), p.MEND]
    passes = row[[p.verifier_state(p.AIME, p.PASS, draft) for draft in (p.WRONG, p.RIGHT)]].sum()
    assert passes == pytest.approx(0.14, rel=1e-12)


def test_submitting_ends_and_pays_in_one_block(arrays):
    for kind in (p.AIME, p.LIVE):
        for draft, cents in ((p.RIGHT, 50.0), (p.WRONG, -50.0)):
            state = p.verifier_state(kind, p.PASS, draft)
            assert arrays["transition"][state, p.SUBMIT, p.DONE] == 1
            assert arrays["duration"][state, p.SUBMIT, 0] == 1
            assert expected_rewards(arrays)[state, p.SUBMIT] == pytest.approx(cents, rel=1e-12)
    assert arrays["terminal"].nonzero()[0].tolist() == [p.DONE]


def test_masks_follow_the_verdict(arrays):
    for kind in (p.AIME, p.LIVE):
        assert arrays["available"][p.verifier_interface(kind, p.DOUBT)].tolist() == [False, True, True]
        assert arrays["available"][p.verifier_interface(kind, p.PASS)].tolist() == [True, True, False]
    assert arrays["available"].sum(axis=1).tolist() == [3, 3] + [2] * 10 + [0]


def test_features_are_unit_vectors_and_tell_an_agents_interfaces_apart(arrays):
    np.testing.assert_allclose(np.linalg.norm(arrays["features"], axis=1), 1, rtol=1e-14)
    for interfaces in (range(0, 2), range(2, 6), range(6, 8), range(8, 12)):
        assert len(np.unique(arrays["features"][list(interfaces)], axis=0)) == len(interfaces)
    assert arrays["features"][p.solver_a_state(p.AIME, p.PLANNED)] == pytest.approx(np.array([1, -1, 1, 0]) / 3**0.5)


def test_modulus_and_certificate_by_hand(arrays, interfaces):
    """The longest discount is that of returning; solver B's interfaces decide kappa.

    Each of them is entered by one option of one interface only and offers two options, so that its column of
    the certificate is the discount of a brief times the square root of 2.
    """
    modulus = discount_factors(arrays)[: p.DONE].copy()
    modulus[[p.verifier_state(k, p.PASS, d) for k in range(2) for d in range(2)], p.SUBMIT] = 0  # into the end
    assert modulus.max() == pytest.approx((0.93**2 + 0.93**3 + 0.93**4 + 0.93**5 + 0.93**6) / 5, rel=1e-12)
    assert modulus.max() == pytest.approx(0.7520, abs=5e-5)
    assert interfaces.kappa == pytest.approx(2**0.5 * BRIEF_DISCOUNT, rel=1e-9)
    assert interfaces.kappa == pytest.approx(0.9198, abs=5e-5)


def test_best_options_differ_between_interfaces_without_near_ties(interfaces):
    q = interfaces.q[:12]
    best = np.nanargmax(q, axis=1)
    assert best.tolist() == [
        *(p.BARE_TO_B, p.PLAN_TO_A),
        *(p.ANSWER, p.ANSWER, p.ANSWER, p.ANSWER),
        *(p.ANSWER, p.ANSWER_AND_CHECK),
        *(p.RETURN, p.SUBMIT, p.MEND, p.SUBMIT),
    ]
    ranked = np.sort(np.where(np.isnan(q), -np.inf, q), axis=1)
    assert (ranked[:, -1] - ranked[:, -2]).min() > 0.025 * (np.nanmax(q) - np.nanmin(q))


def test_interface_gap_is_that_of_submitting_a_wrong_draft(arrays, interfaces):
    """The verifier cannot tell a wrong draft that passed: worth -50 if submitted, and the average to it."""
    gap = np.abs(oracle_values(arrays) - interfaces.q[arrays["interface"]])
    state = p.verifier_state(p.LIVE, p.PASS, p.WRONG)
    assert np.nanmax(gap) == pytest.approx(gap[state, p.SUBMIT], rel=1e-12)
    right, wrong = interfaces.d[p.verifier_state(p.LIVE, p.PASS, p.RIGHT)], interfaces.d[state]
    assert gap[state, p.SUBMIT] == pytest.approx(50 + 50 * (right - wrong) / (right + wrong), rel=1e-9)


def test_shipped_file_is_what_the_script_builds(arrays):
    assert_file_holds(MODELS / "pipeline.npz", arrays)


def test_main_writes_the_file(arrays, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pipeline.py", "--out", str(tmp_path / "new")])
    p.main()
    assert_file_holds(tmp_path / "new" / "pipeline.npz", arrays)
    assert "pipeline.npz" in capsys.readouterr().out
