"""A given model."""
