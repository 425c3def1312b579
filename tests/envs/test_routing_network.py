"""The compiled packet network against its plain-Python copy, event by event, and its invariants."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from icsmdp_jax.envs.routing.conditions import Change
from icsmdp_jax.envs.routing.graph import mask_without
from icsmdp_jax.envs.routing.network import NEVER, TICKS, NetworkSize
from icsmdp_jax.envs.routing.policies import FULL_ECHO, ICQ, ICQ_QUEUE, Q_ROUTING, RANDOM, SHORTEST_PATH, Rates
from tests.envs.routing_traces import Trace, arrivals_of, decisions, grid, neighbours, record, replay, ring, tie_words
from tests.helpers import chi_square
from tests.reference import routing as twin

# Powers of two, so that no product is rounded: fused and separate multiply-adds agree, and so do the tables, exactly.
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)  # the compiler takes smaller numbers for 0, NumPy does not
DYADIC = Rates(step=0.25, power=64.0, share=0.25, fade=0.0)
LEARNERS = [
    (Q_ROUTING, twin.QRouting, Rates(0.5)),
    (FULL_ECHO, twin.FullEcho, Rates(0.5)),
    (ICQ, twin.Icq, DYADIC),
    (ICQ_QUEUE, twin.IcqQueue, DYADIC),
]


def twin_router(kind, trace: Trace, graph, rates: Rates):  # type: ignore[no-untyped-def]
    return kind(
        neighbours(graph),
        tie_words(trace),
        np.float32,
        step=rates.step,
        power=rates.power,
        share=rates.share,
        fade=rates.fade,
    )


def table(trace: Trace, graph) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Estimates of the compiled run, 0 in slots that are not in use."""
    memory = trace.lane.memory
    return np.where(graph.mask[:, None, :], memory.time if hasattr(memory, "time") else memory, 0)


def twin_table(router: twin.Router, degree: int) -> np.ndarray:
    nodes = len(router.neighbours)
    out = np.zeros((nodes, nodes, degree), np.float32)
    for node, rows in enumerate(router.time):
        for destination, row in enumerate(rows):
            out[node, destination, : len(row)] = row
    return out


CASES = [(*learner, grid, 3.0) for learner in LEARNERS] + [(*LEARNERS[-1], grid, 1.0), (*LEARNERS[0], ring, 1.5)]


@pytest.mark.parametrize(("policy", "kind", "rates", "graph", "load"), CASES)
def test_learners_agree_with_the_twin_to_the_bit(policy, kind, rates, graph, load):
    trace = record(policy, graph(), load, steps=6000, rates=rates)
    router = twin_router(kind, trace, graph(), rates)
    run = replay(trace, router, graph())
    assert run.decisions == decisions(trace)
    delivered = np.asarray(trace.events.sent.delivered)
    np.testing.assert_array_equal(np.float32(run.delays), trace.events.sent.delay[delivered])
    np.testing.assert_allclose(
        twin_table(router, graph().max_degree), table(trace, graph()), rtol=0, atol=2 * SMALLEST_NORMAL
    )
    assert len(run.delays) > 50


def test_shortest_path_agrees_with_the_twin():
    trace = record(SHORTEST_PATH, grid(), 2.0)
    router = twin.ShortestPath(neighbours(grid()), tie_words(trace))
    assert replay(trace, router, grid()).decisions == decisions(trace)


def test_changes_of_load_and_links_agree_with_the_twin():
    changes = (Change(50, load=3.0), Change(80, down=[(2, 3)]), Change(120, load=0.5, down=[(14, 15)]))
    trace = record(FULL_ECHO, grid(), 1.0, steps=4000, rates=Rates(0.5), changes=changes)
    router = twin_router(twin.FullEcho, trace, grid(), Rates(0.5))

    def usable(down):  # type: ignore[no-untyped-def]
        mask = mask_without(grid(), down)
        return [
            [bool(up) for up, real in zip(*rows, strict=True) if real] for rows in zip(mask, grid().mask, strict=True)
        ]

    masks = [(80 * TICKS, usable([(2, 3)])), (120 * TICKS, usable([(14, 15)]))]
    run = replay(trace, router, grid(), masks=masks)
    assert run.decisions == decisions(trace)
    np.testing.assert_array_equal(twin_table(router, 4), table(trace, grid()))
    # No packet is put on a link that is down, and all three phases were seen.
    assert run.decisions[-1].time > 140 * TICKS
    for decision in run.decisions:
        pair = {decision.node, neighbours(grid())[decision.node][decision.slot]}
        assert not (pair == {2, 3} and 80 * TICKS <= decision.time < 120 * TICKS)
        assert not (pair == {14, 15} and decision.time >= 120 * TICKS)


