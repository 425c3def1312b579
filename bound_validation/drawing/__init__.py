"""Curves and panels that all figures of a validation run share."""
