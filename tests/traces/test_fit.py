"""A fit: the model is its counts, values are those of brute force, and nothing is chosen on hearsay."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.exact.solve import evaluate_policy
from icsmdp_jax.models.tabular import TabularModel
from icsmdp_jax.traces.cooperation import simulated
from icsmdp_jax.traces.empirical import empirical
from icsmdp_jax.traces.encode import END
from icsmdp_jax.traces.evaluation import importance_ratio, weighed
from icsmdp_jax.traces.fit import Fit, fit
from icsmdp_jax.traces.log import Log, read_log
from icsmdp_jax.traces.outputs import policy
from icsmdp_jax.traces.record import record, recorded_config
from icsmdp_jax.traces.resampling import Resampler
from tests.traces.logs import config, desk, handoff, write


def small() -> TabularModel:
    """Two agents, one hidden bit, runs that end."""
    rng = np.random.default_rng(3)
    transition = rng.dirichlet(np.ones(5), size=(5, 2))
    transition[4] = 0.0
    return TabularModel(
        transition=transition, duration=np.tile([0.5, 0.3, 0.2], (5, 2, 1)), reward_rate=rng.normal(size=(5, 2)),
        reward_noise=0.2, agent=[0, 0, 1, 1, 0], interface=[0, 0, 1, 2, 3], gamma=0.9,
        start=[0.4, 0.3, 0.3, 0.0, 0.0], terminal=[False] * 4 + [True],
    )  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    path = tmp_path_factory.mktemp("logs") / "log.jsonl"
    record(path, small(), 400, longest=6, seed=1)
    return fit(read_log(path, recorded_config(small(), resamples=20)))


def test_the_model_is_its_counts(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "log.jsonl", desk(60)), config())
    found = empirical(log)
    model = found.model()
    assert model.kernel is not None and (~found.borrowed).all()
    for s, o in zip(found.pair_state, found.pair_option, strict=True):
        lines = [n for n in np.flatnonzero(log.known) if found.state[n] == s and log.option[n] == o]
        for tau, following in itertools.product(range(1, model.longest_duration + 1), range(model.num_states)):
            ends = [len(found.interface) if log.follows[n] == END else found.state[log.follows[n]] for n in lines]
            hits = sum(log.tau[n] == tau and end == following for n, end in zip(lines, ends, strict=True))
            assert model.kernel[s, o, tau - 1, following] == pytest.approx(Fraction(hits, len(lines)), abs=1e-15)
    known = analyse(model, found.behaviour())
    mean = np.bincount(found.state[log.known], (log.rate + log.lump)[log.known]) / np.bincount(found.state[log.known])
    one = [s for s in range(found.num_states) if found.taken[found.interface[s]].sum() == 1]
    np.testing.assert_allclose(known.interface.moments.reward_mean[one].sum(axis=1), mean[one], rtol=1e-12)
    first = [found.state[n] for n in range(len(log.run)) if log.step[n] == 0]
    np.testing.assert_allclose(found.start()[:-1], np.bincount(first, minlength=found.num_states) / 60, rtol=1e-14)


def test_a_law_is_borrowed_where_an_option_was_not_taken(tmp_path: Path) -> None:
    # The expert sees topic and load; angry is hidden from it. "pass" was taken in one of the two states only.
    def run(name: str, angry: bool, option: str, outcome: float) -> dict:
        hidden = {"angry": angry, "load": 0.1}
        return handoff(name, 0, "expert", None, hidden=hidden, option=option, reward={"outcome": outcome})

    lines = [run("a", False, "solve", 1.0), run("b", True, "solve", 3.0), run("c", True, "pass", 5.0)]
    found = empirical(read_log(write(tmp_path / "log.jsonl", lines), config()))
    assert found.borrowed.tolist() == [True, False, False, False]  # not angry, "pass"
    assert found.visits().tolist() == [[1.0, 2.0]]
    model = found.model()
    means = analyse(model, found.behaviour()).interface.moments.reward_mean[:2]
    np.testing.assert_allclose(means, 0.9**2 * np.array([[5.0, 1.0], [5.0, 3.0]]), rtol=1e-12)


def returns(log: Log, ratio: np.ndarray, value: np.ndarray, q: np.ndarray, state: np.ndarray) -> list[tuple]:
    """Importance sampling and its doubly robust form by the formulas, run by run."""
    out = []
    for run in range(log.num_runs):
        lines = np.flatnonzero(log.run == run)
        discount, weight, sampled, robust = 1.0, 1.0, 0.0, value[state[lines[0]]]
        for n in lines:
            if not log.known[n]:
                sampled += weight * discount * value[state[n]]
                break
            weight *= ratio[n]
            ahead = 0.0 if log.follows[n] == END else value[state[log.follows[n]]]
            paid, carried = log.rate[n] + log.lump[n], 0.9 ** log.tau[n]
            sampled += discount * weight * paid
            robust += discount * weight * (paid + carried * ahead - q[n])
            discount *= carried
        out.append((sampled, robust))
    return out


def test_importance_sampling_is_that_of_brute_force(recorded: Fit) -> None:
    found = recorded.found
    log, rng = found.log, np.random.default_rng(0)
    assert not log.known.all()  # some runs are cut off
    ratio = importance_ratio(found, recorded.policy)
    mine = recorded.policy[found.interface[found.state], log.option] / 0.5
    np.testing.assert_allclose(ratio, mine, rtol=1e-15)
    value, pairs = rng.normal(size=found.num_states), rng.normal(size=len(found.pair_state))
    q = np.array([pairs[found.number[s, o]] for s, o in zip(found.state, log.option, strict=True)])
    got = weighed(found, ratio, fewest=0.0)
    expected = np.array(returns(log, ratio, value, q, found.state))
    each = np.eye(log.num_runs)
    np.testing.assert_allclose(got.sampled(each, value[None]), expected[:, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got.robust(each, value[None], pairs[None]), expected[:, 1], rtol=1e-12, atol=1e-12)
    short = weighed(found, ratio, fewest=60.0)
    assert 0 < short.handoffs < got.handoffs


def test_resampled_models_are_those_of_the_exact_analysis(recorded: Fit) -> None:
    found, z = recorded.found, recorded.found.num_interfaces
    weights = np.random.default_rng(1).integers(0, 4, found.log.num_runs) + 1e-3
    solver = Resampler(found).solver(np.stack([found.weights, weights]))
    q = solver.interface_values(recorded.offline.choice).q_phi
    for row, some in enumerate((None, weights)):
        known = analyse(found.model(some), found.behaviour(some))
        np.testing.assert_allclose(q[row], known.q_phi.q[:z], rtol=1e-9)
        options = np.append(recorded.offline.choice, 0)[known.interface.model.interface]
        moments = known.interface.moments
        value = evaluate_policy(moments.reward_mean, moments.discounted, options, ~moments.terminal)
        new = solver.policy_value(solver.on_pairs(recorded.policy))
        np.testing.assert_allclose(new[row], found.start(some) @ value, rtol=1e-9)


def test_long_logs_are_resampled_in_groups_of_runs(recorded: Fit) -> None:
    with mock.patch("icsmdp_jax.traces.empirical.MOST_UNITS", 30):
        grouped = fit(recorded.found.log)
    assert grouped.found.num_units == 30 < recorded.found.num_units == 400
    for one, other in zip(grouped.value[:6], recorded.value[:6], strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-9)
        assert 0.5 < (one.high - one.low) / (other.high - other.low) < 2


def test_rare_options_are_not_chosen_on_hearsay(tmp_path: Path) -> None:
    def run(index: int, option: str, outcome: float) -> dict:
        return handoff(
            f"r{index}", 0, "triage", None, option=option, reward={"outcome": outcome}, seen={"topic": "bug"}
        )

    rng = np.random.default_rng(0)
    lines = [run(k, "solve", 1 + 0.1 * rng.normal()) for k in range(50)] + [run(90, "pass", 100.0)]
    path = write(tmp_path / "log.jsonl", lines)
    one = fit(read_log(path, config()))
    option = one.found.log.option_name.index
    assert one.offline.choice.tolist() == [option("solve")] and not one.offline.support.supported[0, option("pass")]
    assert (
        one.content["untried"] == [{"interface": "triage: topic bug", "option": "pass", "segments": 1, "of": 51}]
        and one.content["changes"] == []
    )
    # Supported, but so noisy that a better mean is no reason.
    noisy = [run(100 + k, "pass", 1.2 + 40 * (-1) ** k) for k in range(20)]
    one = fit(read_log(write(path, lines[:50] + noisy), config()))
    assert one.offline.support.supported.all() and one.offline.choice.tolist() == [option("solve")]
    assert one.known.q_phi.q[0, option("pass")] > one.known.q_phi.q[0, option("solve")]
    careless = fit(read_log(path, config(fit={"caution": 0.0, "support": 2, "resamples": 20})))
    assert careless.offline.choice.tolist() == [option("pass")]


def test_lower_values_solve_their_equation(recorded: Fit) -> None:
    found, offline, interface = recorded.found, recorded.offline, recorded.known.interface
    z = found.num_interfaces
    lower = np.where(np.isfinite(offline.lower), offline.lower, -np.inf)
    ahead = np.append(lower.max(axis=1), 0.0)
    discounted = np.asarray(interface.discounted).reshape(z + 1, 2, z + 1)
    backup = interface.reward[:z] - offline.support.error + discounted[:z] @ ahead
    np.testing.assert_allclose(lower, backup, atol=1e-9)
    known = np.flatnonzero(found.log.known)
    at = (found.interface[found.state[known]] == 1) & (found.log.option[known] == 0)
    by_run = np.bincount(found.log.run[known][at])
    assert offline.support.effective[1, 0] == pytest.approx(by_run.sum() ** 2 / (by_run**2).sum())


def test_the_policy_of_the_runtime_is_that_of_the_fit(recorded: Fit) -> None:
    found, written = recorded.found, policy(recorded)
    for z, name in enumerate(found.interface_names):
        line = found.leader[np.searchsorted(found.interface, z)]
        agent = written.agent(found.log.agent_name[found.log.agent[line]])
        facts = {"interface": found.log.values[0][found.log.fields[line, 0] - 1]}
        row = agent.interfaces.tolist().index(agent.number_of(facts))
        assert agent.interface_names[row] == name
        values = np.where(agent.available[row], agent.params["q"][row], -np.inf)
        assert values.argmax() == recorded.offline.choice[z]


def hidden_difficulty() -> TabularModel:
    """One agent tries again and again; a hidden difficulty that lasts decides whether that helps, asking does not."""
    transition = np.zeros((3, 2, 3))
    transition[0, 0], transition[1, 0] = [0.1, 0.0, 0.9], [0.0, 0.95, 0.05]
    transition[:2, 1, 2] = 1.0
    lump = np.zeros((3, 2, 3))
    lump[:, 0, 2], lump[:, 1, 2] = 1.0, 0.45
    return TabularModel(
        transition=transition, duration=np.ones((3, 2, 1)), reward_rate=np.zeros((3, 2)), lump_reward_next=lump,
        agent=[0, 0, 0], interface=[0, 0, 1], gamma=0.9, start=[0.5, 0.5, 0.0], terminal=[False, False, True],
    )  # fmt: skip


def test_a_hidden_field_shows_as_disagreement(tmp_path: Path) -> None:
    model = hidden_difficulty()
    behaviour = np.array([[0.7, 0.3], [0.5, 0.5]])
    path = tmp_path / "log.jsonl"
    record(path, model, 3000, behaviour, seed=2)
    full = fit(read_log(path, recorded_config(model, resamples=20)))
    assert not full.value.disagree and "agree within" in full.content["sentence"]
    blind = fit(read_log(path, recorded_config(model, resamples=20, fields={"interface": None})))
    assert blind.found.num_states == 1 and blind.offline.choice.tolist() == full.offline.choice.tolist()
    assert blind.value.disagree and blind.content["sentence"].startswith("The model is wrong")
    # Always trying is worth V = p + 0.9 q V to those who finish with p and stay with q.
    truth = 0.5 * 0.9 / (1 - 0.9 * 0.1) + 0.5 * 0.05 / (1 - 0.9 * 0.95)
    assert full.offline.choice.tolist() == [0]
    for estimate in (full.value.model, full.value.sampled, full.value.robust, blind.value.sampled):
        assert estimate.low <= truth <= estimate.high
    assert blind.value.model.low - truth > 0.1 > 2 * abs(blind.value.robust.value - truth)


def test_wrong_probabilities_are_noticed(tmp_path: Path) -> None:
    done = fit(read_log(write(tmp_path / "log.jsonl", desk(40)), config()))  # always the same option, logged as 0.5
    assert not done.value.probabilities_fit and done.content["sentence"].startswith("The probabilities in the log")


def test_cooperation_is_that_of_the_lines(recorded: Fit) -> None:
    log, told = recorded.found.log, recorded.content["cooperation"]
    known = np.flatnonzero(log.known)
    assert told["runs"] == log.num_runs and sum(row["total"] for row in told["graph"]) == len(known)
    names = [*log.agent_name, "end"]
    for row in told["graph"]:
        mine = [
            n for n in known if log.agent_name[log.agent[n]] == row["from"]
            and names[-1 if log.follows[n] == END else log.agent[log.follows[n]]] == row["to"]
        ]  # fmt: skip
        assert sum(row["count"]) == row["total"] == len(mine)
        time = sum(d * c for d, c in zip(row["duration"], row["count"], strict=True) if c)
        assert time == pytest.approx(log.tau[mine].sum())
    won = [n for n in range(log.num_runs) if (log.follows[log.known & (log.run == n)] == END).any()
           and (log.rate + log.lump)[log.run == n].sum() > 0]  # fmt: skip
    assert told["solved"] == pytest.approx(len(won) / log.num_runs)
    assert told["found"] == []  # nothing is hidden that would make a chain of two agents look back


def test_simulated_runs_are_those_of_the_model() -> None:
    model = small()
    q = np.arange(8.0).reshape(4, 2)
    h = simulated(model, q, np.tile([0.25, 0.75], (4, 1)), runs=4000, longest=20)
    assert model.transition is not None
    for z, agent in ((1, 1), (2, 1)):  # one state each
        state = int(np.flatnonzero(model.interface == z)[0])
        rows = (h.seen == z) & (h.option == 1)
        assert (h.agent[rows] == agent).all()
        ended = (h.follower[rows] == END).mean()
        assert ended == pytest.approx(model.transition[state, 1, 4], abs=0.03)
        assert h.duration[rows].mean() == pytest.approx(1.7, abs=0.05)
        to = model.transition[state, :, :4] @ np.eye(2)[model.agent[:4]]
        agent = to[1].argmax()  # to which option 1, the better one, leads
        if h.preferred[rows][0] >= 0:
            assert (h.preferred[rows] == agent).all() and h.chance[rows] == pytest.approx(to[:, agent].mean())
    inside = np.flatnonzero((h.follower >= 0) & (np.diff(h.run, append=-1) == 0))
    assert (h.agent[inside + 1] == h.follower[inside]).all() and (h.run[inside + 1] == h.run[inside]).all()
    assert h.offered[inside] == pytest.approx(2.0 * h.seen[inside + 1] + 1)
