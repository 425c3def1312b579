"""What a sweep is: a family of models, axes whose product are the cells, and what is measured in each of them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bound_validation.sweep.families import Family, Function, resolve
from bound_validation.sweep.refusal import Refusal, nearest, refused, unknown

MEASURES = ("interface", "limit", "theorem")
WIDTH, SAMPLES = "learner.width", "learner.samples"  # axes that belong to the learner, not to the model
LONGEST_CHUNK = 1000  # handoffs per compiled chunk where the sweep does not say
SMALLEST_CHUNK = 50  # below it a chunk's own cost would show
MOST_CELLS = 1_000_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Cell(NamedTuple):
    """One point of a sweep.

    Attributes:
      id: ``sweep/gap=0.1,duration_mean=4``: frozen, a function of the sweep's name and the coordinates alone.
      coordinates: value of each axis, in the order of the axes; without ``learner.samples``.
      arguments: what the family is called with: fixed and own coordinates.
      width: features per agent, 0 for tables.
    """

    id: str
    coordinates: dict[str, Any]
    arguments: dict[str, Any]
    width: int


@dataclasses.dataclass(frozen=True)
class Figure:
    """How the figures look at the cells; none of it changes what is computed.

    Attributes:
      x: name of the axis that is the abscissa; None: the first axis with two numbers or more, else the samples.
      group: name of the axis that tells curves apart; None: the next axis with two values or more.
      at: for all other axes the value whose cells are drawn as curves; where nothing is said the first one, and of
        the samples the last one. The figure of all checks shows every cell.
      labels: what an axis is called in figures, by its name; may hold Matplotlib's mathematics between dollar signs.

    Example:
      >>> import bound_validation as bv
      >>> figure = bv.Figure(x="gap", labels={"gap": "interface gap"})
      >>> bv.Sweep("gap", family="planted", axes={"gap": (0, 0.1)}, figure=figure).figure.at
      {'learner.samples': 16000}
    """

    x: str | None = None
    group: str | None = None
    at: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """A sweep over a family of models.

    Attributes:
      name: letters, digits, dots, dashes and underscores; the first part of every cell's id.
      family: a function ``(**coordinates) -> TabularModel`` or ``-> (TabularModel, behaviour [Z, O])``, or one of the
        names that ``families.resolve`` knows.
      axes: values of each axis; the cells are their product, the last axis running fastest. Names are coordinates of
        the family, ``learner.width`` (features per agent, 0 for tables) or ``learner.samples`` (another way
        to say ``samples``).
      fixed: coordinates that all cells share.
      measure: which of ``interface`` (exact: gap and policy loss against T1), ``limit`` (tail-averaged IC-Q against
        P2) and ``theorem`` (IC-Q with the constant step of T3, and the sum T4).
      samples: increasing handoff counts K; every run is looked at after each of them. Even.
      replicas: independent runs in each cell, 2 or more.
      width: features per agent in cells that say nothing else, 0 for tables.
      chunk: handoffs per compiled chunk; every K and K / 2 is a multiple of it. 0: the longest that fits.
      seed: of runs and random features.
      cells_per_part: most cells of one shape that go into one compiled program and one part file.
      sizes: coordinates on which the shapes of the model's arrays depend, see ``Family``.
      figure: what the figures show.
      folder: where relative names in ``family`` begin; the working directory if None.

    Raises:
      Refusal: a ``ValueError`` of one line, for the first field that cannot be used.

    Example:
      >>> import bound_validation as bv
      >>> bv.Sweep("gap", family="planted", axes={"gap": (0, 0.1, 0.4)}, measure=["interface"])
      Sweep(gap: 3 cells of planted over gap; interface; exact)
    """

    name: str
    family: Function | Family | str
    axes: Mapping[str, Sequence[Any]]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measure: Sequence[str] = MEASURES
    samples: Sequence[int] = (4000, 16_000)
    replicas: int = 16
    width: int = 0
    chunk: int = 0
    seed: int = 0
    cells_per_part: int = 16
    sizes: tuple[str, ...] | None = None
    figure: Figure = Figure()
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise refused("name", self.name, "letters, digits, dots, dashes and underscores")
        _typed("axes", self.axes, Mapping, "a dictionary of lists")
        _typed("fixed", self.fixed, Mapping, "a dictionary")
        _typed("figure", self.figure, Figure, "a Figure")
        _typed("folder", self.folder, Path | str | None, "the name of a folder")
        axes = {name: _values(name, values) for name, values in self.axes.items()}
        changes: dict[str, Any] = {
            "axes": axes, "fixed": dict(self.fixed), "measure": _measures(self.measure),
            "family": resolve(self.family, self.folder, self.sizes),
        }  # fmt: skip
        if not axes:
            raise refused("axes", axes, "one axis or more")
        cells = math.prod(len(values) for name, values in axes.items() if name != SAMPLES)
        if cells > MOST_CELLS:
            raise Refusal("axes", "", f": their product has {cells} cells, expected at most {MOST_CELLS}")
        _typed("samples", self.samples, Sequence | np.ndarray, "increasing even whole numbers")
        changes["samples"] = tuple(axes.get(SAMPLES, self.samples))
        for name, value in changes.items():
            object.__setattr__(self, name, value)
        for field, least in (("replicas", 2), ("width", 0), ("chunk", 0), ("seed", 0), ("cells_per_part", 1)):
            _whole(field, getattr(self, field), least)
        self._check_samples()
        self._check_coordinates()
        object.__setattr__(self, "figure", _resolved(self))

    def __repr__(self) -> str:
        axes = ", ".join(self.axes)
        counts = ", ".join(map(str, self.samples)) + f" handoffs, {self.replicas} replicas" if self.learns else "exact"
        cells = f"{self.num_cells} cell{'' if self.num_cells == 1 else 's'}"
        return f"Sweep({self.name}: {cells} of {self.source.name} over {axes}; {', '.join(self.measure)}; {counts})"

    @property
    def source(self) -> Family:
        """The family, resolved."""
        assert isinstance(self.family, Family)
        return self.family

    @property
    def learns(self) -> bool:
        """Whether anything is simulated."""
        return self.measure != ("interface",)

    @property
    def checkpoints(self) -> list[int]:
        """Handoff counts at which the tail-averaged run is looked at: every K and its half."""
        return sorted({*self.samples, *(k // 2 for k in self.samples)})

    @cached_property
    def chunk_length(self) -> int:
        """Handoffs per compiled chunk."""
        if self.chunk:
            return self.chunk
        common = math.gcd(*self.checkpoints)
        return max(c for c in range(1, min(common, LONGEST_CHUNK) + 1) if common % c == 0)

    @property
    def num_cells(self) -> int:
        """How many cells the product has."""
        return math.prod(len(values) for name, values in self.axes.items() if name != SAMPLES)

    def cells(self) -> Iterator[Cell]:
        """All cells, in the order of the product."""
        names = [name for name in self.axes if name != SAMPLES]
        for values in itertools.product(*(self.axes[name] for name in names)):
            here = dict(zip(names, values, strict=True))
            text = ",".join(f"{name}={value_text(value)}" for name, value in here.items())
            own = {name: value for name, value in here.items() if name != WIDTH}
            yield Cell(f"{self.name}/{text}" if text else self.name, here, {**self.fixed, **own},
                       here.get(WIDTH, self.width))  # fmt: skip

    def manifest(self) -> dict[str, Any]:
        """Everything that the numbers depend on: a run is only resumed if all of it is the same."""
        return {
            "sweep": self.name, "family": self.source.name, "family_sha256": self.source.digest,
            "axes": {name: list(values) for name, values in self.axes.items()}, "fixed": dict(self.fixed),
            "measure": list(self.measure), "samples": list(self.samples), "replicas": self.replicas,
            "width": self.width, "chunk": self.chunk_length, "seed": self.seed,
            "cells_per_part": self.cells_per_part,
        }  # fmt: skip

    def _check_samples(self) -> None:
        counts = list(self.samples)
        if not counts or any(not _is_whole(k) or k < 2 or k % 2 for k in counts) or sorted(set(counts)) != counts:
            raise refused("samples", counts, "increasing even whole numbers")
        if self.chunk and (self.chunk > 4096 or any(k % self.chunk for k in self.checkpoints)):
            raise refused("chunk", self.chunk, "at most 4096, and a divisor of all samples and of their halves")
        if self.chunk_length < SMALLEST_CHUNK and counts[-1] > 4 * LONGEST_CHUNK:
            raise refused("samples", counts, f"multiples of {2 * SMALLEST_CHUNK}, so that runs can be cut into chunks")

    def _check_coordinates(self) -> None:
        own = {name: values for name, values in self.axes.items() if name not in (WIDTH, SAMPLES)}
        for name, values in own.items():
            if name.startswith("learner."):
                raise unknown("axes", name, (WIDTH, SAMPLES), "axis")
            if name in self.fixed:
                raise refused("fixed", self.fixed[name], "nothing, because it is an axis", name)
            for value in values:
                self.source.check("axes", name, value)
        for width in self.axes.get(WIDTH, ()):
            if not _is_whole(width) or width < 0:
                raise refused("axes", list(self.axes[WIDTH]), "whole numbers of 0 or more", WIDTH)
        for name, value in self.fixed.items():
            self.source.check("fixed", name, value)
        missing = sorted(self.source.required - set(own) - set(self.fixed))
        if missing:
            raise Refusal(
                "fixed", missing[0], f": missing, expected a value that {self.source.name} can be called with"
            )


def value_text(value: Any) -> str:
    """A value as ids spell it: the shortest text from which it can be read back, whole numbers without a point."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, list | tuple):
        return "(" + " ".join(value_text(entry) for entry in value) + ")"
    return str(value)


