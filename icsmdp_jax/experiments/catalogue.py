"""Which experiment belongs to which environment: strings, so that nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icsmdp_jax.experiments.options import Options
    from icsmdp_jax.experiments.result import Result

HERE = "icsmdp_jax.experiments"

EXPERIMENTS: dict[str, str] = {
    "routing-6x6": f"{HERE}.routing:run",
    "expert-routing": f"{HERE}.experts:run",
    "math-pipeline": f"{HERE}.mathematics:run",
    "cpu-sort2": f"{HERE}.sorting:run",
    "cpu-sort3": f"{HERE}.sorting:run",
    "cpu-sort4": f"{HERE}.sorting:run",
    "eval-opt": f"{HERE}.roles:run",
    "voting": f"{HERE}.roles:run",
    "orch-workers": f"{HERE}.roles:run",
    "workshop": f"{HERE}.workshop:run",
    "planted": f"{HERE}.planted:run",
}
ALL = "all"  # stands for every name
WITH_LOAD = ("routing-6x6",)


def names() -> tuple[str, ...]:
    """All names with an experiment, in the order of the report."""
    return tuple(EXPERIMENTS)


def experiment(name: str) -> Callable[[Options], Result]:
    """The function that runs an experiment.

    Raises:
      ValueError: for an unknown name; the line lists the names.
    """
    checked(name)
    module, _, function = EXPERIMENTS[name].partition(":")
    return getattr(import_module(module), function)


def checked(name: str) -> str:
    """The name, if there is such an experiment.

    Raises:
      ValueError: if there is none; the line lists the names.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"experiment {name!r}: expected one of {', '.join((*EXPERIMENTS, ALL))}")
    return name
