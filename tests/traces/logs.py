"""Small logs for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from icsmdp_jax.traces.config import FitConfig, config_of

SETTINGS: dict[str, Any] = {
    "gamma": 0.9,
    "time": {"step": 0.5, "longest": 8},
    "agents": {"names": ["triage", "expert"]},
    "fields": {"topic": {}, "load": {"bins": [0.5]}, "angry": {}},
    "visible": {"triage": ["topic"], "expert": ["topic", "load"]},
    "reward": {"outcome": {"weight": 1.0}, "cost": {"weight": -0.1, "paid": "spread"}},
    "fit": {"support": 2, "resamples": 20},
}


def config(**changes: Any) -> FitConfig:
    """The configuration of these logs, with some tables changed."""
    return config_of({**SETTINGS, **changes})


def handoff(run: str, step: int, agent: str, follower: str | None, **more: Any) -> dict[str, Any]:
    """A line with nothing wrong with it."""
    line = {
        "run": run, "step": step, "agent": agent, "seen": {"topic": "billing"}, "hidden": {"angry": False, "load": 0.2},
        "options": ["solve", "pass"], "option": "solve" if follower is None else "pass", "probability": 0.5,
        "reward": {"outcome": float(follower is None), "cost": 0.3}, "duration": 1.2, "next": follower,
    }  # fmt: skip
    return {**line, **more}


def desk(runs: int = 12) -> list[dict[str, Any]]:
    """Runs in which the triage passes on or solves; one of them after the other, all alike but for their fields."""
    lines = []
    for index in range(runs):
        seen = {"topic": ("billing", "bug")[index % 2]}
        hidden = {"angry": index % 3 == 0, "load": 0.1 * (index % 10)}
        both = {"seen": seen, "hidden": hidden}
        if index % 4:
            lines.append(handoff(f"r{index}", 0, "triage", "expert", duration=0.2 + index, **both))
            lines.append(handoff(f"r{index}", 1, "expert", None, **both))
        else:
            lines.append(handoff(f"r{index}", 0, "triage", None, probability=None, **both))
    return lines


def write(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