def _values(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Sequence) or not len(values):
        raise refused("axes", values, "a list of one value or more", name)
    plain = tuple(value.item() if hasattr(value, "item") else value for value in values)
    for value in plain:
        if isinstance(value, float) and not math.isfinite(value):
            raise refused("axes", list(plain), "finite numbers", name)
    texts = [value_text(value) for value in plain]
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise refused("axes", list(plain), f"distinct values, but {twice} is there twice", name)
    return plain


def _measures(measure: Any) -> tuple[str, ...]:
    _typed("measure", measure, str | Sequence, f"one or more of {', '.join(MEASURES)}")
    names = (measure,) if isinstance(measure, str) else tuple(measure)
    for name in names:
        if name not in MEASURES:
            raise Refusal("measure", "", f" = {name!r}: {nearest(str(name), MEASURES)}")
    if not names or len(set(names)) != len(names):
        raise refused("measure", list(names), f"one or more of {', '.join(MEASURES)}")
    return tuple(name for name in MEASURES if name in names)


def _typed(field: str, value: Any, kinds: Any, expected: str, place: str = "") -> None:
    if not isinstance(value, kinds):
        raise refused(field, value, expected, place)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(field: str, value: Any, least: int) -> None:
    if not _is_whole(value) or not least <= value < 2**63:
        raise refused(field, value, f"a whole number of {least} or more")


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 for value in values)


