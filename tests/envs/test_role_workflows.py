"""The workflows of roles: contract, plain-Python twin, exact model, published numbers."""

from __future__ import annotations

import copy
import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.core.checks import check_environment
from icsmdp_jax.envs import role_workflows
from icsmdp_jax.envs.finite import TabularState
from icsmdp_jax.envs.role_workflows import (
    Branch,
    EvalOpt,
    Settings,
    listed,
    worth,
)
from icsmdp_jax.envs.role_workflows.model import listing_of
from icsmdp_jax.envs.role_workflows.published import ACCURACY, DRAFT_BLOCKS, prompts, solves
from icsmdp_jax.exact.returns import Returns, greedy, random_policy
from tests.helpers import chi_square, exact_model
from tests.reference import role_workflows as twin

MAKERS = {
    "eval-opt": role_workflows.eval_opt,
    "voting": role_workflows.voting,
    "orch-workers": role_workflows.orch_workers,
}
CASES = [(name, ()) for name in MAKERS] + [(name, ("parallel",)) for name in ("voting", "orch-workers")]
GAMMA, COST = 0.99, 0.005


@cache
def made(name: str, extra: tuple = (), reward: str = "outcome"):  # type: ignore[no-untyped-def]
    return MAKERS[name](**dict.fromkeys(extra, True), reward=reward)


@cache
def numbering(name: str, extra: tuple = ()):  # type: ignore[no-untyped-def]
    """Every situation of the twin that can come about: ``{what was done and came about: (episode, probability)}``."""
    found = {}
    for kind in (twin.CONTEST, twin.TEXTBOOK):
        for hard in (False, True):
            found[kind, hard] = twin.WORKFLOWS[name](kind, hard, *[True for _ in extra])
    return found


def follow(name: str, extra: tuple, rng: np.random.Generator, reward: str):  # type: ignore[no-untyped-def]
    """One random walk in the listing and in the twin at once; every handoff compared, laws included."""
    env, _ = made(name, extra, reward)
    listing = listing_of(env.rules)
    model = exact_model(made(name, extra, reward))
    s = int(rng.choice(len(listing.start), p=listing.start))
    kind, hard = ("contest", "textbook")[listing.states[s][1]], bool(listing.states[s][2])
    game = copy.deepcopy(numbering(name, extra)[kind, hard])
    seen = []
    while not listing.is_end[s]:
        assert listing.agent[s] == game.who()
        z = listing.interface[s]
        seen.append((z, (game.who(), game.sees())))
        options = np.flatnonzero(listing.available[z])
        assert options.tolist() == game.may()
        o = int(rng.choice(options))
        blocks = game.blocks(o)
        assert (listing.least[s, o], listing.most[s, o]) == (min(blocks), max(blocks))
        tau = np.arange(1, listing.durations().shape[-1] + 1)
        np.testing.assert_allclose(listing.durations()[s, o], np.isin(tau, blocks) / len(blocks), atol=1e-15)
        law = game.law(o)
        assert sum(law.values()) == 1
        # what the twin's events lead to, told apart by the successor's own description
        paid, total = 0.0, {}
        for event, probability in law.items():
            after = copy.deepcopy(game)
            own = after.do(o, event)
            pays = own if reward == "role" else after.over is True
            paid += float(probability) * np.mean([twin.segment(pays, t, GAMMA, COST) for t in blocks])
            key = ("over", after.over) if after.over is not None else (after.who(), after.sees())
            total[key] = total.get(key, 0) + float(probability)
        annuity = np.mean([(1 - GAMMA**t) / (1 - GAMMA) for t in blocks])
        assert model.reward_rate[s, o] * annuity == pytest.approx(paid, abs=1e-12)
        ours: dict = {}
        for probability, successor in zip(listing.probability[s, o], listing.successor[s, o], strict=True):
            if probability > 0:
                end = bool(listing.is_end[successor])
                key = ("over", bool(listing.right[successor])) if end else listing.interface[successor]
                ours[key] = ours.get(key, 0) + probability
        assert sorted(ours.values()) == pytest.approx(sorted(v for v in total.values() if v > 0), abs=1e-12)
        # follow one event in both
        events = [event for event, probability in law.items() if probability > 0]
        event = events[rng.integers(len(events))]
        game.do(o, event)
        s = successor_of(listing, s, o, game)
    assert bool(listing.right[s]) == game.over
    return seen


