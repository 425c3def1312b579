"""A log of handoffs: lines in the order of their runs, each linked to the one that follows (docs/logs.md).

A segment is known if the handoff that it led to is: the next line of its run, or the end. The lines of a log are its
known segments and those that are not used, by kind.
"""

from __future__ import annotations

import dataclasses
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from icsmdp_jax.traces import spans
from icsmdp_jax.traces.config import FitConfig
from icsmdp_jax.traces.encode import END, KINDS, UNKNOWN, Encoder
from icsmdp_jax.traces.lines import check_file, read_lines

SHOWN = 5  # line numbers that are named of each kind
MISSING, OFFERED = "missing", "options offered"


@dataclasses.dataclass(frozen=True)
class Log:
    """Handoffs in the order of run and step; ``n`` of them, each with a state, ``m`` with a known segment.

    Attributes:
      config: how the log was read.
      agent_name, option_name, field_name: what the codes stand for.
      labels: of each field, ``labels[f][code]``; code 0 is a missing value.
      values: of each field the values that the codes from 1 on stand for; None for one with bins.
      visible: ``[N, F]`` bool, fields that each agent sees.
      run: ``[n]`` int, run of each line, numbered from 0.
      step: ``[n]`` int, its place in the run.
      agent: ``[n]`` int, who decides.
      fields: ``[n, F]`` int, codes of the state.
      offered: ``[n, O]`` bool, options available.
      option: ``[n]`` int, option taken.
      probability: ``[n]`` of the option taken; NaN where it was not logged.
      tau: ``[n]`` int, duration in primitive steps.
      rate: ``[n]`` reward paid over the segment or with its start, discounted to its start.
      lump: ``[n]`` reward paid with its last step, likewise.
      follows: ``[n]`` int, line that follows; ``END`` after the last one of a run that ended.
      known: ``[n]`` bool, whether the segment is known.
      line: ``[n]`` int, number in the file.
      lines: lines in the file.
      other: spans that are not handoffs, in traces.
      bad: line numbers by kind, for kinds that occur.
      notes: sentences about what was read differently from what the file says.
    """

    config: FitConfig
    agent_name: tuple[str, ...]
    option_name: tuple[str, ...]
    field_name: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    values: tuple[tuple[Any, ...] | None, ...]
    visible: np.ndarray
    run: np.ndarray
    step: np.ndarray
    agent: np.ndarray
    fields: np.ndarray
    offered: np.ndarray
    option: np.ndarray
    probability: np.ndarray
    tau: np.ndarray
    rate: np.ndarray
    lump: np.ndarray
    follows: np.ndarray
    known: np.ndarray
    line: np.ndarray
    lines: int
    other: int
    bad: dict[str, np.ndarray]
    notes: tuple[str, ...]

    @property
    def good(self) -> int:
        """Known segments."""
        return int(self.known.sum())

    @property
    def num_runs(self) -> int:
        """Runs of which a line can be used."""
        return int(self.run.max()) + 1

    def bins(self, f: int) -> tuple[float, ...]:
        """Ends of the bins of a field that has some."""
        ends = (self.config.fields or {}).get(self.field_name[f])
        assert ends is not None
        return ends

    @cached_property
    def from_start(self) -> np.ndarray:
        """``[n]`` bool, lines that are linked to the first one of their run."""
        linked = np.zeros(len(self.run), bool)
        linked[self.follows[self.known & (self.follows != END)]] = True
        # Lines of a run stand together, so a break shows up as a line that nothing leads to.
        breaks = np.cumsum(~linked & (self.step > 0))
        first = np.searchsorted(self.run, np.arange(self.num_runs))
        begins = self.step[first] == 0
        before = np.where(first > 0, breaks[first - 1], 0)
        return begins[self.run] & (breaks == before[self.run])

    def counted(self) -> dict[str, Any]:
        """Lines by what became of them; ``lines`` is the sum of the others."""
        return {
            "lines": self.lines,
            "good": self.good,
            "other": self.other,
            "bad": {kind: len(self.bad[kind]) for kind in KINDS if kind in self.bad},
            "first_bad_lines": {kind: self.bad[kind][:SHOWN].tolist() for kind in KINDS if kind in self.bad},
        }


def read_log(path: str | os.PathLike[str], config: FitConfig) -> Log:
    """Reads a log of handoffs, or traces of spans.

    Raises:
      ValueError: in one line that begins with the file's name, if nothing in the file can be used.
    """
    place = Path(path)
    check_file(place)
    kind = spans.format_of(place) if config.format is None else config.format
    encoder, notes, other = Encoder(config), list[str](), 0
    binned = [name for name, bins in (config.fields or {}).items() if bins is not None]
    if kind == "handoffs":
        chunks = read_lines(place, binned)
    else:
        found = spans.read_spans(place, kind, tuple(config.fields or ()))
        chunks, notes, other = iter([found.chunk]), found.notes, found.other
    try:
        for chunk in chunks:
            encoder.add(chunk)
        return _linked(encoder, notes, other)
    except ValueError as error:
        if str(error).startswith(f"{place}: "):
            raise
        raise ValueError(f"{place}: {error}{_why(encoder)}") from None


