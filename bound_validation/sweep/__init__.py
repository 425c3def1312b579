"""Custom sweeps: a family of models and axes, with the measurements, table, figures and report of a validation run."""
