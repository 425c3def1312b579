"""Cooperation read from handoffs: error patterns, each with a test against what the agents' own handoff chain predicts.

The null hypothesis is the chain itself: given which agent decides and what it sees, whom it hands to does not depend
on what came before. A pattern is reported where it occurs more often than that chain, estimated from the same handoffs,
allows. Given the counts of the chain, the hits of a pattern are sums of hypergeometric numbers, hence of independent
Bernoulli ones, and Hoeffding's bound holds for their upper tail: ``P(X >= h) <= exp(-n KL(h / n, m / n))`` with ``n``
trials and mean ``m``. (Exact for one draw of trials; along a chain, where they follow one another, close to it.)
The level is divided among the patterns and, within each, among all candidates that were looked at.

- ping-pong: once i -> j -> i, i hands to j again; more often than i does from such a view at all.
- loop: the same after a lap of three to ``LONGEST_LOOP`` different agents: the next lap begins like the last one.
- dead end: runs that come to an agent are unsolved, ``MOSTLY`` of them, and more often than all runs are.
- starvation: where the values say that an agent should be next, it is so less often than by blind choice of an option.
- bypassed expert: the same for an agent that is not starved, from one view of one sender.
- redundant verification: an agent that sees the same again, at once or after one other segment, chooses and hands on as
  it did, more often than a fresh decision from that view would. Two agents that do so with each other: ping-pong.

Definitions, test and thresholds are ours. All functions are pure and take and return NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

END, CUT, NOBODY = -1, -2, -1
LEVEL = 0.01  # probability of any false alarm, over all patterns and candidates
LONGEST_LOOP = 5
MOSTLY = 0.9
STRONG = 2.0  # by how much the odds have to exceed those of the chain, so that large logs do not report trifles
FEWEST = 5  # trials
PATTERNS = ("ping-pong", "loop", "dead end", "starvation", "bypassed expert", "redundant verification")


class Handoffs(NamedTuple):
    """Segments in the order of run and time; ``n`` of them, ``N`` agents.

    Attributes:
      agents: names, ``N`` of them.
      run: ``[n]`` int, from 0, ascending.
      agent: ``[n]`` int, who decided.
      seen: ``[n]`` int, code of what it saw; codes of different agents may be equal.
      option: ``[n]`` int.
      follower: ``[n]`` int, who decides next; ``END`` if the run ended, ``CUT`` if that is unknown.
      duration: ``[n]`` primitive steps.
      reward: ``[n]``.
      offered: ``[n]`` value that the follower offered; NaN where there is none.
      preferred: ``[n]`` int, agent that the values favour as the next; ``NOBODY`` where they favour none.
      chance: ``[n]`` probability that blind choice among the options brings that agent.
      solved: ``[runs]`` bool.
    """

    agents: Sequence[str]
    run: np.ndarray
    agent: np.ndarray
    seen: np.ndarray
    option: np.ndarray
    follower: np.ndarray
    duration: np.ndarray
    reward: np.ndarray
    offered: np.ndarray
    preferred: np.ndarray
    chance: np.ndarray
    solved: np.ndarray


class Finding(NamedTuple):
    """A pattern that was found.

    Attributes:
      pattern: one of ``PATTERNS``.
      agents: who is involved, in the order of the handoffs.
      trials, hits: how often it could have occurred, and did.
      expected: hits that the chain predicts.
      p: bound on the probability of as many hits under the chain, before it is compared with the divided level.
      text: the same as a sentence.
    """

    pattern: str
    agents: tuple[str, ...]
    trials: int
    hits: int
    expected: float
    p: float
    text: str


Candidate = tuple[tuple[int, ...], np.ndarray, np.ndarray]  # agents, hits [trials] bool, shares that the chain predicts


def tail_bound(hits: float, expected: float, trials: int) -> float:
    """Hoeffding's bound on the probability of ``hits`` or more among independent trials with that mean in total."""
    h, m = hits / trials, expected / trials
    if h <= m:
        return 1.0
    if m <= 0:
        return 0.0
    above = 0.0 if h >= 1 else (1 - h) * np.log((1 - h) / (1 - m))
    return float(np.exp(-trials * (h * np.log(h / m) + above)))


def find(handoffs: Handoffs, level: float = LEVEL) -> list[Finding]:
    """All patterns, the least probable first; ``level`` bounds the probability that a clean log shows any."""
    starved = _significant("starvation", _passed_over(handoffs, False), handoffs, level)
    names = {name for one in starved for name in one.agents[:1]}
    bypassed = [c for c in _passed_over(handoffs, True) if handoffs.agents[c[0][0]] not in names]
    back = _significant("ping-pong", _laps(handoffs, [2]), handoffs, level)
    again = _significant("redundant verification", _checks(handoffs), handoffs, level)
    repeat = {name for one in again for name in one.agents}
    both = {name for pair in back if repeat >= set(pair.agents) for name in pair.agents}  # that is ping-pong
    found = [
        *back,
        *_significant("loop", _laps(handoffs, range(3, LONGEST_LOOP + 1)), handoffs, level),
        *_significant("dead end", _dead_ends(handoffs), handoffs, level, MOSTLY),
        *starved,
        *_significant("bypassed expert", bypassed, handoffs, level),
        *(one for one in again if not both & set(one.agents)),
    ]
    return sorted(found, key=lambda one: one.p)


