"""What the tests of the example models share: shipped files and plain value iteration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
Arrays = dict[str, np.ndarray]


def assert_file_holds(path: Path, arrays: Arrays) -> None:
    """The file has these arrays: integers and masks exactly, numbers to 4 units in the last place.

    Saving renormalises probability rows, which may move the last bits; a changed constant moves far more.
    """
    with np.load(path) as file:
        assert set(file.files) == set(arrays)
        for name, expected in arrays.items():
            found = file[name]
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
            if expected.dtype.kind == "f":
                np.testing.assert_array_max_ulp(found, expected, maxulp=4)
            else:
                np.testing.assert_array_equal(found, expected, err_msg=name)


def discount_factors(arrays: Arrays) -> np.ndarray:
    """``[S, O]`` expected ``gamma^tau``."""
    duration = arrays["duration"]
    return duration @ float(arrays["gamma"]) ** np.arange(1, duration.shape[2] + 1)


def used(arrays: Arrays) -> np.ndarray:
    """``[S, O]`` options that can be taken."""
    return arrays["available"][arrays["interface"]] & ~arrays["terminal"][:, None]


def transition_matrix(arrays: Arrays) -> sparse.csr_array:
    """``[S * O, S]`` law of the next state; rows of options that cannot be taken are zero."""
    num_states, num_options = arrays["reward_rate"].shape
    if "transition" in arrays:
        return sparse.csr_array(arrays["transition"].reshape(-1, num_states))
    width = arrays["successor"].shape[2]
    rows = np.repeat(np.arange(num_states * num_options), width)
    entries = (arrays["probability"].ravel(), (rows, arrays["successor"].ravel()))
    return sparse.csr_array(sparse.coo_array(entries, shape=(num_states * num_options, num_states)))


def expected_rewards(arrays: Arrays) -> np.ndarray:
    """``[S, O]`` expected segment reward: rate times the expected discounted number of steps."""
    return arrays["reward_rate"] * (1 - discount_factors(arrays)) / (1 - float(arrays["gamma"]))


def value_iteration(reward: np.ndarray, discounted: sparse.csr_array, mask: np.ndarray) -> np.ndarray:
    """``[S, O]`` fixed point of the Bellman operator (D3), NaN where ``mask`` is False; plain iteration."""
    value = np.zeros(discounted.shape[1])
    for _ in range(2000):
        q = reward + (discounted @ value).reshape(reward.shape)
        new = np.where(mask.any(axis=1), np.where(mask, q, -np.inf).max(axis=1), 0.0)
        change, value = np.abs(new - value).max(), new
        if change < 1e-13:
            return np.where(mask, reward + (discounted @ value).reshape(reward.shape), np.nan)
    raise AssertionError("value iteration did not settle")


def oracle_values(arrays: Arrays) -> np.ndarray:
    """``[S, O]`` Q*, by value iteration in float64."""
    discounted = sparse.diags_array(discount_factors(arrays).ravel()) @ transition_matrix(arrays)
    return value_iteration(expected_rewards(arrays), sparse.csr_array(discounted), used(arrays))
