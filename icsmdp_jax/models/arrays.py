"""Checks of one array at a time: each names array, index, value and what was expected, in one line."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

LARGEST = 1e100  # of rewards, features and their like: squares of sums of them stay finite
SMALLEST = 1e-100  # of the largest of them, if it is not 0: squares of errors do not underflow
SUM_TOLERANCE = 1e-6  # float32 pmfs of some thousand entries still pass; rows are renormalised to 1 afterwards

Array = np.ndarray
Shape = tuple[int | None, ...]  # None: any length


def place(name: str, index: tuple[Any, ...]) -> str:
    """``name[i, j]``, or ``name`` for a scalar."""
    return f"{name}[{', '.join(str(int(i)) for i in index)}]" if index else name


def first(bad: Array) -> tuple[int, ...]:
    """Index of the first entry that is True."""
    return tuple(int(i) for i in np.argwhere(bad)[0])


def real(name: str, value: Any, shape: Shape) -> Array:
    """``value`` as a float64 array of the given shape."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected real numbers, found dtype {array.dtype}")
    check_shape(name, array, shape)
    with np.errstate(over="ignore"):  # floats out of range become infinite, which is refused where it matters
        return np.array(array, np.float64)


def integers(name: str, value: Any, shape: Shape, upper: int | None = None) -> Array:
    """``value`` as an int32 array of numbers from 0 on, below ``upper`` if that is given."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, found dtype {array.dtype}")
    check_shape(name, array, shape)
    bad = (array < 0) | (array >= (np.iinfo(np.int32).max if upper is None else upper))
    if bad.any():
        index = first(bad)
        limit = "a number that fits int32" if upper is None else f"less than {upper}"
        raise ValueError(f"{place(name, index)} = {array[index]}: expected 0 or more and {limit}")
    return array.astype(np.int32)


def codes(name: str, value: Any, shape: Shape) -> Array:
    """``value`` as an int32 array of any numbers, negative ones included."""
    array = np.asarray(value)
    if array.dtype.kind not in "iub":
        raise ValueError(f"{name}: expected integers, found dtype {array.dtype}")
    check_shape(name, array, shape)
    limits = np.iinfo(np.int32)
    bad = (array < limits.min) | (array > limits.max)
    if bad.any():
        index = first(bad)
        raise ValueError(f"{place(name, index)} = {array[index]}: expected a number that fits int32")
    return array.astype(np.int32)


def booleans(name: str, value: Any, shape: Shape) -> Array:
    """``value`` as a bool array; integers 0 and 1 are accepted."""
    array = np.asarray(value)
    if array.dtype.kind in "iu" and np.isin(array, (0, 1)).all():
        array = array.astype(bool)
    if array.dtype.kind != "b":
        raise ValueError(f"{name}: expected booleans, found dtype {array.dtype}")
    check_shape(name, array, shape)
    return np.array(array, bool)


def text(name: str, value: Any, shape: Shape) -> Array:
    """``value`` as a unicode array; Python strings are accepted in any container."""
    array = np.asarray(value)
    if array.dtype.kind in "OT" and all(isinstance(entry, str) for entry in array.flat):
        array = array.astype(np.str_)
    if array.dtype.kind != "U":
        raise ValueError(f"{name}: expected unicode text, found dtype {array.dtype}")
    check_shape(name, array, shape)
    return array.astype(array.dtype.newbyteorder("="))


def unique_text(name: str, value: Any, shape: Shape) -> Array:
    """``text`` without repetitions, for names that commands look up."""
    array = text(name, value, shape)
    earlier: dict[str, int] = {}
    for index, entry in enumerate(array.tolist()):
        if entry in earlier:
            raise ValueError(
                f"{name}[{index}] = {entry!r}: the same as {name}[{earlier[entry]}], expected another name"
            )
        earlier[entry] = index
    return array


def check_shape(name: str, array: Array, shape: Shape) -> None:
    """Refuses an array of another shape, and says so if another order of the axes would have fitted."""
    if not _fits(array.shape, shape):
        wanted = "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
        turned = array.ndim == len(shape) and any(_fits(other, shape) for other in permutations(array.shape))
        hint = " (its axes seem to be in another order)" if turned else ""
        raise ValueError(f"{name}: expected shape {wanted}, found {list(array.shape)}{hint}")
    if 0 in array.shape:
        raise ValueError(f"{name}: expected at least one entry along every axis, found shape {list(array.shape)}")


def _fits(found: tuple[int, ...], wanted: Shape) -> bool:
    return len(found) == len(wanted) and all(w is None or w == n for w, n in zip(wanted, found, strict=True))


def finite(name: str, array: Array, used: Array | None = None) -> None:
    """Refuses NaN, infinity, what is beyond ``LARGEST``, and only tiny numbers, in the used rows (all, if None)."""
    size = np.abs(array)
    rows = True if used is None else used.reshape(used.shape + (1,) * (array.ndim - used.ndim))
    bad = ~(size <= LARGEST) & rows
    if bad.any():
        index = first(bad)
        wanted = f"a number between -{LARGEST:g} and {LARGEST:g}" if np.isfinite(array[index]) else "a finite number"
        raise ValueError(f"{place(name, index)} = {array[index]}: expected {wanted}")
    if 0 < (most := float(np.max(size, initial=0.0, where=rows))) < SMALLEST:
        index = first((size == most) & rows)
        raise ValueError(f"{place(name, index)} = {array[index]}: expected one of at least {SMALLEST:g}, or only 0")


def pmf(name: str, array: Array, used: Array, axes: tuple[int, ...]) -> Array:
    """Checks that each used row is a probability law; returns rows that sum to 1, and zeros in unused ones.

    Entries below 0 by no more than the tolerance of a row's sum count as rounding and become 0.
    """
    finite(name, array, used)
    wide = used.reshape(used.shape + (1,) * (array.ndim - used.ndim))
    negative = (array < -SUM_TOLERANCE) & wide
    if negative.any():
        index = first(negative)
        raise ValueError(f"{place(name, index)} = {array[index]}: expected a probability, 0 or more")
    array = np.where(wide, np.maximum(array, 0.0), 0.0)
    total = array.sum(axis=axes)
    off = used & (np.abs(total - 1.0) > SUM_TOLERANCE)
    if off.any():
        index = first(off)
        raise ValueError(f"{place(name, index)} sums to {float(total[index]):.9g}: expected 1")
    # Rows that sum to 1 up to rounding keep their bits, so that reading a file back changes nothing.
    rounding = used & (np.abs(total - 1.0) > 1e-12)
    return array / np.where(rounding, total, 1.0).reshape(wide.shape)


def scalar(name: str, value: Any) -> float:
    """``value`` as a Python float; arrays of one entry are accepted."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.size != 1:
        raise ValueError(f"{name}: expected one real number, found dtype {array.dtype}, shape {list(array.shape)}")
    return float(array.reshape(()))