def process(handoffs: Handoffs) -> dict[str, Any]:
    """What a workflow costs and what it achieves; None where no run ends, or there is nothing to divide by.

    Useful is the time of solved runs outside second laps of two to ``LONGEST_LOOP`` agents. An error is a handoff whose
    offer falls short of the one before it in the run by more than a standard deviation of all such changes; a run has
    recovered when an offer is as high again as before.
    """
    h, n = handoffs, len(handoffs.run)
    wasted = np.zeros(n, bool)
    for at, hit, *_ in map(lambda length: _lap(h, length), range(2, LONGEST_LOOP + 1)):
        wasted[at[hit]] = True
    useful = h.duration[h.solved[h.run] & ~wasted].sum()
    busy = np.bincount(h.agent, h.duration, len(h.agents))
    before = np.flatnonzero((h.run[1:] == h.run[:-1]) & np.isfinite(h.offered[1:]) & np.isfinite(h.offered[:-1]))
    change = h.offered[before + 1] - h.offered[before]
    fell = before[change < -max(change.std(), 1e-12)] if len(change) else before
    last = np.searchsorted(h.run, h.run, side="right")
    waits = [np.flatnonzero(h.offered[i + 2 : last[i]] >= h.offered[i]) for i in fell]
    back = [int(found[0]) + 1 for found in waits if len(found)]
    runs, solved, some = len(h.solved), int(h.solved.sum()), bool((h.follower == END).any())
    return {
        "runs": runs,
        "solved": solved / runs if some else None,
        "handoffs_per_solved": n / solved if solved else None,
        "useful_share": float(useful / h.duration.sum()) if some else None,
        "idle": [name for name, time in zip(h.agents, busy, strict=True) if not time],
        "busiest_share": float(busy.max() / busy.sum()) if n else None,
        "errors": len(fell),
        "recovered": len(back) / len(fell) if len(fell) else None,
        "handoffs_to_recover": float(np.mean(back)) if back else None,
    }


def graph(handoffs: Handoffs, parts: int = 4) -> dict[str, np.ndarray]:
    """Who hands to whom over time, runs cut into ``parts`` of equal number in their order.

    Returns:
      ``count``, ``duration`` (mean, NaN without any) and ``offered`` (likewise), each ``[parts, N, N + 1]``; the last
      column is the end of a run, whether it ended or was cut.
    """
    h, size = handoffs, len(handoffs.agents)
    part = h.run * parts // max(len(h.solved), 1)
    at = (part, h.agent, np.where(h.follower < 0, size, h.follower))
    count, time, offer, offers = np.zeros((4, parts, size, size + 1))
    known = np.isfinite(h.offered)
    np.add.at(count, at, 1)
    np.add.at(time, at, h.duration)
    np.add.at(offer, at, np.where(known, h.offered, 0.0))
    np.add.at(offers, at, known)
    with np.errstate(invalid="ignore"):
        return {"count": count, "duration": time / count, "offered": offer / offers}


def told(handoffs: Handoffs) -> dict[str, Any]:
    """Findings, process metrics and the graph over time as plain values, ready for JSON."""
    edges = graph(handoffs)
    names = [*handoffs.agents, "end"]
    rows = [
        {
            "from": handoffs.agents[i], "to": names[j], "total": int(edges["count"][:, i, j].sum()),
            "count": edges["count"][:, i, j].astype(int).tolist(),
            "duration": _plain(edges["duration"][:, i, j]), "offered": _plain(edges["offered"][:, i, j]),
        }
        for i, j in np.argwhere(edges["count"].sum(axis=0) > 0)
    ]  # fmt: skip
    return {"level": LEVEL, "found": [one._asdict() for one in find(handoffs)], **process(handoffs), "graph": rows}


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _significant(
    pattern: str, candidates: Iterable[Candidate], handoffs: Handoffs, level: float, least: float = 0.0
) -> list[Finding]:
    """The candidates beyond the level, which they share, whose odds are ``STRONG`` times those of the chain."""
    enough = [candidate for candidate in candidates if len(candidate[1]) >= FEWEST]
    out = []
    for agents, hit, share in enough:
        trials, hits, expected = len(hit), int(hit.sum()), float(share.sum())
        p = tail_bound(hits, expected, trials)
        strong = hits * (trials - expected) >= STRONG * expected * (trials - hits) and hits >= least * trials
        if p <= level / len(PATTERNS) / len(enough) and strong:
            names = tuple(handoffs.agents[i] for i in agents)
            text = f"{_WORDS[pattern](names, hits, trials)}; {_CHAIN[pattern]} {expected:.1f}"
            out.append(Finding(pattern, names, trials, hits, expected, p, f"{text} (p at most {p:.1g})."))
    return out


