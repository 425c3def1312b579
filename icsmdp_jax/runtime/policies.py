"""A policy as two files, ``policy.safetensors`` and a JSON card: what agents see, may choose and know.

The card names agents, options and fields and says how a field's values are numbered, so that an agent reads its
interface off the plain facts of a running pipeline. Nothing is ever unpickled, and the card knows the digest of its
arrays.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from icsmdp_jax.io import atomic_write, write_json

FORMAT, VERSION = "icsmdp-policy", 1
CARD, ARRAYS = "policy.json", "policy.safetensors"
FUNCTION_CLASSES = ("tabular", "linear", "mlp", "two-layer")
DESCRIBING = ("interfaces", "available", "features", "visits")  # arrays of an agent that are not parameters


class Field(NamedTuple):
    """One fact that an agent sees, and how it is numbered; exactly one of ``values`` and ``edges`` is given.

    Attributes:
      name: its name in the mapping that ``act`` and ``offer`` take.
      values: the values that are told apart.
      edges: ascending edges of bins; the code of a number is how many edges are at most as large.
    """

    name: str
    values: tuple[str | int | float | bool, ...] | None = None
    edges: tuple[float, ...] | None = None

    @property
    def size(self) -> int:
        """Number of codes; the last one is for whatever is missing or not listed."""
        return len(self.values) + 1 if self.values is not None else len(self.edges or ()) + 2

    def code(self, value: Any) -> int:
        """The code of a value, from 0 to ``size - 1``."""
        if self.values is not None:
            try:
                return self.values.index(value)
            except ValueError:
                return len(self.values)
        if not isinstance(value, Real) or math.isnan(value):
            return self.size - 1
        return bisect.bisect_right(self.edges or (), float(value))


@dataclasses.dataclass(frozen=True, eq=False)
class AgentPolicy:
    """What one agent of a policy sees and knows; ``R`` interfaces are listed.

    Attributes:
      name: the agent's name.
      params: parameters by name: ``q [R, O]`` (tabular), ``theta [O, p]`` (linear), ``kernel0 [p, m]``, ``bias0 [m]``,
        ``kernel1``, ... (mlp), ``w [O, m, p]`` and, if it is trained instead of ``w``, ``b [O, m]`` (two-layer).
      fields: what the agent sees; empty if its interfaces come as numbers or vectors.
      interfaces: ``[R]`` int64 numbers of the listed interfaces: those of the model, or ``number_of`` where there are
        fields. A tabular agent needs them; others do where ``features`` describe interfaces.
      interface_names: ``R`` names for people, or none.
      available: ``[R, O]`` bool, options that it may choose; all if None.
      features: ``[R, p]``, what networks read at each listed interface; None where interfaces are vectors.
      visits: ``[R, O]`` int64, updates so far of each entry of a table, from which step sizes continue; 0 if None.
    """

    name: str
    params: dict[str, np.ndarray]
    fields: tuple[Field, ...] = ()
    interfaces: np.ndarray | None = None
    interface_names: tuple[str, ...] = ()
    available: np.ndarray | None = None
    features: np.ndarray | None = None
    visits: np.ndarray | None = None

    def codes_of(self, facts: Mapping[str, Any]) -> tuple[int, ...]:
        """Codes of the agent's fields; other facts are not looked at, missing ones count as not listed."""
        return tuple(field.code(facts.get(field.name)) for field in self.fields)

    def number_of(self, facts: Mapping[str, Any]) -> int:
        """The number of an interface: its codes as the digits of one number, the first the most significant."""
        number = 0
        for field in self.fields:
            number = number * field.size + field.code(facts.get(field.name))
        return number


@dataclasses.dataclass(frozen=True, eq=False)
class Policy:
    """Values of handoffs for some agents, or all of them.

    Attributes:
      options: names of the ``O`` options, the same for all agents.
      agents: what each agent sees and knows.
      gamma: discount of one primitive step, in ``[0, 1)``.
      function_class: one of ``FUNCTION_CLASSES``.
      value_range: the a-priori range of values (L6), to which scalars are clipped; None for no clipping.

    Raises:
      ValueError: in one line that names the array or entry, what was found and what was expected.
    """

    options: tuple[str, ...]
    agents: tuple[AgentPolicy, ...]
    gamma: float
    function_class: str = "tabular"
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check(self)

    def agent(self, name: str) -> AgentPolicy:
        """The agent of this name."""
        for one in self.agents:
            if one.name == name:
                return one
        raise ValueError(f"agent {name!r}: expected one of {', '.join(one.name for one in self.agents)}")

    def only(self, name: str) -> Policy:
        """The part of the policy that one agent needs: it shows nothing of the others."""
        return dataclasses.replace(self, agents=(self.agent(name),))


