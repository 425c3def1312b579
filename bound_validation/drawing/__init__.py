"""Curves, legends and panels that all figures of a validation run share."""
