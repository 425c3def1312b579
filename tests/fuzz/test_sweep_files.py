"""TOML files of custom sweeps with keys, types, values and bytes that nobody expects: refused in one line, or run.

What is left of a sweep after the changes is computed exactly, in small memory, so that no case takes long.
"""

from __future__ import annotations

import copy
import math
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bound_validation.sweep import run
from bound_validation.sweep.toml import SPACED, TABLES
from icsmdp_jax.envs.planted.structure import PlantedConfig
from icsmdp_jax.models.random import random_model
from tests.bound_validation.sweep.small import without_figures
from tests.command_line import PLAIN
from tests.fuzz.damage import changed
from tests.fuzz.judge import INVALID, TooLong, judged, many

MEMORY = 2**24  # bytes that a model may take: what is larger is refused before it is built


def kind_of(annotation: Any) -> str:
    """The plain type of an annotation: ``list`` for ``tuple[str, ...]``, ``int`` for ``int | None``."""
    return str(annotation).split(" ")[0].split("[")[0].replace("tuple", "list")


KINDS = {
    "planted": {name: kind_of(field.type) for name, field in PlantedConfig.__dataclass_fields__.items()},
    "random": {name: kind_of(kind) for name, kind in random_model.__annotations__.items() if name != "return"},
}  # fmt: skip
Content = dict[str, Any]


class Literal(str):
    """A value as it stands in the file."""


SMALL = {"num_agents": 2, "fields": [["a", 2], ["b", 2]], "longest_duration": 4, "planted_atoms": 16, "successors": 2}
VALID: tuple[Content, ...] = (
    {
        "sweep": {"name": "gaps", "measure": ["interface"]},
        "model": {"family": "planted", "fixed": {**SMALL, "duration_mean": 2.0}},
        "axes": {"gap": [0.0, 0.2], "gamma": [0.5, 0.9]},
        "learner": {"samples": [40, 80], "replicas": 2, "width": 2, "chunk": 20, "seed": 1},
        "figure": {"x": "gap", "group": "gamma", "labels": {"gap": "gap $\\eta$"}},
    },
    {
        "sweep": {"name": "drawn", "measure": ["interface"], "cells_per_part": 1},
        "model": {"family": "random", "sizes": ["seed"], "fixed": {"num_interfaces": 5, "hidden": 2, "features": 3}},
        "axes": {"seed": [1, 2], "longest_duration": [8]},
        "figure": {"at": {"longest_duration": 8}},
    },
    {
        "sweep": {"name": "file", "measure": ["interface"]},
        "model": {"family": "model.npz"},
        "axes": {"gamma": {"from": 0.5, "to": 0.9, "count": 2, "spacing": "log"}, "learner.width": [0, 2]},
    },
)
KEYS = (
    *TABLES, *(key for keys in TABLES.values() for key in keys), *SPACED, "learner.width", "learner.samples", "gap",
    "gamma", "duration_mean", "hidden", "", " ", "é", "naem", "a b", "folder", "reward_noise", "option_margin",
    *PlantedConfig.__dataclass_fields__,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    0, 1, 2, 3, -1, 64, 10**6, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, 1.0, 2.0, -0.5,
    1e-320, 1e-12,
    1e16, 1e150, 1e300, 1.7e308, math.nan, math.inf, -math.inf, True, False, "", "gap", "planted", "random",
    "uniform",
    "poisson", "geometric", "model.npz", "missing.npz", "none.py:family", "no_such_module:f", "os:getcwd", "../x",
    "a\\b", "$x", "$\\frac{$", "x" * 300,
    "\\u0000", [], [0], [1, 2], [2, 1], [1, 1], [0.1, "a"], ["interface", "interface"], ["limit"], [[1]],
    [["a", 2]], [["a", 0], ["a", 1]],
    [["a", -1]], [["a"], ["b"]], [math.nan], [10**400], {}, {"from": 0, "to": 1, "count": 3},
    {"from": 0, "to": 1, "count": 3, "spacing": "log"},
    {"from": 1, "to": 1, "count": 2}, {"from": 1e308, "to": -1e308, "count": 3},
    {"from": 1, "to": 10**400, "count": 2}, {"from": 1, "to": 2, "count": 10**9},
    {"from": math.nan, "to": 1, "count": 2}, {"a": {"b": 1}}, {"x": "gap"}, Literal("1979-05-27T07:32:00Z"),
    Literal("07:32:00"), Literal("1979-05-27"),
    Literal("0x10"), Literal("1__0"), Literal("'''a\nb'''"),
    Literal("\"\\u001b[31m\""), Literal("[1, 2"), Literal("nan"), Literal("-inf"), Literal("="),
    Literal("9" * 5000), Literal("[" * 3000)
)  # fmt: skip


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, Literal):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\\\\u0000", "\\u0000") + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(entry)}" for key, entry in value.items()) + "}"
    return repr(value)


