"""Rows of a log as arrays of codes, checked: whatever cannot be used is counted by its kind, never repeated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from icsmdp_jax.models.tabular import annuities
from icsmdp_jax.traces.config import FitConfig
from icsmdp_jax.traces.lines import Chunk, Row

GOOD = ""
KINDS = {  # what the report says about each kind of line that is not used
    "malformed": "cannot be read, or lacks something that every line has, or has it in another type",
    "unknown_agent": "its agent, or the next one, is not among those of the configuration",
    "unknown_option": "the option taken is not among those available",
    "bad_probability": "the probability of the option is not above 0 and at most 1",
    "not_finite": "a number is NaN or infinite",
    "negative_duration": "its duration is below 0",
    "duplicate": "an earlier line has the same run and step",
    "out_of_order": "an earlier line of its run has a later step",
    "after_end": "an earlier line ended its run",
    "wrong_next": "the handoff that follows is not that of the next agent named",
    "cut_off": "the handoff that should follow is missing, so that its outcome is unknown",
}
LONGEST_NAME, MOST_LABELS, MOST_FIELDS, LARGEST_STEP = 200, 2000, 64, 2**31 - 1
LARGEST_NUMBER = 1e12
END, UNKNOWN = -1, -1

Codes = dict[Any, int]


def _named(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


class Encoder:
    """Turns chunks of rows into arrays, and remembers what the codes stand for.

    Attributes:
      agents, options, runs: codes by name.
      sets: codes of sets of available options, each a tuple of option codes.
      labels: codes from 1 on of the values of each field that has labels; 0 stands for a missing value.
      booleans: fields of which a value was true or false, and not the text.
      seen: pairs of agent and field that occurred under ``seen``.
      parts: parts of the reward and on how many lines each was missing.
      lines: how many lines there were.
      cut: how many durations were longer than the longest.
      bad: line numbers by kind.
    """

    def __init__(self, config: FitConfig) -> None:
        self.config = config
        self.agents: Codes = {name: code for code, name in enumerate(config.agents or ())}
        self.options: Codes = {}
        self.runs: Codes = {}
        self.sets: Codes = {}
        self.labels: dict[str, Codes] = {name: {} for name in config.fields or ()}
        self.booleans: set[str] = set()
        self.seen: set[tuple[int, str]] = set()
        self.parts = dict.fromkeys(config.reward, 0)
        self.lines = self.cut = 0
        self.bad: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
        self._names: set[str] = set()
        self._good_names: set[str] = set()
        self._annuity = annuities(config.gamma, config.longest)
        self._arrays: list[dict[str, np.ndarray]] = []
        self._fields: list[dict[str, np.ndarray]] = []

    def add(self, chunk: Chunk) -> None:
        """Encodes the lines of a chunk.

        Raises:
          ValueError: in one line, for a field that no state can be made of.
        """
        self.lines += len(chunk.rows)
        kinds = [row if isinstance(row, str) else GOOD for row in chunk.rows]
        rows = [row for row in chunk.rows if not isinstance(row, str)]
        checked = self._encoded(rows, [n for n, kind in zip(chunk.numbers, kinds, strict=True) if kind == GOOD])
        later = iter(checked)
        kinds = [kind if kind != GOOD else next(later) for kind in kinds]
        numbers = np.array(chunk.numbers)
        if any(kinds):
            found = np.array(kinds)
            for kind in set(kinds) - {GOOD}:
                self.bad[kind].append(numbers[found == kind])

    def arrays(self) -> dict[str, np.ndarray]:
        """All lines that were good so far, in the order of the file; ``fields`` is ``[n, F]`` by ``labels``."""
        out = (
            {name: np.concatenate([one[name] for one in self._arrays]) for name in self._arrays[0]}
            if self._arrays
            else {}
        )
        if not len(out.get("run", ())):
            raise ValueError("no line can be used")
        columns = []
        for name in self.labels:
            parts = [
                one[name] if name in one else np.zeros(len(rest["run"]), np.int32)
                for one, rest in zip(self._fields, self._arrays, strict=True)
            ]
            columns.append(np.concatenate(parts))
        out["fields"] = np.stack(columns, axis=1) if columns else np.zeros((len(out["run"]), 0), np.int32)
        return out

    def _encoded(self, rows: list[Row], numbers: Sequence[int]) -> list[str]:
        """Appends the arrays of the rows that are good, and returns the kind of every row."""
        kinds = [self._fault(row) for row in rows]
        kept = [row for row, kind in zip(rows, kinds, strict=True) if kind == GOOD]
        lines = np.array([n for n, kind in zip(numbers, kinds, strict=True) if kind == GOOD], np.int64)
        fields, wrong = self._field_codes(kept, lines)
        durations = np.array([row["duration"] for row in kept], float)
        rate, lump, tau = self._rewards(kept, durations)
        arrays = {
            "line": lines,
            "run": _codes(self.runs, [str(row["run"]) for row in kept]),
            "step": np.array([row["step"] for row in kept], np.int64),
            "agent": _codes(self.agents, [row["agent"] for row in kept]),
            "next": _codes(self.agents, [row["next"] for row in kept], END),
            "option": _codes(self.options, [row["option"] for row in kept]),
            "set": self._set_codes(kept),
            "probability": np.array([row.get("probability") for row in kept], float),  # None becomes NaN
            "tau": tau,
            "rate": rate,
            "lump": lump,
        }
        for kind, bad in wrong.items():
            places = [i for i, k in enumerate(kinds) if k == GOOD]
            for place in np.flatnonzero(bad):
                kinds[places[place]] = kind
        keep = ~np.any(list(wrong.values()), axis=0)
        self._arrays.append({name: array[keep] for name, array in arrays.items()})
        self._fields.append({name: codes[keep] for name, codes in fields.items()})
        self._note_seen(kept, arrays["agent"])
        return kinds

    def _fault(self, row: Row) -> str:
        """The first fault of a row, fields apart; empty if it has none."""
        run, step, agent, option = row.get("run"), row.get("step"), row.get("agent"), row.get("option")
        if not isinstance(run, str | int) or type(step) is not int or not 0 <= step <= LARGEST_STEP:
            return "malformed"
        if "next" not in row or not self._good(agent) or not self._good(option):
            return "malformed"
        follower, options = row["next"], row.get("options")
        if follower is not None and not self._good(follower):
            return "malformed"
        for table in ("seen", "hidden"):
            if row.get(table) is None:
                row[table] = {}
            elif not isinstance(row[table], dict):
                return "malformed"
        if options is not None and (not isinstance(options, list) or not options or not all(map(self._good, options))):
            return "malformed"
        reward = row.get("reward")
        if not isinstance(reward, dict):
            reward = row["reward"] = {} if reward is None else {"reward": reward}
        duration: Any = row.get("duration")
        probability: Any = row.get("probability")
        if probability is not None:
            if type(probability) not in (int, float):
                return "malformed"
            if not 0 < probability <= 1:
                return "not_finite" if probability != probability else "bad_probability"
        if type(duration) not in (int, float):
            return "malformed"
        for value in (duration, *[reward[name] for name in self.config.reward if name in reward]):
            if type(value) not in (int, float):
                return "malformed"
            if not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
                return "not_finite" if not isinstance(value, int) and not math.isfinite(value) else "malformed"
        if duration < 0:
            return "negative_duration"
        if self.config.agents is not None and (
            agent not in self.agents or (follower is not None and follower not in self.agents)
        ):
            return "unknown_agent"
        return "unknown_option" if options is not None and option not in options else GOOD

    def _good(self, name: Any) -> bool:
        """Whether this can be the name of an agent or an option."""
        if isinstance(name, str) and name in self._good_names:
            return True
        if not _named(name):
            return False
        if len(self._good_names) < MOST_LABELS:
            self._good_names.add(name)
        return True

    def _rewards(self, rows: list[Row], durations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What counts of each line: paid at a rate, paid at the end, both discounted (D2), and primitive steps."""
        config = self.config
        steps = np.ceil(durations / config.step - 1e-9)
        self.cut += int((steps > config.longest).sum())
        tau = np.clip(steps, 1, config.longest).astype(np.int64)
        rate, lump = np.zeros(len(rows)), np.zeros(len(rows))
        for name, (weight, paid) in config.reward.items():
            if name == "duration":
                values = durations
            else:
                self.parts[name] += sum(name not in row["reward"] for row in rows)
                values = np.array([row["reward"].get(name, 0.0) for row in rows], float)
            if paid == "end":
                lump += weight * values * config.gamma ** (tau - 1.0)
            else:
                rate += weight * values * (self._annuity[tau - 1] / tau if paid == "spread" else 1.0)
        return rate, lump, tau

    def _set_codes(self, rows: list[Row]) -> np.ndarray:
        out = np.full(len(rows), UNKNOWN, np.int32)
        known: dict[tuple[str, ...], int] = {}  # in whatever order they were logged
        for index, row in enumerate(rows):
            if row.get("options") is None:
                continue
            logged = tuple(row["options"])
            if logged not in known:
                names = frozenset(logged)
                known[logged] = self.sets.setdefault(names, len(self.sets))
                for name in sorted(names):
                    self.options.setdefault(name, len(self.options))
            out[index] = known[logged]
        return out

    def _field_codes(self, rows: list[Row], lines: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Codes of all fields, and which rows have a field that cannot be read, by kind."""
        bad = {kind: np.zeros(len(rows), bool) for kind in ("malformed", "not_finite")}
        if self.config.fields is None:
            self._discover(rows)
        out = {}
        for name, table in self.labels.items():
            values = [row["seen"].get(name, row["hidden"].get(name)) for row in rows]
            bins = (self.config.fields or {}).get(name)
            if bins is not None:
                out[name] = _binned(values, bins, bad)
            else:
                out[name] = _labelled(name, values, table, bad, lines)
                if bool in set(map(type, values)):
                    self.booleans.add(name)
        return out, bad

    def _discover(self, rows: list[Row]) -> None:
        names = set().union(*[row["seen"] for row in rows], *[row["hidden"] for row in rows]) - self._names
        for name in sorted(names):
            if not _named(name):
                raise ValueError("a field has a name that is empty, too long or not printable: list fields in [fields]")
            self.labels[name] = {}
        self._names |= names
        if len(self._names) > MOST_FIELDS:
            raise ValueError(f"more than {MOST_FIELDS} fields, expected those that matter to be listed in [fields]")

    def _note_seen(self, rows: list[Row], agents: np.ndarray) -> None:
        for name in self.labels:
            found = np.array([name in row["seen"] for row in rows], bool)
            self.seen |= {(int(agent), name) for agent in np.unique(agents[found])}


def _codes(table: Codes, names: list[Any], none: int | None = None) -> np.ndarray:
    """Codes of names, new ones for new names; ``none`` for None."""
    for name in dict.fromkeys(names):
        if name is not None or none is None:
            table.setdefault(name, len(table))
    lookup: Callable[[Any], Any] = table.__getitem__
    if none is not None:
        return np.array([none if name is None else lookup(name) for name in names], np.int32)
    return np.array(list(map(lookup, names)), np.int32)


def _binned(values: list[Any], bins: tuple[float, ...], bad: dict[str, np.ndarray]) -> np.ndarray:
    types = set(map(type, values))
    if not types <= {int, float, type(None)}:
        wrong = np.array([type(value) not in (int, float, type(None)) for value in values])
        bad["malformed"] |= wrong
        values = [None if no else value for value, no in zip(values, wrong, strict=True)]
    none = np.array([value is None for value in values])
    # Python compares integers of any size with floats; NumPy would not hold them.
    numbers = np.array([0.0 if value is None else min(max(value, -1e300), 1e300) for value in values], float)
    bad["not_finite"] |= np.array([isinstance(value, float) and not math.isfinite(value) for value in values], bool)
    return np.where(none, 0, 1 + np.searchsorted(np.array(bins), numbers, side="right")).astype(np.int32)


def _labelled(name: str, values: list[Any], table: Codes, bad: dict[str, np.ndarray], lines: np.ndarray) -> np.ndarray:
    out = np.zeros(len(values), np.int32)
    for index, value in enumerate(values):
        if value is None:
            continue
        if type(value) is float:
            if not math.isfinite(value):
                bad["not_finite"][index] = True
                continue
            if not value.is_integer():
                raise ValueError(
                    f"line {lines[index]}: field {name} is a number with a fraction, expected bins in [fields.{name}]"
                )
            value = int(value)
        elif type(value) is bool:
            value = "true" if value else "false"
        elif type(value) not in (str, int):
            bad["malformed"][index] = True
            continue
        out[index] = table.setdefault(value, len(table) + 1)
    if len(table) > MOST_LABELS:
        raise ValueError(f"field {name}: more than {MOST_LABELS} values, expected bins or another field in [fields]")
    return out
