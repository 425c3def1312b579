"""The bound as the pipeline grows."""
