"""Families of models: functions of named coordinates, built in, read from a file, or a user's."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from bound_validation.sweep.refusal import FINITE, Refusal, nearest, refused, shown, unknown
from bound_validation.sweep.sizes import check_size, planted_size, random_size
from icsmdp_jax.core.arguments import of_type
from icsmdp_jax.endings import summary
from icsmdp_jax.models.arrays import LARGEST
from icsmdp_jax.models.tabular import TabularModel

Function = Callable[..., Any]  # (**coordinates) -> TabularModel, or (TabularModel, behaviour [Z, O])
SCALARS = {"int": (int,), "float": (int, float), "str": (str,)}
FILE_COORDINATES = ("gamma", "reward_noise")  # of a model file: what changes without a new array
PLANTED_SIZES = frozenset(
    {"num_agents", "fields", "views", "private_states", "num_options", "successors", "longest_duration"}
)
RANDOM_SIZES = frozenset(
    {"num_agents", "num_interfaces", "hidden", "num_options", "successors", "longest_duration", "seed"}
)
RANDOM_COUNTS = ("num_interfaces", "hidden", "num_options", "successors", "longest_duration", "features")


class FamilyError(RuntimeError):
    """A user's function failed, or cannot be imported; what it raised is the cause."""


class Built(NamedTuple):
    """One member of a family.

    Attributes:
      model: the IC-SMDP.
      behaviour: ``[Z, O]`` behaviour policy; None for the uniform one.
    """

    model: TabularModel
    behaviour: np.ndarray | None


@dataclasses.dataclass(frozen=True, repr=False)
class Family:
    """A function from named coordinates to models.

    Attributes:
      name: what the manifest and the report call it.
      function: the function.
      names: coordinates that it takes; None if it takes any.
      required: those without a default.
      kinds: type of a coordinate (``int``, ``float`` or ``str``), where it is known.
      defaults: values of coordinates that are not given, where they are known.
      sizes: coordinates on which the shapes of the arrays depend; None if unknown, and then every model is
        built once before the run to find out.
      digest: SHA-256 of the file behind it, or empty: a run is only resumed with the same one.
      trial: raises for coordinates that are out of range, in a moment: called for every cell before the run, where not
        every model is built then; None if there is no such function.

    Example:
      >>> import bound_validation as bv
      >>> def desk(gap):
      ...     import icsmdp_jax as ic
      ...     return ic.make("planted", num_agents=3, gap=gap)[0].model
      >>> family = bv.Family("desk", desk, names=frozenset({"gap"}), required=frozenset({"gap"}))
      >>> bv.Sweep("desk", family=family, axes={"gap": (0, 0.1)}).num_cells
      2
    """

    name: str
    function: Function
    names: frozenset[str] | None = None
    required: frozenset[str] = frozenset()
    kinds: Mapping[str, str] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sizes: frozenset[str] | None = None
    digest: str = ""
    trial: Function | None = None

    def __post_init__(self) -> None:
        of_type(str, "a text", name=self.name, digest=self.digest)
        of_type(Callable, "a function", function=self.function)
        of_type(Set, "a set of names", required=self.required)
        of_type(Set | None, "a set of names, or None", names=self.names, sizes=self.sizes)
        of_type(Mapping, "a dictionary", kinds=self.kinds, defaults=self.defaults)
        of_type(Callable | None, "a function, or None", trial=self.trial)

    def __repr__(self) -> str:
        takes = "any coordinates" if self.names is None else ", ".join(sorted(self.names)) or "nothing"
        return f"Family({self.name}: takes {takes})"

    def check(self, field: str, name: str, value: Any) -> None:
        """Refuses a coordinate that the family does not take, or one of the wrong type."""
        if self.names is not None and name not in self.names:
            raise unknown(field, name, self.names, f"coordinate of {self.name}")
        kind = self.kinds.get(name)
        if kind is not None and (not isinstance(value, SCALARS[kind]) or isinstance(value, bool)):
            words = {"int": "a whole number", "float": "a number", "str": "a text"}
            raise refused(field, value, words[kind], name)
        if kind == "float" and not abs(value) <= LARGEST:
            raise refused(field, value, FINITE, name)
        if kind == "int" and not abs(value) < 2**63:
            raise refused(field, value, "a whole number of 64 bits", name)
        if name == "seed" and kind == "int" and value < 0:
            raise refused(field, value, "a whole number of 0 or more", name)

    def build(self, coordinates: Mapping[str, Any]) -> Built:
        """The model at these coordinates.

        Raises:
          ValueError: in one line, if the function returns something else.
        """
        made = self.function(**coordinates)
        model, behaviour = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(model, TabularModel):
            raise ValueError(
                f"{self.name} returned {type(made).__name__}, expected a TabularModel or (TabularModel, behaviour)"
            )
        return Built(model, None if behaviour is None else np.asarray(behaviour, np.float64))


