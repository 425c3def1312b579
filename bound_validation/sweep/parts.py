"""Cells of one shape, cut into parts of equal size: a part is one compiled program's worth of lanes and one part file.

Models are built here only to learn their shapes, one at a time, and none of them is kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bound_validation.sweep.definition import Cell, Sweep
from bound_validation.sweep.families import Built, FamilyError
from bound_validation.sweep.refusal import shown
from icsmdp_jax.endings import deliberate, summary
from icsmdp_jax.models.tabular import TabularModel


class Shape(NamedTuple):
    """What a compiled program depends on: two cells that agree in all of it are lanes of one program.

    Attributes:
      agents, states, interfaces, options, durations: N, S, Z, O, T.
      outcomes: cells of the alias tables of what can follow a pair.
      joint: whether duration and next state are drawn together.
      terminal: whether some states are terminal.
      lumps: 0 if nothing is paid with the last step, 1 if it depends on the pair, 1 + places if on the next state.
      width: features per agent, 0 for tables.
    """

    agents: int
    states: int
    interfaces: int
    options: int
    durations: int
    outcomes: int
    joint: bool
    terminal: bool
    lumps: int
    width: int


@dataclasses.dataclass(frozen=True)
class Part:
    """Some cells of one shape.

    Attributes:
      index: number of the part in the sweep.
      shape: the shape of all its cells.
      cells: the cells.
      lanes: lanes of the compiled program; those beyond the cells repeat the last one, and are dropped.
    """

    index: int
    shape: Shape
    cells: tuple[Cell, ...]
    lanes: int


def build(sweep: Sweep, cell: Cell) -> Built:
    """The model of a cell.

    Raises:
      ValueError: in one line that names the cell, if the family refuses the coordinates.
      FamilyError: in one line that names the cell, if the family fails.
    """
    return _asked(sweep, cell, lambda **coordinates: sweep.source.build(coordinates))


def _asked(sweep: Sweep, cell: Cell, function: Callable[..., Any]) -> Any:
    """What a function of the family returns for the coordinates of a cell; what it raises names the cell."""
    try:
        return function(**cell.arguments)
    except Exception as error:
        if isinstance(error, ValueError) and deliberate(error):
            raise ValueError(f"cell {cell.id}: {' '.join(str(error).split())}") from error
        raise FamilyError(f"cell {cell.id}: {sweep.source.name} raised {summary(error)}") from error


def shape_of(model: TabularModel, width: int) -> Shape:
    """The shape of a model with a function class."""
    return Shape(
        agents=model.num_agents,
        states=model.num_states,
        interfaces=model.num_interfaces,
        options=model.num_options,
        durations=model.longest_duration,
        outcomes=_outcomes(model),
        joint=model.kernel is not None,
        terminal=bool(model.is_terminal.any()),
        lumps=_lumps(model),
        width=width,
    )


def _lumps(model: TabularModel) -> int:
    if model.lump_reward_next is not None:
        return 1 + model.lump_reward_next.shape[2]
    return 0 if model.lump_reward is None else 1


def _outcomes(model: TabularModel) -> int:
    """Of dense laws only the positive entries are kept, as many places as the fullest row needs."""
    if model.successor is not None:
        return model.successor.shape[2]
    law = model.transition if model.kernel is None else model.kernel
    assert law is not None
    count = (law > 0).reshape(model.num_states, model.num_options, -1).sum(axis=-1)
    return max(int(count.max()), 1)


def shapes(sweep: Sweep, cells: Sequence[Cell]) -> list[Shape]:
    """The shape of each cell, with as few models built as the family's ``sizes`` allow."""
    known: dict[tuple[str, ...], Shape] = {}
    sizes = sweep.source.sizes
    out = []
    for cell in cells:
        names = cell.arguments if sizes is None else sizes & set(cell.arguments)
        key = tuple(f"{name}={cell.arguments[name]!r}" for name in sorted(names))
        if key not in known:
            known[key] = shape_of(build(sweep, cell).model, 0)
        elif (trial := sweep.source.trial) is not None:
            _asked(sweep, cell, trial)
        out.append(known[key]._replace(width=cell.width))
    return out


def check_shape(part: Part, cell: Cell, model: TabularModel) -> None:
    """Refuses a model that is not what ``sizes`` promised.

    Raises:
      ValueError: in one line.
    """
    found = shape_of(model, cell.width)
    for name, expected, value in zip(Shape._fields, part.shape, found, strict=True):
        if value != expected:
            raise ValueError(
                f"cell {cell.id}: {name} = {shown(value)}, expected {shown(expected)} as in the first cell of its "
                "group; name every coordinate on which the shapes of the arrays depend in sizes"
            )


def parts(sweep: Sweep) -> list[Part]:
    """All parts of a sweep, group by group in the order of their first cells.

    A group is cut into as few parts as ``cells_per_part`` allows, of one size, so that at most a lane or two are idle.
    """
    cells = list(sweep.cells())
    groups: dict[Shape, list[Cell]] = {}
    for cell, shape in zip(cells, shapes(sweep, cells), strict=True):
        groups.setdefault(shape, []).append(cell)
    out: list[Part] = []
    for shape, members in groups.items():
        count = -(-len(members) // sweep.cells_per_part)
        lanes = -(-len(members) // count)
        for chosen in np.array_split(np.arange(len(members)), count):
            out.append(Part(len(out), shape, tuple(members[i] for i in chosen), lanes))
    return out