def successor_of(listing, s: int, o: int, game) -> int:  # type: ignore[no-untyped-def]
    """The listed successor that is the twin's situation."""
    for successor, probability in zip(listing.successor[s, o], listing.probability[s, o], strict=True):
        if probability > 0 and describe(listing.states[successor]) == situation(game):
            return int(successor)
    raise AssertionError(f"{situation(game)} is not among the successors of {listing.states[s]}")


def describe(state: tuple) -> tuple:
    """A listed state in words that the twin also knows."""
    if state[0] == "end":
        return ("over", state[1])
    if state[0] in ("draft", "review"):
        return state[3:] if state[0] == "draft" else (*state[3:4], bool(state[4]), bool(state[5]))
    if state[0] in ("plan",):
        return ("plan",)
    if state[0] in ("vote", "count", "work", "join"):
        return tuple(state[3])
    outline, parts = state[3:]
    return (bool(outline.fits), bool(outline.passed), *parts)


def situation(game) -> tuple:  # type: ignore[no-untyped-def]
    """The twin's situation in the same words."""
    if game.over is not None:
        return ("over", game.over)
    if isinstance(game, twin.EvalOpt):
        feedback, right, passed = game.drafts[-1]
        if game.reviewing:
            return (len(game.drafts), right, passed)
        return (len(game.drafts), ("none", "note", "detailed").index(feedback))
    pieces = game.answers if isinstance(game, twin.Voting) else game.pieces
    if isinstance(game, twin.OrchWorkers):
        if game.outline is None:
            return ("plan",)
        if game.outline != ("whole",):
            wrong = sum(not right for right, _ in pieces)
            return (*game.outline, len(pieces), min(wrong, 2), sum(c for _, c in pieces))
    names = [answer for answer, _ in pieces]
    return (names.count("right"), names.count("common"), names.count("other"), sum(c for _, c in pieces))


@pytest.mark.parametrize(
    ("name", "extra", "reward"), [(*case, "outcome") for case in CASES] + [(*CASES[0], "role"), (*CASES[2], "role")]
)
def test_listing_against_the_twin(name: str, extra: tuple, reward: str) -> None:
    """Random walks: who acts, masks, blocks, laws, mean rewards; views are told apart as the twin tells them."""
    rng = np.random.default_rng(5)
    seen = [pair for _ in range(30) for pair in follow(name, extra, rng, reward)]
    by_number: dict = {}
    for z, view in seen:
        by_number.setdefault(z, set()).add(view)
    assert all(len(views) == 1 for views in by_number.values())
    assert len({view for views in by_number.values() for view in views}) == len(by_number) > 8


# Rewards differ in what pays only, parallel views only in numbers; so not every combination is compiled.
FEW = [("eval-opt", (), "role"), ("voting", ("parallel",), "outcome"), ("orch-workers", (), "outcome")]


@pytest.mark.parametrize(
    ("name", "extra", "reward"), [FEW[0], *(pytest.param(*f, marks=pytest.mark.slow) for f in FEW[1:])]
)
def test_contract(name: str, extra: tuple, reward: str) -> None:
    env, params = made(name, extra, reward)
    seen = check_environment(env, params, jax.random.key(3))
    assert seen.agents == len(env.rules.agents) and seen.terminated > 100 and seen.truncated == 0
    assert seen.longest == env.longest_duration == 8


