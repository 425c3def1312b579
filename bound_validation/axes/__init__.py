"""The axes of a validation run, one folder each: ``spec`` (presets), ``measure``, ``figure`` and ``words``.

A name in ``BUILT_IN`` registers a folder; ``register`` does the same for an axis of another package.
"""

from __future__ import annotations

from importlib import import_module

from bound_validation.axis import PRESETS, Axis

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
    """
    if axis.name in AXES:
        raise ValueError(f"axis {axis.name!r}: is registered already, expected another name")
    for preset in PRESETS:
        if preset not in axis.presets:
            raise ValueError(f"axis {axis.name!r}: no preset {preset!r}, expected all of {', '.join(PRESETS)}")
    AXES[axis.name] = axis


for _name in BUILT_IN:
    register(import_module(f"bound_validation.axes.{_name}").AXIS)
