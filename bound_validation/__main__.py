"""``python -m bound_validation``: the same as ``icsmdp validate``."""

from __future__ import annotations

import sys

from icsmdp_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["validate", *sys.argv[1:]]))
