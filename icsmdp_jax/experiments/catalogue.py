"""What can be asked for: which experiment belongs to which environment, at which size.

Experiments are named by strings, so that nothing is imported before it is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import import_module
from typing import Any

HERE = "icsmdp_jax.experiments"

EXPERIMENTS: dict[str, str] = {
    "routing-6x6": f"{HERE}.routing:run",
    "expert-routing": f"{HERE}.experts:run",
    "math-pipeline": f"{HERE}.mathematics:run",
    "semantic-cache": f"{HERE}.caching:run",
    "federated-routing": f"{HERE}.federated:run",
    "cpu-sort2": f"{HERE}.sorting:run",
    "cpu-sort3": f"{HERE}.sorting:run",
    "cpu-sort4": f"{HERE}.sorting:run",
    "eval-opt": f"{HERE}.roles:run",
    "voting": f"{HERE}.roles:run",
    "orch-workers": f"{HERE}.roles:run",
    "workshop": f"{HERE}.workshop:run",
    "planted": f"{HERE}.planted:run",
    "communication": f"{HERE}.communication:run",
    "warm-start": f"{HERE}.warm_start:run",
    "segment-descriptors": f"{HERE}.descriptors:run",
}
STUDIES: dict[str, str] = {  # not of one environment of that name, and what each is about
    "communication": "what is communicated at a handoff, and what each number more is worth, over all environments",
    "warm-start": "a new agent joins a planted workflow and starts from the parameters of the existing ones",
    "segment-descriptors": "what a segment's primitive steps were like, as a part of the interface and for transfer",
}
ALL = "all"  # stands for every name
SECONDS: dict[str, int] = {  # measured, preset quick, two at once on two cores of 2.5 GHz; OTHERS of those left out
    "communication": 363, "routing-6x6": 174, "cpu-sort4": 159, "federated-routing": 138, "semantic-cache": 130,
    "math-pipeline": 119, "cpu-sort3": 113, "expert-routing": 99, "workshop": 89, "orch-workers": 51,
}  # fmt: skip
OTHERS = 30
WITH_LOAD = ("routing-6x6",)
PRESETS = ("testing", "quick", "full")


@dataclasses.dataclass(frozen=True)
class Options:
    """A request; every experiment takes one and returns a ``Result``.

    Attributes:
      name: registered name of the environment, or of what is asked of all of them.
      preset: ``"testing"`` (seconds, for the test suite: everything runs, nothing is well measured), ``"quick"`` (a
        minute or two on two cores: what the report shows) or ``"full"``.
      load: packets per time unit, for packet networks; None for the experiment's own choice.
      seed: of all random keys.
    """

    name: str
    preset: str = "quick"
    load: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset = {self.preset!r}: expected one of {', '.join(PRESETS)}")
        if self.load is not None and not 0 < self.load < float("inf"):
            raise ValueError(f"load = {self.load}: expected a positive number of packets per time unit")
        if self.load is not None and self.name not in WITH_LOAD:
            raise ValueError(f"load = {self.load}: expected with {', '.join(WITH_LOAD)} only, but {self.name} has none")

    def pick(self, testing: int, quick: int, full: int) -> int:
        """The number that belongs to the preset."""
        return {"testing": testing, "quick": quick, "full": full}[self.preset]


def names() -> tuple[str, ...]:
    """All names with an experiment, in the order of the report."""
    return tuple(EXPERIMENTS)


def experiment(name: str) -> Callable[[Options], Any]:
    """The function that runs an experiment; it returns a ``Result``.

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
