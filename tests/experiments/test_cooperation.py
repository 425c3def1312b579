"""Handoffs of workflows that cannot be listed, and experiments side by side."""

from __future__ import annotations

import time

import numpy as np
import pytest

from icsmdp_jax.devices import cores
from icsmdp_jax.envs.cpu_sort import cpu_sort, machine
from icsmdp_jax.envs.routing.graph import graph_from_links
from icsmdp_jax.envs.routing.network import TICKS
from icsmdp_jax.exact.returns import Returns, greedy
from icsmdp_jax.experiments import catalogue, command, cooperation
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.comparison import say
from icsmdp_jax.experiments.cooperation import cooperation_tables, played
from icsmdp_jax.experiments.packets import Watched, packets
from icsmdp_jax.experiments.result import Result
from icsmdp_jax.traces.cooperation import simulated
from icsmdp_jax.traces.patterns import CUT, END, NOBODY


def test_a_program_is_written_in_the_environment_as_in_its_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without exploration nothing is random: two ways to simulate, one in JAX and one in NumPy, give one run."""
    monkeypatch.setattr(cooperation, "EXPLORED", 0.0)
    env, params = cpu_sort(2, gamma=0.9)
    params = params._replace(shaping=np.float32(0))
    model = env.exact_model(params)
    q = Returns(model).q_phi.q
    law = np.eye(model.num_options)[greedy(q, model.option_mask)] * model.option_mask.any(axis=1, keepdims=True)
    listed = simulated(model, q, law, runs=3, names=machine.NAMES)
    found = played(env, params, q.astype(np.float32), machine.NAMES, env.length_limit, runs=3)
    assert found.solved.all() and len(found.run) > 3
    for name in ("run", "agent", "seen", "option", "follower", "duration", "preferred", "solved"):
        np.testing.assert_array_equal(getattr(found, name), getattr(listed, name), err_msg=name)
    for name in ("reward", "offered", "chance"):
        np.testing.assert_allclose(getattr(found, name), getattr(listed, name), atol=1e-6, err_msg=name)


def test_events_of_a_network_become_runs_of_its_packets() -> None:
    """Three nodes in a line, four packets by hand: delivered at once, by way of node 1, still under way, too late."""
    columns = ("clock", "node", "source", "destination", "birth", "hops", "slot", "delivered", "offered")
    events = np.array([
        # clock node source destination birth hops slot delivered offered
        (0, 0, 0, 2, 0, 0, 0, 0, 3.5),
        (1, 1, 1, 0, 1, 0, 0, 1, 0.0),
        (3, 2, 2, 0, 3, 0, 0, 0, 9.0),
        (4, 1, 0, 2, 0, 1, 1, 1, 0.0),
        (8, 0, 0, 1, 8, 0, 0, 1, 0.0),
    ])  # fmt: skip
    given = dict(zip(columns, events.T, strict=True))
    whole = {name: np.array(values, int) for name, values in given.items() if name != "offered"}
    whole |= {name: TICKS * whole[name] for name in ("clock", "birth")}
    whole["delivered"] = whole["delivered"] > 0
    still = np.zeros(5, bool)
    graph = graph_from_links([(0, 1), (1, 2)])
    h = packets(graph, Watched(active=~still, lost=still, offered=given["offered"], **whole))
    assert h.agents == ("node 0", "node 1", "node 2")
    np.testing.assert_array_equal(h.run, [0, 0, 1, 2])
    np.testing.assert_array_equal(h.agent, [0, 1, 1, 2])
    np.testing.assert_array_equal(h.seen, [2, 2, 0, 0])
    np.testing.assert_array_equal(h.follower, [1, END, END, CUT])
    np.testing.assert_array_equal(h.preferred, [1, NOBODY, NOBODY, 1])
    np.testing.assert_array_equal(h.duration, [4, 1, 1, 1])
    np.testing.assert_array_equal(h.offered, [-3.5, np.nan, np.nan, -9])
    np.testing.assert_array_equal(h.chance, [1, 0.5, 0.5, 1])
    np.testing.assert_array_equal(h.solved, [True, True, False])
    process = {row[0]: row[1] for row in cooperation_tables([h], "packets")[0].rows}
    assert process["share of runs that are solved"] == 2 / 3 and process["handoffs per solved run"] == 2
    cut = h._replace(follower=np.where(h.follower == END, CUT, h.follower))
    assert "none of which ends" in cooperation_tables([cut], "packets")[0].title


def test_an_experiment_stops_when_the_one_beside_it_fails(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does Ctrl-C: what runs beside is asked to stop at its next line on stderr."""
    begun: list[str] = []

    def run(options: Options) -> Result:
        begun.append(options.name)
        until = time.monotonic() + 60
        while options.name == "planted" and time.monotonic() < until:
            say(options.name, "is at work")
            time.sleep(0.01)
        while len(begun) < 2:
            time.sleep(0.01)
        raise OSError("no more of this")

    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    monkeypatch.setattr(catalogue, "EXPERIMENTS", {"planted": "", "workshop": "", "voting": ""})
    monkeypatch.setattr(catalogue, "experiment", lambda name: run)
    started = time.monotonic()
    with pytest.raises(OSError, match="no more of this"):
        command.run_all("testing", 0, tmp_path)
    assert time.monotonic() - started < 30 and sorted(begun) == ["planted", "workshop"]
