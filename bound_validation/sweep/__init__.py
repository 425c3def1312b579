"""Sweeps over one's own models: a family, axes, and the measurements, table, figures and report of a validation run."""
