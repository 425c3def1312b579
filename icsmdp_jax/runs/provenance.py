"""What the numbers of a run depend on besides its configuration: code, versions, device, flags."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("icsmdp-jax", "jax", "jaxlib", "flax", "optax", "chex", "numpy", "scipy", "matplotlib", "pyarrow", "numba")
# Options of JAX that change numbers, and flags of XLA that do not: how many devices a host pretends to have.
OPTIONS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
EXECUTOR = "ICSMDP_EXECUTOR"  # what runs the replica learner: linear features differ by rounding
HARMLESS = "--xla_force_host_platform_device_count"


def record(packages: Sequence[str] = ()) -> dict[str, Any]:
    """``versions``, ``code``, ``device`` and ``flags`` of a manifest; a run can only be resumed where they agree.

    Args:
      packages: import names of further packages whose sources count.
    """
    import jax

    first = jax.devices()[0]
    executor = os.environ.get(EXECUTOR) or "auto"
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(HARMLESS)]
    return {
        "versions": versions(),
        "code": code_digest(packages),
        "device": {"platform": first.platform, "kind": first.device_kind},
        "executor": executor,
        "flags": {"XLA_FLAGS": sorted(flags), **{name: str(getattr(jax.config, name, None)) for name in OPTIONS}},
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def code_digest(packages: Sequence[str] = ()) -> str:
    """SHA-256 of the sources of this package and of others.

    Args:
      packages: their import names.
    """
    digest = hashlib.sha256()
    for name in ("icsmdp_jax", *packages):
        place = importlib.import_module(name).__file__
        assert place is not None
        folder = Path(place).parent
        for source in sorted(folder.rglob("*.py")):
            digest.update(source.relative_to(folder).as_posix().encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()


def device() -> dict[str, Any]:
    """The devices that simulate, and how many there are."""
    import jax

    first = jax.devices()[0]
    return {
        "platform": first.platform, "kind": first.device_kind, "count": jax.device_count(),
        "hosts": jax.process_count(), "cores": os.cpu_count(),
    }  # fmt: skip
