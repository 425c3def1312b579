"""What a log cannot say about itself, as a TOML file: who sees what, what is paid, what a step is."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

MOST_BYTES = 2**22  # of a file
PAID = ("end", "spread", "start")
FORMATS = ("handoffs", "otlp", "agents-sdk")
TABLES = ("gamma", "log", "time", "agents", "fields", "visible", "reward", "fit")


class Part(NamedTuple):
    """How a part of the reward counts.

    Attributes:
      weight: factor of the logged number.
      paid: ``"end"``: with the last primitive step of the segment; ``"spread"``: evenly over its steps; ``"start"``: as
        it is, hence discounted to the segment's first step already.
    """

    weight: float
    paid: str


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """The content of a FIT.toml.

    Attributes:
      gamma: discount per primitive step.
      format: ``"handoffs"``, ``"otlp"``, ``"agents-sdk"``; None to look at the first line.
      unit: name of the unit of durations, for the report.
      step: durations in that unit that make one primitive step.
      longest: primitive steps to which longer durations are cut.
      agents: all that may occur; None for all that do.
      fields: what a state consists of: ends of bins, or None for labels; None for every field of the log, as labels.
      visible: fields that an agent sees; agents that are left out see what their lines have under ``seen``.
      reward: parts of the reward by name.
      caution: standard errors by which values are lowered before options are compared.
      support: least number of handoffs with an option for it to be chosen.
      resamples: bootstrap resamples of runs.
      confidence: of all intervals.
      seed: of the resampling.
    """

    gamma: float
    reward: Mapping[str, Part]
    format: str | None = None
    unit: str = "steps"
    step: float = 1.0
    longest: int = 100
    agents: tuple[str, ...] | None = None
    fields: Mapping[str, tuple[float, ...] | None] | None = None
    visible: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    caution: float = 1.0
    support: int = 10
    resamples: int = 400
    confidence: float = 0.95
    seed: int = 0


def read_config(path: str | os.PathLike[str]) -> FitConfig:
    """The configuration in a TOML file.

    Raises:
      ValueError: in one line that begins with the file's name and names table, key and what was expected.
    """
    place = Path(path)
    try:
        with open(place, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        content = tomllib.loads(data.decode("utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(f"{place}: no such file, expected a TOML file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{place}: cannot be read as TOML ({' '.join(str(error).split())[:200]})") from None
    try:
        return config_of(content)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def config_of(content: Mapping[str, Any]) -> FitConfig:
    """The configuration that the tables of a file describe.

    Raises:
      ValueError: in one line, without the file's name.
    """
    for name in content:
        _known(name, TABLES, "")
    tables = {name: content.get(name, {}) for name in TABLES if name != "gamma"}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ValueError(f"[{name}] = {_shown(table)}: expected a table")
    if "gamma" not in content:
        raise ValueError("gamma: missing, expected a discount per primitive step in [0, 1)")
    settings: dict[str, Any] = {"gamma": _number("gamma", content["gamma"], 0.0, 1.0, open_end=True)}
    for name, keys in (("log", ("format",)), ("time", ("unit", "step", "longest")), ("agents", ("names",))):
        for key in tables[name]:
            _known(key, keys, f"[{name}] ")
    if "format" in tables["log"]:
        settings["format"] = _choice("[log] format", tables["log"]["format"], FORMATS)
    settings |= _time(tables["time"])
    if "names" in tables["agents"]:
        settings["agents"] = _texts("[agents] names", tables["agents"]["names"])
    if "fields" in content:
        settings["fields"] = {name: _bins(name, entry) for name, entry in tables["fields"].items()}
    settings["visible"] = {name: _texts(f"[visible] {name}", entry) for name, entry in tables["visible"].items()}
    if settings.get("fields") is not None:
        for agent, names in settings["visible"].items():
            for name in names:
                _known(name, tuple(settings["fields"]), f"[visible] {agent}: ")
    if not tables["reward"]:
        raise ValueError("[reward]: missing, expected a table [reward.PART] for every part that counts")
    settings["reward"] = {name: _part(name, entry) for name, entry in tables["reward"].items()}
    return FitConfig(**settings, **_fit(tables["fit"]))


def _time(table: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if "unit" in table:
        if not isinstance(table["unit"], str):
            raise ValueError(f"[time] unit = {_shown(table['unit'])}: expected a text")
        out["unit"] = table["unit"]
    if "step" in table:
        out["step"] = _number("[time] step", table["step"], 1e-12, 1e12)
    if "longest" in table:
        out["longest"] = _whole("[time] longest", table["longest"], 1, 10_000)
    return out


def _bins(name: str, entry: Any) -> tuple[float, ...] | None:
    if not isinstance(entry, dict):
        raise ValueError(f"[fields] {name} = {_shown(entry)}: expected a table, empty or with bins")
    for key in entry:
        _known(key, ("bins",), f"[fields.{name}] ")
    if "bins" not in entry:
        return None
    if not isinstance(entry["bins"], list) or not entry["bins"]:
        raise ValueError(f"[fields.{name}] bins = {_shown(entry['bins'])}: expected a list of numbers")
    ends = [_number(f"[fields.{name}] bins", end, -1e100, 1e100) for end in entry["bins"]]
    if any(b <= a for a, b in zip(ends, ends[1:], strict=False)):
        raise ValueError(f"[fields.{name}] bins = {_shown(entry['bins'])}: expected numbers that increase")
    return tuple(ends)


def _part(name: str, entry: Any) -> Part:
    if not isinstance(entry, dict):
        raise ValueError(f"[reward] {name} = {_shown(entry)}: expected a table with weight and paid")
    for key in entry:
        _known(key, ("weight", "paid"), f"[reward.{name}] ")
    weight = _number(f"[reward.{name}] weight", entry.get("weight", 1.0), -1e12, 1e12)
    return Part(weight, _choice(f"[reward.{name}] paid", entry.get("paid", "end"), PAID))


def _fit(table: Mapping[str, Any]) -> dict[str, Any]:
    readers = {
        "caution": lambda name, value: _number(name, value, 0.0, 100.0),
        "support": lambda name, value: _whole(name, value, 1, 10**9),
        "resamples": lambda name, value: _whole(name, value, 20, 10_000),
        "confidence": lambda name, value: _number(name, value, 0.5, 0.9999),
        "seed": lambda name, value: _whole(name, value, 0, 2**63 - 1),
    }
    for key in table:
        _known(key, tuple(readers), "[fit] ")
    return {key: readers[key](f"[fit] {key}", value) for key, value in table.items()}


def _known(name: str, allowed: tuple[str, ...], where: str) -> None:
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, n=1)
        meant = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(allowed)}"
        raise ValueError(f"{where}{name}: unknown, {meant}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."


def _number(name: str, value: Any, low: float, high: float, open_end: bool = False) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high  # False for NaN
    if not good or (open_end and value == high):
        raise ValueError(
            f"{name} = {_shown(value)}: expected a number from {low:g} to {high:g}{' (exclusive)' * open_end}"
        )
    return float(value)


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} = {_shown(value)}: expected a whole number from {low} to {high}")
    return value


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} = {_shown(value)}: expected one of {', '.join(allowed)}")
    return str(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) and entry for entry in value):
        raise ValueError(f"{name} = {_shown(value)}: expected a list of names")
    if len(set(value)) < len(value):
        raise ValueError(f"{name} = {_shown(value)}: expected every name once")
    return tuple(value)
