"""Bad input of a sweep, as one line that names the field, its value and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from icsmdp_jax.models.arrays import LARGEST

FINITE = f"a finite number, {LARGEST:g} at most in size"
LONGEST = 80  # characters of a value that a message repeats


class Refusal(ValueError):
    """A field of a sweep that cannot be used.

    Attributes:
      field: name of the field of ``Sweep``, e.g. ``samples`` or ``axes``.
      place: name inside it, e.g. the name of an axis; empty if the field itself is meant.
      problem: the rest of the line: value found and what was expected.
    """

    def __init__(self, field: str, place: str, problem: str) -> None:
        self.field, self.place, self.problem = field, place, problem
        super().__init__(f"{field}{f'[{place!r}]' if place else ''}{problem}")


def refused(field: str, value: Any, expected: str, place: str = "") -> Refusal:
    """``FIELD = VALUE: expected ...``"""
    return Refusal(field, place, f" = {shown(value)}: expected {expected}")


def unknown(field: str, name: str, known: Iterable[str], noun: str) -> Refusal:
    """An unknown name, with the nearest known one."""
    return Refusal(field, name, f": unknown {noun}, {nearest(name, known)}")


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """``did you mean gap?`` for ``gpa``; if no name is near, ``expected`` and all of them, or other words."""
    names = sorted(known)
    meant = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if meant:
        return f"did you mean {meant[0]}?"
    return f"expected {otherwise or ('one of ' + ', '.join(names) if names else 'none')}"


def shown(value: Any) -> str:
    """A value in one line, cut off where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
