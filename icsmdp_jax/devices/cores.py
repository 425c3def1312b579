"""All cores of a machine without an accelerator, for commands that use the whole machine."""

from __future__ import annotations

import os
import sys

BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DEVICES, FLAG = "JAX_NUM_CPU_DEVICES", "xla_force_host_platform_device_count"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """A host device for each core, and linear algebra in the thread that asks for it, unless the user has chosen.

    Tables do not depend on the number of devices. What is loaded already stays as it is.
    """
    if "jax" not in sys.modules and FLAG not in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault(DEVICES, str(usable_cores()))
    single_threaded_blas()


def single_threaded_blas() -> None:
    """Linear algebra in the thread that asks for it, unless the user has chosen or NumPy is loaded already.

    Threads of BLAS wait for each other by spinning, and small matrices took several times as much CPU time with them.
    """
    if "numpy" not in sys.modules:
        for name in BLAS:
            os.environ.setdefault(name, "1")
