"""A finite IC-SMDP as arrays (D1): the model file in memory, validated once, on the host, in float64.

``S`` handoff states, ``O`` options, ``T`` longest duration in primitive steps, ``Z`` interfaces, ``W`` listed
successors. The transition law is given in exactly one of three forms: dense (``transition`` and ``duration``),
joint (``kernel``) or successor lists (``successor``, ``probability`` and ``duration``).
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

SUM_TOLERANCE = 1e-6  # float32 pmfs of some thousand entries still pass; rows are renormalised to 1 afterwards
LARGEST_TABLE = 10**8  # entries of a table [Z, O] beyond which a label is taken for a mistake

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


def annuities(gamma: float, longest: int) -> Array:
    """``[T]`` ``(1 - gamma^tau) / (1 - gamma)`` for ``tau = 1..T``, without cancellation as gamma nears 1."""
    tau = np.arange(1, longest + 1)
    if gamma < 0.5:
        return (1 - gamma**tau) / (1 - gamma)
    out = -np.expm1(tau * np.log1p(gamma - 1)) / (1 - gamma)
    out[:16] = np.cumsum(gamma ** np.arange(min(longest, 16)))  # 1, 1 + gamma, ... as anybody would add them
    return out


def _place(name: str, index: tuple[Any, ...]) -> str:
    return f"{name}[{', '.join(str(int(i)) for i in index)}]" if index else name


def _first(bad: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def _real(name: str, value: Any, shape: tuple[int | None, ...]) -> Array:
    """``value`` as a float64 array of the given shape (None: any length)."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected real numbers, found dtype {array.dtype}")
    _check_shape(name, array, shape)
    return np.array(array, np.float64)


def _integers(name: str, value: Any, shape: tuple[int | None, ...], upper: int | None = None) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, found dtype {array.dtype}")
    _check_shape(name, array, shape)
    bad = (array < 0) | (array >= (np.iinfo(np.int32).max if upper is None else upper))
    if bad.any():
        index = _first(bad)
        limit = "a number that fits int32" if upper is None else f"less than {upper}"
        raise ValueError(f"{_place(name, index)} = {array[index]}: expected 0 or more and {limit}")
    return array.astype(np.int32)


def _booleans(name: str, value: Any, shape: tuple[int | None, ...]) -> Array:
    array = np.asarray(value)
    if array.dtype.kind in "iu" and np.isin(array, (0, 1)).all():
        array = array.astype(bool)
    if array.dtype.kind != "b":
        raise ValueError(f"{name}: expected booleans, found dtype {array.dtype}")
    _check_shape(name, array, shape)
    return np.array(array, bool)


