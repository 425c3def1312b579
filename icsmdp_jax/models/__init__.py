"""Finite IC-SMDPs as arrays: in memory, on disk, drawn at random."""