_WORDS: dict[str, Any] = {
    "ping-pong": lambda a, h, n: (
        f"{a[0]} and {a[1]} hand back and forth: after two handoffs a third one {h} of {n} times"
    ),
    "loop": lambda a, h, n: f"{' -> '.join((*a, a[0]))} is walked again: a lap is followed by another {h} of {n} times",
    "dead end": lambda a, h, n: f"runs that come to {a[0]} are hardly ever solved: {h} of {n} are not",
    "starvation": lambda a, h, n: f"the values would have {a[0]} next {n} times, and it is passed over {h} times",
    "bypassed expert": lambda a, h, n: (
        f"{a[1]} passes over {a[0]}, whom its values prefer, {h} of {n} times in one view"
    ),
    "redundant verification": lambda a, h, n: f"{a[0]} decides the same of the same again, {h} of {n} times",
}
_CHAIN = {name: "the chain of handoffs predicts" for name in ("ping-pong", "loop", "redundant verification")} | {
    "dead end": "by the share of all runs it would be",
    "starvation": "blind choice would do so",
    "bypassed expert": "blind choice would do so",
}


def _views(handoffs: Handoffs) -> np.ndarray:
    """``[n]`` number of each pair of an agent and what it saw."""
    pair = np.stack([handoffs.agent, handoffs.seen], axis=1)
    return np.unique(pair, axis=0, return_inverse=True)[1].reshape(-1)


def _share(view: np.ndarray, what: np.ndarray, at: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``[len(at)]`` share of ``target`` among ``what`` of all rows with the view of row ``at``; all codes >= 0."""
    base = int(max(what.max(initial=0), target.max(initial=0))) + 1
    codes, counts = np.unique(view * base + what, return_counts=True)
    wanted = view[at] * base + target
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(codes[place] == wanted, counts[place], 0) / np.bincount(view)[view[at]]


def _lap(h: Handoffs, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows behind a lap of that many different agents, whether the next begins alike, the chain's share, the laps."""
    at = np.arange(length, len(h.run))
    lap = np.stack([h.agent[at - length + k] for k in range(length)], axis=1) if len(at) else np.zeros((0, length), int)
    different = (np.diff(np.sort(lap, axis=1), axis=1) > 0).all(axis=1)
    keep = different & (h.run[at - length] == h.run[at]) & (h.agent[at] == lap[:, 0])
    at, lap = at[keep], lap[keep]
    hit = h.follower[at] == lap[:, 1]
    return at, hit, _share(_views(h), h.follower + 2, at, lap[:, 1] + 2), lap


def _laps(h: Handoffs, lengths: Iterable[int]) -> list[Candidate]:
    out: list[Candidate] = []
    for length in lengths:
        _, hit, share, lap = _lap(h, length)
        turn = lap.argmin(axis=1)[:, None]
        same = np.take_along_axis(lap, (turn + np.arange(length)) % length, axis=1)  # from its first agent on
        out += [(tuple(map(int, one)), hit[rows], share[rows]) for one, rows in _groups(same)]
    return out


def _groups(keys: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each different row of ``keys [m, k]`` with the places where it stands."""
    if not len(keys):
        return []
    unique, code = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(code.reshape(-1), kind="stable")
    return list(zip(unique, np.split(order, np.cumsum(np.bincount(code.reshape(-1)))[:-1]), strict=True))


def _dead_ends(h: Handoffs) -> list[Candidate]:
    visits = np.unique(np.stack([h.agent, h.run], axis=1), axis=0)
    unsolved = ~h.solved
    return [
        ((int(agent[0]),), unsolved[visits[rows, 1]], np.full(len(rows), unsolved.mean()))
        for agent, rows in _groups(visits[:, :1])
    ]


def _passed_over(h: Handoffs, by_view: bool) -> list[Candidate]:
    rows = np.flatnonzero((h.preferred != NOBODY) & (h.follower != CUT) & (h.preferred != h.agent))
    keys = [h.preferred[rows], h.agent[rows], _views(h)[rows]] if by_view else [h.preferred[rows]]
    return [
        (tuple(map(int, key[:2])), h.follower[rows[some]] != key[0], 1 - h.chance[rows[some]])
        for key, some in _groups(np.stack(keys, axis=1))
    ]


def _checks(h: Handoffs) -> list[Candidate]:
    view, result = _views(h), h.option * (len(h.agents) + 2) + h.follower + 2
    out: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for gap in (1, 2):
        at = np.arange(gap, len(h.run))
        at = at[(h.run[at] == h.run[at - gap]) & (view[at] == view[at - gap])]
        if gap == 2:
            at = at[view[at] != view[at - 1]]
        hit, share = result[at] == result[at - gap], _share(view, result, at, result[at - gap])
        for agent, rows in _groups(h.agent[at][:, None]):
            out.setdefault(int(agent[0]), []).append((hit[rows], share[rows]))
    return [
        ((agent,), np.concatenate([hit for hit, _ in parts]), np.concatenate([share for _, share in parts]))
        for agent, parts in out.items()
    ]
