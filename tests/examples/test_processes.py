"""IC-Q with one process per agent: the numbers of the vectorised learner, four bytes per handoff, nothing else.

Nothing here is random beyond the recorded trajectories. A process that is killed or stopped is one of the test's own.
"""

from __future__ import annotations

import os
import re
import runpy
import signal
import time
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples.processes.environment import (
    ARRIVAL,
    AgentProcesses,
    ProcessError,
    ProcessRun,
    Shapes,
    Trajectory,
    run_processes,
)
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.learner import networks, schedules
from icsmdp_jax.learner.icq import Learner
from tests.helpers import golden, golden_analysis, learner_inputs

CLOSE = 2e-6  # times the scale of Q: float32 rounding over a few hundred updates; a wrong step is off by 1e-2 and more
CONTINUING, EPISODIC = "plain", "episodic_masks"
SIZES = {"visits": schedules.polynomial(0.7, 0.5, 2.0, 0.9), "epoch": schedules.polynomial(0.3, 0.1)}


class Record(NamedTuple):
    """A run of the vectorised learner: its handoffs, the parameters before each, and the last ones."""

    trajectory: Trajectory
    before: np.ndarray
    last: np.ndarray


def feature_table(model: str) -> np.ndarray:
    """``[Z, 3]`` float32 rows of norm 1, all different."""
    rows = np.random.default_rng(5).normal(size=(golden(model).num_interfaces, 3))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@cache
def record(model: str, kind: str, clock: str, handoffs: int = 400) -> Record:
    """Scans ``Learner.step`` from random first parameters and keeps what happened."""
    arrays = golden(model)
    env, params = tabular_env(arrays)
    if kind == "tabular":
        learner, data = Learner(env, networks.tabular(arrays.num_interfaces, arrays.num_options), clock), None
    else:
        learner = Learner(env, networks.linear(arrays.num_agents, arrays.num_options), clock)
        data = feature_table(model)
    behaviour = golden_analysis(model).interface.chain.behaviour
    inputs = jax.tree.map(jnp.asarray, learner_inputs(params, behaviour, SIZES[clock], data))
    state = jax.jit(learner.init)(jax.random.key(0), inputs)
    first = 3 * np.random.default_rng(1).normal(size=state.params.shape)
    state = state._replace(params=first.astype(np.float32))

    def body(state, words):
        option = learner.act(words[env.words_per_step :], state, inputs)
        new, _ = learner.step(words, state, inputs)
        now, then = state.handoff, new.handoff
        ended = (then.final_agent, then.final_interface, then.final_mask)
        row = Trajectory(now.agent, now.interface, option, then.reward, then.discount, *ended)
        return new, (row, state.params)

    words = jax.random.bits(jax.random.key(2), (handoffs, learner.words_per_step), jnp.uint32)
    last, (rows, before) = jax.jit(lambda state: jax.lax.scan(body, state, words))(state)
    return Record(Trajectory(*map(np.asarray, rows)), np.asarray(before), np.asarray(last.params))


def table(model: str, kind: str, parameters: np.ndarray) -> np.ndarray:
    """``[Z, O]`` float64 values of stacked parameters, each row from its owner's; NaN where nobody decides."""
    owner = golden(model).interface_agent
    if kind == "tabular":
        values = parameters.astype(float)
    else:
        values = np.einsum("zop,zp->zo", parameters[owner].astype(float), feature_table(model).astype(float))
    return np.where(owner[:, None] >= 0, values, np.nan)


@cache
def replay(model: str, kind: str, clock: str) -> ProcessRun:
    found, arrays = record(model, kind, clock), golden(model)
    return run_processes(
        found.trajectory,
        arrays.num_agents,
        arrays.num_options,
        arrays.interface_agent,
        SIZES[clock],
        clock,
        feature_table(model) if kind == "linear" else None,
        found.before[0],
    )


def offered(model: str, kind: str, clock: str) -> np.ndarray:
    """``[K]`` scalars that the vectorised learner's receivers offer, 0 at terminal handoffs."""
    found = record(model, kind, clock)
    path, out = found.trajectory, []
    for k, parameters in enumerate(found.before):
        values = table(model, kind, parameters)[path.final_interface[k]]
        out.append(0.0 if path.terminal[k] else values[path.final_mask[k]].max())
    return np.array(out)


