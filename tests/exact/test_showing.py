"""The value of showing: known answers of a desk, and a team that knows more and does worse (E)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from icsmdp_jax.exact import analyse
from icsmdp_jax.exact.showing import ALL, Candidate, Showing, Shown
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import golden, golden_analysis


def post_office() -> TabularModel:
    """A clerk keeps a parcel (4 or 8 at once) or sends it on, which pays 0 or 20 half a step later.

    States 0 and 1 are the clerk's, 2 and 3 the counter's, 4 is the end; nobody sees which of two states it is.
    """
    transition = np.zeros((5, 2, 5))
    transition[[0, 1], 0, 4] = transition[0, 1, 2] = transition[1, 1, 3] = 1
    transition[2:, :, 4] = 1
    paid = np.zeros((5, 2))
    paid[0, 0], paid[1, 0], paid[3] = 4, 8, 20
    return TabularModel(
        reward_rate=paid, agent=np.array([0, 0, 1, 1, 0]), interface=np.array([0, 0, 1, 1, 2]), gamma=0.5,
        transition=transition, duration=np.ones((5, 2, 1)), start=np.array([0.5, 0.5, 0, 0, 0]),
        terminal=np.arange(5) == 4,
    )  # fmt: skip


def test_showing_more_can_do_harm() -> None:
    """By hand: the clerk believes that sending is worth 20 / 2 / 2 = 5; keeping is worth 6 on average, or 4 and 8.

    Seeing nothing it keeps both parcels and loses 10 - 8 = 2 on the second. Seeing which one it has it sends the
    first, which pays 0, and loses 4 there, and 2 on the second as before.
    If the counter sees too, nothing is lost.
    """
    half, send = Fraction(1, 2), Fraction(20) * Fraction(1, 2) * Fraction(1, 2)
    assert Fraction(4) < send < Fraction(6) < Fraction(8) < 20 * half
    showing = Showing.on(post_office())
    clerk, counter = Candidate(0), Candidate(1)
    assert showing.candidates() == [clerk, counter]
    losses = {shown: showing.show(*shown) for shown in ((), (clerk,), (counter,), (clerk, counter))}
    assert [one.policy_loss for one in losses.values()] == pytest.approx([2, 4, 2, 0], abs=1e-12)
    assert [one.start_loss for one in losses.values()] == pytest.approx([1, 3, 1, 0], abs=1e-12)
    assert [one.weighted_loss for one in losses.values()] == pytest.approx([2 / 3, 2, 2 / 3, 0], abs=1e-12)
    assert [one.interfaces_added for one in losses.values()] == [0, 1, 1, 2]
    assert showing.order() == []  # no single step helps, though two do
    split = showing.split(0)
    assert split._replace(shown=(clerk,)) == losses[clerk,]


def test_the_last_checker_is_the_one_to_show_the_desk_to() -> None:
    """Answers of an independent program: 1.495 falls to 0.073 for one team, for no other it changes at all."""
    model = golden("desk")
    showing = Showing.on(model)
    losses = {candidate.agent: showing.show(candidate).policy_loss for candidate in showing.candidates()}
    now = showing.show()
    assert now.policy_loss == pytest.approx(1.495, abs=5e-4)
    assert losses.pop(3) == pytest.approx(0.073, abs=5e-4)
    assert list(losses.values()) == pytest.approx([now.policy_loss] * 3, abs=1e-9)
    (best,) = showing.order()
    assert best.shown == (Candidate(3, ALL),)
    known = golden_analysis("desk")
    assert now.interface_gap == pytest.approx(known.gap.gap, rel=1e-9)
    shown = analyse(*showing.refine(Candidate(3)))
    assert shown.policy_loss == pytest.approx(best.policy_loss) and shown.num_interfaces == known.num_interfaces + 1


def with_fields() -> tuple[TabularModel, np.ndarray]:
    """Two agents in turn, a bit that counts and one that does not; agent 0 sees the second, agent 1 both."""
    fields = np.array([[a, b, c] for a in range(2) for b in range(2) for c in range(2)], np.int32)  # turn, fact, noise
    agent, visible = fields[:, 0], np.array([[True, False, True], [True, True, True]])
    seen = np.where(visible[agent], fields, 0)
    interface = np.unique(np.column_stack([agent, seen]), axis=0, return_inverse=True)[1].reshape(-1)
    transition = np.zeros((8, 2, 8))
    transition[agent == 0] = (agent == 1) / 4
    transition[agent == 1] = (agent == 0) / 4
    paid = np.stack([1.0 * fields[:, 1], 0.7 - 0.2 * fields[:, 1]], axis=1)
    model = TabularModel(
        reward_rate=paid, agent=agent, interface=interface, gamma=0.8, transition=transition,
        duration=np.ones((8, 2, 1)), fields=fields, visible=visible, field_name=np.array(["turn", "fact", "noise"]),
    )  # fmt: skip
    return model, fields


def test_fields_are_shown_and_hidden_one_by_one() -> None:
    """Agent 0 lacks the fact; the noise is worth nothing to anybody, nor is the turn, and all of that may be hidden."""
    model, _ = with_fields()
    showing = Showing.on(model)
    assert showing.candidates() == [Candidate(0, 1)]
    (first,) = showing.order()
    assert first.shown == (Candidate(0, 1),) and first.interfaces_added == 2
    # Without the fact agent 0 chooses option 1: 0.5 below the best where the fact is 1, at every second of its turns.
    value = 0.5 + 0.5 * 0.5 * 0.64 / (1 - 0.64)
    assert showing.show().policy_loss == pytest.approx(value, rel=1e-9) and first.policy_loss == pytest.approx(0)
    assert showing.hideable() == [Candidate(0, 0), Candidate(0, 2), Candidate(1, 0), Candidate(1, 2)]


def test_whoever_is_shown_everything_needs_no_more() -> None:
    """All states of all agents shown: the oracle's own policy, whatever the model and its behaviour."""
    model = golden("episodic_masks")
    law = golden_analysis("episodic_masks").interface.chain.behaviour
    skewed = law * np.random.default_rng(0).uniform(0.5, 1.5, law.shape)
    skewed /= np.maximum(skewed.sum(axis=1, keepdims=True), 1e-300)
    skewed = np.where(law.sum(axis=1, keepdims=True) > 0, skewed, 0)
    showing = Showing.on(model, skewed)
    everything = showing.show(*showing.candidates())
    assert everything.policy_loss == pytest.approx(0, abs=1e-9)
    assert everything.interface_gap == pytest.approx(0, abs=1e-9)
    assert (
        everything.interfaces_added
        == showing.base.decision_pairs.any(axis=1).sum() - showing.base.mask.any(axis=1).sum()
    )
    assert isinstance(showing.show(), Shown) and showing.show().policy_loss == pytest.approx(
        analyse(model, skewed).gap.policy_loss, abs=1e-12
    )
    with pytest.raises(ValueError, match="field = 0: expected a number below 0"):
        showing.show(Candidate(0, 0))
