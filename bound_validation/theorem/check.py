"""What every constant of the bound has to be, and the float or array that comes back."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Constant: TypeAlias = Any  # float, NumPy scalar, or array that broadcasts with the other arguments


def checked(name: str, value: Constant, expected: str, valid: Any, infinite: bool = False) -> np.ndarray:
    """``value`` as a float64 array, or one line that says which entry of what is out of range."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected {expected}, found {type(value).__name__} {value!r}")
    array = array.astype(np.float64)
    bad = np.isnan(array) | ~valid(array)
    if not infinite:
        bad |= np.isinf(array)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f"{name}[{', '.join(map(str, index))}]" if index else name
        raise ValueError(f"{place} = {float(array[index]):.9g}: expected {expected}")
    return array


def nonnegative(name: str, value: Constant) -> np.ndarray:
    return checked(name, value, "a finite number of at least 0", lambda x: x >= 0)


def positive(name: str, value: Constant) -> np.ndarray:
    return checked(name, value, "a finite number above 0", lambda x: x > 0)


def finite(name: str, value: Constant) -> np.ndarray:
    return checked(name, value, "a finite number", np.isfinite)


def count(name: str, value: Constant) -> np.ndarray:
    return checked(name, value, "a finite number of at least 1", lambda x: x >= 1)


def modulus(name: str, value: Constant) -> np.ndarray:
    return checked(name, value, "a modulus in [0, 1)", lambda x: (x >= 0) & (x < 1))


def killing(name: str, modulus_of: Constant, known: Constant | None) -> np.ndarray:
    """``1 - modulus``; as given, where the caller knows it to more digits than the subtraction leaves."""
    left = 1 - modulus(name, modulus_of)
    if known is None:
        return left
    given = checked("killing", known, "a number in (0, 1]", lambda x: (x > 0) & (x <= 1))
    off = np.abs(given - left)
    if (off > 1e-9).any():
        raise ValueError(f"killing: off by {float(off.max()):.3g}, expected 1 - {name}")
    return given


def maybe_infinite(name: str, value: Constant) -> np.ndarray:
    return checked(name, value, "a number of at least 0, or inf", lambda x: x >= 0, infinite=True)


def certified(kappa: Constant) -> np.ndarray:
    """``kappa``, refused where it does not certify A6 (P1)."""
    array = maybe_infinite("kappa", kappa)
    if (array >= 1).any():
        raise ValueError(f"A6 is not certified: kappa = {float(array.max()):.9g}, expected less than 1")
    return array


def plain(value: Any) -> Any:
    """A Python float for a scalar (so that it goes into JSON), else the array."""
    array = np.asarray(value, dtype=np.float64)
    return float(array) if array.ndim == 0 else array
