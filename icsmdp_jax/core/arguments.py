"""Numbers that a user gives, checked where they are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

KINDS: dict[str, Callable[[float], bool]] = {
    "a number from 0 to 1": lambda number: 0 <= number <= 1,
    "a number between 0 and 1": lambda number: 0 < number < 1,
    "a positive number": lambda number: 0 < number < math.inf,
    "0 or more": lambda number: 0 <= number < math.inf,
    "2 or more": lambda number: 2 <= number < math.inf,
    "1 or more": lambda number: 1 <= number < math.inf,
}


def expect(kind: str, **numbers: Any) -> None:
    """Refuses numbers that are not of a kind, a key of ``KINDS``; for a sequence each of its numbers counts.

    Raises:
      ValueError: in one line with name, index and value.
    """
    for name, given in numbers.items():
        several = isinstance(given, (tuple, list))
        for index, number in enumerate(given if several else (given,)):
            if not KINDS[kind](number):
                raise ValueError(f"{name}{f'[{index}]' if several else ''} = {number}: expected {kind}")
