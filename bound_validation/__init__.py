"""Every term of the error bound of IC-Q against measurement: validation runs, and sweeps over families of models.

    import bound_validation as bv

    summary = bv.run(bv.Sweep("gap", family="planted", axes={"gap": (0, 0.1, 0.4)}), "results/gap")
    summary = bv.validate("results/quick", "quick")

Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bound_validation.axes import register as register
    from bound_validation.axis import Axis as Axis
    from bound_validation.results import Row as Row
    from bound_validation.results import read_table as read_table
    from bound_validation.running import validate as validate
    from bound_validation.running import verdict as verdict
    from bound_validation.sweep.definition import Figure as Figure
    from bound_validation.sweep.definition import Sweep as Sweep
    from bound_validation.sweep.families import Family as Family
    from bound_validation.sweep.run import run_sweep as run  # noqa: F401

_WHERE = {
    "axes": ("register",),
    "axis": ("Axis",),
    "results": ("Row", "read_table"),
    "running": ("validate", "verdict"),
    "sweep.definition": ("Figure", "Sweep"),
    "sweep.families": ("Family",),
}
_PLACES = {name: (module, name) for module, names in _WHERE.items() for name in names}
_PLACES["run"] = ("sweep.run", "run_sweep")

__all__ = sorted(_PLACES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, inside = _PLACES[name]
    value = getattr(import_module(f"{__name__}.{module}"), inside)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
