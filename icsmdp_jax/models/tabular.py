"""A finite IC-SMDP as arrays (D1): the model file in memory, validated once, on the host, in float64.

``S`` handoff states, ``O`` options, ``T`` longest duration in primitive steps, ``Z`` interfaces, ``N`` agents, ``W``
listed successors, ``F`` fields. The transition law is given in exactly one of three forms: dense (``transition`` and
``duration``), joint (``kernel``) or successor lists (``successor``, ``probability`` and ``duration``).
"""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property

import numpy as np

from icsmdp_jax.core.words import html_table
from icsmdp_jax.models.arrays import Array
from icsmdp_jax.models.validation import BY_INTERFACE, validated


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TabularModel:
    """A finite IC-SMDP as arrays (D1), checked when they are given.

    The law of a segment is given in one of three forms: ``transition`` and ``duration``, which are independent;
    ``successor``, ``probability`` and ``duration``, for large models; or ``kernel``, the joint law.

    A segment of ``tau`` primitive steps from ``s`` to ``s'`` under ``o`` pays (D2)
    ``reward_rate (1 - gamma^tau) / (1 - gamma) + gamma^(tau-1) (lump_reward + lump_reward_next) + noise``.

    Attributes:
      reward_rate: ``[S, O]`` reward paid at every primitive step of the option, so that
        ``E[R|s,o] = rate * (1 - E[gamma^tau|s,o]) / (1 - gamma)`` if nothing else is paid.
      agent: ``[S]`` int, active agent, 0-based; no number is left out, unless ``agent_name`` or ``visible`` has a row
        for it.
      interface: ``[S]`` int, interface that the active agent sees, 0-based; each belongs to one agent.
      gamma: discount per primitive step, in ``[0, 1)``.
      reward_noise: half-width ``h >= 0`` of the uniform noise added to the segment reward.
      lump_reward: ``[S, O]`` reward paid with the last primitive step of the option, hence discounted by
        ``gamma^(tau-1)``.
      lump_reward_next: ``[S, O, S]``, or ``[S, O, W]`` with successor lists: the same, by the state entered. Two
        listed entries may name one next state and pay different lumps: the reward is then random given that state.
      transition: ``[S, O, S]`` next handoff state, given state and option.
      duration: ``[S, O, T]`` pmf of ``tau = 1..T``, independent of the next state.
      kernel: ``[S, O, T, S]`` joint pmf of duration and next state.
      successor: ``[S, O, W]`` int, listed next states.
      probability: ``[S, O, W]`` their probabilities (padding has probability 0).
      features: ``[Z, dim]`` optional description of each interface.
      available: ``[Z, O]`` bool, options available at each interface (all, if absent).
      start: ``[S]`` start law; required with ``terminal``.
      terminal: ``[S]`` bool, terminal handoffs: value 0, rows ignored.
      agent_name: ``[N]`` unicode, all different.
      option_name: ``[O]`` unicode, all different.
      interface_name: ``[Z]`` unicode.
      state_name: ``[S]`` unicode.
      fields: ``[S, F]`` int32, what a state consists of.
      field_name: ``[F]`` unicode, all different.
      visible: ``[N, F]`` bool, the fields that each agent sees. Two states of one agent that decide then share an
        interface exactly if their visible fields agree.

    Raises:
      ValueError: one line that names the array, the index, the value found and what was expected.

    Example:
      >>> import numpy as np, icsmdp_jax as ic
      >>> ic.TabularModel(  # two states that look alike, one agent, one option of one step
      ...     transition=np.full((2, 1, 2), 0.5), duration=np.ones((2, 1, 1)), reward_rate=[[0.0], [1.0]],
      ...     agent=[0, 0], interface=[0, 0], gamma=0.9,
      ... )
      TabularModel(2 states, 1 interface, 1 agent, 1 option, 1 primitive step at most, gamma 0.9)
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
    lump_reward: Array | None = None
    lump_reward_next: Array | None = None
    agent_name: Array | None = None
    option_name: Array | None = None
    interface_name: Array | None = None
    state_name: Array | None = None
    fields: Array | None = None
    field_name: Array | None = None
    visible: Array | None = None

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, value in validated(given).items():
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
        """``Z``: as many as a table with a row for each interface has, else as many as states refer to."""
        for name in BY_INTERFACE:
            table = getattr(self, name)
            if table is not None:
                return table.shape[0]
        return int(self.interface.max()) + 1

    @cached_property
    def num_agents(self) -> int:
        """``N``: as many as ``agent_name`` or ``visible`` describe, else the largest agent index plus one."""
        for table in (self.agent_name, self.visible):
            if table is not None:
                return table.shape[0]
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

    @cached_property
    def lump(self) -> Array | None:
        """What is paid with the last primitive step: ``[S, O, 1]``, or ``[S, O, S or W]``; None if nothing is."""
        if self.lump_reward_next is None:
            return None if self.lump_reward is None else self.lump_reward[:, :, None]
        return self.lump_reward_next + (0.0 if self.lump_reward is None else self.lump_reward[:, :, None])

    def __repr__(self) -> str:
        named = (
            (count, name if count != 1 else re.sub(r"s(?= at |$)", "", name)) for name, count in self._sizes().items()
        )
        sizes = ", ".join(f"{count} {name}" for count, name in named)
        return f"TabularModel({sizes}, gamma {self.gamma:.6g})"

    def _repr_html_(self) -> str:
        sizes = html_table([*self._sizes().items(), ("gamma", f"{self.gamma:.9g}")])
        arrays = ", ".join(
            f"<code>{name}</code> {list(array.shape)}" for name, array in self.arrays().items() if array.ndim
        )
        return f"<p>Interface-constrained semi-Markov decision process</p>{sizes}<p>{arrays}</p>"

    def _sizes(self) -> dict[str, int]:
        sizes = {
            "states": self.num_states,
            "interfaces": self.num_interfaces,
            "agents": self.num_agents,
            "options": self.num_options,
            "primitive steps at most": self.longest_duration,
        }
        ends = int(self.is_terminal.sum())
        return sizes | ({"terminal states": ends} if ends else {})

    def arrays(self) -> dict[str, Array]:
        """The arrays of the model file, absent ones left out."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: np.asarray(value) for name, value in fields.items() if value is not None}

    def replace(self, **changes: object) -> TabularModel:
        """A copy with some arrays changed, validated again."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def seen_through(self, interface: Array, available: Array) -> TabularModel:
        """The same states and kernel, neither checked nor copied again, with other interfaces.

        Args:
          interface: ``[S]`` int, interfaces that do not mix agents.
          available: ``[Z', O]`` bool, their options.

        Returns:
          The model, without what describes its old interfaces: ``features``, ``interface_name`` and ``visible``.
        """
        changes: dict[str, object] = {"interface": interface.astype(np.int32), "available": available}
        changes |= dict.fromkeys(("features", "interface_name", "visible"))
        other = object.__new__(TabularModel)
        for field in dataclasses.fields(self):
            object.__setattr__(other, field.name, changes.get(field.name, getattr(self, field.name)))
        return other


def annuities(gamma: float, longest: int) -> Array:
    """``[T]`` ``(1 - gamma^tau) / (1 - gamma)`` for ``tau = 1..T``, without cancellation as gamma nears 1."""
    tau = np.arange(1, longest + 1)
    if gamma < 0.5:
        return (1 - gamma**tau) / (1 - gamma)
    out = -np.expm1(tau * np.log1p(gamma - 1)) / (1 - gamma)
    out[:16] = np.cumsum(gamma ** np.arange(min(longest, 16)))  # 1, 1 + gamma, ... added in the obvious order
    return out