def _check_shape(name: str, array: Array, shape: tuple[int | None, ...]) -> None:
    fits = array.ndim == len(shape) and all(w is None or w == n for w, n in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
        raise ValueError(f"{name}: expected shape {wanted}, found {list(array.shape)}")
    if 0 in array.shape:
        raise ValueError(f"{name}: expected at least one entry along every axis, found shape {list(array.shape)}")


def _finite(name: str, array: Array, used: Array | None = None) -> None:
    bad = ~np.isfinite(array)
    if used is not None:
        bad &= used.reshape(used.shape + (1,) * (array.ndim - used.ndim))
    if bad.any():
        index = _first(bad)
        raise ValueError(f"{_place(name, index)} = {array[index]}: expected a finite number")


def _pmf(name: str, array: Array, used: Array, axes: tuple[int, ...]) -> Array:
    """Checks that each used row is a probability law; returns rows that sum to 1, and zeros in unused ones.

    Entries below 0 by no more than rows may be off are rounding, and taken for 0.
    """
    _finite(name, array, used)
    wide = used.reshape(used.shape + (1,) * (array.ndim - used.ndim))
    negative = (array < -SUM_TOLERANCE) & wide
    if negative.any():
        index = _first(negative)
        raise ValueError(f"{_place(name, index)} = {array[index]}: expected a probability, 0 or more")
    array = np.where(wide, np.maximum(array, 0.0), 0.0)
    total = array.sum(axis=axes)
    off = used & (np.abs(total - 1.0) > SUM_TOLERANCE)
    if off.any():
        index = _first(off)
        raise ValueError(f"{_place(name, index)} sums to {float(total[index]):.9g}: expected 1")
    # Rows that sum to 1 up to rounding keep their bits, so that reading a file back changes nothing.
    rounding = used & (np.abs(total - 1.0) > 1e-12)
    return array / np.where(rounding, total, 1.0).reshape(wide.shape)


def _scalar(name: str, value: Any) -> float:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.size != 1:
        raise ValueError(f"{name}: expected one real number, found dtype {array.dtype}, shape {list(array.shape)}")
    return float(array.reshape(()))


def _scalars(model: TabularModel) -> dict[str, float]:
    gamma = _scalar("gamma", model.gamma)
    if not 0.0 <= gamma < 1.0:  # also catches NaN
        raise ValueError(f"gamma = {gamma}: expected a number in [0, 1)")
    noise = _scalar("reward_noise", model.reward_noise)
    if not (noise >= 0.0 and np.isfinite(noise)):
        raise ValueError(f"reward_noise = {noise}: expected a finite number, 0 or more")
    return {"gamma": gamma, "reward_noise": noise}


def _single_owner(agent: Array, interface: Array, decides: Array) -> None:
    states = np.flatnonzero(decides)
    labels, first = np.unique(interface[states], return_index=True)
    owner = agent[states[first]][np.searchsorted(labels, interface[states])]
    wrong = np.flatnonzero(owner != agent[states])
    if len(wrong):
        state = int(states[wrong[0]])
        raise ValueError(
            f"interface[{state}] = {interface[state]}: belongs to agent {owner[wrong[0]]} already, "
            f"but agent[{state}] = {agent[state]}; expected each interface to belong to one agent"
        )


def _law(model: TabularModel, num_states: int, num_options: int, used: Array) -> dict[str, Array]:
    """The transition law in whichever of the three forms it was given."""
    given = [n for n in ("transition", "kernel", "successor") if getattr(model, n) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise ValueError(f"transition, kernel, successor: expected exactly one of them, found {found}")
    s, o = num_states, num_options
    if given == ["kernel"]:
        for name in ("duration", "probability"):
            if getattr(model, name) is not None:
                raise ValueError(f"{name}: expected to be absent, because kernel already gives the joint law")
        return {"kernel": _pmf("kernel", _real("kernel", model.kernel, (s, o, None, s)), used, (2, 3))}
    if model.duration is None:
        raise ValueError(f"duration: missing, expected [{s}, {o}, T] beside {given[0]}")
    out = {"duration": _pmf("duration", _real("duration", model.duration, (s, o, None)), used, (2,))}
    if given == ["transition"]:
        if model.probability is not None:
            raise ValueError("probability: expected to be absent beside transition (it belongs to successor)")
        out["transition"] = _pmf("transition", _real("transition", model.transition, (s, o, s)), used, (2,))
        return out
    if model.probability is None:
        raise ValueError(f"probability: missing, expected [{s}, {o}, W] beside successor")
    raw = np.asarray(model.successor)
    _check_shape("successor", raw, (s, o, None))
    if raw.dtype.kind in "iu":  # rows that are ignored may hold anything
        raw = np.where(used[..., None], raw, 0)
    out["successor"] = _integers("successor", raw, (s, o, None), s)
    listed = _real("probability", model.probability, raw.shape)
    out["probability"] = _pmf("probability", listed, used, (2,))
    return out


def validated(model: TabularModel) -> dict[str, Any]:
    """All fields of ``model`` checked and in canonical dtypes (float64, int32, bool).

    Raises:
      ValueError: on the first fault, in one line.
    """
    rate = _real("reward_rate", model.reward_rate, (None, None))
    num_states, num_options = rate.shape
    out: dict[str, Any] = _scalars(model)
    agent = _integers("agent", model.agent, (num_states,))
    interface = _integers("interface", model.interface, (num_states,))
    if model.terminal is None:
        decides = np.ones(num_states, bool)
    else:
        terminal = _booleans("terminal", model.terminal, (num_states,))
        decides = ~terminal
        out["terminal"] = terminal
        if terminal.any() and model.start is None:
            raise ValueError(f"start: missing, expected [{num_states}] because the model has terminal states")
        if not decides.any():
            raise ValueError("terminal: every state is terminal, expected at least one that decides")
    num_interfaces = int(interface.max()) + 1
    if model.features is not None:
        features = _real("features", model.features, (None, None))
        _finite("features", features)
        out["features"] = features
    if model.available is not None:
        out["available"] = _booleans("available", model.available, (None, num_options))
    for name in ("features", "available"):
        if name in out and out[name].shape[0] < num_interfaces:
            found = list(out[name].shape)
            raise ValueError(f"{name}: expected {num_interfaces} rows or more, as interface refers to, found {found}")
    if "features" in out and "available" in out and out["features"].shape[0] != out["available"].shape[0]:
        rows = out["available"].shape[0]
        raise ValueError(f"features: expected {rows} rows like available, found {out['features'].shape[0]}")
    if num_interfaces * num_options > LARGEST_TABLE and "features" not in out and "available" not in out:
        s = int(interface.argmax())
        raise ValueError(f"interface[{s}] = {interface[s]}: expected labels that number the interfaces from 0")
    _single_owner(agent, interface, decides)
    if "available" in out:
        nothing = decides & ~out["available"].any(axis=1)[interface]
        if nothing.any():
            z = int(interface[_first(nothing)])
            raise ValueError(f"available[{z}] is False for every option: expected at least one available option")
        used = decides[:, None] & out["available"][interface]
    else:
        used = np.repeat(decides[:, None], num_options, axis=1)
    if model.start is not None:
        start = _pmf("start", _real("start", model.start, (num_states,))[None], np.ones(1, bool), (1,))[0]
        if start[decides].sum() <= 0:
            raise ValueError("start: all its mass is on terminal states, expected some on states that decide")
        out["start"] = start
    _finite("reward_rate", rate, used)
    out["reward_rate"] = np.where(used, rate, 0.0)
    out.update(agent=agent, interface=interface, **_law(model, num_states, num_options, used))
    return out
