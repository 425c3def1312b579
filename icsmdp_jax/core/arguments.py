"""Numbers that a user gives, checked where they are given."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

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


def whole(least: int, **counts: Any) -> None:
    """Refuses what is no whole number of at least ``least``: sizes and counts, which are static.

    Raises:
      ValueError: in one line with name and value.
    """
    for name, count in counts.items():
        if not isinstance(count, numbers.Integral) or isinstance(count, bool) or count < least:
            raise ValueError(f"{name} = {count!r:.60}: expected a whole number of at least {least}")


def within(low: float, high: float, **values: Any) -> None:
    """Refuses numbers and arrays with an entry outside ``[low, high]`` or NaN; what is traced passes unseen.

    Raises:
      ValueError: in one line with name, index and value.
    """
    for name, value in values.items():
        if is_traced(value):
            continue
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"{name} = {value!r:.60}: expected a number from {low:g} to {high:g}") from None
        bad = ~((array >= low) & (array <= high))
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            place = f"{name}[{', '.join(map(str, index))}]" if index else name
            wanted = f"{low:g} or more" if high == math.inf else f"a number from {low:g} to {high:g}"
            raise ValueError(f"{place} = {array[index]:g}: expected {wanted}")


def is_traced(value: Any) -> bool:
    """Whether a value is known to a compiled program only."""
    import jax

    return isinstance(value, jax.core.Tracer)