CASES = [
    (CONTINUING, "tabular", "epoch"),
    (EPISODIC, "linear", "visits"),
]
each_case = pytest.mark.parametrize(("model", "kind", "clock"), CASES)


def test_trajectories_show_every_case() -> None:
    """Every agent acts and is handed to, by itself and by others; the episodic model masks and ends."""
    for model, kind, clock in CASES:
        path = record(model, kind, clock).trajectory
        going = ~path.terminal
        pairs = set(zip(path.agent[going].tolist(), path.final_agent[going].tolist(), strict=True))
        assert len(pairs) == golden(model).num_agents ** 2 == 9
        assert path.terminal.any() == (model == EPISODIC)
        assert (~path.final_mask[going]).any() == (model == EPISODIC)


@each_case
def test_values_are_those_of_the_vectorised_learner(model: str, kind: str, clock: str) -> None:
    found = record(model, kind, clock)
    wanted, first = table(model, kind, found.last), table(model, kind, found.before[0])
    scale = 1 + np.nanmax(np.abs(wanted))
    run = replay(model, kind, clock)
    assert run.q.dtype == np.float32
    np.testing.assert_allclose(run.q, wanted, rtol=0, atol=CLOSE * scale)
    assert np.nanmax(np.abs(wanted - first)) > 0.5  # something was learned


@each_case
def test_one_scalar_of_four_bytes_per_handoff(model: str, kind: str, clock: str) -> None:
    run, path = replay(model, kind, clock), record(model, kind, clock).trajectory
    ends = int(path.terminal.sum())
    assert run.handoffs == 400 and (ends > 10) == (model == EPISODIC)
    assert run.scalars == run.handoffs - ends
    assert run.bytes == 4 * run.scalars == sum(report.bytes_in for report in run.agents)
    wanted = np.zeros((3, 3), int)
    going = ~path.terminal
    np.add.at(wanted, (path.final_agent[going], path.agent[going]), 4)  # from the receiver back to the sender
    np.testing.assert_array_equal(run.traffic, wanted)
    assert run.observed_bytes > run.bytes  # the environment's side is counted, elsewhere


@each_case
def test_agents_hear_the_offers_of_the_vectorised_learner(model: str, kind: str, clock: str) -> None:
    run, path = replay(model, kind, clock), record(model, kind, clock).trajectory
    scalars = offered(model, kind, clock)
    for agent, report in enumerate(run.agents):
        mine = (path.agent == agent) & ~path.terminal
        assert report.incoming.dtype == np.float32 and report.incoming.shape == (mine.sum(),)
        np.testing.assert_allclose(report.incoming, scalars[mine], rtol=0, atol=1e-5 * (1 + np.abs(scalars).max()))


@each_case
def test_an_agent_sees_its_own_interfaces_and_segments_only(model: str, kind: str, clock: str) -> None:
    """From the workers' own logs: formats, then every view against the views that belong to the agent."""
    run, path, arrays = replay(model, kind, clock), record(model, kind, clock).trajectory, golden(model)
    for agent, report in enumerate(run.agents):
        assert report.arrivals.dtype.names == ("sender", "view", "mask")
        assert report.segments.dtype.names == ("view", "option", "reward", "discount", "epoch", "terminal")
        own = np.flatnonzero(arrays.interface_agent == agent)
        mine = path.agent == agent
        here = (path.final_agent == agent) & ~path.terminal
        np.testing.assert_array_equal(report.arrivals["sender"], path.agent[here])
        np.testing.assert_array_equal(report.arrivals["mask"], path.final_mask[here])
        np.testing.assert_array_equal(report.segments["epoch"], np.flatnonzero(mine))
        for name in ("option", "reward", "discount", "terminal"):
            np.testing.assert_array_equal(report.segments[name], getattr(path, name)[mine])
        if kind == "tabular":
            assert report.parameters.shape == report.visits.shape == (own.size, arrays.num_options)
            assert report.segments["view"].shape == (mine.sum(),)
            np.testing.assert_array_equal(own[report.segments["view"]], path.interface[mine])
            np.testing.assert_array_equal(own[report.arrivals["view"]], path.final_interface[here])
        else:
            features = feature_table(model)
            assert report.parameters.shape == (arrays.num_options, 3) and report.visits.shape == (arrays.num_options,)
            rows = {row.tobytes() for row in features[own]}
            others = {row.tobytes() for row in np.delete(features, own, axis=0)}
            seen = {row.tobytes() for row in (*report.segments["view"], *report.arrivals["view"])}
            assert seen <= rows and not seen & others
        assert report.visits.sum() == mine.sum()