def text_of(content: Content) -> str:
    """A whole file: tables as sections, everything else in front of them."""
    lines = [f"{toml(name)} = {toml(value)}" for name, value in content.items() if not isinstance(value, dict)]
    for name, table in content.items():
        if isinstance(table, dict):
            lines += [f"[{toml(name)}]", *(f"{toml(key)} = {toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """The bytes of a TOML file that was a sweep before it was changed in up to four places."""
    content = copy.deepcopy(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 3))):
        _coordinate(draw, content) if draw(st.booleans()) else _change(draw, content)
    data = text_of(content).encode("utf-8")
    kind = draw(st.sampled_from(("plain",) * 6 + ("mark", "utf-16", "latin", "twice", "bytes", "windows")))
    if kind == "mark":
        return b"\xef\xbb\xbf" + data
    if kind == "utf-16":
        return data.decode().encode("utf-16")
    if kind == "latin":
        return data + "# é".encode("latin-1")
    if kind == "twice":
        return data + data
    if kind == "windows":
        return data.replace(b"\n", b"\r\n")
    return changed(draw, data) if kind == "bytes" else data


def _coordinate(draw: st.DrawFn, content: Content) -> None:
    """A coordinate of the family gets another value of its type."""
    model = content.get("model")
    if not isinstance(model, dict) or str(model.get("family")) not in KINDS:
        return
    kinds = KINDS[model["family"]]
    name = draw(st.sampled_from(sorted(kinds)))
    value = draw(st.sampled_from([value for value in VALUES if type(value).__name__ == kinds[name]]))
    fixed = model.get("fixed")
    if isinstance(fixed, dict):
        fixed[name] = copy.deepcopy(value)


def _change(draw: st.DrawFn, content: Content) -> None:
    place: Any = content
    while True:
        names = sorted(place)
        name = draw(st.sampled_from(names)) if names else ""
        inside = place.get(name)
        if not isinstance(inside, dict) or draw(st.integers(0, 5)) == 0:
            break
        place = inside
    kind = draw(st.sampled_from(("value", "value", "value", "key", "drop", "add", "add", "axis")))
    if kind == "axis":
        axes = content.get("axes")
        if isinstance(axes, dict):
            axes[draw(st.sampled_from(KEYS))] = [
                copy.deepcopy(draw(st.sampled_from(VALUES))),
                *draw(st.sampled_from(([], [1], [0.5]))),
            ]
    elif kind == "add" or not names:
        place[draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    elif kind == "drop":
        del place[name]
    elif kind == "key":
        place[draw(st.sampled_from(KEYS))] = place.pop(name)
    else:
        place[name] = copy.deepcopy(draw(st.sampled_from(VALUES)))


RUN = run.run_sweep


def exact_only(sweep: Any, out: Path, *flags: bool) -> Any:
    """Runs a sweep that computes exactly, and that is small."""
    listed = run.tasks(sweep)
    if sweep.learns or sum(task.cells for task in listed) > 20:
        raise TooLong
    return RUN(sweep, out, *flags)


def case(content: bytes, folder: Path) -> int | None:
    """Writes the file, runs the sweep, and looks at how it ended."""
    place, out = folder / "sweep.toml", folder / "out"
    place.write_bytes(content)
    (folder / "model.npz").write_bytes(PLAIN.read_bytes())
    shutil.rmtree(out, ignore_errors=True)
    with (
        mock.patch("bound_validation.sweep.run.run_sweep", exact_only), without_figures(),
        mock.patch("icsmdp_jax.devices.placement.host_memory", lambda: MEMORY),
    ):  # fmt: skip
        try:
            outcome = judged(folder, "sweep", place, "--out", out, "--json", codes=(0, INVALID))
        except TooLong:
            return None
    if outcome.code == INVALID:
        assert str(place) in outcome.err or "cell " in outcome.err, outcome
    else:
        assert (out / "summary.json").is_file() and (out / "report.html").is_file()
    return outcome.code


FAST, SLOW = 12, 2500


@pytest.mark.parametrize("count", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_files_that_are_not_what_they_should_be(count, tmp_path):
    @many(count)
    @given(files())
    def check(content: bytes) -> None:
        case(content, tmp_path)

    check()