def test_no_packet_is_made_or_lost():
    size = NetworkSize(36, 4, 50)
    trace = record(RANDOM, grid(), 3.0, steps=6000, size=size)
    state = trace.lane.state
    assert state.arrived == state.delivered + state.live and state.lost == 0
    assert state.length.sum() + state.packet.active == state.live <= size.max_live
    assert (state.head_service == NEVER).tolist() == (state.length == 0).tolist()
    counts = trace.lane.counts[0]
    sent = trace.events.sent
    assert (counts[0], counts[2]) == (state.delivered, sent.hops[sent.delivered].sum())
    assert (counts[3], counts[4], counts[5]) == (state.arrived, state.refused, 0)
    np.testing.assert_allclose(counts[1], sent.delay[sent.delivered].sum(dtype=np.float64), rtol=1e-5)


def test_arrivals_beyond_the_limit_are_refused():
    size = NetworkSize(36, 4, 50)
    trace = record(RANDOM, grid(), 3.0, steps=6000, size=size)
    state = trace.lane.state
    # Random walks cannot carry load 3: the network fills up, and then takes a packet in only when one leaves.
    assert state.refused > 100 and (~trace.active).sum() >= state.refused
    live = np.cumsum(np.asarray(trace.events.packet.hops == 0) & trace.active) - np.cumsum(trace.events.sent.delivered)
    assert live.max() == 50


def test_packets_sent_to_a_full_queue_are_lost():
    size = NetworkSize(36, 4, 300, capacity=2)
    trace = record(SHORTEST_PATH, grid(), 3.0, steps=4000, size=size)
    state = trace.lane.state
    assert state.lost > 20 and state.length.max() <= 2
    assert state.arrived == state.delivered + state.live + state.lost
    router = twin.ShortestPath(neighbours(grid()), tie_words(trace))
    run = replay(trace, router, grid(), size)
    assert run.decisions == decisions(trace)
    assert sum(decision.outcome == "lost" for decision in run.decisions) == state.lost


def test_queues_are_first_in_first_out_and_serve_one_packet_per_time_unit():
    trace = record(SHORTEST_PATH, grid(), 2.2)
    waited = 0
    for node in range(36):
        served = [d for d in decisions(trace) if d.node == node and d.hops > 0]
        entered = [d.sent for d in served]
        assert entered == sorted(entered)
        gaps = np.diff([d.time for d in served])
        assert (gaps >= TICKS).all()
        assert all(d.time >= d.sent + TICKS for d in served)
        waited += sum(d.time > d.sent + TICKS for d in served)
        # A server is idle only when nobody waits: whoever waited follows the one before by exactly one time unit.
        for before, after in zip(served, served[1:], strict=False):
            if after.time > after.sent + TICKS:
                assert after.time - before.time == TICKS
    assert waited > 200


def test_new_packets_leave_at_once_and_do_not_hold_up_the_server():
    trace = record(SHORTEST_PATH, grid(), 2.2)
    new = [d for d in decisions(trace) if d.hops == 0]
    assert all(d.time == d.birth == d.sent and d.node == d.source for d in new)
    times = {}
    for d in decisions(trace):
        times.setdefault(d.node, []).append(d.time)
    assert any((np.diff(sorted(node)) < TICKS).any() for node in times.values())


def test_a_packet_alone_takes_its_distance():
    trace = record(SHORTEST_PATH, grid(), 0.01)
    delivered = np.asarray(trace.events.sent.delivered)
    delay, hops = trace.events.sent.delay[delivered], trace.events.sent.hops[delivered]
    assert delivered.sum() > 200
    # Two packets of this run share the network now and then; all others are never held up.
    assert (delay == hops).mean() > 0.95 and (delay >= hops).all()


def test_arrivals_follow_the_poisson_law_of_their_phase():
    # False alarms: five tests at level 1e-4 each.
    changes = (Change(500, load=0.5), Change(1500, load=2.5))
    trace = record(SHORTEST_PATH, ring(), 2.0, steps=20_000, seed=3, changes=changes, size=NetworkSize(6, 3, 300))
    arrivals = arrivals_of(trace)
    assert trace.lane.state.refused == 0
    time = np.array([arrival[0] for arrival in arrivals]) / TICKS
    end = time[-1]
    assert end > 1900
    for start, stop, load in ((0, 500, 2.0), (500, 1500, 0.5), (1500, end, 2.5)):
        inside = time[(time >= start) & (time < stop)]
        gaps = np.diff(inside)
        assert stats.kstest(gaps, "expon", args=(0, 1 / load)).pvalue > 1e-4
        mean = load * (stop - start)
        assert abs(len(inside) - mean) < 5 * np.sqrt(mean)
    pairs = np.zeros((6, 6))
    for _, source, destination in arrivals:
        pairs[source, destination] += 1
    assert chi_square(pairs, (1 - np.eye(6)) / 30) > 1e-4


def test_sizes_are_checked():
    assert NetworkSize(4, 2).capacity == 1000 and NetworkSize(4, 2, 10).capacity == 10
    with pytest.raises(ValueError, match="max_live = 0"):
        NetworkSize(4, 2, 0)
    with pytest.raises(ValueError, match="capacity = -1"):
        NetworkSize(4, 2, 10, -1)
