"""Models built backwards from their solution."""