def test_agents_are_processes_that_load_no_jax() -> None:
    run = replay(*CASES[0])
    assert len({os.getpid(), *(report.pid for report in run.agents)}) == 4
    for report in run.agents:
        assert "numpy" in report.modules
        assert not {"jax", "jaxlib", "chex", "icsmdp_jax"} & set(report.modules)
    assert all(gone(report.pid) for report in run.agents)


def gone(pid: int) -> bool:
    """Whether no process has this id; one that ended but was not collected still has it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_four_agents_that_hand_around_in_a_circle() -> None:
    """Each agent's one value follows the plain recursion; ``inf`` as the cap survives the way to the worker."""
    count, turns, size = 4, 300, schedules.theorem_decaying(0.5, 0.5)
    agent = np.arange(turns) % count
    after = (agent + 1) % count
    ones, zeros = np.ones(turns, np.float32), np.zeros(turns, int)
    path = Trajectory(agent, agent, zeros, ones, 0.5 * ones, after, after, np.ones((turns, 1), bool))
    run = run_processes(path, count, 1, np.arange(count), size, "epoch")
    q = np.zeros(count)
    for k in range(turns):
        q[agent[k]] += 1 / (0.5 * (k + 1) * 0.5) * (1 + 0.5 * q[after[k]] - q[agent[k]])
    assert run.scalars == run.handoffs == turns and run.bytes == 4 * turns
    np.testing.assert_allclose(run.q[:, 0], q, rtol=0, atol=1e-5)
    assert np.abs(q).min() > 0.5


@pytest.mark.parametrize(("discount", "available"), [(0.0, True), (0.9, False)])
def test_a_terminal_handoff_needs_no_message(discount: float, available: bool) -> None:
    """v = 0 whatever agent 1's table says: the target is the reward alone."""
    here, there, one = np.array([0]), np.array([1]), np.ones(1, np.float32)
    path = Trajectory(here, here, here, one, discount * one, there, there, np.full((1, 1), available))
    run = run_processes(path, 2, 1, np.arange(2), schedules.constant(0.5), initial=np.array([[0.0], [7.0]]))
    assert run.q.tolist() == [[0.5], [7.0]]
    assert (run.handoffs, run.scalars, run.bytes) == (1, 0, 0) and run.agents[1].arrivals.size == 0


# What goes wrong


def three_agents(timeout: float) -> AgentProcesses:
    return AgentProcesses([np.zeros((1, 2))] * 3, Shapes(2, None), SIZES["visits"], "visits", timeout)


SEGMENT = (0, 1, 1.0, 0.9, 0)
ARRIVES = (0, np.array([True, True]))


@pytest.mark.parametrize("dead", [0, 2])  # the sender, and an agent that has no part in the handoff
def test_a_killed_agent_is_an_error_at_once(dead: int) -> None:
    with three_agents(20.0) as agents:
        agents.handoff(0, SEGMENT, 1, ARRIVES)
        agents.processes[dead].kill()
        agents.processes[dead].wait()
        begun = time.monotonic()
        with pytest.raises(ProcessError, match=rf"^the process of agent {dead} ended with status -{signal.SIGKILL:d}$"):
            for _ in range(2):  # an answer may be faster than the news of a third agent's end
                agents.handoff(0, SEGMENT, 1, ARRIVES)
        assert time.monotonic() - begun < 10
    assert all(gone(process.pid) for process in agents.processes)