def check(policy: Policy) -> None:
    """Refuses a policy that cannot be followed.

    Raises:
      ValueError: in one line.
    """
    if policy.function_class not in FUNCTION_CLASSES:
        raise ValueError(f"function_class = {policy.function_class!r}: expected one of {', '.join(FUNCTION_CLASSES)}")
    if not 0 <= policy.gamma < 1:
        raise ValueError(f"gamma = {policy.gamma}: expected a discount in [0, 1)")
    if policy.value_range is not None and not -math.inf < policy.value_range[0] <= policy.value_range[1] < math.inf:
        raise ValueError(f"value_range = {policy.value_range}: expected two finite numbers in order")
    for what, names in (("options", policy.options), ("agents", tuple(one.name for one in policy.agents))):
        if not names or len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"{what} = {names}: expected names, all different")
    for one in policy.agents:
        _check_agent(one, policy.function_class, len(policy.options))


def _check_agent(one: AgentPolicy, function_class: str, options: int) -> None:
    label = f"agent {one.name!r}"
    for field in one.fields:
        if (field.values is None) == (field.edges is None):
            raise ValueError(f"{label}: field {field.name!r}: expected either values or edges")
        edges = field.edges or ()
        if not all(a < b for a, b in zip(edges, edges[1:], strict=False)):
            raise ValueError(f"{label}: field {field.name!r}: edges = {edges}: expected ascending numbers")
        if field.values is not None and len(set(field.values)) < len(field.values):
            raise ValueError(f"{label}: field {field.name!r}: expected values that all differ")
    rows = -1 if one.interfaces is None else one.interfaces.shape[0]
    if one.interface_names and len(one.interface_names) != rows:
        raise ValueError(f"{label}: {len(one.interface_names)} interface names, expected {max(rows, 0)}")
    dim = -1 if one.features is None else one.features.shape[-1]
    shapes = parameter_shapes(function_class, one.params, options, dim)
    missing = [name for name in shapes if name not in one.params]
    if function_class == "tabular":
        shapes["q"] = (rows, options)
        missing += ["interfaces"] if one.interfaces is None else []
    if missing:
        raise ValueError(f"{label}: {missing[0]}: missing, expected it in a {function_class} policy")
    shapes |= {"interfaces": (rows,), "available": (rows, options), "visits": (rows, options), "features": (rows, dim)}
    for name, array in arrays_of(one).items():
        if name not in shapes:
            raise ValueError(f"{label}: {name}: unknown array, expected {', '.join(shapes)}")
        shape = shapes[name]
        if array.ndim != len(shape) or any(w not in (-1, n) for n, w in zip(array.shape, shape, strict=True)):
            raise ValueError(f"{label}: {name}: shape {list(array.shape)}, expected {list(shape)}, -1 for any length")
        kind = {"interfaces": "iu", "visits": "iu", "available": "b"}.get(name, "f")
        if array.dtype.kind not in kind:
            raise ValueError(f"{label}: {name}: dtype {array.dtype}, expected one of kind {kind!r}")
        if kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{label}: {name}: not finite at {np.argwhere(~np.isfinite(array))[0].tolist()}")
    if one.interfaces is not None and (len(np.unique(one.interfaces)) < rows or (one.interfaces < 0).any()):
        raise ValueError(f"{label}: interfaces: expected numbers of 0 or more, all different")


