"""What an axis of a validation run is: its presets, and where its tasks, claims, figure and words are."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icsmdp_jax.exact.constants import Analysis

PRESETS = ("testing", "quick", "full")
Place = Callable[..., Any] | str  # a function, or "package.module:name", which is imported when it is needed


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all axes of a run share.

    Attributes:
      chunk: handoffs per compiled chunk; every handoff count is a multiple of it.
      resamples: bootstrap resamples behind intervals of slopes.
      known: the analysed model of a run on a given model; None in a run on planted models.
      columns: whether every figure also comes at the width of one column of a page.
      at_once: tasks at once on a CPU, if it has as many cores; what they need together has to fit into its memory.
    """

    chunk: int = 1000
    resamples: int = 1000
    known: Analysis | None = None
    columns: bool = True
    at_once: int = 1


SETTINGS = {
    "testing": Settings(chunk=500, resamples=200, columns=False, at_once=4),
    "quick": Settings(at_once=4),
    "full": Settings(),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Axis:
    """One axis: what is varied, how it is measured and how it is shown.

    Attributes:
      name: the column ``axis`` of its rows, and the first part of its cells' ids.
      presets: its spec by the name of the preset; a dataclass or a tuple of them.
      tasks: ``(spec, settings) -> list[Task]``.
      claims: ``(rows) -> list[Claim]``: what only all rows of the axis together can say; None if nothing.
      figure: ``(rows, summary) -> Figure | None``; None for an axis without a figure of its own.
      words: its ``Section`` of the report; None for a plain heading.
      accelerated: presets that replace those above where handoffs are simulated on a GPU or TPU.
      given: whether it is about a given model file, not about planted models.

    Example:
      >>> import bound_validation as bv
      >>> bv.Axis("mine", {"testing": 1, "quick": 2, "full": 3}, tasks="mine.measure:tasks").spec("quick")
      2
    """

    name: str
    presets: Mapping[str, Any]
    tasks: Place
    claims: Place | None = None
    figure: Place | None = None
    words: Any = None
    accelerated: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    given: bool = False

    def spec(self, preset: str, accelerator: bool = False) -> Any:
        """The spec of a preset for the device at hand."""
        return self.accelerated.get(preset, self.presets[preset]) if accelerator else self.presets[preset]


def in_folder(package: str, presets: Mapping[str, Any], **further: Any) -> Axis:
    """The axis of a folder with the files ``measure`` (tasks), ``figure`` and ``words`` (``SECTION``).

    Args:
      package: name of the folder's package; its last part is the name of the axis.
      presets: as in ``Axis``.
      **further: other fields of ``Axis``, or others than these files.
    """
    places = {"tasks": "measure:tasks", "figure": "figure:figure", "words": "words:SECTION"}
    fields = {field: f"{package}.{place}" for field, place in places.items()}
    return Axis(package.rpartition(".")[2], presets, **{**fields, **further})


def resolved(place: Any) -> Any:
    """What a ``Place`` names.

    Raises:
      ImportError: if the module is not there.
      AttributeError: if the module has no such name.
    """
    if not isinstance(place, str):
        return place
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
