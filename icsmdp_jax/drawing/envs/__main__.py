"""Draws every picture into a folder."""

import sys

from icsmdp_jax.drawing.envs import draw_all

for path in draw_all(sys.argv[1] if len(sys.argv) > 1 else "docs/figures"):
    print(path)
