"""Numbers that a user gives, checked where they are given."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

KINDS: dict[str, Callable[[Any], bool]] = {
    "a number from 0 to 1": lambda number: 0 <= number <= 1,
    "a number between 0 and 1": lambda number: 0 < number < 1,
    "a number in [0, 1)": lambda number: 0 <= number < 1,
    "a number in (0, 1]": lambda number: 0 < number <= 1,
    "a positive number": lambda number: 0 < number < math.inf,
    "a finite number": lambda number: -math.inf < number < math.inf,
    "0 or more": lambda number: 0 <= number < math.inf,
    "1 or more": lambda number: 1 <= number < math.inf,
}
WORDS = 60  # characters of a value that a message repeats


def expect(kind: str, /, **numbers: Any) -> None:
    """Refuses what is not one real number of a kind, a key of ``KINDS``.

    Raises:
      ValueError: in one line with name and value.
    """
    for name, number in numbers.items():
        if not (is_number(number) and KINDS[kind](number)):
            value = number if is_number(number) else shown(number)
            raise ValueError(f"{name} = {value}: expected {kind}")


def each(name: str, values: Iterable[Any]) -> dict[str, Any]:
    """``{"name[0]": ..., "name[1]": ...}``, so that ``expect`` names the entry that is wrong."""
    return {f"{name}[{index}]": value for index, value in enumerate(values)}


def whole(least: int, /, **counts: Any) -> None:
    """Refuses what is not a whole number of at least ``least``: sizes and counts, which are static.

    Raises:
      ValueError: in one line with name and value.
    """
    for name, count in counts.items():
        if not isinstance(count, numbers.Integral) or isinstance(count, bool) or count < least:
            raise ValueError(f"{name} = {shown(count)}: expected a whole number of at least {least}")


def listed(name: str, value: Any, expected: str, kinds: type | tuple[type, ...] = (object,)) -> tuple[Any, ...]:
    """A list, tuple or array as a tuple.

    Args:
      name: of the argument.
      value: what was given.
      expected: what it should be, for the message.
      kinds: types that the entries must have.

    Raises:
      ValueError: for anything else, strings and dictionaries included.
    """
    several = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)
    if not several or getattr(value, "shape", None) == () or not all(isinstance(entry, kinds) for entry in value):
        raise ValueError(f"{name} = {shown(value)}: expected {expected}")
    return tuple(value)


def of_type(kinds: Any, expected: str, /, **values: Any) -> None:
    """Refuses what is not an instance of a type, of a union of types, or of one of several.

    Raises:
      ValueError: in one line with name, value and what was expected.
    """
    for name, value in values.items():
        if not isinstance(value, kinds):
            raise ValueError(f"{name} = {shown(value)}: expected {expected}")


def flag(**values: Any) -> None:
    """Refuses what is neither True nor False.

    Raises:
      ValueError: in one line with name and value.
    """
    of_type(bool | np.bool_, "True or False", **values)


def one_of(known: Iterable[str], /, **values: Any) -> None:
    """Refuses what is not one of the known words.

    Raises:
      ValueError: in one line with name and value; it lists the known words.
    """
    words = tuple(known)
    for name, value in values.items():
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"{name} = {shown(value)}: expected one of {', '.join(words)}")


def one_key(key: Any) -> Any:
    """A key of ``jax.random.key`` or ``jax.random.PRNGKey``, in the new form; traced keys too.

    Raises:
      ValueError: in one line, for several keys, a seed, or anything else.
    """
    import jax

    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) and shape == ():
        return key
    if dtype == np.uint32 and shape == (2,):
        return jax.random.wrap_key_data(key, impl="threefry2x32")
    found = shown(key) if shape is None else f"{dtype} of shape {list(shape)}"
    raise ValueError(f"key = {found}: expected one key, such as jax.random.key(0)")


def is_number(value: Any) -> bool:
    """Whether a value is one real number, of Python, NumPy or JAX; True and False are not."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind is not None:
        return kind in "fiu" and np.ndim(value) == 0
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A value in one line, cut off if it is long; an object without a telling ``repr`` is shown by its type."""
    text = " ".join(repr(value).split())
    if text.startswith("<") and " object at 0x" in text:
        return type(value).__name__
    return text if len(text) <= WORDS else f"{text[: WORDS - 3]}..."


def within(low: float, high: float, /, **values: Any) -> None:
    """Refuses numbers and arrays with an entry outside ``[low, high]`` or NaN; traced values pass unchecked.

    Raises:
      ValueError: in one line with name, index and value.
    """
    for name, value in values.items():
        if is_traced(value):
            continue
        wanted = f"{low:g} or more" if high == math.inf else f"a number from {low:g} to {high:g}"
        try:
            given = np.asarray(value)
            array = given.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"{name} = {shown(value)}: expected {wanted}") from None
        if given.dtype.kind in "bSUO":
            raise ValueError(f"{name} = {shown(value)}: expected {wanted}")
        bad = ~((array >= low) & (array <= high))
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            place = f"{name}[{', '.join(map(str, index))}]" if index else name
            raise ValueError(f"{place} = {array[index]:g}: expected {wanted}")


def is_traced(value: Any) -> bool:
    """Whether a value is known only to a compiled program."""
    import jax

    return isinstance(value, jax.core.Tracer)
