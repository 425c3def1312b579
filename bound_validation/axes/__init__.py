"""The axes of a validation run, one folder each: ``spec`` (presets), ``measure``, ``figure`` and ``words``.

A name in ``BUILT_IN`` registers a folder; ``register`` does the same for an axis of another package.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from bound_validation.axis import PRESETS, Axis
from icsmdp_jax.core.arguments import of_type

AXES: dict[str, Axis] = {}  # by name, in the order of their tasks, figures and sections
BUILT_IN = (
    "width",
    "gap",
    "samples",
    "mixing",
    "durations",
    "total",
    "agents",
    "audit",
    "returns",
    "messages",
    "neural",
    "model",
)


def register(axis: Axis) -> None:
    """Makes an axis part of every validation run in this process.

    Raises:
      ValueError: if the name is taken, or a preset is missing.

    Example:
      >>> import bound_validation as bv
      >>> tasks = lambda spec, settings: []
      >>> bv.register(bv.Axis("mine", dict.fromkeys(("testing", "quick", "full")), tasks))
      >>> from bound_validation.axes import AXES
      >>> del AXES["mine"]  # and gone again
    """
    of_type(Axis, "an Axis", axis=axis)
    of_type(str, "a text", name=axis.name)
    of_type(Mapping, "a dictionary by preset", presets=axis.presets)
    if axis.name in AXES:
        raise ValueError(f"axis {axis.name!r}: is registered already, expected another name")
    for preset in PRESETS:
        if preset not in axis.presets:
            raise ValueError(f"axis {axis.name!r}: no preset {preset!r}, expected all of {', '.join(PRESETS)}")
    AXES[axis.name] = axis


for _name in BUILT_IN:
    register(import_module(f"bound_validation.axes.{_name}").AXIS)