def parameter_shapes(
    function_class: str, params: Mapping[str, np.ndarray], options: int, dim: int
) -> dict[str, tuple[int, ...]]:
    """Shapes of an agent's parameters, -1 where any length will do; ``dim`` is that of what a network reads."""
    if function_class == "tabular":
        return {"q": (-1, options)}
    if function_class == "linear":
        return {"theta": (options, dim)}
    if function_class == "two-layer":
        width = (*np.shape(params.get("w", ())), -1, -1)[1]
        return {"w": (options, width, dim), **({"b": (options, width)} if "b" in params else {})}
    layers = max(1, sum(name.startswith("kernel") for name in params))
    widths = [dim, *((*np.shape(params.get(f"bias{layer}", ())), -1)[0] for layer in range(layers - 1)), options]
    kernels = {f"kernel{layer}": (widths[layer], widths[layer + 1]) for layer in range(layers)}
    return kernels | {f"bias{layer}": (widths[layer + 1],) for layer in range(layers)}


def arrays_of(one: AgentPolicy) -> dict[str, np.ndarray]:
    """All arrays of an agent by name."""
    described = {name: getattr(one, name) for name in DESCRIBING}
    return dict(one.params) | {name: array for name, array in described.items() if array is not None}


def save_policy(path: str | os.PathLike[str], policy: Policy, written_by: str = "icsmdp_jax") -> None:
    """Writes ``policy.safetensors`` and ``policy.json`` into a folder, which is made if it is missing.

    Each file is written whole or not at all; a pair that does not belong together is refused by ``load_policy``.

    Raises:
      ValueError: in one line, for a place that cannot be written to.
    """
    folder = Path(path)
    if folder.is_file():
        raise ValueError(f"{folder}: is a file, expected the name of a folder")
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{number}.{name}": np.ascontiguousarray(array)
        for number, one in enumerate(policy.agents)
        for name, array in arrays_of(one).items()
    }
    content = save(arrays)
    card = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": written_by,
        "function_class": policy.function_class,
        "gamma": policy.gamma,
        "value_range": policy.value_range,
        "options": policy.options,
        "agents": [
            {
                "name": one.name,
                "fields": [{"name": f.name, **({"values": f.values} if f.edges is None else {"edges": f.edges})}
                           for f in one.fields],
                "interfaces": one.interface_names,
            }
            for one in policy.agents
        ],
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    with atomic_write(folder / ARRAYS) as stream:
        stream.write(content)
    write_json(folder / CARD, card)


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Reads the policy of a folder.

    Raises:
      ValueError: in one line that starts with the file's name.
    """
    folder = Path(path)
    card, content = _read(folder / CARD), _read(folder / ARRAYS)
    try:
        told = json.loads(card, parse_constant=_no_number)
        if not isinstance(told, dict) or told.get("format") != FORMAT or told.get("version") != VERSION:
            raise ValueError(f"expected format {FORMAT!r}, version {VERSION}")
        if told["sha256"] != hashlib.sha256(content).hexdigest():
            raise ValueError(f"was written for another {ARRAYS}, expected the pair of files that belongs together")
        arrays: dict[int, dict[str, np.ndarray]] = {number: {} for number in range(len(told["agents"]))}
        for key, array in load(content).items():
            number, _, name = key.partition(".")
            arrays[int(number)][name] = array
        agents = tuple(_agent(one, arrays[number]) for number, one in enumerate(told["agents"]))
        limits = None if told["value_range"] is None else (float(told["value_range"][0]), float(told["value_range"][1]))
        return Policy(tuple(told["options"]), agents, float(told["gamma"]), told["function_class"], limits)
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{folder / CARD}: damaged ({type(error).__name__}: {str(error)[:80]})") from None
    except ValueError as error:
        raise ValueError(f"{folder / CARD}: {str(error)[:400]}") from None


def _agent(told: dict[str, Any], arrays: dict[str, np.ndarray]) -> AgentPolicy:
    fields = tuple(
        Field(
            str(field["name"]),
            tuple(field["values"]) if "values" in field else None,
            tuple(map(float, field["edges"])) if "edges" in field else None,
        )
        for field in told["fields"]
    )
    described = {name: arrays.pop(name, None) for name in DESCRIBING}
    return AgentPolicy(told["name"], arrays, fields, interface_names=tuple(told["interfaces"]), **described)


def _no_number(name: str) -> float:
    raise ValueError(f"{name}: expected a number that JSON has")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}, expected a file of a policy") from None
