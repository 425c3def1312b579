"""Small sweeps that the tests share: the drafter and checker of the examples, five states, and no model files."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from bound_validation.sweep.definition import Sweep
from examples.own_sweep import drafts

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "own_sweep.toml"
ALL = ("interface", "limit", "theorem")


def small(**changes: Any) -> Sweep:
    """Three cells in parts of two: the last part has an idle lane. Everything that learns shares one shape."""
    settings: dict[str, Any] = {
        "name": "small", "family": drafts, "axes": {"stakes": (0.0, 1.0, 2.0)}, "samples": (400, 800), "replicas": 4,
        "cells_per_part": 2, "sizes": (), "measure": ALL,
    }  # fmt: skip
    return Sweep(**{**settings, **changes})


def exact(**changes: Any) -> Sweep:
    """A sweep that computes and does not simulate."""
    return small(**{"measure": ("interface",), **changes})


def without_figures() -> Any:
    """Leaves the figures out, for runs in which they are not what is tested."""
    return mock.patch("bound_validation.sweep.figure.draw_all", lambda sweep, rows, out: {})


TOML = """
[sweep]
name = "toml"
measure = ["interface"]
cells_per_part = 2
[model]
family = "{family}"
[axes]
stakes = [0.0, 1.0, 2.0]
[learner]
samples = [400, 800]
"""


def written(folder: Path, text: str = "", family: str = "own.py:drafts") -> Path:
    """A TOML file beside a Python file with the family."""
    source = Path(__file__).resolve().parents[3] / "examples" / "own_sweep.py"
    (folder / "own.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    place = folder / "sweep.toml"
    place.write_text(text or TOML.format(family=family), encoding="utf-8")
    return place
