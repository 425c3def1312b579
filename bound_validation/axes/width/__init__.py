"""Approximation by few features."""
