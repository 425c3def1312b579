"""Where compiled programs are kept between processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def set_compilation_cache() -> None:
    """Points JAX at a persistent compilation cache for programs of any size, unless the user has chosen otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(Path.home(), ".cache")
    # A run has many programs that compile in less than one second, which JAX by itself would not keep.
    wanted: dict[str, Any] = {
        "jax_compilation_cache_dir": os.path.join(base, "icsmdp_jax", "jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    for name, value in wanted.items():
        if name.upper() in os.environ:
            continue
        os.environ[name.upper()] = str(value)
        if "jax" in sys.modules:  # it has read its environment already
            import jax

            jax.config.update(name, value)