def _why(encoder: Encoder) -> str:
    counts = {kind: sum(map(len, found)) for kind, found in encoder.bad.items() if found}
    if not counts or sum(counts.values()) < encoder.lines:
        return ""
    return f" ({', '.join(f'{count} {kind}' for kind, count in counts.items())})"


def _linked(encoder: Encoder, notes: list[str], other: int) -> Log:
    """The lines of an encoder in order, with what follows each."""
    found = encoder.arrays()
    bad = {kind: list(numbers) for kind, numbers in encoder.bad.items()}

    def drop(which: np.ndarray, kind: str) -> None:
        nonlocal found
        bad[kind].append(found["line"][which])
        found = {name: array[~which] for name, array in found.items()}

    found = _sorted(found, np.argsort(found["run"], kind="stable"))
    key = found["run"].astype(np.int64) * 2**31 + found["step"]
    first = np.zeros(len(key), bool)
    first[np.unique(key, return_index=True)[1]] = True
    drop(~first, "duplicate")
    key = key[first]
    late = key < np.maximum.accumulate(key)  # runs increase, so the largest step so far is that of the same run
    drop(late, "out_of_order")
    run, step, follower = found["run"], found["step"], found["next"]
    ends = np.flatnonzero(follower == END)
    first_end = np.full(int(run.max()) + 1, 2**31)
    np.minimum.at(first_end, run[ends], step[ends])
    drop(step > first_end[run], "after_end")
    run, step, follower, agent = (found[name] for name in ("run", "step", "next", "agent"))
    count = len(run)
    beside = np.append((run[1:] == run[:-1]) & (step[1:] == step[:-1] + 1), False)
    ended = follower == END
    agrees = beside & (follower == np.append(agent[1:], END))
    known = ended | agrees
    follows = np.where(agrees & ~ended, np.arange(count) + 1, END)
    wrong = beside & ~agrees & ~ended
    bad["wrong_next"].append(found["line"][wrong])
    found |= {"known": known, "follows": follows}
    log = _named(encoder, found, notes, other, {kind: np.sort(np.concatenate(n)) for kind, n in bad.items() if n})
    lost = known & ~log.known
    return dataclasses.replace(log, bad=_with(log.bad, found["line"][(~known & ~wrong) | lost]))


def _with(bad: dict[str, np.ndarray], cut: np.ndarray) -> dict[str, np.ndarray]:
    out = {kind: numbers for kind, numbers in bad.items() if len(numbers)}
    cut = np.sort(np.concatenate([bad.get("cut_off", np.zeros(0, np.int64)), cut]))
    return out | ({"cut_off": cut} if len(cut) else {})


def _sorted(found: dict[str, np.ndarray], order: np.ndarray) -> dict[str, np.ndarray]:
    return {name: array[order] for name, array in found.items()}


def _named(
    encoder: Encoder, found: dict[str, np.ndarray], notes: list[str], other: int, bad: dict[str, np.ndarray]
) -> Log:
    """The log with names in alphabetical order, and without segments that lead where nothing is known."""
    config = encoder.config
    agent_name, agent_at = _alphabetical(encoder.agents, config.agents)
    option_name, option_at = _alphabetical(encoder.options, None)
    agent, option = agent_at[found["agent"]], option_at[found["option"]]
    offered = _offered(encoder, agent, option, found["set"], found["known"], option_name)
    names, labels, values, codes = _labels(encoder, found["fields"])
    visible = np.zeros((len(agent_name), len(names)), bool)
    for code, name in enumerate(agent_name):
        given = config.visible.get(name)
        for column, field in enumerate(names):
            shown = (int(encoder.agents[name]), field) in encoder.seen if given is None else field in given
            visible[code, column] = shown
    if _sets_vary(agent, np.where(visible[agent], codes, 0), offered):
        rows, which = np.unique(offered, axis=0, return_inverse=True)
        codes = np.column_stack([codes, which.reshape(-1) + 1])
        texts = [" or ".join(option_name[o] for o in np.flatnonzero(row)) for row in rows]
        names, labels, values = (*names, OFFERED), (*labels, (MISSING, *texts)), (*values, tuple(texts))
        visible = np.column_stack([visible, np.ones(len(agent_name), bool)])
    known = _supported(agent, np.where(visible[agent], codes, 0), found["known"], found["follows"])
    if not known.any():
        raise ValueError("no segment is known: no line names the end of its run or is followed by the next handoff")
    notes = notes + _notes(encoder, found["set"])
    return Log(
        config=config, agent_name=agent_name, option_name=option_name, field_name=names, labels=labels, values=values,
        visible=visible, run=np.unique(found["run"], return_inverse=True)[1].reshape(-1), step=found["step"],
        agent=agent, fields=codes, offered=offered, option=option, probability=found["probability"],
        tau=found["tau"], rate=found["rate"], lump=found["lump"], follows=found["follows"], known=known,
        line=found["line"], lines=encoder.lines, other=other, bad=bad, notes=tuple(notes),
    )  # fmt: skip


