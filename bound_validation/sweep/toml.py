"""Sweeps as TOML files: five tables, no unknown keys, and complaints that name table, key, value and expectation."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bound_validation.sweep.definition import Figure, Sweep
from bound_validation.sweep.refusal import FINITE, Refusal, nearest, shown
from icsmdp_jax.models.arrays import LARGEST

TABLES: dict[str, tuple[str, ...]] = {
    "sweep": ("name", "measure", "cells_per_part"),
    "model": ("family", "sizes", "fixed"),
    "axes": (),  # any coordinate of the family, learner.width and learner.samples
    "learner": ("samples", "replicas", "width", "chunk", "seed"),
    "figure": ("x", "group", "at", "labels"),
}
SPACED = ("from", "to", "count", "spacing")
SPACINGS: dict[str, Callable[..., np.ndarray]] = {"linear": np.linspace, "log": np.geomspace}
LISTS = ("measure", "sizes", "samples")
MOST_BYTES = 2**24  # of a file, so that a device is not read for ever
DIGITS = 12  # significant digits of spaced values, so that ids are free of rounding


def read_sweep(path: str | os.PathLike[str]) -> Sweep:
    """The sweep that a TOML file describes; names in it are relative to the file.

    Raises:
      ValueError: in one line that begins with the file's name, for whatever cannot be used.
    """
    place = Path(path)
    try:
        with open(place, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        content = tomllib.loads(data.decode("utf-8-sig")) if len(data) <= MOST_BYTES else None
    except FileNotFoundError:
        raise ValueError(f"{place}: no such file, expected a TOML file that describes a sweep") from None
    except (OSError, ValueError, RecursionError) as error:  # a ValueError also for numbers of thousands of digits
        raise ValueError(f"{place}: cannot be read as TOML ({' '.join(str(error).split())})") from None
    if content is None:
        raise ValueError(f"{place}: has more than {MOST_BYTES} bytes, expected a TOML file that describes a sweep")
    try:
        return sweep_of(content, place.resolve().parent)
    except Refusal as error:
        raise ValueError(f"{place}: {_in_file(error)}") from None
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def sweep_of(content: Mapping[str, Any], folder: Path) -> Sweep:
    """The sweep that the tables of a file describe.

    Raises:
      ValueError: in one line, without the file's name.
    """
    for name in content:
        if name not in TABLES:
            raise ValueError(f"[{name}]: unknown table, {nearest(name, TABLES)}")
    settings: dict[str, Any] = {"folder": folder}
    for table, keys in TABLES.items():
        entries = content.get(table, {})
        if not isinstance(entries, dict):
            raise ValueError(f"[{table}] = {shown(entries)}: expected a table")
        if table == "axes":
            settings["axes"] = _axes(entries)
            continue
        for key, value in entries.items():
            if key not in keys:
                raise ValueError(f"[{table}] {key}: unknown key, {nearest(key, keys)}")
            if key in ("fixed", "at", "labels") and not isinstance(value, dict):
                raise ValueError(f"[{table}] {key} = {shown(value)}: expected a table")
            if key in LISTS and not isinstance(value, list):
                raise ValueError(f"[{table}] {key} = {shown(value)}: expected a list")
            if key in ("x", "group", "family") and not isinstance(value, str):
                raise ValueError(f"[{table}] {key} = {shown(value)}: expected a text")
        if table == "figure":
            if "at" in entries:
                entries = {**entries, "at": _flat(entries["at"])}
            if "labels" in entries:
                entries = {**entries, "labels": _flat(entries["labels"])}
            settings["figure"] = Figure(**entries)
        else:
            settings |= entries
    for table, key in (("sweep", "name"), ("model", "family")):
        if key not in settings:
            raise ValueError(f"[{table}] {key}: missing, expected in every file")
    if "sizes" in settings:
        settings["sizes"] = tuple(settings["sizes"])
    return Sweep(**settings)


def _flat(entries: Mapping[str, Any]) -> dict[str, Any]:
    """``learner.width`` is one name, whether it is quoted or not."""
    out = {name: value for name, value in entries.items() if name != "learner"}
    learner = entries.get("learner", {})
    if not isinstance(learner, dict):
        raise ValueError(f"learner = {shown(learner)}: expected learner.width or learner.samples")
    return out | {f"learner.{name}": value for name, value in learner.items()}


def _axes(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Axes with spaced values written out."""
    out = {}
    for name, values in _flat(entries).items():
        if isinstance(values, dict):
            values = _spaced(name, values)
        elif not isinstance(values, list):
            raise ValueError(f"[axes] {name} = {shown(values)}: expected a list or {{from, to, count, spacing}}")
        out[name] = values
    return out


def _spaced(name: str, entry: Mapping[str, Any]) -> list[float]:
    where = f"[axes] {name}"
    for key in entry:
        if key not in SPACED:
            raise ValueError(f"{where}.{key}: unknown key, {nearest(key, SPACED)}")
    for key in ("from", "to", "count"):
        if key not in entry:
            raise ValueError(f"{where}.{key}: missing, expected a number")
        if not isinstance(entry[key], int | float) or isinstance(entry[key], bool):
            raise ValueError(f"{where}.{key} = {shown(entry[key])}: expected a number")
        if not abs(entry[key]) <= LARGEST:
            raise ValueError(f"{where}.{key} = {shown(entry[key])}: expected {FINITE}")
    spacing, count = entry.get("spacing", "linear"), entry["count"]
    if spacing not in SPACINGS:
        raise ValueError(f"{where}.spacing = {shown(spacing)}: expected linear or log")
    if not isinstance(count, int) or not 2 <= count <= 100_000:
        raise ValueError(f"{where}.count = {shown(count)}: expected a whole number from 2 to 100000")
    if spacing == "log" and not (entry["from"] > 0 and entry["to"] > 0):
        raise ValueError(f"{where} = {shown(dict(entry))}: expected ends above 0 for spacing = 'log'")
    values = SPACINGS[spacing](float(entry["from"]), float(entry["to"]), count)
    return [float(f"{value:.{DIGITS}g}") for value in values]


def _in_file(error: Refusal) -> str:
    """The refusal with the field's table in front."""
    if error.field == "axes":
        return f"[axes] {error.place}{error.problem}".replace("[axes]  =", "[axes] =")
    if error.field in ("fixed", "figure"):
        table = "model.fixed" if error.field == "fixed" else "figure"
        return f"[{table}] {error.place}{error.problem}"
    table = next((name for name, keys in TABLES.items() if error.field in keys), "sweep")
    place = f"[{error.place!r}]" if error.place else ""
    return f"[{table}] {error.field}{place}{error.problem}"
