"""Benches that work on the parts of a workpiece, with their primitive steps."""
