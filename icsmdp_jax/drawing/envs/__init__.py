"""The pictures of docs/environments.md: ``python -m icsmdp_jax.drawing.envs docs/figures`` draws them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from icsmdp_jax.drawing import style
from icsmdp_jax.drawing.envs import expert_routing as expert_routing
from icsmdp_jax.drawing.envs import federated_routing as federated_routing
from icsmdp_jax.drawing.envs import math_pipeline as math_pipeline
from icsmdp_jax.drawing.envs import role_workflows as role_workflows
from icsmdp_jax.drawing.envs import routing as routing
from icsmdp_jax.drawing.envs import semantic_cache as semantic_cache
from icsmdp_jax.io import atomic_write

PICTURES: dict[str, Callable[[], Any]] = {
    "routing-6x6": routing.draw,
    "expert-routing": expert_routing.draw,
    "math-pipeline": math_pipeline.draw,
    "semantic-cache": semantic_cache.draw,
    "federated-routing": federated_routing.draw,
    "eval-opt": partial(role_workflows.draw, "eval-opt"),
    "voting": partial(role_workflows.draw, "voting"),
    "orch-workers": partial(role_workflows.draw, "orch-workers"),
}


def draw_all(folder: str | Path) -> list[Path]:
    """Writes every picture as a PNG, without dates: the same picture gives the same bytes.

    Returns:
      The paths, in the order of ``PICTURES``.
    """
    found = []
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        path = Path(folder) / f"{name}.png"
        with style.house_style(), atomic_write(path) as stream:
            draw().savefig(stream, format="png", dpi=style.DPI, metadata={"Software": None, "Title": name})
        found.append(path)
    return found
