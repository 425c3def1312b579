"""A finite IC-SMDP as arrays (D1): the model file in memory, validated once, on the host, in float64.

``S`` handoff states, ``O`` options, ``T`` longest duration in primitive steps, ``Z`` interfaces, ``W`` listed
successors. The transition law is given in exactly one of three forms: dense (``transition`` and ``duration``),
joint (``kernel``) or successor lists (``successor``, ``probability`` and ``duration``).
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

SUM_TOLERANCE = 1e-6  # float32 pmfs of some thousand entries still pass; rows are renormalised to 1 afterwards

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class TabularModel:
    """A finite IC-SMDP; see the module docstring for the three forms of the transition law.

    Attributes:
      reward_rate: ``[S, O]`` reward paid at every primitive step of the option, so that
        ``E[R|s,o] = rate * (1 - E[gamma^tau|s,o]) / (1 - gamma)``.
      agent: ``[S]`` int, active agent, 0-based.
      interface: ``[S]`` int, interface that the active agent sees, 0-based; each belongs to one agent.
      gamma: discount per primitive step, in ``[0, 1)``.
      reward_noise: half-width ``h >= 0`` of the uniform noise added to the segment reward.
      transition: ``[S, O, S]`` next handoff state, given state and option.
      duration: ``[S, O, T]`` pmf of ``tau = 1..T``, independent of the next state.
      kernel: ``[S, O, T, S]`` joint pmf of duration and next state.
      successor: ``[S, O, W]`` int, listed next states.
      probability: ``[S, O, W]`` their probabilities (padding has probability 0).
      features: ``[Z, dim]`` optional description of each interface.
      available: ``[Z, O]`` bool, options available at each interface (all, if absent).
      start: ``[S]`` start law; required with ``terminal``.
      terminal: ``[S]`` bool, terminal handoffs: value 0, rows ignored.

    Raises:
      ValueError: one line that names the array, the index, the value found and what was expected.
    """

    reward_rate: Array
    agent: Array
    interface: Array
    gamma: float
    reward_noise: float = 0.0
    transition: Array | None = None
    duration: Array | None = None
    kernel: Array | None = None
    successor: Array | None = None
    probability: Array | None = None
    features: Array | None = None
    available: Array | None = None
    start: Array | None = None
    terminal: Array | None = None

    def __post_init__(self) -> None:
        from icsmdp_jax.tabular_checks import validated

        for name, value in validated(self).items():
            object.__setattr__(self, name, value)

    @property
    def num_states(self) -> int:
        """``S``, terminal states included."""
        return self.reward_rate.shape[0]

    @property
    def num_options(self) -> int:
        """``O``."""
        return self.reward_rate.shape[1]

    @cached_property
    def num_interfaces(self) -> int:
        """``Z``: as many as ``available`` or ``features`` describe, else as many as states refer to."""
        for table in (self.available, self.features):
            if table is not None:
                return table.shape[0]
        return int(self.interface.max()) + 1

    @cached_property
    def num_agents(self) -> int:
        """``N``: largest agent index plus one."""
        return int(self.agent.max()) + 1

    @property
    def longest_duration(self) -> int:
        """``T`` in primitive steps."""
        if self.kernel is not None:
            return self.kernel.shape[2]
        assert self.duration is not None
        return self.duration.shape[2]

    @cached_property
    def is_terminal(self) -> Array:
        """``[S]`` bool; all False for a continuing model."""
        return np.zeros(self.num_states, bool) if self.terminal is None else self.terminal

    @cached_property
    def option_mask(self) -> Array:
        """``[Z, O]`` bool; all True if the model restricts nothing."""
        if self.available is None:
            return np.ones((self.num_interfaces, self.num_options), bool)
        return self.available

    @cached_property
    def interface_agent(self) -> Array:
        """``[Z]`` int, the agent that owns each interface; -1 where no decision is ever taken."""
        owner = np.full(self.num_interfaces, -1)
        decides = ~self.is_terminal
        owner[self.interface[decides]] = self.agent[decides]
        return owner

    def arrays(self) -> dict[str, Array]:
        """The arrays of the model file, absent ones left out."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: np.asarray(value) for name, value in fields.items() if value is not None}

    def replace(self, **changes: object) -> TabularModel:
        """A copy with some arrays changed, validated again."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]
