"""Bad input of a sweep, as one line that names the field, its value and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

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
    """A name that nobody knows, with the nearest one that somebody does."""
    return Refusal(field, name, f": unknown {noun}, expected {nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """``'gap', perhaps`` for ``gpa``; all known names if none is near."""
    names = sorted(known)
    meant = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if meant:
        return f"{meant[0]}, perhaps"
    return f"one of {', '.join(names)}" if names else "none"


def shown(value: Any) -> str:
    """A value in one line of bearable length."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