def resolve(source: Any, folder: Path | None = None, sizes: tuple[str, ...] | None = None) -> Family:
    """A family from what a user may give.

    Args:
      source: a ``Family``, a function, ``"planted"``, ``"random"``, ``"package.module:function"``,
        ``"FILE.py:function"`` or the name of a model file.
      folder: where relative names begin and modules are looked for first; the working directory if None.
      sizes: coordinates on which shapes depend, if the user says so.

    Raises:
      Refusal: in one line, if there is no such family.
    """
    place = Path(folder or ".").absolute()
    if isinstance(source, Family):
        found = source
    elif callable(source):
        found = _of_function(source, getattr(source, "__qualname__", type(source).__name__))
    elif not isinstance(source, str):
        raise refused("family", source, "a function or a name")
    elif source == "planted":
        found = _planted()
    elif source == "random":
        found = _random()
    elif source.endswith(".npz"):
        found = _of_file(source, place / source)
    elif ":" in source:
        found = _of_function(_imported(source, place), source)
    else:
        known = "planted, random, package.module:function, FILE.py:function or MODEL.npz"
        raise Refusal("family", "", f" = {shown(source)}: {nearest(source, ('planted', 'random'), known)}")
    if sizes is not None:
        names = isinstance(sizes, Sequence | Set) and not isinstance(sizes, str)
        if not names or not all(isinstance(name, str) for name in sizes):
            raise refused("sizes", sizes, "a tuple of names")
        found = dataclasses.replace(found, sizes=frozenset(sizes))
    for name in sorted(found.sizes or ()):
        if found.names is not None and name not in found.names:
            raise unknown("sizes", name, found.names, f"coordinate of {found.name}")
    return found


def _planted() -> Family:
    from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model

    def configured(**coordinates: Any) -> PlantedConfig:
        return PlantedConfig(**{name: _as_tuple(name, value) for name, value in coordinates.items()})

    def build(**coordinates: Any) -> tuple[TabularModel, np.ndarray]:
        config = configured(**coordinates)
        check_size(planted_size(config))
        planted = planted_model(config)
        return planted.model, planted.behaviour

    knobs = dataclasses.fields(PlantedConfig)
    return Family(
        name="planted",
        function=build,
        names=frozenset(knob.name for knob in knobs),
        kinds={knob.name: str(knob.type) for knob in knobs if str(knob.type) in SCALARS},
        defaults={knob.name: knob.default for knob in knobs},
        sizes=PLANTED_SIZES,
        trial=configured,
    )


def _as_tuple(name: str, value: Any) -> Any:
    """Fields and views as tuples, since TOML has lists only."""
    if name not in ("fields", "views") or value is None:
        return value
    expected = "pairs of name and size" if name == "fields" else "a list of names for each agent"
    kinds = (str, int) if name == "fields" else None
    if not isinstance(value, list | tuple) or not all(isinstance(entry, list | tuple) for entry in value):
        raise ValueError(f"{name} = {shown(value)}: expected {expected}")
    for entry in value:
        wanted = kinds or (str,) * len(entry)
        if len(entry) != len(wanted) or not all(map(isinstance, entry, wanted)):
            raise ValueError(f"{name} = {shown(value)}: expected {expected}")
    return tuple(tuple(entry) for entry in value)