def test_a_silent_agent_is_an_error_after_the_timeout() -> None:
    with three_agents(20.0) as agents:
        agents.handoff(0, SEGMENT, 1, ARRIVES)
        agents.timeout = 1.0  # only now, since start-up may take longer on a busy machine
        agents.processes[1].send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(ProcessError, match=r"^agent 0 did not absorb a scalar from agent 1 within 1\.0 s$"):
            agents.handoff(0, SEGMENT, 1, ARRIVES)
        assert 0.9 < time.monotonic() - begun < 10
    assert all(gone(process.pid) for process in agents.processes)


def test_an_agent_that_fails_gives_its_reason_and_takes_nobody_along() -> None:
    with three_agents(20.0) as agents:
        with pytest.raises(
            ProcessError, match="^the process of agent 2 ended with status 1: IndexError: index 7 is out"
        ):
            agents.handoff(2, (7, 0, 1.0, 0.9, 0), 1, ARRIVES)  # a row that agent 2 does not have
        assert agents.processes[0].poll() is None
    assert all(gone(process.pid) for process in agents.processes)


def test_a_message_that_nobody_asked_for_is_an_error() -> None:
    """An offer beyond the one of the handoff is found: in the next reading of the inbox, or at the end."""
    with three_agents(20.0) as agents:
        agents._show(1, ARRIVAL, agents.shapes.arrival, (0, *ARRIVES))
        agents.handoff(1, SEGMENT, 2, ARRIVES)  # agent 1 works in order, so its message for agent 0 is out by now
        with pytest.raises(ProcessError, match="agent 0 ended with status 1: ValueError: (a message is left|8 bytes)"):
            agents.finish()
    assert all(gone(process.pid) for process in agents.processes)


def test_no_process_is_left_when_the_caller_fails() -> None:
    with pytest.raises(KeyboardInterrupt), three_agents(20.0) as agents:
        raise KeyboardInterrupt
    assert len(agents.processes) == 3 and all(gone(process.pid) for process in agents.processes)


def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/dev/fd"))
    with three_agents(20.0) as agents:
        agents.handoff(0, SEGMENT, 1, ARRIVES)
        agents.finish()
    assert len(os.listdir("/dev/fd")) <= before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agent": np.array([0])}, "interface 1 belongs to agent 1 but is shown to agent 0"),
        ({"final_interface": np.array([1])}, "interface 1 belongs to agent 1 but is shown to agent 0"),
        ({"interface": np.array([-1])}, "does not exist"),
        ({"option": np.array([2])}, "not below 2"),
        ({"final_mask": np.ones((1, 3), bool)}, "final_mask has shape"),
    ],
)
def test_a_trajectory_that_shows_an_agent_what_is_not_its_own_is_refused(change: dict, message: str) -> None:
    one = np.ones(1, np.float32)
    good = Trajectory(
        np.array([1]), np.array([1]), np.array([0]), one, one, *(np.array([0]),) * 2, np.ones((1, 2), bool)
    )
    owner = np.array([0, 1])
    with pytest.raises(ValueError, match=message):
        run_processes(good._replace(**change), 2, 2, owner, SIZES["visits"])


def test_the_clock_and_the_first_parameters_must_fit() -> None:
    path = record(*CASES[0]).trajectory
    owner = golden(CONTINUING).interface_agent
    with pytest.raises(ValueError, match="clock = 'wall'"):
        run_processes(path, 3, 2, owner, SIZES["visits"], "wall")
    with pytest.raises(ValueError, match="initial has shape"):
        run_processes(path, 3, 2, owner, SIZES["visits"], initial=np.zeros((3, 2)))


def test_the_example_prints_its_counted_traffic(capsys):
    runpy.run_module("examples.processes", run_name="__main__")
    printed = capsys.readouterr().out
    handoffs, scalars, sent = map(
        int, re.match(r"(\d+) handoffs, (\d+) scalars, (\d+) bytes between 4", printed).groups()
    )
    assert handoffs == scalars == 1000 and sent == 4 * scalars
    assert float(re.search(r"compiled learner's table: (\S+)", printed)[1]) < 1e-5
