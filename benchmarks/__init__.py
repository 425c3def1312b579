"""Benchmarks: one question per script, JSON lines out. ``python -m benchmarks.run --help`` lists them."""

import os

# Threads of a BLAS wait for each other by spinning: on a machine that others use too, that measures the others.
# Read when NumPy loads, so it has to be said here; whoever sets them keeps their own.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