def _alphabetical(codes: dict[str, int], order: tuple[str, ...] | None) -> tuple[tuple[str, ...], np.ndarray]:
    names = tuple(sorted(codes)) if order is None else order
    place = np.zeros(len(codes), np.int64)
    for new, name in enumerate(names):
        place[codes[name]] = new
    return names, place


def _offered(
    encoder: Encoder,
    agent: np.ndarray,
    option: np.ndarray,
    which: np.ndarray,
    known: np.ndarray,
    names: tuple[str, ...],
) -> np.ndarray:
    """``[n, O]`` options available: as logged, else all that the agent was ever seen taking."""
    place = {name: code for code, name in enumerate(names)}
    table = np.zeros((len(encoder.sets) + 1, len(names)), bool)
    for members, code in encoder.sets.items():
        table[code, [place[name] for name in members]] = True
    taken = np.zeros((int(agent.max()) + 1, len(names)), bool)
    taken[agent, option] = True
    return np.where((which == UNKNOWN)[:, None], taken[agent], table[which])


def _labels(
    encoder: Encoder, codes: np.ndarray
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], tuple[tuple[Any, ...] | None, ...], np.ndarray]:
    """Names, labels and values in their order, and the codes in that order."""
    config = encoder.config
    every: list[tuple[Any, ...] | None] = []
    names = tuple(sorted(encoder.labels)) if config.fields is None else tuple(encoder.labels)
    out, columns = list[tuple[str, ...]](), list[np.ndarray]()
    for name in names:
        column = codes[:, list(encoder.labels).index(name)]
        bins = (config.fields or {}).get(name)
        if bins is not None:
            ends = [f"{end:g}" for end in bins]
            inner = [f"{a} to {b}" for a, b in zip(ends, ends[1:], strict=False)]
            texts = [MISSING, f"below {ends[0]}", *inner, f"{ends[-1]} or more"]
            every.append(None)
        else:
            values = sorted(encoder.labels[name], key=lambda value: (isinstance(value, str), value))
            place = np.zeros(len(values) + 1, np.int64)
            for new, value in enumerate(values, 1):
                place[encoder.labels[name][value]] = new
            column, texts = place[column], [MISSING, *map(_short, values)]
            plain = name in encoder.booleans and all(isinstance(value, str) for value in values)  # 1 equals True
            truth = {"true": True, "false": False} if plain else {}
            every.append(tuple(truth.get(value, value) for value in values))
        out.append(tuple(texts))
        columns.append(column)
    stacked = np.stack(columns, axis=1) if columns else np.zeros((len(codes), 0), np.int64)
    return names, tuple(out), tuple(every), stacked


def _short(value: Any) -> str:
    """A label that can be shown: printable, not long, never empty."""
    text = str(value) if not isinstance(value, int) or abs(value) < 10**40 else "a large number"
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return (text if len(text) <= 40 else f"{text[:40]}...") or "(empty)"


def numbered(*columns: np.ndarray) -> np.ndarray:
    """``[n]`` codes from 0 on, in lexicographic order, of the rows that columns ``[n]`` or ``[n, k]`` make up."""
    code = np.zeros(len(columns[0]), np.int64)
    for column in np.column_stack(columns).T:
        size = int(column.max(initial=0)) + 1
        code = np.unique(code * size + column, return_inverse=True)[1].reshape(-1)
    return code


def _sets_vary(agent: np.ndarray, seen: np.ndarray, offered: np.ndarray) -> bool:
    """Whether one interface offers different options at different times; they are then part of what is seen."""
    interface = numbered(agent, seen)
    first = np.unique(interface, return_index=True)[1]
    return bool((offered != offered[first][interface]).any())


def _supported(agent: np.ndarray, seen: np.ndarray, known: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """Segments that lead to an interface at which some segment is known, to the end of all that follows from that."""
    interface = numbered(agent, seen)
    known = known.copy()
    while True:
        alive = np.zeros(int(interface.max()) + 1, bool)
        alive[interface[known]] = True
        lost = known & (follows != END) & ~alive[interface[follows]]
        if not lost.any():
            return known
        known &= ~lost


def _notes(encoder: Encoder, which: np.ndarray) -> list[str]:
    out = []
    config = encoder.config
    if encoder.cut:
        out.append(f"{encoder.cut} durations were longer than {config.longest} primitive steps and are cut to that")
    for name, count in encoder.parts.items():
        if count:
            out.append(f"reward {name} is missing on {count} lines and counts as 0 there")
    unknown = int((which == UNKNOWN).sum())
    if unknown:
        out.append(
            f"available options are missing on {unknown} lines: all that the agent was ever seen taking stand in"
        )
    for name, shown in config.visible.items():
        if name not in encoder.agents:
            out.append(f"[visible] names the agent {name}, which is not in the log")
        out += [
            f"[visible] names the field {field}, which is not in the log"
            for field in shown
            if field not in encoder.labels
        ]
    return out