def _random() -> Family:
    from icsmdp_jax.models.random import MOST_AGENTS, random_model

    knobs = inspect.signature(random_model).parameters
    kinds = {name: str(knob.annotation).removesuffix(" | None") for name, knob in knobs.items()}

    def build(**coordinates: Any) -> TabularModel:
        given = {name: knob.default for name, knob in knobs.items()} | coordinates
        check_size(random_size(*(max(int(given[name]), 1) for name in RANDOM_COUNTS)))
        return random_model(**coordinates)

    def trial(**coordinates: Any) -> TabularModel:
        smallest = {"num_interfaces": coordinates.get("num_agents") or MOST_AGENTS, "hidden": 1, "successors": 1}
        return random_model(**coordinates | smallest)

    return Family(
        name="random",
        function=build,
        names=frozenset(knobs),
        required=frozenset({"seed"}),
        kinds={name: kind for name, kind in kinds.items() if kind in SCALARS},
        defaults={name: knob.default for name, knob in knobs.items() if knob.default is not knob.empty},
        sizes=RANDOM_SIZES,
        trial=trial,
    )


@lru_cache(maxsize=4)
def _read(path: Path) -> TabularModel:
    from icsmdp_jax.models.files import load_model

    return load_model(path)


def _of_file(name: str, path: Path) -> Family:
    try:
        model, digest = _read(path), hashlib.sha256(path.read_bytes()).hexdigest()
    except (ValueError, OSError) as error:
        raise Refusal("family", "", f" = {shown(name)}: {' '.join(str(error).split())}") from None

    def build(**changes: Any) -> TabularModel:
        return model.replace(**changes) if changes else model

    return Family(
        name=path.name,
        function=build,
        names=frozenset(FILE_COORDINATES),
        kinds=dict.fromkeys(FILE_COORDINATES, "float"),
        sizes=frozenset(),
        digest=digest,
        trial=build,
    )


def _of_function(function: Function, name: str) -> Family:
    """The names that a function takes are those of its signature."""
    knobs = inspect.signature(function).parameters.values()
    usable = [knob for knob in knobs if knob.kind in (knob.KEYWORD_ONLY, knob.POSITIONAL_OR_KEYWORD)]
    anything = any(knob.kind is knob.VAR_KEYWORD for knob in knobs)
    return Family(
        name=name,
        function=function,
        names=None if anything else frozenset(knob.name for knob in usable),
        required=frozenset(knob.name for knob in usable if knob.default is knob.empty),
        defaults={knob.name: knob.default for knob in usable if knob.default is not knob.empty},
        digest=_source_digest(function),
    )


def _source_digest(function: Function) -> str:
    try:
        source = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        return ""
    if source is None or not Path(source).is_file():
        return ""
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()


def _imported(source: str, folder: Path) -> Function:
    """The function of ``package.module:function`` or ``FILE.py:function``."""
    name, _, attribute = source.rpartition(":")
    module = _module_of_file(source, folder / name) if name.endswith(".py") else _module(source, name, folder)
    function = getattr(module, attribute, None)
    if not callable(function):
        offered = [word for word, value in vars(module).items() if callable(value) and not word.startswith("_")]
        raise Refusal("family", "", f" = {shown(source)}: no function {attribute}, {nearest(attribute, offered)}")
    return function


def _module(source: str, name: str, folder: Path) -> ModuleType:
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # the module is there, and something that it needs is not
        problem = f" = {shown(source)}: no module {error.name}, expected one that is installed or next to the file"
        raise Refusal("family", "", problem) from None
    except Exception as error:
        raise FamilyError(f"{name}: cannot be imported: {summary(error)}") from error
    finally:
        sys.path.remove(str(folder))


def _module_of_file(source: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise Refusal("family", "", f" = {shown(source)}: no such file, expected {path}")
    spec = importlib.util.spec_from_file_location(f"family_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses in it look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise FamilyError(f"{path}: cannot be imported: {summary(error)}") from error
    return module
