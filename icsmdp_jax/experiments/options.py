"""What the user asked of an experiment."""

from __future__ import annotations

import dataclasses

PRESETS = ("testing", "quick", "full")


@dataclasses.dataclass(frozen=True)
class Options:
    """A request; every experiment takes one and returns a ``Result``.

    Attributes:
      name: registered name of the environment.
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

    def pick(self, testing: int, quick: int, full: int) -> int:
        """The number that belongs to the preset."""
        return {"testing": testing, "quick": quick, "full": full}[self.preset]
