"""Packages that only some functions need, imported when those are called."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def needed(module: str, package: str, extra: str) -> ModuleType:
    """Imports a module that is, or needs, a package of an extra.

    Args:
      module: module to import.
      package: package that must be installed for it.
      extra: the extra that installs it.

    Raises:
      ModuleNotFoundError: in one line that says what to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{package}: cannot be imported ({error}), expected it to be installed: pip install 'icsmdp-jax[{extra}]'",
            name=error.name,
        ) from None
