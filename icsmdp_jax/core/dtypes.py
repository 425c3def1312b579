"""The dtypes that other libraries leave to JAX's settings; our own code names each of its dtypes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def default_dtypes() -> Iterator[None]:
    """JAX's own defaults, whatever ``jax_enable_x64`` and ``jax_numpy_dtype_promotion`` are set to outside.

    For calls into libraries that mix Python numbers, counters and arrays: Adam's ``decay ** count`` would be a float64
    under the first setting, with other bits, and an error under the second. What was traced inside keeps its dtypes.
    """
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


@contextmanager
def float32_products() -> Iterator[None]:
    """Matrix products in full float32, unless ``jax_default_matmul_precision`` has been set.

    Accelerators would otherwise round the factors, a GPU to 10 bits; after forty updates with Adam, half of what a net
    had learned was different. On a CPU it makes no difference. What was traced inside keeps its precision.
    """
    chosen = jax.config.values["jax_default_matmul_precision"]
    with jax.default_matmul_precision("highest" if chosen is None else chosen):
        yield