@pytest.mark.parametrize(("name", "extra", "reward"), FEW)
def test_the_environment_is_the_model(name: str, extra: tuple, reward: str) -> None:
    """Successor, duration and pay of single steps from random states: chi-square against the listing.

    21 tests at a level of 1e-5: a false alarm for one in 5000 keys; the key is fixed.
    """
    env, params = made(name, extra, reward)
    listing = listing_of(env.rules)
    rng = np.random.default_rng(1)
    rows = np.argwhere(listing.probability.sum(axis=-1) > 0)
    used = listing.probability > 0
    last = np.argwhere((listing.is_end[listing.successor] | ~used).all(axis=-1) & used.any(axis=-1))
    words = jax.random.bits(jax.random.key(7), (4096, 2), jnp.uint32)

    @jax.jit
    def both(words, s, o):  # type: ignore[no-untyped-def]
        def one(word):  # type: ignore[no-untyped-def]
            state = TabularState(s)
            return env.segment(word, state, o, params), env.step_from_words(word, state, o, params)

        return jax.vmap(one)(words)

    fresh = np.zeros(len(listing.start))
    for s, o in [*rows[rng.choice(len(rows), 4, replace=False)], *last[rng.choice(len(last), 2, replace=False)]]:
        plain, (handoff, state) = jax.tree.map(np.asarray, both(words, s, o))
        entered, (paid, tau, discount, done, _) = plain
        pays = paid > -0.9 * COST * tau  # it pays 1, or only costs
        wanted = {(p, t): twin.segment(p, t, GAMMA, COST) for p in (False, True) for t in range(1, 9)}
        np.testing.assert_allclose(paid, [wanted[bool(p), int(t)] for p, t in zip(pays, tau, strict=True)], atol=1e-6)
        np.testing.assert_allclose(discount, np.where(done, 0, GAMMA**tau), rtol=1e-6)
        law = np.zeros((len(listing.states), 2, 8))
        for w, probability in enumerate(listing.probability[s, o]):
            law[listing.successor[s, o, w], int(listing.pays[s, o, w])] += probability * listing.durations()[s, o]
        counts = np.zeros_like(law)
        np.add.at(counts, (entered, pays.astype(int), tau - 1), 1)
        assert chi_square(counts, law) > 1e-5
        np.testing.assert_array_equal(handoff.terminated, listing.is_end[entered])
        np.testing.assert_array_equal(handoff.final_interface, listing.interface[entered])
        np.testing.assert_array_equal(handoff.final_agent, listing.agent[entered])
        np.testing.assert_array_equal(handoff.interface, listing.interface[state.index])
        np.testing.assert_array_equal(state.index[~done], entered[~done])
        np.add.at(fresh, state.index[done], 1)
    assert fresh.sum() > 4096 and chi_square(fresh, listing.start) > 1e-5


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_worth_is_the_exact_return(name: str, extra: tuple) -> None:
    env, params = made(name, extra)
    model = env.exact_model(params)
    returns = Returns(model)
    greedy_policy = np.eye(3)[greedy(returns.q_phi.q, model.option_mask)]
    policies = np.stack([random_policy(model), greedy_policy * model.option_mask])
    found = worth(env, params, policies)
    assert found.value == pytest.approx([returns.of(p) for p in policies], abs=1e-12)
    assert ((0 < found.accuracy) & (found.accuracy < 1)).all()
    free = made_with(name, extra, cost=0.0, gamma=1 - 1e-9)
    limit = Returns(exact_model(free))
    assert found.accuracy == pytest.approx([limit.of(p) for p in policies], abs=1e-6)
    dear = made_with(name, extra, cost=1.0, gamma=1 - 1e-9)
    assert found.blocks == pytest.approx(
        [a - Returns(exact_model(dear)).of(p) for a, p in zip(found.accuracy, policies, strict=True)], rel=1e-6
    )


def made_with(name: str, extra: tuple, **settings: float):  # type: ignore[no-untyped-def]
    return MAKERS[name](**dict.fromkeys(extra, True), **settings)


@pytest.mark.parametrize("name", MAKERS)
def test_credit_over_handoffs_matters(name: str) -> None:
    """Looking at immediate pay only is worth less than a third of what messages reach, which is below the oracle."""
    returns = Returns(exact_model(made(name)))
    scaled = [float(returns.normalised(x)) for x in (returns.greedy_immediate, returns.interface_optimum)]
    assert scaled[0] < scaled[1] / 3 and 0.5 < scaled[1] < 1


