"""Benchmarks: one question per script, JSON lines out. ``python -m benchmarks.run --help`` lists them."""