def _resolved(sweep: Sweep) -> Figure:
    """The figure settings with what was left open filled in.

    Raises:
      Refusal: for names that are not axes, or values that are not on them.
    """
    figure, axes = sweep.figure, {**sweep.axes, SAMPLES: sweep.samples}
    for field in ("at", "labels"):
        _typed("figure", getattr(figure, field), Mapping, "a dictionary", field)
    for field, name in (("x", figure.x), ("group", figure.group)):
        _typed("figure", name, str | None, "the name of an axis", field)
        if name is not None and name not in axes:
            raise Refusal("figure", field, f" = {name!r}: {nearest(str(name), axes)}")
    x = figure.x
    if x is None:
        x = next((name for name, values in sweep.axes.items() if len(values) > 1 and _numeric(values)), SAMPLES)
    if not _numeric(axes[x]):
        raise Refusal("figure", "x", f" = {x!r}: expected an axis of numbers of 0 or more")
    group = figure.group
    if group is None:
        rest = (name for name, values in sweep.axes.items() if len(values) > 1 and name not in (x, SAMPLES))
        group = next(rest, None)
    if group in (x, SAMPLES):
        raise Refusal("figure", "group", f" = {group!r}: expected another axis than x and {SAMPLES}")
    for name, value in figure.at.items():
        if name not in axes or name in (x, group):
            free = [axis for axis in axes if axis not in (x, group)]
            raise Refusal("figure", "at", f"[{name!r}]: {nearest(str(name), free)}")
        if value not in axes[name]:
            raise Refusal("figure", "at", f"[{name!r}] = {value!r}: expected one of the values of that axis")
    others = {name: values[0] for name, values in axes.items() if name not in (x, group)}
    if x != SAMPLES:
        others[SAMPLES] = sweep.samples[-1]
    for name, label in figure.labels.items():
        if name not in axes:
            raise Refusal("figure", "labels", f"[{name!r}]: {nearest(str(name), axes)}")
        if not isinstance(label, str) or not _drawable(label):
            problem = f"[{name!r}] = {label!r}: expected a text, with mathematics between dollar signs"
            raise Refusal("figure", "labels", problem)
    return Figure(x, group, {**others, **figure.at}, dict(figure.labels))


def _drawable(label: str) -> bool:
    """Whether a label can be drawn; better known now than after hours of computing."""
    if "$" not in label:
        return True
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(label)
    except ValueError:
        return False
    return label.count("$") % 2 == 0