@pytest.mark.parametrize("name", ["voting", "orch-workers"])
def test_agents_that_see_nothing_of_one_another_pass_on_no_credit(name: str) -> None:
    """In parallel the first generators' work is in nobody's view, so Q_phi knows its price alone."""
    env, params = made(name, ("parallel",))
    model = env.exact_model(params)
    listing = listing_of(env.rules)
    q_phi = Returns(model).q_phi.q
    first = listing.views.index((0 if name == "voting" else 1, (0,) if name == "voting" else (0, "whole")))
    s = int(np.flatnonzero(listing.interface == first)[0])
    discount = listing.durations() @ GAMMA ** np.arange(1, 9)
    onward = {
        round((q_phi[first, o] + COST * (1 - discount[s, o]) / (1 - GAMMA)) / discount[s, o], 9) for o in range(3)
    }
    assert len(onward) == 1
    assert Returns(model).interface_optimum < Returns(exact_model(made(name))).interface_optimum


def test_published_accuracies() -> None:
    """Mean over hidden difficulty is the published number, whatever the spread; harder is never easier."""
    for spread in (0.0, 0.3, 1.0):
        for effort, model in enumerate(("Qwen-Coder-7B", "DS-Qwen-7B", "Qwen3-8B")):
            for kind in (0, 1):
                easy, hard = (solves(kind, effort, h, spread) for h in (0, 1))
                assert (easy + hard) / 2 == pytest.approx(ACCURACY[model][kind] / 100, abs=1e-15)
                assert 0 <= hard <= easy <= 1 and (spread == 0) == (easy == hard)
    assert sum(p for p, _, _ in prompts(Settings(contest=0.2))) == pytest.approx(1)
    assert [most - least for least, most in DRAFT_BLOCKS] == [0, 2, 4]


def test_one_word_per_draw_and_pure_rules() -> None:
    env, params = made("voting")
    assert env.words_per_step == 2 and hash(env) == hash(dataclasses.replace(env))
    first, state = env.reset(jax.random.key(0), params)
    view = env.global_view(state, params)
    assert view.sum() == 1 and view[state.index] == 1 and view.dtype == jnp.float32
    assert env.interface_features(params).shape == (env.num_interfaces, len(env.rules.feature_names))
    assert not env.interface_features(params)[-1].any()


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_features_tell_an_agents_views_apart(name: str, extra: tuple) -> None:
    """One agent's interfaces never share a description; generators that work in parallel all share theirs."""
    env, params = made(name, extra)
    listing = listing_of(env.rules)
    rows = [(agent, *row) for (agent, _), row in zip(listing.views, listing.features.tolist(), strict=False)]
    assert len(set(rows)) == len(rows)
    if extra:
        parallel = {tuple(r[1:]) for r in rows if env.rules.agents[r[0]][-1] in "123"}
        assert len(parallel) == len([r for r in rows if env.rules.agents[r[0]][-1] == "1"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"gamma": 1.0}, "gamma = 1.0: expected a number between 0 and 1"),
        ({"cost": -1.0}, "cost = -1.0: expected 0 or more"),
        ({"cost": float("nan")}, "cost = nan: expected"),
        ({"contest": 1.5}, "contest = 1.5: expected a number from 0 to 1"),
        ({"spread": float("nan")}, "spread = nan: expected a number from 0 to 1"),
        ({"reward": "team"}, "reward = 'team': expected one of outcome, role"),
    ],
)
def test_settings_that_make_no_sense(overrides: dict, message: str) -> None:
    for maker in MAKERS.values():
        with pytest.raises(ValueError, match=message) as caught:
            maker(**overrides)
        assert "\n" not in str(caught.value)


def test_one_class_of_prompts_only() -> None:
    """A share of 0 or 1 leaves fewer first states and no impossible draw."""
    for share in (0.0, 1.0):
        env, params = role_workflows.eval_opt(contest=share)
        keys = jax.random.split(jax.random.key(0), 256)
        index = np.asarray(jax.jit(jax.vmap(env.reset, (0, None)))(keys, params)[1].index)
        assert set(index) == set(np.flatnonzero(listing_of(env.rules).start)) and len(set(index)) == 2


class _Leaky(EvalOpt):
    def available(self, state: tuple) -> tuple[int, ...]:
        return (0,) if state[0] == "draft" and state[2] == 1 else super().available(state)


class _Short(EvalOpt):
    def branches(self, state: tuple, option: int) -> list[Branch]:
        return super().branches(state, option)[:1]


def test_rules_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="available: .* expected the same wherever it is seen"):
        listed(_Leaky())
    with pytest.raises(ValueError, match="branches.* sum to 0.*: expected 1"):
        listed(_Short())
